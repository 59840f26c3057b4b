//! What only a store in a file promises.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Barrier},
    thread,
};

use fastauth::store::{Rotated, SqliteStore, StoreErrorKind};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::stores::{OnePair, held, refresh};

fn scratch() -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    (directory, path)
}

/// The message of a refusal to open `path`.
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
async fn what_was_answered_is_there_after_reopening() {
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
async fn only_the_owner_may_read_the_files() {
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
fn other_files_are_refused_and_left_alone() {
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
                foreign("PRAGMA user_version = 3")(path);
            },
            "newer version of fastauth",
        ),
        ("no database", &|path| fs::write(path, "hello ".repeat(1000)).unwrap(), "no SQLite database"),
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
fn a_path_that_cannot_be_used_is_refused_with_a_reason() {
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
fn many_may_open_a_fresh_file_at_once() {
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
async fn a_writer_that_is_locked_out_says_so_and_goes_on() {
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
async fn what_an_operator_takes_out_is_gone_at_once() {
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

/// Nothing of it needs tokio's runtime.
#[test]
fn it_runs_without_a_runtime() {
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

const CRASH_FILE: &str = "FASTAUTH_TEST_CRASH_FILE";
const ACKNOWLEDGED: &str = "acknowledged ";

/// Kills a process in the middle of its writes, and looks for everything that it had been told was written.
#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let (_directory, path) = scratch();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_contract::sqlite::crash_child", "--ignored", "--nocapture"])
        .env(CRASH_FILE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line that the kill cut short was not written whole.
        if let Some(n) = line.strip_suffix('\n').and_then(|line| line.strip_prefix(ACKNOWLEDGED)) {
            acknowledged.push(n.to_owned());
        }
        if acknowledged.len() == 300 {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 300, "the child ended by itself after {}", acknowledged.len());
    let store = SqliteStore::open(&path).unwrap();
    for n in acknowledged {
        assert_eq!(store.held(&n).await.unwrap(), held(&n));
    }
}

/// The process that is killed: writes for ever, and says what was acknowledged.
#[test]
#[ignore = "run by what_was_answered_survives_a_kill"]
fn crash_child() {
    let Some(path) = std::env::var_os(CRASH_FILE) else { return };
    let store = SqliteStore::open(path).unwrap();
    thread::scope(|scope| {
        for task in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{task}-{n}");
                    block_on(store.put(&id, &id)).unwrap();
                    writeln!(std::io::stdout().lock(), "{ACKNOWLEDGED}{id}").unwrap();
                }
            });
        }
    });
}
