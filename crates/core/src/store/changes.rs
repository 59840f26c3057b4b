//! The changes of a store, which say how long its answers can be cached.

use std::{
    fmt,
    future::{Future, poll_fn},
    hash::BuildHasher,
    num::NonZeroU32,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Poll,
};

use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::Revocation;
use crate::clock::MAX_DELAY_MS;

/// The number of counters. Clients that share one seem to change together, which costs a look-up.
const COUNTERS: usize = 4096;
/// The number of groups of waiting tasks. A change wakes the group of its client.
const GROUPS: usize = 256;
/// How long an answer is valid while the feed of a store is silent.
const LAPSE_MS: u64 = 5_000;
/// By how much less than that an answer from before is valid, at most: clients differ, so that they are not all asked for at once.
const LAPSE_SPREAD_MS: u64 = 2_000;
/// How long an answer is valid while no change is told of, in case that one is not.
const BACKSTOP_MS: u64 = 300_000;
const BACKSTOP_SPREAD_MS: u64 = 30_000;

/// A count of the changes to a store, client by client.
///
/// The answers of a store that has one (see [`TokenStore::changes`](super::TokenStore::changes)) are cached, each with a
/// [`Stamp`] from *before* the store was asked. An answer is valid as long as its stamp is, so a change while the store is being
/// asked is not missed either. In return, the store does this:
///
/// - It announces a change after readers can see it, and before it answers the writer.
/// - If other processes may write as well, it looks for their changes and states by [`watched_until`](Self::watched_until) until
///   when none can have been missed. After that time nothing is valid until it has looked again.
/// - If it is told of their changes by a feed, which may be away, it states so by [`fed_until`](Self::fed_until). After that time
///   answers are valid for five seconds.
pub struct Changes {
    counters: Box<[AtomicU64]>,
    /// By the counter, in turn.
    waiting: Box<[Notify]>,
    /// Counts the times that another process may have changed anything.
    others: AtomicU64,
    waiting_for_others: Notify,
    hasher: RandomState,
    watched_until_ms: AtomicU64,
    tells_of_others: AtomicBool,
    /// When it was last stated how the feed is, by the [clock](crate::clock::Clock::elapsed) that is never set. It stays 0 without a
    /// feed.
    stated_at_ms: AtomicU64,
    /// A feed may tell of the changes of others.
    may_be_fed: bool,
}

/// When a store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The moment in the life of the client.
    pub stamp: Stamp,
    /// The time in milliseconds, by a clock that is never set.
    pub at_ms: u64,
}

/// How fresh a cached answer of a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It is valid.
    Fresh,
    /// It is valid, and will not be much longer: the store is to be asked again, while requests go on.
    Due,
    /// It is not valid.
    Stale,
}

/// A moment in the life of a client: it shows if anything has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The place of the counter, from one on, so that an `Option` of a stamp takes no extra room.
    counter: NonZeroU32,
    /// The low half of the counter, which is enough to tell two moments apart.
    here: u32,
    /// The sum of the counter and of `others`. Both only grow, so the sum changes with either.
    count: u64,
}

impl Changes {
    /// Creates the count of a store that only this process writes to.
    #[must_use]
    pub fn of_own_store() -> Self {
        Self::new(u64::MAX, true, false)
    }

    /// Creates the count of a store that other processes write to and that is watched: nothing is valid until the first
    /// [`watched_until`](Self::watched_until).
    #[must_use]
    pub fn of_watched_store() -> Self {
        Self::new(0, true, false)
    }

    /// Creates the count of a store that other processes write to unseen. It only counts the changes of this process, so cached
    /// answers may be out of date.
    #[must_use]
    pub fn of_shared_store() -> Self {
        Self::new(u64::MAX, false, false)
    }

    /// Creates the count of a store that other processes write to, and that may have a feed. Until the first
    /// [`fed_until`](Self::fed_until), it is the count of a [shared store](Self::of_shared_store).
    #[must_use]
    pub fn of_fed_store() -> Self {
        Self::new(u64::MAX, false, true)
    }

