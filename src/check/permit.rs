//! The permit of a request that passed the guard.

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::lifetime::{self, Access, EndReason};
use crate::token::Claims;

/// Proof that a request passed its checks. The guard puts it into the extensions of every request that it forwards to a
/// guarded path, and nothing else can create one.
///
/// With the feature `axum` it is an extractor, and so is `Option<Permit>`. If the compiler says that a handler which takes it does not
/// implement `Handler`, that feature is missing: `cargo add fastauth --features axum`.
#[derive(Clone, Debug)]
pub struct Permit {
    master: Option<Arc<str>>,
    access: Option<Arc<Access>>,
}

impl Permit {
    pub(crate) fn new(master: Option<Arc<str>>, access: Option<Arc<Access>>) -> Self {
        Self { master, access }
    }

    /// Returns the client that the access token was issued to, or `None` if the path requires only the master token.
    #[must_use]
    #[inline]
    pub fn client_id(&self) -> Option<&str> {
        self.claims().map(Claims::client_id)
    }

    /// Returns the claims of the access token, or `None` if the path requires only the master token.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.access.as_deref().map(|access| &**access)
    }

    /// Returns the last second in which the access token is valid, since the Unix epoch. If the token has been replaced and is in its
    /// [`access-grace`](crate::SettingsBuilder::access_grace), that ends first.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.access.as_deref().map(Access::last_second)
    }

    /// Returns true if the path requires the master token, which was right.
    #[must_use]
    pub fn passed_master_token(&self) -> bool {
        self.master.is_some()
    }

    /// Returns the name of that master token in `master-tokens`, or `master-token`.
    #[must_use]
    pub fn master_token_name(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// Returns true if the path requires an access token, which was valid and the client's current one.
    #[must_use]
    pub fn passed_access_token(&self) -> bool {
        self.access.is_some()
    }

    /// Resolves when the access token expires, is replaced or is revoked, and with `access-grace` when that has ended: for what goes on after the request was let through, such
    /// as a WebSocket or a long response. It never resolves if the path requires only the master token.
    ///
    /// ```
    /// # async fn serve(permit: fastauth::Permit, work: impl Future<Output = ()>) {
    /// tokio::select! {
    ///     () = work => {}
    ///     reason = permit.ended() => tracing::info!("stopped: {reason}"),
    /// }
    /// # }
    /// ```
    ///
    /// It notices at once what this process issues, refreshes or revokes, and what other processes do to an SQLite file within
    /// some 50 ms, or 300 ms while they write all the time. Any other store is asked again every
    /// [`websocket-recheck`](crate::SettingsBuilder::websocket_recheck). If the store cannot be asked for six times as long, the
    /// permit ends, too.
    ///
    /// It needs a tokio runtime with its time driver, on which one task serves all that wait for the same session. Nothing is
    /// watched before the future is polled, or after it is dropped.
    pub fn ended(&self) -> Ended {
        Ended(match &self.access {
            Some(access) => Wait::Pending(Box::pin(lifetime::end(Arc::clone(access)))),
            None => Wait::Pending(Box::pin(pending())),
        })
    }
}

/// Resolves when a [`Permit`] ends: see [`Permit::ended`]. After that it can be polled again, and resolves to the same reason.
pub struct Ended(Wait);

enum Wait {
    Pending(Pin<Box<dyn Future<Output = EndReason> + Send>>),
    Resolved(EndReason),
}

impl Future for Ended {
    type Output = EndReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<EndReason> {
        let reason = match &mut self.0 {
            Wait::Pending(end) => ready!(end.as_mut().poll(cx)),
            Wait::Resolved(reason) => *reason,
        };
        // Nothing is needed any more to wait.
        self.0 = Wait::Resolved(reason);
        Poll::Ready(reason)
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ended(..)")
    }
}
