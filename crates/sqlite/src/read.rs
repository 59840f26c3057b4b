//! Reading, which changes nothing.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::{
    error::{failed, file_lost, reader_gone, unopenable, unreadable},
    presence::Presence,
    schema::connect,
};
use fastauth_core::secret::Secret;
use fastauth_core::store::{
    Canonical, FamilyEntry, FamilyFilter, FamilyPage, FamilyStatus, SCANNED_AT_ONCE, StoreError, StoredPair,
    TokenDigest,
};

/// No UTF-8 has this byte, and it comes after all of its.
const AFTER_ALL_TEXT: u8 = 0xff;

/// Connections that only read. There are as many as threads that can run, so that one is nearly always free.
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

    /// A free connection, or else the next in turn as soon as it is free: a read takes microseconds.
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

/// Opens a connection that only reads.
fn reading(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let connection = connect(path)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error| unopenable(path, error))
}

/// A page that somebody waits for.
type Asked = (FamilyFilter, oneshot::Sender<Result<FamilyPage, StoreError>>);

/// Makes lists, one after the other, on a thread of its own: a page may take ten milliseconds, for which a runtime's thread
/// must not stand still.
pub(super) struct Lister {
    asked: Option<mpsc::Sender<Asked>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Lister {
    pub(super) fn start(path: &Path, presence: Arc<Presence>) -> Result<Self, StoreError> {
        let connection = reading(path)?;
        let (asked, queue) = mpsc::channel::<Asked>();
        let serve = move || {
            // One whose caller has gone is not made.
            for (filter, answer) in queue.iter().filter(|(_, answer)| !answer.is_closed()) {
                let lost = presence.is_lost().then(file_lost);
                let page = lost.map_or_else(|| list(&connection, &filter).map_err(unreadable), Err);
                let _ = answer.send(page);
            }
        };
        let thread = thread::Builder::new().name("fastauth-lists".to_owned()).spawn(serve);
        let thread =
            thread.map_err(|error| failed("cannot start the thread that lists the token database").caused_by(error))?;
        Ok(Self { asked: Some(asked), thread: Some(thread) })
    }

    pub(super) async fn list(&self, filter: FamilyFilter) -> Result<FamilyPage, StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.asked.as_ref().ok_or_else(reader_gone)?;
        asked.send((filter, answer)).map_err(|_| reader_gone())?;
        answered.await.map_err(|_| reader_gone())?
    }
}

impl Drop for Lister {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What makes a row of the client `?1` count: it is live, and above both floors.
macro_rules! counts {
    () => {
        "status = 'live' AND version >
             max((SELECT floor FROM store), coalesce((SELECT floor FROM client WHERE client_id = ?1), 0))"
    };
}
pub(super) use counts;

/// The status of a row by its client's floor and the store's.
pub(super) const STATUS: &str = "CASE WHEN status = 'live' AND version <= max(
        (SELECT floor FROM store),
        coalesce((SELECT floor FROM client WHERE client.client_id = token.client_id), 0)
    ) THEN 'revoked' ELSE status END";

pub(super) fn canonical(
    connection: &Connection,
    client_id: &str,
    family: Option<&str>,
) -> rusqlite::Result<Option<Canonical>> {
    const NAMED: &str = concat!(
        "SELECT access_sha256, refresh_sha256, version FROM token WHERE client_id = ?1 AND family = ?2 AND ",
        counts!()
    );
    const NEWEST: &str = concat!(
        "SELECT access_sha256, refresh_sha256, version FROM token WHERE client_id = ?1 AND ",
        counts!(),
        " ORDER BY version DESC LIMIT 1"
    );
    let read =
        |row: &Row<'_>| Ok(Canonical { access: digest(row, 0)?, refresh: digest(row, 1)?, version: Some(row.get(2)?) });
    if let Some(family) = family {
        let found = connection.prepare_cached(NAMED)?.query_row([client_id, family], read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    connection.prepare_cached(NEWEST)?.query_row([client_id], read).optional()
}

pub(super) fn newest_pair(connection: &Connection, client_id: &str) -> rusqlite::Result<Option<StoredPair>> {
    const NEWEST: &str = concat!(
        "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND ",
        counts!(),
        " ORDER BY version DESC LIMIT 1"
    );
    connection.prepare_cached(NEWEST)?.query_row([client_id], pair).optional()
}

/// The pair of a family, or else the newest.
pub(super) fn pair_of(connection: &Connection, client_id: &str, family: &str) -> rusqlite::Result<Option<StoredPair>> {
    const NAMED: &str = concat!(
        "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND family = ?2 AND ",
        counts!()
    );
    let found = connection.prepare_cached(NAMED)?.query_row([client_id, family], pair).optional()?;
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

pub(super) fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<FamilyStatus> {
    Ok(FamilyStatus::of_name(row.get_ref(column)?.as_str()?).unwrap_or(FamilyStatus::Revoked))
}

/// In the order of the primary key, from where the page before ended, so that a page costs the same wherever it is. It looks at
/// so many rows and no more: where few of them are asked for, a page is short, or empty, and says where to go on.
pub(super) fn list(connection: &Connection, filter: &FamilyFilter) -> rusqlite::Result<FamilyPage> {
    let limit = filter.page_limit();
    // A bound that is always there lets SQLite walk the key from it. It is also what tells prefixes: SQLite's functions
    // of text end at a NUL.
    let (first, last) = match (&filter.client_id, &filter.client_id_prefix) {
        (Some(client_id), Some(prefix)) if !client_id.starts_with(prefix) => return Ok(FamilyPage::default()),
        (Some(client_id), _) => (client_id.as_str(), client_id.clone().into_bytes()),
        (None, prefix) => {
            let prefix = prefix.as_deref().unwrap_or_default();
            (prefix, [prefix.as_bytes(), &[AFTER_ALL_TEXT]].concat())
        }
    };
    let mut place = filter.after.clone().unwrap_or_default();
    let mut comparison = if filter.after.is_some() { ">" } else { ">=" };
    // One family is where it is.
    if let (Some(client_id), Some(family)) = (&filter.client_id, &filter.family) {
        if filter.after.as_ref().is_some_and(|after| (&after.0, &after.1) >= (client_id, family)) {
            return Ok(FamilyPage::default());
        }
        (place, comparison) = ((client_id.clone(), family.clone()), "=");
    }
    let mut query = connection.prepare_cached(&format!(
        "SELECT client_id, family, generation, kid, {STATUS}, issued_at, renewed_at, access_expires_at,
             refresh_expires_at, version
         FROM token
         WHERE client_id >= ?1 AND client_id <= CAST(?2 AS TEXT) AND (client_id, family) {comparison} (?3, ?4)
         ORDER BY client_id, family LIMIT ?5"
    ))?;
    let from = place.0.as_str().max(first).to_owned();
    let mut rows = query.query(params![from, last, place.0, place.1, SCANNED_AT_ONCE + 1])?;
    let mut page = FamilyPage::default();
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        if seen == SCANNED_AT_ONCE {
            page.next = Some(place);
            return Ok(page);
        }
        seen += 1;
        let entry = entry(row)?;
        place = (entry.client_id.clone(), entry.family.clone());
        if !filter.admits(&entry) {
            continue;
        }
        if page.families.len() == limit {
            page.next = page.families.last().map(|entry| (entry.client_id.clone(), entry.family.clone()));
            return Ok(page);
        }
        page.families.push(entry);
    }
    Ok(page)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<FamilyEntry> {
    Ok(FamilyEntry {
        client_id: row.get(0)?,
        family: row.get(1)?,
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
