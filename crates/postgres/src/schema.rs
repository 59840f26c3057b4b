//! The tables, and making them.

use deadpool_postgres::ClientWrapper;
use fastauth_core::{random::unique_name, store::StoreError};

use super::{
    error::{failed, said},
    value::{Query, run},
};

/// The version of the tables.
const SCHEMA_VERSION: i64 = 1;
/// The earliest server that the tests run on.
const OLDEST_SERVER: i64 = 15;

/// `version` counts all writes and never runs backwards. A session is live if its status says so and it began after two floors, that of
/// the store and that of its client. Raising a floor thus revokes everything, or all that a client has, however many rows there are. A
/// rotation leaves `begun` as it is, so one that does not see a new floor yet revives nothing.
///
/// `tally` counts the live sessions, each client's in one of its rows, so that writers seldom wait for each other.
///
/// No index has a column that a rotation changes, so that a rotated row stays where it is in all of them (HOT). The refresh token without
/// a session that a session began with is kept in `began_with` for that reason.
const TABLES: &str = "
CREATE SEQUENCE fastauth.version;
CREATE TABLE fastauth.store (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    schema_version bigint NOT NULL,
    epoch text NOT NULL,
    floor bigint NOT NULL DEFAULT 0
);
CREATE TABLE fastauth.client (
    client_id bytea PRIMARY KEY,
    floor bigint NOT NULL,
    live bigint NOT NULL
) WITH (fillfactor = 80);
CREATE TABLE fastauth.tally (
    stripe bigint PRIMARY KEY,
    live bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO fastauth.tally SELECT stripe, 0 FROM generate_series(0, 63) stripe;
CREATE TABLE fastauth.token (
    client_id bytea NOT NULL,
    session bytea NOT NULL,
    generation bigint NOT NULL,
    kid bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('live', 'revoked', 'reused')),
    access_token bytea,
    access_sha256 bytea,
    access_expires_at bigint NOT NULL,
    refresh_token bytea,
    refresh_sha256 bytea,
    refresh_expires_at bigint NOT NULL,
    previous_access_sha256 bytea,
    consumed_sha256 bytea,
    consumed_at_ms bigint NOT NULL,
    began_with bytea,
    issued_at bigint NOT NULL,
    renewed_at bigint NOT NULL,
    begun bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (client_id, session)
) WITH (fillfactor = 70);
CREATE INDEX token_by_beginning ON fastauth.token (client_id, began_with) WHERE began_with IS NOT NULL;
CREATE TABLE fastauth.ticket (
    id bytea PRIMARY KEY,
    expires_at bigint NOT NULL
);
CREATE INDEX ticket_by_end ON fastauth.ticket (expires_at);
CREATE TABLE fastauth.change (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    client_id bytea,
    session bytea,
    version bigint NOT NULL
);
CREATE TABLE fastauth.upkeep (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    beat timestamptz,
    -- The last change that was deleted.
    cut bigint NOT NULL DEFAULT 0,
    -- The row that was looked at last for expired tokens.
    client_id bytea NOT NULL DEFAULT '',
    session bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 20);
INSERT INTO fastauth.upkeep DEFAULT VALUES;
";

/// The lock that is held while the tables are made, by its class and number.
const MAKING: &str = "SELECT pg_advisory_xact_lock(1181971521, 1)";

/// Makes the tables if they are missing. Of several processes that start at once, one does it and the others wait.
pub(crate) async fn prepare(client: &ClientWrapper, is_pooled: bool) -> Result<(), StoreError> {
    let begin = [Query::new("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", []), Query::new(MAKING, [])];
    run(client, is_pooled, &begin).await.map_err(|error| said(&error))?;
    match make(client, is_pooled).await {
        Ok(()) => run(client, is_pooled, &[Query::new("COMMIT", [])]).await.map(drop).map_err(|error| said(&error)),
        Err(error) => {
            // The connection is closed next, which has the same effect.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}

async fn make(client: &ClientWrapper, is_pooled: bool) -> Result<(), StoreError> {
    const FOUND: &str = "SELECT current_setting('server_version_num')::bigint / 10000,
        to_regnamespace('fastauth') IS NOT NULL, to_regclass('fastauth.store') IS NOT NULL";
    let found = one(client, is_pooled, Query::new(FOUND, [])).await?;
    let server: i64 = found.get(0);
    if server < OLDEST_SERVER {
        return Err(failed(format!(
            "the database server is PostgreSQL {server}: use version {OLDEST_SERVER} or later"
        )));
    }
    let is_made: bool = found.get(2);
    if is_made {
        let version = Query::new("SELECT schema_version FROM fastauth.store", []);
        let version: i64 = one(client, is_pooled, version).await?.get(0);
        if version > SCHEMA_VERSION {
            return Err(failed(format!(
                "the tables in the schema fastauth were made by a newer version of fastauth (schema {version}, this one \
                 knows {SCHEMA_VERSION}): use that version, or name another database"
            )));
        }
        return Ok(());
    }
    let has_schema: bool = found.get(1);
    if !has_schema {
        client.batch_execute("CREATE SCHEMA fastauth").await.map_err(|error| said(&error))?;
    }
    client.batch_execute(TABLES).await.map_err(|error| said(&error))?;
    let store = Query::new(
        "INSERT INTO fastauth.store (schema_version, epoch) VALUES ($1, $2) RETURNING epoch",
        [SCHEMA_VERSION.into(), super::value::Value::Name(unique_name())],
    );
    one(client, is_pooled, store).await.map(drop)
}

async fn one(client: &ClientWrapper, is_pooled: bool, query: Query) -> Result<tokio_postgres::Row, StoreError> {
    let rows = run(client, is_pooled, &[query]).await.map_err(|error| said(&error))?;
    let row = rows.into_iter().flatten().next();
    row.ok_or_else(|| {
        failed("the tables of the schema fastauth have lost their rows: restore a backup of the database")
    })
}
