//! Where the tokens are kept: the contract of a store, and the stores that come with the crate.

use std::sync::Arc;

#[cfg(feature = "rest")]
use fastauth_core::settings::CacheMode;
pub(crate) use fastauth_core::store::{carried_through, first};
pub use fastauth_core::{
    forward_store,
    secret::TokenDigestError,
    store::{
        Asked, Change, ChangeKind, ChangeLog, Changes, Comparison, Condition, CurrentTokens, Freshness, LiveSession,
        LogPage, LogPoint, LogPointError, LogReader, MemoryStore, Promises, Revocation, Revoked, Rotated, Rotation,
        SaveOptions, Saved, Session, SessionEntry, SessionFilter, SessionPage, SessionStatus, Stamp, StoreCall,
        StoreError, StoreErrorKind, StoreFuture, StoredPair, TokenDigest, TokenEntry, TokenPair, TokenRecord,
        TokenStore, Verdict,
    },
};
use fastauth_core::{keys::CurrentKeys, settings::StoreSettings};
#[cfg(feature = "rest")]
pub use fastauth_http_store::{CallListener, CallNews, FeedListener, FeedNews, RestStore};
#[cfg(feature = "store-service")]
pub use fastauth_http_store::{FeedStatus, StoreBody, StoreOutcome, StoreService};
#[cfg(feature = "postgres")]
pub use fastauth_postgres::{Feed, PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use fastauth_sqlite::{Conversion, RestoredSessions, SqliteStore};

pub use self::health::StoreHealth;
use crate::config::{ConfigError, Settings};

mod health;

/// Opens the store that the settings name. A REST store is not asked anything yet.
///
/// # Errors
///
/// Returns the fault if the database cannot be opened, or TLS not be set up.
pub fn open(settings: &Settings) -> Result<Arc<dyn TokenStore>, ConfigError> {
    Ok(match open_with(settings, &Arc::new(CurrentKeys::new(settings.keys().ring())))? {
        #[cfg(feature = "rest")]
        OpenedStore::Rest(store) => Arc::new(store),
        OpenedStore::Other(store) => store,
    })
}

/// A store that was opened.
pub(crate) enum OpenedStore {
    /// One behind HTTP, which can be listened to.
    #[cfg(feature = "rest")]
    Rest(RestStore),
    Other(Arc<dyn TokenStore>),
}

/// Opens the store as [`open`] does, with the keys by which it opens tokens.
pub(crate) fn open_with(settings: &Settings, keys: &Arc<CurrentKeys>) -> Result<OpenedStore, ConfigError> {
    match &settings.deployment().store {
        StoreSettings::Sqlite { path } => open_sqlite(settings, path).map(OpenedStore::Other),
        StoreSettings::Rest { urls, headers } => open_rest(settings, urls, headers, keys),
        StoreSettings::Custom(store) => Ok(OpenedStore::Other(Arc::clone(store))),
    }
}

#[cfg(feature = "sqlite")]
fn open_sqlite(settings: &Settings, path: &std::path::Path) -> Result<Arc<dyn TokenStore>, ConfigError> {
    match SqliteStore::open_with(path, settings.deployment().clock.clone()) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => {
            let problem = format!("{}: {}", path.display(), error.with_causes());
            Err(settings.store_fault(problem, "or write \"sqlite:FILE\" with another file"))
        }
    }
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(settings: &Settings, _: &std::path::Path) -> Result<Arc<dyn TokenStore>, ConfigError> {
    Err(settings.store_fault("this build has no embedded store".to_owned(), "build with the feature `sqlite`"))
}

#[cfg(feature = "rest")]
fn open_rest(
    settings: &Settings,
    urls: &[String],
    headers: &http::HeaderMap,
    keys: &Arc<CurrentKeys>,
) -> Result<OpenedStore, ConfigError> {
    match RestStore::with_urls(urls.iter().map(String::as_str), headers.clone()) {
        Ok(store) => {
            let deployment = settings.deployment();
            let mut store = store.opened_by(Arc::clone(keys)).with_clock(deployment.clock.clone());
            if deployment.caching.on && deployment.caching.mode == CacheMode::Replica {
                store = store.with_replica();
            }
            Ok(OpenedStore::Rest(store))
        }
        Err(error) => {
            let remedy = match std::error::Error::source(&error) {
                None => "write \"http://HOST:PORT/PATH\"",
                Some(_) => "an https store is verified by the certificates of the system",
            };
            Err(settings.store_fault(error.with_causes(), remedy))
        }
    }
}

#[cfg(not(feature = "rest"))]
fn open_rest(
    settings: &Settings,
    _: &[String],
    _: &http::HeaderMap,
    _: &Arc<CurrentKeys>,
) -> Result<OpenedStore, ConfigError> {
    Err(settings.store_fault("this build has no REST store".to_owned(), "build with the feature `rest`"))
}
