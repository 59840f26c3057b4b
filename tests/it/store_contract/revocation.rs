//! What the stores that promise everything revoke.

use fastauth::store::{
    Condition, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionStatus, TokenStore,
};

use super::{GRACE, Store, ids};
use crate::support::stores::{ManySessions, OnePair, held, record, renewal, session_of};

macro_rules! revocations {
    ($module:ident, $fixture:ident) => {
        tests_on!(
            $module,
            $fixture,
            session_is_revoked_alone,
            client_is_revoked_with_all_sessions,
            all_clients_are_revoked,
            new_pairs_are_accepted_after_all_were_revoked,
            revoked_session_is_not_repeated,
            unknown_session_is_not_revoked,
            revocation_can_require_a_version,
            ids_of_any_text_are_revoked,
            oldest_session_is_revoked_at_the_limit,
            refreshed_session_is_not_the_oldest,
            first_pair_that_arrives_twice_changes_nothing,
        );
    };
}

macro_rules! silent_refusals {
    ($module:ident, $fixture:ident) => {
        tests_on!($module, $fixture, call_that_changes_nothing_is_not_announced);
    };
}

silent_refusals!(silent_on_memory, memory);
silent_refusals!(silent_on_sqlite, sqlite);

revocations!(on_memory, memory);
revocations!(on_sqlite, sqlite);
revocations!(on_postgres, postgres);
revocations!(on_rest, rest);

async fn status(store: &Store, client_id: &str, session: &str) -> SessionStatus {
    store.session(client_id, session).await.status
}

async fn session_is_revoked_alone(store: &Store) {
    for (client_id, session, n) in [("a", "f", 1), ("a", "g", 2), ("b", "f", 3)] {
        store.begin(client_id, session, n).await;
    }
    assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(1));
    assert!(!store.accepts("a", "f", 1).await && store.accepts("a", "g", 2).await && store.accepts("b", "f", 3).await);
    assert_eq!(store.renew("a", "f", 0, 1, 9).await, Rotated::Revoked);
    assert_eq!(status(store, "a", "f").await, SessionStatus::Revoked);
    assert_eq!(
        (status(store, "a", "g").await, status(store, "b", "f").await),
        (SessionStatus::Live, SessionStatus::Live)
    );
    assert_eq!(store.renew("a", "g", 0, 2, 4).await, Rotated::Rotated);
    assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(0), "it was live once");
}

/// As when a proxy delivers a call late that was sent again.
async fn first_pair_that_arrives_twice_changes_nothing(store: &Store) {
    let again = async |client_id: &str, keep_others| {
        let options = SaveOptions { keep_others, ..SaveOptions::default() };
        store.save(&record(client_id, "f", 0, 1), options).await.unwrap()
    };
    let version = store.begin("a", "f", 1).await;
    store.begin("a", "g", 2).await;
    for keep_others in [true, false] {
        assert_eq!(again("a", keep_others).await, Saved::Saved(version));
        assert!(store.accepts("a", "f", 1).await && store.accepts("a", "g", 2).await);
    }
    store.begin("b", "f", 1).await;
    assert_eq!(store.renew("b", "f", 0, 1, 2).await, Rotated::Rotated);
    for keep_others in [true, false] {
        assert_eq!(again("b", keep_others).await, Saved::ConditionFailed);
        assert!(store.accepts("b", "f", 2).await, "the one before it is superseded");
    }
    for id in ["session", "client", "all"] {
        store.begin(id, "f", 1).await;
    }
    store.revoke_session("session", "f").await;
    store.revoke_all_of("client").await;
    let check = async |id: &str| {
        for keep_others in [true, false] {
            assert_eq!(again(id, keep_others).await, Saved::ConditionFailed, "{id}");
            assert!(!store.accepts(id, "f", 1).await, "{id}");
            assert_eq!(status(store, id, "f").await, SessionStatus::Revoked);
        }
    };
    check("session").await;
    check("client").await;
    store.revoke(&Revocation::All, None).await.unwrap();
    check("all").await;
    store.begin("all", "new", 3).await;
    assert!(store.accepts("all", "new", 3).await);
}

async fn client_is_revoked_with_all_sessions(store: &Store) {
    for (session, n) in [("f", 1), ("g", 2), ("h", 3), ("", 4)] {
        store.begin("a", session, n).await;
        store.begin("ab", session, n).await;
    }
    store.revoke_session("a", "h").await;
    assert_eq!(store.revoke_all_of("a").await, Revoked::Sessions(3));
    assert_eq!((store.load("a", None).await.unwrap(), store.held("a").await.unwrap()), (None, None));
    for (session, n) in [("f", 1), ("g", 2), ("h", 3), ("", 4)] {
        assert!(!store.accepts("a", session, n).await && store.accepts("ab", session, n).await);
        assert_eq!(store.renew("a", session, 0, n, 9).await, Rotated::Revoked);
        assert_eq!(status(store, "a", session).await, SessionStatus::Revoked);
    }
    assert_eq!(store.revoke_all_of("a").await, Revoked::Sessions(0));
    store.begin("a", "i", 10).await;
    assert!(store.accepts("a", "i", 10).await, "it may begin again, under another name");
    assert_eq!(store.renew("a", "i", 0, 10, 11).await, Rotated::Rotated);
}

