//! Tickets: what opens one WebSocket.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        OriginalUri,
        ws::{Message, WebSocketUpgrade},
    },
    http::Uri,
    response::Response as AxumResponse,
    routing::any,
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD},
};
use fastauth::{
    FastAuthLayer, Permit,
    config::{StoreFormat, TokensPerClient},
    store::{MemoryStore, Revocation, SqliteStore},
};
use futures_util::{StreamExt, future::join_all};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, protocol::frame::coding::CloseCode};

use crate::{
    app::{Endpoints, access_token, serve, settings},
    support::{
        h2_socket, log,
        stores::{self, StoreServer, rest_v1},
    },
    websocket::{Opened, Socket, open},
};

/// Says whom it lets in, and what it sees of the URI; then it waits for the end of the right.
async fn seen(permit: Permit, OriginalUri(original): OriginalUri, uri: Uri, upgrade: WebSocketUpgrade) -> AxumResponse {
    upgrade.on_upgrade(async move |socket| {
        let claims = permit.claims().unwrap();
        let text = format!("{} {:?} {uri} {original}", claims.client_id(), claims.roles().collect::<Vec<_>>());
        let mut socket = permit.guard(socket);
        let _ = socket.send(Message::text(text)).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

fn app(layer: FastAuthLayer) -> Router {
    let sockets = Router::new().route("/ws", any(seen));
    Router::new()
        .nest("/access", sockets)
        .nest_service("/auth", layer.router())
        .fallback(async || "nothing")
        .layer(layer)
}

pub(crate) async fn start(layer: FastAuthLayer) -> Endpoints {
    Endpoints::at(serve(app(layer)).await)
}

pub(crate) async fn ticket(server: &Endpoints, access_token: &str) -> String {
    let reply = server.send("POST", "/auth/ticket", &[("access-token", access_token)], "").await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
    // At most until its token expires.
    assert!((1..=30).contains(&reply.json()["expires_in"].as_u64().unwrap()), "{reply:?}");
    reply.json()["ticket"].as_str().unwrap().to_owned()
}

pub(crate) async fn redeem(server: &Endpoints, ticket: &str) -> Opened {
    open(&format!("{}/access/ws?a=1&ticket={ticket}&b=2", server.url.replace("http", "ws")), &[]).await
}

pub(crate) async fn text(socket: &mut Socket) -> String {
    socket.next().await.unwrap().unwrap().into_text().unwrap().to_string()
}

/// The status and the words of a refusal.
pub(crate) fn refused(outcome: Opened) -> (u16, Value) {
    let Err(Error::Http(response)) = outcome else { panic!("{outcome:?}") };
    let body = serde_json::from_slice::<Value>(response.body().as_ref().unwrap()).unwrap();
    (response.status().as_u16(), body["detail"].clone())
}

#[tokio::test]
async fn ticket_opens_one_socket() {
    log::capture();
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let claims = Map::from_iter([("roles".to_owned(), json!(["reader"]))]);
    let issued = layer.issuer().issue_with("alice", claims).await.unwrap();
    let server = start(layer).await;
    let ticket = ticket(&server, issued.tokens.access_token.expose()).await;
    let (mut socket, _) = redeem(&server, &ticket).await.unwrap();
    assert_eq!(text(&mut socket).await, r#"alice ["reader"] /ws?a=1&b=2 /access/ws?a=1&b=2"#);
    let again = refused(redeem(&server, &ticket).await);
    assert_eq!(again, (401, json!("Invalid Ticket. Error: used before")));
    let logged = log::captured_of_server();
    assert!(logged.contains("the ticket was used before") && !logged.contains(&ticket), "{logged}");
}

/// A logged URL reveals nothing of the token, and stays short whatever the claims of the token are.
#[tokio::test]
async fn ticket_reveals_nothing_and_is_small() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let claims = Map::from_iter([("secret-claim".to_owned(), json!("hush ".repeat(1000)))]);
    let issued = layer.issuer().issue_with("alice-of-wonderland", claims).await.unwrap();
    let server = start(layer).await;
    let ticket = ticket(&server, issued.tokens.access_token.expose()).await;
    assert!(ticket.len() <= 400, "{} characters", ticket.len());
    assert!(ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)), "{ticket}");
    for part in ticket.split(['.', '=', '-', '_']) {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            for cut in 0..4 {
                let decoded =
                    engine.decode(part.get(cut..).unwrap_or_default().trim_end_matches('=')).unwrap_or_default();
                let decoded = String::from_utf8_lossy(&decoded).into_owned();
                assert!(!decoded.contains("hush") && !decoded.contains("alice"), "{decoded}");
            }
        }
    }
    let (mut socket, _) = redeem(&server, &ticket).await.unwrap();
    assert!(text(&mut socket).await.starts_with("alice-of-wonderland"));
}

