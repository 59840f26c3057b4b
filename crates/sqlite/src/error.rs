//! SQLite's errors, in the words of an operator.

use std::{borrow::Cow, io, path::Path};

use fastauth_core::store::{StoreError, StoreErrorKind};
use rusqlite::{ErrorCode, ffi};

use super::{presence::directory, rights::denial};

pub(super) fn failed(message: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

pub(super) fn writer_gone() -> StoreError {
    failed("the thread that writes the token database failed: look for a panic in the log")
}

pub(super) fn writer_not_started(error: io::Error) -> StoreError {
    failed("cannot start the thread that writes the token database").caused_by(error)
}

pub(super) fn reader_gone() -> StoreError {
    failed("the thread that lists the token database failed: look for a panic in the log")
}

pub(super) fn file_lost() -> StoreError {
    failed(
        "the file of the token database was removed or replaced while in use: all reads and writes fail until this process \
         is restarted on the right file",
    )
}

pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    let path = path.display();
    failed(format!(
        "the token database {path} is damaged ({what}), as by copying it, or only a part of it, while it was in use: \
         restore a backup with `fastauth store restore BACKUP --database {path}`; or move {path}, {path}-wal and \
         {path}-shm away, and all clients have to log in again"
    ))
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn is_lock_failure(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_LOCK)
}

/// The error of a backup that is damaged.
pub(super) fn unrestorable(backup: &Path, path: &Path) -> StoreError {
    let backup = backup.display();
    let path = path.display();
    failed(format!("{backup} is damaged and cannot be restored: use another backup. {path} was not changed"))
}

pub(super) fn unopenable(path: &Path, error: rusqlite::Error) -> StoreError {
    let shown = path.display();
    let code = error.sqlite_error_code();
    if matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure))
        && let Some(denial) = denial(path)
    {
        return failed(format!("cannot open the token database: {denial}")).caused_by(error);
    }
    let message = match code {
        Some(_) if is_lock_failure(&error) => {
            format!("the file system of {shown} cannot lock it: put the token database on a local disk")
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            let directory = directory(path).display();
            format!("cannot use {shown}: the disk is full, or the file system fails: run `df {directory}`")
        }
        Some(ErrorCode::NotADatabase) => format!("{shown} is not an SQLite database: name another file"),
        Some(ErrorCode::DatabaseBusy) => format!("{shown} is locked by another program: stop that program first"),
        Some(ErrorCode::ReadOnly) => {
            format!("{shown} cannot be written: check the rights of the file and its directory")
        }
        Some(ErrorCode::DatabaseCorrupt) => return damaged(path, "SQLite cannot read it").caused_by(error),
        _ => format!("cannot open the token database {shown}"),
    };
    failed(message).caused_by(error)
}

pub(super) fn unreadable(error: rusqlite::Error) -> StoreError {
    failed(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => "the token database is locked by another program",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the token database is damaged: restore it from a backup"
        }
        _ => "the token database cannot be read",
    })
    .caused_by(error)
}

pub(super) fn unwritable(error: rusqlite::Error) -> StoreError {
    failed(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => "the token database is locked by another program",
        Some(ErrorCode::DiskFull) => "the token database cannot grow: the disk is full",
        Some(ErrorCode::ReadOnly) => "the token database cannot be written: check the rights of its file",
        Some(ErrorCode::SystemIoFailure) => {
            "the token database cannot be written: the disk is full, or the file system fails"
        }
        _ => "the token database cannot be written",
    })
    .caused_by(error)
}