    fn new(watched_until_ms: u64, tells_of_others: bool, may_be_fed: bool) -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        let waiting = (0..GROUPS).map(|_| Notify::new()).collect();
        let watched_until_ms = AtomicU64::new(watched_until_ms);
        Self {
            counters,
            waiting,
            others: AtomicU64::new(0),
            waiting_for_others: Notify::new(),
            hasher: RandomState::default(),
            watched_until_ms,
            tells_of_others: AtomicBool::new(tells_of_others),
            stated_at_ms: AtomicU64::new(0),
            may_be_fed,
        }
    }

    /// Announces that something of this client has changed.
    pub fn client_changed(&self, client_id: &str) {
        let place = self.place(client_id);
        self.counters[place].fetch_add(1, Ordering::Release);
        self.group(place).notify_waiters();
    }

    /// Announces that another process may have changed something of any client, for stores that watch for such writes. It may come
    /// all the time, so guarded sockets look again after a short delay.
    pub fn others_changed(&self) {
        self.others.fetch_add(1, Ordering::Release);
        self.waiting_for_others.notify_waiters();
    }

    /// Announces that something of any client may have changed.
    pub fn anything_changed(&self) {
        for counter in &self.counters {
            counter.fetch_add(1, Ordering::Release);
        }
        self.waiting.iter().for_each(Notify::notify_waiters);
    }

    /// Announces a revocation.
    pub fn revoked(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Session { client_id, .. } | Revocation::Client(client_id) => self.client_changed(client_id),
            Revocation::All => self.anything_changed(),
        }
    }

    /// States that no change of another process can be missed until this time, in milliseconds since the Unix epoch. Readers of the
    /// clock may be 10 ms behind, which is taken off here.
    pub fn watched_until(&self, unix_ms: u64) {
        self.watched_until_ms.store(unix_ms.saturating_sub(MAX_DELAY_MS), Ordering::Release);
    }

    /// States that the feed has told of every change until now, and that none can be missed until this time, in milliseconds since the
    /// Unix epoch. `now_ms` is the time by a clock that is never set.
    ///
    /// It is to be stated again about every second, also if the time has passed: then a clock that was set does no harm.
    pub fn fed_until(&self, unix_ms: u64, now_ms: u64) {
        self.stated_at_ms.store(now_ms, Ordering::Relaxed);
        self.watched_until(unix_ms);
        self.tells_of_others.store(true, Ordering::Release);
    }

    /// Returns how fresh an answer is that a store gave when it was asked then. `unix_ms` is the time since the Unix epoch, and `now_ms`
    /// that of a clock that is never set. `ttl_ms` is how long answers are valid of a store that tells of no changes of others.
    #[inline]
    #[must_use]
    pub fn freshness(&self, asked: Asked, unix_ms: u64, now_ms: impl FnOnce() -> u64, ttl_ms: u64) -> Freshness {
        if self.have_come(asked.stamp) {
            return Freshness::Stale;
        }
        let watched_until_ms = self.watched_until_ms.load(Ordering::Acquire);
        if unix_ms > watched_until_ms {
            return self.freshness_unwatched(asked, unix_ms.saturating_sub(watched_until_ms), now_ms());
        }
        if self.tells_of_others() {
            let age_ms = self.stated_at_ms.load(Ordering::Relaxed).saturating_sub(asked.at_ms);
            return Freshness::of_age(age_ms, BACKSTOP_MS - asked.stamp.share_of(BACKSTOP_SPREAD_MS));
        }
        if now_ms().saturating_sub(asked.at_ms) < ttl_ms { Freshness::Fresh } else { Freshness::Stale }
    }

    /// Returns how fresh an answer is when the feed has been silent for so long.
    #[cold]
    fn freshness_unwatched(&self, asked: Asked, silent_ms: u64, now_ms: u64) -> Freshness {
        if !self.may_be_fed {
            return Freshness::Stale;
        }
        if silent_ms <= LAPSE_MS - asked.stamp.share_of(LAPSE_SPREAD_MS) {
            return Freshness::Fresh;
        }
        Freshness::of_age(now_ms.saturating_sub(asked.at_ms), LAPSE_MS)
    }

    /// Returns true if an answer is not known to be out of date, and was valid at most so long ago: for the time in which the store cannot
    /// be reached. The times are those of [`freshness`](Self::freshness).
    #[must_use]
    pub fn is_in_grace(&self, asked: Asked, unix_ms: u64, now_ms: u64, ttl_ms: u64, grace_ms: u64) -> bool {
        if self.have_come(asked.stamp) || !self.looks_at_ages() {
            return false;
        }
        let age_ms = now_ms.saturating_sub(asked.at_ms);
        let stated_at_ms = self.stated_at_ms.load(Ordering::Relaxed);
        if stated_at_ms == 0 {
            return age_ms < ttl_ms.saturating_add(grace_ms);
        }
        let longest_ms = LAPSE_MS.saturating_add(grace_ms);
        // Until the feed fell silent, it had told of every change.
        let silent_ms = unix_ms.saturating_sub(self.watched_until_ms.load(Ordering::Acquire));
        let was_young = stated_at_ms.saturating_sub(asked.at_ms) < BACKSTOP_MS;
        age_ms < longest_ms || (was_young && silent_ms < longest_ms)
    }

    /// Returns the present moment in the life of a client.
    #[must_use]
    pub fn stamp(&self, client_id: &str) -> Stamp {
        let place = self.place(client_id);
        let here = self.counters[place].load(Ordering::Acquire);
        let count = here.wrapping_add(self.others.load(Ordering::Acquire));
        Stamp { counter: NonZeroU32::MIN.saturating_add(place as u32), here: here as u32, count }
    }

    /// Returns true if nothing has changed since then, as known at `now_ms`, in milliseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub fn unchanged_since(&self, stamp: Stamp, now_ms: u64) -> bool {
        now_ms <= self.watched_until_ms.load(Ordering::Acquire) && !self.have_come(stamp)
    }

    /// Waits until something may have changed for the client since then.
    pub async fn changed_since(&self, stamp: Stamp) {
        loop {
            // From here on, a change wakes this task.
            let woken = self.group(stamp.place()).notified();
            let woken_by_others = self.waiting_for_others.notified();
            if self.have_come(stamp) {
                return;
            }
            first(woken, woken_by_others).await;
        }
    }

    /// Waits until this process may have changed something for the client since then.
    pub async fn changed_here_since(&self, stamp: Stamp) {
        loop {
            let woken = self.group(stamp.place()).notified();
            let counter = self.counters.get(stamp.place());
            if counter.is_none_or(|counter| counter.load(Ordering::Acquire) as u32 != stamp.here) {
                return;
            }
            woken.await;
        }
    }

    /// Returns true if something may have changed for the client since then.
    #[inline]
    fn have_come(&self, stamp: Stamp) -> bool {
        let others = self.others.load(Ordering::Acquire);
        let counter = self.counters.get(stamp.place());
        counter.is_none_or(|counter| counter.load(Ordering::Acquire).wrapping_add(others) != stamp.count)
    }

    fn group(&self, place: usize) -> &Notify {
        &self.waiting[place % GROUPS]
    }

    /// Returns true if the changes of other processes are announced, too.
    #[must_use]
    #[inline]
    pub fn tells_of_others(&self) -> bool {
        self.tells_of_others.load(Ordering::Acquire)
    }

    /// Returns true if they are, or may be later.
    #[must_use]
    pub fn may_tell_of_others(&self) -> bool {
        self.may_be_fed || self.tells_of_others()
    }

    /// Returns true if it depends on their age how fresh answers are.
    #[must_use]
    #[inline]
    pub fn looks_at_ages(&self) -> bool {
        self.may_be_fed || !self.tells_of_others()
    }

    fn place(&self, client_id: &str) -> usize {
        self.hasher.hash_one(client_id) as usize % COUNTERS
    }
}

