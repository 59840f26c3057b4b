//! Issuing: minting a pair and having the store hold it, in that order, before anybody is told.

use std::sync::Arc;

use crate::{
    gate::Gate,
    secret::Secret,
    store::{Rotation, StoreError, TokenPair},
    token::{Claims, TokenError, TokenType, unix_now},
};

/// The most bytes of UTF-8 that a client id may have.
pub const MAX_CLIENT_ID_LEN: usize = 1024;

/// Issues, renews and reads tokens in code: what the [`TokenRouter`](crate::TokenRouter) does over HTTP.
///
/// Use it where your own code decides who gets tokens, such as a login handler. It asks for no master token.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    gate: Arc<Gate>,
}

/// A pair that the store holds now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedTokens {
    /// Whom it was issued to.
    pub client_id: String,
    /// The pair.
    pub tokens: TokenPair,
}

/// Why no pair was issued.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The client id is not one that tokens are issued to.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    /// The refresh token is not one of ours, or not valid now.
    #[error("the refresh token was refused")]
    InvalidRefreshToken(#[from] TokenError),
    /// The refresh token was used before or revoked: the store holds another one for its client, or none.
    #[error("the refresh token is not the one that the store holds")]
    Superseded,
    /// The store could not be asked.
    #[error("the token store is unavailable")]
    Store(#[source] StoreError),
    /// The store did not save the pair, which is void then.
    #[error("the pair was not saved")]
    NotSaved {
        /// Whose pair it would have been.
        client_id: String,
        /// What the store's trouble is.
        #[source]
        error: StoreError,
    },
    /// The token could not be signed.
    #[error("the token could not be signed")]
    Signing,
}

/// Why a client id is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientIdError {
    /// It is empty.
    #[error("a client id must not be empty")]
    Empty,
    /// It has more than [`MAX_CLIENT_ID_LEN`] bytes.
    #[error("a client id must not be longer than {MAX_CLIENT_ID_LEN} bytes")]
    TooLong,
    /// It has a control character.
    #[error("a client id must not have control characters")]
    ControlCharacter,
}

impl TokenIssuer {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Issues a pair to `client_id`, which takes the place of the one it had.
    ///
    /// # Errors
    ///
    /// [`IssueError::ClientId`] where the id is empty, too long or has control characters;
    /// [`IssueError::NotSaved`] where the store did not save the pair.
    pub async fn issue(&self, client_id: &str) -> Result<IssuedTokens, IssueError> {
        check_client_id(client_id)?;
        let tokens = self.mint(client_id)?;
        let saved = self.gate.store.save(client_id, &tokens).await;
        saved.map_err(|error| IssueError::NotSaved { client_id: client_id.to_owned(), error })?;
        tracing::info!(target: "fastauth", client_id, "issued");
        Ok(IssuedTokens { client_id: client_id.to_owned(), tokens })
    }

    /// Exchanges a refresh token, which must be the one that the store holds, for a new pair.
    ///
    /// # Errors
    ///
    /// [`IssueError::InvalidRefreshToken`] and [`IssueError::Superseded`] for the token;
    /// [`IssueError::Store`] where the store could not be asked, [`IssueError::NotSaved`] where it did not save the pair.
    pub async fn refresh(&self, refresh_token: &str) -> Result<IssuedTokens, IssueError> {
        let claims = self.verify(refresh_token, TokenType::Refresh)?;
        let client_id = claims.client_id();
        let successor = self.mint(client_id)?;
        let presented = Secret::from(refresh_token);
        let rotation = self.gate.store.rotate(client_id, &presented, &successor).await;
        match rotation.map_err(|error| store_error(client_id, error))? {
            Rotation::Rotated => {
                tracing::info!(target: "fastauth", client_id, "refreshed");
                Ok(IssuedTokens { client_id: client_id.to_owned(), tokens: successor })
            }
            Rotation::Superseded | Rotation::UnknownClient => Err(IssueError::Superseded),
        }
    }

    /// Reads a token: signature, times and type. Whether it is the canonical one only the store knows.
    ///
    /// # Errors
    ///
    /// What is wrong with the token.
    pub fn verify(&self, token: &str, expected: TokenType) -> Result<Claims, TokenError> {
        self.gate.key.verify(token.as_bytes(), expected, unix_now())
    }

    fn mint(&self, client_id: &str) -> Result<TokenPair, IssueError> {
        let now = unix_now();
        let mint =
            |token_type, lifetime| self.gate.key.mint(client_id, token_type, now, lifetime).ok_or(IssueError::Signing);
        Ok(TokenPair {
            access_token: mint(TokenType::Access, self.gate.access_ttl)?,
            refresh_token: mint(TokenType::Refresh, self.gate.refresh_ttl)?,
        })
    }
}

fn store_error(client_id: &str, error: StoreError) -> IssueError {
    if error.is_save() {
        IssueError::NotSaved { client_id: client_id.to_owned(), error }
    } else {
        IssueError::Store(error)
    }
}

fn check_client_id(client_id: &str) -> Result<(), ClientIdError> {
    match client_id {
        "" => Err(ClientIdError::Empty),
        id if id.len() > MAX_CLIENT_ID_LEN => Err(ClientIdError::TooLong),
        id if id.chars().any(char::is_control) => Err(ClientIdError::ControlCharacter),
        _ => Ok(()),
    }
}
