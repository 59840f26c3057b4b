//! What issuing and logging out give a handler. Each is an answer to a request: the one that the endpoint would send.

mod answer;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use serde::{Serialize, Serializer};

use super::error::EndpointError;
use crate::{
    check::refuse::{Refusals, forbid_caching},
    issue::IssueErrorKind,
    observe::Details,
    settings::{CookieSameSite, ResponseShape},
    store::TokenPair,
};

pub(super) use answer::logged_out;

/// A pair that was issued, and is saved in the store.
///
/// It is an answer to a request: a handler of axum returns it (feature `axum`), and others convert it into an
/// [`http::Response`]. The answer is that of `/auth/token/new`: a body in the form of `response-shape`, `Cache-Control: no-store`,
/// and with `refresh-transport: "cookie"` the refresh token in a cookie and not in the body.
///
/// ```
/// # use axum::{Json, extract::State, http::StatusCode, response::Result};
/// # use fastauth::{FastAuthLayer, IssuedTokens};
/// # use serde_json::json;
/// # #[derive(serde::Deserialize)]
/// # struct LogIn { user: String, password: String }
/// # async fn is_right(_: &LogIn) -> bool { true }
/// async fn log_in(State(auth): State<FastAuthLayer>, Json(form): Json<LogIn>) -> Result<IssuedTokens> {
///     if !is_right(&form).await {
///         return Err(StatusCode::UNAUTHORIZED.into());
///     }
///     Ok(auth.issuer().issue_with(&form.user, json!({ "roles": ["reader"] })).await?)
/// }
/// # let _: axum::Router<FastAuthLayer> = axum::Router::new().route("/login", axum::routing::post(log_in));
/// ```
///
/// It is `Serialize`, too: as the body of that answer. With the cookie, that is not all of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedTokens {
    /// The client that it was issued to.
    pub client_id: String,
    /// The session that it belongs to, by which it can be revoked.
    pub session: String,
    /// The pair.
    pub tokens: TokenPair,
    /// How long the access token is valid from now.
    pub expires_in: Duration,
    /// The claim `scope`, if there is one.
    pub scope: Option<String>,
    pub(super) delivery: Delivery,
}

/// How a pair goes to its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) shape: ResponseShape,
    /// How long the cookie of the refresh token lasts, if that is how it travels.
    pub(crate) cookie_age: Option<Duration>,
    pub(crate) same_site: CookieSameSite,
}

impl IssuedTokens {
    /// Sets the form of the answer, in place of that of `response-shape`.
    #[must_use]
    pub fn with_response_shape(mut self, shape: ResponseShape) -> Self {
        self.delivery.shape = shape;
        self
    }

    /// Returns the `Set-Cookie` header of the refresh token, for an answer of your own such as a redirect. `None` unless
    /// `refresh-transport` is "cookie".
    #[must_use]
    pub fn refresh_cookie(&self) -> Option<HeaderValue> {
        let age = self.delivery.cookie_age?;
        answer::refresh_cookie(self.tokens.refresh_token.expose(), age, self.delivery.same_site)
    }
}

impl Serialize for IssuedTokens {
    /// Writes the body of the answer.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        answer::pair_body(self, serializer)
    }
}

impl From<IssuedTokens> for Response<Full<Bytes>> {
    fn from(issued: IssuedTokens) -> Self {
        without_caching(answer::pair(&issued))
    }
}

/// The end of a session, by [`TokenIssuer::log_out`](crate::TokenIssuer::log_out).
///
/// It is an answer to a request, as [`IssuedTokens`] is: that of `/auth/token/revoke`, an empty object. With
/// `refresh-transport: "cookie"` it removes the cookie.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoggedOut {
    /// A session was revoked. False if another request has ended it before, or if the permit has no access token.
    pub is_revoked: bool,
    pub(super) cookie: Option<CookieSameSite>,
}

impl LoggedOut {
    /// Returns the `Set-Cookie` header that removes the cookie of the refresh token, for an answer of your own such as a redirect.
    /// `None` unless `refresh-transport` is "cookie".
    #[must_use]
    pub fn refresh_cookie(&self) -> Option<HeaderValue> {
        self.cookie.and_then(answer::no_refresh_cookie)
    }
}

impl From<LoggedOut> for Response<Full<Bytes>> {
    fn from(logged_out: LoggedOut) -> Self {
        without_caching(answer::logged_out(logged_out.cookie))
    }
}

/// Why no pair was issued, or why a session could not be ended.
///
/// It is an answer to a request, as [`IssuedTokens`] is: the one that the endpoint would send. It is logged when it becomes one.
#[derive(Clone)]
pub struct IssueError {
    kind: IssueErrorKind,
    refusals: Arc<Refusals>,
}

impl IssueError {
    pub(super) fn new(kind: IssueErrorKind, refusals: &Arc<Refusals>) -> Self {
        Self { kind, refusals: Arc::clone(refusals) }
    }

    /// Returns what went wrong.
    #[must_use]
    pub fn kind(&self) -> &IssueErrorKind {
        &self.kind
    }

    pub(super) fn into_kind(self) -> IssueErrorKind {
        self.kind
    }
}

impl From<IssueError> for Response<Full<Bytes>> {
    fn from(error: IssueError) -> Self {
        let refused = EndpointError::NotIssued(error.kind);
        refused.log(&Details::default());
        without_caching(refused.render(error.refusals.errors(), "body", &error.refusals))
    }
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.kind, f)
    }
}

impl Error for IssueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

fn without_caching(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    forbid_caching(response.headers_mut());
    response
}
