//! Logs, metrics and health of the guard: `cargo run -p example-observability [-- ADDR]`.
//!
//! Prometheus scrapes `/metrics`, a balancer asks `/auth/healthz`, and `RUST_LOG=info,fastauth=debug` shows each decision,
//! refusals with their path, peer and request id.
//! `grafana/fastauth.json` is a dashboard of the metrics.

use std::{
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use axum::{Router, routing::get};
use fastauth::{FastAuthLayer, Permit, Settings, config::LogDetail};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time};
use tracing_subscriber::EnvFilter;

/// The buckets of `fastauth_store_seconds`: from a look-up in memory to the longest wait for a store.
const STORE_SECONDS: [f64; 12] = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,fastauth=debug"));
    // Standard error may be full or not read. A thread of its own waits for it, and requests do not.
    let (writer, _flushes) = tracing_appender::non_blocking(io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false).init();

    let seconds = Matcher::Full("fastauth_store_seconds".to_owned());
    let prometheus = PrometheusBuilder::new().set_buckets_for_metric(seconds, &STORE_SECONDS)?.install_recorder()?;
    // After the recorder: a layer that is made before it counts nothing.
    let details = [LogDetail::Path, LogDetail::Peer, LogDetail::RequestId];
    let auth = FastAuthLayer::new(Settings::builder().metrics(true).log_details(details).load()?)?;
    let app = Router::new()
        .route("/access/hello", get(hello))
        // Do not open it to the internet: it shows which paths are guarded, and how many requests there are.
        .route(
            "/metrics",
            get({
                let prometheus = prometheus.clone();
                async move || prometheus.render()
            }),
        )
        .nest_service("/auth", auth.router())
        .layer(auth);

    tokio::spawn(tidy_up(prometheus));
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    // `println!` panics if standard output is closed. The server goes on instead.
    let _ = writeln!(io::stdout(), "Listening on http://{address}: try /metrics, /auth/healthz?deep and /access/hello");
    // With the address of each peer, for the log.
    Ok(axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?)
}

async fn hello(permit: Permit) -> String {
    let client = permit.client_id().unwrap_or("stranger");
    // The span of the request, which names the client, is around it.
    tracing::info!("a client was greeted");
    format!("hello, {client}\n")
}

/// Drains the measurements, which otherwise pile up until a scrape.
async fn tidy_up(prometheus: PrometheusHandle) {
    let mut ticks = time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        prometheus.run_upkeep();
    }
}
