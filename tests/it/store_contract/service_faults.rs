//! The REST store with bodies that do not come, and callers that leave.

use std::{sync::Arc, time::Duration};

use fastauth::store::{
    MemoryStore, Revocation, Revoked, StoreError, StoreErrorKind, StoreFuture, StoreService, TokenStore, forward_store,
};
use futures_util::StreamExt;
use http::{Method, StatusCode};
use http_body_util::Full;
use tower::ServiceExt;

use super::service::{memory, request};
use crate::support::{
    log::{capture, captured},
    stores::OnePair,
};

/// How long is waited for what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// By a clock that is put forward when there is nothing left to do.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let service = memory();
    for (first, target) in [("", "/token?client_id=a"), ("{\"data\":", "/token?client_id=a"), ("{", "/v2/revoke-all")] {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(first))]);
        let body = axum::body::Body::from_stream(first.chain(futures_util::stream::pending()));
        let request = request(Method::POST, target, "").map(|_| body);
        let start = tokio::time::Instant::now();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT, "{target}");
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}

/// Around the service, or its own.
#[tokio::test]
async fn a_body_that_is_too_long_is_told_so() {
    let chunked = |length: usize| {
        let chunks = (0..length).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b' '; 1024])));
        let body = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
        request(Method::POST, "/token?client_id=a", "").map(|_| body)
    };
    let response = memory().oneshot(chunked(65)).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let limited = chunked(2).map(|body| axum::body::Body::new(http_body_util::Limited::new(body, 1024)));
    assert_eq!(memory().oneshot(limited).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// A connection that is closed while its body is being sent may break before the answer is read.
#[tokio::test]
async fn the_rest_of_a_body_that_is_too_long_is_read_up_to_a_bound() {
    for (length, left) in [(96, 0), (4096, 4096 - 64 - 1 - 1024 - 1)] {
        let sent = Arc::new(std::sync::Mutex::new(0..length));
        let rest = Arc::clone(&sent);
        let chunks = futures_util::stream::poll_fn(move |_| {
            let chunk = rest.lock().unwrap().next();
            chunk.map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b' '; 1024]))).into()
        });
        let body = axum::body::Body::from_stream(chunks);
        let response = memory().oneshot(request(Method::POST, "/token?client_id=a", "").map(|_| body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(sent.lock().unwrap().len(), left);
    }
}

/// Holds a revocation up until it is let go.
#[derive(Debug)]
struct SlowToRevoke {
    behind: MemoryStore,
    fails: bool,
    begun: tokio::sync::Notify,
    go: tokio::sync::Notify,
    done: tokio::sync::Notify,
}

impl TokenStore for SlowToRevoke {
    forward_store!(|store| store.behind; load pair save rotate promises);

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            self.begun.notify_one();
            self.go.notified().await;
            let revoked = self.behind.revoke(revocation, if_version).await;
            self.done.notify_one();
            if self.fails { Err(StoreError::new(StoreErrorKind::Failed, "the disk is full")) } else { revoked }
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Failed, "the disk is full")) })
    }
}

/// A node's health asks for a client that nobody is.
#[tokio::test]
async fn a_database_that_cannot_be_written_is_seen_by_health() {
    let notify = tokio::sync::Notify::new;
    let store =
        SlowToRevoke { behind: MemoryStore::new(), fails: false, begun: notify(), go: notify(), done: notify() };
    let service = StoreService::new(Arc::new(store));
    for (client_id, expected) in
        [("fastauth-healthz", StatusCode::SERVICE_UNAVAILABLE), ("another", StatusCode::NOT_FOUND)]
    {
        for path in ["/token", "/v2/clients/-/token"] {
            let call =
                request(Method::GET, &format!("{path}?client_id={client_id}"), "").map(Full::<bytes::Bytes>::from);
            assert_eq!(service.clone().oneshot(call).await.unwrap().status(), expected, "{path} {client_id}");
        }
    }
}

/// Begins a revocation, leaves, and lets it go on.
async fn abandoned(fails: bool) -> Arc<SlowToRevoke> {
    let notify = tokio::sync::Notify::new;
    let slow = SlowToRevoke { behind: MemoryStore::new(), fails, begun: notify(), go: notify(), done: notify() };
    let store = Arc::new(slow);
    store.behind.put("a", 1).await.unwrap();
    let service = StoreService::new(Arc::clone(&store) as Arc<dyn TokenStore>);
    let call = service.oneshot(request(Method::DELETE, "/token?client_id=a", "").map(Full::<bytes::Bytes>::from));
    tokio::select! {
        _ = call => panic!("it is held up"),
        () = store.begun.notified() => {}
    }
    store.go.notify_one();
    tokio::time::timeout(PATIENCE, store.done.notified()).await.expect("the revocation goes on");
    store
}

#[tokio::test]
async fn a_revocation_goes_on_without_its_caller() {
    let store = abandoned(false).await;
    assert_eq!(store.behind.held("a").await.unwrap(), None);
}

/// Nobody else hears of it.
#[tokio::test]
async fn a_revocation_that_fails_without_its_caller_is_logged() {
    capture();
    abandoned(true).await;
    let log = captured();
    assert!(
        log.contains("ERROR")
            && log.contains("a revocation failed after its caller went away")
            && log.contains("disk is full"),
        "{log}"
    );
}
