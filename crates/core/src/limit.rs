//! Limits on how often each of many keys does something, in a table that never grows.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock as GovernorClock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};

use crate::clock::Clock;

/// How many keys share a bucket, and how many buckets there are: 65,536 keys in about a megabyte.
const WAYS: usize = 8;
const BUCKETS: usize = 8192;

/// The clock of a [`Limiter`].
#[derive(Clone, Debug)]
pub struct Elapsed(Clock);

impl Elapsed {
    /// Creates one that goes by this clock.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self(clock.clone())
    }
}

impl GovernorClock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A limit on each of many keys: so many times a minute, and so many at once.
pub struct Limiter<C: GovernorClock = Elapsed>(RateLimiter<Visit, Table, C, NoOpMiddleware<C::Instant>>);

impl Limiter {
    /// Creates a limit with nothing counted.
    #[must_use]
    pub fn per_minute(per_minute: NonZeroU32, burst: NonZeroU32, clock: &Clock) -> Self {
        Self::new(Quota::per_minute(per_minute).allow_burst(burst), BUCKETS, Elapsed::new(clock))
    }
}

impl<C: GovernorClock> Limiter<C> {
    fn new(quota: Quota, buckets: usize, clock: C) -> Self {
        Self(RateLimiter::new(quota, Table::new(buckets, quota.replenish_interval()), clock))
    }

    /// Counts a use of a key, or returns how long to wait. Keys are hashes with a random seed, so that no caller can choose one.
    ///
    /// # Errors
    ///
    /// Returns how long the key has to wait if it is beyond its limit.
    pub fn visit(&self, key: u64, charge: Charge) -> Result<(), Duration> {
        self.0.check_key(&Visit { key, charge }).map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

impl<C: GovernorClock> fmt::Debug for Limiter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

/// A look at the state of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Visit {
    key: u64,
    charge: Charge,
}

/// What a visit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    /// Only within the limit.
    IfWithin,
    /// Nothing.
    Never,
    /// Beyond the limit as well.
    Always,
}

/// The state of each key, in a table that never grows.
///
/// A key belongs to one bucket, and the keys are hashes with a random seed, so no caller can choose it. If a bucket is full, a new
/// key replaces the one with the smallest debt: the keys of a flood evict one another and what has hardly been used, and no busy
/// key starts afresh.
struct Table {
    buckets: Box<[Mutex<[Slot; WAYS]>]>,
    /// What one request costs.
    price: Nanos,
}

/// A key and the time at which it will have paid its debt. An empty slot is a key without debt.
#[derive(Clone, Copy, Default)]
struct Slot {
    key: u64,
    paid_at: Nanos,
}

impl Table {
    fn new(buckets: usize, price: Duration) -> Self {
        Self { buckets: std::iter::repeat_with(Mutex::default).take(buckets).collect(), price: price.into() }
    }

    fn bucket(&self, key: u64) -> &Mutex<[Slot; WAYS]> {
        &self.buckets[(key % self.buckets.len() as u64) as usize]
    }
}

impl StateStore for Table {
    type Key = Visit;

    fn measure_and_replace<T, F, E>(&self, Visit { key, charge }: &Visit, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Only arithmetic runs while it is locked, so a poisoned lock still guards whole slots.
        let mut slots = self.bucket(*key).lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter_mut().find(|slot| slot.key == *key);
        let decided = decide(known.as_ref().map(|slot| slot.paid_at));
        if *charge == Charge::Never {
            return decided.map(|(outcome, _)| outcome);
        }
        let (outcome, paid_at) = match (decided, known) {
            (Ok((outcome, paid_at)), Some(slot)) => {
                slot.paid_at = paid_at;
                return Ok(outcome);
            }
            (Ok(decided), None) => decided,
            (Err(refusal), slot) => {
                if let Some(slot) = slot.filter(|_| *charge == Charge::Always) {
                    slot.paid_at = slot.paid_at + self.price;
                }
                return Err(refusal);
            }
        };
        if let Some(slot) = slots.iter_mut().min_by_key(|slot| slot.paid_at) {
            *slot = Slot { key: *key, paid_at };
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    impl Limiter<FakeRelativeClock> {
        fn admit(&self, key: u64) -> Result<(), Duration> {
            self.visit(key, Charge::IfWithin)
        }
    }

    #[test]
    fn checks_count_nothing_and_charges_beyond_the_limit_prolong_the_wait() {
        let (limiter, clock) = limiter(60, 3, 1);
        for _ in 0..10 {
            limiter.visit(1, Charge::Never).unwrap();
        }
        for _ in 0..5 {
            let _ = limiter.visit(1, Charge::Always);
        }
        assert_eq!(limiter.visit(1, Charge::Never), Err(Duration::from_secs(3)));
        clock.advance(Duration::from_secs(3));
        assert_eq!(limiter.visit(1, Charge::Never), Ok(()));
        limiter.admit(1).unwrap();
        assert_eq!(limiter.admit(1), Err(Duration::from_secs(1)));
    }

    fn limiter(per_minute: u32, burst: u32, buckets: usize) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let count = |number| NonZeroU32::new(number).unwrap();
        let quota = Quota::per_minute(count(per_minute)).allow_burst(count(burst));
        let clock = FakeRelativeClock::default();
        (Limiter::new(quota, buckets, clock.clone()), clock)
    }

    #[test]
    fn a_key_has_its_burst_and_then_its_rate() {
        let (limiter, clock) = limiter(60, 3, 1);
        for _ in 0..3 {
            limiter.admit(1).unwrap();
        }
        assert_eq!(limiter.admit(1), Err(Duration::from_secs(1)));
        assert_eq!(limiter.admit(2), Ok(()));
        clock.advance(Duration::from_millis(600));
        assert_eq!(limiter.admit(1), Err(Duration::from_millis(400)));
        clock.advance(Duration::from_millis(400));
        assert_eq!(limiter.admit(1), Ok(()));
        assert!(limiter.admit(1).is_err());
        clock.advance(Duration::from_secs(3600));
        assert_eq!((0..10).filter(|_| limiter.admit(1).is_ok()).count(), 3);
    }

    #[test]
    fn flood_of_keys_does_not_evict_a_busy_key() {
        let (limiter, _) = limiter(60, 3, 4);
        while limiter.admit(0).is_ok() {}
        for key in 1..100_000 {
            assert_eq!(limiter.admit(key), Ok(()), "{key}");
        }
        assert!(limiter.admit(0).is_err());
    }
}
