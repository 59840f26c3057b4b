//! A whole server, with the layer and without, for `bench/server/run`, which measures it; and the client that asks it one
//! request after the other.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    error::Error,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::get,
};
use fastauth::{
    FastAuthLayer, Secret, Settings,
    store::{MemoryStore, StoreService},
};
use http::StatusCode;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use support::NothingLayer;
use tokio::net::TcpListener;
use tower::{Layer, Service};

const ANSWER: &str = "hello, world";
/// What is read of a token that is not FastAuth's to check.
#[derive(Clone, Deserialize)]
struct Claims {
    #[allow(dead_code, reason = "it is there for handlers")]
    client_id: String,
}

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", variant] => run(variant, false),
        ["serve-once", variant] => run(variant, true),
        ["ask", address, path, count] => ask(address, path, None, count.parse().unwrap()),
        ["ask", address, path, count, token] => ask(address, path, Some(token), count.parse().unwrap()),
        _ => println!("whole servers are measured by bench/server/run"),
    }
}

/// Serves on one thread, after a line with the address and a token.
#[tokio::main(flavor = "current_thread")]
async fn run(variant: &str, once: bool) {
    let key = Secret::generate();
    let settings = || Settings::builder().cryptography_key(key.clone()).access_token_paths(["/access", "/other"]);
    let in_memory = FastAuthLayer::new(settings().store(MemoryStore::new()).build().unwrap()).unwrap();
    let auth = if variant == "fastauth-rest" {
        let store = settings().database_api_url(slow_store().await).cache_ttl(Duration::from_secs(3600));
        FastAuthLayer::new(store.build().unwrap()).unwrap()
    } else {
        in_memory
    };
    let issued = auth.issuer().issue("client").await.unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    println!("{} {}", listener.local_addr().unwrap(), issued.tokens.access_token.expose());

    let router = Router::new().route("/open", get(|| async { ANSWER })).route("/access/x", get(|| async { ANSWER }));
    match variant {
        "none" => serve(listener, router, once).await,
        "nothing" => serve(listener, NothingLayer.layer(router), once).await,
        "nothing-routed" => serve(listener, router.layer(NothingLayer), once).await,
        "fastauth" | "fastauth-rest" => serve(listener, auth.layer(router), once).await,
        "fastauth-routed" => serve(listener, router.layer(auth), once).await,
        "from-fn" => {
            let keys = Keys {
                key: DecodingKey::from_secret(key.expose().as_bytes()).unwrap(),
                validation: Validation::new(Algorithm::HS256),
            };
            serve(listener, router.layer(from_fn_with_state(Arc::new(keys), check)), once).await;
        }
        other => panic!("there is no variant {other}"),
    }
}

struct Keys {
    key: DecodingKey,
    validation: Validation,
}

/// What most people write.
async fn check(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Result<Response, StatusCode> {
    if request.uri().path().starts_with("/access") {
        let token = request.headers().get("access-token").and_then(|value| value.to_str().ok());
        let token = token.ok_or(StatusCode::UNAUTHORIZED)?;
        let token = jsonwebtoken::decode::<Claims>(token, &keys.key, &keys.validation);
        let claims = token.map_err(|_| StatusCode::UNAUTHORIZED)?.claims;
        request.extensions_mut().insert(claims);
    }
    Ok(next.run(request).await)
}

/// A store behind HTTP that answers after five milliseconds, and its address.
async fn slow_store() -> String {
    let late = from_fn(|request: Request, next: Next| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        next.run(request).await
    });
    let store = Router::new().fallback_service(StoreService::new(Arc::new(MemoryStore::new()))).layer(late);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, store).await });
    format!("http://{address}")
}

/// Serves, or serves one connection and ends.
async fn serve<S, B>(listener: TcpListener, service: S, once: bool)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service.clone()));
        if once {
            connection.await.unwrap();
            process::exit(0);
        }
        tokio::spawn(connection);
    }
}

/// Sends so many requests over one connection, each after the answer to the one before, which has to be 200.
fn ask(address: &str, path: &str, token: Option<&str>, count: usize) {
    let token = token.map(|token| format!("ACCESS-TOKEN: {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{token}\r\n");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..count {
        stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        while !buffer[..length].ends_with(ANSWER.as_bytes()) {
            let read = stream.read(&mut buffer[length..]).unwrap();
            length += read;
            let text = String::from_utf8_lossy(&buffer[..length]);
            assert!(read > 0 && (length < 12 || text.starts_with("HTTP/1.1 200")), "{text}");
        }
    }
}
