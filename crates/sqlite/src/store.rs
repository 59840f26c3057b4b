//! The store itself: its threads and connections, and the contract on top of them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, mpsc},
    thread,
    time::{Duration, Instant},
};

use fastauth_core::{
    clock::Clock,
    store::{
        ChangeLog, Changes, Comparison, CurrentTokens, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions,
        Saved, SessionFilter, SessionPage, StoreError, StoreFuture, StoredPair, TokenDigest, TokenRecord, TokenStore,
        sqlite_path,
    },
};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    command::{Command, Reply},
    error::{file_lost, unopenable, unreadable, writer_gone, writer_not_started},
    integrity,
    presence::Presence,
    queue::{QUEUE, Write, serve},
    read::{Lister, Readers, current, list, newest_pair, pair_of},
    schema::{locate, prepare},
    writer::{LOCK_TIMEOUT, Writer},
};

/// A token store in one SQLite file.
///
/// Several processes on one machine may share the file. Each sees the writes of the others at once, and
/// [`changes`](TokenStore::changes) reports them within 50 ms. A write is answered when it is on the disk (WAL,
/// `synchronous=FULL`), and survives a crash of the process and a power loss. An operator may inspect the file with `sqlite3`,
/// and revoke with `DELETE FROM token WHERE client_id = …`, which is [logged](TokenStore::log) as a revocation. Revoked sessions stay, without their tokens, until those would have
/// expired.
///
/// The file must be on a local disk: WAL does not work over a network file system. A new file is readable by its owner alone
/// (mode 0600 on Unix), since anyone who can read it can act as every client; the mode of an existing file stays. A file of an
/// earlier version is upgraded when it is opened, and earlier versions refuse it then.
///
/// On Unix, the store notices within 50 ms if the file is removed or replaced. From then on every call fails, until the process is
/// restarted. A file that was not closed in order, as after a crash, is checked when it is opened, for at most ten seconds, and
/// refused if it is damaged.
///
/// A read that finds the file locked blocks its thread for at most two seconds. In WAL mode this happens only while another process
/// recovers the file after a crash. A write that finds it locked fails after nine seconds in all. A revocation is retried for a
/// minute, and its caller gets an error after nine seconds. Dropping the store writes what is queued, ends its threads and closes
/// the file.
pub struct SqliteStore {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) readers: Arc<Readers>,
    pub(super) lister: Lister,
    pub(super) presence: Arc<Presence>,
    writes: Option<mpsc::Sender<Write>>,
    /// The free places in the queue.
    room: Arc<Semaphore>,
    writer: Option<thread::JoinHandle<()>>,
    changes: Arc<Changes>,
    /// Tells that there may be new changes in the log.
    pub(super) news: watch::Receiver<()>,
}

impl SqliteStore {
    /// Returns the path in `sqlite:FILE`, or a bare path: see [`sqlite_path`].
    #[must_use]
    pub fn path_in_url(url: &str) -> Option<&Path> {
        sqlite_path(url)
    }

