//! The access token that a rotation has replaced: stores keep it for `access-grace`, with its age by their clock.

use std::time::{Duration, SystemTime};

use fastauth::{
    store::{CurrentTokens, Revocation, Rotated, Rotation, SaveOptions, SqliteStore, TokenDigest, TokenStore},
    test_util::ManualClock,
};

use super::GRACE;
use crate::support::stores::{ManySessions, OnePair, record, renewal, session_of, with_clock};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the number of the pair whose access token was replaced, and its age in whole seconds.
async fn previous(store: &dyn TokenStore, session: &str) -> Option<(i32, u64)> {
    let held = store.load("a", Some(session)).await.unwrap();
    held.and_then(|held: CurrentTokens| held.previous_access).map(|previous| {
        let number = (0..20).find(|n| TokenDigest::of(format!("access-{n}")) == previous.digest);
        (number.expect("a token of the test"), previous.age.as_secs())
    })
}

#[tokio::test]
async fn replaced_token_is_kept_with_its_age_until_the_next_rotation() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let store = &*fixture.store;
        store.begin("a", "f", 1).await;
        store.begin("a", "g", 11).await;
        assert_eq!(previous(store, "f").await, None, "{kind}: the first pair has replaced nothing");
        assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
        assert_eq!(previous(store, "f").await, Some((1, 0)), "{kind}");
        clock.advance(7 * SECOND);
        assert_eq!(previous(store, "f").await, Some((1, 7)), "{kind}");
        assert_eq!(store.renew("a", "f", 1, 2, 3).await, Rotated::Rotated);
        assert_eq!(previous(store, "f").await, Some((2, 0)), "{kind}: only that of the pair before");
        assert_eq!(previous(store, "g").await, None, "{kind}: another session");
        assert!(store.accepts("a", "f", 3).await && store.accepts("a", "g", 11).await, "{kind}");
    }
}

#[tokio::test]
async fn repeated_rotation_does_not_make_the_replaced_token_younger() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let store = &*fixture.store;
        store.begin("a", "f", 1).await;
        for (n, age) in [(2, 0), (3, 5), (4, 10)] {
            let rotation = Rotation { grace: GRACE, ..renewal("a", "f", 0, 1, n) };
            let rotated = store.rotate(&rotation).await.unwrap();
            assert_eq!(matches!(rotated, Rotated::Repeated(_)), n > 2, "{kind}: {rotated:?}");
            assert_eq!(previous(store, "f").await, Some((1, age)), "{kind}");
            clock.advance(5 * SECOND);
        }
    }
}

/// Also while the client has another session, which is looked up instead.
#[tokio::test]
async fn revocation_ends_the_replaced_token() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let store = &*fixture.store;
        for (revocation, is_alone) in [
            (Some(session_of("a", "f")), true),
            (Some(session_of("a", "f")), false),
            (Some(Revocation::Client("a".to_owned())), false),
            (Some(Revocation::All), false),
            (None, true),
            (None, false),
        ] {
            let session = format!("f{kind}{revocation:?}{is_alone}");
            store.begin("a", &session, 1).await;
            assert_eq!(store.renew("a", &session, 0, 1, 2).await, Rotated::Rotated);
            if !is_alone {
                let other = format!("other {session}");
                store.begin("a", &other, 11).await;
                store.renew("a", &other, 0, 11, 12).await;
            }
            match &revocation {
                Some(Revocation::Session { .. }) => _ = store.revoke_session("a", &session).await,
                Some(revocation) => _ = store.revoke(revocation, None).await.unwrap(),
                None => assert_eq!(store.renew("a", &session, 0, 1, 3).await, Rotated::Reused),
            }
            let found = previous(store, &session).await;
            assert!(found.is_none_or(|(number, _)| number == 11), "{kind}, {revocation:?}: {found:?}");
            store.revoke(&Revocation::All, None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn new_pair_of_a_session_has_replaced_nothing() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let store = &*fixture.store;
        store.begin("a", "f", 1).await;
        store.renew("a", "f", 0, 1, 2).await;
        store.save(&record("a", "f", 2, 3), SaveOptions { keep_others: true, ..SaveOptions::default() }).await.unwrap();
        assert_eq!(previous(store, "f").await, None, "{kind}: a save of a later generation");
        store.renew("a", "f", 2, 3, 4).await;
        store.save(&record("a", "g", 0, 5), SaveOptions::default()).await.unwrap();
        assert_eq!(previous(store, "f").await, None, "{kind}: a log-in in its place");
    }
}

#[tokio::test]
async fn token_without_a_session_is_replaced_by_one_with_a_session() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let store = &*fixture.store;
        store.put("a", 1).await.unwrap();
        let rotation =
            Rotation { presented_session: None, successor: record("a", "f", 0, 2), ..renewal("a", "f", 0, 1, 2) };
        assert_eq!(store.rotate(&rotation).await.unwrap(), Rotated::Rotated);
        assert_eq!((previous(store, "").await, previous(store, "f").await), (Some((1, 0)), Some((1, 0))), "{kind}");
    }
}

/// The time of the rotation is in the file, so that processes agree on the age.
#[tokio::test]
async fn processes_that_share_a_file_agree_on_the_age() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    let clock = ManualClock::new();
    let stores = [(); 2].map(|()| SqliteStore::open_with_clock(&path, &clock).unwrap());
    stores[0].begin("a", "f", 1).await;
    stores[1].renew("a", "f", 0, 1, 2).await;
    clock.advance(3 * SECOND);
    for store in &stores {
        assert_eq!(previous(store, "f").await, Some((1, 3)));
    }
    drop(stores);
    clock.advance(SECOND);
    let again = SqliteStore::open_with_clock(&path, &clock).unwrap();
    assert_eq!(previous(&again, "f").await, Some((1, 4)));
}

#[tokio::test]
async fn age_is_not_known_after_the_clock_was_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + 1_800_000_000 * SECOND);
    let store = SqliteStore::open_with_clock(directory.path().join("tokens.db"), &clock).unwrap();
    store.begin("a", "f", 1).await;
    store.renew("a", "f", 0, 1, 2).await;
    clock.set(clock.now() - SECOND);
    assert_eq!(previous(&store, "f").await, None);
    assert!(store.accepts("a", "f", 2).await);
}
