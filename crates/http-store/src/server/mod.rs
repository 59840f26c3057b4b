//! The server of the store API, for [`RestStore`](crate::RestStore) and `fastauth-api`.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

pub use self::{body::StoreBody, feed::FeedStatus, outcome::StoreOutcome};
use self::{
    callers::AllowedCallers,
    feed::Feed,
    outcome::CallResult,
    reply::{StoreProblem, StoreReply, empty, json_reply, typed, with_result, with_version},
    route::{Route, client_id, parameter, session},
};
use crate::record::unverified_record;
use crate::wire::{
    self, DigestBody, IssueBody, PageBody, PairBody, RevokedBody, RotateBody, RotatedBody, SavedBody, TicketBody, code,
    feed::{BatchBody, FoundBody, MOST_AT_ONCE},
};
use fastauth_core::secret::Secret;
use fastauth_core::store::{
    Condition, MAX_PAGE, PROBE, Promises, Revocation, Revoked, Rotated, SaveOptions, Saved, SessionFilter, SessionPage,
    SessionStatus, StoreError, TokenRecord, TokenStore, carried_through,
};

mod body;
mod callers;
mod feed;
mod outcome;
mod precondition;
mod reply;
mod route;

/// The longest body that is read.
const MAX_BODY: usize = 64 * 1024;
/// The longest body of a look-up of many sessions.
const MAX_BATCH_BODY: usize = 1024 * 1024;
/// How many of its sessions are looked up at a time.
const BATCH_WIDTH: usize = 32;
/// How much more of a body that is too long is read.
const MAX_DISCARDED: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The default number of sessions in a page of a list.
const PAGE: usize = 100;
/// The longest page, whatever the ids are: callers need not read more than 1 MiB.
const MAX_PAGE_BYTES: usize = 512 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// The OpenAPI document of the store API.
const OPENAPI: &str = include_str!("../../store-api.openapi.json");

/// A tower service that serves the store API over any [`TokenStore`]. The first version of that API is what `fastauth-api` speaks:
///
/// | call | answer |
/// |---|---|
/// | `GET /token?client_id=ID` | 200 `{"data":{"access_token":"…","refresh_token":"…"}}`, 404 for an unknown client |
/// | `POST /token?client_id=ID` with that JSON as the body | 200 once the store has acknowledged it |
///
/// If the store [promises](TokenStore::promises) all that it needs, the second version is served too, under `/v2/`: versions and
/// conditional requests, rotations that the store decides on, revoking and listing. Each answer then has the header
/// `FastAuth-Store: v=2`. `docs/store-api.md` documents all calls, and `/v2/openapi.json` describes them for programs.
///
/// Each call has one path, and everything else is 404. To mount the service below another path, use a router that strips it, such
/// as axum's `nest_service`. Refusals are JSON: 400 without exactly one `client_id` in UTF-8, 401 without the
/// [`bearer`](Self::bearer) token, 405, 415 for a body that is not `application/json`, 408 for one that takes more than ten
/// seconds, 413 for one of more than 64 KiB, 422 for one that is not the JSON of the call. If the store fails, the answer is 503 with
/// `Retry-After`. No answer may be cached.
///
/// If the store keeps a [log](TokenStore::log), the service has a change feed: `GET /v2/changes` streams changes to other nodes as they
/// happen, and `GET /v2/snapshot` all live sessions. These two answers go on for as long as the caller reads; all others are whole. A
/// server that stops calls [`stop_feed`](Self::stop_feed), or else it waits for them.
///
/// A caller of this API can read every client's tokens. So without a bearer token the service answers only programs on its machine:
/// the `Host` has to be `localhost` or a loopback address, and requests that a browser sends for a page (with `Origin` or
/// `Sec-Fetch-Site`) are refused with 403. That keeps pages out, but not other machines: without a bearer token, listen on
/// loopback. With one, keep the service on loopback or behind TLS.
#[derive(Clone)]
pub struct StoreService {
    store: Arc<dyn TokenStore>,
    callers: AllowedCallers,
    /// Shared by all clones.
    feed: Arc<Feed>,
}

