use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
};
use fastauth::{
    Secret,
    store::StoreErrorKind,
    test_util::{StoreCall, TestAuth, WithCredentials},
};
use http::{Request, StatusCode, header::CONTENT_TYPE, request};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{app, guarded};

/// The application, and the guard in front of it.
fn tested() -> (Router, TestAuth) {
    let auth = TestAuth::with(guarded());
    (app(auth.layer()), auth)
}

async fn send(app: &Router, request: request::Builder, body: impl Into<Body>) -> (StatusCode, Value) {
    let response = app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn read(app: &Router, token: &Secret) -> (StatusCode, Value) {
    send(app, Request::get("/notes").access_token(token), "").await
}

async fn write(app: &Router, token: &Secret, text: &'static str) -> StatusCode {
    send(app, Request::post("/notes").access_token(token), text).await.0
}

async fn log_in(app: &Router, password: &str) -> (StatusCode, Value) {
    let request = Request::post("/login").header(CONTENT_TYPE, "application/json");
    send(app, request, json!({ "user": "alice", "password": password }).to_string()).await
}

#[tokio::test]
async fn everybody_reads_their_own_notes() {
    let (app, auth) = tested();
    let (alice, bob) = (auth.token("alice").scope("notes:write").await, auth.token("bob").await);
    assert_eq!(write(&app, &alice, "hello").await, StatusCode::CREATED);
    assert_eq!(read(&app, &alice).await, (StatusCode::OK, json!([{ "author": "alice", "text": "hello" }])));
    assert_eq!(read(&app, &bob).await, (StatusCode::OK, json!([])));
}

#[tokio::test]
async fn writing_takes_its_scope() {
    let (app, auth) = tested();
    let reader = auth.token("alice").scope("notes:read").await;
    assert_eq!(write(&app, &reader, "hello").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_gets_in_without_a_good_token() {
    let (app, auth) = tested();
    assert_eq!(send(&app, Request::get("/notes"), "").await.0, StatusCode::UNAUTHORIZED);
    for token in [auth.token("alice").forged(), auth.token("alice").expired()] {
        assert_eq!(read(&app, &token.await).await.0, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_administrator_reads_all() {
    let (app, auth) = tested();
    let token = auth.token("alice").scope("notes:write").await;
    write(&app, &token, "hello").await;
    let all = Request::get("/admin/notes").master_token(auth.master_token());
    assert_eq!(send(&app, all, "").await.1, json!([{ "author": "alice", "text": "hello" }]));
    let by_alice = Request::get("/admin/notes").access_token(&token);
    assert_eq!(send(&app, by_alice, "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_login_ends_after_thirty_days_unless_it_is_renewed() {
    let (app, auth) = tested();
    let (_, issued) = log_in(&app, "wonderland").await;
    let pair = &issued["data"];
    let token = Secret::from(pair["access_token"].as_str().unwrap());
    assert_eq!(write(&app, &token, "hello").await, StatusCode::CREATED);

    auth.clock().advance(Duration::from_secs(31 * 24 * 60 * 60));
    assert_eq!(read(&app, &token).await.0, StatusCode::UNAUTHORIZED);

    let renew = Request::post("/auth/token/refresh").header(CONTENT_TYPE, "application/json");
    let (_, renewed) = send(&app, renew, json!({ "refresh_token": pair["refresh_token"] }).to_string()).await;
    let token = Secret::from(renewed["data"]["access_token"].as_str().unwrap());
    assert_eq!(read(&app, &token).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_store_in_trouble_is_no_fault_of_the_user() {
    let (app, auth) = tested();
    let token = auth.token("alice").await;

    auth.store().fail_all(StoreErrorKind::Unreachable);
    assert_eq!(read(&app, &token).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(log_in(&app, "wonderland").await.0, StatusCode::SERVICE_UNAVAILABLE);

    auth.store().recover();
    assert_eq!(read(&app, &token).await.0, StatusCode::OK);
    assert_eq!(log_in(&app, "wonderland").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_password_costs_the_store_nothing() {
    let (app, auth) = tested();
    assert_eq!(log_in(&app, "looking-glass").await.0, StatusCode::FORBIDDEN);
    assert_eq!(auth.store().calls(StoreCall::Save), 0);
    assert_eq!(log_in(&app, "wonderland").await.0, StatusCode::OK);
    assert_eq!(auth.store().calls(StoreCall::Save), 1);
}
