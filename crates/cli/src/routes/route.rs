//! What guards an operation.

use fastauth::path::{PathDecision, PathList};
use fastauth_core::{policy::Level, shown::shown};
use serde::Serialize;

use super::document::{Documented, Operation};
use crate::explain::{Explained, Explainer, Presented, RuleFields, demands};

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
    pub(super) fn new(operation: &Operation, explainer: &Explainer) -> Self {
        let mut guards: Vec<Guard> = Vec::new();
        for path in explainer.rules().paths_of(&operation.path) {
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

    /// Returns why the operation is not covered.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.covered {
            let some = if self.guards.iter().any(|guard| guard.covered) { "some paths of it" } else { "it" };
            let level = self.guards.iter().find_map(|guard| guard.default_level.filter(|_| !guard.covered));
            let level = level.unwrap_or(Level::Public).as_str();
            problems.push(format!("{}: no rule and no list is for {some}: the default level is {level}", self.name()));
        }
        let is_public = |guard: &Guard| guard.requires == PathDecision::Public;
        if self.documented == Documented::Required && self.router.is_none() && self.guards.iter().any(is_public) {
            problems.push(format!("{}: it needs no credential, and the document says that it does", self.name()));
        }
        problems
    }

    /// Returns how the document says otherwise, unless that is a problem.
    pub(super) fn disagreement(&self) -> Option<String> {
        if self.router.is_some() {
            return None;
        }
        let any = |is_so: fn(PathDecision) -> bool| self.guards.iter().any(|guard| is_so(guard.requires));
        let needs_one =
            |decision| matches!(decision, PathDecision::Access | PathDecision::Master | PathDecision::MasterAndAccess);
        let said = match self.documented {
            Documented::None if any(needs_one) => "that it needs no credential, and it does",
            Documented::Optional if any(needs_one) => "that its credential is optional, and it is not",
            Documented::Optional if any(|decision| decision == PathDecision::Public) => {
                "that it takes a credential, and none is looked at"
            }
            Documented::Required if any(|decision| decision == PathDecision::Optional) => {
                "that it needs a credential, and that is optional"
            }
            _ => return None,
        };
        Some(format!("{}: the document says {said}", self.name()))
    }

    fn name(&self) -> String {
        format!("{} {}", shown(&self.method), shown(&self.path))
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
