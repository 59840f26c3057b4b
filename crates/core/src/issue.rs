//! Issuing: its settings, what an application decides about it, and its outcome.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    keys::StoreFormat,
    store::{StoreError, StoreErrorKind},
    token::{Claims, TokenError},
};

/// The most bytes of UTF-8 that a client id may have.
pub const MAX_CLIENT_ID_LEN: usize = 1024;

/// How pairs are issued and stored.
#[derive(Clone, Default)]
pub struct Issuing {
    /// The lifetime of access tokens.
    pub access_ttl: Duration,
    /// The lifetime of refresh tokens.
    pub refresh_ttl: Duration,
    /// The time from a log-in to the end of its session, however often that is refreshed; zero for no end.
    pub session_ttl: Duration,
    /// Tokens name the time of their log-in (the claim `auth_time`), also if `session_ttl` does not need it.
    pub auth_time: bool,
    /// How long a used refresh token still returns the same new pair, in case the response was lost.
    pub refresh_grace: Duration,
    /// How long the access token that a refresh has replaced is still accepted.
    pub access_grace: Duration,
    /// The form in which tokens are stored.
    pub store_format: StoreFormat,
    /// How many sessions a client may have.
    pub tokens_per_client: TokensPerClient,
    /// How many those are with [`TokensPerClient::Many`].
    pub max_sessions: usize,
    /// The claim `iss`.
    pub issuer: Option<String>,
    /// The claim `aud`.
    pub audience: Option<String>,
    /// The application's hook.
    pub claims_hook: Option<Arc<dyn ClaimsHook>>,
}

impl Issuing {
    /// Returns true if tokens name the time of their log-in. The application cannot set the claim `auth_time` then.
    #[must_use]
    pub fn names_log_in(&self) -> bool {
        self.auth_time || !self.session_ttl.is_zero()
    }

    /// Returns how long a session that began at `logged_in_at` still lasts at `now`, both in seconds since the Unix epoch. `None` if it
    /// has ended.
    #[must_use]
    pub fn left_of_session(&self, logged_in_at: u64, now: u64) -> Option<Duration> {
        if self.session_ttl.is_zero() {
            return Some(Duration::MAX);
        }
        let end = logged_in_at.saturating_add(self.session_ttl.as_secs());
        end.checked_sub(now).filter(|left| *left > 0).map(Duration::from_secs)
    }
}

/// How many sessions a client may have: `tokens-per-client`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokensPerClient {
    /// One: a new one ends the one before.
    #[default]
    One,
    /// Several, each with a pair of its own.
    Many,
}

impl TokensPerClient {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
        }
    }
}

/// Decides on the application's claims in every token, and may refuse to issue.
/// An `async` closure is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot decide on claims",
    label = "not a claims hook",
    note = "give it a function that takes a `Grant` and returns a future of `Result<Map<String, Value>, ClaimsRefusal>`",
    note = "such as `|grant: Grant| async move {{ Ok(grant.claims) }}`, or implement `ClaimsHook`; it must be `Send + Sync + 'static`"
)]
pub trait ClaimsHook: Send + Sync + 'static {
    /// Returns the claims of the tokens to issue, in place of those of the [`Grant`]. A claim that FastAuth sets itself, such as
    /// `exp`, is an error, and nothing is issued. It is asked again if access tokens are revoked while a session is refreshed.
    fn claims(&self, grant: Grant) -> ClaimsFuture<'_>;
}

/// The future that a [`ClaimsHook`] returns.
pub type ClaimsFuture<'a> = Pin<Box<dyn Future<Output = Result<Map<String, Value>, ClaimsRefusal>> + Send + 'a>>;

#[diagnostic::do_not_recommend]
impl<H, F> ClaimsHook for H
where
    H: Fn(Grant) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Map<String, Value>, ClaimsRefusal>> + Send + 'static,
{
    fn claims(&self, grant: Grant) -> ClaimsFuture<'_> {
        Box::pin(self(grant))
    }
}

/// A pair that is about to be issued.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// The client that it is issued to.
    pub client_id: String,
    /// A refresh token is exchanged for it.
    pub is_refresh: bool,
    /// The application's claims: those of the refresh token, or those that `TokenIssuer::issue_with` was given.
    pub claims: Map<String, Value>,
}

impl Grant {
    /// Creates what a hook is asked about.
    #[doc(hidden)]
    #[must_use]
    pub fn new(client_id: String, is_refresh: bool, claims: Map<String, Value>) -> Self {
        Self { client_id, is_refresh, claims }
    }
}

/// The answer to a client that a [`ClaimsHook`] refuses.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClaimsRefusal {
    status: StatusCode,
    message: String,
}

