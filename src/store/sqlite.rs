//! Tokens in an SQLite file.
//!
//! A point read takes a few microseconds, less than handing it to another thread would, so [`load`](TokenStore::load)
//! reads where it is called, on connections of its own. Writes wait for the disk, so one thread does them all: it
//! takes whatever has queued up, writes it in one transaction, and only then answers each writer. Under load one
//! `fsync` thus serves many writers, and nobody waits on purpose.
//!
//! The same thread looks for what other processes wrote, by SQLite's `data_version`: on the connection that writes, it
//! changes with the commits of others alone.

use std::{
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Canonical, Changes, Comparison, Condition, Family, FamilyEntry, FamilyFilter, FamilyPage, FamilyStatus, Promises,
    Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError, StoreErrorKind, StoreFuture, StoredPair,
    TICKET_KEPT, TokenDigest, TokenRecord, TokenStore, Verdict,
};
use crate::{
    clock::Clock,
    config::{ConfiguredKeys, StoreFormat},
    keys::Reform,
    secret::Secret,
};

/// Marks the file as ours (`PRAGMA application_id`): "FstA".
const APPLICATION_ID: i32 = 0x4673_7441;
/// The layout of the tables (`PRAGMA user_version`).
const SCHEMA_VERSION: i32 = 2;
/// `version` counts all writes, so that it never runs backwards, whatever is deleted. What is of an earlier `epoch` than the
/// store is as good as deleted: everything is revoked by counting on.
const SCHEMA: &str = "
CREATE TABLE store (
    epoch INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0);
