//! The OpenAPI document of the endpoints, and what it says against what they do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{Router, body::Body};
use fastauth::{
    ClaimsRefusal, FastAuthLayer, Grant, SettingsBuilder,
    config::{RefreshTransport, ResponseShape},
};
use http::{Request, StatusCode};
use serde_json::{Map, Value};

use crate::app::{Endpoints, FORM, JSON, KEY, MASTER, Reply, app, body, get_request, layer, send, settings};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

fn with(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

async fn document(app: &Router, path: &str) -> Value {
    let response = send(app, get_request(path, &[])).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], JSON);
    body(response).await
}

/// The operations of a document by path and method.
fn operations(document: &Value) -> BTreeMap<(String, String), Value> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        let operations = item.as_object().unwrap().clone();
        let path = path.clone();
        operations.into_iter().map(move |(method, operation)| ((path.clone(), method.to_ascii_uppercase()), operation))
    };
    paths.iter().flat_map(of).collect()
}

#[tokio::test]
async fn document_is_beside_the_endpoints_wherever_they_are_mounted() {
    let router = || layer().router();
    for (name, path, app) in [
        ("nested", "/auth/openapi.json", Router::new().nest_service("/auth", router())),
        ("nested elsewhere", "/v1/login/openapi.json", Router::new().nest_service("/v1/login", router())),
        ("merged", "/auth/openapi.json", Router::new().merge(router())),
        ("with a prefix", "/v2/openapi.json", Router::new().fallback_service(router().prefix("/v2"))),
    ] {
        let document = document(&app, path).await;
        assert_eq!((&document["openapi"], &document["servers"][0]["url"]), (&"3.1.0".into(), &".".into()), "{name}");
        assert!(document["paths"]["/token/new"]["post"].is_object(), "{name}");
        let text = document.to_string();
        assert!(!text.contains(MASTER) && !text.contains(KEY), "{name}");
    }
}

