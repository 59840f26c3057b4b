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
    Error as SocketError, Json, Router,
    extract::{
        DefaultBodyLimit, State,
        ws::{CloseFrame, Message, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
    response::{Html, Response},
    routing::{any, get},
};
use fastauth::{
    FastAuthLayer, Permit, Secret, Settings, SettingsBuilder,
    config::{EnvFile, Fault, Source},
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use serde::Serialize;
use serde_json::json;
use tokio::{net::TcpListener, signal::ctrl_c, sync::watch, time};
use tracing_subscriber::EnvFilter;
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

const USAGE: &str = "usage: axum [--config PATH] [--listen ADDR]";

/// How long connections may go on after a signal to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes, and how long it may take to come.
const MAX_HEAD: usize = 32 << 10;
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest body of a request, and the longest message of a WebSocket, in bytes: what is more is not kept in memory for anybody.
const MAX_BODY: usize = 64 << 10;
const MAX_MESSAGE: usize = 64 << 10;

/// Becomes true when the server stops.
type Stopping = watch::Receiver<bool>;

fn app(auth: FastAuthLayer, stopping: Stopping) -> Router {
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
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(stopping)
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

/// Sends every text and binary message back.
async fn echo(State(stopping): State<Stopping>, upgrade: WebSocketUpgrade) -> Response {
    limited(upgrade).on_upgrade(|socket| send_back(socket, stopping))
}

/// The same, until the right of the client's token ends.
async fn guarded_echo(permit: Permit, State(stopping): State<Stopping>, upgrade: WebSocketUpgrade) -> Response {
    limited(upgrade).on_upgrade(move |socket| send_back(permit.guard(socket), stopping))
}

/// Bounds what a socket takes. By default it has 128 KiB to read into, idle or not, and its messages 64 MiB.
fn limited(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(4 << 10)
        .write_buffer_size(4 << 10)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
}

/// Pings and closes are answered underneath.
async fn send_back<S>(mut socket: S, mut stopping: Stopping)
where
    S: Stream<Item = Result<Message, SocketError>> + Sink<Message, Error = SocketError> + Unpin,
{
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            () = async { drop(stopping.wait_for(|stops| *stops).await) } => break,
        }
    }
    // The client connects again, to whatever takes this server's place.
    let frame = CloseFrame { code: close_code::AWAY, reason: "the server stops".into() };
    let _ = socket.send(Message::Close(Some(frame))).await;
    while let Some(Ok(_)) = socket.next().await {}
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
    let mut signals = Signals::new()?;
    let (stop, stopping) = watch::channel(false);
    let connections = serve(listener, app(auth, stopping), &mut signals).await;
    stop.send_replace(true);
    // Each socket holds a receiver until it is closed.
    let drained = async { tokio::join!(connections.shutdown(), stop.closed()) };
    tokio::select! {
        _ = drained => {}
        () = time::sleep(DRAIN) => {}
        () = signals.stop() => {}
    }
    Ok(())
}

/// Serves until there is a signal to stop, as `axum::serve` does, and bounds the heads of requests, which that does not.
async fn serve(listener: TcpListener, app: Router, signals: &mut Signals) -> GracefulShutdown {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    server.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32).enable_connect_protocol();
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = signals.stop() => return connections,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: it passes as connections end.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        // What ends with an error is a connection that the client broke off.
        let connection = connections.watch(connection);
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// The signals to stop. The first one lets what is under way end, and a second one does not.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn stop(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = ctrl_c().await;
    }
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

/// Puts the secrets that nothing gives into the `.env` that is read, as `fastauth keygen --write` does, if nothing else is at fault.
fn make_missing_secrets(settings: &SettingsBuilder) -> Result<(), Box<dyn Error>> {
    const SECRETS: [(&str, &str); 2] = [("master-token", "MASTER_TOKEN"), ("cryptography-key", "CRYPTOGRAPHY_KEY")];
    let report = settings.clone().report();
    let variable =
        |fault: &Fault| SECRETS.iter().find(|(key, _)| fault.key() == Some(*key)).map(|(_, variable)| variable);
    if report.faults().iter().any(|fault| variable(fault).is_none() || *fault.source() != Source::Default) {
        return Ok(());
    }
    let file = EnvFile::new(report.env_file());
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
            // With and without `export`, quotes and a comment.
            let value = format!(r#"s/^ *\(export *\)*{name}=['\"]*\([^'\" ]*\).*/\2/p"#);
            format!(r#"$(sed -n "{value}" '{}')"#, path.display())
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
