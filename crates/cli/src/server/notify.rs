//! Reports the state of the server to systemd, for units with `Type=notify`.

/// Reports that the server answers.
pub(super) fn ready() {
    report("READY=1");
}

/// Reports that the server is stopping.
pub(super) fn stopping() {
    report("STOPPING=1");
}

/// Sends a state to the socket that the service manager names, if there is one: see sd_notify(3).
#[cfg(target_os = "linux")]
fn report(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&name, state) {
        tracing::warn!(target: "fastauth", %error, "NOTIFY_SOCKET is set, and the state of the server cannot be sent to it");
    }
}

#[cfg(target_os = "linux")]
fn send(name: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not keep the server from serving.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn report(_: &str) {}
