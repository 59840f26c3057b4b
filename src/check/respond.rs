//! Responses in JSON.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
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
pub(crate) fn misplaced(problem: &str, method: &Method) -> Response<Full<Bytes>> {
    tracing::error!(target: "fastauth", "{problem}");
    let detail = if cfg!(debug_assertions) { problem } else { "Internal Server Error" };
    let response = json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "detail": detail }));
    if method == Method::HEAD { head_only(response) } else { response }
}

/// Empties the body of a response to HEAD: it has the headers of GET's, and over HTTP/2 nothing else removes the body.
pub(crate) fn head_only(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.map(|_| Full::default())
}

/// Gives a response of the application the length of its body, whatever its headers say. With another length, what follows on the connection
/// would be taken for a part of it.
pub(crate) fn with_own_length(response: Response<Bytes>) -> Response<Full<Bytes>> {
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(TRANSFER_ENCODING);
    // These end with their heads (RFC 9112 6.3).
    if head.status.is_informational() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Response::from_parts(head, Full::default());
    }
    // It fails if there are as many headers as there can be. The server says how long the body is then.
    let _ = head.headers.try_insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(head, Full::new(body))
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
