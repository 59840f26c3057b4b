//! Explanations for people.

use fastauth::path::{
    Contender, ContenderKind, EndpointRequirement, ExplainedContest, ExplainedReading, PathDecision, PathRefusal,
    Standing,
};
use fastauth_core::{policy::Demands, shown::shown};
use http::{Method, Uri};

use super::{answer::Presented, explainer::Explained};
use crate::{failure::Failure, output};

pub(super) fn print(
    method: &Method,
    target: &str,
    explained: &Explained,
    presented: &Presented<'_>,
) -> Result<(), Failure> {
    let explanation = &explained.layer;
    let request = format!("{} {}", shown(method.as_str()), shown(target));
    let fault = explanation.reason().map(|fault| format!("\"{}\" {}", shown(target), described(fault, target)));
    let requirement = requirement(explanation.decision());
    match (explanation.decision(), fault) {
        (PathDecision::Reject, Some(fault)) => output::line(&format!("{request}: rejected: {fault}"))?,
        (_, Some(fault)) => output::line(&format!("{request}: {requirement}, because {fault}"))?,
        (_, None) if explained.endpoint.is_some() => {
            output::line(&format!("{request}: an endpoint of the token router"))?;
            output::line(&format!("  layer:  {requirement}, because {}", reason(explained)))?;
        }
        (_, None) => {
            output::line(&format!("{request}: {requirement}"))?;
            output::line(&format!("  because {}", reason(explained)))?;
        }
    }
    for rule in explained.rules.iter().filter(|rule| !rule.demands.is_empty()) {
        output::line(&format!("  rules[{}] demands {}", rule.place, demands(&rule.demands)))?;
    }
    if let Some(endpoint) = &explained.endpoint {
        output::line(&format!("  router: {}", of_router(method, endpoint)))?;
    }
    if explanation.decision() != PathDecision::Reject {
        output::line(&format!("  answer {}: {}", with(presented), answer(explained)))?;
    }
    for (number, reading) in explanation.readings().iter().enumerate() {
        let from = reading.from().map(|from| format!(", from {from}")).unwrap_or_default();
        output::line(&format!("  {number:3}  \"{}\" ({}{from})", shown(reading.text()), reading.step()))?;
        print_contests(reading)?;
    }
    Ok(())
}

/// Prints what matches a reading, the most specific first.
fn print_contests(reading: &ExplainedReading) -> Result<(), Failure> {
    for contest in reading.contests() {
        if contest.text() != reading.text() || contest.ignores_case() {
            let how = if contest.ignores_case() { ", without case" } else { "" };
            output::line(&format!("       as \"{}\"{how}:", shown(contest.text())))?;
        }
        for contender in contest.contenders() {
            let standing = match contender.standing() {
                Standing::Wins => "wins",
                Standing::Reports => "reports",
                Standing::Loses => "loses",
            };
            let why = contender.ahead_by().map(|why| format!(" ({why})")).unwrap_or_default();
            output::line(&format!("       {standing:7} {}: {}{why}", name(contender), contender.level().as_str()))?;
        }
    }
    Ok(())
}

fn name(contender: &Contender) -> String {
    match (contender.kind(), contender.place()) {
        (ContenderKind::DefaultLevel, _) => "default-level".to_owned(),
        (ContenderKind::PublicPath, _) => format!("{:?} of public-paths", contender.name()),
        (ContenderKind::Rule, place) => format!("rules[{}] {:?}", place.unwrap_or_default(), contender.name()),
    }
}

/// Returns why a request requires what it does, to follow `because`.
pub(super) fn reason(explained: &Explained) -> String {
    let explanation = &explained.layer;
    if let Some(refusal) = explanation.reason() {
        return refusal.to_string();
    }
    let by_lists = explanation.decided_by().iter().map(|deciding| {
        let reading = &explanation.readings()[deciding.reading()];
        let (prefix, list) = (deciding.prefix(), deciding.list().key());
        let beaten = explanation.overruled().iter().filter(|lost| lost.reading() == deciding.reading());
        let beaten: Vec<_> = beaten.map(|lost| format!("{:?} of {}", lost.prefix(), lost.list().key())).collect();
        format!("{prefix:?} of {list} matches {}{}", named(reading), wins_over(&beaten))
    });
    let by_rules = explained.rules.iter().map(|rule| {
        let reading = &explanation.readings()[rule.reading];
        let contests = reading.contests().iter().map(ExplainedContest::contenders);
        let won =
            contests.filter(|all| all.iter().any(|c| c.standing() == Standing::Wins && c.place() == Some(rule.place)));
        let beaten = won.take(1).flatten().filter(|contender| contender.standing() == Standing::Loses);
        let beaten: Vec<_> = beaten.map(name).collect();
        format!("rules[{}] {:?} matches {}{}", rule.place, rule.name, named(reading), wins_over(&beaten))
    });
    let by_default = explanation.default_level().map(|level| {
        let wins = |reading: &&ExplainedReading| {
            let mut winners = reading.contests().iter().flat_map(ExplainedContest::winners);
            winners.any(|winner| winner.kind() == ContenderKind::DefaultLevel)
        };
        let reading = explanation.readings().iter().find(wins).map(named).unwrap_or_default();
        format!("no rule matches {reading}, and the default level is {}", level.as_str())
    });
    let reasons: Vec<_> = by_lists.chain(by_rules).chain(by_default).collect();
    if reasons.is_empty() { "no configured prefix matches".to_owned() } else { reasons.join("; ") }
}

fn named(reading: &ExplainedReading) -> String {
    format!("\"{}\" ({})", shown(reading.text()), reading.step())
}

fn wins_over(beaten: &[String]) -> String {
    if beaten.is_empty() { String::new() } else { format!(", and wins over {}", beaten.join(" and ")) }
}

/// Describes what the claims must say.
pub(crate) fn demands(demands: &Demands) -> String {
    let mut parts = Vec::new();
    let lists = [
        ("one of the roles", &demands.roles_any),
        ("the roles", &demands.roles_all),
        ("the scopes", &demands.scopes),
        ("one of the scopes", &demands.scopes_any),
        ("the issuer", &demands.issuers),
    ];
    parts.extend(lists.into_iter().filter_map(|(what, names)| Some(format!("{what} {}", names.as_ref()?.join(", ")))));
    if demands.principal != Default::default() {
        parts.push(format!("the principal {}", demands.principal.as_str()));
    }
    let claims = demands.claim_equals.iter().flatten();
    parts.extend(claims.map(|(name, value)| format!("the claim {name} {value}")));
    parts.extend(demands.audience.as_ref().map(|audience| format!("the audience {audience}")));
    parts.extend(demands.max_age.map(|age| format!("a log-in of the last {}", humantime::format_duration(age))));
    parts.join(" and ")
}

fn with(presented: &Presented<'_>) -> &'static str {
    match (presented.claims.is_some(), presented.master) {
        (false, false) => "without credentials",
        (true, false) => "with these claims",
        (false, true) => "with the master token",
        (true, true) => "with the master token and these claims",
    }
}

fn answer(explained: &Explained) -> String {
    let answer = &explained.answer;
    match (answer.status, answer.reason) {
        (Some(status), Some(reason)) => format!("{status} {reason} ({})", shown(&answer.text)),
        _ => "that of the application".to_owned(),
    }
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
