//! Tokens behind an HTTP API.
//!
//! The API is that of `fastauth-api`: two calls, `GET` and `POST` of `{base}/token?client_id=…`. It has no
//! compare-and-swap, so [`rotate`](TokenStore::rotate) is a look-up followed by a write, one at a time for each client
//! within this process. Between processes two rotations of one refresh token can both succeed; the store then holds
//! the pair that was written last. It holds one pair of a client and no family, so a client is revoked by writing a
//! pair over its own that is no pair of tokens.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Response, Url};
use serde_json::{Value, json};

use super::{
    Canonical, Condition, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError,
    StoreErrorKind, StoreFuture, StoredPair, TokenDigest, TokenRecord, TokenStore,
    flight::{Flights, Turns},
};
use crate::{keys::KeyRing, secret::Secret};

/// What the contract lets stand in a client id; a space is `%20`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How long a call may take in all, as the contract has it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;
/// How much of a body that nobody reads is taken off a connection to use it again, and for how long.
const MAX_REST: usize = 64 * 1024;
const REST_TIMEOUT: Duration = Duration::from_millis(50);
/// How long an idle connection is kept, which should be shorter than the store's own patience.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What stands in place of the tokens of a client that was revoked. It is no token, so nobody can present it.
const REVOKED: &str = "revoked";

/// What a configured header may not be: these frame the body, and a wrong one breaks the connection.
const FORBIDDEN: [HeaderName; 2] = [CONTENT_LENGTH, TRANSFER_ENCODING];

/// Keeps the tokens in a store behind HTTP: the `database-api-url` of `fastauth-api`, or a
/// `StoreService`.
///
/// - A call ends within ten seconds in all ([`timeout`](Self::timeout)), however the store dawdles, and an answer of
///   more than 1 MiB is cut off.
/// - Redirects are not followed, and proxies from the environment are not used.
/// - Look-ups of one client at the same moment are one call. Nothing is kept after it.
/// - A look-up whose connection broke before it was answered, as a pooled one may when the store was restarted, is tried
///   once more on a new connection. A write is sent once.
/// - Writes of one client follow each other, within this object.
///
/// The store may be away when this is made, and may come back at any time. Calls need a tokio runtime with time and
/// I/O; making it does not.
pub struct RestStore {
    calls: Arc<Calls>,
    flights: Flights<Result<Option<StoredPair>, StoreError>>,
    turns: Turns,
    timeout: Duration,
    /// Reads what was encrypted before it was stored.
    keys: Option<Arc<KeyRing>>,
}

impl RestStore {
    /// A store at `base_url`, with or without a `/` at its end; `headers` go with every call.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`] when the URL is none of `http` or `https`, or has a user, a query or a fragment, and
    /// when a header is `content-length` or `transfer-encoding`. The text does not show the URL: there may be a password in it.
    pub fn new(base_url: &str, mut headers: HeaderMap) -> Result<Self, StoreError> {
        let url = token_url(base_url)?;
        if let Some(name) = FORBIDDEN.iter().find(|name| headers.contains_key(*name)) {
            return Err(failed(format!("the header {name} cannot be set for the token store: take it out")));
        }
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        let client = |idle| {
            client(idle).map_err(|error| failed("cannot set up the HTTP client of the token store").caused_by(error))
        };
        let calls = Calls { url, headers, pooled: client(usize::MAX)?, unpooled: client(0)? };
        Ok(Self { calls: Arc::new(calls), flights: Flights::new(), turns: Turns::new(), timeout: TIMEOUT, keys: None })
    }

