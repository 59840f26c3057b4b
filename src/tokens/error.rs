//! Why an endpoint refuses a request, and the one table of how each error is reported.

use std::{borrow::Cow, error::Error, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, PRAGMA, WWW_AUTHENTICATE},
    request::Parts,
};
use http_body_util::Full;

use super::parameters::BodyError;
use crate::{
    check::{
        denial::Denial,
        problem::{BadParameter, ErrorForm, OAuthError, Problem},
        refuse::{RefusalForm, Refusals, after, quoted, try_later},
    },
    denial::{Challenge, INVALID_TOKEN, STORE_UNAVAILABLE},
    issue::IssueErrorKind,
    observe::{self, Details},
    store::{StoreError, StoreErrorKind},
    token::TokenError,
};

const NOT_SAVED: &str = "Token not saved. Database error";
const NOT_SIGNED: &str = "Token not signed";
const UNSUPPORTED: &str = "The token store does not support this";
const CROSS_ORIGIN: &str = "Requests from pages of another origin are not allowed";
const TOO_MANY: &str = "Too many requests, try again later";
const REPEATED_COOKIE: &str = "the cookie of the refresh token appears more than once";
const NOT_LOGGED_IN: &str =
    "Not logged in: there is neither the cookie of a refresh token nor the parameter refresh_token";
const NO_SECRET: &str = "client authentication is not supported: clients have no secret, so send none";
const NO_SUCH_GRANT: &str = "the grant type is not supported: send `refresh_token`";
const NO_SUCH_SCOPE: &str = "the refresh token does not include this scope";

