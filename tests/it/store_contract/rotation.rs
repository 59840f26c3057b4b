//! How the stores that promise everything rotate: generations, sessions, the grace, and reuse.

use std::{collections::HashSet, sync::Arc, time::Duration};

use fastauth::store::{
    Condition, Promises, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionStatus, TokenDigest, TokenStore,
};
use tokio::{sync::Barrier, task::JoinSet};

use super::{GRACE, Store, ids};
use crate::support::stores::{ManySessions, OnePair, held, record, refresh, renewal};

macro_rules! rotations {
    ($module:ident, $fixture:ident) => {
        tests_on!(
            $module,
            $fixture,
            store_promises_everything,
            current_token_is_rotated,
            same_pair_is_returned_within_the_grace,
            consumed_token_is_reuse_after_the_grace,
            grace_ends,
            token_of_an_earlier_generation_is_reuse,
            unknown_token_of_an_earlier_generation_is_reuse,
            token_of_a_later_generation_is_superseded,
            unknown_token_of_this_generation_is_superseded,
            reused_session_stays_revoked,
            token_without_a_session_begins_one,
            reuse_of_a_token_without_a_session_is_recognised,
            save_ends_the_other_sessions,
            save_can_keep_the_other_sessions,
            session_is_rotated_alone,
            load_finds_the_session_or_else_the_newest,
            rotation_of_an_unknown_client_is_refused,
            conditions_are_checked,
            versions_only_grow,
            session_names_are_any_text,
            one_of_200_rotations_wins_and_the_others_repeat_it,
            second_of_200_rotations_without_a_grace_is_reuse,
        );
    };
}

rotations!(on_memory, memory);
rotations!(on_sqlite, sqlite);
rotations!(on_postgres, postgres);
rotations!(on_rest, rest);
rotations!(on_rest_postgres, rest_postgres);

/// Sets a long grace.
fn gracious(rotation: Rotation) -> Rotation {
    Rotation { grace: GRACE, ..rotation }
}

/// Returns the rotation of a refresh token without a session, whose successor begins the session `f`.
fn first_renewal(old: i32, new: i32) -> Rotation {
    Rotation { presented_session: None, successor: record("a", "f", 0, new), ..renewal("a", "f", 0, old, new) }
}

async fn store_promises_everything(store: &Store) {
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
}

async fn current_token_is_rotated(store: &Store) {
    store.begin("a", "f", 1).await;
    let first = store.session("a", "f").await;
    assert_eq!((first.generation, first.kid.as_str(), first.status), (0, "key-1", SessionStatus::Live));
    for n in 1..5 {
        assert_eq!(store.renew("a", "f", n - 1, n as i32, n as i32 + 1).await, Rotated::Rotated);
        assert!(store.accepts("a", "f", n + 1).await && !store.accepts("a", "f", n).await);
        assert_eq!(store.held("a").await.unwrap(), held(n + 1));
        let session = store.session("a", "f").await;
        assert_eq!(
            (session.generation, session.kid, session.status),
            (n, format!("key-{}", n + 1), SessionStatus::Live)
        );
        assert_eq!(session.issued_at, first.issued_at);
        assert!(session.renewed_at >= first.renewed_at);
    }
}

async fn same_pair_is_returned_within_the_grace(store: &Store) {
    store.begin("a", "f", 1).await;
    store.begin("b", "f", 7).await;
    assert_eq!(store.rotate(&gracious(renewal("a", "f", 0, 1, 2))).await.unwrap(), Rotated::Rotated);
    let before = (store.pair("a").await.unwrap(), store.all(SessionFilter::default()).await);
    let pair = before.0.clone().unwrap();
    for n in 3..6 {
        let repeated = store.rotate(&gracious(renewal("a", "f", 0, 1, n))).await.unwrap();
        assert_eq!(repeated, Rotated::Repeated(pair.clone()));
    }
    assert_eq!((store.pair("a").await.unwrap(), store.all(SessionFilter::default()).await), before);
    assert!(store.accepts("a", "f", 2).await);
    // The repeated pair can be rotated.
    assert_eq!(store.rotate(&gracious(renewal("a", "f", 1, 2, 6))).await.unwrap(), Rotated::Rotated);
    assert_eq!(store.held("a").await.unwrap(), held(6));
}