    /// Sets how long a call may take in all: waiting its turn, connecting, and the whole answer. Ten seconds otherwise,
    /// which is also the most that the store contract allows.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reads tokens that are kept encrypted by these keys.
    pub(crate) fn opened_by(mut self, keys: Arc<KeyRing>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The digest of a token by what is kept of it.
    fn digest(&self, kept: Option<&Secret>) -> Option<TokenDigest> {
        let kept = kept?;
        match &self.keys {
            Some(keys) => keys.open(kept).map(|token| TokenDigest::of(token.expose())),
            None => Some(TokenDigest::of(kept.expose())),
        }
    }

    /// Runs `write` when its turn has come, and keeps look-ups from before it apart from those after.
    async fn write<T>(
        &self,
        client_id: &str,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let turn = self.turns.take(client_id, async {
            let _writing = self.flights.writing(client_id);
            write.await
        });
        within(self.timeout, turn).await
    }
}

impl TokenStore for RestStore {
    fn load<'a>(&'a self, client_id: &'a str, _family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        Box::pin(async move {
            Ok(self.pair(client_id).await?.map(|pair| Canonical {
                access: self.digest(pair.access_token.as_ref()),
                refresh: self.digest(pair.refresh_token.as_ref()),
                version: pair.version,
            }))
        })
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move {
            let call = || {
                let (calls, timeout, client_id) = (Arc::clone(&self.calls), self.timeout, client_id.to_owned());
                async move { within(timeout, calls.get(&client_id)).await }
            };
            self.flights.join(client_id, call).await
        })
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            if options.condition != Condition::None {
                return Err(StoreError::unsupported("the token store has no conditional writes").on_save());
            }
            let (client_id, pair) = (&record.client_id, (&record.access.text, &record.refresh.text));
            let saved = self.write(client_id, self.calls.post(client_id, pair)).await;
            saved.map(|()| Saved::Saved(0)).map_err(StoreError::on_save)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let (client_id, successor) = (&rotation.successor.client_id, &rotation.successor);
            let saving = AtomicBool::new(false);
            let rotated = self.write(client_id, async {
                let Some(held) = self.calls.get(client_id).await? else { return Ok(Rotated::UnknownClient) };
                if self.digest(held.refresh_token.as_ref()) != Some(rotation.presented) {
                    return Ok(Rotated::Superseded);
                }
                saving.store(true, Ordering::Relaxed);
                self.calls.post(client_id, (&successor.access.text, &successor.refresh.text)).await?;
                Ok(Rotated::Rotated)
            });
            // The time limit is around both calls, so which of them it cut off is noted beside.
            rotated.await.map_err(|error| if saving.load(Ordering::Relaxed) { error.on_save() } else { error })
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let (Revocation::Client(client_id) | Revocation::Family { client_id, .. }, None) = (revocation, if_version)
            else {
                return Err(StoreError::unsupported(
                    "the token store cannot revoke everything at once: change the key instead",
                ));
            };
            let none = Secret::from(REVOKED);
            let revoked = self.write(client_id, async {
                if self.calls.get(client_id).await?.is_none() {
                    return Ok(Revoked::Families(0));
                }
                self.calls.post(client_id, (&none, &none)).await?;
                Ok(Revoked::Families(1))
            });
            revoked.await
        })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::NONE) })
    }
}

impl fmt::Debug for RestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestStore").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The two calls.
struct Calls {
    url: Url,
    headers: HeaderMap,
    pooled: Client,
    unpooled: Client,
}

impl Calls {
    async fn get(&self, client_id: &str) -> Result<Option<StoredPair>, StoreError> {
        let mut answer = self.send(Method::GET, client_id, None).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                discard(answer).await;
                return Ok(None);
            }
            status => {
                discard(answer).await;
                return Err(unexpected(status, "a look-up"));
            }
        }
        parse(&body(&mut answer).await?).map(Some)
    }

    async fn post(&self, client_id: &str, (access, refresh): (&Secret, &Secret)) -> Result<(), StoreError> {
        let data = json!({"data": { "access_token": access.expose(), "refresh_token": refresh.expose() }});
        let answer = self.send(Method::POST, client_id, Some(data.to_string())).await?;
        let status = answer.status();
        discard(answer).await;
        if status == StatusCode::OK { Ok(()) } else { Err(unexpected(status, "a write")) }
    }

    /// Sends a request, and a look-up once more if its connection broke before there was an answer. hyper itself does so
    /// only when it had not begun to write; a store that has gone resets a connection just after. The second try is not
    /// pooled: there may be more of those connections.
    async fn send(&self, method: Method, client_id: &str, body: Option<String>) -> Result<Response, StoreError> {
        let mut url = self.url.clone();
        url.set_query(Some(&format!("client_id={}", utf8_percent_encode(client_id, ENCODED))));
        let mut headers = self.headers.clone();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = |client: &Client| {
            let request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &body { request.body(body.clone()) } else { request }.send()
        };
        let outcome = match request(&self.pooled).await {
            Err(error) if body.is_none() && broke(&error) => request(&self.unpooled).await,
            outcome => outcome,
        };
        outcome.map_err(unreached)
    }
}

fn token_url(base_url: &str) -> Result<Url, StoreError> {
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
        Ok(mut segments) => _ = segments.pop_if_empty().push("token"),
        Err(()) => return Err(failed("the token store's URL has no path")),
    }
    Ok(url)
}

fn client(idle: usize) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("fastauth/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(TIMEOUT / 2)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .tcp_keepalive(KEEP_ALIVE)
        .build()
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out()))
}