/// Why an endpoint refuses a request.
pub(super) enum EndpointError {
    /// The master token or the access token was refused.
    Denied(Denial),
    /// A page of another origin sent the request.
    CrossOrigin,
    /// No endpoint has this path.
    NotFound,
    /// The method is not one of those that are allowed.
    Method { allow: &'static str },
    /// The body could not be read.
    Body(BodyError),
    /// The cookie of the refresh token appears more than once.
    RepeatedCookie,
    /// The refresh token travels in a cookie, and there is neither the cookie nor the parameter.
    NotLoggedIn,
    /// A required parameter is absent.
    Missing(&'static str),
    /// A parameter has no usable value.
    Unusable { name: &'static str, problem: Cow<'static, str> },
    /// The parameters contradict each other.
    Mixed(&'static str),
    /// The grant is refused in the terms of OAuth.
    Grant(GrantError),
    /// No pair was issued.
    NotIssued(IssueErrorKind),
    /// The store failed.
    Store(StoreError),
    /// There were too many requests before; this is how long to wait.
    Limited(Duration),
}

/// What is wrong with a grant (RFC 6749 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantError {
    /// The client tries to authenticate itself, but clients have no secrets.
    ClientAuthentication {
        /// It tried by `Authorization: Basic`, which asks for a challenge.
        by_header: bool,
    },
    UnsupportedGrantType,
    /// The token was issued to another client than the one that is named.
    OtherClient,
    /// The scope that is asked for exceeds that of the token.
    Scope,
}

impl EndpointError {
    /// Returns how the error is reported. With [`DenialReason::spec`](crate::DenialReason::spec), this is the only table of that. The
    /// `place` of the parameters is `query` or `body`.
    pub(super) fn problem(&self, place: &'static str) -> Problem<'_> {
        use OAuthError::{AccessDenied, InvalidGrant, InvalidRequest, TemporarilyUnavailable};
        match self {
            Self::Denied(denial) => Problem::of_denial(&denial.reason().spec()),
            Self::CrossOrigin => Problem::new(StatusCode::FORBIDDEN, "cross_origin", AccessDenied, CROSS_ORIGIN),
            Self::NotFound => Problem::new(StatusCode::NOT_FOUND, "not_found", InvalidRequest, "Not Found"),
            Self::Method { .. } => {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                Problem::new(status, "method_not_allowed", InvalidRequest, "Method Not Allowed")
            }
            Self::Body(error) => Problem::new(error.status(), error.code(), InvalidRequest, error.to_string()),
            Self::RepeatedCookie => bad_request("repeated_credentials", REPEATED_COOKIE),
            Self::NotLoggedIn => Problem::new(StatusCode::UNAUTHORIZED, "not_logged_in", InvalidGrant, NOT_LOGGED_IN),
            Self::Missing(name) => {
                unprocessable("missing_parameter", format!("{name} is missing"), BadParameter::missing(place, name))
            }
            Self::Unusable { name, problem } => {
                let parameter = BadParameter::unusable(place, name, &**problem);
                unprocessable("invalid_parameter", format!("{name}: {problem}"), parameter)
            }
            Self::Mixed(message) => bad_request("conflicting_parameters", message),
            Self::Grant(error) => error.problem(),
            Self::NotIssued(error) => not_issued(error, place),
            Self::Store(error) => store_failed(error),
            Self::Limited(_) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", TemporarilyUnavailable, TOO_MANY)
            }
        }
    }

    /// Renders the answer to a request that is refused.
    pub(super) fn answer(self, errors: ErrorForm, request: &Parts, refusals: &Refusals) -> Response<Full<Bytes>> {
        match self {
            Self::Denied(denial) => {
                let form = RefusalForm::new(&request.method, &request.headers);
                of_form(errors, refusals.answer_in(errors, denial, form))
            }
            other => other.render(errors, if request.method == Method::POST { "body" } else { "query" }, refusals),
        }
    }

    /// Renders the answer to a request that has its parameters in this place.
    pub(super) fn render(self, form: ErrorForm, place: &'static str, refusals: &Refusals) -> Response<Full<Bytes>> {
        let problem = self.problem(place);
        let mut response = of_form(form, problem.response(form));
        if let Some(challenge) = self.challenge(&response, &problem.message, refusals) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        match self {
            Self::Method { allow } => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
            Self::Limited(wait) => after(response, wait),
            Self::Store(error) | Self::NotIssued(IssueErrorKind::Store(error))
                if error.kind() == StoreErrorKind::RateLimited =>
            {
                after(response, error.retry_after().unwrap_or_default())
            }
            Self::Store(_) | Self::NotIssued(IssueErrorKind::Store(_) | IssueErrorKind::NotSaved { .. })
                if response.status() == StatusCode::SERVICE_UNAVAILABLE =>
            {
                try_later(response)
            }
            _ => response,
        }
    }

    /// Returns what a 401 asks for, unless the application has chosen that status.
    fn challenge(&self, response: &Response<Full<Bytes>>, message: &str, refusals: &Refusals) -> Option<HeaderValue> {
        if response.status() != StatusCode::UNAUTHORIZED {
            return None;
        }
        match self {
            Self::NotLoggedIn => refusals.challenge(Challenge::AccessToken(None), message),
            Self::NotIssued(IssueErrorKind::Refused(_)) => None,
            Self::NotIssued(_) => refusals.challenge(INVALID_TOKEN, message),
            Self::Grant(_) => HeaderValue::try_from(format!("Basic realm={}", quoted(refusals.realm()))).ok(),
            _ => None,
        }
    }

    /// Logs what the operator should know. Faults of the request are left to the answer.
    pub(super) fn log(&self, details: &Details) {
        let path = details.path();
        let peer = details.peer();
        let request_id = details.request_id();
        match self {
            Self::NotIssued(error) => log_not_issued(error, details),
            Self::Store(error) if error.kind() == StoreErrorKind::Unsupported => tracing::warn!(
                target: "fastauth",
                error = error as &dyn Error, path, peer, request_id,
                "refused: the token store does not support this"
            ),
            Self::Store(error) => observe::log_store_failure(error, "not done", details),
            Self::Limited(wait) => {
                tracing::info!(target: "fastauth", ?wait, path, peer, request_id, "not issued: too many requests");
            }
            Self::Grant(error) => tracing::info!(target: "fastauth", ?error, path, peer, request_id, "not issued"),
            Self::CrossOrigin => {
                tracing::warn!(target: "fastauth", path, peer, request_id, "refused: a page of another origin asked");
            }
            Self::Denied(_)
            | Self::NotFound
            | Self::Method { .. }
            | Self::Body(_)
            | Self::RepeatedCookie
            | Self::NotLoggedIn
            | Self::Missing(_)
            | Self::Unusable { .. }
            | Self::Mixed(_) => {}
        }
    }
}

/// Logs why no pair was issued.
pub(super) fn log_not_issued(error: &IssueErrorKind, details: &Details) {
    match error {
        IssueErrorKind::Store(error) if error.kind() == StoreErrorKind::RateLimited => tracing::info!(
            target: "fastauth",
            reason = "rate_limited",
            wait = ?error.retry_after(),
            path = details.path(),
            peer = details.peer(),
            request_id = details.request_id(),
            "not issued: the token store limits the client"
        ),
        IssueErrorKind::Store(error) | IssueErrorKind::NotSaved { error, .. } => {
            observe::log_store_failure(error, "not issued", details);
        }
        error if not_issued(error, "body").status.is_server_error() => tracing::error!(
            target: "fastauth",
            reason = error.code(),
            error = error as &dyn Error,
            path = details.path(),
            peer = details.peer(),
            request_id = details.request_id(),
            "not issued"
        ),
        error => tracing::info!(
            target: "fastauth",
            reason = error.code(),
            error = error as &dyn Error,
            path = details.path(),
            peer = details.peer(),
            request_id = details.request_id(),
            "not issued"
        ),
    }
}

impl GrantError {
    fn problem(self) -> Problem<'static> {
        use OAuthError::{InvalidClient, InvalidGrant, InvalidScope, UnsupportedGrantType};
        const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            Self::ClientAuthentication { by_header } => {
                let status = if by_header { StatusCode::UNAUTHORIZED } else { BAD_REQUEST };
                Problem::new(status, "client_authentication", InvalidClient, NO_SECRET)
            }
            Self::UnsupportedGrantType => {
                Problem::new(BAD_REQUEST, "unsupported_grant_type", UnsupportedGrantType, NO_SUCH_GRANT)
            }
            // Nothing shows that the token is valid.
            Self::OtherClient => {
                Problem::new(BAD_REQUEST, "invalid_refresh_token", InvalidGrant, "Invalid refresh token")
            }
            Self::Scope => Problem::new(BAD_REQUEST, "invalid_scope", InvalidScope, NO_SUCH_SCOPE),
        }
    }
}

