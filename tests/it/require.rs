//! Demands in code: layers on a route or a router, and claims in a type of the handler's.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use fastauth::{FastAuthLayer, Permit, Principal, Require, Rule, SettingsBuilder, config::ErrorShape, extract::Claims};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    app::{MASTER, serve, settings},
    demands::{Answer, ask},
    support::log,
};

#[derive(serde::Deserialize)]
struct Member {
    client_id: String,
    tenant: String,
}

async fn of_tenant(Claims(member): Claims<Member>) -> String {
    format!("{} of {}", member.client_id, member.tenant)
}

async fn of_tenant_if_any(member: Option<Claims<Member>>) -> String {
    member.map_or_else(|| "nobody".to_owned(), |Claims(member)| member.tenant)
}

async fn named(permit: Permit) -> String {
    permit.client_id().unwrap_or("the operator").to_owned()
}

fn demanded() -> SettingsBuilder {
    let rules = [
        Rule::prefix("/optional").optional(),
        Rule::prefix("/public").public(),
        Rule::prefix("/master").master(),
        Rule::prefix("/both").both(),
    ];
    let settings = settings().access_token_paths::<&str>([]).master_token_paths::<&str>([]);
    settings.rules(rules).service_claim([("principal", "service")])
}

struct Server {
    address: SocketAddr,
    layer: FastAuthLayer,
}

impl Server {
    async fn new(settings: SettingsBuilder) -> Self {
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let demands = [
            ("/roles-any", Require::roles_any(["admin", "owner"])),
            ("/roles-all", Require::roles_all(["admin", "owner"])),
            ("/scopes", Require::scopes(["read", "write"])),
            ("/scopes-any", Require::scopes_any(["read", "write"])),
            ("/services", Require::principal(Principal::Service)),
            ("/users", Require::principal(Principal::User)),
            ("/claims", Require::claim_equals([("tenant", "acme")])),
            ("/fresh", Require::max_age(Duration::from_secs(300))),
            ("/both", Require::master()),
            ("/both/role", Require::roles_any(["admin"])),
            ("/not-asked-for", Require::master()),
            ("/master/role", Require::roles_any(["admin"])),
            ("/public/role", Require::roles_any(["admin"])),
            ("/optional/role", Require::roles_any(["admin"])),
        ];
        let app = demands.into_iter().fold(Router::new(), |app, (path, demand)| {
            app.merge(Router::new().route(path, get(async || "passed")).route_layer(demand))
        });
        let app = app
            .route("/tenant", get(of_tenant))
            .route("/tenant/maybe", get(of_tenant_if_any))
            .route("/optional/tenant", get(of_tenant))
            .route("/optional/maybe", get(of_tenant_if_any))
            .route("/optional/name", get(named))
            .route("/public/tenant", get(of_tenant))
            .route("/master/tenant", get(of_tenant))
            .layer(layer.clone());
        Self { address: serve(app).await, layer }
    }

    async fn get(&self, path: &str, claims: Value) -> Answer {
        let issued = self.layer.issuer().issue_with("alice", claims).await.unwrap();
        let headers = [("access-token", issued.tokens.access_token.expose()), ("master-token", MASTER)];
        ask(self.address, &format!("GET {path}"), &headers).await
    }
}

#[tokio::test]
async fn layer_asks_for_what_a_rule_could_ask_for() {
    let server = Server::new(demanded()).await;
    for (path, good, bad, reason) in [
        ("/roles-any", json!({ "roles": "owner" }), json!({ "roles": ["reader"] }), "missing_role"),
        ("/roles-all", json!({ "roles": ["owner", "admin"] }), json!({ "roles": ["owner"] }), "missing_role"),
        ("/scopes", json!({ "scope": "write read" }), json!({ "scope": "write" }), "insufficient_scope"),
        ("/scopes-any", json!({ "scope": ["write"] }), json!({}), "insufficient_scope"),
        ("/services", json!({ "principal": "service" }), json!({}), "wrong_principal"),
        ("/users", json!({}), json!({ "principal": "service" }), "wrong_principal"),
        ("/claims", json!({ "tenant": "acme" }), json!({ "tenant": "other" }), "claim_mismatch"),
        ("/fresh", json!({}), json!({ "auth_time": 1 }), "stale_authentication"),
        ("/both/role", json!({ "roles": "admin" }), json!({}), "missing_role"),
    ] {
        let answer = server.get(path, good).await;
        assert_eq!((answer.status, &*answer.body), (200, "passed"), "{path}");
        let answer = server.get(path, bad).await;
        let status = if reason == "stale_authentication" { 401 } else { 403 };
        assert_eq!((answer.status, answer.json()["reason"].clone()), (status, json!(reason)), "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"demo\", error="), "{path}");
        assert_eq!(answer.header("cache-control"), "private, no-store", "{path}");
    }
    assert_eq!(server.get("/both", json!({})).await.status, 200);
    let scopes = server.get("/scopes", json!({})).await;
    assert!(scopes.header("www-authenticate").ends_with(r#"scope="read write""#));
}

#[tokio::test]
async fn layer_answers_in_the_form_of_the_guard() {
    let server = Server::new(demanded().error_shape(ErrorShape::Problem)).await;
    let answer = server.get("/roles-any", json!({})).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["reason"], "missing_role");

    let issued = server.layer.issuer().issue("alice").await.unwrap();
    let headers = [("access-token", issued.tokens.access_token.expose()), ("content-type", "application/grpc")];
    let grpc = ask(server.address, "POST /roles-any", &[headers[0], headers[1], ("content-length", "0")]).await;
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, "7"));
}

