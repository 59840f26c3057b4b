//! The errors of a token store.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// An error of a token store. Its text names no address, no token and no client (only an error of opening a file names the file).
/// The cause is its [`source`](Error::source).
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    is_save: bool,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store could not be reached, or the connection broke.
    Unreachable,
    /// The store did not answer in time. A write may or may not have happened.
    TimedOut,
    /// The answer breaks the contract.
    InvalidAnswer,
    /// The store could not be opened, read or written.
    Failed,
    /// The store is not able to do this.
    Unsupported,
    /// The store, or a proxy before it, says that it is not able to answer at the moment.
    Unavailable,
    /// The store was not asked, for too many requests wait for it.
    Busy,
    /// The store issues no more tokens to this client for now: see [`StoreError::retry_after`]. Nothing was changed.
    RateLimited,
}

impl StoreErrorKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::TimedOut,
        Self::InvalidAnswer,
        Self::Failed,
        Self::Unsupported,
        Self::Unavailable,
        Self::Busy,
        Self::RateLimited,
    ];

    /// Returns the stable name of the kind in logs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::InvalidAnswer => "invalid_answer",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::RateLimited => "rate_limited",
        }
    }
}

impl StoreError {
    /// Creates an error of this kind. `message` is for operators: lower case, no full stop, nothing secret.
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), is_save: false, retry_after: None, source: None }
    }

    /// Creates the error of a client that is issued tokens too often, and has to wait for so long.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        let error =
            Self::new(StoreErrorKind::RateLimited, "the token store issues no more tokens to this client for now");
        Self { retry_after: Some(retry_after), ..error }
    }

    /// Returns how long the caller has to wait before it tries again, if the store says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Creates an error that says what the store is not able to do.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Unsupported, message)
    }

    /// Adds the cause. Logs print the whole chain, so it must not contain a secret or a URL either.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Marks the error as one of saving a pair. It tells the two steps of [`TokenStore::rotate`](super::TokenStore::rotate)
    /// apart, which reads first.
    #[must_use]
    pub fn on_save(mut self) -> Self {
        self.is_save = true;
        self
    }

    /// Returns true if a pair could not be saved, and false if the store could not be read.
    #[must_use]
    pub fn is_save(&self) -> bool {
        self.is_save
    }

    /// Returns the text with those of all causes, for logs and for operators.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
