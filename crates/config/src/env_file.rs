//! Reading secrets from a `.env` file, and writing them into one.

use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use fastauth_core::secret::Secret;

use crate::{
    env_text::{Assignment, LineProblem, assignments, is_plain, of_name, value},
    file::{self, Mode, replace},
    placeholder::is_placeholder,
};

/// A `.env` file to put secrets into.
///
/// Other lines stay as they are, the file is replaced in one step, and only its owner, who stays the same, may read it
/// (mode 0600). Several processes can write at once: each waits for the others, but on Windows. One that holds the lock on the
/// directory for more than a few seconds makes the others fail.
#[derive(Clone, Debug)]
pub struct EnvFile {
    path: PathBuf,
}

/// Why a `.env` file could not be read or written.
#[derive(thiserror::Error)]
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
    /// Not every reader would read the value back. Nothing was written.
    #[error(
        "{path}: {name} would have a single quote, a control character, or a backslash at its end, which not every reader of \
         such files reads back; nothing was written: keep it in the configuration file or in the environment",
        path = path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The variable.
        name: String,
    },
    /// A line cannot be replaced, or would not be read back. Nothing was written.
    #[error("{path}: line {line} {problem}; nothing was written: edit the line by hand", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl EnvFile {
    /// Names the file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file gives `name` a value that is neither empty nor a placeholder such as `<your-master-token>`.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be read.
    pub fn contains(&self, name: &str) -> Result<bool, EnvFileError> {
        Ok(is_set(self.read()?.expose(), name))
    }

    /// Returns the value that the file gives `name`, which may be a placeholder.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be read, or readers of such files differ on the value.
    pub fn value(&self, name: &str) -> Result<Option<Secret>, EnvFileError> {
        value(self.read()?.expose(), name).map_err(|line| self.unreadable(line))
    }

    /// Gives `name` this value, in place of the line or lines that gave it one, or on a new line.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, or the value cannot be quoted, or would not be read back.
    pub fn set(&self, name: &str, value: &Secret) -> Result<(), EnvFileError> {
        self.lock()?.change(&[(name, Some(value))])
    }

    /// Gives `name` this value unless it [has](Self::contains) one, and returns true if it was given.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub fn set_if_missing(&self, name: &str, value: &Secret) -> Result<bool, EnvFileError> {
        let file = self.lock()?;
        if is_set(file.text.expose(), name) {
            return Ok(false);
        }
        file.change(&[(name, Some(value))])?;
        Ok(true)
    }

    /// Waits until no other process writes it, and reads it.
    pub(crate) fn lock(&self) -> Result<LockedEnvFile<'_>, EnvFileError> {
        let lock = file::lock(&self.path).map_err(|error| self.error(error))?;
        Ok(LockedEnvFile { file: self, text: self.read()?, _lock: lock })
    }

    fn read(&self) -> Result<Secret, EnvFileError> {
        match file::read_text(&self.path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Secret::from("")),
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, source: std::io::Error) -> EnvFileError {
        EnvFileError::Io { path: self.path.clone(), source }
    }

    fn unreadable(&self, line: LineProblem) -> EnvFileError {
        EnvFileError::Unreadable { path: self.path.clone(), line: line.line, problem: line.problem.to_string() }
    }

    fn unwritable(&self, name: &str) -> EnvFileError {
        EnvFileError::Unwritable { path: self.path.clone(), name: name.to_owned() }
    }
}

/// A `.env` file that no other process writes as long as this is there.
pub(crate) struct LockedEnvFile<'a> {
    file: &'a EnvFile,
    text: Secret,
    _lock: Option<File>,
}

impl LockedEnvFile<'_> {
    /// Returns the value that the file gives `name`.
    #[cfg_attr(not(feature = "edit"), allow(dead_code, reason = "only changes of keys need it"))]
    pub(crate) fn value(&self, name: &str) -> Result<Option<Secret>, EnvFileError> {
        value(self.text.expose(), name).map_err(|line| self.file.unreadable(line))
    }

    /// Gives each name its value, or removes its lines if there is none: all in one step.
    pub(crate) fn change(self, changes: &[(&str, Option<&Secret>)]) -> Result<(), EnvFileError> {
        let mut text = self.text;
        for (name, new) in changes {
            let written = match new {
                Some(new) => Some(quoted(new).ok_or_else(|| self.file.unwritable(name))?),
                None => None,
            };
            text = with_value(&text, name, written.as_ref()).map_err(|line| self.file.unreadable(line))?;
        }
        for (name, expected) in changes {
            let read = value(text.expose(), name).map_err(|line| self.file.unreadable(line))?;
            if read.as_ref() != *expected {
                return Err(self.file.unwritable(name));
            }
        }
        replace(&self.file.path, &text, Mode::Private).map_err(|error| self.file.error(error))
    }
}

fn is_set(text: &str, name: &str) -> bool {
    of_name(text, name).into_iter().any(|line| match line.value {
        Ok(value) => !value.text.trim().is_empty() && !is_placeholder(value.text),
        Err(problem) if problem.is_over_lines() => true,
        // Such as `<your-master-token>` without quotes.
        Err(_) => !text[line.range].split_once('=').is_some_and(|(_, written)| is_placeholder(written)),
    })
}

/// Puts a value into the first line that gives `name` one, or at the end, and takes the other lines of the name out.
fn with_value(text: &Secret, name: &str, written: Option<&Secret>) -> Result<Secret, LineProblem> {
    let text = text.expose();
    let lines = of_name(text, name);
    for Assignment { line, value, .. } in &lines {
        match value {
            Err(problem) if problem.is_over_lines() => {
                return Err(LineProblem { line: *line, problem: *problem });
            }
            _ => {}
        }
    }
    // Enough for all of it: a text that grows leaves copies behind.
    let mut changed = String::with_capacity(text.len() + name.len() + written.map_or(0, |new| new.expose().len()) + 16);
    let mut written = written.map(Secret::expose);
    let mut at = 0;
    for line in lines {
        changed.push_str(&text[at..line.range.start]);
        at = line.range.end;
        let Some(written) = written.take() else {
            continue;
        };
        let old = &text[line.range];
        let comment = line.value.map_or("", |value| value.comment);
        let space = if comment.is_empty() { "" } else { " " };
        let end = &old[old.trim_end_matches(['\r', '\n']).len()..];
        changed.extend([line.before, name, "=", written, space, comment, end]);
    }
    changed.push_str(&text[at..]);
    if let Some(written) = written {
        let end = if changed.is_empty() || changed.ends_with('\n') { "" } else { "\n" };
        // A shell that reads the file exports its variables: so it is with a new one.
        let is_exported = assignments(text).iter().any(|line| line.before.contains("export"));
        let before = if is_exported { "export " } else { "" };
        changed.extend([end, before, name, "=", written, "\n"]);
    }
    Ok(Secret::from(changed))
}

/// Returns the value as it is written behind `NAME=`, if every reader reads it back.
pub(crate) fn quoted(value: &Secret) -> Option<Secret> {
    let text = value.expose();
    // Some take the quote behind a backslash along.
    if text.contains(|c: char| c.is_control() || c == '\'') || text.ends_with('\\') {
        return None;
    }
    Some(if text.chars().all(is_plain) { value.clone() } else { Secret::from(format!("'{text}'")) })
}

fastauth_core::debug_as_text!(EnvFileError);
