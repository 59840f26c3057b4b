//! The tower layer.

use std::sync::Arc;

use http::Method;
use tower_layer::Layer;

use crate::{
    check::live::Current,
    compose::Live,
    config::{ConfigError, Settings},
    guard::{FastAuth, Guard},
    observe::{PathCounts, TokenCounts},
    path::Explanation,
    tokens::{TokenIssuer, TokenRouter},
};

/// Guards a service by path.
///
/// The layer wraps any `Service<Request<B>, Response = Response<ResBody>>`. A refused request never reaches the service.
/// A request that is forwarded to a guarded path carries a [`Permit`](crate::Permit). A refused request is answered with a response whose
/// extensions hold the [`Denial`](crate::Denial); the inner service's error type stays what it was.
///
/// # Where to put it
///
#[doc = include_str!("docs/placement.md")]
#[derive(Clone, Debug)]
pub struct FastAuthLayer {
    live: Arc<Live>,
}

impl FastAuthLayer {
    /// Creates the layer by `fastauth.config.json` and the environment: see [`Settings::load`].
    ///
    /// # Panics
    ///
    /// If the configuration has faults, with one message that lists all of them. Use
    /// [`try_from_config`](Self::try_from_config) to handle it.
    #[must_use]
    #[track_caller]
    pub fn from_config() -> Self {
        match Self::try_from_config() {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates the layer as [`from_config`](Self::from_config) does.
    ///
    /// # Errors
    ///
    /// Returns every fault of the configuration, or the fault of opening the store.
    pub fn try_from_config() -> Result<Self, ConfigError> {
        Self::new(Settings::load()?)
    }

    /// Creates the layer by settings.
    ///
    /// It logs which paths are guarded, where tokens are kept, and warnings: by `tracing`, or on standard error if there is no
    /// subscriber.
    ///
    /// # Errors
    ///
    /// Returns the fault if the store cannot be opened. A REST store that does not answer is not an error: the layer works as soon as it
    /// does.
    #[allow(clippy::needless_pass_by_value, reason = "settings that are in use are not for another layer")]
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self { live: Live::start(&settings)? })
    }

    /// Reads the sources again that the settings were loaded from, and replaces the configuration by what they say, while requests
    /// run. The [guide](crate::guide::reloading) says what that changes.
    ///
    /// A request that runs goes on by the configuration that it began with. Once this returns, the new one is in force for every
    /// request that begins. The store, sessions, counts and limits stay.
    ///
    /// It reads files, as [`from_config`](Self::from_config) does. The key `reload` lets FastAuth do it by itself.
    ///
    /// # Errors
    ///
    /// Returns every fault of the configuration, and those of what cannot change while the application runs, such as the store. Then
    /// nothing changes. It is an error, too, if the settings were made in code alone.
    pub fn reload(&self) -> Result<(), ConfigError> {
        self.live.reload_sources()
    }

    /// Replaces the configuration by other settings, as [`reload`](Self::reload) does.
    ///
    /// # Errors
    ///
    /// Returns the faults of what cannot change while the application runs. Then nothing changes. A [store](crate::SettingsBuilder::store) of the application's own is not compared: the one that the layer was made
    /// with stays.
    pub fn reload_with(&self, settings: Settings) -> Result<(), ConfigError> {
        self.live.reload(|| Ok(settings))
    }

    fn guard(&self) -> Arc<Guard> {
        self.live.current()
    }

    /// Returns how many paths were refused, or guarded only by another reading, since this layer was created.
    #[must_use]
    pub fn path_counts(&self) -> PathCounts {
        self.guard().terms.observer.path_counts()
    }

    /// Returns how many used refresh tokens were presented again, since this layer was created.
    #[must_use]
    pub fn token_counts(&self) -> TokenCounts {
        self.guard().terms.observer.token_counts()
    }

    /// Explains which credentials a request for `target`, as it stands in a request line, requires by its path, and why: by the same code
    /// that decides on requests. The token endpoints have checks of their own, which are not explained.
    ///
    /// ```
    /// use fastauth::{FastAuthLayer, Secret, Settings, path::PathDecision, store::MemoryStore};
    /// use http::Method;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let key = Secret::generate();
    /// let settings = Settings::builder().cryptography_key(key).access_token_paths(["/access"]).store(MemoryStore::new());
    /// let auth = FastAuthLayer::new(settings.build()?)?;
    /// let explanation = auth.explain(&Method::GET, "/x/../%61ccess");
    /// assert_eq!(explanation.decision(), PathDecision::Access);
    /// assert_eq!(explanation.decided_by()[0].prefix(), "/access");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn explain(&self, method: &Method, target: &str) -> Explanation {
        self.guard().policy.rules.explain(method, target)
    }

    /// Returns the endpoints that issue and refresh tokens, with this layer's key and store.
    #[must_use]
    pub fn router(&self) -> TokenRouter {
        TokenRouter::new(self.live.clone())
    }

    /// Returns the origins of `allowed-origins`: for the CORS layer, which the [guide](crate::guide::origins) has.
    #[must_use]
    pub fn allowed_origins(&self) -> Vec<http::HeaderValue> {
        self.guard().policy.origins.list().to_vec()
    }

    /// Returns what issues and refreshes tokens in code, with this layer's key and store.
    #[must_use]
    pub fn issuer(&self) -> TokenIssuer {
        TokenIssuer::new(self.live.clone())
    }
}

#[cfg(feature = "utoipa")]
impl FastAuthLayer {
    /// Returns what adds the checks of this layer to an application's OpenAPI document.
    pub fn openapi(&self) -> crate::OpenApiSecurity {
        crate::OpenApiSecurity::new(self.guard().policy.rules.clone(), self.live.current())
    }
}

impl<S> Layer<S> for FastAuthLayer {
    type Service = FastAuth<S>;

    fn layer(&self, inner: S) -> FastAuth<S> {
        FastAuth::new(inner, self.live.clone())
    }
}