/// It is the token of its own log-in that it opens for, in every store, encrypted or not.
#[tokio::test]
async fn ticket_belongs_to_one_session() {
    for format in [StoreFormat::Plain, StoreFormat::Fernet] {
        for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await] {
            let settings = settings().tokens_per_client(TokensPerClient::Many).store_format(format);
            let layer = FastAuthLayer::new(settings.store(Arc::clone(&fixture.store)).build().unwrap()).unwrap();
            let server = start(layer.clone()).await;
            let mut tickets = Vec::new();
            for role in ["first", "second", "third"] {
                let claims = Map::from_iter([("roles".to_owned(), json!([role]))]);
                let issued = layer.issuer().issue_with("alice", claims).await.unwrap();
                tickets.push((role, ticket(&server, issued.tokens.access_token.expose()).await, issued));
            }
            layer.issuer().revoke(&stores::session_of("alice", &tickets[2].2.session)).await.unwrap();
            layer.issuer().refresh(tickets[1].2.tokens.refresh_token.expose()).await.unwrap();
            let (mut socket, _) = redeem(&server, &tickets[0].1).await.unwrap();
            assert!(text(&mut socket).await.starts_with(r#"alice ["first"]"#));
            for (role, ticket, _) in &tickets[1..] {
                let refused = refused(redeem(&server, ticket).await);
                assert_eq!(refused, (401, json!("Unauthorized Access Token")), "{role}");
            }
        }
    }
}

/// What is asked of the token is asked of the ticket, too.
#[tokio::test]
async fn ticket_meets_the_checks_of_its_token() {
    let store = MemoryStore::new();
    let layer = FastAuthLayer::new(settings().store(store.clone()).build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let ticket = ticket(&start(layer).await, token.expose()).await;
    let stricter = settings().store(store).audience("another").build().unwrap();
    let server = start(FastAuthLayer::new(stricter).unwrap()).await;
    let (status, detail) = refused(redeem(&server, &ticket).await);
    assert!(status == 401 && detail.as_str().unwrap().starts_with("Invalid Ticket. Error: "), "{detail}");
}

#[tokio::test]
async fn ticket_is_accepted_nowhere_else() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let server = start(layer).await;
    let ticket = ticket(&server, token.expose()).await;
    let url = format!("/access/ws?ticket={ticket}");
    assert_eq!(server.send("GET", &url, &[], "").await.status, 401);
    for header in [("access-token", ticket.clone()), ("authorization", format!("Bearer {ticket}"))] {
        let header = [(header.0, header.1.as_str())];
        assert_eq!(server.send("GET", "/access/x", &header, "").await.status, 401);
        assert_eq!(server.send("POST", "/auth/ticket", &header, "").await.status, 401);
    }
    assert_eq!(server.post("/auth/token/refresh", &format!("refresh_token={ticket}")).await.status, 401);
    // None of that has used it, and it is no token after it was used either.
    assert!(redeem(&server, &ticket).await.is_ok());
    assert_eq!(server.send("GET", "/access/x", &[("access-token", &ticket)], "").await.status, 401);
}

#[tokio::test]
async fn tickets_require_an_access_token() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let issued = layer.issuer().issue("alice").await.unwrap();
    let superseded = access_token(&layer, "bob").await;
    access_token(&layer, "bob").await;
    let server = start(layer).await;
    let (refresh_token, superseded) = (issued.tokens.refresh_token.expose(), superseded.expose());
    for (expected, headers) in [
        (401, vec![]),
        (401, vec![("access-token", "x.y.z")]),
        (401, vec![("access-token", refresh_token)]),
        (401, vec![("access-token", superseded)]),
        (400, vec![("access-token", "x"), ("authorization", "Bearer y")]),
    ] {
        let reply = server.send("POST", "/auth/ticket", &headers, "").await;
        assert_eq!(reply.status, expected, "{headers:?} {reply:?}");
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{reply:?}");
    }
    let reply = server.send("GET", "/auth/ticket", &[], "").await;
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_ticket_is_worth_what_its_token_is() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let server = start(layer.clone()).await;
    let issuer = layer.issuer();
    // Superseded, and revoked, before it is used.
    let first = issuer.issue("alice").await.unwrap().tokens;
    let of_first = ticket(&server, first.access_token.expose()).await;
    let second = issuer.refresh(first.refresh_token.expose()).await.unwrap().tokens;
    assert_eq!(refused(redeem(&server, &of_first).await), (401, json!("Unauthorized Access Token")));
    let of_second = ticket(&server, second.access_token.expose()).await;
    issuer.revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
    assert_eq!(refused(redeem(&server, &of_second).await), (401, json!("Invalid Client ID")));
    // And afterwards.
    let token = access_token(&layer, "alice").await;
    let (mut socket, _) = redeem(&server, &ticket(&server, token.expose()).await).await.unwrap();
    text(&mut socket).await;
    issuer.revoke(&Revocation::All).await.unwrap();
    let last = timeout(Duration::from_secs(1), socket.next()).await.unwrap().unwrap().unwrap();
    assert!(
        matches!(last, tokio_tungstenite::tungstenite::Message::Close(Some(frame)) if frame.code == CloseCode::Policy)
    );
}

