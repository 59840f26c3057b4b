//! Checks that a token store answers, for endpoints of health.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{StoreError, StoreErrorKind, TokenStore};

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long its answer counts, and so at most how often it is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// Asks a store whether it is up, at most once a second however many callers ask: for a health endpoint of your own.
///
/// It asks in a task of its own, and so needs a tokio runtime with its time driver.
#[derive(Debug)]
pub struct StoreHealth {
    store: Arc<dyn TokenStore>,
    latest: Mutex<Option<Question>>,
}

/// A question to the store.
#[derive(Debug)]
struct Question {
    asked_at: Instant,
    /// True if the store answered; `None` until that is known.
    is_up: watch::Receiver<Option<bool>>,
}

impl Question {
    /// Asks in a task of its own, so that a client that disconnects does not cancel it for the others.
    fn ask(store: Arc<dyn TokenStore>) -> Self {
        let (answered, is_up) = watch::channel(None);
        tokio::spawn(async move {
            let answer = match timeout(PATIENCE, store.check()).await {
                Ok(answer) => answer,
                Err(_) => Err(StoreError::new(StoreErrorKind::TimedOut, "no answer within two seconds")),
            };
            if let Err(error) = &answer {
                let kind = error.kind().code();
                let error = error.with_causes();
                tracing::error!(target: "fastauth", kind, error, "health: the token store is unavailable");
            }
            answered.send_replace(Some(answer.is_ok()));
        });
        Self { asked_at: Instant::now(), is_up }
    }

    fn is_recent(&self) -> bool {
        self.asked_at.elapsed() < PERIOD || self.is_under_way()
    }

    fn is_under_way(&self) -> bool {
        self.is_up.borrow().is_none() && self.is_up.has_changed().is_ok()
    }
}

impl StoreHealth {
    /// Creates the health of a store, which is not asked yet.
    pub fn new(store: Arc<dyn TokenStore>) -> Self {
        Self { store, latest: Mutex::default() }
    }

    /// Returns true if the store [answers](TokenStore::check), after at most two seconds. The answer may be a second old.
    pub async fn is_up(&self) -> bool {
        answer(self.ask(Question::is_recent)).await
    }

    /// Returns true if the store answers now: only a question that is under way is shared.
    pub(crate) async fn is_up_now(&self) -> bool {
        answer(self.ask(Question::is_under_way)).await
    }

    /// Returns the latest question if it `counts`, or else asks a new one.
    fn ask(&self, counts: fn(&Question) -> bool) -> watch::Receiver<Option<bool>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(question) if counts(question) => question.is_up.clone(),
            _ => latest.insert(Question::ask(Arc::clone(&self.store))).is_up.clone(),
        }
    }
}

async fn answer(mut is_up: watch::Receiver<Option<bool>>) -> bool {
    let answer = is_up.wait_for(Option::is_some).await;
    answer.is_ok_and(|answer| *answer == Some(true))
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::store::{
        CurrentTokens, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreFuture, StoredPair,
        TokenRecord,
    };

    /// A store that answers after a while, and counts how often it is asked.
    #[derive(Debug)]
    struct Slow {
        takes: Duration,
        is_up: bool,
        asked: AtomicUsize,
    }

    impl TokenStore for Slow {
        fn load<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                sleep(self.takes).await;
                if self.is_up { Ok(None) } else { Err(StoreError::new(StoreErrorKind::Unreachable, "away")) }
            })
        }

        fn pair<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
            Box::pin(pending())
        }

        fn save<'a>(&'a self, _: &'a TokenRecord, _: SaveOptions) -> StoreFuture<'a, Saved> {
            Box::pin(pending())
        }

        fn rotate<'a>(&'a self, _: &'a Rotation) -> StoreFuture<'a, Rotated> {
            Box::pin(pending())
        }

        fn revoke<'a>(&'a self, _: &'a Revocation, _: Option<u64>) -> StoreFuture<'a, Revoked> {
            Box::pin(pending())
        }

        fn promises(&self) -> StoreFuture<'_, Promises> {
            Box::pin(pending())
        }
    }

    impl Slow {
        fn new(takes: Duration, is_up: bool) -> Arc<Self> {
            Arc::new(Self { takes, is_up, asked: AtomicUsize::new(0) })
        }

        fn probe(self: &Arc<Self>) -> Arc<StoreHealth> {
            Arc::new(StoreHealth::new(Arc::clone(self) as _))
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_questions_are_one_call() {
        let store = Slow::new(Duration::from_millis(100), true);
        let probe = store.probe();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let probe = Arc::clone(&probe);
            callers.spawn(async move { probe.is_up().await });
        }
        assert_eq!(callers.join_all().await, [true; 100]);
        assert!(probe.is_up().await);
        assert_eq!(store.asked(), 1);
        advance(PERIOD).await;
        assert!(probe.is_up().await);
        assert_eq!(store.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn disconnecting_client_does_not_cancel_the_question() {
        let store = Slow::new(Duration::from_millis(1500), true);
        let probe = store.probe();
        for _ in 0..10 {
            let hurried = timeout(Duration::from_millis(100), probe.is_up()).await;
            assert!(hurried.is_err(), "the store takes longer");
        }
        assert!(probe.is_up().await);
        assert_eq!(store.asked(), 1, "a question that is under way is not put again");
    }

    #[tokio::test(start_paused = true)]
    async fn unreachable_or_silent_store_is_down() {
        for (takes, is_up) in [(Duration::ZERO, false), (Duration::from_secs(3600), true)] {
            let probe = Slow::new(takes, is_up).probe();
            let started = Instant::now();
            assert!(!probe.is_up().await);
            assert!(started.elapsed() <= PATIENCE + Duration::from_millis(10));
        }
    }
}
