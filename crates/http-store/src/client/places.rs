//! How many may wait for a store, so that one that does not answer cannot take what the process has.

use std::{
    future::Future,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use fastauth_core::store::{StoreError, StoreErrorKind};

/// After how long without any answer, while some are waited for, a store is taken to be silent.
const SILENCE: Duration = Duration::from_secs(1);

/// How many may revoke at once. They have places of their own, for they go first.
const REVOKING: usize = 16;

/// The places of those that wait for a store.
///
/// While the store answers, who finds no place gets one soon. When it is silent, those that have a place wait for as long as
/// a call may take, and all others are refused at once, until it answers again.
pub(super) struct Places {
    usual: Semaphore,
    revoking: Semaphore,
    /// Of those that wait until another call has come to its end.
    queueing: Semaphore,
    heard: Mutex<Heard>,
}

#[derive(Clone, Copy)]
struct Heard {
    last: Instant,
    is_silent: bool,
    /// How many have a place or wait for one.
    waiting: usize,
}

/// A place among those that wait for the store.
pub(super) struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    _entry: Entry<'a>,
}

/// One of those that have a place or wait for one.
struct Entry<'a>(&'a Places);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            usual: Semaphore::new(count),
            revoking: Semaphore::new(REVOKING),
            queueing: Semaphore::new(count),
            // A store that has not been asked yet owes no answer.
            heard: Mutex::new(Heard { last: Instant::now(), is_silent: false, waiting: 0 }),
        }
    }

    /// A place, which is free when it is dropped.
    pub(super) async fn take(&self) -> Result<Place<'_>, StoreError> {
        self.take_of(&self.usual).await
    }

    /// A place for a revocation.
    pub(super) async fn take_to_revoke(&self) -> Result<Place<'_>, StoreError> {
        self.take_of(&self.revoking).await
    }

    async fn take_of<'a>(&'a self, places: &'a Semaphore) -> Result<Place<'a>, StoreError> {
        let entry = self.enter();
        let permit = match places.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.patiently(places.acquire()).await?.map_err(closed)?,
        };
        Ok(Place { _permit: permit, _entry: entry })
    }

    /// Waits for another call to come to its end.
    pub(super) async fn queue<T>(&self, turn: impl Future<Output = T>) -> Result<T, StoreError> {
        match self.queueing.try_acquire() {
            Ok(_place) => Ok(turn.await),
            Err(_) => self.patiently(turn).await,
        }
    }

    /// Waits for what others hold for as long as the store answers.
    async fn patiently<T>(&self, waiting: impl Future<Output = T>) -> Result<T, StoreError> {
        let mut waiting = pin!(waiting);
        loop {
            let end = self.lock().last + SILENCE;
            match timeout_at(end, waiting.as_mut()).await {
                Ok(waited) => return Ok(waited),
                Err(_) => {
                    let mut heard = self.lock();
                    if heard.last + SILENCE <= Instant::now() {
                        if !heard.is_silent {
                            tracing::warn!(
                                "the token store does not answer: what would have to wait for it is refused"
                            );
                        }
                        heard.is_silent = true;
                        return Err(silent());
                    }
                }
            }
        }
    }

    /// Notes that the store answered.
    pub(super) fn hear(&self) {
        let mut heard = self.lock();
        (heard.last, heard.is_silent) = (Instant::now(), false);
    }

    /// Only from the first call on is there an answer to wait for.
    fn enter(&self) -> Entry<'_> {
        let mut heard = self.lock();
        if heard.waiting == 0 && !heard.is_silent {
            heard.last = Instant::now();
        }
        heard.waiting += 1;
        Entry(self)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many may wait: an eighth of the descriptors that the process may have, for each of them may take one for whom it waits
/// and two for its calls.
pub(super) fn count() -> usize {
    const MOST: usize = 512;
    const FEWEST: usize = 16;
    descriptors().map_or(MOST / 8, |limit| (limit / 8).clamp(FEWEST, MOST))
}

#[cfg(target_os = "linux")]
fn descriptors() -> Option<usize> {
    use nix::sys::resource::{Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    usize::try_from(limit).ok()
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> Option<usize> {
    None
}

fn silent() -> StoreError {
    const MESSAGE: &str = "the token store does not answer, and as many calls as may wait for it do so";
    StoreError::new(StoreErrorKind::Unreachable, MESSAGE)
}

fn closed(_: AcquireError) -> StoreError {
    silent()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_refused_when_the_store_is_silent() {
        let places = Places::new(2);
        tokio::time::advance(SILENCE * 60).await;
        let first = places.take().await.expect("free");
        let _second = places.take().await.expect("free");
        let start = Instant::now();
        assert!(places.take().await.is_err());
        assert_eq!(start.elapsed().as_secs(), SILENCE.as_secs(), "from the first call on");
        assert!(matches!(places.take().now_or_never(), Some(Err(_))), "and then at once");
        let revoking = places.take_to_revoke().await.expect("it has a place of its own");
        drop((first, revoking));
        let _third = places.take().await.expect("free");
        assert!(matches!(places.take().now_or_never(), Some(Err(_))), "it is as silent as before");
        places.hear();
        assert!(places.take().now_or_never().is_none(), "it may answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_idle_is_not_silent_to_revocations() {
        let places = Places::new(2);
        tokio::time::advance(SILENCE * 60).await;
        let mut revoking = Vec::new();
        for _ in 0..REVOKING {
            revoking.push(places.take_to_revoke().await.expect("free"));
        }
        let mut next = Box::pin(places.take_to_revoke());
        assert!((&mut next).now_or_never().is_none(), "it may answer");
        places.hear();
        revoking.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_while_the_store_answers() {
        let places = Places::new(1);
        let place = places.take().await.expect("free");
        let mut waiting = Box::pin(places.take());
        for _ in 0..10 {
            assert!((&mut waiting).now_or_never().is_none());
            tokio::time::advance(SILENCE * 3 / 4).await;
            places.hear();
        }
        drop(place);
        assert!(waiting.await.is_ok());
    }
}
