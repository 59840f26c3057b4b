//! A row of the table: what a configuration key is called, which values it takes, and what it sets.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use fastauth_core::{policy::Rule, secret::Secret};
use serde_json::Value;

use crate::{
    draft::Draft,
    fault::{Fault, Source},
    given::ValueForm,
    placeholder::TextKind,
    time,
};

/// A configuration key. It is one static beside its group, and one line in the group.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) alias: Option<&'static str>,
    /// The variable without a prefix that sets it, too.
    pub(crate) bare: Option<&'static str>,
    pub(crate) kind: ValueKind,
    pub(crate) feature: Option<&'static Feature>,
    pub(crate) text_kind: TextKind,
    /// What reports show if the key is not set and has no typed default.
    pub(crate) unset: &'static str,
    /// A value that is refused may hold a password, and is not shown.
    pub(crate) is_concealed: bool,
    /// The texts that can stand in a list, if they are known.
    pub(crate) words: &'static [&'static str],
    pub(crate) in_any_case: bool,
    /// Its text in the reference, in Markdown.
    pub(crate) doc: &'static str,
}

/// Keys that belong together.
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) keys: &'static [&'static Key],
}

/// Sets a value that is sound by itself, or adds a fault.
pub(crate) type Set<T> = fn(&mut Draft<'_>, T);

/// The values that a key takes, and what they set. A kind with a default is set in any case.
pub(crate) enum ValueKind {
    Text {
        default: Option<&'static str>,
        set: Set<String>,
    },
    /// One address or several.
    Addresses {
        default: &'static str,
        set: Set<Vec<String>>,
    },
    /// One of several words.
    Choice {
        choices: &'static [Choice],
        /// The first one is the default. Otherwise, none of them counts without the key.
        has_default: bool,
    },
    Flag {
        default: bool,
        set: Set<bool>,
    },
    Number {
        limits: NumberLimits,
        set: Set<u64>,
    },
    Time {
        limits: TimeLimits,
        set: Set<Duration>,
    },
    /// A point in time.
    Instant {
        set: Set<SystemTime>,
    },
    List {
        example: &'static str,
        set: Set<Vec<String>>,
    },
    Secret {
        set: Set<Secret>,
    },
    /// The path of a file that holds the secret of another key.
    SecretFile {
        of: &'static Key,
    },
    SecretList {
        set: Set<Vec<Secret>>,
    },
    SecretMap {
        set: Set<Vec<(String, Secret)>>,
    },
    Rules {
        set: Set<Vec<Rule>>,
    },
    /// Members of a token's payload.
    Claims {
        set: Set<Vec<(String, Value)>>,
    },
    /// Accepted, and without effect.
    Ignored,
}

/// A word that a key takes.
pub(crate) struct Choice {
    pub(crate) word: &'static str,
    pub(crate) set: fn(&mut Draft<'_>),
    pub(crate) feature: Option<&'static Feature>,
}

/// The whole numbers that a key takes.
pub(crate) struct NumberLimits {
    pub(crate) default: Option<u64>,
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// The times that a key takes.
pub(crate) struct TimeLimits {
    pub(crate) default: Duration,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    /// Parts of a second are refused.
    pub(crate) in_seconds: bool,
}

/// A Cargo feature that a value needs.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) is_built: bool,
    /// What a build without it says.
    pub(crate) problem: &'static str,
}

impl Key {
    pub(crate) const fn text(name: &'static str, set: Set<String>) -> Self {
        Self::new(name, ValueKind::Text { default: None, set })
    }

    pub(crate) const fn text_or(name: &'static str, default: &'static str, set: Set<String>) -> Self {
        Self::new(name, ValueKind::Text { default: Some(default), set })
    }

    pub(crate) const fn addresses(name: &'static str, default: &'static str, set: Set<Vec<String>>) -> Self {
        Self::new(name, ValueKind::Addresses { default, set })
    }

    pub(crate) const fn choice(name: &'static str, choices: &'static [Choice]) -> Self {
        Self::new(name, ValueKind::Choice { choices, has_default: true })
    }

    pub(crate) const fn choice_or_none(name: &'static str, choices: &'static [Choice]) -> Self {
        Self::new(name, ValueKind::Choice { choices, has_default: false })
    }

    pub(crate) const fn flag(name: &'static str, default: bool, set: Set<bool>) -> Self {
        Self::new(name, ValueKind::Flag { default, set })
    }

    pub(crate) const fn number(name: &'static str, limits: NumberLimits, set: Set<u64>) -> Self {
        Self::new(name, ValueKind::Number { limits, set })
    }

    pub(crate) const fn time(name: &'static str, limits: TimeLimits, set: Set<Duration>) -> Self {
        Self::new(name, ValueKind::Time { limits, set })
    }

    pub(crate) const fn instant(name: &'static str, set: Set<SystemTime>) -> Self {
        Self::new(name, ValueKind::Instant { set })
    }

    pub(crate) const fn list(name: &'static str, example: &'static str, set: Set<Vec<String>>) -> Self {
        Self::new(name, ValueKind::List { example, set })
    }

    /// Creates a list of prefixes of paths.
    pub(crate) const fn paths(name: &'static str, set: Set<Vec<String>>) -> Self {
        Self::list(name, r#"["/access"]"#, set).of_paths().unset("[]")
    }

    pub(crate) const fn secret(name: &'static str, set: Set<Secret>) -> Self {
        Self::new(name, ValueKind::Secret { set }).unset("not set")
    }

    /// Creates the twin of a secret, which names the file that it is in.
    pub(crate) const fn secret_file(name: &'static str, of: &'static Key) -> Self {
        Self::new(name, ValueKind::SecretFile { of })
    }

    pub(crate) const fn secret_list(name: &'static str, set: Set<Vec<Secret>>) -> Self {
        Self::new(name, ValueKind::SecretList { set })
    }

    pub(crate) const fn secret_map(name: &'static str, set: Set<Vec<(String, Secret)>>) -> Self {
        Self::new(name, ValueKind::SecretMap { set })
    }

    pub(crate) const fn rules(name: &'static str, set: Set<Vec<Rule>>) -> Self {
        Self::new(name, ValueKind::Rules { set }).of_paths().unset("[]")
    }

    pub(crate) const fn claims(name: &'static str, set: Set<Vec<(String, Value)>>) -> Self {
        Self::new(name, ValueKind::Claims { set })
    }

    pub(crate) const fn ignored(name: &'static str) -> Self {
        Self::new(name, ValueKind::Ignored)
    }

    const fn new(name: &'static str, kind: ValueKind) -> Self {
        let text_kind = if kind.is_secret() { TextKind::Secret } else { TextKind::Text };
        Self {
            name,
            alias: None,
            bare: None,
            kind,
            feature: None,
            text_kind,
            unset: "none",
            is_concealed: false,
            words: &[],
            in_any_case: false,
            doc: "",
        }
    }

    pub(crate) const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    pub(crate) const fn bare(self, variable: &'static str) -> Self {
        Self { bare: Some(variable), ..self }
    }

    pub(crate) const fn feature(self, feature: &'static Feature) -> Self {
        Self { feature: Some(feature), ..self }
    }

    /// Says which texts can stand in a list.
    pub(crate) const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Says that they can be written in any case.
    pub(crate) const fn in_any_case(self) -> Self {
        Self { in_any_case: true, ..self }
    }

    pub(crate) const fn of_paths(self) -> Self {
        Self { text_kind: TextKind::Path, ..self }
    }

    pub(crate) const fn unset(self, unset: &'static str) -> Self {
        Self { unset, ..self }
    }

    pub(crate) const fn concealed(self) -> Self {
        Self { is_concealed: true, ..self }
    }

    pub(crate) const fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    /// Returns the variable that sets the key.
    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Returns true if a name in the configuration file stands for the key: in kebab-case, snake_case or both mixed.
    pub(crate) fn is_spelled(&self, name: &str) -> bool {
        let name = name.replace('_', "-");
        self.name == name || self.alias == Some(name.as_str())
    }

    /// Returns the default as reports and the reference show it.
    pub(crate) fn default_text(&self) -> String {
        match &self.kind {
            ValueKind::Text { default: Some(text), .. } | ValueKind::Addresses { default: text, .. } => {
                (*text).to_owned()
            }
            ValueKind::Choice { choices: [first, ..], has_default: true } => first.word.to_owned(),
            ValueKind::Flag { default, .. } => default.to_string(),
            ValueKind::Number { limits: NumberLimits { default: Some(number), .. }, .. } => number.to_string(),
            ValueKind::Time { limits, .. } => time::show(limits.default),
            _ => self.unset.to_owned(),
        }
    }

    /// Returns the default for programs: null if there is none.
    pub(crate) fn default_json(&self) -> Value {
        match &self.kind {
            ValueKind::Flag { default, .. } => Value::from(*default),
            ValueKind::Number { limits: NumberLimits { default: Some(number), .. }, .. } => Value::from(*number),
            ValueKind::Text { default: Some(_), .. }
            | ValueKind::Addresses { .. }
            | ValueKind::Choice { has_default: true, .. }
            | ValueKind::Time { .. } => Value::from(self.default_text()),
            // Some lists say in words what counts without them.
            ValueKind::List { .. } | ValueKind::Rules { .. } => serde_json::from_str(self.unset).unwrap_or_default(),
            _ => Value::Null,
        }
    }
}

/// Returns the variable that sets the key of this name.
pub(crate) fn variable(name: &str) -> String {
    format!("FASTAUTH_{}", name.replace('-', "_").to_ascii_uppercase())
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ValueKind {
    pub(crate) const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret { .. } | Self::SecretList { .. } | Self::SecretMap { .. })
    }

    /// Returns the form that the values have.
    pub(crate) fn form(&self) -> ValueForm {
        match self {
            Self::Text { .. }
            | Self::Choice { .. }
            | Self::Time { .. }
            | Self::Instant { .. }
            | Self::SecretFile { .. } => ValueForm::Text,
            Self::Addresses { .. } => ValueForm::Addresses,
            Self::Flag { .. } => ValueForm::Flag,
            Self::Number { .. } => ValueForm::Number,
            Self::List { .. } => ValueForm::List,
            Self::Secret { .. } => ValueForm::Secret,
            Self::SecretList { .. } => ValueForm::SecretList,
            Self::SecretMap { .. } => ValueForm::SecretMap,
            Self::Rules { .. } => ValueForm::Rules,
            Self::Claims { .. } => ValueForm::Claims,
            Self::Ignored => ValueForm::Ignored,
        }
    }

    /// Returns what a fault tells to write.
    pub(crate) fn remedy(&self) -> String {
        let what = match self {
            Self::Text { .. } | Self::Secret { .. } | Self::Time { .. } | Self::Instant { .. } => "a text in quotes",
            Self::Addresses { .. } => r#"a text in quotes, or a list such as ["http://a.example", "http://b.example"]"#,
            Self::SecretFile { .. } => r#"the path of a file in quotes, such as "/run/secrets/key""#,
            Self::Choice { choices, .. } => return one_of(choices.iter().map(|choice| choice.word)),
            Self::Flag { .. } => "true or false",
            Self::Number { .. } => "a whole number, such as 60",
            Self::List { example, .. } => {
                return format!("write a list of texts, such as {example}");
            }
            Self::SecretList { .. } => "a list of texts",
            Self::SecretMap { .. } => r#"an object of texts, such as {"X-Name": "value"}"#,
            Self::Rules { .. } => r#"a list of objects, such as [{"path": "/api", "level": "access"}]"#,
            Self::Claims { .. } => r#"an object of claims, such as {"principal": "service"}"#,
            Self::Ignored => "nothing: it has no effect",
        };
        format!("write {what}")
    }
}

impl Choice {
    pub(crate) const fn new(word: &'static str, set: fn(&mut Draft<'_>)) -> Self {
        Self { word, set, feature: None }
    }

    pub(crate) const fn feature(self, feature: &'static Feature) -> Self {
        Self { feature: Some(feature), ..self }
    }
}

/// Returns what a fault tells to write if words are known.
pub(crate) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    format!("write {}", words.join(" or "))
}

