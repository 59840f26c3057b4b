//! What an application's OpenAPI document says of the guard.

use std::time::Duration;

use axum::Router;
use fastauth::{FastAuthLayer, Level, Rule, SettingsBuilder};
use serde_json::{Map, Value, json};
use utoipa::{Modify, openapi::OpenApi};

use crate::app::{app, body, get_request, layer, send, settings};

fn of(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// A document of these paths, each with a GET that says what is given of it.
fn document(paths: &[(&str, Value)], more: &Value) -> OpenApi {
    let item = |(path, operation): &(&str, Value)| {
        let mut operation = operation.clone();
        let answers = operation["responses"].take();
        operation["responses"] = if answers.is_null() { json!({ "200": { "description": "well" } }) } else { answers };
        ((*path).to_owned(), json!({ "get": operation }))
    };
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "t", "version": "1" },
        "paths": paths.iter().map(item).collect::<Map<_, _>>(),
    });
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

fn modified(modifier: &impl Modify, mut document: OpenApi) -> Value {
    modifier.modify(&mut document);
    serde_json::to_value(document).unwrap()
}

/// What is said of the security of the one operation of a document.
fn security(modifier: &impl Modify, path: &str, operation: Value, more: &Value) -> Value {
    modified(modifier, document(&[(path, operation)], more))["paths"][path]["get"]["security"].clone()
}

fn access() -> Value {
    json!([{ "AccessTokenHeader": [] }, { "Bearer": [] }])
}

fn master() -> Value {
    json!([{ "MasterTokenHeader": [] }])
}

fn both() -> Value {
    json!([{ "AccessTokenHeader": [], "MasterTokenHeader": [] }, { "Bearer": [], "MasterTokenHeader": [] }])
}

#[test]
fn each_operation_asks_for_what_its_path_asks_for() {
    let auth = of(settings()
        .access_token_paths(["/access", "/items/admin", "/master/both", "/api/inner"])
        .public_paths(["/access/open"]));
    let optional = json!([{}, { "AccessTokenHeader": [] }, { "Bearer": [] }]);
    for (path, expected) in [
        ("/health", Value::Null),
        ("/access/health", access()),
        ("/access/{id}/x", optional.clone()),
        ("/access/x/{id}", access()),
        ("/access/open", Value::Null),
        ("/accessible", access()),
        ("/master/health", master()),
        ("/master/both/{id}", both()),
        ("/items/{id}", optional),
        ("/items/all", Value::Null),
    ] {
        assert_eq!(security(&auth.openapi(), path, json!({}), &json!({})), expected, "{path}");
    }
}

#[test]
fn paths_are_those_of_the_servers() {
    let auth = of(settings().access_token_paths(["/api/inner", "/api/v1/inner"]));
    let servers = |urls: &[&str]| json!({ "servers": urls.iter().map(|url| json!({ "url": url })).collect::<Value>() });
    for (name, urls, expected) in [
        ("none", &[][..], Value::Null),
        ("a path", &["/api"], access()),
        ("with a slash", &["/api/"], access()),
        ("a URL", &["https://example.com/api?x"], access()),
        ("another", &["https://example.com"], Value::Null),
        ("where the document lies", &["."], Value::Null),
        ("one of two", &["/", "/api"], json!([{}, { "AccessTokenHeader": [] }, { "Bearer": [] }])),
        ("a variable", &["/api/{version}"], json!([{}, { "AccessTokenHeader": [] }, { "Bearer": [] }])),
    ] {
        assert_eq!(security(&auth.openapi(), "/inner", json!({}), &servers(urls)), expected, "{name}");
    }
    assert_eq!(security(&auth.openapi(), "/api/inner", json!({}), &servers(&[])), access());
    let of_operation = json!({ "servers": [{ "url": "/api" }] });
    assert_eq!(security(&auth.openapi(), "/inner", of_operation, &servers(&["/"])), access());
    let told = |base: &str, urls| security(&auth.openapi().base_path(base), "/inner", json!({}), &servers(urls));
    assert_eq!((told("/api/", &["/"]), told("", &["/api"])), (access(), Value::Null));
}

#[test]
fn what_is_asked_for_otherwise_is_still_asked_for() {
    let auth = layer().openapi();
    let (own, ours) = (json!([{ "Key": [] }]), json!([{ "Bearer": [] }]));
    let of_all = |security: &Value| json!({ "security": security });
    for (name, path, operation, document, expected) in [
        (
            "its own",
            "/access/x",
            of_all(&own),
            json!({}),
            json!([{ "AccessTokenHeader": [], "Key": [] }, { "Bearer": [], "Key": [] }]),
        ),
        (
            "its scopes",
            "/master/x",
            json!({ "security": [{ "Key": ["a"] }] }),
            json!({}),
            json!([{ "Key": ["a"], "MasterTokenHeader": [] }]),
        ),
        ("everyone's", "/master/x", json!({}), of_all(&own), json!([{ "Key": [], "MasterTokenHeader": [] }])),
        ("everyone's, where it is open", "/health", json!({}), of_all(&own), Value::Null),
        ("ours for everyone", "/master/x", json!({}), of_all(&ours), master()),
        ("ours for everyone, where it is open", "/health", json!({}), of_all(&ours), json!([])),
        ("both for everyone", "/health", json!({}), json!({ "security": [{ "Key": [], "Bearer": [] }] }), own.clone()),
        ("ours by itself", "/health", of_all(&ours), json!({}), ours.clone()),
        ("nothing by itself", "/access/x", of_all(&json!([])), of_all(&own), access()),
        ("said before", "/access/x", of_all(&access()), json!({}), access()),
        ("one header alone", "/access/x", of_all(&ours), json!({}), ours.clone()),
    ] {
        assert_eq!(security(&auth, path, operation, &document), expected, "{name}");
    }
}

