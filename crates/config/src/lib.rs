//! The configuration: where it is read from, in which order, and what it has to be.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use fastauth_core::{
    clock::Clock,
    credential::TokenHeaders,
    issue::{ClaimsHook, Issuing},
    keys::{CAN_ENCRYPT, StoreFormat, is_fernet_key},
    origin::{self, Origins},
    policy::{Ambiguous, Explanation, PathOptions, Prefix, Rules, Use},
    secret::Secret,
    settings::{Caching, CallerKey, Deployment, EndpointOptions, RateLimit, Shape, StoreSettings, WebSocketSettings},
    store::{TokenStore, check_headers, check_url, sqlite_path},
};

mod announce;
mod crossing;
mod env_file;
mod env_text;
mod environment;
mod fault;
mod file;
mod keys;
mod members;
mod placeholder;
mod source;
mod time;

pub use announce::Announcement;
pub use env_file::{EnvFile, EnvFileError};
pub use fault::{ConfigError, Fault, Source};
pub use file::exposure;
use keys::Places;
pub use keys::{ConfiguredKeys, KeyChange, KeyChangeError, KeyInfo, KeyRole, KeySetting};
use placeholder::{is_empty_header, is_placeholder, is_placeholder_in_header};
use source::{KEYS, Sources, Surroundings, variable};

const DAY: u64 = 24 * 60 * 60;
const DEFAULT_ACCESS_TTL: Duration = Duration::from_secs(30 * DAY);
const DEFAULT_REFRESH_TTL: Duration = Duration::from_secs(365 * DAY);
/// As long as most clients wait for an answer, and longer than any store may take for one.
const DEFAULT_REFRESH_GRACE: Duration = Duration::from_secs(60);
/// A longer grace is a longer time in which a stolen token goes unnoticed.
const MAX_REFRESH_GRACE: Duration = Duration::from_secs(5 * 60);
/// How many tokens may be asked for at once, where only a rate is given.
const DEFAULT_BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// More than this is no limit.
const MAX_RATE: u32 = 1_000_000;
const MAX_TTL: Duration = Duration::from_secs(100 * 365 * DAY);

/// About fifty megabytes.
const DEFAULT_CACHE_CAPACITY: usize = 65_536;
/// How many log-ins a client may have: more than people have devices, and few enough to be gone through.
const DEFAULT_TOKENS_PER_CLIENT: usize = 100;
const MAX_TOKENS_PER_CLIENT: usize = 10_000;
const MAX_CACHE_CAPACITY: usize = 100_000_000;
/// A longer one is a longer time in which a revoked token opens what it opened.
const MAX_CACHE_TTL: Duration = Duration::from_secs(60 * 60);

const DEFAULT_WEBSOCKET_RECHECK: Duration = Duration::from_secs(5);
const MIN_WEBSOCKET_RECHECK: Duration = Duration::from_millis(100);
const MAX_WEBSOCKET_RECHECK: Duration = Duration::from_secs(60 * 60);

/// HS256 needs a key as long as its output (RFC 7518 3.2).
const MIN_KEY_LEN: usize = 32;

/// Below this length, the start warns that a master token may be guessed.
const SHORT_SECRET_LEN: usize = 16;

/// The embedded store's file, where no `database-api-url` is given.
const DEFAULT_DATABASE: &str = "fastauth.db";

/// Secrets that stand in public documentation: of `fastauth-api`, and of this crate's tests.
const PUBLISHED: [&str; 2] =
    ["kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4=", "bsdW01Xfx6YAPxfpvz5Yp5MVBI9JUedbJxu_PkGR7mA="];

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
    deployment: Deployment,
    keys: ConfiguredKeys,
    /// Where the address of the store stands.
    store_source: Source,
}

impl Settings {
    /// Starts settings in code.
    #[must_use]
    pub fn builder() -> SettingsBuilder {
        SettingsBuilder::default()
    }

    /// The settings by `fastauth.config.json`, the environment and `.env`: see [`SettingsBuilder::load`].
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn load() -> Result<Self, ConfigError> {
        Self::builder().load()
    }

    /// Names the application; challenges carry it as their realm.
    #[must_use]
    pub fn app_name(&self) -> &str {
        &self.deployment.app_name
    }

    /// What an operator should know, though it is no fault. The layer tells it when it is made.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.deployment.warnings
    }

    /// How long an access token is valid.
    #[must_use]
    pub fn access_ttl(&self) -> Duration {
        self.deployment.issuing.access_ttl
    }

    /// How long a refresh token is valid.
    #[must_use]
    pub fn refresh_ttl(&self) -> Duration {
        self.deployment.issuing.refresh_ttl
    }

    /// The keys: which one signs, and which ones verify.
    #[must_use]
    pub fn keys(&self) -> &ConfiguredKeys {
        &self.keys
    }

    /// In which form tokens are stored.
    #[must_use]
    pub fn store_format(&self) -> StoreFormat {
        if self.deployment.issuing.sealed { StoreFormat::Fernet } else { StoreFormat::Plain }
    }

    /// Whether a client may be logged in more than once.
    #[must_use]
    pub fn many_tokens_per_client(&self) -> bool {
        self.deployment.issuing.many_families
    }

    /// The file of the embedded store, which is made when the store is first opened; `None` with another store.
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

    /// Returns the fault that the store could not be opened.
    #[doc(hidden)]
    pub fn store_fault(&self, problem: String, remedy: &str) -> ConfigError {
        Fault::of("database-api-url", self.store_source.clone(), problem, remedy).into()
    }

    /// The same for a test, whose output is not an operator's.
    #[doc(hidden)]
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.deployment.is_quiet = true;
        self
    }

    /// The same without its warnings, which were logged before.
    #[doc(hidden)]
    #[must_use]
    pub fn without_warnings(mut self) -> Self {
        self.deployment.warnings.clear();
        self.quiet()
    }
}

/// Settings in the making: what is set here goes before every other source.
#[derive(Clone, Default)]
pub struct SettingsBuilder {
    code: Vec<(&'static str, Value)>,
    parts: Parts,
    surroundings: Surroundings,
}

/// What can only be set in code.
#[derive(Clone, Default)]
struct Parts {
    store: Option<Arc<dyn TokenStore>>,
    claims_hook: Option<Arc<dyn ClaimsHook>>,
    metrics: bool,
    clock: Clock,
    rate_limit_key: Option<CallerKey>,
}

impl SettingsBuilder {
    /// Names the application (`app-name`).
    #[must_use]
    pub fn app_name(self, name: impl Into<String>) -> Self {
        self.set("app-name", Value::String(name.into()))
    }

    /// The static secret that opens `master-token-paths` and minting (`master-token`).
    #[must_use]
    pub fn master_token(self, token: impl Into<Secret>) -> Self {
        self.set("master-token", Value::String(token.into().expose().to_owned()))
    }

    /// The key that signs tokens (`cryptography-key`): at least 32 bytes, used as they are and never decoded.
    #[must_use]
    pub fn cryptography_key(self, key: impl Into<Secret>) -> Self {
        self.set("cryptography-key", Value::String(key.into().expose().to_owned()))
    }

    /// The prefixes that ask for the master token (`master-token-paths`).
    #[must_use]
    pub fn master_token_paths<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.set("master-token-paths", list(prefixes))
    }

