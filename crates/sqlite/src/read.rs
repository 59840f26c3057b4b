//! Look-ups, and the thread that lists.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use fastauth_core::{
    secret::Secret,
    store::{
        CurrentTokens, ReplacedToken, SCANNED_AT_ONCE, SessionEntry, SessionFilter, SessionPage, SessionStatus,
        StoreError, StoredPair, TokenDigest,
    },
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::{
    error::{failed, file_lost, reader_gone, unopenable, unreadable},
    presence::Presence,
    schema::connect,
};

/// A byte that sorts after all UTF-8, which never contains it.
const AFTER_ALL_TEXT: u8 = 0xff;

/// Read-only connections, as many as threads can run, so that one is nearly always free.
pub(super) struct Readers {
    connections: Box<[Mutex<Connection>]>,
    next: AtomicUsize,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let count = thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 16));
        let connections = (0..count).map(|_| Ok(Mutex::new(reading(path)?))).collect::<Result<_, StoreError>>()?;
        Ok(Self { connections, next: AtomicUsize::new(0) })
    }

    /// Returns a free connection, or waits for the next in turn: a read takes microseconds.
    pub(super) fn one(&self) -> MutexGuard<'_, Connection> {
        let count = self.connections.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count;
        for connection in self.connections[first..].iter().chain(&self.connections[..first]) {
            match connection.try_lock() {
                Ok(connection) => return connection,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.connections[first].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a read-only connection.
fn reading(path: &Path) -> Result<Connection, StoreError> {
    let opened = connect(path).and_then(|connection| {
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    });
    opened.map_err(|error| unopenable(path, error))
}

/// What the listing thread does for a caller, with its connection or the error of having none.
type ListCall = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// The thread that makes lists, one after the other. A page may take ten milliseconds, for which a thread of the runtime must not
/// block.
pub(super) struct Lister {
    calls: Option<mpsc::Sender<ListCall>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Lister {
    pub(super) fn start(path: &Path, presence: Arc<Presence>) -> Result<Self, StoreError> {
        let connection = reading(path)?;
        let (calls, queue) = mpsc::channel::<ListCall>();
        let thread = thread::Builder::new()
            .name("fastauth-lists".to_owned())
            .spawn(move || {
                for call in &queue {
                    call(if presence.is_lost() { Err(file_lost()) } else { Ok(&connection) });
                }
            })
            .map_err(|error| failed("cannot start the thread that lists the token database").caused_by(error))?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    /// Reads a page, once those before it are read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        page: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let call = move |connection: Result<&Connection, StoreError>| {
            if !answer.is_closed() {
                let _ = answer.send(connection.and_then(|connection| page(connection).map_err(unreadable)));
            }
        };
        let calls = self.calls.as_ref().ok_or_else(reader_gone)?;
        calls.send(Box::new(call)).map_err(|_| reader_gone())?;
        answered.await.map_err(|_| reader_gone())?
    }
}

impl Drop for Lister {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The condition for a row of the client `?1` to be live: its status says so, and its version is above both floors.
macro_rules! counts {
    () => {
        "status = 'live' AND version >
             max((SELECT floor FROM store), coalesce((SELECT floor FROM client WHERE client_id = ?1), 0))"
    };
}
pub(super) use counts;

/// The status of a row, by its own column and both floors.
pub(super) const STATUS: &str = "CASE WHEN status = 'live' AND version <= max(
        (SELECT floor FROM store),
        coalesce((SELECT floor FROM client WHERE client.client_id = token.client_id), 0)
    ) THEN 'revoked' ELSE status END";

pub(super) fn current(
    connection: &Connection,
    client_id: &str,
    session: Option<&str>,
    now_ms: u64,
) -> rusqlite::Result<Option<CurrentTokens>> {
    const NAMED: &str = concat!(
        "SELECT access_sha256, refresh_sha256, version, previous_access_sha256, consumed_at_ms FROM token
         WHERE client_id = ?1 AND session = ?2 AND ",
        counts!()
    );
    const NEWEST: &str = concat!(
        "SELECT access_sha256, refresh_sha256, version, previous_access_sha256, consumed_at_ms FROM token
         WHERE client_id = ?1 AND ",
        counts!(),
        " ORDER BY version DESC LIMIT 1"
    );
    let read = |row: &Row<'_>| current_in(row, now_ms);
    if let Some(session) = session {
        let found = connection.prepare_cached(NAMED)?.query_row([client_id, session], read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    connection.prepare_cached(NEWEST)?.query_row([client_id], read).optional()
}

/// Reads `access_sha256`, `refresh_sha256`, `version`, `previous_access_sha256` and `consumed_at_ms`.
pub(super) fn current_in(row: &Row<'_>, now_ms: u64) -> rusqlite::Result<CurrentTokens> {
    // A time in the future was written before the clock was set back, so the age is not known.
    let age = now_ms.checked_sub(row.get(4)?).map(Duration::from_millis);
    Ok(CurrentTokens {
        access: digest(row, 0)?,
        refresh: digest(row, 1)?,
        previous_access: digest(row, 3)?.zip(age).map(|(digest, age)| ReplacedToken { digest, age }),
        version: Some(row.get(2)?),
    })
}

pub(super) fn newest_pair(connection: &Connection, client_id: &str) -> rusqlite::Result<Option<StoredPair>> {
    const NEWEST: &str = concat!(
        "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND ",
        counts!(),
        " ORDER BY version DESC LIMIT 1"
    );
    connection.prepare_cached(NEWEST)?.query_row([client_id], pair).optional()
}

/// Reads the pair of a session, or else the newest of the client.
pub(super) fn pair_of(connection: &Connection, client_id: &str, session: &str) -> rusqlite::Result<Option<StoredPair>> {
    const NAMED: &str = concat!(
        "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND session = ?2 AND ",
        counts!()
    );
    let found = connection.prepare_cached(NAMED)?.query_row([client_id, session], pair).optional()?;
    if found.is_some() { Ok(found) } else { newest_pair(connection, client_id) }
}

pub(super) fn pair(row: &Row<'_>) -> rusqlite::Result<StoredPair> {
    Ok(StoredPair { access_token: secret(row, 0)?, refresh_token: secret(row, 1)?, version: Some(row.get(2)?) })
}

pub(super) fn secret(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Secret>> {
    Ok(row.get::<_, Option<String>>(column)?.map(Secret::from))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<TokenDigest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(TokenDigest::from_bytes))
}

pub(super) fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionStatus> {
    Ok(SessionStatus::from_name(row.get_ref(column)?.as_str()?).unwrap_or(SessionStatus::Revoked))
}

/// The part of the primary key that a list walks through.
struct Range {
    first: String,
    last: Vec<u8>,
    place: (String, String),
    /// How a row compares with `place`.
    comparison: &'static str,
}

impl Range {
    /// Returns `None` if no row can match.
    fn from_filter(filter: &SessionFilter) -> Option<Self> {
        let (first, last) = match (&filter.client_id, &filter.client_id_prefix) {
            (Some(client_id), Some(prefix)) if !client_id.starts_with(prefix) => return None,
            (Some(client_id), _) => (client_id.as_str(), client_id.clone().into_bytes()),
            (None, Some(prefix)) => (prefix.as_str(), [prefix.as_bytes(), &[AFTER_ALL_TEXT]].concat()),
            (None, None) => ("", vec![AFTER_ALL_TEXT]),
        };
        if let (Some(client_id), Some(session)) = (&filter.client_id, &filter.session) {
            if filter.after.as_ref().is_some_and(|after| (&after.0, &after.1) >= (client_id, session)) {
                return None;
            }
            let place = (client_id.clone(), session.clone());
            return Some(Self { first: client_id.clone(), last, place, comparison: "=" });
        }
        Some(match &filter.after {
            Some(after) => {
                Self { first: after.0.as_str().max(first).to_owned(), last, place: after.clone(), comparison: ">" }
            }
            None => Self { first: first.to_owned(), last, place: (String::new(), String::new()), comparison: ">=" },
        })
    }
}

/// Reads a page in the order of the primary key, from the end of the page before, so that every page costs the same. It looks at
/// a limited number of rows: if few of them match, the page is short or empty, and has a place to go on from.
pub(super) fn list(connection: &Connection, filter: &SessionFilter) -> rusqlite::Result<SessionPage> {
    let Some(range) = Range::from_filter(filter) else { return Ok(SessionPage::default()) };
    // The bounds are always there, so that SQLite walks the key from the first one. They also select by prefix, since SQLite's
    // text functions stop at a NUL.
    let mut query = connection.prepare_cached(&format!(
        "SELECT client_id, session, generation, kid, {STATUS}, issued_at, renewed_at, access_expires_at,
             refresh_expires_at, version
         FROM token
         WHERE client_id >= ?1 AND client_id <= CAST(?2 AS TEXT) AND (client_id, session) {} (?3, ?4)
         ORDER BY client_id, session LIMIT ?5",
        range.comparison
    ))?;
    let values = params![range.first, range.last, range.place.0, range.place.1, SCANNED_AT_ONCE + 1];
    filter.page(query.query_map(values, entry)?, SCANNED_AT_ONCE)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<SessionEntry> {
    Ok(SessionEntry {
        client_id: row.get(0)?,
        session: row.get(1)?,
        generation: row.get(2)?,
        kid: row.get(3)?,
        status: status(row, 4)?,
        issued_at: row.get(5)?,
        renewed_at: row.get(6)?,
        access_expires_at: row.get(7)?,
        refresh_expires_at: row.get(8)?,
        version: row.get(9)?,
    })
}
