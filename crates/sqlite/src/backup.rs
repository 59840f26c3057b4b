//! Backups, which are taken while the file is in use, and put back in a way that brings no revoked token back.

use std::{
    fs::{self, TryLockError},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    SqliteStore,
    error::{failed, unopenable, unreadable, unwritable},
    integrity::{check, open_alone},
    presence::beside,
    schema::{self, Content, directory, prepare, sync_directory},
};
use fastauth_core::store::StoreError;

/// What becomes of the log-ins of a backup that is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredSessions {
    /// All of them are revoked: nothing that was revoked since the backup was made is good again.
    Revoked,
    /// They are as good as they were when the backup was made, also those that were revoked since.
    Kept,
}

impl SqliteStore {
    /// Writes a copy of the whole database, as it is at one moment, to a new file for its owner alone. Others read and write
    /// meanwhile.
    ///
    /// This blocks.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) where there is a file of that name, and where there
    /// is no room for it. Nothing is left of it then.
    pub fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        create(to)?;
        let connection = schema::connect(&self.path).map_err(unreadable)?;
        copy(&connection, to).inspect_err(|_| drop(fs::remove_file(to)))
    }

    /// Puts a backup in the place of the database at `path`, which nobody may have open, and gives the name that the file that
    /// was there has now.
    ///
    /// This blocks.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) where the backup is none or is damaged, where the database
    /// is in use, and where there is no room. The database is as it was then.
    pub fn restore(backup: &Path, path: &Path, sessions: RestoredSessions) -> Result<Option<PathBuf>, StoreError> {
        if !directory(path).is_dir() {
            let directory = directory(path).display();
            return Err(failed(format!("there is no directory {directory} for the token database: create it first")));
        }
        // Opening a pipe would wait for somebody to write to it.
        if fs::metadata(backup).is_ok_and(|backup| !backup.is_file()) {
            return Err(failed(format!("{} is no file: name a backup", backup.display())));
        }
        let path = &behind_links(path)?;
        let _alone = lock_directory(path)?;
        let staged = beside(path, ".restoring");
        // One that was killed may have left them.
        remove(&staged);
        create(&staged)?;
        let restored = stage(backup, &staged).and_then(|()| replace(&staged, path, sessions));
        remove(&staged);
        restored
    }
}

/// What SQLite keeps in a file and beside it.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

fn remove(staged: &Path) {
    for suffix in SUFFIXES.iter().chain(&["-journal"]) {
        let _ = fs::remove_file(beside(staged, suffix));
    }
}

/// The file that a name stands for, as it is opened: a link stays one.
fn behind_links(path: &Path) -> Result<PathBuf, StoreError> {
    match path.canonicalize() {
        Err(error) if path.is_symlink() => {
            let message = format!("{} is a link to a file that is not there: name that file", path.display());
            Err(failed(message).caused_by(error))
        }
        found => Ok(found.unwrap_or_else(|_| path.to_owned())),
    }
}

/// Keeps other restores off a directory until this is dropped, where a directory can be locked.
fn lock_directory(path: &Path) -> Result<Option<fs::File>, StoreError> {
    let Ok(directory) = fs::File::open(directory(path)) else { return Ok(None) };
    match directory.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(failed(format!("another backup is being restored beside {}: try again after it", path.display())))
        }
        _ => Ok(Some(directory)),
    }
}

fn create(path: &Path) -> Result<(), StoreError> {
    schema::create(path).map_err(|error| {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::AlreadyExists => failed(format!("{path} is there already: name a file that is not")),
            _ => failed(format!("cannot create {path}")).caused_by(error),
        }
    })
}

/// Copies what a connection sees into an empty file.
fn copy(connection: &Connection, to: &Path) -> Result<(), StoreError> {
    let name = to.to_str().ok_or_else(|| failed("the name of the copy has to be UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(unwritable)?;
    let synced = fs::OpenOptions::new().write(true).open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| failed(format!("cannot write {}", to.display())).caused_by(error))?;
    sync_directory(to);
    Ok(())
}

/// Copies a backup, and sees whether it is whole.
fn stage(backup: &Path, staged: &Path) -> Result<(), StoreError> {
    let unreadable = |error| unopenable(backup, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut source = Connection::open_with_flags(backup, flags).map_err(unreadable)?;
    let content = source.transaction().and_then(|transaction| Content::of(&transaction)).map_err(unreadable)?;
    if matches!(content.check(backup)?, Content::Empty) {
        return Err(failed(format!("{} is empty: name a backup", backup.display())));
    }
    copy(&source, staged)
}

fn replace(staged: &Path, path: &Path, sessions: RestoredSessions) -> Result<Option<PathBuf>, StoreError> {
    let connection = prepare(staged)?;
    check(staged, &connection, None)?;
    let present = if path.exists() { Some(hold(path)?) } else { None };
    // Versions go on from the later of the two, since they must not run backwards.
    let version: u64 = present.as_ref().and_then(Option::as_ref).and_then(|(_, version)| *version).unwrap_or_default();
    let set_on = match sessions {
        RestoredSessions::Revoked => "floor = max(version, ?1) + 1, live = 0,",
        RestoredSessions::Kept => "",
    };
    let set_on = format!("UPDATE store SET {set_on} version = max(version, ?1) + 1, closed = max(version, ?1) + 1");
    connection.execute(&set_on, [version]).map_err(unwritable)?;
    connection.close().map_err(|(_, error)| unwritable(error))?;
    // A log that is left would be taken for that of the new file.
    let is_there = SUFFIXES.iter().any(|suffix| beside(path, suffix).exists());
    let moved = if is_there { Some(move_away(path)?) } else { None };
    fs::rename(staged, path)
        .map_err(|error| failed(format!("cannot put {} in its place", path.display())).caused_by(error))?;
    sync_directory(path);
    drop(present);
    Ok(moved)
}

/// A connection that keeps others out, and the version that the file has, as far as that can be read.
type Held = (Connection, Option<u64>);

/// Keeps others from opening a database; one that is damaged cannot be opened anyway.
fn hold(path: &Path) -> Result<Option<Held>, StoreError> {
    match open_alone(path) {
        Ok(Some(connection)) => {
            let version = connection.query_row("SELECT version FROM store", [], |row| row.get(0)).ok();
            Ok(Some((connection, version)))
        }
        Ok(None) => {
            let path = path.display();
            Err(failed(format!("{path} is in use: stop every process that has it open, and restore then")))
        }
        Err(_) => Ok(None),
    }
}

/// Gives a database, with its log, or what there is of them, a name that no file has.
fn move_away(path: &Path) -> Result<PathBuf, StoreError> {
    let is_free = |name: &PathBuf| !SUFFIXES.iter().any(|suffix| beside(name, suffix).exists());
    let name = (1..).map(|number| beside(path, &format!(".replaced-{number}"))).find(is_free);
    let name = name.unwrap_or_else(|| beside(path, ".replaced"));
    for suffix in SUFFIXES {
        let moved = fs::rename(beside(path, suffix), beside(&name, suffix));
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(format!("cannot move {} away", path.display())).caused_by(error));
            }
            _ => {}
        }
    }
    Ok(name)
}
