//! The trace that a request belongs to (W3C Trace Context), passed on to a store behind HTTP.

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that names a trace, and a span in it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static PARENT: HeaderValue;
}

/// Returns the `traceparent` of a request, if there is one and it is valid.
#[must_use]
pub fn parent_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let parent = values.next().filter(|parent| trace_id(parent).is_some())?;
    values.next().is_none().then(|| parent.clone())
}

/// Returns the `traceparent` of the request that this task is for.
#[must_use]
pub fn parent() -> Option<HeaderValue> {
    PARENT.try_with(Clone::clone).ok()
}

/// Runs what is done for a request with this `traceparent`.
pub async fn within<T>(parent: Option<HeaderValue>, work: impl Future<Output = T>) -> T {
    match parent {
        Some(parent) => PARENT.scope(parent, work).await,
        None => work.await,
    }
}

/// Returns the id of the trace in a valid `traceparent`.
///
/// ```
/// use fastauth_core::trace::trace_id;
/// use http::HeaderValue;
///
/// let parent = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// assert_eq!(trace_id(&parent), Some("0af7651916cd43dd8448eb211c80319c"));
/// ```
#[must_use]
pub fn trace_id(parent: &HeaderValue) -> Option<&str> {
    let text = parent.to_str().ok()?;
    let mut parts = text.split('-');
    let version = parts.next().filter(|version| is_hex(version, 2) && *version != "ff")?;
    let trace = parts.next().filter(|trace| is_hex(trace, 32) && !is_zero(trace))?;
    parts.next().filter(|span| is_hex(span, 16) && !is_zero(span))?;
    parts.next().filter(|flags| is_hex(flags, 2))?;
    // Later versions may have more.
    let is_whole = if version == "00" { parts.next().is_none() } else { text.len() <= 256 };
    is_whole.then_some(trace)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn only_a_valid_parent_is_passed_on() {
        let span = "b7ad6b7169203331";
        for (text, is_valid) in [
            (format!("00-{TRACE}-{span}-01"), true),
            (format!("cc-{TRACE}-{span}-01-more"), true),
            (format!("00-{TRACE}-{span}-01-more"), false),
            (format!("ff-{TRACE}-{span}-01"), false),
            (format!("00-{TRACE}-{span}"), false),
            (format!("00-{}-{span}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{span}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}-{span}-0g"), false),
            (format!("cc-{TRACE}-{span}-01-{}", "x".repeat(300)), false),
            (String::new(), false),
        ] {
            let parent = HeaderValue::try_from(&text).unwrap();
            assert_eq!(trace_id(&parent), is_valid.then_some(TRACE), "{text}");
            let mut headers = HeaderMap::from_iter([(TRACEPARENT, parent.clone())]);
            assert_eq!(parent_of(&headers).is_some(), is_valid, "{text}");
            headers.append(TRACEPARENT, parent);
            assert_eq!(parent_of(&headers), None, "twice");
        }
    }

    #[tokio::test]
    async fn a_parent_is_there_within_its_request() {
        let value = HeaderValue::from_static("x");
        assert_eq!(within(Some(value.clone()), async { parent() }).await, Some(value));
        assert_eq!(within(None, async { parent() }).await, None);
    }
}
