//! Tokens in an SQLite file.
//!
//! A point read takes a few microseconds, less than handing it to another thread would, so [`load`](TokenStore::load)
//! reads where it is called, on connections of its own. Writes wait for the disk, so one thread does them all: it
//! takes whatever has queued up, writes it in one transaction, and only then answers each writer. Under load one
//! `fsync` thus serves many writers, and nobody waits on purpose.

use std::{
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{Rotation, StoreError, StoreErrorKind, StoreFuture, StoredTokens, TokenPair, TokenStore};
use crate::secret::Secret;

/// Marks the file as ours (`PRAGMA application_id`): "FstA".
const APPLICATION_ID: i32 = 0x4673_7441;
/// The layout of the tables (`PRAGMA user_version`).
const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = "CREATE TABLE token (
    client_id TEXT NOT NULL PRIMARY KEY,
    access_token TEXT,
    refresh_token TEXT,
    updated_at INTEGER NOT NULL
) STRICT";

/// How long SQLite waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long opening is tried again when SQLite is busy without having waited, as it is when two processes switch a
/// file to WAL at the same moment.
const OPENING_TIMEOUT: Duration = Duration::from_secs(8);
/// Writes that may wait in the queue, and so also the most that one transaction holds: a few tens of milliseconds.
const QUEUE: usize = 1024;

/// Keeps the tokens in one SQLite file, with nothing else to run.
///
/// Several processes on one machine may share the file; each sees the others' writes at once. A write is answered
/// when it is on the disk (WAL, `synchronous=FULL`) and survives a crash of the process and a loss of power. An
/// operator may look inside with `sqlite3`, and revoke with `DELETE FROM token WHERE client_id = …`.
///
/// The file must be on a local disk: WAL does not work over a network file system. One that the store makes is for its
/// owner alone (mode 0600 on Unix), since whoever reads it can act as every client; one that is there keeps its mode.
///
/// A read that finds the file locked blocks its thread until it is free, for two seconds at the most; in WAL this
/// happens only while another process recovers the file after a crash. Dropping the store writes what is still queued,
/// then ends its thread and closes the file.
pub struct SqliteStore {
    readers: Readers,
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl SqliteStore {
    /// The file in `sqlite:FILE` or `sqlite://FILE`, or a bare path; `None` where it names none, or a database in memory.
    #[must_use]
    pub fn path_in_url(url: &str) -> Option<&Path> {
        let path = url.strip_prefix("sqlite:").map_or(url, |path| path.strip_prefix("//").unwrap_or(path));
        (!path.is_empty() && !path.starts_with(':')).then(|| Path::new(path))
    }

    /// Opens the token database at `path`, making it if there is none.
    ///
    /// This blocks: for milliseconds usually, for some seconds when another process holds the file locked.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`] when the file cannot be made, opened or read, when its directory is missing, and
    /// when it is another program's database or one that a newer version wrote. The text names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = locate(path.as_ref())?;
        let mut connection = prepare(&path)?;
        let readers = Readers::open(&path)?;
        let (writes, queue) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new()
            .name("fastauth-sqlite".to_owned())
            .spawn(move || serve(queue, |writes| commit(&mut connection, writes)))
            .map_err(|error| failed("cannot start the thread that writes the token database").caused_by(error))?;
        Ok(Self { readers, writes: Some(writes), writer: Some(writer) })
    }

    async fn write(
        &self,
        client_id: &str,
        tokens: &TokenPair,
        presented: Option<&Secret>,
    ) -> Result<Rotation, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write =
            Write { client_id: client_id.to_owned(), tokens: tokens.clone(), presented: presented.cloned(), answer };
        let writes = self.writes.as_ref().ok_or_else(writer_gone)?;
        writes.send(write).await.map_err(|_| writer_gone())?;
        answered.await.map_err(|_| writer_gone())?
    }
}

impl TokenStore for SqliteStore {
    fn load<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredTokens>> {
        Box::pin(async move { read(&self.readers.one(), client_id).map_err(unreadable) })
    }

    fn save<'a>(&'a self, client_id: &'a str, tokens: &'a TokenPair) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.write(client_id, tokens, None).await.map(drop).map_err(StoreError::on_save) })
    }

    fn rotate<'a>(
        &'a self,
        client_id: &'a str,
        presented: &'a Secret,
        successor: &'a TokenPair,
    ) -> StoreFuture<'a, Rotation> {
        // One step looks and writes, and what fails is the write.
        Box::pin(async move { self.write(client_id, successor, Some(presented)).await.map_err(StoreError::on_save) })
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

