//! The wire contract, as `tests/fixtures/transcript.json` states it: each request, the answer and the store's calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use fastauth::{FastAuthLayer, Settings};
use http::{HeaderMap, HeaderValue, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::app::{self, KEY, MASTER, body, get_request, send, serve};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const CLIENT: &str = "a b&c=é+/%2F";
const NOW: u64 = 4_000_000_000;

fn wire() -> Value {
    serde_json::from_str(include_str!("../fixtures/transcript.json")).unwrap()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// A REST store that notes what it is asked, and can be told to be in trouble.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    rows: HashMap<String, Value>,
    calls: Vec<Call>,
    trouble: bool,
}

#[derive(Clone)]
struct Call {
    method: String,
    target: String,
    headers: HeaderMap,
    body: Value,
}

impl Recorder {
    async fn answer(State(recorder): State<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let bytes: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let target = parts.uri.to_string();
        let mut recorded = recorder.0.lock().unwrap();
        recorded.calls.push(Call {
            method: parts.method.to_string(),
            target: target.clone(),
            headers: parts.headers,
            body: body.clone(),
        });
        if recorded.trouble {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        if parts.method == "POST" {
            recorded.rows.insert(target, body);
            return "saved".into_response();
        }
        match recorded.rows.get(&target) {
            Some(row) => axum::Json(row.clone()).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    fn clear(&self) {
        *self.0.lock().unwrap() = Recorded::default();
    }

    fn set_trouble(&self, trouble: bool) {
        self.0.lock().unwrap().trouble = trouble;
    }

    /// Puts a row in, as somebody else would.
    fn hold(&self, client_id: &str, access: Option<&str>, refresh: Option<&str>) {
        let row = json!({ "data": { "access_token": access, "refresh_token": refresh }, "more": 1 });
        self.0.lock().unwrap().rows.insert(format!("/mydb/data/token?client_id={}", encoded(client_id)), row);
    }
}

/// The application of the contract with its store, and tokens of every kind.
struct Scene {
    app: Router,
    store: Recorder,
}

impl Scene {
    async fn new() -> Self {
        let store = Recorder::default();
        let address = serve(Router::new().fallback(any(Recorder::answer)).with_state(store.clone())).await;
        let settings = Settings::builder()
            .app_name("demo")
            .database_api_url(format!("http://{address}/mydb/data/"))
            .master_token(MASTER)
            .cryptography_key(KEY)
            .headers([("X-Any", "value")])
            .master_token_paths(["/master", "/both"])
            .access_token_paths(["/access", "/both"]);
        Self { app: app::app(FastAuthLayer::new(settings.build().unwrap()).unwrap()), store }
    }

    /// Issues a pair over HTTP.
    async fn issue(&self, client_id: &str) -> (String, String) {
        let target = format!("/auth/token/new?client_id={}", encoded(client_id));
        let answer = body(send(&self.app, get_request(&target, &[("master-token", MASTER)])).await).await;
        let token = |name: &str| answer["data"][name].as_str().unwrap().to_owned();
        (token("access_token"), token("refresh_token"))
    }
}

/// The claims of a good token of this type, with `changes` made; a change to null takes the claim out.
fn claims(token_type: &str, changes: &Value) -> Value {
    let mut claims = json!({ "client_id": "c", "type": token_type, "iat": 1_767_225_600, "exp": NOW });
    let members: &mut Map<String, Value> = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    claims
}

fn token(algorithm: Algorithm, key: &str, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key.as_bytes()).unwrap()).unwrap()
}

fn ours(claims: &Value) -> String {
    token(Algorithm::HS256, KEY, claims)
}

/// A token as a placeholder of the contract describes it.
fn described(words: &str, token_type: &str) -> String {
    let good = claims(token_type, &json!({}));
    match words {
        "<empty>" => String::new(),
        "<garbage>" => "garbage".to_owned(),
        "<expired>" => ours(&claims(token_type, &json!({ "exp": 1_600_000_000 }))),
        "<of another key>" => token(Algorithm::HS256, "another key of thirty-two bytes..", &good),
        "<of another algorithm>" | "<of another algorithm, none among them>" => token(Algorithm::HS384, KEY, &good),
        "<changed>" => ours(&good).replacen("eyJ", "eyK", 2),
        "<not yet valid (nbf)>" => ours(&claims(token_type, &json!({ "nbf": NOW - 1 }))),
        words if words.contains("client_id missing or empty") => {
            ours(&claims(token_type, &json!({ "client_id": null })))
        }
        words if words.contains("without exp") => ours(&claims(token_type, &json!({ "exp": null }))),
        words if words.contains("client_id is no string") => ours(&claims(token_type, &json!({ "client_id": 42 }))),
        words if words.contains("missing, empty or no string") => {
            ours(&claims(token_type, &json!({ "client_id": ["c"] })))
        }
        words if words.contains("type is missing") => ours(&claims(token_type, &json!({ "type": null }))),
        words => ours(&claims(token_type, &json!({ "x": words }))),
    }
}

#[tokio::test]
async fn requests_are_answered_as_the_contract_says() {
    let scene = Scene::new().await;
    // POST is the further method that the contract leaves room for: tests of the router have it.
    for entry in wire()["http"].as_array().unwrap().iter().filter(|entry| entry["id"] != "new-post") {
        scene.store.clear();
        let (access, refresh) = scene.issue(CLIENT).await;
        let id = entry["id"].as_str().unwrap();
        prepare(&scene, id, &access);
        scene.store.take();

        let fill = |text: &str, token_type: &str| fill(text, token_type, &access, &refresh);
        let path = fill(entry["request"]["path"].as_str().unwrap(), "refresh");
        let path = if path.starts_with('<') { "/both".to_owned() } else { path };
        let mut request = get_request(&path, &[]);
        let method = entry["request"]["method"].as_str().unwrap();
        *request.method_mut() = if method == "<any>" { http::Method::DELETE } else { method.parse().unwrap() };
        for (name, value) in entry["request"]["headers"].as_object().unwrap_or(&Map::new()) {
            let value = HeaderValue::from_str(&fill(value.as_str().unwrap(), "access")).unwrap();
            request.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value);
        }
        let response = send(&scene.app, request).await;
        assert_answer(id, &entry["expect"], response, &fill).await;
        if let Some(expected) = entry["store"].as_array() {
            assert_calls(id, expected, &scene.store.take());
        }
    }
}

/// What the store is told before a request whose entry asks for something special of it.
fn prepare(scene: &Scene, id: &str, access: &str) {
    if id.starts_with("new-store") || id.ends_with("store-trouble") {
        scene.store.set_trouble(true);
    }
    match id {
        "refresh-superseded" => scene.store.hold("c", Some("a"), Some("another")),
        "access-superseded" => scene.store.hold("c", Some(access), None),
        "access-refresh-token" => {
            let refresh = described("current", "refresh");
            scene.store.hold("c", Some(&refresh), Some(&refresh));
        }
        "access-no-type" => scene.store.hold("c", Some(&described("<type is missing>", "access")), None),
        "access-no-exp" => scene.store.hold("c", Some(&described("<without exp>", "access")), None),
        _ => {}
    }
}

fn fill(text: &str, token_type: &str, access: &str, refresh: &str) -> String {
    let known = [
        ("${CLIENT percent-encoded}", encoded(CLIENT)),
        ("${CLIENT}", CLIENT.to_owned()),
        ("${MASTER}", MASTER.to_owned()),
        ("${ACCESS of CLIENT}", access.to_owned()),
        ("${ACCESS}", access.to_owned()),
        ("${REFRESH of CLIENT}", refresh.to_owned()),
        ("${REFRESH}", if token_type == "access" { described("current", "refresh") } else { refresh.to_owned() }),
    ];
    let text = known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    match text.find('<') {
        Some(at) if !text.starts_with("<a path") && !text.starts_with("<any") && !text.starts_with("<jwt") => {
            format!("{}{}", &text[..at], described(&text[at..], token_type))
        }
        _ => text,
    }
}

async fn assert_answer(
    id: &str,
    expect: &Value,
    response: http::Response<axum::body::Body>,
    fill: &impl Fn(&str, &str) -> String,
) {
    let status = json!(response.status().as_u16());
    let statuses = expect["status"].as_array().cloned().unwrap_or_else(|| vec![expect["status"].clone()]);
    assert!(statuses.contains(&status), "{id}: {status}");
    for (name, value) in expect["headers"].as_object().unwrap_or(&Map::new()) {
        let found = response.headers().get(name).unwrap_or_else(|| panic!("{id}: no {name}")).to_str().unwrap();
        let value = value.as_str().unwrap();
        let is_named = name == "allow" && found.split(", ").any(|method| method == value);
        assert!(value.starts_with('<') || value == found || is_named, "{id}: {name}: {found}");
    }
    // The answer to HEAD has none.
    if let Some(expected) = expect.get("body").filter(|_| id != "new-head") {
        assert_json(id, expected, &body(response).await, &status, fill);
    }
}

/// What answers have beside the members of the contract, which no client of the original looks at.
const ADDED: [&str; 6] = ["status", "code", "reason", "message", "detail", "expires_in"];

/// Compares with placeholders: `<any>` and the like stand for any text, `...` for members that are free.
fn assert_json(id: &str, expected: &Value, found: &Value, status: &Value, fill: &impl Fn(&str, &str) -> String) {
    match expected {
        Value::Object(members) => {
            let found = found.as_object().unwrap_or_else(|| panic!("{id}: {found}"));
            let named = members.keys().filter(|name| *name != "...").count();
            let more = found.keys().filter(|name| !members.contains_key(*name) && !ADDED.contains(&name.as_str()));
            assert!(members.contains_key("...") || named <= found.len() && more.count() == 0, "{id}: {found:?}");
            for (name, member) in members.iter().filter(|(name, _)| *name != "...") {
                // Without `client_id` it is a random one.
                if name == "client_id" && id == "new-random" {
                    assert!(found[name].is_string());
                } else {
                    assert_json(id, member, &found[name], status, fill);
                }
            }
        }
        Value::String(text) if text == "<the status>" => assert_eq!(found, status, "{id}"),
        Value::String(text) if text.starts_with("<begins with: ") => {
            let start = text["<begins with: ".len()..].trim_end_matches('>');
            assert!(found.as_str().unwrap().starts_with(start), "{id}: {found}");
        }
        Value::String(text) if text.starts_with('<') => assert!(found.is_string(), "{id}: {found}"),
        // The entries that issue for a client of their own name it in the path.
        Value::String(text) if text == "${CLIENT}" && id.starts_with("new-store") => assert_eq!(found, "c"),
        Value::String(text) => assert_eq!(found, &json!(fill(text, "access")), "{id}"),
        other => assert_eq!(found, other, "{id}"),
    }
}

/// The calls are those that are listed, in their order, with the configured headers and nothing of the caller's.
fn assert_calls(id: &str, expected: &[Value], found: &[Call]) {
    // Words instead of calls describe the store's trouble.
    if expected.iter().any(Value::is_string) {
        return;
    }
    let methods = |calls: &[Call]| calls.iter().map(|call| call.method.clone()).collect::<Vec<_>>();
    let wanted: Vec<_> = expected.iter().map(|call| call["method"].as_str().unwrap().to_owned()).collect();
    assert_eq!(methods(found), wanted, "{id}");
    for call in found {
        let own = format!("/mydb/data/token?client_id={}", encoded(CLIENT));
        assert!(call.target == own || !id.contains("client") || id.contains("unknown"), "{id}: {}", call.target);
        assert_eq!(call.headers["x-any"], "value", "{id}");
        assert!(!call.headers.contains_key("master-token") && !call.headers.contains_key("access-token"), "{id}");
        if call.method == "POST" {
            assert_eq!(call.headers["content-type"], "application/json", "{id}");
            assert_eq!(call.body.as_object().unwrap().len(), 1, "{id}");
            assert_eq!(call.body["data"].as_object().unwrap().len(), 2, "{id}");
        }
    }
}

#[tokio::test]
async fn client_ids_reach_the_store_as_the_contract_encodes_them() {
    let scene = Scene::new().await;
    for case in wire()["store"]["encoding"].as_array().unwrap() {
        scene.store.take();
        scene.issue(case["client_id"].as_str().unwrap()).await;
        let target = case["target"].as_str().unwrap().replace("${BASE}", "/mydb/data");
        assert_eq!(scene.store.take()[0].target, target);
    }
}

/// What somebody else does to the store holds for the next request.
#[tokio::test]
async fn the_store_has_the_last_word() {
    let scene = Scene::new().await;
    let (access, refresh) = scene.issue("c").await;
    let ask = async || send(&scene.app, get_request("/access/health", &[("access-token", &access)])).await.status();
    assert_eq!(ask().await, StatusCode::OK);
    scene.store.hold("c", Some("another"), Some(&refresh));
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
    scene.store.hold("c", None, None);
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
    scene.store.hold("c", Some(&access), None);
    assert_eq!(ask().await, StatusCode::OK);
    scene.store.set_trouble(true);
    assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
    scene.store.set_trouble(false);
    assert_eq!(ask().await, StatusCode::OK);
}
