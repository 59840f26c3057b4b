//! The decision: from a request to a permit or a denial, in one order of steps.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use fastauth_config::Announcement;
use fastauth_core::{
    denial::DenialReason,
    issue::Issuing,
    origin::Origins,
    settings::{Caching, EndpointOptions},
};
use http::{HeaderMap, Method, request::Parts};

use crate::{
    cache::{Mismatch, TokenCache},
    clock::Clock,
    config::{ConfigError, Settings},
    credentials::{Presented, TokenHeaders},
    guesses::{Caller, Guesses},
    health::Health,
    keys::KeyRing,
    observe::{Case, ObservedStore, Observer},
    permit::{Access, Ends, Permit},
    response::Refusals,
    rotations::Rotations,
    rule::{RequestLine, Requirement, Rules},
    secret::{Secret, SecretDigest, TokenDigest},
    store::{self, Comparison, StoreError, TokenStore},
    ticket::Ticket,
    token::{Expected, TokenType},
    websocket::Handshake,
};

/// Everything a decision rests on, built once from the settings and shared by layer, router and issuer.
#[derive(Debug)]
pub(crate) struct Gate {
    rules: Rules,
    /// Refusals are logged and not carried out.
    shadow: bool,
    origins: Origins,
    pub(crate) sources: TokenHeaders,
    /// Whether refused WebSockets are opened to say so.
    #[cfg(feature = "websocket")]
    pub(crate) closes_sockets: bool,
    pub(crate) observer: Observer,
    pub(crate) health: Health,
    /// Each with the name that logs show.
    master_tokens: Vec<(Arc<str>, SecretDigest)>,
    pub(crate) guesses: Guesses,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn TokenStore>,
    /// Tokens that the store confirmed, as long as it tells of changes.
    cache: Option<TokenCache>,
    /// Knows when what was permitted ends.
    ends: Arc<Ends>,
    pub(crate) issuing: Issuing,
    pub(crate) rotations: Rotations,
    pub(crate) endpoints: EndpointOptions,
    #[cfg(feature = "rate-limit")]
    pub(crate) limits: Option<Arc<crate::limit::Limits>>,
    pub(crate) refusals: Refusals,
}