#[tokio::test]
async fn what_is_no_ticket_opens_nothing() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let token = token.expose();
    let server = start(layer).await;
    for wrong in ["", "x", "x.y.z", "%ff", token] {
        let (status, detail) = refused(redeem(&server, wrong).await);
        assert!(status == 401 && detail.as_str().unwrap().starts_with("Invalid Ticket. Error: "), "{wrong} {detail}");
    }
    let ticket = ticket(&server, token).await;
    let (status, detail) = refused(redeem(&server, &format!("{ticket}&ticket={ticket}")).await);
    assert_eq!((status, detail), (400, json!("parameter `ticket` appears more than once")));
    // Beside a token it is not needed, and not seen either.
    let url = format!("{}/access/ws?ticket=mine", server.url.replace("http", "ws"));
    let (mut socket, _) = open(&url, &[("access-token", token)]).await.unwrap();
    assert_eq!(text(&mut socket).await, "alice [] /ws /access/ws");
}

#[tokio::test]
async fn a_ticket_opens_a_socket_over_http_2() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let server = start(layer).await;
    let address = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    let target = format!("/access/ws?ticket={}", ticket(&server, token.expose()).await);
    let (response, socket) = h2_socket::open(address, &target, &[]).await;
    let mut socket = socket.unwrap_or_else(|body| panic!("{response:?} {body:?}"));
    let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(text.starts_with("alice [] ") && !text.contains("ticket"), "{text}");
    assert_eq!(h2_socket::open(address, &target, &[]).await.0.status(), 401);
}

