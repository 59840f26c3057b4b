//! The addresses of one store: which one a call goes to, and which ones are spared because they fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    breaker::Breaker,
    http_client::HttpClient,
    news::{CallNews, News},
    pools::{Pools, Via},
};
use fastauth_core::{random::random_bytes, store::StoreError};

/// A call without an answer for so long is sent a second time, and counts as a failure if it is given up.
pub(super) const SILENCE: Duration = Duration::from_millis(400);

/// The addresses of a store.
pub(super) struct Servers {
    all: Box<[Arc<Server>]>,
}

/// One address of a store, with its own connections.
pub(super) struct Server {
    /// Its place in the configuration, from one on. Logs show it and not the address, in which there may be a password.
    place: usize,
    of: usize,
    pools: Pools,
    breaker: Breaker,
    under_way: AtomicUsize,
    news: News,
}

/// The kind of a call, as far as it matters for where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// It can be sent again elsewhere, so it may be the one that finds out whether a server is back.
    LookUp,
    Usual,
    /// A revocation, which is tried even if all servers fail.
    Urgent,
}

/// Why a call may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Healthy,
    Probe,
    Urgent,
}

/// A call to one server. If it is dropped without an outcome, it counts as a failure if that was after a while.
pub(super) struct Attempt {
    server: Arc<Server>,
    pass: Pass,
    began: Instant,
    /// The number of the kept connections, if it goes on one.
    kept: Option<usize>,
    is_over: bool,
}

impl Servers {
    /// Creates the servers at these addresses.
    pub(super) fn new<'a>(base_urls: impl IntoIterator<Item = &'a str>, news: &News) -> Result<Self, StoreError> {
        let pools = base_urls.into_iter().map(Pools::new).collect::<Result<Vec<_>, _>>()?;
        if pools.is_empty() {
            return Err(super::http_client::failed("the token store has no URL"));
        }
        let of = pools.len();
        let server = |(index, pools)| {
            let breaker = Breaker::new();
            let under_way = AtomicUsize::new(0);
            Arc::new(Server { place: index + 1, of, pools, breaker, under_way, news: news.clone() })
        };
        Ok(Self { all: pools.into_iter().enumerate().map(server).collect() })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Tells of the state of each server.
    pub(super) fn tell(&self) {
        self.all.iter().filter(|server| server.breaker.is_closed()).for_each(|server| server.tell_asked());
    }

    /// Picks the server for a call: of two healthy ones, the one with fewer calls under way. `None` if all are spared.
    pub(super) fn pick(&self, errand: Errand) -> Option<Attempt> {
        let healthy = self.healthy(None);
        if errand == Errand::LookUp || healthy.is_none() {
            let probed = self.all.iter().find(|server| server.breaker.takes_probe());
            if let Some(server) = probed {
                server.news.tell(CallNews::Probed { server: server.place });
                return Some(Attempt::new(server, Pass::Probe));
            }
        }
        match healthy {
            Some(server) => Some(Attempt::new(server, Pass::Healthy)),
            None if errand == Errand::Urgent => {
                let server = self.all.get(random_below(self.all.len()))?;
                Some(Attempt::new(server, Pass::Urgent))
            }
            None => None,
        }
    }

    /// Picks another server than the one that failed.
    pub(super) fn pick_other(&self, failed: &Arc<Server>) -> Option<Attempt> {
        self.healthy(Some(failed)).map(|server| Attempt::new(server, Pass::Healthy))
    }

    /// Picks the server for a second try: another one, or else the same.
    pub(super) fn pick_again(&self, failed: &Arc<Server>) -> Option<Attempt> {
        self.pick_other(failed).or_else(|| failed.again())
    }

    fn healthy(&self, other_than: Option<&Arc<Server>>) -> Option<&Arc<Server>> {
        let is_other = |server: &Arc<Server>| other_than.is_none_or(|other| !Arc::ptr_eq(server, other));
        let is_healthy = |server: &&Arc<Server>| is_other(server) && server.breaker.is_closed();
        if self.all.len() == 1 {
            return self.all.iter().find(is_healthy);
        }
        let healthy: Vec<_> = self.all.iter().filter(is_healthy).collect();
        let first = random_below(healthy.len());
        let second = (first + 1 + random_below(healthy.len().saturating_sub(1))) % healthy.len().max(1);
        let calls = |place: &usize| healthy.get(*place).map(|server| server.under_way.load(Ordering::Relaxed));
        [first, second].into_iter().min_by_key(calls).and_then(|place| healthy.get(place).copied())
    }
}

