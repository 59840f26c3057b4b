//! Sends calls to a store, and names what can go wrong on the way.

use std::{
    borrow::Cow,
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{sleep, timeout};

use super::{
    budget::Budget,
    http_client::{HttpClient, HttpError, cut_off, failed, is_timeout},
    limits::Limits,
    news::{CallListener, CallNews, News},
    pools::Via,
    servers::{Attempt, Errand, SILENCE, Server, Servers},
    slots::Slots,
    stream::{self, ServerStream},
};
use crate::wire;
use fastauth_core::{
    random::random_bytes,
    store::{HTTP_PATIENCE, StoreError, StoreErrorKind},
    trace,
};

/// The characters of a parameter that are sent as they are; a space is `%20`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest body that is read.
const MAX_BODY: usize = 1024 * 1024;
/// How much of an unused body is read off a connection to use it again, and for how long.
const MAX_REST: usize = 64 * 1024;
const REST_TIMEOUT: Duration = Duration::from_millis(50);
/// Answers of a proxy, or of a server, that cannot reach what is behind it at the moment.
const PASSING: [StatusCode; 3] =
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

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
    servers: Servers,
    budget: Budget,
    pub(super) slots: Slots,
    /// What one server announced binds all.
    version: AtomicU8,
    pub(super) limits: Limits,
    news: News,
    has_feed: AtomicBool,
    /// The last change that is known here.
    seen: RwLock<Option<HeaderValue>>,
}

/// One call of the store API.
pub(super) struct HttpCall {
    method: Method,
    path: &'static str,
    query: String,
    header: Option<(HeaderName, HeaderValue)>,
    body: Option<Bytes>,
    via: Via,
    errand: Errand,
}

impl HttpCall {
    /// Creates a call of a path below the base. A GET is a look-up.
    pub(super) fn new(method: Method, path: &'static str) -> Self {
        let errand = if method == Method::GET { Errand::LookUp } else { Errand::Usual };
        Self { method, path, query: String::new(), header: None, body: None, via: Via::Kept, errand }
    }

    pub(super) fn errand(mut self, errand: Errand) -> Self {
        self.errand = errand;
        self
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

    /// Returns the error for a refusal of the store to issue more tokens to a client.
    pub(super) fn rate_limited(&self) -> StoreError {
        let seconds = self.response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        StoreError::rate_limited(Duration::from_secs(seconds.unwrap_or(1)))
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
        let kind = if status.is_server_error() { StoreErrorKind::Unavailable } else { StoreErrorKind::InvalidAnswer };
        StoreError::new(kind, format!("the token store answered {call} with status {}{hint}", status.as_u16()))
    }
}

impl Connection {
    pub(super) fn new<'a>(
        base_urls: impl IntoIterator<Item = &'a str>,
        headers: HeaderMap,
    ) -> Result<Self, StoreError> {
        let news = News::default();
        Ok(Self {
            headers,
            servers: Servers::new(base_urls, &news)?,
            budget: Budget::new(),
            slots: Slots::new(&news),
            news,
            version: AtomicU8::new(Version::Unknown as u8),
            limits: Limits::new(HTTP_PATIENCE),
            has_feed: AtomicBool::new(false),
            seen: RwLock::default(),
        })
    }

    /// Returns true if the store has announced that it has a feed of its changes.
    pub(super) fn has_feed(&self) -> bool {
        self.has_feed.load(Ordering::Relaxed)
    }

    /// Lets look-ups name the last change that is known here: a server that does not know it yet must not answer out of its cache.
    pub(super) fn note_seen(&self, seen: Option<HeaderValue>) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
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

    /// Tells a listener of what becomes of calls from now on, and of the state of the servers.
    pub(super) fn listen(&self, listener: CallListener) {
        self.news.listen(listener);
        self.servers.tell();
    }

    /// Notes the version that the store speaks. A store that spoke the second one is never taken for less.
    pub(super) fn learn(&self, version: Version) {
        if self.version.fetch_max(version as u8, Ordering::Relaxed) < version as u8 {
            tracing::debug!(target: "fastauth", ?version, "the token store's version");
        }
    }

