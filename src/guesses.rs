//! How often a caller may be wrong about the master token, wherever that is asked for.
//!
//! It goes by the caller alone. A limit on all callers together would either let the right token in all the same, and then limits no
//! guess, or let any stranger lock the administrators out. What keeps strangers apart from each other only the application knows.

#[cfg(feature = "rate-limit")]
use std::sync::Arc;

use http::request::Parts;

use crate::DenialReason;
#[cfg(feature = "rate-limit")]
use crate::limit::Limits;

/// Who sent a request, if callers are told apart.
#[derive(Clone, Copy, Default)]
pub(crate) struct Caller(
    #[cfg_attr(not(feature = "rate-limit"), allow(dead_code, reason = "there is none"))] Option<u64>,
);

/// The limit on guesses, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    #[cfg(feature = "rate-limit")]
    limits: Option<Arc<Limits>>,
}

#[cfg(feature = "rate-limit")]
impl Guesses {
    pub(crate) fn new(limits: Option<&Arc<Limits>>) -> Self {
        Self { limits: limits.filter(|limits| limits.tell_callers_apart()).cloned() }
    }

    /// Whether it matters who sent a request.
    pub(crate) fn are_limited(&self) -> bool {
        self.limits.is_some()
    }

    pub(crate) fn caller(&self, request: &Parts) -> Caller {
        Caller(self.limits.as_ref().and_then(|limits| limits.caller(request)))
    }

    /// Refuses a caller that was wrong too often, before it is looked at what it brings.
    pub(crate) fn check(&self, Caller(caller): Caller) -> Result<(), DenialReason> {
        let Some((limits, caller)) = self.limits.as_ref().zip(caller) else { return Ok(()) };
        limits.check_guesses(caller).map_err(DenialReason::TooManyGuesses)
    }

    /// Counts a wrong master token.
    pub(crate) fn count(&self, Caller(caller): Caller) {
        if let Some((limits, caller)) = self.limits.as_ref().zip(caller) {
            limits.charge_guess(caller);
        }
    }
}

/// Nothing is limited.
#[cfg(not(feature = "rate-limit"))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "they are as those with the feature")]
impl Guesses {
    pub(crate) fn are_limited(&self) -> bool {
        false
    }

    pub(crate) fn caller(&self, _: &Parts) -> Caller {
        Caller(None)
    }

    pub(crate) fn check(&self, _: Caller) -> Result<(), DenialReason> {
        Ok(())
    }

    pub(crate) fn count(&self, _: Caller) {}
}
