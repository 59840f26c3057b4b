//! A guard for the tests of an application.

use std::{
    error::Error,
    future::{Future, IntoFuture},
    pin::Pin,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use super::{FailingStore, ManualClock};
use crate::{
    FastAuthLayer, IssuedTokens, Secret, Settings, SettingsBuilder, TokenIssuer, config::ConfigError,
    store::MemoryStore,
};

/// A guard for the application under test, with a store in memory, a [clock](ManualClock) that stands still, and random secrets.
///
/// Every guard has its own, so tests can run side by side.
#[derive(Clone, Debug)]
pub struct TestAuth {
    layer: FastAuthLayer,
    store: FailingStore<MemoryStore>,
    clock: ManualClock,
    master_token: Secret,
    /// The settings with a store that neither fails nor counts.
    settings: SettingsBuilder,
    read: Read,
}

/// The method that turns a builder into settings.
type Read = fn(SettingsBuilder) -> Result<Settings, ConfigError>;

impl TestAuth {
    /// Creates a guard that requires an access token below these prefixes.
    ///
    /// # Panics
    ///
    /// If a prefix is invalid.
    #[must_use]
    #[track_caller]
    pub fn new<P: Into<String>>(access_token_paths: impl IntoIterator<Item = P>) -> Self {
        Self::with(Settings::builder().access_token_paths(access_token_paths))
    }

    /// Creates a guard with these settings, except for the store, the clock and both secrets.
    ///
    /// # Panics
    ///
    /// If the settings are invalid, with every fault.
    #[must_use]
    #[track_caller]
    pub fn with(settings: SettingsBuilder) -> Self {
        Self::read(settings, SettingsBuilder::build)
    }

    /// Creates a guard as [`with`](Self::with) does, and also reads what [`SettingsBuilder::load`] reads:
    /// `TestAuth::load(Settings::builder())` guards the same paths as `FastAuthLayer::from_config()`. Variables are read, unless the
    /// builder says [otherwise](SettingsBuilder::environment).
    ///
    /// # Panics
    ///
    /// If the settings are invalid, with every fault.
    #[must_use]
    #[track_caller]
    pub fn load(settings: SettingsBuilder) -> Self {
        Self::read(settings, SettingsBuilder::load)
    }

    #[track_caller]
    fn read(settings: SettingsBuilder, read: Read) -> Self {
        let clock = ManualClock::new();
        let master_token = Secret::generate();
        let store = FailingStore::new(MemoryStore::with_clock(&clock));
        let settings = settings.cryptography_key(Secret::generate()).master_token(master_token.clone()).clock(&clock);
        let layer = match read(settings.clone().store(store.clone())).map(Settings::quiet).and_then(FastAuthLayer::new)
        {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        };
        let settings = settings.store(store.apart());
        Self { layer, store, clock, master_token, settings, read }
    }

    /// Returns the guard as the application takes it, with its [router](FastAuthLayer::router) and [issuer](FastAuthLayer::issuer).
    #[must_use]
    pub fn layer(&self) -> FastAuthLayer {
        self.layer.clone()
    }

    /// Returns the store of the guard, which can be made to fail.
    #[must_use]
    pub fn store(&self) -> &FailingStore<MemoryStore> {
        &self.store
    }

    /// Returns the clock of the guard and of the store.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Returns the master token of the guard.
    #[must_use]
    pub fn master_token(&self) -> &Secret {
        &self.master_token
    }

    /// Issues an access token to a client when it is awaited: `auth.token("alice").await`.
    ///
    /// As in production, it ends the client's earlier session, unless
    /// [`tokens_per_client`](SettingsBuilder::tokens_per_client) is `Many`. It works while the [store](Self::store) fails, and its
    /// calls of the store are not counted.
    pub fn token(&self, client_id: impl Into<String>) -> TestToken<'_> {
        TestToken {
            auth: self,
            client_id: client_id.into(),
            claims: Map::new(),
            lifetime: None,
            expired: false,
            forged: false,
        }
    }
}

