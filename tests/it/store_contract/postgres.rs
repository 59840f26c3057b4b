//! The store in PostgreSQL, beside the contract: starts, faults of the server, and what is cleaned up.

use std::{sync::Arc, time::Duration};

use fastauth::store::{
    PostgresOptions, PostgresStore, Revocation, Revoked, Rotated, SaveOptions, Saved, SessionFilter, StoreErrorKind,
    TokenStore,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    postgres::{Server, client, connect, database},
    stores::{ManySessions, OnePair, held, record, renewal},
};

/// As long as a call may take.
const PATIENCE: Duration = Duration::from_secs(10);

async fn refused(url: &str) -> String {
    PostgresStore::connect(url, PostgresOptions::default()).await.unwrap_err().with_causes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_instances_start_at_once_on_an_empty_database() {
    let Some(url) = database() else { return };
    let start = Arc::new(Barrier::new(6));
    let mut starts = JoinSet::new();
    for n in 0..6 {
        let (url, start) = (url.clone(), Arc::clone(&start));
        starts.spawn(async move {
            start.wait().await;
            let store = connect(&url).await;
            store.put(&format!("client-{n}"), n).await.unwrap();
            store
        });
    }
    let stores = starts.join_all().await;
    for (n, store) in stores.iter().enumerate() {
        assert_eq!(store.held(&format!("client-{}", 5 - n)).await.unwrap(), held(5 - n));
    }
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let Some(url) = database() else { return };
    drop(connect(&url).await);
    let raw = client(&url).await;
    raw.batch_execute("UPDATE fastauth.store SET schema_version = 99").await.unwrap();
    let error = refused(&url).await;
    assert!(error.contains("schema 99") && error.contains("use that version"), "{error}");
}

#[tokio::test]
async fn url_that_asks_for_tls_gets_it_or_fails() {
    let Some(server) = Server::start("") else { return };
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgres://fastauth:hush@127.0.0.1:{}/postgres?sslmode={mode}", server.port);
        let error = refused(&url).await;
        assert!(error.contains("TLS") && !error.contains("hush") && !error.contains("127.0.0.1"), "{error}");
    }
    for mode in ["", "?sslmode=prefer", "?sslmode=disable"] {
        connect(&format!("postgres://fastauth@127.0.0.1:{}/postgres{mode}", server.port)).await;
    }
    let error = refused(&format!("postgres://fastauth@127.0.0.1:{}/nothing", server.port)).await;
    assert!(error.contains("has no database of this name"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_verified_as_far_as_the_url_asks_for_it() {
    let Some(server) = Server::start("") else { return };
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (signing, other) = (authority("signing"), authority("other"));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &signing).unwrap();
    server.write("server.crt", &certificate.pem());
    server.write("server.key", &key.serialize_pem());
    let directory = tempfile::tempdir().unwrap();
    for (name, authority) in [("signing", &signing), ("other", &other)] {
        std::fs::write(directory.path().join(name), authority.pem()).unwrap();
    }
    let raw = client(&server.database()).await;
    raw.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    raw.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let connects = async |host: &str, mode: &str, root: Option<&str>| {
        let root = root.map(|name| format!("&sslrootcert={}", directory.path().join(name).display()));
        let url =
            format!("postgres://fastauth@{host}:{}/postgres?sslmode={mode}{}", server.port, root.unwrap_or_default());
        let connected = PostgresStore::connect(&url, PostgresOptions::default()).await;
        if let Ok(store) = &connected {
            store.load("a", None).await.unwrap();
            let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE application_name = 'fastauth' AND ssl";
            let encrypted: i64 = raw.query_one(sql, &[]).await.unwrap().get(0);
            assert_eq!(encrypted > 0, mode != "disable", "{mode}");
        }
        connected.map_err(|error| error.with_causes()).err()
    };
    timeout(PATIENCE, async {
        while connects("localhost", "require", None).await.is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    for (host, mode, root, is_accepted) in [
        ("localhost", "prefer", None, true),
        ("127.0.0.1", "require", None, true),
        ("localhost", "require", Some("other"), false),
        ("127.0.0.1", "verify-ca", Some("signing"), true),
        ("localhost", "verify-ca", Some("other"), false),
        ("localhost", "verify-ca", None, false),
        ("localhost", "verify-full", Some("signing"), true),
        ("127.0.0.1", "verify-full", Some("signing"), false),
        ("localhost", "verify-full", Some("other"), false),
    ] {
        let error = connects(host, mode, root).await;
        assert_eq!(error.is_none(), is_accepted, "{host} {mode} {root:?}: {error:?}");
        assert!(is_accepted || error.is_some_and(|error| error.contains("certificate")));
    }
    let error = connects("localhost", "verify-full", Some("missing")).await.unwrap();
    assert!(error.contains("sslrootcert") && error.contains("cannot be read"), "{error}");
}

/// The server runs no statement and answers nothing, and no connection breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_end_in_time_if_the_server_stands_still() {
    let Some(server) = Server::start("") else { return };
    let store = Arc::new(connect(&server.database()).await);
    store.begin("a", "f", 1).await;
    // With connections that are open, or none.
    store.revoke_all_of("nobody").await;
    server.signal("STOP");
    let mut calls: JoinSet<(&str, Option<StoreErrorKind>)> = JoinSet::new();
    macro_rules! call {
        ($name:literal, |$store:ident| $call:expr) => {{
            let $store = Arc::clone(&store);
            calls.spawn(async move { ($name, $call.await.err().map(|error| error.kind())) });
        }};
    }
    let started = Instant::now();
    call!("load", |store| store.load("a", None));
    call!("pair", |store| store.pair("a"));
    call!("list", |store| store.list(&SessionFilter::default()));
    call!("spend", |store| store.spend("ticket", 1));
    call!("check", |store| store.check());
    call!("save", |store| store.save(&record("b", "f", 0, 1), SaveOptions::default()));
    call!("rotate", |store| store.rotate(&renewal("a", "g", 0, 1, 2)));
    call!("revoke", |store| store.revoke(&Revocation::Client("a".to_owned()), None));
    call!("revoke_access", |store| store.revoke_access("b", None));
    let ended = timeout(PATIENCE, calls.join_all()).await.unwrap();
    assert!(ended.iter().all(|(_, kind)| *kind == Some(StoreErrorKind::TimedOut)), "{ended:?}");
    assert!(started.elapsed() < PATIENCE);
    server.signal("CONT");
    // The revocation goes on without its caller.
    timeout(PATIENCE, async {
        while store.load("a", None).await.is_ok_and(|held| held.is_some()) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    store.put("c", 1).await.unwrap();
    assert_eq!(store.held("c").await.unwrap(), held(1));
}

/// What was acknowledged is there after the server was killed. What was not may be there or not, but as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    const CLIENTS: usize = 24;
    let Some(mut server) = Server::start("") else { return };
    let url = server.database();
    let store = Arc::new(connect(&url).await);
    for n in 0..CLIENTS {
        store.begin(&format!("c{n}"), "f", 0).await;
        store.begin(&format!("r{n}"), "f", 0).await;
    }
    let mut storm = JoinSet::new();
    for n in 0..CLIENTS {
        let store = Arc::clone(&store);
        storm.spawn(async move {
            let mut done = 0;
            // Until the server is gone.
            while let Ok(Rotated::Rotated) = store.rotate(&renewal(&format!("c{n}"), "f", done, done, done + 1)).await {
                done += 1;
            }
            (n, done)
        });
    }
    let mut revocations = JoinSet::new();
    for n in 0..CLIENTS {
        let store = Arc::clone(&store);
        revocations.spawn(async move {
            sleep(Duration::from_millis(20 * n as u64)).await;
            store.revoke(&Revocation::Client(format!("r{n}")), None).await.map(|_| n)
        });
    }
    sleep(Duration::from_millis(300)).await;
    server.signal("KILL");
    let done = storm.join_all().await;
    server.launch();
    let revoked = revocations.join_all().await;
    let after = connect(&url).await;
    assert!(done.iter().map(|(_, done)| done).sum::<u64>() > 100, "{done:?}");
    for (n, done) in done {
        let generation = after.session(&format!("c{n}"), "f").await.generation;
        assert!(generation == done || generation == done + 1, "c{n}: {generation} of {done}");
        assert!(after.accepts(&format!("c{n}"), "f", generation).await);
    }
    for n in revoked.into_iter().flatten() {
        assert_eq!(after.load(&format!("r{n}"), None).await.unwrap(), None, "r{n}");
    }
    drop(after);
}

/// A write that waits for a lock is in the way of no revocation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn revocation_does_not_wait_behind_other_writes() {
    let Some(url) = database() else { return };
    let store = Arc::new(connect(&url).await);
    store.begin("a", "f", 1).await;
    store.begin("b", "f", 1).await;
    let mut raw = client(&url).await;
    let blocking = raw.transaction().await.unwrap();
    blocking.execute("SELECT 1 FROM fastauth.token WHERE client_id = 'a' FOR UPDATE", &[]).await.unwrap();
    let mut writes = JoinSet::new();
    for n in 0..40 {
        let store = Arc::clone(&store);
        writes.spawn(async move { store.rotate(&renewal("a", "f", 0, 1, n)).await });
    }
    sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    assert_eq!(store.revoke_all_of("b").await, Revoked::Sessions(1));
    assert!(started.elapsed() < Duration::from_secs(2));
    blocking.rollback().await.unwrap();
    let rotated = writes.join_all().await;
    assert_eq!(rotated.into_iter().filter(|rotated| matches!(rotated, Ok(Rotated::Rotated))).count(), 1);
}

/// The count of the live sessions is for people to read.
#[tokio::test]
async fn everything_is_revoked_though_the_count_is_wrong() {
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    store.begin("a", "f", 1).await;
    client(&url).await.batch_execute("UPDATE fastauth.tally SET live = 0").await.unwrap();
    let changes = store.changes().unwrap();
    let mut reader = store.log().unwrap().follow(None).await.unwrap().unwrap();
    let stamp = changes.stamp("a");
    store.revoke(&Revocation::All, None).await.unwrap();
    timeout(Duration::ZERO, changes.changed_since(stamp)).await.unwrap();
    assert_eq!(store.load("a", None).await.unwrap(), None);
    assert_eq!(reader.next().await.unwrap().changes.len(), 1);
}

/// A rotation that began before a revocation may be written after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn late_rotation_revives_nothing() {
    let Some(url) = database() else { return };
    let store = Arc::new(connect(&url).await);
    for revocation in [Revocation::Client("a".to_owned()), Revocation::All] {
        store.save(&record("a", "f", 0, 1), SaveOptions::default()).await.unwrap();
        let mut raw = client(&url).await;
        let blocking = raw.transaction().await.unwrap();
        blocking.execute("SELECT 1 FROM fastauth.token WHERE client_id = 'a' FOR UPDATE", &[]).await.unwrap();
        let late = Arc::clone(&store);
        let rotation = tokio::spawn(async move { late.rotate(&renewal("a", "f", 0, 1, 2)).await });
        // It waits for the row.
        let watcher = client(&url).await;
        while watcher.query_one("SELECT count(*) FROM pg_locks WHERE NOT granted", &[]).await.unwrap().get::<_, i64>(0)
            == 0
        {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(store.revoke(&revocation, None).await.unwrap(), Revoked::Sessions(1));
        blocking.rollback().await.unwrap();
        let _ = rotation.await.unwrap();
        assert_eq!(store.load("a", Some("f")).await.unwrap(), None, "{revocation:?}");
        client(&url).await.batch_execute("DELETE FROM fastauth.token").await.unwrap();
    }
}

#[tokio::test]
async fn expired_rows_and_tickets_and_old_changes_are_deleted() {
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    let mut expired = record("a", "f", 0, 1);
    expired.access.expires_at = 1;
    expired.refresh.expires_at = 2;
    let keep = SaveOptions { keep_others: true, ..SaveOptions::default() };
    assert!(matches!(store.save(&expired, keep).await.unwrap(), Saved::Saved(_)));
    store.begin("a", "g", 2).await;
    store.begin("b", "f", 3).await;
    store.revoke_all_of("b").await;
    assert!(store.spend("old", 1).await.unwrap());
    let raw = client(&url).await;
    raw.batch_execute("UPDATE fastauth.change SET at = at - interval '2 hours' WHERE number <= 2").await.unwrap();
    store.clean().await.unwrap();
    let names: Vec<_> = store.all(SessionFilter::default()).await.into_iter().map(|entry| entry.session).collect();
    assert_eq!(names, ["g", "f"]);
    assert!(store.spend("old", 1).await.unwrap(), "it was forgotten");
    let count = async |sql: &str| raw.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("SELECT min(number) FROM fastauth.change").await, 3);
    assert_eq!(count("SELECT count(*) FROM fastauth.token WHERE client_id = 'b' AND access_token IS NULL").await, 1);
    // What is left is counted right.
    assert_eq!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(1));
    assert!(store.log().unwrap().follow(Some(&"x-1".parse().unwrap())).await.unwrap().is_none());
}

#[tokio::test]
async fn rotated_rows_stay_where_they_are() {
    let Some(url) = database() else { return };
    let store = connect(&url).await;
    store.begin("a", "f", 0).await;
    for n in 0..50 {
        assert_eq!(store.renew("a", "f", n, n as i32, n as i32 + 1).await, Rotated::Rotated);
    }
    // Each of its connections hands in its statistics when it is closed.
    drop(store);
    let raw = client(&url).await;
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'token'";
    let rotated = timeout(PATIENCE, async {
        loop {
            let row = raw.query_one(sql, &[]).await.unwrap();
            if row.get::<_, i64>(0) >= 50 {
                return row.get::<_, i64>(1);
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(rotated.await.unwrap() >= 48);
}
