//! The current check: decides whether a token is the one that the store holds for its client. It is the only place that does.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    cache::{Mismatch, Now, TokenCache},
    denial::Denial,
    lifetime::Lifetimes,
    lifetime::{Access, end_ms_of, last_second_before, session_of},
    ticket::Ticket,
};
use crate::{
    DenialReason,
    clock::Clock,
    keys::KeyRing,
    observe::{Event, Observer},
    secret::TokenDigest,
    store::{Asked, Comparison, StoreError, StoreErrorKind, TokenStore},
    token::{Claims, Expected, TokenError, TokenType},
};

/// Confirms tokens: by the cache, or by their signature and the store.
#[derive(Clone, Debug)]
pub(crate) struct Confirmer {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn TokenStore>,
    /// Tokens that the store confirmed. It is there if the store reports changes, or if its answers may be cached for a time.
    pub(crate) cache: Option<Arc<TokenCache>>,
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

/// A token that has passed all checks but the last: whether it is the current one, or the one before in its grace.
pub(crate) struct Verified {
    access: Arc<Access>,
    now_ms: u64,
    /// The same by a clock that is never set.
    asked_at_ms: u64,
}

impl Verified {
    /// Returns when it was verified, since the Unix epoch.
    pub(crate) fn at(&self) -> u64 {
        self.now_ms / 1000
    }
}

/// How the cache takes a token that the store confirmed.
type Keep = fn(&TokenCache, &Arc<Access>, u64);

impl Confirmer {
    /// Confirms an access token at `now_ms`, as far as that is possible without waiting.
    #[inline]
    pub(crate) fn confirm_now(&self, token: &[u8], now_ms: u64) -> Result<Progress, Denial> {
        match self.recall(token, now_ms) {
            Some(access) => Ok(Progress::Confirmed(access)),
            None => self.verify_access(token, now_ms),
        }
    }

    /// Returns what can be said of an access token without waiting and without leaving a trace. One that only the store can confirm
    /// counts as current.
    pub(crate) fn inspect(&self, token: &[u8]) -> Result<Arc<Access>, Denial> {
        let now_ms = self.clock.unix_now_ms();
        let changes = self.store.changes();
        let now = self.now(now_ms);
        let cached = self.cache.as_ref().zip(changes).and_then(|(cache, changes)| cache.confirmed(token, changes, now));
        if let Some(recalled) = cached {
            return Ok(recalled.access);
        }
        let expected = self.expected(TokenType::Access, now_ms / 1000);
        let claims = self.keys.verify(token, &expected).map_err(DenialReason::InvalidAccessToken)?;
        let verified = self.verified(claims, now_ms);
        match self.recall_refused(&verified) {
            Some(mismatch) => Err(Denial::new(mismatch.into(), &verified.access)),
            None => Ok(verified.access),
        }
    }

    #[inline(never)]
    fn verify_access(&self, token: &[u8], now_ms: u64) -> Result<Progress, Denial> {
        let claims = self
            .keys
            .verify(token, &self.expected(TokenType::Access, now_ms / 1000))
            .map_err(DenialReason::InvalidAccessToken)?;
        let mut verified = self.verified(claims, now_ms);
        if let Some(comparison) = verified.access.compare_now(&*self.store) {
            self.judge(&mut verified, comparison, TokenCache::keep_if_worth)?;
            return Ok(Progress::Confirmed(verified.access));
        }
        match self.recall_refused(&verified) {
            Some(mismatch) => Err(Denial::new(mismatch.into(), &verified.access)),
            None => Ok(Progress::Verified(verified)),
        }
    }

    /// Asks the store whether a verified token is the current one.
    pub(crate) async fn confirm(&self, mut verified: Verified) -> Result<Arc<Access>, Denial> {
        let comparison = self.compare(&verified.access).await;
        if let Err(error) = &comparison
            && let Some(access) = self.recall_in_grace(&verified, error)
        {
            return Ok(access);
        }
        self.judge(&mut verified, comparison, TokenCache::keep)?;
        Ok(verified.access)
    }

    /// Returns the access of a verified token that the store confirmed before, if the store cannot be reached and that was not too
    /// long ago. Whatever else the store says, and whatever else goes wrong, counts.
    #[cold]
    fn recall_in_grace(&self, verified: &Verified, error: &StoreError) -> Option<Arc<Access>> {
        use StoreErrorKind::{TimedOut, Unavailable, Unreachable};
        if ![TimedOut, Unavailable, Unreachable].contains(&error.kind()) {
            return None;
        }
        let now = self.now(self.clock.unix_now_ms());
        let access = self.cache.as_ref()?.in_grace(verified.access.token(), self.store.changes()?, now)?;
        self.observer.accepted_in_grace(error);
        Some(access)
    }

