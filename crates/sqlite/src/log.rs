//! The log of changes: what the writer noted, read page by page.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use fastauth_core::{
    clock::Clock,
    store::{Change, ChangeKind, ChangeLog, LiveSession, LogPage, LogPoint, LogReader, StoreError, StoreFuture},
};
use rusqlite::{Connection, Row, params};
use tokio::sync::watch;

use super::{
    command::Command,
    error::{failed, file_lost, unreadable, writer_gone},
    presence::Presence,
    read::{Readers, current_in},
    store::SqliteStore,
};

/// The number of changes in a page, which is read on the caller's thread: about a millisecond.
const PAGE: usize = 256;

impl ChangeLog for SqliteStore {
    fn follow<'a>(&'a self, since: Option<&'a LogPoint>) -> StoreFuture<'a, Option<Box<dyn LogReader>>> {
        Box::pin(async move {
            let bounds = Bounds::read(&*self.reader()?).map_err(unreadable)?;
            if since.is_some_and(|since| !bounds.reach(since)) {
                return Ok(None);
            }
            let reader = SqliteLogReader {
                readers: Arc::downgrade(&self.readers),
                presence: Arc::clone(&self.presence),
                clock: self.clock.clone(),
                news: self.news.clone(),
                point: since.cloned().unwrap_or(bounds.end),
                is_first: true,
                has_more: false,
            };
            Ok(Some(Box::new(reader) as Box<dyn LogReader>))
        })
    }

    fn sessions<'a>(&'a self, after: Option<&'a (String, String)>, limit: usize) -> StoreFuture<'a, Vec<LiveSession>> {
        let after = after.cloned();
        let now_ms = self.clock.unix_now_ms();
        Box::pin(self.lister.read(move |connection| live_sessions(connection, after.as_ref(), limit, now_ms)))
    }

    fn restart(&self) -> StoreFuture<'_, LogPoint> {
        Box::pin(async {
            self.write(Command::RestartLog).await?;
            Ok(Bounds::read(&*self.reader()?).map_err(unreadable)?.end)
        })
    }
}

struct SqliteLogReader {
    /// The store closes its file however many follow its log.
    readers: Weak<Readers>,
    presence: Arc<Presence>,
    clock: Clock,
    news: watch::Receiver<()>,
    point: LogPoint,
    is_first: bool,
    has_more: bool,
}

impl SqliteLogReader {
    fn read(&mut self) -> Result<LogPage, StoreError> {
        if self.presence.is_lost() {
            return Err(file_lost());
        }
        let readers = self.readers.upgrade().ok_or_else(writer_gone)?;
        let page = page_after(&readers.one(), &self.point, self.clock.unix_now_ms()).map_err(unreadable)?;
        let page =
            page.ok_or_else(|| failed("the log of the token database does not reach back to where it was read"))?;
        self.point = page.point.clone();
        self.is_first = false;
        self.has_more = page.has_more;
        Ok(page)
    }
}

impl LogReader for SqliteLogReader {
    fn point(&self) -> LogPoint {
        self.point.clone()
    }

    fn next(&mut self) -> StoreFuture<'_, LogPage> {
        Box::pin(async move {
            // The writer tells at least each second, whether or not there are changes.
            if !self.is_first && !self.has_more {
                self.news.changed().await.map_err(|_| writer_gone())?;
            }
            self.news.mark_unchanged();
            self.read()
        })
    }
}

/// What the log has.
struct Bounds {
    /// The number before the oldest change.
    start: u64,
    end: LogPoint,
}

impl Bounds {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached(
            "SELECT epoch, (SELECT min(number) FROM change), (SELECT max(number) FROM change) FROM store",
        )?;
        query.query_row([], |row| {
            let first: Option<u64> = row.get(1)?;
            let last: Option<u64> = row.get(2)?;
            let end = LogPoint { epoch: row.get(0)?, number: last.unwrap_or(0) };
            Ok(Self { start: first.map_or(0, |first| first.saturating_sub(1)), end })
        })
    }

    fn reach(&self, point: &LogPoint) -> bool {
        point.epoch == self.end.epoch && (self.start..=self.end.number).contains(&point.number)
    }
}

