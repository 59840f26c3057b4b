//! What rules ask for beside credentials, as clients meet it: every answer in every form.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::any};
use fastauth::{
    FastAuthLayer, Permit, Principal, Rule, SettingsBuilder,
    config::{ErrorShape, ResponseShape, WebSocketRefusal},
    store::Revocation,
    test_util::ManualClock,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    app::{FORM, MASTER, serve, settings},
    support::{log, stores},
    websocket::open,
};

/// The answer of a server, as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends a request by a socket of its own.
pub(crate) async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)]) -> Answer {
    send(address, line, headers, "").await
}

pub(crate) async fn send(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("{line} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n{body}");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(20), socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A server whose rules have one demand each.
struct Server {
    address: SocketAddr,
    layer: FastAuthLayer,
    clock: ManualClock,
}

fn rules() -> Vec<Rule> {
    vec![
        Rule::prefix("/public").public(),
        Rule::prefix("/optional").optional(),
        Rule::prefix("/auth").public(),
        Rule::prefix("/plain").access(),
        Rule::prefix("/plain/admin").access().roles_any(["admin"]),
        Rule::prefix("/plain/denied").deny(),
        Rule::prefix("/scope").access().scopes(["read", "write"]),
        Rule::prefix("/role").access().roles_any(["admin"]),
        Rule::prefix("/service").access().principal(Principal::Service),
        Rule::prefix("/claim").access().claim_equals([("tenant", "acme")]),
        Rule::prefix("/fresh").access().max_age(Duration::from_secs(300)),
        Rule::prefix("/denied").deny(),
        Rule::prefix("/both").both().roles_any(["admin"]),
    ]
}

async fn seen(permit: Option<Permit>) -> String {
    permit.map_or_else(|| "nobody".to_owned(), |permit| permit.client_id().unwrap_or("the operator").to_owned())
}

impl Server {
    async fn new(settings: SettingsBuilder) -> Self {
        let clock = ManualClock::new();
        let layer = FastAuthLayer::new(settings.clock(&clock).build().unwrap()).unwrap();
        let app = Router::new().route("/{*path}", any(seen)).nest_service("/auth", layer.router()).layer(layer.clone());
        Self { address: serve(app).await, layer, clock }
    }

    async fn token(&self, claims: Value) -> String {
        let issued = self.layer.issuer().issue_with("alice", claims).await.unwrap();
        issued.tokens.access_token.expose().to_owned()
    }

    /// Returns a token whose log-in is older than any rule takes.
    async fn old_token(&self, claims: Value) -> String {
        let token = self.token(claims).await;
        self.clock.advance(Duration::from_secs(301));
        token
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        ask(self.address, &format!("GET {path}"), &[("access-token", token)]).await
    }
}

fn ruled() -> SettingsBuilder {
    settings()
        .access_token_paths::<&str>([])
        .master_token_paths::<&str>([])
        .rules(rules())
        .service_claim([("principal", "service")])
}

/// The path, the status, the reason, the message and what the challenge says beside the realm.
const REFUSED: [(&str, u16, &str, &str, &str); 6] = [
    (
        "/scope",
        403,
        "insufficient_scope",
        "The access token lacks a required scope",
        r#", error="insufficient_scope", error_description="The access token lacks a required scope", scope="read write""#,
    ),
    (
        "/role",
        403,
        "missing_role",
        "The access token lacks a required role",
        r#", error="insufficient_scope", error_description="The access token lacks a required role""#,
    ),
    (
        "/service",
        403,
        "wrong_principal",
        "The access token is not of the required kind of client",
        r#", error="insufficient_scope", error_description="The access token is not of the required kind of client""#,
    ),
    (
        "/claim",
        403,
        "claim_mismatch",
        "A claim of the access token does not have the required value",
        r#", error="insufficient_scope", error_description="A claim of the access token does not have the required value""#,
    ),
    (
        "/fresh",
        401,
        "stale_authentication",
        "The log-in is too long ago, log in again",
        r#", error="insufficient_user_authentication", error_description="The log-in is too long ago, log in again", max_age="300""#,
    ),
    ("/denied", 403, "denied", "Access denied", ""),
];

#[tokio::test]
async fn each_refusal_has_its_status_challenge_and_body_in_the_envelope() {
    let server = Server::new(ruled()).await;
    let token = server.old_token(json!({})).await;
    for (path, status, reason, message, challenge) in REFUSED {
        let answer = server.get(path, &token).await;
        let expected =
            json!({ "status": "error", "code": status, "reason": reason, "message": message, "detail": message });
        assert_eq!((answer.status, answer.json()), (status, expected), "{path}");
        let expected = if challenge.is_empty() { String::new() } else { format!("Bearer realm=\"demo\"{challenge}") };
        assert_eq!(answer.header("www-authenticate"), expected, "{path}");
        assert_eq!(answer.header("cache-control"), "private, no-store", "{path}");
        // The answer is the same for HEAD, without the body.
        let head = ask(server.address, &format!("HEAD {path}"), &[("access-token", &token)]).await;
        assert_eq!((head.status, &*head.body), (status, ""), "{path}");
        assert_eq!(head.header("www-authenticate"), expected, "{path}");
    }
}

#[tokio::test]
async fn each_refusal_has_a_body_in_the_form_of_oauth() {
    let server = Server::new(ruled().response_shape(ResponseShape::OAuth)).await;
    let token = server.old_token(json!({})).await;
    for (path, status, reason, message, challenge) in REFUSED {
        let error = match (status, challenge) {
            (_, "") => "access_denied",
            (403, _) => "insufficient_scope",
            _ => "insufficient_user_authentication",
        };
        let expected = json!({ "error": error, "error_description": message, "reason": reason });
        let answer = server.get(path, &token).await;
        assert_eq!((answer.status, answer.json()), (status, expected), "{path}");
    }
}

#[tokio::test]
async fn each_refusal_is_a_problem_if_that_is_asked() {
    // Whatever the form of pairs is.
    for shape in [ResponseShape::Envelope, ResponseShape::OAuth] {
        let server = Server::new(ruled().response_shape(shape).error_shape(ErrorShape::Problem)).await;
        let token = server.old_token(json!({})).await;
        for (path, status, reason, message, _) in REFUSED {
            let title = if status == 403 { "Forbidden" } else { "Unauthorized" };
            let expected = json!({
                "type": "about:blank", "title": title, "status": status, "detail": message, "reason": reason,
            });
            let answer = server.get(path, &token).await;
            assert_eq!((answer.status, answer.json()), (status, expected), "{path}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        }
        let missing = ask(server.address, "GET /plain", &[]).await;
        assert_eq!((missing.status, missing.json()["reason"].clone()), (401, json!("missing_access_token")));
        assert_eq!(missing.header("content-type"), "application/problem+json");
        let malformed = ask(server.address, "GET /%zz", &[]).await;
        assert_eq!((malformed.status, malformed.json()["title"].clone()), (400, json!("Bad Request")));
    }
}

#[tokio::test]
async fn each_refusal_is_a_status_of_grpc() {
    let server = Server::new(ruled()).await;
    let token = server.old_token(json!({})).await;
    for (path, status, _, message, _) in REFUSED {
        let headers = [("access-token", &*token), ("content-type", "application/grpc"), ("content-length", "0")];
        let answer = ask(server.address, &format!("POST {path}"), &headers).await;
        let grpc = if status == 403 { "7" } else { "16" };
        assert_eq!((answer.status, answer.header("grpc-status")), (200, grpc), "{path}");
        assert_eq!(answer.header("grpc-message"), message, "{path}");
    }
}

#[tokio::test]
async fn each_refusal_closes_a_websocket_with_its_reason() {
    let server = Server::new(ruled().websocket_refusal(WebSocketRefusal::Close)).await;
    let token = server.old_token(json!({})).await;
    for (path, _, reason, message, _) in REFUSED {
        let url = format!("ws://{}{path}", server.address);
        let (mut socket, _) = open(&url, &[("access-token", &token)]).await.unwrap();
        let sent: Value = serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
        assert_eq!(sent, json!({ "status": "error", "detail": message, "reason": reason }), "{path}");
        let closed = socket.next().await.unwrap().unwrap();
        let tokio_tungstenite::tungstenite::Message::Close(Some(frame)) = closed else { panic!("{closed:?}") };
        assert_eq!(u16::from(frame.code), 1008, "{path}");
    }
}

#[tokio::test]
async fn token_that_meets_the_demand_passes() {
    let server = Server::new(ruled()).await;
    for (path, claims) in [
        ("/scope", json!({ "scope": "write read" })),
        ("/role", json!({ "roles": ["admin"] })),
        ("/role", json!({ "roles": "admin" })),
        ("/service", json!({ "principal": "service" })),
        ("/claim", json!({ "tenant": "acme" })),
        ("/fresh", json!({})),
        ("/plain", json!({})),
    ] {
        let token = server.token(claims).await;
        // Once by the store and once by the cache.
        for _ in 0..2 {
            let answer = server.get(path, &token).await;
            assert_eq!((answer.status, &*answer.body), (200, "alice"), "{path}");
        }
    }
}

#[tokio::test]
async fn optional_token_is_checked_if_it_is_there() {
    let server = Server::new(ruled()).await;
    let token = server.token(json!({})).await;
    for (name, headers, expected) in [
        ("nothing", vec![], (200, "nobody")),
        ("the master token is not asked for", vec![("master-token", MASTER)], (200, "nobody")),
        ("a good one", vec![("access-token", &*token)], (200, "alice")),
        ("a foreign one", vec![("access-token", "x.y.z")], (401, "")),
        ("two", vec![("access-token", &*token), ("authorization", "Bearer x.y.z")], (400, "")),
    ] {
        let answer = ask(server.address, "GET /optional", &headers).await;
        let body = if answer.status == 200 { &*answer.body } else { "" };
        assert_eq!((answer.status, body), expected, "{name}");
        // What is there depends on the token.
        assert_eq!(answer.header("cache-control"), "private, no-store", "{name}");
        let public = ask(server.address, "GET /public", &headers).await;
        assert_eq!((public.status, &*public.body, public.header("cache-control")), (200, "nobody", ""), "{name}");
    }
    server.layer.issuer().revoke(&Revocation::All).await.unwrap();
    assert_eq!(server.get("/optional", &token).await.status, 401, "a revoked one is not taken for none");
}

#[tokio::test]
async fn credentials_come_before_demands() {
    let server = Server::new(ruled()).await;
    let token = server.token(json!({})).await;
    for (headers, expected) in [
        (vec![("access-token", &*token)], "missing_master_token"),
        (vec![("access-token", &*token), ("master-token", "wrong")], "wrong_master_token"),
        (vec![("master-token", MASTER)], "missing_access_token"),
        (vec![("master-token", MASTER), ("access-token", "x.y.z")], "malformed_token"),
        (vec![("master-token", MASTER), ("access-token", &*token)], "missing_role"),
    ] {
        let answer = ask(server.address, "GET /both", &headers).await;
        assert_eq!(answer.json()["reason"], expected);
    }
    // The path is denied whatever a request presents, and its credentials are not looked at.
    let denied = ask(server.address, "GET /denied", &[("access-token", "x.y.z"), ("access-token", "x.y.z")]).await;
    assert_eq!((denied.status, denied.json()["reason"].clone()), (403, json!("denied")));
}

#[tokio::test]
async fn shadow_lets_what_is_unmet_pass_without_a_permit() {
    let server = Server::new(ruled().shadow(true)).await;
    let token = server.old_token(json!({})).await;
    for (path, ..) in REFUSED {
        let answer = server.get(path, &token).await;
        assert_eq!((answer.status, &*answer.body), (200, "nobody"), "{path}");
    }
}

#[tokio::test]
async fn demands_are_checked_after_a_store_that_is_awaited() {
    let store = stores::rest().await;
    let server = Server::new(ruled().store(Arc::clone(&store.store)).cache(false)).await;
    let token = server.old_token(json!({ "roles": ["admin"] })).await;
    assert_eq!(server.get("/role", &token).await.status, 200);
    for (path, _, reason, ..) in REFUSED.into_iter().filter(|(path, ..)| *path != "/role") {
        assert_eq!(server.get(path, &token).await.json()["reason"], reason, "{path}");
    }
}

#[tokio::test]
async fn ticket_of_a_token_that_may_less_is_refused_and_not_spent() {
    let server = Server::new(ruled()).await;
    let token = server.token(json!({})).await;
    let headers = [("access-token", &*token), ("content-type", FORM), ("content-length", "11")];
    let issued = send(server.address, "POST /auth/ticket", &headers, "path=/plain").await;
    let ticket = issued.json()["ticket"].as_str().unwrap().to_owned();
    for (path, expected) in [
        ("/plain/admin", json!("missing_role")),
        ("/plain/denied", json!("denied")),
        ("/plain", Value::Null),
        ("/plain", json!("spent_ticket")),
    ] {
        let answer = ask(server.address, &format!("GET {path}?ticket={ticket}"), &[]).await;
        assert_eq!(answer.json()["reason"], expected, "{path}");
    }
}

#[tokio::test]
async fn rule_that_only_reports_is_logged_and_lets_pass() {
    let rules = [
        Rule::prefix("/r").public(),
        Rule::prefix("/r/role").access().roles_any(["admin"]).name("admins to be").report_only(true),
        Rule::prefix("/r/master").both().report_only(true),
        Rule::prefix("/r/deny").deny().methods(["POST"]).report_only(true),
        Rule::prefix("/r/optional").optional().report_only(true),
    ];
    let server = Server::new(ruled().rules(rules)).await;
    let (user, admin) = (server.token(json!({})).await, server.token(json!({ "roles": "admin" })).await);
    for (line, headers, reported) in [
        ("GET /r/role", vec![], "rule=\"admins to be\" outcome=\"would_be_refused\" reason=\"missing_access_token\""),
        ("GET /r/role", vec![("access-token", &*admin)], ""),
        ("GET /r/role", vec![("access-token", "x.y.z")], "reason=\"malformed_token\""),
        (
            "GET /r/master",
            vec![("access-token", &*admin)],
            "rule=\"/r/master\" outcome=\"would_be_refused\" reason=\"missing_master_token\"",
        ),
        ("GET /r/master", vec![("master-token", "no")], "reason=\"wrong_master_token\""),
        ("GET /r/master", vec![("master-token", MASTER), ("access-token", &admin)], ""),
        ("GET /r/deny", vec![], ""),
        ("POST /r/deny", vec![], "rule=\"POST /r/deny\" outcome=\"would_be_refused\" reason=\"denied\""),
        ("GET /r/optional", vec![], ""),
        ("GET /r/optional?ticket=x", vec![], ""),
        ("GET /r/optional", vec![("access-token", "x.y.z")], "reason=\"malformed_token\""),
        // The store is not asked, which has a newer one. The client of a token whose signature is valid is named.
        ("GET /r/role", vec![("access-token", &*user)], "reason=\"missing_role\" report_only=true client=\"alice\""),
    ] {
        log::capture();
        let answer = ask(server.address, line, &headers).await;
        assert_eq!((answer.status, &*answer.body), (200, "nobody"), "{line} {headers:?}");
        let logged = log::captured_of_server();
        assert_eq!(
            logged.contains("a rule that only reports would have refused"),
            !reported.is_empty(),
            "{line}: {logged}"
        );
        assert!(logged.contains(reported), "{line} {headers:?}: {logged}");
        assert!(!headers.iter().any(|(_, value)| logged.contains(value)), "{logged}");
    }
}

#[tokio::test]
async fn events_name_rules_by_their_names() {
    let rules = [
        Rule::prefix("/x").access().roles_any(["admin"]).methods(["GET", "PUT"]),
        Rule::prefix("/y").access().name("the y"),
    ];
    let server = Server::new(ruled().rules(rules)).await;
    let token = server.token(json!({})).await;
    for (path, expected) in [
        ("/x", "refused: the access token lacks a role method=GET list=\"rules\" rule=\"GET,PUT /x\" level=\"access\""),
        ("/y", "permitted method=GET list=\"rules\" rule=\"the y\" level=\"access\""),
        ("/z", "permitted method=GET list=\"none\" rule=\"default-level\" level=\"access\""),
    ] {
        log::capture();
        server.get(path, &token).await;
        let logged = log::captured_of_server();
        assert!(logged.contains(expected), "{path}: {logged}");
    }
}
