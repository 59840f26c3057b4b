//! The clock by which tokens are issued and verified.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How far the clock may be behind, in milliseconds, unless the machine stands still: one tick of the Linux kernel, of which there
/// are at least a hundred a second.
pub(crate) const MAX_DELAY_MS: u64 = 10;

/// The system's clock, or with the feature `test-util` a clock that a test sets in code.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    #[cfg(feature = "test-util")]
    manual: Option<crate::manual_clock::ManualClock>,
}

impl Clock {
    /// Returns the seconds since the Unix epoch.
    pub fn unix_now(&self) -> u64 {
        self.unix_now_ms() / 1000
    }

    /// Returns the milliseconds since the Unix epoch, at most ten behind. If the clock is before the epoch, every
    /// token has expired.
    #[inline]
    pub fn unix_now_ms(&self) -> u64 {
        #[cfg(feature = "test-util")]
        if let Some(manual) = &self.manual {
            return unix_ms(manual.now());
        }
        system_ms()
    }

    /// Waits for at most this time. The caller then looks at the clock again, since a test may set its clock at any moment.
    pub async fn wait_up_to(&self, time: Duration) {
        #[cfg(feature = "test-util")]
        let time = if self.is_manual() { time.min(Duration::from_millis(5)) } else { time };
        tokio::time::sleep(time).await;
    }

    /// Returns the time since some fixed moment, which does not change when the system's clock is set.
    pub fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        #[cfg(feature = "test-util")]
        if let Some(manual) = &self.manual {
            return manual.elapsed();
        }
        START.elapsed()
    }
}

// The time of the kernel's last tick: every guarded request reads it, and the exact time takes three times as long.
#[cfg(target_os = "linux")]
#[inline]
fn system_ms() -> u64 {
    let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE) else {
        return unix_ms(SystemTime::now());
    };
    let whole = u64::try_from(time.tv_sec()).map(|seconds| seconds.saturating_mul(1000));
    let rest = u64::try_from(time.tv_nsec()).unwrap_or_default() / 1_000_000;
    whole.map_or(u64::MAX, |whole| whole.saturating_add(rest))
}

#[cfg(not(target_os = "linux"))]
#[inline]
fn system_ms() -> u64 {
    unix_ms(SystemTime::now())
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(u64::MAX, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(feature = "test-util")]
impl Clock {
    /// Creates a clock that a test sets.
    #[must_use]
    pub fn set_by(manual: &crate::manual_clock::ManualClock) -> Self {
        Self { manual: Some(manual.clone()) }
    }

    /// Returns true if a test sets the clock.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.manual.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_the_systems_unless_set() {
        let clock = Clock::default();
        let before = unix_ms(SystemTime::now());
        let now_ms = clock.unix_now_ms();
        // A busy machine ticks late.
        assert!((before - 1000..=unix_ms(SystemTime::now())).contains(&now_ms));
        let (elapsed, start) = (clock.elapsed(), Instant::now());
        while start.elapsed().is_zero() {}
        assert!(clock.elapsed() > elapsed);
    }

    #[cfg(not(feature = "test-util"))]
    #[test]
    fn clock_takes_no_room_without_test_util() {
        assert_eq!(size_of::<Clock>(), 0);
    }
}
