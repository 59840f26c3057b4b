//! What is cached of the store's answers.

use std::time::Duration;

use fastauth_core::settings::CacheMode;

use crate::{
    builder::SettingsBuilder,
    draft::Draft,
    given::Given,
    key::{Choice, Group, Key, NumberLimits, TimeLimits},
};

pub(crate) static GROUP: Group = Group { title: "Cache", keys: &[&CACHE, &CACHE_CAPACITY, &CACHE_MODE, &CACHE_TTL] };

static CACHE: Key = Key::choice(
    "cache",
    &[Choice::new("on", |draft| draft.caching.on = true), Choice::new("off", |draft| draft.caching.on = false)],
)
.doc("With `off`, every request asks the store, the embedded one too (some 4 to 9 µs).");

static CACHE_CAPACITY: Key =
    Key::number("cache-capacity", NumberLimits { default: Some(65_536), min: 1, max: 100_000_000 }, |draft, tokens| {
        draft.caching.capacity = Draft::count(tokens);
    })
    .doc("How many tokens are cached, at some 600 bytes each and at most one KiB: of long tokens, fewer are cached.");

pub(crate) static CACHE_MODE: Key = Key::choice(
    "cache-mode",
    &[
        Choice::new(CacheMode::OnDemand.as_str(), |draft| draft.caching.mode = CacheMode::OnDemand),
        Choice::new(CacheMode::Replica.as_str(), |draft| draft.caching.mode = CacheMode::Replica),
    ],
)
.doc(
    "With `replica`, a node holds the digests of the current access tokens of all clients, by some 150 bytes each, if its REST store \
     has a change feed. The first request with a token then asks nothing of the store either. With other stores it has no effect.",
);

static CACHE_TTL: Key = Key::time(
    "cache-ttl",
    // A longer time is a longer time in which a revoked token opens what it opened.
    TimeLimits { default: Duration::ZERO, min: Duration::ZERO, max: Duration::from_secs(60 * 60), in_seconds: false },
    |draft, ttl| draft.caching.ttl = ttl,
)
.doc(
    "How long a token is cached with a store that does not report changes made by others, such as a REST store without a change \
     feed. A token that another process revokes is accepted for as long. Negative results are cached for as long, at most one second.",
);

impl SettingsBuilder {
    /// Caches tokens that the store confirmed until the store reports a change (`cache`). The default is on.
    #[must_use]
    pub fn cache(self, on: bool) -> Self {
        self.choose(&CACHE, if on { "on" } else { "off" })
    }

    /// Sets how many tokens are cached (`cache-capacity`). The default is 65,536, at some 600 bytes each.
    #[must_use]
    pub fn cache_capacity(self, tokens: usize) -> Self {
        self.set(&CACHE_CAPACITY, Given::count(tokens))
    }

    /// Sets what a node holds of a REST store with a change feed (`cache-mode`). The default is what it was asked for.
    #[must_use]
    pub fn cache_mode(self, mode: CacheMode) -> Self {
        self.choose(&CACHE_MODE, mode.as_str())
    }

    /// Sets how long a token is cached with a store that does not report changes made by others (`cache-ttl`): a token that
    /// another process revokes or replaces is accepted for as long. The default is not to cache. Negative results are cached for
    /// as long, at most one second.
    #[must_use]
    pub fn cache_ttl(self, ttl: Duration) -> Self {
        self.set(&CACHE_TTL, Given::Time(ttl))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::check_faults;

    #[test]
    fn faults_name_the_remedy() {
        check_faults(&[
            ("cache", json!(false), "found true or false; write \"on\" or \"off\""),
            ("cache", json!("no"), "write \"on\" or \"off\""),
            ("cache-capacity", json!(0), "0 is out of range; write a whole number from 1 to 100000000"),
            ("cache-ttl", json!("2h"), "\"2h\" is out of range; write a time from \"0s\" to \"1h\", such as \"5s\""),
        ]);
    }
}