impl NumberLimits {
    pub(crate) fn remedy(&self) -> String {
        format!("write a whole number from {} to {}", self.min, self.max)
    }
}

impl TimeLimits {
    /// Returns what is wrong with a time, if anything is.
    pub(crate) fn problem(&self, time: Duration) -> Option<&'static str> {
        if !(self.min..=self.max).contains(&time) {
            Some("is out of range")
        } else if self.in_seconds && time.subsec_nanos() != 0 {
            Some("is not a whole number of seconds")
        } else {
            None
        }
    }

    /// Returns what every time matches that is not refused, as a regular expression of JSON Schema. A capital letter is refused: `M`
    /// means months.
    pub(crate) fn pattern(&self) -> &'static str {
        if self.min.is_zero() {
            r"^0$|^[0-9][0-9a-zµ.\s]*[a-zµ]$"
        } else {
            r"^(?=.*[1-9])[0-9][0-9a-zµ.\s]*[a-zµ]$"
        }
    }

    pub(crate) fn remedy(&self) -> String {
        let example = if self.default.is_zero() { "5s".to_owned() } else { time::show(self.default) };
        format!("write a time from \"{}\" to \"{}\", such as \"{example}\"", time::show(self.min), time::show(self.max))
    }
}

/// What the setter of a key can say and ask of it.
impl Draft<'_> {
    pub(crate) fn fault(&mut self, key: &'static Key, problem: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault::new(key.name, self.source(key), problem, remedy));
    }

    /// Adds the fault that a secret is in no source.
    pub(crate) fn missing(&mut self, key: &'static Key, problem: &str) {
        let file = self.values.env_file.display().to_string();
        let file = if file.is_empty() { ".env" } else { &file };
        let bare = key.bare.unwrap_or(key.name);
        let remedy = format!(
            "set `{}` in the configuration file, {} in the environment, or {bare} in {file} \
             (`fastauth keygen --name {bare} --write {file}` writes it there)",
            key.name,
            key.variable()
        );
        self.faults.push(Fault::new(key.name, Source::Default, problem, remedy));
    }

    pub(crate) fn has_fault(&self, keys: &[&Key]) -> bool {
        self.faults.iter().any(|fault| keys.iter().any(|key| fault.key() == Some(key.name)))
    }

    pub(crate) fn is_set(&self, key: &Key) -> bool {
        self.values.given(key.name).is_some()
    }

    pub(crate) fn source(&self, key: &Key) -> Source {
        self.values.source(key.name)
    }
}
