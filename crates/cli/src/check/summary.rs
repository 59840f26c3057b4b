//! What a configuration amounts to, in a few lines.

use fastauth::{
    Level, Settings,
    config::{KeyRole, Report, StoreFormat},
    path::PathList,
};

use super::TriedStore;
use crate::{failure::Failure, output};

/// More prefixes of a list than this are only counted.
const MAX_SHOWN: usize = 8;

pub(super) fn print(
    report: &Report,
    settings: Option<&Settings>,
    store: Option<&Result<TriedStore, String>>,
    suggestions: usize,
) -> Result<(), Failure> {
    if let Some(settings) = settings {
        if let Some(paths) = paths(settings) {
            output::line(&format!("paths:  {paths}"))?;
        }
        for rule in rules(report, settings) {
            output::line(&format!("rule:   {rule}"))?;
        }
        output::line(&format!("store:  {} ({})", settings.deployment().store_place, store_state(settings, store)))?;
        output::line(&format!("keys:   {}", keys(settings)))?;
    }
    let store_faults = usize::from(matches!(store, Some(Err(_))));
    output::line(&format!(
        "result: {}, {}, {}",
        count(report.faults().len() + store_faults, "fault"),
        count(report.warnings().len(), "warning"),
        count(suggestions, "suggestion"),
    ))
}

fn count(number: usize, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// Says which paths require what by the lists, unless they are empty and there are rules.
fn paths(settings: &Settings) -> Option<String> {
    let lists =
        [(PathList::Access, "access token for"), (PathList::Master, "master token for"), (PathList::Public, "open:")];
    let parts = lists.into_iter().filter_map(|(list, what)| Some(format!("{what} {}", prefixes(settings, list)?)));
    let parts: Vec<_> = parts.collect();
    let deployment = settings.deployment();
    match (parts.is_empty(), deployment.shadow) {
        (true, _) if has_rules(settings) => None,
        (true, _) => Some("none is guarded".to_owned()),
        (false, true) => Some(format!("{}; but `shadow` is on, so nothing is refused", parts.join("; "))),
        (false, false) => Some(parts.join("; ")),
    }
}

/// Returns true if there are rules, be it the default level alone.
fn has_rules(settings: &Settings) -> bool {
    let rules = &settings.deployment().rules;
    rules.has_rules() || rules.default_level() != Level::Public
}

/// Returns the rules, and what all other paths require.
fn rules(report: &Report, settings: &Settings) -> Vec<String> {
    let rules = &settings.deployment().rules;
    let mut lines = report.rules();
    if has_rules(settings) {
        let shadow = if settings.deployment().shadow { "; but `shadow` is on, so nothing is refused" } else { "" };
        lines.push(format!("all other paths: {}{shadow}", rules.default_level().as_str()));
    }
    lines
}

/// Returns the prefixes of a list, if it has any.
fn prefixes(settings: &Settings, list: PathList) -> Option<String> {
    let rules = settings.deployment().rules.iter().filter(|rule| rule.list() == list);
    let all: Vec<_> = rules.map(|rule| rule.prefix().to_owned()).collect();
    match all.len() {
        0 => None,
        count if count > MAX_SHOWN => Some(format!("{} and {} more", all[..MAX_SHOWN].join(", "), count - MAX_SHOWN)),
        _ => Some(all.join(", ")),
    }
}

fn store_state(settings: &Settings, store: Option<&Result<TriedStore, String>>) -> String {
    let format = match settings.store_format() {
        StoreFormat::Fernet => "tokens encrypted",
        StoreFormat::Plain => "tokens as plain text",
    };
    let state = match store {
        None => return format!("{format}; not tried"),
        Some(Err(_)) => return format!("{format}; not usable (see the fault)"),
        Some(Ok(tried)) => tried,
    };
    let missing: Vec<_> =
        state.promises().into_iter().filter(|promise| !promise.is_kept).map(|promise| promise.text).collect();
    let lacks = if missing.is_empty() { String::new() } else { format!("; without {}", missing.join(", ")) };
    format!("{format}; {}{lacks}", state.state)
}

fn keys(settings: &Settings) -> String {
    let keys = settings.keys().list();
    let signing = keys.iter().find(|key| key.role == KeyRole::Signs).map_or("none", |key| key.kid.as_str());
    match keys.len() {
        1 => format!("{signing} signs"),
        count => format!("{signing} signs, {} more (`fastauth keys list`)", count - 1),
    }
}
