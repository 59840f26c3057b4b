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
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: it passes as connections end.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            // What the head of a request may take: without a timer, a client may take as long as it likes.
            server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).max_buf_size(MAX_HEAD);
            server.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
            // What ends with an error is a connection that the client broke off.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}
