//! Tokens of ours that the store does not hold, for a moment: so that whoever presents a superseded one over and over is
//! not one call to the store each time.
//!
//! It is for stores that do not tell of the changes of others. Those that do answer within microseconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::NoHash;
use crate::store::{Changes, Stamp, TokenDigest};

/// The longest moment. A token that somebody else makes canonical meanwhile waits for so long.
const MAX_TTL: Duration = Duration::from_secs(1);
/// How many there are at the most, at some 100 bytes each.
const MAX_TOKENS: usize = 4096;

/// How the store refuses a token that we signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It does not know the client.
    UnknownClient,
    /// It holds another token.
    NotCanonical,
}

pub(super) struct RefusedTokens {
    held: Mutex<Held>,
    ttl_ms: u64,
}

#[derive(Default)]
struct Held {
    /// By the same hash as those that are accepted.
    entries: HashMap<u64, Entry, NoHash>,
    /// The same, the oldest first.
    order: VecDeque<u64>,
}

struct Entry {
    token: TokenDigest,
    mismatch: Mismatch,
    stamp: Stamp,
    asked_at_ms: u64,
}

impl RefusedTokens {
    /// `ttl` is how long those that are accepted are kept; zero switches this off.
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

    /// Nothing that runs while it is locked leaves it half changed.
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
        refused.keep(hash, token.as_bytes(), Mismatch::NotCanonical, changes.stamp("c"), NOW);
    }

    fn knows(refused: &RefusedTokens, changes: &Changes, token: &str, now_ms: u64) -> bool {
        refused.find(7, token.as_bytes(), changes, now_ms).is_some()
    }

    #[test]
    fn a_token_is_refused_for_a_second_at_the_most() {
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
    fn what_changes_for_the_client_ends_it() {
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
    fn only_the_very_token_is_meant() {
        let (refused, changes) = refused(Duration::from_secs(1));
        keep(&refused, &changes, 7, "t");
        assert!(!knows(&refused, &changes, "another of the same hash", NOW));
    }

    #[test]
    fn there_are_not_more_than_there_may_be() {
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
