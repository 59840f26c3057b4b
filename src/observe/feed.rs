//! The feed of a store behind HTTP: what happens to it is logged and counted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::store::{FeedNews, RestStore};

/// Returns the store with a listener that logs what happens to its feed. With `counts`, it also counts that.
#[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted without it"))]
pub(super) fn feed_of(store: RestStore, counts: bool) -> RestStore {
    #[cfg(feature = "metrics")]
    let metrics = counts.then(super::metrics::FeedMetrics::default);
    let is_read = AtomicBool::new(false);
    store.on_feed(Arc::new(move |news| {
        log(news, &is_read);
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &metrics {
            metrics.count(news);
        }
    }))
}

/// Logs where the feed begins and ends to be read. A store that stays away is told of once.
fn log(news: FeedNews, is_read: &AtomicBool) {
    match news {
        FeedNews::Heartbeat { .. } if news.is_reliable() && !is_read.swap(true, Ordering::Relaxed) => {
            tracing::info!(target: "fastauth", "the token store tells of its changes");
        }
        FeedNews::Lost if is_read.swap(false, Ordering::Relaxed) => {
            tracing::warn!(
                target: "fastauth",
                "the token store tells of its changes no more: until it does, tokens are cached for five seconds"
            );
        }
        FeedNews::Reset => {
            tracing::info!(target: "fastauth", "the token store cannot tell what has changed: all tokens are looked up again");
        }
        _ => {}
    }
}