#[tokio::test]
async fn document_is_open_to_any_page_and_read_only() {
    let app = app(with(settings().refresh_transport(RefreshTransport::Cookie)));
    let elsewhere = [("origin", "https://x.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(send(&app, get_request("/auth/openapi.json?x=1", &elsewhere)).await.status(), StatusCode::OK);
    let head = Request::head("/auth/openapi.json").body(Body::empty()).unwrap();
    let head = send(&app, head).await;
    assert!(head.status() == StatusCode::OK && head.headers()["content-length"] != "0");
    assert_eq!(body(head).await, Value::Null);
    let post = Request::post("/auth/openapi.json").body(Body::empty()).unwrap();
    let post = send(&app, post).await;
    assert_eq!(
        (post.status(), &post.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap())
    );
}

#[tokio::test]
async fn document_follows_the_configuration() {
    let document = async |settings: SettingsBuilder| document(&app(with(settings)), "/auth/openapi.json").await;
    let answers =
        |document: &Value, path: &str, status: &str| document["paths"][path]["post"]["responses"].get(status).is_some();
    let plain = document(settings()).await;
    assert_eq!(plain["info"]["title"], "demo: tokens");
    let schemes: Vec<_> = plain["components"]["securitySchemes"].as_object().unwrap().keys().collect();
    assert_eq!(schemes, ["AccessTokenHeader", "Bearer", "MasterTokenHeader"]);
    assert!(plain["paths"]["/token/new"]["get"].is_object() && answers(&plain, "/token/new", "422"));
    for status in ["403", "429", "default"] {
        assert!(!answers(&plain, "/token/refresh", status), "{status}");
    }

    let without_get = document(settings().allow_get(false)).await;
    assert!(without_get["paths"]["/token/new"].get("get").is_none());
    let oauth = document(settings().response_shape(ResponseShape::OAuth)).await;
    assert!(!answers(&oauth, "/token/new", "422"));
    assert!(oauth["components"]["schemas"].get("FastAuthIssued").is_none());
    let cookie = document(settings().refresh_transport(RefreshTransport::Cookie)).await;
    assert!(answers(&cookie, "/token/refresh", "403") && cookie["paths"]["/token/refresh"].get("get").is_none());
    assert_eq!(cookie["paths"]["/token/refresh"]["post"]["parameters"][0]["in"], "cookie");
    let refuse = async |_: Grant| Err(ClaimsRefusal::new(StatusCode::IM_A_TEAPOT, "no"));
    assert!(answers(&document(settings().claims_hook(refuse)).await, "/token/refresh", "default"));
    #[cfg(feature = "rate-limit")]
    assert!(answers(&document(settings().rate_limit_per_minute(1).rate_limit_burst(1)).await, "/token/refresh", "429"));
}

/// Requests of every kind get an answer that the document knows, and all answers that it knows come.
#[tokio::test]
async fn endpoints_answer_as_documented() {
    for (name, settings) in [
        ("as fastauth-api has it", settings()),
        ("as OAuth has it", settings().response_shape(ResponseShape::OAuth).allow_get(false)),
        ("with a cookie", settings().refresh_transport(RefreshTransport::Cookie)),
        (
            "refused by the application",
            settings().claims_hook(async |grant: Grant| {
                let refusal = ClaimsRefusal::new(StatusCode::IM_A_TEAPOT, "no");
                let is_locked = grant.is_refresh && grant.claims.contains_key("locked");
                if is_locked || grant.client_id == "mallory" { Err(refusal) } else { Ok(grant.claims) }
            }),
        ),
    ] {
        let layer = with(settings.refresh_grace(Duration::ZERO));
        let server = Endpoints::of(&layer).await;
        let document = server.send("GET", "/auth/openapi.json", &[], "").await.json();
        let operations = operations(&document);
        for (path, _) in operations.keys() {
            for method in
                METHODS.into_iter().filter(|method| !operations.contains_key(&(path.clone(), (*method).to_owned())))
            {
                let reply = server.send(method, &format!("/auth{path}"), &[("master-token", MASTER)], "").await;
                assert_eq!(reply.status, 405, "{name}: {method} {path}");
            }
        }
        for ((path, method), operation) in &operations {
            let mut seen = BTreeSet::new();
            for reply in ask_in_every_way(&server, &layer, method, &format!("/auth{path}")).await {
                let answer = documented(operation, &reply);
                assert!(answer.is_some(), "{name}: {method} {path}: {reply:?}");
                seen.extend(answer.map(|(status, answer)| {
                    holds_to(answer, &reply, &format!("{name}: {method} {path}"));
                    status
                }));
            }
            // What time, a store or a key in trouble brings, other tests see.
            let unseen = operation["responses"].as_object().unwrap().keys().filter(|status| !seen.contains(*status));
            let unseen: Vec<_> =
                unseen.filter(|status| !matches!(status.as_str(), "408" | "500" | "501" | "503")).collect();
            assert!(unseen.is_empty(), "{name}: {method} {path} never answers {unseen:?}");
        }
    }
}

fn documented<'a>(operation: &'a Value, reply: &Reply) -> Option<(String, &'a Value)> {
    let responses = operation["responses"].as_object().unwrap();
    let status = reply.status.to_string();
    let found = responses.get_key_value(&status).or_else(|| responses.get_key_value("default"));
    found.map(|(status, answer)| (status.clone(), answer))
}

/// The headers of an answer are there, but for those of some cases alone, and its body is JSON if it has any.
fn holds_to(answer: &Value, reply: &Reply, context: &str) {
    let headers = answer["headers"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let of_some = |name: &&str| match reply.status {
        400 => *name == "WWW-Authenticate",
        200 => *name == "Set-Cookie" && reply.text.starts_with("{\"revoked\""),
        _ => false,
    };
    for name in headers.filter(|name| !of_some(name)) {
        assert!(reply.headers.contains_key(name), "{context}: no {name} in {reply:?}");
    }
    assert_eq!(answer.get("content").is_some(), !reply.text.is_empty(), "{context}: {reply:?}");
    assert_eq!(reply.header("content-type"), JSON, "{context}");
}

async fn ask_in_every_way(server: &Endpoints, layer: &FastAuthLayer, method: &str, path: &str) -> Vec<Reply> {
    let master = ("master-token", MASTER);
    let (form, json) = (("content-type", FORM), ("content-type", JSON));
    let issued = layer.issuer().issue("alice").await.unwrap();
    let refresh_token = issued.tokens.refresh_token.expose();
    let good = format!("grant_type=refresh_token&refresh_token={refresh_token}&token={refresh_token}");
    let locked =
        layer.issuer().issue_with("locked", Map::from_iter([("locked".to_owned(), true.into())])).await.unwrap();
    let locked = format!("grant_type=refresh_token&refresh_token={}", locked.tokens.refresh_token.expose());
    let opens = layer.issuer().issue("bob").await.unwrap().tokens.access_token;
    let cookie = format!("__Host-fastauth-refresh={refresh_token}");
    let long = format!("token={}", "x".repeat(65 * 1024));
    let mut replies = Vec::new();
    for (headers, text) in [
        (vec![], ""),
        (vec![form], "client_id=mallory"),
        (vec![], "deep=perhaps"),
        (vec![master, form], "client_id=mallory"),
        (vec![master], ""),
        (vec![master, master], ""),
        (vec![("master-token", "wrong")], ""),
        (vec![("access-token", opens.expose())], ""),
        (vec![("access-token", opens.expose()), form], "expires_in=long"),
        (vec![form, master], "client_id=%00&all=no&grant_type=refresh_token"),
        (vec![form, master], "refresh_token=x&grant_type=refresh_token&token=x"),
        (vec![form, master, ("authorization", "Basic eDp5")], "grant_type=refresh_token&refresh_token=x"),
        (vec![json, master], "{"),
        (vec![json, master], r#"{"refresh_token":7}"#),
        (vec![("content-type", "text/plain"), master], "x"),
        (vec![form, master], &*long),
        (vec![form, master, ("sec-fetch-site", "cross-site")], "token=x"),
        (vec![master, ("cookie", &*cookie)], ""),
        (vec![form, master], &*locked),
        (vec![form, master], &*good),
    ] {
        let is_read = matches!(method, "GET" | "HEAD");
        let target = if is_read { format!("{path}?{}", &text[..text.len().min(4096)]) } else { path.to_owned() };
        replies.push(server.send(method, &target, &headers, if is_read { "" } else { text }).await);
    }
    replies.push(server.send(method, &format!("{path}?x=%zz"), &[master], "").await);
    replies
}
