//! Why an endpoint refuses.

use std::{error::Error, time::Duration};

use super::UnreadError;
use crate::{
    IssueError,
    gate::Denial,
    observe,
    query::ParameterError,
    store::{StoreError, StoreErrorKind},
};

/// Why a request to an endpoint is not answered as it wishes.
pub(crate) enum Refusal {
    /// Only the holder of a master token may do that.
    Denied(Denial),
    /// A page of another origin sent it.
    CrossOrigin,
    /// The methods that there are, are others.
    Method { allow: &'static str },
    /// The parameters could not be read.
    Unread(UnreadError),
    /// A parameter that is needed is not there.
    Missing { name: &'static str, place: &'static str },
    /// A parameter has no value that could be used.
    Unusable { name: &'static str, place: &'static str, problem: ParameterError },
    /// The parameters do not fit together.
    Mixed(&'static str),
    /// OAuth's words say it.
    Grant(GrantError),
    /// No pair was issued.
    NotIssued(IssueError),
    /// The store failed.
    Store(StoreError),
    /// There were too many requests before; this is how long to wait.
    #[cfg_attr(not(feature = "rate-limit"), allow(dead_code, reason = "nothing is limited without it"))]
    Limited(Duration),
}

/// What is wrong with a grant (RFC 6749 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantError {
    /// Clients have no secrets.
    ClientAuthentication {
        /// Whether it tried by `Authorization: Basic`, which asks for a challenge.
        by_header: bool,
    },
    UnsupportedGrantType,
    /// The token was issued to another client than the one that is named.
    OtherClient,
    /// More than the token may be used for is asked for.
    Scope,
}

impl Refusal {
    pub(super) fn log(&self) {
        match self {
            Self::NotIssued(IssueError::Store(error) | IssueError::NotSaved { error, .. }) => {
                observe::store_trouble(error, "not issued");
            }
            Self::NotIssued(error) => {
                tracing::info!(target: "fastauth", reason = error.code(), error = error as &dyn Error, "not issued");
            }
            Self::Store(error) if error.kind() == StoreErrorKind::Unsupported => {
                tracing::warn!(target: "fastauth", error = error as &dyn Error, "not done: the token store is not able to");
            }
            Self::Store(error) => observe::store_trouble(error, "not done"),
            Self::Limited(wait) => tracing::info!(target: "fastauth", ?wait, "not issued: too many requests"),
            Self::Grant(error) => tracing::info!(target: "fastauth", ?error, "not issued"),
            Self::CrossOrigin => tracing::warn!(target: "fastauth", "refused: a page of another origin asked"),
            Self::Denied(_)
            | Self::Method { .. }
            | Self::Unread(_)
            | Self::Missing { .. }
            | Self::Unusable { .. }
            | Self::Mixed(_) => {}
        }
    }
}
