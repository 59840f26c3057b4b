//! Writing secrets into a `.env` file.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::replace::{Mode, replace};
use crate::secret::Secret;

/// A `.env` file to put secrets into.
///
/// Other lines stay as they are, the file is replaced in one step, and only its owner, who stays the same, may read it
/// (mode 0600).
#[derive(Clone, Debug)]
pub struct EnvFile {
    path: PathBuf,
}

/// Why a `.env` file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvFileError {
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The value cannot be written so that every reader reads it back.
    #[error("a value with quotes, backslashes or line breaks cannot be written to a .env file")]
    Unwritable,
}

impl EnvFile {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it gives `name` a value that is neither empty nor a placeholder such as `<your-master-token>`.
    ///
    /// # Errors
    ///
    /// Where the file is there and cannot be read.
    pub fn contains(&self, name: &str) -> Result<bool, EnvFileError> {
        let text = self.read()?;
        Ok(text.expose().lines().any(|line| assigned(line, name).is_some_and(is_set)))
    }

    /// Gives `name` this value, in place of the line or lines that gave it one, or on a new line.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or written, or the value cannot be quoted.
    pub fn set(&self, name: &str, value: &Secret) -> Result<(), EnvFileError> {
        self.change(&[(name, Some(value))])
    }

    /// Gives each name its value, or takes its lines out where there is none: all in one step.
    pub(crate) fn change(&self, changes: &[(&str, Option<&Secret>)]) -> Result<(), EnvFileError> {
        let mut text = self.read()?;
        for (name, value) in changes {
            let line = value.map(|value| assignment(name, value)).transpose()?;
            text = with_line(&text, name, line.as_ref());
        }
        replace(&self.path, &text, Mode::Private).map_err(|error| self.error(error))
    }

    /// The value that a reader of the file finds for `name`.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Secret>, EnvFileError> {
        let text = self.read()?;
        let pairs = dotenvy::from_read_iter(text.expose().as_bytes()).filter_map(Result::ok);
        Ok(pairs.filter(|(other, _)| other == name).last().map(|(_, value)| Secret::from(value)))
    }

    fn read(&self) -> Result<Secret, EnvFileError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Secret::from(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Secret::from("")),
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, source: std::io::Error) -> EnvFileError {
        EnvFileError::Io { path: self.path.clone(), source }
    }
}

/// The text with `line` in place of the first one that gives `name` a value, or at the end, and without the others.
fn with_line(text: &Secret, name: &str, line: Option<&Secret>) -> Secret {
    let mut lines = String::with_capacity(text.expose().len());
    let mut line = line;
    for old in text.expose().split_inclusive('\n') {
        if assigned(old, name).is_none() {
            lines.push_str(old);
        } else if let Some(line) = line.take() {
            lines.push_str(line.expose());
            lines.push_str(&old[old.trim_end_matches(['\r', '\n']).len()..]);
        }
    }
    if let Some(line) = line {
        if !lines.is_empty() && !lines.ends_with('\n') {
            lines.push('\n');
        }
        lines.push_str(line.expose());
        lines.push('\n');
    }
    Secret::from(lines)
}

/// Whether what stands behind `NAME=` is a secret.
fn is_set(written: &str) -> bool {
    let value = written.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default(),
        _ => value.split('#').next().unwrap_or_default(),
    };
    !value.trim().is_empty() && !super::is_placeholder(value)
}

/// The value that a line gives to `name`, as it is written.
fn assigned<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    line.strip_prefix(name)?.trim_start().strip_prefix('=')
}

fn assignment(name: &str, value: &Secret) -> Result<Secret, EnvFileError> {
    let text = value.expose();
    if text.contains(['\'', '"', '\\', '\n', '\r']) {
        return Err(EnvFileError::Unwritable);
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-=.:/+,".contains(&byte));
    Ok(Secret::from(if plain { format!("{name}={text}") } else { format!("{name}='{text}'") }))
}
