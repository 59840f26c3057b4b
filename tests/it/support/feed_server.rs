//! A token store whose feed of changes says what a test wants it to say.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, response::IntoResponse};
use bytes::Bytes;
use fastauth::store::{RestStore, StoreService, TokenStore};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::ServiceExt;

use super::stores::any_port;

const ANNOUNCEMENT: HeaderName = HeaderName::from_static("fastauth-store");

/// A store of the second version with a feed.
pub(crate) struct FeedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    streams: mpsc::UnboundedReceiver<FeedStream>,
    _tasks: JoinSet<()>,
}

struct Shared {
    service: StoreService,
    /// The look-ups since they were asked for last.
    look_ups: Mutex<Vec<LookUp>>,
    /// Answers to look-ups wait for this.
    are_answered: watch::Sender<bool>,
    /// What the feed answers with, if it is no stream.
    refusal: Mutex<Option<(u16, &'static str)>>,
    /// What the snapshot is.
    snapshot: Mutex<String>,
    opened: mpsc::UnboundedSender<FeedStream>,
}

/// A look-up of the digests of a client.
#[derive(Clone, Debug)]
pub(crate) struct LookUp {
    pub(crate) seen: Option<String>,
}

/// A stream that a node has opened.
pub(crate) struct FeedStream {
    /// The `Last-Event-ID`.
    pub(crate) since: Option<String>,
    query: String,
    events: mpsc::UnboundedSender<Bytes>,
}

impl FeedServer {
    pub(crate) async fn start(store: Arc<dyn TokenStore>) -> Self {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            service: StoreService::new(store),
            look_ups: Mutex::default(),
            are_answered: watch::Sender::new(true),
            refusal: Mutex::default(),
            snapshot: Mutex::default(),
            opened,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, streams, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new client.
    pub(crate) fn client(&self) -> RestStore {
        RestStore::new(&self.url(), HeaderMap::new()).unwrap()
    }

    /// Waits for the next stream that a node opens.
    pub(crate) async fn stream(&mut self) -> FeedStream {
        timeout(Duration::from_secs(20), self.streams.recv()).await.expect("a node opens it").unwrap()
    }

    /// Waits for a stream from which everything is told.
    pub(crate) async fn live_stream(&mut self) -> FeedStream {
        let stream = self.stream().await;
        stream.heartbeat(0, 0);
        stream
    }

    /// The look-ups since this was asked last.
    pub(crate) fn look_ups(&self) -> Vec<LookUp> {
        std::mem::take(&mut self.shared.look_ups.lock().unwrap())
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.look_ups.lock().unwrap().len()
    }

    /// Holds the answers to look-ups back, or lets them go.
    pub(crate) fn answers(&self, are_answered: bool) {
        self.shared.are_answered.send_replace(are_answered);
    }

    /// Answers with this snapshot from now on.
    pub(crate) fn has(&self, snapshot: String) {
        *self.shared.snapshot.lock().unwrap() = snapshot;
    }

    /// The feed answers with this status and body from now on.
    pub(crate) fn refuses(&self, refusal: Option<(u16, &'static str)>) {
        *self.shared.refusal.lock().unwrap() = refusal;
    }
}

impl FeedStream {
    /// Says something, and returns false if the node has gone.
    pub(crate) fn say(&self, text: impl Into<String>) -> bool {
        self.events.send(Bytes::from(text.into())).is_ok()
    }

    pub(crate) fn heartbeat(&self, number: u64, db_ok_ms: u64) {
        self.say(format!("id: e-{number}\nevent: hb\ndata: {{\"point\":\"e-{number}\",\"db_ok_ms\":{db_ok_ms}}}\n\n"));
    }

    pub(crate) fn change(&self, number: u64, client_id: &str) {
        self.say(format!(
            "id: e-{number}\nevent: change\ndata: {{\"number\":{number},\"kind\":\"later\",\"client_id\":\"{client_id}\",\
             \"session\":null,\"version\":{number}}}\n\n"
        ));
    }

    pub(crate) fn asks_for(&self, parameter: &str) -> bool {
        self.query.split('&').any(|given| given == parameter)
    }

    /// Waits until the node has gone.
    pub(crate) async fn is_left(&self) {
        timeout(Duration::from_secs(20), self.events.closed()).await.expect("the node leaves");
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        let answer = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, std::convert::Infallible>(shared.answer(request.map(Body::new)).await) }
        });
        connections
            .spawn(async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await) });
    }
}

impl Shared {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let headers = request.headers().clone();
        let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        match request.uri().path() {
            "/v2/changes" => {
                let refusal = *self.refusal.lock().unwrap();
                if let Some((status, body)) = refusal {
                    let status = http::StatusCode::from_u16(status).unwrap();
                    return announced((status, [(CONTENT_TYPE, "text/event-stream")], body).into_response());
                }
                let query = request.uri().query().unwrap_or_default().to_owned();
                let (events, told) = mpsc::unbounded_channel();
                let _ = self.opened.send(FeedStream { since: header("last-event-id"), query, events });
                let told = UnboundedReceiverStream::new(told).map(Ok::<_, std::convert::Infallible>);
                let body = Body::from_stream(told);
                announced(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
            }
            "/v2/snapshot" => announced(self.snapshot.lock().unwrap().clone().into_response()),
            path => {
                if path == "/v2/clients/-/token" && request.method() == http::Method::GET {
                    let look_up = LookUp { seen: header("fastauth-seen") };
                    self.look_ups.lock().unwrap().push(look_up);
                    let response = self.service.clone().oneshot(request).await.unwrap().map(Body::new);
                    let _ = self.are_answered.subscribe().wait_for(|are_answered| *are_answered).await;
                    return announced(response);
                }
                announced(self.service.clone().oneshot(request).await.unwrap().map(Body::new))
            }
        }
    }
}

fn announced(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(ANNOUNCEMENT, HeaderValue::from_static("v=2; feed=v2/changes"));
    response
}
