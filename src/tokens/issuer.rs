//! Issues, refreshes, revokes and reads tokens. A pair is given out only after the store has saved it.

use std::{ops::Deref, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};

use self::pairs::{NewPair, SignedPair};
use super::{
    issued::{Delivery, IssueError, IssuedTokens, LoggedOut},
    rotation::{Exchanged, Rotations},
};
use crate::{
    check::{confirm::Confirmer, permit::Permit, refuse::Refusals},
    clock::Clock,
    issue::{ClientIdError, Grant, Introspection, IssueErrorKind, Issuing, MAX_CLIENT_ID_LEN, TokensPerClient},
    keys::KeyRing,
    observe::{Event, GrantKind, Issued, Observer},
    random::unique_name,
    shown::shown,
    store::{
        Comparison, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionPage,
        StoreError, StoreErrorKind, TokenDigest, TokenStore, carried_through,
    },
    token::{AUTH_TIME, Claims, TokenError, TokenType, is_reserved},
};

mod pairs;

/// How often the claims of one refresh are decided on, at most: access tokens may be revoked while it runs.
const DECISIONS: usize = 4;

/// Issues, refreshes, revokes and reads tokens by one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    parts: Arc<IssuerParts>,
}

/// What an issuer needs.
#[derive(Debug)]
pub(crate) struct IssuerParts {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) issuing: Issuing,
    pub(crate) delivery: Delivery,
    pub(crate) refusals: Arc<Refusals>,
    /// They go on through reloads.
    pub(crate) rotations: Rotations,
    pub(crate) confirmer: Arc<Confirmer>,
    pub(crate) observer: Arc<Observer>,
}

/// A refresh token whose signature, times and type are good. Only its exchange shows if it is the current one.
#[derive(Clone)]
pub(crate) struct RefreshToken {
    claims: Claims,
    /// The exchange goes by the same time.
    verified_at: u64,
}

impl Deref for RefreshToken {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.claims
    }
}

impl RefreshToken {
    pub(crate) fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.claims.token())
    }
}