    /// The prefixes that ask for an access token (`access-token-paths`).
    #[must_use]
    pub fn access_token_paths<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.set("access-token-paths", list(prefixes))
    }

    /// The prefixes that stay open below a guarded one (`public-paths`), in whole segments. A longer guarded prefix below one
    /// of them is guarded; of the same length, the guard wins.
    #[must_use]
    pub fn public_paths<P: Into<String>>(self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.set("public-paths", list(prefixes))
    }

    /// The prefix that an outer router strips before the guard sees the path (`base-path`): rules hold for the path
    /// with and without it. Behind axum's `nest` and with the feature `axum` it is not needed,
    /// since axum tells the whole path then.
    #[must_use]
    pub fn base_path(self, prefix: impl Into<String>) -> Self {
        self.set("base-path", Value::String(prefix.into()))
    }

    /// Whether case does not count where a check is asked for (`case-insensitive`).
    #[must_use]
    pub fn case_insensitive(self, on: bool) -> Self {
        self.set("case-insensitive", Value::Bool(on))
    }

    /// Whether dots and spaces at the end of a segment do not count, as on Windows (`windows`).
    #[must_use]
    pub fn windows(self, on: bool) -> Self {
        self.set("windows", Value::Bool(on))
    }

    /// Whether CORS preflights need no check (`skip-preflight`).
    #[must_use]
    pub fn skip_preflight(self, on: bool) -> Self {
        self.set("skip-preflight", Value::Bool(on))
    }

    /// Whether a path with a malformed escape, or with escapes that are not UTF-8, is not refused but asked every check
    /// that there is (`ambiguous: "protect"`): for applications with URLs in Latin-1.
    #[must_use]
    pub fn protect_ambiguous(self, on: bool) -> Self {
        self.set("ambiguous", Value::String(if on { "protect" } else { "refuse" }.to_owned()))
    }

    /// Whether refusals are only logged (`shadow`): **nothing is guarded then** but minting, and a request that would be refused
    /// has no `Permit`, so let handlers ask for `Option<Permit>`. It serves to try rules out
    /// on live traffic.
    #[must_use]
    pub fn shadow(self, on: bool) -> Self {
        self.set("shadow", Value::Bool(on))
    }

    /// The store's address (`database-api-url`): `http://…` or `sqlite:FILE`.
    #[must_use]
    pub fn database_api_url(self, url: impl Into<String>) -> Self {
        self.set("database-api-url", Value::String(url.into()))
    }

    /// Headers that go with every call to a REST store (`headers`).
    #[must_use]
    pub fn headers<N: Into<String>, V: Into<Secret>>(self, headers: impl IntoIterator<Item = (N, V)>) -> Self {
        let members = headers.into_iter().map(|(name, value)| (name.into(), value.into().expose().to_owned().into()));
        self.set("headers", Value::Object(members.collect()))
    }

    /// A store of your own, in place of the one that `database-api-url` names.
    #[must_use]
    pub fn store(mut self, store: impl TokenStore) -> Self {
        self.parts.store = Some(Arc::new(store));
        self
    }

    /// Decides on the application's own claims of every token that is issued.
    #[must_use]
    pub fn claims_hook(mut self, hook: impl ClaimsHook) -> Self {
        self.parts.claims_hook = Some(Arc::new(hook));
        self
    }

    /// Counts events and times for the recorder of the [`metrics`](https://docs.rs/metrics) crate, if the feature `metrics` is
    /// on. Install the recorder before the layer is made.
    #[must_use]
    pub fn metrics(mut self, on: bool) -> Self {
        self.parts.metrics = on;
        self
    }

    /// Several master tokens, each with the name that logs show (`master-tokens`), so that one can be withdrawn.
    #[must_use]
    pub fn master_tokens<N: Into<String>, V: Into<Secret>>(self, tokens: impl IntoIterator<Item = (N, V)>) -> Self {
        let members = tokens.into_iter().map(|(name, token)| (name.into(), token.into().expose().to_owned().into()));
        self.set("master-tokens", Value::Object(members.collect()))
    }

    /// Keys that verify and do not sign, the latest first (`previous-cryptography-keys`): tokens of theirs stay valid.
    #[must_use]
    pub fn previous_cryptography_keys<K: Into<Secret>>(self, keys: impl IntoIterator<Item = K>) -> Self {
        let keys = keys.into_iter().map(|key| Value::String(key.into().expose().to_owned()));
        self.set("previous-cryptography-keys", Value::Array(keys.collect()))
    }

    /// When `cryptography-key` begins to sign (`cryptography-key-signs-from`), in whole seconds. Until then the first of
    /// `previous-cryptography-keys` does, so that every node can be told of the new key before a token of it appears.
    #[must_use]
    pub fn cryptography_key_signs_from(self, time: SystemTime) -> Self {
        self.set("cryptography-key-signs-from", Value::String(humantime::format_rfc3339_seconds(time).to_string()))
    }

    /// How long after its use a refresh token is answered with the same pair once more (`refresh-grace`): the first answer may
    /// have been lost. A minute otherwise; none at all with zero.
    ///
    /// It begins when the answer can have come: a store behind HTTP is told so much more as its answer may take.
    #[must_use]
    pub fn refresh_grace(self, grace: Duration) -> Self {
        self.set("refresh-grace", duration(grace))
    }

    /// Whether a client may be logged in more than once, each time with a pair of its own (`tokens-per-client: "many"`).
    #[must_use]
    pub fn many_tokens_per_client(self, on: bool) -> Self {
        self.set("tokens-per-client", Value::String(if on { "many" } else { "one" }.to_owned()))
    }

    /// How many log-ins a client may have at a time with `tokens-per-client: "many"` (`max-tokens-per-client`), from 1 to 10,000:
    /// 100 otherwise. The one that was renewed longest ago is revoked when there is one more.
    #[must_use]
    pub fn max_tokens_per_client(self, count: usize) -> Self {
        self.set("max-tokens-per-client", Value::from(count))
    }

    /// Whether tokens are encrypted before they are stored (`store-format: "fernet"`). `fastauth-api` cannot read them.
    #[must_use]
    pub fn encrypt_stored_tokens(self, on: bool) -> Self {
        self.set("store-format", Value::String(if on { "fernet" } else { "plain" }.to_owned()))
    }

    /// Whether tokens that the store confirmed are remembered until the store tells of a change (`cache`). On otherwise.
    #[must_use]
    pub fn cache(self, on: bool) -> Self {
        self.set("cache", Value::String(if on { "on" } else { "off" }.to_owned()))
    }

    /// How many tokens are remembered at the most (`cache-capacity`): 65,536 otherwise, at some 600 bytes each. Each thread may have
    /// its own copies of up to 64 that others use at the same time.
    #[must_use]
    pub fn cache_capacity(self, tokens: usize) -> Self {
        self.set("cache-capacity", Value::from(tokens))
    }

    /// How long a token is remembered with a store that does not tell of the changes of others (`cache-ttl`): so long a
    /// token still works after somebody else has revoked or replaced it. Not at all otherwise. One that the store did not
    /// hold is refused for as long without asking again, but for a second at the most.
    #[must_use]
    pub fn cache_ttl(self, ttl: Duration) -> Self {
        self.set("cache-ttl", duration(ttl))
    }

    /// Who issues the tokens: the claim `iss` (`issuer`). Tokens that do not name it are refused then, those of
    /// `fastauth-api` too.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.set("issuer", Value::String(issuer.into()))
    }

    /// Whom the tokens are meant for: the claim `aud` (`audience`). Tokens that do not name it are refused then, and
    /// `fastauth-api` refuses those that do.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.set("audience", Value::String(audience.into()))
    }

    /// Whether `GET` mints and refreshes beside `POST` (`allow-get`), as `fastauth-api` does it. It does unless it is switched
    /// off. Parameters of a `GET` stand in the URL, and so in logs.
    #[must_use]
    pub fn allow_get(self, on: bool) -> Self {
        self.set("allow-get", Value::Bool(on))
    }

    /// Whether `/auth/token/new` and `/auth/token/refresh` answer as RFC 6749 has it (`response-shape: "oauth"`), in place of
    /// the envelope of `fastauth-api`.
    #[must_use]
    pub fn oauth_responses(self, on: bool) -> Self {
        self.set("response-shape", Value::String(if on { "oauth" } else { "envelope" }.to_owned()))
    }

    /// Whether refresh tokens travel in a cookie that scripts cannot read (`refresh-transport: "cookie"`), in place of the body.
    #[must_use]
    pub fn refresh_token_in_cookie(self, on: bool) -> Self {
        self.set("refresh-transport", Value::String(if on { "cookie" } else { "body" }.to_owned()))
    }

    /// How often one client may be issued tokens: so many times a minute (`rate-limit-per-minute`), and so many at once
    /// (`rate-limit-burst`). There is no limit otherwise.
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit(self, per_minute: u32, burst: u32) -> Self {
        self.set("rate-limit-per-minute", per_minute.into()).set("rate-limit-burst", burst.into())
    }

    /// By what the rate limit tells callers apart, beside the client: each key has the same limit. Requests without a
    /// key have none but their client's.
    ///
    /// By the address of the peer, in axum with `into_make_service_with_connect_info::<SocketAddr>()`:
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// # use fastauth_config as fastauth;
    /// use fastauth::Settings;
    /// use std::net::SocketAddr;
    ///
    /// let settings = Settings::builder().rate_limit(60, 10).rate_limit_key(|request| {
    ///     request.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
    /// });
    /// ```
    ///
    /// Keys are what somebody else chooses: a header that everybody can set is no key, and of an IPv6 address a caller has
    /// many, so cut it to its network.
    #[cfg(feature = "rate-limit")]
    #[must_use]
    pub fn rate_limit_key<K: std::hash::Hash>(
        mut self,
        key: impl Fn(&http::request::Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        self.parts.rate_limit_key = Some(CallerKey::new(key));
        self
    }

    /// The clock of a test, in place of the system's: tokens are issued and judged by it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn clock(mut self, clock: &fastauth_core::manual_clock::ManualClock) -> Self {
        self.parts.clock = Clock::set_by(clock);
        self
    }

    /// The headers in which access tokens are looked for, of `ACCESS-TOKEN` and `Authorization` (`credential-sources`): both otherwise.
    /// What stands in the other one is left alone, such as the `Authorization: Bearer` of a platform in front of the
    /// application. How tokens and tickets come in the handshakes of WebSockets stays as it is.
    #[must_use]
    pub fn credential_sources<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.set("credential-sources", list(names))
    }

    /// The origins whose pages may open WebSockets, such as `https://app.example` (`websocket-origins`): those of other pages
    /// are refused with 403, wherever they lead. What is no browser names no origin, and is let in. Every page may
    /// otherwise.
    #[must_use]
    pub fn websocket_origins<O: Into<String>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        self.set("websocket-origins", list(origins))
    }

    /// Whether a WebSocket without a good credential is opened, told so and closed with 1008, as `fastauth-api` does it
    /// (`websocket-refusal: "close"`): a browser tells a page nothing of a handshake that failed, which is how it is
    /// refused otherwise. It needs the feature `websocket`.
    #[must_use]
    pub fn close_refused_websockets(self, on: bool) -> Self {
        self.set("websocket-refusal", Value::String(if on { "close" } else { "http" }.to_owned()))
    }

    /// How often the store is asked whether the token of an open WebSocket is still good, where it does not tell of what others
    /// do to it (`websocket-recheck`): so long a socket can outlive its token. Five seconds otherwise. See
    /// `Permit::ended`.
    #[must_use]
    pub fn websocket_recheck(self, interval: Duration) -> Self {
        self.set("websocket-recheck", duration(interval))
    }

    /// How long access tokens are valid (`access-ttl`), in whole seconds.
    #[must_use]
    pub fn access_ttl(self, ttl: Duration) -> Self {
        self.set("access-ttl", duration(ttl))
    }

    /// How long refresh tokens are valid (`refresh-ttl`), in whole seconds.
    #[must_use]
    pub fn refresh_ttl(self, ttl: Duration) -> Self {
        self.set("refresh-ttl", duration(ttl))
    }

    /// The configuration file to [`load`](Self::load), in place of the one that `FASTAUTH_CONFIG` names or of
    /// `fastauth.config.json`.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.surroundings.file = Some(path.into());
        self
    }

    /// The directory that takes the place of the working directory: relative paths and `.env` are looked up in it.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.surroundings.directory = Some(directory.into());
        self
    }

    /// The variables to [`load`](Self::load) by, in place of the process's environment.
    #[must_use]
    pub fn environment<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.surroundings.environment = Some(variables.collect());
        self
    }

    /// The settings by what was set in code alone.
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn build(self) -> Result<Settings, ConfigError> {
        let sources = Sources::of_code(self.code, &self.surroundings);
        Report::new(sources, &self.parts).into_settings()
    }

    /// The settings by all sources. Of a value that several give, the first of these counts:
    ///
    /// 1. what was set in code,
    /// 2. the environment variables `FASTAUTH_…`, one for each single value, such as `FASTAUTH_MASTER_TOKEN`,
    /// 3. the configuration file,
    /// 4. the environment variables `MASTER_TOKEN`, `CRYPTOGRAPHY_KEY`, `PREVIOUS_CRYPTOGRAPHY_KEYS` and
    ///    `CRYPTOGRAPHY_KEY_SIGNS_FROM`,
    /// 5. the same four in `.env`, beside the configuration file or else in the working directory. The process's environment is
    ///    not written to.
    ///
    /// # Errors
    ///
    /// Every fault at once: in all sources, also in values that another source overrides.
    pub fn load(self) -> Result<Settings, ConfigError> {
        self.report().into_settings()
    }

    /// As [`load`](Self::load), and tells where each value came from, faults or not.
    #[must_use]
    pub fn report(self) -> Report {
        Report::new(Sources::read(self.code, &self.surroundings), &self.parts)
    }

    fn set(mut self, key: &'static str, value: Value) -> Self {
        self.code.retain(|(other, _)| *other != key);
        self.code.push((key, value));
        self
    }
}

