//! Rate limits: how often tokens are issued per client and per caller, and how many wrong master tokens a caller may present.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock as GovernorClock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use http::request::Parts;

use crate::{
    check::master::GuessLimit,
    clock::Clock,
    secret::TokenDigest,
    settings::{CallerKey, RateLimit},
};

/// How many keys share a bucket, and how many buckets there are: 65,536 keys in about a megabyte.
const WAYS: usize = 8;
const BUCKETS: usize = 8192;

/// The limits on each client and on each caller.
pub(crate) struct Limits {
    clients: Limiter<Elapsed>,
    hasher: RandomState,
    callers: Option<CallerLimits>,
}

/// The limits on callers, which the application tells apart.
struct CallerLimits {
    key: CallerKey,
    requests: Limiter<Elapsed>,
    wrong_master_tokens: Limiter<Elapsed>,
}

impl Limits {
    /// Creates the limits that are configured, if there are any.
    pub(crate) fn from_settings(limit: Option<&RateLimit>, clock: &Clock) -> Option<Arc<Self>> {
        limit.map(|limit| Arc::new(Self::new(limit, clock)))
    }

    fn new(limit: &RateLimit, clock: &Clock) -> Self {
        let quota = Quota::per_minute(limit.per_minute).allow_burst(limit.burst);
        let clock = Elapsed(clock.clone());
        Self {
            clients: Limiter::new(quota, BUCKETS, clock.clone()),
            hasher: RandomState::new(),
            callers: limit.caller.clone().map(|key| CallerLimits {
                key,
                requests: Limiter::new(quota, BUCKETS, clock.clone()),
                wrong_master_tokens: Limiter::new(quota, BUCKETS, clock.clone()),
            }),
        }
    }

    /// Counts a request for a client, or returns how long the client has to wait.
    pub(crate) fn admit_client(&self, client_id: &str) -> Result<(), Duration> {
        self.clients.visit(self.hasher.hash_one(client_id), Charge::IfWithin)
    }

    /// Returns how long a client has to wait, if it is beyond its limit. Counts nothing.
    pub(crate) fn check_client(&self, client_id: &str) -> Result<(), Duration> {
        self.clients.visit(self.hasher.hash_one(client_id), Charge::Never)
    }

    /// Counts a pair that a client was issued, even beyond its limit: then it waits longer for the next.
    pub(crate) fn charge_client(&self, client_id: &str) {
        let _ = self.clients.visit(self.hasher.hash_one(client_id), Charge::Always);
    }

    /// Counts a use of one token of a client, or returns how long to wait. A token that the store refuses so costs the client
    /// nothing, and still cannot be tried without end.
    pub(crate) fn admit_token(&self, client_id: &str, token: TokenDigest) -> Result<(), Duration> {
        self.clients.visit(self.hasher.hash_one((client_id, token)), Charge::IfWithin)
    }

    /// Counts a request of its caller, or returns how long that has to wait.
    pub(crate) fn admit_caller(&self, request: &Parts) -> Result<(), Duration> {
        let Some(callers) = &self.callers else { return Ok(()) };
        let Some(caller) = callers.key.caller(request) else { return Ok(()) };
        callers.requests.visit(caller, Charge::IfWithin)
    }

    pub(crate) fn tell_callers_apart(&self) -> bool {
        self.callers.is_some()
    }
}

impl GuessLimit for Limits {
    fn caller(&self, request: &Parts) -> Option<u64> {
        self.callers.as_ref()?.key.caller(request)
    }

    fn check(&self, caller: u64) -> Result<(), Duration> {
        let Some(callers) = &self.callers else { return Ok(()) };
        callers.wrong_master_tokens.visit(caller, Charge::Never)
    }

    fn charge(&self, caller: u64) {
        if let Some(callers) = &self.callers {
            let _ = callers.wrong_master_tokens.visit(caller, Charge::Always);
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("by_caller", &self.callers.is_some()).finish_non_exhaustive()
    }
}

/// The clock of governor.
#[derive(Clone)]
struct Elapsed(Clock);

impl GovernorClock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Limiter<C: GovernorClock>(RateLimiter<Visit, Table, C, NoOpMiddleware<C::Instant>>);

impl<C: GovernorClock> Limiter<C> {
    fn new(quota: Quota, buckets: usize, clock: C) -> Self {
        Self(RateLimiter::new(quota, Table::new(buckets, quota.replenish_interval()), clock))
    }

    fn visit(&self, key: u64, charge: Charge) -> Result<(), Duration> {
        self.0.check_key(&Visit { key, charge }).map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

/// A look at the state of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Visit {
    key: u64,
    charge: Charge,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Charge {
    /// Only within the limit.
    IfWithin,
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
    use std::num::NonZeroU32;

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

    #[test]
    fn callers_are_told_apart_by_the_key_of_the_application() {
        let count = |number| NonZeroU32::new(number).unwrap();
        let key = CallerKey::new(|request| request.headers.get("x-caller").cloned());
        let limit = RateLimit { per_minute: count(1), burst: count(2), caller: Some(key) };
        let limits = Limits::new(&limit, &Clock::default());
        let admit = |caller: Option<&str>| {
            let mut request = http::Request::new(());
            if let Some(caller) = caller {
                request.headers_mut().insert("x-caller", caller.parse().unwrap());
            }
            limits.admit_caller(&request.into_parts().0)
        };
        assert!(admit(Some("a")).is_ok() && admit(Some("a")).is_ok() && admit(Some("a")).is_err());
        assert!(admit(Some("b")).is_ok());
        assert!((0..10).all(|_| admit(None).is_ok()));
        // A client of the same name has a limit of its own.
        assert!(limits.admit_client("a").is_ok());
    }
}
