//! The origins of pages: which are the application's own, and which others may act for their users here.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{HOST, ORIGIN},
};

use crate::credential::single;

/// The origins of `allowed-origins`, as browsers write them.
#[derive(Clone, Debug, Default)]
pub struct Origins(Option<Arc<[HeaderValue]>>);

impl Origins {
    /// Creates the list; `None` if none is configured.
    #[must_use]
    pub fn new(origins: Option<Vec<HeaderValue>>) -> Self {
        Self(origins.map(Into::into))
    }

    /// Returns the origins beside the application's own.
    #[must_use]
    pub fn list(&self) -> &[HeaderValue] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns true if a page of the sender's origin may have a cookie sent along: it is the application's own, or one of the list.
    /// Clients other than browsers name no origin, and are admitted.
    #[must_use]
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        !is_cross_origin(uri, headers) || single(headers, &ORIGIN).is_some_and(|origin| self.list().contains(origin))
    }

    /// Returns true if a page of the sender's origin may open a WebSocket, which every page may unless there is a list.
    #[must_use]
    pub fn admit_handshake(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.0.is_none() || self.admit(uri, headers)
    }
}

/// An origin as a browser writes it (RFC 6454 6.2), or what is wrong with it and what to do.
pub fn origin(text: &str) -> Result<HeaderValue, (&'static str, &'static str)> {
    const WRITE: &str = "write \"https://HOST\" or \"https://HOST:PORT\", as browsers do";
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err(match text {
            "*" => ("is no origin", "name each origin; without the key, every page may open WebSockets"),
            "null" => ("is what every sandboxed page says", WRITE),
            _ => ("has no scheme", WRITE),
        });
    };
    if text.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(("has capital letters", "write it in lower case, as browsers do"));
    }
    if matches!(scheme, "ws" | "wss") {
        return Err(("is the address of a socket, not of a page", WRITE));
    }
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if authority.contains(['/', '?', '#', '@', '\\']) {
        return Err(("has more than a scheme, a host and a port", WRITE));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| !port.starts_with('0') && port.parse::<u16>().is_ok() && !port.starts_with('+');
    if !is_scheme || !is_host(host) || !port.is_none_or(is_port) {
        return Err(("has no scheme, host or port that a browser would write", WRITE));
    }
    if matches!((scheme, port), ("http", Some("80")) | ("https", Some("443"))) {
        return Err(("names the port that the scheme has anyway", "leave the port out, as browsers do"));
    }
    HeaderValue::from_str(text).map_err(|_| ("cannot stand in a header", WRITE))
}

/// Names in other scripts have to be in the form that is all ASCII.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

/// Returns true if a browser sent the request for a page of another origin, by what it says itself (Fetch Metadata), or
/// else by the `Origin`. Other clients send neither.
fn is_cross_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    if headers.contains_key(SITE) {
        return !matches!(single(headers, &SITE).map(HeaderValue::as_bytes), Some(b"same-origin" | b"none"));
    }
    if !headers.contains_key(ORIGIN) {
        return false;
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or_else(|| single(headers, &HOST).map(HeaderValue::as_bytes));
    let origin = single(headers, &ORIGIN);
    !origin.zip(host).is_some_and(|(origin, host)| is_own_origin(origin.as_bytes(), host))
}

/// Returns true if a page of this origin is one of the application's at this host. What is at stake is a cookie that browsers
/// send only over TLS, or to their own machine, so the application is there.
fn is_own_origin(origin: &[u8], host: &[u8]) -> bool {
    if let Some(of_page) = origin.strip_prefix(b"https://") {
        return is_same_host(of_page, host, b":443");
    }
    let of_page = origin.strip_prefix(b"http://").filter(|of_page| is_own_machine(of_page));
    of_page.is_some_and(|of_page| is_same_host(of_page, host, b":80"))
}

/// Compares two hosts with their ports, of which the usual one may be left out.
fn is_same_host(one: &[u8], other: &[u8], usual_port: &[u8]) -> bool {
    let without = |host: &[u8]| host.strip_suffix(usual_port).unwrap_or(host).to_ascii_lowercase();
    without(one) == without(other)
}

