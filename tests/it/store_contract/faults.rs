//! A REST store under faults: what is let through, what goes first, and what is not taken for the store's word.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastauth::{
    FastAuthLayer,
    store::{
        MemoryStore, Promises, RestStore, Revocation, Revoked, Rotated, Rotation, SaveOptions, StoreErrorKind,
        TokenStore,
    },
};
use futures_util::{
    FutureExt,
    future::{join_all, select_all},
};
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;

use crate::support::{
    faulty::{Behaviour, FaultyStore},
    front::{Front, Mode},
    stores::{ManySessions, OnePair, current, exchange, held, record, refresh, renewal},
    v1::Rows,
};

const PAIR: &[u8] = br#"{"data":{"access_token":"access-1","refresh_token":"refresh-1"}}"#;

/// How long is waited for what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn client(server: &FaultyStore) -> RestStore {
    RestStore::new(&server.url(), HeaderMap::new()).unwrap()
}

/// A client that knows that the store speaks the first version.
async fn acquainted(server: &FaultyStore) -> RestStore {
    server.becomes(Behaviour::Answer(StatusCode::OK, PAIR.to_vec()));
    let store = client(server);
    assert_eq!(store.promises().await.unwrap(), Promises::NONE);
    store
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// The bodies that were written.
fn written(server: &FaultyStore) -> Vec<String> {
    let seen = server.seen().into_iter().filter(|seen| seen.line.starts_with("POST"));
    seen.map(|seen| String::from_utf8(seen.body).unwrap()).collect()
}

/// By the first version, where writes of one client follow each other.
#[tokio::test]
async fn a_revocation_goes_before_the_refreshes_that_wait() {
    let (up, flag) = watch::channel(false);
    let server = FaultyStore::start(Behaviour::AnswerWhen(flag, PAIR.to_vec())).await;
    let store = client(&server);
    let rotations: Vec<_> = (2..40).map(|n| exchange("c", &refresh(1), n)).collect();
    let mut refreshes: Vec<_> = rotations.iter().map(|rotation| store.rotate(rotation)).collect();
    for refresh in &mut refreshes {
        assert!(refresh.now_or_never().is_none());
    }
    let revocation = Revocation::Client("c".to_owned());
    let mut revoking = store.revoke(&revocation, None);
    assert!((&mut revoking).now_or_never().is_none());
    up.send(true).unwrap();
    let (revoked, _) = soon("a revocation", async { tokio::join!(revoking, join_all(refreshes)) }).await;
    assert_eq!(revoked.unwrap(), Revoked::Sessions(1));
    let written = written(&server);
    let place = written.iter().position(|body| body.contains("revoked")).expect("it was written");
    assert!(place <= 1, "{place} refreshes of {} went before it", written.len() - 1);
}

/// By the first version, too: that a token was superseded needs no turn.
#[tokio::test]
async fn refreshes_that_are_lost_do_not_wait_for_the_one_that_is_not() {
    let server = FaultyStore::start(Behaviour::SilentToPost(PAIR.to_vec())).await;
    let store = client(&server);
    let good = exchange("c", &refresh(1), 2);
    let mut refreshing = store.rotate(&good);
    tokio::select! {
        _ = &mut refreshing => panic!("the store is silent to it"),
        () = server.saw(2) => {}
    }
    let superseded: Vec<_> = (0..600).map(|n| exchange("c", &refresh(1000 + n), n)).collect();
    let outcomes = join_all(superseded.iter().map(|rotation| store.rotate(rotation)));
    let outcomes = tokio::select! {
        _ = &mut refreshing => panic!("the store is silent to it"),
        outcomes = outcomes => outcomes,
    };
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap() == Rotated::Superseded));
}

