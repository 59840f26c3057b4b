//! The current check: decides whether a token is the one that the store holds for its client. It is the only place that does.

use std::sync::Arc;

use super::{
    cache::{Mismatch, TokenCache},
    denial::Denial,
    lifetime::Lifetimes,
    lifetime::{Access, session_of},
    ticket::Ticket,
};
use crate::{
    DenialReason,
    clock::Clock,
    keys::KeyRing,
    observe::{Event, Observer},
    secret::TokenDigest,
    store::{Comparison, StoreError, TokenStore},
    token::{Claims, Expected, TokenError, TokenType},
};

/// Confirms tokens: by the cache, or by their signature and the store.
#[derive(Debug)]
pub(crate) struct Confirmer {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn TokenStore>,
    /// Tokens that the store confirmed. It is there if the store reports changes, or if its answers may be cached for a time.
    pub(crate) cache: Option<TokenCache>,
    pub(crate) lifetimes: Arc<Lifetimes>,
    /// The expected `iss`.
    pub(crate) issuer: Option<String>,
    /// The expected `aud`.
    pub(crate) audience: Option<String>,
    pub(crate) observer: Arc<Observer>,
}

/// What can be said of a token without waiting for the store.
pub(crate) enum Progress {
    Confirmed(Arc<Access>),
    /// All checks passed but the last, for which the store has to be awaited.
    Verified(Verified),
}

/// A token that has passed all checks but the last: whether it is the current one.
pub(crate) struct Verified {
    access: Arc<Access>,
    now_ms: u64,
}

/// How the cache takes a token that the store confirmed.
type Keep = fn(&TokenCache, &Arc<Access>, u64);

impl Confirmer {
    /// Confirms an access token as far as that is possible without waiting.
    #[inline]
    pub(crate) fn confirm_now(&self, token: &[u8]) -> Result<Progress, Denial> {
        let now_ms = self.clock.unix_now_ms();
        match self.recall(token, now_ms) {
            Some(access) => Ok(Progress::Confirmed(access)),
            None => self.verify_access(token, now_ms),
        }
    }

    #[inline(never)]
    fn verify_access(&self, token: &[u8], now_ms: u64) -> Result<Progress, Denial> {
        let claims = self
            .keys
            .verify(token, &self.expected(TokenType::Access, now_ms / 1000))
            .map_err(DenialReason::InvalidAccessToken)?;
        let verified = Verified { access: Arc::new(Access::new(claims, &self.lifetimes)), now_ms };
        if let Some(comparison) = verified.access.compare_now(&*self.store) {
            self.judge(&verified, comparison, TokenCache::keep_if_worth)?;
            return Ok(Progress::Confirmed(verified.access));
        }
        match self.recall_refused(&verified) {
            Some(mismatch) => Err(Denial::new(mismatch.into(), &verified.access)),
            None => Ok(Progress::Verified(verified)),
        }
    }

    /// Asks the store whether a verified token is the current one.
    pub(crate) async fn confirm(&self, verified: Verified) -> Result<Arc<Access>, Denial> {
        let comparison = self.compare(&verified.access).await;
        self.judge(&verified, comparison, TokenCache::keep)?;
        Ok(verified.access)
    }

    /// Confirms an access token, and waits for the store if necessary.
    pub(crate) async fn access(&self, token: &[u8]) -> Result<Arc<Access>, Denial> {
        match self.confirm_now(token)? {
            Progress::Confirmed(access) => Ok(access),
            Progress::Verified(verified) => self.confirm(verified).await,
        }
    }

    /// Reads a ticket and checks that it is valid now.
    pub(crate) fn open_ticket(&self, ticket: &str) -> Result<Ticket, Denial> {
        Ok(Ticket::open(&self.keys, ticket, self.clock.unix_now()).map_err(DenialReason::InvalidTicket)?)
    }

