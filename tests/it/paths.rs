//! Paths as they come over the wire, and the places that a guard may be put in.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{Json, Router, body::Body, routing::get};
use fastauth::{FastAuthLayer, Rule, SettingsBuilder, config::Ambiguous, path::PathDecision};
use h2::ext::Protocol;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::SEC_WEBSOCKET_VERSION, uri};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::{Layer, ServiceExt, service_fn};

use crate::app::{app, body, error, get_request, layer, send, serve, settings};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends bytes and reads until the other side closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    timeout(PATIENCE, talk).await.unwrap()
}

/// Sends a request line as it is. Nothing that is protected may be in the answer, whatever its status.
async fn status_of(address: SocketAddr, line: &[u8]) -> u16 {
    let version = if line.windows(6).any(|part| part == b" HTTP/") { &b""[..] } else { b" HTTP/1.1" };
    let head = [line, version, b"\r\nhost: host\r\nconnection: close\r\n\r\n"].concat();
    let answer = String::from_utf8(exchange(address, &head).await).unwrap();
    let shown = String::from_utf8_lossy(line);
    assert!(!answer.contains("service"), "{shown}: a handler ran: {answer}");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{shown}: {answer:?}"))
}

#[tokio::test]
async fn request_targets_over_tcp() {
    let address = serve(app(layer())).await;
    for (line, status) in [
        // Guarded by their only reading.
        ("GET /access", 401),
        ("GET /access/health", 401),
        ("GET /access/health?x", 401),
        ("GET /accessible", 401),
        ("GET /master/health", 401),
        // And by another than the one sent.
        ("GET //access/x", 401),
        ("GET //access/health", 401),
        ("GET ///access/health", 401),
        ("GET /access//x", 401),
        ("GET /access//health", 401),
        ("GET /./access/health", 401),
        ("GET /x/../access/health", 401),
        ("GET /x/%2e%2e/access/health", 401),
        ("GET /%61ccess/health", 401),
        ("GET /access%2fhealth", 401),
        ("GET /%2faccess/health", 401),
        ("GET /%2561ccess/health", 401),
        ("GET /access/health/", 401),
        ("GET /access/", 401),
        ("GET /access;x=1/health", 401),
        ("GET /x/..;/access/health", 401),
        (r"GET /access\health", 401),
        (r"GET /\access/health", 401),
        ("GET /x%3f/../../access", 401),
        // No sound reading.
        ("GET /%c0%afaccess", 400),
        ("GET /access/%zz", 400),
        ("GET /access%", 400),
        ("GET /access/health%00", 400),
        ("GET /access/health%0d%0a", 400),
        ("GET /acc%09ess/health", 400),
        ("GET /%25252561ccess/health", 400),
        // Not guarded: case counts, and so does only the path.
        ("GET /ACCESS/health", 404),
        ("GET /x?/access/health", 404),
        ("GET /x#/access/health", 404),
        ("GET http://access/x", 404),
        // Absolute form.
        ("GET http://host/access/health", 401),
        ("GET ftp://host/access/health", 401),
        ("GET HTTP://host/access/health", 401),
        ("GET http://user:word@other:1/access/health", 401),
        ("GET http://host//access/health", 401),
        ("GET http://host", 404),
        ("GET http://host?/access", 404),
        ("GET /access/health#f", 401),
        // The forms that have no path.
        ("OPTIONS *", 404),
        ("GET *", 400),
        ("CONNECT host:443", 404),
        ("GET host:443", 400),
        ("GET host", 400),
        ("GET foo:bar", 400),
        // Every method is alike.
        ("CONNECT /access/health", 401),
        ("HEAD /access/health", 401),
        ("OPTIONS /access/health", 401),
        ("BREW /access/ws", 401),
        // No targets: hyper refuses them.
        ("GET access/health", 400),
        (r"GET \access", 400),
        ("GET http:/access", 400),
        ("GET http:///access", 400),
        ("GET ?x", 400),
        ("GET #x", 400),
        ("GET /access/\0", 400),
        ("GET /acc\tess", 400),
        ("GET /acc\u{b}ess", 400),
        ("GET /a ccess", 400),
        ("GET /acc\u{7f}ess", 400),
        ("GET /<access>", 400),
        ("GET /`access`", 400),
        // Beyond ASCII, and what URIs have no place for.
        ("GET /é", 404),
        ("GET /é/../access/health", 401),
        ("GET /access/é", 401),
        ("GET /{}^|", 404),
        ("GET /{}^|/../access", 401),
        ("GET /\"access\"", 404),
    ] {
        assert_eq!(status_of(address, line.as_bytes()).await, status, "{line:?}");
    }
    for line in [&b"GET /access/\xff"[..], b"GET /\xc0\xafaccess", b"GET /\xff\xfeaccess/health"] {
        assert_eq!(status_of(address, line).await, 400, "{line:?}");
    }
}