impl StoreService {
    /// Creates a service over `store` that answers programs on this machine.
    pub fn new(store: Arc<dyn TokenStore>) -> Self {
        let feed = Feed::new(Arc::clone(&store));
        Self { store, callers: AllowedCallers::Local, feed }
    }

    /// Limits the readers of the change feed, long polls and snapshots included. Others are answered 503. The default is 1,024.
    #[must_use]
    pub fn max_feed_readers(self, most: usize) -> Self {
        Self { feed: Feed::with_readers(Arc::clone(&self.store), most), ..self }
    }

    /// Tells all readers of the change feed to connect to another server and ends their streams, and refuses new ones with 503: call it
    /// when the server stops. It concerns all clones of this service.
    pub fn stop_feed(&self) {
        self.feed.stop();
    }

    /// Returns the state of the change feed; `None` if the store keeps no log.
    #[must_use]
    pub fn feed_status(&self) -> Option<FeedStatus> {
        self.feed.is_offered().then(|| self.feed.status())
    }

    /// Returns true if the log of the store answers within three seconds, or if the store keeps none: for the readiness of a server.
    pub async fn is_feed_up(&self) -> bool {
        self.feed.is_up().await
    }

    /// Answers only requests with `Authorization: Bearer` and this token, from any machine. Called again, it adds a token: to replace
    /// one, accept both until every caller sends the new one.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) if the token could be guessed: if it has fewer than 16 characters, or fewer than 6
    /// different ones.
    pub fn bearer(self, token: Secret) -> Result<Self, StoreError> {
        Ok(Self { callers: self.callers.and_bearer(token)?, ..self })
    }

    /// Answers every request: something in front, such as a layer of yours, has to refuse those of strangers.
    #[must_use]
    pub fn guarded_in_front(self) -> Self {
        Self { callers: AllowedCallers::All, ..self }
    }

    /// Returns the refusal if this service does not answer the sender of a request, whatever it asks for: for paths of your own
    /// beside the service.
    pub fn refusal<B>(&self, request: &Request<B>) -> Option<Response<StoreBody>> {
        let admitted = self.callers.admit(request.uri(), request.headers());
        admitted.err().map(|problem| problem.into_reply(false))
    }

    async fn answer(self, request: Request<impl Body<Error: Into<BoxError>>>) -> StoreReply {
        let uri = request.uri().clone();
        let method = request.method().clone();
        let route = Route::parse(uri.path());
        let reply = self.answer_at(route, &uri, request).await;
        let mut reply = if method == Method::HEAD { reply::without_body(reply) } else { reply };
        let CallResult { outcome, revoked } = reply.extensions_mut().remove().unwrap_or(CallResult::OK);
        reply.extensions_mut().insert(StoreOutcome {
            route: route.map_or("other", Route::template),
            operation: route.map_or("other", |route| route.operation(&method)),
            outcome,
            revoked,
        });
        reply
    }

    async fn answer_at(
        &self,
        route: Option<Route<'_>>,
        uri: &Uri,
        request: Request<impl Body<Error: Into<BoxError>>>,
    ) -> StoreReply {
        let is_v2 = uri.path().starts_with("/v2/");
        if let Err(problem) = self.callers.admit(uri, request.headers()) {
            return problem.into_reply(is_v2);
        }
        let speaks_v2 = match self.store.promises().await {
            Ok(promises) => suffices(promises),
            Err(error) => return StoreProblem::from(error).into_reply(is_v2),
        };
        let outcome = match route.filter(|_| speaks_v2 || !is_v2) {
            Some(route) => self.dispatch(route, speaks_v2, uri, request).await,
            None => Err(StoreProblem::nothing_here()),
        };
        let reply = outcome.unwrap_or_else(|problem| problem.into_reply(is_v2));
        if speaks_v2 { reply::announced(reply, self.feed.is_offered()) } else { reply }
    }

