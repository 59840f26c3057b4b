//! The endpoints that issue and renew tokens.

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use tower_service::Service;

use crate::{
    gate::{Gate, log_store_error},
    issuer::{IssueError, TokenIssuer},
    query::{self, ParameterError},
    response::{self, Form},
    token::TokenError,
};

/// Issues tokens at `/auth/token/new` and renews them at `/auth/token/refresh`: a plain tower service.
///
/// It guards minting by itself, wherever it is mounted and whatever the path lists say. Mount it as a whole, so that it
/// sees the path with or without its prefix:
///
/// - axum: `.nest_service("/auth", layer.router())`, or `.merge(layer.router().into_axum())` with the feature `axum`,
///   or each path by `.route_service("/auth/token/new", layer.router())`;
/// - hyper: call it for the paths below `/auth`.
///
/// Under another prefix that is not stripped, tell it by [`prefix`](Self::prefix).
///
/// A refresh token comes in the query, as the wire contract has it: log the path of requests and not the whole URI.
#[derive(Clone, Debug)]
pub struct TokenRouter {
    gate: Arc<Gate>,
    prefix: String,
}

impl TokenRouter {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, prefix: "/auth".to_owned() }
    }

    /// The prefix under which it is mounted, where that is not `/auth` and the server does not strip it.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            inner => format!("/{inner}"),
        };
        self
    }

    /// The same as an axum router, to be merged.
    #[cfg(feature = "axum")]
    pub fn into_axum<S: Clone + Send + Sync + 'static>(self) -> axum::Router<S> {
        let prefix = self.prefix.clone();
        axum::Router::new()
            .route_service(&format!("{prefix}/token/new"), self.clone())
            .route_service(&format!("{prefix}/token/refresh"), self)
    }

    fn endpoint(&self, path: &str) -> Option<Endpoint> {
        let path = path.strip_prefix(&*self.prefix).unwrap_or(path);
        match path {
            "/token/new" => Some(Endpoint::New),
            "/token/refresh" => Some(Endpoint::Refresh),
            _ => None,
        }
    }

    async fn answer(self, request: &http::request::Parts) -> Response<Full<Bytes>> {
        let query = request.uri.query().unwrap_or_default();
        match self.endpoint(request.uri.path()) {
            None => response::not_found(),
            Some(Endpoint::New) => match self.gate.guard_administration(&request.method, &request.headers) {
                Err(denial) => response::refusal(denial, Form::of(&request.method, &request.headers), &self.gate.realm),
                Ok(_) if request.method != Method::GET => response::method_not_allowed(),
                Ok(_) => self.new_tokens(query).await,
            },
            Some(Endpoint::Refresh) if request.method != Method::GET => response::method_not_allowed(),
            Some(Endpoint::Refresh) => self.refresh(query).await,
        }
    }

    async fn new_tokens(&self, query: &str) -> Response<Full<Bytes>> {
        let client_id = match query::parameter(query, "client_id") {
            Ok(Some(client_id)) => client_id,
            Ok(None) => Cow::Owned(uuid::Uuid::new_v4().to_string()),
            Err(error) => return response::unprocessable("value_error", "client_id", &error.to_string()),
        };
        match self.issuer().issue(&client_id).await {
            Ok(issued) => response::issued(&issued),
            Err(error) => self.not_issued(&error),
        }
    }

    async fn refresh(&self, query: &str) -> Response<Full<Bytes>> {
        let refresh_token = match query::parameter(query, "refresh_token") {
            Ok(Some(refresh_token)) => refresh_token,
            Ok(None) => return response::unprocessable("missing", "refresh_token", "Field required"),
            // What is no text is no token.
            Err(ParameterError::NotText) => return self.not_issued(&TokenError::Malformed.into()),
            Err(error) => return response::unprocessable("value_error", "refresh_token", &error.to_string()),
        };
        match self.issuer().refresh(&refresh_token).await {
            Ok(issued) => response::issued(&issued),
            Err(error) => self.not_issued(&error),
        }
    }

    fn not_issued(&self, error: &IssueError) -> Response<Full<Bytes>> {
        match error {
            IssueError::Store(error) | IssueError::NotSaved { error, .. } => log_store_error(error, "not issued"),
            error => tracing::info!(target: "fastauth", error = error as &dyn std::error::Error, "not issued"),
        }
        response::not_issued(error, &self.gate.realm)
    }

    fn issuer(&self) -> TokenIssuer {
        TokenIssuer::new(Arc::clone(&self.gate))
    }
}

enum Endpoint {
    New,
    Refresh,
}

impl<B> Service<Request<B>> for TokenRouter {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let (request, _) = request.into_parts();
        Box::pin(async move {
            let response = this.answer(&request).await;
            Ok(if request.method == Method::HEAD { response::head_only(response) } else { response })
        })
    }
}
