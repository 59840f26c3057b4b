//! Whether the files that are open are still those that stand under their names.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Watches the file and those beside it. A file that was removed, or that another one took the place of, can still be read and
/// written, but nobody else sees that, and it is gone at the next start.
pub(super) struct Presence {
    path: PathBuf,
    log: PathBuf,
    files: Vec<(PathBuf, FileId)>,
    /// Once it is, it stays so: what has been written meanwhile went to another file.
    is_lost: AtomicBool,
}

/// Device and inode.
#[cfg(unix)]
type FileId = (u64, u64);
/// What is open cannot be removed there.
#[cfg(not(unix))]
type FileId = ();

#[cfg(unix)]
fn id(file: &fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

#[cfg(not(unix))]
fn id(_: &fs::Metadata) -> FileId {}

impl Presence {
    /// Watches what stands there now, when it has been opened.
    pub(super) fn new(path: &Path) -> Self {
        let log = beside(path, "-wal");
        let names = [path.to_owned(), log.clone(), beside(path, "-shm")];
        let files = names.into_iter().filter_map(|name| fs::metadata(&name).map(|file| (name, id(&file))).ok());
        Self { path: path.to_owned(), log, files: files.collect(), is_lost: AtomicBool::new(false) }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Looks whether the files are there, and says so in the log when they are not any more. Where a name cannot be looked up for
    /// another reason, as in a directory that the process has no rights to any more, nothing is known.
    pub(super) fn look(&self) -> bool {
        let is_gone = |(name, known): &(PathBuf, FileId)| match fs::metadata(name) {
            Ok(file) => id(&file) != *known,
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        if !self.is_lost() && self.files.iter().any(is_gone) && !self.is_lost.swap(true, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::error!(
                target: "fastauth",
                "the token database {path} was removed or replaced while it is in use: nothing is read or written any more; \
                 put the right file there (`fastauth store restore`) and restart this process"
            );
        }
        !self.is_lost()
    }

    /// The size of the write-ahead log, in bytes.
    pub(super) fn log_size(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }
}

/// The name of a file that SQLite keeps beside another one.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
