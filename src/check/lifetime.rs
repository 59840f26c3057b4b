//! When rights end: one task for each log-in that somebody waits for asks the store, and tells all who wait.

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use fastauth_core::settings::TOLERANCE;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::permit::{Access, EndReason};
use crate::{
    clock::Clock,
    random::random_bytes,
    store::{FamilyFilter, FamilyStatus, Stamp, TokenDigest, TokenStore, first},
};

/// How long the wall clock is trusted to go on as the timer does.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two looks at one log-in for what others write: where they do it all the time, each write may concern it.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
/// How soon a store that failed is asked again, at the latest.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Knows when rights end. It does nothing unless somebody waits.
pub(crate) struct Lifetimes {
    store: Arc<dyn TokenStore>,
    clock: Clock,
    /// How often a store is asked that does not tell of changes.
    interval: Duration,
    least_interval: Duration,
    /// By client and family, as long as somebody waits.
    logins: Mutex<HashMap<Key, Weak<Login>>>,
}

/// Client and family.
type Key = (String, String);

impl Lifetimes {
    pub(crate) fn new(store: Arc<dyn TokenStore>, clock: Clock, interval: Duration) -> Self {
        Self { store, clock, interval, least_interval: LEAST_INTERVAL, logins: Mutex::default() }
    }

    pub(crate) fn stamp(&self, client_id: &str) -> Option<Stamp> {
        self.store.changes().map(|changes| changes.stamp(client_id))
    }

    /// Whether nothing can have happened since then, whoever did it.
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

    /// Waits for such a change that this process makes.
    async fn changed_here_since(&self, stamp: Option<Stamp>) {
        match stamp.zip(self.store.changes()) {
            Some((stamp, changes)) => changes.changed_here_since(stamp).await,
            None => pending().await,
        }
    }

    /// How long a right lasts that the store does not confirm.
    fn patience(&self) -> Duration {
        self.interval * TOLERANCE
    }

    fn login(self: &Arc<Self>, access: &Access) -> Arc<Login> {
        let key = (access.client_id().to_owned(), access.family().to_owned());
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let known = logins.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let login = Arc::new(Login::watched(self, key.clone(), access));
            logins.insert(key, Arc::downgrade(&login));
            login
        })
    }
}

impl fmt::Debug for Lifetimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetimes").field("interval", &self.interval).finish_non_exhaustive()
    }
}

/// A log-in that somebody waits for the end of.
struct Login {
    key: Key,
    lifetimes: Arc<Lifetimes>,
    answer: watch::Receiver<Answer>,
    /// Asks for a newer answer.
    wanted: Arc<Notify>,
    /// Of the task that asks the store, for as long as anybody waits: not one of those who wait, who may have stopped looking.
    watcher: AbortHandle,
}

/// What the store said of a log-in.
#[derive(Clone, Copy)]
struct Answer {
    /// The canonical access token.
    held: Option<TokenDigest>,
    /// Why the right of any other one has ended.
    reason: EndReason,
    /// When the store was asked.
    asked_at: Instant,
}

