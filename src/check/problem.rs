//! The body of an error: one form for what the guard and the endpoints refuse, by `error-shape` and `response-shape`.
//!
//! The members of the original `fastauth-api` are among them (`detail`; `status`, `message`, `code` and `data`), and its texts stay as
//! they are, byte for byte.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::respond::{json_response, problem_response};
use crate::{
    denial::{Challenge, Spec},
    settings::{EndpointOptions, ErrorShape, ResponseShape},
};

/// The form of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// The envelope of `fastauth-api`.
    Envelope,
    /// That of RFC 6749.
    OAuth,
    /// That of RFC 9457.
    Problem,
}

/// What is said of an error.
pub(crate) struct Problem<'a> {
    pub(crate) status: StatusCode,
    /// The code of the reason, which stays: `docs/observability.md` lists all of them.
    pub(crate) reason: &'static str,
    pub(crate) error: OAuthError,
    pub(crate) message: Cow<'a, str>,
    /// The parameter that is missing or not usable.
    pub(crate) parameter: Option<BadParameter<'a>>,
    /// The client that tokens would have been issued to.
    pub(crate) client_id: Option<&'a str>,
}

/// The error codes of RFC 6749 5.2 and 4.1.2.1, of RFC 6750 3.1, and of RFC 9470 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OAuthError {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    InvalidToken,
    InsufficientScope,
    InsufficientUserAuthentication,
    UnsupportedGrantType,
    AccessDenied,
    ServerError,
    TemporarilyUnavailable,
}

/// A parameter that is missing or not usable, as FastAPI reports it. The value is not repeated.
#[derive(Serialize)]
pub(crate) struct BadParameter<'a> {
    r#type: &'static str,
    loc: [&'static str; 2],
    msg: Cow<'a, str>,
    input: (),
}

impl ErrorForm {
    /// Returns the form that the settings choose.
    pub(crate) fn new(options: &EndpointOptions) -> Self {
        match (options.error_shape, options.response_shape) {
            (ErrorShape::Problem, _) => Self::Problem,
            (ErrorShape::Response, ResponseShape::Envelope) => Self::Envelope,
            (ErrorShape::Response, ResponseShape::OAuth) => Self::OAuth,
        }
    }
}

impl OAuthError {
    pub(crate) const ALL: [Self; 11] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::InvalidScope,
        Self::InvalidToken,
        Self::InsufficientScope,
        Self::InsufficientUserAuthentication,
        Self::UnsupportedGrantType,
        Self::AccessDenied,
        Self::ServerError,
        Self::TemporarilyUnavailable,
    ];

    /// Returns the code for a denial.
    fn of(spec: &Spec<'_>) -> Self {
        match (spec.challenge, spec.status) {
            // The holder of a master token is a client that authenticates itself (RFC 7009 2.1, RFC 7662 2.1).
            (Challenge::MasterToken, StatusCode::UNAUTHORIZED) => Self::InvalidClient,
            (Challenge::InsufficientScope(_), _) => Self::InsufficientScope,
            (Challenge::FreshLogIn(_), _) => Self::InsufficientUserAuthentication,
            (_, StatusCode::UNAUTHORIZED) => Self::InvalidToken,
            (_, status) => Self::of_status(status),
        }
    }

    /// Returns the code that fits a status best.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Self::TemporarilyUnavailable,
            StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG => Self::InvalidRequest,
            status if status.is_server_error() => Self::ServerError,
            _ => Self::AccessDenied,
        }
    }
}

impl<'a> BadParameter<'a> {
    /// Reports a parameter that is absent from a `place`: `query` or `body`.
    pub(crate) fn missing(place: &'static str, name: &'static str) -> Self {
        Self { r#type: "missing", loc: [place, name], msg: "Field required".into(), input: () }
    }

    /// Reports what is wrong with the value of a parameter.
    pub(crate) fn unusable(place: &'static str, name: &'static str, message: impl Into<Cow<'a, str>>) -> Self {
        Self { r#type: "value_error", loc: [place, name], msg: message.into(), input: () }
    }
}

impl<'a> Problem<'a> {
    pub(crate) fn new(
        status: StatusCode,
        reason: &'static str,
        error: OAuthError,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        Self { status, reason, error, message: message.into(), parameter: None, client_id: None }
    }

    pub(crate) fn of_denial(spec: &Spec<'_>) -> Self {
        Self::new(spec.status, spec.code, OAuthError::of(spec), spec.text.to_string())
    }

    /// Renders the response, without headers of its own.
    pub(crate) fn response(&self, form: ErrorForm) -> Response<Full<Bytes>> {
        match form {
            ErrorForm::Envelope => json_response(self.status, &ErrorEnvelope::new(self)),
            ErrorForm::OAuth => {
                let body = ErrorOfOAuth { error: self.error, error_description: &self.message, reason: self.reason };
                json_response(self.status_of_oauth(), &body)
            }
            ErrorForm::Problem => problem_response(self.status, &ProblemDetails::new(self)),
        }
    }

    /// Returns the status by RFC 6749 5.2: 400 for what is wrong with the parameters, a refresh token among them.
    fn status_of_oauth(&self) -> StatusCode {
        match self.error {
            OAuthError::InvalidGrant => StatusCode::BAD_REQUEST,
            OAuthError::InvalidRequest if self.parameter.is_some() => StatusCode::BAD_REQUEST,
            _ => self.status,
        }
    }
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
    detail: Detail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<ErrorData<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Parameters([&'a BadParameter<'a>; 1]),
}

#[derive(Serialize)]
struct ErrorData<'a> {
    client_id: &'a str,
}

#[derive(Serialize)]
struct ErrorOfOAuth<'a> {
    error: OAuthError,
    error_description: &'a str,
    reason: &'static str,
}

