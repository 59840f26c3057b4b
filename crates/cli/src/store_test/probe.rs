//! Calls of a store that is being tested, and what it is expected to answer.

use std::{
    collections::BTreeSet,
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64_simd::URL_SAFE_NO_PAD as BASE64URL;
use fastauth::store::TokenDigest;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::failure::chain;

/// What the contract lets stand in a client id.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How long the store may take, as the contract has it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the tokens of the test would be valid, if they were: a store that cleans up may do so soon.
const LIFETIME: u64 = 600;
/// How much of an answer is shown.
const SHOWN: usize = 160;

/// What became of a promise.
pub(crate) type Verdict = Result<(), Fault>;

/// Why a promise is not kept.
#[derive(Debug)]
pub(crate) enum Fault {
    Broken { expected: String, found: String },
    NotOffered(&'static str),
}

pub(crate) fn broken<T>(expected: impl Display, found: impl Display) -> Result<T, Fault> {
    Err(Fault::Broken { expected: expected.to_string(), found: found.to_string() })
}

/// The store, and the clients that were made there.
pub(crate) struct Probe {
    base: String,
    pub(crate) headers: HeaderMap,
    client: Client,
    run: String,
    made: Mutex<BTreeSet<String>>,
    counter: AtomicU64,
}

/// A pair that nobody accepts: its signature is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Pair {
    pub(crate) fn body(&self) -> Value {
        json!({ "data": { "access_token": self.access, "refresh_token": self.refresh } })
    }

    /// The body of what the second version issues.
    pub(crate) fn record(&self, family: &str, generation: u64, kid: &str) -> Value {
        json!({
            "family": family, "generation": generation, "kid": kid,
            "access_token": self.access, "access_sha256": digest(&self.access), "access_expires_at": end(),
            "refresh_token": self.refresh, "refresh_sha256": digest(&self.refresh), "refresh_expires_at": end(),
        })
    }
}

pub(crate) fn digest(token: &str) -> String {
    TokenDigest::of(token).to_string()
}

/// When what the test makes would end.
pub(crate) fn end() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + LIFETIME
}

/// A request on its way.
pub(crate) struct Ask<'a> {
    probe: &'a Probe,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<String>,
}

impl Ask<'_> {
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

    /// Without the headers that let one in.
    pub(crate) fn without_headers(mut self) -> Self {
        self.probe.headers.keys().for_each(|name| _ = self.headers.remove(name));
        self
    }

    pub(crate) async fn send(self) -> Result<Answer, Fault> {
        let client = &self.probe.client;
        self.send_by(client).await
    }

    /// On a connection of its own.
    pub(crate) async fn send_apart(self) -> Result<Answer, Fault> {
        match client(&self.probe.base) {
            Ok(client) => self.send_by(&client).await,
            Err(error) => broken("an answer", chain(&error.without_url())),
        }
    }

    async fn send_by(self, client: &Client) -> Result<Answer, Fault> {
        let request = client.request(self.method, format!("{}/{}", self.probe.base, self.path)).headers(self.headers);
        let request = if let Some(body) = self.body { request.body(body) } else { request };
        let read = async {
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok::<_, reqwest::Error>(Answer { status, headers, body: response.bytes().await?.to_vec() })
        };
        read.await.or_else(|error| broken("an answer", chain(&error.without_url())))
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is(self, status: u16) -> Result<Self, Fault> {
        if self.status.as_u16() == status { Ok(self) } else { broken(format!("status {status}"), self.shown()) }
    }

    pub(crate) fn json(&self) -> Result<Value, Fault> {
        serde_json::from_slice(&self.body).or_else(|_| broken("JSON", self.shown()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A problem of the second version (RFC 9457).
    pub(crate) fn refused(self, status: u16, code: &str) -> Verdict {
        let answer = self.is(status)?;
        let expected = format!("application/problem+json with the code {code}");
        let is_typed = answer.header("content-type").is_some_and(|value| value.starts_with("application/problem+json"));
        let body = answer.json()?;
        if is_typed && body["code"] == code { Ok(()) } else { broken(expected, answer.shown()) }
    }

    pub(crate) fn holds(&self, pair: &Pair) -> Verdict {
        let body = self.json()?;
        if body["data"] == pair.body()["data"] { Ok(()) } else { broken("the pair that was written", self.shown()) }
    }

    /// The version in the entity tag.
    pub(crate) fn version(&self) -> Result<u64, Fault> {
        let tag = self.header("etag").unwrap_or_default();
        let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
        version.map_or_else(|| broken("ETag: \"VERSION\"", format!("ETag: {tag}")), Ok)
    }

    pub(crate) fn shown(&self) -> String {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(SHOWN).collect();
        format!("status {} {}", self.status.as_u16(), body.escape_debug()).trim_end().to_owned()
    }
}

impl Probe {
    pub(crate) fn new(url: &str, headers: HeaderMap) -> Result<Self, reqwest::Error> {
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            headers,
            client: client(url)?,
            run: format!("fastauth-test-{}", uuid::Uuid::new_v4().simple()),
            made: Mutex::default(),
            counter: AtomicU64::new(0),
        })
    }

    /// How the ids of all clients of this run begin.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// A client of this run, with this text in its id.
    pub(crate) fn id(&self, text: &str) -> String {
        let id = format!("{}{text}", self.run);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        id
    }

    pub(crate) fn made(&self) -> BTreeSet<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A pair that there was not before.
    pub(crate) fn pair(&self) -> Pair {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let token = |token_type: &str| {
            let claims = json!({ "client_id": self.run, "type": token_type, "exp": end(), "jti": number.to_string() });
            let part = |text: &str| BASE64URL.encode_to_string(text);
            format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims.to_string()), part("no signature"))
        };
        Pair { access: token("access"), refresh: token("refresh") }
    }

    pub(crate) fn ask(&self, method: Method, path: impl Into<String>) -> Ask<'_> {
        Ask { probe: self, method, path: path.into(), headers: self.headers.clone(), body: None }
    }

    /// `{path}?client_id={id}`
    pub(crate) fn of(&self, method: Method, path: &str, id: &str) -> Ask<'_> {
        self.ask(method, format!("{path}?client_id={}", encode(id)))
    }

    pub(crate) fn get(&self, id: &str) -> Ask<'_> {
        self.of(Method::GET, "token", id)
    }

    pub(crate) fn post(&self, id: &str, pair: &Pair) -> Ask<'_> {
        self.of(Method::POST, "token", id).json(&pair.body())
    }

    /// Has the store hold a new pair.
    pub(crate) async fn put(&self, id: &str) -> Result<Pair, Fault> {
        let pair = self.pair();
        self.post(id, &pair).send().await?.is(200)?;
        Ok(pair)
    }

    pub(crate) async fn is_held(&self, id: &str, pair: &Pair) -> Verdict {
        self.get(id).send().await?.is(200)?.holds(pair)
    }
}

pub(crate) fn encode(text: &str) -> impl Display {
    utf8_percent_encode(text, ENCODED)
}

fn client(url: &str) -> Result<Client, reqwest::Error> {
    let builder = Client::builder();
    // Without TLS there is nothing to verify, and no certificates of authorities are needed for it.
    let builder = if url.starts_with("https:") { builder } else { builder.tls_certs_only([]) };
    builder
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only()
        .timeout(TIMEOUT)
        .build()
}