impl Stamp {
    #[inline]
    fn place(self) -> usize {
        self.counter.get() as usize - 1
    }

    /// Returns a part of `most`, which differs between clients.
    #[inline]
    fn share_of(self, most: u64) -> u64 {
        most * self.place() as u64 / COUNTERS as u64
    }
}

impl Freshness {
    #[inline]
    fn of_age(age_ms: u64, allowed_ms: u64) -> Self {
        match age_ms {
            _ if age_ms >= allowed_ms => Self::Stale,
            _ if age_ms >= allowed_ms / 5 * 4 => Self::Due,
            _ => Self::Fresh,
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("tells_of_others", &self.tells_of_others()).finish_non_exhaustive()
    }
}

/// Returns the output of whichever of two futures is ready first.
pub async fn first<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let mut a = pin!(a);
    let mut b = pin!(b);
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Pending => b.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::poll_immediate;

    use super::*;

    #[test]
    fn stamp_is_valid_until_its_client_changes() {
        let changes = Changes::of_own_store();
        let stamp = changes.stamp("a");
        assert!(changes.unchanged_since(stamp, 0));
        let other = (0..).map(|n| n.to_string()).find(|id| changes.place(id) != stamp.place()).unwrap();
        changes.client_changed(&other);
        assert!(changes.unchanged_since(stamp, u64::MAX - 1));
        changes.client_changed("a");
        assert!(!changes.unchanged_since(stamp, 0));
        for change in [Changes::anything_changed, Changes::others_changed] {
            let stamp = changes.stamp("a");
            change(&changes);
            assert!(!changes.unchanged_since(stamp, 0));
        }
    }

