//! Responses in JSON.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

pub(crate) fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    json_text_response(status, json_text(body))
}

/// Logs that a handler or a layer asks for more than the guard verified, and renders the answer: what needs a permit must not run without
/// one. With debug assertions, the body says what is wrong as well.
pub(crate) fn misplaced(problem: &str) -> Response<Full<Bytes>> {
    tracing::error!(target: "fastauth", "{problem}");
    let detail = if cfg!(debug_assertions) { problem } else { "Internal Server Error" };
    json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "detail": detail }))
}

/// Renders problem details (RFC 9457 3).
pub(crate) fn problem_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = json_response(status, body);
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    response
}

fn json_text(body: &impl Serialize) -> Bytes {
    // Nothing that is written here can fail to be written: texts and numbers under textual names.
    Bytes::from(serde_json::to_vec(body).unwrap_or_default())
}

pub(crate) fn json_text_response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Full::new(body);
    response
}
