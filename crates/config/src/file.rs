//! Files with secrets in them: reading them, who else can, and replacing them in one step.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use fastauth_core::{random::unique_name, secret::Secret};

/// Reads a file of text. What is no regular file is refused: a pipe would be waited for.
pub(crate) fn read_text(path: &Path) -> io::Result<Secret> {
    let bytes = read_bounded(path)?;
    check_is_not_utf16(&bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(Secret::from(text))
}

/// Reads a file that others share, whose lines may be in another encoding: what is not UTF-8 in it becomes U+FFFD.
pub(crate) fn read_shared_text(path: &Path) -> io::Result<Secret> {
    let bytes = read_bounded(path)?;
    check_is_not_utf16(&bytes)?;
    Ok(String::from_utf8(bytes)
        .map_or_else(|error| Secret::from(String::from_utf8_lossy(error.as_bytes()).into_owned()), Secret::from))
}

/// Reads a file, unless it is larger than any configuration: a reload would go on for long.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    check_is_file(path)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn check_is_file(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "it is a directory" } else { "it is a pipe, a socket or a device" };
    Err(io::Error::new(ErrorKind::InvalidInput, format!("{what}, and not a file")))
}

fn check_is_not_utf16(bytes: &[u8]) -> io::Result<()> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is UTF-16: save it as UTF-8"));
    }
    Ok(())
}

/// Returns why a file cannot be read, without the system's number.
pub(crate) fn why(error: &io::Error) -> String {
    error.get_ref().map_or_else(|| error.kind().to_string(), ToString::to_string)
}

/// Returns a warning if every user of the machine can read, change or replace a file with secrets in it.
///
/// The start gives it for the configuration, `.env` and the embedded database. `None` on systems other than Unix.
#[must_use]
pub fn exposure(path: &Path) -> Option<String> {
    exposed(path, true)
}

/// Returns the warning of a configuration, which may have no secrets in it: then it must not be changed by every user.
pub(crate) fn exposed(path: &Path, has_secrets: bool) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        /// Of a directory in which each file is only its owner's to replace.
        const STICKY: u32 = 0o1000;
        let directory = directory_of(path);
        let of_file = fs::metadata(path).ok()?.permissions().mode();
        let of_directory = fs::metadata(directory).ok()?.permissions().mode();
        let (verb, remedy) = if of_directory & (STICKY | 0o002) == 0o002 {
            ("replace", format!("chmod o-w {}", directory.display()))
        } else if of_file & 0o002 != 0 {
            ("change", format!("chmod o= {}", path.display()))
        } else if of_file & 0o004 != 0 && has_secrets {
            ("read", format!("chmod o= {}", path.display()))
        } else {
            return None;
        };
        let path = path.display();
        let what = if has_secrets { "has secrets in it" } else { "says what is guarded" };
        Some(format!("{path}: every user of this machine can {verb} it, and it {what}; run `{remedy}`"))
    }
    #[cfg(not(unix))]
    {
        let _ = (path, has_secrets);
        None
    }
}

/// Locks the directory of a file until what is returned is dropped, and waits for other processes that have locked it.
///
/// Returns `None` if there are no such locks: on Windows, and on some file systems. Every process that can open the directory can
/// lock it, so it is an error if one does for longer than writing takes.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(10);
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Ok(directory) = File::open(directory_of(&target)) else {
        return Ok(None);
    };
    let begun = Instant::now();
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => break,
        }
    }
    let problem = format!(
        "another process has locked the directory {}, and has not released it for {} seconds; nothing was written: end that \
         process (`lslocks` lists such locks) and try again",
        directory_of(&target).display(),
        PATIENCE.as_secs()
    );
    Err(io::Error::new(ErrorKind::TimedOut, problem))
}

/// Returns the directory in which a file is.
#[doc(hidden)]
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The permissions of the file afterwards. Its owner and group stay in either case: the application may be another user than
/// the one who changes its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only its owner may read it.
    Private,
    /// The same as before.
    Kept,
}

/// Writes beside the file and renames, so that a reader sees the old text or the new one and nothing between.
///
/// A link stays a link: what it points to is replaced.
pub(crate) fn replace(path: &Path, text: &Secret, mode: Mode) -> io::Result<()> {
    check_links(path)?;
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = draft_of(&target);
    let written = write(&draft, text, fs::metadata(&target).ok(), mode).and_then(|()| rename(&draft, &target));
    if written.is_err() {
        // The draft may not be there; the error to tell is the first one.
        let _ = fs::remove_file(&draft);
    }
    written?;
    // The name is in the directory. Where one cannot be opened, there is nothing to sync.
    if let Ok(directory) = File::open(directory_of(&target)) {
        let _ = directory.sync_all();
    }
    Ok(())
}

fn rename(draft: &Path, target: &Path) -> io::Result<()> {
    fs::rename(draft, target).map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy => io::Error::new(
            ErrorKind::ResourceBusy,
            "it is mounted as a single file, which cannot be replaced in one step, and nothing was changed: change it where it \
             is mounted from, or mount its directory",
        ),
        _ => error,
    })
}

/// Refuses a path that leads through a link which every user could have put there: it would choose which file is written.
#[cfg(unix)]
fn check_links(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    /// As many as Linux follows.
    const MAX_LINKS: usize = 40;
    let mut path = std::path::absolute(path)?;
    for _ in 0..MAX_LINKS {
        let Some((link, next)) = first_link(&path) else {
            return Ok(());
        };
        let directory = directory_of(&link);
        if fs::metadata(directory)?.permissions().mode() & 0o002 != 0 {
            let problem = format!(
                "{} is a link in a directory that every user can write to, so any of them may have put it there; nothing was \
                 written: name the file that is meant",
                link.display()
            );
            return Err(io::Error::new(ErrorKind::PermissionDenied, problem));
        }
        let behind = path.strip_prefix(&link).unwrap_or(Path::new(""));
        let target = directory.join(next);
        path = if behind.as_os_str().is_empty() { target } else { target.join(behind) };
    }
    Ok(())
}

/// Returns the first part of a path that is a link, and its target.
#[cfg(unix)]
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let parts: Vec<_> = path.ancestors().collect();
    parts.into_iter().rev().find_map(|part| Some((part.to_owned(), fs::read_link(part).ok()?)))
}

#[cfg(not(unix))]
fn check_links(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn draft_of(target: &Path) -> PathBuf {
    let mut draft = target.to_owned().into_os_string();
    draft.push(format!(".{}", unique_name()));
    PathBuf::from(draft)
}

fn write(draft: &Path, text: &Secret, replaced: Option<Metadata>, mode: Mode) -> io::Result<()> {
    let mut file = create_private(draft)?;
    file.write_all(text.expose().as_bytes())?;
    if let Some(replaced) = replaced {
        keep_owner(&file, &replaced, draft)?;
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
fn keep_owner(draft: &File, replaced: &Metadata, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = draft.metadata()?;
    if (own.uid(), own.gid()) == (replaced.uid(), replaced.gid()) {
        return Ok(());
    }
    if own.uid() != replaced.uid() && fs::metadata(directory_of(path))?.mode() & 0o002 != 0 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "it is another user's, in a directory that every user can write to; nothing was written: use another directory",
        ));
    }
    fchown(draft, Some(replaced.uid()), Some(replaced.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_draft: &File, _replaced: &Metadata, _path: &Path) -> io::Result<()> {
    Ok(())
}
