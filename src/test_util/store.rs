//! A store that fails when it is told to.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::store::{
    Canonical, Changes, Comparison, FamilyFilter, FamilyPage, Promises, Revocation, Revoked, Rotated, Rotation,
    SaveOptions, Saved, StoreError, StoreErrorKind, StoreFuture, StoredPair, TokenRecord, TokenStore,
};

/// Passes calls on to another store, unless it is told to fail or to take its time, and counts them. A clone is another handle
/// on the same.
///
/// To the guard it is what a store behind HTTP is: every request asks it, but for those that `cache-ttl` answers. So what it
/// does is seen at once. A call that fails does not reach the store beneath.
///
/// ```
/// use fastauth::{store::{MemoryStore, StoreErrorKind, TokenStore}, test_util::{FailingStore, StoreCall}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = FailingStore::new(MemoryStore::new());
/// store.fail_next(1);
/// assert_eq!(store.pair("alice").await.unwrap_err().kind(), StoreErrorKind::Unreachable);
/// assert_eq!(store.pair("alice").await.unwrap(), None);
/// assert_eq!(store.calls(StoreCall::Pair), 2);
/// # }
/// ```
#[derive(Clone)]
pub struct FailingStore<S> {
    inner: S,
    changes: Arc<Changes>,
    script: Arc<Mutex<Script>>,
}

/// What a store is asked to do: the methods of [`TokenStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StoreCall {
    /// [`load`](TokenStore::load), and [`compare_now`](TokenStore::compare_now) where that answers.
    Load,
    /// [`pair`](TokenStore::pair) and [`pair_of`](TokenStore::pair_of)
    Pair,
    /// [`save`](TokenStore::save)
    Save,
    /// [`rotate`](TokenStore::rotate)
    Rotate,
    /// [`revoke`](TokenStore::revoke)
    Revoke,
    /// [`list`](TokenStore::list)
    List,
    /// [`spend`](TokenStore::spend)
    Spend,
    /// [`promises`](TokenStore::promises)
    Promises,
}

/// What it was told, and what it was asked.
#[derive(Default)]
struct Script {
    fail_next: usize,
    fail_all: Option<StoreErrorKind>,
    fail_on: BTreeMap<StoreCall, StoreErrorKind>,
    delay: Duration,
    calls: BTreeMap<StoreCall, u64>,
}

impl Script {
    fn is_well(&self) -> bool {
        self.fail_next == 0 && self.fail_all.is_none() && self.fail_on.is_empty() && self.delay.is_zero()
    }

    fn count(&mut self, call: StoreCall) {
        *self.calls.entry(call).or_default() += 1;
    }

    /// How a call ends, where it fails.
    fn failure(&mut self, call: StoreCall) -> Option<StoreErrorKind> {
        let lasting = self.fail_all.or_else(|| self.fail_on.get(&call).copied());
        if lasting.is_none() && self.fail_next > 0 {
            self.fail_next -= 1;
            return Some(StoreErrorKind::Unreachable);
        }
        lasting
    }
}

impl<S: TokenStore> FailingStore<S> {
    /// Puts itself before a store. Nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self { inner, changes: Arc::new(Changes::of_shared_store()), script: Arc::default() }
    }

    /// Lets the next calls, so many of them, fail as if the store could not be reached.
    pub fn fail_next(&self, calls: usize) {
        self.script(|script| script.fail_next = calls);
    }

    /// Lets every call fail in this way, until it is told to [`recover`](Self::recover).
    pub fn fail_all(&self, kind: StoreErrorKind) {
        self.script(|script| script.fail_all = Some(kind));
    }

    /// Lets every call of one method fail in this way, until it is told to [`recover`](Self::recover).
    pub fn fail_on(&self, call: StoreCall, kind: StoreErrorKind) {
        self.script(|script| script.fail_on.insert(call, kind));
    }

    /// Lets every call wait so long before anything happens, by tokio's clock, until it is told to
    /// [`recover`](Self::recover).
    pub fn delay(&self, delay: Duration) {
        self.script(|script| script.delay = delay);
    }

    /// Lets no call fail or wait any more.
    pub fn recover(&self) {
        self.script(|script| *script = Script { calls: std::mem::take(&mut script.calls), ..Script::default() });
    }

    /// How often it was asked to do this, those that failed among them.
    #[must_use]
    pub fn calls(&self, call: StoreCall) -> u64 {
        self.script(|script| script.calls.get(&call).copied().unwrap_or_default())
    }

    /// The store beneath.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The same store for who does not take part in the test: its calls neither fail nor count.
    pub(super) fn apart(&self) -> Self
    where
        S: Clone,
    {
        Self { inner: self.inner.clone(), changes: Arc::clone(&self.changes), script: Arc::default() }
    }

    /// Nothing can panic while it is locked, so a poisoned lock still guards a whole script.
    fn script<T>(&self, work: impl FnOnce(&mut Script) -> T) -> T {
        work(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn call<'a, T: 'a>(
        &'a self,
        call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        let (failure, delay) = self.script(|script| {
            script.count(call);
            (script.failure(call), script.delay)
        });
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            match failure {
                Some(kind) => Err(StoreError::new(kind, "the test told the token store to fail")),
                None => inner().await,
            }
        })
    }

    /// A call that writes, and what it tells of that afterwards.
    fn write<'a, T: Send + 'a>(
        &'a self,
        call: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T> + Send + 'a,
        announce: impl FnOnce(&Changes) + Send + 'a,
    ) -> StoreFuture<'a, T> {
        let written = self.call(call, inner);
        Box::pin(async move {
            let written = written.await;
            announce(&self.changes);
            written
        })
    }
}

impl<S: TokenStore> TokenStore for FailingStore<S> {
    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        self.call(StoreCall::Load, move || self.inner.load(client_id, family))
    }

    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        if !self.script(|script| script.is_well()) {
            return None;
        }
        let answer = self.inner.compare_now(client_id, family, token)?;
        self.script(|script| script.count(StoreCall::Load));
        Some(answer)
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        self.call(StoreCall::Pair, move || self.inner.pair(client_id))
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        self.call(StoreCall::Pair, move || self.inner.pair_of(client_id, family))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        let announce = |changes: &Changes| changes.client_changed(&record.client_id);
        self.write(StoreCall::Save, move || self.inner.save(record, options), announce)
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        let announce = |changes: &Changes| changes.client_changed(&rotation.successor.client_id);
        self.write(StoreCall::Rotate, move || self.inner.rotate(rotation), announce)
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        let announce = |changes: &Changes| changes.revoked(revocation);
        self.write(StoreCall::Revoke, move || self.inner.revoke(revocation, if_version), announce)
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        self.call(StoreCall::List, move || self.inner.list(filter))
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        self.call(StoreCall::Spend, move || self.inner.spend(ticket, expires_at))
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        self.call(StoreCall::Promises, || self.inner.promises())
    }

    fn patience(&self) -> Duration {
        self.inner.patience()
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }
}

impl<S: fmt::Debug> fmt::Debug for FailingStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailingStore").field(&self.inner).finish()
    }
}
