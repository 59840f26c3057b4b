//! Stores to test with, and a real REST store to reach them through.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
#[cfg(feature = "test-util")]
use fastauth::test_util::ManualClock;
use fastauth::{
    Secret,
    store::{
        CurrentTokens, MemoryStore, RestStore, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved,
        SessionEntry, SessionFilter, SqliteStore, StoreError, StoreService, TokenDigest, TokenEntry, TokenRecord,
        TokenStore, forward_store,
    },
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::v1::Rows;

/// A store with whatever has to live as long as it does.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn TokenStore>,
    _server: Option<StoreServer>,
    _directory: Option<TempDir>,
}

pub(crate) async fn memory() -> Fixture {
    Fixture { store: Arc::new(MemoryStore::new()), _server: None, _directory: None }
}

pub(crate) async fn sqlite() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(directory.path().join("tokens.db")).unwrap());
    Fixture { store, _server: None, _directory: Some(directory) }
}

/// A store in PostgreSQL, if there is a server on this machine.
pub(crate) async fn postgres() -> Option<Fixture> {
    #[cfg(target_os = "linux")]
    if let Some(store) = super::postgres::store().await {
        return Some(Fixture { store: Arc::new(store), _server: None, _directory: None });
    }
    None
}

/// A `RestStore` before a `StoreService` before a `PostgresStore`, if there is a server on this machine.
pub(crate) async fn rest_postgres() -> Option<Fixture> {
    match postgres().await {
        Some(behind) => Some(behind_http(behind).await),
        None => None,
    }
}

/// A store in memory with this clock.
#[cfg(feature = "test-util")]
pub(crate) fn memory_by(clock: &ManualClock) -> Arc<dyn TokenStore> {
    Arc::new(MemoryStore::with_clock(clock))
}

/// The stores that promise everything, by their names, with this clock.
#[cfg(feature = "test-util")]
pub(crate) async fn with_clock(clock: &ManualClock) -> [(&'static str, Fixture); 3] {
    let sqlite = || {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open_with_clock(directory.path().join("tokens.db"), clock).unwrap());
        Fixture { store, _server: None, _directory: Some(directory) }
    };
    let memory = Fixture { store: memory_by(clock), _server: None, _directory: None };
    [("memory", memory), ("sqlite", sqlite()), ("rest", behind_http(sqlite()).await)]
}

/// A `RestStore` before a `StoreService` before a `SqliteStore`.
pub(crate) async fn rest() -> Fixture {
    behind_http(sqlite().await).await
}

async fn behind_http(behind: Fixture) -> Fixture {
    let server = StoreServer::start(behind.store, None).await;
    Fixture { store: Arc::new(server.client()), _server: Some(server), _directory: behind._directory }
}

/// A `RestStore` before a store of the first version.
pub(crate) async fn rest_v1() -> Fixture {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let store = RestStore::new(&format!("http://{}", listener.local_addr().unwrap()), HeaderMap::new()).unwrap();
    tokio::spawn(async move { axum::serve(listener, super::v1::app(Rows::default())).await });
    Fixture { store: Arc::new(store), _server: None, _directory: None }
}

/// A store that keeps no log of its changes, and so has no feed.
#[derive(Clone, Debug)]
pub(crate) struct WithoutLog(pub(crate) MemoryStore);

impl TokenStore for WithoutLog {
    forward_store!(|store| store.0;
        kind load compare_now pair pair_of save rotate revoke revoke_access list spend check promises patience changes);
}

/// When the tokens of the tests end: later than any test runs.
const FAR_AWAY: u64 = 4_000_000_000;

const BEARER: &str = "let-me-in-to-this-store";

/// A real REST store on a port of the system's choice. It stops when it is dropped.
pub(crate) struct StoreServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    service: StoreService,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl StoreServer {
    /// Serves `store`, at the address of a server before it if there was one.
    pub(crate) async fn start(store: Arc<dyn TokenStore>, address: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address.unwrap_or_else(any_port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = StoreService::new(store).bearer(Secret::from(BEARER)).unwrap();
        let app = Router::new().nest_service("/mydb/data", service.clone());
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let listener = listener.tap_io(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap();
        });
        Self { address, connections, service, stop: Some(stop), serving }
    }

