//! Detecting that the open files were removed or replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// The files of a database, as they were opened. A file that was removed or replaced can still be read and written, but no other
/// process sees that, and it is gone at the next start.
pub(super) struct Presence {
    path: PathBuf,
    log: PathBuf,
    files: Vec<(PathBuf, FileId)>,
    /// Never reset, since some writes may have gone to another file.
    is_lost: AtomicBool,
}

/// Device and inode.
#[cfg(unix)]
type FileId = (u64, u64);
/// Elsewhere, an open file cannot be removed.
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
    /// Takes note of the files under their names, right after they were opened.
    pub(super) fn new(path: &Path) -> Self {
        let log = beside(path, "-wal");
        let names = [path.to_owned(), log.clone(), beside(path, "-shm")];
        let files = names.into_iter().filter_map(|name| fs::metadata(&name).map(|file| (name, id(&file))).ok());
        Self { path: path.to_owned(), log, files: files.collect(), is_lost: AtomicBool::new(false) }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Returns true if the files are still there, and logs it once if not. A name that cannot be looked up for another reason,
    /// such as the rights of a directory, proves nothing.
    pub(super) fn check(&self) -> bool {
        if !self.is_lost() && self.files.iter().any(is_gone) && !self.is_lost.swap(true, Ordering::AcqRel) {
            let path = self.path.display();
            tracing::error!(
                target: "fastauth",
                "the token database {path} was removed or replaced while in use: all reads and writes fail from now on; put \
                 the right file there (`fastauth store restore`) and restart this process"
            );
        }
        !self.is_lost()
    }

    /// Returns the size of the write-ahead log in bytes.
    pub(super) fn log_size(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }
}

fn is_gone((name, known): &(PathBuf, FileId)) -> bool {
    match fs::metadata(name) {
        Ok(file) => id(&file) != *known,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

/// Returns the name of a file that SQLite keeps beside another one.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Returns the directory of a file.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
