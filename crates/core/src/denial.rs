//! Why a request is refused.

use std::time::Duration;

use crate::{
    credential::{self, CredentialError},
    policy::PathRefusal,
    store::StoreError,
    token::TokenError,
};

/// Why a request was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DenialReason {
    /// The path has no sound reading.
    #[error("the path was refused: {0}")]
    Path(PathRefusal),
    /// A page whose origin is not in `websocket-origins` asks for a WebSocket.
    #[error("a page of this origin may not open WebSockets")]
    ForeignOrigin,
    /// The credentials can be read in more than one way.
    #[error("{0}")]
    Credentials(CredentialError),
    /// The path asks for the master token, and there is none.
    #[error("the master token is missing")]
    MissingMasterToken,
    /// The master token is wrong, or none is configured.
    #[error("the master token is wrong")]
    WrongMasterToken,
    /// The caller has brought too many wrong master tokens before, and has to wait for so long.
    #[error("there were too many wrong master tokens before")]
    TooManyGuesses(Duration),
    /// The path asks for an access token, and there is none.
    #[error("the access token is missing")]
    MissingAccessToken,
    /// The access token is not one of ours, or not valid now.
    #[error("the access token was refused: {0}")]
    InvalidAccessToken(TokenError),
    /// The ticket is not one of ours, or not valid now.
    #[error("the ticket was refused: {0}")]
    InvalidTicket(TokenError),
    /// The ticket has opened a WebSocket already.
    #[error("the ticket was used before")]
    SpentTicket,
    /// The store does not know the client of the access token.
    #[error("the store does not know the client")]
    UnknownClient,
    /// The store holds another access token for the client.
    #[error("the access token is not the client's canonical one")]
    NotCanonical,
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    StoreUnavailable(#[source] StoreError),
}

impl DenialReason {
    /// All that [`code`](Self::code) can be.
    pub const CODES: [&str; 28] = [
        "path_malformed_escape",
        "path_not_utf8",
        "path_control_character",
        "path_encoded_too_often",
        "path_request_target",
        "path_too_many_readings",
        "path_too_long",
        "repeated_credentials",
        "conflicting_credentials",
        "missing_master_token",
        "wrong_master_token",
        "missing_access_token",
        "malformed_token",
        "unsupported_algorithm",
        "unsupported_extension",
        "invalid_signature",
        "expired_token",
        "token_not_yet_valid",
        "invalid_claim",
        "missing_client_id",
        "wrong_token_type",
        "unknown_client",
        "not_canonical",
        "store_unavailable",
        "foreign_origin",
        "invalid_ticket",
        "spent_ticket",
        "too_many_guesses",
    ];

    /// A short name of the reason that stays, for logs and counts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODES[self.place()]
    }

    /// The place of the code.
    pub fn place(&self) -> usize {
        match self {
            Self::Path(PathRefusal::MalformedEscape) => 0,
            Self::Path(PathRefusal::NotUtf8) => 1,
            Self::Path(PathRefusal::ControlCharacter) => 2,
            Self::Path(PathRefusal::EncodedTooOften) => 3,
            Self::Path(PathRefusal::RequestTarget) => 4,
            // No path is refused for a short name.
            Self::Path(PathRefusal::TooManyReadings | PathRefusal::ShortName) => 5,
            Self::Path(PathRefusal::TargetTooLong) => 6,
            Self::Credentials(
                CredentialError::Repeated(_) | CredentialError::RepeatedProtocol | CredentialError::RepeatedTicket,
            ) => 7,
            Self::Credentials(CredentialError::Conflicting | CredentialError::ConflictingProtocol) => 8,
            Self::MissingMasterToken => 9,
            Self::WrongMasterToken => 10,
            Self::MissingAccessToken => 11,
            Self::InvalidAccessToken(TokenError::Malformed) => 12,
            Self::InvalidAccessToken(TokenError::UnsupportedAlgorithm) => 13,
            Self::InvalidAccessToken(TokenError::UnsupportedExtension) => 14,
            Self::InvalidAccessToken(TokenError::InvalidSignature) => 15,
            Self::InvalidAccessToken(TokenError::Expired) => 16,
            Self::InvalidAccessToken(TokenError::NotYetValid) => 17,
            Self::InvalidAccessToken(TokenError::InvalidClaim(_)) => 18,
            Self::InvalidAccessToken(TokenError::MissingClientId) => 19,
            Self::InvalidAccessToken(TokenError::WrongType) => 20,
            Self::UnknownClient => 21,
            Self::NotCanonical => 22,
            Self::StoreUnavailable(_) => 23,
            Self::ForeignOrigin => 24,
            Self::InvalidTicket(_) => 25,
            Self::SpentTicket => 26,
            Self::TooManyGuesses(_) => 27,
        }
    }

    /// Whether it was the check of the master token that failed.
    pub fn is_of_master_token(&self) -> bool {
        matches!(
            self,
            Self::MissingMasterToken
                | Self::WrongMasterToken
                | Self::TooManyGuesses(_)
                | Self::Credentials(CredentialError::Repeated(credential::MASTER_TOKEN_SPELLING))
        )
    }
}
