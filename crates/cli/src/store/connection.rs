//! Serves one connection to the store.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastauth::store::StoreService;
use http::Request;
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tower_service::Service;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a finished answer may take to be sent when the server stops.
const LAST_ANSWER: Duration = Duration::from_millis(250);

/// The stages of stopping a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It is not stopping.
    Serving,
    /// The current request of each connection is its last.
    Stopping,
    /// Requests that have not arrived whole are dropped.
    Answering,
}

/// Serves a connection until it ends, or the server does.
pub(super) async fn serve(stream: TcpStream, service: StoreService, mut stage: watch::Receiver<Stage>) {
    let _ = stream.set_nodelay(true);
    let is_answering = Arc::new(AtomicBool::new(false));
    let noting = Arc::clone(&is_answering);
    let service = service_fn(move |request| answer(service.clone(), request, Arc::clone(&noting)));
    // The contract needs only HTTP/1.1, whose timer covers connections that never send anything.
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = reached(&mut stage, Stage::Stopping) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = reached(&mut stage, Stage::Answering) => {
                    if is_answering.load(Ordering::Relaxed) {
                        connection.await
                    } else {
                        timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
                    }
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "fastauth", %error, "a connection broke");
    }
}

async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    // An error means that the server has ended, which is beyond every stage.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// Answers a request, and sets the flag while the request has arrived whole and is not answered.
async fn answer(
    mut service: StoreService,
    request: Request<Incoming>,
    is_answering: Arc<AtomicBool>,
) -> Result<<StoreService as Service<Request<Incoming>>>::Response, std::convert::Infallible> {
    let received = Received(Arc::clone(&is_answering));
    let answer = if request.body().is_end_stream() {
        drop(received);
        service.call(request)
    } else {
        // The service drops a body as soon as it has read it.
        service.call(request.map(|body| {
            body.map_frame(move |frame| {
                let _held = &received;
                frame
            })
        }))
    };
    let answer = answer.await;
    is_answering.store(false, Ordering::Relaxed);
    answer
}

/// Sets the flag when it is dropped: the request has arrived whole.
struct Received(Arc<AtomicBool>);

impl Drop for Received {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
