//! `explain`.

use std::{
    io::{self, BufRead},
    process::ExitCode,
};

use clap::{CommandFactory, error::ErrorKind};
use fastauth::{
    config::Report,
    path::{Explanation, PathList},
};
use http::Method;
use serde_json::{Value, json};

use crate::{
    args::{Args, Explain},
    failure::Failure,
    output,
};

pub(crate) fn run(args: Explain) -> Result<ExitCode, Failure> {
    let report = args.config.settings().report();
    match args.target {
        None if args.method != "-" => {
            let message = "a target is missing: fastauth explain METHOD TARGET";
            Args::command().error(ErrorKind::MissingRequiredArgument, message).exit()
        }
        Some(target) => {
            let explanation = explain(&report, &args.method, &target)?;
            if args.json {
                output::json(&as_json(&args.method, &target, &explanation));
            } else {
                print(&args.method, &target, &explanation);
            }
        }
        None => {
            for line in io::stdin().lock().split(b'\n') {
                let line = line?;
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
                let Some((method, target)) = line.split_once(' ') else { continue };
                output::line(&as_json(method, target, &explain(&report, method, target)?).to_string());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(report: &Report, method: &str, target: &str) -> Result<Explanation, Failure> {
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Failure::new(format!("{method:?} is not a method")))?;
    Ok(report.explain(&method, target)?)
}

fn as_json(method: &str, target: &str, explanation: &Explanation) -> Value {
    let mut members = serde_json::Map::from_iter([("method".into(), json!(method)), ("target".into(), json!(target))]);
    if let Ok(Value::Object(explained)) = serde_json::to_value(explanation) {
        members.extend(explained);
    }
    Value::Object(members)
}

fn print(method: &str, target: &str, explanation: &Explanation) {
    let reason = explanation.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
    output::line(&format!("{method} {target}: {}{reason}", explanation.decision()));
    for deciding in explanation.decided_by() {
        let (prefix, list, reading) = (deciding.prefix(), list_key(deciding.list()), deciding.reading());
        output::line(&format!("  by {prefix:?} of {list}, which reading {reading} meets"));
    }
    for (number, reading) in explanation.readings().iter().enumerate() {
        let from = reading.from().map(|from| format!(", from {from}")).unwrap_or_default();
        output::line(&format!("  {number:3}  {:?} ({}{from})", reading.text(), reading.step()));
    }
}

fn list_key(list: PathList) -> &'static str {
    match list {
        PathList::Master => "master-token-paths",
        PathList::Access => "access-token-paths",
        PathList::Public => "public-paths",
        _ => "a list",
    }
}
