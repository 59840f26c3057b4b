//! WebSockets as browsers open them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::ws::{Message as Sent, WebSocketUpgrade},
    http::HeaderMap,
    response::Response as AxumResponse,
    routing::any,
};
use fastauth::{FastAuthLayer, Permit, SettingsBuilder, config::WebSocketRefusal, store::MemoryStore};
use futures_util::{Stream, StreamExt};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    app::{MASTER, access_token, error, layer, serve, settings},
    support::{
        front::{Front, Mode},
        h2_socket, log,
    },
};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Says what it sees of the handshake, and chooses the protocol `chat` where that is offered.
async fn seen(permit: Option<Permit>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> AxumResponse {
    let protocols = headers.get_all("sec-websocket-protocol").iter().map(|value| value.to_str().unwrap());
    let client = permit.as_ref().and_then(Permit::client_id).unwrap_or("nobody");
    let text = format!("{client} {}", protocols.collect::<Vec<_>>().join(" | "));
    tracing::debug!(target: "fastauth", ?headers, "what a handler could log");
    upgrade.protocols(["chat"]).on_upgrade(async move |socket| {
        let Some(permit) = permit else { return hold(socket, text).await };
        let mut socket = permit.guard(socket);
        let _ = socket.send(Sent::text(text)).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

async fn hold(mut socket: axum::extract::ws::WebSocket, text: String) {
    let _ = socket.send(Sent::text(text)).await;
    while let Some(Ok(_)) = socket.recv().await {}
}

fn app(layer: FastAuthLayer) -> Router {
    let paths = ["/ws", "/access/ws", "/master/ws"];
    paths.iter().fold(Router::new(), |router, path| router.route(path, any(seen))).layer(layer)
}

pub(crate) type Opened = Result<(Socket, Response<Option<Vec<u8>>>), Error>;

pub(crate) async fn open(url: &str, headers: &[(&'static str, &str)]) -> Opened {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    connect_async(request).await
}

/// The status of a handshake that was refused.
fn refused(outcome: Opened) -> StatusCode {
    match outcome {
        Err(Error::Http(response)) => response.status(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_among_the_protocols_opens_a_socket() {
    log::capture();
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let token = token.expose();
    let address = serve(app(layer)).await;
    for (path, offered, chosen, text) in [
        ("/access/ws", vec![format!("fastauth, {token}")], "fastauth", "alice fastauth"),
        ("/access/ws", vec![format!("chat, fastauth, {token}, more")], "chat", "alice chat, fastauth, more"),
        ("/access/ws", vec!["fastauth".to_owned(), token.to_owned()], "fastauth", "alice fastauth"),
        // Where nothing is asked, a token is no business of the handler's either.
        ("/ws", vec![format!("fastauth, {token}")], "fastauth", "nobody fastauth"),
    ] {
        let headers: Vec<_> = offered.iter().map(|value| ("sec-websocket-protocol", value.as_str())).collect();
        let (mut socket, response) = open(&format!("ws://{address}{path}"), &headers).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], chosen, "{offered:?}");
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), text);
    }
    // Nobody who offers nothing is told of a choice.
    let (_, response) = open(&format!("ws://{address}/ws"), &[]).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    let logged = log::captured_of_server();
    assert!(logged.contains("what a handler could log") && !logged.contains(token), "{logged}");
}

#[tokio::test]
async fn a_socket_needs_one_token_that_is_good() {
    let layer = layer();
    let (token, other) = (access_token(&layer, "alice").await, access_token(&layer, "bob").await);
    let (token, other) = (token.expose(), other.expose());
    let address = serve(app(layer)).await;
    let protocols = |list: &str| ("sec-websocket-protocol", list.to_owned());
    let header = |token: &str| ("access-token", token.to_owned());
    for (expected, headers) in [
        (401, vec![]),
        (401, vec![protocols("fastauth")]),
        (401, vec![protocols("fastauth, x.y.z")]),
        (401, vec![protocols(&format!("chat, {token}"))]),
        (400, vec![protocols(&format!("fastauth, {token}")), header(other)]),
        (400, vec![protocols(&format!("fastauth, {token}, fastauth, {token}"))]),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let outcome = open(&format!("ws://{address}/access/ws"), &headers).await;
        assert_eq!(refused(outcome).as_u16(), expected, "{headers:?}");
    }
    let both = [("sec-websocket-protocol", format!("fastauth, {token}")), header(token)];
    let both: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(open(&format!("ws://{address}/access/ws"), &both).await.is_ok());

    // A request that is no handshake has no token among its protocols.
    let request = reqwest::Client::new().get(format!("http://{address}/access/ws"));
    let response = request.header("sec-websocket-protocol", format!("fastauth, {token}")).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

async fn start(settings: SettingsBuilder) -> (FastAuthLayer, SocketAddr) {
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    (layer.clone(), serve(app(layer)).await)
}

/// What a socket is told before it is closed, and the code.
async fn told(socket: &mut (impl Stream<Item = Result<Message, Error>> + Unpin)) -> (String, CloseCode) {
    let text = socket.next().await.unwrap().unwrap().into_text().unwrap().to_string();
    match socket.next().await.unwrap().unwrap() {
        Message::Close(Some(frame)) if frame.reason.is_empty() => {
            assert!(socket.next().await.is_none_or(|rest| rest.is_err()), "nothing comes after it");
            (text, frame.code)
        }
        other => panic!("{other:?}"),
    }
}

const ACCESS: &str = "Disconnected: Unauthrized ACCESS-TOKEN";
const OF_MASTER: &str = "Disconnected: Unauthorized Master Token";

#[tokio::test]
async fn a_refusal_can_be_told_by_closing_the_socket() {
    let (layer, address) = start(settings().websocket_refusal(WebSocketRefusal::Close)).await;
    let revoked = access_token(&layer, "alice").await;
    layer.issuer().revoke_token(revoked.expose()).await.unwrap();
    let token = access_token(&layer, "bob").await;
    let url = |path: &str| format!("ws://{address}{path}");
    let protocols = |protocols: &str| vec![("sec-websocket-protocol", protocols.to_owned())];
    let token_of = |token: &str| vec![("access-token", token.to_owned())];
    for (path, headers, detail, reason, chosen) in [
        ("/access/ws", vec![], ACCESS, "missing_access_token", None),
        ("/access/ws", token_of("x.y.z"), ACCESS, "malformed_token", None),
        ("/access/ws", token_of(revoked.expose()), ACCESS, "unknown_client", None),
        ("/access/ws?ticket=x", vec![], ACCESS, "invalid_ticket", None),
        ("/access/ws", protocols("fastauth, x.y.z"), ACCESS, "malformed_token", Some("fastauth")),
        ("/access/ws", protocols("chat, more"), ACCESS, "missing_access_token", Some("chat")),
        ("/master/ws", vec![], OF_MASTER, "missing_master_token", None),
        ("/master/ws", vec![("master-token", "wrong".to_owned())], OF_MASTER, "wrong_master_token", None),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (mut socket, response) = open(&url(path), &headers).await.unwrap();
        let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(protocol, chosen, "{path} {headers:?}");
        let (text, code) = told(&mut socket).await;
        // A client of `fastauth-api` may look for its text by its bytes, up to the brace.
        assert!(text.starts_with(&format!(r#"{{"status":"error","detail":"{detail}""#)), "{text}");
        let expected = json!({ "status": "error", "detail": detail, "reason": reason });
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((found, code), (expected, CloseCode::Policy), "{path} {headers:?}");
    }
    // What is right opens as ever, and what is no handshake is refused as ever.
    assert!(open(&url("/access/ws"), &[("access-token", token.expose())]).await.is_ok());
    assert!(open(&url("/master/ws"), &[("master-token", MASTER)]).await.is_ok());
    assert_eq!(reqwest::get(format!("http://{address}/access/ws")).await.unwrap().status(), 401);
    // A path that is no path is no matter of credentials.
    assert_eq!(refused(open(&url("/access/%zz"), &[]).await), 400);
}

#[tokio::test]
async fn a_store_in_trouble_is_told_as_such() {
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    let (layer, address) = start(settings().store(front.client()).websocket_refusal(WebSocketRefusal::Close)).await;
    let token = access_token(&layer, "alice").await;
    front.becomes(Mode::Page(502));
    let (mut socket, _) =
        open(&format!("ws://{address}/access/ws"), &[("access-token", token.expose())]).await.unwrap();
    let (text, code) = told(&mut socket).await;
    assert_eq!(code, CloseCode::Again);
    let detail = "The token store is unavailable, try again later";
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({ "status": "error", "detail": detail, "reason": "store_unavailable" })
    );
}

/// What a server says to these lines of a handshake, until it closes the connection.
async fn raw(address: SocketAddr, lines: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /access/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

#[tokio::test]
async fn a_handshake_that_is_not_sound_is_refused_as_a_request() {
    let (_, address) = start(settings().websocket_refusal(WebSocketRefusal::Close)).await;
    let upgrade = "Connection: Upgrade, close\r\n";
    for lines in [
        format!("{upgrade}{KEY}"),
        format!("{upgrade}{VERSION}"),
        format!("{upgrade}{VERSION}{KEY}{KEY}"),
        format!("{upgrade}{KEY}Sec-WebSocket-Version: 8\r\n"),
        format!("{upgrade}{VERSION}Sec-WebSocket-Key: c2hvcnQ=\r\n"),
        format!("Connection: close\r\n{VERSION}{KEY}"),
    ] {
        let answer = timeout(Duration::from_secs(3), raw(address, &lines)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 401 "), "{lines} {}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_client_that_does_not_close_is_not_waited_for_without_end() {
    let (_, address) = start(settings().websocket_refusal(WebSocketRefusal::Close)).await;
    let began = Instant::now();
    let lines = format!("Connection: Upgrade\r\n{VERSION}{KEY}");
    let answer = timeout(Duration::from_secs(15), raw(address, &lines));
    let answer = String::from_utf8_lossy(&answer.await.unwrap()).into_owned();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains(ACCESS), "{answer}");
    assert!(began.elapsed() > Duration::from_secs(3), "it was given time");
}

#[tokio::test]
async fn pages_of_other_origins_open_nothing() {
    for refusal in [WebSocketRefusal::Http, WebSocketRefusal::Close] {
        let settings = settings().allowed_origins(["https://app.example"]).websocket_refusal(refusal);
        let (layer, address) = start(settings).await;
        let token = access_token(&layer, "alice").await;
        let token = ("access-token", token.expose());
        for path in ["/ws", "/access/ws"] {
            let url = format!("ws://{address}{path}");
            for (opens, origin) in [
                (true, None),
                (true, Some("https://app.example")),
                (false, Some("https://evil.example")),
                (false, Some("http://app.example")),
                (false, Some("https://app.example.evil.example")),
                (false, Some("null")),
            ] {
                let headers: Vec<_> =
                    [Some(token), origin.map(|origin| ("origin", origin))].into_iter().flatten().collect();
                match open(&url, &headers).await {
                    Ok(_) => assert!(opens, "{path} {origin:?}"),
                    Err(Error::Http(response)) => {
                        assert!(!opens && response.status() == 403, "{path} {origin:?} {response:?}");
                        let detail = "A page of this origin may not open WebSockets";
                        let body = response.body().as_ref().unwrap();
                        assert_eq!(
                            serde_json::from_slice::<Value>(body).unwrap(),
                            error(403, "foreign_origin", detail)
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // It is about sockets alone.
        let request =
            reqwest::Client::new().get(format!("http://{address}/access/x")).header("origin", "https://x.example");
        assert_eq!(request.header(token.0, token.1).send().await.unwrap().status(), 404);
    }
}

#[tokio::test]
async fn all_of_it_goes_over_http_2() {
    let (layer, address) = start(settings().allowed_origins(["https://app.example"])).await;
    let token = access_token(&layer, "alice").await;
    let token = token.expose();
    let protocols = format!("fastauth, {token}, more");
    for (headers, chosen, text) in [
        (vec![("access-token", token)], None, "alice "),
        (vec![("sec-websocket-protocol", protocols.as_str())], Some("fastauth"), "alice fastauth, more"),
        (vec![("access-token", token), ("origin", "https://app.example")], None, "alice "),
    ] {
        let (response, socket) = h2_socket::open(address, "/access/ws", &headers).await;
        let mut socket = socket.unwrap_or_else(|body| panic!("{response:?} {body:?}"));
        let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(protocol, chosen, "{headers:?}");
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), text);
    }
    for (expected, headers) in [
        (401, vec![]),
        (401, vec![("sec-websocket-protocol", "fastauth, x.y.z")]),
        (400, vec![("sec-websocket-protocol", protocols.as_str()), ("access-token", "x")]),
        (403, vec![("access-token", token), ("origin", "https://evil.example")]),
    ] {
        let (response, socket) = h2_socket::open(address, "/access/ws", &headers).await;
        assert!(socket.is_err());
        assert_eq!(response.status(), expected, "{headers:?}");
    }
    // The right ends there as well.
    let (_, socket) = h2_socket::open(address, "/access/ws", &[("access-token", token)]).await;
    let mut socket = socket.unwrap();
    socket.next().await.unwrap().unwrap();
    layer.issuer().revoke_token(token).await.unwrap();
    let last = timeout(Duration::from_secs(1), socket.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&last, Message::Close(Some(frame)) if frame.code == CloseCode::Policy), "{last:?}");
}

#[tokio::test]
async fn a_refusal_over_http_2_can_be_told_by_closing_the_socket() {
    let (_, address) = start(settings().websocket_refusal(WebSocketRefusal::Close)).await;
    let headers = [("sec-websocket-protocol", "fastauth, x.y.z")];
    let (response, socket) = h2_socket::open(address, "/access/ws", &headers).await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "fastauth");
    let expected = format!(r#"{{"status":"error","detail":"{ACCESS}","reason":"malformed_token"}}"#);
    assert_eq!(told(&mut socket.unwrap()).await, (expected, CloseCode::Policy));
    let (_, socket) = h2_socket::open(address, "/master/ws", &[]).await;
    let expected = format!(r#"{{"status":"error","detail":"{OF_MASTER}","reason":"missing_master_token"}}"#);
    assert_eq!(told(&mut socket.unwrap()).await, (expected, CloseCode::Policy));
    // Two versions are none.
    let (response, _) = h2_socket::open(address, "/access/ws", &[("sec-websocket-version", "14")]).await;
    assert_eq!(response.status(), 401);
}
