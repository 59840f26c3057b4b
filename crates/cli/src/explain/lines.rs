//! Requests on lines of standard input, and explanations for programs.

use std::{
    borrow::Cow,
    io::{self, BufRead},
    process::ExitCode,
};

use fastauth::path::{DecidingPrefix, ExplainedReading, PathDecision};
use fastauth_core::policy::Level;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    answer::{Answer, Presented},
    explainer::{Explained, Explainer, RuleFields},
    text,
};
use crate::{failure::Failure, output};

/// A request as an object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(default)]
    claims: Option<Map<String, Value>>,
    #[serde(default)]
    master: bool,
}

/// Prints one object for every line that is not empty, in the order of the lines.
pub(super) fn explain(explainer: &Explainer) -> Result<ExitCode, Failure> {
    for (number, line) in (1..).zip(io::stdin().lock().split(b'\n')) {
        let line = line?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            continue;
        }
        // No method begins with it.
        if line.starts_with(b"{") {
            let request: Request<'_> = serde_json::from_slice(line).map_err(|error| {
                let form = r#"write {"method": …, "target": …}, and "claims" and "master" if there are any"#;
                Failure::new(format!("line {number} of standard input is not a request: {error}; {form}"))
            })?;
            let presented = Presented { claims: request.claims.as_ref(), master: request.master };
            answer(explainer, &request.method, &request.target, &presented)?;
            continue;
        }
        let text = String::from_utf8_lossy(line);
        let Some((method, target)) = text.split_once(' ').filter(|(_, target)| !target.is_empty()) else {
            let problem =
                format!("line {number} of standard input has no target; write METHOD TARGET, such as GET /access");
            return Err(Failure::new(problem));
        };
        match std::str::from_utf8(line) {
            Ok(_) => answer(explainer, method, target, &Presented::default())?,
            // hyper answers 400 to it.
            Err(_) => output::json_line(&Line::rejected(method, target, "request target"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(explainer: &Explainer, method: &str, target: &str, presented: &Presented<'_>) -> Result<(), Failure> {
    match Method::from_bytes(method.as_bytes()) {
        Ok(parsed) => output::json_line(&Line::new(method, target, &explainer.explain(&parsed, target, presented))),
        // hyper answers 400 to it.
        Err(_) => output::json_line(&Line::rejected(method, target, "method")),
    }
}

/// An explanation for programs.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    method: &'a str,
    target: &'a str,
    decision: PathDecision,
    reason: String,
    rule: Option<&'a RuleFields>,
    rules: &'a [RuleFields],
    #[serde(skip_serializing_if = "Option::is_none")]
    default_level: Option<Level>,
    answer: Cow<'a, Answer>,
    decided_by: &'a [DecidingPrefix],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    overruled: &'a [DecidingPrefix],
    readings: &'a [ExplainedReading],
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
}

/// What the token router requires.
#[derive(Serialize)]
struct Endpoint {
    summary: &'static str,
    requires: &'static str,
    methods: Vec<&'static str>,
}

impl<'a> Line<'a> {
    pub(super) fn new(method: &'a str, target: &'a str, explained: &'a Explained) -> Self {
        let explanation = &explained.layer;
        Self {
            method,
            target,
            decision: explanation.decision(),
            reason: text::reason(explained),
            rule: explained.rules.first(),
            rules: &explained.rules,
            default_level: explanation.default_level(),
            answer: Cow::Borrowed(&explained.answer),
            decided_by: explanation.decided_by(),
            overruled: explanation.overruled(),
            readings: explanation.readings(),
            endpoint: explained.endpoint.map(|endpoint| Endpoint {
                summary: endpoint.summary,
                requires: endpoint.credential,
                methods: endpoint.methods.split(", ").collect(),
            }),
        }
    }

    /// Creates the line for what the server refuses before anything decides.
    fn rejected(method: &'a str, target: &'a str, reason: &str) -> Self {
        Self {
            method,
            target,
            decision: PathDecision::Reject,
            reason: reason.to_owned(),
            rule: None,
            rules: &[],
            default_level: None,
            answer: Cow::Owned(Answer::of_server()),
            decided_by: &[],
            overruled: &[],
            readings: &[],
            endpoint: None,
        }
    }
}
