//! The application that the tests guard, in this process and behind a socket.

use std::{future::IntoFuture, net::SocketAddr};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    routing::{any, get},
};
use fastauth::{FastAuthLayer, Secret, Settings, SettingsBuilder, store::MemoryStore};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

pub(crate) const MASTER: &str = "the master token of the tests";
pub(crate) const KEY: &str = "bsdW01Xfx6YAPxfpvz5Yp5MVBI9JUedbJxu_PkGR7mA=";

/// `/master` and `/access` guarded, a store in memory.
pub(crate) fn settings() -> SettingsBuilder {
    Settings::builder()
        .app_name("demo")
        .master_token(MASTER)
        .cryptography_key(KEY)
        .master_token_paths(["/master"])
        .access_token_paths(["/access"])
        .store(MemoryStore::new())
}

pub(crate) fn layer() -> FastAuthLayer {
    FastAuthLayer::new(settings().build().unwrap()).unwrap()
}

/// An access token that the layer's store holds for `client_id`.
pub(crate) async fn access_token(layer: &FastAuthLayer, client_id: &str) -> Secret {
    layer.issuer().issue(client_id).await.unwrap().tokens.access_token
}

pub(crate) fn app(layer: FastAuthLayer) -> Router {
    Router::new()
        .route("/health", get(async || Json(json!({ "status": "healthy" }))))
        .route("/access/health", get(async || Json(json!({ "status": "healthy", "service": "access" }))))
        .route("/master/health", get(async || Json(json!({ "status": "healthy", "service": "master" }))))
        .route("/ws", any(echo))
        .route("/access/ws", any(echo))
        .route("/master/ws", any(echo))
        .nest_service("/auth", layer.router())
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))))
        .layer(layer)
}

async fn echo(upgrade: WebSocketUpgrade) -> axum::response::Response {
    upgrade.on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

/// Serves on a port of the system's choice for as long as the runtime lives.
pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

pub(crate) fn get_request(target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn body(response: Response<Body>) -> Value {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}