impl fmt::Debug for SettingsBuilder {
    /// Shows which keys are set, and no value: some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.code.iter().map(|(key, _)| key)).finish()
    }
}

fn duration(ttl: Duration) -> Value {
    Value::String(if ttl.subsec_nanos() == 0 { format!("{}s", ttl.as_secs()) } else { format!("{}ns", ttl.as_nanos()) })
}

fn list<P: Into<String>>(prefixes: impl IntoIterator<Item = P>) -> Value {
    Value::Array(prefixes.into_iter().map(|prefix| Value::String(prefix.into())).collect())
}

/// What the sources said: for `fastauth check` and the like.
#[derive(Clone, Debug)]
pub struct Report {
    entries: Vec<Entry>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    notes: Vec<String>,
    settings: Option<Settings>,
    keys: Option<ConfiguredKeys>,
    rules: Rules,
    env_file: PathBuf,
}

/// One key, what it is set to, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: &'static str,
    /// The value for people to read. Secrets are only said to be set.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

impl Report {
    /// Every key in a fixed order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What keeps the start from happening.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What an operator should know, though it is no fault.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The `.env` file that is read: beside the configuration file, or else in the working directory. It may not be there yet.
    #[must_use]
    pub fn env_file(&self) -> &Path {
        &self.env_file
    }

