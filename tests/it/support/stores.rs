//! Stores to test with, and a real REST store to reach them through.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, serve::ListenerExt};
use fastauth::{
    Secret,
    store::{MemoryStore, RestStore, SqliteStore, StoreService, TokenPair, TokenStore},
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

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

/// A `RestStore` before a `StoreService` before a `SqliteStore`.
pub(crate) async fn rest() -> Fixture {
    let behind = sqlite().await;
    let server = StoreServer::start(behind.store, None).await;
    Fixture { store: Arc::new(server.client()), _server: Some(server), _directory: behind._directory }
}

const BEARER: &str = "let-me-in";

/// A real REST store on a port of the system's choice. It stops when it is dropped.
pub(crate) struct StoreServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl StoreServer {
    /// Serves `store`, at the address of a server before it if there was one.
    pub(crate) async fn start(store: Arc<dyn TokenStore>, address: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address.unwrap_or_else(any_port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = StoreService::new(store).bearer(Secret::from(BEARER));
        let app = Router::new().nest_service("/mydb/data", service);
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let listener = listener.tap_io(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap();
        });
        Self { address, connections, stop: Some(stop), serving }
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

/// The pair number `n`: its two tokens name it, so that halves of two pairs are told apart.
pub(crate) fn pair(n: impl std::fmt::Display) -> TokenPair {
    TokenPair { access_token: format!("access-{n}").into(), refresh_token: format!("refresh-{n}").into() }
}
