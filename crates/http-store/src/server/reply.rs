//! Replies, and problems in the form of the path: `{"detail":…}` in the first version, RFC 9457 in the second.

use std::{borrow::Cow, error::Error};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use serde_json::json;

use super::{body::StoreBody, outcome::CallResult};
use crate::wire;
use fastauth_core::store::{StoreError, StoreErrorKind};

pub(super) type StoreReply = Response<StoreBody>;

/// The reason why a call is refused.
#[derive(Debug)]
pub(super) struct StoreProblem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl StoreProblem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is required")
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn forbidden(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, wire::code::NOT_FOUND, "there is nothing at this path")
    }

    pub(super) fn unknown_client() -> Self {
        Self::new(StatusCode::NOT_FOUND, wire::code::UNKNOWN_CLIENT, "the client is not known")
    }

    pub(super) fn access_revoked(version: u64) -> Self {
        const DETAIL: &str =
            "the access tokens of the session were revoked; decide on the claims of the new pair again";
        Self::new(StatusCode::CONFLICT, wire::code::ACCESS_REVOKED, DETAIL).with(ETAG, wire::etag(version))
    }

    pub(super) fn precondition_failed() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", "another version is held; nothing changed")
    }

    pub(super) fn method(known: &[Method]) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("allowed methods: {}", list(known)))
            .with(ALLOW, allow(known))
    }

    /// The problem of a call that succeeds later, or at another server.
    pub(super) fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    fn rate_limited(error: &StoreError) -> Self {
        const DETAIL: &str = "this client is issued tokens too often: try again later";
        let after = error.retry_after().unwrap_or_default();
        // Whole seconds, rounded up, so that the next attempt is not too early again.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Self::new(StatusCode::TOO_MANY_REQUESTS, wire::code::RATE_LIMITED, DETAIL)
            .with(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    pub(super) fn body(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail)
    }

    pub(super) fn into_reply(self, is_v2: bool) -> StoreReply {
        let mut reply = if is_v2 {
            let body = json!({
                "type": format!("urn:fastauth:store:{}", self.code),
                "title": self.status.canonical_reason().unwrap_or_default(),
                "status": self.status.as_u16(),
                "detail": self.detail,
                "code": self.code,
            });
            typed(self.status, "application/problem+json", body.to_string())
        } else {
            json_reply(self.status, &json!({ "detail": self.detail }))
        };
        reply.headers_mut().extend(self.header);
        with_result(reply, CallResult::new(self.code))
    }
}

/// The problem of a store that failed. The cause is logged, and not sent.
impl From<StoreError> for StoreProblem {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Unsupported => {
                return Self::new(StatusCode::NOT_IMPLEMENTED, "unsupported", "the token store does not support this");
            }
            StoreErrorKind::RateLimited => return Self::rate_limited(&error),
            _ => {}
        }
        tracing::error!(target: "fastauth", kind = ?error.kind(), error = &error as &dyn Error, "the token store failed");
        Self::unavailable("the token store failed: try again")
    }
}

#[allow(clippy::expect_used, reason = "no input: the bodies are this crate's own types")]
pub(super) fn json_reply(status: StatusCode, body: &impl Serialize) -> StoreReply {
    let body = serde_json::to_string(body).expect("strings and numbers under string keys serialize");
    typed(status, "application/json", body)
}

pub(super) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> StoreReply {
    let mut reply = empty(status);
    *reply.body_mut() = StoreBody::from(body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub(super) fn empty(status: StatusCode) -> StoreReply {
    let mut reply = StoreReply::default();
    *reply.status_mut() = status;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub(super) fn options(known: &[Method]) -> StoreReply {
    let mut reply = empty(StatusCode::NO_CONTENT);
    reply.headers_mut().insert(ALLOW, allow(known));
    reply
}

pub(super) fn with_version(mut reply: StoreReply, version: Option<u64>) -> StoreReply {
    reply.headers_mut().extend(version.map(|version| (ETAG, wire::etag(version))));
    reply
}

pub(super) fn with_result(mut reply: StoreReply, result: CallResult) -> StoreReply {
    reply.extensions_mut().insert(result);
    reply
}

pub(super) fn announced(mut reply: StoreReply, has_feed: bool) -> StoreReply {
    let announcement = if has_feed { "v=2; feed=v2/changes" } else { "v=2" };
    reply.headers_mut().insert(wire::ANNOUNCEMENT, HeaderValue::from_static(announcement));
    reply
}

/// Turns the reply to GET into that to HEAD (RFC 9110 9.3.2).
pub(super) fn without_body(mut reply: StoreReply) -> StoreReply {
    use http_body::Body;
    let length = reply.body().size_hint().exact();
    if let Some(length) = length.filter(|_| reply.status() != StatusCode::NOT_MODIFIED) {
        reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *reply.body_mut() = StoreBody::default();
    reply
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}

#[allow(clippy::expect_used, reason = "no input: the methods are constants")]
fn allow(methods: &[Method]) -> HeaderValue {
    HeaderValue::try_from(list(methods)).expect("names of methods are tokens")
}
