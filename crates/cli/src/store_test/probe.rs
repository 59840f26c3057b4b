//! Calls of a store under test, and the checks of its responses.

use std::{
    collections::BTreeSet,
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use fastauth_core::{
    random::unique_name,
    store::{HTTP_PATIENCE, StoreError, TokenDigest},
};
use fastauth_http_store::HttpClient;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::failure::chain;

/// The characters of a client id that are sent as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How long the tokens of the test last, in seconds: a store that cleans up may do so soon.
const LIFETIME: u64 = 600;
/// How many characters of a response are shown.
const SHOWN: usize = 160;

/// The verdict on a promise.
pub(crate) type Kept = Result<(), Unkept>;

/// The reason why a promise is not kept.
#[derive(Debug)]
pub(crate) enum Unkept {
    Broken { expected: String, found: String },
    NotOffered(&'static str),
}

pub(crate) fn broken<T>(expected: impl Display, found: impl Display) -> Result<T, Unkept> {
    Err(Unkept::Broken { expected: expected.to_string(), found: found.to_string() })
}

/// The store, and the clients that were created there.
pub(crate) struct StoreProbe {
    pub(crate) headers: HeaderMap,
    client: HttpClient,
    run: String,
    made: Mutex<BTreeSet<String>>,
    counter: AtomicU64,
}

/// A pair of tokens without a valid signature, so that no server accepts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Pair {
    pub(crate) fn body(&self) -> Value {
        json!({ "data": { "access_token": self.access, "refresh_token": self.refresh } })
    }

    /// Returns the body that issues the pair by the second version.
    pub(crate) fn record(&self, session: &str, generation: u64, kid: &str) -> Value {
        json!({
            "session": session, "generation": generation, "kid": kid,
            "access_token": self.access, "access_sha256": digest(&self.access), "access_expires_at": end(),
            "refresh_token": self.refresh, "refresh_sha256": digest(&self.refresh), "refresh_expires_at": end(),
        })
    }
}

pub(crate) fn digest(token: &str) -> String {
    TokenDigest::of(token).to_string()
}

/// Returns the second in which the tokens of the test expire.
pub(crate) fn end() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + LIFETIME
}

/// A request to be sent.
pub(crate) struct ProbeRequest<'a> {
    probe: &'a StoreProbe,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<String>,
}

impl ProbeRequest<'_> {
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.text(&body.to_string()).header(CONTENT_TYPE, "application/json")
    }

    pub(crate) fn text(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// Removes the headers that authorize it.
    pub(crate) fn without_headers(mut self) -> Self {
        self.probe.headers.keys().for_each(|name| _ = self.headers.remove(name));
        self
    }

    pub(crate) async fn send(self) -> Result<ProbeResponse, Unkept> {
        let client = &self.probe.client;
        self.send_by(client).await
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn send_apart(self) -> Result<ProbeResponse, Unkept> {
        let client = self.probe.client.without_reuse();
        self.send_by(&client).await
    }

    async fn send_by(self, client: &HttpClient) -> Result<ProbeResponse, Unkept> {
        let body = Full::from(self.body.unwrap_or_default());
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        match client.url(&self.path) {
            Ok(url) => *request.uri_mut() = url,
            Err(error) => return broken("a URL", error),
        }
        let read = async {
            let response = client.send(request).await.or_else(|error| broken("an answer", chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.or_else(|error| broken("a whole answer", chain(&error)))?;
            Ok(ProbeResponse { status: head.status, headers: head.headers, body: body.to_bytes().to_vec() })
        };
        timeout(HTTP_PATIENCE, read).await.unwrap_or_else(|_| broken("an answer within three seconds", "none"))
    }
}

/// A stream of server-sent events.
pub(crate) struct EventProbe {
    body: Incoming,
    text: String,
}

/// One event.
pub(crate) struct ProbeEvent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl EventProbe {
    /// Waits for the next event.
    pub(crate) async fn next(&mut self) -> Result<ProbeEvent, Unkept> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = ProbeEvent::parse(event);
                self.text = rest.to_owned();
                return event;
            }
            let frame = timeout(HTTP_PATIENCE, self.body.frame()).await;
            let Ok(Some(Ok(frame))) = frame else { return broken("an event", "the end of the stream, or none") };
            self.text += &String::from_utf8_lossy(frame.data_ref().map_or(&[][..], |data| data));
        }
    }
}

impl ProbeEvent {
    fn parse(event: &str) -> Result<Self, Unkept> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let data = field("data").and_then(|data| serde_json::from_str(data).ok());
        match (field("id"), field("event"), data) {
            (Some(id), Some(name), Some(data)) => Ok(Self { id: id.to_owned(), name: name.to_owned(), data }),
            _ => broken("an event with id, event and data in JSON", event.escape_debug()),
        }
    }
}

