//! A store that knows nothing but a pair of each client, as those of `fastauth-api` do.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// By client.
pub(crate) type Rows = Arc<Mutex<HashMap<String, Value>>>;

pub(crate) fn app(rows: Rows) -> Router {
    Router::new().route("/token", get(read).post(write)).with_state(rows)
}

/// Serves an empty one for as long as the runtime lives.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app(Rows::default())).await });
    address
}

type Parameters = Query<HashMap<String, String>>;

async fn read(State(rows): State<Rows>, query: Parameters) -> (StatusCode, Json<Value>) {
    match rows.lock().unwrap().get(&query["client_id"]) {
        Some(row) => (StatusCode::OK, Json(row.clone())),
        None => (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))),
    }
}

async fn write(State(rows): State<Rows>, query: Parameters, Json(row): Json<Value>) -> Json<Value> {
    rows.lock().unwrap().insert(query["client_id"].clone(), row);
    Json(json!({ "status": "ok" }))
}
