//! The origins whose pages may open WebSockets.

use http::{HeaderMap, HeaderValue, header::ORIGIN};

/// The origins whose pages may open WebSockets, as browsers write them; all, where there is no list.
#[derive(Clone, Debug, Default)]
pub struct Origins(Option<Box<[HeaderValue]>>);

impl Origins {
    pub fn new(origins: Option<Vec<HeaderValue>>) -> Self {
        Self(origins.map(Vec::into_boxed_slice))
    }

    /// Whether a handshake may go on. Whatever is no browser names no origin.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(origins) = &self.0 else { return true };
        headers.get_all(ORIGIN).iter().all(|origin| origins.contains(origin))
    }
}

/// An origin as a browser writes it (RFC 6454 6.2), or what is wrong with it and what to do.
pub fn origin(text: &str) -> Result<HeaderValue, (&'static str, &'static str)> {
    const WRITE: &str = "write \"https://HOST\" or \"https://HOST:PORT\", as browsers do";
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err(match text {
            "*" => ("is no origin", "leave the key out to let every page in"),
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
            assert_eq!(some.admit(&headers(origins)), expected, "{origins:?}");
            assert!(Origins::default().admit(&headers(origins)));
        }
    }
}
