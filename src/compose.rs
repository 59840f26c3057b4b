//! The composition root: settings become running parts. It is the only file that knows all of them.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak},
    time::Duration,
};

use fastauth_config::{Digests, Lasting as AtStart, announce, announce_fault};
use fastauth_core::{
    keys::CurrentKeys,
    settings::{Caching, Deployment, RateLimit, Reload},
};
use tokio::sync::watch;

use crate::{
    check::{
        admission::{Admission, Admitted, Reconsider},
        cache::TokenCache,
        confirm::Confirmer,
        grace,
        lifetime::{Lifetimes, TokenReader},
        live::{Current, Reloads, Replaced},
        master::{GuessLimit, MasterTokens},
        problem::ErrorForm,
        refuse::Refusals,
        terms::{Judge, Terms},
    },
    config::{ConfigError, ConfiguredKeys, Settings, SettingsBuilder},
    guard::{Guard, Policy},
    observe::{Counts, ObservedStore, Observer},
    store::{self, StoreHealth, TokenStore},
    tokens::{
        RouterParts,
        issued::Delivery,
        issuer::{Issuer, IssuerParts},
        limit::Limits,
        rotation::Rotations,
    },
};

mod looking;

use looking::Waiting;

/// The place of the running parts, which a reload replaces all at once.
#[derive(Debug)]
pub(crate) struct Live {
    set: RwLock<Arc<Set>>,
    /// The number of the set, for what waits for another one.
    numbers: watch::Sender<u64>,
    lasting: Lasting,
    /// Held while a set is made and put in place, so that the last one that is read stays.
    reload: Mutex<()>,
    /// What waits for signals, if something does.
    waiting: OnceLock<Waiting>,
}

const NOTHING_TO_READ: &str =
    "`reload` has no effect, for the settings are made in code alone: call `FastAuthLayer::reload_with`";

/// What goes on through reloads.
#[derive(Debug)]
struct Lasting {
    /// What cannot change.
    at_start: AtStart,
    /// What reads the sources again, if there are any but code.
    sources: Option<SettingsBuilder>,
    store: Arc<dyn TokenStore>,
    /// The keys by which the store opens tokens.
    keys: Arc<CurrentKeys>,
    health: Arc<StoreHealth>,
    rotations: Rotations,
    counts: Arc<Counts>,
    reloads: Arc<Reloads>,
}

/// The running parts of one configuration.
#[derive(Debug)]
struct Set {
    guard: Arc<Guard>,
    router: Arc<RouterParts>,
    keys: ConfiguredKeys,
    digests: Digests,
    basis: Basis,
}

/// Where a set is found, and which one it is.
struct Place {
    live: Weak<dyn Reconsider>,
    number: u64,
}

/// The parts that have a state which goes on through a reload, if what they are made of stays the same.
#[derive(Clone, Debug)]
struct Stateful {
    lifetimes: Arc<Lifetimes>,
    cache: Option<Arc<TokenCache>>,
    limits: Option<Arc<Limits>>,
}

/// What the stateful parts of a set are made of, with them.
#[derive(Debug)]
struct Basis {
    parts: Stateful,
    recheck: Duration,
    access_grace: Duration,
    caching: Caching,
    kids: Vec<String>,
    /// How long a token of it can be valid.
    token_lifetime: Duration,
    issuer: Option<String>,
    audience: Option<String>,
    rate_limit: Option<RateLimit>,
}