async fn consumed_token_is_reuse_after_the_grace(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    assert_eq!(store.renew("a", "f", 0, 1, 3).await, Rotated::Reused);
    for n in 1..4 {
        assert!(!store.accepts("a", "f", n).await, "{n}");
    }
    assert_eq!((store.load("a", None).await.unwrap(), store.held("a").await.unwrap()), (None, None));
    assert_eq!(store.session("a", "f").await.status, SessionStatus::Reused);
}

async fn grace_ends(store: &Store) {
    store.begin("a", "f", 1).await;
    let rotation = Rotation { grace: Duration::from_millis(150), ..renewal("a", "f", 0, 1, 2) };
    assert_eq!(store.rotate(&rotation).await.unwrap(), Rotated::Rotated);
    let mut repeated = store.rotate(&rotation).await.unwrap();
    while matches!(repeated, Rotated::Repeated(_)) {
        tokio::task::yield_now().await;
        repeated = store.rotate(&rotation).await.unwrap();
    }
    assert_eq!(repeated, Rotated::Reused);
    assert!(!store.accepts("a", "f", 2).await);
}

/// The grace is of the last rotation alone.
async fn token_of_an_earlier_generation_is_reuse(store: &Store) {
    for (session, reused) in [("f", 0), ("g", 1), ("h", 2)] {
        store.begin("a", session, 1).await;
        for n in 1..5 {
            assert_eq!(store.renew("a", session, n - 1, n as i32, n as i32 + 1).await, Rotated::Rotated);
        }
        let rotation = gracious(renewal("a", session, reused, reused + 1, 9));
        assert_eq!(store.rotate(&rotation).await.unwrap(), Rotated::Reused, "{reused}");
        assert!(!store.accepts("a", session, 5).await);
        assert_eq!(store.session("a", session).await.status, SessionStatus::Reused);
    }
}

/// As of a pair whose rotation was lost when a backup was restored.
async fn unknown_token_of_an_earlier_generation_is_reuse(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    assert_eq!(store.rotate(&gracious(renewal("a", "f", 0, 77, 9))).await.unwrap(), Rotated::Reused);
    assert!(!store.accepts("a", "f", 2).await);
}

/// As after restoring a backup, which is not the client's doing.
async fn token_of_a_later_generation_is_superseded(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    for generation in [2, 3, 100, u64::from(u32::MAX)] {
        assert_eq!(store.renew("a", "f", generation, 77, 9).await, Rotated::Superseded, "{generation}");
        assert!(store.accepts("a", "f", 2).await);
    }
    assert_eq!(store.renew("a", "f", 1, 2, 3).await, Rotated::Rotated, "the session lives on");
}

async fn unknown_token_of_this_generation_is_superseded(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 77, 9).await, Rotated::Superseded);
    let of_access = Rotation { presented: TokenDigest::of("access-1"), ..renewal("a", "f", 0, 1, 9) };
    assert_eq!(store.rotate(&of_access).await.unwrap(), Rotated::Superseded);
    assert!(store.accepts("a", "f", 1).await);
}

async fn reused_session_stays_revoked(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    assert_eq!(store.renew("a", "f", 0, 1, 3).await, Rotated::Reused);
    for (generation, n) in [(0, 1), (1, 2), (1, 3), (5, 77)] {
        let rotation = gracious(renewal("a", "f", generation, n, 9));
        assert_eq!(store.rotate(&rotation).await.unwrap(), Rotated::Revoked, "{n}");
        assert!(!store.accepts("a", "f", 9).await);
    }
    assert_eq!(store.session("a", "f").await.status, SessionStatus::Reused);
    assert_eq!(store.revoke_session("a", "f").await, fastauth::store::Revoked::Sessions(0));
    // The client can log in again.
    store.begin("a", "g", 10).await;
    assert!(store.accepts("a", "g", 10).await && !store.accepts("a", "f", 2).await);
    assert_eq!(store.renew("a", "f", 1, 2, 9).await, Rotated::Revoked);
    assert_eq!(store.renew("a", "g", 0, 10, 11).await, Rotated::Rotated);
}