    /// Confirms an access token, and waits for the store if necessary.
    pub(crate) async fn access(&self, token: &[u8]) -> Result<Arc<Access>, Denial> {
        match self.confirm_now(token, self.clock.unix_now_ms())? {
            Progress::Confirmed(access) => Ok(access),
            Progress::Verified(verified) => self.confirm(verified).await,
        }
    }

    /// Reads a ticket and checks that it is valid now.
    pub(crate) fn open_ticket(&self, ticket: &str) -> Result<Ticket, Denial> {
        Ok(Ticket::open(&self.keys, ticket, self.clock.unix_now()).map_err(DenialReason::InvalidTicket)?)
    }

    /// Returns the access that a ticket gives, if its token is still accepted and the ticket can be [spent](Self::spend).
    pub(crate) async fn access_by(&self, ticket: &Ticket) -> Result<Arc<Access>, Denial> {
        Ok(Arc::new(self.access_of(ticket).await?))
    }

    /// Spends a ticket, unless it is repeatable.
    pub(crate) async fn spend(&self, ticket: &Ticket, access: &Arc<Access>) -> Result<(), Denial> {
        if ticket.is_repeatable() {
            return Ok(());
        }
        match self.store.spend(&ticket.id, ticket.expires_at).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denial::new(DenialReason::SpentTicket, access)),
            Err(error) => Err(Denial::new(DenialReason::StoreUnavailable(error), access)),
        }
    }

    /// Returns the access by the current token of a ticket's session. That is the token which the ticket names, or has replaced it
    /// within the grace. A ticket of a replaced token opens nothing beyond the ends of the grace and of the ticket.
    async fn access_of(&self, ticket: &Ticket) -> Result<Access, DenialReason> {
        let now_ms = self.clock.unix_now_ms();
        let stamp = self.lifetimes.stamp(&ticket.client_id);
        let held = self.store.pair_of(&ticket.client_id, &ticket.session).await;
        let held = held.map_err(DenialReason::StoreUnavailable)?.ok_or(DenialReason::UnknownClient)?;
        let token = held.access_token.and_then(|kept| self.keys.open(&kept)).ok_or(DenialReason::NotCurrent)?;
        let current = TokenDigest::of(token.expose());
        let grace_end_ms = match current == ticket.access {
            true => None,
            false => Some(self.grace_end_ms_of(ticket, current, now_ms).await?),
        };
        let expected = self.expected(TokenType::Access, now_ms / 1000);
        let claims = self.keys.verify(token.expose().as_bytes(), &expected).map_err(DenialReason::InvalidTicket)?;
        let mut access = Access::since(claims, stamp, &self.lifetimes);
        if let Some(end_ms) = grace_end_ms {
            access.end_with_grace(end_ms.min(end_ms_of(ticket.expires_at)));
        }
        Ok(access)
    }

    /// Returns the end of the grace of a ticket's token, if the token `current` has replaced it.
    async fn grace_end_ms_of(&self, ticket: &Ticket, current: TokenDigest, now_ms: u64) -> Result<u64, DenialReason> {
        let held = self.store.load(&ticket.client_id, Some(&ticket.session)).await;
        let held = held.map_err(DenialReason::StoreUnavailable)?.filter(|held| held.access == Some(current));
        let previous = held.and_then(|held| held.previous_access).filter(|previous| previous.digest == ticket.access);
        previous.and_then(|previous| self.lifetimes.grace_end_ms(previous.age, now_ms)).ok_or(DenialReason::NotCurrent)
    }

    /// Returns true if a token that was accepted before is signed by one of these keys, for this issuer and audience. When it ends is looked
    /// at elsewhere.
    pub(crate) fn signed(&self, claims: &Claims) -> bool {
        let expected = self.expected(TokenType::Access, self.clock.unix_now());
        let verified = self.keys.verify(claims.token(), &expected);
        matches!(verified, Ok(_) | Err(TokenError::Expired))
    }

    /// Verifies a token's signature, times, issuer, audience and type, and does not ask the store.
    pub(crate) fn verify(&self, token: &str, token_type: TokenType, now: u64) -> Result<Claims, TokenError> {
        self.keys.verify(token.as_bytes(), &self.expected(token_type, now))
    }

    /// Returns the last second in which a token of either type is accepted, which was verified at `now_ms`; `None` if it is not.
    pub(crate) async fn last_second(&self, claims: &Claims, now_ms: u64) -> Result<Option<u64>, StoreError> {
        Ok(match self.compare(claims).await? {
            Comparison::Current => Some(claims.expires_at()),
            Comparison::Previous(age) => {
                let end_ms = self.lifetimes.grace_end_ms(age, now_ms);
                end_ms.map(|end_ms| claims.expires_at().min(last_second_before(end_ms)))
            }
            Comparison::NotCurrent | Comparison::UnknownClient => None,
        })
    }

    /// Asks the store about a verified token of either type.
    pub(crate) async fn compare(&self, claims: &Claims) -> Result<Comparison, StoreError> {
        let held = self.store.load(claims.client_id(), Some(session_of(claims))).await?;
        let token = TokenDigest::of(claims.token());
        Ok(match claims.token_type() {
            TokenType::Access => Comparison::new(token, held.as_ref()),
            TokenType::Refresh if held.is_some_and(|held| held.refresh == Some(token)) => Comparison::Current,
            TokenType::Refresh if held.is_some() => Comparison::NotCurrent,
            TokenType::Refresh => Comparison::UnknownClient,
        })
    }

    /// Judges by the store's answer, and caches it.
    fn judge(&self, verified: &mut Verified, answer: Result<Comparison, StoreError>, keep: Keep) -> Result<(), Denial> {
        let answer = answer.map_err(|error| Denial::new(DenialReason::StoreUnavailable(error), &verified.access))?;
        let mismatch = match answer {
            Comparison::Current => None,
            Comparison::Previous(age) => match self.lifetimes.grace_end_ms(age, verified.now_ms) {
                Some(end_ms) => {
                    Arc::make_mut(&mut verified.access).end_with_grace(end_ms);
                    None
                }
                None => Some(Mismatch::NotCurrent),
            },
            Comparison::NotCurrent => Some(Mismatch::NotCurrent),
            Comparison::UnknownClient => Some(Mismatch::UnknownClient),
        };
        if let Some(cache) = &self.cache
            && let Some(stamp) = verified.access.stamp()
            && let Some(changes) = self.store.changes().filter(|changes| cache.is_for(changes))
        {
            match mismatch {
                None => keep(cache, &verified.access, verified.asked_at_ms),
                Some(mismatch) => {
                    let asked = Asked { stamp, at_ms: verified.asked_at_ms };
                    cache.keep_refused(&verified.access, mismatch, asked, changes);
                }
            }
        }
        mismatch.map_or(Ok(()), |mismatch| Err(Denial::new(mismatch.into(), &verified.access)))
    }

    #[inline]
    fn recall(&self, token: &[u8], now_ms: u64) -> Option<Arc<Access>> {
        let cache = self.cache.as_ref()?;
        let recalled = cache.confirmed(token, self.store.changes()?, self.now(now_ms));
        self.observer.record(Event::CacheLookup { is_hit: recalled.is_some() });
        let recalled = recalled?;
        if recalled.is_due && cache.is_to_renew(token) {
            self.renew(&recalled.access, now_ms);
        }
        Some(recalled.access)
    }

    /// Asks the store about a cached token again, while requests go on. If the store does not answer, requests wait for it once the
    /// token is no longer fresh.
    #[cold]
    fn renew(&self, access: &Access, now_ms: u64) {
        let Ok(runtime) = Handle::try_current() else { return };
        let confirmer = self.clone();
        let verified = self.verified(Claims::clone(access), now_ms);
        runtime.spawn(async move {
            let mut verified = verified;
            let comparison = confirmer.compare(&verified.access).await;
            confirmer.judge(&mut verified, comparison, TokenCache::keep).err()
        });
    }

    fn recall_refused(&self, verified: &Verified) -> Option<Mismatch> {
        let now = self.now(verified.now_ms);
        self.cache.as_ref()?.refused(&verified.access, self.store.changes()?, now)
    }

    /// Creates a verified token that the store is about to be asked about.
    fn verified(&self, claims: Claims, now_ms: u64) -> Verified {
        let access = Arc::new(Access::new(claims, &self.lifetimes));
        Verified { access, now_ms, asked_at_ms: self.now(now_ms).to_ask(self.store.changes()) }
    }

    fn now(&self, unix_ms: u64) -> Now<'_> {
        Now { unix_ms, clock: &self.clock }
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
