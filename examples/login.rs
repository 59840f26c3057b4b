//! An application whose users log in, with a page: `cargo run --release --example login`.
//!
//! `log_in`, `who_am_i` and `log_out` are what an application writes. The rest of a session is done by the token endpoints below
//! `/auth`: the page refreshes its access token there, by a cookie that no script can read. `clients/js/fastauth.js` does that for it.

use std::{
    collections::HashMap,
    env,
    error::Error,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, Result},
    routing::{get, post},
};
use fastauth::{
    Claims, FastAuthLayer, IssueError, IssuedTokens, LoggedOut, Permit, Secret, Settings,
    config::{ConfigError, RefreshTransport, TokensPerClient},
    store::MemoryStore,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Clone)]
struct App {
    auth: FastAuthLayer,
    users: Arc<HashMap<&'static str, User>>,
}

/// A user. This example keeps passwords as they are. An application keeps what argon2 makes of them (the crate `argon2`), verifies
/// in `tokio::task::spawn_blocking`, since that takes a while, and limits how often a password may be guessed.
struct User {
    password: Secret,
    roles: &'static [&'static str],
}

#[derive(Deserialize)]
struct LogIn {
    user: String,
    password: String,
}

/// Checks a password, and issues tokens: the access token in the body, the refresh token in a cookie.
async fn log_in(State(app): State<App>, Json(form): Json<LogIn>) -> Result<IssuedTokens> {
    let user = app.users.get(&*form.user).filter(|user| user.password.matches(form.password.as_bytes()));
    let Some(user) = user else {
        return Err((StatusCode::UNAUTHORIZED, "wrong user or password\n").into());
    };
    Ok(app.auth.issuer().issue_with(&form.user, json!({ "roles": user.roles })).await?)
}

/// Answers to whom the access token belongs. Without a valid one, the guard refuses the request before.
async fn who_am_i(permit: Permit) -> Json<Value> {
    let roles: Vec<_> = permit.claims().into_iter().flat_map(Claims::roles).collect();
    Json(json!({ "user": permit.client_id(), "roles": roles, "until": permit.expires_at() }))
}

/// Ends the session, and removes the cookie. The sessions of the user in other browsers go on.
async fn log_out(State(app): State<App>, permit: Permit) -> Result<LoggedOut, IssueError> {
    app.auth.issuer().log_out(&permit).await
}

pub(crate) fn app(auth: FastAuthLayer) -> Router {
    let users = [
        ("alice", User { password: "wonderland".into(), roles: &["editor", "reader"] }),
        ("bob", User { password: "builder".into(), roles: &["reader"] }),
    ];
    Router::new()
        .route("/", get(async || Html(include_str!("login.html"))))
        .route(
            "/fastauth.js",
            get(async || ([(CONTENT_TYPE, "text/javascript")], include_str!("../clients/js/fastauth.js"))),
        )
        .route("/login", post(log_in))
        .route("/api/me", get(who_am_i))
        .route("/api/logout", post(log_out))
        .with_state(App { auth: auth.clone(), users: Arc::new(users.into()) })
        .nest_service("/auth", auth.router())
        // Last: a route that is added after the layer is not guarded.
        .layer(auth)
}

/// Returns the settings, which may also stand in `fastauth.config.json`. With a key and a store in memory, all sessions end with the
/// program.
pub(crate) fn settings() -> Result<Settings, ConfigError> {
    Settings::builder()
        .app_name("login")
        .access_token_paths(["/api"])
        .access_ttl(Duration::from_secs(15 * 60))
        .refresh_transport(RefreshTransport::Cookie)
        .tokens_per_client(TokensPerClient::Many)
        .cryptography_key(Secret::generate())
        .store(MemoryStore::new())
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let auth = FastAuthLayer::new(settings()?)?;
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    // `println!` panics if standard output is closed. The server goes on instead.
    let _ = write!(
        io::stdout(),
        r#"Open http://{address} and log in as alice, password "wonderland". Or without a browser:
  curl -i -c cookies.txt --json '{{"user":"alice","password":"wonderland"}}' http://{address}/login
  curl -i -H "ACCESS-TOKEN: the access_token of that answer" http://{address}/api/me
  curl -i -b cookies.txt -c cookies.txt -X POST http://{address}/auth/token/refresh
  curl -i -c cookies.txt -X POST -H "ACCESS-TOKEN: the new access_token" http://{address}/api/logout
"#
    );
    Ok(axum::serve(listener, app(auth)).await?)
}
