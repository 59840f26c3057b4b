//! A token store behind HTTP, for [`RestStore`](super::RestStore) and `fastauth-api` to use.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::{Value, json};
use tower_service::Service;

use super::{SaveOptions, StoreError, StoredPair, TokenRecord, TokenStore};
use crate::{credentials, query, secret::Secret, token::unverified_record};

/// The longest body that is read.
const MAX_BODY: usize = 64 * 1024;

/// Answers the two calls of a REST token store over any [`TokenStore`]:
///
/// | call | answer |
/// |---|---|
/// | `GET …/token?client_id=ID` | 200 `{"data":{"access_token":"…","refresh_token":"…"}}`, 404 for an unknown client |
/// | `POST …/token?client_id=ID` with that JSON as the body | 200 once the store has acknowledged it |
///
/// Every path whose last segment is `token` is taken, so it can be mounted anywhere. A request is refused with JSON,
/// `{"detail":"…"}`: 400 without exactly one `client_id` that is text, 401 without the [`bearer`](Self::bearer) token,
/// 405, 415 for a body that is not `application/json`, 413 for one of more than 64 KiB, 422 for a body that is not this JSON. Trouble with the store is 503 with
/// `Retry-After`. No answer is to be cached.
///
/// Whoever may ask reads every client's tokens: set a bearer token, and use it on loopback or behind TLS.
#[derive(Clone)]
pub struct StoreService {
    store: Arc<dyn TokenStore>,
    bearer: Option<Secret>,
}

impl StoreService {
    /// A service over `store`, open to everyone that can reach it.
    pub fn new(store: Arc<dyn TokenStore>) -> Self {
        Self { store, bearer: None }
    }

    /// Refuses every request that does not carry `Authorization: Bearer` with this token. An empty one lets
    /// nobody in.
    #[must_use]
    pub fn bearer(mut self, token: Secret) -> Self {
        self.bearer = Some(token);
        self
    }

    fn is_open_to(&self, headers: &HeaderMap) -> bool {
        let Some(bearer) = &self.bearer else { return true };
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        credentials::bearer(value).is_some_and(|token| !token.is_empty() && bearer.matches(token))
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if !self.is_open_to(request.headers()) {
            let refusal = refusal(StatusCode::UNAUTHORIZED, "a bearer token is needed");
            return with_header(refusal, WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let outcome = match (request.uri().path().rsplit('/').next(), request.method()) {
            (Some("token"), &Method::GET) => self.load(request.uri().query()).await,
            (Some("token"), &Method::POST) => self.save(request).await,
            (Some("token"), _) => {
                let refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are known here");
                Err(with_header(refusal, ALLOW, HeaderValue::from_static("GET, POST")))
            }
            _ => Err(refusal(StatusCode::NOT_FOUND, "there is nothing at this path")),
        };
        outcome.unwrap_or_else(|refusal| refusal)
    }

    async fn load(&self, query: Option<&str>) -> Outcome {
        let client_id = client_id(query).map_err(|detail| bad_request(&detail))?;
        let held = self.store.pair(&client_id).await.map_err(|error| trouble(&error))?;
        let StoredPair { access_token, refresh_token, .. } =
            held.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "the client is not known"))?;
        let text = |token: &Option<Secret>| token.as_ref().map(|token| Value::from(token.expose()));
        Ok(json_response(
            StatusCode::OK,
            &json!({"data": {"access_token": text(&access_token), "refresh_token": text(&refresh_token)}}),
        ))
    }

    async fn save<B>(&self, request: Request<B>) -> Outcome
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let client_id = client_id(request.uri().query()).map_err(|detail| bad_request(&detail))?.into_owned();
        if !is_json(request.headers()) {
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type has to be application/json"));
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|error| unread(&*error))?;
        let record = parse(client_id, &body.to_bytes()).ok_or_else(|| {
            refusal(
                StatusCode::UNPROCESSABLE_ENTITY,
                r#"the body has to be {"data":{"access_token":"…","refresh_token":"…"}}"#,
            )
        })?;
        self.store.save(&record, SaveOptions::default()).await.map_err(|error| trouble(&error))?;
        Ok(json_response(StatusCode::OK, &json!({"detail": "saved"})))
    }
}

impl<B> Service<Request<B>> for StoreService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
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
        f.debug_struct("StoreService").field("bearer", &self.bearer.is_some()).finish_non_exhaustive()
    }
}

/// An answer, or the answer that refuses.
type Outcome = Result<Response<Full<Bytes>>, Response<Full<Bytes>>>;

/// The one `client_id` of a query, which must not be empty.
fn client_id(query: Option<&str>) -> Result<Cow<'_, str>, String> {
    match query::parameter(query.unwrap_or_default(), "client_id") {
        Ok(Some(client_id)) if client_id.is_empty() => Err("client_id is empty".to_owned()),
        Ok(Some(client_id)) => Ok(client_id),
        Ok(None) => Err("client_id is missing".to_owned()),
        Err(error) => Err(format!("client_id: {error}")),
    }
}

fn parse(client_id: String, body: &[u8]) -> Option<TokenRecord> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let token = |name| body.get("data")?.get(name)?.as_str().map(Secret::from);
    Some(unverified_record(client_id, token("access_token")?, token("refresh_token")?))
}

/// A page in a browser can send other content types across sites unasked, and a store on loopback has no other guard.
fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| Some(value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase());
    headers.get(CONTENT_TYPE).and_then(essence).as_deref() == Some("application/json")
}

fn unread(error: &(dyn Error + 'static)) -> Response<Full<Bytes>> {
    if error.is::<LengthLimitError>() {
        refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB")
    } else {
        bad_request("the body broke off")
    }
}

fn trouble(error: &StoreError) -> Response<Full<Bytes>> {
    tracing::error!(kind = ?error.kind(), error = error as &dyn Error, "the token store failed");
    let refusal = refusal(StatusCode::SERVICE_UNAVAILABLE, "the token store is in trouble: try again");
    with_header(refusal, RETRY_AFTER, HeaderValue::from_static("1"))
}

fn bad_request(detail: &str) -> Response<Full<Bytes>> {
    refusal(StatusCode::BAD_REQUEST, detail)
}

fn refusal(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    json_response(status, &json!({"detail": detail}))
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_header(mut response: Response<Full<Bytes>>, name: HeaderName, value: HeaderValue) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value);
    response
}
