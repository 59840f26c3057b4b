//! The revocation of access tokens alone: the log-ins stay, and no access token from before comes back.

use std::{sync::Arc, time::Duration};

use fastauth::{
    Secret,
    store::{
        Comparison, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionStatus, SqliteStore,
        StoreError, StoreErrorKind, TokenDigest, TokenStore,
    },
};
use tokio::task::JoinSet;

use super::{GRACE, Store};
use crate::support::{
    faulty::{Behaviour, FaultyStore},
    front::{Front, Mode},
    stores::{ManySessions, OnePair, record, refresh, renewal, rest_v1},
};

macro_rules! access_revocations {
    ($module:ident, $fixture:ident) => {
        tests_on!(
            $module,
            $fixture,
            access_token_is_revoked_and_the_log_in_stays,
            all_sessions_of_a_client_are_meant_without_one,
            unknown_and_ended_sessions_are_not_counted,
            first_pair_that_arrives_again_brings_no_access_token_back,
            repeated_rotation_has_no_access_token,
            replaced_token_has_no_grace_after_it,
            order_of_sessions_stays,
            claims_from_before_do_not_come_back,
            concurrent_refreshes_leave_no_token_from_before,
            revocation_after_it_ends_the_log_in,
        );
    };
}

access_revocations!(on_memory, memory);
access_revocations!(on_sqlite, sqlite);
access_revocations!(on_postgres, postgres);
access_revocations!(on_rest, rest);

/// Exchanges pair `old`, the first of its session, for pair `new`, whose claims were decided on after this version.
fn informed(session: &str, old: u64, new: u64, decided_after: u64) -> Rotation {
    Rotation { decided_after, ..renewal("a", session, 0, old, new) }
}

/// Rotates as a client does that gets to know of the revocation.
async fn renew_again(store: &Store, session: &str, old: u64, new: u64) {
    let Rotated::AccessRevoked(version) = store.rotate(&informed(session, old, new, 0)).await.unwrap() else {
        panic!("the access token was revoked");
    };
    assert_eq!(store.rotate(&informed(session, old, new, version)).await.unwrap(), Rotated::Rotated);
}

/// Returns whether a session has its refresh token `n` and no access token, the replaced one included.
async fn has_log_in_alone(store: &Store, session: &str, n: u64) -> bool {
    let held = store.load("a", Some(session)).await.unwrap().unwrap();
    let access = format!("access-{n}");
    let compared = store.compare_now("a", Some(session), access.as_bytes());
    let is_refused = compared.is_none_or(|comparison| comparison.unwrap() == Comparison::NotCurrent);
    let pair = store.pair_of("a", session).await.unwrap().unwrap();
    held.refresh == Some(TokenDigest::of(refresh(n)))
        && (held.access, held.previous_access) == (None, None)
        && pair.refresh_token == Some(Secret::from(refresh(n)))
        && pair.access_token.is_none()
        && pair.version == held.version
        && is_refused
}

async fn access_token_is_revoked_and_the_log_in_stays(store: &Store) {
    let before = store.begin("a", "f", 1).await;
    store.begin("a", "g", 2).await;
    store.begin("b", "f", 3).await;
    assert_eq!(store.revoke_access("a", Some("f")).await.unwrap(), 1);
    assert!(has_log_in_alone(store, "f", 1).await);
    assert!(store.accepts("a", "g", 2).await && store.accepts("b", "f", 3).await);
    let entry = store.session("a", "f").await;
    assert_eq!((entry.status, entry.generation), (SessionStatus::Live, 0));
    assert!(entry.version > before, "a reader that has the version before gets the new one");
    renew_again(store, "f", 1, 4).await;
    assert!(store.accepts("a", "f", 4).await);
    assert_eq!(store.load("a", Some("f")).await.unwrap().unwrap().previous_access, None, "it has no grace");
    // From then on the session is as any other.
    assert_eq!(store.renew("a", "f", 1, 4, 5).await, Rotated::Rotated);
    assert_eq!(store.renew("a", "f", 1, 4, 6).await, Rotated::Reused);
}

