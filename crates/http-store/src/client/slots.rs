//! Bounds the calls that wait for a store, so that one that does not answer cannot take all that the process has.

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

/// A store is silent if calls wait for it and none was answered for so long.
const SILENCE: Duration = Duration::from_secs(1);

/// Slots of revocations, which go first.
const REVOKING: usize = 16;

/// The slots of calls that wait for a store.
///
/// While the store answers, a call that finds no free slot gets one soon. While it is silent, the calls that have a slot wait for as
/// long as a call may take, and all others are refused at once, until it answers again.
pub(super) struct Slots {
    usual: Semaphore,
    revoking: Semaphore,
    /// Those of calls that wait for the end of another call.
    queueing: Semaphore,
    heard: Mutex<Heard>,
}

#[derive(Clone, Copy)]
struct Heard {
    last: Instant,
    is_silent: bool,
    /// The number of calls that have a slot or wait for one.
    waiting: usize,
}

/// The slot of one call, which is free when this is dropped.
pub(super) struct CallSlot<'a> {
    _permit: SemaphorePermit<'a>,
    _waiting: Waiting<'a>,
}

/// A call that has a slot or waits for one.
struct Waiting<'a>(&'a Slots);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            usual: Semaphore::new(count),
            revoking: Semaphore::new(REVOKING),
            queueing: Semaphore::new(count),
            // A store that has not been asked yet owes no answer.
            heard: Mutex::new(Heard { last: Instant::now(), is_silent: false, waiting: 0 }),
        }
    }

    /// Takes a slot.
    pub(super) async fn take(&self) -> Result<CallSlot<'_>, StoreError> {
        self.take_of(&self.usual).await
    }

    /// Takes a slot for a revocation.
    pub(super) async fn take_to_revoke(&self) -> Result<CallSlot<'_>, StoreError> {
        self.take_of(&self.revoking).await
    }

    async fn take_of<'a>(&'a self, slots: &'a Semaphore) -> Result<CallSlot<'a>, StoreError> {
        let waiting = self.enter();
        let permit = match slots.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.patiently(slots.acquire()).await?.map_err(closed)?,
        };
        Ok(CallSlot { _permit: permit, _waiting: waiting })
    }

    /// Waits for the end of another call.
    pub(super) async fn queue<T>(&self, turn: impl Future<Output = T>) -> Result<T, StoreError> {
        match self.queueing.try_acquire() {
            Ok(_slot) => Ok(turn.await),
            Err(_) => self.patiently(turn).await,
        }
    }

    /// Waits for what other calls hold for as long as the store answers.
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
                                target: "fastauth",
                                "the token store does not answer: calls that would have to wait for it are refused"
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
        heard.last = Instant::now();
        heard.is_silent = false;
    }

    /// Starts the clock with the first call, for before that there was no answer to wait for.
    fn enter(&self) -> Waiting<'_> {
        let mut heard = self.lock();
        if heard.waiting == 0 && !heard.is_silent {
            heard.last = Instant::now();
        }
        heard.waiting += 1;
        Waiting(self)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many calls may wait: an eighth of the descriptors that the process may have, for each may take one for the request
/// that it serves and two for its connections.
pub(super) fn count() -> usize {
    const MOST: usize = 512;
    const FEWEST: usize = 16;
    descriptors().map_or(MOST / 8, |limit| (limit / 8).clamp(FEWEST, MOST))
}

/// Returns the limit of descriptors, if the system is a Linux that tells it.
fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match limit.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        soft => soft.parse().ok(),
    }
}

fn silent() -> StoreError {
    const MESSAGE: &str = "the token store does not answer, and the limit of calls that wait for it is reached";
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
    async fn a_call_without_a_slot_is_refused_when_the_store_is_silent() {
        let slots = Slots::new(2);
        tokio::time::advance(SILENCE * 60).await;
        let first = slots.take().await.expect("free");
        let _second = slots.take().await.expect("free");
        let start = Instant::now();
        assert!(slots.take().await.is_err());
        assert_eq!(start.elapsed().as_secs(), SILENCE.as_secs(), "from the first call on");
        assert!(matches!(slots.take().now_or_never(), Some(Err(_))), "and then at once");
        let revoking = slots.take_to_revoke().await.expect("it has a slot of its own");
        drop((first, revoking));
        let _third = slots.take().await.expect("free");
        assert!(matches!(slots.take().now_or_never(), Some(Err(_))), "it is as silent as before");
        slots.hear();
        assert!(slots.take().now_or_never().is_none(), "it may answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_idle_is_not_silent_to_revocations() {
        let slots = Slots::new(2);
        tokio::time::advance(SILENCE * 60).await;
        let mut revoking = Vec::new();
        for _ in 0..REVOKING {
            revoking.push(slots.take_to_revoke().await.expect("free"));
        }
        let mut next = Box::pin(slots.take_to_revoke());
        assert!((&mut next).now_or_never().is_none(), "it may answer");
        slots.hear();
        revoking.pop();
        assert!(next.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_slot_waits_while_the_store_answers() {
        let slots = Slots::new(1);
        let slot = slots.take().await.expect("free");
        let mut waiting = Box::pin(slots.take());
        for _ in 0..10 {
            assert!((&mut waiting).now_or_never().is_none());
            tokio::time::advance(SILENCE * 3 / 4).await;
            slots.hear();
        }
        drop(slot);
        assert!(waiting.await.is_ok());
    }
}
