//! Handlers that log users in and out: they answer as the endpoints do.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, SET_COOKIE},
    },
    response::{IntoResponse, Redirect, Result},
    routing::{get, post},
};
use bytes::Bytes;
use fastauth::{
    Claims, FastAuthLayer, IssueError, IssueErrorKind, IssuedTokens, LoggedOut, Permit, SettingsBuilder,
    config::{RefreshTransport, ResponseShape},
};
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::{MASTER, body, send, settings};

#[derive(Deserialize)]
struct LogIn {
    user: String,
    password: String,
}

async fn log_in(State(auth): State<FastAuthLayer>, Json(form): Json<LogIn>) -> Result<IssuedTokens> {
    if form.password != "open sesame" {
        return Err(StatusCode::UNAUTHORIZED.into());
    }
    Ok(auth.issuer().issue_with(&form.user, json!({ "roles": ["reader"], "scope": "notes" })).await?)
}

async fn log_out(State(auth): State<FastAuthLayer>, permit: Permit) -> Result<LoggedOut, IssueError> {
    auth.issuer().log_out(&permit).await
}

async fn roles(permit: Permit) -> String {
    permit.claims().into_iter().flat_map(Claims::roles).collect()
}

fn app(layer: &FastAuthLayer) -> Router {
    Router::new()
        .route("/log-in", post(log_in))
        .route("/access/log-out", post(log_out))
        .route("/access/roles", get(roles))
        .with_state(layer.clone())
        .nest_service("/auth", layer.router())
        .layer(layer.clone())
}

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn log_in_request(user: &str, password: &str) -> Request {
    let form = json!({ "user": user, "password": password }).to_string();
    Request::post("/log-in").header(CONTENT_TYPE, "application/json").body(Body::from(form)).unwrap()
}

fn issue_request(client_id: &str, master: &str) -> Request {
    let form = json!({ "client_id": client_id }).to_string();
    let request = Request::post("/auth/token/new").header("MASTER-TOKEN", master);
    request.header(CONTENT_TYPE, "application/json").body(Body::from(form)).unwrap()
}

fn guarded_request(method: &str, path: &str, token: &str) -> Request {
    Request::builder().method(method).uri(path).header("ACCESS-TOKEN", token).body(Body::empty()).unwrap()
}

/// The headers that both answers must have, with the value of the cookie and of the length hidden.
fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = headers.iter().filter(|(name, _)| *name != "content-length" && *name != "retry-after");
    let mut shown: Vec<_> = shown
        .map(|(name, value)| {
            let value = value.to_str().unwrap();
            let value = if name == SET_COOKIE { value.split_once(';').unwrap().1 } else { value };
            (name.to_string(), value.to_owned())
        })
        .collect();
    shown.sort();
    shown
}

