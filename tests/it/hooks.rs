//! What an application decides in code: a check after the rules, and the answer to refused requests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    routing::{any, post},
};
use fastauth::{
    AccessCheck, AccessFuture, AccessQuestion, FastAuthLayer, Permit, Refusal, Rejection, Require, Rule,
    SettingsBuilder, config::WebSocketRefusal,
};
use http::{Response, StatusCode, header::LOCATION};
use serde_json::json;

use crate::{
    app::{MASTER, serve, settings},
    demands::{Answer, ask, send},
    support::{log, stores},
    websocket::open,
};

/// Notes what it is asked, and decides by a header.
#[derive(Clone, Default)]
struct Check(Arc<Mutex<Vec<String>>>);

impl AccessCheck for Check {
    #[allow(clippy::panic, reason = "it is what is tested")]
    fn check<'a>(&'a self, question: AccessQuestion<'a>) -> AccessFuture<'a> {
        let client = question.claims.map_or("nobody", |claims| claims.client_id());
        let master = question.master_token.unwrap_or("none");
        let rule = question.rule.map_or("none", Rule::path);
        let has_permit = question.request.extensions.get::<Permit>().is_some();
        let line = format!("{} {client} {master} {rule} {has_permit}", question.request.uri);
        self.0.lock().unwrap().push(line);
        let wish = question.request.headers.get("wish").map_or("", |wish| wish.to_str().unwrap()).to_owned();
        if wish == "panic" {
            panic!("at once");
        }
        Box::pin(async move {
            tokio::task::yield_now().await;
            match &*wish {
                "" => Ok(()),
                "refuse" => Err(Refusal::new("nicht heute: 100 %")),
                "fail" => Err(Refusal::failed("the engine is away")),
                _ => panic!("later"),
            }
        })
    }
}

struct Server {
    address: SocketAddr,
    token: String,
}

impl Server {
    async fn new(settings: SettingsBuilder) -> Self {
        Self::of(&FastAuthLayer::new(settings.build().unwrap()).unwrap()).await
    }

    async fn of(layer: &FastAuthLayer) -> Self {
        let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token.expose().to_owned();
        let app = Router::new()
            .route("/{*path}", any(async |permit: Option<Permit>, body: String| format!("{} {body}", permit.is_some())))
            .route("/access/admin", post(async || "never").route_layer(Require::roles_any(["admin"])))
            .nest_service("/auth", layer.router())
            .layer(layer.clone());
        Self { address: serve(app).await, token }
    }

    async fn post(&self, path: &str, wish: &str) -> Answer {
        let headers =
            [("access-token", &*self.token), ("master-token", MASTER), ("wish", wish), ("content-length", "4")];
        send(self.address, &format!("POST {path}"), &headers, "body").await
    }
}

fn checked(check: &Check) -> SettingsBuilder {
    let rules =
        [Rule::prefix("/open").public(), Rule::prefix("/maybe").optional(), Rule::exact("/access/rule").access()];
    settings().rules(rules).access_check(check.clone())
}

#[tokio::test]
async fn new_settings_that_do_not_repeat_a_check_do_not_take_it_away() {
    let layer = FastAuthLayer::new(checked(&Check::default()).build().unwrap()).unwrap();
    let server = Server::of(&layer).await;
    assert_eq!(server.post("/access/x", "refuse").await.status, 403);
    layer.reload_with(settings().build().unwrap()).unwrap();
    assert_eq!(server.post("/access/x", "refuse").await.status, 403);
    assert_eq!(server.post("/access/x", "").await.status, 200);
}