/// Connections that only read. There are as many as threads that can run, so that one is nearly always free.
struct Readers {
    connections: Box<[Mutex<Connection>]>,
    next: AtomicUsize,
}

impl Readers {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let count = thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 16));
        let connections = (0..count)
            .map(|_| {
                let connection = connect(path)?;
                connection.pragma_update(None, "query_only", true)?;
                Ok(Mutex::new(connection))
            })
            .collect::<rusqlite::Result<_>>()
            .map_err(|error| unopenable(path, error))?;
        Ok(Self { connections, next: AtomicUsize::new(0) })
    }

    /// A free connection, or else the next in turn as soon as it is free: a read takes microseconds.
    fn one(&self) -> MutexGuard<'_, Connection> {
        let count = self.connections.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count;
        for connection in self.connections[first..].iter().chain(&self.connections[..first]) {
            match connection.try_lock() {
                Ok(connection) => return connection,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.connections[first].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(connection: &Connection, client_id: &str) -> rusqlite::Result<Option<StoredTokens>> {
    connection
        .prepare_cached("SELECT access_token, refresh_token FROM token WHERE client_id = ?1")?
        .query_row([client_id], |row| {
            Ok(StoredTokens {
                access_token: row.get::<_, Option<String>>(0)?.map(Secret::from),
                refresh_token: row.get::<_, Option<String>>(1)?.map(Secret::from),
            })
        })
        .optional()
}

/// One write that waits for its turn.
struct Write {
    client_id: String,
    tokens: TokenPair,
    /// The refresh token that must be held for the write to happen; `None` writes in any case.
    presented: Option<Secret>,
    answer: oneshot::Sender<Result<Rotation, StoreError>>,
}

/// Takes writes from the queue, as many at once as there are, until the store is dropped. Nothing that goes wrong with
/// one lot of writes keeps the next from being tried; when `commit` panics, its writers hear of it because their
/// `answer` is dropped.
fn serve(mut queue: mpsc::Receiver<Write>, mut commit: impl FnMut(&[Write]) -> Result<Vec<Rotation>, StoreError>) {
    while let Some(first) = queue.blocking_recv() {
        let mut writes = vec![first];
        while writes.len() < QUEUE
            && let Ok(next) = queue.try_recv()
        {
            writes.push(next);
        }
        // Nobody is left to tell of these: a client that has gone must not lose its refresh token to a rotation.
        writes.retain(|write| !write.answer.is_closed());
        if writes.is_empty() {
            continue;
        }
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| commit(&writes))) else { continue };
        acknowledge(writes, outcome);
    }
}

fn acknowledge(writes: Vec<Write>, outcome: Result<Vec<Rotation>, StoreError>) {
    match outcome {
        Ok(rotations) => {
            for (write, rotation) in writes.into_iter().zip(rotations) {
                let _ = write.answer.send(Ok(rotation));
            }
        }
        Err(error) => {
            for write in writes {
                let _ = write.answer.send(Err(error.clone()));
            }
        }
    }
}

/// Applies `writes` in their order, in one transaction: all are on the disk when this returns, or none.
fn commit(connection: &mut Connection, writes: &[Write]) -> Result<Vec<Rotation>, StoreError> {
    let mut run = || {
        // IMMEDIATE: the lock is taken, and waited for, here and not between reading and writing.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rotations = writes.iter().map(|write| apply(&transaction, write)).collect::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        Ok(rotations)
    };
    run().map_err(unwritable)
}

fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<Rotation> {
    let client_id = write.client_id.as_str();
    let (access, refresh) = (write.tokens.access_token.expose(), write.tokens.refresh_token.expose());
    let Some(presented) = &write.presented else {
        connection
            .prepare_cached(
                "INSERT INTO token (client_id, access_token, refresh_token, updated_at)
                 VALUES (?1, ?2, ?3, unixepoch())
                 ON CONFLICT (client_id) DO UPDATE SET access_token = excluded.access_token,
                     refresh_token = excluded.refresh_token, updated_at = excluded.updated_at",
            )?
            .execute(params![client_id, access, refresh])?;
        return Ok(Rotation::Rotated);
    };
    let changed = connection
        .prepare_cached(
            "UPDATE token SET access_token = ?2, refresh_token = ?3, updated_at = unixepoch()
             WHERE client_id = ?1 AND refresh_token = ?4",
        )?
        .execute(params![client_id, access, refresh, presented.expose()])?;
    if changed == 1 {
        return Ok(Rotation::Rotated);
    }
    let known = connection.prepare_cached("SELECT 1 FROM token WHERE client_id = ?1")?.exists([client_id])?;
    Ok(if known { Rotation::Superseded } else { Rotation::UnknownClient })
}

