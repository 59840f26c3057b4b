//! How often tokens are issued: what is counted, and when.

#[cfg(feature = "rate-limit")]
use std::time::Duration;

use http::request::Parts;

use super::{Refusal, TokenRouter};
#[cfg(feature = "rate-limit")]
use crate::observe::Limited;
use crate::store::TokenDigest;

#[cfg(feature = "rate-limit")]
impl TokenRouter {
    /// Counts a request of its caller, if callers are told apart.
    pub(super) fn admit_caller(&self, request: &Parts) -> Result<(), Refusal> {
        let Some(limits) = &self.gate.limits else { return Ok(()) };
        self.told(Limited::Caller, limits.admit_caller(request))
    }

    /// Counts a request to issue tokens to a client.
    pub(super) fn admit_client(&self, client_id: &str) -> Result<(), Refusal> {
        let Some(limits) = &self.gate.limits else { return Ok(()) };
        self.told(Limited::Client, limits.admit_client(client_id))
    }

    /// Counts a use of a client's refresh token, and nothing of what the client may do: the store has not taken the token yet.
    pub(super) fn admit_token(&self, client_id: &str, token: TokenDigest) -> Result<(), Refusal> {
        let Some(limits) = &self.gate.limits else { return Ok(()) };
        let admitted = limits.check_client(client_id).and_then(|()| limits.admit_token(client_id, token));
        self.told(Limited::Client, admitted)
    }

    /// Counts a pair that a client was issued for its refresh token.
    pub(super) fn charge_client(&self, client_id: &str) {
        if let Some(limits) = &self.gate.limits {
            limits.charge_client(client_id);
        }
    }

    fn told(&self, by: Limited, admitted: Result<(), Duration>) -> Result<(), Refusal> {
        admitted.inspect_err(|_| self.gate.observer.limited(by)).map_err(Refusal::Limited)
    }
}

/// Nothing is limited.
#[cfg(not(feature = "rate-limit"))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "they are as those with the feature")]
impl TokenRouter {
    pub(super) fn admit_caller(&self, _: &Parts) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn admit_client(&self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn admit_token(&self, _: &str, _: TokenDigest) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn charge_client(&self, _: &str) {}
}
