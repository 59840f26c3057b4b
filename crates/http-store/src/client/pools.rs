//! The connections to a store: those that are kept, and when they are given up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::http_client::{HttpClient, IDLE_TIMEOUT};
use fastauth_core::store::StoreError;

/// The connection that a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// One that was kept, if there is one.
    Kept,
    /// A new one.
    Fresh,
}

/// Two clients that keep connections, used in turn, and one that keeps none.
pub(super) struct Pools {
    /// While one is used, the idle connections of the other run out.
    kept: [HttpClient; 2],
    fresh: HttpClient,
    current: Mutex<Current>,
}

/// The pool in use, as a number that grows with every switch.
#[derive(Clone, Copy, Default)]
struct Current {
    number: usize,
    began: Option<Instant>,
    /// True if neither pool is used, since both have connections that are not to be trusted.
    is_fresh: bool,
}

impl Pools {
    pub(super) fn new(base_url: &str) -> Result<Self, StoreError> {
        let client = HttpClient::new(base_url)?;
        Ok(Self { fresh: client.without_reuse(), kept: [client.apart(), client], current: Mutex::default() })
    }

    /// Returns a client that keeps connections, and the number by which they are given up.
    pub(super) fn kept(&self) -> (&HttpClient, usize) {
        let mut current = self.lock();
        if current.is_fresh && current.began.is_none_or(|began| began.elapsed() > IDLE_TIMEOUT) {
            *current = Current { number: current.number + 1, began: Some(Instant::now()), is_fresh: false };
        }
        (if current.is_fresh { &self.fresh } else { &self.kept[current.number % 2] }, current.number)
    }

    pub(super) fn fresh(&self) -> &HttpClient {
        &self.fresh
    }

    /// Stops using every connection that was kept until now: one of them broke or went silent, and what happened to it
    /// happened to the others, as when a store was restarted or another machine took its place.
    pub(super) fn give_up(&self, number: usize) {
        let mut current = self.lock();
        if current.number != number {
            return;
        }
        let is_other_clean = current.began.is_none_or(|began| began.elapsed() > IDLE_TIMEOUT);
        *current = Current {
            number: number + usize::from(is_other_clean),
            began: Some(Instant::now()),
            is_fresh: !is_other_clean,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns which client is used: the first, the second, or one without kept connections.
    fn used(pools: &Pools) -> (Option<usize>, usize) {
        let (client, number) = pools.kept();
        (pools.kept.iter().position(|kept| std::ptr::eq(kept, client)), number)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_were_given_up_are_not_used_again() {
        let pools = Pools::new("http://db.example").expect("it needs nothing");
        let (first, number) = used(&pools);
        assert_eq!(first, Some(0));
        pools.give_up(number);
        // Other calls find the same out of the same connections.
        pools.give_up(number);
        let (second, number) = used(&pools);
        assert_eq!(second, Some(1));
        pools.give_up(number);
        assert_eq!(used(&pools).0, None, "what the first kept may still be there");
        tokio::time::advance(IDLE_TIMEOUT * 2).await;
        let (third, number) = used(&pools);
        assert_eq!(third, Some(0));
        tokio::time::advance(IDLE_TIMEOUT * 2).await;
        pools.give_up(number);
        assert_eq!(used(&pools).0, Some(1));
    }

    /// Some servers close idle connections after five seconds.
    #[test]
    fn connections_are_kept_for_less_than_servers_keep_them() {
        assert!(IDLE_TIMEOUT < Duration::from_secs(5));
    }
}