async fn all_sessions_of_a_client_are_meant_without_one(store: &Store) {
    for (session, n) in [("f", 1), ("g", 2), ("", 3)] {
        store.begin("a", session, n).await;
        store.begin("b", session, n).await;
    }
    assert_eq!(store.revoke_access("a", None).await.unwrap(), 3);
    for (session, n) in [("f", 1), ("g", 2), ("", 3)] {
        assert!(has_log_in_alone(store, session, n).await, "{session}");
        assert!(store.accepts("b", session, n).await, "{session}");
    }
    renew_again(store, "g", 2, 4).await;
    assert!(has_log_in_alone(store, "f", 1).await && store.accepts("a", "g", 4).await);
    assert_eq!(store.revoke_access("a", None).await.unwrap(), 3, "those without one count again");
    store.begin("a", "h", 5).await;
    assert!(store.accepts("a", "h", 5).await, "a later log-in is not concerned");
}

async fn unknown_and_ended_sessions_are_not_counted(store: &Store) {
    assert_eq!(store.revoke_access("a", None).await.unwrap(), 0);
    store.begin("a", "f", 1).await;
    store.begin("a", "g", 2).await;
    store.revoke_session("a", "g").await;
    assert_eq!(store.revoke_access("a", Some("g")).await.unwrap(), 0);
    assert_eq!(store.revoke_access("a", Some("unknown")).await.unwrap(), 0);
    assert!(store.accepts("a", "f", 1).await);
    assert_eq!(store.revoke_access("a", None).await.unwrap(), 1);
    assert_eq!(store.renew("a", "g", 0, 2, 3).await, Rotated::Revoked);
}

async fn first_pair_that_arrives_again_brings_no_access_token_back(store: &Store) {
    let before = store.begin("a", "f", 1).await;
    store.revoke_access("a", None).await.unwrap();
    for keep_others in [true, false] {
        let options = SaveOptions { keep_others, ..SaveOptions::default() };
        let saved = store.save(&record("a", "f", 0, 1), options).await.unwrap();
        assert!(matches!(saved, Saved::Saved(version) if version > before), "{saved:?}");
        assert!(has_log_in_alone(store, "f", 1).await);
    }
}

/// A client that lost the answer to its refresh gets its log-in, and refreshes again.
async fn repeated_rotation_has_no_access_token(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    store.revoke_access("a", Some("f")).await.unwrap();
    let again = Rotation { grace: GRACE, ..informed("f", 1, 3, 0) };
    let Rotated::Repeated(pair) = store.rotate(&again).await.unwrap() else { panic!("within the grace") };
    assert_eq!((pair.access_token, pair.refresh_token), (None, Some(Secret::from(refresh(2)))));
    assert!(has_log_in_alone(store, "f", 2).await);
}

async fn replaced_token_has_no_grace_after_it(store: &Store) {
    store.begin("a", "f", 1).await;
    store.renew("a", "f", 0, 1, 2).await;
    assert!(store.load("a", Some("f")).await.unwrap().unwrap().previous_access.is_some());
    store.revoke_access("a", Some("f")).await.unwrap();
    assert!(has_log_in_alone(store, "f", 2).await);
}

async fn order_of_sessions_stays(store: &Store) {
    for (session, n) in [("f", 1), ("g", 2), ("h", 3)] {
        store.begin("a", session, n).await;
    }
    store.revoke_access("a", Some("f")).await.unwrap();
    assert!(store.held("a").await.unwrap().unwrap().0 == Some("access-3".to_owned()), "h is still the newest");
    store.revoke_access("a", None).await.unwrap();
    let options = SaveOptions { keep_others: true, max_sessions: 3, ..SaveOptions::default() };
    store.save(&record("a", "i", 0, 4), options).await.unwrap();
    let live = SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() };
    let live: Vec<_> = store.all(live).await.into_iter().map(|entry| entry.session).collect();
    assert_eq!(live, ["g", "h", "i"], "f was refreshed longest ago");
}

/// A refresh may decide on its claims before the revocation, and reach the store after it.
async fn claims_from_before_do_not_come_back(store: &Store) {
    store.begin("a", "f", 1).await;
    store.revoke_access("a", Some("f")).await.unwrap();
    let Rotated::AccessRevoked(first) = store.rotate(&informed("f", 1, 2, 0)).await.unwrap() else { panic!("revoked") };
    store.revoke_access("a", None).await.unwrap();
    let Rotated::AccessRevoked(second) = store.rotate(&informed("f", 1, 2, first)).await.unwrap() else {
        panic!("revoked again");
    };
    assert!(second > first);
    assert!(has_log_in_alone(store, "f", 1).await, "nothing was written");
    // A token that was not issued is refused whatever was revoked.
    assert_eq!(store.rotate(&informed("f", 9, 2, 0)).await.unwrap(), Rotated::Superseded);
    assert_eq!(store.rotate(&informed("f", 1, 2, second)).await.unwrap(), Rotated::Rotated);
    // A caller that does not know of such revocations is not held up.
    store.revoke_access("a", None).await.unwrap();
    let unaware = Rotation { decided_after: u64::MAX, ..renewal("a", "f", 1, 2, 3) };
    assert_eq!(store.rotate(&unaware).await.unwrap(), Rotated::Rotated);
}

