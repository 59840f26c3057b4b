//! Until when nothing can have been missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastauth_core::{clock::Clock, store::Changes};

/// A feed is silent if it said nothing for so long, or if its store's database did not.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// How often it is stated until when nothing can be missed, so that it holds though the system's clock is set.
const INTERVAL: Duration = Duration::from_millis(500);

/// The watch over a store by its feed.
#[derive(Clone)]
pub(super) struct Watch {
    changes: Arc<Changes>,
    clock: Clock,
    /// By the clock that is never set, in milliseconds; 0 until the feed was heard.
    until_ms: Arc<AtomicU64>,
}

impl Watch {
    pub(super) fn new(changes: Arc<Changes>, clock: Clock) -> Self {
        Self { changes, clock, until_ms: Arc::default() }
    }

    /// Notes that the feed has just told of all changes that the database had `age` ago.
    pub(super) fn heard(&self, age: Duration) {
        if let Some(left) = SILENCE.checked_sub(age) {
            self.until_ms.fetch_max(self.now_ms() + milliseconds(left), Ordering::AcqRel);
            self.state();
        }
    }

    /// Returns true if the feed can be relied on now.
    pub(super) fn is_live(&self) -> bool {
        self.now_ms() < self.until_ms.load(Ordering::Acquire)
    }

    /// States again and again how things are.
    pub(super) async fn keep_stating(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.state();
        }
    }

    fn state(&self) {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        if until_ms > 0 {
            let now_ms = self.now_ms();
            let unix_ms = (self.clock.unix_now_ms() + until_ms).saturating_sub(now_ms);
            self.changes.fed_until(unix_ms, now_ms);
        }
    }

    /// Returns the time by a clock that is never set.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Returns the seconds since the Unix epoch.
    pub(super) fn unix_now(&self) -> u64 {
        self.clock.unix_now()
    }

    fn now_ms(&self) -> u64 {
        milliseconds(self.now())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
