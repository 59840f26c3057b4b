//! Writing secrets into a `.env` file.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::secret::Secret;

/// A `.env` file to put secrets into.
///
/// Other lines stay as they are, the file is replaced in one step, and only its owner may read it (mode 0600).
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
        let text = self.read()?;
        let line = assignment(name, value)?;
        let mut lines = String::new();
        let mut is_written = false;
        for old in text.expose().split_inclusive('\n') {
            let end = &old[old.trim_end_matches(['\r', '\n']).len()..];
            match assigned(old, name) {
                None => lines.push_str(old),
                Some(_) if is_written => {}
                Some(_) => {
                    lines.push_str(line.expose());
                    lines.push_str(end);
                    is_written = true;
                }
            }
        }
        if !is_written {
            if !lines.is_empty() && !lines.ends_with('\n') {
                lines.push('\n');
            }
            lines.push_str(line.expose());
            lines.push('\n');
        }
        self.replace(&Secret::from(lines))
    }

    fn read(&self) -> Result<Secret, EnvFileError> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Secret::from(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Secret::from("")),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Writes beside the file and renames, so that a reader sees the old text or the new one and nothing between.
    fn replace(&self, text: &Secret) -> Result<(), EnvFileError> {
        // A link stays a link: what it points to is replaced.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut draft = target.clone().into_os_string();
        draft.push(format!(".{}", uuid::Uuid::new_v4().simple()));
        let draft = PathBuf::from(draft);
        let written = write_private(&draft, text).and_then(|()| fs::rename(&draft, &target));
        written.map_err(|error| {
            // The draft may not be there; the error to tell is the first one.
            let _ = fs::remove_file(&draft);
            self.error(error)
        })
    }

    fn error(&self, source: std::io::Error) -> EnvFileError {
        EnvFileError::Io { path: self.path.clone(), source }
    }
}

fn write_private(path: &Path, text: &Secret) -> std::io::Result<()> {
    let mut file = create_private(path)?;
    file.write_all(text.expose().as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
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
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-=.:/+".contains(&byte));
    Ok(Secret::from(if plain { format!("{name}={text}") } else { format!("{name}='{text}'") }))
}
