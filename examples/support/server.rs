//! Serves as `axum::serve` does, and bounds the heads of requests as well, which that does not.

use std::{io, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, signal::ctrl_c, sync::watch, time};

/// How long connections may go on after a signal to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes, and how long a client may take to send it.
const MAX_HEAD: usize = 32 << 10;
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Becomes true when the server stops.
pub(crate) type Stopping = watch::Receiver<bool>;

/// Serves until a signal to stop, and then until the connections are closed, for at most [`DRAIN`] or until a second signal.
pub(crate) async fn serve(listener: TcpListener, app: impl FnOnce(Stopping) -> Router) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let (stop, stopping) = watch::channel(false);
    let connections = accept(listener, app(stopping), &mut signals).await;
    stop.send_replace(true);
    // Each socket holds a receiver until it is closed.
    let drained = async { tokio::join!(connections.shutdown(), stop.closed()) };
    tokio::select! {
        _ = drained => {}
        () = time::sleep(DRAIN) => {}
        () = signals.stop() => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, app: Router, signals: &mut Signals) -> GracefulShutdown {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    server.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32).enable_connect_protocol();
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = signals.stop() => return connections,
        };
        let Ok((stream, _)) = accepted else {
            // Most likely there is no file descriptor left. One is free when a connection ends.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        // An error means that the client broke the connection off.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// The signals to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// Resolves at the next signal.
    async fn stop(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = ctrl_c().await;
    }
}
