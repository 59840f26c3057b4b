//! Where the tokens are kept: the contract of a store, and the stores that come with the crate.

use std::{borrow::Cow, error::Error, fmt, future::Future, pin::Pin, sync::Arc};

use crate::secret::Secret;

#[cfg(feature = "rest")]
mod flight;
mod memory;
#[cfg(feature = "rest")]
mod rest;
#[cfg(feature = "store-service")]
mod service;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "rest")]
pub use rest::RestStore;
#[cfg(feature = "store-service")]
pub use service::StoreService;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// What a store's methods return: a boxed future, so that a store can be used as `dyn TokenStore`.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps, for each client, the pair of tokens that was issued to it last.
///
/// The access token that the store holds for a client is the client's *canonical* one: no other is accepted, however
/// well it is signed. So the store decides, and these promises are what the guards rest on:
///
/// - **Nothing acknowledged is lost.** When [`save`](Self::save) or [`rotate`](Self::rotate) answers, the pair is as
///   durable as the store can make it, and the next [`load`](Self::load), by whomever, sees it.
/// - **A pair is one value.** No `load` sees the access token of one pair and the refresh token of another.
/// - **A client id is any text** and is kept exactly: no trimming, no folding of case, no normalisation.
/// - **Trouble is an error**, never an empty answer: `Ok(None)` says that the store knows of no such client.
/// - **It ends.** A call over a network answers within about ten seconds. Dropping the future leaves the store sound; a write whose
///   future was dropped, or that failed with [`TimedOut`](StoreErrorKind::TimedOut), may or may not have happened.
///
/// # A store of your own
///
/// ```
/// use std::{collections::HashMap, sync::Mutex};
/// use fastauth::store::{Rotation, StoreFuture, StoredTokens, TokenPair, TokenStore};
///
/// #[derive(Debug, Default)]
/// struct MapStore(Mutex<HashMap<String, TokenPair>>);
///
/// impl TokenStore for MapStore {
///     fn load<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredTokens>> {
///         Box::pin(async move {
///             let pairs = self.0.lock().expect("no panic while locked");
///             Ok(pairs.get(client_id).cloned().map(StoredTokens::from))
///         })
///     }
///
///     fn save<'a>(&'a self, client_id: &'a str, tokens: &'a TokenPair) -> StoreFuture<'a, ()> {
///         Box::pin(async move {
///             let mut pairs = self.0.lock().expect("no panic while locked");
///             pairs.insert(client_id.to_owned(), tokens.clone());
///             Ok(())
///         })
///     }
///
///     fn rotate<'a>(
///         &'a self,
///         client_id: &'a str,
///         presented: &'a fastauth::Secret,
///         successor: &'a TokenPair,
///     ) -> StoreFuture<'a, Rotation> {
///         Box::pin(async move {
///             let mut pairs = self.0.lock().expect("no panic while locked");
///             Ok(match pairs.get_mut(client_id) {
///                 None => Rotation::UnknownClient,
///                 Some(pair) if pair.refresh_token != *presented => Rotation::Superseded,
///                 Some(pair) => {
///                     *pair = successor.clone();
///                     Rotation::Rotated
///                 }
///             })
///         })
///     }
/// }
/// ```
pub trait TokenStore: fmt::Debug + Send + Sync + 'static {
    /// The tokens that are held for `client_id`, or `None` for a client that the store does not know.
    fn load<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredTokens>>;

    /// Holds `tokens` for `client_id` from now on, in place of what was held before.
    fn save<'a>(&'a self, client_id: &'a str, tokens: &'a TokenPair) -> StoreFuture<'a, ()>;

    /// Replaces the pair of `client_id` by `successor` if the refresh token that is held is `presented`; otherwise
    /// changes nothing and says what was found.
    fn rotate<'a>(
        &'a self,
        client_id: &'a str,
        presented: &'a Secret,
        successor: &'a TokenPair,
    ) -> StoreFuture<'a, Rotation>;
}

/// A shared store is a store, such as the one that `Settings::open_store` opens.
impl<T: TokenStore + ?Sized> TokenStore for Arc<T> {
    fn load<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredTokens>> {
        (**self).load(client_id)
    }

    fn save<'a>(&'a self, client_id: &'a str, tokens: &'a TokenPair) -> StoreFuture<'a, ()> {
        (**self).save(client_id, tokens)
    }

    fn rotate<'a>(
        &'a self,
        client_id: &'a str,
        presented: &'a Secret,
        successor: &'a TokenPair,
    ) -> StoreFuture<'a, Rotation> {
        (**self).rotate(client_id, presented, successor)
    }
}

/// A pair as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// The token that opens the paths of `access-token-paths`.
    pub access_token: Secret,
    /// The token that is exchanged for a new pair.
    pub refresh_token: Secret,
}

/// A pair as a store holds it. A store that others write to may lack either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTokens {
    /// The client's canonical access token.
    pub access_token: Option<Secret>,
    /// The one refresh token that may still be exchanged.
    pub refresh_token: Option<Secret>,
}

impl From<TokenPair> for StoredTokens {
    fn from(pair: TokenPair) -> Self {
        Self { access_token: Some(pair.access_token), refresh_token: Some(pair.refresh_token) }
    }
}

/// What [`TokenStore::rotate`] did, or found instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rotation {
    /// The refresh token was the one held; the successor is held now.
    Rotated,
    /// The store holds another refresh token for the client, or none.
    Superseded,
    /// The store does not know the client.
    UnknownClient,
}

/// Why a store could not answer. Its text names no address, no token and no client (only an error of opening a file
/// names the file); the cause is its [`source`](Error::source).
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    is_save: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of trouble a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It did not answer in time. A write may or may not have happened.
    TimedOut,
    /// It answered, but not by its contract.
    InvalidAnswer,
    /// It could not be opened, read or written.
    Failed,
}

impl StoreError {
    /// An error of `kind`; `message` is what an operator reads: lower case, no full stop, and nothing secret.
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), is_save: false, source: None }
    }

    /// Adds the cause. It must not show a secret or a URL either, for logs print the whole chain.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Says that it was a pair that could not be saved. It matters in [`TokenStore::rotate`], which asks first.
    #[must_use]
    pub fn on_save(mut self) -> Self {
        self.is_save = true;
        self
    }

    /// Whether a pair could not be saved, rather than the store not be asked.
    #[must_use]
    pub fn is_save(&self) -> bool {
        self.is_save
    }

    /// The text with those of the causes, for logs and for who sets the store up.
    pub(crate) fn with_causes(&self) -> String {
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }

    /// What kind of trouble this is.
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
