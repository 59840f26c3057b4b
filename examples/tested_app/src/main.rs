//! An application with its own tests behind the guard: `cargo test -p example-tested-app`.
//!
//! What makes it easy to test is that `app` is given its guard. The tests are in `tests.rs`. The feature
//! `test-util` is in `[dev-dependencies]` alone. `cargo run -p example-tested-app` serves it.

use std::{
    error::Error,
    io::{self, Write},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::Result,
    routing::{get, post},
};
use fastauth::{FastAuthLayer, IssuedTokens, Permit, Secret, Settings, TokenIssuer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{net::TcpListener, sync::Mutex};

#[cfg(test)]
mod tests;

/// Notes, each with the client that wrote it.
type Notes = Arc<Mutex<Vec<Note>>>;

#[derive(Clone, Serialize)]
struct Note {
    author: String,
    text: String,
}

fn app(auth: FastAuthLayer) -> Router {
    let login = post(login).with_state(auth.issuer());
    Router::new()
        .route("/notes", get(read).post(write))
        .route("/admin/notes", get(read_all))
        .with_state(Notes::default())
        .route("/login", login)
        .nest_service("/auth", auth.router())
        .layer(auth)
}

/// Returns the settings with the guarded paths, which may also stand in `fastauth.config.json`.
fn guarded() -> fastauth::SettingsBuilder {
    Settings::builder().access_token_paths(["/notes"]).master_token_paths(["/admin"])
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(State(issuer): State<TokenIssuer>, Json(login): Json<Login>) -> Result<IssuedTokens> {
    // An application looks its users up here.
    if login.user != "alice" || !Secret::from("wonderland").matches(login.password.as_bytes()) {
        return Err(StatusCode::FORBIDDEN.into());
    }
    Ok(issuer.issue_with(&login.user, json!({ "scope": "notes:read notes:write" })).await?)
}

async fn read(permit: Permit, State(notes): State<Notes>) -> Json<Vec<Note>> {
    let notes = notes.lock().await;
    Json(notes.iter().filter(|note| permit.client_id() == Some(&note.author)).cloned().collect())
}

async fn write(permit: Permit, State(notes): State<Notes>, text: String) -> StatusCode {
    let may_write = permit.claims().is_some_and(|claims| claims.scope().any(|scope| scope == "notes:write"));
    let Some(author) = permit.client_id().filter(|_| may_write) else { return StatusCode::FORBIDDEN };
    notes.lock().await.push(Note { author: author.to_owned(), text });
    StatusCode::CREATED
}

async fn read_all(State(notes): State<Notes>) -> Json<Vec<Note>> {
    Json(notes.lock().await.clone())
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let auth = FastAuthLayer::new(guarded().load()?)?;
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    // `println!` panics if standard output is closed. The server goes on instead.
    let _ = writeln!(io::stdout(), "Listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(auth)).await?)
}
