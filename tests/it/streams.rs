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
use fastauth::{FastAuthLayer, store::Revocation};
use futures_util::{Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::app::{access_token, serve, settings};

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

struct Scene {
    layer: FastAuthLayer,
    address: SocketAddr,
    token: String,
    feeds: UnboundedReceiver<Feed>,
}

impl Scene {
    async fn new() -> Self {
        let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
        let (sender, feeds) = unbounded_channel();
        let app = Router::new()
            .route("/access/events", get(events))
            .route("/access/flood", get(flood))
            .route("/access/file", get(file))
            .with_state(sender)
            .layer(layer.clone());
        let token = access_token(&layer, "alice").await.expose().to_owned();
        Self { address: serve(app).await, layer, token, feeds }
    }

    async fn get(&self, client: &reqwest::Client, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.address);
        client.get(url).header("access-token", &self.token).send().await.unwrap()
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
