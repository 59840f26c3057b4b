//! The cache of signed tokens that the store does not hold. A client that presents a replaced token again and again does not cost a
//! call to the store each time.
//!
//! It is for stores that do not report the changes of others, or report them by a feed. The others answer within microseconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{NoHash, Now};
use crate::store::{Asked, Changes, Freshness, TokenDigest};

/// The longest time to live, unless the feed of the store tells what has changed. A token that another process makes current is
/// refused for that long.
const MAX_TTL: Duration = Duration::from_secs(1);
/// The time to live while the feed tells.
const FED_TTL: Duration = Duration::from_secs(5);
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
    asked: Asked,
}

impl RefusedTokens {
    /// Creates a cache with the `ttl` of confirmed tokens, but at most a second. Zero disables it for stores without a feed.
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl_ms = u64::try_from(ttl.min(MAX_TTL).as_millis()).unwrap_or_default();
        Self { held: Mutex::default(), ttl_ms }
    }

    pub(super) fn find(&self, hash: u64, token: &[u8], changes: &Changes, now: Now<'_>) -> Option<Mismatch> {
        if !self.is_for(changes) {
            return None;
        }
        let held = self.held();
        let entry = held.entries.get(&hash)?;
        let now_ms = now.elapsed_ms();
        let age = Duration::from_millis(now_ms.saturating_sub(entry.asked.at_ms));
        let is_young = !changes.tells_of_others() || age < Self::ttl_by_feed(entry.asked, changes, now);
        let counts = is_young
            && changes.freshness(entry.asked, now.unix_ms, || now_ms, self.ttl_ms) != Freshness::Stale
            && entry.token == TokenDigest::of(token);
        counts.then_some(entry.mismatch)
    }

    fn ttl_by_feed(asked: Asked, changes: &Changes, now: Now<'_>) -> Duration {
        if changes.unchanged_since(asked.stamp, now.unix_ms) { FED_TTL } else { MAX_TTL }
    }

    /// Returns true if tokens that such a store refuses are cached.
    pub(super) fn is_for(&self, changes: &Changes) -> bool {
        changes.looks_at_ages() && (self.ttl_ms > 0 || changes.tells_of_others())
    }

    pub(super) fn keep(&self, hash: u64, token: &[u8], mismatch: Mismatch, asked: Asked) {
        let entry = Entry { token: TokenDigest::of(token), mismatch, asked };
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

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use std::time::SystemTime;

    use fastauth_core::manual_clock::ManualClock;

    use super::*;
    use crate::clock::Clock;

    const NOW: u64 = 1_800_000_000_000;

    fn refused(ttl: Duration) -> (RefusedTokens, Changes) {
        (RefusedTokens::new(ttl), Changes::of_shared_store())
    }

    fn keep(refused: &RefusedTokens, changes: &Changes, hash: u64, token: &str) {
        let asked = Asked { stamp: changes.stamp("c"), at_ms: 0 };
        refused.keep(hash, token.as_bytes(), Mismatch::NotCurrent, asked);
    }

    /// Returns true if the token is refused so many milliseconds after it was kept.
    fn knows(refused: &RefusedTokens, changes: &Changes, token: &str, age_ms: u64) -> bool {
        let manual = ManualClock::at(SystemTime::UNIX_EPOCH);
        manual.advance(Duration::from_millis(age_ms));
        let now = Now { unix_ms: NOW, clock: &Clock::set_by(&manual) };
        refused.find(7, token.as_bytes(), changes, now).is_some()
    }

    #[test]
    fn token_is_refused_for_at_most_a_second() {
        let (long, changes) = refused(Duration::from_secs(3600));
        keep(&long, &changes, 7, "t");
        assert!(knows(&long, &changes, "t", 0) && knows(&long, &changes, "t", 999));
        assert!(!knows(&long, &changes, "t", 1000));
        let (short, changes) = refused(Duration::from_millis(200));
        keep(&short, &changes, 7, "t");
        assert!(knows(&short, &changes, "t", 199) && !knows(&short, &changes, "t", 200));
        let (off, changes) = refused(Duration::ZERO);
        keep(&off, &changes, 7, "t");
        assert!(!knows(&off, &changes, "t", 0));
    }

    #[test]
    fn token_is_refused_for_longer_while_the_feed_tells() {
        let refused = RefusedTokens::new(Duration::ZERO);
        let changes = Changes::of_fed_store();
        changes.fed_until(NOW + 1000, 0);
        keep(&refused, &changes, 7, "t");
        assert!(knows(&refused, &changes, "t", 4999) && !knows(&refused, &changes, "t", 5000));
        changes.fed_until(NOW - 1000, 0);
        assert!(knows(&refused, &changes, "t", 999) && !knows(&refused, &changes, "t", 1000));
        changes.client_changed("c");
        assert!(!knows(&refused, &changes, "t", 0), "the client has a new token");
    }

    #[test]
    fn change_of_the_client_drops_its_entries() {
        let (refused, changes) = refused(Duration::from_secs(1));
        keep(&refused, &changes, 7, "t");
        changes.client_changed("c");
        assert!(!knows(&refused, &changes, "t", 0));
        let before = Asked { stamp: changes.stamp("c"), at_ms: 0 };
        changes.client_changed("c");
        refused.keep(7, b"t", Mismatch::UnknownClient, before);
        assert!(!knows(&refused, &changes, "t", 0), "it changed while the store was asked");
        keep(&refused, &changes, 7, "t");
        assert!(knows(&refused, &changes, "t", 0));
    }

    #[test]
    fn other_token_of_the_same_hash_is_not_refused() {
        let (refused, changes) = refused(Duration::from_secs(1));
        keep(&refused, &changes, 7, "t");
        assert!(!knows(&refused, &changes, "another of the same hash", 0));
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
