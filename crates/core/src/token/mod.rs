//! Tokens: signing them, and verifying them strictly.
//!
//! Tokens are compact JWS (RFC 7515) with HS256, as `fastauth-api` makes them with python-jose. The types are jsonwebtoken's, the
//! cryptography is that of `hmac` and `sha2`. Tokens are read here, since a lenient reader is an opening: `crit` is obeyed (by
//! refusing it), no member may be repeated, base64url is canonical, and times have no leeway.

use std::{fmt, sync::LazyLock, time::Duration};

use serde_json::{Map, Value};

use crate::{base64url, json};

mod check;
mod claims;
mod key;
mod parts;
#[cfg(test)]
mod tests;

pub use claims::Claims;
pub use key::InvalidKey;
pub(crate) use key::TokenKey;
pub use parts::Parts;

/// The purpose of a token: the claim `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// It opens the paths of `access-token-paths`.
    Access,
    /// It is exchanged for a new pair.
    Refresh,
}

impl TokenType {
    /// Returns the text of the claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

/// The reason for which a token was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is not three parts of base64url, is too long, its header or payload is not a JSON object, or a parameter of the
    /// header has the wrong type.
    #[error("not a token")]
    Malformed,
    /// The `alg` is not HS256.
    #[error("the algorithm is not HS256")]
    UnsupportedAlgorithm,
    /// The header has a `crit`, and no extension is supported (RFC 7515 4.1.11).
    #[error("the token asks for an extension that is not known")]
    UnsupportedExtension,
    /// The token was signed by another key, or changed.
    #[error("the signature does not match")]
    InvalidSignature,
    /// The time of `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// The time of `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The named claim is missing, has the wrong type or value, or is not allowed.
    #[error("the claim `{0}` is missing or not usable")]
    InvalidClaim(&'static str),
    /// The `client_id` is missing or empty.
    #[error("the token names no client")]
    MissingClientId,
    /// A refresh token was presented as an access token, or the other way round.
    #[error("the token is of another type")]
    WrongType,
}

/// A token to be signed.
pub struct NewToken<'a> {
    /// The claim `client_id`.
    pub client_id: &'a str,
    /// The claim `type`.
    pub token_type: TokenType,
    /// The claim `iat`, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// The time from `iat` to `exp`, in whole seconds.
    pub lifetime: Duration,
    /// The claim `sid`: the name of the session.
    pub session: &'a str,
    /// The claim `gen`: the number of refreshes.
    pub generation: u64,
    /// The claim `auth_time`: the time of the log-in, in seconds since the Unix epoch.
    pub logged_in_at: Option<u64>,
    /// The claim `iss`.
    pub issuer: Option<&'a str>,
    /// The claim `aud`.
    pub audience: Option<&'a str>,
    /// The application's claims, none of which is [reserved](is_reserved).
    pub claims: &'a Map<String, Value>,
}

impl fmt::Debug for NewToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("client_id", &self.client_id)
            .field("token_type", &self.token_type)
            .finish_non_exhaustive()
    }
}

impl<'a> NewToken<'a> {
    /// Creates a token without optional claims and session.
    #[must_use]
    pub fn new(client_id: &'a str, token_type: TokenType, issued_at: u64, lifetime: Duration) -> Self {
        static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        Self {
            client_id,
            token_type,
            issued_at,
            lifetime,
            session: "",
            generation: 0,
            logged_in_at: None,
            issuer: None,
            audience: None,
            claims: &NONE,
        }
    }
}

/// Creates claims that no token has, for the tests of code that holds claims.
#[cfg(any(test, feature = "test-claims"))]
#[doc(hidden)]
#[must_use]
pub fn test_claims(client_id: &str, expires_at: u64, token: &str) -> Claims {
    let token_type = TokenType::Access;
    claims::Checked { client_id, session: None, expires_at, token_type }.into_claims(token)
}

/// Returns the claims of a payload as if a key had signed it: to explain what such a token would get. They open nothing.
///
/// # Errors
///
/// If a token with this payload would be refused.
#[doc(hidden)]
pub fn assumed_claims(payload: &Map<String, Value>, expected: &Expected<'_>) -> Result<Claims, TokenError> {
    let payload = serde_json::to_vec(payload).map_err(|_| TokenError::Malformed)?;
    // Nothing but its payload is read of this token.
    let token = format!("e30.{}.e30", base64url::encode(&payload));
    Parts::split(token.as_bytes())?;
    let members = json::members(&payload).map_err(|_| TokenError::Malformed)?;
    Ok(check::check_claims(&members, expected)?.into_claims(&token))
}

/// The claim with the time of the log-in (OpenID Connect Core 2). FastAuth sets it only if
/// [`Issuing::names_log_in`](crate::issue::Issuing::names_log_in); otherwise an application may.
pub const AUTH_TIME: &str = "auth_time";

/// Returns true if FastAuth always sets the claim itself, or if no token may have it.
#[must_use]
pub fn is_reserved(claim: &str) -> bool {
    const RESERVED: [&str; 11] =
        ["client_id", "type", "exp", "iat", "nbf", "jti", "sid", "gen", "iss", "aud", "at_hash"];
    RESERVED.contains(&claim)
}

/// The requirements on a token.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The required `type`.
    pub token_type: TokenType,
    /// The present time, in seconds since the Unix epoch.
    pub now: u64,
    /// The required `iss`, if any.
    pub issuer: Option<&'a str>,
    /// The required `aud`. Without one, no token may name an audience (RFC 7519 4.1.3).
    pub audience: Option<&'a str>,
}

impl Expected<'_> {
    /// Creates requirements without an issuer and an audience.
    #[must_use]
    pub const fn new(token_type: TokenType, now: u64) -> Self {
        Self { token_type, now, issuer: None, audience: None }
    }
}
