//! What each write does to the tables.

use fastauth_core::store::{
    Condition, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionStatus, TokenDigest, TokenRecord,
    Verdict,
};
use tokio_postgres::{Error, Row};

use super::{
    row::{Held, held_columns, number, text},
    transaction::{Transaction, Work, now_ms},
    value::{Query, Value},
};

/// The number of rows of a client that a new one may replace at once. Any others are revoked, and deleted later.
const REPLACED_AT_ONCE: usize = 16;

const HELD: &str =
    concat!("SELECT ", held_columns!(), " FROM fastauth.token t WHERE t.client_id = $1 AND t.session = $2 FOR UPDATE");

/// The pair that a rotation replaces.
struct Replaced<'a> {
    held: &'a Held,
    refresh: TokenDigest,
    /// The presented token names no session.
    is_nameless: bool,
}

impl Transaction<'_> {
    /// Reads a session, and locks it against rotations.
    async fn held(&self, client_id: &str, session: &str) -> Result<Option<Held>, Error> {
        let rows = self.query(HELD, [client_id.into(), session.into()]).await?;
        Ok(rows.first().map(|row| Held::read(row, self.floor)))
    }

    /// Returns the version of the live session that was written last.
    async fn newest(&self, client_id: &str) -> Result<Option<u64>, Error> {
        const NEWEST: &str = "SELECT max(t.version) FROM fastauth.token t
             WHERE t.client_id = $1 AND t.status = 'live' AND t.begun > $2";
        let rows = self.query(NEWEST, [client_id.into(), self.floor.into()]).await?;
        let newest = rows.first().and_then(|row| row.get::<_, Option<i64>>(0));
        Ok(newest.and_then(|version| u64::try_from(version).ok()))
    }

    async fn meets(&self, client_id: &str, condition: Condition) -> Result<bool, Error> {
        Ok(condition == Condition::None || condition.is_met_by(self.newest(client_id).await?))
    }

    /// Makes the write of a pair, which returns its version.
    fn put(&self, record: &TokenRecord, kind: &'static str, replaced: Option<&Replaced<'_>>) -> Query {
        macro_rules! put {
            () => {
                concat!(
                    "INSERT INTO fastauth.token AS t
                     SELECT $1, $2, $3, $4, 'live', $5, $6, $7, $8, $9, $10, $11, $12, n.ms, $13,
                         coalesce($14, n.ms / 1000), n.ms / 1000, coalesce($15, n.version), n.version
                     FROM (SELECT nextval('fastauth.version') AS version, ",
                    now_ms!(),
                    " AS ms) n
                     ON CONFLICT (client_id, session) DO UPDATE SET
                         generation = excluded.generation, kid = excluded.kid, status = excluded.status,
                         access_token = excluded.access_token, access_sha256 = excluded.access_sha256,
                         access_expires_at = excluded.access_expires_at, refresh_token = excluded.refresh_token,
                         refresh_sha256 = excluded.refresh_sha256, refresh_expires_at = excluded.refresh_expires_at,
                         previous_access_sha256 = excluded.previous_access_sha256,
                         consumed_sha256 = excluded.consumed_sha256, consumed_at_ms = excluded.consumed_at_ms,
                         began_with = excluded.began_with, issued_at = excluded.issued_at,
                         renewed_at = excluded.renewed_at, begun = excluded.begun, version = excluded.version
                     RETURNING t.version"
                )
            };
        }
        const LOGGED: &str = concat!(
            "WITH put AS (",
            put!(),
            ") INSERT INTO fastauth.change (kind, client_id, session, version)
             SELECT $16, $1, $2, put.version FROM put RETURNING version"
        );
        const UNLOGGED: &str = put!();
        let begins = replaced.is_some_and(|replaced| replaced.is_nameless && record.generation == 0);
        let consumed = replaced.map(|replaced| replaced.refresh);
        let mut values = vec![
            record.client_id.as_str().into(),
            record.session.as_str().into(),
            record.generation.into(),
            record.kid.as_str().into(),
            record.access.text.expose().into(),
            record.access.digest.as_bytes().into(),
            record.access.expires_at.into(),
            record.refresh.text.expose().into(),
            record.refresh.digest.as_bytes().into(),
            record.refresh.expires_at.into(),
            bytes(replaced.and_then(|replaced| replaced.held.access)),
            bytes(consumed),
            bytes(consumed.filter(|_| begins)),
            Value::OptionalInteger(replaced.map(|replaced| replaced.held.issued_at)),
            Value::OptionalInteger(replaced.map(|replaced| replaced.held.begun)),
        ];
        if !self.keeps_log {
            return Query::new(UNLOGGED, values);
        }
        values.push(Value::Text(kind));
        Query::new(LOGGED, values)
    }

    /// Revokes the sessions that were renewed longest ago.
    fn end_oldest(&self, record: &TokenRecord, excess: u64) -> Query {
        macro_rules! end {
            () => {
                "UPDATE fastauth.token SET status = 'revoked', access_token = NULL, refresh_token = NULL
                 WHERE client_id = $1 AND session IN (
                     SELECT t.session FROM fastauth.token t
                     WHERE t.client_id = $1 AND t.session <> $2 AND t.status = 'live' AND t.begun > $3
                     ORDER BY t.version LIMIT $4
                 ) RETURNING client_id, session, version"
            };
        }
        const LOGGED: &str = concat!(
            "WITH ended AS (",
            end!(),
            ") INSERT INTO fastauth.change (kind, client_id, session, version)
             SELECT 'revoke', client_id, session, version FROM ended"
        );
        let sql = if self.keeps_log { LOGGED } else { end!() };
        let session = record.session.as_str().into();
        Query::new(sql, [record.client_id.as_str().into(), session, self.floor.into(), excess.into()])
    }

    /// Makes the writes that end a session: the newest one that is left gets a new version, since the ended one may have been newer and
    /// the version of a client only grows.
    fn end(&mut self, client_id: &str, session: &str, status: SessionStatus) -> Vec<Option<Query>> {
        const END: &str = "UPDATE fastauth.token
             SET status = $3, version = nextval('fastauth.version'), access_token = NULL, refresh_token = NULL
             WHERE client_id = $1 AND session = $2";
        const TOUCH: &str = "UPDATE fastauth.token SET version = nextval('fastauth.version')
             WHERE client_id = $1 AND session = (
                 SELECT t.session FROM fastauth.token t
                 WHERE t.client_id = $1 AND t.status = 'live' AND t.begun > $2 ORDER BY t.version DESC LIMIT 1
             )";
        self.live = (self.live - 1).max(0);
        let end = Query::new(END, [client_id.into(), session.into(), Value::Text(status.as_str())]);
        let touch = Query::new(TOUCH, [client_id.into(), self.floor.into()]);
        vec![Some(end), Some(touch), self.change("revoke", Some(session))]
    }
}

