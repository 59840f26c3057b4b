//! Bounds the calls to a store and the requests that wait for one: look-ups, writes and revocations apart, so that neither a store that
//! does not answer nor a storm of log-ins takes what the others need.

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::news::{CallNews, News};
use fastauth_core::store::{StoreError, StoreErrorKind};

/// Slots of revocations.
const REVOKING: usize = 16;

/// The bounds by what a request is for.
pub(super) struct Slots {
    /// Look-ups that a protected request waits for.
    pub(super) verifying: Lane,
    /// What the token endpoints and administrators ask for.
    pub(super) issuing: Lane,
    pub(super) revoking: Lane,
}

/// The bounds of one kind of requests.
pub(super) struct Lane {
    name: &'static str,
    news: News,
    /// For each call.
    calls: Semaphore,
    /// For each request, whether it calls the store itself, shares the call of another one, or waits for its turn.
    requests: Semaphore,
}

impl Slots {
    pub(super) fn new(news: &News) -> Self {
        let descriptors = descriptors().unwrap_or(usize::MAX);
        let share = |part: usize, fewest: usize, most: usize| (descriptors / part).clamp(fewest, most);
        Self {
            verifying: Lane::new("verify", news, share(8, 16, 256), share(2, 64, 4096)),
            issuing: Lane::new("issue", news, share(32, 8, 64), share(4, 32, 1024)),
            revoking: Lane::new("revoke", news, REVOKING, share(4, 32, 1024)),
        }
    }
}

impl Lane {
    fn new(name: &'static str, news: &News, calls: usize, requests: usize) -> Self {
        Self { name, news: news.clone(), calls: Semaphore::new(calls), requests: Semaphore::new(requests) }
    }

    /// Takes the place of a request.
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.requests.try_acquire().map_err(|_| self.full())
    }

    /// Takes the slot of a call, as soon as there is one. Few wait, for each has a place.
    pub(super) async fn slot(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.calls.acquire().await.map_err(|_: AcquireError| self.full())
    }

    fn full(&self) -> StoreError {
        self.news.tell(CallNews::Refused { lane: self.name });
        let message = format!("too many requests wait for the token store ({})", self.name);
        StoreError::new(StoreErrorKind::Busy, message)
    }
}

/// Returns the limit of descriptors, if the system is a Linux that tells it. Each request may take one, and each call two for its
/// connections.
fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match limit.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_full_lane_refuses_at_once_and_leaves_the_others() {
        let lane = |name| Lane::new(name, &News::default(), 1, 2);
        let slots = Slots { verifying: lane("verify"), issuing: lane("issue"), revoking: lane("revoke") };
        let lane = &slots.issuing;
        let places = [lane.enter().expect("free"), lane.enter().expect("free")];
        let slot = lane.slot().await.expect("free");
        let mut waiting = Box::pin(lane.slot());
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(lane.enter().expect_err("full").kind(), StoreErrorKind::Busy);
        for other in [&slots.verifying, &slots.revoking] {
            assert!(other.enter().is_ok() && other.slot().now_or_never().is_some_and(|slot| slot.is_ok()));
        }
        drop(slot);
        assert!(waiting.await.is_ok());
        drop(places);
        assert!(lane.enter().is_ok());
    }
}
