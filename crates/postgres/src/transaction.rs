//! A transaction that writes, for one client or for all.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use deadpool_postgres::ClientWrapper;
use fastauth_core::store::TokenDigest;
use tokio_postgres::{Error, Row};

use super::value::{Query, Value, run};

/// Holds for the transaction alone, as a pooler needs it.
const LIMITS: &str =
    "SELECT set_config('statement_timeout', '5s', true), set_config('idle_in_transaction_session_timeout', '5s', true)";
/// A transaction of one client is done beside those of others, and before or after all others of this client.
const LOCK_CLIENT: &str = "SELECT pg_advisory_xact_lock_shared(1181971521, 0), pg_advisory_xact_lock($1)";
/// A transaction of all clients is done alone.
const LOCK_ALL: &str = "SELECT pg_advisory_xact_lock(1181971521, 0)";

/// The condition for a row `t` to be live, with the client as `$1`.
macro_rules! live {
    () => {
        "t.status = 'live' AND t.begun > greatest((SELECT s.floor FROM fastauth.store s),
             coalesce((SELECT c.floor FROM fastauth.client c WHERE c.client_id = $1), 0))"
    };
}
pub(crate) use live;

/// The time in milliseconds since the Unix epoch, by the server's clock.
macro_rules! now_ms {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
pub(crate) use now_ms;

/// Adds a change to the log, with the version that was drawn last.
const LOG: &str = "INSERT INTO fastauth.change (kind, client_id, session, version)
     VALUES ($1, $2, $3, currval('fastauth.version'))";

/// A write in a transaction of its own.
pub(crate) trait Work: Send + Sync + 'static {
    /// What the caller gets.
    type Answer: Send + 'static;

    /// Returns the client that it concerns; `None` if it concerns all.
    fn client_id(&self) -> Option<&str>;

    /// Reads, decides, and ends with [`Transaction::commit`].
    fn run(&self, transaction: Transaction<'_>) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

/// An open transaction. The rows of its client are written by no other one, except for rotations, which lock the row of their session.
pub(crate) struct Transaction<'a> {
    client: &'a ClientWrapper,
    is_pooled: bool,
    pub(crate) keeps_log: bool,
    /// Set before the transaction may be written.
    is_committing: &'a AtomicBool,
    client_id: Option<&'a str>,
    stripe: i64,
    /// The rows that began up to here are revoked.
    pub(crate) floor: i64,
    /// The number of live sessions of the client.
    pub(crate) live: i64,
    found_floor: i64,
    found_live: i64,
}

/// How a connection is used.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) is_pooled: bool,
    pub(crate) keeps_log: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) async fn begin(
        client: &'a ClientWrapper,
        manner: Manner,
        client_id: Option<&'a str>,
        is_committing: &'a AtomicBool,
    ) -> Result<Self, Error> {
        const STATE: &str = "SELECT s.floor, c.floor, c.live FROM fastauth.store s
             LEFT JOIN fastauth.client c ON c.client_id = $1";
        let digest = TokenDigest::of(client_id.unwrap_or_default());
        let digest = digest.as_bytes();
        let lock = digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        let stripe = i64::from(digest[8] % 64);
        let mut queries = vec![Query::new("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", [])];
        if manner.is_pooled {
            queries.push(Query::new(LIMITS, []));
        }
        // The look is a statement of its own, so that it sees what was written until the lock was got.
        queries.push(match client_id {
            Some(_) => Query::new(LOCK_CLIENT, [lock.into()]),
            None => Query::new(LOCK_ALL, []),
        });
        queries.push(Query::new(STATE, [Value::from(client_id.unwrap_or_default())]));
        let answers = run(client, manner.is_pooled, &queries).await?;
        let mut transaction = Self {
            client,
            is_pooled: manner.is_pooled,
            keeps_log: manner.keeps_log,
            is_committing,
            client_id,
            stripe,
            floor: 0,
            live: 0,
            found_floor: 0,
            found_live: 0,
        };
        if let Some(row) = answers.last().and_then(|rows| rows.first()) {
            transaction.read_state(row);
        }
        Ok(transaction)
    }

    /// The number of a client is valid only if its floor is not below that of the store.
    fn read_state(&mut self, row: &Row) {
        let of_store: i64 = row.get(0);
        let of_client: Option<i64> = row.get(1);
        self.floor = of_store.max(of_client.unwrap_or(0));
        if of_client.is_some_and(|floor| floor >= of_store) {
            self.live = row.get(2);
        }
        self.found_floor = self.floor;
        self.found_live = self.live;
    }

    /// Runs one query.
    pub(crate) async fn query(&self, sql: &'static str, values: impl Into<Vec<Value>>) -> Result<Vec<Row>, Error> {
        let answers = run(self.client, self.is_pooled, &[Query::new(sql, values)]).await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Draws a version.
    pub(crate) async fn next_version(&self) -> Result<i64, Error> {
        let rows = self.query("SELECT nextval('fastauth.version')", []).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// Makes the entry of the log for a change that has drawn a version.
    pub(crate) fn change(&self, kind: &'static str, session: Option<&str>) -> Option<Query> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let client_id = Value::Bytes(self.client_id.map(bytes));
        let session = Value::Bytes(session.map(bytes));
        self.keeps_log.then(|| Query::new(LOG, [Value::Text(kind), client_id, session]))
    }

    /// Writes, and ends the transaction. Returns the rows that each write returned.
    pub(crate) async fn commit(self, writes: Vec<Option<Query>>) -> Result<Vec<Vec<Row>>, Error> {
        const CLIENT: &str = "INSERT INTO fastauth.client VALUES ($1, $2, $3)
             ON CONFLICT (client_id) DO UPDATE SET floor = excluded.floor, live = excluded.live";
        const TALLY: &str = "UPDATE fastauth.tally SET live = live + $2 WHERE stripe = $1";
        let mut queries = Vec::new();
        // First, so that the transaction is known to the server before a number of the log is drawn.
        if let Some(client_id) = self.client_id
            && (self.floor, self.live) != (self.found_floor, self.found_live)
        {
            queries.push(Query::new(CLIENT, [client_id.into(), self.floor.into(), self.live.into()]));
        }
        let first = queries.len();
        queries.extend(writes.into_iter().flatten());
        // Last, since others wait for this row.
        if self.live != self.found_live {
            queries.push(Query::new(TALLY, [self.stripe.into(), (self.live - self.found_live).into()]));
        }
        queries.push(Query::new("COMMIT", []));
        self.is_committing.store(queries.len() > 1, Ordering::Relaxed);
        let mut answers = run(self.client, self.is_pooled, &queries).await?;
        Ok(answers.split_off(first))
    }
}
