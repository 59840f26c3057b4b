//! A hyper server behind the guard: `cargo run -p example-hyper`.

use std::{
    convert::Infallible,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use fastauth::{FastAuthLayer, Permit, TokenRouter};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, time};
use tower::{Layer, ServiceExt, service_fn};

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;

async fn answer(request: Request<Incoming>, tokens: TokenRouter) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        path if path.starts_with("/auth/") => tokens.oneshot(request).await,
        "/access/health" => {
            // The guard adds the permit. Without one, no request for this path arrives here.
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
    // `println!` panics if standard output is closed. The server goes on instead.
    let _ = writeln!(io::stdout(), "Listening on http://{}", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely there is no file descriptor left. One is free when a connection ends.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // Without a timer, a client may take forever to send the head of a request.
            server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).max_buf_size(MAX_HEAD);
            server.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
            // An error means that the client broke the connection off.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}
