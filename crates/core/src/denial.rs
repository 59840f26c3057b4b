//! The reasons to refuse a request, and the one table of how each is reported.

use std::{fmt, time::Duration};

use http::StatusCode;

use crate::{
    credential::CredentialError,
    policy::{PathRefusal, Unmet},
    store::StoreError,
    token::TokenError,
};

/// Why a request was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenialReason {
    /// The path has no sound reading.
    #[error("the path was refused: {0}")]
    Path(PathRefusal),
    /// A page whose origin is not in `allowed-origins` asks for a WebSocket.
    #[error("a page of this origin may not open WebSockets")]
    ForeignOrigin,
    /// The credentials can be read in more than one way.
    #[error("{0}")]
    Credentials(CredentialError),
    /// The path requires the master token, and there is none.
    #[error("the master token is missing")]
    MissingMasterToken,
    /// The master token is wrong, or none is configured.
    #[error("the master token is wrong")]
    WrongMasterToken,
    /// The caller has presented too many wrong master tokens, and has to wait this long.
    #[error("there were too many wrong master tokens before")]
    TooManyGuesses(Duration),
    /// The path requires an access token, and there is none.
    #[error("the access token is missing")]
    MissingAccessToken,
    /// The access token was issued elsewhere, or is not valid now.
    #[error("the access token was refused: {0}")]
    InvalidAccessToken(TokenError),
    /// The ticket was issued elsewhere, or is not valid now.
    #[error("the ticket was refused: {0}")]
    InvalidTicket(TokenError),
    /// The ticket was issued for a request of another method or path, or for a WebSocket.
    #[error("the ticket is not for this request")]
    TicketMismatch,
    /// The ticket was used already.
    #[error("the ticket was used before")]
    SpentTicket,
    /// The store does not know the client of the access token.
    #[error("the store does not know the client")]
    UnknownClient,
    /// The store holds another access token for the client.
    #[error("the access token is not the client's current one")]
    NotCurrent,
    /// The access token lacks scopes that a rule demands. One with these is enough.
    #[error("the access token lacks a scope of `{0}`")]
    InsufficientScope(String),
    /// The access token lacks a role that a rule demands.
    #[error("the access token lacks a role")]
    MissingRole,
    /// A rule is for services, and the access token is that of a user, or the other way round.
    #[error("the access token is of another kind of client")]
    WrongPrincipal,
    /// A claim of the access token has another value than a rule demands.
    #[error("a claim of the access token has another value")]
    ClaimMismatch,
    /// The log-in is longer ago than a rule allows.
    #[error("the log-in is longer ago than {} s", .0.as_secs())]
    StaleAuthentication(Duration),
    /// A rule denies the path to all requests.
    #[error("the path is denied to all")]
    Denied,
    /// The application's [`AccessCheck`](crate::hooks::AccessCheck) refused, with this text for the client.
    #[error("the application refused: {0}")]
    Refused(String),
    /// The application's [`AccessCheck`](crate::hooks::AccessCheck) failed, for this reason.
    #[error("the application's check failed: {0}")]
    CheckFailed(String),
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    StoreUnavailable(#[source] StoreError),
}

impl From<Unmet> for DenialReason {
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::Scope(scope) => Self::InsufficientScope(scope),
            Unmet::Role => Self::MissingRole,
            Unmet::Principal => Self::WrongPrincipal,
            Unmet::Claim => Self::ClaimMismatch,
            Unmet::Stale(max_age) => Self::StaleAuthentication(max_age),
        }
    }
}

/// How a reason is reported: to the client over HTTP, gRPC and WebSockets, and to logs and metrics by its code.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// A short name that stays, for logs and metrics.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The gRPC status: that of the gRPC documentation's table for HTTP statuses, but for 400, which that calls INTERNAL.
    pub grpc: u8,
    /// The text that the client receives.
    pub text: Text<'a>,
    /// The code alone does not determine the text or the challenge.
    pub varies: bool,
    /// What `WWW-Authenticate` asks for.
    pub challenge: Challenge<'a>,
    /// How a refused WebSocket is closed; `None` if the reason is a matter for the browser and not for the page.
    pub close: Option<Close>,
}

/// A text, in printable ASCII without `%` unless the application wrote it.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    words: &'static str,
    error: Option<&'a dyn fmt::Display>,
}

