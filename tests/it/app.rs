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

/// The body of an error in the envelope.
pub(crate) fn error(status: u16, reason: &str, message: &str) -> Value {
    json!({ "status": "error", "code": status, "reason": reason, "message": message, "detail": message })
}

/// A client of a server on a real socket, and of its endpoints for tokens.
pub(crate) struct Endpoints {
    pub(crate) url: String,
    client: reqwest::Client,
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const JSON: &str = "application/json";

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// A header, which is empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Endpoints {
    pub(crate) async fn of(layer: &FastAuthLayer) -> Self {
        Self::at(serve(app(layer.clone())).await)
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { url: format!("http://{address}"), client: reqwest::Client::new() }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.to_owned()).send().await.unwrap();
        Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// Posts a form.
    pub(crate) async fn post(&self, path: &str, form: &str) -> Reply {
        self.send("POST", path, &[("content-type", FORM)], form).await
    }

    /// Posts a form with the master token.
    pub(crate) async fn post_as_master(&self, path: &str, form: &str) -> Reply {
        self.send("POST", path, &[("content-type", FORM), ("master-token", MASTER)], form).await
    }

    /// Whether the access token of a pair opens what it should.
    pub(crate) async fn opens(&self, access_token: &str) -> bool {
        self.send("GET", "/access/health", &[("access-token", access_token)], "").await.status == 200
    }
}
