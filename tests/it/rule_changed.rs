//! What a reload ends of what is open: what its rules would not let through any more, and nothing else.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    response::sse::{Event, Sse},
    routing::{any, get},
};
use fastauth::{EndReason, FastAuthLayer, Permit, Rule, Secret, Settings, SettingsBuilder, store::MemoryStore};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};

use crate::{
    app::{KEY, serve},
    permit::echo,
    websocket::{Socket, open},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
const OPS: &str = "the master token of operations";
const OTHER: &str = "the master token of somebody else";

/// Sends one event, and leaves the response open.
async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::iter([Ok(Event::default().data("at once"))]).chain(stream::pending()))
}

fn app(layer: &FastAuthLayer) -> Router {
    Router::new().route("/events", get(events)).fallback(any(echo)).layer(layer.clone())
}

/// The rules of the tests: `/api` for everyone with a token, `/ops` for the holders of a master token.
fn rules() -> [Rule; 3] {
    [Rule::prefix("/api").access(), Rule::prefix("/events").access(), Rule::prefix("/ops").master()]
}

fn settings(rules: impl IntoIterator<Item = Rule>) -> SettingsBuilder {
    Settings::builder()
        .cryptography_key(KEY)
        .master_tokens([("ops", OPS), ("other", OTHER)])
        .access_token_paths([""; 0])
        .rules(rules)
        .store(MemoryStore::new())
}

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// Whether a socket still sends back what it gets.
async fn is_open(socket: &mut Socket) -> bool {
    socket.send(tungstenite::Message::text("hello")).await.is_ok()
        && matches!(timeout(LONG, socket.next()).await.unwrap(), Some(Ok(tungstenite::Message::Text(_))))
}

async fn closed(mut socket: Socket) -> (CloseCode, String) {
    match timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap() {
        tungstenite::Message::Close(Some(frame)) => (frame.code, frame.reason.to_string()),
        other => panic!("{other:?}"),
    }
}

fn rule_changed() -> (CloseCode, String) {
    (CloseCode::Policy, EndReason::RuleChanged.to_string())
}