async fn concurrent_refreshes_leave_no_token_from_before(store: &Store) {
    for round in 0..30 {
        let session = &format!("f-{round}");
        store.begin("a", session, 1).await;
        let mut calls = JoinSet::new();
        for new in 2..6 {
            let store = store.clone();
            let rotation = Rotation { grace: GRACE, ..informed(session, 1, new, 0) };
            calls.spawn(async move { drop(store.rotate(&rotation).await.unwrap()) });
        }
        let revoking = store.clone();
        let name = session.clone();
        calls.spawn(async move { assert_eq!(revoking.revoke_access("a", Some(&name)).await.unwrap(), 1) });
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        let held = store.load("a", Some(session)).await.unwrap().unwrap();
        assert_eq!((held.access, held.previous_access), (None, None), "round {round}");
        assert_eq!(store.session("a", session).await.status, SessionStatus::Live, "round {round}");
    }
}

async fn revocation_after_it_ends_the_log_in(store: &Store) {
    store.begin("a", "f", 1).await;
    store.revoke_access("a", None).await.unwrap();
    assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(1));
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Revoked);
    assert_eq!(store.load("a", Some("f")).await.unwrap(), None);
}

/// As the cache and open sockets notice it.
#[tokio::test]
async fn it_is_announced_if_it_concerns_a_session() {
    let fixtures = [Some(crate::support::stores::memory().await), Some(crate::support::stores::sqlite().await)];
    for fixture in fixtures.into_iter().flatten().chain(crate::support::stores::postgres().await) {
        let store = &fixture.store;
        store.begin("a", "f", 1).await;
        let changes = store.changes().unwrap();
        let stamp = changes.stamp("a");
        store.revoke_access("b", None).await.unwrap();
        store.revoke_access("a", Some("g")).await.unwrap();
        assert_eq!(changes.stamp("a"), stamp);
        for session in [Some("f"), None] {
            let stamp = changes.stamp("a");
            store.revoke_access("a", session).await.unwrap();
            assert_ne!(changes.stamp("a"), stamp);
        }
    }
}

#[tokio::test]
async fn processes_that_share_a_file_see_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    let stores = [(); 2].map(|()| SqliteStore::open(&path).unwrap());
    stores[0].begin("a", "f", 1).await;
    let changes = stores[1].changes().unwrap();
    let stamp = changes.stamp("a");
    assert!(stores[1].accepts("a", "f", 1).await);
    assert_eq!(stores[0].revoke_access("a", None).await.unwrap(), 1);
    changes.changed_since(stamp).await;
    assert_eq!(stores[1].load("a", Some("f")).await.unwrap().unwrap().access, None);
    drop(stores);
    let again = SqliteStore::open(&path).unwrap();
    assert_eq!(again.load("a", Some("f")).await.unwrap().unwrap().access, None);
    assert!(matches!(again.rotate(&informed("f", 1, 2, 0)).await.unwrap(), Rotated::AccessRevoked(_)));
}

/// What takes a right away is done even if its caller leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_without_its_caller() {
    let fixtures = [
        Some(crate::support::stores::sqlite().await),
        Some(crate::support::stores::rest().await),
        crate::support::stores::postgres().await,
    ];
    for fixture in fixtures.into_iter().flatten() {
        let store = &fixture.store;
        store.begin("a", "f", 1).await;
        assert!(futures_util::future::poll_immediate(store.revoke_access("a", None)).await.is_none());
        let revoked = async {
            while store.load("a", Some("f")).await.unwrap().unwrap().access.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), revoked).await.unwrap();
    }
}

