//! An answer that goes on: the feed of changes.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{http_client::cut_off, servers::Server};
use fastauth_core::store::StoreError;

/// A response whose body goes on, from the server that it stays with.
pub(super) struct ServerStream {
    body: Incoming,
    server: Arc<Server>,
}

impl ServerStream {
    pub(super) fn new(body: Incoming, server: Arc<Server>) -> Self {
        Self { body, server }
    }

    /// Returns the next part, or `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(chunk) = frame.map_err(cut_off)?.into_data() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// Notes a heartbeat, which shows that the server is back if calls to it have failed.
    pub(super) fn is_alive(&self) {
        self.server.is_alive();
    }
}

/// Returns true if a status says that a store has no such stream.
pub(super) fn is_missing(status: StatusCode) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::NOT_IMPLEMENTED].contains(&status)
}
