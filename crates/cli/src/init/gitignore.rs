//! Keeping secrets and databases out of version control.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use fastauth_config::directory_of;

use crate::{
    failure::Failure,
    files::{self, Existing},
};

/// Adds a file to the `.gitignore` beside it, and with `suffix` those whose names go on. Returns the `.gitignore` if it was changed.
///
/// Without a repository and without a `.gitignore`, there is nothing to do. A pattern that is there already is not repeated.
pub(super) fn add(file: &Path, suffix: &str) -> Result<Option<PathBuf>, Failure> {
    let directory = directory_of(file);
    let (Some(name), Ok(absolute)) = (file.file_name().and_then(|name| name.to_str()), fs::canonicalize(directory))
    else {
        return Ok(None);
    };
    let repository = absolute.ancestors().position(|ancestor| ancestor.join(".git").exists());
    let path = file.with_file_name(".gitignore");
    if repository.is_none() && !path.exists() {
        return Ok(None);
    }
    let pattern = format!("{}{suffix}", escaped(name));
    let text = read(&path)?;
    let mut above = absolute.ancestors().skip(1).take(repository.unwrap_or(0));
    let is_ignored_above = above.any(|ancestor| {
        read(&ancestor.join(".gitignore")).is_ok_and(|text| text.lines().any(|line| line.trim_end() == pattern))
    });
    // A slash in front binds a pattern to its directory, which is this one.
    let mut lines = text.lines().map(|line| line.trim_end().trim_start_matches('/'));
    if is_ignored_above || lines.any(|line| line == pattern) {
        return Ok(None);
    }
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { line_break };
    files::write(&path, &format!("{text}{end}{pattern}{line_break}"), Existing::Replace)?;
    Ok(Some(path))
}

fn read(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::new(format!("{}: cannot be read: {error}", path.display()))),
    }
}

/// Writes a name as a pattern that matches it alone.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, char) in name.char_indices() {
        if "*?[]\\ ".contains(char) || at == 0 && "#!".contains(char) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}