/// The settings that a line such as `--access /a /b/ --windows` stands for.
fn settings_of(written: &str) -> SettingsBuilder {
    let list = |name: &str| -> Vec<&str> {
        let after = written.split(' ').skip_while(|word| *word != name).skip(1);
        after.take_while(|word| !word.starts_with("--")).collect()
    };
    let has = |option: &str| written.split(' ').any(|word| word == option);
    let settings = settings()
        .master_token_paths(list("--master"))
        .access_token_paths(list("--access"))
        .public_paths(list("--public"))
        .case_insensitive(has("--case-insensitive"))
        .windows(has("--windows"))
        .skip_preflight(has("--skip-preflight"))
        .ambiguous(if has("--ambiguous") { Ambiguous::Protect } else { Ambiguous::Refuse });
    list("--base").into_iter().fold(settings, SettingsBuilder::base_path)
}

/// The requests that are labelled by hand, over sockets: each set of rules around an application of its own.
#[tokio::test]
async fn labelled_requests_over_tcp() {
    let mut address = None;
    let mut sent = 0;
    for line in include_str!("../fixtures/paths.tsv").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (label, rest) = line.split_once('\t').unwrap();
        if label.starts_with('[') {
            address = Some(serve(app(layer_of(settings_of(rest)))).await);
            continue;
        }
        let (request, _why) = rest.split_once('\t').unwrap();
        let preflight = request.replacen("PREFLIGHT", "OPTIONS", 1);
        let headers = " HTTP/1.1\r\norigin: http://a\r\naccess-control-request-method: GET";
        let line = if preflight == request { preflight } else { preflight + headers };
        let status = status_of(address.unwrap(), line.as_bytes()).await;
        let kind = match status {
            400 | 401 => status.to_string(),
            _ => "public".to_owned(),
        };
        let expected = if matches!(label, "public" | "400") { label } else { "401" };
        assert_eq!(kind, expected, "{line}: {status}");
        sent += 1;
    }
    assert!(sent > 500, "only {sent} requests were found");
}

#[tokio::test]
async fn a_long_target_is_not_looked_at() {
    let address = serve(app(layer())).await;
    let long = |len: usize| format!("GET /{}", "a".repeat(len - 1));
    assert_eq!(status_of(address, long(8 * 1024).as_bytes()).await, 404);
    assert_eq!(status_of(address, long(8 * 1024 + 1).as_bytes()).await, 414);
    let hidden = format!("{}/../access/health", long(8 * 1024));
    assert_eq!(status_of(address, hidden.as_bytes()).await, 414);
}

#[tokio::test]
async fn a_refused_path_says_why_and_not_what() {
    let response = send(&app(layer()), get_request("/access/%zz", &[])).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(body(response).await, error(400, "path_malformed_escape", "malformed escape"));
}

/// An answer over HTTP/2; `None` where the stream was reset.
async fn over_http2(address: SocketAddr, request: Request<()>) -> Option<u16> {
    let talk = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        // After one answer the server's settings are here, without which nothing but CONNECT may have a protocol.
        let first = Request::get(format!("http://{address}/health")).body(()).unwrap();
        let (answer, _) = client.send_request(first, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        client = client.ready().await.unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        let response = answer.await.ok()?;
        let (status, mut body) = (response.status().as_u16(), response.into_body());
        while let Some(data) = body.data().await {
            let data = String::from_utf8(data.unwrap().to_vec()).unwrap();
            assert!(!data.contains("service"), "a handler ran: {data}");
        }
        Some(status)
    };
    timeout(PATIENCE, talk).await.unwrap()
}

fn http2_request(method: Method, path: &str, protocol: Option<&'static str>) -> Request<()> {
    let target = Uri::builder().scheme("http").authority("host").path_and_query(path);
    let mut request = Request::builder().method(method).uri(target.build().unwrap()).body(()).unwrap();
    if let Some(protocol) = protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    request
}

