//! What issues tokens in code, by the configuration of the moment.

use std::sync::Arc;

use serde::Serialize;

use super::{
    issued::{IssueError, IssuedTokens, LoggedOut},
    issuer::Issuer,
    parts::RouterParts,
};
use crate::{
    check::{live::Current, permit::Permit},
    issue::Introspection,
    store::{Promises, Revocation, SessionFilter, SessionPage, StoreError},
    token::{Claims, TokenError, TokenType},
};

/// Issues, refreshes, revokes and reads tokens in code: what the [`TokenRouter`](crate::TokenRouter) does over HTTP.
///
/// Use it if your own code decides who gets tokens, such as a login handler. It requires no master token.
///
/// Each call goes by the configuration of the moment in which it begins, to its end.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    live: Arc<dyn Current<RouterParts>>,
}

impl TokenIssuer {
    pub(crate) fn new(live: Arc<dyn Current<RouterParts>>) -> Self {
        Self { live }
    }

    fn current(&self) -> Issuer {
        self.live.current().issuer.clone()
    }

    /// Issues a pair to `client_id`. It replaces the pairs that the client has, or with `tokens-per-client: "many"` is added to them.
    ///
    /// # Errors
    ///
    /// [`IssueErrorKind::ClientId`](crate::IssueErrorKind::ClientId) if the id is empty, too long or has control characters;
    /// [`IssueErrorKind::NotSaved`](crate::IssueErrorKind::NotSaved) if the store did not save the pair.
    pub async fn issue(&self, client_id: &str) -> Result<IssuedTokens, IssueError> {
        self.current().issue(client_id).await
    }

    /// Issues a pair with claims of the application: anything that becomes an object in JSON, such as
    /// `json!({ "roles": ["reader"] })` or a `Serialize` type of your own. The pairs that it is refreshed to keep them.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue); [`IssueErrorKind::ClaimsNotObject`](crate::IssueErrorKind::ClaimsNotObject) if the claims are something else, and
    /// [`IssueErrorKind::ReservedClaim`](crate::IssueErrorKind::ReservedClaim) if one of them has a name that FastAuth sets itself.
    pub async fn issue_with(&self, client_id: &str, claims: impl Serialize) -> Result<IssuedTokens, IssueError> {
        self.current().issue_with(client_id, claims).await
    }

    /// Exchanges a refresh token, which must be the one that the store holds, for a new pair. Within `refresh-grace` of
    /// the exchange, the same token gets the same pair again.
    ///
    /// # Errors
    ///
    /// [`IssueErrorKind::InvalidRefreshToken`](crate::IssueErrorKind::InvalidRefreshToken), [`IssueErrorKind::Superseded`](crate::IssueErrorKind::Superseded), [`IssueErrorKind::Reused`](crate::IssueErrorKind::Reused) and
    /// [`IssueErrorKind::Revoked`](crate::IssueErrorKind::Revoked) if the token is refused, and
    /// [`IssueErrorKind::SessionEnded`](crate::IssueErrorKind::SessionEnded) after `session-ttl`; [`IssueErrorKind::Store`](crate::IssueErrorKind::Store) if the store could not be asked,
    /// [`IssueErrorKind::NotSaved`](crate::IssueErrorKind::NotSaved) if it did not save the pair.
    pub async fn refresh(&self, refresh_token: &str) -> Result<IssuedTokens, IssueError> {
        self.current().refresh(refresh_token).await
    }

    /// Ends the session of a request that passed the guard: no token of it is accepted any more.
    ///
    /// ```
    /// # use axum::{Router, extract::State, routing::post};
    /// # use fastauth::{FastAuthLayer, IssueError, LoggedOut, Permit};
    /// async fn log_out(State(auth): State<FastAuthLayer>, permit: Permit) -> Result<LoggedOut, IssueError> {
    ///     auth.issuer().log_out(&permit).await
    /// }
    /// # let _: Router<FastAuthLayer> = Router::new().route("/access/log-out", post(log_out));
    /// ```
    ///
    /// # Errors
    ///
    /// [`IssueErrorKind::Store`](crate::IssueErrorKind::Store) if the store could not be asked, or does not support it.
    pub async fn log_out(&self, permit: &Permit) -> Result<LoggedOut, IssueError> {
        self.current().log_out(permit).await
    }

    /// Verifies a token's signature, times and type. Only the store knows if it is the current one.
    ///
    /// # Errors
    ///
    /// What is wrong with the token.
    pub fn verify(&self, token: &str, expected: TokenType) -> Result<Claims, TokenError> {
        self.current().verify(token, expected)
    }

    /// Verifies a token of either type, and asks the store whether it is accepted (RFC 7662).
    ///
    /// # Errors
    ///
    /// If the store could not be asked.
    pub async fn introspect(&self, token: &str) -> Result<Introspection, StoreError> {
        self.current().introspect(token).await
    }

    /// Revokes the session of an access or refresh token for its holder (RFC 7009), and returns true if anything was revoked.
    /// A superseded token revokes its session as well, until it expires. A foreign or expired token revokes nothing, and is no
    /// error.
    ///
    /// # Errors
    ///
    /// If the store could not be asked.
    pub async fn revoke_token(&self, token: &str) -> Result<bool, StoreError> {
        self.current().revoke_token(token).await
    }

    /// Revokes a session, all sessions of a client, or everything, and returns how many sessions that were. From then on this
    /// process accepts none of their tokens; others reject them from their next call to the store on. On a tokio runtime it
    /// runs to its end even if the future is dropped, such as with a request whose client has disconnected.
    ///
    /// # Errors
    ///
    /// If the store could not be asked, or does not support it
    /// ([`Unsupported`](crate::store::StoreErrorKind::Unsupported)).
    pub async fn revoke(&self, revocation: &Revocation) -> Result<u64, StoreError> {
        self.current().revoke(revocation).await
    }

    /// Revokes the access tokens of a client, or of one session of it, and keeps the log-ins: the next refresh brings an access token
    /// with new claims, on which the [`ClaimsHook`](crate::ClaimsHook) decides. Returns how many live sessions that were. Call it after the
    /// client's roles have changed.
    ///
    /// From then on this process accepts none of these access tokens, not within `access-grace` either, and permits end with
    /// [`EndReason::Revoked`](crate::EndReason::Revoked). Other processes notice it as they notice [`revoke`](Self::revoke). A refresh that
    /// runs at the same time gets the new claims. A log-in that runs at the same time counts as a later one.
    ///
    /// On a tokio runtime it runs to its end even if the future is dropped.
    ///
    /// # Errors
    ///
    /// If the store could not be asked, or does not support it
    /// ([`Unsupported`](crate::store::StoreErrorKind::Unsupported)), as a REST store of the first version.
    pub async fn revoke_access(&self, client_id: &str, session: Option<&str>) -> Result<u64, StoreError> {
        self.current().revoke_access(client_id, session).await
    }

    /// Lists sessions: who is logged in, since when, and until when.
    ///
    /// # Errors
    ///
    /// If the store could not be asked, or does not support it.
    pub async fn list(&self, filter: &SessionFilter) -> Result<SessionPage, StoreError> {
        self.current().list(filter).await
    }

    /// Returns what the store guarantees.
    ///
    /// # Errors
    ///
    /// If the store could not be asked.
    pub async fn promises(&self) -> Result<Promises, StoreError> {
        self.current().promises().await
    }
}
