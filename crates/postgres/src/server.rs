//! Connections to the server: a small pool to write with, and a few shared ones to read with.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{
    ClientWrapper, Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use fastauth_core::store::StoreError;
use tokio::{sync::OnceCell, task::JoinHandle, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    address::Address,
    error::{failed, is_lost, is_of_pooler, said, timed_out, unreachable},
    tls,
    value::{Query, run},
};

/// How long a new connection may take.
const CONNECTING: Duration = Duration::from_secs(3);
/// How long a look-up may take, in all.
const READING: Duration = Duration::from_secs(5);
/// What holds for a connection that no pooler shares out. The server ends a statement before its caller gives up. Plans are kept, and a
/// plan that was made for a small table must not read through a large one.
const SESSION: &str = "SET statement_timeout = '5s'; SET idle_in_transaction_session_timeout = '5s'; \
     SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off; SET jit = off";

/// How often the two connections of [`is_pooled`] are compared.
const COMPARISONS: usize = 3;

/// A server, and how it is reached.
#[derive(Clone)]
pub(crate) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
    /// A pooler gives each transaction a connection of its choice.
    is_pooled: Arc<AtomicBool>,
}

impl Server {
    /// Finds out how the server is reached.
    pub(crate) async fn find(address: &Address) -> Result<Self, StoreError> {
        let tls = tls::connector(address)?;
        let mut config = address.config.clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECTING);
        }
        let server = Self { config, tls, is_pooled: Arc::new(AtomicBool::new(true)) };
        let is_pooled = server.shares_connections().await?;
        server.is_pooled.store(is_pooled, Ordering::Relaxed);
        Ok(server)
    }

    /// Returns true if nothing that a connection remembers lasts for longer than a transaction.
    pub(crate) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    /// Opens a connection.
    pub(crate) async fn open(&self) -> Result<ClientWrapper, StoreError> {
        self.open_for(|_| ()).await
    }

    /// Opens a connection whose notifications are passed to `on_message`.
    pub(crate) async fn open_for(
        &self,
        on_message: impl FnMut(AsyncMessage) + Send + 'static,
    ) -> Result<ClientWrapper, StoreError> {
        let opened = timeout(CONNECTING, self.try_open(on_message)).await.map_err(|_| timed_out())?;
        opened.map(|(client, task)| ClientWrapper::new(client, task)).map_err(|error| said(&error))
    }

    async fn try_open(
        &self,
        mut on_message: impl FnMut(AsyncMessage) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(message) => on_message(message),
                    // Its callers get an error as well.
                    Err(error) => {
                        let error = said(&error).with_causes();
                        tracing::debug!(target: "fastauth", "a connection to the token database ended: {error}");
                        return;
                    }
                }
            }
        });
        if !self.is_pooled() {
            client.batch_execute(SESSION).await?;
        }
        Ok((client, task))
    }

    /// Returns true if two connections of this process have led to one of the server, or one to two.
    async fn shares_connections(&self) -> Result<bool, StoreError> {
        let connections = [self.open().await?, self.open().await?];
        for _ in 0..COMPARISONS {
            let mut found = Vec::new();
            for client in [&connections[0], &connections[1], &connections[0]] {
                let which = [Query::new("SELECT pg_backend_pid()", [])];
                let rows = timeout(READING, run(client, true, &which))
                    .await
                    .map_err(|_| timed_out())?
                    .map_err(|error| said(&error))?;
                found.extend(rows.iter().flatten().map(|row| row.get::<_, i32>(0)));
            }
            if found[0] == found[1] || found[0] != found[2] {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes note of an error that only a pooler causes.
    pub(crate) fn learn(&self, error: &Error) {
        if is_of_pooler(error) && !self.is_pooled.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: "fastauth", "the token database is behind a pooler that shares out connections: statements are not prepared any more");
        }
    }

    /// Makes a pool of connections to write with.
    pub(crate) fn pool(&self, size: usize) -> Result<Pool, StoreError> {
        let manager = Manager::from_connect(
            self.config.clone(),
            self.clone(),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1).create_timeout(Some(CONNECTING));
        pool.build().map_err(|error| failed("the connections to the database cannot be pooled").caused_by(error))
    }
}

impl Connect for Server {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(self.try_open(|_| ()))
    }
}

/// Takes a connection out of a pool, once one is free.
pub(crate) async fn take(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => said(&error),
        PoolError::Timeout(_) => timed_out(),
        _ => unreachable(),
    })
}

/// A connection that is opened when it is needed, by one of its users for all.
type Shared = Arc<OnceCell<ClientWrapper>>;

/// The connections that look-ups share. Each answers in turn, without waiting in between, which is faster than a connection for each.
pub(crate) struct Readers {
    server: Server,
    shared: Box<[Mutex<Shared>]>,
    next: AtomicUsize,
}

impl Readers {
    pub(crate) fn new(server: Server, count: usize) -> Self {
        let shared = (0..count.max(1)).map(|_| Mutex::default()).collect();
        Self { server, shared, next: AtomicUsize::new(0) }
    }

    /// Runs a query, a second time if the connection turns out to be broken.
    pub(crate) async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.run(&[query]).await.map(|answers| answers.into_iter().flatten().collect())
    }

    /// Runs several queries at once.
    pub(crate) async fn run(&self, queries: &[Query]) -> Result<Vec<Vec<Row>>, StoreError> {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.shared.len();
        let answered = timeout(READING, async {
            match self.try_run(place, queries).await? {
                Ok(rows) => Ok(rows),
                Err(_) => self.try_run(place, queries).await?.map_err(|error| said(&error)),
            }
        });
        let Ok(answered) = answered.await else {
            // The next caller must not wait behind this.
            self.drop_connection(place);
            return Err(timed_out());
        };
        answered
    }

    /// Returns the error of a broken connection as the inner one.
    async fn try_run(&self, place: usize, queries: &[Query]) -> Result<Result<Vec<Vec<Row>>, Error>, StoreError> {
        let shared = self.connection(place);
        let client = shared.get_or_try_init(|| self.server.open()).await?;
        match run(client, self.server.is_pooled(), queries).await {
            Err(error) if is_lost(&error) || is_of_pooler(&error) => {
                self.server.learn(&error);
                self.replace(place, &shared);
                Ok(Err(error))
            }
            Err(error) => Err(said(&error)),
            Ok(rows) => Ok(Ok(rows)),
        }
    }

    fn connection(&self, place: usize) -> Shared {
        let mut shared = self.shared[place].lock().unwrap_or_else(PoisonError::into_inner);
        if shared.get().is_some_and(|client| client.is_closed()) {
            *shared = Shared::default();
        }
        Arc::clone(&shared)
    }

    fn replace(&self, place: usize, broken: &Shared) {
        let mut shared = self.shared[place].lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&shared, broken) {
            *shared = Shared::default();
        }
    }

    fn drop_connection(&self, place: usize) {
        *self.shared[place].lock().unwrap_or_else(PoisonError::into_inner) = Shared::default();
    }
}
