//! The cache of confirmed tokens, which need not be verified again, and for which the store need not be asked again.
//!
//! An entry is valid for the very bytes of a token, and only as long as the store's [`Changes`] report no change of its
//! client, and [how long beyond that](Changes::freshness) they can tell. Only tokens that the store confirmed are cached, so forged ones neither fill the cache nor evict anything. Tokens that
//! the store refused are cached [for a moment](refused).
//!
//! Under a flood of single-use tokens, a token that a store confirms without waiting is cached on its second appearance: to
//! cache one takes longer than to verify it and ask.
//!
//! The capacity is a number of tokens, of a KiB each: long ones take the room of several.
//!
//! Entries are evicted by S3-FIFO (Yang et al., SOSP 2023): a new one waits in a small queue, and moves to the large one only
//! if it was used again by then. So a flood of single-use tokens passes through the small queue and evicts nothing else. A
//! look-up takes no lock and hardly writes, so threads do not block each other.

use std::{
    collections::VecDeque,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use papaya::HashMap;

use crate::{
    check::lifetime::Access,
    clock::Clock,
    secret::eq_in_constant_time,
    store::{Asked, Changes, Freshness},
    token::Claims,
};

mod refused;

pub(crate) use refused::Mismatch;
use refused::RefusedTokens;

/// The number of bytes of a token that are hashed.
const HASHED: usize = 16;
/// The small queue has one in so many entries.
const SMALL_SHARE: usize = 10;
/// The most tokens that are cached in a row although none is used again.
const MAX_CREDIT: u32 = 1024;
/// The most tokens that are known to have appeared once, by eight bytes each.
const MAX_TURNED_AWAY: usize = 1 << 16;
/// The bytes of an entry beside the texts that it holds.
const OVERHEAD: usize = 256;
/// The average room of a token in bytes: twice the usual one's.
const ROOM: usize = 1024;
/// The most uses of an entry that are counted.
const MAX_USES: u8 = 3;
/// The most entries that are examined to find one to evict, for each KiB that is added. It bounds how long the queues are locked.
const MAX_STEPS: usize = 32;

/// The present, by the clock that tokens expire by, and by one that is never set and is read only where it matters.
#[derive(Clone, Copy)]
pub(crate) struct Now<'a> {
    pub(crate) unix_ms: u64,
    pub(crate) clock: &'a Clock,
}

impl Now<'_> {
    fn elapsed_ms(self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns when a store is asked now: 0 if the age of its answers does not matter.
    pub(crate) fn to_ask(self, changes: Option<&Changes>) -> u64 {
        if changes.is_some_and(Changes::looks_at_ages) { self.elapsed_ms() } else { 0 }
    }
}

pub(crate) struct TokenCache {
    /// By a hash of the token that clients cannot foresee.
    entries: HashMap<u64, Entry, NoHash>,
    hasher: RandomState,
    queues: Mutex<Queues>,
    capacity: usize,
    /// How long answers are valid of a store that does not report the changes of others.
    ttl_ms: u64,
    newcomers: Newcomers,
    refused: RefusedTokens,
}

struct Entry {
    /// With the stamp from before the store was asked.
    access: Arc<Access>,
    /// When the store was asked, by a clock that is never set.
    asked_at_ms: u64,
    uses: AtomicU8,
    /// The store is being asked again, or could not be.
    is_renewed: AtomicBool,
}

/// A token that was confirmed before.
pub(crate) struct Recalled {
    pub(crate) access: Arc<Access>,
    /// The store is to be asked again, while the request goes on.
    pub(crate) is_due: bool,
}

#[derive(Default)]
struct Queues {
    small: Queue,
    large: Queue,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Queued>,
    /// The bytes of all of them.
    bytes: usize,
}

/// An entry by its hash, with its bytes.
struct Queued {
    hash: u64,
    weight: usize,
}

impl Queues {
    /// Removes the next entry to examine: from the small queue if that has more than its share.
    fn next(&mut self, share: usize) -> Option<Queued> {
        let is_small_full = self.small.is_over(share) || self.large.waiting.is_empty();
        if is_small_full { self.small.pop() } else { self.large.pop() }
    }

    fn are_over(&self, capacity: usize) -> bool {
        is_over(self.small.waiting.len() + self.large.waiting.len(), self.small.bytes + self.large.bytes, capacity)
    }
}

impl Queue {
    fn push(&mut self, queued: Queued) {
        self.bytes += queued.weight;
        self.waiting.push_back(queued);
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        self.bytes -= queued.weight;
        Some(queued)
    }