/// What `WWW-Authenticate` asks for (RFC 9110 11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge<'a> {
    /// Nothing.
    None,
    /// The master token.
    MasterToken,
    /// An access token, with the error code of RFC 6750 3.1. There is none if the request had no credentials.
    AccessToken(Option<&'static str>),
    /// An access token that may do more, and the scopes that it needs, if those are what is missing (RFC 6750 3.1).
    InsufficientScope(Option<&'a str>),
    /// An access token of a log-in that is not longer ago (RFC 9470 3).
    FreshLogIn(Duration),
}

/// The message and the code with which a refused WebSocket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code (RFC 6455 7.4, and its registry).
    pub code: u16,
    /// The text of the message before the close frame.
    pub text: &'static str,
}

/// The text for a store that cannot be asked.
pub const STORE_UNAVAILABLE: &str = "The token store is unavailable, try again later";
const TOO_MANY_GUESSES: &str = "Too many wrong master tokens, try again later";
const STALE: &str = "The log-in is too long ago, log in again";
const REFUSED: &str = "The application refused the request";
const CHECK_FAILED: &str = "The application could not check the request";

/// The challenge for a token that is not accepted.
pub const INVALID_TOKEN: Challenge<'_> = Challenge::AccessToken(Some("invalid_token"));
const INVALID_REQUEST: Challenge<'_> = Challenge::AccessToken(Some("invalid_request"));

// In the words of `fastauth-api`, by which its clients go.
const MASTER_TOKEN_CLOSE: Close = Close { code: POLICY, text: "Disconnected: Unauthorized Master Token" };
const ACCESS_TOKEN_CLOSE: Close = Close { code: POLICY, text: "Disconnected: Unauthrized ACCESS-TOKEN" };
const POLICY: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;

/// A status over HTTP and over gRPC.
#[derive(Clone, Copy)]
struct Statuses(StatusCode, u8);

const BAD_REQUEST: Statuses = Statuses(StatusCode::BAD_REQUEST, 3);
const TOO_LONG: Statuses = Statuses(StatusCode::URI_TOO_LONG, 3);
const FORBIDDEN: Statuses = Statuses(StatusCode::FORBIDDEN, 7);
const UNAUTHENTICATED: Statuses = Statuses(StatusCode::UNAUTHORIZED, 16);
const EXHAUSTED: Statuses = Statuses(StatusCode::TOO_MANY_REQUESTS, 8);
const FAILED: Statuses = Statuses(StatusCode::INTERNAL_SERVER_ERROR, 13);
const UNAVAILABLE: Statuses = Statuses(StatusCode::SERVICE_UNAVAILABLE, 14);

impl DenialReason {
    /// Returns how the reason is reported. This is the only table of that.
    #[must_use]
    pub fn spec(&self) -> Spec<'_> {
        match self {
            Self::Path(refusal) => path(refusal),
            Self::ForeignOrigin => {
                Spec::new("foreign_origin", FORBIDDEN, "A page of this origin may not open WebSockets")
            }
            Self::Credentials(error) => {
                let spec = Spec::new(error.code(), BAD_REQUEST, "").error(error).varies();
                spec.challenge(INVALID_REQUEST).close(ACCESS_TOKEN_CLOSE)
            }
            Self::MissingMasterToken => master_token("missing_master_token"),
            Self::WrongMasterToken => master_token("wrong_master_token"),
            Self::TooManyGuesses(_) => try_later("too_many_guesses", EXHAUSTED, TOO_MANY_GUESSES),
            Self::MissingAccessToken => {
                let spec = access_token("missing_access_token", "Invalid Access Token. Access Token is null");
                spec.challenge(Challenge::AccessToken(None))
            }
            Self::InvalidAccessToken(error) => invalid_token(error),
            Self::InvalidTicket(error) => {
                access_token("invalid_ticket", "Invalid Ticket. Error: ").error(error).varies()
            }
            Self::TicketMismatch => access_token("ticket_mismatch", "Invalid Ticket. Error: not for this request"),
            Self::SpentTicket => access_token("spent_ticket", "Invalid Ticket. Error: used before"),
            Self::UnknownClient => access_token("unknown_client", "Invalid Client ID"),
            Self::NotCurrent => access_token("not_current", "Unauthorized Access Token"),
            Self::InsufficientScope(scope) => {
                let spec = insufficient("insufficient_scope", "The access token lacks a required scope").varies();
                spec.challenge(Challenge::InsufficientScope(Some(scope)))
            }
            Self::MissingRole => insufficient("missing_role", "The access token lacks a required role"),
            Self::WrongPrincipal => {
                insufficient("wrong_principal", "The access token is not of the required kind of client")
            }
            Self::ClaimMismatch => {
                insufficient("claim_mismatch", "A claim of the access token does not have the required value")
            }
            Self::StaleAuthentication(max_age) => {
                let spec = Spec::new("stale_authentication", UNAUTHENTICATED, STALE).varies().close_by(POLICY, STALE);
                spec.challenge(Challenge::FreshLogIn(*max_age))
            }
            Self::Denied => forbidden("denied", "Access denied"),
            Self::Refused(message) => {
                Spec::new("refused_by_check", FORBIDDEN, "").error(message).varies().close_by(POLICY, REFUSED)
            }
            Self::CheckFailed(_) => {
                Spec::new("check_failed", FAILED, CHECK_FAILED).close_by(INTERNAL_ERROR, CHECK_FAILED)
            }
            Self::StoreUnavailable(_) => try_later("store_unavailable", UNAVAILABLE, STORE_UNAVAILABLE),
        }
    }

    /// Returns a short name of the reason that stays, for logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.spec().code
    }

    /// Returns true if the check of the master token failed.
    #[must_use]
    pub fn is_of_master_token(&self) -> bool {
        match self {
            Self::MissingMasterToken | Self::WrongMasterToken | Self::TooManyGuesses(_) => true,
            Self::Credentials(error) => error.is_of_master_token(),
            _ => false,
        }
    }
}

