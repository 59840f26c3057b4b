//! What the endpoints of tokens answer: the envelope of `fastauth-api`, or what OAuth says (RFC 6749 5).

use std::time::Duration;

use bytes::Bytes;
use fastauth_core::settings::Shape;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, PRAGMA, SET_COOKIE, WWW_AUTHENTICATE},
    request::Parts,
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    BearerError, Challenge, Detail, Form, Refusals, STORE_UNAVAILABLE, after, json_response, quoted, try_later,
};
use crate::{
    IssueError, IssuedTokens,
    cookie::REFRESH_COOKIE,
    router::{GrantError, Refusal},
    secret::Secret,
    store::{StoreError, StoreErrorKind},
    ticket,
    token::{Claims, TokenError, TokenType},
};

const NOT_SAVED: &str = "Token not saved. Database error";
const NOT_SIGNED: &str = "Token not signed";
const STORE_UNABLE: &str = "The token store is not able to do this";
const CROSS_ORIGIN: &str = "A page of another origin may not do this";
const TOO_MANY: &str = "Too many requests, try again later";

/// The answer that carries a new pair, with the refresh token in a cookie of this age where one is given.
pub(crate) fn issued(issued: &IssuedTokens, shape: Shape, cookie: Option<Duration>) -> Response<Full<Bytes>> {
    let refresh_token = issued.tokens.refresh_token.expose();
    let in_body = cookie.is_none().then_some(refresh_token);
    let response = match shape {
        Shape::Envelope => envelope(issued, in_body),
        Shape::OAuth => bearer_token(issued, in_body),
    };
    match cookie {
        Some(age) => with_cookie(response, refresh_token, age),
        None => response,
    }
}

fn envelope(issued: &IssuedTokens, refresh_token: Option<&str>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Success<'a> {
        status: &'static str,
        message: &'static str,
        code: u16,
        data: Data<'a>,
    }
    #[derive(Serialize)]
    struct Data<'a> {
        client_id: &'a str,
        access_token: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
    }
    let data = Data { client_id: &issued.client_id, access_token: issued.tokens.access_token.expose(), refresh_token };
    json_response(StatusCode::OK, &Success { status: "success", message: "Token generated", code: 200, data })
}

fn bearer_token(issued: &IssuedTokens, refresh_token: Option<&str>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct BearerToken<'a> {
        access_token: &'a str,
        token_type: &'static str,
        expires_in: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<&'a str>,
    }
    let body = BearerToken {
        access_token: issued.tokens.access_token.expose(),
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
        refresh_token,
        scope: issued.scope.as_deref(),
    };
    oauth(StatusCode::OK, &body)
}

fn with_cookie(mut response: Response<Full<Bytes>>, value: &str, age: Duration) -> Response<Full<Bytes>> {
    let age = age.as_secs();
    let cookie = format!("{REFRESH_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={age}");
    // A token is of characters that a cookie and a header can carry.
    if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// The answer to who gave a token up, which tells nothing of it. It takes the cookie back, where there may be one.
pub(crate) fn token_revoked(cookie: bool) -> Response<Full<Bytes>> {
    let response = oauth(StatusCode::OK, &json!({}));
    if cookie { with_cookie(response, "", Duration::ZERO) } else { response }
}

/// The answer that carries a ticket.
pub(crate) fn ticket(ticket: &Secret) -> Response<Full<Bytes>> {
    oauth(StatusCode::OK, &json!({ "ticket": ticket.expose(), "expires_in": ticket::LIFETIME.as_secs() }))
}

pub(crate) fn families_revoked(count: u64) -> Response<Full<Bytes>> {
    oauth(StatusCode::OK, &json!({ "revoked": count }))
}

/// What a token says (RFC 7662 2.2).
pub(crate) fn active(claims: &Claims) -> Response<Full<Bytes>> {
    let token_type = match claims.token_type() {
        TokenType::Access => "Bearer",
        TokenType::Refresh => "refresh_token",
    };
    let mut members = claims.as_object().clone();
    let issued_at = claims.get("iat").and_then(Value::as_f64);
    let ours = [("active", json!(true)), ("token_type", json!(token_type)), ("exp", json!(claims.expires_at()))];
    // Here times are whole seconds, which they need not be in a token.
    let issued_at = issued_at.map(|seconds| ("iat", json!(seconds as u64)));
    members.extend(ours.into_iter().chain(issued_at).map(|(name, value)| (name.to_owned(), value)));
    oauth(StatusCode::OK, &members)
}

pub(crate) fn inactive() -> Response<Full<Bytes>> {
    oauth(StatusCode::OK, &json!({ "active": false }))
}

/// Whether the parts that were looked at are there.
pub(crate) fn health(store: Option<bool>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        checks: Option<Checks>,
    }
    #[derive(Serialize)]
    struct Checks {
        store: &'static str,
    }
    let in_a_word = |is_there| if is_there { "ok" } else { "unavailable" };
    let is_well = store.unwrap_or(true);
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = store.map(|store| Checks { store: in_a_word(store) });
    json_response(status, &Health { status: in_a_word(is_well), checks })
}

