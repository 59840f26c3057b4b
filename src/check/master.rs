//! Master tokens, and how many wrong ones a caller may present.
//!
//! The limit is per caller. A limit on all callers together would either let the right token in nevertheless, and then limits no
//! guess, or let any stranger lock the administrators out. Only the application can tell callers apart.

use std::{fmt::Debug, sync::Arc, time::Duration};

use http::request::Parts;

use crate::{
    DenialReason,
    credential::{Presented, TokenHeaders},
    secret::{Secret, SecretDigest},
};

/// Limits how many wrong master tokens a caller may present.
pub(crate) trait GuessLimit: Debug + Send + Sync {
    /// Returns the caller that sent a request, if the application can tell.
    fn caller(&self, request: &Parts) -> Option<u64>;

    /// Returns how long a caller has to wait, as an error, if it has presented too many.
    fn check(&self, caller: u64) -> Result<(), Duration>;

    /// Counts a wrong master token.
    fn charge(&self, caller: u64);
}

/// The master tokens that are configured.
#[derive(Debug)]
pub(crate) struct MasterTokens {
    tokens: Vec<Arc<MasterToken>>,
    guesses: Option<Arc<dyn GuessLimit>>,
}

/// A master token. The name is logged.
#[derive(Debug)]
pub(crate) struct MasterToken {
    name: Box<str>,
    digest: SecretDigest,
}

/// The sender of a request, if the application can tell callers apart.
#[derive(Clone, Copy, Default)]
pub(crate) struct Caller(Option<u64>);

impl MasterToken {
    #[inline]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl MasterTokens {
    pub(crate) fn new(tokens: &[(String, Secret)], guesses: Option<Arc<dyn GuessLimit>>) -> Self {
        let tokens = tokens.iter().map(|(name, token)| {
            let digest = SecretDigest::of(token.expose().as_bytes());
            Arc::new(MasterToken { name: name.as_str().into(), digest })
        });
        Self { tokens: tokens.collect(), guesses }
    }

    /// Returns true if the sender of a request has to be known.
    pub(crate) fn limits_guesses(&self) -> bool {
        self.guesses.is_some()
    }

    /// Returns the sender of a request.
    pub(crate) fn caller(&self, request: &Parts) -> Caller {
        Caller(self.guesses.as_ref().and_then(|guesses| guesses.caller(request)))
    }

    /// Checks the master token of a request, and returns it.
    pub(crate) fn require(&self, request: &Parts, sources: TokenHeaders) -> Result<Arc<MasterToken>, DenialReason> {
        let presented = Presented::read(&request.headers, sources).master_token().map_err(DenialReason::Credentials)?;
        self.check(presented.ok_or(DenialReason::MissingMasterToken)?, self.caller(request))
    }

    /// Checks a master token, and returns it. A caller that has guessed too often is refused whatever it presents.
    pub(crate) fn check(&self, presented: &[u8], Caller(caller): Caller) -> Result<Arc<MasterToken>, DenialReason> {
        let limit = self.guesses.as_ref().zip(caller);
        if let Some((guesses, caller)) = limit {
            guesses.check(caller).map_err(DenialReason::TooManyGuesses)?;
        }
        let found = self.find(presented);
        if let (None, Some((guesses, caller))) = (found, limit) {
            guesses.charge(caller);
        }
        found.cloned().ok_or(DenialReason::WrongMasterToken)
    }

    /// Returns true if a master token is right. Wrong ones are not counted.
    pub(crate) fn know(&self, presented: &[u8]) -> bool {
        self.find(presented).is_some()
    }

    /// Returns true if a master token that was right is one of these.
    pub(crate) fn include(&self, token: &MasterToken) -> bool {
        self.tokens.iter().any(|other| other.digest == token.digest)
    }

    /// Returns a master token. All are compared, so that the time does not tell which one it was.
    fn find(&self, presented: &[u8]) -> Option<&Arc<MasterToken>> {
        let presented = SecretDigest::of(presented);
        self.tokens.iter().fold(None, |found, token| if token.digest == presented { Some(token) } else { found })
    }
}
