//! Renders answers in the form that an endpoint has: the envelope of `fastauth-api`, or that of OAuth (RFC 6749 5).
//!
//! The texts of the original `fastauth-api` stay as they are, byte for byte.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, WWW_AUTHENTICATE},
    request::Parts,
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::oauth;
use crate::{
    check::refuse::{Detail, RefusalForm, Refusals, after, json_response, quoted, try_later},
    denial::{INVALID_TOKEN, STORE_UNAVAILABLE},
    issue::IssueErrorKind,
    settings::ResponseShape,
    store::{StoreError, StoreErrorKind},
    token::TokenError,
    tokens::error::{EndpointError, GrantError},
};

const NOT_SAVED: &str = "Token not saved. Database error";
const NOT_SIGNED: &str = "Token not signed";
const UNSUPPORTED: &str = "The token store does not support this";
const CROSS_ORIGIN: &str = "Requests from pages of another origin are not allowed";
const TOO_MANY: &str = "Too many requests, try again later";
const REPEATED_COOKIE: &str = "the cookie of the refresh token appears more than once";

pub(crate) fn not_found() -> Response<Full<Bytes>> {
    json_response(StatusCode::NOT_FOUND, &Detail { detail: "Not Found" })
}

/// Renders the answer to a request that is refused.
pub(crate) fn error(
    error: EndpointError,
    shape: ResponseShape,
    request: &Parts,
    refusals: &Refusals,
) -> Response<Full<Bytes>> {
    let problem = match error {
        EndpointError::Denied(denial) => {
            return refusals.answer(denial, RefusalForm::new(&request.method, &request.headers));
        }
        EndpointError::Method { allow } => return method_not_allowed(allow),
        EndpointError::Missing { name, place } if shape == ResponseShape::Envelope => {
            return unprocessable("missing", place, name, "Field required");
        }
        EndpointError::Unusable { name, place, problem } if shape == ResponseShape::Envelope => {
            return unprocessable("value_error", place, name, &problem.to_string());
        }
        EndpointError::NotIssued(error) if shape == ResponseShape::Envelope => {
            return not_issued(&error, place_of(&request.method), refusals);
        }
        EndpointError::NotIssued(error) => return not_issued_by_oauth(&error),
        EndpointError::Store(error) => return store_failed(&error, shape),
        EndpointError::Grant(error) => return grant_refused(error, shape, refusals.realm()),
        EndpointError::Limited(wait) => {
            return after(
                ErrorText::new(StatusCode::TOO_MANY_REQUESTS, Code::Unavailable, TOO_MANY).render(shape),
                wait,
            );
        }
        EndpointError::CrossOrigin => ErrorText::new(StatusCode::FORBIDDEN, Code::AccessDenied, CROSS_ORIGIN),
        EndpointError::RepeatedCookie => ErrorText::invalid(REPEATED_COOKIE),
        EndpointError::Missing { name, .. } => ErrorText::invalid(format!("{name} is missing")),
        EndpointError::Unusable { name, problem, .. } => ErrorText::invalid(format!("{name}: {problem}")),
        EndpointError::Mixed(message) => ErrorText::invalid(message),
        EndpointError::Body(error) => ErrorText::new(error.status(), Code::InvalidRequest, error.to_string()),
    };
    problem.render(shape)
}

/// Renders why a handler was issued no pair, as the endpoint does to a request without a query.
pub(crate) fn issue_error(error: &IssueErrorKind, shape: ResponseShape, refusals: &Refusals) -> Response<Full<Bytes>> {
    match shape {
        ResponseShape::Envelope => not_issued(error, place_of(&Method::POST), refusals),
        ResponseShape::OAuth => not_issued_by_oauth(error),
    }
}

/// Returns where the parameters of a request are.
fn place_of(method: &Method) -> &'static str {
    if method == Method::GET { "query" } else { "body" }
}

/// What both forms say of an error.
struct ErrorText {
    status: StatusCode,
    code: Code,
    message: String,
}

/// The error codes of RFC 6749 5.2 and 4.1.2.1.
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

impl ErrorText {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, message)
    }

    fn render(&self, shape: ResponseShape) -> Response<Full<Bytes>> {
        match shape {
            ResponseShape::Envelope => failure(self.status, &self.message, None),
            ResponseShape::OAuth => {
                let body = json!({ "error": self.code.as_str(), "error_description": self.message });
                oauth(self.status, &body)
            }
        }
    }
}

