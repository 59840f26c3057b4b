//! The decision: from a request to a permit or a denial, in one order of steps.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, Method};

use crate::{
    cache::{Mismatch, TokenCache},
    clock::Clock,
    config::{ConfigError, Settings},
    credentials::{self, CredentialError},
    issuer::Issuing,
    keys::KeyRing,
    permit::{Access, Ends, Permit},
    response::Refusals,
    router::EndpointOptions,
    rule::{PathRefusal, RequestLine, Requirement, Rules},
    secret::{Secret, SecretDigest},
    store::{Canonical, StoreError, TokenStore},
    ticket::{self, Ticket},
    token::{Expected, TokenError, TokenType},
    websocket::{self, Handshake, Origins},
};

/// Everything a decision rests on, built once from the settings and shared by layer, router and issuer.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: Rules,
    /// Refusals are logged and not carried out.
    shadow: bool,
    origins: Origins,
    /// Whether refused WebSockets are opened to say so.
    #[cfg(feature = "websocket")]
    pub(crate) closes_sockets: bool,
    refused_paths: AtomicU64,
    other_readings: AtomicU64,
    reuses: AtomicU64,
    /// Each with the name that logs show.
    master_tokens: Vec<(Arc<str>, SecretDigest)>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn TokenStore>,
    /// Tokens that the store confirmed, as long as it tells of changes.
    cache: Option<TokenCache>,
    /// Knows when what was permitted ends.
    ends: Arc<Ends>,
    pub(crate) issuing: Issuing,
    pub(crate) endpoints: EndpointOptions,
    pub(crate) refusals: Refusals,
}

