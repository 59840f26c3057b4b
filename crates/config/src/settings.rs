//! What a deployment decides.

use std::{path::Path, time::Duration};

use fastauth_core::{
    issue::TokensPerClient,
    keys::StoreFormat,
    settings::{CacheMode, Deployment, Reload, StoreSettings},
};

use crate::{
    builder::SettingsBuilder,
    configured_keys::ConfiguredKeys,
    digests::Digests,
    fault::{ConfigError, Fault, Source},
    fingerprint::Fingerprint,
    key::Key,
    keys::{
        application::RELOAD,
        cache::CACHE_MODE,
        store::{DATABASE_API_URL, HEADERS},
    },
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
    pub(crate) reload_source: Source,
    pub(crate) cache_mode_source: Source,
    /// What they were read by, if that was more than code.
    pub(crate) sources: Option<SettingsBuilder>,
    /// What the files held.
    pub(crate) files: Fingerprint,
    pub(crate) digests: Digests,
}

/// What cannot change while the application runs.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Lasting {
    store: StoreSettings,
    cache_mode: CacheMode,
    reload: Reload,
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

    /// Returns what the values are recognised by.
    #[doc(hidden)]
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
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

    /// Returns the time from a log-in to the end of its session; zero for no end.
    #[must_use]
    pub fn session_ttl(&self) -> Duration {
        self.deployment.issuing.session_ttl
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

    /// Returns what reads the same sources again; `None` if the settings are made in code alone.
    #[doc(hidden)]
    #[must_use]
    pub fn sources(&self) -> Option<&SettingsBuilder> {
        self.sources.as_ref()
    }

    /// Returns what the files held that they were read from.
    #[doc(hidden)]
    #[must_use]
    pub fn files(&self) -> &Fingerprint {
        &self.files
    }

    /// Returns the fault that there is nothing to read again.
    #[doc(hidden)]
    #[must_use]
    pub fn nothing_to_read() -> ConfigError {
        let problem = "the settings were made in code alone, so there is nothing to read again";
        Fault::without_key(Source::Code, problem, "call `reload_with` with new settings").into()
    }

    /// Returns the fault that changes cannot be noticed.
    #[doc(hidden)]
    #[must_use]
    pub fn reload_fault(&self, error: &std::io::Error) -> ConfigError {
        let problem = format!("changes cannot be noticed ({error})");
        ConfigError::from(Fault::new(RELOAD.name, self.reload_source.clone(), problem, "write \"off\"")).outside()
    }

    /// Returns what cannot change while the application runs.
    #[doc(hidden)]
    #[must_use]
    pub fn lasting(&self) -> Lasting {
        let Deployment { store, caching, reload, .. } = &self.deployment;
        Lasting { store: store.clone(), cache_mode: caching.mode, reload: *reload }
    }

    /// Checks that what cannot change is as it was at the start. A store that is set in code is not compared.
    ///
    /// # Errors
    ///
    /// A fault for each key that is different.
    #[doc(hidden)]
    pub fn check_lasting(&self, at_start: &Lasting) -> Result<(), ConfigError> {
        const REMEDY: &str = "write what it was at the start, or restart the application to change it";
        let fault =
            |key: &'static Key, source: &Source, problem: &str| Fault::new(key.name, source.clone(), problem, REMEDY);
        let mut faults = Vec::new();
        let (is_same_store, are_same_headers) = match (&self.deployment.store, &at_start.store) {
            (StoreSettings::Sqlite { path }, StoreSettings::Sqlite { path: other }) => (path == other, true),
            (StoreSettings::Rest { urls, headers }, StoreSettings::Rest { urls: others, headers: other }) => {
                (urls == others, headers == other)
            }
            (StoreSettings::Custom(_), StoreSettings::Custom(_)) => (true, true),
            _ => (false, true),
        };
        if !is_same_store {
            let problem = "the store cannot change while the application runs";
            faults.push(fault(&DATABASE_API_URL, &self.store_source, problem));
        }
        if !are_same_headers {
            let problem = "what is sent to the store cannot change while the application runs";
            faults.push(fault(&HEADERS, &self.headers_source, problem));
        }
        if self.deployment.caching.mode != at_start.cache_mode {
            let problem = "what is held of the store cannot change while the application runs";
            faults.push(fault(&CACHE_MODE, &self.cache_mode_source, problem));
        }
        if self.sources.is_some() && self.deployment.reload != at_start.reload {
            faults.push(fault(&RELOAD, &self.reload_source, "it cannot change while the application runs"));
        }
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::new(faults)) }
    }

    /// Takes the keys that these settings replace: see [`ConfiguredKeys::after`].
    #[doc(hidden)]
    #[must_use]
    pub fn after(mut self, before: &ConfiguredKeys, lifetime: Duration) -> Self {
        self.keys = self.keys.after(before, lifetime);
        self.deployment.keys = self.keys.ring();
        self
    }

    /// Returns the fault that the store could not be opened.
    #[doc(hidden)]
    pub fn store_fault(&self, problem: String, remedy: &str) -> ConfigError {
        ConfigError::from(Fault::new(DATABASE_API_URL.name, self.store_source.clone(), problem, remedy)).outside()
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