#[tokio::test]
async fn request_targets_over_http2() {
    let address = serve(app(layer())).await;
    for (method, path, protocol, status) in [
        (Method::GET, "/access/health", None, 401),
        (Method::GET, "//access/health", None, 401),
        (Method::GET, "/x/../access/health", None, 401),
        (Method::GET, "/%61ccess/health", None, 401),
        (Method::GET, "/access/%zz", None, 400),
        (Method::GET, "/x", None, 404),
        (Method::GET, "*", None, 400),
        (Method::OPTIONS, "*", None, 404),
        (Method::CONNECT, "/access/ws", Some("websocket"), 401),
        (Method::CONNECT, "/access/ws", Some("foo"), 401),
        (Method::CONNECT, "//access/ws", Some("foo"), 401),
        (Method::CONNECT, "/master/ws", Some("connect-udp"), 401),
        (Method::CONNECT, "*", Some("foo"), 400),
    ] {
        let row = format!("{method} {path} {protocol:?}");
        assert_eq!(over_http2(address, http2_request(method, path, protocol)).await, Some(status), "{row}");
    }
    assert_eq!(over_http2(address, plain_connect()).await, Some(404));
}

/// Plain CONNECT names a host and has no path.
fn plain_connect() -> Request<()> {
    let target = Uri::from_parts({
        let mut parts = uri::Parts::default();
        parts.authority = Some("host:443".parse().unwrap());
        parts
    });
    Request::builder().method(Method::CONNECT).uri(target.unwrap()).body(()).unwrap()
}

/// What rules open to GET, they open to WebSockets over HTTP/2, and to no tunnel.
#[tokio::test]
async fn of_all_kinds_of_connect_only_that_of_websockets_is_a_get() {
    let rules = [Rule::prefix("/").methods(["GET"]).public(), Rule::prefix("/").access()];
    let settings = settings().access_token_paths::<&str>([]).master_token_paths::<&str>([]).rules(rules);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let app = Router::new().fallback(async || StatusCode::NO_CONTENT).layer(layer.clone());
    let app = app.route("/health", get(async || "healthy"));
    let address = serve(app).await;
    let connect = |protocol| http2_request(Method::CONNECT, "/ws", Some(protocol));
    for version in [None, Some("13"), Some("nonsense")] {
        for (protocol, status) in [("websocket", 204), ("foo", 401), ("connect-udp", 401), ("WebSocket", 401)] {
            let mut request = connect(protocol);
            // The client sets the header as it likes.
            let version = version.map(HeaderValue::from_static);
            request.headers_mut().extend(version.map(|version| (SEC_WEBSOCKET_VERSION, version)));
            assert_eq!(over_http2(address, request).await, Some(status), "{protocol}");
        }
    }
    assert_eq!(over_http2(address, plain_connect()).await, Some(401));
    assert_eq!(over_http2(address, http2_request(Method::GET, "/ws", None)).await, Some(204));
    for line in ["CONNECT host:443", "CONNECT /ws"] {
        assert_eq!(status_of(address, line.as_bytes()).await, 401, "{line}");
        let explained = layer.explain(&Method::CONNECT, line.split(' ').nth(1).unwrap());
        assert_eq!(explained.decision(), PathDecision::Access, "{line}");
    }
}

/// No client makes these, so the frames are written by hand.
#[tokio::test]
async fn paths_without_a_slash_over_http2() {
    let address = serve(app(layer())).await;
    for path in ["access/health", "http://host/access/health", "host:443", ""] {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "host"), (":path", path)];
        // HPACK: literal fields with literal names, neither indexed nor compressed (RFC 7541, section 6.2.2).
        let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let block: Vec<u8> =
            fields.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect();
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let (settings, headers, go_away) = (frame(4, 0, 0, &[]), frame(1, 5, 1, &block), frame(7, 0, 0, &[0; 8]));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let answer = exchange(address, &[preface, settings, headers, go_away].concat()).await;
        let frames = frames(&answer);
        // Reset, or 400 in the static table's eleventh place, as from an http crate that lets such paths through.
        let refused = |(kind, payload): &(u8, &[u8])| *kind == 3 || *kind == 1 && payload.first() == Some(&0x8c);
        assert!(frames.iter().any(refused), "{path:?}: {frames:?}");
        assert!(!String::from_utf8_lossy(&answer).contains("service"), "{path:?}: a handler ran");
    }
}

/// The kinds and payloads of HTTP/2 frames.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap().min(rest.len());
        frames.push((*kind, &rest[..length]));
        bytes = &rest[length..];
    }
    frames
}

