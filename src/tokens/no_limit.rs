//! Stands in for `limit.rs` in a build without rate limits.

use std::{sync::Arc, time::Duration};

use http::request::Parts;

use crate::{check::master::GuessLimit, clock::Clock, secret::TokenDigest, settings::RateLimit};

/// The limits of such a build, which never exist.
#[derive(Debug)]
pub(crate) enum Limits {}

impl Limits {
    pub(crate) fn from_settings(_: Option<&RateLimit>, _: &Clock) -> Option<Arc<Self>> {
        None
    }

    pub(crate) fn admit_client(&self, _: &str) -> Result<(), Duration> {
        match *self {}
    }

    pub(crate) fn check_client(&self, _: &str) -> Result<(), Duration> {
        match *self {}
    }

    pub(crate) fn charge_client(&self, _: &str) {
        match *self {}
    }

    pub(crate) fn admit_token(&self, _: &str, _: TokenDigest) -> Result<(), Duration> {
        match *self {}
    }

    pub(crate) fn admit_caller(&self, _: &Parts) -> Result<(), Duration> {
        match *self {}
    }

    pub(crate) fn tell_callers_apart(&self) -> bool {
        match *self {}
    }
}

impl GuessLimit for Limits {
    fn caller(&self, _: &Parts) -> Option<u64> {
        match *self {}
    }

    fn check(&self, _: u64) -> Result<(), Duration> {
        match *self {}
    }

    fn charge(&self, _: u64) {
        match *self {}
    }
}
