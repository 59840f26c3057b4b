//! The log of changes in PostgreSQL: order, points, and how quickly others see a change.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use fastauth::store::{Change, ChangeKind, Feed, LogReader, PostgresOptions, PostgresStore, TokenDigest, TokenStore};
use tokio::time::{Instant, timeout};

use crate::support::{
    postgres::{Server, client, connect, database},
    stores::{ManySessions, OnePair, refresh},
};

const PATIENCE: Duration = Duration::from_secs(10);

async fn end(store: &PostgresStore) -> Box<dyn LogReader> {
    store.log().unwrap().follow(None).await.unwrap().unwrap()
}

/// Reads until there are this many changes.
async fn changes(reader: &mut Box<dyn LogReader>, count: usize) -> Vec<Change> {
    let mut found = Vec::new();
    while found.len() < count {
        let page = timeout(PATIENCE, reader.next()).await.expect("it waits for a second at most").unwrap();
        found.extend(page.changes);
    }
    found
}

#[tokio::test]
async fn changes_are_told_with_what_is_current() {
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    store.begin("before", "f", 9).await;
    let mut reader = end(&store).await;
    store.begin("a", "f", 1).await;
    store.renew("a", "f", 0, 1, 2).await;
    store.put("a", 3).await.unwrap();
    store.begin("a", "g\0", 4).await;
    store.revoke_access("a", None).await.unwrap();
    store.revoke_session("a", "g\0").await;
    store.revoke_all_of("a").await;
    store.begin("b", "f", 5).await;
    store.revoke(&fastauth::store::Revocation::All, None).await.unwrap();
    let found = changes(&mut reader, 9).await;
    let told: Vec<_> =
        found.iter().map(|change| (change.kind, change.client_id.as_deref(), change.session.as_deref())).collect();
    use ChangeKind::{Issue, Replace, Revoke, RevokeAccess, Rotate};
    assert_eq!(
        told,
        [
            (Issue, Some("a"), Some("f")),
            (Rotate, Some("a"), Some("f")),
            (Replace, Some("a"), Some("")),
            (Issue, Some("a"), Some("g\0")),
            (RevokeAccess, Some("a"), None),
            (Revoke, Some("a"), Some("g\0")),
            (Revoke, Some("a"), None),
            (Issue, Some("b"), Some("f")),
            (Revoke, None, None),
        ]
    );
    assert!(found.windows(2).all(|pair| pair[0].number < pair[1].number && pair[0].version <= pair[1].version));
    assert!(found.iter().all(|change| change.current.is_none()), "nothing is live now");
    store.begin("c", "f", 6).await;
    let found = changes(&mut reader, 1).await;
    let current = found[0].current.as_ref().unwrap();
    assert_eq!(
        (current.tokens.refresh, current.tokens.version),
        (Some(TokenDigest::of(refresh(6))), Some(found[0].version))
    );
    assert_eq!(store.log().unwrap().sessions(None, 10).await.unwrap(), std::slice::from_ref(current));
    let after = ("c".to_owned(), "f".to_owned());
    assert_eq!(store.log().unwrap().sessions(Some(&after), 10).await.unwrap(), []);
    // What changes nothing is not told.
    store.revoke_all_of("nobody").await;
    assert_eq!(reader.next().await.unwrap().changes, []);
}

/// Numbers are drawn before their transactions are committed.
#[tokio::test]
async fn change_that_is_committed_late_is_told() {
    const CHANGE: &str = "INSERT INTO fastauth.change (kind, client_id, version) VALUES ('revoke', 'early', 1)";
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    store.begin("a", "f", 1).await;
    let (mut one, mut two) = (client(&url).await, client(&url).await);
    let mut reader = end(&store).await;
    let early = one.transaction().await.unwrap();
    early.execute(CHANGE, &[]).await.unwrap();
    let never = two.transaction().await.unwrap();
    never.execute(CHANGE, &[]).await.unwrap();
    // One that begins to read while they are in the making.
    store.begin("b", "f", 1).await;
    let mut second = end(&store).await;
    let told = changes(&mut reader, 1).await;
    assert_eq!(told[0].client_id.as_deref(), Some("b"));
    let point = reader.point();
    assert_eq!((point.number, second.point().number), (told[0].number - 3, told[0].number - 3));
    early.commit().await.unwrap();
    for reader in [&mut reader, &mut second] {
        let late = changes(reader, 1).await;
        assert_eq!((late[0].client_id.as_deref(), late[0].number), (Some("early"), told[0].number - 2));
        assert_eq!(reader.point().number, told[0].number - 2);
    }
    never.rollback().await.unwrap();
    // Once nothing can come any more, the point moves on.
    while reader.point().number < told[0].number {
        assert_eq!(timeout(PATIENCE, reader.next()).await.unwrap().unwrap().changes, []);
    }
    let mut again = store.log().unwrap().follow(Some(&point)).await.unwrap().unwrap();
    assert_eq!(again.point(), point);
    let told: Vec<_> = changes(&mut again, 2).await.into_iter().map(|change| change.client_id.unwrap()).collect();
    assert_eq!(told, ["early", "b"]);
}

