//! The bearer token of a store that the program serves or tests.

use std::env::{self, VarError};

use fastauth::{Secret, config::exposure};

use crate::{failure::Failure, output};

pub(crate) const BEARER_VARIABLE: &str = "FASTAUTH_STORE_TOKEN";
/// Names a file with the token in it, such as a mounted secret.
const BEARER_FILE_VARIABLE: &str = "FASTAUTH_STORE_TOKEN_FILE";

/// Reads the bearer token of the store from the environment, or from the file that it names.
pub(crate) fn bearer_token() -> Result<Option<Secret>, Failure> {
    let text = match (env::var(BEARER_VARIABLE), env::var_os(BEARER_FILE_VARIABLE)) {
        (Ok(_) | Err(VarError::NotUnicode(_)), Some(_)) => {
            return Err(Failure::new(format!(
                "{BEARER_VARIABLE} and {BEARER_FILE_VARIABLE} are both set: unset one of them"
            )));
        }
        (Ok(text), None) => text,
        (Err(VarError::NotPresent), None) => return Ok(None),
        (Err(VarError::NotPresent), Some(path)) => {
            if let Some(warning) = exposure(path.as_ref()) {
                output::note(&format!("warning: {warning}"));
            }
            std::fs::read_to_string(&path).map_err(|error| {
                Failure::new(format!("{BEARER_FILE_VARIABLE}: the file {} cannot be read: {error}", path.display()))
            })?
        }
        (Err(VarError::NotUnicode(_)), None) => return Err(unusable()),
    };
    // As in every variable, a line break at the end is not part of the value.
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let token = token.strip_suffix('\r').unwrap_or(token);
    // Any other could not be sent.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable());
    }
    Ok(Some(Secret::from(token)))
}

fn unusable() -> Failure {
    Failure::new(format!("{BEARER_VARIABLE} must be printable ASCII without spaces"))
}