impl Login {
    fn watched(lifetimes: &Arc<Lifetimes>, key: Key, access: &Access) -> Self {
        let now = Instant::now();
        // It was confirmed a moment ago.
        let answer = Answer { held: Some(access.digest()), reason: EndReason::Superseded, asked_at: now };
        let (told, answer) = watch::channel(answer);
        let wanted = Arc::new(Notify::new());
        let watcher = Watcher {
            key: key.clone(),
            lifetimes: Arc::clone(lifetimes),
            told,
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

    /// Waits until the store holds something else than a token that was confirmed a moment ago.
    async fn loss_of(&self, token: TokenDigest) -> EndReason {
        let since = Instant::now();
        let mut answers = self.answer.clone();
        loop {
            let answer = *answers.borrow_and_update();
            if answer.held != Some(token) {
                let is_current = match answer.reason {
                    EndReason::Unconfirmed => since.elapsed() >= self.lifetimes.patience(),
                    _ => answer.asked_at >= since,
                };
                if is_current {
                    return answer.reason;
                }
                // Of trouble with the store it is told again and again.
                if answer.reason != EndReason::Unconfirmed {
                    self.wanted.notify_one();
                }
            }
            // Nobody asks any more where the runtime of the task is gone.
            if answers.changed().await.is_err() {
                return EndReason::Unconfirmed;
            }
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.watcher.abort();
        let mut logins = self.lifetimes.logins.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be another one's by now.
        if logins.get(&self.key).is_some_and(|login| login.strong_count() == 0) {
            logins.remove(&self.key);
        }
    }
}

/// Asks the store about one log-in, as often as it has to be asked.
struct Watcher {
    key: Key,
    lifetimes: Arc<Lifetimes>,
    told: watch::Sender<Answer>,
    wanted: Arc<Notify>,
    /// From before the last answer.
    stamp: Option<Stamp>,
    /// When the store was asked last.
    asked_at: Option<Instant>,
    /// When it answered last.
    confirmed: Instant,
    /// When it is to be asked again, unless it tells of changes.
    due: Instant,
    /// Whether somebody waits for the next answer, whatever it is.
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

    /// Waits until the store may say something new. What this process does is looked at without delay.
    async fn is_time(&self) {
        if let Some(asked_at) = self.asked_at {
            let later = sleep_until(self.due.min(asked_at + self.lifetimes.least_interval));
            first(later, self.lifetimes.changed_here_since(self.stamp)).await;
        }
        first(self.lifetimes.changed_since(self.stamp), sleep_until(self.due)).await;
    }

    async fn ask(&mut self) {
        let (client_id, family) = &self.key;
        let asked_at = Instant::now();
        let stamp = self.lifetimes.stamp(client_id);
        self.asked_at = Some(asked_at);
        // A moment for the store at least: it may have been this process that stood still.
        let patience = self.confirmed + self.lifetimes.patience();
        let until = patience.max(asked_at + self.lifetimes.interval.min(RETRY_INTERVAL));
        match timeout_at(until, self.lifetimes.store.load(client_id, Some(family))).await {
            Ok(Ok(held)) => {
                self.stamp = stamp;
                self.confirmed = asked_at;
                self.due = asked_at + jittered(self.lifetimes.interval);
                let held = held.and_then(|held| held.access);
                let reason = self.why(held).await;
                return self.tell(Answer { held, reason, asked_at });
            }
            Ok(Err(error)) => {
                let error = error.with_causes();
                tracing::debug!(target: "fastauth", "the token of something open could not be confirmed: {error}");
            }
            Err(_) => tracing::debug!(target: "fastauth", "the token of something open was not confirmed in time"),
        }
        // What is not known is not forgotten: a change that could not be looked at is looked at later.
        self.stamp = None;
        self.due = asked_at + jittered(self.lifetimes.interval.min(RETRY_INTERVAL));
        if Instant::now() >= patience {
            self.tell(Answer { held: None, reason: EndReason::Unconfirmed, asked_at: Instant::now() });
        }
    }

    /// Why the right of other tokens than the one that is held has ended.
    async fn why(&self, held: Option<TokenDigest>) -> EndReason {
        let told = *self.told.borrow();
        match held {
            None => EndReason::Revoked,
            Some(_) if held == told.held && !self.is_owed => told.reason,
            Some(_) if timeout(RETRY_INTERVAL, self.is_revoked()).await.unwrap_or_default() => EndReason::Revoked,
            Some(_) => EndReason::Superseded,
        }
    }

    /// Whether the family was revoked, though the client has another one. A store that cannot tell does not.
    async fn is_revoked(&self) -> bool {
        let (client_id, family) = &self.key;
        let filter = FamilyFilter {
            client_id: Some(client_id.clone()),
            family: Some(family.clone()),
            ..FamilyFilter::default()
        };
        let page = self.lifetimes.store.list(&filter).await.unwrap_or_default();
        page.families.iter().any(|entry| entry.family == *family && entry.status != FamilyStatus::Live)
    }

    /// Tells who waits, unless they know.
    fn tell(&mut self, answer: Answer) {
        let is_owed = std::mem::take(&mut self.is_owed);
        self.told.send_if_modified(|told| {
            let is_news = is_owed || answer.held.is_none() || told.held != answer.held;
            *told = answer;
            is_news
        });
    }
}

/// Waits until the right to an access ends.
pub(super) async fn end(access: Arc<Access>) -> EndReason {
    let login = access.lifetimes.login(&access);
    first(expiry(access.expires_at(), &access.lifetimes.clock), login.loss_of(access.digest())).await
}

/// Waits until a token has expired, which it has when its last second is over.
async fn expiry(expires_at: u64, clock: &Clock) -> EndReason {
    let end_ms = expires_at.saturating_add(1).saturating_mul(1000);
    loop {
        match end_ms.saturating_sub(clock.unix_now_ms()) {
            0 => return EndReason::Expired,
            left => clock.wait_up_to(Duration::from_millis(left).min(CLOCK_INTERVAL)).await,
        }
    }
}

/// Three quarters of a time, and up to a quarter more, so that not all ask at once.
fn jittered(time: Duration) -> Duration {
    let share = u32::from(random_bytes::<1>()[0]);
    time * 3 / 4 + time / 4 * share / 256
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll},
    };

    use tokio::task::yield_now;

    use super::*;
    use crate::{
        keys::KeyRing,
        secret::Secret,
        store::{Changes, MemoryStore, Revocation, SaveOptions, TokenEntry, TokenRecord},
        token::{Expected, NewToken, TokenType},
    };

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(20);

    /// A log-in of a client that is held by a store in memory, beside which somebody else may write, and the access by it.
    struct Scene {
        store: MemoryStore,
        lifetimes: Arc<Lifetimes>,
        access: Arc<Access>,
    }

    impl Scene {
        async fn new() -> Self {
            let store = MemoryStore::new();
            // What others write is never looked at twice in a test.
            let lifetimes = Lifetimes::new(Arc::new(store.clone()), Clock::default(), Duration::from_secs(3600));
            let lifetimes = Arc::new(Lifetimes { least_interval: Duration::from_secs(3600), ..lifetimes });
            let keys = KeyRing::new(&Secret::generate(), 0, &[]).unwrap();
            let now = Clock::default().unix_now();
            let (token, _) = keys.mint(&NewToken::new("c", TokenType::Access, now, LONG * 100)).unwrap();
            let digest = TokenDigest::of(token.expose());
            let entry = TokenEntry { text: token.clone(), digest, expires_at: 0 };
            let record = TokenRecord {
                client_id: "c".to_owned(),
                family: String::new(),
                generation: 0,
                kid: String::new(),
                access: entry.clone(),
                refresh: entry,
            };
            store.save(&record, SaveOptions::default()).await.unwrap();
            let claims = keys.verify(token.expose().as_bytes(), &Expected::new(TokenType::Access, now)).unwrap();
            let access = Arc::new(Access::new(claims, &lifetimes));
            Self { store, lifetimes, access }
        }

        fn changes(&self) -> &Changes {
            self.store.changes().expect("it tells of changes")
        }

        async fn revoke(&self) {
            self.store.revoke(&Revocation::Client("c".to_owned()), None).await.unwrap();
        }
    }

    /// Counts how often a future is polled.
    struct Counted<F>(Pin<Box<F>>, Arc<AtomicUsize>);

    impl<F: Future> Future for Counted<F> {
        type Output = F::Output;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.as_mut().poll(cx)
        }
    }