impl Live {
    /// Opens the store, wires the parts, logs what is guarded, and starts to look for changes if that is configured.
    pub(crate) fn start(settings: &Settings) -> Result<Arc<Self>, ConfigError> {
        let keys = Arc::new(CurrentKeys::new(settings.keys().ring()));
        let opened = store::open_with(settings, &keys)?;
        let mut deployment = settings.deployment().clone();
        if settings.sources().is_none() && deployment.reload != Reload::Off {
            deployment.warnings.push(NOTHING_TO_READ.to_owned());
        }
        announce(&deployment);
        let store: Arc<dyn TokenStore> = Arc::new(ObservedStore::new(opened, deployment.metrics));
        let lasting = Lasting {
            at_start: settings.lasting(),
            sources: settings.sources().cloned(),
            health: Arc::new(StoreHealth::new(Arc::clone(&store))),
            store,
            keys,
            rotations: Rotations::default(),
            counts: Arc::default(),
            reloads: Arc::default(),
        };
        grace::warn_if_unkept(&lasting.store, deployment.issuing.access_grace);
        let when = deployment.reload;
        let live = Arc::new_cyclic(|live: &Weak<Self>| {
            let place = Place { live: live.clone(), number: 0 };
            let set = Set::new(deployment, settings.keys().clone(), settings.digests().clone(), &lasting, place, None);
            Self {
                set: RwLock::new(Arc::new(set)),
                numbers: watch::Sender::new(0),
                lasting,
                reload: Mutex::default(),
                waiting: OnceLock::new(),
            }
        });
        if let Some(sources) = settings.sources() {
            let started = looking::start(&live, when, sources.clone(), settings.files().clone());
            let waiting = started.map_err(|error| settings.reload_fault(&error))?;
            live.waiting.get_or_init(|| waiting);
        }
        Ok(live)
    }

    /// Reads the sources of the start again, and replaces the running parts by what they say.
    pub(crate) fn reload_sources(&self) -> Result<(), ConfigError> {
        self.reload(|| match &self.lasting.sources {
            Some(sources) => sources.clone().load(),
            None => Err(Settings::nothing_to_read()),
        })
    }

    /// Reads settings and replaces the running parts by theirs. Concurrent calls read one after another, so that the set of the one
    /// that reads last stays.
    pub(crate) fn reload(&self, read: impl FnOnce() -> Result<Settings, ConfigError>) -> Result<(), ConfigError> {
        self.reload_if(|| Some(read())).unwrap_or(Ok(()))
    }

    /// Does the same, unless `read` returns `None`.
    fn reload_if(
        &self,
        read: impl FnOnce() -> Option<Result<Settings, ConfigError>>,
    ) -> Option<Result<(), ConfigError>> {
        let _reloading = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.set();
        let outcome = read()?.and_then(|settings| self.replace(settings, &before)).map_err(ConfigError::of_reload);
        self.lasting.reloads.note(outcome.is_ok());
        self.set().guard.terms.observer.count_reload(outcome.is_ok());
        match &outcome {
            Ok(()) => announce_reload(&before.digests, &self.set().digests),
            Err(error) => announce_fault(error),
        }
        Some(outcome)
    }

