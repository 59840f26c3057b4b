//! The tables within one transaction of the writer.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    convert::ConvertedRow,
    read::{STATUS, canonical, counts, digest, pair, status},
    schema::{LOGGED, NEEDS_LOG},
};
use fastauth_core::secret::Secret;
use fastauth_core::store::{
    Condition, Family, FamilyStatus, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoredPair,
    TICKET_KEPT, TokenDigest, TokenRecord, Verdict,
};

/// How many rows are deleted, or gone through, at a time of those that nothing can ask for any more.
pub(super) const CLEANED_AT_ONCE: usize = 1000;
/// How many rows of a client a new one may take the place of. Any others are revoked, and deleted later.
const REPLACED_AT_ONCE: usize = 16;

/// What is to be written.
pub(super) enum Command {
    Save(TokenRecord, SaveOptions),
    Rotate(Rotation),
    Revoke(Revocation, Option<u64>),
    Convert(Vec<ConvertedRow>),
    Spend(String, u64),
    /// Writes something of no consequence, to see whether that can be done.
    Beat,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// So many rows were as they had been.
    Converted(u64),
    Saved(Saved),
    Rotated(Rotated),
    Revoked(Revoked),
    /// Whether the ticket had not been used before.
    Spent(bool),
    Beaten,
    /// Nobody is left to be told of it, so it was not done.
    NotDone,
}

impl Outcome {
    /// Whether another token is accepted since, or one less.
    pub(super) fn changes_tokens(&self) -> bool {
        match self {
            Self::Saved(saved) => matches!(saved, Saved::Saved(_)),
            Self::Rotated(rotated) => matches!(rotated, Rotated::Rotated | Rotated::Reused),
            Self::Revoked(revoked) => !matches!(revoked, Revoked::Families(0) | Revoked::ConditionFailed),
            // The tokens stay what they were.
            Self::Converted(_) | Self::Spent(_) | Self::Beaten | Self::NotDone => false,
        }
    }
}

pub(super) struct Books<'a> {
    connection: &'a Connection,
    version: u64,
    /// The version that was found.
    found: u64,
    closed: i64,
    now_ms: u64,
    /// Whether it was seen a moment ago that the file can be written.
    is_proven: bool,
}

/// How far the floor of the store has been swept: up to this client, or to the end.
#[derive(Clone, Default)]
pub(super) struct Sweep {
    floor: u64,
    after: Option<String>,
}

/// Which of a client's families a pair is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    SameFamily,
    AllFamilies,
}

/// A row, as far as a rotation has to know it.
struct HeldFamily {
    name: String,
    family: Family,
    issued_at: u64,
}

