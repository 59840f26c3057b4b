//! Exchanges of refresh tokens that are under way. Concurrent requests with one token share a call to the store.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::Instant};
use tracing::Instrument;

use crate::{
    issue::IssueErrorKind,
    observe::Issued,
    store::{StoreError, StoreErrorKind, TokenDigest},
    tokens::issued::IssuedTokens,
    trace,
};

/// The outcome of an exchange.
pub(crate) type Exchanged = Result<(IssuedTokens, Issued), IssueErrorKind>;

/// The age up to which an exchange is joined. A store answers sooner, and one that does not must not block a token for good.
const MAX_AGE: Duration = Duration::from_secs(15);

/// The exchanges that are under way, at most one for each token.
///
/// Each runs in a task of its own, so it goes on if its callers disconnect. Nothing is kept: when it ends, the next request
/// begins a new one, and the store decides again.
#[derive(Clone, Default)]
pub(crate) struct Rotations {
    under_way: UnderWay,
}

type UnderWay = Arc<Mutex<HashMap<TokenDigest, Exchange>>>;

struct Exchange {
    began: Instant,
    /// `None` until it ends.
    outcome: watch::Receiver<Option<Exchanged>>,
}

impl Rotations {
    /// Waits for the exchange of this token that is under way, or begins it with `exchange`.
    pub(crate) async fn join(
        &self,
        token: TokenDigest,
        exchange: impl Future<Output = Exchanged> + Send + 'static,
    ) -> Exchanged {
        // Without a runtime, only a store in memory can answer, and it does so at once.
        let Ok(runtime) = Handle::try_current() else { return exchange.await };
        let (mut outcome, is_first) = self.find_or_begin(token, &runtime, exchange);
        let outcome = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        match outcome {
            None => Err(IssueErrorKind::Store(StoreError::new(StoreErrorKind::Failed, "the exchange did not end"))),
            Some(outcome) if is_first => outcome,
            Some(Ok((issued, _))) => Ok((issued, Issued::Repeated)),
            // The first request has proved the reuse, and the session is revoked by now.
            Some(Err(IssueErrorKind::Reused)) => Err(IssueErrorKind::Revoked),
            Some(Err(error)) => Err(error),
        }
    }

    fn find_or_begin(
        &self,
        token: TokenDigest,
        runtime: &Handle,
        exchange: impl Future<Output = Exchanged> + Send + 'static,
    ) -> (watch::Receiver<Option<Exchanged>>, bool) {
        let mut under_way = lock(&self.under_way);
        if let Some(found) = under_way.get(&token).filter(|found| found.began.elapsed() < MAX_AGE) {
            return (found.outcome.clone(), false);
        }
        let (ended, outcome) = watch::channel(None);
        let began = Instant::now();
        under_way.insert(token, Exchange { began, outcome: outcome.clone() });
        let removal = Removal { under_way: Arc::clone(&self.under_way), token, outcome: outcome.clone() };
        let run = async move {
            let outcome = exchange.await;
            drop(removal);
            ended.send_replace(Some(outcome));
        };
        runtime.spawn(trace::within(trace::parent(), run).in_current_span());
        (outcome, true)
    }
}

/// Removes its exchange, even if that is dropped or panics.
struct Removal {
    under_way: UnderWay,
    token: TokenDigest,
    outcome: watch::Receiver<Option<Exchanged>>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        // A later one may have taken its place.
        if under_way.get(&self.token).is_some_and(|found| found.outcome.same_channel(&self.outcome)) {
            under_way.remove(&self.token);
        }
    }
}

// Nothing that runs while it is locked leaves it half changed.
fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashMap<TokenDigest, Exchange>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Rotations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotations").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn token() -> TokenDigest {
        TokenDigest::of("a.b.c")
    }

    async fn ended() -> Exchanged {
        Err(IssueErrorKind::Superseded)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_store_does_not_block_a_token_for_good() {
        let rotations = Rotations::default();
        let stuck = tokio::time::timeout(MAX_AGE - Duration::from_secs(1), rotations.join(token(), pending())).await;
        assert!(stuck.is_err());
        let joined = tokio::time::timeout(Duration::from_millis(10), rotations.join(token(), ended())).await;
        assert!(joined.is_err(), "it is still under way");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(rotations.join(token(), ended()).await, Err(IssueErrorKind::Superseded)));
        assert!(lock(&rotations.under_way).is_empty(), "the later one has ended, and was the one in the table");
    }

    #[tokio::test]
    async fn panicking_exchange_is_an_error_and_is_not_kept() {
        let rotations = Rotations::default();
        let failed = rotations.join(token(), async { panic!("the store panics") }).await;
        assert!(matches!(failed, Err(IssueErrorKind::Store(_))));
        assert!(matches!(rotations.join(token(), ended()).await, Err(IssueErrorKind::Superseded)));
        assert!(lock(&rotations.under_way).is_empty());
    }

    #[tokio::test]
    async fn reuse_is_reported_once() {
        let rotations = Rotations::default();
        let reused = async { Err(IssueErrorKind::Reused) };
        let (first, second) = tokio::join!(rotations.join(token(), reused), rotations.join(token(), ended()));
        assert!(matches!((first, second), (Err(IssueErrorKind::Reused), Err(IssueErrorKind::Revoked))));
    }
}
