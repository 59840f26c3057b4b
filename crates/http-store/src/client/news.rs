//! What becomes of the calls to a store, told to a listener that counts it.

use std::sync::{Arc, OnceLock};

/// Is told of what becomes of the calls to a store.
pub type CallListener = Arc<dyn Fn(CallNews) + Send + Sync>;

/// Something that became of the calls to a store. Servers are named by their place in the configuration, from one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallNews {
    /// A server is asked, as it is at first, or again.
    Asked {
        /// The place of the server.
        server: usize,
    },
    /// A server failed, and is not asked for a while.
    Spared {
        /// The place of the server.
        server: usize,
    },
    /// One call goes to a server that failed, to see whether it is back.
    Probed {
        /// The place of the server.
        server: usize,
    },
    /// A call was sent a second time.
    Repeated,
    /// A request was refused, for too many wait for the store.
    Refused {
        /// What they wait for: `verify`, `issue` or `revoke`.
        lane: &'static str,
    },
}

/// The listener, if there is one.
#[derive(Clone, Default)]
pub(super) struct News(Arc<OnceLock<CallListener>>);

impl News {
    /// Sets the listener, unless there is one.
    pub(super) fn listen(&self, listener: CallListener) {
        self.0.get_or_init(|| listener);
    }

    pub(super) fn tell(&self, news: CallNews) {
        if let Some(listener) = self.0.get() {
            listener(news);
        }
    }
}
