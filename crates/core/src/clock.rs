//! The time by which tokens are issued and judged.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How far the time is behind at the most, but where the machine stands still: a tick of the kernel, of which Linux has a
/// hundred a second or more.
pub const MAX_DELAY_MS: u64 = 10;

/// The system's time. With the feature `test-util`, and only by code, it is one that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    #[cfg(feature = "test-util")]
    manual: Option<crate::manual_clock::ManualClock>,
}

impl Clock {
    /// The seconds since the Unix epoch.
    pub fn unix_now(&self) -> u64 {
        self.unix_now_ms() / 1000
    }

    /// The milliseconds since the Unix epoch, [ten](MAX_DELAY_MS) behind at the most. With a clock before the epoch, every
    /// token has expired.
    #[inline]
    pub fn unix_now_ms(&self) -> u64 {
        #[cfg(feature = "test-util")]
        if let Some(manual) = &self.manual {
            return unix_ms(manual.now());
        }
        system_ms()
    }

    /// Waits for this much time or less: whoever waits looks at the clock again. A clock that a test sets may be set any moment.
    pub async fn wait_up_to(&self, time: Duration) {
        #[cfg(feature = "test-util")]
        let time = if self.is_manual() { time.min(Duration::from_millis(5)) } else { time };
        tokio::time::sleep(time).await;
    }

    /// How much time has passed since some moment, which no setting of the system's time changes.
    pub fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        #[cfg(feature = "test-util")]
        if let Some(manual) = &self.manual {
            return manual.elapsed();
        }
        START.elapsed()
    }
}

/// As of the kernel's last tick: every guarded request asks for it, and the exact time takes some three times as long.
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
    pub fn set_by(manual: &crate::manual_clock::ManualClock) -> Self {
        Self { manual: Some(manual.clone()) }
    }

    pub fn is_manual(&self) -> bool {
        self.manual.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_systems_unless_it_is_set() {
        let clock = Clock::default();
        let before = unix_ms(SystemTime::now());
        let now_ms = clock.unix_now_ms();
        // A machine that has a lot to do ticks late.
        assert!((before - 1000..=unix_ms(SystemTime::now())).contains(&now_ms));
        let (elapsed, start) = (clock.elapsed(), Instant::now());
        while start.elapsed().is_zero() {}
        assert!(clock.elapsed() > elapsed);
    }

    #[cfg(not(feature = "test-util"))]
    #[test]
    fn there_is_nothing_to_set() {
        assert_eq!(size_of::<Clock>(), 0);
    }
}
