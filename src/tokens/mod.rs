//! The endpoints at which tokens are issued, refreshed, revoked and introspected.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    pin::Pin,
    sync::{Arc, Once},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION, request::Parts};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use crate::{
    check::{live::Current, problem::ErrorForm, refuse::forbid_caching, respond::head_only},
    trace,
};

pub(crate) mod describe;
mod document;
mod endpoint;
mod endpoints;
mod error;
pub(crate) mod issued;
pub(crate) mod issuer;
#[cfg(feature = "rate-limit")]
pub(crate) mod limit;
#[cfg(not(feature = "rate-limit"))]
#[path = "no_limit.rs"]
pub(crate) mod limit;
mod parameters;
mod parts;
mod place;
mod render;
pub(crate) mod requirement;
pub(crate) mod rotation;
mod token_issuer;

#[cfg(feature = "utoipa")]
pub(crate) use describe::Schema;
pub(crate) use describe::examples;
use endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, Protection};
use endpoints::ENDPOINTS;
use error::EndpointError;
use parameters::{Parameters, read_body};
pub(crate) use parts::RouterParts;
use place::{Mount, PathMatch};
pub use token_issuer::TokenIssuer;

/// The token endpoints: a plain tower service. The [guide](crate::guide::endpoints) lists them, with their parameters and answers.
///
/// The router checks the credentials that an endpoint requires by itself, wherever it is mounted and whatever the path lists say:
///
/// - axum, with the feature `axum`: `.nest_service("/auth", auth.router())`, or `.merge(auth.router())`, or
///   `.nest("/auth", auth.router().prefix("").into())`, or each path by `.route_service("/auth/token/new", auth.router())`;
/// - hyper: call it for the paths below `/auth`.
///
/// Each endpoint has one path, as clients see it, and every other path is 404. If an axum router has stripped a prefix, the
/// rest is the endpoint's path; otherwise `/auth` stands before it. If that is something else, or if something other than axum
/// strips it, set it by [`prefix`](Self::prefix). A path with one slash at its end is redirected (307), as `fastauth-api` does.
///
/// Bodies are read by tokio's clock, so the runtime needs its time driver.
#[derive(Clone, Debug)]
pub struct TokenRouter {
    live: Arc<dyn Current<RouterParts>>,
    mount: Mount,
    /// Whether it was logged that the mount may be stripped.
    hint: Arc<Once>,
}

/// The hint to those who mount the router without its feature.
const PERHAPS_STRIPPED: &str = "a request asked the token router for an endpoint without `/auth` before it, and was \
answered 404: if something strips the prefix, call `.prefix(\"\")`, or with axum enable the feature `axum`";

impl TokenRouter {
    pub(crate) fn new(live: Arc<dyn Current<RouterParts>>) -> Self {
        Self { live, mount: Mount::Usual, hint: Arc::new(Once::new()) }
    }

    /// Sets what stands before the endpoints' paths when they arrive here: the whole mount of the router, or what is left of it if
    /// something before it strips a part, or `""` if that strips all of it.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.mount = Mount::new(prefix);
        self
    }

    /// Returns a router whose paths are known, since axum routes by them.
    #[cfg(feature = "axum")]
    pub(crate) fn with_known_paths(self) -> Self {
        let mount = Mount::new(self.mount.prefix());
        Self { mount, ..self }
    }

    /// Returns the paths of the endpoints as requests have them here.
    #[cfg(feature = "axum")]
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        let prefix = self.mount.prefix();
        ENDPOINTS.iter().map(move |endpoint| format!("{prefix}{}", endpoint.path))
    }

    async fn answer<B>(&self, parts: &RouterParts, request: &Parts, body: B) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let endpoint = match self.mount.find(&request.uri, &request.extensions) {
            PathMatch::Endpoint(endpoint) => endpoint,
            PathMatch::WithSlash(segment) => return render::without_slash(segment, request.uri.query()),
            PathMatch::Nothing => {
                return parts.refuse(EndpointError::NotFound, parts.refusals.errors(), request);
            }
            PathMatch::PerhapsStripped => {
                self.hint.call_once(|| tracing::warn!(target: "fastauth", "{PERHAPS_STRIPPED}"));
                return parts.refuse(EndpointError::NotFound, parts.refusals.errors(), request);
            }
        };
        match parts.run(endpoint, request, body).await {
            Ok(response) => response,
            Err(error) => parts.refuse(error, endpoint.shape.of_errors(&parts.options), request),
        }
    }
}

impl RouterParts {
    fn refuse(&self, error: EndpointError, form: ErrorForm, request: &Parts) -> Response<Full<Bytes>> {
        error.log(&self.details(request));
        error.answer(form, request, &self.refusals)
    }

    /// Checks what all endpoints have in common, in this order, and runs the endpoint.
    async fn run<B>(&self, endpoint: &'static Endpoint, request: &Parts, body: B) -> EndpointResult
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let parts = self;
        let allow = (endpoint.methods)(&parts.options);
        let is_allowed = allow.split(", ").any(|method| method == request.method.as_str());
        if is_allowed && endpoint.effect == Effect::Issues {
            parts.admit_caller(request)?;
        }
        if endpoint.protection == Protection::Master {
            endpoint.check_master(parts, request)?;
        }
        if !is_allowed {
            return Err(EndpointError::Method { allow });
        }
        // Browsers send cookies with requests of other pages as well, and take those of the answers.
        if parts.options.uses_cookie()
            && endpoint.protection != Protection::Open
            && !parts.origins.admit(&request.uri, &request.headers)
        {
            return Err(EndpointError::CrossOrigin);
        }
        let parameters = match request.method {
            Method::GET | Method::HEAD => Parameters::Url(request.uri.query().unwrap_or_default()),
            _ => read_body(request, body).await.map_err(EndpointError::Body)?,
        };
        (endpoint.run)(EndpointCall { parts, endpoints: ENDPOINTS, endpoint, request, parameters }).await
    }
}

#[cfg(feature = "utoipa")]
impl RouterParts {
    /// Returns the OpenAPI document of the endpoints. Their paths stand in it without the mount.
    pub(crate) fn document(&self) -> serde_json::Value {
        document::render(ENDPOINTS, &self.facts())
    }

    /// Returns the schema of the guard's refusals.
    pub(crate) fn error_schema(&self) -> Schema {
        describe::error_schema(self.refusals.errors())
    }

    pub(crate) fn limits_guesses(&self) -> bool {
        self.master.limits_guesses()
    }
}

impl<B> Service<Request<B>> for TokenRouter
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let parts = this.live.current();
        let (request, body) = request.into_parts();
        Box::pin(async move {
            let parent = trace::parent_of(&request.headers);
            let mut response = trace::within(parent, this.answer(&parts, &request, body)).await;
            // Answers about tokens are true for a moment, and most of them for one caller.
            forbid_caching(response.headers_mut());
            // The rest of such a body is not read, so nothing else can follow on its connection.
            let is_unread = matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
            if is_unread && request.version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(if request.method == Method::HEAD { head_only(response) } else { response })
        })
    }
}