/// The answer to a request that is refused.
pub(crate) fn refusal(refusal: Refusal, shape: Shape, request: &Parts, refusals: &Refusals) -> Response<Full<Bytes>> {
    let realm = refusals.realm();
    let is_envelope = shape == Shape::Envelope;
    let invalid = |message: String| Problem::new(400, Code::InvalidRequest, message).render(shape);
    match refusal {
        Refusal::Denied(denial) => refusals.answer(denial, Form::of(&request.method, &request.headers)),
        Refusal::Method { allow } => method_not_allowed(allow),
        Refusal::CrossOrigin => Problem::new(403, Code::AccessDenied, CROSS_ORIGIN).render(shape),
        Refusal::Missing { name, place } if is_envelope => unprocessable("missing", place, name, "Field required"),
        Refusal::Missing { name, .. } => invalid(format!("{name} is missing")),
        Refusal::Unusable { name, place, problem } if is_envelope => {
            unprocessable("value_error", place, name, &problem.to_string())
        }
        Refusal::Unusable { name, problem, .. } => invalid(format!("{name}: {problem}")),
        Refusal::Mixed(message) => invalid(message.to_owned()),
        Refusal::Unread(error) => {
            Problem::new(error.status().as_u16(), Code::InvalidRequest, error.to_string()).render(shape)
        }
        Refusal::Grant(error) => grant_refused(error, shape, realm),
        Refusal::NotIssued(error) if is_envelope => not_issued(&error, request, refusals),
        Refusal::NotIssued(error) => not_issued_by_oauth(&error),
        Refusal::Store(error) => store_failed(&error, shape),
        Refusal::Limited(wait) => after(Problem::new(429, Code::Unavailable, TOO_MANY).render(shape), wait),
    }
}

/// What is said of a refusal, in words that both forms have.
struct Problem {
    status: StatusCode,
    code: Code,
    message: String,
}

/// RFC 6749 5.2 and 4.1.2.1.
#[derive(Clone, Copy)]
enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    UnsupportedGrantType,
    AccessDenied,
    ServerError,
    Unavailable,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::Unavailable => "temporarily_unavailable",
        }
    }
}

impl Problem {
    fn new(status: u16, code: Code, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, message: message.into() }
    }

    fn render(&self, shape: Shape) -> Response<Full<Bytes>> {
        match shape {
            Shape::Envelope => failure(self.status, &self.message, None),
            Shape::OAuth => {
                let body = json!({ "error": self.code.as_str(), "error_description": self.message });
                oauth(self.status, &body)
            }
        }
    }
}

fn grant_refused(error: GrantError, shape: Shape, realm: &str) -> Response<Full<Bytes>> {
    let (status, code, message) = match error {
        GrantError::ClientAuthentication { by_header } => {
            (if by_header { 401 } else { 400 }, Code::InvalidClient, "clients have no secret here: send none")
        }
        GrantError::UnsupportedGrantType => {
            (400, Code::UnsupportedGrantType, "the only grant type here is refresh_token")
        }
        // As a token that is none of ours.
        GrantError::OtherClient => (400, Code::InvalidGrant, "Invalid refresh token"),
        GrantError::Scope => (400, Code::InvalidScope, "the refresh token does not have this scope"),
    };
    let response = Problem::new(status, code, message).render(shape);
    if status == 401 { with_basic_challenge(response, realm) } else { response }
}