    /// How the lists of paths work together: each guard below an exemption, and each exemption below a guard.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Which checks a request for `target`, as it would stand in a request line, needs and why: by the same code that
    /// the guard runs.
    ///
    /// # Errors
    ///
    /// The faults that concern paths. Others, such as a secret that is missing, do not matter here. Minting has a guard of
    /// its own, which is not explained.
    pub fn explain(&self, method: &http::Method, target: &str) -> Result<Explanation, ConfigError> {
        const PATHS: [&str; 9] = [
            "master-token-paths",
            "access-token-paths",
            "public-paths",
            "base-path",
            "case-insensitive",
            "windows",
            "skip-preflight",
            "ambiguous",
            "shadow",
        ];
        let concerns_paths = |fault: &&Fault| fault.key().is_none_or(|key| PATHS.contains(&key));
        let faults: Vec<_> = self.faults.iter().filter(concerns_paths).cloned().collect();
        if faults.is_empty() { Ok(self.rules.explain(method, target)) } else { Err(ConfigError::new(faults)) }
    }

    /// The keys: which one signs, which ones verify, and how to change them.
    ///
    /// # Errors
    ///
    /// The faults that concern keys, and those of a whole source. Others do not matter here.
    pub fn keys(&self) -> Result<&ConfiguredKeys, ConfigError> {
        let concerns_keys =
            |fault: &&Fault| fault.key().is_none_or(|key| [keys::KEY, keys::PREVIOUS, keys::SIGNS_FROM].contains(&key));
        let faults: Vec<_> = self.faults.iter().filter(concerns_keys).cloned().collect();
        match &self.keys {
            Some(keys) if faults.is_empty() => Ok(keys),
            _ => Err(ConfigError::new(if faults.is_empty() { self.faults.clone() } else { faults })),
        }
    }

    /// The settings, where there is no fault.
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn into_settings(self) -> Result<Settings, ConfigError> {
        self.settings.ok_or(ConfigError::new(self.faults))
    }

    fn new(mut sources: Sources, parts: &Parts) -> Self {
        let mut draft = Draft {
            faults: std::mem::take(&mut sources.faults),
            warnings: std::mem::take(&mut sources.warnings),
            notes: Vec::new(),
            sources: &sources,
            clock: &parts.clock,
        };
        let rules = draft.rules();
        let keys = draft.keys();
        let settings = draft.settings(parts, &rules, keys.clone());
        let Draft { faults, warnings, notes, .. } = draft;
        let entries = entries(&sources, parts.store.is_some(), &faults);
        let settings = settings.filter(|_| faults.is_empty()).map(|mut settings| {
            settings.deployment.warnings.clone_from(&warnings);
            settings
        });
        let env_file = sources.env_file.clone();
        Self { entries, faults, warnings, notes, settings, keys, rules, env_file }
    }
}

