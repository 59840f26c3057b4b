//! What `log-details` adds to the log of refused requests.

use std::{
    future::IntoFuture,
    net::{IpAddr, SocketAddr},
};

use axum::{extract::Request, middleware::map_request};
use fastauth::{FastAuthLayer, SettingsBuilder, config::LogDetail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    app::{Endpoints, MASTER, access_token, app, settings},
    support::{log, stores},
};

const ALL: [LogDetail; 3] = [LogDetail::Path, LogDetail::Peer, LogDetail::RequestId];

/// Serves on a socket, with the addresses of peers.
async fn serve(settings: SettingsBuilder) -> (SocketAddr, FastAuthLayer) {
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app(layer.clone()).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());
    (address, layer)
}

/// Sends a request as it is written, and returns its status and the address that it came from.
async fn send(address: SocketAddr, request: &[u8]) -> (u16, SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let from = stream.local_addr().unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (status.parse().unwrap(), from)
}

fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    let form = "content-type: application/x-www-form-urlencoded";
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}{form}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The lines of FastAuth.
fn lines(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" fastauth: ")).collect()
}

#[tokio::test]
async fn each_refusal_has_the_details() {
    let behind = stores::sqlite().await;
    let server = stores::StoreServer::start(behind.store.clone(), None).await;
    let (address, layer) = serve(settings().store(server.client()).log_details(ALL)).await;
    let token = access_token(&layer, "alice").await;
    let refresh = layer.issuer().issue("bob").await.unwrap().tokens.refresh_token;
    layer.issuer().refresh(refresh.expose()).await.unwrap();
    server.stop().await;
    let token = format!("access-token: {}\r\n", token.expose());
    for (line, headers, body, status, words) in [
        ("GET /access/health?hush=1", "", "", 401, &["INFO", "missing_access_token", r#"path="/access/health""#][..]),
        (
            "GET /master/health",
            "master-token: hush\r\n",
            "",
            401,
            &["INFO", "wrong_master_token", r#"path="/master/health""#],
        ),
        ("GET //access/x", "", "", 401, &["WARN", "another reading", r#"path="//access/x""#]),
        ("GET /access/%zz", "", "", 400, &["INFO", "path_malformed_escape", r#"path="/access/%zz""#]),
        ("GET /access/health", &*token, "", 503, &["ERROR", "store_unavailable", r#"path="/access/health""#]),
        ("POST /auth/ticket", "", "", 401, &["INFO", r#"rule="ticket""#, r#"path="/auth/ticket""#]),
        ("POST /auth/ticket", &token, "", 503, &["ERROR", "no ticket issued", r#"path="/auth/ticket""#]),
        (
            "POST /auth/token/new",
            "",
            "client_id=a",
            401,
            &["INFO", r#"rule="administration""#, r#"path="/auth/token/new""#],
        ),
        (
            "POST /auth/token/refresh",
            "",
            "refresh_token=hush",
            401,
            &["INFO", "not issued", r#"path="/auth/token/refresh""#],
        ),
        ("POST /auth/token", "", "grant_type=hush", 400, &["INFO", "not issued", r#"path="/auth/token""#]),
    ] {
        log::capture();
        let headers =
            format!("x-request-id: req-42\r\nx-forwarded-for: 203.0.113.9\r\nforwarded: for=203.0.113.9\r\n{headers}");
        let (answered, from) = send(address, &request(line, &headers, body)).await;
        let log = log::captured();
        assert_eq!(answered, status, "{line}: {log}");
        let told = lines(&log);
        let found = told.iter().find(|told| words.iter().all(|word| told.contains(word)));
        let found = found.unwrap_or_else(|| panic!("{line}: no line has {words:?}: {told:#?}"));
        for detail in [format!(r#"peer="{from}""#), r#"request_id="req-42""#.to_owned()] {
            assert!(found.contains(&detail), "{line}: {detail}: {found}");
        }
        assert!(told.iter().all(|told| !told.contains("hush") && !told.contains("203.0.113.9")), "{told:#?}");
    }
}

#[tokio::test]
async fn nothing_is_added_unless_it_is_configured() {
    for (details, expected) in [
        (&[][..], [false, false, false]),
        (&[LogDetail::Path], [true, false, false]),
        (&[LogDetail::Peer], [false, true, false]),
        (&[LogDetail::RequestId], [false, false, true]),
    ] {
        let (address, _) = serve(settings().log_details(details.iter().copied())).await;
        for line in ["GET /access/x", "POST /auth/token/new", "POST /auth/token/refresh", "GET //access/x"] {
            log::capture();
            send(address, &request(line, "x-request-id: req-42\r\n", "refresh_token=x")).await;
            let log = log::captured();
            let told = lines(&log);
            assert!(!told.is_empty(), "{line}");
            for told in told {
                let has = [r#"path="#, r#"peer="#, r#"request_id="#].map(|name| told.contains(name));
                assert_eq!(has, expected, "{line}: {told}");
            }
        }
    }
}

/// Nothing that a client sends begins a line of its own, or is long.
#[tokio::test]
async fn hostile_paths_and_ids_stay_one_line() {
    let (address, _) = serve(settings().log_details(ALL)).await;
    let long = "x".repeat(60_000);
    let ids: [&[u8]; 5] = [
        b"a\x80\xff\xc2\x9b31m",
        "\u{202e}\u{2028}2026-11-30T00:00:00Z  INFO fastauth: permitted".as_bytes(),
        b"\"} INFO fastauth: permitted client=\"root\"",
        b"a\tb",
        &b"y".repeat(100_000),
    ];
    for path in ["/access/%0a%0dINFO", "/access/\u{9b}\u{202e}\u{2028}x", "/access/%1b[31m", &format!("/access/{long}")]
    {
        for id in ids {
            let head = format!("GET {path}?q=q HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: ");
            let mut bytes = head.into_bytes();
            bytes.extend_from_slice(id);
            bytes.extend_from_slice(b"\r\n\r\n");
            log::capture();
            let (status, _) = send(address, &bytes).await;
            let log = log::captured();
            assert!(matches!(status, 400 | 401 | 414), "{path:.40}: {status}");
            let refused: Vec<_> = lines(&log).into_iter().filter(|line| line.contains("refused")).collect();
            let [line] = refused[..] else { panic!("{path:.40}: {refused:?}") };
            assert!(line.len() < 4_000, "{} bytes", line.len());
            assert!(!line.contains(['\u{9b}', '\u{202e}', '\u{2028}', '\t', '\r', '\u{1b}']), "{line}");
            assert!(line.contains(" path=\"") && line.contains(" request_id=\""), "{line}");
        }
    }
}

/// Behind a proxy that the application knows.
#[tokio::test]
async fn application_says_where_a_request_came_from() {
    let settings = settings().log_details(ALL).request_id_header("traceparent");
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let named = |mut request: Request| {
        request.extensions_mut().insert(SocketAddr::from(([198, 51, 100, 1], 443)));
        request.extensions_mut().insert(IpAddr::from([203, 0, 113, 9]));
        std::future::ready(request)
    };
    let endpoints = Endpoints::at(crate::app::serve(app(layer).layer(map_request(named))).await);
    log::capture();
    let headers = [("traceparent", "00-4bf92f35-01"), ("x-request-id", "other")];
    assert_eq!(endpoints.send("GET", "/access/x", &headers, "").await.status, 401);
    let log = log::captured();
    let told = lines(&log).concat();
    assert!(told.contains(r#"peer="203.0.113.9""#) && told.contains(r#"request_id="00-4bf92f35-01""#), "{told}");
    assert!(!told.contains("other\"") && !told.contains("198.51.100.1"), "{told}");
}

#[tokio::test]
async fn details_come_by_configuration_and_shadow_has_them() {
    let place = tempfile::TempDir::new().unwrap();
    let config = serde_json::json!({
        "access-token-paths": ["/access"],
        "master-token": MASTER,
        "cryptography-key": crate::app::KEY,
        "log-details": ["path", "request-id"],
        "request-id-header": "X-Trace",
        "shadow": true,
    });
    std::fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
    let settings = fastauth::Settings::builder().directory(place.path()).environment([("", ""); 0]);
    let layer = FastAuthLayer::new(settings.load().unwrap()).unwrap();
    let endpoints = Endpoints::of(&layer).await;
    log::capture();
    assert_eq!(endpoints.send("GET", "/access/health", &[("x-trace", "t-1")], "").await.status, 200);
    let log = log::captured();
    let told = lines(&log).concat();
    for word in ["would_be_refused", r#"path="/access/health""#, r#"request_id="t-1""#] {
        assert!(told.contains(word), "{word}: {told}");
    }
}