    async fn dispatch(
        &self,
        route: Route<'_>,
        speaks_v2: bool,
        uri: &Uri,
        request: Request<impl Body<Error: Into<BoxError>>>,
    ) -> Result<StoreReply, StoreProblem> {
        let known = route.methods(speaks_v2);
        let query = uri.query().unwrap_or_default();
        let method = match request.method() {
            method if !known.contains(method) => return Err(StoreProblem::method(known)),
            &Method::OPTIONS => return Ok(reply::options(known)),
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        let headers = request.headers();
        match (route, method) {
            (Route::Pair, Method::GET) => self.pair(&pair_client_id(query)?, query, headers).await,
            (Route::Pair, Method::POST) => self.upsert(pair_client_id(query)?.into_owned(), request).await,
            (Route::Pair, _) => {
                let revocation = Revocation::Client(pair_client_id(query)?.into_owned());
                let revoked = self.revoke_sessions(revocation, headers).await?;
                Ok(with_result(empty(StatusCode::NO_CONTENT), CallResult::revoked(revoked)))
            }
            (Route::Client(id), Method::GET) => self.digests(&client_id(id, query)?, query, headers).await,
            (Route::Client(id), Method::POST) => self.issue(client_id(id, query)?.into_owned(), request).await,
            (Route::Client(id), _) => {
                let revocation = Revocation::Client(client_id(id, query)?.into_owned());
                self.revoke(revocation, headers).await
            }
            (Route::Rotate(id), _) => self.rotate(client_id(id, query)?.into_owned(), request).await,
            (Route::AccessToken(id), _) => self.revoke_access(client_id(id, query)?.into_owned(), query, headers).await,
            (Route::Session(id, name), _) => {
                let client_id = client_id(id, query)?.into_owned();
                let session = session(name, query)?.into_owned();
                self.revoke(Revocation::Session { client_id, session }, headers).await
            }
            (Route::List, _) => self.list(query).await,
            (Route::RevokeAll, _) => self.revoke_all(request).await,
            (Route::Tickets, _) => self.spend(request).await,
            (Route::Changes, _) => self.feed.changes(query, headers).await,
            (Route::Snapshot, _) => self.feed.snapshot().await,
            (Route::Batch, _) => self.batch(request).await,
            (Route::Description, _) => Ok(typed(StatusCode::OK, "application/json", OPENAPI)),
        }
    }

    /// Checks the store itself if a node asks for its health: a read does not show whether it can be written.
    async fn check_for(&self, client_id: &str) -> Result<(), StoreProblem> {
        if client_id != PROBE {
            return Ok(());
        }
        Ok(self.store.check().await?)
    }

    async fn pair(&self, client_id: &str, query: &str, headers: &HeaderMap) -> Result<StoreReply, StoreProblem> {
        self.check_for(client_id).await?;
        let held = match parameter(query, "session")? {
            Some(session) => self.store.pair_of(client_id, &session).await,
            None => self.store.pair(client_id).await,
        };
        let held = held?.ok_or_else(StoreProblem::unknown_client)?;
        Ok(versioned(held.version, headers, || json!({ "data": PairBody::from(&held) })))
    }

    async fn upsert(
        &self,
        client_id: String,
        request: Request<impl Body<Error: Into<BoxError>>>,
    ) -> Result<StoreReply, StoreProblem> {
        let condition = precondition::parse(request.headers())?;
        let record = parse_pair(client_id, &body(request, MAX_BODY).await?).ok_or_else(|| {
            StoreProblem::body(r#"the body must be {"data":{"access_token":"…","refresh_token":"…"}}"#)
        })?;
        let version = self.save(&record, SaveOptions { condition, ..SaveOptions::default() }).await?;
        Ok(with_version(json_reply(StatusCode::OK, &json!({ "detail": "saved" })), Some(version)))
    }

    async fn digests(&self, client_id: &str, query: &str, headers: &HeaderMap) -> Result<StoreReply, StoreProblem> {
        self.check_for(client_id).await?;
        let session = parameter(query, "session")?;
        let held = self.store.load(client_id, session.as_deref()).await?;
        let held = held.ok_or_else(StoreProblem::unknown_client)?;
        Ok(versioned(held.version, headers, || DigestBody::from(held)))
    }

    async fn issue(
        &self,
        client_id: String,
        request: Request<impl Body<Error: Into<BoxError>>>,
    ) -> Result<StoreReply, StoreProblem> {
        let condition = precondition::parse(request.headers())?;
        let IssueBody { record, keep_others, max_sessions } =
            read(request, "the body must be an object with access_token and refresh_token").await?;
        let record =
            record.record(client_id).ok_or_else(|| StoreProblem::body("a number is larger than 9007199254740991"))?;
        let version = self.save(&record, SaveOptions { keep_others, max_sessions, condition }).await?;
        Ok(with_version(json_reply(StatusCode::OK, &SavedBody { version }), Some(version)))
    }

    async fn save(&self, record: &TokenRecord, options: SaveOptions) -> Result<u64, StoreProblem> {
        match self.store.save(record, options).await? {
            Saved::Saved(version) => Ok(version),
            Saved::ConditionFailed => Err(StoreProblem::precondition_failed()),
        }
    }

    async fn rotate(
        &self,
        client_id: String,
        request: Request<impl Body<Error: Into<BoxError>>>,
    ) -> Result<StoreReply, StoreProblem> {
        let body: RotateBody = read(request, "the body must be an object with refresh_sha256 and new").await?;
        let rotation = body.rotation(client_id).ok_or_else(|| {
            StoreProblem::body(
                "session and generation must come together, and no number may be larger than 9007199254740991",
            )
        })?;
        let conflict = |code, detail| Err(StoreProblem::new(StatusCode::CONFLICT, code, detail));
        match self.store.rotate(&rotation).await? {
            Rotated::Rotated => {
                let version = self.version_of(&rotation.successor).await;
                Ok(with_version(json_reply(StatusCode::OK, &RotatedBody::Rotated { version }), version))
            }
            Rotated::Repeated(pair) => {
                let version = pair.version;
                let data = PairBody::from(&pair);
                let reply = json_reply(StatusCode::OK, &RotatedBody::Repeated { version, data });
                Ok(with_result(with_version(reply, version), CallResult::new("repeated")))
            }
            Rotated::Superseded => conflict(code::LOST_RACE, "another refresh token is held"),
            Rotated::Reused => {
                conflict(code::REUSE_DETECTED, "the refresh token was used before, and its session is revoked now")
            }
            Rotated::AccessRevoked(version) => Err(StoreProblem::access_revoked(version)),
            Rotated::Revoked => Err(StoreProblem::new(StatusCode::GONE, code::REVOKED, "the session was revoked")),
            Rotated::UnknownClient => Err(StoreProblem::unknown_client()),
        }
    }

    /// Returns the version of the pair that was just written, unless it was replaced since.
    async fn version_of(&self, record: &TokenRecord) -> Option<u64> {
        let held = self.store.load(&record.client_id, Some(&record.session)).await.ok()??;
        held.version.filter(|_| held.refresh == Some(record.refresh.digest))
    }

    async fn revoke(&self, revocation: Revocation, headers: &HeaderMap) -> Result<StoreReply, StoreProblem> {
        let revoked = self.revoke_sessions(revocation, headers).await?;
        let reply = json_reply(StatusCode::OK, &RevokedBody { revoked });
        Ok(with_result(reply, CallResult::revoked(revoked)))
    }

    /// Revokes, and goes on with it if the caller leaves.
    async fn revoke_sessions(&self, revocation: Revocation, headers: &HeaderMap) -> Result<u64, StoreProblem> {
        let if_version = precondition::parse_version(headers)?;
        let store = Arc::clone(&self.store);
        let revoked = carried_through(async move { store.revoke(&revocation, if_version).await }).await;
        match revoked? {
            Revoked::Sessions(revoked) => Ok(revoked),
            Revoked::ConditionFailed => Err(StoreProblem::precondition_failed()),
        }
    }

    /// Revokes access tokens alone, and goes on with it if the caller leaves.
    async fn revoke_access(
        &self,
        client_id: String,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<StoreReply, StoreProblem> {
        if precondition::parse(headers)? != Condition::None {
            return Err(StoreProblem::bad_request("a revocation of access tokens takes no condition"));
        }
        let session = parameter(query, "session")?.map(Cow::into_owned);
        let store = Arc::clone(&self.store);
        let revoked = carried_through(async move { store.revoke_access(&client_id, session.as_deref()).await }).await?;
        Ok(json_reply(StatusCode::OK, &RevokedBody { revoked }))
    }

    /// Revokes everything. The body has to be JSON, though it says nothing: a page in a browser can POST without one unasked.
    async fn revoke_all(&self, request: Request<impl Body<Error: Into<BoxError>>>) -> Result<StoreReply, StoreProblem> {
        let headers = request.headers().clone();
        let _: serde_json::Map<String, Value> = read(request, "the body must be {}").await?;
        self.revoke(Revocation::All, &headers).await
    }

    async fn spend(&self, request: Request<impl Body<Error: Into<BoxError>>>) -> Result<StoreReply, StoreProblem> {
        let ticket: TicketBody = read(request, "the body must be an object with id and expires_at").await?;
        if !ticket.is_valid() {
            return Err(StoreProblem::body(
                "an id has 1 to 256 bytes, and no number may be larger than 9007199254740991",
            ));
        }
        match self.store.spend(&ticket.id, ticket.expires_at).await? {
            true => Ok(json_reply(StatusCode::CREATED, &json!({ "detail": "spent" }))),
            false => Err(StoreProblem::new(StatusCode::CONFLICT, code::SPENT, "the ticket was spent before")),
        }
    }

    /// Looks up many sessions, and answers in their order.
    async fn batch(&self, request: Request<impl Body<Error: Into<BoxError>>>) -> Result<StoreReply, StoreProblem> {
        let body = body(request, MAX_BATCH_BODY).await?;
        let batch = wire::read::<BatchBody>(&body).filter(|batch| batch.tokens.len() <= MOST_AT_ONCE);
        let batch = batch.ok_or_else(|| StoreProblem::body("the body must be an object with up to 1000 tokens"))?;
        let calls = batch.tokens.iter().map(|item| self.store.load(&item.client_id, item.session.as_deref()));
        let calls: Vec<_> = calls.collect();
        let found: Vec<_> = stream::iter(calls).buffered(BATCH_WIDTH).try_collect().await?;
        let tokens = found.into_iter().map(|held| held.map(DigestBody::from)).collect();
        Ok(json_reply(StatusCode::OK, &FoundBody { tokens }))
    }

    async fn list(&self, query: &str) -> Result<StoreReply, StoreProblem> {
        let page = self.store.list(&filter(query)?).await?;
        Ok(json_reply(StatusCode::OK, &page_body(page)))
    }
}

impl<B> Service<Request<B>> for StoreService
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<StoreBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl fmt::Debug for StoreService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreService")
            .field("bearer", &matches!(self.callers, AllowedCallers::Bearer(_)))
            .finish_non_exhaustive()
    }
}

/// Returns true if a store can do all that the second version offers.
fn suffices(promises: Promises) -> bool {
    let Promises { atomic_rotation, many_sessions, revoke_all, list, tickets, access_grace } = promises;
    atomic_rotation && many_sessions && revoke_all && list && tickets && access_grace
}

/// Returns the one `client_id` of a query, which must not be empty.
fn pair_client_id(query: &str) -> Result<Cow<'_, str>, StoreProblem> {
    match parameter(query, "client_id")? {
        Some(client_id) if client_id.is_empty() => Err(StoreProblem::bad_request("client_id is empty")),
        Some(client_id) => Ok(client_id),
        None => Err(StoreProblem::bad_request("client_id is missing")),
    }
}

