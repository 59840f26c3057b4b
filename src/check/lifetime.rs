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
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use crate::{
    clock::Clock,
    random::random_bytes,
    store::{Comparison, SessionFilter, SessionStatus, Stamp, StoreError, TokenDigest, TokenStore, first},
    token::Claims,
};

/// The time after which the wall clock is read again, which may not go on as the timer does.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two looks at one session because of writes of others: each of many may concern it.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time until a store that failed is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Observes when permits end. It does nothing unless the end of one is awaited.
pub(crate) struct Lifetimes {
    store: Arc<dyn TokenStore>,
    clock: Clock,
    /// The time until a store that does not report changes is asked again.
    interval: Duration,
    /// How long a token is accepted after it was replaced (`access-grace`).
    grace: Duration,
    least_interval: Duration,
    /// The sessions whose end is awaited, by client and session.
    sessions: Mutex<HashMap<Key, Weak<Session>>>,
}

/// Client and session.
type Key = (String, String);

impl Lifetimes {
    pub(crate) fn new(store: Arc<dyn TokenStore>, clock: Clock, interval: Duration, grace: Duration) -> Self {
        Self { store, clock, interval, grace, least_interval: LEAST_INTERVAL, sessions: Mutex::default() }
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

/// A session whose end is awaited.
struct Session {
    key: Key,
    lifetimes: Arc<Lifetimes>,
    answer: watch::Receiver<Answer>,
    /// Asks for a newer answer.
    wanted: Arc<Notify>,
    /// Stops the task that asks the store. It is a task of its own because those that wait may not be polled any more.
    watcher: AbortHandle,
}

/// The store's answer about a session.
#[derive(Clone, Copy)]
struct Answer {
    /// The current access token.
    held: Option<TokenDigest>,
    /// The token that it has replaced, and when the grace of that ends.
    previous: Option<(TokenDigest, u64)>,
    /// The reason why permits of other tokens have ended.
    reason: EndReason,
    /// When the store was asked; `None` if it was not asked yet.
    asked_at: Option<Instant>,
}

impl Session {
    fn watched(lifetimes: &Arc<Lifetimes>, key: Key, access: &Access) -> Self {
        let now = Instant::now();
        // It has just been confirmed.
        let held = Some(access.digest());
        let answer = Answer { held, previous: None, reason: EndReason::Superseded, asked_at: None };
        let (answers, answer) = watch::channel(answer);
        let wanted = Arc::new(Notify::new());
        let watcher = Watcher {
            key: key.clone(),
            lifetimes: Arc::clone(lifetimes),
            answers,
            wanted: Arc::clone(&wanted),
            stamp: access.stamp(),
            asked_at: None,
            confirmed: now,
            due: now + jittered(lifetimes.interval),
            is_owed: false,
        };
        let watcher = tokio::spawn(watcher.run()).abort_handle();
        Self { key, lifetimes: Arc::clone(lifetimes), answer, wanted, watcher }
    }

    /// Waits until the store no longer holds a token that was just confirmed.
    async fn loss_of(&self, token: TokenDigest) -> EndReason {
        let since = Instant::now();
        let mut answers = self.answer.clone();
        loop {
            let answer = *answers.borrow_and_update();
            let previous = answer.previous.filter(|(previous, _)| *previous == token);
            let grace_end_ms = previous.map(|(_, end_ms)| end_ms);
            if answer.held != Some(token) && grace_end_ms.is_none() {
                let is_current = match answer.reason {
                    EndReason::Unconfirmed => since.elapsed() >= self.lifetimes.patience(),
                    _ => answer.asked_at.is_some_and(|asked_at| asked_at >= since),
                };
                if is_current {
                    return answer.reason;
                }
                // The watcher reports trouble with the store again and again by itself.
                if answer.reason != EndReason::Unconfirmed {
                    self.wanted.notify_one();
                }
            }
            // The task is gone with its runtime.
            let next = async { answers.changed().await.err().map(|_| EndReason::Unconfirmed) };
            let end = match grace_end_ms {
                Some(end_ms) => first(next, self.lifetimes.end_of_grace(end_ms)).await,
                None => next.await,
            };
            if let Some(reason) = end {
                return reason;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watcher.abort();
        let mut sessions = self.lifetimes.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // The entry may be that of a newer session by now.
        if sessions.get(&self.key).is_some_and(|session| session.strong_count() == 0) {
            sessions.remove(&self.key);
        }
    }
}

/// Asks the store about one session, as often as necessary.
struct Watcher {
    key: Key,
    lifetimes: Arc<Lifetimes>,
    answers: watch::Sender<Answer>,
    wanted: Arc<Notify>,
    /// From before the last answer.
    stamp: Option<Stamp>,
    /// When the store was asked last.
    asked_at: Option<Instant>,
    /// When it answered last.
    confirmed: Instant,
    /// When it is asked again, unless it reports changes.
    due: Instant,
    /// The next answer is awaited, whatever it is.
    is_owed: bool,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            let wanted = async {
                self.wanted.notified().await;
                true
            };
            let is_time = async {
                self.is_time().await;
                false
            };
            self.is_owed |= first(wanted, is_time).await;
            if self.is_owed || !self.lifetimes.is_sure_since(self.stamp) {
                self.ask().await;
            } else {
                self.confirmed = Instant::now();
                self.due = self.confirmed + jittered(self.lifetimes.interval);
            }
        }
    }

    /// Waits until the store may have a new answer. Changes by this process are looked at without delay.
    async fn is_time(&self) {
        if let Some(asked_at) = self.asked_at {
            let later = sleep_until(self.due.min(asked_at + self.lifetimes.least_interval));
            first(later, self.lifetimes.changed_here_since(self.stamp)).await;
        }
        first(self.lifetimes.changed_since(self.stamp), sleep_until(self.due)).await;
    }

    async fn ask(&mut self) {
        let (client_id, session) = &self.key;
        let asked_at = Instant::now();
        let asked_at_ms = self.lifetimes.clock.unix_now_ms();
        let stamp = self.lifetimes.stamp(client_id);
        self.asked_at = Some(asked_at);
        // The store gets some time in any case: it may be this process that was suspended.
        let patience = self.confirmed + self.lifetimes.patience();
        let until = patience.max(asked_at + self.lifetimes.interval.min(RETRY_INTERVAL));
        match timeout_at(until, self.lifetimes.store.load(client_id, Some(session))).await {
            Ok(Ok(held)) => {
                self.stamp = stamp;
                self.confirmed = asked_at;
                self.due = asked_at + jittered(self.lifetimes.interval);
                let previous = held.and_then(|held| held.previous_access).and_then(|previous| {
                    let end_ms = self.lifetimes.grace_end_ms(previous.age, asked_at_ms)?;
                    Some((previous.digest, end_ms))
                });
                let held = held.and_then(|held| held.access);
                let reason = self.why(held).await;
                return self.tell(Answer { held, previous, reason, asked_at: Some(asked_at) });
            }
            Ok(Err(error)) => {
                let error = error.with_causes();
                tracing::debug!(target: "fastauth", "the token of something open could not be confirmed: {error}");
            }
            Err(_) => tracing::debug!(target: "fastauth", "the token of something open was not confirmed in time"),
        }
        // A change that could not be looked at now is looked at later.
        self.stamp = None;
        self.due = asked_at + jittered(self.lifetimes.interval.min(RETRY_INTERVAL));
        if Instant::now() >= patience {
            let asked_at = Some(Instant::now());
            self.tell(Answer { held: None, previous: None, reason: EndReason::Unconfirmed, asked_at });
        }
    }

    /// Returns the reason why permits of other tokens than the one that is held have ended.
    async fn why(&self, held: Option<TokenDigest>) -> EndReason {
        let latest = *self.answers.borrow();
        match held {
            None => EndReason::Revoked,
            Some(_) if held == latest.held && !self.is_owed => latest.reason,
            Some(_) if timeout(RETRY_INTERVAL, self.is_revoked()).await.unwrap_or_default() => EndReason::Revoked,
            Some(_) => EndReason::Superseded,
        }
    }

    /// Returns true if the session was revoked although the client has another one, as far as the store can tell.
    async fn is_revoked(&self) -> bool {
        let (client_id, session) = &self.key;
        let filter = SessionFilter {
            client_id: Some(client_id.clone()),
            session: Some(session.clone()),
            ..SessionFilter::default()
        };
        let page = self.lifetimes.store.list(&filter).await.unwrap_or_default();
        page.sessions.iter().any(|entry| entry.session == *session && entry.status != SessionStatus::Live)
    }

    /// Wakes those that wait, if the answer is new to them.
    fn tell(&mut self, answer: Answer) {
        let is_owed = std::mem::take(&mut self.is_owed);
        self.answers.send_if_modified(|latest| {
            let is_news = is_owed || answer.held.is_none() || latest.held != answer.held;
            *latest = answer;
            is_news
        });
    }
}

/// Waits until an access ends.
pub(super) async fn end(access: Arc<Access>) -> EndReason {
    let session = access.lifetimes.session(&access);
    first(access.end_by_time(), session.loss_of(access.digest())).await
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

/// Returns three quarters of a time and up to a quarter more, so that the store is not asked for all sessions at once.
fn jittered(time: Duration) -> Duration {
    let share = u32::from(random_bytes::<1>()[0]);
    time * 3 / 4 + time / 4 * share / 256
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
        let lifetimes = Lifetimes::new(store, crate::clock::Clock::default(), Duration::from_secs(5), Duration::ZERO);
        Self { stamp: Some(stamp), ..Self::new(claims, &Arc::new(lifetimes)) }
    }
}

#[cfg(test)]
mod tests;
