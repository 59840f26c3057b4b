//! Sending calls to a store, and what can go wrong on the way.

use std::{
    borrow::Cow,
    future::Future,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Response, Url};

use super::{
    clients::Clients,
    places::{self, Places},
};
use crate::wire;
use fastauth_core::store::{StoreError, StoreErrorKind};

/// What the contract lets stand in a client id; a space is `%20`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;
/// How much of a body that nobody reads is taken off a connection to use it again, and for how long.
const MAX_REST: usize = 64 * 1024;
const REST_TIMEOUT: Duration = Duration::from_millis(50);
/// After how long without an answer a look-up is sent once more, on a new connection.
const SILENCE: Duration = Duration::from_secs(1);

/// On what connection a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// One that was kept, if there is one.
    Kept,
    /// A new one.
    Fresh,
}

/// Which version of the store API a store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// It has not answered yet.
    Unknown = 0,
    /// It did not announce more.
    V1 = 1,
    /// It announced it.
    V2 = 2,
}

/// The store on the other side.
pub(super) struct Calls {
    base: Url,
    headers: HeaderMap,
    clients: Clients,
    pub(super) places: Places,
    speaks: AtomicU8,
}

/// What is asked of a store.
pub(super) struct Call {
    method: Method,
    path: &'static str,
    query: String,
    header: Option<(HeaderName, HeaderValue)>,
    body: Option<Bytes>,
    via: Via,
}

impl Call {
    /// A call of a path below the base.
    pub(super) fn new(method: Method, path: &'static str) -> Self {
        Self { method, path, query: String::new(), header: None, body: None, via: Via::Kept }
    }

