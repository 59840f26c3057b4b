//! Rate limits: how often tokens are issued, by client and by what the application tells its callers apart by.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fastauth_core::settings::{CallerKey, RateLimit};
use governor::{
    Quota, RateLimiter, clock::Clock as GovernorClock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use http::request::Parts;

use crate::{clock::Clock, secret::TokenDigest};

/// How many keys share a bucket, and how many buckets there are: 65,536 keys in about a megabyte.
const WAYS: usize = 8;
const BUCKETS: usize = 8192;

/// The limit on each client, and on each caller.
pub(crate) struct Limits {
    clients: Limiter<Elapsed>,
    hasher: RandomState,
    callers: Option<Callers>,
}

/// What is counted of callers.
struct Callers {
    key: CallerKey,
    requests: Limiter<Elapsed>,
    /// Wrong master tokens.
    guesses: Limiter<Elapsed>,
}

impl Limits {
    /// So many a minute, and so many at once.
    pub(crate) fn new(limit: &RateLimit, clock: &Clock) -> Self {
        let quota = Quota::per_minute(limit.per_minute).allow_burst(limit.burst);
        let limiter = || Limiter::new(quota, BUCKETS, Elapsed(clock.clone()));
        Self {
            clients: limiter(),
            hasher: RandomState::new(),
            callers: limit.caller.clone().map(|key| Callers { key, requests: limiter(), guesses: limiter() }),
        }
    }

    /// Counts a request for this client, or says how long it has to wait.
    pub(crate) fn admit_client(&self, client_id: &str) -> Result<(), Duration> {
        self.clients.visit(self.hasher.hash_one(client_id), Kind::Admit)
    }

    /// Says how long this client has to wait if it is issued no more for now, and counts nothing.
    pub(crate) fn check_client(&self, client_id: &str) -> Result<(), Duration> {
        self.clients.visit(self.hasher.hash_one(client_id), Kind::Check)
    }

    /// Counts a pair that this client was issued, whether it had to wait or not: then it waits longer for the next.
    pub(crate) fn charge_client(&self, client_id: &str) {
        let _ = self.clients.visit(self.hasher.hash_one(client_id), Kind::Charge);
    }

    /// Counts a use of this token of a client's, or says how long it has to wait: nothing of the client's is used up by a token
    /// that the store does not take, and yet nobody asks the store for one without end.
    pub(crate) fn admit_token(&self, client_id: &str, token: TokenDigest) -> Result<(), Duration> {
        self.clients.visit(self.hasher.hash_one((client_id, token)), Kind::Admit)
    }

    /// Counts a request of its caller, or says how long that one has to wait.
    pub(crate) fn admit_caller(&self, request: &Parts) -> Result<(), Duration> {
        let Some(callers) = &self.callers else { return Ok(()) };
        self.caller(request).map_or(Ok(()), |caller| callers.requests.visit(caller, Kind::Admit))
    }

    pub(crate) fn tell_callers_apart(&self) -> bool {
        self.callers.is_some()
    }

    /// Who sent a request, if the application tells.
    pub(crate) fn caller(&self, request: &Parts) -> Option<u64> {
        self.callers.as_ref().and_then(|callers| callers.key.caller(request))
    }

    /// Says how long a caller has to wait if it has guessed at the master token too often.
    pub(crate) fn check_guesses(&self, caller: u64) -> Result<(), Duration> {
        self.callers.as_ref().map_or(Ok(()), |callers| callers.guesses.visit(caller, Kind::Check))
    }

    /// Counts a guess of a caller.
    pub(crate) fn charge_guess(&self, caller: u64) {
        let _ = self.callers.as_ref().map(|callers| callers.guesses.visit(caller, Kind::Charge));
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("by_caller", &self.callers.is_some()).finish_non_exhaustive()
    }
}

/// The clock that governor goes by.
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

    fn visit(&self, key: u64, kind: Kind) -> Result<(), Duration> {
        self.0.check_key(&Visit { key, kind }).map_err(|until| until.wait_time_from(self.0.clock().now()))
    }
}

/// What the state of a key is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Visit {
    key: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Counts if it is within the limit.
    Admit,
    /// Counts nothing.
    Check,
    /// Counts, also beyond the limit.
    Charge,
}

/// The state of each key, in a table that never grows.
///
/// A key belongs to one bucket, and the keys are hashes, so nobody can choose which. Where a bucket is full, a new key takes
/// the place of the one whose debt is the smallest: a flood of keys pushes out one another and what has hardly been
/// used, and no busy key gets a new start by it.
struct Table {
    buckets: Box<[Mutex<[Slot; WAYS]>]>,
    /// What one more costs.
    price: Nanos,
}

/// A key and the time at which it will have paid its debt. An empty one is a key that owes nothing.
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
        let number = usize::try_from(key % self.buckets.len() as u64).unwrap_or_default();
        &self.buckets[number]
    }
}

impl StateStore for Table {
    type Key = Visit;

    fn measure_and_replace<T, F, E>(&self, Visit { key, kind }: &Visit, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Nothing but arithmetic runs while it is locked, so a poisoned lock still guards whole slots.
        let mut slots = self.bucket(*key).lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter_mut().find(|slot| slot.key == *key);
        let decided = decide(known.as_ref().map(|slot| slot.paid_at));
        if *kind == Kind::Check {
            return decided.map(|(outcome, _)| outcome);
        }
        let (outcome, paid_at) = match (decided, known) {
            (Ok((outcome, paid_at)), Some(slot)) => {
                slot.paid_at = paid_at;
                return Ok(outcome);
            }
            (Ok(decided), None) => decided,
            (Err(refusal), slot) => {
                if let Some(slot) = slot.filter(|_| *kind == Kind::Charge) {
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

    use std::num::NonZeroU32;

    use super::*;

    impl Limiter<FakeRelativeClock> {
        fn admit(&self, key: u64) -> Result<(), Duration> {
            self.visit(key, Kind::Admit)
        }
    }

    #[test]
    fn looking_counts_nothing_and_what_is_charged_beyond_the_limit_is_waited_for() {
        let (limiter, clock) = limiter(60, 3, 1);
        for _ in 0..10 {
            limiter.visit(1, Kind::Check).unwrap();
        }
        for _ in 0..5 {
            let _ = limiter.visit(1, Kind::Charge);
        }
        assert_eq!(limiter.visit(1, Kind::Check), Err(Duration::from_secs(3)));
        clock.advance(Duration::from_secs(3));
        assert_eq!(limiter.visit(1, Kind::Check), Ok(()));
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

    /// However many keys come, a busy one is not forgotten, and the others still get their turn.
    #[test]
    fn a_flood_of_keys_gives_no_busy_key_a_new_start() {
        let (limiter, _) = limiter(60, 3, 4);
        while limiter.admit(0).is_ok() {}
        for key in 1..100_000 {
            assert_eq!(limiter.admit(key), Ok(()), "{key}");
        }
        assert!(limiter.admit(0).is_err());
    }

    #[test]
    fn callers_are_told_apart_by_what_the_application_says() {
        let count = |number| NonZeroU32::new(number).unwrap();
        let key = CallerKey::new(|request| request.headers.get("x-caller").cloned());
        let limits =
            Limits::new(&RateLimit { per_minute: count(1), burst: count(2), caller: Some(key) }, &Clock::default());
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
        // What a caller has used up is not the client's of the same name.
        assert!(limits.admit_client("a").is_ok());
    }
}
