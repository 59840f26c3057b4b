//! The contract of a token store, kept by every store; then what is each one's own.

use std::{sync::Arc, time::Duration};

use fastauth::{
    Secret,
    store::{Rotated, Rotation, TokenDigest, TokenStore},
};
use tokio::{sync::Barrier, task::JoinSet};

use crate::support::stores::{Held, OnePair, current, exchange, held, refresh};

type Store = Arc<dyn TokenStore>;

/// Longer than any test takes.
const GRACE: Duration = Duration::from_secs(600);

/// Runs tests on one store, each on a new one.
macro_rules! tests_on {
    ($module:ident, $fixture:ident, $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    let fixture: Option<crate::support::stores::Fixture> = crate::support::stores::$fixture().await.into();
                    let Some(fixture) = fixture else { return };
                    super::$test(&fixture.store).await;
                }
            )+
        }
    };
}

#[cfg(feature = "test-util")]
mod access_grace;
mod access_revocation;
#[cfg(target_os = "linux")]
mod descriptors;
mod faults;
mod listing;
mod model;
#[cfg(target_os = "linux")]
mod postgres;
#[cfg(target_os = "linux")]
mod postgres_log;
#[cfg(target_os = "linux")]
mod postgres_pooler;
mod rest;
mod revocation;
mod rotation;
mod service;
mod service_faults;
mod sqlite;
mod sqlite_faults;
mod sqlite_power;
mod sqlite_restore;
mod tickets;

/// The contract that every store keeps. What those keep that promise more is in `rotation`, `revocation` and `listing`.
macro_rules! contract {
    ($module:ident, $fixture:ident) => {
        tests_on!(
            $module,
            $fixture,
            unknown_client_is_none,
            saved_pair_is_loaded,
            save_replaces_the_pair,
            ids_are_kept_exactly,
            pair_is_read_as_one_value,
            rotation_replaces_the_presented_token,
            rotation_changes_nothing_else,
            one_of_many_rotations_wins,
            dropped_calls_leave_the_store_sound,
            debug_shows_nothing,
        );
    };
}

contract!(on_memory, memory);
contract!(on_sqlite, sqlite);
contract!(on_postgres, postgres);
contract!(on_rest, rest);
contract!(on_rest_postgres, rest_postgres);
contract!(on_rest_v1, rest_v1);

/// Ids that are easily confused or changed on the way.
fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "plain-1",
        "a b",
        "a&b=c",
        "a#b",
        "a+b",
        "a/b",
        "a%2Fb",
        "élève",
        "a",
        "A",
        " a",
        "a ",
        " a ",
        "a%20b",
        "%",
        "%%",
        "%zz",
        "a%00b",
        "a\0b",
        "a\0",
        "\0",
        "a\0c",
        "a;b",
        "a?b",
        "a=b",
        "=",
        "&",
        "'",
        "\"",
        "a'; DROP TABLE token; --",
        "a\\b",
        "a\nb",
        "a\r\nb",
        "a\tb",
        "\u{7f}",
        "\u{1}",
        "../token",
        "..",
        ".",
        "~",
        "*",
        "null",
        "None",
        "0",
        "-1",
        "{\"a\":1}",
        "[a]",
        "é",
        "e\u{301}",
        "ﬁ",
        "fi",
        "ß",
        "SS",
        "İ",
        "👩‍👩‍👧‍👦",
        "🦀",
        "\u{feff}a",
        "\u{200b}",
        "\u{202e}a",
        "日本語",
        "\u{10ffff}",
        "\u{fffd}",
        "client_id",
        "a&client_id=b",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.extend(["x".repeat(200), "y".repeat(201), "🦀".repeat(200), " ".repeat(200), "é".repeat(200)]);
    ids
}

/// Reads the stored pair, and checks that tokens are compared with the same.
async fn load(store: &Store, client_id: &str) -> Held {
    loop {
        let pair = store.pair(client_id).await.unwrap();
        let current = store.load(client_id, None).await.unwrap();
        let version = |found: Option<Option<u64>>| found.flatten();
        if version(pair.as_ref().map(|pair| pair.version)) != version(current.map(|held| held.version)) {
            // There was a write between the two.
            continue;
        }
        let of = |token: &Option<Secret>| token.as_ref().map(|token| TokenDigest::of(token.expose()));
        let digests = pair.as_ref().map(|pair| (of(&pair.access_token), of(&pair.refresh_token)));
        assert_eq!(current.map(|held| (held.access, held.refresh)), digests);
        return store.held(client_id).await.unwrap();
    }
}

async fn unknown_client_is_none(store: &Store) {
    assert_eq!(load(store, "nobody").await, None);
    store.put("somebody", 1).await.unwrap();
    assert_eq!(load(store, "nobody").await, None);
}

async fn saved_pair_is_loaded(store: &Store) {
    store.put("a", 1).await.unwrap();
    store.put("b", 2).await.unwrap();
    assert_eq!(load(store, "a").await, held(1));
    assert_eq!(load(store, "b").await, held(2));
    let long = "x".repeat(8 * 1024);
    store.put("long", &long).await.unwrap();
    assert_eq!(load(store, "long").await, held(&long));
    store.put("odd", "\0\"\\\n🦀").await.unwrap();
    assert_eq!(load(store, "odd").await, held("\0\"\\\n🦀"));
}

