//! The log of changes, and reading it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastauth_core::{
    clock::Clock,
    random::unique_name,
    store::{
        Change, ChangeKind, ChangeLog, Changes, LiveSession, LogPage, LogPoint, LogReader, StoreError, StoreFuture,
    },
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_postgres::Row;

use super::{
    error::failed,
    feed::Wake,
    gaps::Gaps,
    read::is_live,
    row::{current, current_columns, number, optional_text, text},
    server::Readers,
    value::{Query, Value},
};

/// How long a reader waits for a change.
const WAITING: Duration = Duration::from_secs(1);
/// The least time between two looks of a reader.
const SPACING: Duration = Duration::from_millis(10);
/// The number of changes that a reader gets at once.
const PAGE: i64 = 1000;
/// The epoch of a reader that has lost its place.
const LOST: &str = "lost";
/// How long after a look no change can have been missed: a reader looks every second if it is told of nothing.
const WATCHED: Duration = Duration::from_secs(3);
/// How often it is stated until when no change can have been missed, so that it holds though the system's clock is set.
const STATING: Duration = Duration::from_millis(500);
/// The pause after a look that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The log of a store.
pub(crate) struct Log {
    readers: Arc<Readers>,
    wake: Arc<Wake>,
}

/// The place of a reader.
struct Reader {
    readers: Arc<Readers>,
    wake: Arc<Wake>,
    woken: watch::Receiver<()>,
    epoch: String,
    gaps: Gaps,
    looked: Option<Instant>,
}

/// What a look has found.
struct Found {
    rows: Vec<Row>,
    /// The log is another one than before.
    is_new_epoch: bool,
    /// The moment just before.
    as_of: Instant,
}

impl Found {
    /// A full page may not be all.
    fn has_more(&self) -> bool {
        self.is_new_epoch || self.rows.len() as i64 >= PAGE
    }
}

/// The columns of every look, in one row at least.
macro_rules! look {
    ($columns:expr, $join:expr) => {
        concat!(
            "SELECT (SELECT s.epoch FROM fastauth.store s) AS epoch, (SELECT k.cut FROM fastauth.upkeep k) AS cut,
                 pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS running,
                 ch.number, ch.kind, ch.client_id, ch.session, ch.version AS changed",
            $columns,
            " FROM (SELECT 1) one
             LEFT JOIN LATERAL (
                 (SELECT c.* FROM fastauth.change c WHERE c.number > $1 ORDER BY c.number LIMIT $2)
                 UNION ALL (SELECT c.* FROM fastauth.change c WHERE c.number = ANY($3))
             ) ch ON true ",
            $join,
            " ORDER BY ch.number"
        )
    };
}

const LOOK: &str = look!("", "");
const LOOK_CLOSELY: &str = look!(
    concat!(", t.client_id AS holder, t.access_expires_at, ", current_columns!()),
    concat!("LEFT JOIN fastauth.token t ON t.client_id = ch.client_id AND t.session = ch.session AND ", is_live!())
);

impl Log {
    pub(crate) fn new(readers: Arc<Readers>, wake: Arc<Wake>) -> Self {
        Self { readers, wake }
    }

    /// Begins to read after a point, or at the end.
    async fn reader(&self, since: Option<&LogPoint>) -> Result<Option<Reader>, StoreError> {
        const POINT: &str = "SELECT s.epoch, k.cut, (SELECT max(c.number) FROM fastauth.change c)
             FROM fastauth.store s CROSS JOIN fastauth.upkeep k";
        let mut reader = Reader {
            readers: Arc::clone(&self.readers),
            wake: Arc::clone(&self.wake),
            woken: self.wake.subscribe(),
            epoch: String::new(),
            gaps: Gaps::new(0),
            looked: None,
        };
        let Some(since) = since else {
            reader.begin_at_the_end().await?;
            return Ok(Some(reader));
        };
        let rows = self.readers.query(Query::new(POINT, [])).await?;
        let row = rows.first().ok_or_else(lost)?;
        let (epoch, cut): (String, i64) = (row.get(0), row.get(1));
        let last = row.get::<_, Option<i64>>(2).unwrap_or(cut).max(cut);
        let number = i64::try_from(since.number).unwrap_or(i64::MAX);
        if epoch != since.epoch || !(cut..=last).contains(&number) {
            return Ok(None);
        }
        reader.epoch = epoch;
        reader.gaps = Gaps::new(number);
        Ok(Some(reader))
    }
}

