//! The tower layer.

use std::sync::Arc;

use tower_layer::Layer;

use crate::{
    compose::Parts,
    config::{ConfigError, Settings},
    guard::FastAuth,
    observe::{PathCounts, TokenCounts},
    tokens::{TokenRouter, issuer::TokenIssuer},
};

/// Guards a service by path.
///
/// The layer wraps any `Service<Request<B>, Response = Response<ResBody>>`. What it refuses never reaches the service.
/// What it lets through to a guarded path carries a [`Permit`](crate::Permit). A refused request is answered with a response whose
/// extensions hold the [`Denial`](crate::Denial); the inner service's error type stays what it was.
///
/// # Where to put it
///
#[doc = include_str!("docs/placement.md")]
#[derive(Clone, Debug)]
pub struct FastAuthLayer {
    parts: Arc<Parts>,
}

impl FastAuthLayer {
    /// The layer by `fastauth.config.json` and the environment: see [`Settings::load`].
    ///
    /// # Panics
    ///
    /// Stops the start with one message that lists every fault of the configuration. Use
    /// [`try_from_config`](Self::try_from_config) to handle it.
    #[must_use]
    #[track_caller]
    pub fn from_config() -> Self {
        match Self::try_from_config() {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`from_config`](Self::from_config), with the faults as a value.
    ///
    /// # Errors
    ///
    /// Every fault of the configuration, or of opening the store.
    pub fn try_from_config() -> Result<Self, ConfigError> {
        Self::new(Settings::load()?)
    }

    /// The layer by settings that were made in code or loaded by [`Settings::builder`].
    ///
    /// It tells what is guarded by what, where tokens are kept and what to be warned of: by `tracing`, or on standard error if no
    /// subscriber listens.
    ///
    /// # Errors
    ///
    /// Where the store cannot be opened. A REST store that is away is no error: the layer works as soon as it is back.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self { parts: Arc::new(Parts::new(&settings)?) })
    }

    /// How many paths were refused or read otherwise than they were sent, since this layer was made.
    #[must_use]
    pub fn path_counts(&self) -> PathCounts {
        self.parts.guard.observer.path_counts()
    }

    /// How many used refresh tokens came back, since this layer was made.
    #[must_use]
    pub fn token_counts(&self) -> TokenCounts {
        self.parts.guard.observer.token_counts()
    }

    /// The endpoints that issue and renew tokens, sharing this layer's key and store.
    #[must_use]
    pub fn router(&self) -> TokenRouter {
        self.parts.router.clone()
    }

    /// Issues and renews tokens in code, sharing this layer's key and store.
    #[must_use]
    pub fn issuer(&self) -> TokenIssuer {
        self.parts.issuer.clone()
    }
}

#[cfg(feature = "utoipa")]
impl FastAuthLayer {
    /// Tells in an application's OpenAPI document what this layer asks for.
    pub fn openapi(&self) -> crate::OpenApiSecurity {
        crate::OpenApiSecurity::new(self.parts.guard.policy.rules.clone(), self.router())
    }
}

impl<S> Layer<S> for FastAuthLayer {
    type Service = FastAuth<S>;

    fn layer(&self, inner: S) -> FastAuth<S> {
        FastAuth::new(inner, &self.parts.guard)
    }
}