/// The members of RFC 9457 3.1, and one of FastAuth.
#[derive(Serialize)]
struct ProblemDetails<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: &'static str,
}

impl<'a> ProblemDetails<'a> {
    fn new(problem: &'a Problem<'a>) -> Self {
        // With this type, the title is that of the status (RFC 9457 4.2.1): the reason says what the problem is.
        let title = problem.status.canonical_reason().unwrap_or("Error");
        let status = problem.status.as_u16();
        Self { r#type: "about:blank", title, status, detail: &problem.message, reason: problem.reason }
    }
}

impl<'a> ErrorEnvelope<'a> {
    fn new(problem: &'a Problem<'a>) -> Self {
        let detail = problem.parameter.as_ref().map_or(Detail::Text(&problem.message), |p| Detail::Parameters([p]));
        Self {
            status: "error",
            code: problem.status.as_u16(),
            reason: problem.reason,
            message: &problem.message,
            detail,
            data: problem.client_id.map(|client_id| ErrorData { client_id }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::DenialReason;

    async fn body(problem: &Problem<'_>, form: ErrorForm) -> String {
        use http_body_util::BodyExt;
        let bytes = problem.response(form).into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_has_one_shape() {
        let denied = Problem::of_denial(&DenialReason::MissingMasterToken.spec());
        assert_eq!(
            body(&denied, ErrorForm::Envelope).await,
            r#"{"status":"error","code":401,"reason":"missing_master_token","message":"Unauthorized Master Token","detail":"Unauthorized Master Token"}"#
        );
        assert_eq!(
            body(&denied, ErrorForm::OAuth).await,
            r#"{"error":"invalid_client","error_description":"Unauthorized Master Token","reason":"missing_master_token"}"#
        );
        assert_eq!(
            body(&denied, ErrorForm::Problem).await,
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"Unauthorized Master Token","reason":"missing_master_token"}"#
        );
        assert_eq!(denied.response(ErrorForm::Problem).headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn errors_of_demands_are_those_of_their_challenges() {
        for (reason, error) in [
            (DenialReason::InsufficientScope("read".to_owned()), OAuthError::InsufficientScope),
            (DenialReason::MissingRole, OAuthError::InsufficientScope),
            (DenialReason::StaleAuthentication(Duration::ZERO), OAuthError::InsufficientUserAuthentication),
            (DenialReason::Denied, OAuthError::AccessDenied),
            (DenialReason::CheckFailed(String::new()), OAuthError::ServerError),
        ] {
            assert_eq!(Problem::of_denial(&reason.spec()).error, error);
        }
    }

    #[tokio::test]
    async fn a_bad_parameter_is_400_in_the_form_of_oauth() {
        let (status, error) = (StatusCode::UNPROCESSABLE_ENTITY, OAuthError::InvalidRequest);
        let parameter = Some(BadParameter::missing("body", "token"));
        let missing = Problem { parameter, ..Problem::new(status, "missing_parameter", error, "token is missing") };
        assert_eq!(missing.response(ErrorForm::OAuth).status(), StatusCode::BAD_REQUEST);
        for form in [ErrorForm::Envelope, ErrorForm::Problem] {
            assert_eq!(missing.response(form).status(), StatusCode::UNPROCESSABLE_ENTITY);
        }
        assert_eq!(
            body(&missing, ErrorForm::Envelope).await,
            r#"{"status":"error","code":422,"reason":"missing_parameter","message":"token is missing","detail":[{"type":"missing","loc":["body","token"],"msg":"Field required","input":null}]}"#
        );
    }
}
