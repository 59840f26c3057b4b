//! Settings in code.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
#[cfg(feature = "rate-limit")]
use fastauth_core::settings::CallerKey;
use fastauth_core::{
    hooks::{AccessCheck, OnReject, Rejection},
    issue::ClaimsHook,
    store::TokenStore,
};
use http::Response;

use crate::{
    code_parts::{CodeParts, Surroundings},
    given::Given,
    key::Key,
};

/// Settings in the making: what is set here overrides every other source.
#[derive(Clone, Default)]
pub struct SettingsBuilder {
    pub(crate) code: Code,
    pub(crate) parts: CodeParts,
    pub(crate) surroundings: Surroundings,
}

/// What was set in code.
pub(crate) type Code = Vec<(&'static Key, Given)>;

impl SettingsBuilder {
    /// Sets a store of the application's own, in place of the one that `database-api-url` names.
    #[must_use]
    pub fn store(mut self, store: impl TokenStore) -> Self {
        self.parts.store = Some(Arc::new(store));
        self
    }

    /// Sets what decides on the application's own claims of every token that is issued.
    #[must_use]
    pub fn claims_hook(mut self, hook: impl ClaimsHook) -> Self {
        self.parts.claims_hook = Some(Arc::new(hook));
        self
    }

    /// Sets what checks requests after the rules, and can only refuse: for what rules cannot say.
    #[must_use]
    pub fn access_check(mut self, check: impl AccessCheck) -> Self {
        self.parts.hooks.access_check = Some(Arc::new(check));
        self
    }

    /// Sets what answers requests that the guard refuses, but for those of gRPC and the WebSockets that are refused by closing them. The
    /// token endpoints answer by themselves. The length of the response is that of its body, whatever its headers say.
    ///
    /// Here, a browser that opens a page without a token is sent to the log-in:
    ///
    /// ```
    /// # mod fastauth { pub use fastauth_config::Settings; pub use fastauth_core::hooks::Rejection; }
    /// use fastauth::{Rejection, Settings};
    /// use http::{Response, StatusCode, header::{ACCEPT, LOCATION}};
    ///
    /// let settings = Settings::builder().on_reject(|rejection: Rejection<'_>| {
    ///     let accept = rejection.request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    ///     let mut response = rejection.response;
    ///     if response.status() == StatusCode::UNAUTHORIZED && accept.contains("text/html") {
    ///         response = Response::default();
    ///         *response.status_mut() = StatusCode::SEE_OTHER;
    ///         response.headers_mut().insert(LOCATION, "/login".parse().unwrap());
    ///     }
    ///     response
    /// });
    /// ```
    #[must_use]
    pub fn on_reject<B: Into<Bytes>>(
        mut self,
        answer: impl Fn(Rejection<'_>) -> Response<B> + Send + Sync + 'static,
    ) -> Self {
        self.parts.hooks.on_reject = Some(OnReject::new(answer));
        self
    }

    /// Sets by what the rate limit tells callers apart, beside the client: each key has the same limit. Requests without a
    /// key have none but their client's.
    ///
    /// By the address of the peer, in axum with `into_make_service_with_connect_info::<SocketAddr>()`:
    ///
    /// ```
    /// # mod fastauth { pub use fastauth_config::Settings; }
    /// # mod axum { pub mod extract { #[derive(Clone)] pub struct ConnectInfo<T>(pub T); } }
    /// use axum::extract::ConnectInfo;
    /// use fastauth::Settings;
    /// use std::net::SocketAddr;
    ///
    /// let settings = Settings::builder().rate_limit_per_minute(60).rate_limit_burst(10).rate_limit_key(|request| {
    ///     request.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
    /// });
    /// ```
    ///
    /// Choose a key that callers cannot forge: not a client-set header; for IPv6, the /64 prefix.
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit_key<K: std::hash::Hash>(
        mut self,
        key: impl Fn(&http::request::Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        self.parts.rate_limit_key = Some(CallerKey::new(key));
        self
    }

    /// Counts events and times for the recorder of the [`metrics`](https://docs.rs/metrics) crate, if the feature `metrics` is
    /// on. Install the recorder before the layer is made.
    #[must_use]
    pub fn metrics(mut self, on: bool) -> Self {
        self.parts.metrics = on;
        self
    }

    /// Sets the clock of a test, in place of the system's: tokens are issued and judged by it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn clock(mut self, clock: &fastauth_core::manual_clock::ManualClock) -> Self {
        self.parts.clock = fastauth_core::clock::Clock::set_by(clock);
        self
    }

    /// Sets the configuration file to [`load`](Self::load), in place of the one that `FASTAUTH_CONFIG` names or of
    /// `fastauth.config.json`.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.surroundings.file = Some(path.into());
        self
    }

    /// Sets the directory that takes the place of the working directory: relative paths and `.env` are looked up in it.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.surroundings.directory = Some(directory.into());
        self
    }

    /// Sets the variables to [`load`](Self::load) by, in place of the process's environment.
    #[must_use]
    pub fn environment<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables: BTreeMap<_, _> =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.surroundings.environment = Some(variables);
        self
    }

    pub(crate) fn set(mut self, key: &'static Key, given: Given) -> Self {
        self.code.retain(|(other, _)| *other != key);
        self.code.push((key, given));
        self
    }

    pub(crate) fn choose(self, key: &'static Key, word: &'static str) -> Self {
        self.set(key, Given::Text(word.to_owned()))
    }
}

impl fmt::Debug for SettingsBuilder {
    /// Shows which keys are set, and no value: some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.code.iter().map(|(key, _)| key)).finish()
    }
}
