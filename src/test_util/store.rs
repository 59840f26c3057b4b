//! A store that fails on demand.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastauth_core::forward_store;

pub use crate::store::StoreCall;
use crate::store::{
    Changes, Comparison, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError, StoreErrorKind,
    StoreFuture, TokenRecord, TokenStore,
};

/// A store that counts calls and forwards them to another store, unless a test makes it fail or wait. A clone is another handle on
/// the same store.
///
/// The guard treats it like a store behind HTTP: every request asks it, except those that `cache-ttl` answers. A failure is
/// therefore seen at once. A failing call does not reach the store beneath.
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

/// The failures that a test has ordered, and the calls so far.
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

    /// Returns the error of a call if it fails.
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
    /// Wraps a store. Nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self { inner, changes: Arc::new(Changes::of_shared_store()), script: Arc::default() }
    }

    /// Makes the next `calls` calls fail as if the store could not be reached.
    pub fn fail_next(&self, calls: usize) {
        self.script(|script| script.fail_next = calls);
    }

    /// Makes every call fail with this kind of error, until [`recover`](Self::recover).
    pub fn fail_all(&self, kind: StoreErrorKind) {
        self.script(|script| script.fail_all = Some(kind));
    }

    /// Makes every call of one method fail with this kind of error, until [`recover`](Self::recover).
    pub fn fail_on(&self, call: StoreCall, kind: StoreErrorKind) {
        self.script(|script| script.fail_on.insert(call, kind));
    }

    /// Makes every call wait first, by tokio's clock, until [`recover`](Self::recover).
    pub fn delay(&self, delay: Duration) {
        self.script(|script| script.delay = delay);
    }

    /// Ends all failures and delays.
    pub fn recover(&self) {
        self.script(|script| *script = Script { calls: std::mem::take(&mut script.calls), ..Script::default() });
    }

    /// Returns the number of calls of one method, including those that failed.
    #[must_use]
    pub fn calls(&self, call: StoreCall) -> u64 {
        self.script(|script| script.calls.get(&call).copied().unwrap_or_default())
    }

    /// Returns the store beneath.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns a handle on the same store whose calls neither fail nor count.
    pub(super) fn apart(&self) -> Self
    where
        S: Clone,
    {
        Self { inner: self.inner.clone(), changes: Arc::clone(&self.changes), script: Arc::default() }
    }

    // Nothing can panic while it is locked, so a poisoned lock still guards a whole script.
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

    fn announced<'a, T: Send + 'a>(
        &'a self,
        written: StoreFuture<'a, T>,
        announce: impl FnOnce(&Changes) + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let written = written.await;
            announce(&self.changes);
            written
        })
    }
}

impl<S: TokenStore> TokenStore for FailingStore<S> {
    forward_store!(|store| store.inner, call; load pair pair_of list spend promises patience);

    fn compare_now(
        &self,
        client_id: &str,
        session: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        if !self.script(|script| script.is_well()) {
            return None;
        }
        let answer = self.inner.compare_now(client_id, session, token)?;
        self.script(|script| script.count(StoreCall::Load));
        Some(answer)
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        let saved = self.call(StoreCall::Save, move || self.inner.save(record, options));
        self.announced(saved, |changes| changes.client_changed(&record.client_id))
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        let rotated = self.call(StoreCall::Rotate, move || self.inner.rotate(rotation));
        self.announced(rotated, |changes| changes.client_changed(&rotation.successor.client_id))
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        let revoked = self.call(StoreCall::Revoke, move || self.inner.revoke(revocation, if_version));
        self.announced(revoked, |changes| changes.revoked(revocation))
    }

    fn revoke_access<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, u64> {
        let revoked = self.call(StoreCall::RevokeAccess, move || self.inner.revoke_access(client_id, session));
        self.announced(revoked, |changes| changes.client_changed(client_id))
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