    /// Returns the access of the token that a ticket names, if that is still valid and current. Then the ticket is spent.
    pub(crate) async fn redeem(&self, ticket: &Ticket) -> Result<Arc<Access>, Denial> {
        let stamp = self.lifetimes.stamp(&ticket.client_id);
        let held = self.store.pair_of(&ticket.client_id, &ticket.session).await;
        let held = held.map_err(DenialReason::StoreUnavailable)?.ok_or(DenialReason::UnknownClient)?;
        let token = held.access_token.and_then(|kept| self.keys.open(&kept));
        let token = token.filter(|token| TokenDigest::of(token.expose()) == ticket.access);
        let token = token.ok_or(DenialReason::NotCurrent)?;
        let expected = self.expected(TokenType::Access, self.clock.unix_now());
        let claims = self.keys.verify(token.expose().as_bytes(), &expected).map_err(DenialReason::InvalidTicket)?;
        let access = Arc::new(Access::since(claims, stamp, &self.lifetimes));
        match self.store.spend(&ticket.id, ticket.expires_at).await {
            Ok(true) => Ok(access),
            Ok(false) => Err(Denial::new(DenialReason::SpentTicket, &access)),
            Err(error) => Err(Denial::new(DenialReason::StoreUnavailable(error), &access)),
        }
    }

    /// Verifies a token's signature, times, issuer, audience and type, and does not ask the store.
    pub(crate) fn verify(&self, token: &str, token_type: TokenType, now: u64) -> Result<Claims, TokenError> {
        self.keys.verify(token.as_bytes(), &self.expected(token_type, now))
    }

    /// Returns true if the store holds this very token, of either type.
    pub(crate) async fn is_current(&self, claims: &Claims) -> Result<bool, StoreError> {
        Ok(self.compare(claims).await? == Comparison::Current)
    }

    async fn compare(&self, claims: &Claims) -> Result<Comparison, StoreError> {
        let Some(held) = self.store.load(claims.client_id(), Some(session_of(claims))).await? else {
            return Ok(Comparison::UnknownClient);
        };
        let current = match claims.token_type() {
            TokenType::Access => held.access,
            TokenType::Refresh => held.refresh,
        };
        let is_current = current == Some(TokenDigest::of(claims.token()));
        Ok(if is_current { Comparison::Current } else { Comparison::NotCurrent })
    }

    /// Judges by the store's answer, and caches it.
    fn judge(&self, verified: &Verified, answer: Result<Comparison, StoreError>, keep: Keep) -> Result<(), Denial> {
        let denied = |reason| Denial::new(reason, &verified.access);
        let mismatch = match answer.map_err(|error| denied(DenialReason::StoreUnavailable(error)))? {
            Comparison::Current => None,
            Comparison::NotCurrent => Some(Mismatch::NotCurrent),
            Comparison::UnknownClient => Some(Mismatch::UnknownClient),
        };
        if let (Some(cache), Some(stamp)) = (&self.cache, verified.access.stamp()) {
            match mismatch {
                None => keep(cache, &verified.access, verified.now_ms),
                Some(mismatch) => cache.keep_refused(&verified.access, mismatch, stamp, verified.now_ms),
            }
        }
        mismatch.map_or(Ok(()), |mismatch| Err(denied(mismatch.into())))
    }

    #[inline]
    fn recall(&self, token: &[u8], now_ms: u64) -> Option<Arc<Access>> {
        let access = self.cache.as_ref()?.confirmed(token, self.store.changes()?, now_ms);
        self.observer.record(Event::CacheLookup { is_hit: access.is_some() });
        access
    }

    fn recall_refused(&self, verified: &Verified) -> Option<Mismatch> {
        self.cache.as_ref()?.refused(&verified.access, self.store.changes()?, verified.now_ms)
    }

    fn expected(&self, token_type: TokenType, now: u64) -> Expected<'_> {
        Expected {
            issuer: self.issuer.as_deref(),
            audience: self.audience.as_deref(),
            ..Expected::new(token_type, now)
        }
    }
}

impl From<Mismatch> for DenialReason {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::UnknownClient => Self::UnknownClient,
            Mismatch::NotCurrent => Self::NotCurrent,
        }
    }
}
