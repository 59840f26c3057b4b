//! What the program does to the streams of an application on the same database.

use std::{io::Read, net::TcpStream, time::Duration};

use axum::{
    Router,
    response::sse::{Event, Sse},
    routing::get,
};
use fastauth::{EndsOn, FastAuthLayer, Rule, Settings, store::SqliteStore};
use futures_util::{StreamExt, stream};

use super::*;

/// An application on the database of a place.
async fn start(place: &Place) -> (FastAuthLayer, std::net::SocketAddr) {
    let settings = Settings::builder()
        .cryptography_key(place.env_value("CRYPTOGRAPHY_KEY"))
        .rules([Rule::prefix("/events").access(), Rule::prefix("/kept").access().ends_on(EndsOn::Revoke)])
        .store(SqliteStore::open(place.path().join("fastauth.db")).unwrap());
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let events = || async {
        let first = stream::iter([Ok::<_, std::convert::Infallible>(Event::default().data("begun"))]);
        Sse::new(first.chain(stream::pending()))
    };
    let app = Router::new().route("/events", get(events)).route("/kept", get(events)).layer(layer.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (layer, address)
}

/// A stream whose first event has come.
fn open(address: std::net::SocketAddr, path: &str, token: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccess-token: {token}\r\nconnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).unwrap();
    let mut found = String::new();
    while !found.contains("data: begun\n\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        found.push(byte[0].into());
    }
    assert!(found.starts_with("HTTP/1.1 200"), "{found}");
    connection
}

/// What comes until the server closes the connection.
fn rest(mut connection: TcpStream) -> String {
    let mut rest = String::new();
    connection.read_to_string(&mut rest).unwrap();
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_what_another_process_streams() {
    let place = Place::ready(&json!({ "database-api-url": "sqlite:fastauth.db" }));
    let (layer, address) = start(&place).await;
    let issued = layer.issuer().issue("alice").await.unwrap();
    let refresh_token = issued.tokens.refresh_token;
    tokio::task::block_in_place(|| {
        let access_token = issued.tokens.access_token.expose();
        let (events, kept) = (open(address, "/events", access_token), open(address, "/kept", access_token));
        place.done(&["token", "refresh", refresh_token.expose()]);
        // The last chunk is whole: the stream is complete.
        assert_eq!(rest(events), "\r\n0\r\n\r\n");
        place.done(&["token", "revoke", "--client-id", "alice"]);
        assert_eq!(rest(kept), "\r\n0\r\n\r\n");
    });
}
