//! The store as the guard uses it: each call is timed and has a span, if that is enabled.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{Instrument, Level, Span};

use fastauth_core::forward_store;

#[cfg(feature = "rest")]
use super::{calls::calls_of, feed::feed_of};
use crate::store::{Comparison, OpenedStore, StoreCall, StoreError, StoreFuture, TokenStore};

/// A store whose calls are logged and counted.
pub(crate) struct ObservedStore {
    inner: Arc<dyn TokenStore>,
    #[cfg(feature = "metrics")]
    metrics: Option<super::metrics::StoreMetrics>,
}

impl ObservedStore {
    /// Wraps a store, and listens to it if it is behind HTTP. With `counts`, calls are timed for the recorder of the `metrics` crate.
    pub(crate) fn new(opened: OpenedStore, counts: bool) -> Self {
        match opened {
            #[cfg(feature = "rest")]
            OpenedStore::Rest(store) => Self::of(Arc::new(feed_of(calls_of(store, counts), counts)), counts),
            OpenedStore::Other(store) => Self::of(store, counts),
        }
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted without it"))]
    fn of(inner: Arc<dyn TokenStore>, counts: bool) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            metrics: counts.then(|| super::metrics::StoreMetrics::new(inner.kind())),
            inner,
        }
    }

    #[inline]
    fn is_observed(&self) -> bool {
        #[cfg(feature = "metrics")]
        if self.metrics.is_some() {
            return true;
        }
        tracing::enabled!(target: "fastauth", Level::DEBUG)
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
        if !self.is_observed() {
            return future;
        }
        Box::pin(async move {
            let span = self.span(operation);
            let started = Instant::now();
            let answer = future.instrument(span.clone()).await;
            self.answered(&span, operation, started.elapsed(), answer.as_ref().err());
            answer
        })
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted without it"))]
    fn answered(&self, span: &Span, operation: StoreCall, time: Duration, error: Option<&StoreError>) {
        let outcome = error.map_or("ok", |error| error.kind().code());
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            metrics.record(operation.as_str(), outcome, time);
        }
        span.in_scope(|| {
            let latency_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(target: "fastauth", outcome, latency_us, "the store answered");
        });
    }
}

impl TokenStore for ObservedStore {
    forward_store!(|store| store.inner, call;
        kind load pair pair_of save rotate revoke revoke_access list spend check promises patience changes log);

    fn compare_now(
        &self,
        client_id: &str,
        session: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        if !self.is_observed() {
            return self.inner.compare_now(client_id, session, token);
        }
        let span = self.span(StoreCall::Load);
        let started = Instant::now();
        let answer = span.in_scope(|| self.inner.compare_now(client_id, session, token))?;
        self.answered(&span, StoreCall::Load, started.elapsed(), answer.as_ref().err());
        Some(answer)
    }
}

impl fmt::Debug for ObservedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
