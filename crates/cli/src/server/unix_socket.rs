//! A listening socket of Unix, and its file.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::SocketAddr,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// How long a process that listens may take to be connected to.
const PATIENCE: Duration = Duration::from_secs(1);

/// A listening socket. Dropping it removes its file.
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The device and number of the file: it may have been replaced.
    identity: (u64, u64),
}

impl UnixSocket {
    /// Listens on a path. A socket that a process has left there, such as one that was killed, is replaced.
    pub(super) async fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        // It is bound by a shorter path, and clients connect by this one.
        SocketAddr::from_pathname(path)?;
        refuse_if_taken(path).await?;
        // It is bound in a directory of its own and then moved, so that it has its mode before anyone can connect.
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let private = directory.join(format!(".fastauth-{}", std::process::id()));
        if let Err(error) = DirBuilder::new().mode(0o700).create(&private)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let bound = bind_in(&private, path, mode);
        let _ = fs::remove_dir_all(&private);
        bound
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns an error if the path is that of another kind of file, or of a socket on which a process listens.
async fn refuse_if_taken(path: &Path) -> io::Result<()> {
    let taken = |reason| Err(io::Error::new(ErrorKind::AddrInUse, reason));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return taken("there is a file that is not a socket; name another path, or remove it");
        }
        Ok(_) => {}
    }
    match timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => taken("another process listens on it"),
    }
}

fn bind_in(private: &Path, path: &Path, mode: u32) -> io::Result<UnixSocket> {
    let bound = private.join("s");
    let _ = fs::remove_file(&bound);
    let listener = UnixListener::bind(&bound)?;
    fs::set_permissions(&bound, Permissions::from_mode(mode))?;
    fs::rename(&bound, path)?;
    Ok(UnixSocket { listener, path: path.to_owned(), identity: identity(path)? })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
