//! What it takes to hold a new pair: `cargo bench -p fastauth-bench --bench issuing`.
//!
//! The limit is a bare `INSERT` and `COMMIT` of the same row through rusqlite, with the same durability, in the same run
//! and on the same disk. The rounds take turns, so that ratios hold on a disk whose speed drifts.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastauth::store::{SaveOptions, SqliteStore, TokenDigest, TokenEntry, TokenRecord, TokenStore};
use rusqlite::{Connection, params};
use support::median;
use tokio::{runtime::Runtime, task::JoinSet};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(300);
const WRITERS: [usize; 4] = [1, 8, 64, 512];

fn record(number: u64) -> TokenRecord {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    let entry = |kind: &str| {
        let text = format!("{kind}.{number}.{}", "x".repeat(300));
        TokenEntry { digest: TokenDigest::of(&text), text: text.into(), expires_at: 1 << 40 }
    };
    TokenRecord {
        client_id: format!("client-{}", number % 10_000),
        // Whoever issues begins a new one.
        session: format!("session-{}", SESSIONS.fetch_add(1, Ordering::Relaxed)),
        generation: 0,
        kid: "k".to_owned(),
        access: entry("access"),
        refresh: entry("refresh"),
    }
}

/// Commits a second, one row in each.
fn bare(connection: &Connection) -> f64 {
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        let record = record(number);
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
            .prepare_cached("INSERT OR REPLACE INTO token VALUES (?1, ?2, ?3, ?4, ?5)")
            .unwrap()
            .execute(params![
                record.client_id,
                record.access.text.expose(),
                record.access.digest.as_bytes(),
                record.refresh.text.expose(),
                record.refresh.digest.as_bytes(),
            ])
            .unwrap();
        connection.execute_batch("COMMIT").unwrap();
        number += 1;
    }
    number as f64 / start.elapsed().as_secs_f64()
}

/// Saves a second, by so many writers that each wait for theirs.
async fn saves(store: &Arc<SqliteStore>, writers: usize) -> f64 {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers as u64 {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut count = 0;
            while start.elapsed() < ROUND {
                store.save(&record(writer * 1_000_000 + count), SaveOptions::default()).await.unwrap();
                count += 1;
            }
            count
        });
    }
    let count: u64 = tasks.join_all().await.into_iter().sum();
    count as f64 / start.elapsed().as_secs_f64()
}

fn open_bare(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE token (client_id TEXT PRIMARY KEY, access_token TEXT, access_sha256 BLOB,
                 refresh_token TEXT, refresh_sha256 BLOB) STRICT",
        )
        .unwrap();
    connection
}

fn main() {
    // Not the system's directory for temporary files, which may be in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let connection = open_bare(&directory.path().join("bare.db"));
    let store = Arc::new(SqliteStore::open(directory.path().join("tokens.db")).unwrap());
    let runtime = Runtime::new().unwrap();
    let mut table = vec![Vec::new(); WRITERS.len() + 1];
    for _ in 0..ROUNDS {
        table[0].push(bare(&connection));
        for (row, writers) in table[1..].iter_mut().zip(WRITERS) {
            row.push(runtime.block_on(saves(&store, writers)));
        }
    }
    let rates: Vec<f64> = table.into_iter().map(median).collect();
    println!("bare INSERT and COMMIT       {:8.0}/s", rates[0]);
    for (writers, rate) in WRITERS.into_iter().zip(&rates[1..]) {
        println!("SqliteStore, {writers:3} at a time   {rate:8.0}/s, {:5.2} times bare", rate / rates[0]);
    }
}
