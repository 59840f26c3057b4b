//! A clock that a test sets.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A clock that stands still until a test sets or advances it. A clone is another handle on the same clock.
///
/// With `SettingsBuilder::clock`, it is the clock by which tokens are issued and verified, the clock of `cache-ttl`,
/// `cryptography-key-signs-from` and rate limits, and the clock of the embedded store. Other stores have their own clock:
/// [`MemoryStore::with_clock`](crate::store::MemoryStore::with_clock) takes this one, so that `refresh-grace` goes by it. Timeouts
/// of bodies and of calls to a REST store go by tokio's clock (`tokio::time::pause`).
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
    /// The number of reads of the time.
    reads: usize,
}

impl ManualClock {
    /// Creates a clock at the system's present time.
    #[must_use]
    pub fn new() -> Self {
        Self::at(SystemTime::now())
    }

    /// Creates a clock at this time.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Times { now, elapsed: Duration::ZERO, reads: 0 })))
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.with(|times| {
            times.reads += 1;
            times.now
        })
    }

    /// Advances the clock.
    ///
    /// # Panics
    ///
    /// If the system cannot represent the time.
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

    /// Sets the time. If it is later, the time between passes, as by [`advance`](Self::advance). If it is earlier, no time passes, as
    /// when the system's clock is set back.
    pub fn set(&self, now: SystemTime) {
        self.with(|times| {
            let passed = now.duration_since(times.now).unwrap_or_default();
            (times.now, times.elapsed) = (now, times.elapsed.saturating_add(passed));
        });
    }

    /// Returns the number of reads of the time since the last call.
    #[doc(hidden)]
    pub fn reads(&self) -> usize {
        self.with(|times| std::mem::take(&mut times.reads))
    }

    /// Returns the time that has passed by this clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.with(|times| times.elapsed)
    }

    // Nothing can panic while it is locked, so a poisoned lock still guards whole times.
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
    fn time_passes_only_forwards() {
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
    fn advancing_past_the_end_of_time_panics() {
        ManualClock::new().advance(Duration::MAX);
    }
}
