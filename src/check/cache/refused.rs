//! The cache of signed tokens that the store does not hold. A client that presents a replaced token again and again does not cost a
//! call to the store each time.
//!
//! It is for stores that do not report the changes of others. Those that do answer within microseconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::NoHash;
use crate::store::{Changes, Stamp, TokenDigest};

/// The longest time to live. A token that another process makes current is refused for that long.
const MAX_TTL: Duration = Duration::from_secs(1);
/// The most entries, of some 100 bytes each.
const MAX_TOKENS: usize = 4096;

/// The reason why the store refuses a signed token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It does not know the client.
    UnknownClient,
    /// It holds another token.
    NotCurrent,
}

pub(super) struct RefusedTokens {
    held: Mutex<Held>,
    ttl_ms: u64,
}

#[derive(Default)]
struct Held {
    /// By the hash of [`TokenCache`](super::TokenCache).
    entries: HashMap<u64, Entry, NoHash>,
    /// The hashes, the oldest first.
    order: VecDeque<u64>,
}

struct Entry {
    token: TokenDigest,
    mismatch: Mismatch,
    stamp: Stamp,
    asked_at_ms: u64,
}

impl RefusedTokens {
    /// Creates a cache with the `ttl` of confirmed tokens, but at most a second. Zero disables it.
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl_ms = u64::try_from(ttl.min(MAX_TTL).as_millis()).unwrap_or_default();
        Self { held: Mutex::default(), ttl_ms }
    }

    pub(super) fn find(&self, hash: u64, token: &[u8], changes: &Changes, now_ms: u64) -> Option<Mismatch> {
        let held = self.held();
        let entry = held.entries.get(&hash)?;
        let counts = now_ms.checked_sub(entry.asked_at_ms).is_some_and(|age| age < self.ttl_ms)
            && changes.unchanged_since(entry.stamp, now_ms)
            && entry.token == TokenDigest::of(token);
        counts.then_some(entry.mismatch)
    }

    pub(super) fn keep(&self, hash: u64, token: &[u8], mismatch: Mismatch, stamp: Stamp, asked_at_ms: u64) {
        if self.ttl_ms == 0 {
            return;
        }
        let entry = Entry { token: TokenDigest::of(token), mismatch, stamp, asked_at_ms };
        let mut held = self.held();
        if held.entries.insert(hash, entry).is_some() {
            return;
        }
        held.order.push_back(hash);
        if held.order.len() > MAX_TOKENS
            && let Some(oldest) = held.order.pop_front()
        {
            held.entries.remove(&oldest);
        }
    }

    /// Locks the entries. Nothing that runs while they are locked can panic halfway.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn refused(ttl: Duration) -> (RefusedTokens, Changes) {
        (RefusedTokens::new(ttl), Changes::of_shared_store())
    }

    fn keep(refused: &RefusedTokens, changes: &Changes, hash: u64, token: &str) {
        refused.keep(hash, token.as_bytes(), Mismatch::NotCurrent, changes.stamp("c"), NOW);
    }

    fn knows(refused: &RefusedTokens, changes: &Changes, token: &str, now_ms: u64) -> bool {
        refused.find(7, token.as_bytes(), changes, now_ms).is_some()
    }

    #[test]
    fn token_is_refused_for_at_most_a_second() {
        let (long, changes) = refused(Duration::from_secs(3600));
        keep(&long, &changes, 7, "t");
        assert!(knows(&long, &changes, "t", NOW) && knows(&long, &changes, "t", NOW + 999));
        assert!(!knows(&long, &changes, "t", NOW + 1000));
        assert!(!knows(&long, &changes, "t", NOW - 1), "the clock was set back");
        let (short, changes) = refused(Duration::from_millis(200));
        keep(&short, &changes, 7, "t");
        assert!(knows(&short, &changes, "t", NOW + 199) && !knows(&short, &changes, "t", NOW + 200));
        let (off, changes) = refused(Duration::ZERO);
        keep(&off, &changes, 7, "t");
        assert!(off.held().entries.is_empty());
    }

    #[test]
    fn change_of_the_client_drops_its_entries() {
        let (refused, changes) = refused(Duration::from_secs(1));
        keep(&refused, &changes, 7, "t");
        changes.client_changed("c");
        assert!(!knows(&refused, &changes, "t", NOW));
        let before = changes.stamp("c");
        changes.client_changed("c");
        refused.keep(7, b"t", Mismatch::UnknownClient, before, NOW);
        assert!(!knows(&refused, &changes, "t", NOW), "it changed while the store was asked");
        keep(&refused, &changes, 7, "t");
        assert!(knows(&refused, &changes, "t", NOW));
    }

    #[test]
    fn other_token_of_the_same_hash_is_not_refused() {
        let (refused, changes) = refused(Duration::from_secs(1));
        keep(&refused, &changes, 7, "t");
        assert!(!knows(&refused, &changes, "another of the same hash", NOW));
    }

    #[test]
    fn oldest_entry_is_dropped_when_full() {
        let (refused, changes) = refused(Duration::from_secs(1));
        for hash in 0..3 * MAX_TOKENS as u64 {
            keep(&refused, &changes, hash, "t");
            keep(&refused, &changes, hash, "t");
            let held = refused.held();
            assert!(held.entries.len() <= MAX_TOKENS && held.order.len() == held.entries.len());
        }
        assert!(refused.held().entries.contains_key(&(3 * MAX_TOKENS as u64 - 1)), "the newest is there");
    }
}
