//! A guard to test an application with.

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

/// A guard with a store in memory, a [clock](ManualClock) that stands still, and random secrets, to put before the application that
/// is tested.
///
/// Each is by itself, so that tests that run side by side do not meet.
#[derive(Clone, Debug)]
pub struct TestAuth {
    layer: FastAuthLayer,
    store: FailingStore<MemoryStore>,
    clock: ManualClock,
    master_token: Secret,
    /// With the store apart from the test.
    settings: SettingsBuilder,
    read: Read,
}

/// How a builder is made settings.
type Read = fn(SettingsBuilder) -> Result<Settings, ConfigError>;

impl TestAuth {
    /// Guards these prefixes by access tokens.
    ///
    /// # Panics
    ///
    /// Where a prefix is none.
    #[must_use]
    #[track_caller]
    pub fn new<P: Into<String>>(access_token_paths: impl IntoIterator<Item = P>) -> Self {
        Self::with(Settings::builder().access_token_paths(access_token_paths))
    }

    /// By these settings, but for the store, the clock and both secrets, which are the test's.
    ///
    /// # Panics
    ///
    /// With every fault of the settings.
    #[must_use]
    #[track_caller]
    pub fn with(settings: SettingsBuilder) -> Self {
        Self::read(settings, SettingsBuilder::build)
    }

    /// As [`with`](Self::with), with what [`SettingsBuilder::load`] reads beside: `TestAuth::load(Settings::builder())` guards what
    /// `FastAuthLayer::from_config()` does. The environment counts, unless the builder is told
    /// [otherwise](SettingsBuilder::environment).
    ///
    /// # Panics
    ///
    /// With every fault of the settings.
    #[must_use]
    #[track_caller]
    pub fn load(settings: SettingsBuilder) -> Self {
        Self::read(settings, SettingsBuilder::load)
    }

    #[track_caller]
    fn read(settings: SettingsBuilder, read: Read) -> Self {
        let (clock, master_token) = (ManualClock::new(), Secret::generate());
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

    /// The guard, as the application takes it; its [router](FastAuthLayer::router) and its [issuer](FastAuthLayer::issuer)
    /// come of it as ever.
    #[must_use]
    pub fn layer(&self) -> FastAuthLayer {
        self.layer.clone()
    }

    /// What the guard asks, to be told to fail.
    #[must_use]
    pub fn store(&self) -> &FailingStore<MemoryStore> {
        &self.store
    }

    /// The time of the guard and of the store.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The master token of this guard.
    #[must_use]
    pub fn master_token(&self) -> &Secret {
        &self.master_token
    }

    /// An access token for a client, once it is awaited: `auth.token("alice").await`.
    ///
    /// As ever it takes the place of those that the client had, unless
    /// [`many_tokens_per_client`](SettingsBuilder::many_tokens_per_client) is set. It can be had while the
    /// [store](Self::store) fails, and is not among the calls that are counted.
    pub fn token(&self, client_id: impl Into<String>) -> TestToken<'_> {
        let (client_id, claims) = (client_id.into(), Map::new());
        TestToken { auth: self, client_id, claims, lifetime: None, expired: false, forged: false }
    }
}

/// A token to be issued: what [`TestAuth::token`] begins. Awaiting it gives the access token.
///
/// # Panics
///
/// When it is awaited and not issued: where the client id is none, a claim's name is reserved, the lifetime is out of its range, or
/// the [`ClaimsHook`](crate::ClaimsHook) refuses.
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
    /// With the claim `scope`: names with spaces between them.
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// With a claim of the application's, which a [`ClaimsHook`](crate::ClaimsHook) may change.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// With another lifetime than `access-ttl`, in whole seconds.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Issued so long ago that its last second is over; that of the refresh token, too.
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// As somebody makes it who does not have the key: signed by another one, and held by no store.
    pub fn forged(mut self) -> Self {
        self.forged = true;
        self
    }

    /// The refresh token of the pair.
    pub async fn refresh_token(self) -> Secret {
        self.pair().await.tokens.refresh_token
    }

    /// Both tokens, and what else is known of them.
    pub async fn pair(self) -> IssuedTokens {
        match self.issuer().issue_with(&self.client_id, self.claims.clone()).await {
            Ok(issued) => issued,
            Err(error) => panic!("no token was issued to {:?}: {}", self.client_id, with_causes(&error)),
        }
    }

    /// An issuer of the guard's own kind, who writes to its store past what the test has told that to do.
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

    /// What is valid at one step of a request is so at the next.
    #[tokio::test]
    async fn a_request_reads_the_time_once() {
        let auth = TestAuth::new(["/access"]);
        let service =
            auth.layer().layer(service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<&[u8]>::default()))));
        let token = auth.token("c").await;
        auth.clock().reads();
        let request = Request::get("/access").access_token(&token).body(()).unwrap();
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), StatusCode::OK);
        assert_eq!(auth.clock().reads(), 1);

        let (clock, settings) = (ManualClock::new(), auth.settings.clone());
        // Its store has a clock of its own, and is not a part of this.
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
