//! What only a store in a file promises.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use fastauth::store::{
    Revocation, Revoked, Rotated, Rotation, SessionStatus, SqliteStore, StoreErrorKind, TokenDigest, TokenStore,
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::GRACE;
use crate::support::stores::{ManySessions, OnePair, held, refresh, renewal, session_of};

fn scratch() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    (directory, path)
}

/// Returns the message of the refusal to open `path`.
fn refusal(path: &Path) -> String {
    let error = SqliteStore::open(path).expect_err("refused");
    assert_eq!(error.kind(), StoreErrorKind::Failed);
    error.to_string()
}

#[tokio::test]
async fn two_stores_on_one_file_see_each_other() {
    let (_directory, path) = scratch();
    let (one, other) = (SqliteStore::open(&path).unwrap(), SqliteStore::open(&path).unwrap());
    for n in 0..20 {
        one.put("a", n).await.unwrap();
        assert_eq!(other.held("a").await.unwrap(), held(n));
        other.put("b", n).await.unwrap();
        assert_eq!(one.held("b").await.unwrap(), held(n));
    }
    let presented = refresh(19);
    let (first, second) = tokio::join!(one.exchange("a", &presented, "one"), other.exchange("a", &presented, "other"));
    let rotated = [first.unwrap(), second.unwrap()].map(|rotated| rotated == Rotated::Rotated);
    assert!(rotated[0] != rotated[1], "{rotated:?}");
}

#[tokio::test]
async fn answered_writes_are_there_after_reopening() {
    let (_directory, path) = scratch();
    for n in 0..3 {
        let store = SqliteStore::open(&path).unwrap();
        if n > 0 {
            assert_eq!(store.held("a").await.unwrap(), held(n - 1));
        }
        store.put("a", n).await.unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let (directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.put("a", 1).await.unwrap();
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn other_files_are_refused_and_not_changed() {
    let foreign = |sql: &'static str| move |path: &Path| Connection::open(path).unwrap().execute_batch(sql).unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Make<'_>, &str); 5] = [
        ("a table", &foreign("CREATE TABLE t (x)"), "another program's database"),
        ("an id", &foreign("PRAGMA application_id = 7"), "another program's database"),
        ("a version", &foreign("PRAGMA user_version = 7"), "another program's database"),
        (
            "a newer schema",
            &|path| {
                drop(SqliteStore::open(path).unwrap());
                foreign("PRAGMA user_version = 6")(path);
            },
            "newer version of fastauth",
        ),
        ("no database", &|path| fs::write(path, "hello ".repeat(1000)).unwrap(), "not an SQLite database"),
    ];
    for (name, make, expected) in cases {
        let (_directory, path) = scratch();
        make(&path);
        let before = fs::read(&path).unwrap();
        let message = refusal(&path);
        assert!(message.contains(expected), "{name}: {message}");
        assert!(message.contains("tokens.db"), "{name}: {message}");
        assert!(fs::read(&path).unwrap() == before, "{name}: the file was changed");
    }
}

#[test]
fn unusable_path_is_refused_with_a_reason() {
    let (directory, path) = scratch();
    let missing = directory.path().join("missing/tokens.db");
    let message = refusal(&missing);
    assert!(message.contains("no directory") && message.contains("create it first"), "{message}");
    assert!(refusal(directory.path()).contains("cannot open"));
    assert!(refusal(Path::new("")).contains("empty"));
    fs::write(&path, "").unwrap();
    SqliteStore::open(&path).expect("an empty file is a new database");
}

#[test]
fn many_open_a_new_file_at_once() {
    for _ in 0..4 {
        let (_directory, path) = scratch();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for n in 0..8 {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    let store = SqliteStore::open(path).unwrap();
                    block_on(store.put(&n.to_string(), n)).unwrap();
                });
            }
        });
        let store = SqliteStore::open(&path).unwrap();
        for n in 0..8 {
            assert_eq!(block_on(store.held(&n.to_string())).unwrap(), held(n));
        }
    }
}

#[tokio::test]
async fn write_behind_a_lock_fails_and_the_next_succeeds() {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.put("a", 1).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.put("a", 2).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Failed);
    assert!(error.to_string().contains("locked"), "{error}");
    assert_eq!(store.held("a").await.unwrap(), held(1), "readers are not locked out");
    other.execute_batch("ROLLBACK").unwrap();
    store.put("a", 3).await.unwrap();
    assert_eq!(store.held("a").await.unwrap(), held(3));
}

#[tokio::test]
async fn row_deleted_by_hand_is_gone_at_once() {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.put("a", 1).await.unwrap();
    store.put("b", 2).await.unwrap();
    let operator = Connection::open(&path).unwrap();
    operator.execute_batch("DELETE FROM token WHERE client_id = 'a'").unwrap();
    assert_eq!(store.held("a").await.unwrap(), None);
    operator.execute_batch("UPDATE token SET access_token = NULL WHERE client_id = 'b'").unwrap();
    assert_eq!(store.held("b").await.unwrap(), Some((None, Some(refresh(2)))));
}

