//! Sends calls to a store, and names what can go wrong on the way.

use std::{
    borrow::Cow,
    future::Future,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    http_client::{HttpClient, HttpError, failed, is_timeout},
    pools::Pools,
    slots::{self, Slots},
};
use crate::wire;
use fastauth_core::store::{StoreError, StoreErrorKind};

/// The characters of a parameter that are sent as they are; a space is `%20`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest body that is read.
const MAX_BODY: usize = 1024 * 1024;
/// How much of an unused body is read off a connection to use it again, and for how long.
const MAX_REST: usize = 64 * 1024;
const REST_TIMEOUT: Duration = Duration::from_millis(50);
/// How long a look-up waits before it is sent again, on a new connection.
const SILENCE: Duration = Duration::from_secs(1);

/// The connection that a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// One that was kept, if there is one.
    Kept,
    /// A new one.
    Fresh,
}

/// The version of the store API that a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// It has not answered yet.
    Unknown = 0,
    /// It did not announce more.
    V1 = 1,
    /// It announced it.
    V2 = 2,
}

/// The way to one store.
pub(super) struct Connection {
    headers: HeaderMap,
    pools: Pools,
    pub(super) slots: Slots,
    version: AtomicU8,
}

/// One call of the store API.
pub(super) struct HttpCall {
    method: Method,
    path: &'static str,
    query: String,
    header: Option<(HeaderName, HeaderValue)>,
    body: Option<Bytes>,
    via: Via,
}

impl HttpCall {
    /// Creates a call of a path below the base.
    pub(super) fn new(method: Method, path: &'static str) -> Self {
        Self { method, path, query: String::new(), header: None, body: None, via: Via::Kept }
    }

    pub(super) fn parameter(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query += &format!("{separator}{name}={}", utf8_percent_encode(value, ENCODED));
        self
    }

    pub(super) fn parameters<'a>(self, parameters: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.fold(self, |call, (name, value)| call.parameter(name, value))
    }

    pub(super) fn header(mut self, header: Option<(HeaderName, HeaderValue)>) -> Self {
        self.header = header;
        self
    }

    pub(super) fn via(mut self, via: Via) -> Self {
        self.via = via;
        self
    }

    pub(super) fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// A response of which only the head has been read.
pub(super) struct StoreResponse {
    response: Response<Incoming>,
    /// True if it announces the second version.
    pub(super) is_announced: bool,
}

impl StoreResponse {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns true if the content type is one that a store would send: JSON, plain text or none.
    pub(super) fn is_json_or_text(&self) -> bool {
        let Some(content_type) = self.response.headers().get(CONTENT_TYPE) else { return true };
        let Ok(content_type) = content_type.to_str() else { return false };
        let essence = content_type.split_once(';').map_or(content_type, |(essence, _)| essence);
        let essence = essence.trim().to_ascii_lowercase();
        essence.ends_with("json") || essence == "text/plain"
    }

    /// Returns the version that the `ETag` names.
    pub(super) fn version(&self) -> Option<u64> {
        wire::version(self.response.headers().get(ETAG)?.to_str().ok()?)
    }

