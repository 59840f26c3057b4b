//! Responses that outlive their permits.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, Sse},
    },
    routing::get,
};
use bytes::Bytes;
use fastauth::{EndsOn, FastAuthLayer, Rule, Secret, SettingsBuilder, store::Revocation};
use futures_util::{Stream, StreamExt, stream};
use http::{
    Request, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Layer, service_fn};

use crate::app::{serve, settings};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// Sends to the body of one response, and closes if that is dropped.
type Feed = UnboundedSender<&'static str>;

/// Tells of the bodies that handlers have made.
type Feeds = UnboundedSender<Feed>;

fn pieces(feeds: &Feeds) -> impl Stream<Item = &'static str> + Send + use<> {
    let (feed, pieces) = unbounded_channel();
    feed.send("begun").unwrap();
    feeds.send(feed).unwrap();
    UnboundedReceiverStream::new(pieces)
}

async fn events(State(feeds): State<Feeds>) -> impl IntoResponse {
    Sse::new(pieces(&feeds).map(|piece| Ok::<_, Infallible>(Event::default().data(piece))))
}

/// Has the next event at once, always.
async fn flood() -> impl IntoResponse {
    Sse::new(stream::repeat_with(|| Ok::<_, Infallible>(Event::default().data("x".repeat(1000)))))
}

async fn file(State(feeds): State<Feeds>) -> impl IntoResponse {
    let pieces = pieces(&feeds).map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    ([(CONTENT_TYPE, "text/plain")], Body::from_stream(pieces))
}

/// A file of known length, of which the first half is there at once.
async fn sized(State(feeds): State<Feeds>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain"), (CONTENT_LENGTH, "10")], file(State(feeds)).await)
}

struct Scene {
    layer: FastAuthLayer,
    address: SocketAddr,
    token: String,
    refresh_token: Secret,
    feeds: UnboundedReceiver<Feed>,
}

impl Scene {
    async fn new() -> Self {
        Self::with(settings()).await
    }

    /// `/access/…` is guarded, and so is `/token/…` and `/revoke/…` by rules that say when responses end.
    async fn ruled() -> Self {
        let ending = |ends_on: EndsOn| Rule::prefix(format!("/{}", ends_on.as_str())).access().ends_on(ends_on);
        Self::with(settings().rules([ending(EndsOn::Token), ending(EndsOn::Revoke)])).await
    }

    async fn with(settings: SettingsBuilder) -> Self {
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let (sender, feeds) = unbounded_channel();
        let app = Router::new()
            .route("/{rule}/events", get(events))
            .route("/{rule}/flood", get(flood))
            .route("/{rule}/file", get(file))
            .route("/{rule}/sized", get(sized))
            .with_state(sender)
            .layer(layer.clone());
        let tokens = layer.issuer().issue("alice").await.unwrap().tokens;
        let token = tokens.access_token.expose().to_owned();
        Self { address: serve(app).await, layer, token, refresh_token: tokens.refresh_token, feeds }
    }

    async fn get(&self, client: &reqwest::Client, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.address);
        client.get(url).header("access-token", &self.token).send().await.unwrap()
    }

    async fn refresh(&self) {
        self.layer.issuer().refresh(self.refresh_token.expose()).await.unwrap();
    }

    async fn revoke(&self) {
        self.layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
    }
}

