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
    /// For how much longer they are valid while the store cannot be reached.
    grace_ms: u64,
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
            grace_ms: 0,
            newcomers: Newcomers::new(capacity),
            refused: RefusedTokens::new(ttl),
        }
    }

    /// Lets tokens be valid for so much longer while the store cannot be reached.
    pub(crate) fn with_grace(self, grace: Duration) -> Self {
        Self { grace_ms: u64::try_from(grace.as_millis()).unwrap_or_default(), ..self }
    }

    /// Returns how the store refused a verified token a moment ago.
    pub(crate) fn refused(&self, claims: &Claims, changes: &Changes, now: Now<'_>) -> Option<Mismatch> {
        let token = claims.token();
        self.refused.find(self.hash(token), token, changes, now)
    }

    /// Caches how the store refused a verified token when it was asked then, and forgets that it was confirmed before.
    pub(crate) fn keep_refused(&self, claims: &Claims, mismatch: Mismatch, asked: Asked, changes: &Changes) {
        let token = claims.token();
        let hash = self.hash(token);
        self.entries.pin().remove(&hash);
        if self.refused.is_for(changes) {
            self.refused.keep(hash, token, mismatch, asked);
        }
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

    /// Returns the access of a token that was confirmed and can be taken for current while the store cannot be reached.
    pub(crate) fn in_grace(&self, token: &[u8], changes: &Changes, now: Now<'_>) -> Option<Arc<Access>> {
        if self.grace_ms == 0 {
            return None;
        }
        let entries = self.entries.pin();
        let entry = entries.get(&self.hash(token)).filter(|entry| eq_in_constant_time(entry.access.token(), token))?;
        let access = &entry.access;
        let asked = Asked { stamp: access.stamp()?, at_ms: entry.asked_at_ms };
        let is_good = access.lasts_at(now.unix_ms)
            && changes.is_in_grace(asked, now.unix_ms, now.elapsed_ms(), self.ttl_ms, self.grace_ms);
        is_good.then(|| Arc::clone(access))
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
        self.ttl_ms > 0 || self.grace_ms > 0 || changes.tells_of_others()
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

    #[cfg(all(test, feature = "test-util"))]
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

#[cfg(all(test, feature = "test-util"))]
mod tests;
