//! When permits end: for each session whose end is awaited, one task asks the store and wakes all that wait.

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use fastauth_core::settings::TOLERANCE;

use self::watch::Session;
use crate::{
    clock::Clock,
    keys::CurrentKeys,
    secret::Secret,
    store::{Comparison, Stamp, StoreError, TokenDigest, TokenStore, first},
    token::{Claims, Expected, TokenType},
};

mod watch;

/// The time after which the wall clock is read again, which may not go on as the timer does.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two looks at one session because of writes of others: each of many may concern it.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);

/// Observes when permits end. It does nothing unless the end of one is awaited.
pub(crate) struct Lifetimes {
    store: Arc<dyn TokenStore>,
    clock: Clock,
    /// The time until a store that does not report changes is asked again.
    interval: Duration,
    /// How long a token is accepted after it was replaced (`access-grace`).
    grace: Duration,
    least_interval: Duration,
    reader: TokenReader,
    /// The sessions whose end is awaited, by client and session.
    sessions: Mutex<HashMap<Key, Weak<Session>>>,
}

/// Reads the access tokens that a store holds.
pub(crate) struct TokenReader {
    pub(crate) keys: Arc<CurrentKeys>,
    /// The expected `iss`.
    pub(crate) issuer: Option<String>,
    /// The expected `aud`.
    pub(crate) audience: Option<String>,
}

impl TokenReader {
    /// Returns the claims of an access token in its stored form, if it is valid now.
    fn open(&self, kept: &Secret, now: u64) -> Option<Claims> {
        let keys = self.keys.get();
        let token = keys.open(kept)?;
        let (issuer, audience) = (self.issuer.as_deref(), self.audience.as_deref());
        let expected = Expected { issuer, audience, ..Expected::new(TokenType::Access, now) };
        keys.verify(token.expose().as_bytes(), &expected).ok()
    }
}

/// An access token, and when it expires, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lasting {
    digest: TokenDigest,
    end_ms: u64,
}

impl Lasting {
    fn new(claims: &Claims) -> Self {
        Self { digest: TokenDigest::of(claims.token()), end_ms: end_ms_of(claims.expires_at()) }
    }

    fn has_expired(self, clock: &Clock) -> bool {
        clock.unix_now_ms() >= self.end_ms
    }
}

/// Client and session.
type Key = (String, String);

impl Lifetimes {
    pub(crate) fn new(
        store: Arc<dyn TokenStore>,
        reader: TokenReader,
        clock: Clock,
        interval: Duration,
        grace: Duration,
    ) -> Self {
        Self { store, clock, interval, grace, least_interval: LEAST_INTERVAL, reader, sessions: Mutex::default() }
    }

    /// Returns the end of the grace of a token that was replaced so long ago, in milliseconds since the Unix epoch; `None` if it has
    /// ended. The store was asked at `asked_at_ms` or later.
    pub(super) fn grace_end_ms(&self, age: Duration, asked_at_ms: u64) -> Option<u64> {
        let left = self.grace.checked_sub(age).filter(|left| !left.is_zero())?;
        Some(asked_at_ms.saturating_add(u64::try_from(left.as_millis()).unwrap_or_default()))
    }

    pub(crate) fn stamp(&self, client_id: &str) -> Option<Stamp> {
        self.store.changes().map(|changes| changes.stamp(client_id))
    }

    /// Returns true if nothing can have changed since then, in this process or another.
    fn is_sure_since(&self, stamp: Option<Stamp>) -> bool {
        stamp.zip(self.store.changes()).is_some_and(|(stamp, changes)| {
            changes.tells_of_others() && changes.unchanged_since(stamp, self.clock.unix_now_ms())
        })
    }

    /// Waits for a change that may concern the client of the stamp.
    async fn changed_since(&self, stamp: Option<Stamp>) {
        match stamp.zip(self.store.changes()) {
            Some((stamp, changes)) => changes.changed_since(stamp).await,
            None => pending().await,
        }
    }

    /// Waits for a change by this process that may concern the client of the stamp.
    async fn changed_here_since(&self, stamp: Option<Stamp>) {
        match stamp.zip(self.store.changes()) {
            Some((stamp, changes)) => changes.changed_here_since(stamp).await,
            None => pending().await,
        }
    }

    /// Waits until the grace of a token has ended.
    async fn end_of_grace(&self, end_ms: u64) -> Option<EndReason> {
        reached(end_ms, &self.clock).await;
        Some(EndReason::Superseded)
    }

    /// Returns how long a permit lasts that the store does not confirm.
    fn patience(&self) -> Duration {
        self.interval * TOLERANCE
    }

    fn session(self: &Arc<Self>, access: &Access) -> Arc<Session> {
        let key = (access.client_id().to_owned(), access.session().to_owned());
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sessions.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let session = Arc::new(Session::watched(self, key.clone(), access));
            sessions.insert(key, Arc::downgrade(&session));
            session
        })
    }
}

impl fmt::Debug for Lifetimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetimes").field("interval", &self.interval).finish_non_exhaustive()
    }
}

/// Waits until an access ends.
pub(super) async fn end(access: Arc<Access>) -> EndReason {
    let session = access.lifetimes.session(&access);
    first(access.end_by_time(), session.loss_of(access.digest())).await
}