/// Answers 200 with the body, or 304 if the caller has this version.
fn versioned<T: serde::Serialize>(version: Option<u64>, headers: &HeaderMap, body: impl FnOnce() -> T) -> StoreReply {
    let reply = if precondition::is_known(headers, version) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        json_reply(StatusCode::OK, &body())
    };
    with_version(reply, version)
}

fn filter(query: &str) -> Result<SessionFilter, StoreProblem> {
    let text = |name| Ok::<_, StoreProblem>(parameter(query, name)?.map(Cow::into_owned));
    let status = match parameter(query, "status")?.as_deref() {
        None => None,
        Some(name) => Some(
            SessionStatus::from_name(name)
                .ok_or_else(|| StoreProblem::bad_request("status must be live, revoked or reused"))?,
        ),
    };
    let after = parameter(query, "cursor")?
        .map(|cursor| wire::place(&cursor).ok_or_else(|| StoreProblem::bad_request("cursor is not one of this store")));
    let limit = parameter(query, "limit")?.map(|limit| limit.parse::<usize>().ok().filter(|limit| *limit > 0));
    let limit = match limit {
        None => PAGE,
        Some(Some(limit)) => limit.min(MAX_PAGE),
        Some(None) => return Err(StoreProblem::bad_request("limit must be a number from 1 to 1000")),
    };
    Ok(SessionFilter {
        client_id: text("client_id")?,
        session: text("session")?,
        client_id_prefix: text("prefix")?,
        client_id_part: text("q")?,
        kid: text("kid")?,
        status,
        after: after.transpose()?,
        limit,
    })
}

