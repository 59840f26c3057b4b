//! The tables within one transaction, and what each command does to them.

use std::time::Duration;

use fastauth_core::{
    secret::Secret,
    store::{
        ChangeKind, Condition, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, Session, SessionStatus,
        StoredPair, TokenDigest, TokenRecord, Verdict,
    },
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    read::{STATUS, counts, current, digest, pair, status},
    schema::{LOGGED, NEEDS_LOG, NEW_EPOCH},
};

/// The number of rows of a client that a new one may replace at once. Any others are revoked, and deleted later.
const REPLACED_AT_ONCE: usize = 16;

/// The replacement for the tokens of a row, if the row still has this version.
pub(super) struct ConvertedRow {
    pub(super) client_id: String,
    pub(super) session: String,
    pub(super) version: u64,
    pub(super) access: Option<(Secret, TokenDigest)>,
    pub(super) refresh: Option<(Secret, TokenDigest)>,
}

/// The tables within a transaction of the writer.
pub(super) struct Tables<'a> {
    pub(super) connection: &'a Connection,
    version: u64,
    /// The version that was found.
    found: u64,
    closed: i64,
    now_ms: u64,
    /// Set if a write succeeded a moment ago.
    is_proven: bool,
}

/// The sessions of a client that a pair replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaces {
    SameSession,
    AllSessions,
}

/// The part of a row that a rotation needs.
struct HeldSession {
    name: String,
    session: Session,
    access: Option<TokenDigest>,
    issued_at: u64,
}

/// The pair that a rotation replaces.
struct ReplacedPair {
    access: Option<TokenDigest>,
    refresh: TokenDigest,
}