    #[tokio::test]
    async fn waiting_task_is_woken_by_changes_of_its_client() {
        let changes = Changes::of_own_store();
        let stamp = changes.stamp("a");
        let other = (0..).map(|n| n.to_string()).find(|id| changes.place(id) != stamp.place()).unwrap();
        let of_client = |changes: &Changes| changes.client_changed("a");
        for change in [Changes::anything_changed, Changes::others_changed, of_client] {
            let stamp = changes.stamp("a");
            let mut waiting = pin!(changes.changed_since(stamp));
            assert!(poll_immediate(&mut waiting).await.is_none());
            changes.client_changed(&other);
            assert!(poll_immediate(&mut waiting).await.is_none());
            change(&changes);
            waiting.await;
        }
        changes.changed_since(stamp).await;
        // Changes of other processes are told apart.
        let stamp = changes.stamp("a");
        let mut here = pin!(changes.changed_here_since(stamp));
        changes.others_changed();
        changes.client_changed(&other);
        assert!(poll_immediate(&mut here).await.is_none());
        changes.client_changed("a");
        here.await;
    }

    #[test]
    fn nothing_is_valid_unless_watched() {
        let changes = Changes::of_watched_store();
        let stamp = changes.stamp("a");
        assert!(!changes.unchanged_since(stamp, 1000));
        changes.watched_until(1050);
        assert!(changes.unchanged_since(stamp, 1050 - MAX_DELAY_MS));
        assert!(!changes.unchanged_since(stamp, 1051 - MAX_DELAY_MS));
    }

    fn freshness(changes: &Changes, asked: Asked, unix_ms: u64, now_ms: u64, ttl_ms: u64) -> Freshness {
        changes.freshness(asked, unix_ms, || now_ms, ttl_ms)
    }

