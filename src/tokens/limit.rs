//! Rate limits: how often tokens are issued per client and per caller, and how many wrong master tokens a caller may present.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use fastauth_core::limit::{Charge, Limiter};
use http::request::Parts;

use crate::{
    check::master::GuessLimit,
    clock::Clock,
    secret::TokenDigest,
    settings::{CallerKey, RateLimit},
};

/// The limits on each client and on each caller.
pub(crate) struct Limits {
    clients: Limiter,
    hasher: RandomState,
    callers: Option<CallerLimits>,
}

/// The limits on callers, which the application tells apart.
struct CallerLimits {
    key: CallerKey,
    requests: Limiter,
    wrong_master_tokens: Limiter,
}

impl Limits {
    /// Creates the limits that are configured, if there are any.
    pub(crate) fn from_settings(limit: Option<&RateLimit>, clock: &Clock) -> Option<Arc<Self>> {
        limit.map(|limit| Arc::new(Self::new(limit, clock)))
    }

    fn new(limit: &RateLimit, clock: &Clock) -> Self {
        let limiter = || Limiter::per_minute(limit.per_minute, limit.burst, clock);
        Self {
            clients: limiter(),
            hasher: RandomState::new(),
            callers: limit.caller.clone().map(|key| CallerLimits {
                key,
                requests: limiter(),
                wrong_master_tokens: limiter(),
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

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