/// Waits until the session of an access ends: until it is revoked, or its last access token has expired.
pub(super) async fn session_end(access: Arc<Access>) -> EndReason {
    let session = access.lifetimes.session(&access);
    session.end_after(Lasting::new(&access)).await
}

/// Waits until a time in milliseconds since the Unix epoch.
async fn reached(end_ms: u64, clock: &Clock) {
    loop {
        match end_ms.saturating_sub(clock.unix_now_ms()) {
            0 => return,
            left => clock.wait_up_to(Duration::from_millis(left).min(CLOCK_INTERVAL)).await,
        }
    }
}

/// The reason why a [`Permit`](crate::Permit) has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The access token has expired.
    #[error("the access token has expired")]
    Expired,
    /// The client was issued another access token in place of this one.
    #[error("the access token was replaced")]
    Superseded,
    /// The access token was revoked.
    #[error("the access token was revoked")]
    Revoked,
    /// A reload changed the rules, or withdrew the master token or the key.
    #[error("the rules have changed")]
    RuleChanged,
    /// For too long, the store could not confirm that the access token is still valid.
    #[error("the access token could not be confirmed")]
    Unconfirmed,
}

/// A verified access token, with what it takes to learn when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    claims: Claims,
    /// From before the store confirmed it.
    stamp: Option<Stamp>,
    /// When it ends, in milliseconds since the Unix epoch: with its token, or with the grace of that.
    end_ms: u64,
    lifetimes: Arc<Lifetimes>,
}

impl Access {
    /// Creates the access of a token that the store is about to confirm.
    pub(crate) fn new(claims: Claims, lifetimes: &Arc<Lifetimes>) -> Self {
        let stamp = lifetimes.stamp(claims.client_id());
        Self::since(claims, stamp, lifetimes)
    }

    /// Creates the access of a token that the store confirmed after it gave this stamp.
    pub(crate) fn since(claims: Claims, stamp: Option<Stamp>, lifetimes: &Arc<Lifetimes>) -> Self {
        let end_ms = end_ms_of(claims.expires_at());
        Self { claims, stamp, end_ms, lifetimes: Arc::clone(lifetimes) }
    }

    /// Lets it end with the grace of its token, which was replaced.
    pub(crate) fn end_with_grace(&mut self, end_ms: u64) {
        self.end_ms = self.end_ms.min(end_ms);
    }

    /// Returns true if it has not ended at this time, in milliseconds since the Unix epoch.
    #[inline]
    pub(crate) fn lasts_at(&self, now_ms: u64) -> bool {
        now_ms < self.end_ms
    }

    /// Returns its last second, since the Unix epoch.
    pub(crate) fn last_second(&self) -> u64 {
        last_second_before(self.end_ms)
    }

    /// Waits until it has expired, or the grace of its token has ended.
    async fn end_by_time(&self) -> EndReason {
        reached(self.end_ms, &self.lifetimes.clock).await;
        if self.end_ms < end_ms_of(self.claims.expires_at()) { EndReason::Superseded } else { EndReason::Expired }
    }

    /// Returns the stamp from before the store confirmed the token.
    #[inline]
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Returns the name of the session, which is empty for tokens without one.
    pub(crate) fn session(&self) -> &str {
        session_of(&self.claims)
    }

    /// Compares the token with the one that the store holds, if the store can tell without waiting.
    pub(crate) fn compare_now(&self, store: &dyn TokenStore) -> Option<Result<Comparison, StoreError>> {
        store.compare_now(self.client_id(), Some(self.session()), self.claims.token())
    }

    /// Returns the digest of the access token.
    pub(crate) fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.claims.token())
    }
}

/// Returns when something ends whose last second is this one, in milliseconds since the Unix epoch.
pub(super) fn end_ms_of(last_second: u64) -> u64 {
    last_second.saturating_add(1).saturating_mul(1000)
}

/// Returns the last whole second before an end, since the Unix epoch.
pub(super) fn last_second_before(end_ms: u64) -> u64 {
    end_ms.saturating_sub(1) / 1000
}

/// Returns the name under which the store holds a token's session. Tokens that name none are held under the empty name.
pub(crate) fn session_of(claims: &Claims) -> &str {
    claims.session().map(|(session, _)| session).unwrap_or_default()
}

impl Deref for Access {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.claims
    }
}

#[cfg(test)]
impl Access {
    /// Creates an access as if a store whose changes give this stamp had confirmed it.
    pub(crate) fn stamped(claims: Claims, stamp: Stamp) -> Self {
        let store = Arc::new(crate::store::MemoryStore::new());
        let keys = crate::keys::KeyRing::new(&Secret::generate(), 0, &[]).unwrap();
        let keys = Arc::new(CurrentKeys::new(Arc::new(keys)));
        let reader = TokenReader { keys, issuer: None, audience: None };
        let lifetimes = Lifetimes::new(store, reader, Clock::default(), Duration::from_secs(5), Duration::ZERO);
        Self { stamp: Some(stamp), ..Self::new(claims, &Arc::new(lifetimes)) }
    }
}

#[cfg(test)]
mod tests;