/// The whole body, or an error as soon as it grows too long.
async fn body(answer: &mut Response) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(cut_off)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(invalid("the token store's answer is longer than 1 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads what is left of an answer, if it is short and there at once: only then can the connection be used again.
async fn discard(mut answer: Response) {
    let rest = async {
        let mut length = 0;
        while let Ok(Some(chunk)) = answer.chunk().await {
            length += chunk.len();
            if length > MAX_REST {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(REST_TIMEOUT, rest).await;
}

/// Reads `{"data":{"access_token":…,"refresh_token":…}}`. By hand, because a derived reader takes an array for an
/// object, and because its errors quote what they found, which may be a token.
fn parse(body: &[u8]) -> Result<StoredPair, StoreError> {
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| invalid("the token store's answer is no JSON"))?;
    let data = answer
        .get_mut("data")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| invalid("the token store's answer has no object data"))?;
    let mut token = |name| match data.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) => Ok(Some(Secret::from(token))),
        Some(_) => Err(invalid(format!("the {name} in the token store's answer is no text"))),
    };
    Ok(StoredPair { access_token: token("access_token")?, refresh_token: token("refresh_token")?, version: None })
}

/// Whether a connection that had been made broke before an answer began.
fn broke(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::InvalidAnswer, message)
}

fn unexpected(status: StatusCode, call: &str) -> StoreError {
    invalid(format!("the token store answered {call} with status {}", status.as_u16()))
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
    fn the_path_is_the_base_and_token() {
        for (base, expected) in [
            ("http://127.0.0.1:80", "http://127.0.0.1/token"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/token"),
            ("https://db.example/mydb/data", "https://db.example/mydb/data/token"),
            ("https://db.example/mydb/data/", "https://db.example/mydb/data/token"),
            ("http://db.example/a%20b", "http://db.example/a%20b/token"),
            ("HTTP://[::1]:9/x", "http://[::1]:9/x/token"),
        ] {
            assert_eq!(token_url(base).expect(base).as_str(), expected);
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_it() {
        for base in [
            "",
            "hush.example",
            "hush.example:80",
            "ftp://hush.example",
            "http://hush:hush@db.example",
            "http://hush@db.example",
            "http://db.example/?hush",
            "http://db.example/?",
            "http://db.example/#hush",
            "http://hush hush/",
            "data:hush",
        ] {
            let error = RestStore::new(base, HeaderMap::new()).expect_err(base);
            assert_eq!(error.kind(), StoreErrorKind::Failed);
            assert!(!format!("{error} {error:?}").contains("hush"), "{base}: {error:?}");
        }
    }

    #[test]
    fn headers_that_frame_the_request_are_refused() {
        for name in FORBIDDEN {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("hush"))]);
            let error = RestStore::new("http://db.example", headers).expect_err("refused");
            assert!(!format!("{error:?}").contains("hush"));
        }
    }

    #[test]
    fn answers_are_read_by_the_contract() {
        let pair = |access: Option<&str>, refresh: Option<&str>| {
            Some(StoredTokens { access_token: access.map(Secret::from), refresh_token: refresh.map(Secret::from) })
        };
        for (body, expected) in [
            (r#"{"data":{"access_token":"a","refresh_token":"r"}}"#, pair(Some("a"), Some("r"))),
            (r#" {"x":[1],"data":{"y":{},"refresh_token":"r","access_token":"a"}} "#, pair(Some("a"), Some("r"))),
            (r#"{"data":{"access_token":"a"}}"#, pair(Some("a"), None)),
            (r#"{"data":{"access_token":null,"refresh_token":null}}"#, pair(None, None)),
            (r#"{"data":{}}"#, pair(None, None)),
            (r#"{"data":{"access_token":"\u00e9"}}"#, pair(Some("é"), None)),
            (r#"{"data":{"access_token":1}}"#, None),
            (r#"{"data":{"refresh_token":["hush"]}}"#, None),
            (r#"{"data":["hush","hush"]}"#, None),
            (r#"[["hush","hush"]]"#, None),
            (r#"{"data":null}"#, None),
            (r#"{"data":"hush"}"#, None),
            ("{}", None),
            ("", None),
            ("null", None),
            (r#"{"data":{"access_token":"hush"}"#, None),
            (r#"{"data":{"access_token":"hush"}} x"#, None),
        ] {
            match (parse(body.as_bytes()), expected) {
                (Ok(tokens), Some(expected)) => assert_eq!(tokens, expected, "{body}"),
                (Err(error), None) => {
                    assert_eq!(error.kind(), StoreErrorKind::InvalidAnswer);
                    assert!(!format!("{error:?}").contains("hush"), "{body}");
                }
                (outcome, _) => panic!("{body}: {outcome:?}"),
            }
        }
        assert!(parse(b"{\"data\":{\"access_token\":\"\xff\"}}").is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
