//! One session whose end is awaited, and the task that asks the store about it.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{Access, EndReason, Key, Lasting, Lifetimes, reached, session_of};
use crate::{
    random::random_bytes,
    store::{
        CurrentTokens, SessionFilter, SessionStatus, Stamp, StoreError, StoreErrorKind, StoredPair, TokenDigest, first,
    },
};

/// The longest time until a store that failed is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often a session that changes while it is looked at is looked at again.
const MOST_LOOKS: usize = 3;

/// A session whose end is awaited.
pub(super) struct Session {
    key: Key,
    lifetimes: Arc<Lifetimes>,
    answer: watch::Receiver<Answer>,
    /// Asks for a newer answer.
    wanted: Arc<Notify>,
    /// What waits goes on with the token that replaces its own.
    is_followed: Arc<AtomicBool>,
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
    /// The token that it has replaced, also after its grace.
    replaced: Option<TokenDigest>,
    /// The number of the times when it was not known to have followed the token before without a revocation between.
    breaks: u64,
    /// The current access token, if it was looked at and belongs to the session.
    lasting: Option<Lasting>,
    /// The reason why permits of other tokens have ended.
    reason: EndReason,
    /// When the store was asked; `None` if it was not asked yet.
    asked_at: Option<Instant>,
}

impl Session {
    pub(super) fn watched(lifetimes: &Arc<Lifetimes>, key: Key, access: &Access) -> Self {
        let now = Instant::now();
        // It has just been confirmed.
        let held = Some(access.digest());
        let answer = Answer {
            held,
            previous: None,
            replaced: None,
            breaks: 0,
            lasting: None,
            reason: EndReason::Superseded,
            asked_at: None,
        };
        let (answers, answer) = watch::channel(answer);
        let wanted = Arc::new(Notify::new());
        let is_followed = Arc::new(AtomicBool::new(false));
        let watcher = Watcher {
            key: key.clone(),
            lifetimes: Arc::clone(lifetimes),
            answers,
            wanted: Arc::clone(&wanted),
            is_followed: Arc::clone(&is_followed),
            seen: held,
            stamp: access.stamp(),
            asked_at: None,
            confirmed: now,
            due: now + jittered(lifetimes.interval),
            is_owed: false,
        };
        let watcher = tokio::spawn(watcher.run()).abort_handle();
        Self { key, lifetimes: Arc::clone(lifetimes), answer, wanted, is_followed, watcher }
    }