    #[test]
    fn an_answer_lasts_by_the_state_of_the_feed() {
        use Freshness::{Due, Fresh, Stale};
        let changes = Changes::of_fed_store();
        let ask = |at_ms| Asked { stamp: changes.stamp("a"), at_ms };
        let asked = ask(1_000);
        // The share of this client.
        let share = |most| asked.stamp.share_of(most);
        assert!(!changes.tells_of_others() && changes.may_tell_of_others());
        assert_eq!(freshness(&changes, asked, 0, 1_499, 500), Fresh);
        assert_eq!(freshness(&changes, asked, 0, 1_500, 500), Stale, "as of a store without a feed");

        // Live.
        let until = 1_000_000;
        let allowed = BACKSTOP_MS - share(BACKSTOP_SPREAD_MS);
        for (heard_at, expected) in [(900, Fresh), (1_000 + allowed / 5 * 4, Due), (1_000 + allowed, Stale)] {
            changes.fed_until(until + MAX_DELAY_MS, heard_at);
            assert_eq!(freshness(&changes, asked, until, 0, 0), expected, "{heard_at}");
        }
        assert!(changes.tells_of_others());

        // Silent: what was known then is still used for a while, and then what is young.
        changes.fed_until(until + MAX_DELAY_MS, 10_000);
        assert!(!changes.unchanged_since(asked.stamp, until + 1));
        let lapse = LAPSE_MS - share(LAPSE_SPREAD_MS);
        assert_eq!(freshness(&changes, asked, until + lapse, 100_000, 0), Fresh);
        assert_eq!(freshness(&changes, asked, until + lapse + 1, 100_000, 0), Stale);
        let asked_since = ask(90_000);
        for (now, expected) in [(93_999, Fresh), (94_000, Due), (94_999, Due), (95_000, Stale)] {
            assert_eq!(freshness(&changes, asked_since, until + 60_000, now, 0), expected, "{now}");
        }

        // Back.
        changes.fed_until(until + 70_000, 95_000);
        assert_eq!(freshness(&changes, asked_since, until + 60_000, 0, 0), Fresh);
        changes.client_changed("a");
        assert_eq!(freshness(&changes, asked_since, until + 60_000, 0, 0), Stale);
    }

    #[test]
    fn grace_begins_when_an_answer_is_no_longer_valid() {
        const GRACE: u64 = 60_000;
        let changes = Changes::of_fed_store();
        let in_grace = |asked, unix_ms, now_ms, grace_ms| changes.is_in_grace(asked, unix_ms, now_ms, 500, grace_ms);
        let asked = Asked { stamp: changes.stamp("a"), at_ms: 1_000 };
        assert!(in_grace(asked, 0, 61_499, GRACE) && !in_grace(asked, 0, 61_500, GRACE), "without a feed");
        assert!(!in_grace(asked, 0, 1_500, 0));

        let until = 1_000_000;
        changes.fed_until(until + MAX_DELAY_MS, 200_000);
        assert!(in_grace(asked, until + 64_999, 265_000, GRACE), "the feed was silent for no longer");
        assert!(!in_grace(asked, until + 65_000, 265_000, GRACE));
        let later = Asked { at_ms: 250_000, ..asked };
        assert!(in_grace(later, until + 114_000, 314_999, GRACE) && !in_grace(later, until + 114_000, 315_000, GRACE));
        changes.fed_until(until + MAX_DELAY_MS, 400_000);
        assert!(!in_grace(asked, until, 400_000, GRACE), "even the feed did not make up for that age");
        assert!(in_grace(later, until, 400_000, GRACE));
        changes.client_changed("a");
        assert!(!in_grace(later, until, 400_000, GRACE));
        let later = Asked { stamp: changes.stamp("a"), ..later };
        assert!(in_grace(later, until, 400_000, GRACE));
        changes.anything_changed();
        assert!(!in_grace(later, until, 400_000, GRACE), "after a reset");
    }

    #[test]
    fn no_grace_is_given_where_the_store_cannot_be_away() {
        for changes in [Changes::of_own_store(), Changes::of_watched_store()] {
            let asked = Asked { stamp: changes.stamp("a"), at_ms: 0 };
            assert!(!changes.is_in_grace(asked, 0, 0, 1_000, 1_000));
        }
    }

    #[test]
    fn the_age_of_an_answer_is_nothing_to_a_store_that_tells_of_changes() {
        let changes = Changes::of_watched_store();
        let asked = Asked { stamp: changes.stamp("a"), at_ms: 0 };
        assert!(!changes.looks_at_ages());
        changes.watched_until(1_000);
        assert_eq!(freshness(&changes, asked, 900, u64::MAX, 0), Freshness::Fresh);
        assert_eq!(freshness(&changes, asked, 1_001, 0, u64::MAX), Freshness::Stale, "it has no feed");
    }
}
