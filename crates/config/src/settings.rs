//! What a deployment decides.

use std::{path::Path, time::Duration};

use fastauth_core::{
    issue::TokensPerClient,
    keys::StoreFormat,
    settings::{Deployment, StoreSettings},
};

use crate::{
    builder::SettingsBuilder,
    configured_keys::ConfiguredKeys,
    fault::{ConfigError, Fault, Source},
    keys::store::{DATABASE_API_URL, HEADERS},
};

/// What a deployment decides: which paths are guarded, the secrets, the store and the lifetimes.
///
/// [`load`](Self::load) reads them as `FastAuthLayer::from_config()` does. [`builder`](Self::builder) sets some or all of
/// them in code:
///
/// ```
/// # mod fastauth { pub use {fastauth_core::{secret::Secret, store}, fastauth_config::Settings}; pub mod config { pub use fastauth_config::ConfigError; } }
/// use fastauth::{Secret, Settings, store::MemoryStore};
///
/// let settings = Settings::builder()
///     .cryptography_key(Secret::generate())
///     .master_token(Secret::generate())
///     .access_token_paths(["/access"])
///     .store(MemoryStore::new())
///     .build()?;
/// # Ok::<(), fastauth::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) deployment: Deployment,
    pub(crate) keys: ConfiguredKeys,
    /// Where the address of the store stands.
    pub(crate) store_source: Source,
    pub(crate) headers_source: Source,
}

impl Settings {
    /// Starts settings in code.
    #[must_use]
    pub fn builder() -> SettingsBuilder {
        SettingsBuilder::default()
    }

    /// Loads the settings from `fastauth.config.json`, the environment and `.env`: see [`SettingsBuilder::load`].
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn load() -> Result<Self, ConfigError> {
        Self::builder().load()
    }

    /// Returns the application's name, which challenges carry as their realm.
    #[must_use]
    pub fn app_name(&self) -> &str {
        &self.deployment.app_name
    }

    /// Returns what an operator should know, though it is no fault. The layer logs it when it is made.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.deployment.warnings
    }

    /// Returns the lifetime of access tokens.
    #[must_use]
    pub fn access_ttl(&self) -> Duration {
        self.deployment.issuing.access_ttl
    }

    /// Returns the lifetime of refresh tokens.
    #[must_use]
    pub fn refresh_ttl(&self) -> Duration {
        self.deployment.issuing.refresh_ttl
    }

    /// Returns the keys: which one signs, and which ones verify.
    #[must_use]
    pub fn keys(&self) -> &ConfiguredKeys {
        &self.keys
    }

    /// Returns the form in which tokens are stored.
    #[must_use]
    pub fn store_format(&self) -> StoreFormat {
        self.deployment.issuing.store_format
    }

    /// Returns how many sessions a client may have.
    #[must_use]
    pub fn tokens_per_client(&self) -> TokensPerClient {
        self.deployment.issuing.tokens_per_client
    }

    /// Returns how long the access token that a refresh has replaced is still accepted (`access-grace`).
    #[must_use]
    pub fn access_grace(&self) -> Duration {
        self.deployment.issuing.access_grace
    }

    /// Returns the file of the embedded store, which is created when the store is first opened; `None` with another store.
    #[must_use]
    pub fn database_file(&self) -> Option<&Path> {
        match &self.deployment.store {
            StoreSettings::Sqlite { path } => Some(path),
            StoreSettings::Rest { .. } | StoreSettings::Custom(_) => None,
        }
    }

    /// Returns what was decided, for what runs by it.
    #[doc(hidden)]
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Converts the settings into what was decided.
    #[doc(hidden)]
    #[must_use]
    pub fn into_deployment(self) -> Deployment {
        self.deployment
    }

    /// Checks that the store is the one that was opened at the start. One that is set in code is not compared.
    ///
    /// # Errors
    ///
    /// The fault of the key that is different.
    #[doc(hidden)]
    pub fn check_store(&self, opened: &StoreSettings) -> Result<(), ConfigError> {
        let remedy = "restart the application to change it, or write what it was at the start";
        let same_place = match (&self.deployment.store, opened) {
            (StoreSettings::Sqlite { path }, StoreSettings::Sqlite { path: opened }) => path == opened,
            (StoreSettings::Rest { url, headers }, StoreSettings::Rest { url: opened, headers: opened_headers }) => {
                if url == opened && headers != opened_headers {
                    let problem = "they cannot change while the application runs";
                    return Err(Fault::new(HEADERS.name, self.headers_source.clone(), problem, remedy).into());
                }
                url == opened
            }
            (StoreSettings::Custom(_), StoreSettings::Custom(_)) => true,
            _ => false,
        };
        if same_place {
            return Ok(());
        }
        Err(self.store_fault("the store cannot change while the application runs".to_owned(), remedy))
    }

    /// Returns the fault that the store could not be opened.
    #[doc(hidden)]
    pub fn store_fault(&self, problem: String, remedy: &str) -> ConfigError {
        Fault::new(DATABASE_API_URL.name, self.store_source.clone(), problem, remedy).into()
    }

    /// Returns the settings for a test, whose output is not an operator's.
    #[doc(hidden)]
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.deployment.is_quiet = true;
        self
    }

    /// Returns the settings without their warnings, which were logged before.
    #[doc(hidden)]
    #[must_use]
    pub fn without_warnings(mut self) -> Self {
        self.deployment.warnings.clear();
        self.quiet()
    }
}