async fn save_replaces_the_pair(store: &Store) {
    for n in 0..10 {
        store.put("a", n).await.unwrap();
        assert_eq!(load(store, "a").await, held(n));
    }
}

async fn ids_are_kept_exactly(store: &Store) {
    let ids = ids();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(load(store, id).await, None, "{id:?} belongs to another client");
        store.put(id, n).await.unwrap();
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(load(store, id).await, held(n), "{id:?}");
        let rotated = store.exchange(id, &refresh(n), -1).await.unwrap();
        assert_eq!(rotated, Rotated::Rotated, "{id:?}");
    }
}

async fn pair_is_read_as_one_value(store: &Store) {
    store.put("a", 0).await.unwrap();
    let digests = |n: i32| current(n).map(|held| (held.access, held.refresh)).unwrap();
    let written: Arc<Vec<_>> = Arc::new((0..400).map(digests).collect());
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let writer = Arc::clone(store);
        tasks.spawn(async move {
            for n in 0..25 {
                writer.put("a", task * 100 + n).await.unwrap();
            }
        });
        let (reader, written) = (Arc::clone(store), Arc::clone(&written));
        tasks.spawn(async move {
            for _ in 0..50 {
                let (access, refresh) = reader.held("a").await.unwrap().unwrap();
                let (access, refresh) = (access.unwrap(), refresh.unwrap());
                let n = access.strip_prefix("access-").unwrap();
                assert_eq!(refresh.strip_prefix("refresh-"), Some(n));
                let held = reader.load("a", None).await.unwrap().unwrap();
                assert!(written.contains(&(held.access, held.refresh)), "halves of two pairs");
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

async fn rotation_replaces_the_presented_token(store: &Store) {
    store.put("a", 1).await.unwrap();
    for n in 1..5 {
        let rotated = store.exchange("a", &refresh(n), n + 1).await.unwrap();
        assert_eq!(rotated, Rotated::Rotated);
        assert_eq!(load(store, "a").await, held(n + 1));
    }
}

async fn rotation_changes_nothing_else(store: &Store) {
    let rotate = async |presented: &str| store.exchange("a", presented, 9).await.unwrap();
    assert_eq!(rotate("refresh-1").await, Rotated::UnknownClient);
    assert_eq!(load(store, "a").await, None);
    store.put("a", 1).await.unwrap();
    store.put("b", 2).await.unwrap();
    for presented in ["", "refresh-2", "refresh-", "refresh-11", "refresh-1 ", "REFRESH-1", "access-1", "refresh-1\0"] {
        assert_eq!(rotate(presented).await, Rotated::Superseded, "{presented:?}");
        assert_eq!(load(store, "a").await, held(1));
    }
    assert_eq!(rotate("refresh-1").await, Rotated::Rotated);
    assert_eq!(load(store, "a").await, held(9));
    assert_eq!(load(store, "b").await, held(2));
}

async fn one_of_many_rotations_wins(store: &Store) {
    const RIVALS: usize = 64;
    store.put("a", "old").await.unwrap();
    let start = Arc::new(Barrier::new(RIVALS));
    let mut rivals = JoinSet::new();
    for n in 0..RIVALS {
        let (store, start) = (Arc::clone(store), Arc::clone(&start));
        rivals.spawn(async move {
            start.wait().await;
            let rotation = Rotation { grace: GRACE, ..exchange("a", &refresh("old"), n) };
            (n, store.rotate(&rotation).await.unwrap())
        });
    }
    let outcomes = rivals.join_all().await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, rotated)| *rotated == Rotated::Rotated).collect();
    let [(winner, _)] = winners[..] else { panic!("winners: {winners:?}") };
    assert_eq!(load(store, "a").await, held(winner));
    // A store that recognises consumed tokens returns the same pair to the others.
    let held = store.pair("a").await.unwrap().unwrap();
    let remembers = store.promises().await.unwrap().atomic_rotation;
    let others = if remembers { Rotated::Repeated(held) } else { Rotated::Superseded };
    assert!(outcomes.iter().all(|(n, rotated)| n == winner || *rotated == others));
}

/// Drops calls after ever longer times, so that some stop at each of their steps.
async fn dropped_calls_leave_the_store_sound(store: &Store) {
    store.put("a", "old").await.unwrap();
    for micros in (0..2000).step_by(40) {
        let patience = Duration::from_micros(micros);
        let rotation = Rotation { grace: GRACE, ..exchange("a", &refresh("new"), "old") };
        let _ = tokio::time::timeout(patience, store.put("a", "new")).await;
        let _ = tokio::time::timeout(patience, store.load("a", None)).await;
        let _ = tokio::time::timeout(patience, store.pair("a")).await;
        let _ = tokio::time::timeout(patience, store.rotate(&rotation)).await;
        let now = store.held("a").await.unwrap();
        assert!(now == held("old") || now == held("new"), "half a pair");
    }
    for n in 0..3 {
        store.put("b", n).await.unwrap();
        assert_eq!(load(store, "b").await, held(n));
    }
    assert_eq!(store.exchange("b", &refresh(2), 3).await.unwrap(), Rotated::Rotated);
}

async fn debug_shows_nothing(store: &Store) {
    store.put("hush-client", "hush").await.unwrap();
    for text in [format!("{store:?}"), format!("{store:#?}")] {
        assert!(text.contains("Store"), "{text}");
        for secret in ["hush", "127.0.0.1", "let-me-in", "tokens.db"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