/// A transaction that runs is in no snapshot if none has ended that began after it.
#[tokio::test]
async fn change_of_the_last_transaction_is_told_though_it_is_committed_late() {
    const BEGIN: &str = "SELECT pg_current_xact_id()::text";
    const CHANGE: &str = "INSERT INTO fastauth.change (kind, client_id, version) VALUES ('revoke', $1, 1)";
    // Others would end transactions on a server that is shared.
    let Some(server) = Server::start("") else { return };
    let url = server.database();
    let store = connect(&url).await;
    let (mut one, mut two) = (client(&url).await, client(&url).await);
    let mut reader = end(&store).await;
    assert_eq!(reader.next().await.unwrap().changes, []);
    let first = one.transaction().await.unwrap();
    first.execute(BEGIN, &[]).await.unwrap();
    let last = two.transaction().await.unwrap();
    last.execute(BEGIN, &[]).await.unwrap();
    last.execute(CHANGE, &[&b"late".as_slice()]).await.unwrap();
    first.execute(CHANGE, &[&b"soon".as_slice()]).await.unwrap();
    first.commit().await.unwrap();
    // One that begins to read while it is in the making.
    let mut second = end(&store).await;
    assert_eq!(changes(&mut reader, 1).await[0].client_id.as_deref(), Some("soon"));
    for reader in [&mut reader, &mut second] {
        assert_eq!(reader.next().await.unwrap().changes, []);
    }
    let stamp = store.changes().unwrap().stamp("late");
    last.commit().await.unwrap();
    for reader in [&mut reader, &mut second] {
        let late = timeout(PATIENCE, changes(reader, 1)).await.expect("it is told");
        assert_eq!((late[0].client_id.as_deref(), late[0].number), (Some("late"), 1));
    }
    timeout(PATIENCE, store.changes().unwrap().changed_since(stamp)).await.unwrap();
}

#[tokio::test]
async fn point_in_another_log_is_refused() {
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    let log = store.log().unwrap();
    store.begin("a", "f", 1).await;
    let mut reader = end(&store).await;
    let point = reader.next().await.unwrap().point;
    let mut later = point.clone();
    later.number += 1;
    assert!(log.follow(Some(&point)).await.unwrap().is_some());
    assert!(log.follow(Some(&later)).await.unwrap().is_none(), "the log was set back");
    let changes = store.changes().unwrap();
    let stamp = changes.stamp("a");
    let begun = log.restart().await.unwrap();
    assert!(log.follow(Some(&point)).await.unwrap().is_none());
    assert!(log.follow(Some(&begun)).await.unwrap().is_some());
    let mut page = reader.next().await.unwrap();
    while page.point.epoch == point.epoch {
        page = reader.next().await.unwrap();
    }
    assert_eq!(page.point, begun);
    timeout(PATIENCE, changes.changed_since(stamp)).await.unwrap();
}

/// A reader that was away for longer than the log reaches back forgets what it knew.
#[tokio::test]
async fn reader_that_was_away_for_too_long_begins_again() {
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    store.begin("a", "f", 1).await;
    let mut reader = end(&store).await;
    let point = reader.next().await.unwrap().point;
    let raw = client(&url).await;
    raw.batch_execute("UPDATE fastauth.upkeep SET cut = 100").await.unwrap();
    assert!(store.log().unwrap().follow(Some(&point)).await.unwrap().is_none());
    let lost = reader.next().await.unwrap();
    assert_ne!(lost.point.epoch, point.epoch);
    let found = reader.next().await.unwrap();
    assert_eq!((found.point.epoch, found.point.number), (point.epoch, 100));
}

/// Several stores on one database: each sees the changes of the others.
async fn changes_reach_another_store(feed: Feed) {
    let Some(url) = database() else { return };
    let mut options = PostgresOptions::default();
    options.feed = feed;
    let one = connect(&url).await;
    let two = Arc::new(PostgresStore::connect(&url, options).await.unwrap());
    let changes = two.changes().unwrap();
    assert!(changes.tells_of_others());
    let mut times = Vec::new();
    for n in 0..20 {
        let client_id = format!("a{n}");
        one.begin(&client_id, "f", n).await;
        let now_ms = || UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        // Until its beginning has been noticed, and an answer could be cached.
        let mut stamp = changes.stamp(&client_id);
        while timeout(Duration::from_millis(300), changes.changed_since(stamp)).await.is_ok()
            || !changes.unchanged_since(stamp, now_ms())
        {
            stamp = changes.stamp(&client_id);
        }
        one.revoke_all_of(&client_id).await;
        let revoked = Instant::now();
        timeout(PATIENCE, changes.changed_since(stamp)).await.unwrap();
        times.push(revoked.elapsed());
        assert_eq!(two.load(&client_id, None).await.unwrap(), None);
    }
    times.sort();
    // Those that wait for the next look without being told wait for half a second.
    assert!(times[10] < Duration::from_millis(300), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_reach_another_store_by_listening() {
    changes_reach_another_store(Feed::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_reach_another_store_by_polling() {
    changes_reach_another_store(Feed::Poll).await;
}
