//! Whom the files of a database belong to.

#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, fchown};
#[cfg(unix)]
use std::{fs, io::ErrorKind};
use std::{fs::File, io, path::Path};

#[cfg(unix)]
use super::presence::{beside, directory};

/// Gives a new file to the owner of the one that it will replace: the service may be another user than the one who restores.
#[cfg(unix)]
pub(super) fn keep_owner(new: &File, replaced: &Path) -> io::Result<()> {
    let old = match fs::metadata(replaced) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let is_of_another = new.metadata()?.uid() != old.uid();
    let refused = |problem| Err(io::Error::new(ErrorKind::PermissionDenied, problem));
    // The user who put it there would be given the tokens of the backup.
    if is_of_another && fs::metadata(directory(replaced))?.mode() & 0o002 != 0 {
        return refused("it is another user, and every user can write to the directory: use another one".to_owned());
    }
    if fchown(new, Some(old.uid()), Some(old.gid())).is_err() && is_of_another {
        return refused(format!("run this as root or as {}", name_of(old.uid())));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn keep_owner(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Returns which of its files the process may not use, and what to do; `None` if their owners and modes allow it, or if that is not
/// known.
pub(super) fn denial(path: &Path) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        // They belong to the user whose rights the process has.
        denial_to(fs::metadata("/proc/self").ok()?.uid(), path)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "elsewhere, the user is not known"))]
fn denial_to(user: u32, path: &Path) -> Option<String> {
    let files = ["", "-wal", "-shm"].map(|suffix| beside(path, suffix));
    let denied = files.iter().find_map(|file| denied(user, file, 0o6, "rw"));
    denied.or_else(|| self::denied(user, directory(path), 0o7, "rwx"))
}

#[cfg(unix)]
fn denied(user: u32, path: &Path, needed: u32, letters: &str) -> Option<String> {
    const ROOT: u32 = 0;
    let file = fs::metadata(path).ok().filter(|_| user != ROOT)?;
    let mode = file.mode() & 0o777;
    let shown = path.display();
    if file.uid() == user {
        let is_denied = mode >> 6 & needed != needed;
        return is_denied.then(|| format!("{shown} has the mode {mode:04o}: run `chmod u+{letters} {shown}`"));
    }
    // The user may be of the group.
    let is_denied = (mode | mode >> 3) & needed != needed;
    is_denied.then(|| {
        let owner = name_of(file.uid());
        let user = name_of(user);
        format!("{shown} belongs to {owner}, and this process runs as {user}: run `chown {user} {shown}`")
    })
}

/// Returns the name of a user, or else the number.
#[cfg(unix)]
fn name_of(user: u32) -> String {
    let number = user.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut entries = users.lines().map(|line| line.split(':'));
    let name = entries.find_map(|mut entry| Some((entry.next()?, entry.nth(1)?)).filter(|(_, id)| *id == number));
    name.map_or_else(|| number.clone(), |(name, _)| name.to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A user that no file belongs to.
    const OTHER: u32 = 54_321;

    #[test]
    fn denial_names_the_owner_or_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.db");
        fs::write(&path, "").unwrap();
        let shown = path.display();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&path, 0o600);
        let owner = name_of(fs::metadata(&path).unwrap().uid());
        assert_eq!(
            denial_to(OTHER, &path),
            Some(format!("{shown} belongs to {owner}, and this process runs as {OTHER}: run `chown {OTHER} {shown}`"))
        );
        set(&path, 0o660);
        assert!(denial_to(OTHER, &path).is_some_and(|denial| denial.starts_with(&*directory.path().to_string_lossy())));
        set(directory.path(), 0o770);
        assert_eq!(denial_to(OTHER, &path), None);
        set(&path, 0o444);
        assert!(denial_to(OTHER, &path).is_some());
        assert_eq!(denial_to(0, &path), None);
        let unwritable = denied(fs::metadata(&path).unwrap().uid().max(1), &path, 0o6, "rw").unwrap();
        assert!(unwritable.contains("0444") || unwritable.contains("chown"), "{unwritable}");
    }
}
