//! The value of a key: as a source has it, and of the key's kind.

use std::time::{Duration, SystemTime};

use fastauth_core::{
    json,
    policy::Rule,
    secret::{Secret, SecretDigest},
};
use serde_json::{Map, Value};

use crate::{
    environment::without_line_break,
    placeholder::{TextKind, unreplaced, unreplaced_text},
    time,
};

/// A value of the kind that its key takes.
#[derive(Clone)]
pub(crate) enum Given {
    Text(String),
    Flag(bool),
    Number(u64),
    Time(Duration),
    Instant(SystemTime),
    List(Vec<String>),
    Secret(Secret),
    SecretList(Vec<Secret>),
    SecretMap(Vec<(String, Secret)>),
    /// The rules of a file or of a variable, which are read one by one.
    RuleEntries(Vec<Value>),
    Rules(Vec<Rule>),
    Claims(Vec<(String, Value)>),
}

/// A value as a source has it.
#[derive(Clone)]
pub(crate) enum Raw {
    Code(Given),
    Json(Value),
    Variable(String),
}

/// The form that the values of a key have in a file and in a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueForm {
    Text,
    Flag,
    Number,
    List,
    /// A text or a list of texts.
    Addresses,
    Secret,
    SecretList,
    SecretMap,
    Rules,
    Claims,
    /// Any value, which has no effect.
    Ignored,
}

impl Given {
    /// Creates a list from what an application passes.
    pub(crate) fn list<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// Creates a number. More than the table admits is refused there.
    pub(crate) fn count(number: usize) -> Self {
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }

    pub(crate) fn secret_map<N: Into<String>, V: Into<Secret>>(members: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::SecretMap(members.into_iter().map(|(name, secret)| (name.into(), secret.into())).collect())
    }

    /// Returns the value for people to read. Of secrets, it returns how many there are, or their names.
    pub(crate) fn shown(&self) -> Option<String> {
        Some(match self {
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => time::show(*time),
            Self::Instant(instant) => rfc3339(*instant),
            Self::List(items) => format!("{items:?}"),
            Self::Secret(_) => "set".to_owned(),
            Self::SecretList(secrets) if !secrets.is_empty() => format!("{} set", secrets.len()),
            Self::SecretMap(members) if !members.is_empty() => {
                members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            }
            Self::RuleEntries(entries) if !entries.is_empty() => counted(entries.len()),
            Self::Rules(rules) if !rules.is_empty() => counted(rules.len()),
            Self::Claims(_) => self.in_json().to_string(),
            Self::SecretList(_) | Self::SecretMap(_) | Self::RuleEntries(_) | Self::Rules(_) => return None,
        })
    }

    /// Returns the value for programs. Of secrets, it returns how many there are, or their names.
    pub(crate) fn in_json(&self) -> Value {
        match self {
            Self::Flag(flag) => Value::from(*flag),
            Self::Number(number) => Value::from(*number),
            Self::List(items) => Value::from(items.clone()),
            Self::SecretList(secrets) => Value::from(secrets.len()),
            Self::SecretMap(members) => members.iter().map(|(name, _)| name.as_str()).collect(),
            Self::RuleEntries(entries) => Value::from(entries.clone()),
            Self::Claims(claims) => claims.iter().cloned().collect::<Map<_, _>>().into(),
            Self::Text(_) | Self::Time(_) | Self::Instant(_) | Self::Secret(_) | Self::Rules(_) => {
                self.shown().map_or(Value::Null, Value::from)
            }
        }
    }