/// Returns the body with as many of the sessions as fit.
fn page_body(page: SessionPage) -> PageBody {
    let SessionPage { mut sessions, next } = page;
    let mut bytes = 0;
    let fits = sessions.iter().take_while(|entry| {
        bytes += serde_json::to_string(entry).map_or(0, |text| text.len());
        bytes <= MAX_PAGE_BYTES
    });
    let fitting = fits.count().max(1);
    if fitting >= sessions.len() {
        return PageBody { sessions, next: next.as_ref().map(wire::cursor) };
    }
    sessions.truncate(fitting);
    let last = sessions.last().map(|entry| wire::cursor(&(entry.client_id.clone(), entry.session.clone())));
    PageBody { sessions, next: last }
}

fn parse_pair(client_id: String, body: &[u8]) -> Option<TokenRecord> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let token = |name| body.get("data")?.get(name)?.as_str().map(Secret::from);
    Some(unverified_record(client_id, token("access_token")?, token("refresh_token")?))
}

async fn read<T: DeserializeOwned>(
    request: Request<impl Body<Error: Into<BoxError>>>,
    otherwise: &'static str,
) -> Result<T, StoreProblem> {
    wire::read(&body(request, MAX_BODY).await?).ok_or_else(|| StoreProblem::body(otherwise))
}