fn bytes(digest: Option<TokenDigest>) -> Value {
    Value::Bytes(digest.map(|digest| digest.as_bytes().to_vec()))
}

/// The version that a write has returned.
fn version_in(rows: Option<&Vec<Row>>) -> u64 {
    rows.and_then(|rows| rows.first()).map_or(0, |row| number(row, 0))
}

/// [`TokenStore::save`](fastauth_core::store::TokenStore::save)
pub(crate) struct Save {
    pub(crate) record: TokenRecord,
    pub(crate) options: SaveOptions,
}

impl Work for Save {
    type Answer = Saved;

    fn client_id(&self) -> Option<&str> {
        Some(&self.record.client_id)
    }

    async fn run(&self, mut transaction: Transaction<'_>) -> Result<Saved, Error> {
        let client_id = self.record.client_id.as_str();
        let mut answer = None;
        if !transaction.meets(client_id, self.options.condition).await? {
            answer = Some(Saved::ConditionFailed);
        }
        let held = transaction.held(client_id, &self.record.session).await?;
        if let Some(held) = held.as_ref().filter(|_| !self.record.session.is_empty() && answer.is_none()) {
            answer = held.session.judge_save(&self.record, held.access, held.version);
        }
        if let Some(answer) = answer {
            return transaction.commit(Vec::new()).await.map(|_| answer);
        }
        let clear = if self.options.keep_others { None } else { self.clear(&mut transaction).await? };
        if !(self.options.keep_others && held.is_some_and(|held| held.is_live())) {
            transaction.live += 1;
        }
        let place = usize::from(clear.is_some());
        let kind = if self.options.keep_others { "issue" } else { "replace" };
        let put = transaction.put(&self.record, kind, None);
        let most = i64::try_from(self.options.max_sessions).unwrap_or(i64::MAX);
        let excess = u64::try_from(transaction.live - most).unwrap_or(0);
        let mut limit = None;
        if most > 0 && excess > 0 {
            limit = Some(transaction.end_oldest(&self.record, excess));
            transaction.live = most;
        }
        let answers = transaction.commit(vec![clear, Some(put), limit]).await?;
        Ok(Saved::Saved(version_in(answers.get(place))))
    }
}

