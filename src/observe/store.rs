//! The store as the gate sees it: each call in a span and timed, where somebody is interested.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{Instrument, Level, Span};

use crate::store::{
    Canonical, Changes, Comparison, FamilyFilter, FamilyPage, Promises, Revocation, Revoked, Rotated, Rotation,
    SaveOptions, Saved, StoreError, StoreErrorKind, StoreFuture, StoredPair, TokenRecord, TokenStore,
};

/// What a store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Load,
    Pair,
    Save,
    Rotate,
    Revoke,
    List,
    Spend,
    Check,
    Promises,
}

impl Operation {
    #[cfg(feature = "metrics")]
    pub(super) const COUNT: usize = 9;

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Pair => "pair",
            Self::Save => "save",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::List => "list",
            Self::Spend => "spend",
            Self::Check => "check",
            Self::Promises => "promises",
        }
    }
}

/// A store whose calls are told of.
pub(crate) struct ObservedStore {
    inner: Arc<dyn TokenStore>,
    #[cfg(feature = "metrics")]
    meters: super::meters::StoreMeters,
}

impl ObservedStore {
    pub(crate) fn new(inner: Arc<dyn TokenStore>) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            meters: super::meters::StoreMeters::new(inner.kind()),
            inner,
        }
    }

    fn span(&self, operation: Operation) -> Span {
        tracing::debug_span!(target: "fastauth", "store", store = self.inner.kind(), operation = operation.as_str())
    }

    /// Follows a call. One that is dropped, as that of a client that has left, is not told of.
    fn call<'a, T: 'a>(&'a self, operation: Operation, future: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        if !is_told() {
            return future;
        }
        Box::pin(async move {
            let (span, started) = (self.span(operation), Instant::now());
            let answer = future.instrument(span.clone()).await;
            self.answered(&span, operation, started.elapsed(), answer.as_ref().err());
            answer
        })
    }

    fn answered(&self, span: &Span, operation: Operation, time: Duration, error: Option<&StoreError>) {
        let failed = error.map(StoreError::kind);
        #[cfg(feature = "metrics")]
        self.meters.answered(operation, failed, time);
        let _ = operation;
        span.in_scope(|| {
            let latency_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let outcome = failed.map_or("ok", StoreErrorKind::code);
            tracing::debug!(target: "fastauth", outcome, latency_us, "the store answered");
        });
    }
}

#[inline]
fn is_told() -> bool {
    cfg!(feature = "metrics") || tracing::enabled!(target: "fastauth", Level::DEBUG)
}

impl TokenStore for ObservedStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        self.call(Operation::Load, self.inner.load(client_id, family))
    }

    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        if !is_told() {
            return self.inner.compare_now(client_id, family, token);
        }
        let (span, started) = (self.span(Operation::Load), Instant::now());
        let answer = span.in_scope(|| self.inner.compare_now(client_id, family, token))?;
        self.answered(&span, Operation::Load, started.elapsed(), answer.as_ref().err());
        Some(answer)
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        self.call(Operation::Pair, self.inner.pair(client_id))
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        self.call(Operation::Pair, self.inner.pair_of(client_id, family))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        self.call(Operation::Save, self.inner.save(record, options))
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        self.call(Operation::Rotate, self.inner.rotate(rotation))
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        self.call(Operation::Revoke, self.inner.revoke(revocation, if_version))
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        self.call(Operation::List, self.inner.list(filter))
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        self.call(Operation::Spend, self.inner.spend(ticket, expires_at))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        self.call(Operation::Check, self.inner.check())
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        self.call(Operation::Promises, self.inner.promises())
    }

    fn patience(&self) -> Duration {
        self.inner.patience()
    }

    fn changes(&self) -> Option<&Changes> {
        self.inner.changes()
    }
}

impl fmt::Debug for ObservedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
