//! Nodes that share a store whose feed tells each of what the others do.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::ws::WebSocketUpgrade, response::Response, routing::any};
use fastauth::{
    FastAuthLayer, Permit, Secret,
    config::TokensPerClient,
    store::{FeedNews, MemoryStore, Revocation, TokenStore},
};
use futures_util::StreamExt;
use http::StatusCode;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    app::{access_token, app, get_request, send, serve, settings},
    support::stores::StoreServer,
    websocket::open,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A node that is told of all changes.
async fn node(server: &StoreServer) -> FastAuthLayer {
    let is_told = Arc::new(Notify::new());
    let told = Arc::clone(&is_told);
    let store = server.client().on_feed(Arc::new(move |news| {
        if let FeedNews::Heartbeat { .. } = news {
            told.notify_one();
        }
    }));
    let settings = settings().store(store).tokens_per_client(TokensPerClient::Many);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    access_token(&layer, "somebody").await;
    timeout(LONG, is_told.notified()).await.expect("the feed is heard");
    layer
}

async fn ask(layer: &FastAuthLayer, token: &Secret) -> StatusCode {
    let request = get_request("/access/health", &[("access-token", token.expose())]);
    send(&app(layer.clone()), request).await.status()
}

/// An application with a socket that ends with its permit.
fn with_socket(layer: FastAuthLayer) -> Router {
    let guarded = async |permit: Permit, upgrade: WebSocketUpgrade| -> Response {
        upgrade.on_upgrade(async move |socket| {
            let mut socket = permit.guard(socket);
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    Router::new().route("/access/ws", any(guarded)).layer(layer)
}

/// Waits until a token is refused.
async fn refused(layer: &FastAuthLayer, token: &Secret) {
    let asking = async {
        while ask(layer, token).await == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, asking).await.expect("it is refused");
}

/// Returns the times at these shares of all.
fn shares(mut times: Vec<Duration>, shares: [usize; 2]) -> [Duration; 2] {
    times.sort_unstable();
    shares.map(|share| times[(times.len() * share / 100).min(times.len() - 1)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_on_one_node_is_seen_on_another() {
    let server = StoreServer::start(Arc::new(MemoryStore::new()), None).await;
    let nodes = [node(&server).await, node(&server).await];
    let address = serve(with_socket(nodes[1].clone())).await;
    let refusals = Mutex::new(Vec::new());
    let endings = Mutex::new(Vec::new());
    for number in 0..50 {
        let client_id = format!("c{number}");
        let token = access_token(&nodes[0], &client_id).await;
        for _ in 0..3 {
            assert_eq!(ask(&nodes[1], &token).await, StatusCode::OK, "it was issued a moment ago");
        }
        let (mut socket, _) =
            open(&format!("ws://{address}/access/ws"), &[("access-token", token.expose())]).await.unwrap();
        nodes[0].issuer().revoke(&Revocation::Client(client_id)).await.unwrap();
        let since = Instant::now();
        let is_refused = async {
            refused(&nodes[1], &token).await;
            refusals.lock().unwrap().push(since.elapsed());
        };
        let is_ended = async {
            while timeout(LONG, socket.next()).await.expect("it ends").is_some() {}
            endings.lock().unwrap().push(since.elapsed());
        };
        futures_util::future::join(is_refused, is_ended).await;
    }
    let refusals = shares(refusals.into_inner().unwrap(), [50, 99]);
    let endings = shares(endings.into_inner().unwrap(), [50, 99]);
    println!("tokens were refused after {refusals:?} (p50, p99), and sockets ended after {endings:?}");
    assert!(refusals[0] < Duration::from_millis(100) && endings[0] < Duration::from_millis(100), "in milliseconds");
}

#[tokio::test]
async fn change_while_a_node_was_cut_off_is_not_missed() {
    let store: Arc<dyn TokenStore> = Arc::new(MemoryStore::new());
    let server = StoreServer::start(Arc::clone(&store), None).await;
    let node = node(&server).await;
    let token = access_token(&node, "c").await;
    let other = access_token(&node, "d").await;
    assert_eq!((ask(&node, &token).await, ask(&node, &other).await), (StatusCode::OK, StatusCode::OK));
    let address = server.stop().await;
    store.revoke(&Revocation::Client("c".to_owned()), None).await.unwrap();
    assert_eq!(ask(&node, &other).await, StatusCode::OK, "the store is away, and it is cached");
    let _server = StoreServer::start(store, Some(address)).await;
    refused_in_the_end(&node, &token).await;
    assert_eq!(ask(&node, &other).await, StatusCode::OK);
}

/// Waits until a token is refused for good, and not because the store is away.
async fn refused_in_the_end(layer: &FastAuthLayer, token: &Secret) {
    let asking = async {
        while ask(layer, token).await != StatusCode::UNAUTHORIZED {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, asking).await.expect("it is refused");
}