#[test]
fn the_answers_of_the_guard_are_added() {
    let own = json!({ "responses": { "401": { "description": "mine" }, "200": { "description": "well" } } });
    let paths = [("/access/x", json!({})), ("/master/x", json!({})), ("/health", json!({})), ("/access/own", own)];
    let document = modified(&layer().openapi(), document(&paths, &json!({})));
    let statuses = |path: &str| {
        let answers = document["paths"][path]["get"]["responses"].as_object().unwrap();
        answers.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(statuses("/access/x"), "200 400 401 503");
    assert_eq!(statuses("/master/x"), "200 400 401");
    assert_eq!(statuses("/health"), "200");
    assert_eq!(document["paths"]["/access/own"]["get"]["responses"]["401"]["description"], "mine");
    let answer = document["paths"]["/access/x"]["get"]["responses"]["401"]["$ref"].as_str().unwrap();
    let answer = document.pointer(answer.trim_start_matches('#')).unwrap();
    let schema = answer["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    assert!(document.pointer(schema.trim_start_matches('#')).unwrap().is_object());
    let components = document["components"].as_object().unwrap();
    assert_eq!(components["schemas"].as_object().unwrap().len(), 1, "those of the endpoints are not wanted");
    assert_eq!(components["securitySchemes"].as_object().unwrap().len(), 3);
    assert!(document.get("servers").is_none() && document.get("tags").is_none());
}

#[test]
fn rules_are_said_by_method_with_roles_and_scopes() {
    let auth = of(settings().access_token_paths(["/access"]).rules([
        Rule::prefix("/").public(),
        Rule::prefix("/items").methods(["GET"]).optional(),
        Rule::prefix("/items").methods(["POST"]).access().roles_any(["editor", "owner"]).scopes(["write"]),
        Rule::prefix("/items").methods(["DELETE"]).deny(),
        Rule::prefix("/items/{id:uuid}/lock").access().roles_all(["a", "b"]),
        Rule::prefix("/both").both().scopes(["sync"]),
        Rule::prefix("/fresh").access().max_age(Duration::from_secs(60)),
        Rule::prefix("/any").access().scopes_any(["1", "2", "3"]).roles_any(["4", "5", "6"]),
        Rule::prefix("/access/x").access().roles_any(["r"]),
    ]));
    let with = |names: &[&str]| json!([{ "AccessTokenHeader": names }, { "Bearer": names }]);
    let editors = [&["write", "editor"], &["write", "owner"]];
    let editors =
        ["AccessTokenHeader", "Bearer"].map(|scheme| editors.map(|names| json!({ scheme: names }))).concat().into();
    for (method, path, expected, statuses) in [
        ("get", "/other", Value::Null, "200"),
        ("get", "/items", json!([{}, { "AccessTokenHeader": [] }, { "Bearer": [] }]), "200 400 401 503"),
        ("head", "/items", json!([{}, { "AccessTokenHeader": [] }, { "Bearer": [] }]), "200 400 401 503"),
        ("post", "/items", editors, "200 400 401 403 503"),
        ("delete", "/items", Value::Null, "200 400 403"),
        ("put", "/items", Value::Null, "200"),
        ("put", "/items/{id:uuid}/lock", with(&["a", "b"]), "200 400 401 403 503"),
        (
            "put",
            "/items/{id}/lock",
            json!([{}, { "AccessTokenHeader": ["a", "b"] }, { "Bearer": ["a", "b"] }]),
            "200 400 401 403 503",
        ),
        (
            "get",
            "/both",
            json!([
                { "AccessTokenHeader": ["sync"], "MasterTokenHeader": [] },
                { "Bearer": ["sync"], "MasterTokenHeader": [] },
            ]),
            "200 400 401 403 503",
        ),
        ("get", "/fresh", with(&[]), "200 400 401 403 503"),
        // Nine alternatives for each header are too many.
        (
            "get",
            "/any",
            ["AccessTokenHeader", "Bearer"]
                .map(|scheme| ["1", "2", "3"].map(|name| json!({ scheme: [name] })))
                .concat()
                .into(),
            "200 400 401 403 503",
        ),
        // What the list asks is asked as well.
        ("get", "/access/x", with(&["r"]), "200 400 401 403 503"),
    ] {
        let operation = json!({ "responses": { "200": { "description": "well" } } });
        let document = json!({
            "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "paths": { path: { method: operation } },
        });
        let operation = &modified(&auth.openapi(), serde_json::from_value(document).unwrap())["paths"][path][method];
        assert_eq!(operation["security"], expected, "{method} {path}");
        let answers = operation["responses"].as_object().unwrap();
        assert_eq!(answers.keys().map(String::as_str).collect::<Vec<_>>().join(" "), statuses, "{method} {path}");
    }
    let own = json!({ "security": [{ "Bearer": [] }] });
    let expected = json!([{ "Bearer": ["a", "b"] }]);
    assert_eq!(security(&auth.openapi(), "/items/{id:uuid}/lock", own, &json!({})), expected, "roles are added");
}

/// As `fastauth routes` has it.
#[test]
fn values_have_their_types_and_are_not_other_paths() {
    let auth = of(settings().default_level(Level::Access).rules([
        Rule::exact("/hooks/{id:uuid}").methods(["POST"]).public(),
        Rule::prefix("/users").access().roles_any(["admin"]),
        Rule::exact("/users/me").access(),
    ]));
    let id = |schema: Value| json!([{ "name": "id", "in": "path", "required": true, "schema": schema }]);
    let responses = json!({ "200": { "description": "well" } });
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "t", "version": "1" },
        "paths": {
            "/hooks/{id}": { "post": {
                "parameters": id(json!({ "type": "string", "format": "uuid" })), "responses": responses,
            } },
            "/users/{id}": { "get": { "parameters": id(json!({ "type": "string" })), "responses": responses } },
            "/users/me": { "get": { "responses": responses } },
        },
    });
    let written = modified(&auth.openapi(), serde_json::from_value(document).unwrap());
    let hook = &written["paths"]["/hooks/{id}"]["post"];
    assert_eq!((&hook["security"], &hook["responses"]["401"]), (&Value::Null, &Value::Null));
    let admin = json!([{ "AccessTokenHeader": ["admin"] }, { "Bearer": ["admin"] }]);
    assert_eq!(written["paths"]["/users/{id}"]["get"]["security"], admin);
    assert_eq!(written["paths"]["/users/me"]["get"]["security"], access());
}