fn layer_of(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn guarding(prefix: &str) -> FastAuthLayer {
    layer_of(settings().access_token_paths([prefix]))
}

/// An application whose every answer but 404 is a handler that ran.
fn routes() -> Router {
    Router::new().route("/access/health", get(async || Json(json!({ "service": "access" }))))
}

async fn statuses<const N: usize>(app: &Router, paths: [&str; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status, path) in statuses.iter_mut().zip(paths) {
        *status = send(app, get_request(path, &[])).await.status().as_u16();
    }
    statuses
}

#[tokio::test]
async fn around_the_router() {
    let app = guarding("/access").layer(routes());
    for (path, expected) in [("/access/health", 401), ("//access", 401), ("/access/none", 401), ("/x", 404)] {
        assert_eq!(app.clone().oneshot(get_request(path, &[])).await.unwrap().status(), expected, "{path}");
    }
}

#[tokio::test]
async fn as_the_last_layer_of_the_router() {
    let nested = Router::new().nest("/access/api", routes()).nest_service("/files", routes());
    let app = nested.fallback(async || StatusCode::IM_A_TEAPOT).layer(guarding("/access"));
    let paths = ["/access/api/access/health", "/access/api/none", "/access/none", "/%61ccess", "/x"];
    assert_eq!(statuses(&app, paths).await, [401, 401, 401, 401, 418]);
}

/// What is below the mount can be named with the mount or without: axum tells the whole path.
#[tokio::test]
async fn inside_a_nested_router() {
    for prefix in ["/api/access", "/access", "/api/access/", "/access/health"] {
        let inner = || routes().layer(guarding(prefix));
        for app in [Router::new().nest("/api", inner()), Router::new().nest_service("/api", inner())] {
            assert_eq!(statuses(&app, ["/api/access/health", "/x"]).await, [401, 404], "{prefix}");
        }
        // `nest_service` swallows a slash after the mount.
        let app = Router::new().nest_service("/api", inner());
        assert_eq!(statuses(&app, ["/api//access/health", "/api/%61ccess/health"]).await, [401, 401], "{prefix}");
    }
    for prefix in ["/api/v1/access", "/access"] {
        let inner = Router::new().nest_service("/v1", routes().layer(guarding(prefix)));
        let app = Router::new().nest_service("/api", inner);
        assert_eq!(statuses(&app, ["/api/v1/access/health", "/api//v1//access/health"]).await, [401, 401], "{prefix}");
    }
    // Unmatched paths below the mount go to the outer fallback, which is outside.
    let outer = Router::new().nest("/api", routes().layer(guarding("/access")));
    let app = outer.fallback(async || StatusCode::IM_A_TEAPOT);
    assert_eq!(statuses(&app, ["/api/access/health", "/api/access/none"]).await, [401, 418]);
}

/// A route layer runs for routes that match, and never for the fallback.
#[tokio::test]
async fn as_a_route_layer() {
    let routes = routes().route_layer(guarding("/access"));
    let app = routes.fallback(async || StatusCode::IM_A_TEAPOT);
    assert_eq!(statuses(&app, ["/access/health", "//access/health", "/access/none"]).await, [401, 418, 418]);
}

/// Without a router that tells the whole path, `base-path` does.
#[tokio::test]
async fn below_a_base_path() {
    for prefix in ["/api/access", "/access", "/api"] {
        let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::empty())));
        let service = layer_of(settings().access_token_paths([prefix]).base_path("/api")).layer(service);
        let status = async |path| service.clone().oneshot(get_request(path, &[])).await.unwrap().status().as_u16();
        assert_eq!(status("/access/health").await, 401, "{prefix}");
        assert_eq!(status("/x/../access").await, 401, "{prefix}");
        assert_eq!(status("//access").await, 401, "{prefix}");
        assert_eq!(status("/x").await, if prefix == "/api" { 401 } else { 200 }, "{prefix}");
    }
}

#[tokio::test]
async fn preflights_are_skipped_where_that_is_asked_for() {
    let preflight = [("origin", "http://a"), ("access-control-request-method", "GET")];
    let status = async |skip: bool, method: Method, target: &str, headers: &[(&str, &str)]| {
        let mut request = get_request(target, headers);
        *request.method_mut() = method;
        send(&app(layer_of(settings().skip_preflight(skip))), request).await.status().as_u16()
    };
    assert_eq!(status(false, Method::OPTIONS, "/access/health", &preflight).await, 401);
    // The route has no handler for OPTIONS.
    assert_eq!(status(true, Method::OPTIONS, "/access/health", &preflight).await, 405);
    assert_eq!(status(true, Method::OPTIONS, "/master/health", &preflight).await, 405);
    assert_eq!(status(true, Method::OPTIONS, "/access/%zz", &preflight).await, 400);
    for part in [&preflight[..1], &preflight[1..], &[]] {
        assert_eq!(status(true, Method::OPTIONS, "/access/health", part).await, 401);
    }
    for method in [Method::GET, Method::CONNECT, Method::HEAD] {
        assert_eq!(status(true, method, "/access/health", &preflight).await, 401);
    }
}