/// Of many attempts at two servers, one succeeds.
async fn is_used_once(one: FastAuthLayer, two: FastAuthLayer) {
    let token = access_token(&one, "alice").await;
    let (one, two) = (start(one).await, start(two).await);
    let ticket = ticket(&one, token.expose()).await;
    let outcomes = join_all((0..20).map(|n| redeem(if n % 2 == 0 { &one } else { &two }, &ticket))).await;
    let (opened, others): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(opened.len(), 1);
    for outcome in others {
        assert_eq!(refused(outcome), (401, json!("Invalid Ticket. Error: used before")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_used_once_by_all_who_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let layer = || {
        let store = SqliteStore::open(directory.path().join("tokens.db")).unwrap();
        FastAuthLayer::new(settings().store(store).build().unwrap()).unwrap()
    };
    is_used_once(layer(), layer()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_used_once_by_all_who_share_a_rest_store() {
    let directory = tempfile::tempdir().unwrap();
    let behind = Arc::new(SqliteStore::open(directory.path().join("tokens.db")).unwrap());
    let store = StoreServer::start(behind, None).await;
    let layer = || FastAuthLayer::new(settings().store(store.client()).build().unwrap()).unwrap();
    is_used_once(layer(), layer()).await;
}

#[tokio::test]
async fn a_store_of_the_first_version_has_no_tickets() {
    let fixture = rest_v1().await;
    let layer = FastAuthLayer::new(settings().store(fixture.store.clone()).build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let server = start(layer).await;
    let reply = server.send("POST", "/auth/ticket", &[("access-token", token.expose())], "").await;
    assert_eq!(reply.status, 501, "{reply:?}");
    // A ticket of another node's, on the same key.
    let other = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let elsewhere = access_token(&other, "alice").await;
    let ticket = ticket(&start(other).await, elsewhere.expose()).await;
    assert_eq!(refused(redeem(&server, &ticket).await).0, 401);
}

/// An application that shows what it sees of the URI, beside the sockets of the others.
async fn start_files(settings: fastauth::SettingsBuilder) -> (FastAuthLayer, Endpoints) {
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let shown = async |permit: Option<Permit>, OriginalUri(original): OriginalUri, uri: Uri| {
        let client = permit.as_ref().and_then(Permit::client_id).unwrap_or("nobody").to_owned();
        format!("{client} {uri} {original}")
    };
    let files = Router::new().fallback(any(shown));
    let app = Router::new()
        .nest("/access", files)
        .nest_service("/auth", layer.router())
        .fallback(any(shown))
        .layer(layer.clone());
    (layer, Endpoints::at(serve(app).await))
}

async fn ticket_for(server: &Endpoints, token: &str, form: &str) -> String {
    let headers = [("access-token", token), ("content-type", crate::app::FORM)];
    let reply = server.send("POST", "/auth/ticket", &headers, form).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["ticket"].as_str().unwrap().to_owned()
}

/// The status, and the code of the reason or the text.
async fn get(server: &Endpoints, method: &str, path: &str, ticket: &str) -> (u16, String) {
    let reply = server.send(method, &format!("{path}?ticket={ticket}"), &[], "").await;
    let reason =
        serde_json::from_str::<Value>(&reply.text).ok().and_then(|body| Some(body["reason"].as_str()?.to_owned()));
    (reply.status, reason.unwrap_or(reply.text))
}

fn refusal(reason: &str) -> (u16, String) {
    (401, reason.to_owned())
}

#[tokio::test]
async fn ticket_opens_one_request_below_its_path() {
    let (layer, server) = start_files(settings()).await;
    let token = access_token(&layer, "alice").await;
    let ticket = ticket_for(&server, token.expose(), "path=/access/files").await;
    // Nothing of this uses it up.
    for (method, path) in [
        ("POST", "/access/files/a"),
        ("HEAD", "/access/files/a"),
        ("GET", "/access/filesystem"),
        ("GET", "/access/other"),
        ("GET", "/access/Files/a"),
        ("GET", "/access/files/..%2fother"),
        ("GET", "/access/files/%252e%252e/other"),
        ("GET", "/access/files//a"),
        ("GET", "/access/files;x/a"),
    ] {
        assert_eq!(get(&server, method, path, &ticket).await.0, 401, "{method} {path}");
    }
    assert_eq!(get(&server, "GET", "/access/other", &ticket).await, refusal("ticket_mismatch"));
    let url = format!("{}/access/files/ws?ticket={ticket}", server.url.replace("http", "ws"));
    assert_eq!(refused(open(&url, &[]).await).0, 401);
    let url = format!("/access/files/a%20b?x=1&ticket={ticket}&y=2");
    let reply = server.send("GET", &url, &[], "").await;
    assert_eq!(reply.text, "alice /files/a%20b?x=1&y=2 /access/files/a%20b?x=1&y=2");
    assert_eq!((reply.header("referrer-policy"), reply.header("cache-control")), ("no-referrer", "private, no-store"));
    assert_eq!(get(&server, "GET", "/access/files/a", &ticket).await, refusal("spent_ticket"));
}

#[cfg(feature = "test-util")]
#[tokio::test]
async fn ticket_for_some_seconds_opens_many_requests() {
    let clock = fastauth::test_util::ManualClock::new();
    let (layer, server) = start_files(settings().clock(&clock)).await;
    let issued = layer.issuer().issue("alice").await.unwrap();
    let token = issued.tokens.access_token.expose();
    let ticket = ticket_for(&server, token, "path=/access/files/&expires_in=60").await;
    for _ in 0..3 {
        let found = get(&server, "GET", "/access/files/a", &ticket).await;
        assert_eq!(found, (200, "alice /files/a /access/files/a".to_owned()));
    }
    assert_eq!(get(&server, "POST", "/access/files/a", &ticket).await, refusal("ticket_mismatch"));
    let posts = ticket_for(&server, token, "path=/access/files&method=POST").await;
    assert_eq!(get(&server, "GET", "/access/files", &posts).await, refusal("ticket_mismatch"));
    assert_eq!(get(&server, "POST", "/access/files", &posts).await.0, 200);
    clock.advance(Duration::from_secs(61));
    assert_eq!(get(&server, "GET", "/access/files/a", &ticket).await, refusal("invalid_ticket"));
    // Never more than its token.
    let ticket = ticket_for(&server, token, "path=/access/files&expires_in=3600").await;
    let second = layer.issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    assert_eq!(get(&server, "GET", "/access/files/a", &ticket).await, refusal("not_current"));
    let ticket = ticket_for(&server, second.tokens.access_token.expose(), "path=/access/files&expires_in=3600").await;
    layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
    assert_eq!(get(&server, "GET", "/access/files/a", &ticket).await, refusal("unknown_client"));
}

/// On an open path, and beside a token in a header.
#[tokio::test]
async fn parameter_ticket_stays_the_applications_own() {
    let (layer, server) = start_files(settings()).await;
    let token = access_token(&layer, "alice").await;
    let reply = server.send("GET", "/access/list?ticket=42", &[("access-token", token.expose())], "").await;
    assert_eq!(reply.text, "alice /list?ticket=42 /access/list?ticket=42");
    assert_eq!(reply.header("referrer-policy"), "");
    assert_eq!(server.send("GET", "/open?ticket=42", &[], "").await.text, "nobody /open?ticket=42 /open?ticket=42");
    assert_eq!(get(&server, "GET", "/access/list", "42").await, refusal("invalid_ticket"));
}

#[tokio::test]
async fn parameters_of_a_ticket_are_checked() {
    let (layer, server) = start_files(settings()).await;
    let token = access_token(&layer, "alice").await;
    for (name, form) in [
        ("path", "method=GET"),
        ("path", "expires_in=60"),
        ("path", "path=/"),
        ("path", "path=access"),
        ("path", "path=/access/../x"),
        ("path", "path=/access/{id}"),
        ("method", "path=/access&method=get"),
        ("method", "path=/access&method=CONNECT"),
        ("expires_in", "path=/access&expires_in=0"),
        ("expires_in", "path=/access&expires_in=3601"),
        ("expires_in", "path=/access&expires_in=-1"),
        ("expires_in", "path=/access&expires_in=1.5"),
    ] {
        let headers = [("access-token", token.expose()), ("content-type", crate::app::FORM)];
        let reply = server.send("POST", "/auth/ticket", &headers, form).await;
        assert_eq!((reply.status, &reply.json()["detail"][0]["loc"][1]), (422, &json!(name)), "{form}: {reply:?}");
    }
    let json = [("access-token", token.expose()), ("content-type", crate::app::JSON)];
    let reply = server.send("POST", "/auth/ticket", &json, r#"{"path":"/access/x","expires_in":90}"#).await;
    assert_eq!((reply.status, &reply.json()["expires_in"]), (200, &json!(90)), "{reply:?}");
}
