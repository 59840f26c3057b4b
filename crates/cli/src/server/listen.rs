//! Addresses to listen on: of TCP, and sockets of Unix.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

#[cfg(unix)]
use super::unix_socket::UnixSocket;
use crate::failure::Failure;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns true if no other machine can reach it.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("the path is missing: write unix:PATH, such as unix:/run/fastauth/store.sock".to_owned()),
            Some(_) if !cfg!(unix) => Err("this system has no Unix sockets for it: write ADDRESS:PORT".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "write ADDRESS:PORT, such as 127.0.0.1:6789 or [::1]:6789, or unix:PATH for a Unix socket".to_owned()
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The permissions of a Unix socket, written as chmod takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketMode(pub(super) u32);

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err("write it as chmod does, such as 0600 or 0660; the owner needs to read and write".to_owned()),
        }
    }
}

/// An open address, which connections arrive at.
pub(crate) struct Listener {
    socket: Socket,
    url: String,
}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixSocket),
}

impl Listener {
    /// Listens on an address. The mode is that of a Unix socket.
    pub(crate) async fn bind(address: &ListenAddress, mode: SocketMode) -> Result<Self, Failure> {
        let failure = |error: io::Error| Failure::new(format!("cannot listen on {address}: {error}"));
        match address {
            ListenAddress::Tcp(tcp) => {
                let socket = TcpListener::bind(tcp).await.map_err(failure)?;
                let url = format!("http://{}", socket.local_addr().map_err(failure)?);
                Ok(Self { socket: Socket::Tcp(socket), url })
            }
            #[cfg(unix)]
            ListenAddress::Unix(path) => {
                let socket = UnixSocket::bind(path, mode.0).await.map_err(failure)?;
                Ok(Self { socket: Socket::Unix(socket), url: address.to_string() })
            }
            #[cfg(not(unix))]
            ListenAddress::Unix(_) => {
                let _ = mode.0;
                Err(failure(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    /// Returns `http://ADDRESS:PORT`, with the port that the system chose if none was named, or `unix:PATH`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            #[cfg(unix)]
            Socket::Unix(socket) => {
                let stream = socket.accept().await?;
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Box::new(stream), Peer::Unix { user }))
            }
        }
    }
}

/// A connection's bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The other end of a connection. Each request has it in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// A process on this machine, and the id of its user.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no such sockets"))]
    Unix {
        user: Option<u32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { user: Some(user) } => write!(f, "unix:uid={user}"),
            Self::Unix { user: None } => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_of_tcp_or_a_unix_socket() {
        for (text, expected) in [
            ("127.0.0.1:6789", Some(true)),
            ("[::1]:0", Some(true)),
            ("0.0.0.0:6789", Some(false)),
            ("[::]:6789", Some(false)),
            ("localhost:6789", None),
            (":6789", None),
            ("6789", None),
            ("unix:", None),
            #[cfg(unix)]
            ("unix:/run/x.sock", Some(true)),
            #[cfg(unix)]
            ("unix:x.sock", Some(true)),
        ] {
            let parsed = text.parse::<ListenAddress>();
            assert_eq!(parsed.as_ref().ok().map(ListenAddress::is_of_this_machine), expected, "{text}: {parsed:?}");
            if let Ok(address) = parsed {
                assert_eq!(address.to_string(), text);
            }
        }
    }

    #[test]
    fn mode_is_octal_and_the_owner_keeps_access() {
        for (text, expected) in [
            ("0600", Some(0o600)),
            ("660", Some(0o660)),
            ("0777", Some(0o777)),
            ("0060", None),
            ("0400", None),
            ("1777", None),
            ("rw", None),
            ("888", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<SocketMode>().ok().map(|mode| mode.0), expected, "{text}");
        }
    }
}