impl Reader {
    /// Goes to the end of the log. Changes that are in the making there are missing until they come.
    async fn begin_at_the_end(&mut self) -> Result<(), StoreError> {
        // A transaction lasts for seconds, unless it waits for a standby. A statement of its own: what has ended before it is seen next.
        const OLDEST: &str = "SELECT floor(extract(epoch FROM min(a.xact_start)))::bigint FROM pg_stat_activity a
             WHERE a.datname = current_database()";
        const END: &str = "WITH old AS (
                 SELECT greatest(k.cut, (SELECT c.number FROM fastauth.change c
                     WHERE c.at < least(clock_timestamp() - interval '60 seconds', to_timestamp($1::bigint))
                     ORDER BY c.number DESC LIMIT 1)) AS number
                 FROM fastauth.upkeep k LIMIT 1
             ), newest AS (SELECT max(c.number) AS number FROM fastauth.change c)
             SELECT (SELECT s.epoch FROM fastauth.store s) AS epoch, greatest(old.number, newest.number) AS last,
                 ARRAY(SELECT n FROM generate_series(old.number + 1, newest.number) n
                     WHERE NOT EXISTS (SELECT 1 FROM fastauth.change c WHERE c.number = n)) AS missing
             FROM old CROSS JOIN newest";
        let rows = self.readers.query(Query::new(OLDEST, [])).await?;
        // Its own transaction is among them, unless the server tracks none: then it looks for all that the log reaches back to.
        let oldest = rows.first().and_then(|row| row.get::<_, Option<i64>>(0)).unwrap_or(0);
        let rows = self.readers.query(Query::new(END, [oldest.into()])).await?;
        let row = rows.first().ok_or_else(lost)?;
        self.epoch = row.get("epoch");
        self.gaps = Gaps::new(row.get("last"));
        self.gaps.miss(row.get::<_, Vec<i64>>("missing"));
        Ok(())
    }

    /// Finds until when to wait for the numbers that the look before found missing. They are waited for until that is known, so a
    /// failure only puts it off.
    async fn find_bound(&mut self) {
        // A statement of its own, so that it draws its ID after the numbers were found missing.
        const BOUND: &str = "SELECT pg_current_xact_id()::text::bigint";
        if !self.gaps.needs_bound() {
            return;
        }
        if let Ok(rows) = self.readers.query(Query::new(BOUND, [])).await
            && let Some(row) = rows.first()
        {
            self.gaps.bound(row.get(0));
        }
    }

    /// Looks for changes, a moment after the look before at the earliest.
    async fn look(&mut self, sql: &'static str) -> Result<Found, StoreError> {
        if let Some(looked) = self.looked {
            sleep(SPACING.saturating_sub(looked.elapsed())).await;
        }
        self.find_bound().await;
        let as_of = Instant::now();
        self.looked = Some(as_of);
        self.woken.mark_unchanged();
        let values = [self.gaps.highest().into(), PAGE.into(), Value::Integers(self.gaps.missing())];
        let mut rows = self.readers.query(Query::new(sql, values)).await?;
        let first = rows.first().ok_or_else(lost)?;
        let (epoch, cut): (String, i64) = (first.get("epoch"), first.get("cut"));
        if epoch != self.epoch {
            self.begin_at_the_end().await?;
            return Ok(Found { rows: Vec::new(), is_new_epoch: true, as_of });
        }
        if self.gaps.highest() < cut {
            // It was away for more than an hour. The next look goes on in the log, of which this is no point.
            self.epoch = LOST.to_owned();
            self.gaps = Gaps::new(0);
            return Ok(Found { rows: Vec::new(), is_new_epoch: true, as_of });
        }
        let running: i64 = first.get("running");
        rows.retain(|row| row.get::<_, Option<i64>>("number").is_some());
        self.gaps.see(rows.iter().map(|row| row.get("number")), running, cut);
        Ok(Found { rows, is_new_epoch: false, as_of })
    }

    /// Waits until there may be something new, for this time at most.
    async fn wait(&mut self, most: Duration) {
        let _ = timeout(most.min(self.wake.interval()), self.woken.changed()).await;
    }

    fn place(&self) -> LogPoint {
        LogPoint { epoch: self.epoch.clone(), number: u64::try_from(self.gaps.low_water()).unwrap_or(0) }
    }

    async fn page(&mut self) -> Result<LogPage, StoreError> {
        let started = Instant::now();
        let is_first = self.looked.is_none();
        loop {
            let found = self.look(LOOK_CLOSELY).await?;
            if found.rows.is_empty() && !found.is_new_epoch && !is_first && started.elapsed() < WAITING {
                self.wait(WAITING.saturating_sub(started.elapsed())).await;
                continue;
            }
            return Ok(LogPage {
                changes: found.rows.iter().map(change).collect(),
                point: self.place(),
                as_of: found.as_of,
                has_more: found.has_more(),
            });
        }
    }
}

fn lost() -> StoreError {
    failed("the tables of the schema fastauth have lost their rows: restore a backup of the database")
}

