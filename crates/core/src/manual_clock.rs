//! A clock that tests set.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A clock that stands still until it is told otherwise. A clone is another handle on the same clock.
///
/// Given to [`SettingsBuilder::clock`](https://docs.rs/fastauth/latest/fastauth/struct.SettingsBuilder.html#method.clock), it is what tokens are issued and verified by, what `cache-ttl`,
/// `cryptography-key-signs-from` and rate limits go by, and the time in the embedded store. A store of the application's own
/// has a clock of its own: [`MemoryStore::with_clock`](crate::store::MemoryStore::with_clock) takes this one, so that `refresh-grace`
/// goes by it. Timeouts, of bodies and of calls to a REST store, are by tokio's clock (`tokio::time::pause`).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// # mod fastauth { pub use fastauth_core::manual_clock as test_util; }
/// use fastauth::test_util::ManualClock;
///
/// let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
/// let start = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), start + Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Mutex<Times>>);

struct Times {
    now: SystemTime,
    elapsed: Duration,
    /// How often somebody asked for the time.
    reads: usize,
}

impl ManualClock {
    /// A clock at the system's present time.
    #[must_use]
    pub fn new() -> Self {
        Self::at(SystemTime::now())
    }

    /// A clock at this time.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Times { now, elapsed: Duration::ZERO, reads: 0 })))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.with(|times| {
            times.reads += 1;
            times.now
        })
    }

    /// Lets this much time pass.
    ///
    /// # Panics
    ///
    /// Where the system has no such time.
    #[track_caller]
    pub fn advance(&self, by: Duration) {
        let was_possible = self.with(|times| match times.now.checked_add(by) {
            Some(now) => {
                (times.now, times.elapsed) = (now, times.elapsed.saturating_add(by));
                true
            }
            None => false,
        });
        assert!(was_possible, "the clock cannot be advanced by {by:?}: there is no such time");
    }

    /// Sets the time. Forwards, the time between passes, as by [`advance`](Self::advance). Backwards, none does: that is
    /// what happens where somebody sets the clock of the system back.
    pub fn set(&self, now: SystemTime) {
        self.with(|times| {
            let passed = now.duration_since(times.now).unwrap_or_default();
            (times.now, times.elapsed) = (now, times.elapsed.saturating_add(passed));
        });
    }

    /// How often somebody has asked for the time since this was asked.
    #[doc(hidden)]
    pub fn reads(&self) -> usize {
        self.with(|times| std::mem::take(&mut times.reads))
    }

    pub fn elapsed(&self) -> Duration {
        self.with(|times| times.elapsed)
    }

    /// Nothing can panic while it is locked, so a poisoned lock still guards whole times.
    fn with<T>(&self, work: impl FnOnce(&mut Times) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_forwards_alone() {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        let minute = Duration::from_secs(60);
        clock.advance(minute);
        clock.clone().set(SystemTime::UNIX_EPOCH + 3 * minute);
        assert_eq!((clock.now(), clock.elapsed()), (SystemTime::UNIX_EPOCH + 3 * minute, 3 * minute));
        clock.set(SystemTime::UNIX_EPOCH);
        assert_eq!((clock.now(), clock.elapsed()), (SystemTime::UNIX_EPOCH, 3 * minute));
    }

    #[test]
    #[should_panic(expected = "there is no such time")]
    fn there_is_an_end_of_time() {
        ManualClock::new().advance(Duration::MAX);
    }
}