#[tokio::test]
async fn application_is_asked_about_what_the_rules_permit() {
    let check = Check::default();
    let server = Server::new(checked(&check)).await;
    for (path, asked) in [
        ("/access/x?a=1", Some("/access/x?a=1 alice none none true")),
        ("/access/rule", Some("/access/rule alice none /access/rule true")),
        ("/master/x", Some("/master/x alice master-token none true")),
        ("/maybe", Some("/maybe alice none /maybe true")),
        ("/open", None),
    ] {
        let answer = server.post(path, "").await;
        let expected = if asked.is_some() { "true body" } else { "false body" };
        assert_eq!((answer.status, &*answer.body), (200, expected), "{path}: the body is not lost");
        assert_eq!(check.0.lock().unwrap().pop().as_deref(), asked, "{path}");
    }
    for path in ["/access/x", "/maybe"] {
        let headers = [("access-token", "x.y.z")];
        assert_eq!(ask(server.address, &format!("GET {path}"), &headers).await.status, 401);
        assert!(check.0.lock().unwrap().is_empty(), "it is not asked about what the rules refuse");
    }
    assert_eq!(ask(server.address, "GET /maybe", &[]).await.body, "false ");
    assert!(check.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn application_can_only_refuse() {
    for has_cache in [true, false] {
        let store = stores::rest().await;
        let check = Check::default();
        let server = Server::new(checked(&check).store(Arc::clone(&store.store)).cache(has_cache)).await;
        for (wish, status, reason, message) in [
            ("refuse", 403, "refused_by_check", "nicht heute: 100 %"),
            ("fail", 500, "check_failed", "The application could not check the request"),
            ("panic", 500, "check_failed", "The application could not check the request"),
            ("panic later", 500, "check_failed", "The application could not check the request"),
        ] {
            log::capture();
            let answer = server.post("/access/x", wish).await;
            let body = answer.json();
            assert_eq!((answer.status, body["reason"].as_str()), (status, Some(reason)), "{wish}");
            assert_eq!(body["message"], message, "{wish}");
            let logged = log::captured_of_server();
            assert!(logged.contains(reason) && logged.contains("client=\"alice\""), "{logged}");
            assert_eq!(logged.contains("the engine is away"), wish == "fail", "{logged}");
        }
    }
}

#[tokio::test]
async fn refusal_of_the_application_is_a_status_of_grpc() {
    let server = Server::new(checked(&Check::default())).await;
    let headers = [("access-token", &*server.token), ("wish", "refuse"), ("content-type", "application/grpc")];
    let answer =
        ask(server.address, "POST /access/x", &[headers[0], headers[1], headers[2], ("content-length", "0")]).await;
    assert_eq!((answer.header("grpc-status"), answer.header("grpc-message")), ("7", "nicht heute: 100 %25"));
}

#[tokio::test]
async fn shadow_lets_pass_what_the_application_refuses() {
    let server = Server::new(checked(&Check::default()).shadow(true)).await;
    for wish in ["refuse", "fail", "panic"] {
        assert_eq!(server.post("/access/x", wish).await.body, "false body", "{wish}");
    }
}

/// Sends browsers to the log-in, and says to others what it was told.
fn answered() -> SettingsBuilder {
    settings().on_reject(|rejection: Rejection<'_>| {
        let accept = rejection.request.headers.get("accept").map_or("", |accept| accept.to_str().unwrap());
        if accept == "text/html" {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::SEE_OTHER;
            let to = format!("/login?to={}", rejection.request.uri);
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
            return response;
        }
        let mut response = rejection.response;
        let told = format!("{} {}", rejection.reason.code(), rejection.client_id.unwrap_or("nobody"));
        response.headers_mut().insert("told", told.parse().unwrap());
        response
    })
}

#[tokio::test]
async fn application_answers_refused_requests() {
    let server = Server::new(answered()).await;
    let html = ("accept", "text/html");
    let answer = ask(server.address, "GET /access/x?ticket=no&a=1", &[html]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/login?to=/access/x?a=1"), "the ticket is taken out");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    let answer = ask(server.address, "GET /access/x", &[]).await;
    assert_eq!((answer.status, answer.header("told")), (401, "missing_access_token nobody"));
    assert_eq!(answer.json()["reason"], "missing_access_token", "the body is what it was");
    let head = ask(server.address, "HEAD /access/x", &[]).await;
    assert_eq!((head.status, head.header("told"), &*head.body), (401, "missing_access_token nobody", ""));
    let admin = server.post("/access/admin", "").await;
    assert_eq!((admin.status, admin.header("told")), (403, "missing_role alice"), "of a layer, too");

    // Not of those that pass, of the token endpoints and of gRPC.
    assert_eq!(server.post("/access/x", "").await.header("told"), "");
    assert_eq!(ask(server.address, "GET /auth/nothing", &[html]).await.status, 404);
    let grpc = [("content-type", "application/grpc"), html, ("content-length", "0")];
    let grpc = ask(server.address, "POST /access/x", &grpc).await;
    assert_eq!((grpc.status, grpc.header("grpc-status"), grpc.header("told")), (200, "16", ""));
}

#[tokio::test]
async fn sockets_are_closed_as_before() {
    let server = Server::new(answered().websocket_refusal(WebSocketRefusal::Close)).await;
    let url = format!("ws://{}/access/ws", server.address);
    let (_, response) = open(&url, &[("accept", "text/html")]).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("told")), (101, None));
}

#[tokio::test]
async fn hooks_see_what_a_store_that_is_awaited_says() {
    let store = stores::rest().await;
    let server = Server::new(answered().store(Arc::clone(&store.store)).cache(false)).await;
    let other = Server::new(answered()).await;
    let foreign = [("access-token", &*other.token)];
    let answer = ask(server.address, "GET /access/x", &foreign).await;
    assert_eq!(answer.header("told"), "not_current alice", "{}", json!(answer.head));
}
