//! A file server whose paths are guarded:
//! `cargo run --release -p example-static-files -- [DIR] [--config PATH] [--listen ADDR]`.
//!
//! A file server decodes the paths of requests: to `ServeDir`, `/%61ccess/plan.pdf`, `//access/plan.pdf` and
//! `/access%2fplan.pdf` are all the file `access/plan.pdf`. A check of the path's beginning would let those through, and
//! so would a `route_layer`, since the router's fallback serves the files.

use std::{
    env,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
};

use axum::Router;
use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

const USAGE: &str = "usage: static_files [DIR] [--config PATH] [--listen ADDR]";

fn app(auth: FastAuthLayer, directory: PathBuf) -> Router {
    Router::new()
        .nest_service("/auth", auth.router())
        .fallback_service(ServeDir::new(directory))
        // Last: a fallback that is added after the layer is not guarded.
        .layer(auth)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut directory = PathBuf::from(".");
    let mut config = None;
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 8000));
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--config" => config = Some(words.next().ok_or(USAGE)?),
            "--listen" => listen = words.next().ok_or(USAGE)?.parse()?,
            word if word.starts_with('-') => return Err(USAGE.into()),
            _ => directory = word.into(),
        }
    }
    let settings = match config {
        Some(file) => Settings::builder().config_file(file).load()?,
        // To try it out: random secrets, so that every path below `/access` is closed.
        None => Settings::builder()
            .master_token(Secret::generate())
            .cryptography_key(Secret::generate())
            .access_token_paths(["/access"])
            .store(MemoryStore::new())
            .build()?,
    };
    let shown = directory.display().to_string();
    let app = app(FastAuthLayer::new(settings)?, directory);
    let listener = TcpListener::bind(listen).await?;
    // `println!` panics if standard output is closed. The server goes on instead.
    let _ = writeln!(io::stdout(), "Serving {shown} on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
