//! The connections to a store: those that are kept, and when they are given up.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::Client;
use tokio::time::Instant;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: less than the five seconds after which some servers close theirs (uvicorn, Node).
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the other side's machine may leave unacknowledged what was sent: when it is gone, nobody closes the connection.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(3);

/// Clients with connections of their own.
pub(super) struct Clients {
    /// While one is used, what is idle of the other comes to its end.
    kept: [Client; 2],
    /// Each call of its own, on a new connection.
    fresh: Client,
    turn: Mutex<Turn>,
}

/// Which of the two is used.
#[derive(Clone, Copy, Default)]
struct Turn {
    number: usize,
    began: Option<Instant>,
    /// Whether neither is, since both have connections that are not to be trusted.
    is_fresh: bool,
}

impl Clients {
    pub(super) fn new(is_tls: bool) -> reqwest::Result<Self> {
        let kept = || client(is_tls, usize::MAX);
        Ok(Self { kept: [kept()?, kept()?], fresh: client(is_tls, 0)?, turn: Mutex::default() })
    }

    /// A client that keeps connections, and the number by which they are given up.
    pub(super) fn kept(&self) -> (&Client, usize) {
        let mut turn = self.lock();
        if turn.is_fresh && turn.began.is_none_or(|began| began.elapsed() > IDLE_TIMEOUT) {
            *turn = Turn { number: turn.number + 1, began: Some(Instant::now()), is_fresh: false };
        }
        (if turn.is_fresh { &self.fresh } else { &self.kept[turn.number % 2] }, turn.number)
    }

    pub(super) fn fresh(&self) -> &Client {
        &self.fresh
    }

    /// Uses no connection again that was kept until now: one of them broke, or says nothing any more, and what happened to
    /// it happened to the others, as when a store was restarted or another machine took its place.
    pub(super) fn give_up(&self, number: usize) {
        let mut turn = self.lock();
        if turn.number != number {
            return;
        }
        let is_other_clean = turn.began.is_none_or(|began| began.elapsed() > IDLE_TIMEOUT);
        *turn = Turn {
            number: number + usize::from(is_other_clean),
            began: Some(Instant::now()),
            is_fresh: !is_other_clean,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(is_tls: bool, idle: usize) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("fastauth/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .tcp_keepalive(KEEP_ALIVE);
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(ACKNOWLEDGED_WITHIN);
    // Without TLS there is nothing to verify: a machine without certificates of authorities is none the worse for it.
    let builder = if is_tls { builder } else { builder.tls_certs_only([]) };
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which client is used: the first, the second, or one without kept connections.
    fn used(clients: &Clients) -> (Option<usize>, usize) {
        let (client, number) = clients.kept();
        (clients.kept.iter().position(|kept| std::ptr::eq(kept, client)), number)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_were_given_up_are_not_used_again() {
        let clients = Clients::new(false).expect("it needs nothing");
        let (first, number) = used(&clients);
        assert_eq!(first, Some(0));
        clients.give_up(number);
        // Others find the same out of the same connections.
        clients.give_up(number);
        let (second, number) = used(&clients);
        assert_eq!(second, Some(1));
        clients.give_up(number);
        assert_eq!(used(&clients).0, None, "what the first kept may still be there");
        tokio::time::advance(IDLE_TIMEOUT * 2).await;
        let (third, number) = used(&clients);
        assert_eq!(third, Some(0));
        tokio::time::advance(IDLE_TIMEOUT * 2).await;
        clients.give_up(number);
        assert_eq!(used(&clients).0, Some(1));
    }

    /// Servers close idle connections after five seconds, some of them.
    #[test]
    fn connections_are_kept_for_less_than_servers_keep_them() {
        assert!(IDLE_TIMEOUT < Duration::from_secs(5));
    }
}
