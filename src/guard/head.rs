//! The head of a request: taken out of it while its body stays where it is, and without the ticket in its URI.

use std::mem;

use http::{Extensions, Method, Request, Version, request::Parts};

use crate::{credential, original_uri, rule::Connect};

/// Returns what a CONNECT opens. From HTTP/2 on, one with a path is an extended one (RFC 8441), whose protocol is no header: the client chooses
/// its headers as it likes.
#[inline]
pub(super) fn connect<B>(request: &Request<B>) -> Connect {
    let is_extended = *request.method() == Method::CONNECT
        && request.version() >= Version::HTTP_2
        && request.uri().path().starts_with('/');
    if is_extended { extended(request.extensions()) } else { Connect::Tunnel }
}

#[cfg(feature = "websocket")]
fn extended(extensions: &Extensions) -> Connect {
    match extensions.get::<hyper::ext::Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => Connect::WebSocket,
        Some(_) => Connect::Tunnel,
        // Another server than hyper.
        None => Connect::Unknown,
    }
}

/// The protocol stands in a type of hyper, which is not there.
#[cfg(not(feature = "websocket"))]
fn extended(_: &Extensions) -> Connect {
    Connect::Unknown
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
