//! Tokens in an SQLite file.
//!
//! A point read takes a few microseconds, less than handing it to another thread would, so [`load`](TokenStore::load)
//! reads where it is called, on connections of its own. Writes wait for the disk, so one thread does them all: it
//! takes whatever has queued up, writes it in one transaction, and only then answers each writer. Under load one
//! `fsync` thus serves many writers, and nobody waits on purpose.
//!
//! The same thread looks for what other processes wrote, by SQLite's `data_version`: on the connection that writes, it
//! changes with the commits of others alone. It also looks whether the file still stands where it was.
//!
//! ```text
//!  schema     the tables, and opening a file          integrity   whether a file was left in order
//!  read       look-ups, and the thread that lists     backup      copies, and putting one back
//!  writer     the thread that writes, and its queue   presence    whether the file is still there
//!  books      what one transaction does               convert     other forms of what is kept
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, mpsc},
    thread,
    time::Duration,
    time::Instant,
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::{
    books::{Command, Outcome},
    error::{file_lost, unopenable, unreadable, writer_gone},
    presence::Presence,
    read::{Lister, Readers, canonical, newest_pair, pair_of},
    schema::{locate, prepare},
    writer::{LOCK_TIMEOUT, QUEUE, Write, Writer, serve},
};
use fastauth_core::clock::Clock;
use fastauth_core::store::{
    Canonical, Changes, Comparison, FamilyFilter, FamilyPage, Promises, Revocation, Revoked, Rotated, Rotation,
    SaveOptions, Saved, StoreError, StoreFuture, StoredPair, TokenDigest, TokenRecord, TokenStore, sqlite_path,
};

mod backup;
mod books;
mod convert;
mod error;
mod integrity;
mod presence;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use backup::RestoredSessions;
pub use convert::Conversion;

/// Keeps the tokens in one SQLite file, with nothing else to run.
///
/// Several processes on one machine may share the file; each sees the others' writes at once, and is
/// told of them by [`changes`](TokenStore::changes) within 50 ms. A write is answered
/// when it is on the disk (WAL, `synchronous=FULL`) and survives a crash of the process and a loss of power. An
/// operator may look inside with `sqlite3`, and revoke with `DELETE FROM token WHERE client_id = …`. Families that were
/// revoked stay, without their tokens, until those would have expired.
///
/// The file must be on a local disk: WAL does not work over a network file system. One that the store makes is for its
/// owner alone (mode 0600 on Unix), since whoever reads it can act as every client; one that is there keeps its mode. A file that
/// an earlier version wrote is brought up to date when it is opened; earlier versions refuse it then.
///
/// On Unix, a file that is removed, or that another one takes the place of, is noticed within 50 ms: from then on every
/// call fails, until the process is restarted. A file that was not left in order, as after a crash, is checked when it is
/// opened, for ten seconds at most, and refused if it is damaged.
///
/// A read that finds the file locked blocks its thread until it is free, for two seconds at the most; in WAL this
/// happens only while another process recovers the file after a crash. A write that finds it locked fails after nine seconds in
/// all; a revocation is tried for a minute, though its caller is told after nine seconds that it waits. Dropping the store writes what is still queued, then ends its threads and closes the file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    lister: Lister,
    presence: Arc<Presence>,
    writes: Option<mpsc::Sender<Write>>,
    /// Room in the queue of writes.
    room: Arc<Semaphore>,
    writer: Option<thread::JoinHandle<()>>,
    changes: Arc<Changes>,
}

impl SqliteStore {
    /// Returns the path in `sqlite:FILE`, or a bare path: see [`sqlite_path`].
    #[must_use]
    pub fn path_in_url(url: &str) -> Option<&Path> {
        sqlite_path(url)
    }

