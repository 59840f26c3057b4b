//! `explain`.

use std::{
    io::{self, BufRead},
    process::ExitCode,
};

use clap::{Args as ClapArgs, error::ErrorKind};
use fastauth::{
    Secret, SettingsBuilder,
    config::Report,
    path::{DecidingPrefix, EndpointRequirement, ExplainedReading, Explanation, PathDecision, PathRefusal},
    store::MemoryStore,
};
use fastauth_core::{settings::EndpointOptions, shown::shown};
use http::{Method, Uri};
use serde::Serialize;

use crate::{config::Config, failure::Failure, output};

#[derive(ClapArgs)]
#[command(after_help = "\
Two parts of an application decide: the layer, by the lists of paths in the configuration, and the token router, which checks
the credentials for its own endpoints, whatever the lists say.

The numbered lines are the readings of the path: every form that a server or a file system could take it for. Secrets are not
needed, and nothing is sent.

Examples:
  fastauth explain GET /access/hello
  fastauth explain GET //access/%2e%2e/master
  fastauth explain POST /auth/token/new
  fastauth explain POST /tokens/token/new --auth-prefix /tokens
  echo 'GET /access/hello' | fastauth explain -")]
pub(crate) struct Explain {
    /// The method, or `-` to read lines of METHOD and TARGET from standard input and to print a JSON object for each
    method: String,
    /// The request target, as in a request line
    target: Option<String>,
    /// Where the application mounts the token router
    #[arg(long, value_name = "PREFIX", default_value = "/auth")]
    auth_prefix: String,
    #[command(flatten)]
    config: Config,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Explain, mut program: clap::Command) -> Result<ExitCode, Failure> {
    let settings = args.config.settings();
    let explainer = Explainer {
        options: endpoint_options(settings.clone()),
        report: settings.report(),
        auth_prefix: args.auth_prefix,
    };
    let Some(target) = args.target else {
        if args.method != "-" {
            let message = "the target is missing: fastauth explain METHOD TARGET";
            usage_error(&mut program, ErrorKind::MissingRequiredArgument, message)
        }
        return explain_lines(&explainer);
    };
    if args.method == "-" {
        let message = "`-` reads methods and targets from standard input: leave the target out";
        usage_error(&mut program, ErrorKind::ArgumentConflict, message)
    }
    let Ok(method) = Method::from_bytes(args.method.as_bytes()) else {
        return Err(Failure::new(format!("`{}` is not a method; write one such as GET", shown(&args.method))));
    };
    let explained = explainer.explain(&method, &target)?;
    if args.json {
        output::json(&Line::new(&args.method, &target, &explained))?;
    } else {
        print(&method, &target, &explained)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the program with a message and the usage of this command.
fn usage_error(program: &mut clap::Command, kind: ErrorKind, message: &str) -> ! {
    program.build();
    let command = program.find_subcommand_mut("explain");
    command.map_or_else(|| clap::Error::raw(kind, message), |command| command.error(kind, message)).exit()
}

/// Returns what the configuration says of the endpoints. Faults in it that concern paths are reported with the explanation.
fn endpoint_options(settings: SettingsBuilder) -> EndpointOptions {
    // Paths can be explained before there are secrets.
    let settings = settings.master_token(Secret::generate()).cryptography_key(Secret::generate());
    match settings.store(MemoryStore::new()).load() {
        Ok(settings) => settings.into_deployment().endpoints,
        Err(_) => EndpointOptions { allow_get: true, ..EndpointOptions::default() },
    }
}

/// What explains requests.
struct Explainer {
    report: Report,
    options: EndpointOptions,
    auth_prefix: String,
}

/// What the layer and the token router require of a request.
struct Explained {
    layer: Explanation,
    endpoint: Option<EndpointRequirement>,
}

impl Explainer {
    fn explain(&self, method: &Method, target: &str) -> Result<Explained, Failure> {
        let layer = self.report.explain(method, target)?;
        let endpoint = target.parse::<Uri>().ok();
        let endpoint = endpoint.and_then(|uri| EndpointRequirement::find(&self.auth_prefix, &uri, &self.options));
        Ok(Explained { endpoint: endpoint.filter(|_| layer.decision() != PathDecision::Reject), layer })
    }
}

/// Prints one object for every line that is not empty, in the order of the lines.
fn explain_lines(explainer: &Explainer) -> Result<ExitCode, Failure> {
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let text = String::from_utf8_lossy(line);
        let (method, target) = text.split_once(' ').unwrap_or((&text, ""));
        let explained;
        let answer = match (std::str::from_utf8(line), Method::from_bytes(method.as_bytes())) {
            (_, _) if line.is_empty() => continue,
            (Ok(_), Ok(parsed)) => {
                explained = explainer.explain(&parsed, target)?;
                Line::new(method, target, &explained)
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
    fn new(method: &'a str, target: &'a str, explained: &'a Explained) -> Self {
        let explanation = &explained.layer;
        Self {
            method,
            target,
            decision: explanation.decision(),
            reason: reason(explanation),
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

    fn rejected(method: &'a str, target: &'a str, reason: &str) -> Self {
        let reason = reason.to_owned();
        let decision = PathDecision::Reject;
        Self { method, target, decision, reason, decided_by: &[], overruled: &[], readings: &[], endpoint: None }
    }
}

fn reason(explanation: &Explanation) -> String {
    if let Some(refusal) = explanation.reason() {
        return refusal.to_string();
    }
    let matches = explanation.decided_by().iter().map(|deciding| {
        let reading = &explanation.readings()[deciding.reading()];
        let (prefix, list) = (deciding.prefix(), deciding.list().key());
        let beaten = explanation.overruled().iter().filter(|lost| lost.reading() == deciding.reading());
        let beaten: Vec<_> = beaten.map(|lost| format!("{:?} of {}", lost.prefix(), lost.list().key())).collect();
        let wins = if beaten.is_empty() { String::new() } else { format!(", and wins over {}", beaten.join(" and ")) };
        format!("{prefix:?} of {list} matches \"{}\" ({}){wins}", shown(reading.text()), reading.step())
    });
    let matches: Vec<_> = matches.collect();
    if matches.is_empty() { "no configured prefix matches".to_owned() } else { matches.join("; ") }
}

fn print(method: &Method, target: &str, explained: &Explained) -> Result<(), Failure> {
    let explanation = &explained.layer;
    let request = format!("{} {}", shown(method.as_str()), shown(target));
    let fault = explanation.reason().map(|fault| format!("\"{}\" {}", shown(target), described(fault, target)));
    let requirement = requirement(explanation.decision());
    match (explanation.decision(), fault) {
        (PathDecision::Reject, Some(fault)) => output::line(&format!("{request}: rejected: {fault}"))?,
        (_, Some(fault)) => output::line(&format!("{request}: {requirement}, because {fault}"))?,
        (_, None) if explained.endpoint.is_some() => {
            output::line(&format!("{request}: an endpoint of the token router"))?;
            output::line(&format!("  layer:  {requirement}, because {}", reason(explanation)))?;
        }
        (_, None) => {
            output::line(&format!("{request}: {requirement}"))?;
            output::line(&format!("  because {}", reason(explanation)))?;
        }
    }
    if let Some(endpoint) = &explained.endpoint {
        output::line(&format!("  router: {}", of_router(method, endpoint)))?;
    }
    for (number, reading) in explanation.readings().iter().enumerate() {
        let from = reading.from().map(|from| format!(", from {from}")).unwrap_or_default();
        output::line(&format!("  {number:3}  \"{}\" ({}{from})", shown(reading.text()), reading.step()))?;
    }
    Ok(())
}

/// Describes why a path is refused, to follow it in a sentence.
fn described(fault: PathRefusal, target: &str) -> String {
    let is_refused = |c: &char| format!("/{c}").parse::<Uri>().is_err();
    match target.chars().find(is_refused).filter(|_| fault == PathRefusal::RequestTarget) {
        Some(' ') => "has a space, which ends a request target: write %20".to_owned(),
        Some(c) => {
            let mut buffer = [0; 4];
            let escaped = c.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            format!("has {c:?}, which no request target can have: write {escaped}")
        }
        None => fault.description().to_owned(),
    }
}

fn requirement(decision: PathDecision) -> &'static str {
    match decision {
        PathDecision::Public => "requires no credential",
        PathDecision::Access => "requires an access token",
        PathDecision::Master => "requires the master token",
        PathDecision::MasterAndAccess => "requires the master token and an access token",
        PathDecision::Optional => "requires no credential, but a valid access token if there is one",
        PathDecision::Deny => "is denied",
        PathDecision::Reject => "rejected",
    }
}

fn of_router(method: &Method, endpoint: &EndpointRequirement) -> String {
    let EndpointRequirement { summary, methods, credential, .. } = endpoint;
    let is_allowed = methods.split(", ").any(|allowed| allowed == method.as_str());
    let refusal =
        if is_allowed { String::new() } else { format!("; it takes {methods}, and refuses {method} with 405") };
    format!("requires {credential} ({summary}){refusal}")
}
