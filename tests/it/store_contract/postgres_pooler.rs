//! The store in PostgreSQL behind pgbouncer, which gives each transaction a connection of its choice.

use std::{
    fs::{Permissions, set_permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Child,
    sync::Arc,
    time::Duration,
};

use fastauth::store::{Feed, PostgresOptions, PostgresStore, Revocation, Revoked, Rotated, Rotation, TokenStore};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    postgres::{Server, connect},
    stores::{ManySessions, OnePair, exchange, held, refresh, renewal},
};

const PATIENCE: Duration = Duration::from_secs(10);
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A pooler, which stops when it is dropped.
struct Pooler {
    child: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a pooler before the server, with this many connections to it.
async fn pooler(server: &Server, database: &str, size: usize) -> Pooler {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let socket = server.directory().display();
    let settings = format!(
        "[databases]\n{database} = host={socket} port={} user=fastauth\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {size}\nmax_client_conn = 200\n",
        server.port
    );
    let path = directory.path().join("pgbouncer.ini");
    std::fs::write(&path, settings).unwrap();
    let child = server.as_user(Path::new(PROGRAM)).arg("-q").arg(&path).spawn().unwrap();
    let url = format!("postgres://fastauth@127.0.0.1:{port}/{database}");
    let pooler = Pooler { child, url, _directory: directory };
    timeout(PATIENCE, async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    pooler
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn store_works_behind_a_pooler_and_polls() {
    if !Path::new(PROGRAM).exists() {
        assert!(std::env::var_os("FASTAUTH_TESTS_NEED_POSTGRES").is_none(), "pgbouncer is not installed");
        return;
    }
    for size in [1, 3] {
        let Some(server) = Server::start("") else { return };
        let url = server.database();
        let database = url.rsplit('/').next().unwrap();
        let pooler = pooler(&server, database, size).await;
        let mut options = PostgresOptions::default();
        options.feed = Feed::Auto;
        let store = Arc::new(PostgresStore::connect(&pooler.url, options).await.unwrap());
        let direct = connect(&url).await;
        works(&store, &direct).await;
    }
}

async fn works(store: &Arc<PostgresStore>, direct: &PostgresStore) {
    store.put("a", "old").await.unwrap();
    let mut rivals = JoinSet::new();
    for n in 0..32 {
        let store = Arc::clone(store);
        rivals.spawn(async move {
            let rotation = Rotation { grace: PATIENCE, ..exchange("a", &refresh("old"), n) };
            store.rotate(&rotation).await.unwrap()
        });
    }
    let rotated = rivals.join_all().await;
    assert_eq!(rotated.iter().filter(|rotated| **rotated == Rotated::Rotated).count(), 1);
    let mut storm = JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(store);
        storm.spawn(async move {
            let client_id = format!("c{n}\0");
            store.begin(&client_id, "f", 0).await;
            for n in 0..20 {
                let rotated = store.rotate(&renewal(&client_id, "f", n, n, n + 1)).await.unwrap();
                assert_eq!(rotated, Rotated::Rotated);
                assert!(store.accepts(&client_id, "f", n + 1).await);
            }
        });
    }
    storm.join_all().await;
    assert!(store.spend("t", 4_000_000_000).await.unwrap() && !store.spend("t", 4_000_000_000).await.unwrap());
    // What a store on the server itself writes.
    let changes = store.changes().unwrap();
    let mut times = Vec::new();
    for n in 0..10 {
        direct.begin("b", &format!("f{n}"), n).await;
        assert_eq!(store.held("b").await.unwrap(), held(n));
        let stamp = changes.stamp("b");
        let started = Instant::now();
        direct.revoke_all_of("b").await;
        timeout(PATIENCE, changes.changed_since(stamp)).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    assert!(times[5] < Duration::from_millis(900), "{times:?}");
    assert!(matches!(store.revoke(&Revocation::All, None).await.unwrap(), Revoked::Sessions(9)));
    assert_eq!(direct.load("a", None).await.unwrap(), None);
}
