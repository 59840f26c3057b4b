//! The store as the guard uses it: each call is timed and has a span, if that is enabled.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{Instrument, Level, Span};

use fastauth_core::forward_store;

use crate::store::{Comparison, StoreCall, StoreError, StoreErrorKind, StoreFuture, TokenStore};

/// A store whose calls are logged and counted.
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

    fn span(&self, operation: StoreCall) -> Span {
        tracing::debug_span!(target: "fastauth", "store", store = self.inner.kind(), operation = operation.as_str())
    }

    /// Logs and counts a call. A call that is dropped, because its client has left, is not logged.
    fn call<'a, T: 'a>(
        &'a self,
        operation: StoreCall,
        inner: impl FnOnce() -> StoreFuture<'a, T>,
    ) -> StoreFuture<'a, T> {
        let future = inner();
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

    fn answered(&self, span: &Span, operation: StoreCall, time: Duration, error: Option<&StoreError>) {
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
    forward_store!(|store| store.inner, call;
        kind load pair pair_of save rotate revoke list spend check promises patience changes);

    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        if !is_told() {
            return self.inner.compare_now(client_id, family, token);
        }
        let (span, started) = (self.span(StoreCall::Load), Instant::now());
        let answer = span.in_scope(|| self.inner.compare_now(client_id, family, token))?;
        self.answered(&span, StoreCall::Load, started.elapsed(), answer.as_ref().err());
        Some(answer)
    }
}

impl fmt::Debug for ObservedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
