//! Tokens that are remembered: never longer than the store says, and forged ones never.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastauth::{
    FastAuthLayer, Secret,
    store::{
        Changes, CurrentTokens, MemoryStore, RestStore, Revocation, SaveOptions, SqliteStore, StoreError,
        StoreErrorKind, StoreFuture, TokenDigest, TokenEntry, TokenRecord, TokenStore, forward_store,
    },
};
use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::{
    app::{access_token, app, get_request, send, settings},
    support::stores::StoreServer,
};

/// A store that counts the look-ups, and that does not tell of changes where it is told so.
#[derive(Clone, Debug)]
struct Counting {
    inner: MemoryStore,
    loads: Arc<AtomicUsize>,
    changes: Option<Arc<Changes>>,
    fails: Arc<AtomicBool>,
}

impl Counting {
    fn new(changes: Option<Changes>) -> Self {
        let (loads, fails) = (Arc::default(), Arc::default());
        Self { inner: MemoryStore::new(), loads, changes: changes.map(Arc::new), fails }
    }

    fn loads(&self) -> usize {
        self.loads.swap(0, Ordering::Relaxed)
    }
}

impl TokenStore for Counting {
    forward_store!(|store| store.inner; pair save rotate revoke promises);

    fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::Failed, "on purpose")) });
        }
        self.inner.load(client_id, session)
    }

    fn changes(&self) -> Option<&Changes> {
        self.changes.as_deref()
    }
}

fn layer(store: impl TokenStore) -> FastAuthLayer {
    FastAuthLayer::new(settings().store(store).build().unwrap()).unwrap()
}

async fn ask(layer: &FastAuthLayer, token: &Secret) -> StatusCode {
    let request = get_request("/access/health", &[("access-token", token.expose())]);
    send(&app(layer.clone()), request).await.status()
}

/// Waits until a token is refused: by what another process did, which is seen a little later.
async fn refused(layer: &FastAuthLayer, token: &Secret) {
    let until_refused = async {
        while ask(layer, token).await == StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), until_refused).await.expect("it is refused in the end");
}

fn sqlite(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(directory.path().join("tokens.db")).unwrap()
}

#[tokio::test]
async fn a_known_token_asks_the_store_once() {
    let store = Counting::new(Some(Changes::of_own_store()));
    let layer = layer(store.clone());
    let token = access_token(&layer, "c").await;
    for _ in 0..5 {
        assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    }
    assert_eq!(store.loads(), 1);
    store.changes.as_ref().unwrap().client_changed("c");
    assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    assert_eq!(store.loads(), 1, "the store is asked again after a change");
}

#[tokio::test]
async fn a_store_that_does_not_tell_of_changes_is_asked_every_time() {
    for changes in [None, Some(Changes::of_shared_store())] {
        let store = Counting::new(changes);
        let layer = layer(store.clone());
        let token = access_token(&layer, "c").await;
        for _ in 0..3 {
            assert_eq!(ask(&layer, &token).await, StatusCode::OK);
        }
        assert_eq!(store.loads(), 3);
    }
}

#[tokio::test]
async fn a_ttl_is_for_stores_that_others_write_to_unseen() {
    let store = Counting::new(Some(Changes::of_shared_store()));
    let settings = settings().store(store.clone()).cache_ttl(Duration::from_secs(3600));
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = access_token(&layer, "c").await;
    for _ in 0..3 {
        assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    }
    assert_eq!(store.loads(), 1);
}

#[tokio::test]
async fn switched_off_it_asks_every_time() {
    let store = Counting::new(Some(Changes::of_own_store()));
    let layer = FastAuthLayer::new(settings().store(store.clone()).cache(false).build().unwrap()).unwrap();
    let token = access_token(&layer, "c").await;
    for _ in 0..3 {
        assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    }
    assert_eq!(store.loads(), 3);
}