    /// Sends a call and reads the answer by `read`. If that fails, a look-up is sent a second time: to another server, or on a new
    /// connection. A write is so only if no connection could be made, for otherwise the store may have done it.
    pub(super) async fn exchange<T, R>(
        &self,
        call: HttpCall,
        read: impl Fn(StoreResponse) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        self.budget.earn();
        let first = self.servers.pick(call.errand).ok_or_else(spared)?;
        // Boxed, for it is part of all futures around a call, which are moved more than once.
        match call.errand {
            Errand::LookUp => Box::pin(self.look_up(first, &call, &read)).await,
            Errand::Usual | Errand::Urgent => Box::pin(self.send_once(first, &call, &read)).await,
        }
    }

    /// Opens a stream by a GET, on a connection of its own to a healthy server. Only its head has to come as soon as that of a look-up.
    pub(super) async fn open_stream(&self, call: HttpCall) -> Result<ServerStream, StoreError> {
        let mut attempt = self.servers.pick(Errand::LookUp).ok_or_else(spared)?;
        let client = attempt.client(Via::Fresh);
        let request = self.request(&client, &call)?;
        let server = Arc::clone(attempt.server());
        // A failure without a wait does not count: an idle node tries again and again, and the first request is to be tried, too.
        let sent = timeout(self.limits.get().attempt, client.send(request)).await.map_err(|_| timed_out())?;
        let response = self.response(sent.map_err(unreached)?, &server);
        let status = response.status();
        if status == StatusCode::OK && response.is_announced {
            attempt.succeed();
            return Ok(ServerStream::new(response.response.into_body(), server));
        }
        if stream::is_missing(status) {
            attempt.succeed();
            return Err(StoreError::unsupported("the token store has no feed of changes"));
        }
        let error = response.unexpected("a stream").await;
        if !is_failure(&error, status) {
            attempt.succeed();
        }
        Err(error)
    }

    /// Sends a call to one server after another until a connection is made.
    async fn send_once<T, R>(
        &self,
        first: Attempt,
        call: &HttpCall,
        read: &impl Fn(StoreResponse) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let mut attempt = first;
        for _ in 1..self.servers.count() {
            let server = Arc::clone(attempt.server());
            match self.attempt(attempt, call.via, call, read).await {
                Err(Failure { error, retry: Retry::Unsent }) => match self.servers.pick_other(&server) {
                    Some(other) => attempt = other,
                    None => return Err(error),
                },
                outcome => return outcome.map_err(|failure| failure.error),
            }
        }
        self.attempt(attempt, call.via, call, read).await.map_err(|failure| failure.error)
    }

