//! How long calls may take.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The limits of the calls to one store, which follow from that of a write.
pub(super) struct Limits {
    write_ms: AtomicU64,
}

/// The limits of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeLimits {
    /// Of a write in all, with what is asked after it.
    pub(super) write: Duration,
    /// Of a look-up in all, with its second try.
    pub(super) look_up: Duration,
    /// Of one try of a look-up.
    pub(super) attempt: Duration,
}

impl Limits {
    pub(super) fn new(write: Duration) -> Self {
        let limits = Self { write_ms: AtomicU64::new(0) };
        limits.set(write);
        limits
    }

    pub(super) fn set(&self, write: Duration) {
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
        let write_ms = u64::try_from(write.min(LONGEST).as_millis()).unwrap_or_default();
        self.write_ms.store(write_ms, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> TimeLimits {
        let write = Duration::from_millis(self.write_ms.load(Ordering::Relaxed));
        TimeLimits { write, look_up: write * 2 / 5, attempt: write / 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastauth_core::store::HTTP_PATIENCE;

    #[test]
    fn a_look_up_is_one_try_of_a_second_and_a_fifth_for_another() {
        let limits = Limits::new(HTTP_PATIENCE).get();
        let in_ms = [limits.write, limits.look_up, limits.attempt].map(|limit| limit.as_millis());
        assert_eq!(in_ms, [3000, 1200, 1000]);
        Limits::new(Duration::MAX).get();
    }
}