async fn token_without_a_session_begins_one(store: &Store) {
    store.begin("a", "", 1).await;
    store.begin("a", "other", 5).await;
    store.begin("b", "", 1).await;
    assert_eq!(store.rotate(&first_renewal(77, 9)).await.unwrap(), Rotated::Superseded);
    assert_eq!(store.rotate(&gracious(first_renewal(1, 2))).await.unwrap(), Rotated::Rotated);
    assert!(
        store.accepts("a", "f", 2).await && store.accepts("a", "other", 5).await && store.accepts("b", "", 1).await
    );
    let names = async || {
        let found = store.all(SessionFilter::default()).await.into_iter();
        found.map(|entry| (entry.client_id, entry.session)).collect::<Vec<_>>()
    };
    let expected = [("a", "f"), ("a", "other"), ("b", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(names().await, expected, "nothing is left without a session");
    let pair = store.pair("a").await.unwrap().unwrap();
    assert_eq!(store.rotate(&gracious(first_renewal(1, 3))).await.unwrap(), Rotated::Repeated(pair));
    assert_eq!(names().await, expected);
    assert_eq!(store.renew("a", "f", 0, 2, 3).await, Rotated::Rotated);
}

async fn reuse_of_a_token_without_a_session_is_recognised(store: &Store) {
    store.begin("a", "", 1).await;
    store.begin("a", "other", 5).await;
    assert_eq!(store.rotate(&first_renewal(1, 2)).await.unwrap(), Rotated::Rotated);
    assert_eq!(store.rotate(&first_renewal(1, 3)).await.unwrap(), Rotated::Reused);
    assert!(!store.accepts("a", "f", 2).await && store.accepts("a", "other", 5).await);
    assert_eq!(store.rotate(&first_renewal(1, 3)).await.unwrap(), Rotated::Revoked);
}

async fn save_ends_the_other_sessions(store: &Store) {
    for n in 0..4 {
        store.begin("a", &format!("f{n}"), n).await;
    }
    store.begin("b", "f0", 7).await;
    let saved = store.save(&record("a", "new", 0, 9), SaveOptions::default()).await.unwrap();
    assert!(matches!(saved, Saved::Saved(_)));
    for n in 0..4 {
        assert!(!store.accepts("a", &format!("f{n}"), n).await);
        assert_eq!(store.renew("a", &format!("f{n}"), 0, n, 50).await, Rotated::Superseded);
    }
    assert!(store.accepts("a", "new", 9).await && store.accepts("b", "f0", 7).await);
    let live = SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() };
    assert_eq!(store.all(live).await.len(), 2);
}

async fn save_can_keep_the_other_sessions(store: &Store) {
    for n in 0..4 {
        store.begin("a", &format!("f{n}"), n).await;
    }
    for n in 0..4 {
        assert!(store.accepts("a", &format!("f{n}"), n).await);
    }
    // Its own pair is replaced.
    store.begin("a", "f1", 9).await;
    assert!(store.accepts("a", "f1", 9).await && store.accepts("a", "f2", 2).await);
    assert_eq!(store.all(SessionFilter::default()).await.len(), 4);
}

async fn session_is_rotated_alone(store: &Store) {
    store.begin("a", "f", 1).await;
    store.begin("a", "g", 11).await;
    store.begin("b", "f", 21).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    assert_eq!(store.renew("a", "g", 0, 11, 12).await, Rotated::Rotated);
    assert_eq!(store.renew("a", "g", 1, 12, 13).await, Rotated::Rotated);
    assert!(store.accepts("a", "f", 2).await && store.accepts("a", "g", 13).await && store.accepts("b", "f", 21).await);
    // A token of another session or client is an unknown one.
    assert_eq!(store.renew("a", "f", 1, 13, 50).await, Rotated::Superseded);
    assert_eq!(store.renew("b", "f", 1, 2, 50).await, Rotated::Superseded);
    assert_eq!(store.renew("a", "g", 0, 11, 50).await, Rotated::Reused);
    assert!(
        store.accepts("a", "f", 2).await && !store.accepts("a", "g", 13).await && store.accepts("b", "f", 21).await
    );
    assert_eq!(store.renew("a", "f", 1, 2, 3).await, Rotated::Rotated);
}

async fn load_finds_the_session_or_else_the_newest(store: &Store) {
    let last = async |n: i32| {
        assert!(store.accepts("a", "unknown", n).await, "what was issued last stands for what is not held");
        assert_eq!(store.held("a").await.unwrap(), held(n));
        let newest = store.load("a", None).await.unwrap().unwrap();
        assert_eq!(newest.version, store.load("a", Some("unknown")).await.unwrap().unwrap().version);
    };
    store.begin("a", "g", 1).await;
    last(1).await;
    store.begin("a", "f", 2).await;
    last(2).await;
    assert_eq!(store.renew("a", "g", 0, 1, 3).await, Rotated::Rotated);
    last(3).await;
    assert!(store.accepts("a", "f", 2).await && store.accepts("a", "g", 3).await);
    store.revoke_session("a", "g").await;
    last(2).await;
    assert!(store.accepts("a", "g", 2).await, "the revoked session is not held");
}

async fn rotation_of_an_unknown_client_is_refused(store: &Store) {
    store.begin("a", "f", 1).await;
    assert_eq!(store.renew("b", "f", 0, 1, 2).await, Rotated::UnknownClient);
    assert_eq!(store.exchange("b", &refresh(1), 2).await.unwrap(), Rotated::UnknownClient);
    assert_eq!((store.pair("b").await.unwrap(), store.load("b", Some("f")).await.unwrap()), (None, None));
    assert_eq!(store.all(SessionFilter::default()).await.len(), 1);
    // So is a client whose sessions were all revoked, if the token is of none of them.
    store.revoke_all_of("a").await;
    assert_eq!(store.renew("a", "g", 0, 5, 2).await, Rotated::UnknownClient);
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Revoked);
}