impl ClaimsRefusal {
    /// Creates a refusal with a status and a text. A status below 400 becomes 403.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let is_refusal = status.is_client_error() || status.is_server_error();
        Self { status: if is_refusal { status } else { StatusCode::FORBIDDEN }, message: message.into() }
    }

    /// Returns the status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the text of the answer.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Why no pair was issued, or why a session could not be ended.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IssueErrorKind {
    /// The client id is not valid.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    /// The refresh token is foreign, or not valid now.
    #[error("the refresh token was refused")]
    InvalidRefreshToken(#[from] TokenError),
    /// The store holds another refresh token for the client, or none.
    #[error("the refresh token is not the one that the store holds")]
    Superseded,
    /// The refresh token was used before, so there is a copy of it. All tokens of its session are revoked now.
    #[error("the refresh token was used before, and its session is revoked")]
    Reused,
    /// The tokens of the session were revoked.
    #[error("the refresh token was revoked")]
    Revoked,
    /// The session has lasted as long as `session-ttl` allows.
    #[error("the session has ended: its log-in is longer ago than `session-ttl`")]
    SessionEnded,
    /// The [`ClaimsHook`] refused.
    #[error("the application refused")]
    Refused(#[source] ClaimsRefusal),
    /// The claims that the application gave are not an object in JSON.
    #[error("the application's claims are not an object: {0}")]
    ClaimsNotObject(String),
    /// A claim has a name that FastAuth sets itself.
    #[error("the application's claim {0:?} has a reserved name")]
    ReservedClaim(String),
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    Store(#[source] StoreError),
    /// The store did not save the pair, so it is void.
    #[error("the pair was not saved")]
    NotSaved {
        /// The client that it would have been issued to.
        client_id: String,
        /// The error of the store.
        #[source]
        error: StoreError,
    },
    /// The token could not be signed, or could not be encrypted for the store.
    #[error("the token could not be signed")]
    Signing,
}

/// Why a client id is refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientIdError {
    /// The id is empty.
    #[error("a client id must not be empty")]
    Empty,
    /// The id has more than [`MAX_CLIENT_ID_LEN`] bytes.
    #[error("a client id must not be longer than {MAX_CLIENT_ID_LEN} bytes")]
    TooLong,
    /// The id has a control character.
    #[error("a client id must not have control characters")]
    ControlCharacter,
}

/// The result of introspecting a token (RFC 7662).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Introspection {
    /// The token is accepted.
    Active {
        /// The claims of the token.
        claims: Claims,
        /// The last second in which it is accepted, since the Unix epoch: that of the token, or of its `access-grace` if it was
        /// replaced. Do not cache the answer beyond it.
        expires_at: u64,
    },
    /// The token is not accepted: it is foreign, expired, superseded or revoked.
    Inactive,
}

impl std::fmt::Debug for Issuing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuing")
            .field("access_ttl", &self.access_ttl)
            .field("refresh_ttl", &self.refresh_ttl)
            .field("session_ttl", &self.session_ttl)
            .field("refresh_grace", &self.refresh_grace)
            .field("access_grace", &self.access_grace)
            .field("store_format", &self.store_format)
            .field("tokens_per_client", &self.tokens_per_client)
            .finish_non_exhaustive()
    }
}

impl IssueErrorKind {
    /// Returns the stable name of the error, for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "invalid_client_id",
            Self::InvalidRefreshToken(_) => "invalid_refresh_token",
            Self::Superseded => "superseded",
            Self::Reused => "reused",
            Self::Revoked => "revoked",
            Self::SessionEnded => "session_ended",
            Self::Refused(_) => "refused",
            Self::ClaimsNotObject(_) => "claims_not_object",
            Self::ReservedClaim(_) => "reserved_claim",
            Self::Store(error) if error.kind() == StoreErrorKind::RateLimited => "rate_limited",
            Self::Store(_) => "store_unavailable",
            Self::NotSaved { .. } => "not_saved",
            Self::Signing => "not_signed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ends_after_its_time() {
        let issuing = Issuing { session_ttl: Duration::from_secs(100), ..Issuing::default() };
        for (logged_in_at, now, left) in [
            (1000, 1000, Some(100)),
            (1000, 1099, Some(1)),
            (1000, 1100, None),
            (1000, 1101, None),
            (1000, 999, Some(101)),
            (0, 1000, None),
            (u64::MAX, 1000, Some(u64::MAX - 1000)),
        ] {
            let left = left.map(Duration::from_secs);
            assert_eq!(issuing.left_of_session(logged_in_at, now), left, "{logged_in_at} {now}");
        }
        assert_eq!(Issuing::default().left_of_session(0, u64::MAX), Some(Duration::MAX));
    }
}