async fn all_clients_are_revoked(store: &Store) {
    assert_eq!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(0));
    for n in 0..4 {
        store.begin(&format!("c{n}"), "f", n).await;
        store.begin(&format!("c{n}"), "g", 10 + n).await;
    }
    store.revoke_session("c1", "f").await;
    assert_eq!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(7));
    for n in 0..4 {
        let client_id = format!("c{n}");
        assert_eq!(store.held(&client_id).await.unwrap(), None);
        assert!(!store.accepts(&client_id, "f", n).await && !store.accepts(&client_id, "g", 10 + n).await);
        assert_eq!(store.renew(&client_id, "f", 0, n, 50).await, Rotated::Revoked);
        assert_eq!(status(store, &client_id, "g").await, SessionStatus::Revoked);
    }
    assert_eq!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(0));
}

async fn new_pairs_are_accepted_after_all_were_revoked(store: &Store) {
    let before = store.begin("a", "f", 1).await;
    store.begin("b", "f", 2).await;
    for round in 0..3 {
        let n = 10 * (round + 1);
        let [f, g] = &["f", "g"].map(|name| format!("{name}-{round}"));
        store.revoke(&Revocation::All, None).await.unwrap();
        let absent = SaveOptions { condition: Condition::Absent, ..SaveOptions::default() };
        let saved = store.save(&record("a", f, 0, n), absent).await.unwrap();
        assert!(matches!(saved, Saved::Saved(version) if version > before), "{saved:?}");
        assert_eq!(store.held("a").await.unwrap(), held(n));
        assert_eq!(store.renew("a", f, 0, n, n + 1).await, Rotated::Rotated);
        store.begin("a", g, n + 2).await;
        assert!(store.accepts("a", f, n + 1).await && store.accepts("a", g, n + 2).await);
        assert_eq!(store.held("b").await.unwrap(), None, "what was revoked stays so");
        assert_eq!(store.revoke_session("a", g).await, Revoked::Sessions(1));
        assert_eq!(store.revoke_session("b", "f").await, Revoked::Sessions(0));
        let live = SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() };
        assert_eq!(store.all(live).await.len(), 1);
    }
}

/// A client that lost the answer to a rotation must not escape a revocation.
async fn revoked_session_is_not_repeated(store: &Store) {
    for (session, revocation) in
        [("f", session_of("a", "f")), ("g", Revocation::Client("a".to_owned())), ("h", Revocation::All)]
    {
        store.begin("a", session, 1).await;
        assert_eq!(store.renew("a", session, 0, 1, 2).await, Rotated::Rotated);
        assert_eq!(store.revoke(&revocation, None).await.unwrap(), Revoked::Sessions(1));
        for (generation, n) in [(0, 1), (1, 2)] {
            let rotation = Rotation { grace: GRACE, ..renewal("a", session, generation, n, 3) };
            assert_eq!(store.rotate(&rotation).await.unwrap(), Rotated::Revoked, "{revocation:?}");
        }
        assert_eq!(store.held("a").await.unwrap(), None);
    }
}

async fn unknown_session_is_not_revoked(store: &Store) {
    store.begin("a", "f", 1).await;
    for revocation in
        [session_of("a", "g"), session_of("b", "f"), session_of("a", ""), Revocation::Client("b".to_owned())]
    {
        assert_eq!(store.revoke(&revocation, None).await.unwrap(), Revoked::Sessions(0), "{revocation:?}");
        assert!(store.accepts("a", "f", 1).await);
    }
}

async fn revocation_can_require_a_version(store: &Store) {
    let client = Revocation::Client("a".to_owned());
    let session = session_of("a", "f");
    let revoke = async |revocation: &Revocation, version| store.revoke(revocation, Some(version)).await.unwrap();
    assert_eq!(revoke(&client, 0).await, Revoked::ConditionFailed);
    let first = store.begin("a", "f", 1).await;
    let second = store.begin("a", "g", 2).await;
    for version in [0, first, second + 1, u64::MAX] {
        assert_eq!(revoke(&client, version).await, Revoked::ConditionFailed, "{version}");
        assert_eq!(revoke(&session, version).await, Revoked::ConditionFailed, "{version}");
    }
    assert!(store.accepts("a", "f", 1).await && store.accepts("a", "g", 2).await);
    assert_eq!(store.version("a").await, Some(second), "nothing was written");
    assert_eq!(revoke(&session, second).await, Revoked::Sessions(1));
    assert!(!store.accepts("a", "f", 1).await && store.accepts("a", "g", 2).await);
    assert_eq!(revoke(&client, second).await, Revoked::ConditionFailed, "the session was revoked since");
    let now = store.version("a").await.unwrap();
    assert_eq!(revoke(&client, now).await, Revoked::Sessions(1));
    assert_eq!(revoke(&client, now).await, Revoked::ConditionFailed);
}

