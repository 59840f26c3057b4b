//! What a store's server answers: calls of the store API, and for operators `/livez`, `/readyz` and `/metrics`.

use std::{sync::Arc, time::Instant};

use fastauth::store::{StoreBody, StoreHealth, StoreOutcome, StoreService};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::sync::watch;
use tower_service::Service;

use super::metrics::{self, Metrics};
use crate::server::{AccessLog, Application, RequestBody};

/// What one address of the server answers.
#[derive(Clone)]
pub(super) struct StoreApplication {
    /// Replaced when the bearer tokens are.
    pub(super) service: watch::Receiver<StoreService>,
    pub(super) health: Arc<StoreHealth>,
    pub(super) metrics: Metrics,
    pub(super) access_log: AccessLog,
    pub(super) scope: Scope,
}

/// The paths that an address has, beside those of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Calls.
    Calls,
    /// Calls, and metrics for those who may call.
    CallsAndMetrics,
    /// Metrics, for everyone who can connect.
    Metrics,
}

/// A path for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Live,
    Ready,
    Metrics,
    /// The address has no such path.
    Nothing,
}

impl Page {
    fn route(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::Nothing => "other",
        }
    }
}

impl Application for StoreApplication {
    async fn answer(&self, request: Request<RequestBody>) -> Response<StoreBody> {
        let entry = self.access_log.begin(&request);
        let started = Instant::now();
        let page = self.page(request.uri().path());
        let response = match page {
            Some(page) => self.show(page, &request).await,
            None => self.call(request).await,
        };
        let call = response.extensions().get::<StoreOutcome>();
        if let Some(call) = call {
            metrics::count(call, response.status(), started.elapsed());
        }
        if let Some(entry) = entry {
            let route = call.map_or_else(|| page.map_or("other", Page::route), |call| call.route);
            entry.answer(route, call.map(|call| call.outcome), &response);
        }
        response
    }

    fn stop(&self) {
        self.service.borrow().stop_feed();
    }
}

impl StoreApplication {
    /// Returns the page at a path, or `None` for what is left to the service.
    fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/livez" => Some(Page::Live),
            "/readyz" => Some(Page::Ready),
            "/metrics" if self.scope != Scope::Calls => Some(Page::Metrics),
            _ if self.scope == Scope::Metrics => Some(Page::Nothing),
            _ => None,
        }
    }

    /// Returns true if the database can be written, and its changes can be read.
    async fn is_ready(&self) -> bool {
        let service = self.service.borrow().clone();
        self.health.is_up().await && service.is_feed_up().await
    }

    async fn call(&self, request: Request<RequestBody>) -> Response<StoreBody> {
        let mut service = self.service.borrow().clone();
        let Ok(response) = service.call(request).await;
        response
    }

    async fn show(&self, page: Page, request: &Request<RequestBody>) -> Response<StoreBody> {
        if page == Page::Metrics
            && self.scope == Scope::CallsAndMetrics
            && let Some(refusal) = self.service.borrow().refusal(request)
        {
            return refusal;
        }
        if page != Page::Nothing && !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED, r#"{"detail":"allowed methods: GET, HEAD"}"#);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match page {
            Page::Live => status(StatusCode::OK, r#"{"status":"ok"}"#),
            Page::Ready if self.is_ready().await => status(StatusCode::OK, r#"{"status":"ok"}"#),
            Page::Ready => status(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"unavailable"}"#),
            Page::Metrics => {
                let feed = self.service.borrow().feed_status();
                feed.iter().for_each(metrics::set_feed);
                text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
            }
            Page::Nothing => status(StatusCode::NOT_FOUND, r#"{"detail":"there is nothing at this path"}"#),
        }
    }
}

fn status(status: StatusCode, json: &'static str) -> Response<StoreBody> {
    text(status, "application/json", json)
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<StoreBody>) -> Response<StoreBody> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