impl Gate {
    /// Opens the store and logs what the settings warn of.
    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let keys = settings.key_ring();
        let store = settings.open_store()?;
        for warning in settings.warnings() {
            tracing::warn!(target: "fastauth", "{warning}");
        }
        let master_tokens = settings.master_tokens().iter();
        Ok(Self {
            master_tokens: master_tokens
                .map(|(name, token)| (name.as_str().into(), SecretDigest::of(token.expose().as_bytes())))
                .collect(),
            keys,
            clock: settings.clock(),
            cache: settings.token_cache(&*store),
            ends: Arc::new(Ends::new(Arc::clone(&store), settings.clock(), settings.websocket_recheck())),
            store,
            issuing: settings.issuing(),
            endpoints: settings.endpoints(),
            reuses: AtomicU64::new(0),
            refusals: Refusals::new(settings.app_name().to_owned()),
            shadow: settings.shadow(),
            origins: settings.websocket_origins(),
            #[cfg(feature = "websocket")]
            closes_sockets: settings.closes_websockets(),
            refused_paths: AtomicU64::new(0),
            other_readings: AtomicU64::new(0),
            rules: settings.into_rules(),
        })
    }

    /// Whether a request for the path surely needs no check. `false` leaves it to [`decide`](Self::decide).
    #[inline]
    pub(crate) fn leaves_open(&self, path: &str) -> bool {
        self.rules.leave_open(path)
    }

    /// Whether a handshake may be refused wherever it leads, for the page that it comes from.
    #[inline]
    pub(crate) fn limits_origins(&self) -> bool {
        self.origins.is_limited()
    }

    #[cfg(feature = "utoipa")]
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Decides on everything that needs no store.
    pub(crate) fn decide(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        handshake: Option<&Handshake>,
    ) -> Decision {
        match self.check(line, headers, handshake) {
            Ok(decision) => decision,
            Err(denial) if self.shadow => {
                denial.log(line.method, "would have been refused");
                Decision::Pass
            }
            Err(denial) => {
                denial.log(line.method, "refused");
                Decision::Deny(denial)
            }
        }
    }

    fn check(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        handshake: Option<&Handshake>,
    ) -> Result<Decision, Denial> {
        let requirement = self.rules.requirement(line).map_err(|refusal| {
            self.refused_paths.fetch_add(1, Ordering::Relaxed);
            DenialReason::Path(refusal)
        })?;
        if handshake.is_some() && !self.origins.admit(headers) {
            return Err(DenialReason::ForeignOrigin.into());
        }
        if requirement.is_public() {
            return Ok(Decision::Pass);
        }
        self.check_credentials(line, requirement, headers, handshake)
    }

    fn check_credentials(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        requirement: Requirement,
        headers: &HeaderMap,
        handshake: Option<&Handshake>,
    ) -> Result<Decision, Denial> {
        if requirement.only_by_other_reading() {
            self.other_readings.fetch_add(1, Ordering::Relaxed);
            let method = line.method;
            tracing::warn!(target: "fastauth", %method, "a path is protected only by another reading than the one sent");
        }
        let master = if requirement.needs_master() { Some(self.check_master_token(headers)?) } else { None };
        if let Some(master_token) = &master {
            tracing::debug!(target: "fastauth", method = %line.method, %master_token, "let through by a master token");
        }
        if !requirement.needs_access() {
            return Ok(Decision::Permit(Permit::new(master, None)));
        }
        let token = credentials::access_token(headers)
            .and_then(|token| handshake.map_or(Ok(token), |handshake| handshake.access_token(token)))
            .map_err(DenialReason::Credentials)?;
        let Some(token) = token else {
            return if handshake.is_some() {
                self.check_ticket(line, master)
            } else {
                Err(DenialReason::MissingAccessToken.into())
            };
        };
        let now_ms = self.clock.unix_now_ms();
        if let Some(access) = self.confirmed(token, now_ms) {
            return Ok(Decision::Permit(Permit::new(master, Some(access))));
        }
        let verified = self.verified(token, now_ms)?;
        if let Some(held) = self.store.load_now(verified.access.client_id(), Some(verified.access.family())) {
            verified.confirm(self, held)?;
            return Ok(Decision::Permit(Permit::new(master, Some(verified.access))));
        }
        if let Some(mismatch) = self.refused(&verified) {
            return Err(mismatch.into());
        }
        let (gate, method) = (Arc::clone(self), line.method.clone());
        Ok(Decision::AskStore(CanonicalCheck { gate, method, verified, master, spends: None }.run()))
    }

    /// Lets a handshake in by a ticket, which is spent if all else is right.
    #[cold]
    fn check_ticket(self: &Arc<Self>, line: &RequestLine<'_>, master: Option<Arc<str>>) -> Result<Decision, Denial> {
        let text = websocket::ticket(line.uri).map_err(DenialReason::Credentials)?;
        let text = text.ok_or(DenialReason::MissingAccessToken)?;
        let now_ms = self.clock.unix_now_ms();
        let expected = self.expected(TokenType::Access, now_ms / 1000);
        let ticket = Ticket::read(&self.keys, &text, &expected).map_err(DenialReason::InvalidTicket)?;
        let access = Arc::new(Access::by_ticket(ticket.claims, ticket.access, &self.ends));
        let (gate, method) = (Arc::clone(self), line.method.clone());
        let (verified, spends) = (Verified { access, now_ms }, Some((ticket.id, ticket.expires_at)));
        Ok(Decision::Redeem(CanonicalCheck { gate, method, verified, master, spends }.run()))
    }

    fn verified(&self, token: &[u8], now_ms: u64) -> Result<Verified, Denial> {
        let expected = self.expected(TokenType::Access, now_ms / 1000);
        let claims = self.keys.verify(token, &expected).map_err(DenialReason::InvalidAccessToken)?;
        Ok(Verified { access: Arc::new(Access::of(claims, &self.ends)), now_ms })
    }

    /// A ticket for the holder of an access token, wherever the router is mounted; `None` where it cannot be signed.
    pub(crate) async fn issue_ticket(&self, method: &Method, headers: &HeaderMap) -> Result<Option<Secret>, Denial> {
        let access = self.access(headers).await.inspect_err(|denial| denial.log(method, "no ticket issued"))?;
        Ok(ticket::issue(&self.keys, &access, self.clock.unix_now()))
    }

    async fn access(&self, headers: &HeaderMap) -> Result<Arc<Access>, Denial> {
        let token = credentials::access_token(headers).map_err(DenialReason::Credentials)?;
        let (token, now_ms) = (token.ok_or(DenialReason::MissingAccessToken)?, self.clock.unix_now_ms());
        if let Some(access) = self.confirmed(token, now_ms) {
            return Ok(access);
        }
        let verified = self.verified(token, now_ms)?;
        if let Some(mismatch) = self.refused(&verified) {
            return Err(mismatch.into());
        }
        let held = self.store.load(verified.access.client_id(), Some(verified.access.family())).await;
        verified.confirm(self, held)?;
        Ok(verified.access)
    }

    #[inline]
    fn confirmed(&self, token: &[u8], now_ms: u64) -> Option<Arc<Access>> {
        self.cache.as_ref()?.confirmed(token, self.store.changes()?, now_ms)
    }

    fn refused(&self, verified: &Verified) -> Option<Mismatch> {
        self.cache.as_ref()?.refused(&verified.access, self.store.changes()?, verified.now_ms)
    }

    pub(crate) fn path_counts(&self) -> PathCounts {
        PathCounts {
            refused: self.refused_paths.load(Ordering::Relaxed),
            only_by_other_reading: self.other_readings.load(Ordering::Relaxed),
        }
    }

    /// What a token of this type has to be at `now`.
    pub(crate) fn expected(&self, token_type: TokenType, now: u64) -> Expected<'_> {
        Expected {
            issuer: self.issuing.issuer.as_deref(),
            audience: self.issuing.audience.as_deref(),
            ..Expected::of(token_type, now)
        }
    }

    pub(crate) fn token_counts(&self) -> TokenCounts {
        TokenCounts { reused: self.reuses.load(Ordering::Relaxed) }
    }

    pub(crate) fn count_reuse(&self) {
        self.reuses.fetch_add(1, Ordering::Relaxed);
    }

    /// The guard of what only the holder of a master token may do, wherever the router is mounted, and the token's name.
    pub(crate) fn guard_administration(&self, method: &Method, headers: &HeaderMap) -> Result<Arc<str>, Denial> {
        self.check_master_token(headers).inspect_err(|denial| denial.log(method, "administration refused"))
    }

    fn check_master_token(&self, headers: &HeaderMap) -> Result<Arc<str>, Denial> {
        let presented = credentials::master_token(headers).map_err(DenialReason::Credentials)?;
        let presented = SecretDigest::of(presented.ok_or(DenialReason::MissingMasterToken)?);
        // All are compared, so that the time does not tell which one it was.
        let found = self.master_tokens.iter().fold(
            None,
            |found, (name, token)| {
                if *token == presented { Some(name) } else { found }
            },
        );
        found.cloned().ok_or_else(|| DenialReason::WrongMasterToken.into())
    }
}

