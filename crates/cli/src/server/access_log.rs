//! The access log: one line for each request, which never has a token, an id of a client, a query or a body in it.

use std::time::Instant;

use fastauth_core::{
    shown::{shown, shown_bytes},
    trace,
};
use http::{HeaderName, Method, Request, Response, StatusCode};

use super::listen::Peer;

/// The header by which a proxy or a caller names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whether requests are logged.
#[derive(Clone, Copy)]
pub(crate) struct AccessLog {
    is_on: bool,
}

/// The line of a request. It is written when it is dropped, so that a request whose client has left has one, too.
pub(crate) struct AccessEntry {
    method: Method,
    peer: Option<Peer>,
    request_id: Option<String>,
    /// The trace that it is a part of, if its caller says so.
    trace_id: Option<String>,
    started: Instant,
    answered: Option<Answered>,
}

struct Answered {
    route: &'static str,
    outcome: Option<&'static str>,
    status: StatusCode,
}

impl AccessLog {
    pub(crate) fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// Begins the line of a request, if requests are logged.
    pub(crate) fn begin<B>(self, request: &Request<B>) -> Option<AccessEntry> {
        if !self.is_on {
            return None;
        }
        let id = request.headers().get(&REQUEST_ID).map(|id| shown_bytes(id.as_bytes()));
        Some(AccessEntry {
            method: request.method().clone(),
            peer: request.extensions().get().copied(),
            request_id: id,
            trace_id: trace::parent_of(request.headers()).as_ref().and_then(trace::trace_id).map(str::to_owned),
            started: Instant::now(),
            answered: None,
        })
    }
}

impl AccessEntry {
    /// Adds the answer, by the route's name and not by the path.
    pub(crate) fn answer<B>(mut self, route: &'static str, outcome: Option<&'static str>, response: &Response<B>) {
        self.answered = Some(Answered { route, outcome, status: response.status() });
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        let method = shown(self.method.as_str());
        let method = method.get(..32).unwrap_or(&method);
        let duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let peer = self.peer.map(tracing::field::display);
        let request_id = self.request_id.as_deref();
        let trace_id = self.trace_id.as_deref();
        match &self.answered {
            Some(Answered { route, outcome, status }) => tracing::info!(
                target: "fastauth::access",
                method, route, status = status.as_u16(), outcome = *outcome, duration_us, peer, request_id, trace_id,
                "answered"
            ),
            None => tracing::info!(
                target: "fastauth::access",
                method, outcome = "disconnected", duration_us, peer, request_id, trace_id,
                "the client left before it was answered"
            ),
        }
    }
}
