//! Writing files without secrets, in one step each.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind, Write},
    path::Path,
};

use fastauth_config::directory_of;

use crate::failure::Failure;

/// What to do if there is a file of this name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    Replace,
}

/// Writes a file under another name and gives it its own: an interrupted program leaves the old file or the new one.
pub(crate) fn write(path: &Path, text: &str, existing: Existing) -> Result<(), Failure> {
    let failure = |error: io::Error| Failure::new(format!("{}: cannot be written: {error}", path.display()));
    // A link stays a link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut draft = draft(&target).map_err(failure)?;
    draft.write_all(text.as_bytes()).and_then(|()| draft.as_file().sync_all()).map_err(failure)?;
    let persisted = match existing {
        Existing::Refuse => draft.persist_noclobber(&target),
        Existing::Replace => draft.persist(&target),
    };
    match persisted {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("{} already exists, and was not changed", path.display())))
        }
        Err(refused) => Err(failure(refused.error)),
    }
}

/// Creates the file beside its target, with the permissions that the target has or would be given.
fn draft(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let permissions = fs::metadata(target).map(|replaced| replaced.permissions()).ok().or_else(new_file_permissions);
    if let Some(permissions) = permissions {
        builder.permissions(permissions);
    }
    builder.tempfile_in(directory_of(target))
}

/// Returns the permissions of a new file, of which the system takes away what the user's mask says.
#[cfg(unix)]
fn new_file_permissions() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn new_file_permissions() -> Option<Permissions> {
    None
}