impl Gate {
    /// Opens the store and announces what is guarded.
    pub(crate) fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let store: Arc<dyn TokenStore> = Arc::new(ObservedStore::new(store::open(settings)?));
        let deployment = settings.deployment().clone();
        Announcement(&deployment).announce();
        let master_tokens = deployment.master_tokens.iter();
        #[cfg(feature = "rate-limit")]
        let limits = deployment.endpoints.rate_limit.as_ref();
        #[cfg(feature = "rate-limit")]
        let limits = limits.map(|limit| Arc::new(crate::limit::Limits::new(limit, &deployment.clock)));
        let ends = Ends::new(Arc::clone(&store), deployment.clock.clone(), deployment.websocket.recheck);
        Ok(Self {
            master_tokens: master_tokens
                .map(|(name, token)| (name.as_str().into(), SecretDigest::of(token.expose().as_bytes())))
                .collect(),
            cache: token_cache(deployment.caching, &*store),
            ends: Arc::new(ends),
            store,
            rotations: Rotations::default(),
            #[cfg(feature = "rate-limit")]
            guesses: Guesses::new(limits.as_ref()),
            #[cfg(not(feature = "rate-limit"))]
            guesses: Guesses::default(),
            #[cfg(feature = "rate-limit")]
            limits,
            refusals: Refusals::new(deployment.app_name.clone(), deployment.credential_sources),
            observer: Observer::new(&deployment.rules, deployment.shadow),
            keys: deployment.keys,
            clock: deployment.clock,
            issuing: deployment.issuing,
            endpoints: deployment.endpoints,
            shadow: deployment.shadow,
            origins: deployment.websocket.origins,
            sources: deployment.credential_sources,
            #[cfg(feature = "websocket")]
            closes_sockets: deployment.websocket.closes,
            health: Health::default(),
            rules: deployment.rules,
        })
    }

    /// The checks that a path asks for, where that is told soon: see [`Rules::glance`].
    #[inline]
    pub(crate) fn glance(&self, path: &str) -> Option<Requirement> {
        self.rules.glance(path)
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
        caller: Caller,
    ) -> Result<Decision, Denial> {
        let mut case = Case::default();
        let outcome = self.check(line, headers, handshake, caller, &mut case);
        match &outcome {
            Ok(Decision::Permit(permit)) => self.observer.permitted(&case, line.method, permit),
            Ok(_) => {}
            Err(denial) => {
                self.observer.refused(&case, line.method, denial);
                if self.shadow {
                    return Ok(Decision::Tolerate);
                }
            }
        }
        outcome
    }

    fn check(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        handshake: Option<&Handshake>,
        caller: Caller,
        case: &mut Case,
    ) -> Result<Decision, Denial> {
        let requirement = case.requirement(&self.rules, line).map_err(|refusal| {
            self.observer.path_refused();
            DenialReason::Path(refusal)
        })?;
        if handshake.is_some() && !self.origins.admit(headers) {
            return Err(DenialReason::ForeignOrigin.into());
        }
        if requirement.is_public() {
            return Ok(Decision::Pass);
        }
        self.check_credentials(line, requirement, headers, handshake, caller, case)
    }

    fn check_credentials(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        requirement: Requirement,
        headers: &HeaderMap,
        handshake: Option<&Handshake>,
        caller: Caller,
        case: &Case,
    ) -> Result<Decision, Denial> {
        if requirement.only_by_other_reading() {
            self.observer.other_reading(case, line.method);
        }
        let presented = Presented::of(headers, self.sources);
        let master = if requirement.needs_master() { Some(self.check_master_token(&presented, caller)?) } else { None };
        if !requirement.needs_access() {
            return Ok(Decision::Permit(Permit::new(master, None)));
        }
        let token = presented
            .access_token()
            .and_then(|token| handshake.map_or(Ok(token), |handshake| handshake.access_token(token)))
            .map_err(DenialReason::Credentials)?;
        let Some(token) = token else {
            let ticket = handshake.map_or(Ok(None), Handshake::ticket).map_err(DenialReason::Credentials)?;
            let ticket = ticket.ok_or(DenialReason::MissingAccessToken)?;
            return self.check_ticket(ticket, line, master, case);
        };
        let now_ms = self.clock.unix_now_ms();
        if let Some(access) = self.confirmed(token, now_ms) {
            return Ok(Decision::Permit(Permit::new(master, Some(access))));
        }
        let verified = self.verified(token, now_ms)?;
        if let Some(comparison) = verified.access.compare_now(&*self.store) {
            verified.confirm(self, comparison, TokenCache::keep_if_worth)?;
            return Ok(Decision::Permit(Permit::new(master, Some(verified.access))));
        }
        if let Some(mismatch) = self.refused(&verified) {
            return Err(verified.denied(mismatch.into()));
        }
        let (gate, method) = (Arc::clone(self), line.method.clone());
        Ok(Decision::AskStore(LastCheck { gate, method, proof: Proof::Token(verified), master, case: *case }.run()))
    }

    /// Lets a handshake in by a ticket, which is spent if all else is right.
    #[cold]
    fn check_ticket(
        self: &Arc<Self>,
        ticket: &Secret,
        line: &RequestLine<'_>,
        master: Option<Arc<str>>,
        case: &Case,
    ) -> Result<Decision, Denial> {
        let now = self.clock.unix_now();
        let ticket = Ticket::open(&self.keys, ticket.expose(), now).map_err(DenialReason::InvalidTicket)?;
        let (gate, method) = (Arc::clone(self), line.method.clone());
        Ok(Decision::AskStore(LastCheck { gate, method, proof: Proof::Ticket(ticket), master, case: *case }.run()))
    }

    /// The access by the token that a ticket names, if that is still good and the canonical one. The ticket is spent then.
    async fn redeem(self: &Arc<Self>, ticket: &Ticket) -> Result<Arc<Access>, Denial> {
        let stamp = self.ends.stamp(&ticket.client_id);
        let held = self.store.pair_of(&ticket.client_id, &ticket.family).await;
        let held = held.map_err(DenialReason::StoreUnavailable)?.ok_or(DenialReason::UnknownClient)?;
        let token = held.access_token.and_then(|kept| self.keys.open(&kept));
        let token = token.filter(|token| TokenDigest::of(token.expose()) == ticket.access);
        let token = token.ok_or(DenialReason::NotCanonical)?;
        let expected = self.expected(TokenType::Access, self.clock.unix_now());
        let claims = self.keys.verify(token.expose().as_bytes(), &expected).map_err(DenialReason::InvalidTicket)?;
        let access = Arc::new(Access::since(claims, stamp, &self.ends));
        let denied = |reason| Denial { reason, access: Some(Arc::clone(&access)) };
        match self.store.spend(&ticket.id, ticket.expires_at).await {
            Ok(true) => Ok(access),
            Ok(false) => Err(denied(DenialReason::SpentTicket)),
            Err(error) => Err(denied(DenialReason::StoreUnavailable(error))),
        }
    }

    fn verified(&self, token: &[u8], now_ms: u64) -> Result<Verified, Denial> {
        let expected = self.expected(TokenType::Access, now_ms / 1000);
        let claims = self.keys.verify(token, &expected).map_err(DenialReason::InvalidAccessToken)?;
        Ok(Verified { access: Arc::new(Access::of(claims, &self.ends)), now_ms })
    }

    /// A ticket for the holder of an access token, wherever the router is mounted; `None` where it cannot be signed.
    pub(crate) async fn issue_ticket(&self, method: &Method, headers: &HeaderMap) -> Result<Option<Secret>, Denial> {
        let access = self.access(headers).await.inspect_err(|denial| self.observer.no_ticket(method, denial))?;
        let now = self.clock.unix_now();
        Ok(Ticket::for_access(&access, now).seal(&self.keys, now))
    }

    async fn access(&self, headers: &HeaderMap) -> Result<Arc<Access>, Denial> {
        let token = Presented::of(headers, self.sources).access_token().map_err(DenialReason::Credentials)?;
        let (token, now_ms) = (token.ok_or(DenialReason::MissingAccessToken)?, self.clock.unix_now_ms());
        if let Some(access) = self.confirmed(token, now_ms) {
            return Ok(access);
        }
        let verified = self.verified(token, now_ms)?;
        if let Some(mismatch) = self.refused(&verified) {
            return Err(verified.denied(mismatch.into()));
        }
        verified.confirm(self, verified.access.compare(&*self.store).await, TokenCache::keep)?;
        Ok(verified.access)
    }

    #[inline]
    fn confirmed(&self, token: &[u8], now_ms: u64) -> Option<Arc<Access>> {
        let confirmed = self.cache.as_ref()?.confirmed(token, self.store.changes()?, now_ms);
        self.observer.remembered(confirmed.is_some());
        confirmed
    }

    fn refused(&self, verified: &Verified) -> Option<Mismatch> {
        self.cache.as_ref()?.refused(&verified.access, self.store.changes()?, verified.now_ms)
    }

    /// What a token of this type has to be at `now`.
    pub(crate) fn expected(&self, token_type: TokenType, now: u64) -> Expected<'_> {
        Expected {
            issuer: self.issuing.issuer.as_deref(),
            audience: self.issuing.audience.as_deref(),
            ..Expected::new(token_type, now)
        }
    }

    /// The guard of what only the holder of a master token may do, wherever the router is mounted, and the token's name.
    pub(crate) fn guard_administration(&self, request: &Parts) -> Result<Arc<str>, Denial> {
        let method = &request.method;
        let presented = Presented::of(&request.headers, self.sources);
        let master = self.check_master_token(&presented, self.guesses.caller(request));
        self.observer.administration(method, master.as_ref().err());
        master
    }

    fn check_master_token(&self, presented: &Presented<'_>, caller: Caller) -> Result<Arc<str>, Denial> {
        let presented = presented.master_token().map_err(DenialReason::Credentials)?;
        let presented = SecretDigest::of(presented.ok_or(DenialReason::MissingMasterToken)?);
        self.guesses.check(caller)?;
        // All are compared, so that the time does not tell which one it was.
        let found = self.master_tokens.iter().fold(
            None,
            |found, (name, token)| {
                if *token == presented { Some(name) } else { found }
            },
        );
        if found.is_none() {
            self.guesses.count(caller);
        }
        found.cloned().ok_or_else(|| DenialReason::WrongMasterToken.into())
    }
}