    /// Returns the value of a key for times: in plain units, or the text of what is no time.
    pub(crate) fn shown_time(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(time::parse(text).map_or_else(|_| text.clone(), time::show)),
            given => given.shown(),
        }
    }

    /// Returns what the value is recognised by.
    pub(crate) fn digest(&self) -> SecretDigest {
        let text = match self {
            Self::Secret(secret) => secret.clone(),
            Self::SecretList(secrets) => joined(secrets.iter().map(Secret::expose)),
            Self::SecretMap(members) => joined(members.iter().flat_map(|(name, secret)| [name, secret.expose()])),
            Self::Rules(rules) => Secret::from(format!("{rules:?}")),
            given => Secret::from(given.in_json().to_string()),
        };
        SecretDigest::of(text.expose().as_bytes())
    }

    fn unreplaced(&self, text_kind: TextKind) -> Option<String> {
        match self {
            Self::Text(text) => unreplaced_text(text, text_kind),
            Self::List(items) => items.iter().find_map(|item| unreplaced_text(item, text_kind)),
            Self::Secret(secret) => unreplaced_text(secret.expose(), text_kind),
            Self::SecretList(secrets) => secrets.iter().find_map(|secret| unreplaced_text(secret.expose(), text_kind)),
            Self::SecretMap(members) => members.iter().find_map(|(name, secret)| {
                let problem = unreplaced_text(secret.expose(), text_kind)?;
                Some(format!("the value of {name:?}: {problem}"))
            }),
            Self::Flag(_) | Self::Number(_) | Self::Time(_) | Self::Instant(_) => None,
            Self::RuleEntries(_) | Self::Rules(_) | Self::Claims(_) => None,
        }
    }
}

/// Joins texts by a character that none of them has.
fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Secret {
    texts.map(|text| format!("{text}\0")).collect::<String>().into()
}

impl Raw {
    /// Creates the value of a variable. The line break at its end is that of the file which it was read from.
    pub(crate) fn variable(text: &str) -> Self {
        Self::Variable(without_line_break(text).to_owned())
    }

    /// Returns what is wrong if a template was to replace a part of the value and did not.
    pub(crate) fn unreplaced(&self, text_kind: TextKind) -> Option<String> {
        match self {
            Self::Code(given) => given.unreplaced(text_kind),
            Self::Json(value) => unreplaced(value, text_kind),
            Self::Variable(text) => unreplaced_text(text, text_kind),
        }
    }

    /// Returns the place of what a template was to replace in a list of objects, such as `[1].path`.
    pub(crate) fn place_of_unreplaced(&self, text_kind: TextKind) -> Option<String> {
        let Self::Json(Value::Array(items)) = self else { return None };
        let at = items.iter().position(|item| unreplaced(item, text_kind).is_some())?;
        let (member, _) = items[at].as_object()?.iter().find(|(_, value)| unreplaced(value, text_kind).is_some())?;
        Some(format!("[{at}].{member}"))
    }

    /// Reads the value in this form. The error says what is wrong with it.
    pub(crate) fn into_given(self, form: ValueForm) -> Result<Given, String> {
        match self {
            Self::Code(given) => Ok(given),
            Self::Json(value) => from_json(value, form),
            Self::Variable(text) => from_variable(text, form),
        }
    }
}

/// What is wrong with a variable for an object.
pub(crate) const NO_VARIABLE: &str = "an object cannot be set by a variable";

fn from_json(value: Value, form: ValueForm) -> Result<Given, String> {
    match (form, value) {
        (ValueForm::Text | ValueForm::Addresses, Value::String(text)) => Ok(Given::Text(text)),
        (ValueForm::Secret, Value::String(text)) => Ok(Given::Secret(Secret::from(text))),
        (ValueForm::Flag, Value::Bool(flag)) => Ok(Given::Flag(flag)),
        (ValueForm::Number, Value::Number(number)) => {
            number.as_u64().map(Given::Number).ok_or_else(|| format!("{number} is not a whole number"))
        }
        (ValueForm::List | ValueForm::Addresses, Value::Array(items)) => texts(items).map(Given::List),
        (ValueForm::SecretList, Value::Array(items)) => texts(items).map(secret_list),
        (ValueForm::SecretMap, Value::Object(members)) => secret_map(members),
        (ValueForm::Rules, Value::Array(entries)) => Ok(Given::RuleEntries(entries)),
        (ValueForm::Claims, Value::Object(members)) => claims(members).map(Given::Claims),
        (_, other) => Err(format!("found {}", describe(&other))),
    }
}

