//! A shop that moved over from the Python package auth-gate: `cargo run --example shop -- [ADDR]`, where the configuration is that of
//! `docs/guide/from-auth-gate.md`.

use std::{env, error::Error};

use axum::{
    Json, Router,
    extract::{Path, State, WebSocketUpgrade, ws::Message},
    http::StatusCode,
    response::{Response, Result},
    routing::{any, get, post},
};
use fastauth::{FastAuthLayer, IssuedTokens, Permit, TokenIssuer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn app(auth: FastAuthLayer) -> Router {
    let log_in = post(log_in).with_state(auth.issuer());
    Router::new()
        .route("/health", get(health))
        .route("/hooks/{id}", post(hook))
        .route("/static/{*file}", get(file))
        .route("/products", get(caller).post(caller))
        .route("/orders", get(caller))
        .route("/orders/export", post(caller))
        .route("/internal/sync", post(caller))
        .route("/socket", any(socket))
        .route("/login", log_in)
        .nest_service("/auth", auth.router())
        // Last: a route that is added after the layer is not guarded.
        .layer(auth)
}

/// Answers to whom the token belongs, if there is one. What the token must say stands in the rules.
async fn caller(permit: Option<Permit>) -> Json<Value> {
    Json(json!({ "caller": permit.as_ref().and_then(Permit::client_id) }))
}

/// Never has a caller: its path is public.
async fn health(permit: Option<Permit>) -> Json<Value> {
    Json(json!({ "status": "healthy", "caller": permit.as_ref().and_then(Permit::client_id) }))
}

async fn hook(Path(id): Path<String>) -> Json<Value> {
    Json(json!({ "hook": id }))
}

async fn file(Path(file): Path<String>) -> Json<Value> {
    Json(json!({ "file": file }))
}

async fn socket(permit: Permit, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let greeting = format!("hello, {}", permit.client_id().unwrap_or_default());
        let _ = socket.send(Message::text(greeting)).await;
    })
}

/// Issues tokens with the claims of a user. An application looks its users up here, and checks their passwords.
async fn log_in(State(issuer): State<TokenIssuer>, Json(body): Json<Value>) -> Result<IssuedTokens> {
    let user = body["user"].as_str().unwrap_or_default();
    let claims = match user {
        "alice" => json!({ "roles": ["editor"], "scope": "orders:export" }),
        "bob" => json!({ "roles": ["reader"] }),
        "carol" => json!({ "roles": ["admin"] }),
        "sync" => json!({ "principal": "service" }),
        _ => return Err(StatusCode::FORBIDDEN.into()),
    };
    Ok(issuer.issue_with(user, claims).await?)
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let auth = FastAuthLayer::from_config();
    let listener = TcpListener::bind(address).await?;
    Ok(axum::serve(listener, app(auth)).await?)
}