/// What the issuer has seen of tokens that no sound client presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Refresh tokens that came back after they had been used: their families were revoked.
    pub reused: u64,
}

/// What the guard has seen of paths that no sound client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathCounts {
    /// Requests that were refused because their path has no sound reading.
    pub refused: u64,
    /// Requests that were asked for a credential only because of another reading of their path than the one sent: an
    /// attack, or a client with a fault.
    pub only_by_other_reading: u64,
}

/// The last check under way: a permit, a denial, or neither, which is what a check that is only tried out lets pass.
pub(crate) type Check = Pin<Box<dyn Future<Output = Result<Option<Permit>, Denial>> + Send>>;

/// What a request gets.
pub(crate) enum Decision {
    /// No check applies.
    Pass,
    /// All checks passed.
    Permit(Permit),
    /// A check failed.
    Deny(Denial),
    /// All checks passed but the last, which the store answers.
    AskStore(Check),
    /// The same of a handshake with a ticket, which is in its URI.
    Redeem(Check),
}

/// A token that has passed all checks but the last: whether it is the client's canonical one.
struct Verified {
    access: Arc<Access>,
    now_ms: u64,
}

impl Verified {
    /// The last check, by what the store answered, which is kept.
    fn confirm(&self, gate: &Gate, held: Result<Option<Canonical>, StoreError>) -> Result<(), Denial> {
        let mismatch = match held.map_err(DenialReason::StoreUnavailable)? {
            None => Some(Mismatch::UnknownClient),
            Some(held) if held.access == Some(self.access.digest()) => None,
            Some(_) => Some(Mismatch::NotCanonical),
        };
        // A ticket is no token, and must not be known as one.
        if let (Some(cache), Some(stamp), true) = (&gate.cache, self.access.stamp(), self.access.is_by_token()) {
            match mismatch {
                None => cache.keep(&self.access, stamp, self.now_ms),
                Some(mismatch) => cache.keep_refused(&self.access, mismatch, stamp, self.now_ms),
            }
        }
        mismatch.map_or(Ok(()), |mismatch| Err(mismatch.into()))
    }
}

