//! What becomes of a store in a file when the file, the disk or other programs are not as they should be.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::middleware::{Next, from_fn};
use fastauth::{
    FastAuthLayer,
    store::{RestoredSessions, Revocation, SessionStatus, SqliteStore, StoreErrorKind, TokenStore},
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify, task::JoinSet};

use crate::{
    app::{Endpoints, app, serve, settings},
    support::stores::{ManySessions, OnePair, held},
};

fn scratch() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    (directory, path)
}

/// Returns the name of a file beside another one.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn layer_on(path: &Path) -> FastAuthLayer {
    FastAuthLayer::new(settings().store(SqliteStore::open(path).unwrap()).build().unwrap()).unwrap()
}

/// Waits for a condition, and fails if it takes too long.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it never comes");
}

/// Opens a connection that keeps all others from writing.
fn lock(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn logout_is_written_though_its_client_hangs_up() {
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (_directory, path) = scratch();
    let layer = layer_on(&path);
    let kept = layer.issuer().issue("kept").await.unwrap();
    let issued = layer.issuer().issue("a").await.unwrap();
    let [begun, ended] = [(); 2].map(|()| Arc::new(Notify::new()));
    let watched = {
        let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
        app(layer.clone()).layer(from_fn(move |request, next: Next| {
            let gone = Gone(Arc::clone(&ended));
            begun.notify_one();
            async move {
                let response = next.run(request).await;
                drop(gone);
                response
            }
        }))
    };
    let address = serve(watched).await;
    let other = lock(&path);
    // This write keeps the writer busy.
    let busy = tokio::spawn({
        let issuer = layer.issuer();
        async move { issuer.issue("busy").await }
    });
    let form = format!("token={}", issued.tokens.refresh_token.expose());
    let request = format!(
        "POST /auth/token/revoke HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    begun.notified().await;
    drop(client);
    ended.notified().await;
    other.execute_batch("ROLLBACK").unwrap();
    busy.await.unwrap().unwrap();
    let server = Endpoints::of(&layer).await;
    until(async || !server.opens(issued.tokens.access_token.expose()).await).await;
    assert!(server.opens(kept.tokens.access_token.expose()).await);
}

/// Otherwise every program that only reads would check a large file again.
#[tokio::test]
async fn checked_file_is_not_checked_again() {
    let (directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.put("a", 1).await.unwrap();
    let crashed = directory.path().join("crashed.db");
    crashed_copy(&path, &crashed);
    let in_order = |path: &Path| -> bool {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT closed = version FROM store", [], |row| row.get(0)).unwrap()
    };
    assert!(!in_order(&path));
    drop(store);
    assert!(in_order(&path));
    drop(SqliteStore::open(&crashed).unwrap());
    assert!(in_order(&crashed));
}

#[tokio::test]
async fn store_opens_while_another_program_writes() {
    let (_directory, path) = scratch();
    SqliteStore::open(&path).unwrap().put("a", 1).await.unwrap();
    let other = lock(&path);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.held("a").await.unwrap(), held(1));
    let put = store.put("a", 2);
    other.execute_batch("ROLLBACK").unwrap();
    put.await.unwrap();
}

/// A write to a file that no other process sees would be lost at the next start.
#[cfg(unix)]
#[tokio::test]
async fn file_removed_or_replaced_in_use_is_noticed() {
    type Deed = fn(&Path);
    let deeds: [(&str, Deed); 5] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("moved away", |path| fs::rename(path, beside(path, ".away")).unwrap()),
        ("replaced", |path| {
            fs::copy(path, beside(path, ".copy")).unwrap();
            fs::rename(beside(path, ".copy"), path).unwrap();
        }),
        ("log removed", |path| fs::remove_file(beside(path, "-wal")).unwrap()),
        ("directory moved away", |path| {
            let directory = path.parent().unwrap();
            fs::rename(directory, directory.with_extension("away")).unwrap();
        }),
    ];
    for (name, deed) in deeds {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("data");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("tokens.db");
        let layer = layer_on(&path);
        let token = layer.issuer().issue("a").await.unwrap().tokens.access_token;
        let server = Endpoints::of(&layer).await;
        assert!(server.opens(token.expose()).await);
        assert_eq!(server.send("GET", "/auth/healthz?deep", &[], "").await.status, 200);
        deed(&path);
        let opens = async || server.send("GET", "/access/health", &[("access-token", token.expose())], "").await.status;
        until(async || opens().await == 503).await;
        until(async || server.send("GET", "/auth/healthz?deep", &[], "").await.status == 503).await;
        let error = layer.issuer().revoke(&Revocation::All).await.expect_err(name);
        assert_eq!(error.kind(), StoreErrorKind::Failed);
        assert!(error.to_string().contains("removed or replaced"), "{name}: {error}");
        assert!(layer.issuer().issue("b").await.is_err(), "{name}");
        assert!(layer.issuer().list(&Default::default()).await.is_err(), "{name}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn write_right_after_its_file_went_is_refused() {
    for _ in 0..20 {
        let (_directory, path) = scratch();
        let store = SqliteStore::open(&path).unwrap();
        store.put("a", 1).await.unwrap();
        fs::remove_file(&path).unwrap();
        store.put("a", 2).await.expect_err("it is not kept");
        assert!(store.revoke(&Revocation::All, None).await.is_err());
    }
}

#[tokio::test]
async fn store_that_cannot_be_written_is_unhealthy() {
    let (_directory, path) = scratch();
    let layer = layer_on(&path);
    let server = Endpoints::of(&layer).await;
    let becomes = async |status| {
        until(async || server.send("GET", "/auth/healthz?deep", &[], "").await.status == status).await;
    };
    becomes(200).await;
    let other = Connection::open(&path).unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON store BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(full).unwrap();
    // A write proves for ten seconds that the file can be written.
    becomes(503).await;
    assert!(layer.issuer().verify("x", fastauth::TokenType::Access).is_err(), "the process is well");
    other.execute_batch("DROP TRIGGER full").unwrap();
    becomes(200).await;
}

/// Health is asked often, and by anyone.
#[tokio::test]
async fn health_check_after_a_write_writes_nothing() {
    let (_directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    store.put("a", 1).await.unwrap();
    let observer = Connection::open(&path).unwrap();
    let version = || observer.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).unwrap();
    let before = version();
    let stamp = store.changes().unwrap().stamp("a");
    for _ in 0..3 {
        store.check().await.unwrap();
    }
    assert_eq!((version(), store.changes().unwrap().stamp("a")), (before, stamp));
    assert_eq!(store.held("a").await.unwrap(), held(1));
}

/// Copies the files of a store as they are, as after a crash.
fn crashed_copy(path: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        fs::copy(beside(path, suffix), beside(to, suffix)).unwrap();
    }
}

#[tokio::test]
async fn partly_copied_file_is_refused_and_a_crashed_one_is_not() {
    let (directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    for n in 0..300 {
        store.begin("a", &format!("f{n}"), n).await;
    }
    drop(store);
    let old = directory.path().join("old.db");
    fs::copy(&path, &old).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let renew = async |step: u64| {
        for n in 0..300 {
            let number = |step: u64| n + 1000 * step as i32;
            store.renew("a", &format!("f{n}"), step, number(step), number(step + 1)).await;
        }
    };
    renew(0).await;
    store.revoke_session("a", "f7").await;
    let checkpoint = || -> bool {
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap()
    };
    // It is busy while a connection reads.
    until(async || !checkpoint()).await;
    // It marks the file as closed, and the first one goes on until it crashes.
    let other = SqliteStore::open(&path).unwrap();
    other.begin("b", "f", 1).await;
    drop(other);
    let crashed = directory.path().join("crashed.db");
    crashed_copy(&path, &crashed);
    drop(store);
    // The old file over the new one, with the log left behind.
    let mixed = directory.path().join("mixed.db");
    fs::copy(&old, &mixed).unwrap();
    fs::copy(beside(&crashed, "-wal"), beside(&mixed, "-wal")).unwrap();
    let error = SqliteStore::open(&mixed).expect_err("it is two halves").to_string();
    assert!(error.contains("damaged") && error.contains("mixed.db") && error.contains("store restore"), "{error}");
    let again = SqliteStore::open(&mixed).expect_err("looking at it has not changed it").to_string();
    assert_eq!(again, error);
    let store = SqliteStore::open(&crashed).unwrap();
    assert!(store.accepts("b", "f", 1).await && store.accepts("a", "f8", 1008).await);
    assert_eq!(store.session("a", "f7").await.status, SessionStatus::Revoked);
    // A file in use is not checked when others open it.
    SqliteStore::open(&crashed).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backup_under_load_is_whole_and_revives_no_revoked_token() {
    let (directory, path) = scratch();
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    store.begin("a", "f", 1).await;
    store.begin("b", "f", 2).await;
    let mut writers = JoinSet::new();
    for task in 0..4 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for n in 0.. {
                store.begin(&format!("c{task}"), &format!("f{}", n % 50), n).await;
            }
        });
    }
    let backup = directory.path().join("backup.db");
    let made = tokio::task::spawn_blocking({
        let (store, backup) = (Arc::clone(&store), backup.clone());
        move || {
            store.back_up(&backup).unwrap();
            store.back_up(&backup).expect_err("there is one").to_string()
        }
    });
    assert!(made.await.unwrap().contains("exists already"));
    store.revoke_all_of("a").await;
    let before = store.begin("d", "f", 3).await;
    let in_use = SqliteStore::restore(&backup, &path, RestoredSessions::Revoked).expect_err("in use").to_string();
    assert!(in_use.contains("is in use"), "{in_use}");
    writers.shutdown().await;
    drop(store);
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(mode(&backup), 0o600);

    let kept = SqliteStore::restore(&backup, &path, RestoredSessions::Revoked).unwrap().unwrap();
    assert_eq!((mode(&path), mode(&kept)), (0o600, 0o600));
    let store = SqliteStore::open(&path).unwrap();
    for (client_id, n) in [("a", 1), ("b", 2), ("d", 3)] {
        assert!(!store.accepts(client_id, "f", n).await, "{client_id}");
    }
    assert_eq!(store.session("b", "f").await.status, SessionStatus::Revoked);
    assert!(store.begin("b", "g", 4).await > before, "versions do not run backwards");
    assert!(store.accepts("b", "g", 4).await);
    drop(store);
    assert!(SqliteStore::open(&kept).unwrap().accepts("d", "f", 3).await, "what was there is kept");

    let fresh = directory.path().join("fresh.db");
    assert_eq!(SqliteStore::restore(&backup, &fresh, RestoredSessions::Kept).unwrap(), None);
    let store = SqliteStore::open(&fresh).unwrap();
    assert!(store.accepts("a", "f", 1).await && store.accepts("b", "f", 2).await);
}

#[tokio::test]
async fn invalid_backup_leaves_the_database_alone() {
    let (directory, path) = scratch();
    let store = SqliteStore::open(&path).unwrap();
    for n in 0..200 {
        store.begin("a", &format!("f{n}"), n).await;
    }
    let whole = directory.path().join("whole.db");
    store.back_up(&whole).unwrap();
    drop(store);
    let before = fs::read(&path).unwrap();
    let bytes = fs::read(&whole).unwrap();
    let foreign = directory.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let spoilt = |name: &str, bytes: &[u8]| {
        let file = directory.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let mut torn = bytes.clone();
    torn[bytes.len() / 2..bytes.len() / 2 + 8192].fill(0);
    for (name, backup) in [
        ("missing", directory.path().join("missing.db")),
        ("empty", spoilt("empty.db", b"")),
        ("text", spoilt("text.db", "hello ".repeat(1000).as_bytes())),
        ("cut", spoilt("cut.db", &bytes[..bytes.len() / 2])),
        ("torn", spoilt("torn.db", &torn)),
        ("foreign", foreign),
    ] {
        let refused = SqliteStore::restore(&backup, &path, RestoredSessions::Revoked);
        let refusal = refused.expect_err(name).to_string();
        assert!(!refusal.contains("store restore"), "{name}: {refusal}");
        if matches!(name, "cut" | "torn") {
            let backup = backup.display();
            assert!(
                refusal.starts_with(&format!("{backup} is damaged and cannot be restored: use another")),
                "{refusal}"
            );
        }
        assert!(fs::read(&path).unwrap() == before, "{name}");
        assert!(!beside(&path, ".restoring").exists(), "{name}");
    }
    assert!(SqliteStore::open(&path).unwrap().accepts("a", "f7", 7).await);
}

/// The last revocations are in the log alone.
#[tokio::test]
async fn database_without_its_log_is_refused() {
    let (directory, path) = scratch();
    let refused = |name: &str| {
        let lost = directory.path().join(name);
        fs::copy(&path, &lost).unwrap();
        for _ in 0..2 {
            let error = SqliteStore::open(&lost).expect_err(name).to_string();
            assert!(error.contains("damaged") && error.contains("log") && error.contains("store restore"), "{error}");
        }
        // The log is truncated.
        fs::write(beside(&lost, "-wal"), "").unwrap();
        assert!(SqliteStore::open(&lost).is_err(), "{name}");
    };
    let store = SqliteStore::open(&path).unwrap();
    store.begin("a", "f", 1).await;
    store.begin("b", "f", 2).await;
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    store.begin("c", "f", 3).await;
    store.revoke_all_of("a").await;
    refused("lost.db");
    // An orderly end of another process does not count for the first.
    let other = SqliteStore::open(&path).unwrap();
    other.begin("d", "f", 4).await;
    drop(other);
    store.revoke_all_of("b").await;
    refused("lost again.db");

    // With its log it is a crash, also if an operator has opened it since, which writes the log back.
    for looks in [false, true] {
        let crashed = directory.path().join(format!("crashed {looks}.db"));
        crashed_copy(&path, &crashed);
        if looks {
            let sqlite = Connection::open(&crashed).unwrap();
            let count: i64 = sqlite.query_row("SELECT count(*) FROM token", [], |row| row.get(0)).unwrap();
            assert_eq!(count, 4);
            drop(sqlite);
            assert!(!beside(&crashed, "-wal").exists());
        }
        let store = SqliteStore::open(&crashed).unwrap();
        assert!(
            store.accepts("c", "f", 3).await && !store.accepts("a", "f", 1).await && !store.accepts("b", "f", 2).await
        );
    }
    // After an orderly end, it does not need the log.
    drop(store);
    assert!(!beside(&path, "-wal").exists());
    assert!(SqliteStore::open(&path).unwrap().accepts("d", "f", 4).await);
}