fn path(refusal: &PathRefusal) -> Spec<'_> {
    let (code, status) = match refusal {
        PathRefusal::MalformedEscape => ("path_malformed_escape", BAD_REQUEST),
        PathRefusal::NotUtf8 => ("path_not_utf8", BAD_REQUEST),
        PathRefusal::ControlCharacter => ("path_control_character", BAD_REQUEST),
        PathRefusal::EncodedTooOften => ("path_encoded_too_often", BAD_REQUEST),
        PathRefusal::RequestTarget => ("path_request_target", BAD_REQUEST),
        // No path is refused for a short name.
        PathRefusal::TooManyReadings | PathRefusal::ShortName => ("path_too_many_readings", BAD_REQUEST),
        PathRefusal::TargetTooLong => ("path_too_long", TOO_LONG),
    };
    Spec::new(code, status, "").error(refusal)
}

fn invalid_token(error: &TokenError) -> Spec<'_> {
    let code = match error {
        TokenError::Malformed => "malformed_token",
        TokenError::UnsupportedAlgorithm => "unsupported_algorithm",
        TokenError::UnsupportedExtension => "unsupported_extension",
        TokenError::InvalidSignature => "invalid_signature",
        TokenError::Expired => "expired_token",
        TokenError::NotYetValid => "token_not_yet_valid",
        TokenError::InvalidClaim(_) => "invalid_claim",
        TokenError::MissingClientId => "missing_client_id",
        TokenError::WrongType => "wrong_token_type",
    };
    let spec = access_token(code, "Invalid Access Token. Error: ").error(error);
    if matches!(error, TokenError::InvalidClaim(_)) { spec.varies() } else { spec }
}

fn master_token<'a>(code: &'static str) -> Spec<'a> {
    let spec = Spec::new(code, UNAUTHENTICATED, "Unauthorized Master Token");
    spec.challenge(Challenge::MasterToken).close(MASTER_TOKEN_CLOSE)
}

fn try_later<'a>(code: &'static str, status: Statuses, text: &'static str) -> Spec<'a> {
    Spec::new(code, status, text).close_by(TRY_AGAIN_LATER, text)
}

fn forbidden<'a>(code: &'static str, text: &'static str) -> Spec<'a> {
    Spec::new(code, FORBIDDEN, text).close_by(POLICY, text)
}

/// The access token is valid, and another one may do more (RFC 6750 3.1).
fn insufficient<'a>(code: &'static str, text: &'static str) -> Spec<'a> {
    forbidden(code, text).challenge(Challenge::InsufficientScope(None))
}

fn access_token<'a>(code: &'static str, words: &'static str) -> Spec<'a> {
    Spec::new(code, UNAUTHENTICATED, words).challenge(INVALID_TOKEN).close(ACCESS_TOKEN_CLOSE)
}

impl<'a> Spec<'a> {
    fn new(code: &'static str, Statuses(status, grpc): Statuses, words: &'static str) -> Self {
        let text = Text { words, error: None };
        Self { code, status, grpc, text, varies: false, challenge: Challenge::None, close: None }
    }

    /// Appends an error to the text.
    fn error(mut self, error: &'a dyn fmt::Display) -> Self {
        self.text.error = Some(error);
        self
    }

    fn varies(self) -> Self {
        Self { varies: true, ..self }
    }

    fn challenge(self, challenge: Challenge<'a>) -> Self {
        Self { challenge, ..self }
    }

    fn close(self, close: Close) -> Self {
        Self { close: Some(close), ..self }
    }