    /// Opens the token database at `path`, and creates it if there is none.
    ///
    /// Blocks, usually for milliseconds; for some seconds if another process has locked the file, or if the file is large and was
    /// not closed in order.
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) if the file cannot be created, opened or read, if its
    /// directory is missing, if it is damaged, or if it belongs to another program or a newer version. The text names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref(), Clock::default())
    }

    /// Opens a store as [`open`](Self::open) does, with a test's clock.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    #[cfg(feature = "test-util")]
    pub fn open_with_clock(
        path: impl AsRef<Path>,
        clock: &fastauth_core::manual_clock::ManualClock,
    ) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref(), Clock::set_by(clock))
    }

    /// Opens a store as [`open`](Self::open) does, with this clock.
    #[doc(hidden)]
    pub fn open_with(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = locate(path)?;
        let was_checked = integrity::check_at_start(&path)?;
        let changes = Arc::new(Changes::of_watched_store());
        let connection = prepare(&path)?;
        connection.busy_timeout(LOCK_TIMEOUT).map_err(|error| unopenable(&path, error))?;
        let readers = Arc::new(Readers::open(&path)?);
        let (telling, news) = watch::channel(());
        let presence = Arc::new(Presence::new(&path));
        let lister = Lister::start(&path, Arc::clone(&presence))?;
        let mut writer = Writer::new(connection, Arc::clone(&changes), telling, clock.clone(), Arc::clone(&presence));
        let (writes, queue) = mpsc::channel();
        let writer = thread::Builder::new()
            .name("fastauth-sqlite".to_owned())
            .spawn(move || {
                serve(&queue, |writes| writer.commit(writes));
                writer.close(was_checked);
            })
            .map_err(writer_not_started)?;
        let room = Arc::new(Semaphore::new(QUEUE));
        Ok(Self {
            path,
            clock,
            readers,
            lister,
            presence,
            writes: Some(writes),
            room,
            writer: Some(writer),
            changes,
            news,
        })
    }

    /// Returns a connection to read with.
    pub(super) fn reader(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        if self.presence.is_lost() {
            return Err(file_lost());
        }
        Ok(self.readers.one())
    }

    fn current(&self, client_id: &str, session: Option<&str>) -> Result<Option<CurrentTokens>, StoreError> {
        current(&*self.reader()?, client_id, session, self.clock.unix_now_ms()).map_err(unreadable)
    }

    /// Queues a write, once there is room, and waits for its answer.
    pub(super) async fn write<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let since = Instant::now();
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        self.queue(command, since, room)?.await.map_err(|_| writer_gone())?
    }

    fn queue<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
        since: Instant,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answered) = Reply::new();
        let writes = self.writes.as_ref().ok_or_else(writer_gone)?;
        writes.send(Write { command: command(reply), since, _room: room }).map_err(|_| writer_gone())?;
        Ok(answered)
    }
}

impl TokenStore for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        Box::pin(async move { self.current(client_id, session) })
    }

    // A point read takes a few microseconds.
    fn compare_now(
        &self,
        client_id: &str,
        session: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        let held = self.current(client_id, session);
        Some(held.map(|held| Comparison::new(TokenDigest::of(token), held.as_ref())))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { newest_pair(&*self.reader()?, client_id).map_err(unreadable) })
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, session: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { pair_of(&*self.reader()?, client_id, session).map_err(unreadable) })
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let saved = self.write(|reply| Command::Save(record.clone(), options, reply)).await;
            saved.map_err(StoreError::on_save)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let rotated = self.write(|reply| Command::Rotate(rotation.clone(), reply)).await;
            // One step reads and writes, so every failure is one of the write.
            rotated.map_err(StoreError::on_save)
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            // Without waiting for room, so that neither a full queue nor a caller that goes away prevents it.
            let revoke = |reply| Command::Revoke(revocation.clone(), if_version, reply);
            self.queue(revoke, Instant::now(), None)?.await.map_err(|_| writer_gone())?
        })
    }

    fn revoke_access<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let revoke = |reply| Command::RevokeAccess(client_id.to_owned(), session.map(str::to_owned), reply);
            self.queue(revoke, Instant::now(), None)?.await.map_err(|_| writer_gone())?
        })
    }

    fn list<'a>(&'a self, filter: &'a SessionFilter) -> StoreFuture<'a, SessionPage> {
        let filter = filter.clone();
        Box::pin(self.lister.read(move |connection| list(connection, &filter)))
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        Box::pin(self.write(move |reply| Command::Spend(ticket.to_owned(), expires_at, reply)))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            self.current("", None)?;
            self.write(Command::Beat).await
        })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
    }

    // It answers as soon as it has written.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }

    fn log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The thread ends with the channel. It is joined so that the file is closed when this returns.
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