    fn replace(&self, settings: Settings, before: &Set) -> Result<(), ConfigError> {
        settings.check_lasting(&self.lasting.at_start)?;
        let settings = settings.after(&before.keys, before.basis.token_lifetime);
        let keys = settings.keys().clone();
        let digests = settings.digests().clone();
        let mut deployment = settings.into_deployment();
        keep_what_code_set(&mut deployment, before);
        announce(&deployment);
        if deployment.issuing.access_grace != before.basis.access_grace {
            grace::warn_if_unkept(&self.lasting.store, deployment.issuing.access_grace);
        }
        self.lasting.keys.set(Arc::clone(&deployment.keys));
        let terms = &before.guard.terms;
        let place = Place { live: terms.live.clone(), number: terms.number + 1 };
        let set = Arc::new(Set::new(deployment, keys, digests, &self.lasting, place, Some(&before.basis)));
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&set);
        before.guard.replaced.mark();
        self.numbers.send_replace(set.guard.terms.number);
        set.basis.drop_what_was_left(&before.basis);
        Ok(())
    }

    fn set(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Logs which keys a reload has changed, without their values.
fn announce_reload(before: &Digests, now: &Digests) {
    let changed = now.changed(before);
    if changed.is_empty() {
        tracing::info!(target: "fastauth", "the configuration was reloaded: no key has changed");
    } else {
        tracing::info!(target: "fastauth", "the configuration was reloaded: changed {}", changed.join(", "));
    }
}

/// Takes over the application's functions from the set before, as far as the new settings have none: settings that do not repeat a check
/// must not take it away.
fn keep_what_code_set(deployment: &mut Deployment, before: &Set) {
    let hooks = &before.guard.terms.hooks;
    if deployment.hooks.access_check.is_none() {
        deployment.hooks.access_check.clone_from(&hooks.access_check);
    }
    if deployment.hooks.on_reject.is_none() {
        deployment.hooks.on_reject.clone_from(&hooks.on_reject);
    }
    if deployment.issuing.claims_hook.is_none() {
        deployment.issuing.claims_hook.clone_from(&before.router.issuer.issuing().claims_hook);
    }
    let caller = before.basis.rate_limit.as_ref().and_then(|limit| limit.caller.clone());
    if let Some(limit) = deployment.endpoints.rate_limit.as_mut().filter(|limit| limit.caller.is_none()) {
        limit.caller = caller;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.get() {
            looking::stop(waiting);
        }
    }
}

impl Current<Guard> for Live {
    fn current(&self) -> Arc<Guard> {
        Arc::clone(&self.set().guard)
    }
}

impl Current<RouterParts> for Live {
    fn current(&self) -> Arc<RouterParts> {
        Arc::clone(&self.set().router)
    }
}

impl Reconsider for Live {
    fn numbers(&self) -> watch::Receiver<u64> {
        self.numbers.subscribe()
    }

    fn still_admits(&self, admission: &Admission, credentials: Admitted<'_>) -> bool {
        self.set().guard.still_admits(admission, credentials)
    }
}

impl Set {
    fn new(
        deployment: Deployment,
        keys: ConfiguredKeys,
        digests: Digests,
        lasting: &Lasting,
        place: Place,
        before: Option<&Basis>,
    ) -> Self {
        let observer = Arc::new(Observer::new(&deployment, &lasting.counts));
        let basis = Basis::new(&deployment, lasting, before);
        let Stateful { lifetimes, cache, limits } = basis.parts.clone();
        let confirmer = Arc::new(Confirmer {
            keys: Arc::clone(&deployment.keys),
            clock: deployment.clock.clone(),
            cache,
            lifetimes,
            store: Arc::clone(&lasting.store),
            issuer: deployment.issuing.issuer.clone(),
            audience: deployment.issuing.audience.clone(),
            observer: Arc::clone(&observer),
        });
        let guesses = limits.as_ref().filter(|limits| limits.tell_callers_apart());
        let guesses = guesses.map(|limits| Arc::clone(limits) as Arc<dyn GuessLimit>);
        let master = Arc::new(MasterTokens::new(&deployment.master_tokens, guesses));
        let refusals = Arc::new(Refusals::new(
            deployment.app_name.clone(),
            deployment.credential_sources,
            ErrorForm::new(&deployment.endpoints),
        ));
        let issuer = Issuer::new(IssuerParts {
            keys: Arc::clone(&deployment.keys),
            clock: deployment.clock.clone(),
            store: Arc::clone(&lasting.store),
            delivery: Delivery {
                shape: deployment.endpoints.response_shape,
                cookie_age: deployment.endpoints.uses_cookie().then_some(deployment.issuing.refresh_ttl),
                same_site: deployment.endpoints.cookie_same_site,
            },
            issuing: deployment.issuing,
            refusals: Arc::clone(&refusals),
            rotations: lasting.rotations.clone(),
            confirmer: Arc::clone(&confirmer),
            observer: Arc::clone(&observer),
        });
        let router = RouterParts {
            issuer,
            store: Arc::clone(&lasting.store),
            options: deployment.endpoints,
            origins: deployment.allowed_origins.clone(),
            limits,
            sources: deployment.credential_sources,
            master: Arc::clone(&master),
            confirmer: Arc::clone(&confirmer),
            refusals: Arc::clone(&refusals),
            health: Arc::clone(&lasting.health),
            reloads: Arc::clone(&lasting.reloads),
            observer: Arc::clone(&observer),
            document: Default::default(),
        };
        let guard = Guard {
            replaced: Replaced::default(),
            policy: Policy {
                rules: deployment.rules,
                origins: deployment.allowed_origins,
                sources: deployment.credential_sources,
            },
            master,
            confirmer,
            terms: Arc::new(Terms {
                judge: Judge { clock: deployment.clock, service: deployment.service_test, at: None },
                number: place.number,
                live: place.live,
                refusals,
                #[cfg(feature = "websocket")]
                websocket_refusal: deployment.websocket.refusal,
                hooks: deployment.hooks,
                observer,
                shadow: deployment.shadow,
            }),
        };
        Self { guard: Arc::new(guard), router: Arc::new(router), keys, digests, basis }
    }
}

impl Basis {
    /// Makes the stateful parts, or takes those of the set before.
    fn new(deployment: &Deployment, lasting: &Lasting, before: Option<&Self>) -> Self {
        let issuing = &deployment.issuing;
        let lifetimes = || {
            let store = Arc::clone(&lasting.store);
            let reader = TokenReader {
                keys: Arc::clone(&lasting.keys),
                issuer: issuing.issuer.clone(),
                audience: issuing.audience.clone(),
            };
            let recheck = deployment.websocket.recheck;
            Arc::new(Lifetimes::new(store, reader, deployment.clock.clone(), recheck, issuing.access_grace))
        };
        let parts = Stateful {
            lifetimes: lifetimes(),
            cache: token_cache(deployment.caching, &*lasting.store).map(Arc::new),
            limits: Limits::from_settings(deployment.endpoints.rate_limit.as_ref(), &deployment.clock),
        };
        let mut basis = Self {
            parts,
            recheck: deployment.websocket.recheck,
            access_grace: issuing.access_grace,
            caching: deployment.caching,
            kids: deployment.keys.kids().map(str::to_owned).collect(),
            token_lifetime: issuing.access_ttl.max(issuing.refresh_ttl),
            issuer: issuing.issuer.clone(),
            audience: issuing.audience.clone(),
            rate_limit: deployment.endpoints.rate_limit.clone(),
        };
        if let Some(before) = before {
            basis.take_over(before);
        }
        basis
    }

    /// Takes the state of the set before, as far as it counts here, too.
    fn take_over(&mut self, before: &Self) {
        let asks_the_same = (&self.issuer, &self.audience) == (&before.issuer, &before.audience);
        let lifetimes_are_same =
            asks_the_same && (self.recheck, self.access_grace) == (before.recheck, before.access_grace);
        if lifetimes_are_same {
            self.parts.lifetimes = Arc::clone(&before.parts.lifetimes);
        }
        // What an earlier key has signed is still accepted.
        let keeps_keys = before.kids.iter().all(|kid| self.kids.contains(kid));
        if lifetimes_are_same && keeps_keys && self.caching == before.caching {
            self.parts.cache.clone_from(&before.parts.cache);
        }
        let limits_are_same =
            self.rate_limit.as_ref().zip(before.rate_limit.as_ref()).is_some_and(|(now, before)| now.is_same(before));
        if limits_are_same {
            self.parts.limits.clone_from(&before.parts.limits);
        }
    }

    /// Empties the cache of the set before, unless it was taken over: idle connections may keep that set for long.
    fn drop_what_was_left(&self, before: &Self) {
        let Some(cache) = &before.parts.cache else { return };
        if !self.parts.cache.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, cache)) {
            cache.clear();
        }
    }
}

/// Creates a cache if the store reports changes or may come to, or if `cache-ttl` lets its answers be cached for a time.
fn token_cache(caching: Caching, store: &dyn TokenStore) -> Option<TokenCache> {
    let changes = store.changes()?;
    let ttl = if changes.tells_of_others() { Duration::ZERO } else { caching.ttl };
    let grace = if changes.looks_at_ages() { caching.grace } else { Duration::ZERO };
    let is_useful = changes.may_tell_of_others() || !ttl.is_zero() || !grace.is_zero();
    (caching.on && is_useful).then(|| TokenCache::new(caching.capacity, ttl).with_grace(grace))
}