impl Save {
    /// Deletes the other rows of the client. Revokes all instead if there are too many for that.
    async fn clear(&self, transaction: &mut Transaction<'_>) -> Result<Option<Query>, Error> {
        const OTHERS: &str =
            "SELECT t.session FROM fastauth.token t WHERE t.client_id = $1 AND t.session <> $2 LIMIT $3";
        const DELETE: &str = "DELETE FROM fastauth.token WHERE client_id = $1 AND session <> $2";
        let key = [Value::from(self.record.client_id.as_str()), self.record.session.as_str().into()];
        let [client_id, session] = key.clone();
        let others = transaction.query(OTHERS, [client_id, session, (REPLACED_AT_ONCE as u64).into()]).await?.len();
        transaction.live = 0;
        if others == REPLACED_AT_ONCE {
            transaction.floor = transaction.next_version().await?;
            return Ok(None);
        }
        Ok((others > 0).then(|| Query::new(DELETE, key)))
    }
}

/// [`TokenStore::rotate`](fastauth_core::store::TokenStore::rotate)
pub(crate) struct Rotate(pub(crate) Rotation);

impl Work for Rotate {
    type Answer = Rotated;

    fn client_id(&self) -> Option<&str> {
        Some(&self.0.successor.client_id)
    }

    async fn run(&self, mut transaction: Transaction<'_>) -> Result<Rotated, Error> {
        let successor = &self.0.successor;
        let client_id = successor.client_id.as_str();
        let Some(held) = self.presented(&transaction).await? else {
            let is_known = transaction.newest(client_id).await?.is_some();
            transaction.commit(Vec::new()).await?;
            return Ok(if is_known { Rotated::Superseded } else { Rotated::UnknownClient });
        };
        let mut writes = Vec::new();
        let answer = match held.session.judge(&self.0) {
            Verdict::Rotate => {
                let is_nameless = self.0.presented_session.is_none();
                let replaced = Replaced { held: &held, refresh: self.0.presented, is_nameless };
                writes.push(Some(transaction.put(successor, "rotate", Some(&replaced))));
                if held.name != successor.session {
                    // It may take the place of another one.
                    let other = transaction.held(client_id, &successor.session).await?;
                    transaction.live -= i64::from(other.is_some_and(|other| other.is_live()));
                    const FORGET: &str = "DELETE FROM fastauth.token WHERE client_id = $1 AND session = $2";
                    writes.push(Some(Query::new(FORGET, [client_id.into(), held.name.as_str().into()])));
                    writes.push(transaction.change("revoke", Some(&held.name)));
                }
                Rotated::Rotated
            }
            Verdict::AccessRevoked(version) => Rotated::AccessRevoked(version),
            Verdict::Repeat => Rotated::Repeated(held.pair),
            Verdict::Reuse => {
                writes = transaction.end(client_id, &held.name, SessionStatus::Reused);
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        };
        transaction.commit(writes).await.map(|_| answer)
    }
}

impl Rotate {
    /// Finds the session of the presented token: the one that it names; else the one without a name, if it holds the token; else the one
    /// that the token began.
    async fn presented(&self, transaction: &Transaction<'_>) -> Result<Option<Held>, Error> {
        const HOLDER: &str = "(SELECT t.session FROM fastauth.token t WHERE t.client_id = $1 AND t.session = ''
                 AND (t.refresh_sha256 = $2 OR t.consumed_sha256 = $2))
             UNION ALL
             (SELECT t.session FROM fastauth.token t
             WHERE t.client_id = $1 AND t.began_with = $2 AND t.generation = 0 ORDER BY t.session LIMIT 1)
             LIMIT 1";
        let client_id = self.0.successor.client_id.as_str();
        if let Some((session, _)) = &self.0.presented_session
            && let Some(held) = transaction.held(client_id, session).await?
        {
            return Ok(Some(held));
        }
        let rows = transaction.query(HOLDER, [client_id.into(), self.0.presented.as_bytes().into()]).await?;
        match rows.first() {
            Some(row) => transaction.held(client_id, &text(row, "session")).await,
            None => Ok(None),
        }
    }
}

/// [`TokenStore::revoke`](fastauth_core::store::TokenStore::revoke)
#[derive(Clone)]
pub(crate) struct Revoke {
    pub(crate) revocation: Revocation,
    pub(crate) if_version: Option<u64>,
}

impl Work for Revoke {
    type Answer = Revoked;

    fn client_id(&self) -> Option<&str> {
        match &self.revocation {
            Revocation::Session { client_id, .. } | Revocation::Client(client_id) => Some(client_id),
            Revocation::All => None,
        }
    }