/// The values on their way to settings; what is wrong with them is gathered, not thrown.
struct Draft<'a> {
    sources: &'a Sources,
    clock: &'a Clock,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Draft<'_> {
    fn settings(&mut self, parts: &Parts, rules: &Rules, keys: Option<ConfiguredKeys>) -> Option<Settings> {
        let app_name = self.app_name();
        let master_tokens = self.master_tokens();
        self.guards_something(!master_tokens.is_empty());
        let issuing = self.issuing(parts, keys.as_ref());
        let caching = self.caching();
        let endpoints = self.endpoints(parts);
        let websocket_recheck = self.websocket_recheck();
        let credential_sources = self.credential_sources();
        let websocket_origins = self.websocket_origins();
        let closes_websockets = self.closes_websockets();
        let headers = self.headers();
        let store = match &parts.store {
            Some(store) => Some(StoreSettings::Custom(Arc::clone(store))),
            None => self.store_choice(headers),
        };
        self.compare_secrets(&master_tokens, keys.as_ref());
        self.compare_times(&issuing, caching.ttl, websocket_recheck, store.as_ref());
        #[cfg(feature = "test-util")]
        if self.clock.is_manual() {
            self.warnings
                .push("the clock is one that a test sets: it does not go by itself, and no token ends".to_owned());
        }
        self.env_file(!master_tokens.is_empty() && keys.is_some());
        let keys = keys?;
        let deployment = Deployment {
            app_name,
            master_tokens,
            keys: keys.ring(),
            rules: rules.clone(),
            shadow: self.sources.flag("shadow"),
            store: store?,
            issuing,
            caching,
            endpoints,
            clock: parts.clock.clone(),
            credential_sources,
            websocket: WebSocketSettings {
                origins: websocket_origins,
                recheck: websocket_recheck,
                closes: closes_websockets,
            },
            warnings: Vec::new(),
            store_place: self.store_place(parts),
            is_quiet: false,
            metrics: parts.metrics,
        };
        Some(Settings { deployment, keys, store_source: self.sources.source("database-api-url") })
    }

    /// Where tokens are kept. A URL with a user, a password or parameters was refused.
    fn store_place(&self, parts: &Parts) -> String {
        match (&parts.store, self.sources.text("database-api-url")) {
            (Some(store), _) => format!("the application's own store ({})", store.kind()),
            (None, Some(url)) if !url.starts_with("sqlite:") => url,
            (None, url) => {
                let url = url.unwrap_or_else(|| format!("sqlite:{DEFAULT_DATABASE}"));
                let path = self.sources.directory.join(url.trim_start_matches("sqlite:"));
                std::path::absolute(&path).unwrap_or(path).display().to_string()
            }
        }
    }

    fn issuing(&mut self, parts: &Parts, keys: Option<&ConfiguredKeys>) -> Issuing {
        let access_ttl = self.ttl("access-ttl", DEFAULT_ACCESS_TTL);
        let refresh_ttl = self.ttl("refresh-ttl", DEFAULT_REFRESH_TTL);
        if refresh_ttl < access_ttl {
            self.warnings.push("`refresh-ttl` is shorter than `access-ttl`: a client can no longer refresh while its access token still works".to_owned());
        }
        Issuing {
            access_ttl,
            refresh_ttl,
            refresh_grace: self.refresh_grace(),
            sealed: self.sealed(keys),
            many_families: self.one_of("tokens-per-client", ["one", "many"]) == 1,
            max_families: self.max_tokens_per_client(),
            issuer: self.name("issuer"),
            audience: self.name("audience"),
            claims_hook: parts.claims_hook.clone(),
        }
    }

    fn max_tokens_per_client(&mut self) -> usize {
        const KEY: &str = "max-tokens-per-client";
        let Some(number) = self.sources.number(KEY) else { return DEFAULT_TOKENS_PER_CLIENT };
        let count = usize::try_from(number).ok().filter(|count| (1..=MAX_TOKENS_PER_CLIENT).contains(count));
        count.unwrap_or_else(|| {
            let remedy = format!("write a number of log-ins from 1 to {MAX_TOKENS_PER_CLIENT}");
            self.fault(KEY, format!("{number} is out of its range"), remedy);
            DEFAULT_TOKENS_PER_CLIENT
        })
    }

    fn caching(&mut self) -> Caching {
        Caching { on: self.one_of("cache", ["on", "off"]) == 0, capacity: self.cache_capacity(), ttl: self.cache_ttl() }
    }

    fn cache_capacity(&mut self) -> usize {
        const KEY: &str = "cache-capacity";
        let Some(number) = self.sources.number(KEY) else { return DEFAULT_CACHE_CAPACITY };
        usize::try_from(number).ok().filter(|capacity| (1..=MAX_CACHE_CAPACITY).contains(capacity)).unwrap_or_else(
            || {
                let remedy = format!("write a number of tokens from 1 to {MAX_CACHE_CAPACITY}");
                self.fault(KEY, format!("{number} is out of its range"), remedy);
                DEFAULT_CACHE_CAPACITY
            },
        )
    }

    fn cache_ttl(&mut self) -> Duration {
        const KEY: &str = "cache-ttl";
        const REMEDY: &str = r#"write a time of up to an hour, such as "5s", or leave it out"#;
        let Some(text) = self.sources.text(KEY) else { return Duration::ZERO };
        match time::parse(&text) {
            Ok(ttl) if ttl <= MAX_CACHE_TTL => return ttl,
            Ok(_) => self.fault(KEY, format!("{text:?} is more than an hour"), REMEDY),
            Err(problem) => self.fault(KEY, problem, REMEDY),
        }
        Duration::ZERO
    }

    fn credential_sources(&mut self) -> TokenHeaders {
        const KEY: &str = "credential-sources";
        const REMEDY: &str = r#"write ["ACCESS-TOKEN", "Authorization"], or one of them, or leave it out for both"#;
        if self.sources.source(KEY) == Source::Default {
            return TokenHeaders::ALL;
        }
        let names = self.sources.list(KEY);
        if names.is_empty() {
            self.fault(KEY, "it is empty, so that no access token could be found", REMEDY);
        }
        TokenHeaders::named(&names).unwrap_or_else(|name| {
            self.fault(KEY, format!("{name:?} is no header in which access tokens are looked for"), REMEDY);
            TokenHeaders::ALL
        })
    }

    fn websocket_origins(&mut self) -> Origins {
        const KEY: &str = "websocket-origins";
        if self.sources.source(KEY) == Source::Default {
            return Origins::default();
        }
        let texts = self.sources.list(KEY);
        if texts.is_empty() {
            self.fault(KEY, "it is empty, so that no page could open a WebSocket", "name the origins, or leave it out");
        }
        let mut origins = Vec::new();
        for text in texts {
            match origin::origin(&text) {
                Ok(origin) => origins.push(origin),
                Err((problem, remedy)) => self.fault(KEY, format!("{text:?} {problem}"), remedy),
            }
        }
        Origins::new(Some(origins))
    }

    fn closes_websockets(&mut self) -> bool {
        const KEY: &str = "websocket-refusal";
        let closes = self.one_of(KEY, ["http", "close"]) == 1;
        if closes && !cfg!(feature = "websocket") {
            let remedy = "build with the feature `websocket`, or write \"http\"";
            self.fault(KEY, "this build cannot open a WebSocket to say that it is refused", remedy);
        }
        closes
    }

    fn websocket_recheck(&mut self) -> Duration {
        const KEY: &str = "websocket-recheck";
        const REMEDY: &str = r#"write a time from "100ms" to "1h", such as "5s""#;
        let Some(text) = self.sources.text(KEY) else { return DEFAULT_WEBSOCKET_RECHECK };
        match time::parse(&text) {
            Ok(time) if (MIN_WEBSOCKET_RECHECK..=MAX_WEBSOCKET_RECHECK).contains(&time) => return time,
            Ok(_) => self.fault(KEY, format!("{text:?} is out of its range"), REMEDY),
            Err(problem) => self.fault(KEY, problem, REMEDY),
        }
        DEFAULT_WEBSOCKET_RECHECK
    }

    fn endpoints(&mut self, parts: &Parts) -> EndpointOptions {
        let rate_limit = self.rate_limit();
        EndpointOptions {
            allow_get: self.sources.flag_or_on("allow-get"),
            shape: if self.one_of("response-shape", ["envelope", "oauth"]) == 1 {
                Shape::OAuth
            } else {
                Shape::Envelope
            },
            cookie: self.one_of("refresh-transport", ["body", "cookie"]) == 1,
            rate_limit: rate_limit.map(|(per_minute, burst)| RateLimit {
                per_minute,
                burst,
                caller: parts.rate_limit_key.clone(),
            }),
        }
    }

    /// How many a minute, and how many at once.
    fn rate_limit(&mut self) -> Option<(NonZeroU32, NonZeroU32)> {
        const PER_MINUTE: &str = "rate-limit-per-minute";
        const BURST: &str = "rate-limit-burst";
        let (per_minute, burst) = (self.count(PER_MINUTE), self.count(BURST));
        let is_set = |key| self.sources.source(key) != Source::Default;
        if is_set(BURST) && !is_set(PER_MINUTE) {
            let problem = format!("there is no `{PER_MINUTE}`, so nothing is limited");
            self.fault(BURST, problem, format!("set `{PER_MINUTE}` too, or leave this out"));
        } else if is_set(PER_MINUTE) && !cfg!(feature = "rate-limit") {
            let remedy = "build with the feature `rate-limit`, or leave this out";
            self.fault(PER_MINUTE, "this build has no rate limits", remedy);
        }
        Some((per_minute?, burst.unwrap_or(DEFAULT_BURST)))
    }

    fn count(&mut self, key: &'static str) -> Option<NonZeroU32> {
        let number = self.sources.number(key)?;
        let count = u32::try_from(number).ok().filter(|count| *count <= MAX_RATE).and_then(NonZeroU32::new);
        if count.is_none() {
            self.fault(key, format!("{number} is out of its range"), format!("write a number from 1 to {MAX_RATE}"));
        }
        count
    }

    /// Which of the values a key has, the first one being the default.
    fn one_of<const N: usize>(&mut self, key: &'static str, values: [&str; N]) -> usize {
        let Some(text) = self.sources.text(key) else { return 0 };
        values.iter().position(|value| *value == text).unwrap_or_else(|| {
            let values = values.map(|value| format!("\"{value}\"")).join(" or ");
            self.fault(key, format!("{text:?} is not one of its values"), format!("write {values}"));
            0
        })
    }

    fn name(&mut self, key: &'static str) -> Option<String> {
        let name = self.sources.text(key)?;
        if name.trim().is_empty() {
            self.fault(key, "it is empty", "give a name, or leave the key out");
        }
        Some(name)
    }

    fn refresh_grace(&mut self) -> Duration {
        const KEY: &str = "refresh-grace";
        const REMEDY: &str = r#"write a time of up to five minutes, such as "60s", or "0s""#;
        let Some(text) = self.sources.text(KEY) else { return DEFAULT_REFRESH_GRACE };
        match time::parse(&text) {
            Ok(grace) if grace <= MAX_REFRESH_GRACE => return grace,
            Ok(_) => self.fault(KEY, format!("{text:?} is more than five minutes"), REMEDY),
            Err(problem) => self.fault(KEY, problem, REMEDY),
        }
        DEFAULT_REFRESH_GRACE
    }

    fn sealed(&mut self, keys: Option<&ConfiguredKeys>) -> bool {
        const KEY: &str = "store-format";
        let sealed = self.one_of(KEY, ["plain", "fernet"]) == 1;
        let Some(keys) = keys.filter(|_| sealed) else { return sealed };
        if !CAN_ENCRYPT {
            let problem = "\"fernet\" needs the feature `fernet`, which this build lacks";
            self.fault(KEY, problem, "build with it, or write \"plain\"");
            return sealed;
        }
        // Until the newest key signs, the one before it encrypts.
        let signs_first = keys.previous.first().filter(|_| self.clock.unix_now() < keys.signs_from);
        if !is_fernet_key(&keys.newest) || !signs_first.is_none_or(is_fernet_key) {
            let problem = "\"fernet\" encrypts by the key that signs, which is not a Fernet key";
            self.fault(KEY, problem, "write \"plain\", and \"fernet\" when a key of `fastauth keys rotate` signs");
        }
        sealed
    }

    fn fault(&mut self, key: &'static str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault::of(key, self.sources.source(key), problem, remedy));
    }

    fn app_name(&mut self) -> String {
        let name = self.sources.text("app-name").unwrap_or_else(|| "fastauth".to_owned());
        if name.trim().is_empty() {
            self.fault("app-name", "it is empty", "give the application's name, or leave the key out");
        }
        name
    }

    /// A secret that is set, and neither empty nor a placeholder.
    fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let secret = self.sources.secret(key)?;
        let text = secret.expose();
        if text.trim().is_empty() {
            self.fault(key, "it is empty", MAKE_ONE);
        } else if is_placeholder(text) {
            self.fault(key, "it is a placeholder, not a secret", MAKE_ONE);
        } else {
            if let Some(problem) = unclear(text).filter(|_| key == keys::KEY) {
                self.fault(key, format!("it {problem}"), "take that away");
            }
            if PUBLISHED.contains(&text) {
                self.warnings.push(format!("`{key}` is a published example, which everybody knows; {MAKE_ONE}"));
            }
            return Some(secret);
        }
        None
    }

    fn keys(&mut self) -> Option<ConfiguredKeys> {
        let newest = self.cryptography_key();
        let previous = self.previous_keys(newest.as_ref());
        let signs_from = self.signs_from();
        if signs_from > self.clock.unix_now() && previous.is_empty() && newest.is_some() {
            let problem = "there is no key to sign until then";
            let remedy = "put the key before it into `previous-cryptography-keys`, or leave this out";
            self.fault(keys::SIGNS_FROM, problem, remedy);
        }
        let place = |key| self.sources.source(key);
        let places =
            Places { key: place(keys::KEY), previous: place(keys::PREVIOUS), signs_from: place(keys::SIGNS_FROM) };
        ConfiguredKeys::new(newest?, signs_from, previous, places, self.clock.clone())
            .map_err(|error| {
                let remedy = "this build of the program cannot sign; build it again with its default features";
                self.faults.push(Fault::of(keys::KEY, Source::Code, error.to_string(), remedy));
            })
            .ok()
    }

    fn previous_keys(&mut self, newest: Option<&Secret>) -> Vec<Secret> {
        const REMEDY: &str = "take it out, if no token of it can be live";
        let keys: Vec<_> = self.sources.secrets(keys::PREVIOUS).into_iter().map(|(_, key)| key).collect();
        for (number, key) in keys.iter().enumerate() {
            let length = key.expose().len();
            if is_placeholder(key.expose()) {
                self.fault(keys::PREVIOUS, "one is a placeholder, not a key", REMEDY);
            } else if length < MIN_KEY_LEN {
                let problem = format!("one has {length} bytes, and HS256 needs at least {MIN_KEY_LEN}");
                self.fault(keys::PREVIOUS, problem, REMEDY);
            } else if let Some(problem) = unclear(key.expose()) {
                self.fault(keys::PREVIOUS, format!("one {problem}"), "take that away");
            } else if newest == Some(key) || keys[..number].contains(key) {
                self.warnings.push(format!("`{}`: a key is there twice", keys::PREVIOUS));
            } else if PUBLISHED.contains(&key.expose()) {
                let key = keys::PREVIOUS;
                self.warnings
                    .push(format!("`{key}`: one is a published example, by which everybody can sign; {REMEDY}"));
            }
        }
        keys
    }

    fn signs_from(&mut self) -> u64 {
        const KEY: &str = keys::SIGNS_FROM;
        let Some(text) = self.sources.text(KEY) else { return 0 };
        let since = humantime::parse_rfc3339_weak(&text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        since.map_or_else(
            || {
                self.fault(
                    KEY,
                    format!("{text:?} is not a time"),
                    r#"write one in UTC, such as "2030-01-31T12:00:00Z""#,
                );
                0
            },
            |since| since.as_secs(),
        )
    }

    fn cryptography_key(&mut self) -> Option<Secret> {
        const KEY: &str = keys::KEY;
        let faults = self.faults.len();
        let Some(key) = self.secret(KEY) else {
            let misread = self.faults.iter().any(|fault| fault.key() == Some(KEY));
            if self.faults.len() == faults && !misread {
                self.missing(
                    KEY,
                    "it is missing, and without it no token can be signed or verified",
                    "CRYPTOGRAPHY_KEY",
                );
            }
            return None;
        };
        if key.expose().len() < MIN_KEY_LEN {
            let problem = format!("it has {} bytes, and HS256 needs at least {MIN_KEY_LEN}", key.expose().len());
            self.fault(KEY, problem, MAKE_ONE);
        }
        Some(key)
    }

    /// The master tokens, each with its name.
    fn master_tokens(&mut self) -> Vec<(String, Secret)> {
        const ONE: &str = "master-token";
        const MANY: &str = "master-tokens";
        let one = self.secret(ONE).map(|token| (ONE.to_owned(), token));
        let many = self.sources.secrets(MANY);
        one.iter().for_each(|(_, token)| self.check_master_token(ONE, ONE, token));
        for (name, token) in &many {
            if token.expose().trim().is_empty() || is_placeholder(token.expose()) {
                self.fault(MANY, format!("the value of {name:?} is empty or a placeholder"), MAKE_ONE);
            } else if name.trim().is_empty() {
                self.fault(MANY, "a name is empty", "give each token a name for the logs");
            } else if name == ONE {
                self.fault(MANY, format!("{ONE:?} is the name of the token in `{ONE}`"), "give the token another name");
            }
            self.check_master_token(MANY, &format!("{MANY}.{name}"), token);
        }
        let all: Vec<_> = one.into_iter().chain(many).collect();
        for (number, (name, token)) in all.iter().enumerate() {
            if let Some((other, _)) = all[..number].iter().find(|(_, other)| other == token) {
                self.warnings.push(format!("the master tokens {other:?} and {name:?} are the same text"));
            }
        }
        all
    }

    fn check_master_token(&mut self, key: &'static str, shown: &str, token: &Secret) {
        let text = token.expose();
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || text.trim() != text {
            let problem =
                format!("no client could send `{shown}`: a header carries printable ASCII without spaces at its ends");
            self.fault(key, problem, MAKE_ONE);
        } else if text.len() < SHORT_SECRET_LEN {
            self.warnings.push(format!("`{shown}` has only {} characters and may be guessed; {MAKE_ONE}", text.len()));
        }
    }

    fn missing(&mut self, key: &'static str, problem: &str, bare: &str) {
        let file = self.sources.env_file.display();
        let file = if file.to_string().is_empty() { ".env".to_owned() } else { file.to_string() };
        let remedy = format!(
            "set `{key}` in the configuration file, {} in the environment, or {bare} in {file} \
             (`fastauth keygen --name {bare} --write {file}` does the last)",
            variable(key)
        );
        self.faults.push(Fault::of(key, Source::Default, problem, remedy));
    }

    /// Whether there is a path to guard, and what to guard the master paths with.
    fn guards_something(&mut self, has_master_token: bool) {
        let no_master_path = self.sources.list("master-token-paths").is_empty();
        let misread = self
            .faults
            .iter()
            .any(|fault| fault.key().is_some_and(|key| key.starts_with("master-token") && !key.ends_with("paths")));
        if !has_master_token && !misread {
            if no_master_path {
                self.warnings.push("no master token is configured: minting over HTTP is closed".to_owned());
            } else {
                let problem = "it is missing, and `master-token-paths` asks for it";
                self.missing("master-token", problem, "MASTER_TOKEN");
            }
        }
        let is_missing = |key| self.sources.source(key) == Source::Default;
        // An unknown key may be one of them, misspelt.
        let is_told = self.faults.iter().any(|fault| fault.key().is_none_or(|key| key.ends_with("-token-paths")));
        if self.sources.has_file && is_missing("master-token-paths") && is_missing("access-token-paths") && !is_told {
            let problem = "it is missing, and `master-token-paths` as well, so that no path would be guarded";
            self.fault("access-token-paths", problem, "name the prefixes, or write [] to guard no path");
        }
        if no_master_path && self.sources.list("access-token-paths").is_empty() && self.faults.is_empty() {
            self.warnings.push("both path lists are empty: no path is guarded".to_owned());
        }
    }

    fn rules(&mut self) -> Rules {
        let master = self.prefixes("master-token-paths");
        let access = self.prefixes("access-token-paths");
        let public = self.prefixes("public-paths");
        let base_path = self.sources.text("base-path").and_then(|text| self.prefix("base-path", &text));
        let options = PathOptions {
            case_insensitive: self.sources.flag("case-insensitive"),
            windows: self.sources.flag("windows"),
            skip_preflight: self.sources.flag("skip-preflight"),
            ambiguous: self.ambiguous(),
        };
        if self.sources.flag("shadow") {
            self.warnings.push("`shadow` is on: refusals are only logged, and no path is guarded".to_owned());
        }
        let rules = Rules::new(master, access, public, base_path.as_ref(), options);
        let overlaps = rules.overlaps();
        self.notes.extend(overlaps.notes);
        self.warnings.extend(overlaps.warnings);
        rules
    }

    fn ambiguous(&mut self) -> Ambiguous {
        match self.one_of("ambiguous", ["refuse", "protect"]) {
            0 => Ambiguous::Refuse,
            _ => Ambiguous::Protect,
        }
    }

    fn prefixes(&mut self, key: &'static str) -> Vec<Prefix> {
        self.sources.list(key).iter().filter_map(|text| self.prefix(key, text)).collect()
    }

    fn prefix(&mut self, key: &'static str, text: &str) -> Option<Prefix> {
        let of = match key {
            "public-paths" => Use::Exemption,
            "base-path" => Use::BasePath,
            _ => Use::Guard,
        };
        Prefix::parse(text)
            .map_err(|error| self.fault(key, format!("the prefix {text:?} {error}"), error.remedy(of)))
            .ok()
    }

    fn ttl(&mut self, key: &'static str, default: Duration) -> Duration {
        const REMEDY: &str = r#"write a number and a unit, such as "30d", "12h", "15m" or "90s""#;
        let Some(text) = self.sources.text(key) else { return default };
        match time::parse(&text) {
            Ok(ttl) if ttl.as_secs() == 0 || ttl.subsec_nanos() != 0 => {
                self.fault(key, format!("{text:?} is not a time of whole seconds above zero"), REMEDY);
            }
            Ok(ttl) if ttl > MAX_TTL => self.fault(key, format!("{text:?} is more than a hundred years"), REMEDY),
            Ok(ttl) => return ttl,
            Err(problem) => self.fault(key, problem, REMEDY),
        }
        default
    }

    fn headers(&mut self) -> HeaderMap {
        const KEY: &str = "headers";
        let mut headers = HeaderMap::new();
        for (name, value) in self.sources.secrets(KEY) {
            let Ok(parsed) = HeaderName::try_from(&name) else {
                self.fault(KEY, format!("{name:?} is not a header name"), "write a name such as \"X-Api-Key\"");
                continue;
            };
            let Ok(mut content) = HeaderValue::from_str(value.expose()) else {
                self.fault(KEY, format!("the value of {name:?} cannot stand in a header"), "use printable ASCII");
                continue;
            };
            if is_empty_header(value.expose()) {
                self.fault(KEY, format!("the value of {name:?} is empty"), "give it a value, or leave it out");
            } else if is_placeholder_in_header(value.expose()) {
                self.fault(KEY, format!("the value of {name:?} is a placeholder"), "put the value in its place");
            }
            content.set_sensitive(true);
            if headers.insert(parsed, content).is_some() {
                self.fault(KEY, format!("{name:?} is there twice"), "keep one of them");
            }
        }
        headers
    }

    fn store_choice(&mut self, headers: HeaderMap) -> Option<StoreSettings> {
        const KEY: &str = "database-api-url";
        let Some(url) = self.sources.text(KEY) else {
            if !headers.is_empty() {
                self.warnings.push(format!("`headers` go to a REST store, and `{KEY}` names none"));
            }
            return self.sqlite(DEFAULT_DATABASE);
        };
        match url.split_once(':') {
            Some(("sqlite", _)) => self.sqlite(&url),
            Some((scheme, _)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
                if !headers.is_empty() && is_plain_to_others(&url) {
                    self.warnings.push(format!(
                        "`headers` go to another machine over http://, where everybody on the way can read them; \
                         use https:// in `{KEY}`"
                    ));
                }
                self.rest(&url, headers)
            }
            _ => {
                let problem = "it is neither the address of a REST store nor of an SQLite file";
                self.fault(KEY, problem, "write \"http://HOST:PORT/PATH\" or \"sqlite:FILE\"");
                None
            }
        }
    }

    fn rest(&mut self, url: &str, headers: HeaderMap) -> Option<StoreSettings> {
        const KEY: &str = "database-api-url";
        if !cfg!(feature = "rest") {
            self.fault(KEY, "this build has no REST store", "build with the feature `rest`");
            return None;
        }
        if let Err(error) = check_url(url).and_then(|()| check_headers(&headers)) {
            self.fault(KEY, error.with_causes(), "write \"http://HOST:PORT/PATH\"");
            return None;
        }
        Some(StoreSettings::Rest { url: url.to_owned(), headers })
    }

    fn sqlite(&mut self, url: &str) -> Option<StoreSettings> {
        const KEY: &str = "database-api-url";
        if !cfg!(feature = "sqlite") {
            let problem = "there is no REST store to keep the tokens, and this build has no embedded one";
            self.fault(KEY, problem, "write \"http://HOST:PORT/PATH\", or build with the feature `sqlite`");
            return None;
        }
        let Some(path) = sqlite_path(url) else {
            let problem = if url == "sqlite:" || url.starts_with("sqlite::") {
                "it names no file, and a database in memory would forget every token"
            } else {
                "it is not the plain path of a file: neither `//` or `~` in front of it, `/` behind it, nor `?`, `#`, `%`, `$` or \
                 `file:` is understood"
            };
            self.fault(KEY, problem, "write \"sqlite:FILE\", such as \"sqlite:/var/lib/app/tokens.db\"");
            return None;
        };
        let path = self.sources.directory.join(path);
        self.warnings.extend(file::exposure(&path));
        Some(StoreSettings::Sqlite { path })
    }

    fn compare_secrets(&mut self, master_tokens: &[(String, Secret)], keys: Option<&ConfiguredKeys>) {
        for (name, token) in master_tokens {
            if keys.is_some_and(|keys| keys.newest == *token || keys.previous.contains(token)) {
                self.warnings.push(format!(
                    "`{name}` and a cryptography key are the same text: who has one has both; {MAKE_ONE}"
                ));
            }
        }
    }

    fn env_file(&mut self, has_secrets: bool) {
        match &self.sources.env_file_problem {
            Some((path, problem)) if has_secrets => self.warnings.push(format!("{}: {problem}", path.display())),
            Some((path, problem)) => {
                let source = Source::File(path.clone());
                self.faults.push(Fault::of("cryptography-key", source, problem.clone(), "mend it: a secret is missed"));
            }
            None => {}
        }
        for (key, fault) in &self.sources.env_line_faults {
            if self.sources.source(key) == Source::Default {
                // It is not missing, then.
                self.faults.retain(|other| (other.key(), other.source()) != (Some(key), &Source::Default));
                self.faults.push(fault.clone());
            } else {
                self.warnings.push(fault.to_string());
            }
        }
    }
}

