//! What stands behind proxies: servers, each with its own way to take a path.

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// A server, by the path that it takes a request for, where it takes it at all.
pub(crate) struct Upstream {
    pub(crate) name: &'static str,
    pub(crate) view: fn(&str) -> Option<String>,
}

pub(crate) const UPSTREAMS: [Upstream; 11] = [
    Upstream { name: "as is", view: |path| Some(path.to_owned()) },
    Upstream { name: "slashes merged", view: |path| Some(merge(path)) },
    Upstream { name: "cleaned, not decoded", view: |path| Some(resolve(&merge(path))) },
    // Go's ServeMux, nginx, most of Python.
    Upstream { name: "decoded and cleaned", view: |path| Some(resolve(&merge(&decode(path)?))) },
    Upstream { name: "decoded, dots resolved", view: |path| Some(resolve(&decode(path)?)) },
    Upstream { name: "dots resolved, decoded", view: |path| decode(&resolve(path)) },
    // Tomcat: parameters are dropped before anything is decoded.
    Upstream { name: "Java", view: |path| Some(resolve(&merge(&decode(&drop_parameters(path))?))) },
    Upstream { name: "decoded, then Java", view: |path| Some(resolve(&merge(&drop_parameters(&decode(path)?)))) },
    Upstream { name: ".NET", view: |path| Some(resolve(&merge(&decode(path)?.replace('\\', "/")))) },
    Upstream { name: "decoded twice", view: |path| Some(resolve(&merge(&decode(&decode(path)?)?))) },
    // One more hop through something that makes a URL of what it decoded.
    Upstream {
        name: "a URL again",
        view: |path| Some(parse(&format!("http://upstream{}", decode(path)?))?.path().into()),
    },
];

/// A URL that reqwest would send a request to.
pub(crate) fn parse(url: &str) -> Option<Url> {
    sendable(url, Url::parse(url).ok()?)
}

/// As [`parse`], for what may be relative.
pub(crate) fn join(base: &Url, reference: &str) -> Option<Url> {
    sendable(reference, base.join(reference).ok()?)
}

/// The guard takes a space for a space, while the url crate trims those around a text, and so takes ` /access` for
/// `/access`. What is to be joined must be looked at for that, as here.
fn sendable(text: &str, url: Url) -> Option<Url> {
    (text.trim() == text && matches!(url.scheme(), "http" | "https")).then_some(url)
}

pub(crate) fn decode(path: &str) -> Option<String> {
    percent_decode_str(path).decode_utf8().ok().map(Into::into)
}

fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for char in path.chars() {
        if char != '/' || !merged.ends_with('/') {
            merged.push(char);
        }
    }
    merged
}

fn resolve(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    for segment in segments.clone() {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if matches!(segments.next_back(), Some("." | "..")) {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

fn drop_parameters(path: &str) -> String {
    let names: Vec<_> = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    names.join("/")
}
