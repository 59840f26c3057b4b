//! A store that knows nothing but a pair of each client, as those of `fastauth-api` do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use serde_json::{Value, json};

/// By client.
pub(crate) type Rows = Arc<Mutex<HashMap<String, Value>>>;

pub(crate) fn app(rows: Rows) -> Router {
    Router::new().route("/token", get(read).post(write)).with_state(rows)
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
