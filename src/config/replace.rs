//! Replacing a file that holds secrets, in one step.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::secret::Secret;

/// Who may read the file afterwards. Its owner and group stay in either case: the application may be another user than
/// whoever changes its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its owner alone.
    Private,
    /// Who could before.
    Kept,
}

/// Writes beside the file and renames, so that a reader sees the old text or the new one and nothing between.
pub(super) fn replace(path: &Path, text: &Secret, mode: Mode) -> io::Result<()> {
    // A link stays a link: what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = draft_of(&target);
    let written = write(&draft, text, fs::metadata(&target).ok(), mode).and_then(|()| fs::rename(&draft, &target));
    if written.is_err() {
        // The draft may not be there; the error to tell is the first one.
        let _ = fs::remove_file(&draft);
    }
    written?;
    // The name is in the directory. Where one cannot be opened, there is nothing to sync.
    if let Some(directory) = target.parent().and_then(|directory| File::open(directory).ok()) {
        let _ = directory.sync_all();
    }
    Ok(())
}

fn draft_of(target: &Path) -> PathBuf {
    let mut draft = target.to_owned().into_os_string();
    draft.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    PathBuf::from(draft)
}

fn write(draft: &Path, text: &Secret, replaced: Option<Metadata>, mode: Mode) -> io::Result<()> {
    let mut file = create_private(draft)?;
    file.write_all(text.expose().as_bytes())?;
    if let Some(replaced) = replaced {
        keep_owner(&file, &replaced)?;
        if mode == Mode::Kept {
            file.set_permissions(replaced.permissions())?;
        }
    }
    file.sync_all()
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn keep_owner(draft: &File, replaced: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = draft.metadata()?;
    if (own.uid(), own.gid()) == (replaced.uid(), replaced.gid()) {
        return Ok(());
    }
    fchown(draft, Some(replaced.uid()), Some(replaced.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_draft: &File, _replaced: &Metadata) -> io::Result<()> {
    Ok(())
}