impl Issuer {
    pub(crate) fn new(parts: IssuerParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    pub(crate) fn issuing(&self) -> &Issuing {
        &self.parts.issuing
    }

    /// Issues a pair to `client_id`. It replaces the pairs that the client has, or with `tokens-per-client: "many"` is added to them.
    pub(crate) async fn issue(&self, client_id: &str) -> Result<IssuedTokens, IssueError> {
        self.issue_with(client_id, Map::new()).await
    }

    /// Issues a pair with claims of the application: anything that becomes an object in JSON, such as
    /// `json!({ "roles": ["reader"] })` or a `Serialize` type of your own. The pairs that it is refreshed to keep them.
    pub(crate) async fn issue_with(&self, client_id: &str, claims: impl Serialize) -> Result<IssuedTokens, IssueError> {
        let issued = match to_claims(claims) {
            Ok(claims) => self.issue_new(client_id, claims).await,
            Err(error) => Err(error),
        };
        let outcome = issued.as_ref().map(|_| Issued::New);
        self.parts.observer.record(Event::Issued { grant: GrantKind::New, outcome });
        issued.map_err(|kind| self.error(kind))
    }

    async fn issue_new(&self, client_id: &str, claims: Map<String, Value>) -> Result<IssuedTokens, IssueErrorKind> {
        check_client_id(client_id)?;
        let claims = self.decide_claims(client_id, false, claims).await?;
        let session = unique_name();
        let now = self.unix_now();
        let pair =
            NewPair { client_id, session: &session, generation: 0, claims: &claims, issued_at: now, logged_in_at: now };
        let SignedPair { issued, record } = self.sign(&pair)?;
        let issuing = &self.parts.issuing;
        // Without others to keep, it is one call of the first version of a REST store.
        let options = if issuing.tokens_per_client == TokensPerClient::Many {
            SaveOptions { keep_others: true, max_sessions: issuing.max_sessions, ..SaveOptions::default() }
        } else {
            SaveOptions::default()
        };
        let saved = self.parts.store.save(&record, options).await;
        match saved.map_err(|error| store_error(client_id, error.on_save()))? {
            Saved::Saved(_) => {}
            // No condition was set.
            Saved::ConditionFailed => return Err(IssueErrorKind::Superseded),
        }
        tracing::info!(target: "fastauth", client_id = &*shown(client_id), session = &*shown(&session), "issued");
        Ok(issued)
    }

    /// Exchanges a refresh token, which must be the one that the store holds, for a new pair. Within `refresh-grace` of
    /// the exchange, the same token gets the same pair again.
    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<IssuedTokens, IssueError> {
        let exchanged = match self.verify_refresh(refresh_token) {
            Ok(token) => self.exchange(&token).await,
            Err(error) => Err(error),
        };
        exchanged.map(|(issued, _)| issued).map_err(|kind| self.error(kind))
    }

    /// Ends the session of a request that passed the guard: no token of it is accepted any more.
    pub(crate) async fn log_out(&self, permit: &Permit) -> Result<LoggedOut, IssueError> {
        let revoked = match permit.claims() {
            Some(claims) => self.revoke_verified(claims).await,
            None => Ok(false),
        };
        let is_revoked = revoked.map_err(|error| self.error(IssueErrorKind::Store(error)))?;
        let delivery = self.parts.delivery;
        Ok(LoggedOut { is_revoked, cookie: delivery.cookie_age.map(|_| delivery.same_site) })
    }

    fn error(&self, kind: IssueErrorKind) -> IssueError {
        IssueError::new(kind, &self.parts.refusals)
    }

    /// Verifies a refresh token, and counts it if it is not valid.
    pub(crate) fn verify_refresh(&self, refresh_token: &str) -> Result<RefreshToken, IssueErrorKind> {
        let verified_at = self.unix_now();
        match self.verify_at(refresh_token, TokenType::Refresh, verified_at) {
            Ok(claims) => Ok(RefreshToken { claims, verified_at }),
            Err(error) => {
                let is_end = error == TokenError::Expired && self.has_ended_with_session(refresh_token, verified_at);
                let error = if is_end { IssueErrorKind::SessionEnded } else { error.into() };
                self.parts.observer.record(Event::Issued { grant: GrantKind::Refresh, outcome: Err(&error) });
                Err(error)
            }
        }
    }

    /// Returns true if the session of an expired refresh token has ended, too: that is the reason which its client has to know.
    fn has_ended_with_session(&self, expired: &str, now: u64) -> bool {
        let claims = self.verify_at(expired, TokenType::Refresh, 0);
        claims.is_ok_and(|claims| self.parts.issuing.left_of_session(claims.logged_in_at(), now).is_none())
    }

    /// Exchanges a verified refresh token, and returns how the pair was issued.
    pub(crate) async fn exchange(&self, token: &RefreshToken) -> Exchanged {
        let exchanged = self.join_exchange(token).await;
        let outcome = exchanged.as_ref().map(|(_, how)| *how);
        self.parts.observer.record(Event::Issued { grant: GrantKind::Refresh, outcome });
        exchanged
    }

    async fn join_exchange(&self, token: &RefreshToken) -> Exchanged {
        // Before the application is asked.
        let left = self.parts.issuing.left_of_session(token.logged_in_at(), token.verified_at);
        left.ok_or(IssueErrorKind::SessionEnded)?;
        let claims = self.decide_claims(token.client_id(), true, token.own_claims()).await?;
        // Without a grace, every use but the first proves that there is a copy.
        if self.parts.issuing.refresh_grace.is_zero() {
            return self.rotate(token, claims).await;
        }
        let issuer = self.clone();
        let owned = token.clone();
        let exchange = async move { issuer.rotate(&owned, claims).await };
        self.parts.rotations.join(token.digest(), exchange).await
    }

    /// Rotates. If access tokens were revoked in the meantime, the claims are decided on again: those of before must not come back.
    async fn rotate(&self, token: &RefreshToken, mut claims: Map<String, Value>) -> Exchanged {
        let client_id = token.client_id();
        let mut decided_after = 0;
        for _ in 0..DECISIONS {
            let SignedPair { issued, record: successor } = self.sign_successor(token, &claims)?;
            let presented_session = token.session().map(|(session, generation)| (session.to_owned(), generation));
            let rotation = Rotation {
                presented: token.digest(),
                presented_session,
                successor,
                grace: self.grace(),
                decided_after,
            };
            let rotated = self.parts.store.rotate(&rotation).await.map_err(|error| store_error(client_id, error))?;
            let Rotated::AccessRevoked(version) = rotated else { return self.exchanged(token, issued, rotated) };
            decided_after = version;
            claims = self.decide_claims(client_id, true, token.own_claims()).await?;
        }
        let message = "the access tokens of the session were revoked again and again during the refresh";
        Err(IssueErrorKind::Store(StoreError::new(StoreErrorKind::Failed, message)))
    }

    fn sign_successor(&self, token: &RefreshToken, claims: &Map<String, Value>) -> Result<SignedPair, IssueErrorKind> {
        let (session, generation) = match token.session() {
            Some((session, generation)) => (session.to_owned(), generation.saturating_add(1)),
            None => (unique_name(), 0),
        };
        let client_id = token.client_id();
        let logged_in_at = token.logged_in_at();
        let issued_at = token.verified_at;
        self.sign(&NewPair { client_id, session: &session, generation, claims, issued_at, logged_in_at })
    }

    /// Returns the outcome of a rotation to the new pair `issued`.
    fn exchanged(&self, token: &RefreshToken, issued: IssuedTokens, rotated: Rotated) -> Exchanged {
        let client_id = token.client_id();
        let shown_id = &*shown(client_id);
        let shown_session = &*shown(&issued.session);
        match rotated {
            Rotated::Rotated => {
                tracing::info!(target: "fastauth", client_id = shown_id, session = shown_session, "refreshed");
                Ok((issued, Issued::New))
            }
            Rotated::Repeated(pair) => {
                tracing::info!(target: "fastauth", client_id = shown_id, session = shown_session, "refreshed again, with the same pair");
                let issued = self.open_pair(client_id, &pair, issued.tokens.access_token, token.verified_at)?;
                Ok((issued, Issued::Repeated))
            }
            Rotated::Reused => {
                tracing::warn!(target: "fastauth", client_id = shown_id, session = shown_session, "a used refresh token came back: its session is revoked");
                Err(IssueErrorKind::Reused)
            }
            Rotated::Revoked => Err(IssueErrorKind::Revoked),
            Rotated::AccessRevoked(_) | Rotated::Superseded | Rotated::UnknownClient => Err(IssueErrorKind::Superseded),
        }
    }

    /// Returns the grace as the store counts it, which is from its rotation. The client's begins when it could have the answer, or
    /// the news that the store does not answer.
    fn grace(&self) -> Duration {
        match self.parts.issuing.refresh_grace {
            Duration::ZERO => Duration::ZERO,
            grace => grace.saturating_add(self.parts.store.patience()),
        }
    }

    /// Verifies a token's signature, times and type. Only the store knows if it is the current one.
    pub(crate) fn verify(&self, token: &str, expected: TokenType) -> Result<Claims, TokenError> {
        self.verify_at(token, expected, self.unix_now())
    }

    fn verify_at(&self, token: &str, expected: TokenType, now: u64) -> Result<Claims, TokenError> {
        self.parts.confirmer.verify(token, expected, now)
    }

    fn unix_now(&self) -> u64 {
        self.parts.clock.unix_now()
    }

    /// Verifies a token of either type, and asks the store whether it is accepted (RFC 7662).
    pub(crate) async fn introspect(&self, token: &str) -> Result<Introspection, StoreError> {
        let now_ms = self.parts.clock.unix_now_ms();
        let Ok(claims) = self.verify_any_at(token, now_ms / 1000) else { return Ok(Introspection::Inactive) };
        let last_second = self.parts.confirmer.last_second(&claims, now_ms).await?;
        Ok(match last_second {
            Some(expires_at) => Introspection::Active { claims, expires_at },
            None => Introspection::Inactive,
        })
    }

    /// Revokes the session of an access or refresh token for its holder (RFC 7009), and returns true if anything was revoked.
    /// A superseded token revokes its session as well, until it expires. A foreign or expired token revokes nothing, and is no
    /// error.
    pub(crate) async fn revoke_token(&self, token: &str) -> Result<bool, StoreError> {
        match self.verify_any(token) {
            Ok(claims) => self.revoke_verified(&claims).await,
            Err(_) => Ok(false),
        }
    }

    /// Revokes the session of a token that is verified already.
    pub(crate) async fn revoke_verified(&self, claims: &Claims) -> Result<bool, StoreError> {
        let issuer = self.clone();
        let claims = claims.clone();
        carried_through(async move { issuer.revoke_session_of(&claims).await }).await
    }

    async fn revoke_session_of(&self, claims: &Claims) -> Result<bool, StoreError> {
        let client_id = claims.client_id().to_owned();
        let revocation = match claims.session() {
            Some((session, _)) => Revocation::Session { client_id, session: session.to_owned() },
            // Tokens without a session are held under the empty name. Only the current one speaks for it, and the one
            // that the current one has replaced.
            None => match self.parts.confirmer.compare(claims).await? {
                Comparison::Current => Revocation::Session { client_id, session: String::new() },
                Comparison::Previous(_) => match self.session_begun_by(claims).await? {
                    Some(session) => Revocation::Session { client_id, session },
                    None => return Ok(false),
                },
                Comparison::NotCurrent | Comparison::UnknownClient => return Ok(false),
            },
        };
        Ok(self.revoke_in_store(&revocation).await? > 0)
    }

    /// Returns the session that began when this token without one was replaced.
    async fn session_begun_by(&self, replaced: &Claims) -> Result<Option<String>, StoreError> {
        let pair = self.parts.store.pair_of(replaced.client_id(), "").await?;
        let token = pair.and_then(|pair| pair.access_token).and_then(|kept| self.parts.keys.open(&kept));
        let claims = token.and_then(|token| self.verify_at(token.expose(), TokenType::Access, 0).ok());
        Ok(claims.and_then(|claims| claims.session().map(|(session, _)| session.to_owned())))
    }

    /// Revokes a session, all sessions of a client, or everything, and returns how many sessions that were. From then on this
    /// process accepts none of their tokens; others reject them from their next call to the store on. On a tokio runtime it
    /// runs to its end even if the future is dropped, such as with a request whose client has disconnected.
    pub(crate) async fn revoke(&self, revocation: &Revocation) -> Result<u64, StoreError> {
        let issuer = self.clone();
        let revocation = revocation.clone();
        carried_through(async move { issuer.revoke_in_store(&revocation).await }).await
    }

    async fn revoke_in_store(&self, revocation: &Revocation) -> Result<u64, StoreError> {
        match self.parts.store.revoke(revocation, None).await? {
            Revoked::Sessions(count) => {
                tracing::info!(target: "fastauth", revocation = %shown(&format!("{revocation:?}")), count, "revoked");
                Ok(count)
            }
            // No condition was set.
            Revoked::ConditionFailed => Ok(0),
        }
    }

    /// Revokes access tokens alone, and goes on with it if its caller leaves.
    pub(crate) async fn revoke_access(&self, client_id: &str, session: Option<&str>) -> Result<u64, StoreError> {
        let store = Arc::clone(&self.parts.store);
        let client_id = client_id.to_owned();
        let session = session.map(str::to_owned);
        let revoking = async move {
            let count = store.revoke_access(&client_id, session.as_deref()).await?;
            let session = session.as_deref().map(shown);
            tracing::info!(
                target: "fastauth",
                client_id = &*shown(&client_id), session = session.as_deref(), count,
                "access tokens revoked, log-ins kept"
            );
            Ok(count)
        };
        carried_through(revoking).await
    }

    /// Lists sessions: who is logged in, since when, and until when.
    pub(crate) async fn list(&self, filter: &SessionFilter) -> Result<SessionPage, StoreError> {
        self.parts.store.list(filter).await
    }

    /// Returns what the store guarantees.
    pub(crate) async fn promises(&self) -> Result<Promises, StoreError> {
        self.parts.store.promises().await
    }

    /// Verifies a token of either type.
    pub(crate) fn verify_any(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_any_at(token, self.unix_now())
    }

    fn verify_any_at(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        match self.verify_at(token, TokenType::Access, now) {
            Err(TokenError::WrongType) => self.verify_at(token, TokenType::Refresh, now),
            verified => verified,
        }
    }

    /// Returns the application's claims for new tokens, on which its hook decides if there is one.
    async fn decide_claims(
        &self,
        client_id: &str,
        is_refresh: bool,
        mut claims: Map<String, Value>,
    ) -> Result<Map<String, Value>, IssueErrorKind> {
        let names_log_in = self.parts.issuing.names_log_in();
        if is_refresh && names_log_in {
            claims.remove(AUTH_TIME);
        }
        let claims = match &self.parts.issuing.claims_hook {
            Some(hook) => {
                let grant = Grant::new(client_id.to_owned(), is_refresh, claims);
                hook.claims(grant).await.map_err(IssueErrorKind::Refused)?
            }
            None => claims,
        };
        match claims.keys().find(|name| is_reserved(name) || (names_log_in && *name == AUTH_TIME)) {
            Some(name) => Err(IssueErrorKind::ReservedClaim(name.clone())),
            None => Ok(claims),
        }
    }
}

fn store_error(client_id: &str, error: StoreError) -> IssueErrorKind {
    if error.is_save() && error.kind() != StoreErrorKind::RateLimited {
        IssueErrorKind::NotSaved { client_id: client_id.to_owned(), error }
    } else {
        IssueErrorKind::Store(error)
    }
}

fn to_claims(claims: impl Serialize) -> Result<Map<String, Value>, IssueErrorKind> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(claims)) => Ok(claims),
        Ok(_) => {
            Err(IssueErrorKind::ClaimsNotObject("give names and values, such as `json!({ \"roles\": [] })`".to_owned()))
        }
        Err(error) => Err(IssueErrorKind::ClaimsNotObject(error.to_string())),
    }
}

fn check_client_id(client_id: &str) -> Result<(), ClientIdError> {
    match client_id {
        "" => Err(ClientIdError::Empty),
        id if id.len() > MAX_CLIENT_ID_LEN => Err(ClientIdError::TooLong),
        id if id.chars().any(char::is_control) => Err(ClientIdError::ControlCharacter),
        _ => Ok(()),
    }
}
