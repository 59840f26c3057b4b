//! Deleting what no call can ask for: expired rows, used tickets, the tokens of revoked rows, and old changes.

use std::{collections::BTreeSet, time::Duration};

use fastauth_core::store::TICKET_KEPT;
use tokio::time::sleep;
use tokio_postgres::{Error, Row};

use super::{
    error::Failure,
    read::is_live,
    row::text,
    transaction::{Transaction, Work},
    value::{Query, Value},
    writer::Writer,
};

/// How often rows are looked at, and changes deleted.
const INTERVAL: Duration = Duration::from_secs(10);
/// The number of rows that are looked at each time.
const LOOKED_AT: i64 = 10_000;
/// The number of rows that one statement writes.
const WRITTEN_AT_ONCE: i64 = 1000;
/// The most statements in a row that delete changes: as many as come in at the same time, and more.
const STATEMENTS: usize = 200;

/// Cleans again and again. Several processes may do it at the same time.
pub(crate) async fn clean(writer: Writer) {
    loop {
        sleep(INTERVAL).await;
        if let Err(failure) = clean_once(&writer).await {
            let error = failure.into_error().with_causes();
            tracing::debug!(target: "fastauth", "the token database was not cleaned: {error}");
        }
    }
}

/// Does one round.
pub(crate) async fn clean_once(writer: &Writer) -> Result<(), Failure> {
    delete_changes(writer).await?;
    delete_tickets(writer).await?;
    walk(writer).await
}

/// Deletes changes that are older than an hour. The last number is kept, for readers that come later.
async fn delete_changes(writer: &Writer) -> Result<(), Failure> {
    const DELETE: &str = "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(1181971521, 2) AS is_mine),
         oldest AS (SELECT c.number, c.at FROM fastauth.change c ORDER BY c.number LIMIT $1),
         gone AS (
             DELETE FROM fastauth.change WHERE number IN (
                 SELECT o.number FROM oldest o WHERE o.at < clock_timestamp() - interval '70 minutes'
             ) AND (SELECT is_mine FROM mine) RETURNING number
         )
         UPDATE fastauth.upkeep SET cut = greatest(cut, (SELECT max(number) FROM gone))
         WHERE EXISTS (SELECT 1 FROM gone) RETURNING (SELECT count(*) FROM gone)";
    for _ in 0..STATEMENTS {
        let rows = writer.execute(&Query::new(DELETE, [WRITTEN_AT_ONCE.into()])).await?;
        if rows.first().is_none_or(|row| row.get::<_, i64>(0) < WRITTEN_AT_ONCE) {
            break;
        }
    }
    Ok(())
}

async fn delete_tickets(writer: &Writer) -> Result<(), Failure> {
    const DELETE: &str = "DELETE FROM fastauth.ticket WHERE id IN (
             SELECT t.id FROM fastauth.ticket t WHERE t.expires_at < extract(epoch FROM clock_timestamp())::bigint - $1
             LIMIT $2
         )";
    writer.execute(&Query::new(DELETE, [TICKET_KEPT.into(), WRITTEN_AT_ONCE.into()])).await.map(drop)
}

/// The condition for a row `t` to have expired. A row whose end is unknown stays.
macro_rules! has_expired {
    () => {
        "t.access_expires_at > 0 AND t.refresh_expires_at > 0
             AND greatest(t.access_expires_at, t.refresh_expires_at) < extract(epoch FROM clock_timestamp())::bigint"
    };
}

/// Goes on through the primary key. An index by the end of a session would have to be written with every rotation.
async fn walk(writer: &Writer) -> Result<(), Failure> {
    const PLACE: &str = "SELECT client_id, session FROM fastauth.upkeep";
    const GO_ON: &str = "UPDATE fastauth.upkeep SET client_id = $1, session = $2";
    const LOOK: &str = concat!(
        "SELECT * FROM (
             SELECT t.client_id, t.session, ",
        has_expired!(),
        " AS has_expired, t.status = 'live' AND NOT (",
        is_live!(),
        ") AS is_dead, row_number() OVER (ORDER BY t.client_id, t.session) AS place
             FROM fastauth.token t WHERE (t.client_id, t.session) > ($1, $2) ORDER BY t.client_id, t.session LIMIT $3
         ) found WHERE has_expired OR is_dead OR place = $3"
    );
    let place = writer.execute(&Query::new(PLACE, [])).await?;
    let Some(place) = place.first() else { return Ok(()) };
    let values = [key(place, "client_id"), key(place, "session"), LOOKED_AT.into()];
    let rows = writer.execute(&Query::new(LOOK, values)).await?;
    let dead: Vec<_> = rows.iter().filter(|row| row.get("is_dead")).collect();
    for rows in dead.chunks(WRITTEN_AT_ONCE as usize) {
        sweep(writer, rows).await?;
    }
    let expired = rows.iter().filter(|row| row.get("has_expired"));
    for client_id in expired.map(|row| text(row, "client_id")).collect::<BTreeSet<_>>() {
        writer.write(&Expire { client_id }).await?;
    }
    let last = rows.last().filter(|row| row.get::<_, i64>("place") == LOOKED_AT);
    let place = match last {
        Some(row) => [key(row, "client_id"), key(row, "session")],
        None => ["".into(), "".into()],
    };
    writer.execute(&Query::new(GO_ON, place)).await.map(drop)
}

fn key(row: &Row, column: &str) -> Value {
    Value::Bytes(Some(row.get(column)))
}

/// Removes the tokens of rows that a floor has revoked.
async fn sweep(writer: &Writer, rows: &[&Row]) -> Result<(), Failure> {
    const SWEEP: &str = concat!(
        "UPDATE fastauth.token t SET status = 'revoked', access_token = NULL, refresh_token = NULL
         FROM unnest($1, $2) k (client_id, session)
         WHERE t.client_id = k.client_id AND t.session = k.session AND t.status = 'live' AND NOT (",
        is_live!(),
        ")"
    );
    let column = |name| Value::Keys(rows.iter().map(|row| row.get(name)).collect());
    writer.execute(&Query::new(SWEEP, [column("client_id"), column("session")])).await.map(drop)
}

/// Deletes the expired rows of a client.
struct Expire {
    client_id: String,
}

impl Work for Expire {
    type Answer = ();

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }

    async fn run(&self, mut transaction: Transaction<'_>) -> Result<(), Error> {
        const DELETE: &str = concat!(
            "DELETE FROM fastauth.token t WHERE t.client_id = $1 AND ",
            has_expired!(),
            " RETURNING t.status = 'live' AND t.begun > $2"
        );
        const FORGET: &str = "DELETE FROM fastauth.client WHERE client_id = $1
             AND NOT EXISTS (SELECT 1 FROM fastauth.token t WHERE t.client_id = $1)";
        let client_id = self.client_id.as_str();
        let rows = transaction.query(DELETE, [client_id.into(), transaction.floor.into()]).await?;
        let were_live = rows.iter().filter(|row| row.get(0)).count();
        transaction.live = (transaction.live - i64::try_from(were_live).unwrap_or(0)).max(0);
        transaction.commit(vec![Some(Query::new(FORGET, [client_id.into()]))]).await.map(drop)
    }
}
