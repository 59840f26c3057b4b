//! Backups of a file that is in use, and restoring one without making revoked tokens valid.

use std::{
    fs::{self, TryLockError},
    io,
    path::{Path, PathBuf},
};

use fastauth_core::store::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    error::{failed, unopenable, unreadable, unrestorable, unwritable},
    integrity::{fault, open_alone},
    presence::{beside, directory},
    rights::keep_owner,
    schema::{self, Content, NEW_EPOCH, prepare, sync_directory},
    store::SqliteStore,
};

/// What happens to the sessions of a restored backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredSessions {
    /// All are revoked, so that no token that was revoked after the backup becomes valid.
    Revoked,
    /// All are as they were at the time of the backup, including those that were revoked after it.
    Kept,
}

impl SqliteStore {
    /// Writes a consistent copy of the database to a new file, readable by its owner alone. Reads and writes go on during it.
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) if the file exists, or if there is no room for it. An
    /// incomplete copy is removed.
    pub fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        drop(create(to)?);
        let connection = schema::connect(&self.path).map_err(unreadable)?;
        copy(&connection, to, unwritable).inspect_err(|_| drop(fs::remove_file(to)))
    }

    /// Replaces the database at `path`, which must not be in use, by a backup. Keeps the replaced file and returns its new path. The
    /// new file has its owner.
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) if the backup is not one or is damaged, if the database
    /// is in use, or if there is no room. The database stays as it was.
    pub fn restore(backup: &Path, path: &Path, sessions: RestoredSessions) -> Result<Option<PathBuf>, StoreError> {
        if !directory(path).is_dir() {
            let directory = directory(path).display();
            return Err(failed(format!("there is no directory {directory} for the token database: create it first")));
        }
        // Opening a pipe would wait for a writer.
        if fs::metadata(backup).is_ok_and(|backup| !backup.is_file()) {
            return Err(failed(format!("{} is not a file: name a backup", backup.display())));
        }
        let path = &behind_links(path)?;
        let _alone = lock_directory(path)?;
        let staged = beside(path, ".restoring");
        // A restore that was killed may have left them.
        remove(&staged);
        let restored = create(&staged)
            .and_then(|file| {
                keep_owner(&file, path).map_err(|error| {
                    failed(format!("cannot give the restored file to the owner of {}", path.display())).caused_by(error)
                })
            })
            .and_then(|()| stage(backup, &staged, path))
            .and_then(|connection| replace(connection, &staged, path, sessions));
        remove(&staged);
        restored
    }
}

/// The endings of the files of a database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

fn remove(staged: &Path) {
    for suffix in SUFFIXES.iter().chain(&["-journal"]) {
        let _ = fs::remove_file(beside(staged, suffix));
    }
}

/// Follows links to the file itself, so that a link stays one.
fn behind_links(path: &Path) -> Result<PathBuf, StoreError> {
    match path.canonicalize() {
        Err(error) if path.is_symlink() => {
            let message = format!("{} is a link to a file that is not there: name that file", path.display());
            Err(failed(message).caused_by(error))
        }
        found => Ok(found.unwrap_or_else(|_| path.to_owned())),
    }
}

/// Locks a directory against other restores, on systems that can lock one.
fn lock_directory(path: &Path) -> Result<Option<fs::File>, StoreError> {
    let Ok(directory) = fs::File::open(directory(path)) else { return Ok(None) };
    match directory.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(failed(format!("another backup is being restored beside {}: try again after it", path.display())))
        }
        _ => Ok(Some(directory)),
    }
}

fn create(path: &Path) -> Result<fs::File, StoreError> {
    schema::create(path).map_err(|error| {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::AlreadyExists => failed(format!("{path} exists already: name a new file")),
            _ => failed(format!("cannot create {path}")).caused_by(error),
        }
    })
}