/// Makes a cache if the store tells of changes, or `cache-ttl` lets its answers be kept all the same.
fn token_cache(caching: Caching, store: &dyn TokenStore) -> Option<TokenCache> {
    let tells_of_others = store.changes()?.tells_of_others();
    let ttl = if tells_of_others { Duration::ZERO } else { caching.ttl };
    let is_of_use = tells_of_others || !ttl.is_zero();
    (caching.on && is_of_use).then(|| TokenCache::new(caching.capacity, ttl))
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
    /// A check failed, which is only tried out.
    Tolerate,
    /// All checks passed.
    Permit(Permit),
    /// All checks passed but the last, which the store answers.
    AskStore(Check),
}

/// A token that has passed all checks but the last: whether it is the client's canonical one.
struct Verified {
    access: Arc<Access>,
    now_ms: u64,
}

/// How the cache is told of a token that the store confirmed.
type Keep = fn(&TokenCache, &Arc<Access>, u64);

impl Verified {
    /// The last check, by what the store answered, which is kept.
    fn confirm(&self, gate: &Gate, comparison: Result<Comparison, StoreError>, keep: Keep) -> Result<(), Denial> {
        self.judge(gate, comparison, keep).map_err(|reason| self.denied(reason))
    }

    fn denied(&self, reason: DenialReason) -> Denial {
        Denial { reason, access: Some(Arc::clone(&self.access)) }
    }