/// Makes sure that there is a file, and gives its whole path: the store must not follow the working directory about,
/// and SQLite takes some names (`:memory:`) for something else than a file.
fn locate(path: &Path) -> Result<PathBuf, StoreError> {
    if path.as_os_str().is_empty() {
        return Err(failed("the path of the token database is empty: name a file"));
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        let directory = directory.display();
        return Err(failed(format!("there is no directory {directory} for the token database: create it first")));
    }
    create(path, directory)
        .and_then(|()| path.canonicalize())
        .map_err(|error| failed(format!("cannot create the token database {}", path.display())).caused_by(error))
}

/// Creates the file with its mode, which SQLite gives to the files beside it too; leaves one that is there alone.
///
/// Closing any handle of a file drops all the locks that the process holds on it, SQLite's included. So a file that
/// is there is never opened here, and one that is new is closed again before anyone else in this process gets past.
fn create(path: &Path, directory: &Path) -> io::Result<()> {
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    // The name of the file is in the directory, which has to reach the disk as well; where a directory cannot be
    // opened, SQLite does without that too.
    fs::File::open(directory).and_then(|directory| directory.sync_all()).or(Ok(()))
}

/// Opens the writing connection, and makes the file a token database if it is empty.
fn prepare(path: &Path) -> Result<Connection, StoreError> {
    let deadline = Instant::now() + OPENING_TIMEOUT;
    loop {
        match try_prepare(path) {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(refusal)) => return Err(refusal),
            Err(error) if is_busy(&error) && Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(unopenable(path, error)),
        }
    }
}

/// The outer result is SQLite's; the inner one is our refusal of what was found.
fn try_prepare(path: &Path) -> rusqlite::Result<Result<Connection, StoreError>> {
    let mut connection = connect(path)?;
    // Before anything is written: another program's file must stay as it is. In one transaction, or else what is read
    // may be half of before and half of after another process made its tables.
    if let Err(refusal) = Content::of(&connection.transaction()?)?.check(path) {
        return Ok(Err(refusal));
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let path = path.display();
        return Ok(Err(failed(format!("SQLite cannot use WAL for {path}: put the token database on a local disk"))));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match Content::of(&transaction)?.check(path) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Content::Empty) => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        Ok(_) => {}
    }
    transaction.commit()?;
    Ok(Ok(connection))
}

/// What a file turned out to hold.
enum Content {
    Empty,
    Tokens { version: i32 },
    Foreign,
}

impl Content {
    fn of(connection: &Transaction<'_>) -> rusqlite::Result<Self> {
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok(match (number("application_id")?, number("user_version")?) {
            (APPLICATION_ID, version) => Self::Tokens { version },
            (0, 0) if tables == 0 => Self::Empty,
            _ => Self::Foreign,
        })
    }

    fn check(self, path: &Path) -> Result<Self, StoreError> {
        let path = path.display();
        match self {
            Self::Foreign => Err(failed(format!("{path} is another program's database: name a file of its own"))),
            Self::Tokens { version } if version > SCHEMA_VERSION => Err(failed(format!(
                "{path} was written by a newer version of fastauth (schema {version}, this one knows \
                 {SCHEMA_VERSION}): use that version, or name another file"
            ))),
            Self::Tokens { version } if version < 1 => {
                Err(failed(format!("{path} has an unknown schema ({version}): name another file")))
            }
            content => Ok(content),
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // NO_MUTEX: each connection is used by one thread at a time. Without CREATE, nor URI names.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Where `fsync` does not reach the disk (macOS); elsewhere these change nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 1000, |_| Ok(()))?;
    Ok(connection)
}

fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

fn writer_gone() -> StoreError {
    failed("the thread that writes the token database failed: look for a panic in the log")
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn unopenable(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.display();
    let message = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => format!("{path} is no SQLite database: name another file"),
        Some(ErrorCode::DatabaseBusy) => format!("{path} is locked by another program: end that first"),
        Some(ErrorCode::ReadOnly) => {
            format!("{path} cannot be written: check the rights of the file and its directory")
        }
        _ => format!("cannot open the token database {path}"),
    };
    failed(message).caused_by(error)
}

fn unreadable(error: rusqlite::Error) -> StoreError {
    failed(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => "the token database is locked by another program",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the token database is damaged: restore it from a backup"
        }
        _ => "the token database cannot be read",
    })
    .caused_by(error)
}

