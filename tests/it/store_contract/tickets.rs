//! What a store that has tickets promises of them.

use tokio::task::JoinSet;

use super::Store;

tests_on!(on_memory, memory, ticket_is_spent_once, one_of_many_spends_wins);
tests_on!(on_sqlite, sqlite, ticket_is_spent_once, one_of_many_spends_wins);
tests_on!(on_postgres, postgres, ticket_is_spent_once, one_of_many_spends_wins);
tests_on!(on_rest, rest, ticket_is_spent_once, one_of_many_spends_wins);

const FAR_AWAY: u64 = 4_000_000_000;

async fn ticket_is_spent_once(store: &Store) {
    for id in ["a", "A", "\0", "\u{e9}\"/", &"x".repeat(256)] {
        assert!(store.spend(id, FAR_AWAY).await.unwrap(), "{id:?}");
        assert!(!store.spend(id, FAR_AWAY).await.unwrap(), "{id:?}");
    }
    assert!(store.promises().await.unwrap().tickets);
    // A ticket that has just expired may be valid by another clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(store.spend("late", now - 60).await.unwrap());
    assert!(store.spend("other", FAR_AWAY).await.unwrap());
    assert!(!store.spend("late", now - 60).await.unwrap());
}

async fn one_of_many_spends_wins(store: &Store) {
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        tasks.spawn(async move { store.spend("ticket", FAR_AWAY).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|is_first| *is_first).count(), 1);
}