fn is_own_machine(host_and_port: &[u8]) -> bool {
    const NAMES: [&[u8]; 3] = [b"localhost", b"127.0.0.1", b"[::1]"];
    NAMES.iter().any(|name| matches!(host_and_port.strip_prefix(*name), Some([] | [b':', ..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for text in [
            "https://app.example",
            "http://localhost:3000",
            "https://[::1]:8443",
            "http://127.0.0.1:8000",
            "https://xn--bcher-kva.example",
            "chrome-extension://abcdef",
            "https://a_b.example:1",
        ] {
            assert_eq!(origin(text).unwrap(), text);
        }
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://*",
            "https://*.app.example",
            "https://App.example",
            "HTTPS://app.example",
            "https://app.example/",
            "https://app.example/x",
            "https://app.example?x",
            "https://user@app.example",
            "https://app.example:443",
            "http://app.example:80",
            "https://app.example:",
            "https://app.example:+1",
            "https://app.example:0",
            "https://app.example:65536",
            "https://b\u{fc}cher.example",
            "https://[::1",
            "https://::1",
            "wss://app.example",
            "1a://x",
            "https://app.example ",
            "https://a b",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_known() {
        let headers = |origins: &[&'static str]| -> HeaderMap {
            origins.iter().map(|origin| (ORIGIN, HeaderValue::from_static(origin))).collect()
        };
        let some = Origins::new(Some(vec![origin("https://app.example").unwrap()]));
        for (expected, origins) in [
            (true, &[][..]),
            (true, &["https://app.example"]),
            (false, &["http://app.example"]),
            (false, &["https://app.example:1"]),
            (false, &["null"]),
            (false, &[""]),
            (false, &["https://app.example", "https://x.example"]),
        ] {
            let (uri, headers) = (Uri::from_static("/"), headers(origins));
            assert_eq!(some.admit(&uri, &headers), expected, "{origins:?}");
            assert_eq!(some.admit_handshake(&uri, &headers), expected, "{origins:?}");
            assert!(Origins::default().admit_handshake(&uri, &headers), "{origins:?}");
            assert_eq!(Origins::default().admit(&uri, &headers), origins.is_empty(), "{origins:?}");
        }
    }

    #[test]
    fn a_page_of_the_list_is_admitted_from_another_site_and_no_other_is() {
        let list = Origins::new(Some(vec![origin("https://app.example").unwrap()]));
        for (name, lines, expected) in [
            ("the list", vec![("sec-fetch-site", "cross-site"), ("origin", "https://app.example")], true),
            ("the same site", vec![("sec-fetch-site", "same-site"), ("origin", "https://app.example")], true),
            ("own", vec![("sec-fetch-site", "same-origin"), ("origin", "https://api.example")], true),
            ("own, by its host", vec![("host", "api.example"), ("origin", "https://api.example")], true),
            ("another", vec![("sec-fetch-site", "cross-site"), ("origin", "https://x.example")], false),
            ("one that does not say which", vec![("sec-fetch-site", "cross-site")], false),
            ("a sandbox", vec![("sec-fetch-site", "cross-site"), ("origin", "null")], false),
            ("two", vec![("origin", "https://app.example"), ("origin", "https://x.example")], false),
            ("no browser", vec![("host", "api.example")], true),
        ] {
            let lines =
                lines.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, value);
            }
            assert_eq!(list.admit(&Uri::from_static("/auth/token/refresh"), &headers), expected, "{name}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_recognised() {
        let cross_origin = |uri: &str, lines: &[(&'static str, &'static str)]| {
            let mut request = http::Request::builder().uri(uri);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            is_cross_origin(request.uri(), request.headers())
        };
        for (name, uri, lines, expected) in [
            ("no browser", "/", vec![("host", "app.example")], false),
            ("the same page", "/", vec![("sec-fetch-site", "same-origin"), ("origin", "https://x.example")], false),
            ("the address bar", "/", vec![("sec-fetch-site", "none")], false),
            ("a subdomain", "/", vec![("sec-fetch-site", "same-site")], true),
            ("another site", "/", vec![("sec-fetch-site", "cross-site")], true),
            ("an older browser", "/", vec![("origin", "https://app.example"), ("host", "app.example")], false),
            ("its other port", "/", vec![("origin", "https://app.example:1"), ("host", "app.example")], true),
            ("HTTP/2", "https://app.example/", vec![("origin", "https://app.example")], false),
            ("elsewhere in HTTP/2", "https://app.example/", vec![("origin", "https://x.example")], true),
            ("a sandbox", "/", vec![("origin", "null"), ("host", "null")], true),
            ("no host", "/", vec![("origin", "https://app.example")], true),
            ("a page without TLS", "/", vec![("origin", "http://app.example"), ("host", "app.example")], true),
            ("the same by HTTP/2", "http://app.example/", vec![("origin", "http://app.example")], true),
            ("no scheme of pages", "/", vec![("origin", "ftp://app.example"), ("host", "app.example")], true),
            ("no scheme", "/", vec![("origin", "app.example"), ("host", "app.example")], true),
            (
                "the port that goes without",
                "/",
                vec![("origin", "https://app.example"), ("host", "app.example:443")],
                false,
            ),
            ("another port", "/", vec![("origin", "https://app.example"), ("host", "app.example:80")], true),
            ("capitals", "/", vec![("origin", "https://app.example"), ("host", "App.Example")], false),
            ("this machine", "/", vec![("origin", "http://localhost:8000"), ("host", "localhost:8000")], false),
            (
                "this machine by number",
                "/",
                vec![("origin", "http://127.0.0.1:8000"), ("host", "127.0.0.1:8000")],
                false,
            ),
            ("this machine by IPv6", "/", vec![("origin", "http://[::1]:8000"), ("host", "[::1]:8000")], false),
            (
                "its other port without TLS",
                "/",
                vec![("origin", "http://localhost:1"), ("host", "localhost:8000")],
                true,
            ),
            (
                "the machine's like",
                "/",
                vec![("origin", "http://localhost.example"), ("host", "localhost.example")],
                true,
            ),
            (
                "the number's like",
                "/",
                vec![("origin", "http://127.0.0.1.example"), ("host", "127.0.0.1.example")],
                true,
            ),
            (
                "two pages",
                "/",
                vec![("origin", "https://app.example"), ("origin", "https://x.example"), ("host", "app.example")],
                true,
            ),
            ("two sites", "/", vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], true),
            (
                "two hosts",
                "/",
                vec![("origin", "https://app.example"), ("host", "app.example"), ("host", "x.example")],
                true,
            ),
        ] {
            assert_eq!(cross_origin(uri, &lines), expected, "{name}");
        }
    }
}
