//! A row of the table of members: what a member of a rule is called, which values it takes, and what it sets.

use std::time::Duration;

use fastauth_core::policy::Rule;
use serde_json::Value;

use crate::{
    given::{claims, describe},
    key::{self, TimeLimits},
    time,
};

/// A member of a rule. It is one static, and one line in the table.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) kind: MemberKind,
    /// Returns the member as the configuration would have it.
    pub(crate) get: fn(&Rule) -> Option<Value>,
    pub(crate) is_required: bool,
    /// It asks something of the access token.
    pub(crate) is_demand: bool,
    /// Its text in the reference, in Markdown.
    pub(crate) doc: &'static str,
}

/// Sets a value that is sound by itself.
pub(crate) type SetMember<T> = fn(Rule, T) -> Rule;

/// The values that a member takes, and what they set.
pub(crate) enum MemberKind {
    Text {
        example: &'static str,
        /// What texts match that are not refused, as a regular expression of JSON Schema.
        pattern: &'static str,
        set: SetMember<String>,
    },
    Choice(&'static [Word]),
    Flag {
        set: SetMember<bool>,
    },
    Time {
        limits: TimeLimits,
        set: SetMember<Duration>,
    },
    Texts {
        example: &'static str,
        /// All texts that can stand in it, if they are known.
        words: &'static [&'static str],
        set: SetMember<Vec<String>>,
    },
    Claims {
        set: SetMember<Vec<(String, Value)>>,
    },
}

/// A word that a member takes.
pub(crate) struct Word {
    pub(crate) word: &'static str,
    pub(crate) set: fn(Rule) -> Rule,
    /// What it means, which editors show.
    pub(crate) doc: &'static str,
}

/// What is wrong with the value of a member, and what to do.
pub(crate) struct MemberProblem {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl Member {
    pub(crate) const fn new(name: &'static str, kind: MemberKind, get: fn(&Rule) -> Option<Value>) -> Self {
        Self { name, kind, get, is_required: false, is_demand: false, doc: "" }
    }

    pub(crate) const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub(crate) const fn demand(self) -> Self {
        Self { is_demand: true, ..self }
    }

    pub(crate) const fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    /// Returns true if a name in an object stands for the member: in kebab-case, snake_case or both mixed.
    pub(crate) fn is_spelled(&self, name: &str) -> bool {
        self.name == name.replace('_', "-")
    }

    /// Sets the value of the member in a rule.
    pub(crate) fn set(&self, rule: Rule, value: &Value) -> Result<Rule, MemberProblem> {
        match (&self.kind, value) {
            (_, Value::Null) => Err(problem("found null", "give it a value, or remove it")),
            (MemberKind::Text { set, .. }, Value::String(text)) => Ok(set(rule, text.clone())),
            (MemberKind::Choice(words), Value::String(text)) => match words.iter().find(|word| word.word == text) {
                Some(word) => Ok((word.set)(rule)),
                None => Err(problem(format!("{text:?} is not one of its values"), self.kind.remedy())),
            },
            (MemberKind::Flag { set }, Value::Bool(flag)) => Ok(set(rule, *flag)),
            (MemberKind::Time { limits, set }, Value::String(text)) => match time::parse(text) {
                Ok(time) => match limits.problem(time) {
                    Some(what) => Err(problem(format!("{text:?} {what}"), limits.remedy())),
                    None => Ok(set(rule, time)),
                },
                Err(what) => Err(problem(what, limits.remedy())),
            },
            (MemberKind::Texts { set, .. }, Value::Array(items)) => {
                Ok(set(rule, texts(items).map_err(|what| problem(what, self.kind.remedy()))?))
            }
            (MemberKind::Claims { set }, Value::Object(members)) => {
                Ok(set(rule, claims(members.clone()).map_err(|what| problem(what, self.kind.remedy()))?))
            }
            (kind, other) => Err(problem(format!("found {}", describe(other)), kind.remedy())),
        }
    }
}

impl MemberKind {
    /// Returns what a fault tells to write.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Text { example, .. } => format!("write a text in quotes, such as {example:?}"),
            Self::Choice(words) => key::one_of(words.iter().map(|word| word.word)),
            Self::Flag { .. } => "write true or false".to_owned(),
            Self::Time { limits, .. } => limits.remedy(),
            Self::Texts { example, .. } => format!("write a list of texts, such as {example}"),
            Self::Claims { .. } => {
                r#"write an object of texts, numbers, true and false, such as {"tenant": "acme"}"#.to_owned()
            }
        }
    }
}

fn problem(problem: impl Into<String>, remedy: impl Into<String>) -> MemberProblem {
    MemberProblem { problem: problem.into(), remedy: remedy.into() }
}

fn texts(items: &[Value]) -> Result<Vec<String>, String> {
    if items.is_empty() {
        return Err("it is empty".to_owned());
    }
    items
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("found {} in the list", describe(other))),
        })
        .collect()
}
