//! Whether the parts that the guard needs are there: what the health endpoint answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    observe,
    store::{StoreError, StoreErrorKind, TokenStore},
};

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long its answer counts, and so how often it is asked at the most.
const PERIOD: Duration = Duration::from_secs(1);

/// Asks the store whether it is there, once a second at the most however many want to know.
#[derive(Debug, Default)]
pub(crate) struct Health {
    latest: Mutex<Option<Probe>>,
}

/// A question to the store.
#[derive(Debug)]
struct Probe {
    asked_at: Instant,
    /// Whether the store answered; `None` until that is known.
    answers: watch::Receiver<Option<bool>>,
}

impl Probe {
    /// A task of its own asks, so that no client that leaves takes the answer away from the others.
    fn start(store: Arc<dyn TokenStore>) -> Self {
        let (answered, answers) = watch::channel(None);
        tokio::spawn(async move {
            let late = |_| Err(StoreError::new(StoreErrorKind::TimedOut, "no answer within two seconds"));
            let answer = timeout(PATIENCE, store.check()).await.unwrap_or_else(late);
            let failed = answer.as_ref().err();
            failed.inspect(|error| observe::store_trouble(error, "health"));
            answered.send_replace(Some(failed.is_none()));
        });
        Self { asked_at: Instant::now(), answers }
    }

    fn is_recent(&self) -> bool {
        self.asked_at.elapsed() < PERIOD || self.is_under_way()
    }

    fn is_under_way(&self) -> bool {
        self.answers.borrow().is_none() && self.answers.has_changed().is_ok()
    }
}

impl Health {
    /// Whether the store answers, in two seconds at the most.
    pub(crate) async fn of_store(&self, store: &Arc<dyn TokenStore>) -> bool {
        answer(self.probe(store, Probe::is_recent)).await
    }

    /// The same of this very moment: only a question that is under way is not put again.
    pub(crate) async fn of_store_now(&self, store: &Arc<dyn TokenStore>) -> bool {
        answer(self.probe(store, Probe::is_under_way)).await
    }

    /// The latest question if it `counts`, and else a new one.
    fn probe(&self, store: &Arc<dyn TokenStore>, counts: fn(&Probe) -> bool) -> watch::Receiver<Option<bool>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(probe) if counts(probe) => probe.answers.clone(),
            _ => latest.insert(Probe::start(Arc::clone(store))).answers.clone(),
        }
    }
}

async fn answer(mut answers: watch::Receiver<Option<bool>>) -> bool {
    let answer = answers.wait_for(Option::is_some).await;
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
        Canonical, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreFuture, StoredPair,
        TokenRecord,
    };

    /// Answers after a while with what it is told, and counts how often it is asked.
    #[derive(Debug)]
    struct Slow {
        takes: Duration,
        is_there: bool,
        asked: AtomicUsize,
    }

    impl TokenStore for Slow {
        fn load<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                sleep(self.takes).await;
                if self.is_there { Ok(None) } else { Err(StoreError::new(StoreErrorKind::Unreachable, "away")) }
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

    fn slow(takes: Duration, is_there: bool) -> (Arc<Slow>, Arc<dyn TokenStore>) {
        let store = Arc::new(Slow { takes, is_there, asked: AtomicUsize::new(0) });
        (Arc::clone(&store), store)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_is_one() {
        let (slow, store) = slow(Duration::from_millis(100), true);
        let health = Arc::new(Health::default());
        let ask = |_| {
            let (health, store) = (Arc::clone(&health), Arc::clone(&store));
            tokio::spawn(async move { health.of_store(&store).await })
        };
        let askers: Vec<_> = (0..100).map(ask).collect();
        for asker in askers {
            assert!(asker.await.unwrap());
        }
        assert!(health.of_store(&store).await);
        assert_eq!(slow.asked.load(Ordering::Relaxed), 1);
        advance(PERIOD).await;
        assert!(health.of_store(&store).await);
        assert_eq!(slow.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_nothing_away() {
        let (slow, store) = slow(Duration::from_millis(1500), true);
        let health = Health::default();
        for _ in 0..10 {
            let hurried = timeout(Duration::from_millis(100), health.of_store(&store)).await;
            assert!(hurried.is_err(), "the store takes longer");
        }
        assert!(health.of_store(&store).await);
        assert_eq!(slow.asked.load(Ordering::Relaxed), 1, "a question that is under way is not put again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_or_silent_does_not_answer() {
        for (takes, is_there) in [(Duration::ZERO, false), (Duration::from_secs(3600), true)] {
            let (_, store) = slow(takes, is_there);
            let started = Instant::now();
            assert!(!Health::default().of_store(&store).await);
            assert!(started.elapsed() <= PATIENCE + Duration::from_millis(10));
        }
    }
}