fn not_issued_by_oauth(error: &IssueError) -> Response<Full<Bytes>> {
    let (status, code, message) = match error {
        IssueError::ClientId(error) => (400, Code::InvalidRequest, format!("client_id: {error}")),
        IssueError::InvalidRefreshToken(_) | IssueError::Superseded | IssueError::Reused | IssueError::Revoked => {
            (400, Code::InvalidGrant, refresh_refused(error).to_owned())
        }
        IssueError::Refused(refusal) => {
            (refusal.status().as_u16(), code_of(refusal.status()), refusal.message().to_owned())
        }
        IssueError::Store(_) => (503, Code::Unavailable, STORE_UNAVAILABLE.to_owned()),
        IssueError::NotSaved { .. } => (503, Code::Unavailable, NOT_SAVED.to_owned()),
        IssueError::Signing | IssueError::ReservedClaim(_) => (500, Code::ServerError, NOT_SIGNED.to_owned()),
    };
    let response = Problem::new(status, code, message).render(Shape::OAuth);
    let is_trouble = matches!(error, IssueError::Store(_) | IssueError::NotSaved { .. });
    if is_trouble { try_later(response) } else { response }
}

/// What the application's refusal is in OAuth's words.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_server_error() => Code::ServerError,
        _ => Code::AccessDenied,
    }
}

fn store_failed(error: &StoreError, shape: Shape) -> Response<Full<Bytes>> {
    match error.kind() {
        StoreErrorKind::Unsupported => Problem::new(501, Code::ServerError, STORE_UNABLE).render(shape),
        _ => try_later(Problem::new(503, Code::Unavailable, STORE_UNAVAILABLE).render(shape)),
    }
}

/// An answer that nobody keeps (RFC 6749 5.1): what the router answers is marked so anyway, and old caches know this alone.
fn oauth(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = json_response(status, body);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn with_basic_challenge(mut response: Response<Full<Bytes>>, realm: &str) -> Response<Full<Bytes>> {
    if let Ok(challenge) = HeaderValue::try_from(format!("Basic realm={}", quoted(realm))) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The envelope where no pair was issued.
fn not_issued(error: &IssueError, request: &Parts, refusals: &Refusals) -> Response<Full<Bytes>> {
    match error {
        IssueError::ClientId(error) => {
            let place = if request.method == http::Method::GET { "query" } else { "body" };
            unprocessable("value_error", place, "client_id", &error.to_string())
        }
        IssueError::InvalidRefreshToken(_) | IssueError::Superseded | IssueError::Reused | IssueError::Revoked => {
            let message = refresh_refused(error);
            let mut response = failure(StatusCode::UNAUTHORIZED, message, None);
            let challenge = Challenge::AccessToken(Some(BearerError::InvalidToken));
            if let Some(challenge) = refusals.challenge(challenge, message) {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
        IssueError::Refused(refusal) => failure(refusal.status(), refusal.message(), None),
        IssueError::Store(_) => try_later(failure(StatusCode::SERVICE_UNAVAILABLE, STORE_UNAVAILABLE, None)),
        IssueError::NotSaved { client_id, .. } => {
            let data = Some(Map::from_iter([("client_id".to_owned(), json!(client_id))]));
            try_later(failure(StatusCode::SERVICE_UNAVAILABLE, NOT_SAVED, data))
        }
        IssueError::Signing | IssueError::ReservedClaim(_) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, NOT_SIGNED, None)
        }
    }
}

fn refresh_refused(error: &IssueError) -> &'static str {
    match error {
        IssueError::InvalidRefreshToken(TokenError::MissingClientId) => "Invalid refresh token: missing client_id",
        IssueError::InvalidRefreshToken(TokenError::WrongType) => "Invalid refresh token: not a refresh token",
        IssueError::InvalidRefreshToken(_) => "Invalid refresh token",
        _ => "Invalid refresh token: used or revoked",
    }
}

fn failure(status: StatusCode, message: &str, data: Option<Map<String, Value>>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Failure<'a> {
        status: &'static str,
        message: &'a str,
        code: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Map<String, Value>>,
    }
    json_response(status, &Failure { status: "error", message, code: status.as_u16(), data })
}

/// FastAPI's answer to a parameter that is missing or not usable. What was sent is not said back.
fn unprocessable(kind: &str, place: &str, parameter: &str, message: &str) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct Problem<'a> {
        r#type: &'a str,
        loc: [&'a str; 2],
        msg: &'a str,
        input: (),
    }
    let problem = Problem { r#type: kind, loc: [place, parameter], msg: message, input: () };
    json_response(StatusCode::UNPROCESSABLE_ENTITY, &Detail { detail: [problem] })
}

fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &Detail { detail: "Method Not Allowed" });
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
