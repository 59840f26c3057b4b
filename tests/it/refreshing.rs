//! Refreshing beside others, and when answers are late or lost.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use fastauth::{
    FastAuthLayer, IssueError, IssueErrorKind, IssuedTokens,
    store::{MemoryStore, Rotated, Rotation, StoreError, StoreErrorKind, StoreFuture, TokenStore, forward_store},
    test_util::{FailingStore, ManualClock, StoreCall},
};
use http::{Request, StatusCode};
use tokio::{sync::Semaphore, task::JoinSet};
use tower::ServiceExt;

use crate::{
    app::{Endpoints, FORM, app, body, send, settings},
    support::stores,
};

/// A store that answers rotations only as it is let, after it has done them, and otherwise as the one beneath.
#[derive(Clone, Debug)]
struct Gated {
    inner: FailingStore<MemoryStore>,
    lets: Arc<Semaphore>,
    loses: Arc<std::sync::atomic::AtomicBool>,
}

impl Gated {
    fn new(inner: MemoryStore) -> Self {
        Self { inner: FailingStore::new(inner), lets: Arc::new(Semaphore::new(0)), loses: Arc::default() }
    }

    fn open(&self) {
        self.lets.add_permits(1_000_000);
    }

    /// Whether the answers of rotations, which are done, come to nobody.
    fn loses_answers(&self, loses: bool) {
        self.loses.store(loses, std::sync::atomic::Ordering::Relaxed);
    }

    fn rotations(&self) -> u64 {
        self.inner.calls(StoreCall::Rotate)
    }

    async fn until_rotating(&self) {
        while self.rotations() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl TokenStore for Gated {
    forward_store!(|store| store.inner; load pair save revoke promises);

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let rotated = self.inner.rotate(rotation).await;
            self.lets.acquire().await.unwrap().forget();
            match self.loses.load(std::sync::atomic::Ordering::Relaxed) {
                true => Err(StoreError::new(StoreErrorKind::TimedOut, "it takes too long")),
                false => rotated,
            }
        })
    }
}

fn layer(store: impl TokenStore) -> FastAuthLayer {
    FastAuthLayer::new(settings().store(store).build().unwrap()).unwrap()
}

type Refreshed = Result<IssuedTokens, IssueError>;

fn refresh(layer: &FastAuthLayer, token: &str) -> Pin<Box<dyn Future<Output = Refreshed> + Send>> {
    let (issuer, token) = (layer.issuer(), token.to_owned());
    Box::pin(async move { issuer.refresh(&token).await })
}

#[tokio::test]
async fn concurrent_refreshes_of_one_token_are_one_store_call() {
    let store = Gated::new(MemoryStore::new());
    let layer = layer(store.clone());
    let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
    let mut rivals = JoinSet::new();
    for _ in 0..1000 {
        rivals.spawn(refresh(&layer, token.expose()));
    }
    store.until_rotating().await;
    // All that are spawned have had their turn by then: there is one thread, and each waits.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    store.open();
    let answers = rivals.join_all().await;
    let pair = answers[0].as_ref().unwrap().tokens.clone();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().tokens == pair));
    assert_eq!(store.rotations(), 1);
    assert!(layer.issuer().refresh(pair.refresh_token.expose()).await.is_ok());
}

/// They come one after the other, at a store that is far away: none waits its turn behind all before it.
#[tokio::test(start_paused = true)]
async fn refreshes_during_a_store_call_share_its_answer() {
    let store = FailingStore::new(MemoryStore::new());
    let layer = layer(store.clone());
    let server = app(layer.clone());
    let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
    store.delay(Duration::from_millis(50));
    let began = tokio::time::Instant::now();
    let mut rivals = JoinSet::new();
    for number in 0..1000 {
        let (server, token) = (server.clone(), token.clone());
        rivals.spawn(async move {
            tokio::time::sleep(Duration::from_millis(number % 100)).await;
            let request = Request::post("/auth/token/refresh").header("content-type", FORM);
            let form = axum::body::Body::from(format!("refresh_token={}", token.expose()));
            let response = send(&server, request.body(form).unwrap()).await;
            (response.status(), body(response).await["data"]["access_token"].clone())
        });
    }
    let answers = rivals.join_all().await;
    assert!(answers.iter().all(|answer| *answer == (StatusCode::OK, answers[0].1.clone())));
    assert!(store.calls(StoreCall::Rotate) <= 4, "{} calls", store.calls(StoreCall::Rotate));
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test]
async fn disconnecting_client_does_not_cancel_the_exchange() {
    let store = Gated::new(MemoryStore::new());
    let layer = layer(store.clone());
    let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
    let leaves = tokio::spawn(refresh(&layer, token.expose()));
    store.until_rotating().await;
    let stays = tokio::spawn(refresh(&layer, token.expose()));
    tokio::task::yield_now().await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    store.open();
    let pair = stays.await.unwrap().unwrap().tokens;
    assert_eq!(store.rotations(), 1);
    assert!(layer.issuer().refresh(pair.refresh_token.expose()).await.is_ok());
}