/// By the second version the store decides on each, and none waits for another.
#[tokio::test]
async fn calls_of_the_second_version_do_not_wait_for_each_other() {
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    let store = front.client();
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    for session in ["f", "g", "h"] {
        store.begin("c", session, session).await;
    }
    front.seen();
    let (up, flag) = watch::channel(false);
    front.becomes(Mode::HoldsPosts(flag));
    let rotations = ["f", "g", "h"].map(|session| renewal("c", session, 0, session, format!("{session}-2")));
    let mut refreshes: Vec<_> = rotations.iter().map(|rotation| store.rotate(rotation)).collect();
    let all_there = async {
        while front.count() < 3 {
            tokio::task::yield_now().await;
        }
    };
    soon("three calls at once", async {
        tokio::select! {
            _ = select_all(&mut refreshes) => panic!("they are held"),
            () = all_there => {}
        }
    })
    .await;
    let revocation = Revocation::Session { client_id: "c".to_owned(), session: "h".to_owned() };
    let revoked = soon("a revocation", store.revoke(&revocation, None)).await;
    assert_eq!(revoked.unwrap(), Revoked::Sessions(1));
    up.send(true).unwrap();
    let rotated: Vec<_> = join_all(refreshes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(rotated, [Rotated::Rotated, Rotated::Rotated, Rotated::Revoked]);
}

#[tokio::test]
async fn a_revocation_goes_on_without_its_caller() {
    let held = Arc::new(Mutex::new(PAIR.to_vec()));
    // While it asks what is held, and while it waits for its turn.
    for is_behind_a_write in [false, true] {
        let (up, flag) = watch::channel(false);
        let server = FaultyStore::start(Behaviour::AnswerWhen(flag, PAIR.to_vec())).await;
        let store = client(&server);
        let rotation = exchange("c", &refresh(1), 2);
        let mut refreshing = store.rotate(&rotation);
        if is_behind_a_write {
            assert!((&mut refreshing).now_or_never().is_none());
        }
        let revocation = Revocation::Client("c".to_owned());
        let mut revoking = store.revoke(&revocation, None);
        tokio::select! {
            _ = &mut revoking => panic!("the flag is down"),
            _ = &mut refreshing, if is_behind_a_write => panic!("the flag is down"),
            () = server.saw(1) => {}
        }
        drop(revoking);
        server.becomes(Behaviour::Holds(Arc::clone(&held)));
        up.send(true).unwrap();
        if is_behind_a_write {
            refreshing.await.unwrap();
        }
        soon("the revocation", async {
            while !written(&server).iter().any(|body| body.contains("revoked")) {
                server.saw(server.count() + 1).await;
            }
        })
        .await;
    }
}

/// Some servers close a connection that was idle for less long than we keep it.
#[tokio::test]
async fn a_write_on_a_connection_that_was_closed_is_sent_again() {
    let server = FaultyStore::start(Behaviour::Answer(StatusCode::OK, PAIR.to_vec())).await;
    let store = client(&server);
    for n in 2..6 {
        server.becomes(Behaviour::Answer(StatusCode::OK, PAIR.to_vec()));
        assert_eq!(store.load("c", None).await.unwrap(), current(1));
        server.becomes(Behaviour::CloseWhenReused(PAIR.to_vec()));
        store.put("c", n).await.unwrap();
    }
    server.becomes(Behaviour::Answer(StatusCode::OK, PAIR.to_vec()));
    assert_eq!(store.load("c", None).await.unwrap(), current(1));
    server.becomes(Behaviour::CloseWhenReused(PAIR.to_vec()));
    assert_eq!(store.exchange("c", &refresh(1), 7).await.unwrap(), Rotated::Rotated);
    // With the second version, the store is asked first, and decides.
    let behind = MemoryStore::new();
    let front = Front::start(Arc::new(behind.clone())).await;
    let store = front.client();
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    front.becomes(Mode::CutsOneWrite(Arc::default()));
    store.begin("c", "f", 1).await;
    front.becomes(Mode::CutsOneWrite(Arc::default()));
    let gracious = Rotation { grace: Duration::from_secs(10), ..renewal("c", "f", 0, 1, 2) };
    assert_eq!(store.rotate(&gracious).await.unwrap(), Rotated::Rotated);
    assert!(behind.accepts("c", "f", 2).await);
    front.becomes(Mode::CutsOneWrite(Arc::default()));
    assert_eq!(store.revoke_session("c", "f").await, Revoked::Sessions(1));
    assert_eq!(behind.load("c", None).await.unwrap(), None);
}

/// After a failover, connections that were kept say nothing any more, and new ones work.
#[tokio::test]
async fn silent_connections_are_given_up_together() {
    let (up, flag) = watch::channel(false);
    let server = FaultyStore::start(Behaviour::AnswerWhen(flag, PAIR.to_vec())).await;
    let store = client(&server);
    let fill_pool = async {
        server.saw(8).await;
        up.send(true).unwrap();
    };
    let ids: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    let (loaded, ()) = tokio::join!(join_all(ids.iter().map(|id| store.load(id, None))), fill_pool);
    assert!(loaded.iter().all(Result::is_ok));
    server.becomes(Behaviour::SilentBefore(server.connections(), PAIR.to_vec()));
    let before = server.count();
    for id in &ids {
        assert_eq!(store.load(id, None).await.unwrap(), current(1), "not after ten seconds");
    }
    let more = server.count() - before - ids.len();
    assert!(more <= 1, "{more} look-ups met a connection that says nothing");
}

/// A page in the store's place is nobody's word: neither that a client is not known, nor that a pair is saved.
#[tokio::test]
async fn a_page_is_not_the_word_of_a_store_of_the_first_version() {
    let server = FaultyStore::start(Behaviour::Answer(StatusCode::OK, PAIR.to_vec())).await;
    let page = |status, content_type, body: &str| Behaviour::Typed(status, content_type, body.as_bytes().to_vec());
    let client_of = |id: &str| Revocation::Client(id.to_owned());
    for (content_type, body) in [
        ("text/html", "<html><h1>404 Not Found</h1></html>"),
        ("text/html; charset=utf-8", "<!DOCTYPE html><p>no such site"),
        ("text/plain; charset=utf-8", "404 page not found\n"),
        ("text/plain", "default backend - 404"),
        ("application/json", r#"{"message":"no Route matched with those values"}"#),
        ("application/json", "[]"),
        ("application/json", r#"{"detail":[]}"#),
        ("application/json", r#"{"detail":"#),
    ] {
        let store = client(&server);
        server.becomes(page(StatusCode::NOT_FOUND, content_type, body));
        for outcome in [
            store.load("c", None).await.map(drop),
            store.pair("c").await.map(drop),
            store.exchange("c", &refresh(1), 2).await.map(drop),
            store.revoke(&client_of("c"), None).await.map(drop),
            store.promises().await.map(drop),
        ] {
            assert_eq!(outcome.expect_err(body).kind(), StoreErrorKind::InvalidAnswer, "{body}");
        }
    }
    for (content_type, body) in [
        ("application/json", r#"{"detail":"Not Found"}"#),
        ("text/plain", r#" {"detail":"the client is not known","more":1} "#),
    ] {
        let store = client(&server);
        server.becomes(page(StatusCode::NOT_FOUND, content_type, body));
        assert_eq!(store.load("c", None).await.unwrap(), None, "{body}");
        assert_eq!(store.revoke(&client_of("c"), None).await.unwrap(), Revoked::Sessions(0), "{body}");
    }
    for (content_type, body) in [
        ("text/html", "<html>log in first</html>"),
        ("text/html", "welcome"),
        ("text/plain", " \n<!doctype html>"),
        ("application/xml", "<ok/>"),
        ("application/octet-stream", "\0\u{1}"),
        ("application/json", r#"{"error":"no such route"}"#),
        ("application/json", r#"{"status":"error"}"#),
        ("application/json", "[]"),
        ("text/plain", "the service is being deployed"),
        ("text/plain", "\u{feff}<html>"),
    ] {
        let store = acquainted(&server).await;
        server.becomes(page(StatusCode::OK, content_type, body));
        let error = store.put("c", 1).await.expect_err(body);
        assert_eq!((error.kind(), error.is_save()), (StoreErrorKind::InvalidAnswer, true), "{body}");
    }
    for (content_type, body) in [
        ("text/plain", "saved"),
        ("application/json", "null"),
        ("application/json", "{}"),
        ("application/json", r#"{"status":"ok"}"#),
        ("text/plain", ""),
    ] {
        let store = acquainted(&server).await;
        server.becomes(page(StatusCode::OK, content_type, body));
        let before = server.count();
        store.put("c", 1).await.unwrap();
        assert_eq!(server.count() - before, 1, "{body}");
    }
    // Where it may be anybody's word, what is held tells.
    let store = acquainted(&server).await;
    let said = page(StatusCode::OK, "application/json", r#"{"result":1}"#);
    server.becomes(Behaviour::ToPost(Box::new(said), PAIR.to_vec()));
    store.put("c", 1).await.unwrap();
    assert!(store.put("c", 2).await.is_err(), "another pair is held");
}

/// A 404 without a body is what many say that stand before a store.
#[tokio::test]
async fn a_bare_404_does_not_acknowledge_a_revocation() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let server = FaultyStore::start(Behaviour::Holds(Arc::clone(&held))).await;
    let store = client(&server);
    let revocation = Revocation::Client("c".to_owned());
    assert_eq!(store.load("c", None).await.unwrap(), None);
    assert_eq!(store.revoke(&revocation, None).await.unwrap(), Revoked::Sessions(0));
    assert!(String::from_utf8_lossy(&held.lock().unwrap()).contains("revoked"), "the store has said so itself");
    server.becomes(Behaviour::Answer(StatusCode::NOT_FOUND, Vec::new()));
    let error = store.revoke(&revocation, None).await.expect_err("nobody has");
    assert_eq!(error.kind(), StoreErrorKind::InvalidAnswer);
}

#[tokio::test]
async fn what_is_revoked_is_not_written_again() {
    let server = FaultyStore::start(Behaviour::Holds(Arc::new(Mutex::new(PAIR.to_vec())))).await;
    let store = client(&server);
    let revocation = Revocation::Client("c".to_owned());
    for expected in [1, 0, 0] {
        assert_eq!(store.revoke(&revocation, None).await.unwrap(), Revoked::Sessions(expected));
    }
    assert_eq!(written(&server).len(), 1);
}

/// Of a write that is on its way for long nobody knows when it arrives: another one would make good what was revoked meanwhile.
#[tokio::test]
async fn a_write_that_nothing_is_heard_of_is_not_sent_again() {
    let behind = MemoryStore::new();
    let front = Front::start(Arc::new(behind.clone())).await;
    let store = front.client().timeout(Duration::from_secs(1));
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    store.begin("c", "f", 1).await;
    let (_up, flag) = watch::channel(false);
    front.becomes(Mode::HoldsPosts(flag));
    front.seen();
    let posts = || front.seen().iter().filter(|call| call.starts_with("POST")).count();
    let saved = store.save(&record("d", "f", 0, 1), SaveOptions::default()).await;
    assert_eq!((saved.expect_err("it is held").kind(), posts()), (StoreErrorKind::TimedOut, 1));
    let gracious = Rotation { grace: Duration::from_secs(10), ..renewal("c", "f", 0, 1, 2) };
    let rotated = store.rotate(&gracious).await;
    assert_eq!((rotated.expect_err("it is held").kind(), posts()), (StoreErrorKind::TimedOut, 1));
    // What takes rights away does no such harm.
    let revoked = store.revoke(&Revocation::All, None).await;
    assert_eq!((revoked.expect_err("it is held").kind(), posts()), (StoreErrorKind::TimedOut, 2));
}

/// Once a store was known to speak the second version, less is a fault.
#[tokio::test]
async fn a_store_that_was_of_the_second_version_is_never_less() {
    let behind = MemoryStore::new();
    let front = Front::start(Arc::new(behind.clone())).await;
    let store = front.client();
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    store.begin("c", "f", 1).await;
    // The write has happened, and the store says so where it is asked.
    front.becomes(Mode::Strips(&["POST", "DELETE"]));
    assert_eq!(store.renew("c", "f", 0, 1, 2).await, Rotated::Rotated);
    assert!(behind.accepts("c", "f", 2).await);
    front.becomes(Mode::Strips(&["GET", "POST", "DELETE"]));
    let rotated = store.rotate(&renewal("c", "f", 1, 2, 3)).await.expect_err("it cannot be told");
    assert_eq!(rotated.kind(), StoreErrorKind::InvalidAnswer);
    for outcome in [store.load("c", Some("f")).await.map(drop), store.pair("c").await.map(drop)] {
        assert_eq!(outcome.expect_err("less than before").kind(), StoreErrorKind::InvalidAnswer);
    }
    // By now it is spared, except by revocations.
    let revoked = store.revoke(&Revocation::Client("c".to_owned()), None).await;
    assert_eq!(revoked.expect_err("less than before").kind(), StoreErrorKind::InvalidAnswer);
    for outcome in [store.put("c", 4).await, store.list(&Default::default()).await.map(drop)] {
        assert!(outcome.is_err());
    }
    front.becomes(Mode::First(Arc::default()));
    assert!(store.load("c", None).await.is_err() && store.put("d", 1).await.is_err());
    front.becomes(Mode::Pass);
    soon("an answer", async {
        while store.load("c", None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    store.put("d", 1).await.unwrap();
    assert_eq!(behind.held("d").await.unwrap(), held(1));
}

/// A refresh that was under way on another node when this one revoked writes its pair over that.
#[tokio::test]
async fn a_revocation_that_a_refresh_elsewhere_undoes_is_done_again() {
    let (rows, elsewhere) = (Rows::default(), Rows::default());
    let [here, there] = [rows.clone(), elsewhere.clone()].map(|rows| async {
        let front = Front::start(Arc::new(MemoryStore::new())).await;
        front.becomes(Mode::First(rows));
        let settings = crate::app::settings().store(front.client()).build().unwrap();
        (FastAuthLayer::new(settings).unwrap().issuer(), front)
    });
    let ((here, _front), (there, _other)) = tokio::join!(here, there);
    let issued = here.issue("c").await.unwrap();
    let before = rows.lock().unwrap().clone();
    elsewhere.lock().unwrap().extend(before);
    there.refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    let late = elsewhere.lock().unwrap()["c"].clone();
    here.revoke(&Revocation::Client("c".to_owned())).await.unwrap();
    assert!(rows.lock().unwrap()["c"].to_string().contains("revoked"));
    rows.lock().unwrap().insert("c".to_owned(), late);
    soon("a second revocation", async {
        while !rows.lock().unwrap()["c"].to_string().contains("revoked") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What is issued after it is another log-in, and stays.
    here.issue("c").await.unwrap();
    let session = Revocation::Session { client_id: "c".to_owned(), session: issued.session.clone() };
    assert_eq!(here.revoke(&session).await.unwrap(), 0);
    assert!(!rows.lock().unwrap()["c"].to_string().contains("revoked"));
}

/// However many are revoked in a short time.
#[tokio::test]
async fn each_of_many_revocations_is_looked_after() {
    let rows = Rows::default();
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    front.becomes(Mode::First(rows.clone()));
    let settings = crate::app::settings().store(front.client()).build().unwrap();
    let issuer = FastAuthLayer::new(settings).unwrap().issuer();
    let ids: Vec<_> = (0..80).map(|n| format!("c{n}")).collect();
    join_all(ids.iter().map(|id| issuer.issue(id))).await.into_iter().for_each(|issued| drop(issued.unwrap()));
    let late = rows.lock().unwrap().clone();
    join_all(ids.iter().map(|id| async { issuer.revoke(&Revocation::Client(id.clone())).await.unwrap() })).await;
    let all_revoked = || rows.lock().unwrap().values().all(|row| row.to_string().contains("revoked"));
    assert!(all_revoked());
    rows.lock().unwrap().extend(late);
    soon("a second revocation of each", async {
        while !all_revoked() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
