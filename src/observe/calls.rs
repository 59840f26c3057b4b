//! The calls to a store behind HTTP: what becomes of them is counted.

use crate::store::RestStore;

/// Returns the store with a listener that counts what becomes of its calls, if `counts`. The store logs it itself.
#[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted without it"))]
pub(super) fn calls_of(store: RestStore, counts: bool) -> RestStore {
    #[cfg(feature = "metrics")]
    if counts {
        let metrics = super::metrics::CallMetrics::new();
        return store.on_calls(std::sync::Arc::new(move |news| metrics.count(news)));
    }
    store
}
