//! The head of a request: taken out of it while its body stays where it is, and without the ticket in its URI.

use std::mem;

use http::{Method, Request, Version, header::SEC_WEBSOCKET_VERSION, request::Parts};

use crate::{credential, original_uri};

/// Returns true for an extended CONNECT that opens a WebSocket (RFC 8441). Of HTTP/2 on, a CONNECT with a path is an extended one. What it is for
/// is known to hyper alone, but only a handshake names a version of WebSockets.
#[inline]
pub(super) fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.version() >= Version::HTTP_2
        && request.uri().path().starts_with('/')
        && request.headers().contains_key(SEC_WEBSOCKET_VERSION)
}

/// Takes the head out of a request. What is left has no use until it is [put back](put_back).
pub(super) fn take<B>(request: &mut Request<B>) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = mem::take(request.method_mut());
    head.uri = mem::take(request.uri_mut());
    head.version = request.version();
    head.headers = mem::take(request.headers_mut());
    head.extensions = mem::take(request.extensions_mut());
    head
}

/// Puts the head of a request back.
pub(super) fn put_back<B>(request: &mut Request<B>, head: Parts) {
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    *request.extensions_mut() = head.extensions;
}

/// Takes the ticket out of the URIs, before anything else sees them.
#[cold]
pub(super) fn strip_ticket<B>(request: &mut Request<B>) {
    if let Some(uri) = credential::without_ticket(request.uri()) {
        *request.uri_mut() = uri;
    }
    original_uri::change(request.extensions_mut(), credential::without_ticket);
}
