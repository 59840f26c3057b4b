//! WebSockets as browsers open them.

use axum::{
    Router,
    extract::ws::{Message as Sent, WebSocketUpgrade},
    http::HeaderMap,
    response::Response as AxumResponse,
    routing::any,
};
use fastauth::{FastAuthLayer, Permit};
use futures_util::StreamExt;
use http::{Response, StatusCode};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};

use crate::{
    app::{access_token, layer, serve},
    support::log,
};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Says what it sees of the handshake, and chooses the protocol `chat` where that is offered.
async fn seen(permit: Option<Permit>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> AxumResponse {
    let protocols = headers.get_all("sec-websocket-protocol").iter().map(|value| value.to_str().unwrap());
    let client = permit.as_ref().and_then(Permit::client_id).unwrap_or("nobody");
    let text = format!("{client} {}", protocols.collect::<Vec<_>>().join(" | "));
    tracing::debug!(target: "fastauth", ?headers, "what a handler could log");
    upgrade.protocols(["chat"]).on_upgrade(async move |mut socket| _ = socket.send(Sent::text(text)).await)
}

fn app(layer: FastAuthLayer) -> Router {
    Router::new().route("/ws", any(seen)).route("/access/ws", any(seen)).layer(layer)
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
    let logged = log::captured();
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