    async fn run(&self, mut transaction: Transaction<'_>) -> Result<Revoked, Error> {
        let condition = self.if_version.map_or(Condition::None, Condition::Version);
        if let Some(client_id) = self.client_id()
            && !transaction.meets(client_id, condition).await?
        {
            return transaction.commit(Vec::new()).await.map(|_| Revoked::ConditionFailed);
        }
        let (ended, writes) = match &self.revocation {
            Revocation::Session { client_id, session } => {
                match transaction.held(client_id, session).await?.filter(Held::is_live) {
                    Some(_) => (1, transaction.end(client_id, session, SessionStatus::Revoked)),
                    None => (0, Vec::new()),
                }
            }
            Revocation::Client(client_id) => end_client(&mut transaction, client_id).await?,
            Revocation::All => end_all(&transaction).await?,
        };
        transaction.commit(writes).await.map(|_| Revoked::Sessions(ended))
    }
}

/// The number of sessions that end, and the writes that end them.
type Ended = (u64, Vec<Option<Query>>);

/// Ends all sessions of a client.
async fn end_client(transaction: &mut Transaction<'_>, client_id: &str) -> Result<Ended, Error> {
    // The rows decide, should the count ever be wrong.
    if transaction.newest(client_id).await?.is_none() {
        return Ok((0, Vec::new()));
    }
    let ended = transaction.live.max(1);
    transaction.floor = transaction.next_version().await?;
    transaction.live = 0;
    // The floor is written with the client.
    Ok((ended.unsigned_abs(), vec![transaction.change("revoke", None)]))
}

/// Ends everything, even if there seems to be nothing: should the count ever be wrong, that is no reason to revoke less.
async fn end_all(transaction: &Transaction<'_>) -> Result<Ended, Error> {
    let rows = transaction.query("SELECT sum(live)::bigint FROM fastauth.tally", []).await?;
    let live: i64 = rows.first().and_then(|row| row.get(0)).unwrap_or(0);
    let floor = transaction.next_version().await?;
    let raise = Query::new("UPDATE fastauth.store SET floor = $1", [floor.into()]);
    let reset = Query::new("UPDATE fastauth.tally SET live = 0", []);
    Ok((live.max(0).unsigned_abs(), vec![Some(raise), Some(reset), transaction.change("revoke", None)]))
}

/// [`TokenStore::revoke_access`](fastauth_core::store::TokenStore::revoke_access)
#[derive(Clone)]
pub(crate) struct RevokeAccess {
    pub(crate) client_id: String,
    pub(crate) session: Option<String>,
}

impl Work for RevokeAccess {
    type Answer = u64;

    fn client_id(&self) -> Option<&str> {
        Some(&self.client_id)
    }

    /// From the oldest of the concerned sessions on, the live sessions get new versions, in their order.
    async fn run(&self, transaction: Transaction<'_>) -> Result<u64, Error> {
        const LIVE: &str = "SELECT t.session, t.version FROM fastauth.token t
             WHERE t.client_id = $1 AND t.status = 'live' AND t.begun > $2 FOR UPDATE";
        const REMOVE: &str = "UPDATE fastauth.token SET version = nextval('fastauth.version'), access_token = NULL,
                 access_sha256 = NULL, previous_access_sha256 = NULL
             WHERE client_id = $1 AND session = $2 RETURNING version";
        const KEEP: &str =
            "UPDATE fastauth.token SET version = nextval('fastauth.version') WHERE client_id = $1 AND session = $2";
        let client_id = self.client_id.as_str();
        let rows = transaction.query(LIVE, [client_id.into(), transaction.floor.into()]).await?;
        // Sorted once the rows are locked, for a rotation may have been quicker.
        let mut live: Vec<_> = rows.iter().map(|row| (number(row, "version"), text(row, "session"))).collect();
        live.sort_unstable();
        let session = self.session.as_deref();
        let mut revoked = 0;
        let mut writes = Vec::new();
        for (_, name) in live.iter().skip_while(|(_, name)| session.is_some_and(|session| session != name)) {
            let is_concerned = session.is_none_or(|session| session == name);
            let sql = if is_concerned { REMOVE } else { KEEP };
            writes.push(Some(Query::new(sql, [client_id.into(), name.as_str().into()])));
            revoked += u64::from(is_concerned);
        }
        if revoked > 0 {
            writes.push(transaction.change("revoke_access", session));
        }
        transaction.commit(writes).await.map(|_| revoked)
    }
}
