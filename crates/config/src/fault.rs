//! What is wrong with a configuration, and where.

use std::{fmt, path::PathBuf};

use fastauth_core::{policy::Rule, shown::shown};

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// It was set in code.
    Code,
    /// The environment variable of this name.
    Environment(String),
    /// The file that the environment variable of this name, such as `MASTER_TOKEN_FILE`, names.
    SecretFile(PathBuf, String),
    /// The configuration file.
    File(PathBuf),
    /// The variable of this name in a `.env` file.
    EnvFile(PathBuf, String),
    /// Nowhere: the default counts.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("code"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::SecretFile(path, name) => write!(f, "{}, named by {name}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::EnvFile(path, name) => write!(f, "{}, variable {name}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong: where, what, and what to do. It never shows the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    source: Source,
    key: Option<&'static str>,
    entry: Option<Entry>,
    problem: String,
    remedy: String,
}

/// The entry of a list that a fault concerns, or a member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Such as `rules[2].roles-any`.
    place: String,
    label: String,
}

impl Fault {
    pub(crate) fn new(
        key: &'static str,
        source: Source,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { key: Some(key), ..Self::without_key(source, problem, remedy) }
    }

    /// Creates the fault of a whole source.
    pub(crate) fn without_key(source: Source, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { source, key: None, entry: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// Adds the entry of the key that it concerns, and what people call that entry.
    pub(crate) fn at(self, place: impl Into<String>, label: impl Into<String>) -> Self {
        Self { entry: Some(Entry { place: place.into(), label: label.into() }), ..self }
    }

    /// Returns where it stands.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the key that it concerns.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key
    }

    /// Returns the entry of the key that it concerns, or the member of that, such as `rules[2].roles-any`.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.entry.as_ref().map(|entry| entry.place.as_str())
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns what to do.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Entry { place, label }) = &self.entry {
            write!(f, "{}, `{place}`", self.source)?;
            return write!(f, "{label}: {}; {}", self.problem, self.remedy);
        }
        match (&self.source, self.key) {
            (Source::Default, Some(key)) => write!(f, "`{key}`")?,
            (Source::File(_) | Source::Code, Some(key)) => write!(f, "{}, `{key}`", self.source)?,
            (source, _) => write!(f, "{source}")?,
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// The most faults that are shown to people at once.
const MOST_SHOWN: usize = 20;

/// Returns the faults as people are told of them: the first ones, and the number of the others.
pub(crate) fn told(faults: &[Fault]) -> impl Iterator<Item = String> {
    let more = faults.len().saturating_sub(MOST_SHOWN);
    let first = faults.iter().take(MOST_SHOWN).map(Fault::to_string);
    first.chain((more > 0).then(|| format!("and {more} more")))
}

/// Why there are no settings, or no others: every fault at once.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<Fault>,
    /// The application runs, and goes on.
    is_of_reload: bool,
    /// What is wrong is not in the configuration: a disk is full, for example.
    is_outside: bool,
}

impl ConfigError {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self { faults, is_of_reload: false, is_outside: false }
    }

    /// Returns the faults as those of a reload.
    #[doc(hidden)]
    #[must_use]
    pub fn of_reload(self) -> Self {
        Self { is_of_reload: true, ..self }
    }

    /// Returns the faults as those of something that the configuration names.
    pub(crate) fn outside(self) -> Self {
        Self { is_outside: true, ..self }
    }

    /// Returns the faults, at least one.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self::new(vec![fault])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        let what = if self.is_of_reload { "did not reload" } else { "cannot start" };
        match self.is_outside {
            true => write!(f, "FastAuth {what}:")?,
            false => write!(f, "FastAuth {what}: {count} {noun} in its configuration")?,
        }
        told(&self.faults).try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

impl std::error::Error for ConfigError {}

fastauth_core::debug_as_text!(ConfigError);

/// Returns what a fault of a rule adds to its place: the rule's name, or else its path.
pub(crate) fn label_of(rule: &Rule) -> String {
    match rule.given_name() {
        Some(name) if !name.trim().is_empty() => format!(" ({})", shown(name)),
        _ if rule.path().is_empty() => String::new(),
        _ => format!(" ({})", shown(rule.path())),
    }
}