impl<'a> Books<'a> {
    pub(super) fn open(connection: &'a Connection, now_ms: u64, is_proven: bool) -> rusqlite::Result<Self> {
        let mut query = connection.prepare_cached("SELECT version, closed FROM store")?;
        let (version, closed) = query.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { connection, version, found: version, closed, now_ms, is_proven })
    }

    fn now(&self) -> u64 {
        self.now_ms / 1000
    }

    /// What changed nothing is not written. Says whether the file does not know yet that it is in use, or is to be told anew.
    pub(super) fn close(self, anew: bool) -> rusqlite::Result<bool> {
        if self.version == self.found {
            return Ok(false);
        }
        let is_first = anew || self.closed != LOGGED;
        let closed = if is_first { NEEDS_LOG } else { LOGGED };
        let mut update = self.connection.prepare_cached("UPDATE store SET version = ?1, closed = ?2")?;
        update.execute(params![self.version, closed])?;
        Ok(is_first)
    }

    /// Does what is asked. A client that has gone must not lose its refresh token to a rotation, so that is not done then,
    /// unless it ends a family.
    pub(super) fn apply(&mut self, command: &Command, is_abandoned: bool) -> rusqlite::Result<Outcome> {
        Ok(match command {
            Command::Revoke(revocation, if_version) => Outcome::Revoked(self.revoke(revocation, *if_version)?),
            Command::Rotate(rotation) => match self.rotate(rotation, is_abandoned)? {
                Some(rotated) => Outcome::Rotated(rotated),
                None => Outcome::NotDone,
            },
            Command::Spend(ticket, expires_at) => Outcome::Spent(self.spend(ticket, *expires_at)?),
            Command::Save(record, options) => Outcome::Saved(self.save(record, *options)?),
            Command::Convert(rows) => Outcome::Converted(self.convert(rows)?),
            Command::Beat => self.beat()?,
        })
    }

    fn save(&mut self, record: &TokenRecord, options: SaveOptions) -> rusqlite::Result<Saved> {
        if !self.meets(&record.client_id, options.condition)? {
            return Ok(Saved::ConditionFailed);
        }
        if let Some(saved) = self.saved_before(record)? {
            return Ok(saved);
        }
        let over = if options.keep_others { Over::SameFamily } else { Over::AllFamilies };
        self.put(record, None, self.now(), over)?;
        let saved = self.version;
        self.limit(&record.client_id, options.max_families)?;
        Ok(Saved::Saved(saved))
    }

    /// What becomes of a pair whose family is there already, as one is that arrives twice. What was revoked or renewed since stays
    /// so.
    fn saved_before(&self, record: &TokenRecord) -> rusqlite::Result<Option<Saved>> {
        if record.family.is_empty() {
            return Ok(None);
        }
        let held = format!(
            "SELECT access_sha256, refresh_sha256, version, generation, {STATUS} FROM token
             WHERE client_id = ?1 AND family = ?2"
        );
        let read = |row: &Row<'_>| {
            let digests = (digest(row, 0)?, digest(row, 1)?);
            Ok((digests, row.get::<_, u64>(2)?, row.get::<_, u64>(3)?, status(row, 4)?))
        };
        let mut query = self.connection.prepare_cached(&held)?;
        let held = query.query_row([&record.client_id, &record.family], read).optional()?;
        Ok(held.and_then(|(digests, version, generation, status)| match status {
            FamilyStatus::Live if digests == (Some(record.access.digest), Some(record.refresh.digest)) => {
                Some(Saved::Saved(version))
            }
            FamilyStatus::Live if generation <= record.generation => None,
            _ => Some(Saved::ConditionFailed),
        }))
    }

    fn meets(&self, client_id: &str, condition: Condition) -> rusqlite::Result<bool> {
        if condition == Condition::None {
            return Ok(true);
        }
        Ok(condition.is_met_by(canonical(self.connection, client_id, None)?.and_then(|canonical| canonical.version)))
    }

    /// Writes a pair over what there is of it. Rows change where they are: one that is deleted and inserted anew has more
    /// pages written to the disk.
    fn put(
        &mut self,
        record: &TokenRecord,
        consumed: Option<&TokenDigest>,
        issued_at: u64,
        over: Over,
    ) -> rusqlite::Result<()> {
        const COLUMNS: &str = "generation, kid, status, access_token, access_sha256, access_expires_at, refresh_token,
             refresh_sha256, refresh_expires_at, consumed_sha256, consumed_at_ms, issued_at, renewed_at, version";
        const VALUES: &str = "?3, ?4, 'live', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15";
        let is_alone = over == Over::AllFamilies && self.clear(&record.client_id)?;
        self.version += 1;
        let (access, refresh) = (&record.access, &record.refresh);
        let values = params![
            record.client_id,
            record.family,
            integer(record.generation),
            record.kid,
            access.text.expose(),
            access.digest.as_bytes(),
            integer(access.expires_at),
            refresh.text.expose(),
            refresh.digest.as_bytes(),
            integer(refresh.expires_at),
            consumed.map(TokenDigest::as_bytes),
            self.now_ms,
            issued_at,
            self.now(),
            self.version,
        ];
        if is_alone {
            let update = format!("UPDATE token SET family = ?2, ({COLUMNS}) = ({VALUES}) WHERE client_id = ?1");
            if self.connection.prepare_cached(&update)?.execute(values)? > 0 {
                return Ok(());
            }
        }
        let upsert = format!(
            "INSERT INTO token (client_id, family, {COLUMNS}) VALUES (?1, ?2, {VALUES})
             ON CONFLICT (client_id, family) DO UPDATE SET ({COLUMNS}) = ({VALUES})"
        );
        self.connection.prepare_cached(&upsert)?.execute(values).map(drop)
    }

    /// Deletes the rows of a client but one, and says whether it has no others now. Of those that are too many to be deleted at
    /// once, none counts any more.
    fn clear(&mut self, client_id: &str) -> rusqlite::Result<bool> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM token WHERE rowid IN (
                 SELECT rowid FROM token WHERE client_id = ?1 ORDER BY family LIMIT ?2 OFFSET 1
             )",
        )?;
        if delete.execute(params![client_id, REPLACED_AT_ONCE])? < REPLACED_AT_ONCE {
            return Ok(true);
        }
        self.version += 1;
        self.raise_floor(client_id, self.version, 0)?;
        Ok(false)
    }

    /// Lets the oldest families of a client give way until it has no more than `most`; zero is any number. One that was renewed
    /// lately is not old.
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
        floor.map_or(Ok(()), |floor| self.raise_floor(client_id, floor, most))
    }

    /// How many live families a client has.
    fn live(&self, client_id: &str) -> rusqlite::Result<u64> {
        let mut query = self.connection.prepare_cached(
            "SELECT client.live FROM client, store WHERE client.client_id = ?1 AND client.floor >= store.floor",
        )?;
        Ok(query.query_row([client_id], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    /// Revokes what of a client has no later version than this, which leaves so many families live.
    fn raise_floor(&self, client_id: &str, floor: u64, left: u64) -> rusqlite::Result<()> {
        let ended = self.live(client_id)?.saturating_sub(left);
        let mut raise = self.connection.prepare_cached(
            "INSERT INTO client VALUES (?1, ?2, ?3, 0) ON CONFLICT DO UPDATE SET floor = ?2, live = ?3",
        )?;
        raise.execute(params![client_id, floor, left])?;
        self.connection.prepare_cached("UPDATE store SET live = live - ?1")?.execute([ended]).map(drop)
    }

    /// Without the caller a rotation is not done, but for what it ends.
    fn rotate(&mut self, rotation: &Rotation, is_abandoned: bool) -> rusqlite::Result<Option<Rotated>> {
        let client_id = &rotation.successor.client_id;
        let Some(held) = self.presented(rotation)? else {
            let is_known = canonical(self.connection, client_id, None)?.is_some();
            return Ok(Some(if is_known { Rotated::Superseded } else { Rotated::UnknownClient }));
        };
        Ok(Some(match held.family.judge(rotation) {
            Verdict::Rotate if is_abandoned => return Ok(None),
            Verdict::Rotate => {
                if held.name != rotation.successor.family {
                    self.forget(client_id, &held.name)?;
                }
                self.put(&rotation.successor, Some(&rotation.presented), held.issued_at, Over::SameFamily)?;
                Rotated::Rotated
            }
            Verdict::Repeat => Rotated::Repeated(self.pair_of(client_id, &held.name)?),
            Verdict::Reuse => {
                self.end(client_id, &held.name, FamilyStatus::Reused)?;
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        }))
    }

    /// The family that a rotation is about: the one that the token names; else that without a name, if it holds the token, or
    /// the one that the token began.
    fn presented(&self, rotation: &Rotation) -> rusqlite::Result<Option<HeldFamily>> {
        let columns = format!(
            "SELECT family, generation, refresh_sha256, consumed_sha256, consumed_at_ms, {STATUS}, issued_at FROM token"
        );
        let client_id = &rotation.successor.client_id;
        let held = |row: &Row<'_>| held(row, self.now_ms);
        if let Some((family, _)) = &rotation.presented_family {
            let named = format!("{columns} WHERE client_id = ?1 AND family = ?2");
            let found = self.connection.prepare_cached(&named)?.query_row([client_id, family], held).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // Without INDEXED BY, SQLite walks all of the client's in the order that is asked for.
        for holder in [
            "WHERE client_id = ?1 AND family = '' AND (refresh_sha256 = ?2 OR consumed_sha256 = ?2)",
            "INDEXED BY token_by_consumed WHERE client_id = ?1 AND generation = 0 AND consumed_sha256 = ?2
             ORDER BY family LIMIT 1",
        ] {
            let mut query = self.connection.prepare_cached(&format!("{columns} {holder}"))?;
            let found = query.query_row(params![client_id, rotation.presented.as_bytes()], held).optional()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn pair_of(&self, client_id: &str, family: &str) -> rusqlite::Result<StoredPair> {
        let mut query = self.connection.prepare_cached(
            "SELECT access_token, refresh_token, version FROM token WHERE client_id = ?1 AND family = ?2",
        )?;
        query.query_row([client_id, family], pair)
    }

    fn forget(&self, client_id: &str, family: &str) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM token WHERE client_id = ?1 AND family = ?2")?;
        delete.execute([client_id, family]).map(drop)
    }

    /// Ends a family, if it is live, lets go of its tokens, and says how many families that were.
    fn end(&mut self, client_id: &str, family: &str, status: FamilyStatus) -> rusqlite::Result<u64> {
        const END: &str = concat!(
            "UPDATE token SET status = ?3, version = ?4, access_token = NULL, refresh_token = NULL
             WHERE client_id = ?1 AND family = ?2 AND ",
            counts!()
        );
        let mut update = self.connection.prepare_cached(END)?;
        let ended = update.execute(params![client_id, family, status.as_str(), self.version + 1])?;
        if ended > 0 {
            self.version += 1;
            self.touch(client_id)?;
        }
        Ok(ended as u64)
    }

    /// Gives what was issued last a new version: it may have been issued before what has just ended, and the versions
    /// of a client only grow.
    fn touch(&mut self, client_id: &str) -> rusqlite::Result<()> {
        const TOUCH: &str = concat!(
            "UPDATE token SET version = ?2 WHERE rowid = (SELECT rowid FROM token WHERE client_id = ?1 AND ",
            counts!(),
            " ORDER BY version DESC LIMIT 1)"
        );
        self.version += 1;
        self.connection.prepare_cached(TOUCH)?.execute(params![client_id, self.version]).map(drop)
    }

    /// Ends all families of a client.
    fn end_client(&mut self, client_id: &str) -> rusqlite::Result<u64> {
        // What counts is found by the rows, should the count ever be wrong.
        if canonical(self.connection, client_id, None)?.is_none() {
            return Ok(0);
        }
        let ended = self.live(client_id)?.max(1);
        self.version += 1;
        self.raise_floor(client_id, self.version, 0)?;
        Ok(ended)
    }

    /// Ends everything.
    fn end_all(&mut self) -> rusqlite::Result<u64> {
        let live = self.connection.query_row("SELECT live FROM store", [], |row| row.get(0))?;
        if live > 0 {
            self.version += 1;
            self.connection.execute("UPDATE store SET floor = ?1, live = 0", [self.version])?;
        }
        Ok(live)
    }

    fn revoke(&mut self, revocation: &Revocation, if_version: Option<u64>) -> rusqlite::Result<Revoked> {
        let condition = if_version.map_or(Condition::None, Condition::Version);
        let ended = match revocation {
            Revocation::Family { client_id, .. } | Revocation::Client(client_id)
                if !self.meets(client_id, condition)? =>
            {
                return Ok(Revoked::ConditionFailed);
            }
            Revocation::Family { client_id, family } => self.end(client_id, family, FamilyStatus::Revoked)?,
            Revocation::Client(client_id) => self.end_client(client_id)?,
            Revocation::All => self.end_all()?,
        };
        Ok(Revoked::Families(ended))
    }

    /// The versions stay: the tokens are the same, and by its version a client's newest family is found.
    fn convert(&self, rows: &[ConvertedRow]) -> rusqlite::Result<u64> {
        let mut update = self.connection.prepare_cached(
            "UPDATE token SET
                 access_token = coalesce(?4, access_token), access_sha256 = coalesce(?5, access_sha256),
                 refresh_token = coalesce(?6, refresh_token), refresh_sha256 = coalesce(?7, refresh_sha256)
             WHERE client_id = ?1 AND family = ?2 AND version = ?3",
        )?;
        let mut count = 0;
        for row in rows {
            let text = |half: &Option<(Secret, TokenDigest)>| half.as_ref().map(|(text, _)| text.expose().to_owned());
            let digest = |half: &Option<(Secret, TokenDigest)>| half.as_ref().map(|(_, digest)| *digest.as_bytes());
            let (access, refresh) = (&row.access, &row.refresh);
            count += update.execute(params![
                row.client_id,
                row.family,
                row.version,
                text(access),
                digest(access),
                text(refresh),
                digest(refresh),
            ])?;
        }
        Ok(count as u64)
    }

    fn spend(&self, ticket: &str, expires_at: u64) -> rusqlite::Result<bool> {
        let mut insert = self.connection.prepare_cached("INSERT INTO ticket VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        Ok(insert.execute(params![ticket, integer(expires_at)])? > 0)
    }

    fn beat(&self) -> rusqlite::Result<Outcome> {
        if !self.is_proven {
            self.connection.prepare_cached("UPDATE store SET beat = ?1")?.execute([self.now_ms])?;
        }
        Ok(Outcome::Beaten)
    }

    /// Deletes some rows whose tokens have all expired, and some used tickets, lets go of the tokens of some revoked rows, and says
    /// how many; where it is not known when they expire, the row stays.
    pub(super) fn clean(&self, sweep: &mut Sweep) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM token WHERE rowid IN (
                 SELECT rowid FROM token
                 WHERE access_expires_at > 0 AND refresh_expires_at > 0
                     AND max(access_expires_at, refresh_expires_at) < ?1 LIMIT ?2
             )",
        )?;
        let tokens = delete.execute(params![self.now(), CLEANED_AT_ONCE])?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM ticket WHERE id IN (SELECT id FROM ticket WHERE expires_at < ?1 LIMIT ?2)")?;
        let tickets = delete.execute(params![self.now().saturating_sub(TICKET_KEPT), CLEANED_AT_ONCE])?;
        Ok(tokens.max(tickets).max(self.sweep()?).max(self.sweep_store(sweep)?))
    }

    /// Lets go of the tokens of rows that a floor has revoked.
    fn sweep(&self) -> rusqlite::Result<usize> {
        let mut next = self
            .connection
            .prepare_cached("SELECT client_id, floor FROM client WHERE swept < floor ORDER BY client_id LIMIT 1")?;
        let mut count = 0;
        while count < CLEANED_AT_ONCE {
            let found = next.query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))).optional()?;
            let Some((client_id, floor)) = found else { return Ok(count) };
            count += self.sweep_client(&client_id, floor, CLEANED_AT_ONCE - count)?.0.max(1);
        }
        Ok(count)
    }

    /// Goes on through the clients for the floor of the store, and says how many it looked at, with their rows.
    fn sweep_store(&self, sweep: &mut Sweep) -> rusqlite::Result<usize> {
        let floor = self.connection.query_row("SELECT floor FROM store", [], |row| row.get(0))?;
        if sweep.floor != floor {
            *sweep = Sweep { floor, after: Some(String::new()) };
        }
        let mut next = self.connection.prepare_cached(
            "SELECT client_id, swept < ?2 FROM client WHERE client_id > ?1 ORDER BY client_id LIMIT 1",
        )?;
        let mut count = 0;
        while count < CLEANED_AT_ONCE
            && let Some(after) = &sweep.after
        {
            let found = next.query_row(params![after, floor], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
            let Some((client_id, is_unswept)) = found.optional()? else {
                sweep.after = None;
                break;
            };
            let left = CLEANED_AT_ONCE - count;
            let (rows, is_done) = if is_unswept { self.sweep_client(&client_id, floor, left)? } else { (0, true) };
            if is_done {
                sweep.after = Some(client_id);
            }
            count += rows.max(1);
        }
        Ok(count)
    }

    /// Lets go of the tokens of a client up to a floor, and says of how many, and whether that were all. The floor of the client
    /// can rise by it, to one whose rows were not looked at.
    fn sweep_client(&self, client_id: &str, floor: u64, most: usize) -> rusqlite::Result<(usize, bool)> {
        let mut revoke = self.connection.prepare_cached(
            "UPDATE token SET status = 'revoked', access_token = NULL, refresh_token = NULL WHERE rowid IN (
                 SELECT rowid FROM token WHERE client_id = ?1 AND status = 'live' AND version <= ?2 LIMIT ?3
             )",
        )?;
        let rows = revoke.execute(params![client_id, floor, most])?;
        if rows < most {
            let mut swept = self.connection.prepare_cached("UPDATE client SET swept = ?2 WHERE client_id = ?1")?;
            swept.execute(params![client_id, floor])?;
        }
        Ok((rows, rows < most))
    }
}

/// As much of a number as SQLite can hold: a token may say anything of its end, and must not fail the writes beside it.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn held(row: &Row<'_>, now_ms: u64) -> rusqlite::Result<HeldFamily> {
    let ago = Duration::from_millis(now_ms.saturating_sub(row.get(4)?));
    let consumed = digest(row, 3)?.map(|consumed| (consumed, ago));
    let family = Family { generation: row.get(1)?, refresh: digest(row, 2)?, consumed, status: status(row, 5)? };
    Ok(HeldFamily { name: row.get(0)?, family, issued_at: row.get(6)? })
}
