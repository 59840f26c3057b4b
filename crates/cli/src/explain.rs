//! `explain`.

use std::{
    io::{self, BufRead},
    process::ExitCode,
};

use clap::{CommandFactory, error::ErrorKind};
use fastauth::{
    config::Report,
    path::{DecidingPrefix, ExplainedReading, Explanation, PathDecision},
};
use http::Method;
use serde::Serialize;

use fastauth_core::shown::shown;

use crate::{
    args::{Args, Explain},
    failure::Failure,
    output,
};

pub(crate) fn run(args: Explain) -> Result<ExitCode, Failure> {
    let report = args.config.settings().report();
    let Some(target) = args.target else {
        if args.method != "-" {
            let message = "a target is missing: fastauth explain METHOD TARGET";
            Args::command().error(ErrorKind::MissingRequiredArgument, message).exit()
        }
        return explain_lines(&report);
    };
    if args.method == "-" {
        let message = "`-` reads methods and targets from standard input: leave the target out";
        Args::command().error(ErrorKind::ArgumentConflict, message).exit()
    }
    let Ok(method) = Method::from_bytes(args.method.as_bytes()) else {
        return Err(Failure::new(format!("`{}` is not a method", shown(&args.method))));
    };
    let explanation = report.explain(&method, &target)?;
    if args.json {
        output::json(&Line::new(&args.method, &target, &explanation))?;
    } else {
        print(&args.method, &target, &explanation)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one object for every line that is not empty, in the order of the lines.
fn explain_lines(report: &Report) -> Result<ExitCode, Failure> {
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let text = String::from_utf8_lossy(line);
        let (method, target) = text.split_once(' ').unwrap_or((&text, ""));
        let explanation;
        let answer = match (std::str::from_utf8(line), Method::from_bytes(method.as_bytes())) {
            (_, _) if line.is_empty() => continue,
            (Ok(_), Ok(parsed)) => {
                explanation = report.explain(&parsed, target)?;
                Line::new(method, target, &explanation)
            }
            // hyper answers 400 to either.
            (Err(_), _) => Line::rejected(method, target, "request target"),
            (_, Err(_)) => Line::rejected(method, target, "method"),
        };
        output::json_line(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Line<'a> {
    method: &'a str,
    target: &'a str,
    decision: PathDecision,
    reason: String,
    decided_by: &'a [DecidingPrefix],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    overruled: &'a [DecidingPrefix],
    readings: &'a [ExplainedReading],
}

impl<'a> Line<'a> {
    fn new(method: &'a str, target: &'a str, explanation: &'a Explanation) -> Self {
        Self {
            method,
            target,
            decision: explanation.decision(),
            reason: reason(explanation),
            decided_by: explanation.decided_by(),
            overruled: explanation.overruled(),
            readings: explanation.readings(),
        }
    }

    fn rejected(method: &'a str, target: &'a str, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { method, target, decision: PathDecision::Reject, reason, decided_by: &[], overruled: &[], readings: &[] }
    }
}

fn reason(explanation: &Explanation) -> String {
    if let Some(refusal) = explanation.reason() {
        return refusal.to_string();
    }
    let met = explanation.decided_by().iter().map(|deciding| {
        let reading = &explanation.readings()[deciding.reading()];
        let (prefix, list) = (deciding.prefix(), deciding.list().key());
        let beaten = explanation.overruled().iter().filter(|lost| lost.reading() == deciding.reading());
        let beaten: Vec<_> = beaten.map(|lost| format!("{:?} of {}", lost.prefix(), lost.list().key())).collect();
        let wins = if beaten.is_empty() { String::new() } else { format!(", and wins over {}", beaten.join(" and ")) };
        format!("{prefix:?} of {list} is met by \"{}\" ({}){wins}", shown(reading.text()), reading.step())
    });
    let met: Vec<_> = met.collect();
    if met.is_empty() { "no prefix is met".to_owned() } else { met.join("; ") }
}

fn print(method: &str, target: &str, explanation: &Explanation) -> Result<(), Failure> {
    let request = format!("{} {}", shown(method), shown(target));
    let fault = explanation.reason().map(|fault| format!("\"{}\" {}", shown(target), fault.description()));
    match (explanation.decision(), fault) {
        (PathDecision::Reject, Some(fault)) => output::line(&format!("{request}: rejected: {fault}"))?,
        (decision, Some(fault)) => output::line(&format!("{request}: {decision}, since {fault}"))?,
        (decision, None) => {
            output::line(&format!("{request}: {decision}"))?;
            output::line(&format!("  because {}", reason(explanation)))?;
        }
    }
    for (number, reading) in explanation.readings().iter().enumerate() {
        let from = reading.from().map(|from| format!(", from {from}")).unwrap_or_default();
        output::line(&format!("  {number:3}  \"{}\" ({}{from})", shown(reading.text()), reading.step()))?;
    }
    Ok(())
}
