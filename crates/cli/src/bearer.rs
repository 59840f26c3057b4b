//! The bearer token of a store that the program serves or tests.

use std::env::VarError;

use fastauth::Secret;

use crate::failure::Failure;

pub(crate) const BEARER_VARIABLE: &str = "FASTAUTH_STORE_TOKEN";

/// Reads the bearer token of the store from the environment.
pub(crate) fn bearer_token() -> Result<Option<Secret>, Failure> {
    // As in every variable, a line break at the end is not part of the value.
    let without_line_break = |token: String| {
        let token = token.strip_suffix('\n').unwrap_or(&token);
        Secret::from(token.strip_suffix('\r').unwrap_or(token))
    };
    match std::env::var(BEARER_VARIABLE).map(without_line_break) {
        // Any other could not be sent.
        Ok(token) if token.expose().bytes().all(|byte| byte.is_ascii_graphic()) && !token.expose().is_empty() => {
            Ok(Some(token))
        }
        Ok(_) | Err(VarError::NotUnicode(_)) => {
            Err(Failure::new(format!("{BEARER_VARIABLE} must be printable ASCII without spaces")))
        }
        Err(VarError::NotPresent) => Ok(None),
    }
}