#[cfg(feature = "rate-limit")]
#[test]
fn master_paths_may_answer_429_if_wrong_tokens_are_limited() {
    for (name, settings, expected) in [
        ("no limits", settings(), false),
        ("limits on clients alone", settings().rate_limit_per_minute(1).rate_limit_burst(1), false),
        (
            "limits on callers",
            settings().rate_limit_per_minute(1).rate_limit_burst(1).rate_limit_key(|_| Some(0)),
            true,
        ),
    ] {
        let paths = [("/access/x", json!({})), ("/master/x", json!({}))];
        let document = modified(&of(settings).openapi(), document(&paths, &json!({})));
        let answers = |path: &str| document["paths"][path]["get"]["responses"]["429"].is_object();
        assert_eq!((answers("/master/x"), answers("/access/x")), (expected, false), "{name}");
    }
}

#[test]
fn twice_is_as_good_as_once() {
    let auth = of(settings().access_token_paths(["/access", "/auth/token/refresh"]));
    let modifier = auth.openapi().endpoints("/auth");
    let paths = [("/access/x", json!({})), ("/{any}", json!({})), ("/health", json!({}))];
    let once = modified(&modifier, document(&paths, &json!({ "security": [{ "Bearer": [] }] })));
    let twice = modified(&modifier, serde_json::from_value(once.clone()).unwrap());
    assert!(once == twice, "{once:#}\n{twice:#}");
}

#[test]
fn the_endpoints_stand_where_they_are_mounted() {
    let auth = of(settings().access_token_paths(["/access", "/v1/auth/token/refresh"]));
    let document = modified(&auth.openapi().endpoints("/v1/auth/"), document(&[("/health", json!({}))], &json!({})));
    let security = |path: &str| document["paths"][path]["post"]["security"].clone();
    assert_eq!(security("/v1/auth/token/new"), master());
    assert_eq!(security("/v1/auth/token/revoke"), json!([{}, { "MasterTokenHeader": [] }]));
    // It lies below a guarded path.
    assert_eq!(security("/v1/auth/token/refresh"), access());
    assert!(document["paths"]["/health"]["get"].is_object() && document.get("servers").is_none());
    assert!(document["components"]["schemas"]["FastAuthIssued"].is_object());
}

/// The document says of a path what a request to it is told.
#[tokio::test]
async fn requests_are_refused_where_it_says_so() {
    let auth = layer();
    let paths = ["/health", "/access/health", "/master/health", "/accessible", "/nothing"];
    let document = modified(&auth.openapi(), document(&paths.map(|path| (path, json!({}))), &json!({})));
    let app: Router = app(auth);
    for path in paths {
        let response = send(&app, get_request(path, &[])).await;
        let asks = document["paths"][path]["get"].get("security").is_some();
        assert_eq!(response.status() == 401, asks, "{path}");
        if asks {
            assert!(body(response).await["detail"].is_string(), "{path}");
        }
    }
}