impl<'a> Tables<'a> {
    pub(super) fn open(connection: &'a Connection, now_ms: u64, is_proven: bool) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached("SELECT version, closed FROM store")?;
        query.query_row([], |row| {
            let version = row.get(0)?;
            Ok(Self { connection, version, found: version, closed: row.get(1)?, now_ms, is_proven })
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(super) fn now(&self) -> u64 {
        self.now_ms / 1000
    }

    /// Writes the version, if it has changed, and returns true if the file has to be marked as in use.
    pub(super) fn close(self, mark_again: bool) -> rusqlite::Result<bool> {
        if self.version == self.found {
            return Ok(false);
        }
        let needs_mark = mark_again || self.closed != LOGGED;
        let closed = if needs_mark { NEEDS_LOG } else { LOGGED };
        let mut update = self.connection.prepare_cached("UPDATE store SET version = ?1, closed = ?2")?;
        update.execute(params![self.version, closed])?;
        Ok(needs_mark)
    }

    pub(super) fn save(&mut self, record: &TokenRecord, options: SaveOptions) -> rusqlite::Result<Saved> {
        if !self.meets(&record.client_id, options.condition)? {
            return Ok(Saved::ConditionFailed);
        }
        if let Some(saved) = self.saved_before(record)? {
            return Ok(saved);
        }
        let replaces = if options.keep_others { Replaces::SameSession } else { Replaces::AllSessions };
        self.put(record, None, self.now(), replaces)?;
        let saved = self.version;
        self.limit(&record.client_id, options.max_sessions)?;
        let kind = if options.keep_others { ChangeKind::Issue } else { ChangeKind::Replace };
        self.note(kind, Some(&record.client_id), Some(&record.session))?;
        Ok(Saved::Saved(saved))
    }

    /// Writes a change to the log, with the version that it led to.
    fn note(&self, kind: ChangeKind, client_id: Option<&str>, session: Option<&str>) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO change (at_ms, kind, client_id, session, version) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        insert.execute(params![self.now_ms, kind.as_str(), client_id, session, self.version]).map(drop)
    }

    /// Returns the answer if the pair, or a later one of its session, arrived before. A revoked session stays revoked.
    fn saved_before(&self, record: &TokenRecord) -> rusqlite::Result<Option<Saved>> {
        if record.session.is_empty() {
            return Ok(None);
        }
        let held = format!(
            "SELECT access_sha256, refresh_sha256, version, generation, {STATUS} FROM token
             WHERE client_id = ?1 AND session = ?2"
        );
        let mut query = self.connection.prepare_cached(&held)?;
        let saved = query.query_row([&record.client_id, &record.session], |row| {
            let session = Session {
                generation: row.get(3)?,
                refresh: digest(row, 1)?,
                consumed: None,
                access_revoked: None,
                status: status(row, 4)?,
            };
            Ok(session.judge_save(record, digest(row, 0)?, row.get(2)?))
        });
        Ok(saved.optional()?.flatten())
    }

    fn meets(&self, client_id: &str, condition: Condition) -> rusqlite::Result<bool> {
        if condition == Condition::None {
            return Ok(true);
        }
        Ok(condition
            .is_met_by(current(self.connection, client_id, None, self.now_ms)?.and_then(|current| current.version)))
    }

    /// Writes a pair. Rows are updated in place, since deleting and inserting one writes more pages to the disk.
    fn put(
        &mut self,
        record: &TokenRecord,
        replaced: Option<&ReplacedPair>,
        issued_at: u64,
        replaces: Replaces,
    ) -> rusqlite::Result<()> {
        const COLUMNS: &str = "generation, kid, status, access_token, access_sha256, access_expires_at, refresh_token,
             refresh_sha256, refresh_expires_at, previous_access_sha256, consumed_sha256, consumed_at_ms, issued_at,
             renewed_at, version";
        const VALUES: &str = "?3, ?4, 'live', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16";
        let is_alone = replaces == Replaces::AllSessions && self.clear(&record.client_id)?;
        self.version += 1;
        let values = params![
            record.client_id,
            record.session,
            integer(record.generation),
            record.kid,
            record.access.text.expose(),
            record.access.digest.as_bytes(),
            integer(record.access.expires_at),
            record.refresh.text.expose(),
            record.refresh.digest.as_bytes(),
            integer(record.refresh.expires_at),
            replaced.and_then(|pair| pair.access.as_ref()).map(TokenDigest::as_bytes),
            replaced.map(|pair| pair.refresh.as_bytes()),
            self.now_ms,
            issued_at,
            self.now(),
            self.version,
        ];
        if is_alone {
            let update = format!("UPDATE token SET session = ?2, ({COLUMNS}) = ({VALUES}) WHERE client_id = ?1");
            if self.connection.prepare_cached(&update)?.execute(values)? > 0 {
                return Ok(());
            }
        }
        let upsert = format!(
            "INSERT INTO token (client_id, session, {COLUMNS}) VALUES (?1, ?2, {VALUES})
             ON CONFLICT (client_id, session) DO UPDATE SET ({COLUMNS}) = ({VALUES})"
        );
        self.connection.prepare_cached(&upsert)?.execute(values).map(drop)
    }

    /// Deletes all rows of a client but one and returns true. Revokes all and returns false if there are too many for that.
    fn clear(&mut self, client_id: &str) -> rusqlite::Result<bool> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM token WHERE rowid IN (
                 SELECT rowid FROM token WHERE client_id = ?1 ORDER BY session LIMIT ?2 OFFSET 1
             )",
        )?;
        if delete.execute(params![client_id, REPLACED_AT_ONCE])? < REPLACED_AT_ONCE {
            return Ok(true);
        }
        self.version += 1;
        self.raise_floor(client_id, self.version, 0)?;
        Ok(false)
    }

