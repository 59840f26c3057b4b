//! An application whose users log in. README.md says how to try it.

use std::{
    env,
    error::Error,
    io::{self, Write},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::Result,
    routing::{get, post},
};
use fastauth::{FastAuthLayer, IssueError, IssuedTokens, LoggedOut, Permit, Secret};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, signal};
use tracing_subscriber::EnvFilter;

#[cfg(test)]
mod tests;

/// The users and their passwords, to try the application. Replace them by your database, which keeps what argon2 makes of a password
/// (the crate `argon2`), and limit how often a password may be guessed.
const USERS: [(&str, &str); 1] = [("alice", "{{PASSWORD}}")];

#[derive(Deserialize)]
struct LogIn {
    user: String,
    password: String,
}

/// Checks a password, and answers with an access token and a refresh token.
async fn log_in(State(auth): State<FastAuthLayer>, Json(form): Json<LogIn>) -> Result<IssuedTokens> {
    let password = USERS.iter().find(|(user, _)| *user == form.user).map(|(_, password)| Secret::from(*password));
    if !password.is_some_and(|password| password.matches(form.password.as_bytes())) {
        return Err((StatusCode::UNAUTHORIZED, "wrong user or password\n").into());
    }
    Ok(auth.issuer().issue(&form.user).await?)
}

#[derive(Serialize)]
struct Me {
    user: String,
}

/// Answers to whom the access token belongs. Without a valid one, the guard has refused the request.
async fn me(permit: Permit) -> Json<Me> {
    Json(Me { user: permit.client_id().unwrap_or_default().to_owned() })
}

/// Ends the session of the access token. Other sessions of the user go on.
async fn log_out(State(auth): State<FastAuthLayer>, permit: Permit) -> Result<LoggedOut, IssueError> {
    auth.issuer().log_out(&permit).await
}

fn app(auth: FastAuthLayer) -> Router {
    Router::new()
        .route("/", get(async || "Log in at /log-in, and then ask /api/me.\n"))
        .route("/log-in", post(log_in))
        // These two require an access token, as everything that no rule in fastauth.config.json opens.
        .route("/api/me", get(me))
        .route("/api/log-out", post(log_out))
        .with_state(auth.clone())
        // Refreshes tokens, among other endpoints.
        .nest_service("/auth", auth.router())
        // Last: a route that is added after the layer is not guarded.
        .layer(auth)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The log on standard error. RUST_LOG=info,fastauth=debug shows each decision of the guard, too.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false).init();

    let auth = FastAuthLayer::try_from_config()?;
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}; set LISTEN to another address, such as 127.0.0.1:8001")
    })?;
    // `println!` panics if standard output is closed. The server goes on instead.
    let _ = writeln!(io::stdout(), "Listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(auth)).with_graceful_shutdown(stop()).await?)
}

/// Waits for Ctrl-C, or for the signal by which a container is stopped.
async fn stop() {
    #[cfg(unix)]
    {
        let Ok(mut terminate) = signal::unix::signal(signal::unix::SignalKind::terminate()) else { return };
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = signal::ctrl_c().await;
}
