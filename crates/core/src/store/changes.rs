//! What a store tells of changes, so that what was read of it can be kept until then.

use std::{
    fmt,
    future::{Future, poll_fn},
    hash::BuildHasher,
    num::NonZeroU32,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::Poll,
};

use foldhash::fast::RandomState;
use tokio::sync::Notify;

use super::Revocation;
use crate::clock::MAX_DELAY_MS;

/// How many counters there are. Clients that share one are thought changed together, which costs a look-up.
const COUNTERS: usize = 4096;
/// How many groups of those who wait for a change there are. A change wakes the group of its client.
const GROUPS: usize = 256;

/// Counts the changes to what a store holds, client by client.
///
/// A store that has one (see [`TokenStore::changes`](super::TokenStore::changes)) lets its answers be kept: each with a
/// [`Stamp`] from *before* it was asked. An answer counts as long as its stamp does, so what changes while the store is
/// being asked is not missed either. The store owes this in return:
///
/// - It tells of a change after readers can see it, and before the writer is answered.
/// - Where others may write as well, it looks for their changes and says by [`watched_until`](Self::watched_until)
///   until when nothing can have been missed; from then on nothing counts, until it has looked again.
pub struct Changes {
    counters: Box<[AtomicU64]>,
    /// By the counter, in turn.
    waiting: Box<[Notify]>,
    /// Counts on where somebody else may have changed anything.
    others: AtomicU64,
    waiting_for_others: Notify,
    hasher: RandomState,
    watched_until_ms: AtomicU64,
    tells_of_others: bool,
}

/// A moment in the life of a client, by which it is seen whether anything has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The place of the counter, from one on, so that no stamp takes no room of its own.
    counter: NonZeroU32,
    /// What the counter said; the end of it is enough to tell two moments apart.
    here: u32,
    /// The same with what is counted of others. Neither is ever less, so the sum tells of a change to either.
    count: u64,
}

impl Changes {
    /// Counts the changes of a store that only this process writes to.
    #[must_use]
    pub fn of_own_store() -> Self {
        Self::new(u64::MAX, true)
    }

    /// Counts the changes of a store that others write to and that is watched: nothing counts until the first
    /// [`watched_until`](Self::watched_until).
    #[must_use]
    pub fn of_watched_store() -> Self {
        Self::new(0, true)
    }

    /// Counts what this process changes in a store that others write to unseen. Answers can be kept then for those who accept that
    /// they are out of date.
    #[must_use]
    pub fn of_shared_store() -> Self {
        Self::new(u64::MAX, false)
    }

    fn new(watched_until_ms: u64, tells_of_others: bool) -> Self {
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
            tells_of_others,
        }
    }

    /// Says that what is held of this client has changed.
    pub fn client_changed(&self, client_id: &str) {
        let place = self.place(client_id);
        self.counters[place].fetch_add(1, Ordering::Release);
        self.group(place).notify_waiters();
    }

    /// Says that others may have changed what is held of any client. It is what a store says that watches for their writes:
    /// whoever has sockets to look after bears with a moment's delay then, since it may come all the time.
    pub fn others_changed(&self) {
        self.others.fetch_add(1, Ordering::Release);
        self.waiting_for_others.notify_waiters();
    }

    /// Says that what is held of any client may have changed.
    pub fn anything_changed(&self) {
        for counter in &self.counters {
            counter.fetch_add(1, Ordering::Release);
        }
        self.waiting.iter().for_each(Notify::notify_waiters);
    }

    /// Says that something was revoked.
    pub fn revoked(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Family { client_id, .. } | Revocation::Client(client_id) => self.client_changed(client_id),
            Revocation::All => self.anything_changed(),
        }
    }

    /// Says that the changes of others are known up to a moment that is not longer ago than may be, until this one; in milliseconds since
    /// the Unix epoch. What is read of the clock later may be 10 ms late, and so much is taken off here.
    pub fn watched_until(&self, unix_ms: u64) {
        self.watched_until_ms.store(unix_ms.saturating_sub(MAX_DELAY_MS), Ordering::Release);
    }

    /// The present moment in the life of a client.
    #[must_use]
    pub fn stamp(&self, client_id: &str) -> Stamp {
        let place = self.place(client_id);
        let here = self.counters[place].load(Ordering::Acquire);
        let count = here.wrapping_add(self.others.load(Ordering::Acquire));
        Stamp { counter: NonZeroU32::MIN.saturating_add(place as u32), here: here as u32, count }
    }

    /// Whether nothing has changed since then, as far as is known at `now_ms`, in milliseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub fn unchanged_since(&self, stamp: Stamp, now_ms: u64) -> bool {
        now_ms <= self.watched_until_ms.load(Ordering::Acquire) && !self.have_come(stamp)
    }

    /// Waits until something may have changed for the client since then.
    pub async fn changed_since(&self, stamp: Stamp) {
        loop {
            // From here on, who tells of a change wakes this one.
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

    /// Whether something may have changed for the client since then.
    #[inline]
    pub fn have_come(&self, stamp: Stamp) -> bool {
        let others = self.others.load(Ordering::Acquire);
        let counter = self.counters.get(stamp.place());
        counter.is_none_or(|counter| counter.load(Ordering::Acquire).wrapping_add(others) != stamp.count)
    }

    fn group(&self, place: usize) -> &Notify {
        &self.waiting[place % GROUPS]
    }

    /// Whether the changes of others are told of, too.
    #[must_use]
    pub fn tells_of_others(&self) -> bool {
        self.tells_of_others
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
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("tells_of_others", &self.tells_of_others).finish_non_exhaustive()
    }
}

/// Returns what the first of two futures gives.
pub async fn first<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
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
    fn a_stamp_counts_until_its_client_changes() {
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
    async fn who_waits_is_woken_by_a_change_that_may_concern_it() {
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
        // What others do is told apart.
        let stamp = changes.stamp("a");
        let mut here = pin!(changes.changed_here_since(stamp));
        changes.others_changed();
        changes.client_changed(&other);
        assert!(poll_immediate(&mut here).await.is_none());
        changes.client_changed("a");
        here.await;
    }

    #[test]
    fn nothing_counts_unwatched() {
        let changes = Changes::of_watched_store();
        let stamp = changes.stamp("a");
        assert!(!changes.unchanged_since(stamp, 1000));
        changes.watched_until(1050);
        assert!(changes.unchanged_since(stamp, 1050 - MAX_DELAY_MS));
        assert!(!changes.unchanged_since(stamp, 1051 - MAX_DELAY_MS));
    }
}