/// Otherwise anyone with an old revoked token could invalidate all caches, as often as they like.
async fn call_that_changes_nothing_is_not_announced(store: &Store) {
    let version = store.begin("a", "f", 1).await;
    store.begin("a", "g", 2).await;
    assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(1));
    assert_eq!(store.renew("a", "g", 0, 2, 3).await, Rotated::Rotated);
    assert_eq!(store.renew("a", "g", 0, 2, 4).await, Rotated::Reused);
    let changes = store.changes().unwrap();
    let stamp = changes.stamp("a");
    assert!(store.spend("ticket", 4_000_000_000).await.unwrap());
    for _ in 0..2 {
        assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(0));
        assert_eq!(store.revoke_session("a", "unknown").await, Revoked::Sessions(0));
        assert_eq!(store.revoke_all_of("a").await, Revoked::Sessions(0));
        assert_eq!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(0));
        let revoked = store.revoke(&session_of("a", "f"), Some(version)).await.unwrap();
        assert_eq!(revoked, Revoked::ConditionFailed);
        let absent = SaveOptions { condition: Condition::Version(version), ..SaveOptions::default() };
        assert_eq!(store.save(&record("a", "f", 0, 9), absent).await.unwrap(), Saved::ConditionFailed);
        assert_eq!(store.renew("a", "g", 0, 2, 4).await, Rotated::Revoked);
        assert_eq!(store.renew("a", "unknown", 0, 7, 8).await, Rotated::UnknownClient);
        assert!(!store.spend("ticket", 4_000_000_000).await.unwrap());
    }
    assert_eq!(changes.stamp("a"), stamp);
    store.begin("a", "h", 5).await;
    assert_ne!(changes.stamp("a"), stamp);
}

async fn ids_of_any_text_are_revoked(store: &Store) {
    let ids = ids();
    for (n, id) in (0..).zip(&ids) {
        store.begin("a", id, n).await;
        store.begin(id, "f", n).await;
    }
    for (n, id) in (0..).zip(&ids) {
        assert!(store.accepts("a", id, n).await && store.accepts(id, "f", n).await, "{id:?}");
        assert_eq!(store.revoke_session("a", id).await, Revoked::Sessions(1), "{id:?}");
        if id != "a" {
            assert_eq!(store.revoke_all_of(id).await, Revoked::Sessions(1), "{id:?}");
            assert_eq!(store.held(id).await.unwrap(), None, "{id:?}");
        }
    }
}

async fn begin_within(store: &Store, most: usize, session: &str, n: i32) {
    let options = SaveOptions { keep_others: true, max_sessions: most, ..SaveOptions::default() };
    assert!(matches!(store.save(&record("a", session, 0, n), options).await.unwrap(), Saved::Saved(_)));
}

async fn oldest_session_is_revoked_at_the_limit(store: &Store) {
    store.begin("b", "f", 0).await;
    for n in 0..10 {
        begin_within(store, 3, &n.to_string(), n).await;
    }
    for n in 0..10 {
        let session = n.to_string();
        assert_eq!(store.accepts("a", &session, n).await, n >= 7, "{n}");
        let expected = if n < 7 { SessionStatus::Revoked } else { SessionStatus::Live };
        assert_eq!(status(store, "a", &session).await, expected);
        if n < 7 {
            assert_eq!(store.renew("a", &session, 0, n, 99).await, Rotated::Revoked);
        }
    }
    // A new pair of the same session replaces the old one. A lowered limit applies from the next save on.
    begin_within(store, 3, "8", 20).await;
    assert!(store.accepts("a", "7", 7).await && store.accepts("a", "8", 20).await && store.accepts("a", "9", 9).await);
    begin_within(store, 1, "new", 21).await;
    assert!(!store.accepts("a", "9", 9).await && store.accepts("a", "new", 21).await);
    assert!(store.accepts("b", "f", 0).await, "it is the client's own limit");
    assert_eq!(store.revoke_all_of("a").await, Revoked::Sessions(1));
    assert_eq!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(1));
}

async fn refreshed_session_is_not_the_oldest(store: &Store) {
    begin_within(store, 2, "f", 1).await;
    begin_within(store, 2, "g", 2).await;
    assert_eq!(store.renew("a", "f", 0, 1, 3).await, Rotated::Rotated);
    begin_within(store, 2, "h", 4).await;
    assert!(store.accepts("a", "f", 3).await && !store.accepts("a", "g", 2).await && store.accepts("a", "h", 4).await);
}
