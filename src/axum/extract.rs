//! [`Permit`] as an axum extractor.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
    response::{IntoResponse, Response},
};

use crate::check::{permit::Permit, respond::misplaced};

/// The rejection if a request has no [`Permit`]: its path is not guarded, or no [`FastAuthLayer`](crate::FastAuthLayer) is
/// around the route. It answers 500, since a handler that extracts a permit must not run without one. The log says what is
/// wrong, and with debug assertions the body does as well.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the handler asks for a `Permit`, and the request has none: is the path in `access-token-paths` or \
     `master-token-paths`, and was the FastAuthLayer added after the route? With `shadow`, a request that would be refused has none, either. \
     (`Option<Permit>` takes both)"
)]
pub struct PermitMissing(());

impl IntoResponse for PermitMissing {
    fn into_response(self) -> Response {
        misplaced(&self.to_string()).map(Body::new)
    }
}

impl<S: Sync> FromRequestParts<S> for Permit {
    type Rejection = PermitMissing;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, PermitMissing> {
        parts.extensions.get::<Self>().cloned().ok_or(PermitMissing(()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Permit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