impl Server {
    /// Returns another attempt at the same server, if it is healthy.
    pub(super) fn again(self: &Arc<Self>) -> Option<Attempt> {
        self.breaker.is_closed().then(|| Attempt::new(self, Pass::Healthy))
    }

    /// Notes that the server was heard of, which shows that it is back.
    pub(super) fn is_alive(&self) {
        if self.breaker.close() {
            self.tell_closed();
        }
    }

    /// Logs an answer that says nothing of the second version, though the store announced it before.
    pub(super) fn tell_mixture(&self) {
        let Self { place, of, .. } = self;
        tracing::warn!(
            target: "fastauth",
            server = place, of,
            "an answer of the token store does not announce the second version, as answers before did: all addresses must lead to the \
             same store, and nothing in between may remove the header `FastAuth-Store`"
        );
    }

    fn tell_closed(&self) {
        let Self { place, of, .. } = self;
        tracing::info!(target: "fastauth", server = place, of, "the token store answers again");
        self.tell_asked();
    }

    fn tell_asked(&self) {
        self.news.tell(CallNews::Asked { server: self.place });
    }

    fn fail(&self, began: Instant, is_probe: bool) {
        let Some(pause) = self.breaker.fail(began, is_probe) else { return };
        let Self { place, of, .. } = self;
        tracing::warn!(
            target: "fastauth",
            server = place, of, ?pause,
            "the token store fails: it is not asked until the pause is over"
        );
        self.news.tell(CallNews::Spared { server: *place });
    }
}

impl Attempt {
    fn new(server: &Arc<Server>, pass: Pass) -> Self {
        server.under_way.fetch_add(1, Ordering::Relaxed);
        Self { server: Arc::clone(server), pass, began: Instant::now(), kept: None, is_over: false }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Returns the client to send the call by.
    pub(super) fn client(&mut self, via: Via) -> HttpClient {
        let pools = &self.server.pools;
        if via == Via::Fresh || self.pass != Pass::Healthy {
            return pools.fresh().clone();
        }
        let (client, number) = pools.kept();
        self.kept = Some(number);
        client.clone()
    }

    /// Returns true if it goes on a connection that may have been kept.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Notes that the server answered as a store does.
    pub(super) fn succeed(mut self) {
        self.is_over = true;
        if self.server.breaker.succeed(self.began, self.pass != Pass::Healthy) {
            self.server.tell_closed();
        }
    }

    /// Notes that the server answered otherwise.
    pub(super) fn fail(mut self) {
        self.note_failure();
    }

    /// Notes that the server did not answer.
    pub(super) fn fail_silently(mut self) {
        self.give_up_connections();
        self.note_failure();
    }

    /// Notes that a connection broke which had been kept, which says nothing of the server: it is to be tried again on a new one.
    pub(super) fn break_off(self) {
        self.give_up_connections();
    }

    fn note_failure(&mut self) {
        self.is_over = true;
        self.server.fail(self.began, self.pass != Pass::Healthy);
    }

    fn give_up_connections(&self) {
        if let Some(number) = self.kept {
            self.server.pools.give_up(number);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.server.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.is_over {
            return;
        }
        if self.began.elapsed() >= SILENCE {
            self.give_up_connections();
            self.note_failure();
        } else if self.pass == Pass::Probe {
            self.server.breaker.give_back_probe();
            self.server.news.tell(CallNews::Spared { server: self.server.place });
        }
    }
}

/// Returns a random number below `end`, which is small; 0 if there is none.
fn random_below(end: usize) -> usize {
    match end {
        0 | 1 => 0,
        end => usize::from(u16::from_ne_bytes(random_bytes())) % end,
    }
}