    fn judge(&self, gate: &Gate, comparison: Result<Comparison, StoreError>, keep: Keep) -> Result<(), DenialReason> {
        let mismatch = match comparison.map_err(DenialReason::StoreUnavailable)? {
            Comparison::Canonical => None,
            Comparison::NotCanonical => Some(Mismatch::NotCanonical),
            Comparison::UnknownClient => Some(Mismatch::UnknownClient),
        };
        if let (Some(cache), Some(stamp)) = (&gate.cache, self.access.stamp()) {
            match mismatch {
                None => keep(cache, &self.access, self.now_ms),
                Some(mismatch) => cache.keep_refused(&self.access, mismatch, stamp, self.now_ms),
            }
        }
        mismatch.map_or(Ok(()), |mismatch| Err(mismatch.into()))
    }
}

/// The last check, where the store has to be waited for.
struct LastCheck {
    gate: Arc<Gate>,
    method: Method,
    proof: Proof,
    master: Option<Arc<str>>,
    case: Case,
}

/// What the store is asked about.
enum Proof {
    Token(Verified),
    Ticket(Ticket),
}

impl LastCheck {
    fn run(self) -> Check {
        Box::pin(async move {
            let Self { gate, method, case, .. } = &self;
            match self.ask().await {
                Ok(access) => {
                    let permit = Permit::new(self.master.clone(), Some(access));
                    gate.observer.permitted(case, method, &permit);
                    Ok(Some(permit))
                }
                Err(denial) => {
                    gate.observer.refused(case, method, &denial);
                    if gate.shadow { Ok(None) } else { Err(denial) }
                }
            }
        })
    }

    async fn ask(&self) -> Result<Arc<Access>, Denial> {
        match &self.proof {
            Proof::Token(verified) => {
                let comparison = verified.access.compare(&*self.gate.store).await;
                verified.confirm(&self.gate, comparison, TokenCache::keep)?;
                Ok(Arc::clone(&verified.access))
            }
            Proof::Ticket(ticket) => self.gate.redeem(ticket).await,
        }
    }
}

/// A refusal, to be found in the extensions of the response. Only the guard makes one.
#[derive(Clone, Debug)]
pub struct Denial {
    reason: DenialReason,
    /// Of the token, where its signature was found good.
    access: Option<Arc<Access>>,
}

impl Denial {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// Whom the access token was issued to, where it is one of ours and only not accepted any more, or the store could not
    /// tell; `None` where nothing is known of who sent the request.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.access.as_ref().map(|access| access.client_id())
    }
}

impl From<Mismatch> for DenialReason {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::UnknownClient => Self::UnknownClient,
            Mismatch::NotCanonical => Self::NotCanonical,
        }
    }
}

impl From<DenialReason> for Denial {
    fn from(reason: DenialReason) -> Self {
        Self { reason, access: None }
    }
}