async fn conditions_are_checked(store: &Store) {
    let save = async |n: i32, condition| {
        let options = SaveOptions { keep_others: n % 2 == 0, condition, ..SaveOptions::default() };
        store.save(&record("a", "f", 0, n), options).await.unwrap()
    };
    assert_eq!(save(1, Condition::Version(0)).await, Saved::ConditionFailed);
    assert_eq!(save(2, Condition::Version(1)).await, Saved::ConditionFailed);
    assert_eq!(store.held("a").await.unwrap(), None);
    let Saved::Saved(first) = save(3, Condition::Absent).await else { panic!("nothing was there") };
    assert_eq!(store.version("a").await, Some(first));
    assert_eq!(save(4, Condition::Absent).await, Saved::ConditionFailed);
    for wrong in [0, first + 1, first.wrapping_sub(1), u64::MAX, i64::MAX as u64] {
        assert_eq!(save(5, Condition::Version(wrong)).await, Saved::ConditionFailed, "{wrong}");
    }
    store.begin("b", "f", 7).await;
    assert_eq!(store.held("a").await.unwrap(), held(3));
    let Saved::Saved(second) = save(6, Condition::Version(first)).await else { panic!("it was that version") };
    assert_eq!(save(7, Condition::Version(first)).await, Saved::ConditionFailed);
    assert_eq!(store.held("a").await.unwrap(), held(6));
    // It is the version of the newest pair, of any session.
    let other = store.begin("a", "g", 8).await;
    assert_eq!(save(9, Condition::Version(second)).await, Saved::ConditionFailed);
    assert!(matches!(save(10, Condition::Version(other)).await, Saved::Saved(_)));
    assert!(store.accepts("a", "g", 8).await && store.accepts("a", "f", 10).await);
    // A client without a live session is absent.
    store.revoke_all_of("a").await;
    assert_eq!(save(11, Condition::Version(store.begin("b", "f", 8).await)).await, Saved::ConditionFailed);
    let absent = SaveOptions { condition: Condition::Absent, ..SaveOptions::default() };
    assert!(matches!(store.save(&record("a", "h", 0, 12), absent).await.unwrap(), Saved::Saved(_)));
    assert_eq!(store.held("a").await.unwrap(), held(12));
}

/// A version that came twice would let a stale condition hold.
async fn versions_only_grow(store: &Store) {
    let mut seen = HashSet::new();
    let mut last = 0;
    let mut grew = async |what: &str| {
        let Some(version) = store.version("a").await else { return };
        assert!(version > last && seen.insert(version), "{what}: {version} after {last}");
        last = version;
    };
    for round in 0..3 {
        let n = round * 10;
        let [f, g, h, i, j] = &["f", "g", "h", "i", "j"].map(|name| format!("{name}-{round}"));
        store.begin("a", f, n).await;
        grew("a session begins").await;
        store.begin("a", g, n + 1).await;
        grew("another begins").await;
        assert_eq!(store.renew("a", f, 0, n, n + 2).await, Rotated::Rotated);
        grew("it is renewed").await;
        store.revoke_session("a", f).await;
        grew("the newest is revoked").await;
        store.begin("a", h, n + 3).await;
        grew("a third begins").await;
        store.revoke_session("a", g).await;
        grew("an older one is revoked").await;
        store.begin("a", i, n + 4).await;
        grew("a fourth begins").await;
        assert_eq!(store.renew("a", i, 0, n + 4, n + 5).await, Rotated::Rotated);
        grew("it is renewed").await;
        assert_eq!(store.renew("a", i, 0, n + 4, n + 6).await, Rotated::Reused);
        grew("it is revoked for reuse").await;
        assert!(matches!(store.save(&record("a", j, 0, n + 7), SaveOptions::default()).await, Ok(Saved::Saved(_))));
        grew("all others are deleted").await;
        store.revoke_all_of("a").await;
        assert_eq!(store.version("a").await, None);
    }
}