    pub(super) fn parameter(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { "" } else { "&" };
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

/// An answer of which nothing but the head has been read.
pub(super) struct Answer {
    response: Response,
    /// Whether it comes from a store that speaks the second version.
    pub(super) is_announced: bool,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Whether the head says that the body is a page for people, or else nothing that a store would say.
    pub(super) fn is_json_or_text(&self) -> bool {
        let content_type = self.response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        essence.is_none_or(|essence| essence.ends_with("json") || essence == "text/plain")
    }

    pub(super) fn version(&self) -> Option<u64> {
        wire::version(self.response.headers().get(ETAG)?.to_str().ok()?)
    }

    /// The whole body, or an error as soon as it grows too long.
    pub(super) async fn body(mut self) -> Result<Vec<u8>, StoreError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.response.chunk().await.map_err(cut_off)? {
            if body.len() + chunk.len() > MAX_ANSWER {
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

    /// What there is at once of a body, of which the rest does not matter.
    pub(super) async fn beginning(mut self) -> Vec<u8> {
        let mut beginning = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = self.response.chunk().await {
                beginning.extend_from_slice(&chunk);
                if beginning.len() > MAX_REST {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(REST_TIMEOUT, read).await;
        beginning
    }

    /// The error that a status is which the contract does not have for this call.
    pub(super) async fn unexpected(self, call: &str) -> StoreError {
        let status = self.status();
        self.discard().await;
        invalid(format!("the token store answered {call} with status {}", status.as_u16()))
    }
}

impl Calls {
    pub(super) fn new(base_url: &str, headers: HeaderMap) -> Result<Self, StoreError> {
        let base = base(base_url)?;
        let clients = Clients::new(base.scheme() == "https").map_err(|error| {
            let message = "cannot set up TLS for the token store: install the certificates of the authorities (the package \
                           ca-certificates), or name a file of them by SSL_CERT_FILE";
            failed(message).caused_by(error)
        })?;
        let places = Places::new(places::count());
        Ok(Self { base, headers, clients, places, speaks: AtomicU8::new(Speaks::Unknown as u8) })
    }

    pub(super) fn speaks(&self) -> Speaks {
        match self.speaks.load(Ordering::Relaxed) {
            2 => Speaks::V2,
            1 => Speaks::V1,
            _ => Speaks::Unknown,
        }
    }

    pub(super) fn speaks_v2(&self) -> bool {
        self.speaks() == Speaks::V2
    }

    /// Notes what the store speaks. What spoke the second version once does not speak less later.
    pub(super) fn learn(&self, speaks: Speaks) {
        if self.speaks.fetch_max(speaks as u8, Ordering::Relaxed) < speaks as u8 {
            tracing::debug!(?speaks, "the token store's version");
        }
    }

    /// Sends a request. A look-up is sent once more, on a new connection, if its own broke or said nothing for a second:
    /// hyper itself does so only when it had not begun to write, and a store that has gone resets a connection just after.
    /// A write is not, for it may have been taken.
    pub(super) async fn send(&self, call: Call) -> Result<Answer, StoreError> {
        let url = url(&self.base, &call);
        let mut headers = self.headers.clone();
        headers.extend(call.header);
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = |client: &Client| {
            let request = client.request(call.method.clone(), url.clone()).headers(headers.clone());
            // Boxed, for it is part of all futures around a call, which are moved more than once.
            Box::pin(if let Some(body) = &call.body { request.body(body.clone()) } else { request }.send())
        };
        let again = || request(self.clients.fresh());
        let outcome = match call.via {
            Via::Fresh => again().await,
            Via::Kept => {
                let (client, number) = self.clients.kept();
                let mut silent = Silent { clients: &self.clients, number, since: Instant::now() };
                let is_look_up = call.method == Method::GET;
                let mut first = request(client);
                let patience = if is_look_up { SILENCE } else { Duration::MAX };
                let outcome = match tokio::time::timeout(patience, &mut first).await {
                    Ok(Err(error)) if broke(&error) => {
                        self.clients.give_up(number);
                        if is_look_up { again().await } else { Err(error) }
                    }
                    Ok(outcome) => outcome,
                    Err(_) => match select(first, again()).await {
                        Either::Left((Err(_), second)) => second.await,
                        Either::Right((Err(_), first)) => first.await,
                        Either::Left((outcome, _)) => outcome,
                        Either::Right((outcome, _)) => {
                            self.clients.give_up(number);
                            outcome
                        }
                    },
                };
                silent.since = Instant::now();
                outcome
            }
        };
        let response = outcome.map_err(unreached)?;
        self.places.hear();
        let is_announced = response.headers().get(wire::ANNOUNCEMENT).is_some_and(wire::announces);
        if is_announced {
            self.learn(Speaks::V2);
        }
        Ok(Answer { response, is_announced })
    }
}

/// A call without an answer, whose connection is given up with the others when it is dropped after a while.
struct Silent<'a> {
    clients: &'a Clients,
    number: usize,
    since: Instant,
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SILENCE {
            self.clients.give_up(self.number);
        }
    }
}

fn base(base_url: &str) -> Result<Url, StoreError> {
    // The parser's error is dropped: it may quote what it could not read.
    let mut url = Url::parse(base_url)
        .map_err(|_| failed("the token store's URL cannot be read: it has to begin with http:// or https://"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(failed("the token store's URL has to begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(failed("the token store's URL holds a user or a password: send them in a header instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(failed("the token store's URL has a query or a fragment: end it with the path"));
    }
    match url.path_segments_mut() {
        Ok(mut segments) => _ = segments.pop_if_empty(),
        Err(()) => return Err(failed("the token store's URL has no path")),
    }
    Ok(url)
}

fn url(base: &Url, call: &Call) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(call.path.split('/'));
    }
    url.set_query(Some(&call.query).filter(|query| !query.is_empty()).map(String::as_str));
    url
}

/// What comes of a call by then.
pub(super) async fn until<T>(
    deadline: tokio::time::Instant,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout_at(deadline, call).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Whether a connection that had been made broke before an answer began.
fn broke(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

pub(super) fn failed(message: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::InvalidAnswer, message)
}

fn timed_out() -> StoreError {
    StoreError::new(StoreErrorKind::TimedOut, "the token store did not answer in time")
}

fn unreached(error: reqwest::Error) -> StoreError {
    let error = error.without_url();
    if error.is_timeout() {
        timed_out().caused_by(error)
    } else if error.is_builder() {
        failed("the client id is too long for the token store's URL").caused_by(error)
    } else if error.is_connect() {
        StoreError::new(StoreErrorKind::Unreachable, "the token store cannot be reached").caused_by(error)
    } else {
        StoreError::new(StoreErrorKind::Unreachable, "the connection to the token store broke").caused_by(error)
    }
}

fn cut_off(error: reqwest::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "the token store's answer broke off").caused_by(error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_base_and_the_call() {
        for (base_url, expected) in [
            ("http://127.0.0.1:80", "http://127.0.0.1/token"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/token"),
            ("https://db.example/mydb/data", "https://db.example/mydb/data/token"),
            ("https://db.example/mydb/data/", "https://db.example/mydb/data/token"),
            ("http://db.example/a%20b", "http://db.example/a%20b/token"),
            ("HTTP://[::1]:9/x", "http://[::1]:9/x/token"),
        ] {
            let call = Call::new(Method::GET, "token");
            assert_eq!(url(&base(base_url).expect(base_url), &call).as_str(), expected);
        }
        let call =
            Call::new(Method::GET, "v2/clients/-/token").parameter("client_id", "../a b").parameter("family", "");
        let expected = "http://db/x/v2/clients/-/token?client_id=..%2Fa%20b&family=";
        assert_eq!(url(&base("http://db/x/").unwrap(), &call).as_str(), expected);
    }
}
