//! Whether a file is what it was when it was left.

use std::{
    fs,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, config::DbConfig};

use super::{
    error::{damaged, is_busy, unopenable},
    presence::beside,
    schema::{APPLICATION_ID, FLAGS, NEEDS_LOG, SCHEMA_VERSION},
};
use fastauth_core::store::StoreError;

/// How long a file is checked at a start: some two million log-ins.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a file for this connection alone, or gives `None` where others have it open. Closing it leaves the log as it is.
pub(super) fn open_alone(path: &Path) -> rusqlite::Result<Option<Connection>> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything is read: then the lock is one that no other connection gets along with.
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    match connection.execute_batch("BEGIN EXCLUSIVE; COMMIT") {
        Ok(()) => Ok(Some(connection)),
        Err(error) if is_busy(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a file that was not left in order and is damaged, and says whether it was gone through. One that was left in order is
/// not, nor one that others use, who did so when they opened it.
pub(super) fn check_at_start(path: &Path) -> Result<bool, StoreError> {
    // In order, the log is empty or not there; but for what another process had left when it was killed.
    let has_log = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let alone = open_alone(path).and_then(|connection| match connection {
        Some(connection) if is_of_this_layout(&connection)? && (has_log || !is_in_order(&connection)?) => {
            Ok(Some(connection))
        }
        _ => Ok(None),
    });
    match alone {
        Ok(Some(connection)) if !has_log && needs_log(&connection) => {
            Err(damaged(path, "the log that it needs is not there, or is empty"))
        }
        Ok(Some(connection)) => check(path, &connection, Some(PATIENCE)).map(|()| true),
        Ok(None) => Ok(false),
        // Another program's file, which is refused for that; nor can a new one be opened by two at once.
        Err(error) if is_busy(&error) || error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => Ok(false),
        Err(error) => Err(unopenable(path, error)),
    }
}

fn is_of_this_layout(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    Ok((number("application_id")?, number("user_version")?) == (APPLICATION_ID, SCHEMA_VERSION))
}

fn is_in_order(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT closed = version FROM store", [], |row| row.get(0))
}

/// Whether what was written last stands in the log alone. Once that has been written back, the file does not say so any more.
fn needs_log(connection: &Connection) -> bool {
    connection.query_row("SELECT closed = ?1 FROM store", [NEEDS_LOG], |row| row.get(0)).unwrap_or(false)
}

/// Goes through the whole file: its structure, and whether the versions of its rows add up to what was written.
pub(super) fn check(path: &Path, connection: &Connection, patience: Option<Duration>) -> Result<(), StoreError> {
    // Dropped when this ends, which wakes the thread.
    let (_done, done) = mpsc::channel::<()>();
    if let Some(patience) = patience {
        let interrupt = connection.get_interrupt_handle();
        thread::spawn(move || {
            if done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
    }
    match fault(connection) {
        Ok(None) => Ok(()),
        Ok(Some(fault)) => Err(damaged(path, &fault)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            let path = path.display();
            tracing::warn!(
                target: "fastauth",
                "the token database {path} was not left in order, and is too large to be checked whole at the start: \
                 `sqlite3 FILE 'PRAGMA integrity_check'` does so"
            );
            Ok(())
        }
        Err(error) => Err(unopenable(path, error)),
    }
}

fn fault(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        // It may quote what is in the file.
        return Ok(Some("SQLite finds its structure broken".to_owned()));
    }
    let adds_up: bool =
        connection.query_row("SELECT total = (SELECT coalesce(sum(version), 0) FROM token) FROM store", [], |row| {
            row.get(0)
        })?;
    Ok((!adds_up).then(|| "its rows are not those that were written last".to_owned()))
}