fn unwritable(error: rusqlite::Error) -> StoreError {
    failed(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => "the token database is locked by another program",
        Some(ErrorCode::DiskFull) => "the token database cannot grow: the disk is full",
        Some(ErrorCode::ReadOnly) => "the token database cannot be written: check the rights of its file",
        _ => "the token database cannot be written",
    })
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(client_id: &str) -> (Write, oneshot::Receiver<Result<Rotation, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        let tokens = TokenPair { access_token: "a".into(), refresh_token: "r".into() };
        (Write { client_id: client_id.to_owned(), tokens, presented: None, answer }, answered)
    }

    #[test]
    fn a_panic_fails_its_writes_and_no_others() {
        let (sender, queue) = mpsc::channel(QUEUE);
        let thread = thread::spawn(move || {
            serve(queue, |writes| {
                assert_ne!(writes[0].client_id, "bad", "on purpose");
                Ok(vec![Rotation::Rotated; writes.len()])
            });
        });
        for (client_id, succeeds) in [("good", true), ("bad", false), ("good", true)] {
            let (write, answered) = write(client_id);
            assert!(sender.blocking_send(write).is_ok());
            assert_eq!(answered.blocking_recv().is_ok(), succeeds, "{client_id}");
        }
        drop(sender);
        thread.join().expect("the thread outlives the panic and ends with the channel");
    }

    #[test]
    fn what_has_queued_up_is_one_transaction_without_the_abandoned() {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (writes, mut answers): (Vec<_>, Vec<_>) = ["a", "gone", "b"].map(write).into_iter().unzip();
        drop(answers.remove(1));
        for write in writes {
            assert!(sender.try_send(write).is_ok());
        }
        drop(sender);
        let seen = Mutex::new(Vec::new());
        serve(queue, |writes| {
            let ids: Vec<_> = writes.iter().map(|write| write.client_id.clone()).collect();
            let rotations = vec![Rotation::Rotated; ids.len()];
            seen.lock().expect("not poisoned").push(ids);
            Ok(rotations)
        });
        assert_eq!(*seen.lock().expect("not poisoned"), [["a", "b"]]);
        for answer in answers {
            assert!(matches!(answer.blocking_recv(), Ok(Ok(Rotation::Rotated))));
        }
    }

    #[test]
    fn every_connection_syncs_fully() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = locate(&directory.path().join("t.db")).expect("a file");
        let connection = prepare(&path).expect("a database");
        for (pragma, value) in
            [("synchronous", 2), ("busy_timeout", 2000), ("foreign_keys", 1), ("wal_autocheckpoint", 1000)]
        {
            let found: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0)).expect("a value");
            assert_eq!(found, value, "{pragma}");
        }
    }

    #[test]
    fn a_full_disk_fails_the_writes_and_passes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = locate(&directory.path().join("t.db")).expect("a file");
        let mut connection = prepare(&path).expect("a database");
        let small = write("small").0;
        let mut large = write("large").0;
        large.tokens.access_token = "x".repeat(1 << 20).into();
        connection.pragma_update_and_check(None, "max_page_count", 8, |_| Ok(())).expect("a limit");
        let writes = [small, large];
        let error = commit(&mut connection, &writes).expect_err("no room");
        assert_eq!((error.kind(), error.to_string().contains("full")), (StoreErrorKind::Failed, true), "{error}");
        assert_eq!(read(&connection, "small").expect("readable"), None, "the writes stand or fall together");
        connection.pragma_update_and_check(None, "max_page_count", 10_000, |_| Ok(())).expect("no limit");
        assert_eq!(commit(&mut connection, &writes).expect("room"), [Rotation::Rotated; 2]);
        assert!(read(&connection, "large").expect("readable").is_some());
    }
}