/// Returns what is wrong with a key that one variable would keep and another would trim.
fn unclear(key: &str) -> Option<&'static str> {
    if key.contains(|c: char| c.is_control() || c == '\u{feff}') {
        Some("has a line break, a byte order mark or another control character in it")
    } else if key.trim() != key {
        Some("has a space at its beginning or end")
    } else {
        None
    }
}

/// Returns true if calls to this address leave the machine unencrypted.
fn is_plain_to_others(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let is_loopback = host
        .parse::<std::net::IpAddr>()
        .map_or(host == "localhost" || host.ends_with(".localhost"), |ip| ip.to_canonical().is_loopback());
    url.scheme() == Some(&http::uri::Scheme::HTTP) && !is_loopback
}

const MAKE_ONE: &str = "make one with `fastauth keygen`";

fn entries(sources: &Sources, has_custom_store: bool, faults: &[Fault]) -> Vec<Entry> {
    // A URL that is refused may have a password where one is not looked for.
    let is_refused = |key: &str| faults.iter().any(|fault| fault.key() == Some(key));
    let known = KEYS.iter().map(|key| key.name).filter(|key| *key != "log-lv");
    let value = |key| match key {
        "database-api-url" if has_custom_store => "a store of the application's own".to_owned(),
        "database-api-url" if is_refused(key) => "not usable".to_owned(),
        key => shown(sources, key),
    };
    known.map(|key| Entry { key, value: value(key), source: sources.source(key) }).collect()
}