/// A token to be issued by [`TestAuth::token`]. Awaiting it returns the access token.
///
/// # Panics
///
/// Awaiting it panics if the client id is invalid, the name of a claim is reserved, the lifetime is out of range, or the
/// [`ClaimsHook`](crate::ClaimsHook) refuses.
#[derive(Clone, Debug)]
#[must_use = "nothing is issued before it is awaited"]
pub struct TestToken<'a> {
    auth: &'a TestAuth,
    client_id: String,
    claims: Map<String, Value>,
    lifetime: Option<Duration>,
    expired: bool,
    forged: bool,
}

impl<'a> TestToken<'a> {
    /// Sets the claim `scope`: names separated by spaces.
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// Sets a claim of the application, which a [`ClaimsHook`](crate::ClaimsHook) may change.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Sets another lifetime than `access-ttl`, in whole seconds.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Makes the token expired, and the refresh token, too.
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Makes the token a forgery: signed by another key and unknown to the store.
    pub fn forged(mut self) -> Self {
        self.forged = true;
        self
    }

    /// Issues the pair, and returns its refresh token.
    pub async fn refresh_token(self) -> Secret {
        self.pair().await.tokens.refresh_token
    }

    /// Issues the pair, and returns both tokens with their data.
    pub async fn pair(self) -> IssuedTokens {
        match self.issuer().issue_with(&self.client_id, self.claims.clone()).await {
            Ok(issued) => issued,
            Err(error) => panic!("no token was issued to {:?}: {}", self.client_id, with_causes(&error)),
        }
    }

    /// Creates an issuer that writes to the guard's store even while that fails.
    fn issuer(&self) -> TokenIssuer {
        /// Short, so that not even a clock that stands near the epoch is set back before it.
        const SECOND: Duration = Duration::from_secs(1);
        let mut settings = self.auth.settings.clone();
        if let Some(lifetime) = self.lifetime {
            settings = settings.access_ttl(lifetime);
        }
        if self.expired {
            let past = ManualClock::at(self.auth.clock.now() - 2 * SECOND);
            settings = settings.access_ttl(SECOND).refresh_ttl(SECOND).clock(&past);
        }
        if self.forged {
            let keys: [Secret; 0] = [];
            settings = settings.cryptography_key(Secret::generate()).previous_cryptography_keys(keys);
            settings = settings.cryptography_key_signs_from(UNIX_EPOCH).store(MemoryStore::new());
        }
        match (self.auth.read)(settings).map(Settings::without_warnings).and_then(FastAuthLayer::new) {
            Ok(layer) => layer.issuer(),
            Err(error) => panic!("no token was issued to {:?}: {error}", self.client_id),
        }
    }
}

impl<'a> IntoFuture for TestToken<'a> {
    type Output = Secret;
    type IntoFuture = Pin<Box<dyn Future<Output = Secret> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.pair().await.tokens.access_token })
    }
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::test_util::WithCredentials;

    // A token that is valid at one step of a request is valid at the next.
    #[tokio::test]
    async fn request_reads_the_time_once() {
        let auth = TestAuth::new(["/access"]);
        let service =
            auth.layer().layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<&[u8]>::default()))));
        let token = auth.token("c").await;
        auth.clock().reads();
        let request = Request::get("/access").access_token(&token).body(()).unwrap();
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), StatusCode::OK);
        assert_eq!(auth.clock().reads(), 1);

        let (clock, settings) = (ManualClock::new(), auth.settings.clone());
        // Its store has its own clock.
        let settings = settings.clock(&clock).store(MemoryStore::new()).build().unwrap();
        let layer = FastAuthLayer::new(settings).unwrap();
        clock.reads();
        let issuer = layer.issuer();
        let pair = issuer.issue("c").await.unwrap().tokens;
        assert_eq!(clock.reads(), 1);
        let pair = issuer.refresh(pair.refresh_token.expose()).await.unwrap().tokens;
        assert_eq!(clock.reads(), 1);
        issuer.introspect(pair.refresh_token.expose()).await.unwrap();
        assert_eq!(clock.reads(), 1);
        for (path, name) in [("/auth/token/refresh", "refresh_token"), ("/auth/token/revoke", "token")] {
            let form: Full<bytes::Bytes> = Full::from(format!("{name}={}", pair.refresh_token.expose()));
            let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
            let response = layer.router().oneshot(request.body(form).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(clock.reads(), 1, "{path}");
        }
    }
}