    fn is_over(&self, capacity: usize) -> bool {
        is_over(self.waiting.len(), self.bytes, capacity)
    }
}

fn is_over(entries: usize, bytes: usize, capacity: usize) -> bool {
    entries > capacity || bytes > capacity.saturating_mul(ROOM)
}

impl TokenCache {
    /// Creates a cache of this capacity. `ttl` is for stores that do not report the changes of others.
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        Self {
            entries: HashMap::with_hasher(NoHash),
            hasher: RandomState::default(),
            queues: Mutex::default(),
            capacity: capacity.max(SMALL_SHARE),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            newcomers: Newcomers::new(capacity),
            refused: RefusedTokens::new(ttl),
        }
    }

    /// Returns how the store refused a verified token a moment ago.
    pub(crate) fn refused(&self, claims: &Claims, changes: &Changes, now: Now<'_>) -> Option<Mismatch> {
        let token = claims.token();
        self.refused.find(self.hash(token), token, changes, now)
    }

    /// Caches how the store refused a verified token when it was asked then, and forgets that it was confirmed before.
    pub(crate) fn keep_refused(&self, claims: &Claims, mismatch: Mismatch, asked: Asked, changes: &Changes) {
        if !self.refused.is_for(changes) {
            return;
        }
        let token = claims.token();
        let hash = self.hash(token);
        self.entries.pin().remove(&hash);
        self.refused.keep(hash, token, mismatch, asked);
    }

    /// Returns the access of a token that was confirmed and is current now.
    #[inline]
    pub(crate) fn confirmed(&self, token: &[u8], changes: &Changes, now: Now<'_>) -> Option<Recalled> {
        let entries = self.entries.pin();
        let entry = entries.get(&self.hash(token)).filter(|entry| eq_in_constant_time(entry.access.token(), token))?;
        let access = &entry.access;
        if !access.lasts_at(now.unix_ms) {
            return None;
        }
        let asked = Asked { stamp: access.stamp()?, at_ms: entry.asked_at_ms };
        let freshness = changes.freshness(asked, now.unix_ms, || now.elapsed_ms(), self.ttl_ms);
        if freshness == Freshness::Stale {
            return None;
        }
        if entry.note_use() {
            self.newcomers.earn();
        }
        Some(Recalled { access: Arc::clone(access), is_due: freshness == Freshness::Due })
    }

    /// Returns true to the first caller that is to ask the store about a cached token again.
    pub(crate) fn is_to_renew(&self, token: &[u8]) -> bool {
        let entries = self.entries.pin();
        entries.get(&self.hash(token)).is_some_and(|entry| !entry.is_renewed.swap(true, Ordering::Relaxed))
    }

    /// Hashes the end of the token: that is the end of its signature, which differs between all that we signed.
    #[inline]
    fn hash(&self, token: &[u8]) -> u64 {
        match token.last_chunk::<HASHED>() {
            Some(end) => self.hasher.hash_one(u128::from_ne_bytes(*end)),
            None => self.hasher.hash_one(token),
        }
    }

    /// Returns true if tokens that such a store confirms are cached.
    pub(crate) fn is_for(&self, changes: &Changes) -> bool {
        self.ttl_ms > 0 || changes.tells_of_others()
    }

    /// Caches a token that a store confirmed without waiting, if that looks worth it. With a time to live it always does: that is
    /// set to save calls to the store.
    pub(crate) fn keep_if_worth(&self, access: &Arc<Access>, asked_at_ms: u64) {
        let hash = self.hash(access.token());
        let is_known = || self.entries.pin().contains_key(&hash);
        if self.ttl_ms > 0 || is_known() || self.newcomers.admit(hash) {
            self.insert(hash, access, asked_at_ms);
        }
    }

    /// Caches a token that the store confirmed when it was asked at `asked_at_ms`, by a clock that is never set.
    pub(crate) fn keep(&self, access: &Arc<Access>, asked_at_ms: u64) {
        self.insert(self.hash(access.token()), access, asked_at_ms);
    }

    fn insert(&self, hash: u64, access: &Arc<Access>, asked_at_ms: u64) {
        let entry = Entry {
            access: Arc::clone(access),
            asked_at_ms,
            uses: AtomicU8::new(0),
            is_renewed: AtomicBool::new(false),
        };
        let weight = entry.weight();
        let entries = self.entries.pin();
        if let Some(before) = entries.insert(hash, entry) {
            let uses = before.uses.load(Ordering::Relaxed);
            entries.get(&hash).inspect(|entry| entry.uses.store(uses, Ordering::Relaxed));
        } else {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.small.push(Queued { hash, weight });
            self.make_room(&mut queues, MAX_STEPS * weight.div_ceil(ROOM));
        }
    }

    /// Evicts entries that were not used since they were examined last. If many were used, it leaves some of the work to the next
    /// call: the last ninth of the capacity is for that. Only when it is full, used ones are evicted.
    fn make_room(&self, queues: &mut Queues, steps: usize) {
        let entries = self.entries.pin();
        let share = self.capacity / SMALL_SHARE;
        for _ in 0..steps {
            if !queues.are_over(self.capacity - self.capacity / 9) {
                return;
            }
            let Some(queued) = queues.next(share) else { return };
            match entries.get(&queued.hash).is_some_and(Entry::spend_use) {
                true => queues.large.push(queued),
                false => drop(entries.remove(&queued.hash)),
            }
        }
        while queues.are_over(self.capacity)
            && let Some(queued) = queues.next(share)
        {
            entries.remove(&queued.hash);
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&self) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        self.entries.pin().clear();
        *queues = Queues::default();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.pin().len()
    }
}

