//! Serves one connection.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fastauth::store::StoreBody;
use http::{Request, Response};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::watch, time::timeout};

use super::{
    listen::{Peer, Stream},
    patience::Patient,
};

/// The metric of the connections that are open.
const CONNECTIONS: &str = "fastauth_server_connections";

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

/// What answers the requests of a server. Each request has its [`Peer`] in its extensions.
pub(crate) trait Application: Clone + Send + Sync + 'static {
    fn answer(&self, request: Request<RequestBody>) -> impl Future<Output = Response<StoreBody>> + Send;

    /// Ends the answers that go on for as long as they are read.
    fn stop(&self);
}

/// Serves a connection until it ends, or the server does.
pub(super) async fn serve(
    stream: Box<dyn Stream>,
    peer: Peer,
    application: impl Application,
    mut stage: watch::Receiver<Stage>,
) {
    let _open = Open::new();
    let is_answering = Arc::new(AtomicBool::new(false));
    let noting = Arc::clone(&is_answering);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let application = application.clone();
        let is_answering = Arc::clone(&noting);
        async move { Ok::<_, Infallible>(answer(&application, request, &is_answering).await) }
    });
    // HTTP/1.1 alone, whose timer covers connections that never send anything.
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut connection = pin!(server.serve_connection(TokioIo::new(Patient::new(stream)), service));
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

pub(super) async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    // An error means that the server has ended, which is beyond every stage.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

/// Answers a request, and sets the flag while the request has arrived whole and is not answered.
async fn answer(
    application: &impl Application,
    request: Request<Incoming>,
    is_answering: &Arc<AtomicBool>,
) -> Response<StoreBody> {
    let received = Received(Arc::clone(is_answering));
    // An application drops a body as soon as it has read it.
    let request = request.map(|incoming| {
        let received = (!incoming.is_end_stream()).then_some(received);
        RequestBody { incoming, _received: received }
    });
    let response = application.answer(request).await;
    is_answering.store(false, Ordering::Relaxed);
    response
}

/// The body of a request.
pub(crate) struct RequestBody {
    incoming: Incoming,
    _received: Option<Received>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.get_mut().incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Sets the flag when it is dropped: the request has arrived whole.
struct Received(Arc<AtomicBool>);

impl Drop for Received {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts a connection while it is open.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!(CONNECTIONS).increment(1);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(CONNECTIONS).decrement(1);
    }
}