    /// Revokes the sessions of a client that were renewed longest ago until at most `most` are live; zero is no limit.
    fn limit(&mut self, client_id: &str, most: usize) -> rusqlite::Result<()> {
        const OLDEST: &str = concat!(
            "SELECT version FROM token WHERE client_id = ?1 AND ",
            counts!(),
            " ORDER BY version LIMIT 1 OFFSET ?2"
        );
        let most = most as u64;
        let excess = self.live(client_id)?.saturating_sub(most);
        if most == 0 || excess == 0 {
            return Ok(());
        }
        let mut query = self.connection.prepare_cached(OLDEST)?;
        let floor: Option<u64> = query.query_row(params![client_id, excess - 1], |row| row.get(0)).optional()?;
        let Some(floor) = floor else { return Ok(()) };
        self.raise_floor(client_id, floor, most)?;
        self.note(ChangeKind::Revoke, Some(client_id), None)
    }

    /// Counts the live sessions of a client.
    fn live(&self, client_id: &str) -> rusqlite::Result<u64> {
        let mut query = self.connection.prepare_cached(
            "SELECT client.live FROM client, store WHERE client.client_id = ?1 AND client.floor >= store.floor",
        )?;
        Ok(query.query_row([client_id], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// Revokes the sessions of a client up to a version, which leaves `left` of them live.
    fn raise_floor(&self, client_id: &str, floor: u64, left: u64) -> rusqlite::Result<()> {
        let ended = self.live(client_id)?.saturating_sub(left);
        let mut raise = self.connection.prepare_cached(
            "INSERT INTO client VALUES (?1, ?2, ?3, 0) ON CONFLICT DO UPDATE SET floor = ?2, live = ?3",
        )?;
        raise.execute(params![client_id, floor, left])?;
        self.connection.prepare_cached("UPDATE store SET live = live - ?1")?.execute([ended]).map(drop)
    }

    /// Rotates, or returns `None` if the caller has gone, whose refresh token must stay valid. A reuse is acted on all the same.
    pub(super) fn rotate(&mut self, rotation: &Rotation, is_abandoned: bool) -> rusqlite::Result<Option<Rotated>> {
        let client_id = &rotation.successor.client_id;
        let Some(held) = self.presented(rotation)? else {
            let is_known = current(self.connection, client_id, None, self.now_ms)?.is_some();
            return Ok(Some(if is_known { Rotated::Superseded } else { Rotated::UnknownClient }));
        };
        Ok(Some(match held.session.judge(rotation) {
            Verdict::Rotate if is_abandoned => return Ok(None),
            Verdict::Rotate => {
                if held.name != rotation.successor.session {
                    self.forget(client_id, &held.name)?;
                }
                let replaced = ReplacedPair { access: held.access, refresh: rotation.presented };
                self.put(&rotation.successor, Some(&replaced), held.issued_at, Replaces::SameSession)?;
                self.note(ChangeKind::Rotate, Some(client_id), Some(&rotation.successor.session))?;
                Rotated::Rotated
            }
            Verdict::AccessRevoked(version) => Rotated::AccessRevoked(version),
            Verdict::Repeat => Rotated::Repeated(self.pair_of(client_id, &held.name)?),
            Verdict::Reuse => {
                self.end(client_id, &held.name, SessionStatus::Reused)?;
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        }))
    }

    /// Finds the session of the presented token: the one that it names; else the one without a name, if it holds the token; else
    /// the one that the token began.
    fn presented(&self, rotation: &Rotation) -> rusqlite::Result<Option<HeldSession>> {
        let columns = format!(
            "SELECT session, generation, refresh_sha256, consumed_sha256, consumed_at_ms, {STATUS}, issued_at,
             access_sha256, version FROM token"
        );
        let client_id = &rotation.successor.client_id;
        if let Some((session, _)) = &rotation.presented_session {
            let named = format!("{columns} WHERE client_id = ?1 AND session = ?2");
            let mut query = self.connection.prepare_cached(&named)?;
            let found = query.query_row([client_id, session], |row| HeldSession::read(row, self.now_ms)).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // Without INDEXED BY, SQLite walks all rows of the client in the order that is asked for.
        for holder in [
            "WHERE client_id = ?1 AND session = '' AND (refresh_sha256 = ?2 OR consumed_sha256 = ?2)",
            "INDEXED BY token_by_consumed WHERE client_id = ?1 AND generation = 0 AND consumed_sha256 = ?2
             ORDER BY session LIMIT 1",
        ] {
            let mut query = self.connection.prepare_cached(&format!("{columns} {holder}"))?;
            let values = params![client_id, rotation.presented.as_bytes()];
            let found = query.query_row(values, |row| HeldSession::read(row, self.now_ms)).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn pair_of(&self, client_id: &str, session: &str) -> rusqlite::Result<StoredPair> {
        let mut query = self.connection.prepare_cached(
            "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND session = ?2",
        )?;
        query.query_row([client_id, session], pair)
    }

    fn forget(&self, client_id: &str, session: &str) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM token WHERE client_id = ?1 AND session = ?2")?;
        delete.execute([client_id, session]).map(drop)
    }

    /// Ends a session if it is live, removes its tokens, and returns the number of ended sessions.
    fn end(&mut self, client_id: &str, session: &str, status: SessionStatus) -> rusqlite::Result<u64> {
        const END: &str = concat!(
            "UPDATE token SET status = ?3, version = ?4, access_token = NULL, refresh_token = NULL
             WHERE client_id = ?1 AND session = ?2 AND ",
            counts!()
        );
        let mut update = self.connection.prepare_cached(END)?;
        let ended = update.execute(params![client_id, session, status.as_str(), self.version + 1])?;
        if ended > 0 {
            self.version += 1;
            self.touch(client_id)?;
            self.note(ChangeKind::Revoke, Some(client_id), Some(session))?;
        }
        Ok(ended as u64)
    }

    /// Gives the newest live session a new version: the one that has just ended may be newer, and the version of a client only
    /// grows.
    fn touch(&mut self, client_id: &str) -> rusqlite::Result<()> {
        const TOUCH: &str = concat!(
            "UPDATE token SET version = ?2 WHERE rowid = (SELECT rowid FROM token WHERE client_id = ?1 AND ",
            counts!(),
            " ORDER BY version DESC LIMIT 1)"
        );
        self.version += 1;
        self.connection.prepare_cached(TOUCH)?.execute(params![client_id, self.version]).map(drop)
    }

    /// Ends all sessions of a client.
    fn end_client(&mut self, client_id: &str) -> rusqlite::Result<u64> {
        // The rows decide, should the count ever be wrong.
        if current(self.connection, client_id, None, self.now_ms)?.is_none() {
            return Ok(0);
        }
        let ended = self.live(client_id)?.max(1);
        self.version += 1;
        self.raise_floor(client_id, self.version, 0)?;
        self.note(ChangeKind::Revoke, Some(client_id), None)?;
        Ok(ended)
    }

    /// Ends everything.
    fn end_all(&mut self) -> rusqlite::Result<u64> {
        let live = self.connection.query_row("SELECT live FROM store", [], |row| row.get(0))?;
        if live > 0 {
            self.version += 1;
            self.connection.execute("UPDATE store SET floor = ?1, live = 0", [self.version])?;
            self.note(ChangeKind::Revoke, None, None)?;
        }
        Ok(live)
    }

    pub(super) fn revoke(&mut self, revocation: &Revocation, if_version: Option<u64>) -> rusqlite::Result<Revoked> {
        let condition = if_version.map_or(Condition::None, Condition::Version);
        let ended = match revocation {
            Revocation::Session { client_id, .. } | Revocation::Client(client_id)
                if !self.meets(client_id, condition)? =>
            {
                return Ok(Revoked::ConditionFailed);
            }
            Revocation::Session { client_id, session } => self.end(client_id, session, SessionStatus::Revoked)?,
            Revocation::Client(client_id) => self.end_client(client_id)?,
            Revocation::All => self.end_all()?,
        };
        Ok(Revoked::Sessions(ended))
    }

    /// Removes the access tokens of a live session, or of all, and returns how many sessions that were. From the oldest of them on, the
    /// live sessions get new versions, in their order.
    pub(super) fn revoke_access(&mut self, client_id: &str, session: Option<&str>) -> rusqlite::Result<u64> {
        const LIVE: &str =
            concat!("SELECT session FROM token WHERE client_id = ?1 AND ", counts!(), " ORDER BY version");
        let mut live = self.connection.prepare_cached(LIVE)?;
        let live = live.query_map([client_id], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let mut remove = self.connection.prepare_cached(
            "UPDATE token SET version = ?3, access_token = NULL, access_sha256 = NULL, previous_access_sha256 = NULL
             WHERE client_id = ?1 AND session = ?2",
        )?;
        let mut keep =
            self.connection.prepare_cached("UPDATE token SET version = ?3 WHERE client_id = ?1 AND session = ?2")?;
        let mut revoked = 0;
        for name in live.iter().skip_while(|name| session.is_some_and(|session| session != **name)) {
            self.version += 1;
            let is_concerned = session.is_none_or(|session| session == *name);
            let update = if is_concerned { &mut remove } else { &mut keep };
            update.execute(params![client_id, name, self.version])?;
            revoked += u64::from(is_concerned);
        }
        if revoked > 0 {
            self.note(ChangeKind::RevokeAccess, Some(client_id), session)?;
        }
        Ok(revoked)
    }

    /// Replaces what is kept of tokens, and returns the number of rows that had not changed since they were read. Versions stay,
    /// since the tokens do, and the newest session is found by its version.
    pub(super) fn convert(&self, rows: &[ConvertedRow]) -> rusqlite::Result<u64> {
        let mut update = self.connection.prepare_cached(
            "UPDATE token SET
                 access_token = coalesce(?4, access_token), access_sha256 = coalesce(?5, access_sha256),
                 refresh_token = coalesce(?6, refresh_token), refresh_sha256 = coalesce(?7, refresh_sha256)
             WHERE client_id = ?1 AND session = ?2 AND version = ?3",
        )?;
        let mut count = 0;
        for row in rows {
            count += update.execute(params![
                row.client_id,
                row.session,
                row.version,
                row.access.as_ref().map(|(text, _)| text.expose()),
                row.access.as_ref().map(|(_, digest)| digest.as_bytes()),
                row.refresh.as_ref().map(|(text, _)| text.expose()),
                row.refresh.as_ref().map(|(_, digest)| digest.as_bytes()),
            ])?;
        }
        Ok(count as u64)
    }

    /// Stores a ticket and returns true if it was unused.
    pub(super) fn spend(&self, ticket: &str, expires_at: u64) -> rusqlite::Result<bool> {
        let mut insert = self.connection.prepare_cached("INSERT INTO ticket VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        Ok(insert.execute(params![ticket, integer(expires_at)])? > 0)
    }

    pub(super) fn restart_log(&self) -> rusqlite::Result<()> {
        self.connection.execute(NEW_EPOCH, []).map(drop)
    }

    /// Writes the time, unless a write has succeeded a moment ago.
    pub(super) fn beat(&self) -> rusqlite::Result<()> {
        if !self.is_proven {
            self.connection.prepare_cached("UPDATE store SET beat = ?1")?.execute([self.now_ms])?;
        }
        Ok(())
    }
}

impl HeldSession {
    fn read(row: &Row<'_>, now_ms: u64) -> rusqlite::Result<Self> {
        let ago = Duration::from_millis(now_ms.saturating_sub(row.get(4)?));
        let consumed = digest(row, 3)?.map(|consumed| (consumed, ago));
        let access = digest(row, 7)?;
        let version = row.get(8)?;
        let session = Session {
            generation: row.get(1)?,
            refresh: digest(row, 2)?,
            consumed,
            access_revoked: if access.is_none() { Some(version) } else { None },
            status: status(row, 5)?,
        };
        Ok(Self { name: row.get(0)?, session, access, issued_at: row.get(6)? })
    }
}

/// Returns the number, or the largest that SQLite can hold: a token may claim any end, and must not fail the writes beside it.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
