//! The application that is deployed: it says what of a request reaches it.

use std::{convert::Infallible, env, error::Error};

use axum::{
    Json, Router,
    extract::{Request, ws::WebSocketUpgrade},
    response::{
        Response,
        sse::{Event, Sse},
    },
    routing::{any, get},
};
use fastauth::{FastAuthLayer, Permit};
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let auth = FastAuthLayer::from_config();
    let app = Router::new()
        .route("/access/ws", any(echo))
        .route("/access/events", get(events))
        .nest_service("/auth", auth.router())
        .fallback(seen)
        .layer(auth);
    let listener = TcpListener::bind(env::var("LISTEN")?).await?;
    axum::serve(listener, app).with_graceful_shutdown(terminated()).await?;
    Ok(())
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        Err(_) => std::future::pending().await,
    }
}

async fn seen(request: Request) -> Json<Value> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    Json(json!({
        "path": request.uri().path_and_query().map(ToString::to_string),
        "host": header("host"),
        "address": header("x-forwarded-for"),
        "scheme": header("x-forwarded-proto"),
        "request": header("x-request-id"),
    }))
}

async fn echo(permit: Permit, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = permit.guard(socket);
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

/// Sends one event, and leaves the response open.
async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::iter([Ok(Event::default().data("at once"))]).chain(stream::pending()))
}
