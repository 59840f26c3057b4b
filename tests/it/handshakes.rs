//! Odd forms of handshakes, over raw connections: whatever opens a socket has been read as one by the guard.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use fastauth::FastAuthLayer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::app::{access_token, serve, settings};

/// Says what it sees of a handshake, and upgrades whatever axum would.
async fn seen(uri: Uri, headers: HeaderMap, upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Response {
    let protocols = headers.get_all("sec-websocket-protocol").iter().map(|value| value.to_str().unwrap());
    let text = format!("{uri} {}", protocols.collect::<Vec<_>>().join(" | "));
    let mut response = match upgrade {
        Ok(upgrade) => upgrade.on_upgrade(async |_| {}),
        Err(_) => "no upgrade".into_response(),
    };
    response.headers_mut().insert("x-seen", text.parse().unwrap());
    response
}

async fn start() -> (FastAuthLayer, SocketAddr) {
    let settings = settings().allowed_origins(["https://app.example"]);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let app = Router::new().route("/ws", any(seen)).route("/access/ws", any(seen)).layer(layer.clone());
    (layer, serve(app).await)
}

/// The head of an answer to these lines.
async fn head(address: SocketAddr, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{lines}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let read = timeout(Duration::from_secs(20), stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "{lines}: {}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

const SOUND: &str = "Host: x\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// What `Connection` and `Upgrade` may say, soundly or not.
const CONNECTIONS: [&str; 13] = [
    "Upgrade",
    "upgrade",
    "keep-alive, Upgrade",
    "keep-alive; upgrade",
    "upgrades",
    "xupgrade",
    "\"upgrade\"",
    "upgrade/1",
    "keep-alive upgrade",
    "Upgrade\r\nConnection: close",
    "close\r\nConnection: upgrade",
    "\u{e9}, upgrade",
    "notupgraded, keep-alive",
];
const UPGRADES: [&str; 9] = [
    "websocket",
    "WebSocket",
    "WEBSOCKET",
    "websocket, h2c",
    "h2c, websocket",
    "\"websocket\"",
    "websocket/13",
    "websocket\r\nUpgrade: h2c",
    "h2c\r\nUpgrade: websocket",
];

fn forms(target: &str, rest: &str) -> impl Iterator<Item = String> {
    CONNECTIONS.iter().flat_map(move |connection| {
        UPGRADES.iter().flat_map(move |upgrade| {
            ["GET", "POST", "OPTIONS"].map(|method| {
                format!("{method} {target} HTTP/1.1\r\n{SOUND}\r\nConnection: {connection}\r\nUpgrade: {upgrade}{rest}")
            })
        })
    })
}

#[tokio::test]
async fn no_form_of_a_handshake_gets_past_the_list_of_origins() {
    let (_, address) = start().await;
    let mut opened = 0;
    for lines in forms("/ws", "") {
        let own = head(address, &format!("{lines}\r\nOrigin: https://app.example")).await;
        opened += usize::from(own.starts_with("HTTP/1.1 101 "));
        let foreign = head(address, &format!("{lines}\r\nOrigin: https://evil.example")).await;
        assert!(foreign.starts_with("HTTP/1.1 403 "), "{lines}\n\n{foreign}");
    }
    assert!(opened > 20, "axum reads {opened} of the forms as handshakes");
}

#[tokio::test]
async fn no_form_of_a_handshake_hands_its_token_on() {
    let (layer, address) = start().await;
    let token = access_token(&layer, "alice").await;
    let token = token.expose();
    for target in ["/ws", "/access/ws"] {
        for lines in forms(target, &format!("\r\nSec-WebSocket-Protocol: chat, fastauth, {token}, more")) {
            let answer = head(address, &lines).await;
            assert!(answer.contains("x-seen: "), "{lines}\n\n{answer}");
            assert!(answer.contains("chat, fastauth, more") && !answer.contains(token), "{lines}\n\n{answer}");
        }
    }
}

/// Nor is a ticket, whether it was needed or not.
#[tokio::test]
async fn no_form_of_a_handshake_hands_a_ticket_on() {
    let (layer, address) = start().await;
    let token = access_token(&layer, "alice").await;
    let header = format!("\r\nACCESS-TOKEN: {}", token.expose());
    for (target, left) in [
        ("/ws?ticket=t", "/ws"),
        ("/ws?a=1&%74icket=t&b=2&ticket=u", "/ws?a=1&b=2"),
        ("/access/ws?ticket=t", "/access/ws"),
        ("/access/ws?a=1&ticket=t&ticket", "/access/ws?a=1"),
        ("/access/ws?tickets=t", "/access/ws?tickets=t"),
    ] {
        for lines in forms(target, &header) {
            let answer = head(address, &lines).await;
            assert!(answer.contains(&format!("x-seen: {left} \r\n")), "{lines}\n\n{answer}");
        }
    }
    // In other requests it is the application's.
    let answer = head(address, "GET /ws?ticket=t HTTP/1.1\r\nHost: x").await;
    assert!(answer.contains("x-seen: /ws?ticket=t \r\n"), "{answer}");
}
