//! The access token as `Authorization: Bearer` (RFC 6750 2.1). Other authorization schemes are not FastAuth's.

use http::{HeaderValue, header::AUTHORIZATION};

use super::{Carries, Scheme, SecurityScheme};

/// An access token in `Authorization`, by the scheme `Bearer` (RFC 6750).
pub static BEARER: Scheme = Scheme {
    name: "Authorization",
    carries: Carries::AccessToken,
    header: Some(AUTHORIZATION),
    read: Some(bearer),
    challenge: Some("Bearer"),
    openapi: Some(SecurityScheme {
        name: "Bearer",
        bearer: true,
        description: "The same access token, as `Authorization: Bearer …`",
    }),
};

/// Returns what follows the scheme `Bearer`, whose case is free (RFC 9110 11.1).
#[must_use]
pub fn bearer(authorization: &HeaderValue) -> Option<&[u8]> {
    of_scheme(authorization, b"bearer")
}

/// Returns what follows an authorization scheme, if it is the one that is used.
#[must_use]
pub fn of_scheme<'a>(authorization: &'a HeaderValue, expected: &[u8]) -> Option<&'a [u8]> {
    let value = authorization.as_bytes();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    scheme.eq_ignore_ascii_case(expected).then(|| rest.trim_ascii())
}