fn from_variable(text: String, form: ValueForm) -> Result<Given, String> {
    match form {
        ValueForm::Text | ValueForm::Ignored => Ok(Given::Text(text)),
        ValueForm::Secret => Ok(Given::Secret(Secret::from(text))),
        ValueForm::Flag => text.parse().map(Given::Flag).map_err(|_| "found a text".to_owned()),
        ValueForm::Number => text.parse().map(Given::Number).map_err(|_| format!("{text:?} is not a whole number")),
        ValueForm::List => items(&text).map(Given::List),
        ValueForm::Addresses => addresses(text),
        // An empty one takes the keys of other sources away.
        ValueForm::SecretList if text.trim().is_empty() => Ok(Given::SecretList(Vec::new())),
        ValueForm::SecretList => items(&text).map(secret_list),
        ValueForm::SecretMap => Err(NO_VARIABLE.to_owned()),
        ValueForm::Rules | ValueForm::Claims => match json::value(text.as_bytes()) {
            Ok(value) => from_json(value, form),
            Err(error) => Err(format!("it is not usable JSON: {error}")),
        },
    }
}

/// Reads the list in a variable: JSON, or texts with commas between them.
fn items(text: &str) -> Result<Vec<String>, String> {
    if text.trim().starts_with('[') && text.trim().ends_with(']') {
        return serde_json::from_str(text).map_err(|_| "it looks like JSON, but is not a list of texts".to_owned());
    }
    Ok(text.split(',').map(|item| item.trim().to_owned()).collect())
}

/// Reads one address or several. A comma may be a part of the only one.
fn addresses(text: String) -> Result<Given, String> {
    let items = items(&text)?;
    let is_url = |item: &String| item.split_once("://").is_some_and(|(scheme, _)| !scheme.is_empty());
    let is_json = text.trim().starts_with('[');
    Ok(if is_json || (items.len() > 1 && items.iter().all(is_url)) { Given::List(items) } else { Given::Text(text) })
}

fn texts(items: Vec<Value>) -> Result<Vec<String>, String> {
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Ok(text),
            other => Err(format!("found {} in the list", describe(&other))),
        })
        .collect()
}

fn secret_list(texts: Vec<String>) -> Given {
    Given::SecretList(texts.into_iter().map(Secret::from).collect())
}

fn secret_map(members: Map<String, Value>) -> Result<Given, String> {
    members
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, Secret::from(text))),
            other => Err(format!("found {} as the value of `{name}`", describe(&other))),
        })
        .collect::<Result<_, _>>()
        .map(Given::SecretMap)
}

/// Reads claims, each with the value that a token has to have.
pub(crate) fn claims(members: Map<String, Value>) -> Result<Vec<(String, Value)>, String> {
    if members.is_empty() {
        return Err("it is empty".to_owned());
    }
    members
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok((name, value)),
            other => Err(format!("found {} as the value of {name:?}", describe(&other))),
        })
        .collect()
}

fn counted(rules: usize) -> String {
    if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") }
}

pub(crate) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Writes a point in time, in whole seconds and UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_holds_one_address_or_several() {
        for (text, expected) in [
            ("http://a/x", r#""http://a/x""#),
            ("http://a/x,y", r#""http://a/x,y""#),
            ("sqlite:a,b.db", r#""sqlite:a,b.db""#),
            ("http://a, https://b/x", r#"["http://a","https://b/x"]"#),
            (r#"["http://a"]"#, r#"["http://a"]"#),
        ] {
            assert_eq!(addresses(text.to_owned()).unwrap().in_json().to_string(), expected);
        }
        assert!(addresses("[http://a]".to_owned()).is_err());
    }

    #[test]
    fn variable_holds_a_list_in_json_or_with_commas() {
        for (text, expected) in [
            ("/a", vec!["/a"]),
            ("/a, /b ", vec!["/a", "/b"]),
            (r#"["/a,b", "/c"]"#, vec!["/a,b", "/c"]),
            (" [] ", vec![]),
            ("", vec![""]),
            ("/a,", vec!["/a", ""]),
            ("https://[::1]", vec!["https://[::1]"]),
        ] {
            assert_eq!(items(text).unwrap(), expected, "{text}");
        }
        for text in ["[/a]", r#"["/a",]"#, "[1]", r#"["/a", null]"#] {
            assert!(items(text).is_err(), "{text}");
        }
    }
}
