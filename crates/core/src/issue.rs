//! What issuing is about: the settings, what an application decides, and what comes of it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    store::{StoreError, TokenPair},
    token::{Claims, TokenError},
};

/// The most bytes of UTF-8 that a client id may have.
pub const MAX_CLIENT_ID_LEN: usize = 1024;

/// How pairs are made and kept.
#[derive(Clone)]
pub struct Issuing {
    pub access_ttl: Duration,
    pub refresh_ttl: Duration,
    /// How long a consumed refresh token is answered with the same successor once more.
    pub refresh_grace: Duration,
    /// Whether tokens are encrypted before they are stored.
    pub sealed: bool,
    /// Whether a client may have more than one family.
    pub many_families: bool,
    /// How many it may have then.
    pub max_families: usize,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub claims_hook: Option<Arc<dyn ClaimsHook>>,
}

/// A pair that the store holds now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedTokens {
    /// Whom it was issued to.
    pub client_id: String,
    /// The log-in that it belongs to, by which it can be revoked.
    pub family: String,
    /// The pair.
    pub tokens: TokenPair,
    /// How long the access token is valid from now on.
    pub expires_in: Duration,
    /// The claim `scope`, if there is one.
    pub scope: Option<String>,
}

impl IssuedTokens {
    /// Creates what the issuer returns.
    #[doc(hidden)]
    #[must_use]
    pub fn new(
        client_id: String,
        family: String,
        tokens: TokenPair,
        expires_in: Duration,
        scope: Option<String>,
    ) -> Self {
        Self { client_id, family, tokens, expires_in, scope }
    }
}

/// Decides on the application's own claims of every token that is issued, and may refuse to issue.
/// An `async` closure is one.
pub trait ClaimsHook: Send + Sync + 'static {
    /// The claims of the tokens to be issued, in place of those that the [`Grant`] has. Names that FastAuth sets itself, such
    /// as `exp`, cannot be among them: nothing is issued then.
    fn claims(&self, grant: Grant) -> ClaimsFuture<'_>;
}

/// What a [`ClaimsHook`] returns.
pub type ClaimsFuture<'a> = Pin<Box<dyn Future<Output = Result<Map<String, Value>, ClaimsRefusal>> + Send + 'a>>;

impl<H, F> ClaimsHook for H
where
    H: Fn(Grant) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Map<String, Value>, ClaimsRefusal>> + Send + 'static,
{
    fn claims(&self, grant: Grant) -> ClaimsFuture<'_> {
        Box::pin(self(grant))
    }
}

/// What is about to be issued.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// Whom to.
    pub client_id: String,
    /// Whether a refresh token was exchanged for it.
    pub is_refresh: bool,
    /// The application's own claims: those of the refresh token, or those that `TokenIssuer::issue_with` was given.
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

/// Why a [`ClaimsHook`] refuses: what the client is told.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClaimsRefusal {
    status: StatusCode,
    message: String,
}

impl ClaimsRefusal {
    /// A refusal with a status and a text. A status that is no refusal (below 400) becomes 403.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let is_refusal = status.is_client_error() || status.is_server_error();
        Self { status: if is_refusal { status } else { StatusCode::FORBIDDEN }, message: message.into() }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text of the answer.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Why no pair was issued.
#[derive(Clone, thiserror::Error)]
pub enum IssueError {
    /// The client id is not one that tokens are issued to.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    /// The refresh token is not one of ours, or not valid now.
    #[error("the refresh token was refused")]
    InvalidRefreshToken(#[from] TokenError),
    /// The store holds another refresh token for the client, or none.
    #[error("the refresh token is not the one that the store holds")]
    Superseded,
    /// The refresh token was used before, so somebody has a copy of it. All tokens of its family are revoked now.
    #[error("the refresh token was used before, and its family is revoked")]
    Reused,
    /// The tokens of the family were revoked.
    #[error("the refresh token was revoked")]
    Revoked,
    /// The [`ClaimsHook`] refused.
    #[error("the application refused")]
    Refused(#[source] ClaimsRefusal),
    /// A claim has a name that FastAuth sets itself.
    #[error("the application's claim {0:?} has a name that is reserved")]
    ReservedClaim(String),
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    Store(#[source] StoreError),
    /// The store did not save the pair, which is void then.
    #[error("the pair was not saved")]
    NotSaved {
        /// Whose pair it would have been.
        client_id: String,
        /// What the store's trouble is.
        #[source]
        error: StoreError,
    },
    /// The token could not be signed, or not be encrypted for the store.
    #[error("the token could not be signed")]
    Signing,
}

/// Why a client id is refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdError {
    /// It is empty.
    #[error("a client id must not be empty")]
    Empty,
    /// It has more than [`MAX_CLIENT_ID_LEN`] bytes.
    #[error("a client id must not be longer than {MAX_CLIENT_ID_LEN} bytes")]
    TooLong,
    /// It has a control character.
    #[error("a client id must not have control characters")]
    ControlCharacter,
}

/// What is known of a token (RFC 7662).
#[derive(Clone, Debug)]
pub enum Introspection {
    /// It is accepted.
    Active(Claims),
    /// It is not: foreign, expired, superseded or revoked.
    Inactive,
}

impl std::fmt::Debug for Issuing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuing")
            .field("access_ttl", &self.access_ttl)
            .field("refresh_ttl", &self.refresh_ttl)
            .field("refresh_grace", &self.refresh_grace)
            .field("sealed", &self.sealed)
            .field("many_families", &self.many_families)
            .finish_non_exhaustive()
    }
}

impl IssueError {
    /// A short name that stays.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "invalid_client_id",
            Self::InvalidRefreshToken(_) => "invalid_refresh_token",
            Self::Superseded => "superseded",
            Self::Reused => "reused",
            Self::Revoked => "revoked",
            Self::Refused(_) => "refused",
            Self::ReservedClaim(_) => "reserved_claim",
            Self::Store(_) => "store_unavailable",
            Self::NotSaved { .. } => "not_saved",
            Self::Signing => "not_signed",
        }
    }
}
