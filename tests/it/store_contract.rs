//! The contract of a token store, kept by every store; then what is each one's own.

use std::{sync::Arc, time::Duration};

use fastauth::{
    Secret,
    store::{Rotation, StoredTokens, TokenStore},
};
use tokio::{sync::Barrier, task::JoinSet};

use crate::support::stores::pair;

mod rest;
mod service;
mod sqlite;

type Store = Arc<dyn TokenStore>;

/// Runs every test of the contract on one store.
macro_rules! contract {
    ($module:ident, $fixture:ident) => {
        contract!(@ $module $fixture:
            an_unknown_client_is_none,
            what_was_saved_is_loaded,
            a_save_replaces,
            ids_are_kept_exactly,
            a_pair_is_one_value,
            a_rotation_replaces_what_was_presented,
            a_rotation_changes_nothing_else,
            of_many_rotations_one_wins,
            dropped_calls_leave_the_store_sound,
            debug_shows_nothing,
        );
    };
    (@ $module:ident $fixture:ident: $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    let fixture = crate::support::stores::$fixture().await;
                    super::$test(&fixture.store).await;
                }
            )+
        }
    };
}

contract!(on_memory, memory);
contract!(on_sqlite, sqlite);
contract!(on_rest, rest);

/// Ids that are easily confused with each other or spoilt on the way.
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

async fn load(store: &Store, client_id: &str) -> Option<StoredTokens> {
    store.load(client_id).await.unwrap()
}

fn held(n: impl std::fmt::Display) -> Option<StoredTokens> {
    Some(pair(n).into())
}

async fn an_unknown_client_is_none(store: &Store) {
    assert_eq!(load(store, "nobody").await, None);
    store.save("somebody", &pair(1)).await.unwrap();
    assert_eq!(load(store, "nobody").await, None);
}

async fn what_was_saved_is_loaded(store: &Store) {
    store.save("a", &pair(1)).await.unwrap();
    store.save("b", &pair(2)).await.unwrap();
    assert_eq!(load(store, "a").await, held(1));
    assert_eq!(load(store, "b").await, held(2));
    let long = "x".repeat(8 * 1024);
    store.save("long", &pair(&long)).await.unwrap();
    assert_eq!(load(store, "long").await, held(&long));
    store.save("odd", &pair("\0\"\\\n🦀")).await.unwrap();
    assert_eq!(load(store, "odd").await, held("\0\"\\\n🦀"));
}

async fn a_save_replaces(store: &Store) {
    for n in 0..10 {
        store.save("a", &pair(n)).await.unwrap();
        assert_eq!(load(store, "a").await, held(n));
    }
}

async fn ids_are_kept_exactly(store: &Store) {
    let ids = ids();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(load(store, id).await, None, "{id:?} is another's");
        store.save(id, &pair(n)).await.unwrap();
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(load(store, id).await, held(n), "{id:?}");
        let rotation = store.rotate(id, &pair(n).refresh_token, &pair(-1)).await.unwrap();
        assert_eq!(rotation, Rotation::Rotated, "{id:?}");
    }
}

async fn a_pair_is_one_value(store: &Store) {
    store.save("a", &pair(0)).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let writer = Arc::clone(store);
        tasks.spawn(async move {
            for n in 0..25 {
                writer.save("a", &pair(task * 100 + n)).await.unwrap();
            }
        });
        let reader = Arc::clone(store);
        tasks.spawn(async move {
            for _ in 0..50 {
                let StoredTokens { access_token, refresh_token } = load(&reader, "a").await.unwrap();
                let (access, refresh) = (access_token.unwrap(), refresh_token.unwrap());
                assert_eq!(access.expose().strip_prefix("access-"), refresh.expose().strip_prefix("refresh-"));
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

async fn a_rotation_replaces_what_was_presented(store: &Store) {
    store.save("a", &pair(1)).await.unwrap();
    for n in 1..5 {
        let rotation = store.rotate("a", &pair(n).refresh_token, &pair(n + 1)).await.unwrap();
        assert_eq!(rotation, Rotation::Rotated);
        assert_eq!(load(store, "a").await, held(n + 1));
    }
}

async fn a_rotation_changes_nothing_else(store: &Store) {
    let rotate = async |presented: &str| store.rotate("a", &Secret::from(presented), &pair(9)).await.unwrap();
    assert_eq!(rotate("refresh-1").await, Rotation::UnknownClient);
    assert_eq!(load(store, "a").await, None);
    store.save("a", &pair(1)).await.unwrap();
    store.save("b", &pair(2)).await.unwrap();
    for presented in ["", "refresh-2", "refresh-", "refresh-11", "refresh-1 ", "REFRESH-1", "access-1", "refresh-1\0"] {
        assert_eq!(rotate(presented).await, Rotation::Superseded, "{presented:?}");
        assert_eq!(load(store, "a").await, held(1));
    }
    assert_eq!(rotate("refresh-1").await, Rotation::Rotated);
    assert_eq!(rotate("refresh-1").await, Rotation::Superseded);
    assert_eq!(load(store, "a").await, held(9));
    assert_eq!(load(store, "b").await, held(2));
}

async fn of_many_rotations_one_wins(store: &Store) {
    const RIVALS: usize = 64;
    store.save("a", &pair("old")).await.unwrap();
    let start = Arc::new(Barrier::new(RIVALS));
    let mut rivals = JoinSet::new();
    for n in 0..RIVALS {
        let (store, start) = (Arc::clone(store), Arc::clone(&start));
        rivals.spawn(async move {
            start.wait().await;
            (n, store.rotate("a", &pair("old").refresh_token, &pair(n)).await.unwrap())
        });
    }
    let outcomes = rivals.join_all().await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, rotation)| *rotation == Rotation::Rotated).collect();
    let [(winner, _)] = winners[..] else { panic!("winners: {winners:?}") };
    assert!(outcomes.iter().all(|(n, rotation)| n == winner || *rotation == Rotation::Superseded));
    assert_eq!(load(store, "a").await, held(winner));
}

/// Calls are given up after ever longer times, so that some stop at each of their steps.
async fn dropped_calls_leave_the_store_sound(store: &Store) {
    store.save("a", &pair("old")).await.unwrap();
    for micros in (0..2000).step_by(40) {
        let patience = Duration::from_micros(micros);
        let (old, new) = (pair("old"), pair("new"));
        let _ = tokio::time::timeout(patience, store.save("a", &new)).await;
        let _ = tokio::time::timeout(patience, store.load("a")).await;
        let _ = tokio::time::timeout(patience, store.rotate("a", &new.refresh_token, &old)).await;
        let now = load(store, "a").await;
        assert!(now == held("old") || now == held("new"), "half a pair");
    }
    for n in 0..3 {
        store.save("b", &pair(n)).await.unwrap();
        assert_eq!(load(store, "b").await, held(n));
    }
    assert_eq!(store.rotate("b", &pair(2).refresh_token, &pair(3)).await.unwrap(), Rotation::Rotated);
}

async fn debug_shows_nothing(store: &Store) {
    store.save("hush-client", &pair("hush")).await.unwrap();
    for text in [format!("{store:?}"), format!("{store:#?}")] {
        assert!(text.contains("Store"), "{text}");
        for secret in ["hush", "127.0.0.1", "let-me-in", "tokens.db"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
