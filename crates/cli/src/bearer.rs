//! The bearer tokens of a store that the program serves or tests.

use std::{
    env::{self, VarError},
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use fastauth::Secret;

use crate::failure::Failure;

pub(crate) const BEARER_VARIABLE: &str = "FASTAUTH_STORE_TOKEN";
pub(crate) const FILE_VARIABLE: &str = "FASTAUTH_STORE_TOKEN_FILE";

/// The longest file of tokens that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where the bearer tokens come from.
pub(crate) enum BearerSource {
    /// The variable with one token.
    Variable(Secret),
    /// A file with a token a line.
    File(PathBuf),
    None,
}

impl BearerSource {
    /// Finds the source: the file, or the variable.
    pub(crate) fn new(file: Option<PathBuf>) -> Result<Self, Failure> {
        match (file, variable()?) {
            (Some(_), Some(_)) => Err(Failure::new(format!(
                "{BEARER_VARIABLE} and {FILE_VARIABLE} (or --token-file) are both set: unset one of them"
            ))),
            (Some(file), None) => Ok(Self::File(file)),
            (None, Some(token)) => Ok(Self::Variable(token)),
            (None, None) => Ok(Self::None),
        }
    }

    /// Reads the tokens, of which there are none only if there is no source.
    pub(crate) fn read(&self) -> Result<Vec<Secret>, Failure> {
        match self {
            Self::Variable(token) => Ok(vec![token.clone()]),
            Self::File(path) => tokens_in(path),
            Self::None => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for BearerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(_) => f.write_str(BEARER_VARIABLE),
            Self::File(path) => path.display().fmt(f),
            Self::None => f.write_str("no bearer token is set"),
        }
    }
}

/// Reads the bearer token to send from the environment: that of the variable, or the first one in the file that is named there.
pub(crate) fn bearer_token() -> Result<Option<Secret>, Failure> {
    let source = BearerSource::new(env::var_os(FILE_VARIABLE).map(PathBuf::from))?;
    Ok(source.read()?.into_iter().next())
}

fn variable() -> Result<Option<Secret>, Failure> {
    match env::var(BEARER_VARIABLE) {
        Ok(text) => {
            // As in every variable, a line break at the end is not part of the value.
            let token = text.strip_suffix('\n').unwrap_or(&text);
            let token = Secret::from(token.strip_suffix('\r').unwrap_or(token));
            if !is_sendable(&token) {
                return Err(Failure::new(format!("{BEARER_VARIABLE} must be printable ASCII without spaces")));
            }
            Ok(Some(token))
        }
        Err(VarError::NotUnicode(_)) => {
            Err(Failure::new(format!("{BEARER_VARIABLE} must be printable ASCII without spaces")))
        }
        Err(VarError::NotPresent) => Ok(None),
    }
}

/// Reads a file with a token a line. Empty lines are skipped.
fn tokens_in(path: &Path) -> Result<Vec<Secret>, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    let length = read.map_err(|error| {
        Failure::new(format!("{FILE_VARIABLE} (or --token-file): the file {shown} cannot be read: {error}"))
    })?;
    if length as u64 > MAX_FILE {
        return Err(Failure::new(format!("{shown}: longer than {MAX_FILE} bytes: write a bearer token on each line")));
    }
    let text = Secret::from(text);
    let lines = text.expose().lines().zip(1..).filter(|(line, _)| !line.is_empty());
    let tokens = lines.map(|(line, number)| {
        let token = Secret::from(line);
        if is_sendable(&token) {
            Ok(token)
        } else {
            Err(Failure::new(format!(
                "{shown}: line {number}: a bearer token must be printable ASCII without spaces, alone on its line"
            )))
        }
    });
    let tokens: Vec<_> = tokens.collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(Failure::new(format!(
            "{shown}: no bearer token is in it: write one on a line, such as `fastauth keygen` makes"
        )));
    }
    Ok(tokens)
}

/// Returns true if a token can be sent in a header.
fn is_sendable(token: &Secret) -> bool {
    !token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic())
}
