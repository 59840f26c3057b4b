//! An axum application whose paths are guarded: `cargo run --release --example axum -- [--config PATH] [--listen ADDR]`.
//!
//! The line that matters is `.layer(auth)`.

use std::{
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    http::StatusCode,
    response::{Html, Response},
    routing::{any, get},
};
use fastauth::{
    FastAuthLayer, Permit, Secret, Settings, SettingsBuilder,
    config::{EnvFile, Fault, Source},
};
use serde::Serialize;
use serde_json::json;
use tokio::{net::TcpListener, signal, sync::oneshot, time};
use tracing_subscriber::EnvFilter;
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

const USAGE: &str = "usage: axum [--config PATH] [--listen ADDR]";

/// How long connections may go on after a signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

fn app(auth: FastAuthLayer) -> Router {
    let mut description = Description::openapi();
    // What each path asks for, and the endpoints for tokens.
    auth.openapi().endpoints("/auth").modify(&mut description);
    // A page in the browser; without this it would show the description to a validator on the internet.
    let docs =
        SwaggerUi::new("/docs").url("/openapi.json", description).config(Config::default().validator_url("none"));
    Router::new()
        // A page to try everything out with.
        .route("/", get(async || Html(include_str!("axum/demo.html"))))
        .route("/health", get(health))
        .route("/access/health", get(access_health))
        .route("/master/health", get(master_health))
        .route("/ws", any(echo))
        .route("/access/ws", any(guarded_echo))
        .route("/master/ws", any(echo))
        .nest_service("/auth", auth.router())
        .merge(docs)
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))))
        // Last: what is added to the router after the layer is not guarded.
        .layer(auth)
}

#[derive(OpenApi)]
#[openapi(info(title = "FastAuth's example"), paths(health, access_health, master_health))]
struct Description;

#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'static str>,
}

/// Open to all
#[utoipa::path(get, path = "/health", responses((status = 200, description = "It is well", body = Health)))]
async fn health() -> Json<Health> {
    healthy(None)
}

/// For holders of an access token
#[utoipa::path(get, path = "/access/health", responses((status = 200, description = "It is well", body = Health)))]
async fn access_health() -> Json<Health> {
    healthy(Some("access"))
}

/// For holders of the master token
#[utoipa::path(get, path = "/master/health", responses((status = 200, description = "It is well", body = Health)))]
async fn master_health() -> Json<Health> {
    healthy(Some("master"))
}

fn healthy(service: Option<&'static str>) -> Json<Health> {
    Json(Health { status: "healthy", service })
}

/// Sends every text and binary message back. Pings and closes are answered underneath.
async fn echo(upgrade: WebSocketUpgrade) -> Response {
    const MAX_MESSAGE: usize = 64 << 20;
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

/// The same, until the right of the client's token ends.
async fn guarded_echo(permit: Permit, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = permit.guard(socket);
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Standard error may be closed, full or not read: a thread of its own waits for it, and requests do not.
    let (writer, _flushes) = tracing_appender::non_blocking(io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let Arguments { settings, listen, first_run } = Arguments::parse(env::args().skip(1))?;
    if first_run {
        make_missing_secrets(&settings)?;
    }
    let master_token = source_of(&settings, "master-token");
    // In an application without these arguments: `FastAuthLayer::from_config()`.
    let auth = FastAuthLayer::new(settings.load()?)?;

    let listener = TcpListener::bind(listen).await?;
    print_curl_lines(listener.local_addr()?, master_token);
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, app(auth)).with_graceful_shutdown(async {
        stop_signal().await;
        let _ = stopping.send(());
    });
    tokio::select! {
        result = server => result?,
        () = async { let _ = stopped.await; time::sleep(DRAIN).await } => {}
    }
    Ok(())
}

struct Arguments {
    settings: SettingsBuilder,
    listen: SocketAddr,
    /// Whether the shipped configuration is used, which may have no secrets yet.
    first_run: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut settings = Settings::builder();
        let mut listen = SocketAddr::from(([127, 0, 0, 1], 8000));
        let mut first_run = env::var_os("FASTAUTH_CONFIG").is_none();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(USAGE);
            match word.as_str() {
                "--config" => {
                    settings = settings.config_file(value()?);
                    first_run = false;
                }
                "--listen" => {
                    listen = value()?.parse().map_err(|_| "--listen takes an address such as 127.0.0.1:8000")?;
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Self { settings, listen, first_run })
    }
}

/// Puts the secrets that nothing gives into `.env`, as `fastauth keygen --write` does, if nothing else is at fault.
fn make_missing_secrets(settings: &SettingsBuilder) -> Result<(), Box<dyn Error>> {
    const SECRETS: [(&str, &str); 2] = [("master-token", "MASTER_TOKEN"), ("cryptography-key", "CRYPTOGRAPHY_KEY")];
    let report = settings.clone().report();
    let variable =
        |fault: &Fault| SECRETS.iter().find(|(key, _)| fault.key() == Some(*key)).map(|(_, variable)| variable);
    if report.faults().iter().any(|fault| variable(fault).is_none() || *fault.source() != Source::Default) {
        return Ok(());
    }
    let file = EnvFile::new(".env");
    for variable in report.faults().iter().filter_map(variable) {
        file.set_if_missing(variable, &Secret::generate())?;
        say(&format!("Made a {variable} and put it into {}", env::current_dir()?.join(file.path()).display()));
    }
    Ok(())
}

fn source_of(settings: &SettingsBuilder, key: &str) -> Option<Source> {
    settings.clone().report().entries().iter().find(|entry| entry.key == key).map(|entry| entry.source.clone())
}

fn print_curl_lines(address: SocketAddr, master_token: Option<Source>) {
    let master_token = match master_token {
        Some(Source::EnvFile(path, name)) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            format!("$(sed -n 's/^{name}=//p' '{}')", path.display())
        }
        _ => "'the master token of your configuration'".to_owned(),
    };
    let mint = format!(r#"curl -s -H "MASTER-TOKEN: {master_token}" "http://{address}/auth/token/new?client_id=me""#);
    let access_token = format!(r#"$({mint} | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#);
    say(&format!(
        r#"Listening on http://{address}. Paste these into another terminal:

In a browser: http://{address}

An open path:
  curl -i http://{address}/health
A pair of tokens for the client "me":
  {mint}
A path that asks for an access token, with a new one:
  curl -i -H "ACCESS-TOKEN: {access_token}" http://{address}/access/health
A path that asks for the master token:
  curl -i -H "MASTER-TOKEN: {master_token}" http://{address}/master/health
All of them in a browser: http://{address}/docs
"#
    ));
}

/// Prints a line. If nobody can read it, the server runs all the same, which `println!` would end.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

async fn stop_signal() {
    #[cfg(unix)]
    {
        let Ok(mut terminate) = signal::unix::signal(signal::unix::SignalKind::terminate()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = signal::ctrl_c().await;
}