CREATE TABLE token (
    client_id TEXT NOT NULL,
    family TEXT NOT NULL,
    generation INTEGER NOT NULL,
    kid TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('live', 'revoked', 'reused')),
    access_token TEXT,
    access_sha256 BLOB,
    access_expires_at INTEGER NOT NULL,
    refresh_token TEXT,
    refresh_sha256 BLOB,
    refresh_expires_at INTEGER NOT NULL,
    consumed_sha256 BLOB,
    consumed_at_ms INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (client_id, family)
) STRICT;
CREATE INDEX token_by_end ON token (refresh_expires_at);
";
/// The tickets that were used. A file that was made before there were any gets the table when it is opened.
const TICKETS: &str = "
CREATE TABLE IF NOT EXISTS ticket (
    id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_by_end ON ticket (expires_at);
";

/// How long SQLite waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a write waits for that: as long as a compaction by another process takes, and less than a caller's patience.
const WRITE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a compaction waits for writers and readers to leave it a moment.
const COMPACTING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long opening is tried again when SQLite is busy without having waited, as it is when two processes switch a
/// file to WAL at the same moment.
const OPENING_TIMEOUT: Duration = Duration::from_secs(8);
/// No UTF-8 has this byte, and it comes after all of its.
const AFTER_ALL_TEXT: u8 = 0xff;
/// How often the thread looks for what other processes wrote, and for how long nothing of theirs can have been missed then: what
/// they write counts here after so long at the latest.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);
const WATCHED_MS: u64 = 50;
/// How often, and how many at a time, rows are deleted that nothing can ask for any more.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);
const CLEANED_AT_ONCE: usize = 1000;
/// Rows that are converted in one transaction: a few milliseconds.
const CONVERTED_AT_ONCE: usize = 100;
/// How often all rows are gone through, since others write meanwhile.
const CONVERTING_PASSES: usize = 4;
/// Writes that may wait in the queue, and so also the most that one transaction holds: a few tens of milliseconds.
const QUEUE: usize = 1024;

/// Keeps the tokens in one SQLite file, with nothing else to run.
///
/// Several processes on one machine may share the file; each sees the others' writes at once, and is
/// told of them by [`changes`](TokenStore::changes) within 50 ms. A write is answered
/// when it is on the disk (WAL, `synchronous=FULL`) and survives a crash of the process and a loss of power. An
/// operator may look inside with `sqlite3`, and revoke with `DELETE FROM token WHERE client_id = …`. Families that were
/// revoked stay, without their tokens, until those would have expired.
///
/// The file must be on a local disk: WAL does not work over a network file system. One that the store makes is for its
/// owner alone (mode 0600 on Unix), since whoever reads it can act as every client; one that is there keeps its mode.
///
/// A read that finds the file locked blocks its thread until it is free, for two seconds at the most; in WAL this
/// happens only while another process recovers the file after a crash. Dropping the store writes what is still queued,
/// then ends its thread and closes the file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    writes: Option<mpsc::Sender<Write>>,
    /// Room in the queue of writes.
    room: Arc<Semaphore>,
    writer: Option<thread::JoinHandle<()>>,
    changes: Arc<Changes>,
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
        Self::open_by(path.as_ref(), Clock::default())
    }

    /// As [`open`](Self::open), with a test's clock for the times of what is written.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "test-util")]
    pub fn open_with_clock(path: impl AsRef<Path>, clock: &crate::test_util::ManualClock) -> Result<Self, StoreError> {
        Self::open_by(path.as_ref(), Clock::set_by(clock))
    }

    pub(crate) fn open_by(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = locate(path)?;
        let changes = Arc::new(Changes::of_watched_store());
        let connection = prepare(&path)?;
        connection.busy_timeout(WRITE_TIMEOUT).map_err(|error| unopenable(&path, error))?;
        let mut writer = Writer::new(connection, Arc::clone(&changes), clock);
        let readers = Readers::open(&path)?;
        let (writes, queue) = mpsc::channel();
        let writer = thread::Builder::new()
            .name("fastauth-sqlite".to_owned())
            .spawn(move || serve(&queue, |writes| writer.commit(writes)))
            .map_err(|error| failed("cannot start the thread that writes the token database").caused_by(error))?;
        let room = Arc::new(Semaphore::new(QUEUE));
        Ok(Self { path, readers, writes: Some(writes), room, writer: Some(writer), changes })
    }

    fn canonical(&self, client_id: &str, family: Option<&str>) -> Result<Option<Canonical>, StoreError> {
        canonical(&self.readers.one(), client_id, family).map_err(unreadable)
    }

    /// Converts what is kept of all tokens to `format`, while this and other processes go on using the file: row by row, each
    /// only if nobody has written it meanwhile. Tokens that an earlier key encrypted are encrypted by the one that signs.
    /// `progress` is told now and then, and the final counts are returned.
    ///
    /// Both formats can be read at any time. It can be stopped at any time, too, and done again. Processes that write the
    /// other format should be told of the new one before, or else rows of theirs are [left](Conversion::remaining).
    ///
    /// What was plain stays in free parts of the file, and in its log, until it is [compacted](Self::compact).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unsupported`] where the key that signs is none of Fernet's and cannot encrypt;
    /// [`StoreErrorKind::Failed`] where the file cannot be read or written.
    pub async fn convert(
        &self,
        keys: &ConfiguredKeys,
        format: StoreFormat,
        mut progress: impl FnMut(&Conversion),
    ) -> Result<Conversion, StoreError> {
        if format == StoreFormat::Fernet && !keys.can_encrypt() {
            return Err(StoreError::unsupported("the key that signs is not a Fernet key and cannot encrypt"));
        }
        let mut conversion = Conversion::default();
        for _ in 0..CONVERTING_PASSES {
            (conversion.rows, conversion.unopened, conversion.remaining) = (0, 0, 0);
            self.convert_once(keys, format, &mut conversion, &mut progress).await?;
            if conversion.remaining == 0 {
                break;
            }
        }
        Ok(conversion)
    }

    /// Goes through the rows once. What it had to convert counts as remaining: others may write the like again.
    async fn convert_once(
        &self,
        keys: &ConfiguredKeys,
        format: StoreFormat,
        conversion: &mut Conversion,
        progress: &mut impl FnMut(&Conversion),
    ) -> Result<(), StoreError> {
        let ring = keys.ring();
        let mut after = Some((String::new(), String::new()));
        while let Some(place) = after {
            let rows = kept_rows(&self.readers.one(), &place).map_err(unreadable)?;
            after = rows.last().filter(|_| rows.len() == CONVERTED_AT_ONCE).map(KeptRow::key);
            conversion.rows += rows.len() as u64;
            let now = keys.unix_now();
            let reform = |kept: &Secret| ring.reform(kept, format, now);
            let converted: Vec<_> = rows.into_iter().filter_map(|row| row.converted(&reform, conversion)).collect();
            if !converted.is_empty() {
                conversion.remaining += converted.len() as u64;
                match self.write(Command::Convert(converted)).await? {
                    Outcome::Converted(count) => conversion.converted += count,
                    _ => return Err(writer_gone()),
                }
            }
            progress(conversion);
        }
        Ok(())
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted or replaced, nor in the file of the
    /// write-ahead log. Other processes read on meanwhile; their writes wait, about two seconds for every hundred thousand
    /// rows, and those that would have to wait more than nine seconds fail.
    ///
    /// This blocks.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`] where there is no room for a second copy beside the first one, or where others never
    /// let go of the file. It can be tried again.
    pub fn compact(&self) -> Result<(), StoreError> {
        compact(&self.path).map_err(unwritable)
    }

    async fn write(&self, command: Command) -> Result<Outcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let writes = self.writes.as_ref().ok_or_else(writer_gone)?;
        writes.send(Write { command, answer, _room: room }).map_err(|_| writer_gone())?;
        answered.await.map_err(|_| writer_gone())?
    }
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversion {
    /// Rows that were gone through, in the last pass.
    pub rows: u64,
    /// Rows that were converted in all.
    pub converted: u64,
    /// Rows with a token that no key opens, which were left as they are.
    pub unopened: u64,
    /// Rows that the last pass still found in need of it: somebody goes on writing the other format.
    pub remaining: u64,
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
        Box::pin(async move { newest_pair(&self.readers.one(), client_id).map_err(unreadable) })
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
            match self.write(Command::Revoke(revocation.clone(), if_version)).await? {
                Outcome::Revoked(revoked) => Ok(revoked),
                _ => Err(writer_gone()),
            }
        })
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        Box::pin(async move { list(&self.readers.one(), filter).map_err(unreadable) })
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            match self.write(Command::Spend(ticket.to_owned(), expires_at)).await? {
                Outcome::Spent(is_first) => Ok(is_first),
                _ => Err(writer_gone()),
            }
        })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
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

/// What makes a row count: it is live, and nothing revoked everything since.
const COUNTS: &str = "status = 'live' AND epoch = (SELECT epoch FROM store)";

