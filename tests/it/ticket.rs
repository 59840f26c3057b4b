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
    assert_eq!(reply.json()["expires_in"], 30);
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