impl Entry {
    /// Returns its bytes, without claims that were read.
    fn weight(&self) -> usize {
        OVERHEAD + self.access.token().len() + self.access.client_id().len() + self.access.session().len()
    }

    /// Counts a use, and returns true if it is the first since the entry was examined last.
    #[inline]
    fn note_use(&self) -> bool {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MAX_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
        uses == 0
    }

    /// Returns true if it was used since it was examined last, and takes one use back.
    fn spend_use(&self) -> bool {
        let uses = self.uses.load(Ordering::Relaxed);
        self.uses.store(uses.saturating_sub(1), Ordering::Relaxed);
        uses > 0
    }
}

/// Decides which new tokens are cached: all, as long as enough of the ones before were used again.
struct Newcomers {
    /// How many more are cached in any case.
    credit: AtomicU32,
    /// The hashes of those that were not cached. Of those that share a place, the last one counts.
    turned_away: Box<[AtomicU64]>,
}

impl Newcomers {
    fn new(capacity: usize) -> Self {
        let places = capacity.next_power_of_two().clamp(64, MAX_TURNED_AWAY);
        let turned_away = (0..places).map(|_| AtomicU64::new(0)).collect();
        Self { credit: AtomicU32::new(MAX_CREDIT), turned_away }
    }

    /// Returns true if a token of this hash is to be cached. Concurrent threads may spend the same credit.
    fn admit(&self, hash: u64) -> bool {
        let credit = self.credit.load(Ordering::Relaxed);
        if credit > 0 {
            self.credit.store(credit - 1, Ordering::Relaxed);
        }
        credit > 0 || self.returns(hash)
    }

    fn returns(&self, hash: u64) -> bool {
        let place = self.turned_away.get(hash as usize & (self.turned_away.len() - 1));
        place.is_some_and(|place| place.swap(hash, Ordering::Relaxed) == hash)
    }