    /// Waits until the store no longer holds a token that was just confirmed.
    pub(super) async fn loss_of(&self, token: TokenDigest) -> EndReason {
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

    /// Waits until the session is revoked, or its last access token has expired. The token was just confirmed.
    pub(super) async fn end_after(&self, mut token: Lasting) -> EndReason {
        self.is_followed.store(true, Ordering::Release);
        let since = Instant::now();
        let mut expired_at = None;
        let mut breaks = None;
        let mut answers = self.answer.clone();
        loop {
            let answer = *answers.borrow_and_update();
            let is_from_after = |time| answer.asked_at.is_some_and(|asked_at| asked_at >= time);
            if [answer.held, answer.replaced].contains(&Some(token.digest)) {
                breaks = Some(answer.breaks);
            }
            if let Some(next) = answer.lasting.filter(|next| *next != token && breaks == Some(answer.breaks)) {
                (token, expired_at) = (next, None);
            }
            if answer.held == Some(token.digest) {
                if expired_at.is_some_and(is_from_after) {
                    return EndReason::Expired;
                }
            } else if answer.reason == EndReason::Unconfirmed {
                if since.elapsed() >= self.lifetimes.patience() {
                    return EndReason::Unconfirmed;
                }
            } else if is_from_after(since) {
                return answer.reason;
            } else {
                self.wanted.notify_one();
            }
            let next = async { answers.changed().await.err().map(|_| EndReason::Unconfirmed) };
            let end = match expired_at {
                // Another process may have refreshed the session, which the store says, but not for long.
                Some(_) => first(next, self.no_answer()).await,
                None => first(next, self.end_of_time(token)).await,
            };
            if let Some(reason) = end {
                return reason;
            }
            if expired_at.is_none() && token.has_expired(&self.lifetimes.clock) {
                expired_at = Some(Instant::now());
                self.wanted.notify_one();
            }
        }
    }

    async fn end_of_time(&self, token: Lasting) -> Option<EndReason> {
        reached(token.end_ms, &self.lifetimes.clock).await;
        None
    }

    async fn no_answer(&self) -> Option<EndReason> {
        sleep(RETRY_INTERVAL).await;
        Some(EndReason::Expired)
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
    is_followed: Arc<AtomicBool>,
    /// The current access token of the last answer.
    seen: Option<TokenDigest>,
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

/// What the store says about a session.
struct Look {
    held: Option<CurrentTokens>,
    lasting: Option<Lasting>,
    /// The current access token is not known to have followed the last one that was seen without a revocation between.
    is_broken: bool,
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
        let asked_at = Instant::now();
        let asked_at_ms = self.lifetimes.clock.unix_now_ms();
        let stamp = self.lifetimes.stamp(&self.key.0);
        self.asked_at = Some(asked_at);
        // The store gets some time in any case: it may be this process that was suspended.
        let patience = self.confirmed + self.lifetimes.patience();
        let until = patience.max(asked_at + self.lifetimes.interval.min(RETRY_INTERVAL));
        match timeout_at(until, self.look()).await {
            Ok(Ok(Look { held, lasting, is_broken })) => {
                self.stamp = stamp;
                self.confirmed = asked_at;
                self.due = asked_at + jittered(self.lifetimes.interval);
                let previous = held.and_then(|held| held.previous_access).and_then(|previous| {
                    let end_ms = self.lifetimes.grace_end_ms(previous.age, asked_at_ms)?;
                    Some((previous.digest, end_ms))
                });
                let replaced = held.and_then(|held| held.previous_access).map(|previous| previous.digest);
                let held = held.and_then(|held| held.access);
                let reason = self.why(held, is_broken && replaced.is_none()).await;
                self.seen = held;
                let breaks = self.answers.borrow().breaks + u64::from(is_broken);
                let asked_at = Some(asked_at);
                return self.tell(Answer { held, previous, replaced, breaks, lasting, reason, asked_at });
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
            let latest = *self.answers.borrow();
            self.tell(Answer {
                held: None,
                previous: None,
                replaced: None,
                lasting: None,
                reason: EndReason::Unconfirmed,
                asked_at: Some(Instant::now()),
                ..latest
            });
        }
    }

    /// Asks for the current tokens, and for the end of the access token if that is a new one of a session that is followed.
    async fn look(&self) -> Result<Look, StoreError> {
        let (client_id, session) = &self.key;
        let store = &self.lifetimes.store;
        let latest = *self.answers.borrow();
        for _ in 0..MOST_LOOKS {
            let held = store.load(client_id, Some(session)).await?;
            let is_broken = self.is_broken(held).await?;
            let Some(access) = held.and_then(|held| held.access) else {
                return Ok(Look { held, lasting: None, is_broken });
            };
            let known = latest.lasting.filter(|token| token.digest == access);
            let is_new = self.is_owed || latest.held != Some(access);
            if known.is_some() || !is_new || !self.is_followed.load(Ordering::Acquire) {
                return Ok(Look { held, lasting: known, is_broken });
            }
            match self.lasting(store.pair_of(client_id, session).await?) {
                // It was replaced in the meantime.
                Some(token) if token.digest != access => {}
                lasting => return Ok(Look { held, lasting, is_broken }),
            }
        }
        Err(StoreError::new(StoreErrorKind::TimedOut, "the session changed whenever it was looked at"))
    }

    /// Returns true unless the current access token is the one that was seen last, or has replaced that: after a revocation of access tokens
    /// alone, a refresh replaces none. If more than one refresh was missed, a revocation may have been between them. A store that does not
    /// keep replaced tokens cannot tell.
    async fn is_broken(&self, held: Option<CurrentTokens>) -> Result<bool, StoreError> {
        let access = held.and_then(|held| held.access);
        if access.is_none() || self.seen.is_none() {
            return Ok(true);
        }
        match held.and_then(|held| held.previous_access) {
            _ if access == self.seen => Ok(false),
            Some(previous) => Ok(self.seen != Some(previous.digest)),
            None => Ok(self.lifetimes.store.promises().await?.access_grace),
        }
    }

    /// Returns the access token of a pair, if it is one of this session and has not expired.
    fn lasting(&self, pair: Option<StoredPair>) -> Option<Lasting> {
        let (client_id, session) = &self.key;
        let claims = self.lifetimes.reader.open(&pair?.access_token?, self.lifetimes.clock.unix_now())?;
        (claims.client_id() == client_id && session_of(&claims) == session).then(|| Lasting::new(&claims))
    }

    /// Returns the reason why permits of other tokens than the one that is held have ended.
    async fn why(&self, held: Option<TokenDigest>, has_replaced_none: bool) -> EndReason {
        let latest = *self.answers.borrow();
        match held {
            None => EndReason::Revoked,
            Some(_) if held == latest.held && !self.is_owed => latest.reason,
            Some(_) => match timeout(RETRY_INTERVAL, self.status()).await.unwrap_or_default() {
                Some(SessionStatus::Live) if !has_replaced_none => EndReason::Superseded,
                Some(_) => EndReason::Revoked,
                None => EndReason::Superseded,
            },
        }
    }

    /// Returns the status of the session, as far as the store can tell: the client may have another one.
    async fn status(&self) -> Option<SessionStatus> {
        let (client_id, session) = &self.key;
        let filter = SessionFilter {
            client_id: Some(client_id.clone()),
            session: Some(session.clone()),
            ..SessionFilter::default()
        };
        let page = self.lifetimes.store.list(&filter).await.unwrap_or_default();
        page.sessions.iter().find(|entry| entry.session == *session).map(|entry| entry.status)
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

/// Returns three quarters of a time and up to a quarter more, so that the store is not asked for all sessions at once.
fn jittered(time: Duration) -> Duration {
    let share = u32::from(random_bytes::<1>()[0]);
    time * 3 / 4 + time / 4 * share / 256
}