#[tokio::test]
async fn stores_that_cannot_do_it_say_what_to_do() {
    let fixture = rest_v1().await;
    fixture.store.put("a", 1).await.unwrap();
    let error = fixture.store.revoke_access("a", None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    assert!(error.to_string().contains("revoke the client, or use a store of the second version"), "{error}");
    assert_eq!(fixture.store.held("a").await.unwrap(), crate::support::stores::held(1), "nothing was written");

    let problem = r#"{"code":"not_found","detail":"there is nothing at this path"}"#;
    let answer = format!(
        "HTTP/1.1 404 Not Found\r\nFastAuth-Store: v=2\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{problem}",
        problem.len()
    );
    let old = FaultyStore::start(Behaviour::Raw(answer.into_bytes())).await;
    let store = fastauth::store::RestStore::new(&old.url(), http::HeaderMap::new()).unwrap();
    let _ = store.load("a", None).await;
    let error = store.revoke_access("a", None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("update it"), "{error}");
}

/// A revocation by a store behind what spoils it.
async fn spoilt(mode: Mode) -> (Result<u64, StoreError>, bool, usize) {
    let behind = crate::support::stores::memory().await.store;
    behind.begin("a", "f", 1).await;
    let front = Front::start(Arc::clone(&behind)).await;
    let store = front.client().timeout(Duration::from_secs(2));
    store.promises().await.unwrap();
    front.seen();
    front.becomes(mode);
    let revoked = store.revoke_access("a", None).await;
    let is_done = behind.load("a", None).await.unwrap().unwrap().access.is_none();
    let writes = front.seen().iter().filter(|call| call.starts_with("DELETE")).count();
    (revoked, is_done, writes)
}

/// Twice does no harm, and no look-up shows whether it happened.
#[tokio::test]
async fn it_is_sent_again_and_only_an_answer_counts() {
    let (revoked, is_done, writes) = spoilt(Mode::CutsOneWrite(Arc::default())).await;
    assert_eq!((revoked.unwrap(), is_done, writes), (1, true, 2));
    for (mode, kind, reaches_the_store) in [
        (Mode::CutsWrites, StoreErrorKind::Unreachable, false),
        (Mode::CutsAnswers, StoreErrorKind::Unreachable, true),
        (Mode::LosesAnswers, StoreErrorKind::TimedOut, true),
    ] {
        let (revoked, is_done, writes) = spoilt(mode.clone()).await;
        assert_eq!((revoked.unwrap_err().kind(), is_done, writes), (kind, reaches_the_store, 2), "{mode:?}");
    }
}

#[tokio::test]
async fn answers_that_are_not_the_stores_are_errors() {
    for (mode, kind) in [
        (Mode::Says(200, "{}"), StoreErrorKind::InvalidAnswer),
        (Mode::Says(200, r#"{"revoked":-1}"#), StoreErrorKind::InvalidAnswer),
        (Mode::Says(404, r#"{"detail":"there is nothing at this path"}"#), StoreErrorKind::Unsupported),
        (Mode::Says(404, r#"{"code":"unknown_client"}"#), StoreErrorKind::InvalidAnswer),
        (Mode::Says(501, r#"{"code":"unsupported"}"#), StoreErrorKind::Unsupported),
        (Mode::Page(200), StoreErrorKind::InvalidAnswer),
        (Mode::Page(404), StoreErrorKind::InvalidAnswer),
    ] {
        let (revoked, is_done, _) = spoilt(mode.clone()).await;
        assert_eq!((revoked.unwrap_err().kind(), is_done), (kind, false), "{mode:?}");
    }
}

#[tokio::test]
async fn refused_rotation_has_its_version_in_the_etag() {
    let front = Front::start(crate::support::stores::memory().await.store).await;
    let store = front.client();
    store.promises().await.unwrap();
    front.becomes(Mode::Says(409, r#"{"code":"access_revoked"}"#));
    assert_eq!(
        store.rotate(&informed("f", 1, 2, 0)).await.unwrap(),
        Rotated::AccessRevoked(7),
        "as the front sends it"
    );
}

/// A call with a condition is refused, and does not revoke without it.
#[tokio::test]
async fn condition_is_refused() {
    let store = crate::support::stores::memory().await.store;
    store.begin("a", "f", 1).await;
    let service = fastauth::store::StoreService::new(Arc::clone(&store));
    for (name, value) in [("if-match", "\"1\""), ("if-none-match", "*")] {
        let request = http::Request::delete("/v2/clients/-/access-token?client_id=a").header(name, value);
        let request = request.header("host", "localhost").body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(service.clone(), request).await.unwrap();
        assert_eq!(response.status(), 400, "{name}");
    }
    assert!(store.accepts("a", "f", 1).await);
}