/// The same names in the same places, whatever the tokens are.
fn names(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), names(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::String(text) if text.len() > 100 => "a token".into(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn handler_answers_as_the_endpoint_does() {
    for shape in [ResponseShape::Envelope, ResponseShape::OAuth] {
        for transport in [RefreshTransport::Body, RefreshTransport::Cookie] {
            let layer = layer(settings().response_shape(shape).refresh_transport(transport));
            let app = app(&layer);
            let by_handler = send(&app, log_in_request("alice", "open sesame")).await;
            let by_endpoint = send(&app, issue_request("alice", MASTER)).await;
            assert_eq!((by_handler.status(), by_endpoint.status()), (StatusCode::OK, StatusCode::OK));
            assert_eq!(headers(by_handler.headers()), headers(by_endpoint.headers()), "{shape:?} {transport:?}");
            assert_eq!(by_handler.headers()[CACHE_CONTROL], "no-store");
            assert_eq!(by_handler.headers().contains_key(SET_COOKIE), transport == RefreshTransport::Cookie);
            assert_eq!(by_handler.headers().contains_key(PRAGMA), shape == ResponseShape::OAuth);
            let mut by_handler = names(&body(by_handler).await);
            if shape == ResponseShape::OAuth {
                assert_eq!(by_handler.as_object_mut().unwrap().remove("scope"), Some("notes".into()));
            }
            assert_eq!(by_handler, names(&body(by_endpoint).await), "{shape:?} {transport:?}");
        }
    }
}

#[tokio::test]
async fn session_goes_from_log_in_to_log_out() {
    let layer = layer(settings().refresh_transport(RefreshTransport::Cookie));
    let app = app(&layer);
    assert_eq!(send(&app, log_in_request("alice", "guess")).await.status(), StatusCode::UNAUTHORIZED);

    let response = send(&app, log_in_request("alice", "open sesame")).await;
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap().split_once(';').unwrap().0.to_owned();
    let token = body(response).await["data"]["access_token"].as_str().unwrap().to_owned();
    let roles = send(&app, guarded_request("GET", "/access/roles", &token)).await;
    assert_eq!(axum::body::to_bytes(roles.into_body(), 100).await.unwrap(), "reader");

    let refresh = || Request::post("/auth/token/refresh").header("cookie", &cookie).body(Body::empty()).unwrap();
    let response = send(&app, refresh()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let token = body(response).await["data"]["access_token"].as_str().unwrap().to_owned();

    let response = send(&app, guarded_request("POST", "/access/log-out", &token)).await;
    assert_eq!((response.status(), &response.headers()[CACHE_CONTROL]), (StatusCode::OK, &"no-store".parse().unwrap()));
    let removed = response.headers()[SET_COOKIE].to_str().unwrap();
    assert!(removed.starts_with("__Host-fastauth-refresh=;") && removed.ends_with("Max-Age=0"), "{removed}");
    assert_eq!(body(response).await, json!({}));
    let after = send(&app, guarded_request("GET", "/access/roles", &token)).await;
    assert_eq!(after.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(&app, refresh()).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn log_out_revokes_once_and_without_a_session_nothing() {
    let layer = layer(settings().master_token_paths(["/master"]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = {
        let seen = Arc::clone(&seen);
        async move |permit: Permit| seen.lock().unwrap().push(permit)
    };
    let app = Router::new().route("/access/a", get(keep.clone())).route("/master/a", get(keep)).layer(layer.clone());
    let issued = layer.issuer().issue("alice").await.unwrap();
    send(&app, guarded_request("GET", "/access/a", issued.tokens.access_token.expose())).await;
    send(&app, Request::get("/master/a").header("MASTER-TOKEN", MASTER).body(Body::empty()).unwrap()).await;
    let permits = std::mem::take(&mut *seen.lock().unwrap());
    let [access, master] = &*permits else { panic!("both passed") };
    assert!(layer.issuer().log_out(access).await.unwrap().is_revoked);
    assert!(!layer.issuer().log_out(access).await.unwrap().is_revoked);
    assert!(!layer.issuer().log_out(master).await.unwrap().is_revoked);
}

#[cfg(feature = "test-util")]
#[tokio::test]
async fn failure_of_a_handler_answers_as_the_endpoint_does() {
    use fastauth::{ClaimsRefusal, Grant, store::StoreErrorKind, test_util::TestAuth};

    let hook = |grant: Grant| async move {
        match grant.client_id.as_str() {
            "locked" => Err(ClaimsRefusal::new(StatusCode::FORBIDDEN, "this client is locked")),
            _ => Ok(grant.claims),
        }
    };
    for shape in [ResponseShape::Envelope, ResponseShape::OAuth] {
        let auth = TestAuth::with(settings().response_shape(shape).claims_hook(hook));
        let app = app(&auth.layer());
        let master = auth.master_token().expose();
        for (user, status) in [("locked", 403), ("line\nbreak", if shape == ResponseShape::OAuth { 400 } else { 422 })]
        {
            let by_handler = send(&app, log_in_request(user, "open sesame")).await;
            let by_endpoint = send(&app, issue_request(user, master)).await;
            assert_eq!((by_handler.status().as_u16(), by_handler.status()), (status, by_endpoint.status()), "{user:?}");
            assert_eq!(headers(by_handler.headers()), headers(by_endpoint.headers()), "{user:?}");
            assert_eq!(body(by_handler).await, body(by_endpoint).await, "{user:?}");
        }
        auth.store().fail_all(StoreErrorKind::Unreachable);
        let response = send(&app, log_in_request("alice", "open sesame")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(body(response).await, body(send(&app, issue_request("alice", master)).await).await);
    }
}

/// What a handler without axum, or with an answer of its own, has of it.
#[tokio::test]
async fn pair_is_serialised_and_converted_without_axum() {
    let layer = layer(settings().refresh_transport(RefreshTransport::Cookie));
    let issued = layer.issuer().issue("alice").await.unwrap();
    let cookie = issued.refresh_cookie().unwrap();
    assert!(cookie.is_sensitive() && cookie.to_str().unwrap().contains(issued.tokens.refresh_token.expose()));
    let serialised = serde_json::to_value(&issued).unwrap();
    let response: http::Response<Full<Bytes>> = issued.clone().into();
    assert_eq!(response.headers()[SET_COOKIE], cookie);
    let sent = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), serialised);
    assert!(serialised["data"].get("refresh_token").is_none(), "it is in the cookie");

    let redirect = ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response();
    assert_eq!(redirect.status(), StatusCode::SEE_OTHER);

    let oauth = serde_json::to_value(issued.with_response_shape(ResponseShape::OAuth)).unwrap();
    assert_eq!(oauth["token_type"], "Bearer");
    assert!(!format!("{layer:?}").contains(oauth["access_token"].as_str().unwrap()));
}

#[tokio::test]
async fn claims_are_whatever_becomes_an_object() {
    #[derive(Serialize)]
    struct Own {
        roles: Vec<&'static str>,
    }
    let issuer = layer(settings()).issuer();
    let roles = |issued: IssuedTokens| {
        let claims = issuer.verify(issued.tokens.access_token.expose(), fastauth::TokenType::Access).unwrap();
        claims.roles().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(roles(issuer.issue_with("a", json!({ "roles": ["x"] })).await.unwrap()), ["x"]);
    assert_eq!(roles(issuer.issue_with("a", Own { roles: vec!["y"] }).await.unwrap()), ["y"]);
    assert_eq!(roles(issuer.issue_with("a", [("roles", ["z"])].into_iter().collect::<Map>()).await.unwrap()), ["z"]);
    for claims in [json!(["roles"]), json!("roles"), json!(null)] {
        let error = issuer.issue_with("a", claims).await.unwrap_err();
        assert!(matches!(error.kind(), IssueErrorKind::ClaimsNotObject(_)), "{error}");
    }
    let error = issuer.issue_with("a", json!({ "exp": 1 })).await.unwrap_err();
    assert!(matches!(error.kind(), IssueErrorKind::ReservedClaim(name) if name == "exp"), "{error}");
}

type Map = std::collections::BTreeMap<&'static str, [&'static str; 1]>;