pub(crate) struct ProbeResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl ProbeResponse {
    pub(crate) fn is(self, status: u16) -> Result<Self, Unkept> {
        if self.status.as_u16() == status { Ok(self) } else { broken(format!("status {status}"), self.shown()) }
    }

    pub(crate) fn json(&self) -> Result<Value, Unkept> {
        serde_json::from_slice(&self.body).or_else(|_| broken("JSON", self.shown()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Checks for a problem of the second version (RFC 9457).
    pub(crate) fn refused(self, status: u16, code: &str) -> Kept {
        let answer = self.is(status)?;
        let expected = format!("application/problem+json with the code {code}");
        let is_typed = answer.header("content-type").is_some_and(|value| value.starts_with("application/problem+json"));
        let body = answer.json()?;
        if is_typed && body["code"] == code { Ok(()) } else { broken(expected, answer.shown()) }
    }

    pub(crate) fn holds(&self, pair: &Pair) -> Kept {
        let body = self.json()?;
        if body["data"] == pair.body()["data"] { Ok(()) } else { broken("the pair that was written", self.shown()) }
    }

    /// Returns the version in the entity tag.
    pub(crate) fn version(&self) -> Result<u64, Unkept> {
        let tag = self.header("etag").unwrap_or_default();
        let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
        version.map_or_else(|| broken("ETag: \"VERSION\"", format!("ETag: {tag}")), Ok)
    }

    pub(crate) fn shown(&self) -> String {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(SHOWN).collect();
        format!("status {} {}", self.status.as_u16(), body.escape_debug()).trim_end().to_owned()
    }
}

impl StoreProbe {
    pub(crate) fn new(url: &str, headers: HeaderMap) -> Result<Self, StoreError> {
        Ok(Self {
            headers,
            client: HttpClient::new(url)?,
            run: format!("fastauth-test-{}", unique_name()),
            made: Mutex::default(),
            counter: AtomicU64::new(0),
        })
    }

    /// Returns the prefix of the client ids of this run.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Returns the id of a client of this run, with this text in it.
    pub(crate) fn id(&self, text: &str) -> String {
        let id = format!("{}{text}", self.run);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        id
    }

    pub(crate) fn made(&self) -> BTreeSet<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a new pair.
    pub(crate) fn pair(&self) -> Pair {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let token = |token_type: &str| {
            let claims = json!({ "client_id": self.run, "type": token_type, "exp": end(), "jti": number.to_string() });
            let part = |text: &str| BASE64URL.encode(text);
            format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims.to_string()), part("no signature"))
        };
        Pair { access: token("access"), refresh: token("refresh") }
    }

    pub(crate) fn ask(&self, method: Method, path: impl Into<String>) -> ProbeRequest<'_> {
        ProbeRequest { probe: self, method, path: path.into(), headers: self.headers.clone(), body: None }
    }

    /// Opens a stream of events.
    pub(crate) async fn events(&self, path: &str) -> Result<EventProbe, Unkept> {
        let mut request = Request::new(Full::default());
        *request.headers_mut() = self.headers.clone();
        match self.client.url(path) {
            Ok(url) => *request.uri_mut() = url,
            Err(error) => return broken("a URL", error),
        }
        let response = timeout(HTTP_PATIENCE, self.client.send(request)).await;
        let response = response.or_else(|_| broken("an answer within ten seconds", "none"))?;
        let response = response.or_else(|error| broken("an answer", chain(&error)))?;
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if response.status() != StatusCode::OK || content_type != Some("text/event-stream") {
            return broken("200 with text/event-stream", format!("status {}", response.status().as_u16()));
        }
        Ok(EventProbe { body: response.into_body(), text: String::new() })
    }

    /// Creates a request of `{path}?client_id={id}`.
    pub(crate) fn call(&self, method: Method, path: &str, id: &str) -> ProbeRequest<'_> {
        self.ask(method, format!("{path}?client_id={}", encode(id)))
    }

    pub(crate) fn get(&self, id: &str) -> ProbeRequest<'_> {
        self.call(Method::GET, "token", id)
    }

    pub(crate) fn post(&self, id: &str, pair: &Pair) -> ProbeRequest<'_> {
        self.call(Method::POST, "token", id).json(&pair.body())
    }

    /// Writes a new pair.
    pub(crate) async fn put(&self, id: &str) -> Result<Pair, Unkept> {
        let pair = self.pair();
        self.post(id, &pair).send().await?.is(200)?;
        Ok(pair)
    }

    pub(crate) async fn is_held(&self, id: &str, pair: &Pair) -> Kept {
        self.get(id).send().await?.is(200)?.holds(pair)
    }
}

pub(crate) fn encode(text: &str) -> impl Display {
    utf8_percent_encode(text, ENCODED)
}
