//! Checking a file that was not closed in order.

use std::{
    fs,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use fastauth_core::store::StoreError;
use rusqlite::{Connection, ErrorCode, config::DbConfig};

use super::{
    error::{damaged, is_busy, unopenable},
    presence::beside,
    schema::{Content, FLAGS, NEEDS_LOG, SCHEMA_VERSION},
};

/// How long a file is checked at a start: some two million sessions.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a file for this connection alone, or returns `None` if others have it open. Closing the connection leaves the log as it is.
pub(super) fn open_alone(path: &Path) -> rusqlite::Result<Option<Connection>> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything is read: then the lock excludes all other connections.
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    match connection.execute_batch("BEGIN EXCLUSIVE; COMMIT") {
        Ok(()) => Ok(Some(connection)),
        Err(error) if is_busy(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a damaged file, and returns true if it was checked. A file that was closed in order is not checked, nor one in use,
/// since the process that uses it has done so.
pub(super) fn check_at_start(path: &Path) -> Result<bool, StoreError> {
    // After an orderly end, the log is empty or missing, unless another process was killed.
    let has_log = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let alone = open_alone(path).and_then(|connection| match connection {
        Some(connection) if has_this_schema(&connection)? && (has_log || !was_closed(&connection)?) => {
            Ok(Some(connection))
        }
        _ => Ok(None),
    });
    match alone {
        Ok(Some(connection)) if !has_log && needs_log(&connection) => {
            Err(damaged(path, "the log that it needs is not there, or is empty"))
        }
        Ok(Some(connection)) => check(path, &connection).map(|()| true),
        Ok(None) => Ok(false),
        // Opening refuses the file of another program. A busy file is a new one that another process opens as well.
        Err(error) if is_busy(&error) || error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => Ok(false),
        Err(error) => Err(unopenable(path, error)),
    }
}

fn has_this_schema(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(matches!(Content::read(connection)?, Content::Tokens { version: SCHEMA_VERSION }))
}

fn was_closed(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT closed = version FROM store", [], |row| row.get(0))
}

/// Returns true if the last writes are in the log alone. Writing it back clears that mark.
fn needs_log(connection: &Connection) -> bool {
    connection.query_row("SELECT closed = ?1 FROM store", [NEEDS_LOG], |row| row.get(0)).unwrap_or(false)
}

/// Refuses a damaged file. One that takes longer to check is not checked to the end.
fn check(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    // Dropped at the end of this function, which ends the thread.
    let (_done, done) = mpsc::channel::<()>();
    let interrupt = connection.get_interrupt_handle();
    thread::spawn(move || {
        if done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    match fault(connection) {
        Ok(None) => Ok(()),
        Ok(Some(fault)) => Err(damaged(path, fault)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            let path = path.display();
            tracing::warn!(
                target: "fastauth",
                "the token database {path} was not closed in order, and is too large to be checked completely at the start: \
                 run `sqlite3 FILE 'PRAGMA integrity_check'`"
            );
            Ok(())
        }
        Err(error) => Err(unopenable(path, error)),
    }
}

/// Checks the whole file: its structure, and that the versions of its rows add up.
pub(super) fn fault(connection: &Connection) -> rusqlite::Result<Option<&'static str>> {
    let result: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if result != "ok" {
        // Not quoted, since it may show what is in the file.
        return Ok(Some("SQLite finds its structure broken"));
    }
    let adds_up: bool =
        connection.query_row("SELECT total = (SELECT coalesce(sum(version), 0) FROM token) FROM store", [], |row| {
            row.get(0)
        })?;
    Ok(if adds_up { None } else { Some("its rows are not those that were written last") })
}