    /// Opens the token database at `path`, making it if there is none.
    ///
    /// This blocks: for milliseconds usually, for some seconds when another process holds the file locked, or when the file was
    /// not left in order and is large.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) when the file cannot be made, opened or read, when its directory is missing, and
    /// when it is another program's database or one that a newer version wrote, and when it is damaged. The text names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_by(path.as_ref(), Clock::default())
    }

    /// As [`open`](Self::open), with a test's clock for the times of what is written.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "test-util")]
    pub fn open_with_clock(
        path: impl AsRef<Path>,
        clock: &fastauth_core::manual_clock::ManualClock,
    ) -> Result<Self, StoreError> {
        Self::open_by(path.as_ref(), Clock::set_by(clock))
    }

    /// As [`open`](Self::open), by this clock.
    #[doc(hidden)]
    pub fn open_by(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = locate(path)?;
        let was_checked = integrity::check_at_start(&path)?;
        let changes = Arc::new(Changes::of_watched_store());
        let connection = prepare(&path)?;
        connection.busy_timeout(LOCK_TIMEOUT).map_err(|error| unopenable(&path, error))?;
        let readers = Readers::open(&path)?;
        let presence = Arc::new(Presence::new(&path));
        let lister = Lister::start(&path, Arc::clone(&presence))?;
        let mut writer = Writer::new(connection, Arc::clone(&changes), clock, Arc::clone(&presence));
        let (writes, queue) = mpsc::channel();
        let write = move || {
            serve(&queue, |writes| writer.commit(writes));
            writer.close(was_checked);
        };
        let writer =
            thread::Builder::new().name("fastauth-sqlite".to_owned()).spawn(write).map_err(writer::not_started)?;
        let room = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { path, readers, lister, presence, writes: Some(writes), room, writer: Some(writer), changes })
    }

    /// A connection to read with, unless the file is not the one any more that others see.
    fn reader(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        if self.presence.is_lost() {
            return Err(file_lost());
        }
        Ok(self.readers.one())
    }

    fn canonical(&self, client_id: &str, family: Option<&str>) -> Result<Option<Canonical>, StoreError> {
        canonical(&*self.reader()?, client_id, family).map_err(unreadable)
    }

    async fn write(&self, command: Command) -> Result<Outcome, StoreError> {
        let since = Instant::now();
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        self.queue(command, since, room)?.await.map_err(|_| writer_gone())?
    }

    /// Queues a write. What takes a right away needs no room, so that neither a full queue nor a caller that goes away keeps it
    /// from being done.
    fn queue(
        &self,
        command: Command,
        since: Instant,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Result<Outcome, StoreError>>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let writes = self.writes.as_ref().ok_or_else(writer_gone)?;
        writes.send(Write { command, answer: Some(answer), since, _room: room }).map_err(|_| writer_gone())?;
        Ok(answered)
    }
}

impl TokenStore for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        Box::pin(async move { self.canonical(client_id, family) })
    }

    // A point read takes a few microseconds.
    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        let held = self.canonical(client_id, family);
        Some(held.map(|held| Comparison::of(TokenDigest::of(token), held.as_ref())))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { newest_pair(&*self.reader()?, client_id).map_err(unreadable) })
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { pair_of(&*self.reader()?, client_id, family).map_err(unreadable) })
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            match self.write(Command::Save(record.clone(), options)).await.map_err(StoreError::on_save)? {
                Outcome::Saved(saved) => Ok(saved),
                _ => Err(writer_gone()),
            }
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            // One step looks and writes, and what fails is the write.
            match self.write(Command::Rotate(rotation.clone())).await.map_err(StoreError::on_save)? {
                Outcome::Rotated(rotated) => Ok(rotated),
                _ => Err(writer_gone()),
            }
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let command = Command::Revoke(revocation.clone(), if_version);
            match self.queue(command, Instant::now(), None)?.await.map_err(|_| writer_gone())?? {
                Outcome::Revoked(revoked) => Ok(revoked),
                _ => Err(writer_gone()),
            }
        })
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        Box::pin(self.lister.list(filter.clone()))
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            match self.write(Command::Spend(ticket.to_owned(), expires_at)).await? {
                Outcome::Spent(is_first) => Ok(is_first),
                _ => Err(writer_gone()),
            }
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            self.canonical("", None)?;
            self.write(Command::Beat).await.map(drop)
        })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
    }

    /// It answers as soon as it has written.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // The thread ends when the channel does; joining it means that the file is closed when this returns.
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