#[test]
fn store_runs_without_a_runtime() {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    block_on(store.put("a", 1)).unwrap();
    assert_eq!(block_on(store.exchange("a", &refresh(1), 2)).unwrap(), Rotated::Rotated);
    assert_eq!(block_on(store.held("a")).unwrap(), held(2));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => thread::park(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_rotations_in_two_stores_wins() {
    const RIVALS: usize = 40;
    let (_directory, path) = scratch();
    let stores = [(); 2].map(|()| Arc::new(SqliteStore::open(&path).unwrap()));
    for (grace, client_id) in [(GRACE, "a"), (Duration::ZERO, "b"), (GRACE, "c"), (Duration::ZERO, "d")] {
        stores[0].begin(client_id, "f", "old").await;
        let start = Arc::new(tokio::sync::Barrier::new(RIVALS));
        let mut rivals = JoinSet::new();
        for n in 0..RIVALS {
            let (store, start) = (Arc::clone(&stores[n % 2]), Arc::clone(&start));
            rivals.spawn(async move {
                let rotation = Rotation { grace, ..renewal(client_id, "f", 0, "old", n) };
                start.wait().await;
                (n, store.rotate(&rotation).await.unwrap())
            });
        }
        let outcomes = rivals.join_all().await;
        let winners: Vec<_> = outcomes.iter().filter(|(_, rotated)| *rotated == Rotated::Rotated).collect();
        let [(winner, _)] = winners[..] else { panic!("winners: {winners:?}") };
        for store in &stores {
            let expected = if grace.is_zero() { None } else { held(winner) };
            assert_eq!(store.held(client_id).await.unwrap(), expected);
        }
        let others = || outcomes.iter().filter(|(n, _)| n != winner).map(|(_, rotated)| rotated);
        if grace.is_zero() {
            assert_eq!(others().filter(|rotated| **rotated == Rotated::Reused).count(), 1);
            assert!(others().all(|rotated| matches!(rotated, Rotated::Reused | Rotated::Revoked)));
        } else {
            let repeated = Rotated::Repeated(stores[0].pair(client_id).await.unwrap().unwrap());
            assert!(others().all(|rotated| *rotated == repeated));
        }
    }
}

/// The other store has prepared its statements before the revocation.
#[tokio::test]
async fn revocation_in_one_store_is_seen_by_the_other() {
    let (_directory, path) = scratch();
    let (one, other) = (SqliteStore::open(&path).unwrap(), SqliteStore::open(&path).unwrap());
    for (session, revocation) in
        [("f", session_of("a", "f")), ("g", Revocation::Client("a".to_owned())), ("h", Revocation::All)]
    {
        one.begin("a", session, 1).await;
        assert!(other.accepts("a", session, 1).await);
        other.revoke(&revocation, None).await.unwrap();
        assert_eq!(one.held("a").await.unwrap(), None, "{revocation:?}");
        assert_eq!(one.renew("a", session, 0, 1, 2).await, Rotated::Revoked);
        one.begin("b", session, 1).await;
        assert!(other.accepts("b", session, 1).await, "what is issued after it is held");
    }
}

/// A process that only revokes, as `fastauth token revoke`, ends before the next cleaning.
#[tokio::test]
async fn closing_removes_revoked_tokens_from_their_rows() {
    for revocation in [Revocation::Client("a".to_owned()), Revocation::All] {
        let (_directory, path) = scratch();
        let store = SqliteStore::open(&path).unwrap();
        let sessions: Vec<_> = (0..1500).map(|n| format!("f{n}")).collect();
        futures_util::future::join_all(sessions.iter().map(|session| store.begin("a", session, 1))).await;
        store.begin("b", "f", 1).await;
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        store.revoke(&revocation, None).await.unwrap();
        drop(store);
        let rows =
            |sql: &str| -> i64 { Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap() };
        let kept = "SELECT count(*) FROM token WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL";
        let expected = if revocation == Revocation::All { 0 } else { 1 };
        assert_eq!((rows(kept), rows("SELECT count(*) FROM token")), (expected, 1501), "{revocation:?}");
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.held("b").await.unwrap().is_some(), expected == 1);
    }
}

/// Makes a file one of the schema before this one.
const TO_SCHEMA_4: &str = "
DROP TRIGGER token_deleted_live;
DROP TABLE change;
ALTER TABLE store DROP COLUMN epoch;
PRAGMA user_version = 4;
";
/// Makes such a file one of the schema before that.
const TO_SCHEMA_3: &str = "
ALTER TABLE token RENAME COLUMN session TO family;
ALTER TABLE token DROP COLUMN previous_access_sha256;
PRAGMA user_version = 3;
";

#[tokio::test]
async fn file_of_an_earlier_version_is_upgraded() {
    for to_earlier in [TO_SCHEMA_4.to_owned(), format!("{TO_SCHEMA_4}{TO_SCHEMA_3}")] {
        file_is_upgraded_from(&to_earlier).await;
    }
}

async fn file_is_upgraded_from(to_earlier: &str) {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.begin("old", "f", 1).await;
    store.revoke_all_of("old").await;
    store.begin("bob", "f", 2).await;
    let version = store.begin("bob", "g", 3).await;
    assert!(store.spend("spent", 4_000_000_000).await.unwrap());
    drop(store);
    Connection::open(&path).unwrap().execute_batch(to_earlier).unwrap();
    // Like processes that are restarted together.
    let stores: Vec<_> = thread::scope(|scope| {
        let opening: Vec<_> = (0..4).map(|_| scope.spawn(|| SqliteStore::open(&path).unwrap())).collect();
        opening.into_iter().map(|opened| opened.join().unwrap()).collect()
    });
    let store = &stores[0];
    assert!(store.accepts("bob", "f", 2).await && store.accepts("bob", "g", 3).await);
    assert_eq!(store.held("old").await.unwrap(), None);
    assert_eq!(store.session("old", "f").await.status, SessionStatus::Revoked);
    assert!(!store.spend("spent", 4_000_000_000).await.unwrap());
    assert!(store.begin("old", "g", 4).await > version, "versions go on");
    assert_eq!(store.renew("bob", "f", 0, 2, 5).await, Rotated::Rotated);
    let previous = stores[1].load("bob", Some("f")).await.unwrap().unwrap().previous_access.unwrap();
    assert_eq!(previous.digest, TokenDigest::of("access-2"));
    assert_eq!(stores[1].revoke_all_of("bob").await, Revoked::Sessions(2));
    assert_eq!(stores[2].revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(1));
    assert_eq!(stores[3].held("bob").await.unwrap(), None);
    let mut log = stores[3].log().unwrap().follow(None).await.unwrap().unwrap();
    log.next().await.unwrap();
    store.begin("carol", "f", 6).await;
    let page = log.next().await.unwrap();
    assert_eq!(page.changes.last().and_then(|change| change.client_id.as_deref()), Some("carol"));
}

/// Returns a number that every commit on another connection changes.
fn data_version(observer: &Connection) -> i64 {
    observer.pragma_query_value(None, "data_version", |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn call_that_changes_nothing_writes_nothing() {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.begin("a", "f", 1).await;
    store.begin("b", "f", 1).await;
    assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(1));
    assert!(store.spend("ticket", 4_000_000_000).await.unwrap());
    let observer = Connection::open(&path).unwrap();
    let before = data_version(&observer);
    assert_eq!(store.revoke_session("a", "f").await, Revoked::Sessions(0));
    assert_eq!(store.revoke_all_of("a").await, Revoked::Sessions(0));
    assert_eq!(store.revoke(&session_of("b", "f"), Some(0)).await.unwrap(), Revoked::ConditionFailed);
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Revoked);
    assert_eq!(store.renew("b", "f", 0, 7, 2).await, Rotated::Superseded);
    assert_eq!(store.renew("c", "f", 0, 1, 2).await, Rotated::UnknownClient);
    assert!(!store.spend("ticket", 4_000_000_000).await.unwrap());
    assert_eq!(data_version(&observer), before);
    assert_eq!(store.revoke_all_of("b").await, Revoked::Sessions(1));
    assert_ne!(data_version(&observer), before);
}

/// The queue is full when the revocation comes.
#[tokio::test]
async fn revocation_is_written_though_its_caller_has_gone() {
    let (_directory, path) = scratch();
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    for client_id in ["a", "b", "c"] {
        store.begin(client_id, "f", 1).await;
    }
    assert_eq!(store.renew("c", "f", 0, 1, 2).await, Rotated::Rotated);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut saves: Vec<_> = (0..3000)
        .map(|n| {
            let store = Arc::clone(&store);
            Box::pin(async move { store.begin(&format!("other-{n}"), "f", n).await })
        })
        .collect();
    for save in &mut saves {
        assert!(futures_util::poll!(save).is_pending());
    }
    for revocation in [session_of("a", "f"), Revocation::Client("b".to_owned())] {
        let mut revoke = store.revoke(&revocation, None);
        assert!(futures_util::poll!(&mut revoke).is_pending());
    }
    other.execute_batch("ROLLBACK").unwrap();
    futures_util::future::join_all(saves).await;
    assert!(!store.accepts("a", "f", 1).await && !store.accepts("b", "f", 1).await);
    assert!(store.accepts("c", "f", 2).await);
}

#[tokio::test]
async fn reuse_is_written_though_its_caller_has_gone_and_a_rotation_is_not() {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.begin("a", "f", 1).await;
    store.begin("b", "f", 1).await;
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // This write keeps the writer busy, since it does not drop a write that it has begun.
    let mut first = std::pin::pin!(store.put("z", 1));
    assert!(futures_util::poll!(&mut first).is_pending());
    for client_id in ["a", "b"] {
        let rotation = renewal(client_id, "f", 0, 1, 3);
        assert!(futures_util::poll!(store.rotate(&rotation)).is_pending());
    }
    other.execute_batch("ROLLBACK").unwrap();
    first.await.unwrap();
    store.put("z", 2).await.unwrap();
    assert_eq!(store.session("a", "f").await.status, SessionStatus::Reused);
    assert!(store.accepts("b", "f", 1).await, "its token was not used");
}

const CRASH_FILE: &str = "FASTAUTH_TEST_CRASH_FILE";
const CRASH_ROUND: &str = "FASTAUTH_TEST_CRASH_ROUND";
const ACKNOWLEDGED: &str = "acknowledged ";
const REVOKED: u64 = 4;

/// Kills processes while they write, and looks for every write that was acknowledged.
#[tokio::test]
async fn acknowledged_writes_survive_kills() {
    let (_directory, path) = scratch();
    let mut acknowledged = HashMap::new();
    for round in 0..10 {
        let before = acknowledged.len();
        for (client_id, step) in crash(&path, round) {
            acknowledged.insert(client_id, step);
        }
        assert!(acknowledged.len() > before, "round {round}");
        let store = SqliteStore::open(&path).unwrap();
        for (client_id, step) in &acknowledged {
            assert_holds(&store, client_id, *step).await;
        }
    }
    let connection = Connection::open(&path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

/// Checks that a client has reached this step, or the next, whose acknowledgement the kill may have cut off.
async fn assert_holds(store: &SqliteStore, client_id: &str, step: u64) {
    let session = store.session(client_id, "f").await;
    if session.status == SessionStatus::Revoked {
        assert!(step + 1 >= REVOKED, "{client_id}: {step}");
        assert_eq!(store.held(client_id).await.unwrap(), None);
    } else {
        assert!([step, step + 1].contains(&session.generation), "{client_id}: {step}, and {session:?}");
        let number = format!("{client_id}.{}", session.generation);
        assert_eq!(store.held(client_id).await.unwrap(), held(&number));
        assert!(store.accepts(client_id, "f", &number).await);
    }
}

/// Runs a process that writes, kills it, and returns the last acknowledged step of each client.
fn crash(path: &Path, round: usize) -> HashMap<String, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_contract::sqlite::crash_child", "--ignored", "--nocapture"])
        .env(CRASH_FILE, path)
        .env(CRASH_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut steps, mut count, mut line) = (HashMap::new(), 0, String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line that the kill cut short is no acknowledgement.
        let acknowledged = line.strip_suffix('\n').and_then(|line| line.strip_prefix(ACKNOWLEDGED));
        if let Some((client_id, step)) = acknowledged.and_then(|words| words.split_once(' ')) {
            steps.insert(client_id.to_owned(), step.parse().unwrap());
            count += 1;
        }
        // At a different moment in each round.
        if count == 60 + 17 * round {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(count >= 60 + 17 * round, "the child ended by itself after {count}");
    steps
}

/// The process that is killed: issues, refreshes and revokes without end, and prints each acknowledgement.
#[test]
#[ignore = "run by acknowledged_writes_survive_kills"]
fn crash_child() {
    let Some(path) = std::env::var_os(CRASH_FILE) else { return };
    let round = std::env::var(CRASH_ROUND).unwrap();
    let store = SqliteStore::open(path).unwrap();
    let acknowledge = |client_id: &str, step: u64| {
        writeln!(std::io::stdout().lock(), "{ACKNOWLEDGED}{client_id} {step}").unwrap();
    };
    thread::scope(|scope| {
        for task in 0..8 {
            let (store, round) = (&store, &round);
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{round}-{task}-{n}");
                    block_on(store.begin(&id, "f", format!("{id}.0")));
                    acknowledge(&id, 0);
                    for step in 1..REVOKED {
                        let (old, new) = (format!("{id}.{}", step - 1), format!("{id}.{step}"));
                        let rotated = block_on(store.rotate(&renewal(&id, "f", step - 1, old, new))).unwrap();
                        assert_eq!(rotated, Rotated::Rotated);
                        acknowledge(&id, step);
                    }
                    assert_eq!(block_on(store.revoke_session(&id, "f")), Revoked::Sessions(1));
                    acknowledge(&id, REVOKED);
                }
            });
        }
    });
}
