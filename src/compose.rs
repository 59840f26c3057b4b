//! The composition root: settings become running parts. It is the only file that knows all of them.

use std::{sync::Arc, time::Duration};

use fastauth_config::announce;
use fastauth_core::settings::{Caching, Deployment};

use crate::{
    check::{
        cache::TokenCache,
        confirm::Confirmer,
        grace,
        lifetime::Lifetimes,
        master::{GuessLimit, MasterTokens},
        refuse::Refusals,
    },
    config::{ConfigError, Settings},
    guard::{Guard, Policy},
    observe::{ObservedStore, Observer},
    store::{self, StoreHealth, TokenStore},
    tokens::{
        RouterParts, TokenRouter,
        issued::Delivery,
        issuer::{IssuerParts, TokenIssuer},
        limit::Limits,
        rotation::Rotations,
    },
};

/// The running parts that the layer hands out.
#[derive(Debug)]
pub(crate) struct RunningParts {
    pub(crate) guard: Arc<Guard>,
    pub(crate) issuer: TokenIssuer,
    pub(crate) router: TokenRouter,
}

/// The parts that guard and token endpoints share.
struct Shared {
    store: Arc<dyn TokenStore>,
    observer: Arc<Observer>,
    confirmer: Arc<Confirmer>,
    limits: Option<Arc<Limits>>,
    master: Arc<MasterTokens>,
    refusals: Arc<Refusals>,
}

impl RunningParts {
    /// Opens the store, wires the parts, and logs what is guarded.
    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let store = store::open(&settings)?;
        let deployment = settings.into_deployment();
        announce(&deployment);
        let shared = Shared::new(&deployment, store);
        let issuer = issuer(&deployment, &shared);
        let router = router(&deployment, &shared, &issuer);
        Ok(Self { guard: Arc::new(guard(deployment, shared)), issuer, router })
    }
}

impl Shared {
    fn new(deployment: &Deployment, store: Arc<dyn TokenStore>) -> Self {
        let store: Arc<dyn TokenStore> = Arc::new(ObservedStore::new(store, deployment.metrics));
        let observer = Arc::new(Observer::new(
            &deployment.rules,
            deployment.shadow,
            deployment.metrics,
            deployment.log_details.clone(),
        ));
        let clock = &deployment.clock;
        let grace = deployment.issuing.access_grace;
        grace::warn_if_unkept(&store, grace);
        let lifetimes = Lifetimes::new(Arc::clone(&store), clock.clone(), deployment.websocket.recheck, grace);
        let confirmer = Confirmer {
            keys: Arc::clone(&deployment.keys),
            clock: clock.clone(),
            cache: token_cache(deployment.caching, &*store),
            lifetimes: Arc::new(lifetimes),
            store: Arc::clone(&store),
            issuer: deployment.issuing.issuer.clone(),
            audience: deployment.issuing.audience.clone(),
            observer: Arc::clone(&observer),
        };
        let limits = Limits::from_settings(deployment.endpoints.rate_limit.as_ref(), clock);
        let guesses = limits.as_ref().filter(|limits| limits.tell_callers_apart());
        let guesses = guesses.map(|limits| Arc::clone(limits) as Arc<dyn GuessLimit>);
        let master = MasterTokens::new(&deployment.master_tokens, guesses);
        let refusals = Refusals::new(
            deployment.app_name.clone(),
            deployment.credential_sources,
            deployment.endpoints.response_shape,
        );
        Self {
            store,
            observer,
            confirmer: Arc::new(confirmer),
            limits,
            master: Arc::new(master),
            refusals: Arc::new(refusals),
        }
    }
}

/// Creates a cache if the store reports changes, or if `cache-ttl` lets its answers be cached for a time.
fn token_cache(caching: Caching, store: &dyn TokenStore) -> Option<TokenCache> {
    let tells_of_others = store.changes()?.tells_of_others();
    let ttl = if tells_of_others { Duration::ZERO } else { caching.ttl };
    let is_useful = tells_of_others || !ttl.is_zero();
    (caching.on && is_useful).then(|| TokenCache::new(caching.capacity, ttl))
}

fn issuer(deployment: &Deployment, shared: &Shared) -> TokenIssuer {
    TokenIssuer::new(IssuerParts {
        keys: Arc::clone(&deployment.keys),
        clock: deployment.clock.clone(),
        store: Arc::clone(&shared.store),
        issuing: deployment.issuing.clone(),
        delivery: Delivery {
            shape: deployment.endpoints.response_shape,
            cookie_age: deployment.endpoints.uses_cookie().then_some(deployment.issuing.refresh_ttl),
            same_site: deployment.endpoints.cookie_same_site,
        },
        refusals: Arc::clone(&shared.refusals),
        rotations: Rotations::default(),
        confirmer: Arc::clone(&shared.confirmer),
        observer: Arc::clone(&shared.observer),
    })
}

fn router(deployment: &Deployment, shared: &Shared, issuer: &TokenIssuer) -> TokenRouter {
    TokenRouter::new(RouterParts {
        issuer: issuer.clone(),
        store: Arc::clone(&shared.store),
        options: deployment.endpoints.clone(),
        origins: deployment.allowed_origins.clone(),
        limits: shared.limits.clone(),
        sources: deployment.credential_sources,
        master: Arc::clone(&shared.master),
        confirmer: Arc::clone(&shared.confirmer),
        refusals: Arc::clone(&shared.refusals),
        health: StoreHealth::new(Arc::clone(&shared.store)),
        observer: Arc::clone(&shared.observer),
        document: Default::default(),
    })
}

fn guard(deployment: Deployment, shared: Shared) -> Guard {
    Guard {
        policy: Policy {
            rules: deployment.rules,
            origins: deployment.allowed_origins,
            sources: deployment.credential_sources,
        },
        shadow: deployment.shadow,
        #[cfg(feature = "websocket")]
        websocket_refusal: deployment.websocket.refusal,
        master: shared.master,
        confirmer: shared.confirmer,
        refusals: shared.refusals,
        observer: shared.observer,
    }
}