    /// Counts a cached token that was used again.
    fn earn(&self) {
        let credit = self.credit.load(Ordering::Relaxed);
        if credit < MAX_CREDIT {
            self.credit.store(credit + 1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// A hasher for keys that are hashes already.
#[derive(Clone, Copy, Default)]
struct NoHash;

struct Same(u64);

impl BuildHasher for NoHash {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

impl std::hash::Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::SystemTime};

    use fastauth_core::manual_clock::ManualClock;

    use super::*;
    use crate::token::test_claims;

    const NOW: u64 = 1_800_000_000_000;

    fn access(changes: &Changes, token: &str) -> Arc<Access> {
        Arc::new(Access::stamped(test_claims("c", NOW / 1000 + 10, token), changes.stamp("c")))
    }

    fn keep(cache: &TokenCache, changes: &Changes, token: &str) {
        cache.keep(&access(changes, token), NOW);
    }

    fn knows(cache: &TokenCache, changes: &Changes, token: &str, now: u64) -> bool {
        let now = Now { unix_ms: now, clock: &Clock::default() };
        cache.confirmed(token.as_bytes(), changes, now).is_some()
    }

    #[test]
    fn token_is_cached_until_it_expires_or_its_client_changes() {
        let cache = TokenCache::new(100, Duration::ZERO);
        let changes = Changes::of_own_store();
        keep(&cache, &changes, "t");
        assert!(knows(&cache, &changes, "t", NOW) && !knows(&cache, &changes, "u", NOW));
        assert!(knows(&cache, &changes, "t", NOW + 10_999));
        assert!(!knows(&cache, &changes, "t", NOW + 11_000));
        assert!((0..100).all(|_| knows(&cache, &changes, "t", NOW)), "again and again");
        changes.client_changed("c");
        assert!(!knows(&cache, &changes, "t", NOW));
        keep(&cache, &changes, "t");
        assert!((0..3).all(|_| knows(&cache, &changes, "t", NOW)));
        assert!(!knows(&cache, &changes, "t", NOW + 11_000));
    }

    /// Returns the bytes of all cached tokens.
    fn kept_bytes(cache: &TokenCache) -> usize {
        cache.entries.pin().values().map(|entry| entry.access.token().len()).sum()
    }

    /// Returns a token of 16 KiB, the longest that is read.
    fn large(number: usize) -> String {
        format!("{number:016}").repeat(1024)
    }

    #[test]
    fn large_token_takes_the_room_of_many() {
        let cache = TokenCache::new(1000, Duration::ZERO);
        let changes = Changes::of_own_store();
        for number in 0..5000 {
            keep(&cache, &changes, &large(number));
            assert!(knows(&cache, &changes, &large(number), NOW), "and each is used, so that it earns its room");
            assert!(kept_bytes(&cache) <= 1000 * 1024, "{}", kept_bytes(&cache));
        }
        assert!(cache.len() > 30, "{}", cache.len());
        for number in 0..10_000 {
            keep(&cache, &changes, &format!("small-{number}"));
            knows(&cache, &changes, &format!("small-{number}"), NOW);
        }
        assert!((500..=1000).contains(&cache.len()), "small ones have all the room again: {}", cache.len());
    }

    #[test]
    fn flood_of_large_tokens_evicts_no_used_one() {
        let cache = TokenCache::new(1000, Duration::ZERO);
        let changes = Changes::of_own_store();
        for number in 0..300 {
            keep(&cache, &changes, &format!("used-{number}"));
        }
        for number in 0..2000 {
            (0..300).for_each(|number| assert!(knows(&cache, &changes, &format!("used-{number}"), NOW)));
            keep(&cache, &changes, &large(number));
            assert!(kept_bytes(&cache) <= 1000 * 1024);
        }
    }

    #[test]
    fn token_that_is_confirmed_again_takes_its_room_once() {
        let cache = TokenCache::new(1000, Duration::ZERO);
        let changes = Changes::of_own_store();
        for _ in 0..1000 {
            keep(&cache, &changes, &large(1));
            keep(&cache, &changes, "t");
        }
        assert!(cache.len() == 2 && knows(&cache, &changes, "t", NOW) && knows(&cache, &changes, &large(1), NOW));
    }

    #[test]
    fn threads_that_use_a_token_share_its_access() {
        let cache = TokenCache::new(100, Duration::ZERO);
        let changes = Changes::of_own_store();
        let shared = access(&changes, "t");
        cache.keep(&shared, NOW);
        let clock = Clock::default();
        let now = Now { unix_ms: NOW, clock: &clock };
        for _ in 0..10 {
            thread::scope(|scope| {
                let find = || cache.confirmed(shared.token(), &changes, now).unwrap().access;
                let found = [scope.spawn(find), scope.spawn(find)].map(|thread| thread.join().unwrap());
                assert!(found.iter().all(|found| Arc::ptr_eq(found, &shared)));
            });
        }
    }

    #[test]
    fn change_during_the_store_call_is_not_missed() {
        let cache = TokenCache::new(100, Duration::ZERO);
        let changes = Changes::of_own_store();
        let before = access(&changes, "t");
        changes.client_changed("c");
        cache.keep(&before, NOW);
        assert!(!knows(&cache, &changes, "t", NOW));
    }

    #[test]
    fn a_shared_store_is_asked_again_after_the_ttl() {
        let cache = TokenCache::new(100, Duration::from_millis(500));
        let changes = Changes::of_shared_store();
        let manual = ManualClock::at(SystemTime::UNIX_EPOCH);
        let clock = Clock::set_by(&manual);
        let knows =
            |cache: &TokenCache, unix_ms| cache.confirmed(b"t", &changes, Now { unix_ms, clock: &clock }).is_some();
        cache.keep(&access(&changes, "t"), 0);
        manual.advance(Duration::from_millis(499));
        assert!(knows(&cache, NOW) && knows(&cache, 0), "the clock was set back");
        manual.advance(Duration::from_millis(1));
        assert!(!knows(&cache, NOW) && !knows(&cache, 0));
        let off = TokenCache::new(100, Duration::ZERO);
        off.keep(&access(&changes, "t"), 500);
        assert!(!knows(&off, NOW));
    }

    #[test]
    fn one_request_renews_a_token_that_is_due() {
        let cache = TokenCache::new(100, Duration::ZERO);
        let changes = Changes::of_fed_store();
        changes.fed_until(NOW + 1000, 0);
        let now = Now { unix_ms: NOW, clock: &Clock::default() };
        let is_due = || cache.confirmed(b"t", &changes, now).map(|recalled| recalled.is_due);
        cache.keep(&access(&changes, "t"), 0);
        assert_eq!(is_due(), Some(false));
        changes.fed_until(NOW + 1000, 250_000);
        assert_eq!(is_due(), Some(true));
        assert!(cache.is_to_renew(b"t") && !cache.is_to_renew(b"t"), "the first one");
        assert_eq!(is_due(), Some(true), "and the others go on");
        cache.keep(&access(&changes, "t"), 250_000);
        assert_eq!(is_due(), Some(false));
        let refused = Asked { stamp: changes.stamp("c"), at_ms: 250_000 };
        cache.keep_refused(&access(&changes, "t"), Mismatch::NotCurrent, refused, &changes);
        assert_eq!(is_due(), None);
    }

    #[test]
    fn flood_of_single_use_tokens_evicts_no_used_one() {
        let cache = TokenCache::new(1000, Duration::ZERO);
        let changes = Changes::of_own_store();
        for number in 0..500 {
            keep(&cache, &changes, &format!("used-{number}"));
        }
        for number in 0..500 {
            assert!(knows(&cache, &changes, &format!("used-{number}"), NOW));
        }
        for number in 0..100_000 {
            keep(&cache, &changes, &format!("once-{number}"));
            assert!(cache.len() <= 1000);
        }
        let kept = (0..500).filter(|number| knows(&cache, &changes, &format!("used-{number}"), NOW)).count();
        assert_eq!(kept, 500);
    }

    #[test]
    fn token_is_cached_on_its_second_appearance_under_a_flood() {
        let cache = TokenCache::new(100_000, Duration::ZERO);
        let changes = Changes::of_own_store();
        let comes = |token: &str| cache.keep_if_worth(&access(&changes, token), NOW);
        let knows = |token: &str| knows(&cache, &changes, token, NOW);
        (0..10_000).for_each(|number| comes(&format!("once-{number}")));
        assert_eq!(cache.len(), MAX_CREDIT as usize);
        comes("t");
        assert!(!knows("t"));
        comes("t");
        assert!(knows("t"), "and it is used");
        comes("u");
        assert!(knows("u"), "that one was used is credit for another");
        let ttl = TokenCache::new(100_000, Duration::from_secs(1));
        for number in 0..10_000 {
            ttl.keep_if_worth(&access(&changes, &format!("once-{number}")), NOW);
        }
        assert_eq!(ttl.len(), 10_000);
    }

    #[test]
    fn known_token_spends_no_credit() {
        let cache = TokenCache::new(100_000, Duration::ZERO);
        let changes = Changes::of_own_store();
        for round in 0..10 {
            for number in 0..500 {
                let token = format!("{number}");
                cache.keep_if_worth(&access(&changes, &token), NOW);
                assert!(knows(&cache, &changes, &token, NOW), "{token} in round {round}");
            }
            changes.anything_changed();
        }
        assert_eq!(cache.newcomers.credit.load(Ordering::Relaxed), MAX_CREDIT);
    }

    #[test]
    fn unused_tokens_are_evicted() {
        let cache = TokenCache::new(100, Duration::ZERO);
        let changes = Changes::of_own_store();
        for round in 0..50 {
            for number in 0..100 {
                let token = format!("{round}-{number}");
                keep(&cache, &changes, &token);
                knows(&cache, &changes, &token, NOW);
            }
        }
        let newest = (0..100).filter(|number| knows(&cache, &changes, &format!("49-{number}"), NOW)).count();
        assert!(newest >= 50, "{newest}");
        assert!(cache.len() <= 100);
    }
}