fn grant_refused(error: GrantError, shape: ResponseShape, realm: &str) -> Response<Full<Bytes>> {
    let problem = match error {
        GrantError::ClientAuthentication { by_header } => {
            let status = if by_header { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
            let message = "client authentication is not supported: clients have no secret, so send none";
            ErrorText::new(status, Code::InvalidClient, message)
        }
        GrantError::UnsupportedGrantType => {
            let message = "the grant type is not supported: send `refresh_token`";
            ErrorText::new(StatusCode::BAD_REQUEST, Code::UnsupportedGrantType, message)
        }
        // Nothing shows that the token is valid.
        GrantError::OtherClient => ErrorText::new(StatusCode::BAD_REQUEST, Code::InvalidGrant, "Invalid refresh token"),
        GrantError::Scope => {
            let message = "the refresh token does not include this scope";
            ErrorText::new(StatusCode::BAD_REQUEST, Code::InvalidScope, message)
        }
    };
    let response = problem.render(shape);
    if response.status() == StatusCode::UNAUTHORIZED { with_basic_challenge(response, realm) } else { response }
}

fn not_issued_by_oauth(error: &IssueErrorKind) -> Response<Full<Bytes>> {
    let problem = match error {
        IssueErrorKind::ClientId(error) => ErrorText::invalid(format!("client_id: {error}")),
        IssueErrorKind::InvalidRefreshToken(_)
        | IssueErrorKind::Superseded
        | IssueErrorKind::Reused
        | IssueErrorKind::Revoked => {
            ErrorText::new(StatusCode::BAD_REQUEST, Code::InvalidGrant, refresh_refused(error))
        }
        IssueErrorKind::Refused(refusal) => {
            ErrorText::new(refusal.status(), code_of(refusal.status()), refusal.message())
        }
        IssueErrorKind::Store(error) => return store_failed(error, ResponseShape::OAuth),
        IssueErrorKind::NotSaved { .. } => {
            ErrorText::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, NOT_SAVED)
        }
        _ => ErrorText::new(StatusCode::INTERNAL_SERVER_ERROR, Code::ServerError, NOT_SIGNED),
    };
    let response = problem.render(ResponseShape::OAuth);
    if matches!(error, IssueErrorKind::NotSaved { .. }) { try_later(response) } else { response }
}

/// Returns OAuth's code for a refusal of the application.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_server_error() => Code::ServerError,
        _ => Code::AccessDenied,
    }
}

fn store_failed(error: &StoreError, shape: ResponseShape) -> Response<Full<Bytes>> {
    match error.kind() {
        StoreErrorKind::Unsupported => {
            ErrorText::new(StatusCode::NOT_IMPLEMENTED, Code::ServerError, UNSUPPORTED).render(shape)
        }
        _ => {
            let problem = ErrorText::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, STORE_UNAVAILABLE);
            try_later(problem.render(shape))
        }
    }
}

fn with_basic_challenge(mut response: Response<Full<Bytes>>, realm: &str) -> Response<Full<Bytes>> {
    if let Ok(challenge) = HeaderValue::try_from(format!("Basic realm={}", quoted(realm))) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Renders in the envelope why no pair was issued.
fn not_issued(error: &IssueErrorKind, place: &str, refusals: &Refusals) -> Response<Full<Bytes>> {
    match error {
        IssueErrorKind::ClientId(error) => unprocessable("value_error", place, "client_id", &error.to_string()),
        IssueErrorKind::InvalidRefreshToken(_)
        | IssueErrorKind::Superseded
        | IssueErrorKind::Reused
        | IssueErrorKind::Revoked => {
            let message = refresh_refused(error);
            let mut response = failure(StatusCode::UNAUTHORIZED, message, None);
            if let Some(challenge) = refusals.challenge(INVALID_TOKEN, message) {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
        IssueErrorKind::Refused(refusal) => failure(refusal.status(), refusal.message(), None),
        IssueErrorKind::Store(error) => store_failed(error, ResponseShape::Envelope),
        IssueErrorKind::NotSaved { client_id, .. } => {
            let data = Some(Map::from_iter([("client_id".to_owned(), json!(client_id))]));
            try_later(failure(StatusCode::SERVICE_UNAVAILABLE, NOT_SAVED, data))
        }
        _ => failure(StatusCode::INTERNAL_SERVER_ERROR, NOT_SIGNED, None),
    }
}

fn refresh_refused(error: &IssueErrorKind) -> &'static str {
    match error {
        IssueErrorKind::InvalidRefreshToken(TokenError::MissingClientId) => "Invalid refresh token: missing client_id",
        IssueErrorKind::InvalidRefreshToken(TokenError::WrongType) => "Invalid refresh token: not a refresh token",
        IssueErrorKind::InvalidRefreshToken(_) => "Invalid refresh token",
        _ => "Invalid refresh token: used or revoked",
    }
}

fn failure(status: StatusCode, message: &str, data: Option<Map<String, Value>>) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct FailureEnvelope<'a> {
        status: &'static str,
        message: &'a str,
        code: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Map<String, Value>>,
    }
    json_response(status, &FailureEnvelope { status: "error", message, code: status.as_u16(), data })
}

/// Renders FastAPI's answer to a missing or unusable parameter. What was sent is not repeated.
fn unprocessable(kind: &str, place: &str, parameter: &str, message: &str) -> Response<Full<Bytes>> {
    #[derive(Serialize)]
    struct InvalidParameter<'a> {
        r#type: &'a str,
        loc: [&'a str; 2],
        msg: &'a str,
        input: (),
    }
    let problem = InvalidParameter { r#type: kind, loc: [place, parameter], msg: message, input: () };
    json_response(StatusCode::UNPROCESSABLE_ENTITY, &Detail { detail: [problem] })
}

fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &Detail { detail: "Method Not Allowed" });
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
