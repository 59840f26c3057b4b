//! Tests of when a permit ends.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use tokio::{task::yield_now, time::timeout};

use super::*;
use crate::{
    keys::KeyRing,
    store::{Changes, MemoryStore, Revocation, SaveOptions, TokenEntry, TokenRecord},
    token::NewToken,
};

/// Longer than any step of these tests takes.
const LONG: Duration = Duration::from_secs(20);

/// A session in a store in memory, to which others may write, and the access by it.
struct Scene {
    store: MemoryStore,
    lifetimes: Arc<Lifetimes>,
    access: Arc<Access>,
}

impl Scene {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let keys = Arc::new(KeyRing::new(&Secret::generate(), 0, &[]).unwrap());
        let current = Arc::new(CurrentKeys::new(Arc::clone(&keys)));
        let reader = TokenReader { keys: current, issuer: None, audience: None };
        // What others write is never looked at twice in a test.
        let hour = Duration::from_secs(3600);
        let lifetimes = Lifetimes::new(Arc::new(store.clone()), reader, Clock::default(), hour, Duration::ZERO);
        let lifetimes = Arc::new(Lifetimes { least_interval: hour, ..lifetimes });
        let now = Clock::default().unix_now();
        let (token, _) = keys.sign_token(&NewToken::new("c", TokenType::Access, now, LONG * 100)).unwrap();
        let digest = TokenDigest::of(token.expose());
        let entry = TokenEntry { text: token.clone(), digest, expires_at: 0 };
        let record = TokenRecord {
            client_id: "c".to_owned(),
            session: String::new(),
            generation: 0,
            kid: String::new(),
            access: entry.clone(),
            refresh: entry,
        };
        store.save(&record, SaveOptions::default()).await.unwrap();
        let claims = keys.verify(token.expose().as_bytes(), &Expected::new(TokenType::Access, now)).unwrap();
        let access = Arc::new(Access::new(claims, &lifetimes));
        Self { store, lifetimes, access }
    }

    fn changes(&self) -> &Changes {
        self.store.changes().expect("it tells of changes")
    }

    async fn revoke(&self) {
        self.store.revoke(&Revocation::Client("c".to_owned()), None).await.unwrap();
    }
}

/// Counts how often a future is polled.
struct Counted<F>(Pin<Box<F>>, Arc<AtomicUsize>);

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.as_mut().poll(cx)
    }
}

/// Lets every task run that is ready to.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test]
async fn own_changes_are_noticed_while_others_write() {
    let scene = Scene::new().await;
    let waiting = tokio::spawn(end(Arc::clone(&scene.access)));
    settle().await;
    // The first is looked at, and the next would be in an hour.
    for _ in 0..10 {
        scene.changes().others_changed();
        settle().await;
    }
    scene.revoke().await;
    assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), EndReason::Revoked);
}

#[tokio::test]
async fn writes_of_others_wake_nothing_that_waits() {
    let scene = Scene::new().await;
    let polls = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(Counted(Box::pin(end(Arc::clone(&scene.access))), Arc::clone(&polls))))
        .collect();
    settle().await;
    assert_eq!(polls.swap(0, Ordering::Relaxed), 1000);
    for _ in 0..10 {
        scene.changes().others_changed();
        settle().await;
    }
    assert_eq!(polls.swap(0, Ordering::Relaxed), 0);
    scene.revoke().await;
    for waiting in waiting {
        assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), EndReason::Revoked);
    }
    assert!(polls.load(Ordering::Relaxed) <= 2000);
}

/// Only answers from after the call count.
#[tokio::test]
async fn later_call_goes_by_later_answers() {
    let scene = Scene::new().await;
    let first = tokio::spawn(end(Arc::clone(&scene.access)));
    settle().await;
    scene.revoke().await;
    // The one before may not have seen it yet.
    let second = tokio::spawn(end(Arc::clone(&scene.access)));
    for waiting in [first, second, tokio::spawn(end(Arc::clone(&scene.access)))] {
        assert_eq!(timeout(LONG, waiting).await.unwrap().unwrap(), EndReason::Revoked);
    }
    settle().await;
    assert!(scene.lifetimes.sessions.lock().unwrap().is_empty(), "nothing waits any more");
}
