//! The permit of a request that passed the guard.

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Request;

use super::{
    admission::{Admission, Admitted},
    denial::Denial,
    lifetime::{self, Access, EndReason},
    master::MasterToken,
    terms::Terms,
};
use crate::{
    DenialReason,
    rule::{Connect, EndsOn},
    store::first,
    token::Claims,
};

/// Proof that a request passed its checks. The guard puts it into the extensions of every request that it forwards to a
/// guarded path, and nothing else can create one.
///
/// With the feature `axum` it is an extractor, and so is `Option<Permit>`. If the compiler says that a handler which takes it does not
/// implement `Handler`, that feature is missing: `cargo add fastauth --features axum`.
#[derive(Clone, Debug)]
pub struct Permit(Arc<Granted>);

/// What a permit is. Its copies share it: the request has one, and its response another.
#[derive(Clone, Debug)]
struct Granted {
    master: Option<Arc<MasterToken>>,
    access: Option<Arc<Access>>,
    /// When the token was confirmed, since the Unix epoch.
    at: Option<u64>,
    admission: Option<Admission>,
    /// What the path's rule says of responses that go on.
    ends_on: Option<EndsOn>,
    terms: Arc<Terms>,
}

/// Marks a request that the guard let through to a guarded path without a permit.
#[derive(Clone, Debug)]
pub(crate) enum WithoutPermit {
    /// An access token is optional, and there is none.
    Anonymous(Arc<Terms>),
    /// It is a preflight, and `skip-preflight` let it through.
    Preflight(#[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "only extractors answer by it"))] Arc<Terms>),
    /// It would have been refused, and `shadow` let it through.
    Shadow,
}

impl Permit {
    /// Creates the permit of good credentials, by what the rule of the path says of responses that go on.
    #[inline]
    pub(crate) fn new(
        master: Option<Arc<MasterToken>>,
        access: Option<Arc<Access>>,
        at: Option<u64>,
        ends_on: Option<EndsOn>,
        terms: &Arc<Terms>,
    ) -> Self {
        Self(Arc::new(Granted { master, access, at, admission: None, ends_on, terms: Arc::clone(terms) }))
    }

    /// Returns the same by what the rule of the path says of responses that go on.
    #[cfg(test)]
    pub(crate) fn ending_on(mut self, ends_on: Option<EndsOn>) -> Self {
        Arc::make_mut(&mut self.0).ends_on = ends_on;
        self
    }

    /// Returns the same for a request that is let through.
    #[inline]
    pub(crate) fn admitting<B>(mut self, request: &Request<B>, connect: Connect) -> Self {
        let admission = Admission::new(request, connect);
        // The application's check may have kept a copy.
        Arc::make_mut(&mut self.0).admission = Some(admission);
        self
    }

    pub(crate) fn terms(&self) -> &Arc<Terms> {
        &self.0.terms
    }

    /// Creates a denial of a request that has this permit.
    pub(crate) fn denial(&self, reason: DenialReason) -> Denial {
        match &self.0.access {
            Some(access) => Denial::new(reason, access),
            None => reason.into(),
        }
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
        self.0.access.as_deref().map(|access| &**access)
    }

    /// Returns the last second in which the access token is valid, since the Unix epoch. If the token has been replaced and is in its
    /// [`access-grace`](crate::SettingsBuilder::access_grace), that ends first.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.0.access.as_deref().map(Access::last_second)
    }

    /// Returns true if the path requires the master token, which was right.
    #[must_use]
    pub fn passed_master_token(&self) -> bool {
        self.0.master.is_some()
    }

    /// Returns the name of that master token in `master-tokens`, or `master-token`.
    #[must_use]
    pub fn master_token_name(&self) -> Option<&str> {
        self.0.master.as_deref().map(MasterToken::name)
    }

    /// Returns true if the path requires an access token, which was valid and the client's current one.
    #[must_use]
    pub fn passed_access_token(&self) -> bool {
        self.0.access.is_some()
    }

    /// Resolves when the access token expires, is replaced or is revoked, and with `access-grace` when that has ended: for what goes on after the request was let through, such
    /// as a WebSocket. If the path requires only the master token, only a reload ends it.
    ///
    /// It also resolves when a [reload](crate::FastAuthLayer::reload) changes the rules so that they no longer let the request through, or
    /// withdraws its master token or the key that signed its access token. What code asks for beside the rules is not asked again.
    ///
    /// The layer ends event streams and gRPC streams by itself: see the [guide](crate::guide::streams).
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
        self.end_on(EndsOn::Token)
    }

    /// Resolves when the session of the access token is revoked, or its last access token has expired: as [`ended`](Self::ended), but for
    /// what survives a refresh. A token that names no session, as those of `fastauth-api`, cannot be followed, and ends as there.
    ///
    /// With [`access_grace`](crate::SettingsBuilder::access_grace) and without it, only the end of the session counts.
    pub fn session_ended(&self) -> Ended {
        self.end_on(EndsOn::Revoke)
    }

    /// Resolves when what is guarded in code has to end: by default, when what the rule of the path says has happened. With `shadow`, it never
    /// does.
    #[cfg(all(feature = "axum", feature = "websocket"))]
    pub(crate) fn guard_ended(&self, ends_on: Option<EndsOn>) -> Ended {
        match ends_on {
            _ if self.0.terms.shadow => Ended(Wait::Pending(Box::pin(pending()))),
            Some(ends_on) => self.end_on(ends_on),
            None => self.right_ended(),
        }
    }

    /// Resolves when what the rule of the path says has happened, or by default what [`ended`](Self::ended) says.
    pub(crate) fn right_ended(&self) -> Ended {
        self.end_on(self.0.ends_on.unwrap_or_default())
    }

    fn end_on(&self, ends_on: EndsOn) -> Ended {
        let withdrawn = self.clone().withdrawn();
        Ended(Wait::Pending(match (&self.0.access, ends_on) {
            (Some(access), EndsOn::Token) => Box::pin(first(withdrawn, lifetime::end(Arc::clone(access)))),
            (Some(access), EndsOn::Revoke) => Box::pin(first(withdrawn, lifetime::session_end(Arc::clone(access)))),
            (None, _) => Box::pin(withdrawn),
        }))
    }

    /// Waits for a reload after which the rules do not let the request through any more.
    async fn withdrawn(self) -> EndReason {
        let (Some(admission), Some(live)) = (&self.0.admission, self.0.terms.live.upgrade()) else {
            return pending().await;
        };
        let mut numbers = live.numbers();
        // It must not outlast the layer for this.
        drop(live);
        let credentials = Admitted { master: self.0.master.as_deref(), claims: self.claims(), at: self.0.at };
        loop {
            let is_current = *numbers.borrow_and_update() == self.0.terms.number;
            if !is_current
                && let Some(live) = self.0.terms.live.upgrade()
                && !live.still_admits(admission, credentials)
            {
                return EndReason::RuleChanged;
            }
            if numbers.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Returns the permit with which responses end that go on. With `shadow`, none is ended.
    #[inline]
    pub(crate) fn ending(&self) -> Option<Self> {
        (!self.0.terms.shadow).then(|| self.clone())
    }

    /// Returns true if the rule of the path says when its responses end, of whatever kind they are.
    pub(crate) fn ends_every_response(&self) -> bool {
        self.0.ends_on.is_some()
    }
}

/// Resolves when a [`Permit`] ends: see [`Permit::ended`] and [`Permit::session_ended`]. After that it can be polled again, and resolves to the same reason.
pub struct Ended(Wait);

enum Wait {
    Pending(Pin<Box<dyn Future<Output = EndReason> + Send + Sync>>),
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