fn canonical(connection: &Connection, client_id: &str, family: Option<&str>) -> rusqlite::Result<Option<Canonical>> {
    const COLUMNS: &str = "SELECT access_sha256, refresh_sha256, version FROM token WHERE client_id = ?1";
    let read =
        |row: &Row<'_>| Ok(Canonical { access: digest(row, 0)?, refresh: digest(row, 1)?, version: Some(row.get(2)?) });
    if let Some(family) = family {
        let named = format!("{COLUMNS} AND family = ?2 AND {COUNTS}");
        let found = connection.prepare_cached(&named)?.query_row([client_id, family], read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let newest = format!("{COLUMNS} AND {COUNTS} ORDER BY version DESC LIMIT 1");
    connection.prepare_cached(&newest)?.query_row([client_id], read).optional()
}

fn newest_pair(connection: &Connection, client_id: &str) -> rusqlite::Result<Option<StoredPair>> {
    let query = format!(
        "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND {COUNTS}
         ORDER BY version DESC LIMIT 1"
    );
    connection.prepare_cached(&query)?.query_row([client_id], pair).optional()
}

fn pair(row: &Row<'_>) -> rusqlite::Result<StoredPair> {
    let text = |column| row.get::<_, Option<String>>(column).map(|text| text.map(Secret::from));
    Ok(StoredPair { access_token: text(0)?, refresh_token: text(1)?, version: Some(row.get(2)?) })
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<TokenDigest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(TokenDigest::from_bytes))
}

fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<FamilyStatus> {
    Ok(FamilyStatus::of_name(row.get_ref(column)?.as_str()?).unwrap_or(FamilyStatus::Revoked))
}

/// In the order of the primary key, from where the page before ended, so that a page costs the same wherever it is.
fn list(connection: &Connection, filter: &FamilyFilter) -> rusqlite::Result<FamilyPage> {
    let limit = filter.page_limit();
    // A bound that is always there lets SQLite walk the key from it. It is also what tells prefixes: SQLite's functions
    // of text end at a NUL.
    let (first, last) = match (&filter.client_id, &filter.client_id_prefix) {
        (Some(client_id), Some(prefix)) if !client_id.starts_with(prefix) => return Ok(FamilyPage::default()),
        (Some(client_id), _) => (client_id.as_str(), client_id.clone().into_bytes()),
        (None, prefix) => {
            let prefix = prefix.as_deref().unwrap_or_default();
            (prefix, [prefix.as_bytes(), &[AFTER_ALL_TEXT]].concat())
        }
    };
    let (after_client, after_family) = filter.after.clone().unwrap_or_default();
    let after = if filter.after.is_some() { ">" } else { ">=" };
    let mut query = connection.prepare_cached(&format!(
        "SELECT client_id, family, generation, kid,
             CASE WHEN epoch < (SELECT epoch FROM store) AND status = 'live' THEN 'revoked' ELSE status END AS state,
             issued_at, renewed_at, access_expires_at, refresh_expires_at, version
         FROM token
         WHERE client_id >= ?1 AND client_id <= CAST(?2 AS TEXT) AND (client_id, family) {after} (?3, ?4)
             AND (?5 IS NULL OR instr(client_id, ?5) > 0)
             AND (?6 IS NULL OR kid = ?6)
             AND (?7 IS NULL OR state = ?7)
         ORDER BY client_id, family LIMIT ?8"
    ))?;
    let rows = query.query_map(
        params![
            after_client.as_str().max(first),
            last,
            after_client,
            after_family,
            filter.client_id_part,
            filter.kid,
            filter.status.map(FamilyStatus::as_str),
            limit + 1,
        ],
        entry,
    )?;
    let mut families = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = families.len() > limit;
    families.truncate(limit);
    let last = families.last().filter(|_| more);
    Ok(FamilyPage { next: last.map(|entry| (entry.client_id.clone(), entry.family.clone())), families })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<FamilyEntry> {
    Ok(FamilyEntry {
        client_id: row.get(0)?,
        family: row.get(1)?,
        generation: row.get(2)?,
        kid: row.get(3)?,
        status: status(row, 4)?,
        issued_at: row.get(5)?,
        renewed_at: row.get(6)?,
        access_expires_at: row.get(7)?,
        refresh_expires_at: row.get(8)?,
        version: row.get(9)?,
    })
}

/// What a row keeps of its tokens, to be converted.
struct KeptRow {
    client_id: String,
    family: String,
    version: u64,
    access: Option<Secret>,
    refresh: Option<Secret>,
}

/// What takes the place of what a row keeps, if the row is still of this version.
struct ConvertedRow {
    client_id: String,
    family: String,
    version: u64,
    access: Option<(Secret, TokenDigest)>,
    refresh: Option<(Secret, TokenDigest)>,
}

impl KeptRow {
    fn key(&self) -> (String, String) {
        (self.client_id.clone(), self.family.clone())
    }

    fn converted(self, reform: &impl Fn(&Secret) -> Reform, counts: &mut Conversion) -> Option<ConvertedRow> {
        let reforms = [&self.access, &self.refresh].map(|kept| kept.as_ref().map(reform));
        counts.unopened += u64::from(reforms.contains(&Some(Reform::Unopened)));
        let [access, refresh] = reforms.map(|reform| match reform {
            Some(Reform::Replace(text, digest)) => Some((text, digest)),
            _ => None,
        });
        let KeptRow { client_id, family, version, .. } = self;
        (access.is_some() || refresh.is_some()).then_some(ConvertedRow { client_id, family, version, access, refresh })
    }
}

/// The next rows in the order of the primary key, revoked ones and those of an earlier epoch too.
fn kept_rows(connection: &Connection, after: &(String, String)) -> rusqlite::Result<Vec<KeptRow>> {
    let mut query = connection.prepare_cached(
        "SELECT client_id, family, version, access_token, refresh_token FROM token
         WHERE (client_id, family) > (?1, ?2) ORDER BY client_id, family LIMIT ?3",
    )?;
    let text = |row: &Row<'_>, column| row.get::<_, Option<String>>(column).map(|text| text.map(Secret::from));
    let rows = query.query_map(params![after.0, after.1, CONVERTED_AT_ONCE], |row| {
        Ok(KeptRow {
            client_id: row.get(0)?,
            family: row.get(1)?,
            version: row.get(2)?,
            access: text(row, 3)?,
            refresh: text(row, 4)?,
        })
    })?;
    rows.collect()
}

fn compact(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    connection.busy_timeout(COMPACTING_TIMEOUT)?;
    connection.execute_batch("VACUUM")?;
    let checkpoint = |mode: &str| -> rusqlite::Result<bool> {
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))
    };
    // Most of it without being in anybody's way.
    checkpoint("PASSIVE")?;
    // SQLite does not wait for a checkpoint of somebody else's, and under load there is one with every write.
    let deadline = Instant::now() + COMPACTING_TIMEOUT;
    while checkpoint("TRUNCATE")? {
        if Instant::now() > deadline {
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// One write that waits for its turn.
struct Write {
    command: Command,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
    /// Its place in the queue, until it is done.
    _room: Option<OwnedSemaphorePermit>,
}

enum Command {
    Save(TokenRecord, SaveOptions),
    Rotate(Rotation),
    Revoke(Revocation, Option<u64>),
    Convert(Vec<ConvertedRow>),
    Spend(String, u64),
}

impl Command {
    fn announce(&self, changes: &Changes) {
        match self {
            Self::Save(record, _) => changes.client_changed(&record.client_id),
            Self::Rotate(rotation) => changes.client_changed(&rotation.successor.client_id),
            Self::Revoke(revocation, _) => changes.revoked(revocation),
            // The tokens stay what they were.
            Self::Convert(_) | Self::Spend(..) => {}
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// So many rows were as they had been.
    Converted(u64),
    Saved(Saved),
    Rotated(Rotated),
    Revoked(Revoked),
    /// Whether the ticket had not been used before.
    Spent(bool),
}

/// Takes writes from the queue, as many at once as there are, until the store is dropped. Nothing that goes wrong with
/// one lot of writes keeps the next from being tried; when `commit` panics, its writers hear of it because their
/// `answer` is dropped. Where there is nothing to write for a while, `commit` is given none.
fn serve(queue: &mpsc::Receiver<Write>, mut commit: impl FnMut(&[Write]) -> Result<Vec<Outcome>, StoreError>) {
    loop {
        let mut writes = match queue.recv_timeout(WATCH_INTERVAL) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while writes.len() < QUEUE
            && let Ok(next) = queue.try_recv()
        {
            writes.push(next);
        }
        // Nobody is left to tell of these: a client that has gone must not lose its refresh token to a rotation.
        writes.retain(|write| !write.answer.is_closed());
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| commit(&writes))) else { continue };
        acknowledge(writes, outcome);
    }
}

fn acknowledge(writes: Vec<Write>, outcome: Result<Vec<Outcome>, StoreError>) {
    match outcome {
        Ok(outcomes) => {
            for (write, outcome) in writes.into_iter().zip(outcomes) {
                let _ = write.answer.send(Ok(outcome));
            }
        }
        Err(error) => {
            for write in writes {
                let _ = write.answer.send(Err(error.clone()));
            }
        }
    }
}

/// The one connection that writes.
struct Writer {
    connection: Connection,
    changes: Arc<Changes>,
    clock: Clock,
    watched: Option<Instant>,
    data_version: Option<i64>,
    cleaned: Instant,
}

impl Writer {
    fn new(connection: Connection, changes: Arc<Changes>, clock: Clock) -> Self {
        Self { connection, changes, clock, watched: None, data_version: None, cleaned: Instant::now() }
    }

    /// Applies `writes` in their order, in one transaction: all are on the disk when this returns, or none. With none, it
    /// only looks for what others wrote.
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Outcome>, StoreError> {
        let clean = self.cleaned.elapsed() > CLEANING_INTERVAL;
        let outcomes = if writes.is_empty() { Ok(Vec::new()) } else { self.run(writes, clean) };
        // Also when it failed, for it may be on the disk all the same.
        writes.iter().for_each(|write| write.command.announce(&self.changes));
        if self.watched.is_none_or(|watched| watched.elapsed() >= WATCH_INTERVAL) {
            self.watch();
        }
        outcomes.map_err(unwritable)
    }

    /// Looks for what others wrote. Where that fails, nothing is known of it, and the next look says more.
    fn watch(&mut self) {
        let now_ms = self.clock.unix_now_ms();
        let Ok(version) = self.connection.pragma_query_value(None, "data_version", |row| row.get(0)) else { return };
        if self.data_version.replace(version) != Some(version) {
            self.changes.anything_changed();
        }
        self.changes.watched_until(now_ms.saturating_add(WATCHED_MS));
        self.watched = Some(Instant::now());
    }

    fn run(&mut self, writes: &[Write], clean: bool) -> rusqlite::Result<Vec<Outcome>> {
        // IMMEDIATE: the lock is taken, and waited for, here and not between reading and writing.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut books = Books::open(&transaction, self.clock.unix_now_ms())?;
        let outcomes = writes.iter().map(|write| books.apply(&write.command)).collect::<rusqlite::Result<_>>()?;
        // Where there is more of it, the next write goes on.
        let is_clean = clean && books.clean()? < CLEANED_AT_ONCE;
        books.close()?;
        transaction.commit()?;
        if is_clean {
            self.cleaned = Instant::now();
        }
        Ok(outcomes)
    }
}

/// The tables within one transaction of the writer.
struct Books<'a> {
    connection: &'a Connection,
    epoch: u64,
    version: u64,
    now_ms: u64,
}

/// Which of a client's families a pair is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    SameFamily,
    AllFamilies,
}

/// A row, as far as a rotation has to know it.
struct HeldFamily {
    name: String,
    family: Family,
    issued_at: u64,
}

impl<'a> Books<'a> {
    fn open(connection: &'a Connection, now_ms: u64) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached("SELECT epoch, version FROM store")?;
        let (epoch, version) = query.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { connection, epoch, version, now_ms })
    }

    fn now(&self) -> u64 {
        self.now_ms / 1000
    }

    fn close(self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("UPDATE store SET version = ?1")?.execute([self.version]).map(drop)
    }

    fn apply(&mut self, command: &Command) -> rusqlite::Result<Outcome> {
        Ok(match command {
            Command::Save(record, options) => Outcome::Saved(self.save(record, *options)?),
            Command::Rotate(rotation) => Outcome::Rotated(self.rotate(rotation)?),
            Command::Revoke(revocation, if_version) => Outcome::Revoked(self.revoke(revocation, *if_version)?),
            Command::Convert(rows) => Outcome::Converted(self.convert(rows)?),
            Command::Spend(ticket, expires_at) => Outcome::Spent(self.spend(ticket, *expires_at)?),
        })
    }

    fn save(&mut self, record: &TokenRecord, options: SaveOptions) -> rusqlite::Result<Saved> {
        if !self.meets(&record.client_id, options.condition)? {
            return Ok(Saved::ConditionFailed);
        }
        let over = if options.keep_others { Over::SameFamily } else { Over::AllFamilies };
        self.put(record, None, self.now(), over)?;
        Ok(Saved::Saved(self.version))
    }

    fn meets(&self, client_id: &str, condition: Condition) -> rusqlite::Result<bool> {
        if condition == Condition::None {
            return Ok(true);
        }
        Ok(condition.is_met_by(canonical(self.connection, client_id, None)?.and_then(|canonical| canonical.version)))
    }

    /// Writes a pair over what there is of it. Rows change where they are: one that is deleted and inserted anew has more
    /// pages written to the disk.
    fn put(
        &mut self,
        record: &TokenRecord,
        consumed: Option<&TokenDigest>,
        issued_at: u64,
        over: Over,
    ) -> rusqlite::Result<()> {
        const COLUMNS: &str = "generation, kid, status, access_token, access_sha256, access_expires_at, refresh_token,
             refresh_sha256, refresh_expires_at, consumed_sha256, consumed_at_ms, issued_at, renewed_at, epoch, version";
        const VALUES: &str = "?3, ?4, 'live', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16";
        self.version += 1;
        let (access, refresh) = (&record.access, &record.refresh);
        let values = params![
            record.client_id,
            record.family,
            integer(record.generation),
            record.kid,
            access.text.expose(),
            access.digest.as_bytes(),
            integer(access.expires_at),
            refresh.text.expose(),
            refresh.digest.as_bytes(),
            integer(refresh.expires_at),
            consumed.map(TokenDigest::as_bytes),
            self.now_ms,
            issued_at,
            self.now(),
            self.epoch,
            self.version,
        ];
        if over == Over::AllFamilies {
            const FIRST: &str = "(SELECT rowid FROM token WHERE client_id = ?1 LIMIT 1)";
            let delete = format!("DELETE FROM token WHERE client_id = ?1 AND rowid <> {FIRST}");
            self.connection.prepare_cached(&delete)?.execute([&record.client_id])?;
            let update = format!("UPDATE token SET family = ?2, ({COLUMNS}) = ({VALUES}) WHERE rowid = {FIRST}");
            if self.connection.prepare_cached(&update)?.execute(values)? > 0 {
                return Ok(());
            }
        }
        let upsert = format!(
            "INSERT INTO token (client_id, family, {COLUMNS}) VALUES (?1, ?2, {VALUES})
             ON CONFLICT (client_id, family) DO UPDATE SET ({COLUMNS}) = ({VALUES})"
        );
        self.connection.prepare_cached(&upsert)?.execute(values).map(drop)
    }

    fn rotate(&mut self, rotation: &Rotation) -> rusqlite::Result<Rotated> {
        let client_id = &rotation.successor.client_id;
        let Some(held) = self.presented(rotation)? else {
            let is_known = canonical(self.connection, client_id, None)?.is_some();
            return Ok(if is_known { Rotated::Superseded } else { Rotated::UnknownClient });
        };
        Ok(match held.family.judge(rotation) {
            Verdict::Rotate => {
                if held.name != rotation.successor.family {
                    self.forget(client_id, &held.name)?;
                }
                self.put(&rotation.successor, Some(&rotation.presented), held.issued_at, Over::SameFamily)?;
                Rotated::Rotated
            }
            Verdict::Repeat => Rotated::Repeated(self.pair_of(client_id, &held.name)?),
            Verdict::Reuse => {
                self.end(client_id, Some(&held.name), FamilyStatus::Reused)?;
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        })
    }

    /// The family that a rotation is about: the one that the token names, else the one that holds the token.
    fn presented(&self, rotation: &Rotation) -> rusqlite::Result<Option<HeldFamily>> {
        let columns = format!(
            "SELECT family, generation, refresh_sha256, consumed_sha256, consumed_at_ms,
                 CASE WHEN epoch < {} AND status = 'live' THEN 'revoked' ELSE status END, issued_at
             FROM token WHERE client_id = ?1",
            self.epoch
        );
        let client_id = &rotation.successor.client_id;
        let held = |row: &Row<'_>| held(row, self.now_ms);
        if let Some((family, _)) = &rotation.presented_family {
            let named = format!("{columns} AND family = ?2");
            let found = self.connection.prepare_cached(&named)?.query_row([client_id, family], held).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let holder = format!("{columns} AND (refresh_sha256 = ?2 OR consumed_sha256 = ?2)");
        let mut query = self.connection.prepare_cached(&holder)?;
        query.query_row(params![client_id, rotation.presented.as_bytes()], held).optional()
    }

    fn pair_of(&self, client_id: &str, family: &str) -> rusqlite::Result<StoredPair> {
        let mut query = self.connection.prepare_cached(
            "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND family = ?2",
        )?;
        query.query_row([client_id, family], pair)
    }

    fn forget(&self, client_id: &str, family: &str) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM token WHERE client_id = ?1 AND family = ?2")?;
        delete.execute([client_id, family]).map(drop)
    }

    /// Ends a family, or all of a client's, and lets go of their tokens.
    fn end(&mut self, client_id: &str, family: Option<&str>, status: FamilyStatus) -> rusqlite::Result<u64> {
        const UPDATE: &str = "UPDATE token SET status = ?1, version = ?2, access_token = NULL, refresh_token = NULL
             WHERE status = 'live' AND epoch = ?3 AND client_id = ?4";
        self.version += 1;
        let values = params![status.as_str(), self.version, self.epoch, client_id];
        let ended = match family {
            Some(family) => {
                let mut update = self.connection.prepare_cached(&format!("{UPDATE} AND family = ?5"))?;
                update.execute(&[values, params![family]].concat()[..])?
            }
            None => self.connection.prepare_cached(UPDATE)?.execute(values)?,
        };
        if ended > 0 {
            self.touch(client_id)?;
        }
        Ok(ended as u64)
    }

    /// Gives what was issued last a new version: it may have been issued before what has just ended, and the versions
    /// of a client only grow.
    fn touch(&mut self, client_id: &str) -> rusqlite::Result<()> {
        self.version += 1;
        let mut update = self.connection.prepare_cached(
            "UPDATE token SET version = ?1 WHERE rowid = (
                 SELECT rowid FROM token WHERE client_id = ?2 AND status = 'live' AND epoch = ?3
                 ORDER BY version DESC LIMIT 1
             )",
        )?;
        update.execute(params![self.version, client_id, self.epoch]).map(drop)
    }

    /// Ends everything at once. It is written before the next command, which may look.
    fn end_all(&mut self) -> rusqlite::Result<u64> {
        let live = format!("SELECT count(*) FROM token WHERE {COUNTS}");
        let live = self.connection.query_row(&live, [], |row| row.get(0))?;
        (self.epoch, self.version) = (self.epoch + 1, self.version + 1);
        self.connection.execute("UPDATE store SET epoch = ?1", [self.epoch])?;
        Ok(live)
    }

    fn revoke(&mut self, revocation: &Revocation, if_version: Option<u64>) -> rusqlite::Result<Revoked> {
        let condition = if_version.map_or(Condition::None, Condition::Version);
        let ended = match revocation {
            Revocation::Family { client_id, .. } | Revocation::Client(client_id)
                if !self.meets(client_id, condition)? =>
            {
                return Ok(Revoked::ConditionFailed);
            }
            Revocation::Family { client_id, family } => self.end(client_id, Some(family), FamilyStatus::Revoked)?,
            Revocation::Client(client_id) => self.end(client_id, None, FamilyStatus::Revoked)?,
            Revocation::All => self.end_all()?,
        };
        Ok(Revoked::Families(ended))
    }

    /// The versions stay: the tokens are the same, and by its version a client's newest family is found.
    fn convert(&self, rows: &[ConvertedRow]) -> rusqlite::Result<u64> {
        let mut update = self.connection.prepare_cached(
            "UPDATE token SET
                 access_token = coalesce(?4, access_token), access_sha256 = coalesce(?5, access_sha256),
                 refresh_token = coalesce(?6, refresh_token), refresh_sha256 = coalesce(?7, refresh_sha256)
             WHERE client_id = ?1 AND family = ?2 AND version = ?3",
        )?;
        let mut count = 0;
        for row in rows {
            let text = |half: &Option<(Secret, TokenDigest)>| half.as_ref().map(|(text, _)| text.expose().to_owned());
            let digest = |half: &Option<(Secret, TokenDigest)>| half.as_ref().map(|(_, digest)| *digest.as_bytes());
            let (access, refresh) = (&row.access, &row.refresh);
            count += update.execute(params![
                row.client_id,
                row.family,
                row.version,
                text(access),
                digest(access),
                text(refresh),
                digest(refresh),
            ])?;
        }
        Ok(count as u64)
    }

    fn spend(&self, ticket: &str, expires_at: u64) -> rusqlite::Result<bool> {
        let mut insert = self.connection.prepare_cached("INSERT INTO ticket VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        Ok(insert.execute(params![ticket, integer(expires_at)])? > 0)
    }

    /// Deletes some rows whose tokens have all expired, and some used tickets, and says how many; where it is not known when they do, the row stays.
    fn clean(&self) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM token WHERE rowid IN (
                 SELECT rowid FROM token WHERE refresh_expires_at BETWEEN 1 AND ?1 AND access_expires_at BETWEEN 1 AND ?1 LIMIT ?2
             )",
        )?;
        let tokens = delete.execute(params![self.now().saturating_sub(1), CLEANED_AT_ONCE])?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM ticket WHERE id IN (SELECT id FROM ticket WHERE expires_at < ?1 LIMIT ?2)")?;
        Ok(tokens.max(delete.execute(params![self.now().saturating_sub(TICKET_KEPT), CLEANED_AT_ONCE])?))
    }
}