/// Copies the database of a connection into an empty file.
fn copy(connection: &Connection, to: &Path, failure: impl Fn(rusqlite::Error) -> StoreError) -> Result<(), StoreError> {
    let name = to.to_str().ok_or_else(|| failed("the name of the copy has to be UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(failure)?;
    let synced = fs::OpenOptions::new().write(true).open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| failed(format!("cannot write {}", to.display())).caused_by(error))?;
    sync_directory(to);
    Ok(())
}

/// Copies a backup that is neither empty nor damaged beside the database, and opens the copy.
fn stage(backup: &Path, staged: &Path, path: &Path) -> Result<Connection, StoreError> {
    let or_damaged = |error: rusqlite::Error, otherwise: fn(&Path, rusqlite::Error) -> StoreError| {
        if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) {
            return unrestorable(backup, path).caused_by(error);
        }
        otherwise(backup, error)
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(backup, flags).and_then(|mut source| {
        let content = Content::read(&*source.transaction()?)?;
        Ok((source, content))
    });
    let (source, content) = opened.map_err(|error| or_damaged(error, unopenable))?;
    if matches!(content.check(backup)?, Content::Empty) {
        return Err(failed(format!("{} is empty: name a backup", backup.display())));
    }
    copy(&source, staged, |error| or_damaged(error, |_, error| unwritable(error)))?;
    let copied = prepare(staged)?;
    match fault(&copied).map_err(|error| or_damaged(error, unopenable))? {
        Some(fault) => Err(unrestorable(backup, path).caused_by(failed(fault))),
        None => Ok(copied),
    }
}

/// Puts the copy in the place of the database.
fn replace(
    connection: Connection,
    staged: &Path,
    path: &Path,
    sessions: RestoredSessions,
) -> Result<Option<PathBuf>, StoreError> {
    let present = lock_out_others(path)?;
    set_on(&connection, sessions, present.as_ref().and_then(version_of).unwrap_or(0)).map_err(unwritable)?;
    connection.close().map_err(|(_, error)| unwritable(error))?;
    // A log that is left behind would be taken for that of the new file.
    let is_there = SUFFIXES.iter().any(|suffix| beside(path, suffix).exists());
    let moved = if is_there { Some(move_away(path)?) } else { None };
    fs::rename(staged, path)
        .map_err(|error| failed(format!("cannot put {} in its place", path.display())).caused_by(error))?;
    sync_directory(path);
    drop(present);
    Ok(moved)
}

/// Sets the version on from the later of the two files, since versions must not run backwards. The log is another one, since its numbers
/// have run on in the replaced file.
fn set_on(connection: &Connection, sessions: RestoredSessions, replaced: u64) -> rusqlite::Result<()> {
    let revoke = match sessions {
        RestoredSessions::Revoked => "floor = max(version, ?1) + 1, live = 0,",
        RestoredSessions::Kept => "",
    };
    let update = format!("UPDATE store SET {revoke} version = max(version, ?1) + 1, closed = max(version, ?1) + 1");
    connection.execute(&update, [replaced])?;
    connection.execute(NEW_EPOCH, []).map(drop)
}

fn version_of(connection: &Connection) -> Option<u64> {
    connection.query_row("SELECT version FROM store", [], |row| row.get(0)).ok()
}

/// Keeps other processes from opening a database as long as the connection is open. Returns `None` if there is no database, or if it
/// is so damaged that it cannot be opened.
fn lock_out_others(path: &Path) -> Result<Option<Connection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    match open_alone(path) {
        Ok(Some(connection)) => Ok(Some(connection)),
        Ok(None) => {
            let path = path.display();
            Err(failed(format!("{path} is in use: stop every process that has it open, and restore then")))
        }
        Err(_) => Ok(None),
    }
}

/// Renames a database and its log to a free name, and returns it.
fn move_away(path: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1;
    let mut name = beside(path, ".replaced-1");
    while SUFFIXES.iter().any(|suffix| beside(&name, suffix).exists()) {
        number += 1;
        name = beside(path, &format!(".replaced-{number}"));
    }
    for suffix in SUFFIXES {
        if let Err(error) = fs::rename(beside(path, suffix), beside(&name, suffix))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(format!("cannot move {} away", path.display())).caused_by(error));
        }
    }
    Ok(name)
}