    async fn look_up<T, R>(
        &self,
        first: Attempt,
        call: &HttpCall,
        read: &impl Fn(StoreResponse) -> R,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let server = Arc::clone(first.server());
        let mut first = Box::pin(self.attempt(first, call.via, call, read));
        let first_outcome = match timeout(SILENCE, &mut first).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => Some(failure),
            Err(_) => None,
        };
        let retry = first_outcome.as_ref().map_or(Retry::Elsewhere, |failure| failure.retry);
        let again = match retry {
            Retry::Never => None,
            Retry::Reconnecting => server.again(),
            Retry::Elsewhere | Retry::Unsent => self.servers.pick_again(&server),
        };
        let again = again.filter(|_| self.budget.spend());
        let Some(again) = again else {
            return match first_outcome {
                Some(failure) => Err(failure.error),
                None => first.await.map_err(|failure| failure.error),
            };
        };
        self.news.tell(CallNews::Repeated);
        let mut second = Box::pin(async {
            if first_outcome.is_some() && retry != Retry::Reconnecting {
                sleep(jitter()).await;
            }
            self.attempt(again, Via::Fresh, call, read).await
        });
        if first_outcome.is_some() {
            return second.await.map_err(|failure| failure.error);
        }
        let outcome = match select(&mut first, &mut second).await {
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
            Either::Left((outcome, _)) | Either::Right((outcome, _)) => outcome,
        };
        outcome.map_err(|failure| failure.error)
    }

    /// Sends a call to one server, once.
    async fn attempt<T, R>(
        &self,
        mut attempt: Attempt,
        via: Via,
        call: &HttpCall,
        read: &impl Fn(StoreResponse) -> R,
    ) -> Result<T, Failure>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        let client = attempt.client(via);
        let request = self.request(&client, call).map_err(Failure::last)?;
        let asking = async {
            let response = client.send(request).await?;
            let status = response.status();
            Ok((status, read(self.response(response, attempt.server())).await))
        };
        let limit = if call.errand == Errand::LookUp { self.limits.get().attempt } else { self.limits.get().write };
        match timeout(limit, asking).await {
            Err(_) => {
                attempt.fail_silently();
                Err(Failure::last(timed_out()))
            }
            Ok(Err(error)) if broke(&error) && attempt.is_kept() => {
                attempt.break_off();
                Err(Failure { error: unreached(error), retry: Retry::Reconnecting })
            }
            Ok(Err(error)) => {
                attempt.fail_silently();
                let retry = if error.is_connect() { Retry::Unsent } else { Retry::Elsewhere };
                Err(Failure { error: unreached(error), retry })
            }
            Ok(Ok((_, Ok(answer)))) => {
                attempt.succeed();
                Ok(answer)
            }
            Ok(Ok((status, Err(error)))) => {
                if is_failure(&error, status) {
                    attempt.fail();
                } else {
                    attempt.succeed();
                }
                let is_passing = PASSING.contains(&status) || error.kind() == StoreErrorKind::Unreachable;
                Err(Failure { error, retry: if is_passing { Retry::Elsewhere } else { Retry::Never } })
            }
        }
    }

    fn response(&self, response: Response<Incoming>, server: &Server) -> StoreResponse {
        let is_announced = response.headers().get(wire::ANNOUNCEMENT).is_some_and(wire::announces);
        if is_announced {
            self.learn(Version::V2);
        } else if self.speaks_v2() && (response.status().is_success() || response.status() == StatusCode::NOT_FOUND) {
            server.tell_mixture();
        }
        if response.headers().get(wire::ANNOUNCEMENT).is_some_and(wire::announces_feed) {
            self.has_feed.store(true, Ordering::Relaxed);
        }
        StoreResponse { response, is_announced }
    }

    fn request(&self, client: &HttpClient, call: &HttpCall) -> Result<Request<Full<Bytes>>, StoreError> {
        let url = format!("{}{}", call.path, call.query);
        let url = client
            .url(&url)
            .map_err(|error| failed("the client id is too long for the token store's URL").caused_by(error))?;
        let mut request = Request::new(Full::from(call.body.clone().unwrap_or_default()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.extend(call.header.clone());
        if let Some(parent) = trace::parent() {
            headers.insert(trace::TRACEPARENT, parent);
        }
        if call.method == Method::GET
            && let Some(seen) = &*self.seen.read().unwrap_or_else(PoisonError::into_inner)
        {
            headers.insert(wire::SEEN, seen.clone());
        }
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

/// Why an attempt failed, and whether a second one can help.
struct Failure {
    error: StoreError,
    retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Never,
    /// A kept connection broke: on a new one to the same server.
    Reconnecting,
    Elsewhere,
    /// Elsewhere, and a write too, for no connection was made.
    Unsent,
}

impl Failure {
    fn last(error: StoreError) -> Self {
        Self { error, retry: Retry::Never }
    }
}

/// Returns true if an error shows that a server does not do what a store does. A refusal of a call is an answer.
fn is_failure(error: &StoreError, status: StatusCode) -> bool {
    match error.kind() {
        StoreErrorKind::Unreachable | StoreErrorKind::TimedOut | StoreErrorKind::Unavailable => true,
        StoreErrorKind::InvalidAnswer => !status.is_client_error() || status == StatusCode::NOT_FOUND,
        _ => false,
    }
}

/// Returns how long a second try waits: 25 to 100 ms.
fn jitter() -> Duration {
    Duration::from_millis(25 + u64::from(random_bytes::<1>()[0]) * 75 / 255)
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

/// Creates the error for a call that no server is asked.
fn spared() -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "the token store failed before, and is not asked again yet")
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
