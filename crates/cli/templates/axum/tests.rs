use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header::CONTENT_TYPE, request},
};
use fastauth::{
    Secret, Settings,
    test_util::{TestAuth, WithCredentials},
};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{USERS, app};

/// The application by its own configuration, except for the store, the clock and the secrets.
fn tested() -> (Router, TestAuth) {
    let auth = TestAuth::load(Settings::builder());
    (app(auth.layer()), auth)
}

async fn send(app: &Router, request: request::Builder, body: &Value) -> (StatusCode, Value) {
    let request = request.header(CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn log_in(app: &Router, password: &str) -> (StatusCode, Value) {
    send(app, Request::post("/log-in"), &json!({ "user": USERS[0].0, "password": password })).await
}

async fn me(app: &Router, token: &Secret) -> (StatusCode, Value) {
    send(app, Request::get("/api/me").access_token(token), &Value::Null).await
}

#[tokio::test]
async fn user_logs_in_and_out() {
    let (app, _auth) = tested();
    let (status, pair) = log_in(&app, USERS[0].1).await;
    assert_eq!(status, StatusCode::OK, "{pair}");
    let token = Secret::from(pair["data"]["access_token"].as_str().unwrap());
    assert_eq!(me(&app, &token).await, (StatusCode::OK, json!({ "user": USERS[0].0 })));
    let (status, _) = send(&app, Request::post("/api/log-out").access_token(&token), &Value::Null).await;
    assert!(status.is_success(), "{status}");
    assert_eq!(me(&app, &token).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn wrong_password_is_refused() {
    let (app, _auth) = tested();
    assert_eq!(log_in(&app, "guess").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn request_without_a_valid_token_is_refused() {
    let (app, auth) = tested();
    assert_eq!(send(&app, Request::get("/api/me"), &Value::Null).await.0, StatusCode::UNAUTHORIZED);
    let forged = auth.token("alice").forged().await;
    assert_eq!(me(&app, &forged).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn session_goes_on_by_its_refresh_token() {
    let (app, auth) = tested();
    let (_, pair) = log_in(&app, USERS[0].1).await;
    let token = Secret::from(pair["data"]["access_token"].as_str().unwrap());
    auth.clock().advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(me(&app, &token).await.0, StatusCode::UNAUTHORIZED);

    let refresh = json!({ "refresh_token": pair["data"]["refresh_token"] });
    let (status, pair) = send(&app, Request::post("/auth/token/refresh"), &refresh).await;
    assert_eq!(status, StatusCode::OK, "{pair}");
    let token = Secret::from(pair["data"]["access_token"].as_str().unwrap());
    assert_eq!(me(&app, &token).await.0, StatusCode::OK);
}