    /// Reads the whole body, or fails as soon as it grows too long.
    pub(super) async fn body(mut self) -> Result<Vec<u8>, StoreError> {
        let mut body = Vec::new();
        while let Some(frame) = self.response.frame().await {
            let Ok(chunk) = frame.map_err(cut_off)?.into_data() else { continue };
            if body.len() + chunk.len() > MAX_BODY {
                return Err(invalid("the token store's answer is longer than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Reads what is left, if it is short and there at once: only then can the connection be used again.
    pub(super) async fn discard(self) {
        self.beginning().await;
    }

    /// Reads the part of the body that is there at once.
    pub(super) async fn beginning(mut self) -> Vec<u8> {
        let mut beginning = Vec::new();
        let read = async {
            while let Some(Ok(frame)) = self.response.frame().await {
                let Ok(chunk) = frame.into_data() else { continue };
                beginning.extend_from_slice(&chunk);
                if beginning.len() > MAX_REST {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(REST_TIMEOUT, read).await;
        beginning
    }

    /// Returns the error for a status that the contract does not have for this call.
    pub(super) async fn unexpected(self, call: &str) -> StoreError {
        let status = self.status();
        self.discard().await;
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                r#": set `headers` to {"Authorization": "Bearer TOKEN"}, with a bearer token of the store"#
            }
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => ": a proxy did not reach it",
            StatusCode::SERVICE_UNAVAILABLE => ": its own log says why",
            _ => "",
        };
        invalid(format!("the token store answered {call} with status {}{hint}", status.as_u16()))
    }
}

impl Connection {
    pub(super) fn new(base_url: &str, headers: HeaderMap) -> Result<Self, StoreError> {
        let pools = Pools::new(base_url)?;
        let slots = Slots::new(slots::count());
        Ok(Self { headers, pools, slots, version: AtomicU8::new(Version::Unknown as u8) })
    }

    pub(super) fn version(&self) -> Version {
        match self.version.load(Ordering::Relaxed) {
            2 => Version::V2,
            1 => Version::V1,
            _ => Version::Unknown,
        }
    }

    pub(super) fn speaks_v2(&self) -> bool {
        self.version() == Version::V2
    }

    /// Notes the version that the store speaks. A store that spoke the second one is never taken for less.
    pub(super) fn learn(&self, version: Version) {
        if self.version.fetch_max(version as u8, Ordering::Relaxed) < version as u8 {
            tracing::debug!(target: "fastauth", ?version, "the token store's version");
        }
    }

    /// Sends a call. A look-up is sent again, on a new connection, if its own broke or was silent for a second: hyper itself
    /// does so only if it had not begun to write, and a store that has gone resets a connection just after. A write is not,
    /// for the store may have done it.
    pub(super) async fn send(&self, call: HttpCall) -> Result<StoreResponse, StoreError> {
        let via = call.via;
        let is_look_up = call.method == Method::GET;
        let request = self.request(call)?;
        // Boxed, for it is part of all futures around a call, which are moved more than once.
        let outcome = match via {
            Via::Fresh => Box::pin(self.pools.fresh().send(request)).await,
            Via::Kept => Box::pin(self.send_kept(request, is_look_up)).await,
        };
        let response = outcome.map_err(unreached)?;
        self.slots.hear();
        let is_announced = response.headers().get(wire::ANNOUNCEMENT).is_some_and(wire::announces);
        if is_announced {
            self.learn(Version::V2);
        }
        Ok(StoreResponse { response, is_announced })
    }

    fn request(&self, call: HttpCall) -> Result<Request<Full<Bytes>>, StoreError> {
        let url = format!("{}{}", call.path, call.query);
        let url = (self.pools.fresh().url(&url))
            .map_err(|error| failed("the client id is too long for the token store's URL").caused_by(error))?;
        let mut request = Request::new(Full::from(call.body.clone().unwrap_or_default()));
        *request.method_mut() = call.method;
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.extend(call.header);
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }

    async fn send_kept(
        &self,
        request: Request<Full<Bytes>>,
        is_look_up: bool,
    ) -> Result<Response<Incoming>, HttpError> {
        let (client, number) = self.pools.kept();
        let mut silent = Silent { pools: &self.pools, number, since: Instant::now() };
        let outcome = if is_look_up {
            self.look_up(client, number, request).await
        } else {
            let outcome = client.send(request).await;
            if outcome.as_ref().is_err_and(broke) {
                self.pools.give_up(number);
            }
            outcome
        };
        silent.since = Instant::now();
        outcome
    }

    async fn look_up(
        &self,
        client: &HttpClient,
        number: usize,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut first = Box::pin(client.send(request.clone()));
        let again = Box::pin(self.pools.fresh().send(request));
        match tokio::time::timeout(SILENCE, &mut first).await {
            Ok(Err(error)) if broke(&error) => {
                self.pools.give_up(number);
                again.await
            }
            Ok(outcome) => outcome,
            Err(_) => match select(first, again).await {
                Either::Left((Err(_), again)) => again.await,
                Either::Right((Err(_), first)) => first.await,
                Either::Left((outcome, _)) => outcome,
                Either::Right((outcome, _)) => {
                    self.pools.give_up(number);
                    outcome
                }
            },
        }
    }
}

/// A call without a response. Dropped after a while, it gives up its connection with the others.
struct Silent<'a> {
    pools: &'a Pools,
    number: usize,
    since: Instant,
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SILENCE {
            self.pools.give_up(self.number);
        }
    }
}

/// Runs a call until the deadline.
pub(super) async fn until<T>(
    deadline: tokio::time::Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout_at(deadline, call).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Returns true if a connection that had been made broke before a response began.
fn broke(error: &HttpError) -> bool {
    !error.is_connect() && !is_timeout(error)
}

pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::InvalidAnswer, message)
}

fn timed_out() -> StoreError {
    StoreError::new(StoreErrorKind::TimedOut, "the token store did not answer in time")
}

fn unreached(error: HttpError) -> StoreError {
    if is_timeout(&error) {
        timed_out().caused_by(error)
    } else if error.is_connect() {
        StoreError::new(StoreErrorKind::Unreachable, "the token store cannot be reached").caused_by(error)
    } else {
        StoreError::new(StoreErrorKind::Unreachable, "the connection to the token store broke").caused_by(error)
    }
}

fn cut_off(error: hyper::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "the token store's answer was cut off").caused_by(error)
}
