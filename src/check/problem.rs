//! The body of an error: one shape for what the guard and the endpoints refuse, by `response-shape`.
//!
//! The members of the original `fastauth-api` are among them (`detail`; `status`, `message`, `code` and `data`), and its texts stay as
//! they are, byte for byte.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::respond::json_response;
use crate::{
    denial::{Challenge, Spec},
    settings::ResponseShape,
};

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

/// The error codes of RFC 6749 5.2 and 4.1.2.1, and of RFC 6750 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OAuthError {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    InvalidToken,
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

impl OAuthError {
    pub(crate) const ALL: [Self; 9] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::InvalidScope,
        Self::InvalidToken,
        Self::UnsupportedGrantType,
        Self::AccessDenied,
        Self::ServerError,
        Self::TemporarilyUnavailable,
    ];

    /// Returns the code for a denial.
    fn of(spec: &Spec<'_>) -> Self {
        match spec.status {
            // The holder of a master token is a client that authenticates itself (RFC 7009 2.1, RFC 7662 2.1).
            StatusCode::UNAUTHORIZED if spec.challenge == Challenge::MasterToken => Self::InvalidClient,
            StatusCode::UNAUTHORIZED => Self::InvalidToken,
            status => Self::of_status(status),
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
    pub(crate) fn response(&self, shape: ResponseShape) -> Response<Full<Bytes>> {
        match shape {
            ResponseShape::Envelope => json_response(self.status, &ErrorEnvelope::new(self)),
            ResponseShape::OAuth => {
                let body = ErrorOfOAuth { error: self.error, error_description: &self.message, reason: self.reason };
                json_response(self.status_of_oauth(), &body)
            }
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
    use super::*;
    use crate::DenialReason;

    async fn body(problem: &Problem<'_>, shape: ResponseShape) -> String {
        use http_body_util::BodyExt;
        let bytes = problem.response(shape).into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_has_one_shape() {
        let denied = Problem::of_denial(&DenialReason::MissingMasterToken.spec());
        assert_eq!(
            body(&denied, ResponseShape::Envelope).await,
            r#"{"status":"error","code":401,"reason":"missing_master_token","message":"Unauthorized Master Token","detail":"Unauthorized Master Token"}"#
        );
        assert_eq!(
            body(&denied, ResponseShape::OAuth).await,
            r#"{"error":"invalid_client","error_description":"Unauthorized Master Token","reason":"missing_master_token"}"#
        );
    }

    #[tokio::test]
    async fn a_bad_parameter_is_400_in_the_form_of_oauth() {
        let (status, error) = (StatusCode::UNPROCESSABLE_ENTITY, OAuthError::InvalidRequest);
        let parameter = Some(BadParameter::missing("body", "token"));
        let missing = Problem { parameter, ..Problem::new(status, "missing_parameter", error, "token is missing") };
        assert_eq!(missing.response(ResponseShape::OAuth).status(), StatusCode::BAD_REQUEST);
        assert_eq!(missing.response(ResponseShape::Envelope).status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(
            body(&missing, ResponseShape::Envelope).await,
            r#"{"status":"error","code":422,"reason":"missing_parameter","message":"token is missing","detail":[{"type":"missing","loc":["body","token"],"msg":"Field required","input":null}]}"#
        );
    }
}
