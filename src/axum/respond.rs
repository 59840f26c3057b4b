//! What issuing gives, as answers of handlers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::Full;

use crate::{IssueError, IssuedTokens, LoggedOut};

impl IntoResponse for IssuedTokens {
    fn into_response(self) -> Response {
        with_body(self.into())
    }
}

impl IntoResponse for LoggedOut {
    fn into_response(self) -> Response {
        with_body(self.into())
    }
}

impl IntoResponse for IssueError {
    fn into_response(self) -> Response {
        with_body(self.into())
    }
}

fn with_body(response: http::Response<Full<Bytes>>) -> Response {
    response.map(Body::new)
}
