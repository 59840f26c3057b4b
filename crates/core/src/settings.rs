//! What a deployment decides, as plain data: what a configuration is parsed into, and what the running parts are made of.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, request::Parts};

use crate::{
    clock::Clock,
    credential::TokenHeaders,
    hooks::Hooks,
    issue::Issuing,
    keys::KeyRing,
    origin::Origins,
    policy::{Rules, ServiceTest},
    secret::Secret,
    store::TokenStore,
};

/// For how many intervals of `websocket-recheck` a right outlives the last answer of the store.
pub const TOLERANCE: u32 = 6;

/// A whole configuration without a fault.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Names the application; challenges carry it as their realm.
    pub app_name: String,
    /// The master tokens, each with the name that logs show.
    pub master_tokens: Vec<(String, Secret)>,
    /// The keys that sign and verify.
    pub keys: Arc<KeyRing>,
    /// Which paths are guarded.
    pub rules: Rules,
    /// Tells the tokens of services from those of users.
    pub service_test: ServiceTest,
    /// Refusals are logged and not carried out.
    pub shadow: bool,
    /// Where tokens are kept.
    pub store: StoreSettings,
    /// How pairs are made and kept.
    pub issuing: Issuing,
    /// How answers of the store are cached.
    pub caching: Caching,
    /// What the token endpoints take, and how they answer.
    pub endpoints: EndpointOptions,
    /// The time that tokens are issued and judged by.
    pub clock: Clock,
    /// The headers in which access tokens are looked for.
    pub credential_sources: TokenHeaders,
    /// How WebSockets are guarded.
    pub websocket: WebSocketSettings,
    /// What the log says of refused requests.
    pub log_details: LogDetails,
    /// The origins, beside the own, whose pages may act for their users.
    pub allowed_origins: Origins,
    /// What an operator should know, though it is no fault.
    pub warnings: Vec<String>,
    /// Where tokens are kept, for people to read.
    pub store_place: String,
    /// When the configuration is read again.
    pub reload: Reload,
    /// Nothing is written to standard error.
    pub is_quiet: bool,
    /// Events are counted for the recorder of the `metrics` crate, if the feature of that name is on.
    pub metrics: bool,
    /// What the application decides about requests in code.
    pub hooks: Hooks,
}

/// How answers of the store are cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// Whether they are.
    pub on: bool,
    /// For how many tokens.
    pub capacity: usize,
    /// For how long, if the store does not tell of the changes of others.
    pub ttl: Duration,
    /// For how much longer they are valid while the store cannot be reached: `store-grace`.
    pub grace: Duration,
    /// What is held of a store behind HTTP.
    pub mode: CacheMode,
}

/// What a node holds of a store behind HTTP that has a feed of its changes: `cache-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The tokens that it was asked for.
    #[default]
    OnDemand,
    /// The digests of the current access tokens of all clients.
    Replica,
}

impl CacheMode {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Replica => "replica",
        }
    }
}

/// A store that is not opened yet.
#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// The embedded store.
    Sqlite {
        /// Its file.
        path: PathBuf,
    },
    /// A store behind HTTP.
    Rest {
        /// Its addresses, `http://…` or `https://…`: at least one.
        urls: Vec<String>,
        /// Headers that go with every call.
        headers: HeaderMap,
    },
    /// The application's own.
    Custom(Arc<dyn TokenStore>),
}

/// When the configuration is read again while the application runs: `reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// When the application asks for it.
    #[default]
    Off,
    /// On the signal SIGHUP. It needs the feature `sighup`, and Unix.
    Sighup,
    /// When a file has changed: the files are read every two seconds.
    Watch,
}

impl Reload {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sighup => "sighup",
            Self::Watch => "watch",
        }
    }
}

/// How WebSockets are guarded.
#[derive(Clone, Debug, Default)]
pub struct WebSocketSettings {
    /// How often the store is asked whether a token is still good, if it does not tell of changes.
    pub recheck: Duration,
    /// How a handshake is refused.
    pub refusal: WebSocketRefusal,
}

/// What the log says of a refused request, beside what was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogDetails {
    /// Its path.
    pub path: bool,
    /// The address that it came from.
    pub peer: bool,
    /// The value of this header.
    pub request_id: Option<HeaderName>,
}