/// Two stores' worth of tokens wait for nothing of each other.
#[tokio::test]
async fn other_tokens_have_their_own_store_calls() {
    let store = Gated::new(MemoryStore::new());
    let layer = layer(store.clone());
    let [one, other] = ["c", "d"].map(|client_id| (layer.issuer(), client_id));
    let one = one.0.issue(one.1).await.unwrap().tokens.refresh_token;
    let other = other.0.issue(other.1).await.unwrap().tokens.refresh_token;
    store.open();
    let (one, other) = tokio::join!(refresh(&layer, one.expose()), refresh(&layer, other.expose()));
    assert_eq!((one.unwrap().client_id, other.unwrap().client_id), ("c".to_owned(), "d".to_owned()));
    assert_eq!(store.rotations(), 2);
}

/// What failed is not kept, and is told to all that waited for it.
#[tokio::test]
async fn failure_is_not_kept_for_later_requests() {
    let store = Gated::new(MemoryStore::new());
    let layer = layer(store.clone());
    let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
    store.loses_answers(true);
    store.open();
    let (one, other) = tokio::join!(refresh(&layer, token.expose()), refresh(&layer, token.expose()));
    for failed in [one, other] {
        assert!(matches!(failed.unwrap_err().kind(), IssueErrorKind::Store(_)));
    }
    store.loses_answers(false);
    assert!(layer.issuer().refresh(token.expose()).await.is_ok());
}

/// Also at stores that cannot repeat a pair, which one process can all the same while it has it in hand.
#[tokio::test]
async fn concurrent_refreshes_get_the_same_pair_from_every_store() {
    for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await, stores::rest_v1().await] {
        let layer = FastAuthLayer::new(settings().store(fixture.store).build().unwrap()).unwrap();
        let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
        let mut rivals = JoinSet::new();
        for _ in 0..50 {
            rivals.spawn(refresh(&layer, token.expose()));
        }
        let answers = rivals.join_all().await;
        let pair = answers[0].as_ref().unwrap().tokens.clone();
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().tokens == pair));
    }
}

/// The store did it, and its answer took as long as a call may. The grace begins when the client can be told.
#[tokio::test]
async fn late_answer_does_not_revoke_the_session() {
    for grace in [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(10))] {
        let clock = ManualClock::new();
        let store = Gated::new(MemoryStore::with_clock(&clock));
        let settings = settings().store(store.clone()).clock(&clock);
        let settings = grace.into_iter().fold(settings, fastauth::SettingsBuilder::refresh_grace);
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let server = Endpoints::of(&layer).await;
        let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
        let form = format!("refresh_token={}", token.expose());
        store.open();
        store.loses_answers(true);
        assert_eq!(server.post("/auth/token/refresh", &form).await.status, 503);
        store.loses_answers(false);
        clock.advance(Duration::from_millis(10_500));
        let again = server.post("/auth/token/refresh", &form).await;
        assert_eq!(again.status, 200, "{grace:?}: {again:?}");
        assert!(server.opens(again.json()["data"]["access_token"].as_str().unwrap()).await);
        // In the end it is a used one.
        clock.advance(Duration::from_secs(71));
        assert_eq!(server.post("/auth/token/refresh", &form).await.status, 401);
        assert_eq!(layer.token_counts().reused, 1);
    }
}

/// A store in this process answers as soon as it has done it.
#[tokio::test]
async fn grace_is_as_configured_if_the_store_is_fast() {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(&clock);
    let settings = settings().store(store).clock(&clock).refresh_grace(Duration::from_secs(10));
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
    assert!(layer.issuer().refresh(token.expose()).await.is_ok());
    clock.advance(Duration::from_secs(9));
    assert!(layer.issuer().refresh(token.expose()).await.is_ok());
    clock.advance(Duration::from_secs(1));
    let error = layer.issuer().refresh(token.expose()).await.unwrap_err();
    assert!(matches!(error.kind(), IssueErrorKind::Reused));
}

/// A store behind HTTP is told the grace with its own patience on top, and none where there is none.
#[tokio::test]
async fn rest_store_gets_the_grace_and_its_patience() {
    for (grace, told) in [(Duration::from_secs(5), Some(8_000)), (Duration::ZERO, Some(0))] {
        let seen = Arc::new(std::sync::Mutex::new(None));
        let note = Arc::clone(&seen);
        let behind = fastauth::store::StoreService::new(Arc::new(MemoryStore::new()));
        let listener = tokio::net::TcpListener::bind(stores::any_port()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(async move |request: Request<axum::body::Body>| {
            let (parts, sent) = request.into_parts();
            let sent = axum::body::to_bytes(sent, 1 << 20).await.unwrap();
            let text: serde_json::Value = serde_json::from_slice(&sent).unwrap_or_default();
            if let Some(grace) = text["grace_ms"].as_u64() {
                *note.lock().unwrap() = Some(grace);
            }
            behind.oneshot(Request::from_parts(parts, http_body_util::Full::new(sent))).await
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let settings = settings_without_store().database_api_url(url).refresh_grace(grace);
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
        assert!(layer.issuer().refresh(token.expose()).await.is_ok());
        assert_eq!(*seen.lock().unwrap(), told);
    }
}

fn settings_without_store() -> fastauth::SettingsBuilder {
    fastauth::Settings::builder().cryptography_key(crate::app::KEY).access_token_paths(["/access"])
}