fn clients() -> [(&'static str, reqwest::Client); 2] {
    let version_2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    [("HTTP/1.1", reqwest::Client::new()), ("HTTP/2", version_2)]
}

/// All that is left of a body, or its error.
async fn rest(mut response: reqwest::Response) -> Result<String, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(chunk) = timeout(LONG, response.chunk()).await.unwrap()? {
        text.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn events_end_with_the_token_and_cleanly() {
    for (version, client) in clients() {
        let mut scene = Scene::new().await;
        let mut response = scene.get(&client, "/access/events").await;
        assert_eq!(response.chunk().await.unwrap().unwrap(), "data: begun\n\n", "{version}");
        let feed = scene.feeds.recv().await.unwrap();
        scene.revoke().await;
        assert_eq!(rest(response).await.unwrap(), "", "{version}");
        // The handler's stream is gone, whoever holds its other side.
        timeout(LONG, feed.closed()).await.unwrap();
        assert_eq!(scene.get(&client, "/access/events").await.status(), 401, "{version}");
    }
}

#[tokio::test]
async fn an_event_stream_that_is_always_ready_ends() {
    for (version, client) in clients() {
        let scene = Scene::new().await;
        let mut response = scene.get(&client, "/access/flood").await;
        response.chunk().await.unwrap().unwrap();
        scene.revoke().await;
        let text = rest(response).await.unwrap();
        assert!(text.ends_with("x\n\n"), "{version}: it ends with a whole event");
    }
}

/// The last chunk is what says that a body is complete.
#[tokio::test]
async fn the_connection_of_ended_events_can_be_used_again() {
    let mut scene = Scene::new().await;
    let mut connection = TcpStream::connect(scene.address).await.unwrap();
    let request = format!("GET /access/events HTTP/1.1\r\nhost: a\r\naccess-token: {}\r\n\r\n", scene.token);
    connection.write_all(request.as_bytes()).await.unwrap();
    scene.feeds.recv().await.unwrap();
    scene.revoke().await;
    let found = read_until(&mut connection, b"\r\n0\r\n\r\n").await;
    assert!(found.starts_with("HTTP/1.1 200"), "{found}");
    connection.write_all(request.as_bytes()).await.unwrap();
    let found = read_until(&mut connection, b"}").await;
    assert!(found.starts_with("HTTP/1.1 401"), "{found}");
}

async fn read_until(connection: &mut TcpStream, end: &[u8]) -> String {
    let mut found = Vec::new();
    while !found.ends_with(end) {
        let read = timeout(LONG, connection.read_buf(&mut found)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&found));
    }
    String::from_utf8(found).unwrap()
}

#[tokio::test]
async fn other_responses_go_on() {
    for (version, client) in clients() {
        let mut scene = Scene::new().await;
        let response = scene.get(&client, "/access/file").await;
        let feed = scene.feeds.recv().await.unwrap();
        scene.revoke().await;
        assert_eq!(scene.get(&client, "/access/file").await.status(), 401, "{version}");
        feed.send(" and done").unwrap();
        drop(feed);
        assert_eq!(rest(response).await.unwrap(), "begun and done", "{version}");
    }
}

#[tokio::test]
async fn a_file_is_broken_off_where_a_rule_says_so() {
    for (version, client) in clients() {
        for path in ["/token/file", "/token/sized", "/revoke/file"] {
            let mut scene = Scene::ruled().await;
            let mut response = scene.get(&client, path).await;
            assert_eq!(response.chunk().await.unwrap().unwrap(), "begun", "{version} {path}");
            let feed = scene.feeds.recv().await.unwrap();
            scene.revoke().await;
            let error = rest(response).await.unwrap_err();
            assert!(error.is_body() || error.is_decode(), "{version} {path}: {error:?}");
            timeout(LONG, feed.closed()).await.unwrap();
        }
    }
}

/// A complete body has its last chunk, or is as long as was announced.
#[tokio::test]
async fn no_part_of_a_file_passes_for_the_whole() {
    for path in ["/token/file", "/token/sized"] {
        let mut scene = Scene::ruled().await;
        let mut connection = TcpStream::connect(scene.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\naccess-token: {}\r\n\r\n", scene.token);
        connection.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut connection, if path == "/token/file" { b"begun\r\n" } else { b"begun" }).await;
        let _feed = scene.feeds.recv().await.unwrap();
        scene.revoke().await;
        let mut rest = Vec::new();
        // The server may close the connection in either way.
        let _ = timeout(LONG, connection.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{path}: {}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn a_rule_says_whether_a_refresh_ends_it() {
    for (version, client) in clients() {
        let mut scene = Scene::ruled().await;
        let mut open = Vec::new();
        for path in ["/access/events", "/token/events", "/token/file", "/revoke/events", "/revoke/file"] {
            let mut response = scene.get(&client, path).await;
            response.chunk().await.unwrap().unwrap();
            open.push((path, response, scene.feeds.recv().await.unwrap()));
        }
        scene.refresh().await;
        for (path, response, feed) in open {
            if path.starts_with("/revoke") {
                feed.send("on").unwrap();
                drop(feed);
                assert!(rest(response).await.unwrap().contains("on"), "{version} {path}");
                continue;
            }
            timeout(LONG, feed.closed()).await.unwrap();
            assert_eq!(rest(response).await.is_ok(), path.ends_with("events"), "{version} {path}");
        }
    }
}

#[tokio::test]
async fn with_shadow_nothing_ends() {
    let mut scene = Scene::with(settings().shadow(true)).await;
    let mut response = scene.get(&reqwest::Client::new(), "/access/events").await;
    response.chunk().await.unwrap().unwrap();
    let feed = scene.feeds.recv().await.unwrap();
    scene.revoke().await;
    feed.send("on").unwrap();
    drop(feed);
    assert!(rest(response).await.unwrap().contains("on"));
}

/// Without axum, and with bodies that are not boxed and have an error of their own.
#[tokio::test]
async fn a_hyper_service_ends_its_streams() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    let answer = async |_: Request<Incoming>| {
        let begun = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from("data: begun\n\n")))]);
        let body = StreamBody::new(begun.chain(stream::pending()));
        Response::builder().header(CONTENT_TYPE, "text/event-stream; charset=utf-8").body(body)
    };
    let service = TowerToHyperService::new(layer.layer(service_fn(answer)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/access", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    for (version, client) in clients() {
        let token = match version {
            "HTTP/1.1" => token.clone(),
            _ => layer.issuer().issue("alice").await.unwrap().tokens.access_token,
        };
        let mut response = client.get(&url).header("access-token", token.expose()).send().await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "data: begun\n\n", "{version}");
        layer.issuer().revoke(&Revocation::All).await.unwrap();
        assert_eq!(rest(response).await.unwrap(), "", "{version}");
    }
}