impl LogDetails {
    /// Returns true if the log says nothing more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A detail of a refused request: `log-details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogDetail {
    /// Its path, without the query.
    Path,
    /// The address that it came from.
    Peer,
    /// The id that a proxy or a client gave it, by the header of `request-id-header`.
    RequestId,
}

impl LogDetail {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Path, Self::Peer, Self::RequestId];

    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Peer => "peer",
            Self::RequestId => "request-id",
        }
    }
}

/// What the token endpoints accept, and how they answer.
#[derive(Clone, Debug, Default)]
pub struct EndpointOptions {
    /// GET issues and refreshes, too.
    pub allow_get: bool,
    /// The form of the answers of issuing and refreshing.
    pub response_shape: ResponseShape,
    /// The form of refusals.
    pub error_shape: ErrorShape,
    /// How refresh tokens travel.
    pub refresh_transport: RefreshTransport,
    /// To which pages browsers send the cookie of a refresh token.
    pub cookie_same_site: CookieSameSite,
    /// The limit on issuing, if there is one.
    pub rate_limit: Option<RateLimit>,
}

impl EndpointOptions {
    /// Returns true if refresh tokens travel in a cookie.
    #[must_use]
    pub fn uses_cookie(&self) -> bool {
        self.refresh_transport == RefreshTransport::Cookie
    }

    /// Returns with which requests browsers send the cookie, if refresh tokens travel in one.
    #[must_use]
    pub fn cookie(&self) -> Option<CookieSameSite> {
        self.uses_cookie().then_some(self.cookie_same_site)
    }
}

/// The form of answers: `response-shape`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseShape {
    /// The envelope of `fastauth-api`.
    #[default]
    Envelope,
    /// The form of RFC 6749.
    OAuth,
}

impl ResponseShape {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::OAuth => "oauth",
        }
    }
}

/// The form of refusals: `error-shape`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorShape {
    /// That of `response-shape`.
    #[default]
    Response,
    /// Problem details (RFC 9457).
    Problem,
}

impl ErrorShape {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Problem => "problem",
        }
    }
}

/// With which requests browsers send the cookie of a refresh token: `cookie-same-site`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieSameSite {
    /// With those of pages of the same site.
    #[default]
    Strict,
    /// With those of every page, if the browser allows cookies of third parties. It is kept apart for each site that sends them.
    None,
}

impl CookieSameSite {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::None => "none",
        }
    }
}

/// How refresh tokens travel: `refresh-transport`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshTransport {
    /// In bodies.
    #[default]
    Body,
    /// In a cookie that scripts cannot read.
    Cookie,
}

impl RefreshTransport {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Cookie => "cookie",
        }
    }
}

/// How a WebSocket handshake is refused: `websocket-refusal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebSocketRefusal {
    /// By an HTTP response.
    #[default]
    Http,
    /// By opening it, sending the reason and closing it. It needs the feature `websocket`.
    Close,
}

impl WebSocketRefusal {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Close => "close",
        }
    }
}

/// The limit on issuing tokens, per client and per caller.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Requests a minute.
    pub per_minute: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
    /// The key of callers, if they are limited as well.
    pub caller: Option<CallerKey>,
}

impl RateLimit {
    /// Returns true if the other limit counts the same requests in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let callers_are_same = match (&self.caller, &other.caller) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        callers_are_same && (self.per_minute, self.burst) == (other.per_minute, other.burst)
    }
}

/// The application's function that tells callers apart. Its result is hashed with a random seed, so no caller can foresee it.
#[derive(Clone)]
pub struct CallerKey(Arc<KeyOf>);

type KeyOf = dyn Fn(&Parts) -> Option<u64> + Send + Sync;

impl CallerKey {
    /// Creates a key from the application's function.
    pub fn new<K: Hash>(key: impl Fn(&Parts) -> Option<K> + Send + Sync + 'static) -> Self {
        let hasher = RandomState::new();
        Self(Arc::new(move |request| key(request).map(|key| hasher.hash_one(key))))
    }

    /// Returns true if it is the same function, and so tells callers apart alike.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the caller that sent a request, if the application can tell.
    #[must_use]
    pub fn caller(&self, request: &Parts) -> Option<u64> {
        (self.0)(request)
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKey(..)")
    }
}