/// As much of a number as SQLite can hold: a token may say anything of its end, and must not fail the writes beside it.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn held(row: &Row<'_>, now_ms: u64) -> rusqlite::Result<HeldFamily> {
    let ago = Duration::from_millis(now_ms.saturating_sub(row.get(4)?));
    let consumed = digest(row, 3)?.map(|consumed| (consumed, ago));
    let family = Family { generation: row.get(1)?, refresh: digest(row, 2)?, consumed, status: status(row, 5)? };
    Ok(HeldFamily { name: row.get(0)?, family, issued_at: row.get(6)? })
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
    transaction.execute_batch(TICKETS)?;
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
            Self::Tokens { version } if version < SCHEMA_VERSION => Err(failed(format!(
                "{path} has schema {version}, which no release wrote: name another file, and issue tokens anew"
            ))),
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
    use crate::store::TokenEntry;

    fn write(client_id: &str) -> (Write, oneshot::Receiver<Result<Outcome, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (
            Write { command: Command::Save(record(client_id, "a"), SaveOptions::default()), answer, _room: None },
            answered,
        )
    }

    fn record(client_id: &str, access: &str) -> TokenRecord {
        let entry = |text: &str| TokenEntry { text: text.into(), digest: TokenDigest::of(text), expires_at: 0 };
        TokenRecord {
            client_id: client_id.to_owned(),
            family: String::new(),
            generation: 0,
            kid: String::new(),
            access: entry(access),
            refresh: entry("r"),
        }
    }

    fn client_id(write: &Write) -> &str {
        let Command::Save(record, _) = &write.command else { panic!("no save") };
        &record.client_id
    }

    fn saved(count: u64) -> Vec<Outcome> {
        (1..=count).map(|version| Outcome::Saved(Saved::Saved(version))).collect()
    }

    #[test]
    fn a_panic_fails_its_writes_and_no_others() {
        let (sender, queue) = mpsc::channel();
        let thread = thread::spawn(move || {
            serve(&queue, |writes| {
                assert!(writes.iter().all(|write| client_id(write) != "bad"), "on purpose");
                Ok(saved(writes.len() as u64))
            });
        });
        for (client_id, succeeds) in [("good", true), ("bad", false), ("good", true)] {
            let (write, answered) = write(client_id);
            assert!(sender.send(write).is_ok());
            assert_eq!(answered.blocking_recv().is_ok(), succeeds, "{client_id}");
        }
        drop(sender);
        thread.join().expect("the thread outlives the panic and ends with the channel");
    }

    #[test]
    fn what_has_queued_up_is_one_transaction_without_the_abandoned() {
        let (sender, queue) = mpsc::channel();
        let (writes, mut answers): (Vec<_>, Vec<_>) = ["a", "gone", "b"].map(write).into_iter().unzip();
        drop(answers.remove(1));
        for write in writes {
            assert!(sender.send(write).is_ok());
        }
        drop(sender);
        let seen = Mutex::new(Vec::new());
        serve(&queue, |writes| {
            let ids: Vec<_> = writes.iter().map(|write| client_id(write).to_owned()).collect();
            seen.lock().expect("not poisoned").extend((!ids.is_empty()).then_some(ids));
            Ok(saved(writes.len() as u64))
        });
        assert_eq!(*seen.lock().expect("not poisoned"), [["a", "b"]]);
        for (answer, expected) in answers.into_iter().zip(saved(2)) {
            assert_eq!(answer.blocking_recv().expect("an answer").expect("saved"), expected);
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
        let (_directory, mut writer) = scratch();
        let limit = |writer: &Writer, pages: i32| {
            let update = writer.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
            update.expect("a limit");
        };
        let small = write("small").0;
        let mut large = write("large").0;
        large.command = Command::Save(record("large", &"x".repeat(1 << 20)), SaveOptions::default());
        limit(&writer, 10);
        let writes = [small, large];
        let error = writer.commit(&writes).expect_err("no room");
        assert_eq!((error.kind(), error.to_string().contains("full")), (StoreErrorKind::Failed, true), "{error}");
        let held = |writer: &Writer, id| canonical(&writer.connection, id, None).expect("readable");
        assert_eq!(held(&writer, "small"), None, "the writes stand or fall together");
        limit(&writer, 10_000);
        assert_eq!(writer.commit(&writes).expect("room"), saved(2));
        assert!(held(&writer, "large").is_some());
    }

    fn scratch() -> (tempfile::TempDir, Writer) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = locate(&directory.path().join("t.db")).expect("a file");
        (
            directory,
            Writer::new(prepare(&path).expect("a database"), Arc::new(Changes::of_watched_store()), Clock::default()),
        )
    }

    fn commit(writer: &mut Writer, commands: impl IntoIterator<Item = Command>) -> Vec<Outcome> {
        let write = |command| Write { command, answer: oneshot::channel().0, _room: None };
        let writes: Vec<_> = commands.into_iter().map(write).collect();
        writer.commit(&writes).expect("written")
    }

    fn save(client_id: &str, condition: Condition) -> Command {
        Command::Save(record(client_id, "a"), SaveOptions { keep_others: true, condition })
    }

    /// Those of one transaction see what those before them did, as those of different ones do.
    #[test]
    fn one_transaction_is_as_good_as_many() {
        let commands = || {
            let revoke_all = || Command::Revoke(Revocation::All, None);
            let rotation = Rotation {
                presented: TokenDigest::of("r"),
                presented_family: None,
                successor: record("b", "b"),
                grace: Duration::ZERO,
            };
            [
                save("a", Condition::None),
                revoke_all(),
                revoke_all(),
                save("a", Condition::Absent),
                save("a", Condition::Absent),
                Command::Rotate(rotation.clone()),
                save("b", Condition::Absent),
                Command::Rotate(rotation),
                Command::Revoke(Revocation::Client("b".to_owned()), None),
                revoke_all(),
                save("a", Condition::Absent),
            ]
        };
        let (_one, mut one) = scratch();
        let (_other, mut other) = scratch();
        let together = commit(&mut one, commands());
        let apart: Vec<_> = commands().into_iter().flat_map(|command| commit(&mut other, [command])).collect();
        assert_eq!(together, apart);
        let revoked = |outcome: &Outcome| match outcome {
            Outcome::Revoked(Revoked::Families(count)) => Some(*count),
            _ => None,
        };
        assert_eq!(apart.iter().filter_map(revoked).collect::<Vec<_>>(), [1, 0, 1, 1]);
        let held = |writer: &Writer| canonical(&writer.connection, "a", None).expect("readable");
        assert!(held(&one).is_some() && held(&one) == held(&other));
    }

    #[test]
    fn rows_go_when_all_their_tokens_have_expired() {
        let (_directory, mut writer) = scratch();
        let now = Clock::default().unix_now();
        let ends = [
            ("unknown", 0, 0),
            ("access unknown", 0, 1),
            ("refresh unknown", 1, 0),
            ("live", now + 600, now + 600),
            ("access live", now + 600, 1),
            ("refresh live", 1, now + 600),
            ("expired", now - 1, now - 2),
        ];
        let ended = |(client_id, access, refresh): (&str, u64, u64)| {
            let mut record = record(client_id, "a");
            (record.access.expires_at, record.refresh.expires_at) = (access, refresh);
            Command::Save(record, SaveOptions::default())
        };
        commit(&mut writer, ends.map(ended));
        let held = |writer: &Writer| {
            let page = list(&writer.connection, &FamilyFilter::default()).expect("readable");
            page.families.into_iter().map(|entry| entry.client_id).collect::<Vec<_>>()
        };
        assert_eq!(held(&writer).len(), ends.len(), "it is not time yet");
        writer.run(&[], true).expect("cleaned");
        let expected = ["access live", "access unknown", "live", "refresh live", "refresh unknown", "unknown"];
        assert_eq!(held(&writer), expected);
    }

    /// A row that was written since it was read is the newer one's. Revoked rows have nothing to convert, and stay so.
    #[test]
    fn a_conversion_takes_nothing_back() {
        let (_directory, mut writer) = scratch();
        let held = |writer: &Writer, id: &str| newest_pair(&writer.connection, id).expect("readable");
        let ids = ["kept", "written", "revoked"];
        commit(&mut writer, ids.map(|id| save(id, Condition::None)));
        let rows = kept_rows(&writer.connection, &Default::default()).expect("readable");
        assert_eq!(rows.len(), 3);
        let newer = Command::Save(record("written", "newer"), SaveOptions::default());
        commit(&mut writer, [newer, Command::Revoke(Revocation::Client("revoked".to_owned()), None)]);
        let mut counts = Conversion::default();
        let reform = |kept: &Secret| Reform::Replace(format!("sealed {}", kept.expose()).into(), TokenDigest::of("t"));
        let converted = |rows: Vec<KeptRow>, counts: &mut Conversion| {
            rows.into_iter().filter_map(|row| row.converted(&reform, counts)).collect::<Vec<_>>()
        };
        let outcome = commit(&mut writer, [Command::Convert(converted(rows, &mut counts))]);
        assert_eq!(outcome, [Outcome::Converted(1)]);
        let text = |writer: &Writer, id| held(writer, id).and_then(|pair| pair.access_token);
        assert_eq!(text(&writer, "kept"), Some("sealed a".into()));
        assert_eq!(text(&writer, "written"), Some("newer".into()));
        assert_eq!(held(&writer, "revoked"), None);
        let digests = canonical(&writer.connection, "kept", None).expect("readable").expect("known");
        assert_eq!((digests.access, digests.refresh), (Some(TokenDigest::of("t")), Some(TokenDigest::of("t"))));
        let rows = kept_rows(&writer.connection, &Default::default()).expect("readable");
        assert_eq!(converted(rows, &mut counts).len(), 2, "the tombstone keeps no text");
    }

    /// A number that SQLite cannot hold must not fail the writes beside it.
    #[test]
    fn any_number_is_taken() {
        let (_directory, mut writer) = scratch();
        let mut odd = record("odd", "a");
        (odd.generation, odd.access.expires_at, odd.refresh.expires_at) = (u64::MAX, u64::MAX, u64::MAX);
        commit(&mut writer, [save("a", Condition::None), Command::Save(odd, SaveOptions::default())]);
        for client_id in ["a", "odd"] {
            assert!(canonical(&writer.connection, client_id, None).expect("readable").is_some());
        }
        assert_eq!(list(&writer.connection, &FamilyFilter::default()).expect("readable").families.len(), 2);
    }
}