#[tokio::test]
async fn sockets_end_whose_rules_would_refuse_them() {
    let layer = layer(settings(rules()));
    let address = serve(app(&layer)).await;
    let issuer = layer.issuer();
    let admin = issuer.issue_with("admin", json!({ "roles": ["admin"] })).await.unwrap().tokens.access_token;
    let user = issuer.issue_with("user", json!({ "roles": ["reader"] })).await.unwrap().tokens.access_token;
    let socket = async |path: &str, headers: &[(&'static str, &str)]| {
        open(&format!("ws://{address}{path}"), headers).await.unwrap().0
    };
    let token = |token: &Secret| [("access-token", token.expose().to_owned())];
    let by = async |path: &str, secret: &Secret| {
        let [(name, value)] = token(secret);
        socket(path, &[(name, &value)]).await
    };
    let (mut admins, users) = (by("/api/a", &admin).await, by("/api/a", &user).await);
    let mut elsewhere = by("/api/b", &user).await;
    let (mut ops, other) =
        (socket("/ops", &[("master-token", OPS)]).await, socket("/ops", &[("master-token", OTHER)]).await);

    // A reload that changes nothing ends nothing.
    layer.reload_with(settings(rules()).build().unwrap()).unwrap();
    for socket in [&mut admins, &mut elsewhere, &mut ops] {
        assert!(is_open(socket).await);
    }
    // One rule more, and one master token less.
    let stricter = [Rule::prefix("/api/a").access().roles_any(["admin"])];
    let changed = settings(rules().into_iter().chain(stricter)).master_tokens([("operations", OPS)]);
    layer.reload_with(changed.build().unwrap()).unwrap();
    assert_eq!(closed(users).await, rule_changed());
    assert_eq!(closed(other).await, rule_changed());
    for socket in [&mut admins, &mut elsewhere, &mut ops] {
        assert!(is_open(socket).await);
    }
    // The path of the operators needs an access token, too; another one is closed to all, by a list.
    let rules = [Rule::prefix("/api").access(), Rule::prefix("/ops").both()];
    let changed = settings(rules).master_tokens([("ops", OPS)]).master_token_paths(["/api/b"]);
    layer.reload_with(changed.build().unwrap()).unwrap();
    assert_eq!(closed(ops).await, rule_changed());
    assert_eq!(closed(elsewhere).await, rule_changed());
    assert!(is_open(&mut admins).await);
    // Nobody may.
    let denied = settings([Rule::prefix("/api").deny()]);
    layer.reload_with(denied.shadow(true).build().unwrap()).unwrap();
    assert!(is_open(&mut admins).await, "`shadow` refuses nothing");
    layer.reload_with(settings([Rule::prefix("/api").deny()]).build().unwrap()).unwrap();
    assert_eq!(closed(admins).await, rule_changed());
}

#[tokio::test]
async fn sockets_end_with_the_key_of_their_token() {
    let layer = layer(settings(rules()));
    let address = serve(app(&layer)).await;
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    let mut socket = open(&format!("ws://{address}/api"), &[("access-token", token.expose())]).await.unwrap().0;
    let new = Secret::generate();
    let both = settings(rules()).cryptography_key(new.clone()).previous_cryptography_keys([KEY]);
    layer.reload_with(both.build().unwrap()).unwrap();
    assert!(is_open(&mut socket).await);
    layer.reload_with(settings(rules()).cryptography_key(new).build().unwrap()).unwrap();
    assert_eq!(closed(socket).await, rule_changed());
}

/// What is not read from the rules of the moment of the log-in does not end anything: time passes, and the rule is the same.
#[cfg(feature = "test-util")]
#[tokio::test]
async fn the_age_of_a_log_in_counts_as_it_did_at_the_start() {
    use fastauth::test_util::ManualClock;
    let clock = ManualClock::new();
    let aged = |minutes: u64| {
        let rule = Rule::prefix("/api").access().max_age(Duration::from_secs(minutes * 60));
        settings([rule]).clock(&clock)
    };
    let layer = layer(aged(5));
    let address = serve(app(&layer)).await;
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    clock.advance(Duration::from_secs(2 * 60));
    let mut socket = open(&format!("ws://{address}/api"), &[("access-token", token.expose())]).await.unwrap().0;
    clock.advance(Duration::from_secs(30 * 60));
    layer.reload_with(aged(5).build().unwrap()).unwrap();
    assert!(is_open(&mut socket).await, "the rule is what it was");
    layer.reload_with(aged(1).build().unwrap()).unwrap();
    assert_eq!(closed(socket).await, rule_changed());
}

#[tokio::test]
async fn event_streams_end_and_others_go_on() {
    let layer = layer(settings(rules()));
    let address = serve(app(&layer)).await;
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    let client = reqwest::Client::new();
    let request = client.get(format!("http://{address}/events")).header("access-token", token.expose());
    let mut events = request.send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    layer.reload_with(settings(rules()).build().unwrap()).unwrap();
    let more = timeout(Duration::from_millis(200), events.chunk()).await;
    assert!(more.is_err(), "it goes on: {more:?}");
    layer.reload_with(settings([Rule::prefix("/events").master()]).build().unwrap()).unwrap();
    assert!(timeout(LONG, events.chunk()).await.unwrap().unwrap().is_none());
}

/// A reload between the check and the first look at the end is not missed, and a layer that is gone ends nothing.
#[tokio::test]
async fn the_end_is_known_before_it_is_awaited() {
    use tower::{Layer, ServiceExt, service_fn};
    let layer = layer(settings(rules()));
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    let inner = service_fn(async |request: http::Request<()>| {
        let mut response = http::Response::new(String::new());
        response.extensions_mut().insert(request.extensions().get::<Permit>().unwrap().clone());
        Ok::<_, Infallible>(response)
    });
    let request = http::Request::get("/api").header("access-token", token.expose()).body(()).unwrap();
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let permit = response.extensions().get::<Permit>().unwrap().clone();
    layer.reload_with(settings([Rule::prefix("/api").deny()]).build().unwrap()).unwrap();
    assert_eq!(timeout(LONG, permit.ended()).await.unwrap(), EndReason::RuleChanged);
    assert_eq!(timeout(LONG, permit.session_ended()).await.unwrap(), EndReason::RuleChanged);
    drop(layer);
    let ended = timeout(Duration::from_millis(200), permit.ended()).await;
    assert!(ended.is_err(), "a layer that is gone ends nothing: {ended:?}");
}