    /// A new client of this server.
    pub(crate) fn client(&self) -> RestStore {
        let bearer = HeaderValue::try_from(format!("Bearer {BEARER}")).unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        RestStore::new(&format!("http://{}/mydb/data/", self.address), headers).unwrap()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Stops the server, and returns the address that is free then.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        drop(self.stop.take());
        self.service.stop_feed();
        (&mut self.serving).await.unwrap();
        self.address
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The pair number `n` of a client: its two tokens name it, so that halves of two pairs are told apart.
pub(crate) fn record(client_id: &str, session: &str, generation: u64, n: impl Display) -> TokenRecord {
    let entry =
        |text: String| TokenEntry { digest: TokenDigest::of(&text), text: Secret::from(text), expires_at: FAR_AWAY };
    TokenRecord {
        client_id: client_id.to_owned(),
        session: session.to_owned(),
        generation,
        kid: format!("key-{n}"),
        access: entry(format!("access-{n}")),
        refresh: entry(refresh(n)),
    }
}

/// The refresh token of the pair number `n`.
pub(crate) fn refresh(n: impl Display) -> String {
    format!("refresh-{n}")
}

/// The exchange of a refresh token that names no session for the pair number `n`, which names none either.
pub(crate) fn exchange(client_id: &str, presented: &str, n: impl Display) -> Rotation {
    Rotation {
        presented: TokenDigest::of(presented),
        presented_session: None,
        successor: record(client_id, "", 0, n),
        grace: Duration::ZERO,
        decided_after: 0,
    }
}

/// The exchange of pair `old` of a session, which is of this generation, for pair `new`.
pub(crate) fn renewal(
    client_id: &str,
    session: &str,
    generation: u64,
    old: impl Display,
    new: impl Display,
) -> Rotation {
    Rotation {
        presented: TokenDigest::of(refresh(old)),
        presented_session: Some((session.to_owned(), generation)),
        successor: record(client_id, session, generation + 1, new),
        grace: Duration::ZERO,
        decided_after: 0,
    }
}

/// Access and refresh token of a pair that is held.
pub(crate) type Held = Option<(Option<String>, Option<String>)>;

/// The pair number `n`, held.
pub(crate) fn held(n: impl Display) -> Held {
    Some((Some(format!("access-{n}")), Some(refresh(n))))
}

/// What tokens of the pair number `n` are compared with, in a store that does not count.
pub(crate) fn current(n: impl Display) -> Option<CurrentTokens> {
    let record = record("", "", 0, n);
    Some(CurrentTokens {
        access: Some(record.access.digest),
        refresh: Some(record.refresh.digest),
        previous_access: None,
        version: None,
    })
}

/// The calls of a client that has one pair, and no session.
pub(crate) trait OnePair: TokenStore {
    /// Saves the pair number `n`.
    async fn put(&self, client_id: &str, n: impl Display) -> Result<(), StoreError> {
        let saved = self.save(&record(client_id, "", 0, n), SaveOptions::default()).await?;
        assert!(matches!(saved, Saved::Saved(_)), "{saved:?}");
        Ok(())
    }

    /// The pair that is held.
    async fn held(&self, client_id: &str) -> Result<Held, StoreError> {
        let text = |token: Option<Secret>| token.map(|token| token.expose().to_owned());
        Ok(self.pair(client_id).await?.map(|pair| (text(pair.access_token), text(pair.refresh_token))))
    }

    /// Exchanges a refresh token for the pair number `n`.
    async fn exchange(&self, client_id: &str, presented: &str, n: impl Display) -> Result<Rotated, StoreError> {
        self.rotate(&exchange(client_id, presented, n)).await
    }
}

impl<T: TokenStore + ?Sized> OnePair for T {}

/// The calls of a client that has many sessions.
pub(crate) trait ManySessions: TokenStore {
    /// Begins a session with the pair number `n`, beside the client's others, and says its version.
    async fn begin(&self, client_id: &str, session: &str, n: impl Display) -> u64 {
        let options = SaveOptions { keep_others: true, ..SaveOptions::default() };
        match self.save(&record(client_id, session, 0, n), options).await.unwrap() {
            Saved::Saved(version) => version,
            Saved::ConditionFailed => panic!("there was no condition"),
        }
    }

    /// Exchanges pair `old` of a session, which is of this generation, for pair `new`, without a grace.
    async fn renew(&self, client_id: &str, session: &str, generation: u64, old: i32, new: i32) -> Rotated {
        self.rotate(&renewal(client_id, session, generation, old, new)).await.unwrap()
    }

    /// Whether the pair number `n` is what the tokens of a session are compared with.
    async fn accepts(&self, client_id: &str, session: &str, n: impl Display) -> bool {
        let found = self.load(client_id, Some(session)).await.unwrap();
        let found = found.map(|found| CurrentTokens { previous_access: None, version: None, ..found });
        found.is_some() && found == current(n)
    }

    /// The version of what was issued last.
    async fn version(&self, client_id: &str) -> Option<u64> {
        self.pair(client_id).await.unwrap().map(|pair| pair.version.expect("it counts"))
    }

    async fn revoke_all_of(&self, client_id: &str) -> Revoked {
        self.revoke(&Revocation::Client(client_id.to_owned()), None).await.unwrap()
    }

    async fn revoke_session(&self, client_id: &str, session: &str) -> Revoked {
        self.revoke(&session_of(client_id, session), None).await.unwrap()
    }

    /// What a filter finds, on as many pages as it takes.
    async fn all(&self, filter: SessionFilter) -> Vec<SessionEntry> {
        let mut found = Vec::new();
        let mut filter = filter;
        loop {
            let page = self.list(&filter).await.unwrap();
            found.extend(page.sessions);
            assert!(page.next.is_none() || page.next > filter.after, "the list does not get on");
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return found,
            }
        }
    }

    /// The one session of that name.
    async fn session(&self, client_id: &str, session: &str) -> SessionEntry {
        let of_client = SessionFilter { client_id: Some(client_id.to_owned()), ..SessionFilter::default() };
        let mut found = self.all(of_client).await;
        found.retain(|entry| entry.session == session);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

impl<T: TokenStore + ?Sized> ManySessions for T {}

pub(crate) fn session_of(client_id: &str, session: &str) -> Revocation {
    Revocation::Session { client_id: client_id.to_owned(), session: session.to_owned() }
}