#[tokio::test]
async fn what_the_guard_did_not_look_at_is_a_fault_of_the_server() {
    log::capture();
    let server = Server::new(demanded()).await;
    for (path, logged) in [
        ("/public/role", "without a permit"),
        ("/not-asked-for", "does not need the master token"),
        ("/master/role", "needs the master token alone"),
        ("/public/tenant", "asks for a `Permit`"),
        ("/master/tenant", "needs the master token alone"),
    ] {
        log::capture();
        let answer = server.get(path, json!({ "roles": "admin", "tenant": "acme" })).await;
        assert_eq!(answer.status, 500, "{path}");
        let lines = log::captured_of_server();
        assert!(lines.contains("ERROR") && lines.contains(logged), "{path}: {lines}");
    }
    let without_test = Server::new(settings().access_token_paths(["/"])).await;
    for path in ["/users", "/services"] {
        assert_eq!(without_test.get(path, json!({})).await.status, 500, "{path}: nothing tells services from users");
    }
    // Around the guard instead of within it, and without any.
    let inner =
        service_fn(async |_: http::Request<()>| Ok::<_, std::convert::Infallible>(http::Response::new("passed")));
    let around = Require::roles_any(["admin"]).layer(server.layer.layer(inner));
    let bare = Require::roles_any(["admin"]).layer(inner);
    assert_eq!(bare.oneshot(http::Request::new(())).await.unwrap().status(), 500);
    assert_eq!(around.oneshot(http::Request::get("/public").body(()).unwrap()).await.unwrap().status(), 500);
}

#[tokio::test]
async fn missing_optional_token_is_401_if_a_route_needs_one() {
    let server = Server::new(demanded()).await;
    for (path, expected) in [
        ("/optional/role", (401, "missing_access_token")),
        ("/optional/name", (401, "missing_access_token")),
        ("/optional/tenant", (401, "missing_access_token")),
        ("/optional/maybe", (200, "nobody")),
    ] {
        let answer = ask(server.address, &format!("GET {path}"), &[]).await;
        let text = if answer.status == 200 {
            answer.body.clone()
        } else {
            answer.json()["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!((answer.status, &*text), expected, "{path}");
    }
    assert_eq!(server.get("/optional/role", json!({ "roles": "admin" })).await.status, 200);
    assert_eq!(server.get("/optional/role", json!({})).await.status, 403);
}

#[tokio::test]
async fn handler_takes_claims_in_a_type_of_its_own() {
    let server = Server::new(demanded()).await;
    let answer = server.get("/tenant", json!({ "tenant": "acme", "more": [1] })).await;
    assert_eq!((answer.status, &*answer.body), (200, "alice of acme"));
    assert_eq!(server.get("/tenant/maybe", json!({ "tenant": "acme" })).await.body, "acme");
    for (claims, logged) in [
        (json!({ "roles": "admin" }), "missing field `tenant`"),
        (json!({ "tenant": ["hush"] }), "a claim has another form"),
        (json!({ "tenant": 7 }), "a claim has another form"),
    ] {
        for path in ["/tenant", "/tenant/maybe"] {
            log::capture();
            let answer = server.get(path, claims.clone()).await;
            assert_eq!((answer.status, answer.json()["reason"].clone()), (403, json!("claim_mismatch")), "{claims}");
            let lines = log::captured_of_server();
            assert!(lines.contains(logged) && lines.contains("Member") && !lines.contains("hush"), "{lines}");
        }
    }
}

#[tokio::test]
async fn shadow_lets_pass_what_a_layer_would_refuse() {
    let server = Server::new(demanded().shadow(true)).await;
    for path in ["/roles-any", "/scopes", "/fresh"] {
        log::capture();
        let answer = server.get(path, json!({ "auth_time": 1 })).await;
        assert_eq!((answer.status, &*answer.body), (200, "passed"), "{path}");
        assert!(log::captured_of_server().contains("rule=\"in-code\" outcome=\"would_be_refused\""), "{path}");
        // And what the guard would refuse.
        assert_eq!(ask(server.address, &format!("GET {path}"), &[]).await.status, 200, "{path}");
    }
    // A handler that needs claims cannot run without them, and one that takes what there is runs.
    log::capture();
    let answer = server.get("/tenant/maybe", json!({ "tenant": 7 })).await;
    assert_eq!((answer.status, &*answer.body), (200, "nobody"));
    assert!(log::captured_of_server().contains("outcome=\"would_be_refused\" reason=\"claim_mismatch\""));
    assert_eq!(server.get("/tenant", json!({ "tenant": 7 })).await.json()["reason"], "claim_mismatch");
}