async fn body(request: Request<impl Body<Error: Into<BoxError>>>, most: usize) -> Result<Bytes, StoreProblem> {
    if !is_json(request.headers()) {
        const DETAIL: &str = "the content type must be application/json";
        return Err(StoreProblem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", DETAIL));
    }
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut body = pin!(request.into_body());
    match timeout_at(deadline, Limited::new(body.as_mut(), most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if is_too_long(&*error) => {
            let _ = timeout_at(deadline, discard(body)).await;
            let detail = format!("the body is longer than {} KiB", most / 1024);
            Err(StoreProblem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Ok(Err(_)) => Err(StoreProblem::bad_request("the body was cut off")),
        Err(_) => Err(StoreProblem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took more than ten seconds")),
    }
}

/// Returns true if the body is JSON. A page in a browser can send other content types across sites unasked, and a store on loopback
/// has no other guard.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|content_type| content_type.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    // The error of a limit that the application set is wrapped by the bodies around it.
    let mut chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.any(<dyn Error>::is::<LengthLimitError>)
}

/// Reads the rest of a body that is not much too long. A connection that is closed before may break at the sender, which then does
/// not read the answer.
async fn discard<B: Body>(mut body: Pin<&mut B>) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Buf::remaining);
        if bytes > MAX_DISCARDED {
            return;
        }
    }
}