fn not_issued<'a>(error: &'a IssueErrorKind, place: &'static str) -> Problem<'a> {
    let code = error.code();
    match error {
        IssueErrorKind::ClientId(error) => {
            let parameter = BadParameter::unusable(place, "client_id", error.to_string());
            unprocessable(code, format!("client_id: {error}"), parameter)
        }
        IssueErrorKind::InvalidRefreshToken(_)
        | IssueErrorKind::Superseded
        | IssueErrorKind::Reused
        | IssueErrorKind::Revoked
        | IssueErrorKind::SessionEnded => {
            Problem::new(StatusCode::UNAUTHORIZED, code, OAuthError::InvalidGrant, refresh_refused(error))
        }
        IssueErrorKind::Refused(refusal) => {
            let status = refusal.status();
            Problem::new(status, code, OAuthError::of_status(status), refusal.message())
        }
        IssueErrorKind::Store(error) => store_failed(error),
        IssueErrorKind::NotSaved { client_id, .. } => {
            Problem { client_id: Some(client_id), ..unavailable(code, NOT_SAVED) }
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, OAuthError::ServerError, NOT_SIGNED),
    }
}

fn refresh_refused(error: &IssueErrorKind) -> &'static str {
    match error {
        IssueErrorKind::InvalidRefreshToken(TokenError::MissingClientId) => "Invalid refresh token: missing client_id",
        IssueErrorKind::InvalidRefreshToken(TokenError::WrongType) => "Invalid refresh token: not a refresh token",
        IssueErrorKind::InvalidRefreshToken(_) => "Invalid refresh token",
        IssueErrorKind::SessionEnded => "Invalid refresh token: the session has ended",
        _ => "Invalid refresh token: used or revoked",
    }
}