/// The last check, where the store has to be waited for.
struct CanonicalCheck {
    gate: Arc<Gate>,
    method: Method,
    verified: Verified,
    master: Option<Arc<str>>,
    /// The id and the end of the ticket that is spent.
    spends: Option<(String, u64)>,
}

impl CanonicalCheck {
    fn run(self) -> Check {
        Box::pin(async move {
            match self.ask().await {
                Ok(()) => Ok(Some(Permit::new(self.master, Some(self.verified.access)))),
                Err(denial) if self.gate.shadow => {
                    denial.log(&self.method, "would have been refused");
                    Ok(None)
                }
                Err(denial) => {
                    denial.log(&self.method, "refused");
                    Err(denial)
                }
            }
        })
    }

    async fn ask(&self) -> Result<(), Denial> {
        let Self { gate, verified: Verified { access, .. }, spends, .. } = self;
        let held = gate.store.load(access.client_id(), Some(access.family())).await;
        self.verified.confirm(gate, held)?;
        if let Some((id, expires_at)) = spends
            && !gate.store.spend(id, *expires_at).await.map_err(DenialReason::StoreUnavailable)?
        {
            return Err(DenialReason::SpentTicket.into());
        }
        Ok(())
    }
}

/// A refusal, to be found in the extensions of the response. Only the guard makes one.
#[derive(Clone, Debug)]
pub struct Denial(DenialReason);

/// Why a request was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenialReason {
    /// The path has no sound reading.
    #[error("the path was refused: {0}")]
    Path(PathRefusal),
    /// A page whose origin is not in `websocket-origins` asks for a WebSocket.
    #[error("a page of this origin may not open WebSockets")]
    ForeignOrigin,
    /// The credentials can be read in more than one way.
    #[error("{0}")]
    Credentials(CredentialError),
    /// The path asks for the master token, and there is none.
    #[error("the master token is missing")]
    MissingMasterToken,
    /// The master token is wrong, or none is configured.
    #[error("the master token is wrong")]
    WrongMasterToken,
    /// The path asks for an access token, and there is none.
    #[error("the access token is missing")]
    MissingAccessToken,
    /// The access token is not one of ours, or not valid now.
    #[error("the access token was refused: {0}")]
    InvalidAccessToken(TokenError),
    /// The ticket is not one of ours, or not valid now.
    #[error("the ticket was refused: {0}")]
    InvalidTicket(TokenError),
    /// The ticket has opened a WebSocket already.
    #[error("the ticket was used before")]
    SpentTicket,
    /// The store does not know the client of the access token.
    #[error("the store does not know the client")]
    UnknownClient,
    /// The store holds another access token for the client.
    #[error("the access token is not the client's canonical one")]
    NotCanonical,
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    StoreUnavailable(#[source] StoreError),
}

impl Denial {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> &DenialReason {
        &self.0
    }

    fn log(&self, method: &Method, outcome: &str) {
        match &self.0 {
            DenialReason::StoreUnavailable(error) => log_store_error(error, outcome),
            reason => tracing::info!(target: "fastauth", %method, %reason, "{outcome}"),
        }
    }
}

impl From<Mismatch> for Denial {
    fn from(mismatch: Mismatch) -> Self {
        Self(match mismatch {
            Mismatch::UnknownClient => DenialReason::UnknownClient,
            Mismatch::NotCanonical => DenialReason::NotCanonical,
        })
    }
}

impl From<DenialReason> for Denial {
    fn from(reason: DenialReason) -> Self {
        Self(reason)
    }
}

/// Logs an error of the store with its causes, which the client is not told.
pub(crate) fn log_store_error(error: &StoreError, outcome: &str) {
    let (kind, error) = (error.kind(), error.with_causes());
    tracing::error!(target: "fastauth", ?kind, "{outcome}: the token store is unavailable: {error}");
}
