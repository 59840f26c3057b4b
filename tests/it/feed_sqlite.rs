//! The log of the embedded store: what other processes and operators do to the file is told, too.

use std::{path::PathBuf, sync::Arc};

use fastauth::store::{RestoredSessions, Revoked, SqliteStore, StoreService, TokenStore};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{
    feed::{FeedEvent, FeedEvents, json},
    stores::ManySessions,
};

fn scratch() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    (directory, path)
}

fn open(path: &PathBuf) -> (Arc<SqliteStore>, StoreService) {
    let store = Arc::new(SqliteStore::open(path).unwrap());
    let service = StoreService::new(Arc::clone(&store) as _);
    (store, service)
}

async fn follow(service: &StoreService) -> FeedEvents {
    let mut feed = FeedEvents::open(service, "").await;
    feed.next().await.unwrap();
    feed
}

#[tokio::test]
async fn sessions_that_are_deleted_by_hand_are_told() {
    let (_directory, path) = scratch();
    let (store, service) = open(&path);
    for session in ["phone", "laptop", "revoked"] {
        store.begin("a", session, 1).await;
    }
    assert_eq!(store.revoke_session("a", "revoked").await, Revoked::Sessions(1));
    let mut feed = follow(&service).await;
    let by_hand = Connection::open(&path).unwrap();
    by_hand.execute("DELETE FROM token WHERE client_id = 'a'", []).unwrap();
    let mut told: Vec<_> = feed.changes(2).await.iter().map(FeedEvent::change).collect();
    told.sort();
    assert_eq!(told, ["revoke a/laptop", "revoke a/phone"], "and not the one that was revoked before");
    store.begin("b", "", 1).await;
    by_hand.execute("UPDATE token SET access_expires_at = 1, refresh_expires_at = 1", []).unwrap();
    by_hand.execute("DELETE FROM token", []).unwrap();
    store.begin("c", "", 1).await;
    let told: Vec<_> = feed.changes(2).await.iter().map(FeedEvent::change).collect();
    assert_eq!(told, ["issue b/", "issue c/"], "what has expired is of no concern");
}

/// As two processes do.
#[tokio::test]
async fn two_servers_on_one_file_tell_the_same() {
    let (_directory, path) = scratch();
    let (one, first) = open(&path);
    let (other, second) = open(&path);
    let mut feeds = [follow(&first).await, follow(&second).await];
    one.begin("a", "", 1).await;
    other.begin("b", "", 1).await;
    one.revoke_all_of("b").await;
    let mut told = Vec::new();
    for feed in &mut feeds {
        told.push(feed.changes(3).await);
    }
    let data = |feed: usize| told[feed].iter().map(|event| &event.data).collect::<Vec<_>>();
    assert_eq!(data(0), data(1));
    // A reader of one goes on at the other.
    let mut moved = FeedEvents::open(&second, &format!("?since={}", told[0][1].id)).await;
    assert_eq!(moved.news().await.unwrap().change(), "revoke b/*");
}

#[tokio::test]
async fn restored_backup_is_a_reset() {
    for sessions in [RestoredSessions::Kept, RestoredSessions::Revoked] {
        let (directory, path) = scratch();
        let (store, service) = open(&path);
        store.begin("a", "", 1).await;
        let backup = directory.path().join("backup.db");
        store.back_up(&backup).unwrap();
        let at_backup = json(&service, "/v2/changes?wait=0").await["point"].as_str().unwrap().to_owned();
        store.revoke_all_of("a").await;
        let later = json(&service, "/v2/changes?wait=0").await["point"].as_str().unwrap().to_owned();
        drop((store, service));
        SqliteStore::restore(&backup, &path, sessions).unwrap();
        let (store, service) = open(&path);
        for point in [&at_backup, &later] {
            let mut feed = FeedEvents::open(&service, &format!("?since={point}")).await;
            assert_eq!(feed.news().await.unwrap().name, "reset", "{sessions:?}");
            store.begin("b", point, 1).await;
            assert_eq!(feed.news().await.unwrap().change(), format!("issue b/{point}"));
        }
    }
}

/// A file that was put back in another way looks like the one that it was.
#[tokio::test]
async fn restart_of_the_log_reaches_other_processes() {
    let (_directory, path) = scratch();
    let (_one, first) = open(&path);
    let (other, _) = open(&path);
    let mut feed = follow(&first).await;
    other.log().unwrap().restart().await.unwrap();
    assert_eq!(feed.news().await.unwrap().name, "reset");
}

#[tokio::test]
async fn changes_that_were_deleted_are_a_reset() {
    let (_directory, path) = scratch();
    let (store, service) = open(&path);
    let start = json(&service, "/v2/changes?wait=0").await["point"].as_str().unwrap().to_owned();
    for n in 0..3 {
        store.begin("a", "", n).await;
    }
    // The service has read them, too.
    while !json(&service, "/v2/changes?wait=0").await["point"].as_str().unwrap().ends_with("-3") {}
    let by_hand = Connection::open(&path).unwrap();
    by_hand.execute("DELETE FROM change WHERE number < 3", []).unwrap();
    let polled = json(&service, &format!("/v2/changes?since={start}&wait=20")).await;
    assert_eq!(polled["reset"], true);
    let second = start.replace("-0", "-2");
    let polled = json(&service, &format!("/v2/changes?since={second}&wait=20")).await;
    assert_eq!((&polled["reset"], polled["changes"].as_array().unwrap().len()), (&false.into(), 1));
}