fn store_failed(error: &StoreError) -> Problem<'static> {
    match error.kind() {
        StoreErrorKind::Unsupported => {
            Problem::new(StatusCode::NOT_IMPLEMENTED, "unsupported_by_store", OAuthError::ServerError, UNSUPPORTED)
        }
        StoreErrorKind::RateLimited => {
            let error = OAuthError::TemporarilyUnavailable;
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", error, TOO_MANY)
        }
        _ => unavailable("store_unavailable", STORE_UNAVAILABLE),
    }
}

/// Adds what RFC 6749 5.1 asks for: answers are kept out of caches anyway, and old caches know this header alone.
fn of_form(form: ErrorForm, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if form == ErrorForm::OAuth {
        response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    }
    response
}

fn bad_request(reason: &'static str, message: &'static str) -> Problem<'static> {
    Problem::new(StatusCode::BAD_REQUEST, reason, OAuthError::InvalidRequest, message)
}

fn unavailable(reason: &'static str, message: &'static str) -> Problem<'static> {
    let error = OAuthError::TemporarilyUnavailable;
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason, error, message)
}

fn unprocessable<'a>(reason: &'static str, message: String, parameter: BadParameter<'a>) -> Problem<'a> {
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason, OAuthError::InvalidRequest, message);
    Problem { parameter: Some(parameter), ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DenialReason, issue::ClientIdError};

    fn errors() -> Vec<EndpointError> {
        use BodyError as B;
        use EndpointError as E;
        use GrantError as G;
        let trouble = || StoreError::new(StoreErrorKind::Failed, "away");
        let bodies = [
            B::InUrl,
            B::ContentType,
            B::Charset,
            B::TooLong,
            B::OverLimit,
            B::TimedOut,
            B::BrokeOff,
            B::NotJson,
            B::NotAForm,
        ];
        let grants = [G::UnsupportedGrantType, G::OtherClient, G::Scope];
        let grants = grants.into_iter().chain([true, false].map(|by_header| G::ClientAuthentication { by_header }));
        let issuing = [
            IssueErrorKind::ClientId(ClientIdError::Empty),
            IssueErrorKind::InvalidRefreshToken(TokenError::Expired),
            IssueErrorKind::Superseded,
            IssueErrorKind::Reused,
            IssueErrorKind::Revoked,
            IssueErrorKind::SessionEnded,
            IssueErrorKind::Refused(crate::ClaimsRefusal::new(StatusCode::FORBIDDEN, "no")),
            IssueErrorKind::ReservedClaim(String::new()),
            IssueErrorKind::ClaimsNotObject(String::new()),
            IssueErrorKind::Store(trouble()),
            IssueErrorKind::NotSaved { client_id: "c".to_owned(), error: trouble() },
            IssueErrorKind::Signing,
        ];
        let mut errors = vec![
            E::Denied(DenialReason::MissingMasterToken.into()),
            E::CrossOrigin,
            E::NotFound,
            E::Method { allow: "POST" },
            E::RepeatedCookie,
            E::NotLoggedIn,
            E::Missing("token"),
            E::Unusable { name: "token", problem: "no text".into() },
            E::Mixed("send one"),
            E::Store(trouble()),
            E::Store(StoreError::unsupported("no")),
            E::Limited(Duration::from_secs(1)),
        ];
        errors.extend(bodies.map(E::Body));
        errors.extend(grants.map(E::Grant));
        errors.extend(issuing.map(E::NotIssued));
        errors
    }

    #[test]
    fn every_reason_is_documented_for_operators_and_for_clients() {
        for error in errors() {
            let reason = error.problem("body").reason;
            for documentation in
                [include_str!("../../docs/observability.md"), include_str!("../../docs/guide/endpoints.md")]
            {
                assert!(documentation.contains(&format!("`{reason}`")), "{reason}");
            }
        }
    }

    #[test]
    fn errors_of_oauth_have_its_statuses() {
        for error in errors() {
            let problem = error.problem("body");
            let status = problem.response(ErrorForm::OAuth).status().as_u16();
            assert_ne!(status, 422, "{}", problem.reason);
            // RFC 6749 5.2: 401 is for a client that authenticates itself.
            assert!(status != 401 || problem.error == OAuthError::InvalidClient, "{}", problem.reason);
        }
    }
}