fn shown(sources: &Sources, key: &'static str) -> String {
    match key {
        "master-token" | "cryptography-key" => {
            if sources.secret(key).is_some() {
                "set".to_owned()
            } else {
                "not set".to_owned()
            }
        }
        "previous-cryptography-keys" => match sources.secrets(key).len() {
            0 => "none".to_owned(),
            count => format!("{count} set"),
        },
        "headers" | "master-tokens" => {
            let names: Vec<_> = sources.secrets(key).into_iter().map(|(name, _)| name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        }
        "master-token-paths" | "access-token-paths" | "public-paths" => format!("{:?}", sources.list(key)),
        "credential-sources" => match sources.list(key) {
            names if names.is_empty() => "ACCESS-TOKEN, Authorization".to_owned(),
            names => format!("{names:?}"),
        },
        "websocket-origins" => match sources.list(key) {
            origins if origins.is_empty() => "any".to_owned(),
            origins => format!("{origins:?}"),
        },
        "websocket-refusal" => sources.text(key).unwrap_or_else(|| "http".to_owned()),
        "database-api-url" => sources.text(key).unwrap_or_else(|| format!("sqlite:{DEFAULT_DATABASE}")),
        "access-ttl" => shown_time(sources, key, DEFAULT_ACCESS_TTL),
        "refresh-ttl" => shown_time(sources, key, DEFAULT_REFRESH_TTL),
        "case-insensitive" | "windows" | "skip-preflight" | "shadow" => sources.flag(key).to_string(),
        "ambiguous" => sources.text(key).unwrap_or_else(|| "refuse".to_owned()),
        "refresh-grace" => shown_time(sources, key, DEFAULT_REFRESH_GRACE),
        "cache" => sources.text(key).unwrap_or_else(|| "on".to_owned()),
        "cache-capacity" => {
            sources.number(key).map_or_else(|| DEFAULT_CACHE_CAPACITY.to_string(), |number| number.to_string())
        }
        "websocket-recheck" => shown_time(sources, key, DEFAULT_WEBSOCKET_RECHECK),
        "cache-ttl" => shown_time(sources, key, Duration::ZERO),
        "tokens-per-client" => sources.text(key).unwrap_or_else(|| "one".to_owned()),
        "max-tokens-per-client" => {
            sources.number(key).map_or_else(|| DEFAULT_TOKENS_PER_CLIENT.to_string(), |number| number.to_string())
        }
        "store-format" => sources.text(key).unwrap_or_else(|| "plain".to_owned()),
        "allow-get" => sources.flag_or_on(key).to_string(),
        "response-shape" => sources.text(key).unwrap_or_else(|| "envelope".to_owned()),
        "refresh-transport" => sources.text(key).unwrap_or_else(|| "body".to_owned()),
        "rate-limit-per-minute" => sources.number(key).map_or_else(|| "none".to_owned(), |rate| rate.to_string()),
        "rate-limit-burst" => sources.number(key).unwrap_or(DEFAULT_BURST.get().into()).to_string(),
        "cryptography-key-signs-from" => sources.text(key).unwrap_or_else(|| "always".to_owned()),
        "base-path" | "issuer" | "audience" => sources.text(key).unwrap_or_else(|| "none".to_owned()),
        key => sources.text(key).unwrap_or_else(|| "fastauth".to_owned()),
    }
}

/// A time in plain units, or the text of what is no time.
fn shown_time(sources: &Sources, key: &'static str, default: Duration) -> String {
    let Some(text) = sources.text(key) else { return time::show(default) };
    time::parse(&text).map_or(text, time::show)
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("environment", &self.environment.as_ref().map(BTreeMap::len))
            .field("directory", &self.directory)
            .field("file", &self.file)
            .finish()
    }
}

fastauth_core::debug_as_text!(ConfigError, EnvFileError, KeyChangeError);