async fn session_names_are_any_text(store: &Store) {
    let ids = ids();
    for (n, id) in (0..).zip(&ids) {
        store.begin("a", id, n).await;
        store.begin(id, "f", n).await;
        store.begin(id, "g", n).await;
    }
    for (n, id) in (0..).zip(&ids) {
        assert!(store.accepts("a", id, n).await && store.accepts(id, "f", n).await, "{id:?}");
        assert_eq!(store.renew("a", id, 0, n, 1000 + n).await, Rotated::Rotated, "{id:?}");
        assert_eq!(store.renew(id, "f", 0, n, 1000 + n).await, Rotated::Rotated, "{id:?}");
        assert_eq!(store.renew(id, "g", 0, n, 2000 + n).await, Rotated::Rotated, "{id:?}");
    }
    for (n, id) in (0..).zip(&ids) {
        assert!(store.accepts("a", id, 1000 + n).await && store.accepts(id, "f", 1000 + n).await, "{id:?}");
        assert_eq!(store.renew("a", id, 0, n, 9).await, Rotated::Reused, "{id:?}");
        assert_eq!(store.renew(id, "f", 0, n, 9).await, Rotated::Reused, "{id:?}");
        assert!(store.accepts(id, "g", 2000 + n).await, "{id:?}");
    }
}

const RIVALS: usize = 200;

/// Rotates one token many times at once, and returns what each found.
async fn rivals(store: &Store, grace: Duration) -> Vec<(usize, Rotated)> {
    let start = Arc::new(Barrier::new(RIVALS));
    let mut rivals = JoinSet::new();
    for n in 0..RIVALS {
        let (store, start) = (Arc::clone(store), Arc::clone(&start));
        rivals.spawn(async move {
            let rotation = Rotation { grace, ..renewal("a", "f", 0, "old", n) };
            start.wait().await;
            (n, store.rotate(&rotation).await.unwrap())
        });
    }
    rivals.join_all().await
}

fn winner(outcomes: &[(usize, Rotated)]) -> usize {
    let winners: Vec<_> = outcomes.iter().filter(|(_, rotated)| *rotated == Rotated::Rotated).collect();
    let [(winner, _)] = winners[..] else { panic!("winners: {winners:?}") };
    *winner
}

async fn one_of_200_rotations_wins_and_the_others_repeat_it(store: &Store) {
    store.begin("a", "f", "old").await;
    let outcomes = rivals(store, GRACE).await;
    let winner = winner(&outcomes);
    let pair = store.pair("a").await.unwrap().unwrap();
    assert_eq!(store.held("a").await.unwrap(), held(winner));
    let repeated = Rotated::Repeated(pair);
    assert!(outcomes.iter().all(|(n, rotated)| *n == winner || *rotated == repeated));
    assert!(store.accepts("a", "f", winner).await);
}

async fn second_of_200_rotations_without_a_grace_is_reuse(store: &Store) {
    store.begin("a", "f", "old").await;
    store.begin("a", "g", "other").await;
    let outcomes = rivals(store, Duration::ZERO).await;
    let winner = winner(&outcomes);
    let count = |expected: Rotated| outcomes.iter().filter(|(_, rotated)| *rotated == expected).count();
    assert_eq!((count(Rotated::Reused), count(Rotated::Revoked)), (1, RIVALS - 2));
    assert!(!store.accepts("a", "f", winner).await, "the session has ended");
    assert!(store.accepts("a", "g", "other").await, "the other one has not");
    assert_eq!(store.session("a", "f").await.status, SessionStatus::Reused);
}
