//! Measures a server: `cargo run --release -p fastauth-postgres --example measure -- postgres://…`, with an empty database.

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastauth_core::{
    secret::Secret,
    store::{Revocation, Rotated, Rotation, SaveOptions, TokenDigest, TokenEntry, TokenRecord, TokenStore},
};
use fastauth_postgres::{PostgresOptions, PostgresStore};
use tokio::task::JoinSet;

const CLIENTS: u64 = 2000;
const TASKS: u64 = 32;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("name a database: postgres://…")?;
    let mut without = PostgresOptions::default();
    without.without_log = true;
    let logged = Arc::new(PostgresStore::connect(&url, PostgresOptions::default()).await?);
    let unlogged = Arc::new(PostgresStore::connect(&url, without).await?);
    let clients: Arc<Vec<AtomicU64>> = Arc::new((0..CLIENTS).map(|_| AtomicU64::new(0)).collect());
    let mut saves = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&logged);
        saves.spawn(async move {
            for client in (task..CLIENTS).step_by(TASKS as usize) {
                store.save(&record(client, 0), SaveOptions::default()).await?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
    let started = Instant::now();
    while let Some(saved) = saves.join_next().await {
        saved?.map_err(|error| error.to_string())?;
    }
    println!("log-ins: {:.0}/s", CLIENTS as f64 / started.elapsed().as_secs_f64());
    // In turn, so that both meet the same machine.
    for round in 0..ROUNDS {
        let with = rotations(&logged, &clients).await;
        let without = rotations(&unlogged, &clients).await;
        println!(
            "round {round}: rotations with the log {with:.0}/s, without {without:.0}/s, ratio {:.2}",
            with / without
        );
    }
    println!("look-ups: {:.0}/s", look_ups(&logged).await);
    latency(&logged, &unlogged).await
}

fn entry(text: String) -> TokenEntry {
    TokenEntry { digest: TokenDigest::of(&text), text: Secret::from(text), expires_at: 4_000_000_000 }
}

/// The pair of a client, each as long as a real one.
fn record(client: u64, generation: u64) -> TokenRecord {
    TokenRecord {
        client_id: format!("client-{client}"),
        session: "session".to_owned(),
        generation,
        kid: "key-1".to_owned(),
        access: entry(format!("{client}-{generation}-access-{:0>230}", "")),
        refresh: entry(format!("{client}-{generation}-refresh-{:0>230}", "")),
    }
}

async fn rotations(store: &Arc<PostgresStore>, clients: &Arc<Vec<AtomicU64>>) -> f64 {
    let end = Instant::now() + ROUND;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(store);
        let clients = Arc::clone(clients);
        tasks.spawn(async move {
            let mut count = 0;
            let mut client = task;
            while Instant::now() < end {
                let generation = clients[client as usize].fetch_add(1, Ordering::Relaxed);
                let rotation = Rotation {
                    presented: record(client, generation).refresh.digest,
                    presented_session: Some(("session".to_owned(), generation)),
                    successor: record(client, generation + 1),
                    grace: Duration::ZERO,
                    decided_after: 0,
                };
                let rotated = store.rotate(&rotation).await;
                assert!(matches!(rotated, Ok(Rotated::Rotated)), "{rotated:?}");
                count += 1;
                client = (client + TASKS) % CLIENTS;
            }
            count
        });
    }
    tasks.join_all().await.into_iter().sum::<u64>() as f64 / ROUND.as_secs_f64()
}

async fn look_ups(store: &Arc<PostgresStore>) -> f64 {
    let end = Instant::now() + ROUND;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut count = 0;
            let mut client = task;
            while Instant::now() < end {
                let found = store.load(&format!("client-{client}"), Some("session")).await;
                assert!(matches!(found, Ok(Some(_))), "{found:?}");
                count += 1;
                client = (client + 7 * TASKS) % CLIENTS;
            }
            count
        });
    }
    tasks.join_all().await.into_iter().sum::<u64>() as f64 / ROUND.as_secs_f64()
}

/// From the start of a revocation to its notice in another store, which then keeps no answer of the client.
async fn latency(one: &PostgresStore, other: &PostgresStore) -> Result<(), Box<dyn Error>> {
    let changes = other.changes().ok_or("it has changes")?;
    let mut writes = Vec::new();
    let mut notices = Vec::new();
    for client in 0..300 {
        let client_id = format!("client-{client}");
        let stamp = changes.stamp(&client_id);
        let started = Instant::now();
        one.revoke(&Revocation::Client(client_id), None).await?;
        writes.push(started.elapsed());
        changes.changed_since(stamp).await;
        notices.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (name, mut times) in [("revocation", writes), ("until another store knows", notices)] {
        times.sort();
        println!("{name}: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    Ok(())
}