/// Reads what comes after a point, or returns `None` if the log does not reach back to it. If the log is another one now, the page is
/// empty and ends where that log does.
fn page_after(connection: &Connection, point: &LogPoint, now_ms: u64) -> rusqlite::Result<Option<LogPage>> {
    const AFTER: &str = "
        SELECT access_sha256, refresh_sha256, token.version, previous_access_sha256, consumed_at_ms, access_expires_at,
            change.number, change.kind, change.client_id, change.session, change.version,
            status = 'live' AND token.version > max(store.floor, coalesce(client.floor, 0))
        FROM change CROSS JOIN store
            LEFT JOIN token ON token.client_id = change.client_id AND token.session = change.session
            LEFT JOIN client ON client.client_id = change.client_id
        WHERE change.number > ?1 ORDER BY change.number LIMIT ?2";
    let as_of = Instant::now();
    // One state of the file for both queries.
    let transaction = connection.unchecked_transaction()?;
    let bounds = Bounds::read(&transaction)?;
    if bounds.end.epoch != point.epoch {
        return Ok(Some(LogPage { changes: Vec::new(), point: bounds.end, as_of, has_more: false }));
    }
    if !bounds.reach(point) {
        return Ok(None);
    }
    let mut changes = Vec::new();
    if point.number < bounds.end.number {
        let mut query = transaction.prepare_cached(AFTER)?;
        let rows = query.query_map(params![point.number, PAGE], |row| change(row, now_ms))?;
        changes = rows.collect::<rusqlite::Result<_>>()?;
    }
    let number = changes.last().map_or(bounds.end.number, |change: &Change| change.number);
    let has_more = number < bounds.end.number;
    Ok(Some(LogPage { changes, point: LogPoint { epoch: bounds.end.epoch, number }, as_of, has_more }))
}

fn change(row: &Row<'_>, now_ms: u64) -> rusqlite::Result<Change> {
    let client_id: Option<String> = row.get(8)?;
    let session: Option<String> = row.get(9)?;
    let is_live = row.get::<_, Option<bool>>(11)?.unwrap_or(false);
    let current = match (&client_id, &session) {
        (Some(client_id), Some(session)) if is_live => {
            Some(live_session(row, client_id.clone(), session.clone(), now_ms)?)
        }
        _ => None,
    };
    let kind = row.get_ref(7)?;
    let kind = ChangeKind::from_name(kind.as_str()?).unwrap_or(ChangeKind::Revoke);
    Ok(Change { number: row.get(6)?, kind, client_id, session, version: row.get(10)?, current })
}

/// Reads the columns of [`current_in`], and `access_expires_at` after them.
fn live_session(row: &Row<'_>, client_id: String, session: String, now_ms: u64) -> rusqlite::Result<LiveSession> {
    Ok(LiveSession { client_id, session, tokens: current_in(row, now_ms)?, access_expires_at: row.get(5)? })
}

fn live_sessions(
    connection: &Connection,
    after: Option<&(String, String)>,
    limit: usize,
    now_ms: u64,
) -> rusqlite::Result<Vec<LiveSession>> {
    let (client_id, session) = after.map_or(("", ""), |(client_id, session)| (client_id, session));
    // Walks the primary key from the place on.
    let mut query = connection.prepare_cached(&format!(
        "SELECT access_sha256, refresh_sha256, version, previous_access_sha256, consumed_at_ms, access_expires_at,
             client_id, session
         FROM token
         WHERE (client_id, session) {} (?1, ?2) AND status = 'live' AND version > max(
             (SELECT floor FROM store),
             coalesce((SELECT floor FROM client WHERE client.client_id = token.client_id), 0)
         )
         ORDER BY client_id, session LIMIT ?3",
        if after.is_some() { ">" } else { ">=" }
    ))?;
    let rows = query
        .query_map(params![client_id, session, limit], |row| live_session(row, row.get(6)?, row.get(7)?, now_ms))?;
    rows.collect()
}
