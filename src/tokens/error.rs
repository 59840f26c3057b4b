//! Why an endpoint refuses a request.

use std::{error::Error, time::Duration};

use super::parameters::BodyError;
use crate::{
    check::denial::Denial,
    issue::IssueErrorKind,
    observe::{self, Details},
    query::ParameterError,
    store::{StoreError, StoreErrorKind},
};

/// Why an endpoint refuses a request.
pub(super) enum EndpointError {
    /// The master token or the access token was refused.
    Denied(Denial),
    /// A page of another origin sent the request.
    CrossOrigin,
    /// The method is not one of those that are allowed.
    Method { allow: &'static str },
    /// The body could not be read.
    Body(BodyError),
    /// The cookie of the refresh token appears more than once.
    RepeatedCookie,
    /// A required parameter is absent.
    Missing { name: &'static str, place: &'static str },
    /// A parameter has no usable value.
    Unusable { name: &'static str, place: &'static str, problem: ParameterError },
    /// The parameters contradict each other.
    Mixed(&'static str),
    /// The grant is refused in the terms of OAuth.
    Grant(GrantError),
    /// No pair was issued.
    NotIssued(IssueErrorKind),
    /// The store failed.
    Store(StoreError),
    /// There were too many requests before; this is how long to wait.
    Limited(Duration),
}

/// What is wrong with a grant (RFC 6749 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantError {
    /// The client tries to authenticate itself, but clients have no secrets.
    ClientAuthentication {
        /// It tried by `Authorization: Basic`, which asks for a challenge.
        by_header: bool,
    },
    UnsupportedGrantType,
    /// The token was issued to another client than the one that is named.
    OtherClient,
    /// The scope that is asked for exceeds that of the token.
    Scope,
}

impl EndpointError {
    /// Logs what the operator should know. Faults of the request are left to the answer.
    pub(super) fn log(&self, details: &Details) {
        let path = details.path();
        let peer = details.peer();
        let request_id = details.request_id();
        match self {
            Self::NotIssued(error) => log_not_issued(error, details),
            Self::Store(error) if error.kind() == StoreErrorKind::Unsupported => tracing::warn!(
                target: "fastauth",
                error = error as &dyn Error, path, peer, request_id,
                "refused: the token store does not support this"
            ),
            Self::Store(error) => observe::log_store_failure(error, "not done", details),
            Self::Limited(wait) => {
                tracing::info!(target: "fastauth", ?wait, path, peer, request_id, "not issued: too many requests");
            }
            Self::Grant(error) => tracing::info!(target: "fastauth", ?error, path, peer, request_id, "not issued"),
            Self::CrossOrigin => {
                tracing::warn!(target: "fastauth", path, peer, request_id, "refused: a page of another origin asked");
            }
            Self::Denied(_)
            | Self::Method { .. }
            | Self::Body(_)
            | Self::RepeatedCookie
            | Self::Missing { .. }
            | Self::Unusable { .. }
            | Self::Mixed(_) => {}
        }
    }
}

/// Logs why no pair was issued.
pub(super) fn log_not_issued(error: &IssueErrorKind, details: &Details) {
    match error {
        IssueErrorKind::Store(error) | IssueErrorKind::NotSaved { error, .. } => {
            observe::log_store_failure(error, "not issued", details);
        }
        error => tracing::info!(
            target: "fastauth",
            reason = error.code(),
            error = error as &dyn Error,
            path = details.path(),
            peer = details.peer(),
            request_id = details.request_id(),
            "not issued"
        ),
    }
}