#[tokio::test]
async fn nothing_that_was_refused_is_remembered() {
    let store = Counting::new(Some(Changes::of_own_store()));
    let layer = layer(store.clone());
    let token = access_token(&layer, "c").await;
    store.fails.store(true, Ordering::Relaxed);
    assert_eq!(ask(&layer, &token).await, StatusCode::SERVICE_UNAVAILABLE);
    store.fails.store(false, Ordering::Relaxed);
    assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    store.loads();
    let (signed, signature) = token.expose().rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = Secret::from(format!("{signed}.{other}{}", &signature[1..]));
    for _ in 0..3 {
        assert_eq!(ask(&layer, &forged).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(store.loads(), 0, "what is not signed does not reach the store");
}

#[tokio::test]
async fn a_hot_token_is_refused_from_the_answer_on() {
    let directory = tempfile::tempdir().unwrap();
    for layer in [layer(MemoryStore::new()), layer(sqlite(&directory))] {
        let issuer = layer.issuer();
        for round in 0..20 {
            let first = issuer.issue("c").await.unwrap();
            let first = (first.tokens, first.session);
            assert_eq!(ask(&layer, &first.0.access_token).await, StatusCode::OK);
            let renewed = issuer.refresh(first.0.refresh_token.expose()).await.unwrap().tokens;
            assert_eq!(ask(&layer, &first.0.access_token).await, StatusCode::UNAUTHORIZED);
            assert_eq!(ask(&layer, &renewed.access_token).await, StatusCode::OK);
            let revocation = match round % 3 {
                0 => Revocation::Client("c".to_owned()),
                1 => Revocation::Session { client_id: "c".to_owned(), session: first.1 },
                _ => Revocation::All,
            };
            issuer.revoke(&revocation).await.unwrap();
            assert_eq!(ask(&layer, &renewed.access_token).await, StatusCode::UNAUTHORIZED, "{revocation:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn not_one_request_passes_after_the_answer_of_a_revocation() {
    let directory = tempfile::tempdir().unwrap();
    for layer in [layer(MemoryStore::new()), layer(sqlite(&directory))] {
        // Before threads have met on the token, and after.
        for passes in iter::repeat_n(0, 25).chain(iter::repeat_n(200, 10)) {
            let token = access_token(&layer, "c").await;
            let revoked = Arc::new(AtomicBool::new(false));
            let passed: [_; 4] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
            let ask_on = |passed: &Arc<AtomicUsize>| {
                let (layer, token, revoked, passed) =
                    (layer.clone(), token.clone(), Arc::clone(&revoked), Arc::clone(passed));
                tokio::spawn(async move {
                    loop {
                        let was_revoked = revoked.load(Ordering::SeqCst);
                        let status = ask(&layer, &token).await;
                        assert!(!was_revoked || status == StatusCode::UNAUTHORIZED);
                        if was_revoked {
                            return;
                        }
                        passed.fetch_add(usize::from(status == StatusCode::OK), Ordering::SeqCst);
                        tokio::task::yield_now().await;
                    }
                })
            };
            let askers: Vec<_> = passed.iter().map(ask_on).collect();
            assert_eq!(ask(&layer, &token).await, StatusCode::OK);
            while passed.iter().any(|passed| passed.load(Ordering::SeqCst) < passes) {
                tokio::task::yield_now().await;
            }
            layer.issuer().revoke(&Revocation::Client("c".to_owned())).await.unwrap();
            revoked.store(true, Ordering::SeqCst);
            for asker in askers {
                asker.await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_others_do_to_the_file_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let layer = layer(sqlite(&directory));
    let other = sqlite(&directory);

    let token = access_token(&layer, "c").await;
    assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    other.revoke(&Revocation::Client("c".to_owned()), None).await.unwrap();
    refused(&layer, &token).await;

    let token = access_token(&layer, "c").await;
    assert_eq!(ask(&layer, &token).await, StatusCode::OK);
    let by_hand = rusqlite::Connection::open(directory.path().join("tokens.db")).unwrap();
    by_hand.busy_timeout(Duration::from_secs(5)).unwrap();
    by_hand.execute("DELETE FROM token WHERE client_id = 'c'", []).unwrap();
    refused(&layer, &token).await;
}

#[tokio::test]
async fn behind_a_rest_store_what_this_process_does_counts_at_once() {
    let fixture = crate::support::stores::rest().await;
    let settings = settings().store(Arc::clone(&fixture.store)).cache_ttl(Duration::from_secs(3600));
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let issuer = layer.issuer();
    for revocation in [Revocation::Client("c".to_owned()), Revocation::All] {
        let pair = issuer.issue("c").await.unwrap().tokens;
        assert_eq!(ask(&layer, &pair.access_token).await, StatusCode::OK);
        let renewed = issuer.refresh(pair.refresh_token.expose()).await.unwrap().tokens;
        assert_eq!(ask(&layer, &pair.access_token).await, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&layer, &renewed.access_token).await, StatusCode::OK);
        issuer.revoke(&revocation).await.unwrap();
        assert_eq!(ask(&layer, &renewed.access_token).await, StatusCode::UNAUTHORIZED);
    }
}

/// A node before a REST store that counts its look-ups, and the client of it.
async fn remote(ttl: Duration) -> (FastAuthLayer, Arc<RestStore>, Counting, StoreServer) {
    let counting = Counting::new(None);
    let server = StoreServer::start(Arc::new(counting.clone()), None).await;
    let client = Arc::new(server.client());
    let settings = settings().store(Arc::clone(&client)).cache_ttl(ttl);
    (FastAuthLayer::new(settings.build().unwrap()).unwrap(), client, counting, server)
}

/// A pair that a client held once, as the store was given it.
async fn superseded(layer: &FastAuthLayer, counting: &Counting, client_id: &str) -> (Secret, TokenRecord) {
    let issuer = layer.issuer();
    let first = issuer.issue(client_id).await.unwrap();
    let held = counting.inner.pair(client_id).await.unwrap().unwrap();
    let entry = |text: Secret| TokenEntry { digest: TokenDigest::of(text.expose()), text, expires_at: 4_000_000_000 };
    let record = TokenRecord {
        client_id: client_id.to_owned(),
        // A session with a name does not begin again after it was revoked.
        session: String::new(),
        generation: 0,
        kid: String::new(),
        access: entry(held.access_token.unwrap()),
        refresh: entry(held.refresh_token.unwrap()),
    };
    issuer.issue(client_id).await.unwrap();
    (first.tokens.access_token, record)
}

#[tokio::test]
async fn a_flood_of_a_superseded_token_is_one_call_a_second() {
    let (layer, _, store, _server) = remote(Duration::from_secs(60)).await;
    let (token, _) = superseded(&layer, &store, "c").await;
    assert_eq!(ask(&layer, &token).await, StatusCode::UNAUTHORIZED);
    store.loads();
    let start = Instant::now();
    for _ in 0..2_000 {
        assert_eq!(ask(&layer, &token).await, StatusCode::UNAUTHORIZED);
    }
    // One more than whole seconds have begun, and it may have been one that the clock gained.
    let (calls, seconds) = (store.loads(), start.elapsed().as_secs() as usize);
    assert!(calls <= seconds + 2, "{calls} calls in {seconds} s");
}

#[tokio::test]
async fn without_a_ttl_a_superseded_token_is_asked_about_each_time() {
    let (layer, _, store, _server) = remote(Duration::ZERO).await;
    let (token, _) = superseded(&layer, &store, "c").await;
    ask(&layer, &token).await;
    store.loads();
    for _ in 0..5 {
        assert_eq!(ask(&layer, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(store.loads(), 5);
}

#[tokio::test]
async fn what_this_process_makes_current_is_accepted_at_once() {
    let (layer, client, store, _server) = remote(Duration::from_secs(60)).await;
    let (token, record) = superseded(&layer, &store, "c").await;
    for round in 0..10 {
        assert_eq!(ask(&layer, &token).await, StatusCode::UNAUTHORIZED);
        client.save(&record, SaveOptions::default()).await.unwrap();
        assert_eq!(ask(&layer, &token).await, StatusCode::OK, "{round}");
        if round % 2 == 0 {
            // Of a client that the store does not know any more.
            client.revoke(&Revocation::Client("c".to_owned()), None).await.unwrap();
        } else {
            layer.issuer().issue("c").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_another_process_makes_current_is_accepted_soon() {
    let (layer, _, store, server) = remote(Duration::from_secs(60)).await;
    let (token, record) = superseded(&layer, &store, "c").await;
    assert_eq!(ask(&layer, &token).await, StatusCode::UNAUTHORIZED);
    server.client().save(&record, SaveOptions::default()).await.unwrap();
    let until_accepted = async {
        while ask(&layer, &token).await != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), until_accepted).await.expect("it is accepted in the end");
}

#[tokio::test]
async fn a_store_that_failed_is_asked_again_at_once() {
    let (layer, _, store, _server) = remote(Duration::from_secs(60)).await;
    let token = access_token(&layer, "c").await;
    // A look-up that fails is sent twice, and five failures in a row would open the breaker.
    for _ in 0..2 {
        store.fails.store(true, Ordering::Relaxed);
        assert_eq!(ask(&layer, &token).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    store.fails.store(false, Ordering::Relaxed);
    assert_eq!(ask(&layer, &token).await, StatusCode::OK);
}

/// Tokens that look like one that is good, each of another kind, and none of them signed with the key.
fn forgeries(good: &Secret, number: usize) -> Secret {
    let parts: Vec<_> = good.expose().split('.').collect();
    let claims = json!({ "client_id": format!("c-{number}"), "type": "access", "exp": 4_000_000_000u64 });
    let of_another_key = |algorithm| {
        let key = EncodingKey::from_secret(format!("a key that is made for attempt {number}").as_bytes()).unwrap();
        encode(&Header::new(algorithm), &claims, &key).unwrap()
    };
    let payload = of_another_key(Algorithm::HS256).split('.').nth(1).unwrap().to_owned();
    Secret::from(match number % 4 {
        0 => of_another_key(Algorithm::HS256),
        1 => of_another_key(Algorithm::HS512),
        2 => format!("{}.{payload}.{}", parts[0], parts[2]),
        _ => format!("{}.{}.{}", parts[0], parts[1], "A".repeat(43)),
    })
}

#[tokio::test]
async fn a_flood_of_forged_tokens_neither_fills_nor_empties_what_is_remembered() {
    let of_others = Some(Duration::from_secs(3600));
    for (changes, ttl) in [(Changes::of_own_store(), None), (Changes::of_shared_store(), of_others)] {
        let store = Counting::new(Some(changes));
        // Room for the honest ones, and for no more.
        let settings = settings().store(store.clone()).cache_capacity(20).cache_ttl(ttl.unwrap_or_default());
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let mut honest = Vec::new();
        for number in 0..15 {
            honest.push(access_token(&layer, &format!("honest-{number}")).await);
        }
        // Each once, so that the least that got in would push one of them out.
        for token in &honest {
            assert_eq!(ask(&layer, token).await, StatusCode::OK);
        }
        assert_eq!(store.loads(), honest.len());
        for number in 0..4_000 {
            assert_eq!(ask(&layer, &forgeries(&honest[number % 15], number)).await, StatusCode::UNAUTHORIZED);
            if number % 500 == 499 {
                assert_eq!(ask(&layer, &honest[number / 500]).await, StatusCode::OK);
            }
        }
        assert_eq!(store.loads(), 0, "during the flood");
        for token in &honest {
            assert_eq!(ask(&layer, token).await, StatusCode::OK);
        }
        assert_eq!(store.loads(), 0, "after the flood");
    }
}
