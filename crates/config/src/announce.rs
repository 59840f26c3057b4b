//! What an operator reads at the start.

use std::io::{self, Write as _};

use fastauth_core::{
    policy::{Level, PathList},
    settings::Deployment,
};

use crate::fault::ConfigError;

/// More prefixes of a list than this are only counted.
const MAX_SHOWN: usize = 8;

/// Logs what is guarded by what and where tokens are kept, and every warning: by `tracing`, or on standard error if no subscriber
/// listens.
pub fn announce(deployment: &Deployment) {
    // A subscriber may listen to errors alone, as those do that go by `RUST_LOG` when it is not set.
    let warns_by_tracing = deployment.is_quiet || tracing::enabled!(target: "fastauth", tracing::Level::WARN);
    for warning in &deployment.warnings {
        if warns_by_tracing {
            tracing::warn!(target: "fastauth", "{warning}");
        } else {
            print_line(&format!("warning: {warning}"));
        }
    }
    if deployment.is_quiet || tracing::dispatcher::has_been_set() {
        tracing::info!(target: "fastauth", "{}", summary(deployment));
    } else {
        print_line(&summary(deployment));
    }
}

/// Logs all that is wrong with a configuration that was to replace the present one, in the manner of [`announce`].
pub fn announce_fault(error: &ConfigError) {
    const NOT_RELOADED: &str = "the configuration was not reloaded, and stays as it was";
    let faults = error.faults().len();
    // An event each, since logs have a line for an event.
    for (number, fault) in (1..).zip(error.faults()) {
        if tracing::enabled!(target: "fastauth", tracing::Level::ERROR) {
            tracing::error!(target: "fastauth", number, faults, "{NOT_RELOADED}: {fault}");
        } else {
            print_line(&format!("error: {NOT_RELOADED}: {fault}"));
        }
    }
}

fn print_line(line: &str) {
    // Standard error may be closed, which is no reason not to start.
    let _ = writeln!(io::stderr(), "fastauth: {line}");
}

/// Returns what is guarded by what, and where tokens are kept, on one line.
fn summary(deployment: &Deployment) -> String {
    let guarded = [(PathList::Master, "the master token"), (PathList::Access, "an access token")]
        .into_iter()
        .filter_map(|(list, token)| Some(format!("{} by {token}", prefixes(deployment, list)?)))
        .chain(rules(deployment))
        .collect::<Vec<_>>()
        .join(", ");
    let guards = match (guarded.as_str(), deployment.shadow) {
        ("", _) => "guards no path".to_owned(),
        (guarded, true) => format!("would guard {guarded}, and guards nothing in `shadow`"),
        (guarded, false) => format!("guards {guarded}"),
    };
    let public = prefixes(deployment, PathList::Public).map(|public| format!("; {public} open to all"));
    format!("{guards}{}; tokens are kept in {}", public.unwrap_or_default(), deployment.store_place)
}

/// Returns what the rules guard, in short.
fn rules(deployment: &Deployment) -> Vec<String> {
    let rules = &deployment.rules;
    let count = rules.ids().filter_map(|id| rules.rule(id)).count();
    let by_rules = match count {
        0 => None,
        1 => Some("paths by 1 rule".to_owned()),
        _ => Some(format!("paths by {count} rules")),
    };
    let all_other = match rules.default_level() {
        Level::Public => None,
        Level::Optional => Some("all other paths by an access token, if one is sent"),
        Level::Access => Some("all other paths by an access token"),
        Level::Master => Some("all other paths by the master token"),
        Level::Both => Some("all other paths by the master token and an access token"),
        Level::Deny => Some("all other paths by refusing every request"),
    };
    by_rules.into_iter().chain(all_other.map(str::to_owned)).collect()
}

/// Returns the prefixes of a list, if it has any.
fn prefixes(deployment: &Deployment, list: PathList) -> Option<String> {
    let rules = deployment.rules.iter().filter(|rule| rule.list() == list);
    let all: Vec<_> = rules.map(|rule| format!("{:?}", rule.prefix())).collect();
    match all.len() {
        0 => None,
        count if count > MAX_SHOWN => Some(format!("{} and {} more", all[..MAX_SHOWN].join(", "), count - MAX_SHOWN)),
        _ => Some(all.join(", ")),
    }
}
