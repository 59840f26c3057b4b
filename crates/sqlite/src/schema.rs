//! The tables, and opening a file that has them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use fastauth_core::store::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{
    error::{failed, is_busy, unopenable},
    presence::directory,
};

/// The mark of a token database (`PRAGMA application_id`): "FstA".
const APPLICATION_ID: i32 = 0x4673_7441;
/// The version of the tables (`PRAGMA user_version`).
pub(super) const SCHEMA_VERSION: i32 = 5;
/// The earlier versions that are still upgraded.
const FAMILIES_SCHEMA: i32 = 3;
const SCHEMA_WITHOUT_LOG: i32 = 4;

/// The value of `closed` while the log has later writes: in the file itself, and in the log.
pub(super) const NEEDS_LOG: i64 = -1;
pub(super) const LOGGED: i64 = -2;

/// `version` counts all writes and never runs backwards, whatever is deleted. The status of a row holds only if its version is above
/// two floors, that of the store and that of its client; all others are revoked. Raising a floor thus revokes everything, or all that
/// a client has, however many rows there are.
///
/// `live` counts the live rows, and `total` adds up the versions of all rows, which shows a file that was put together of two states.
/// `closed` is the version at the last orderly end, or the mark of a process that writes ([`LOGGED`], [`NEEDS_LOG`]). `beat` is the
/// time of the last attempt to write.
const STORE: &str = "
CREATE TABLE store (
    version INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    live INTEGER NOT NULL,
    total INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    beat INTEGER NOT NULL
) STRICT;
";
const TOKEN: &str = "
INSERT INTO store VALUES (0, 0, 0, 0, 0, 0);
CREATE TABLE token (
    client_id TEXT NOT NULL,
    session TEXT NOT NULL,
    generation INTEGER NOT NULL,
    kid TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('live', 'revoked', 'reused')),
    access_token TEXT,
    access_sha256 BLOB,
    access_expires_at INTEGER NOT NULL,
    refresh_token TEXT,
    refresh_sha256 BLOB,
    refresh_expires_at INTEGER NOT NULL,
    previous_access_sha256 BLOB,
    consumed_sha256 BLOB,
    consumed_at_ms INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (client_id, session)
) STRICT;
";
/// The upgrade from the schema in which sessions were called families.
const FROM_FAMILIES: &str = "
ALTER TABLE token RENAME COLUMN family TO session;
ALTER TABLE token ADD COLUMN previous_access_sha256 BLOB;
";
/// The floor of a client, the number of its live rows, and the floor up to which the tokens of its rows were removed. `live` is valid
/// only if the floor is not below that of the store.
const CLIENT: &str = "
CREATE TABLE client (
    client_id TEXT PRIMARY KEY,
    floor INTEGER NOT NULL,
    live INTEGER NOT NULL,
    swept INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX client_to_sweep ON client (client_id) WHERE swept < floor;
INSERT INTO client SELECT client_id, 0, sum(status = 'live'), 0 FROM token GROUP BY client_id;
";
/// The index of each look-up, so that it costs the same however many rows a client has. A refresh token that names no session is
/// looked up among those that a session of generation 0 has consumed. The triggers keep the counts, also if an operator deletes rows by
/// hand.
const INDEXES: &str = "
CREATE INDEX token_live ON token (client_id, version) WHERE status = 'live';
CREATE INDEX token_by_consumed ON token (client_id, consumed_sha256)
    WHERE generation = 0 AND consumed_sha256 IS NOT NULL;
CREATE INDEX token_by_end ON token (max(access_expires_at, refresh_expires_at))
    WHERE access_expires_at > 0 AND refresh_expires_at > 0;
CREATE TRIGGER token_inserted AFTER INSERT ON token BEGIN
    INSERT INTO client SELECT NEW.client_id, floor, 0, floor FROM store WHERE true
        ON CONFLICT DO UPDATE SET floor = excluded.floor, live = 0 WHERE client.floor < excluded.floor;
    UPDATE store SET total = total + NEW.version,
        live = live + (SELECT NEW.status = 'live' AND NEW.version > floor FROM client WHERE client_id = NEW.client_id);
    UPDATE client SET live = live + 1
        WHERE client_id = NEW.client_id AND NEW.status = 'live' AND NEW.version > floor;
END;
CREATE TRIGGER token_versioned AFTER UPDATE OF version ON token BEGIN
    UPDATE store SET total = total + NEW.version - OLD.version;
END;
CREATE TRIGGER token_ended AFTER UPDATE OF status, version ON token
WHEN NEW.status <> OLD.status OR OLD.version <= max(
    (SELECT floor FROM store), coalesce((SELECT floor FROM client WHERE client_id = OLD.client_id), 0)
) BEGIN
    INSERT INTO client SELECT NEW.client_id, floor, 0, floor FROM store WHERE true
        ON CONFLICT DO UPDATE SET floor = excluded.floor, live = 0 WHERE client.floor < excluded.floor;
    UPDATE store SET live = live + (
        SELECT (NEW.status = 'live' AND NEW.version > floor) - (OLD.status = 'live' AND OLD.version > floor)
        FROM client WHERE client_id = NEW.client_id
    );
    UPDATE client
        SET live = live + (NEW.status = 'live' AND NEW.version > floor) - (OLD.status = 'live' AND OLD.version > floor)
        WHERE client_id = NEW.client_id
            AND (NEW.status = 'live' AND NEW.version > floor) <> (OLD.status = 'live' AND OLD.version > floor);
END;
CREATE TRIGGER token_deleted AFTER DELETE ON token BEGIN
    UPDATE store SET total = total - OLD.version, live = live - (
        OLD.status = 'live' AND OLD.version > floor
        AND OLD.version > coalesce((SELECT floor FROM client WHERE client_id = OLD.client_id), 0)
    );
    UPDATE client SET live = live - 1
        WHERE client_id = OLD.client_id AND OLD.status = 'live' AND OLD.version > floor
            AND OLD.version > (SELECT floor FROM store);
    DELETE FROM client
        WHERE client_id = OLD.client_id AND NOT EXISTS (SELECT 1 FROM token WHERE client_id = OLD.client_id);
END;
";
/// The tickets that were used.
const TICKETS: &str = "
CREATE TABLE IF NOT EXISTS ticket (
    id TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_by_end ON ticket (expires_at);
";

/// The changes, in the order in which they were made. The newest is never deleted, so that numbers are not used again. The epoch names
/// the log, and differs in a file that was restored.
///
/// The trigger notes the sessions that an operator deletes by hand. It also notes those that a new pair replaces, beside the note of that
/// pair, and leaves out those that are deleted because they have expired.
const LOG: &str = "
ALTER TABLE store ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
UPDATE store SET epoch = lower(hex(randomblob(8)));
CREATE TABLE change (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    client_id TEXT,
    session TEXT,
    version INTEGER NOT NULL
) STRICT;
CREATE TRIGGER token_deleted_live BEFORE DELETE ON token
WHEN OLD.status = 'live' AND OLD.version > (SELECT floor FROM store)
    AND OLD.version > coalesce((SELECT floor FROM client WHERE client_id = OLD.client_id), 0)
AND NOT (
    OLD.access_expires_at > 0 AND OLD.refresh_expires_at > 0
    AND max(OLD.access_expires_at, OLD.refresh_expires_at) < CAST(strftime('%s', 'now') AS INTEGER)
) BEGIN
    INSERT INTO change (at_ms, kind, client_id, session, version)
        VALUES (CAST(strftime('%s', 'now') AS INTEGER) * 1000, 'revoke', OLD.client_id, OLD.session, OLD.version);
END;
";
/// Gives the log another name.
pub(super) const NEW_EPOCH: &str = "UPDATE store SET epoch = lower(hex(randomblob(8)))";

/// How long SQLite waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long opening is retried if SQLite is busy without having waited, as if two processes switch a file to WAL at the same moment,
/// and while another process checks the file.
const OPENING_TIMEOUT: Duration = Duration::from_secs(15);
/// The size to which the write-ahead log is cut back, once no one reads in it.
const LOG_SIZE: i64 = 16 << 20;

/// Creates the file if it is missing, and returns its absolute path: the working directory may change, and SQLite takes some names
/// (`:memory:`) for something else than a file.
pub(super) fn locate(path: &Path) -> Result<PathBuf, StoreError> {
    if path.as_os_str().is_empty() {
        return Err(failed("the path of the token database is empty: name a file"));
    }
    let directory = directory(path);
    if !directory.is_dir() {
        let directory = directory.display();
        return Err(failed(format!("there is no directory {directory} for the token database: create it first")));
    }
    create_if_missing(path)
        .and_then(|()| path.canonicalize())
        .map_err(|error| failed(format!("cannot create the token database {}", path.display())).caused_by(error))
}

/// Creates the file with its mode, which SQLite gives to the files beside it too. Leaves an existing file alone.
///
/// Closing any handle of a file drops all locks of the process on it, SQLite's included. So an existing file is never opened here,
/// and a new one is closed before another thread gets past.
fn create_if_missing(path: &Path) -> io::Result<()> {
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    match create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// Creates an empty file, readable by its owner alone, and fails if it exists.
pub(super) fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    file.sync_all()?;
    sync_directory(path);
    Ok(file)
}

/// Syncs the directory, which has the name of the file. Like SQLite, does nothing if a directory cannot be opened.
pub(super) fn sync_directory(path: &Path) {
    let _ = fs::File::open(directory(path)).and_then(|directory| directory.sync_all());
}

/// Opens the writing connection, and creates the tables in an empty file.
pub(super) fn prepare(path: &Path) -> Result<Connection, StoreError> {
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

/// Returns SQLite's errors as the outer error, and the refusal of what the file holds as the inner one.
fn try_prepare(path: &Path) -> rusqlite::Result<Result<Connection, StoreError>> {
    let mut connection = connect(path)?;
    // Before anything is written: another program's file must stay as it is. In one transaction, or else what is read
    // may be half of before and half of after another process made its tables.
    let found = match Content::read(&*connection.transaction()?)?.check(path) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(found) => found,
    };
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let path = path.display();
        return Ok(Err(failed(format!("SQLite cannot use WAL for {path}: put the token database on a local disk"))));
    }
    // No wait for other writers if there is nothing to create.
    if matches!(found, Content::Tokens { version: SCHEMA_VERSION }) {
        return Ok(Ok(connection));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let steps: &[&str] = match Content::read(&transaction)?.check(path) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Content::Empty) => &[STORE, TOKEN, CLIENT, INDEXES, TICKETS, LOG],
        Ok(Content::Tokens { version: FAMILIES_SCHEMA }) => &[FROM_FAMILIES, LOG],
        Ok(Content::Tokens { version: SCHEMA_WITHOUT_LOG }) => &[LOG],
        Ok(_) => &[],
    };
    for step in steps {
        transaction.execute_batch(step)?;
    }
    if !steps.is_empty() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()?;
    Ok(Ok(connection))
}