    /// Lets every task that has something to do do it.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_this_process_does_is_not_kept_waiting_by_what_others_do() {
        let scene = Scene::new().await;
        let waiting = tokio::spawn(end(Arc::clone(&scene.access)));
        settle().await;
        // The first is looked at, and the next would be in an hour.
        for _ in 0..10 {
            scene.changes().others_changed();
            settle().await;
        }
        scene.revoke().await;
        assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), EndReason::Revoked);
    }

    #[tokio::test]
    async fn what_others_do_wakes_none_of_many_that_wait_for_one_log_in() {
        let scene = Scene::new().await;
        let polls = Arc::new(AtomicUsize::new(0));
        let waiting: Vec<_> = (0..1000)
            .map(|_| tokio::spawn(Counted(Box::pin(end(Arc::clone(&scene.access))), Arc::clone(&polls))))
            .collect();
        settle().await;
        assert_eq!(polls.swap(0, Ordering::Relaxed), 1000);
        for _ in 0..10 {
            scene.changes().others_changed();
            settle().await;
        }
        assert_eq!(polls.swap(0, Ordering::Relaxed), 0);
        scene.revoke().await;
        for waiting in waiting {
            assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), EndReason::Revoked);
        }
        assert!(polls.load(Ordering::Relaxed) <= 2000);
    }

    /// Each has its own moment from which on it counts what the store says.
    #[tokio::test]
    async fn who_comes_later_goes_by_what_is_held_then() {
        let scene = Scene::new().await;
        let first = tokio::spawn(end(Arc::clone(&scene.access)));
        settle().await;
        scene.revoke().await;
        // The one before may not have seen it yet.
        let second = tokio::spawn(end(Arc::clone(&scene.access)));
        for waiting in [first, second, tokio::spawn(end(Arc::clone(&scene.access)))] {
            assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), EndReason::Revoked);
        }
        settle().await;
        assert!(scene.lifetimes.logins.lock().unwrap().is_empty(), "nobody waits, so nothing is kept");
    }
}
