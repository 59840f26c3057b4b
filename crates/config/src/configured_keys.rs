//! The keys as they are configured.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fastauth_core::{
    clock::Clock,
    keys::{KeyRing, Reform, Reforming, StoreFormat},
    secret::Secret,
    token::InvalidKey,
};

use crate::fault::Source;

/// The keys of a configuration: which one signs, which ones verify, and how to change them. They themselves are not
/// shown.
#[derive(Clone)]
pub struct ConfiguredKeys {
    #[cfg_attr(not(feature = "edit"), allow(dead_code, reason = "only changes of keys need it"))]
    pub(crate) newest: Secret,
    /// When the newest begins to sign, since the Unix epoch.
    signs_from: u64,
    pub(crate) previous: Vec<Secret>,
    retired: Vec<RetiredKey>,
    /// When all tokens have expired that were issued before these settings, since the Unix epoch.
    earlier_end_at: u64,
    pub(crate) ring: Arc<KeyRing>,
    clock: Clock,
    pub(crate) sources: KeySources,
}

/// A key that stood in the file of the key before another one did. It verifies as the previous keys do.
#[derive(Clone)]
struct RetiredKey {
    key: Secret,
    /// When all tokens of it have expired, since the Unix epoch.
    ends_at: u64,
}

/// Where each of the settings stands.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "edit"), allow(dead_code, reason = "only changes of keys need it"))]
pub(crate) struct KeySources {
    pub(crate) key: Source,
    pub(crate) previous: Source,
    pub(crate) signs_from: Source,
}

/// A key without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The key's id, which tokens name as `kid`. It tells nothing of the key that a token does not.
    pub kid: String,
    /// What the key does.
    pub role: KeyRole,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// It signs, and verifies.
    Signs,
    /// It verifies now, and signs from then on.
    SignsFrom(SystemTime),
    /// It verifies.
    Verifies,
}

impl ConfiguredKeys {
    pub(crate) fn new(
        newest: Secret,
        signs_from: u64,
        previous: Vec<Secret>,
        sources: KeySources,
        clock: Clock,
    ) -> Result<Self, InvalidKey> {
        let ring = Arc::new(KeyRing::new(&newest, signs_from, &previous)?);
        Ok(Self { newest, signs_from, previous, retired: Vec::new(), earlier_end_at: 0, ring, clock, sources })
    }

    /// Keeps the keys that these replace, if both are in the file that a setting names: what was in it before verifies for as long as
    /// its tokens can be valid, of which those of the last settings live for `lifetime`. Keys that stand elsewhere are listed there by hand.
    pub(crate) fn after(mut self, before: &Self, lifetime: Duration) -> Self {
        let now = self.clock.unix_now();
        // The settings before the last may have had a longer lifetime, and the same key.
        self.earlier_end_at = before.earlier_end_at.max(now.saturating_add(lifetime.as_secs()));
        let are_in_files = [&self, before].iter().all(|keys| matches!(keys.sources.key, Source::SecretFile(..)));
        if !are_in_files {
            return self;
        }
        let replaced = RetiredKey { key: before.newest.clone(), ends_at: self.earlier_end_at };
        let mut retired: Vec<_> = std::iter::once(replaced).chain(before.retired.iter().cloned()).collect();
        retired.retain(|old| old.ends_at > now && old.key != self.newest && !self.previous.contains(&old.key));
        // The first of them signs while a new key waits: no key that was replaced does.
        let verifying: Vec<_> =
            self.previous.iter().cloned().chain(retired.iter().map(|old| old.key.clone())).collect();
        // They were usable when they were read.
        if let Ok(ring) = KeyRing::new(&self.newest, self.signs_from, &verifying) {
            self.ring = Arc::new(ring);
            self.retired = retired;
        }
        self
    }

    /// Returns what signs and verifies.
    #[doc(hidden)]
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring)
    }

    /// Returns all keys: `cryptography-key`, and then the previous ones as they are configured.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        self.ring
            .kids()
            .enumerate()
            .map(|(number, kid)| {
                let role = match (number, self.waits_until()) {
                    (0, Some(from)) => KeyRole::SignsFrom(from),
                    (0, None) | (1, Some(_)) => KeyRole::Signs,
                    _ => KeyRole::Verifies,
                };
                KeyInfo { kid: kid.to_owned(), role }
            })
            .collect()
    }

    /// Returns where `cryptography-key` stands.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.sources.key
    }

    /// Returns true if the key of this id may have signed what a store keeps as a token: unless another one has for certain, or
    /// it is no token of these keys.
    #[must_use]
    pub fn may_have_signed(&self, kid: &str, kept: &Secret) -> bool {
        self.ring.may_have_signed(kid, kept)
    }

    /// Returns true if tokens can be encrypted now: if the key that signs is a Fernet key.
    #[must_use]
    pub fn can_encrypt(&self) -> bool {
        self.ring.seal(&Secret::from("test"), self.clock.unix_now()).is_some()
    }

    /// Returns until when the newest key does not sign.
    pub(crate) fn waits_until(&self) -> Option<SystemTime> {
        let waits = !self.previous.is_empty() && self.clock.unix_now() < self.signs_from;
        waits.then(|| UNIX_EPOCH + Duration::from_secs(self.signs_from))
    }
}

impl Reforming for ConfiguredKeys {
    fn can_encrypt(&self) -> bool {
        Self::can_encrypt(self)
    }

    fn reform(&self, kept: &Secret, format: StoreFormat) -> Reform {
        self.ring.reform(kept, format, self.clock.unix_now())
    }
}

impl fmt::Debug for ConfiguredKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfiguredKeys").field("keys", &self.list()).field("sources", &self.sources).finish()
    }
}
