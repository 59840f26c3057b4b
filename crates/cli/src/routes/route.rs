//! What guards an operation.

use fastauth::path::{PathDecision, PathList};
use fastauth_core::{policy::Level, shown::shown};
use serde::Serialize;

use super::{
    document::{Documented, Operation, Operations},
    finding::Finding,
};
use crate::{
    explain::{Explained, Explainer, Presented, RuleFields, demands},
    output::Label,
};

/// An operation with what guards it.
#[derive(Serialize)]
pub(super) struct Route {
    method: String,
    path: String,
    documented: Documented,
    /// A rule or a list is for all its paths.
    covered: bool,
    guards: Vec<Guard>,
    /// What the token router requires, if it is one of its endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    router: Option<&'static str>,
}

/// What some of the paths of an operation need, and by what.
#[derive(PartialEq, Serialize)]
struct Guard {
    requires: PathDecision,
    rules: Vec<RuleFields>,
    lists: Vec<ListedPrefix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_level: Option<Level>,
    covered: bool,
    /// One of the paths.
    example: String,
}

#[derive(PartialEq, Serialize)]
struct ListedPrefix {
    list: PathList,
    prefix: String,
}

impl Route {
    pub(super) fn new(operation: &Operation, of: &Operations<'_>, explainer: &Explainer) -> Self {
        let mut guards: Vec<Guard> = Vec::new();
        for path in of.paths.paths_of(explainer.rules(), &operation.path) {
            let explained = explainer.explain(&operation.method, &path, &Presented::default());
            let guard = Guard::new(explained, &path);
            if !guards.iter().any(|other| other.is_like(&guard)) {
                guards.push(guard);
            }
        }
        let router = explainer.endpoint(&operation.path).map(|endpoint| endpoint.credential);
        Self {
            method: operation.method.to_string(),
            path: operation.path.clone(),
            documented: operation.documented,
            covered: router.is_some() || guards.iter().all(|guard| guard.covered),
            guards,
            router,
        }
    }

    /// Returns the lines of the table: method, path, what is required, and by what.
    pub(super) fn rows(&self) -> Vec<[String; 4]> {
        let has_several = self.guards.len() > 1;
        let rows = self.guards.iter().enumerate().map(|(number, guard)| {
            let is_first = number == 0;
            let method = if is_first { shown(&self.method).into_owned() } else { String::new() };
            let path = if is_first { shown(&self.path).into_owned() } else { String::new() };
            let example = if has_several { format!(", such as {}", shown(&guard.example)) } else { String::new() };
            let router = self.router.map(|credential| format!("; the token router: {credential}")).unwrap_or_default();
            [method, path, guard.requires.to_string(), format!("{}{router}{example}", guard.by())]
        });
        rows.collect()
    }

    /// Returns true if the default level alone decides, on it or on some of its paths.
    pub(super) fn is_uncovered(&self) -> bool {
        !self.covered
    }

    /// Returns true if it needs no credential while the document says that it does.
    pub(super) fn is_open_against_the_document(&self) -> bool {
        let is_public = |guard: &Guard| guard.requires == PathDecision::Public;
        self.documented == Documented::Required && self.router.is_none() && self.guards.iter().any(is_public)
    }

    /// Returns what there is to say of it.
    pub(super) fn findings(&self, deny_uncovered: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut say = |severity, message| findings.push(Finding::new(severity, &self.method, &self.path, message));
        if self.is_uncovered() && deny_uncovered {
            say(Label::Fault, self.why_uncovered());
        }
        if self.is_open_against_the_document() {
            say(Label::Fault, "it needs no credential here, and the document says that it does".to_owned());
        }
        if let Some(said) = self.disagreement() {
            say(Label::Note, format!("the document says {said}"));
        }
        findings
    }

    fn why_uncovered(&self) -> String {
        if self.guards.iter().any(|guard| guard.requires == PathDecision::Reject) {
            return "no request has such a path: it is answered 400".to_owned();
        }
        let some = if self.guards.iter().any(|guard| guard.covered) { "some paths of it" } else { "it" };
        let level = self.guards.iter().find_map(|guard| guard.default_level.filter(|_| !guard.covered));
        let level = level.unwrap_or(Level::Public).as_str();
        format!("no rule and no list is for {some}: the default level is {level}")
    }

    /// Returns how the document says otherwise, unless that is a fault.
    fn disagreement(&self) -> Option<&'static str> {
        if self.router.is_some() {
            return None;
        }
        let any = |is_so: fn(PathDecision) -> bool| self.guards.iter().any(|guard| is_so(guard.requires));
        let needs_one =
            |decision| matches!(decision, PathDecision::Access | PathDecision::Master | PathDecision::MasterAndAccess);
        match self.documented {
            Documented::None if any(needs_one) => Some("that it needs no credential, but it needs one here"),
            Documented::Optional if any(needs_one) => Some("that its credential is optional, but it needs one here"),
            Documented::Optional if any(|decision| decision == PathDecision::Public) => {
                Some("that it takes a credential, but none is looked at here")
            }
            Documented::Required if any(|decision| decision == PathDecision::Optional) => {
                Some("that it needs a credential, but that is optional here")
            }
            _ => None,
        }
    }
}

impl Guard {
    fn new(explained: Explained, path: &str) -> Self {
        let Explained { layer, rules, .. } = explained;
        let lists = layer.decided_by().iter();
        let lists: Vec<_> = lists.map(|by| ListedPrefix { list: by.list(), prefix: by.prefix().to_owned() }).collect();
        Self {
            requires: layer.decision(),
            covered: !rules.is_empty() || !lists.is_empty(),
            default_level: layer.default_level(),
            rules,
            lists,
            // What no rule names stands for all other values.
            example: path.replace("%EE%80%80", "…"),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let names = |guard: &Self| guard.rules.iter().map(|rule| rule.place).collect::<Vec<_>>();
        self.requires == other.requires
            && names(self) == names(other)
            && self.lists == other.lists
            && self.default_level == other.default_level
    }

    /// Returns what decides.
    fn by(&self) -> String {
        let lists = self.lists.iter().map(|by| format!("{:?} of {}", by.prefix, by.list.key()));
        let rules = self.rules.iter().map(|rule| {
            let demands = demands(&rule.demands);
            let demands = if demands.is_empty() { demands } else { format!(" ({demands})") };
            format!("rules[{}] {:?}{demands}", rule.place, rule.name)
        });
        let by: Vec<_> = lists.chain(rules).collect();
        if by.is_empty() { "default-level".to_owned() } else { by.join(" and ") }
    }
}
