//! Loads a replica from the snapshot of a store.

use std::{sync::Arc, time::Duration};

use fastauth_core::{random::random_bytes, store::StoreError};
use http::Method;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{
    super::connection::{Connection, HttpCall, invalid},
    replica::{ClientChange, Replica},
};
use crate::wire::{self, HexDigest};

/// The most bytes of a line, which names a client and a session.
const MAX_LINE: usize = 1024 * 1024;
/// How long the store may take to go on.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause before it is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A line of a snapshot: a live session, or the number of those before it. The first one has neither.
#[derive(Deserialize)]
struct Line {
    client_id: Option<String>,
    session: Option<String>,
    version: Option<u64>,
    access_sha256: Option<HexDigest>,
    access_expires_at: Option<u64>,
    end: Option<u64>,
}

/// Loads the snapshot, and tries again until that is done. The feed is read from before that on.
pub(super) async fn load(connection: Arc<Connection>, replica: Arc<Replica>) {
    while let Err(error) = load_once(&connection, &replica).await {
        let error = error.with_causes();
        tracing::debug!(target: "fastauth", "the snapshot of the token store was not loaded: {error}");
        sleep(LONGEST_PAUSE * u32::from(random_bytes::<1>()[0]) / 255).await;
    }
    replica.finish();
    tracing::info!(target: "fastauth", clients = replica.len(), "the replica of the token store is loaded");
}

async fn load_once(connection: &Connection, replica: &Replica) -> Result<(), StoreError> {
    let opening = connection.open_stream(HttpCall::new(Method::GET, wire::SNAPSHOT));
    let mut body = timeout(PATIENCE, opening).await.map_err(|_| silent())??;
    let mut line = Vec::new();
    let mut count = 0;
    while let Some(piece) = timeout(PATIENCE, body.chunk()).await.map_err(|_| silent())?? {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > MAX_LINE {
                return Err(invalid("a line of the token store's snapshot is too long"));
            }
            if !line.ends_with(b"\n") {
                continue;
            }
            let read: Line = serde_json::from_slice(&line)
                .map_err(|_| invalid("a line of the token store's snapshot is not the JSON of its contract"))?;
            line.clear();
            if let Some(end) = read.end {
                return if end == count { Ok(()) } else { Err(cut_off()) };
            }
            count += u64::from(take(replica, &read));
        }
        // A snapshot is long, and requests go on.
        tokio::task::yield_now().await;
    }
    Err(cut_off())
}

/// Takes a line, and returns true if it is a session.
fn take(replica: &Replica, line: &Line) -> bool {
    let Some(client_id) = &line.client_id else { return false };
    replica.load(&ClientChange {
        client_id,
        session: line.session.as_deref(),
        concerns_one: true,
        version: line.version.unwrap_or_default(),
        access: line.access_sha256.map(HexDigest::digest),
        expires_at: line.access_expires_at.unwrap_or_default(),
    });
    true
}

fn cut_off() -> StoreError {
    invalid("the token store's snapshot was cut off")
}

fn silent() -> StoreError {
    invalid("the token store did not go on with its snapshot")
}
