//! A hyper server behind the guard: `cargo run --example hyper`.

use std::{
    convert::Infallible,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
};

use bytes::Bytes;
use fastauth::{FastAuthLayer, Permit, TokenRouter};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

async fn answer(request: Request<Incoming>, tokens: TokenRouter) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        path if path.starts_with("/auth/") => tokens.oneshot(request).await,
        "/access/health" => {
            // The guard has put it there: no request for this path arrives without.
            let client = request.extensions().get::<Permit>().and_then(Permit::client_id).unwrap_or_default();
            Ok(Response::new(Full::from(format!("healthy, {client}\n"))))
        }
        "/health" => Ok(Response::new(Full::from("healthy\n"))),
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let auth = FastAuthLayer::try_from_config()?;
    let tokens = auth.router();
    let service = auth.layer(service_fn(move |request| answer(request, tokens.clone())));

    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 8000))).await?;
    // `println!` would end the server if nobody can read it.
    let _ = writeln!(io::stdout(), "Listening on http://{}", listener.local_addr()?);
    loop {
        // A connection that was gone before it was accepted does not end the server.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // What ends with an error is a connection that the client broke off.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}
