//! Renders the answers: of the endpoints, and of handlers that issue tokens themselves.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{LOCATION, PRAGMA},
};
use http_body_util::Full;
use serde::Serialize;

use crate::check::respond::json_response;

/// Renders a result that all endpoints but the original's give in the form of OAuth.
pub(super) fn oauth_ok(body: &impl Serialize) -> Response<Full<Bytes>> {
    oauth(StatusCode::OK, body)
}

/// Adds what RFC 6749 5.1 asks for: the router forbids caching anyway, and old caches know this header alone.
pub(super) fn oauth(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = json_response(status, body);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Redirects to the same path without the slash at its end, of which `segment` is the last. The target is relative, since only the
/// client knows the path before a proxy changed it.
pub(super) fn without_slash(segment: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    // A query is text that a header can carry.
    if let Ok(mut location) = HeaderValue::try_from(format!("../{segment}{query}")) {
        // There may be a token in it.
        location.set_sensitive(true);
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