    fn close_by(self, code: u16, text: &'static str) -> Self {
        self.close(Close { code, text })
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words)?;
        self.error.map_or(Ok(()), |error| error.fmt(f))
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    fn reasons() -> [(DenialReason, &'static str); 39] {
        use DenialReason as R;
        [
            (R::Path(PathRefusal::MalformedEscape), "path_malformed_escape"),
            (R::Path(PathRefusal::NotUtf8), "path_not_utf8"),
            (R::Path(PathRefusal::ControlCharacter), "path_control_character"),
            (R::Path(PathRefusal::EncodedTooOften), "path_encoded_too_often"),
            (R::Path(PathRefusal::RequestTarget), "path_request_target"),
            (R::Path(PathRefusal::TooManyReadings), "path_too_many_readings"),
            (R::Path(PathRefusal::TargetTooLong), "path_too_long"),
            (R::Credentials(CredentialError::Repeated("ACCESS-TOKEN")), "repeated_credentials"),
            (R::Credentials(CredentialError::Conflicting("ACCESS-TOKEN", "Authorization")), "conflicting_credentials"),
            (R::MissingMasterToken, "missing_master_token"),
            (R::WrongMasterToken, "wrong_master_token"),
            (R::MissingAccessToken, "missing_access_token"),
            (R::InvalidAccessToken(TokenError::Malformed), "malformed_token"),
            (R::InvalidAccessToken(TokenError::UnsupportedAlgorithm), "unsupported_algorithm"),
            (R::InvalidAccessToken(TokenError::UnsupportedExtension), "unsupported_extension"),
            (R::InvalidAccessToken(TokenError::InvalidSignature), "invalid_signature"),
            (R::InvalidAccessToken(TokenError::Expired), "expired_token"),
            (R::InvalidAccessToken(TokenError::NotYetValid), "token_not_yet_valid"),
            (R::InvalidAccessToken(TokenError::InvalidClaim("exp")), "invalid_claim"),
            (R::InvalidAccessToken(TokenError::MissingClientId), "missing_client_id"),
            (R::InvalidAccessToken(TokenError::WrongType), "wrong_token_type"),
            (R::UnknownClient, "unknown_client"),
            (R::NotCurrent, "not_current"),
            (R::StoreUnavailable(StoreError::new(StoreErrorKind::Failed, "away")), "store_unavailable"),
            (R::Credentials(CredentialError::RepeatedTicket), "repeated_credentials"),
            (R::Credentials(CredentialError::ConflictingProtocol), "conflicting_credentials"),
            (R::ForeignOrigin, "foreign_origin"),
            (R::InvalidTicket(TokenError::Expired), "invalid_ticket"),
            (R::SpentTicket, "spent_ticket"),
            (R::TicketMismatch, "ticket_mismatch"),
            (R::TooManyGuesses(Duration::ZERO), "too_many_guesses"),
            (R::InsufficientScope("read".to_owned()), "insufficient_scope"),
            (R::MissingRole, "missing_role"),
            (R::WrongPrincipal, "wrong_principal"),
            (R::ClaimMismatch, "claim_mismatch"),
            (R::StaleAuthentication(Duration::ZERO), "stale_authentication"),
            (R::Denied, "denied"),
            (R::Refused("not now".to_owned()), "refused_by_check"),
            (R::CheckFailed("away".to_owned()), "check_failed"),
        ]
    }

    #[test]
    fn each_reason_has_its_code_which_is_documented() {
        let for_operators = include_str!("../../../docs/observability.md");
        let for_clients = include_str!("../../../docs/guide/endpoints.md");
        for (reason, code) in reasons() {
            assert_eq!(reason.code(), code);
            for documentation in [for_operators, for_clients] {
                assert!(documentation.contains(&format!("`{code}`")), "{code}");
            }
        }
    }

    #[test]
    fn texts_fit_into_grpc_message_and_a_short_frame() {
        for (reason, code) in reasons() {
            let spec = reason.spec();
            let text = spec.text.to_string();
            assert!(text.chars().all(|c| matches!(c, ' '..='~') && c != '%'), "{code}: {text}");
            // Longer ones need a longer head, and no client of `fastauth-api` has seen one.
            assert!(spec.close.is_none_or(|close| close.text.len() < 90), "{code}");
        }
    }

    #[test]
    fn texts_that_do_not_vary_are_determined_by_the_code() {
        let all = reasons();
        for (one, code) in all.iter().filter(|(reason, _)| !reason.spec().varies) {
            for (other, _) in all.iter().filter(|(_, other)| other == code) {
                assert_eq!(other.spec().text.to_string(), one.spec().text.to_string(), "{code}");
            }
        }
    }
}
