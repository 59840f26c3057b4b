//! The parts of a request that the rules look at.

use http::{Method, Uri};

use super::{PathRefusal, Requirement};

/// The parts of a request that the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a Method,
    /// The URI, as it was received.
    pub uri: &'a Uri,
    /// The URI before a router stripped a prefix, if the request has it.
    pub original_uri: Option<&'a Uri>,
    /// The request has both `Origin` and `Access-Control-Request-Method`.
    pub cors_headers: bool,
    /// What it opens, if its method is CONNECT.
    pub connect: Connect,
    /// The result of a [glance](super::Rules::glance) at the method and the URI's path.
    pub glance: Option<Requirement>,
}

/// What a CONNECT opens, which says what rules take it for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Connect {
    /// A tunnel, or another protocol than that of WebSockets: rules take it for a CONNECT.
    #[default]
    Tunnel,
    /// A WebSocket over HTTP/2 (RFC 8441): rules take it for a GET.
    WebSocket,
    /// One of the two, and it is not known which: what rules ask of both is needed.
    Unknown,
}

impl<'a> RequestLine<'a> {
    /// Creates the line of a request that no router has changed and that has no headers of CORS.
    #[must_use]
    pub fn new(method: &'a Method, uri: &'a Uri) -> Self {
        Self { method, uri, original_uri: None, cors_headers: false, connect: Connect::Tunnel, glance: None }
    }

    /// Returns the URI before a router stripped a prefix, if its path is another one.
    #[inline]
    pub(super) fn other_path(&self) -> Option<&'a Uri> {
        self.original_uri.filter(|original| original.path() != self.uri.path())
    }

    pub(super) fn is_preflight(&self) -> bool {
        self.cors_headers && self.method == Method::OPTIONS
    }
}

/// Returns the path of a request target, `/` if the target has none (RFC 9112, section 3.2). Hosts, queries and
/// fragments do not count.
#[inline]
pub(super) fn target_path<'a>(method: &Method, uri: &'a Uri) -> Result<&'a str, PathRefusal> {
    match uri.path() {
        path if path.starts_with('/') => Ok(path),
        "*" if method == Method::OPTIONS => Ok("/"),
        "" if method == Method::CONNECT => Ok("/"),
        // HTTP/2 let paths without a slash through before http 1.4.1.
        _ => Err(PathRefusal::RequestTarget),
    }
}