fn change(row: &Row) -> Change {
    Change {
        number: number(row, "number"),
        // A later version may know others.
        kind: ChangeKind::from_name(row.get("kind")).unwrap_or(ChangeKind::Revoke),
        client_id: optional_text(row, "client_id"),
        session: optional_text(row, "session"),
        version: number(row, "changed"),
        current: row.get::<_, Option<&[u8]>>("holder").map(|_| live_session(row)),
    }
}

fn live_session(row: &Row) -> LiveSession {
    LiveSession {
        client_id: text(row, "client_id"),
        session: text(row, "session"),
        tokens: current(row),
        access_expires_at: number(row, "access_expires_at"),
    }
}

impl LogReader for Reader {
    fn point(&self) -> LogPoint {
        self.place()
    }

    fn next(&mut self) -> StoreFuture<'_, LogPage> {
        Box::pin(self.page())
    }
}

impl ChangeLog for Log {
    fn follow<'a>(&'a self, since: Option<&'a LogPoint>) -> StoreFuture<'a, Option<Box<dyn LogReader>>> {
        Box::pin(async move {
            let reader = self.reader(since).await?;
            Ok(reader.map(|reader| Box::new(reader) as Box<dyn LogReader>))
        })
    }

    fn sessions<'a>(&'a self, after: Option<&'a (String, String)>, limit: usize) -> StoreFuture<'a, Vec<LiveSession>> {
        macro_rules! sessions {
            ($comparison:literal) => {
                concat!(
                    "SELECT t.client_id, t.session, t.access_expires_at, ",
                    current_columns!(),
                    " FROM fastauth.token t WHERE (t.client_id, t.session) ",
                    $comparison,
                    " ($1, $2) AND ",
                    is_live!(),
                    " ORDER BY t.client_id, t.session LIMIT $3"
                )
            };
        }
        Box::pin(async move {
            let sql = if after.is_some() { sessions!(">") } else { sessions!(">=") };
            let (client_id, session) = after.map_or(("", ""), |after| (&after.0, &after.1));
            let limit = limit as u64;
            let rows = self.readers.query(Query::new(sql, [client_id.into(), session.into(), limit.into()])).await?;
            Ok(rows.iter().map(live_session).collect())
        })
    }

    fn restart(&self) -> StoreFuture<'_, LogPoint> {
        const RESTART: &str = "UPDATE fastauth.store SET epoch = $1 RETURNING epoch,
             coalesce((SELECT max(c.number) FROM fastauth.change c), (SELECT k.cut FROM fastauth.upkeep k)) AS number";
        Box::pin(async move {
            let rows = self.readers.query(Query::new(RESTART, [Value::Name(unique_name())])).await?;
            let row = rows.first().ok_or_else(lost)?;
            Ok(LogPoint { epoch: row.get("epoch"), number: number(row, "number") })
        })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Announces the changes of all processes, and states until when none can have been missed.
pub(crate) async fn watch(log: Arc<Log>, changes: Arc<Changes>) {
    let clock = Clock::default();
    let until_ms = AtomicU64::new(0);
    tokio::select! {
        () = announce(&log, &changes, &clock, &until_ms) => (),
        () = keep_stating(&changes, &clock, &until_ms) => (),
    }
}

async fn announce(log: &Log, changes: &Changes, clock: &Clock, until_ms: &AtomicU64) {
    let mut reader = loop {
        match log.reader(None).await {
            Ok(Some(reader)) => break reader,
            Ok(None) | Err(_) => sleep(PAUSE).await,
        }
    };
    changes.anything_changed();
    loop {
        let asked = clock.elapsed();
        match reader.look(LOOK).await {
            Ok(found) => {
                if found.is_new_epoch {
                    changes.anything_changed();
                }
                for row in &found.rows {
                    match optional_text(row, "client_id") {
                        Some(client_id) => changes.client_changed(&client_id),
                        None => changes.anything_changed(),
                    }
                }
                if !found.has_more() {
                    until_ms.store(milliseconds(asked + WATCHED), Ordering::Relaxed);
                    state(changes, clock, until_ms);
                    reader.wait(WAITING).await;
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// States again and again until when no change can have been missed, also while the database does not answer.
async fn keep_stating(changes: &Changes, clock: &Clock, until_ms: &AtomicU64) {
    loop {
        sleep(STATING).await;
        state(changes, clock, until_ms);
    }
}

/// States the end of the watch, which is held by the clock that is never set, by the one that is.
fn state(changes: &Changes, clock: &Clock, until_ms: &AtomicU64) {
    let until_ms = until_ms.load(Ordering::Relaxed);
    if until_ms > 0 {
        let unix_ms = clock.unix_now_ms().saturating_add(until_ms);
        changes.watched_until(unix_ms.saturating_sub(milliseconds(clock.elapsed())));
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
