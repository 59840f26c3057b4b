//! [`Permit`] and the claims of its token as axum extractors.

use std::{any::type_name, convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{Method, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use crate::{
    DenialReason,
    check::{
        denial::Denial,
        permit::{Permit, WithoutPermit},
        refuse::RefusalForm,
        respond::misplaced,
        terms::Terms,
    },
};

/// The rejection if a request has no [`Permit`].
///
/// If an access token is optional on the path, and the request has none, or if it is a preflight that `skip-preflight` let through, the answer
/// is the guard's 401. Otherwise the path is not guarded, or
/// no [`FastAuthLayer`](crate::FastAuthLayer) is around the route, and it is 500, since a handler that extracts a permit must not run without
/// one. The log says what is wrong, and with debug assertions the body does as well: in `detail`, whatever `error-shape` says, since no settings
/// are known without the layer.
#[derive(Debug, thiserror::Error)]
#[error(
    "the handler asks for a `Permit`, and the request has none: is the path guarded by `access-token-paths`, \
     `master-token-paths` or a rule, and was the FastAuthLayer added after the route? With `shadow`, a request that would be refused has none, either. \
     (`Option<Permit>` takes both)"
)]
pub struct PermitMissing {
    /// The answer of the guard, if a token would help.
    refused: Option<Box<Response>>,
    method: Method,
}

/// The rejection if a request has no claims that a handler can read.
///
/// Without a permit, the answer is that of [`PermitMissing`]. It is 500 if the path needs the master token alone, and the guard's 403 with the
/// reason `claim_mismatch` if the claims do not fit the type: a new log-in may bring others. That holds with `shadow`, too, since the handler
/// cannot run without them. The log says what is wrong.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ClaimsRejection(#[from] ClaimsProblem);

#[derive(Debug, thiserror::Error)]
enum ClaimsProblem {
    #[error(transparent)]
    NoPermit(PermitMissing),
    #[error(
        "the handler asks for `Claims`, and the path needs the master token alone, so that an access token was not looked at: \
         guard the path by a rule of level `both`, or take a `Permit`"
    )]
    NoAccessToken(Method),
    #[error("the claims of the access token do not fit the type that the handler takes")]
    Mismatch(Box<Response>),
}

/// The claims of the access token in a type of your own, as an extractor.
///
/// The guard has verified the token. A claim that the type does not name is ignored, one that it needs and does not find is a
/// [rejection](ClaimsRejection).
///
/// ```
/// use axum::{Router, routing::get};
/// use fastauth::extract::Claims;
///
/// #[derive(serde::Deserialize)]
/// struct Member {
///     client_id: String,
///     tenant: String,
/// }
///
/// async fn tenant(Claims(member): Claims<Member>) -> String {
///     format!("{} of {}", member.client_id, member.tenant)
/// }
///
/// let app: Router = Router::new().route("/access/tenant", get(tenant));
/// ```
///
/// `Option<Claims<T>>` is `None` without a permit, and with `shadow` if the claims do not fit. [`fastauth::Claims`](crate::Claims) are the claims as they are, which a [`Permit`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims<T>(pub T);

impl PermitMissing {
    fn new(parts: &Parts) -> Self {
        let refused = match parts.extensions.get() {
            Some(WithoutPermit::Anonymous(terms) | WithoutPermit::Preflight(terms)) => {
                Some(answer(terms, DenialReason::MissingAccessToken.into(), parts))
            }
            Some(WithoutPermit::Shadow) | None => None,
        };
        Self { refused, method: parts.method.clone() }
    }
}

impl IntoResponse for PermitMissing {
    fn into_response(self) -> Response {
        let problem = self.to_string();
        self.refused.map_or_else(|| misplaced(&problem, &self.method).map(Body::new), |response| *response)
    }
}

impl IntoResponse for ClaimsRejection {
    fn into_response(self) -> Response {
        let problem = self.to_string();
        match self.0 {
            ClaimsProblem::NoPermit(missing) => missing.into_response(),
            ClaimsProblem::Mismatch(response) => *response,
            ClaimsProblem::NoAccessToken(method) => misplaced(&problem, &method).map(Body::new),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Permit {
    type Rejection = PermitMissing;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, PermitMissing> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| PermitMissing::new(parts))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Permit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = ClaimsRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ClaimsRejection> {
        let Some(permit) = parts.extensions.get::<Permit>() else {
            return Err(ClaimsProblem::NoPermit(PermitMissing::new(parts)).into());
        };
        Ok(read(permit, parts)?)
    }
}

impl<S: Sync, T: DeserializeOwned> OptionalFromRequestParts<S> for Claims<T> {
    type Rejection = ClaimsRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, ClaimsRejection> {
        let Some(permit) = parts.extensions.get::<Permit>() else { return Ok(None) };
        match read(permit, parts) {
            // The handler can run without, as it can without a permit.
            Err(ClaimsProblem::Mismatch(_)) if permit.terms().shadow => Ok(None),
            read => Ok(Some(read?)),
        }
    }
}

fn read<T: DeserializeOwned>(permit: &Permit, parts: &Parts) -> Result<Claims<T>, ClaimsProblem> {
    let claims = permit.claims().ok_or_else(|| ClaimsProblem::NoAccessToken(parts.method.clone()))?;
    claims.parse().map(Claims).map_err(|error| {
        let problem = error.to_string();
        // Any other message may quote a claim, which may be private.
        let problem = if problem.starts_with("missing field") { &*problem } else { "a claim has another form" };
        tracing::warn!(target: "fastauth", r#type = type_name::<T>(), problem, "the claims of a token do not fit what a handler takes");
        let denial = permit.denial(DenialReason::ClaimMismatch);
        ClaimsProblem::Mismatch(answer(permit.terms(), denial, parts))
    })
}

/// Logs and counts a denial, and renders it as the guard does. Without what it asks for, the handler cannot run, even in `shadow`.
fn answer(terms: &Arc<Terms>, denial: Denial, parts: &Parts) -> Box<Response> {
    let details = terms.observer.details(&parts.uri, &parts.headers, &parts.extensions);
    terms.record(&parts.method, &details, &denial);
    let form = RefusalForm::new(&parts.method, &parts.headers);
    Box::new(terms.answer(denial, form, Some(parts)).map(Body::new))
}
