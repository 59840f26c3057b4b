//! An axum application whose paths are guarded: `cargo run --release --example axum -- [--config PATH] [--listen ADDR]`.
//!
//! The line that matters is `.layer(auth)`. The arguments, the server and the WebSockets are in `support/`.

use std::process::ExitCode;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{any, get},
};
use fastauth::FastAuthLayer;

mod support;

use support::{
    Example, Stopping,
    echo::{echo, guarded_echo},
};

fn app(auth: FastAuthLayer, stopping: Stopping) -> Router {
    Router::new()
        .route("/health", get(async || json(r#"{"status":"healthy"}"#)))
        .route("/access/health", get(async || json(r#"{"status":"healthy","service":"access"}"#)))
        .route("/master/health", get(async || json(r#"{"status":"healthy","service":"master"}"#)))
        .route("/ws", any(echo))
        .route("/access/ws", any(guarded_echo))
        .route("/master/ws", any(echo))
        .nest_service("/auth", auth.router())
        .fallback(async || (StatusCode::NOT_FOUND, json(r#"{"detail":"Not Found"}"#)))
        .with_state(stopping)
        // Last: a route that is added after the layer is not guarded.
        .layer(auth)
}

fn json(text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text)
}

#[tokio::main]
async fn main() -> ExitCode {
    Example { name: "axum", defaults: &[], app: |auth, stopping, _| app(auth, stopping) }.run().await
}