/// What a file holds.
pub(super) enum Content {
    Empty,
    Tokens { version: i32 },
    Foreign,
}

impl Content {
    /// Reads what a file holds, within one transaction if others may write to it.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let version = number(connection, "user_version")?;
        Ok(match number(connection, "application_id")? {
            APPLICATION_ID => Self::Tokens { version },
            0 if version == 0 && tables == 0 => Self::Empty,
            _ => Self::Foreign,
        })
    }

    /// Refuses the file of another program and other schemas.
    pub(super) fn check(self, path: &Path) -> Result<Self, StoreError> {
        let path = path.display();
        match self {
            Self::Foreign => Err(failed(format!("{path} is another program's database: name a file of its own"))),
            Self::Tokens { version } if version > SCHEMA_VERSION => Err(failed(format!(
                "{path} was written by a newer version of fastauth (schema {version}, this one knows \
                 {SCHEMA_VERSION}): use that version, or name another file"
            ))),
            Self::Tokens { version } if version < FAMILIES_SCHEMA => Err(failed(format!(
                "{path} has schema {version}, which no release wrote: name another file, and issue new tokens"
            ))),
            content => Ok(content),
        }
    }
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// The flags of a connection that one thread uses at a time. Neither CREATE nor URI names.
pub(super) const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Where `fsync` does not reach the disk (macOS); elsewhere these change nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 1000, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_SIZE, |_| Ok(()))?;
    Ok(connection)
}
