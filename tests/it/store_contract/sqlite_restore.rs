//! Putting a backup back where things are not as they should be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastauth::store::{RestoredSessions, SqliteStore};
use tempfile::TempDir;

use crate::support::stores::ManySessions;

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Creates a database that holds client "a", and a backup of it.
async fn with_backup() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("tokens.db"), directory.path().join("backup.db"));
    let store = SqliteStore::open(&path).unwrap();
    store.begin("a", "f", 1).await;
    store.back_up(&backup).unwrap();
    (directory, path, backup)
}

/// SQLite would take it for the log of the new file.
#[tokio::test]
async fn log_left_behind_is_moved_away() {
    let (directory, path, backup) = with_backup().await;
    let crashed = directory.path().join("crashed.db");
    let store = SqliteStore::open(&path).unwrap();
    store.begin("b", "f", 2).await;
    for suffix in ["", "-wal"] {
        fs::copy(beside(&path, suffix), beside(&crashed, suffix)).unwrap();
    }
    drop(store);
    fs::remove_file(&crashed).unwrap();
    let replaced = SqliteStore::restore(&backup, &crashed, RestoredSessions::Revoked).unwrap().unwrap();
    assert!(!beside(&crashed, "-wal").exists() && beside(&replaced, "-wal").exists());
    let store = SqliteStore::open(&crashed).unwrap();
    assert!(!store.accepts("a", "f", 1).await && !store.accepts("b", "f", 2).await);
}

#[tokio::test]
async fn killed_restore_does_not_prevent_the_next() {
    let (_directory, path, backup) = with_backup().await;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        fs::write(beside(&path, &format!(".restoring{suffix}")), "half of it").unwrap();
    }
    SqliteStore::restore(&backup, &path, RestoredSessions::Kept).unwrap();
    for suffix in ["", "-wal", "-shm", "-journal"] {
        assert!(!beside(&path, &format!(".restoring{suffix}")).exists(), "{suffix}");
    }
    assert!(SqliteStore::open(&path).unwrap().accepts("a", "f", 1).await);
}

#[cfg(unix)]
#[tokio::test]
async fn second_restore_at_a_time_is_refused() {
    let (directory, path, backup) = with_backup().await;
    let other = fs::File::open(directory.path()).unwrap();
    other.lock().unwrap();
    let staged = beside(&path, ".restoring");
    fs::write(&staged, "the other one's").unwrap();
    let error = SqliteStore::restore(&backup, &path, RestoredSessions::Kept).expect_err("busy").to_string();
    assert!(error.contains("another backup is being restored"), "{error}");
    assert!(staged.exists());
    drop(other);
    SqliteStore::restore(&backup, &path, RestoredSessions::Kept).unwrap();
}

/// Opening one would wait for a writer.
#[cfg(unix)]
#[tokio::test]
async fn pipe_is_refused_as_a_backup() {
    let (directory, path, _) = with_backup().await;
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for backup in [&pipe, directory.path()] {
        let error = SqliteStore::restore(backup, &path, RestoredSessions::Revoked).expect_err("no file").to_string();
        assert!(error.contains("is not a file"), "{error}");
    }
    assert!(SqliteStore::open(&path).unwrap().accepts("a", "f", 1).await);
}

/// The link may lead to another volume.
#[cfg(unix)]
#[tokio::test]
async fn restore_follows_a_link() {
    let (directory, path, backup) = with_backup().await;
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let real = volume.join("real.db");
    fs::rename(&path, &real).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let replaced = SqliteStore::restore(&backup, &path, RestoredSessions::Revoked).unwrap().unwrap();
    assert!(path.is_symlink() && fs::symlink_metadata(&real).unwrap().is_file());
    assert_eq!(replaced.canonicalize().unwrap().parent(), volume.canonicalize().ok().as_deref());
    assert!(!SqliteStore::open(&real).unwrap().accepts("a", "f", 1).await, "revoked");
    fs::remove_file(&real).unwrap();
    let error = SqliteStore::restore(&backup, &path, RestoredSessions::Revoked).expect_err("to nothing").to_string();
    assert!(error.contains("is a link to a file that is not there"), "{error}");
}

/// Root restores what the service's user opens.
#[cfg(unix)]
#[tokio::test]
async fn restored_file_has_the_owner_of_the_replaced_one() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let (directory, path, backup) = with_backup().await;
    let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
    let other = (54_321, 54_322);
    if chown(&path, Some(other.0), Some(other.1)).is_err() {
        // Only root can give files away.
        return;
    }
    let replaced = SqliteStore::restore(&backup, &path, RestoredSessions::Kept).unwrap().unwrap();
    assert_eq!((owner(&path), owner(&replaced)), (other, other));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(SqliteStore::open(&path).unwrap().accepts("a", "f", 1).await);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = SqliteStore::restore(&backup, &path, RestoredSessions::Kept).expect_err("open to all");
    assert!(error.with_causes().contains("every user can write"), "{error}");
    assert!(!beside(&path, ".restoring").exists());
}
