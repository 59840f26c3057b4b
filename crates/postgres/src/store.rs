//! The store itself, and the contract on top of its connections.

use std::{fmt, sync::Arc};

use fastauth_core::{
    secret::Secret,
    store::{
        ChangeLog, Changes, CurrentTokens, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved,
        SessionFilter, SessionPage, StoreError, StoreFuture, StoredPair, TokenRecord, TokenStore,
    },
};

use tokio::{sync::Notify, task::JoinSet};

use super::{
    address::{Address, is_url},
    cleaning::{clean, clean_once},
    error::Failure,
    feed::{Feed, Wake, listen, tell},
    log::{Log, watch},
    read::{current_of, list, pair_of},
    row::number,
    schema::prepare,
    server::{Readers, Server},
    transaction::{live, now_ms},
    value::Query,
    writer::Writer,
    writes::{Revoke, RevokeAccess, Rotate, Save},
};

/// The connections that write at the same time, unless they revoke.
const WRITERS: usize = 12;
/// The connections that revoke, so that nothing else is in their way.
const REVOKERS: usize = 2;
/// The connections that look-ups share.
const READERS: usize = 3;

/// The options of [`PostgresStore::connect`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The password, if the URL has none.
    pub password: Option<Secret>,
    /// How the changes of other processes are found.
    pub feed: Feed,
    /// Writes no log of changes, to measure what it costs.
    #[doc(hidden)]
    pub without_log: bool,
}

/// A token store in a PostgreSQL database, for any number of processes on any number of machines.
pub struct PostgresStore {
    readers: Readers,
    /// For long answers.
    aside: Arc<Readers>,
    writer: Writer,
    revoker: Writer,
    changes: Arc<Changes>,
    log: Arc<Log>,
    /// End with the store.
    _tasks: JoinSet<()>,
}

impl PostgresStore {
    /// Returns true for the URL of a PostgreSQL database.
    #[must_use]
    pub fn is_url(url: &str) -> bool {
        is_url(url)
    }

    /// Returns a URL without the user, the password and the parameters, for people to read.
    ///
    /// # Errors
    ///
    /// Returns the error of [`connect`](Self::connect) if the URL cannot be read.
    pub fn shown(url: &str) -> Result<String, StoreError> {
        Ok(Address::parse(url, None)?.shown())
    }

    /// Connects to a database, and makes the tables if they are missing. It has to be within a tokio runtime with its time and its
    /// network, which the store then needs.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL cannot be read, the server cannot be reached in the way that it asks for, refuses the user, is older than
    /// PostgreSQL 15 or cannot be written to, or if the tables were made by a newer version. The text contains neither the URL nor the
    /// password.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let address = Address::parse(url, options.password.as_ref())?;
        let server = Server::find(&address).await?;
        prepare(&server.open().await?, server.is_pooled()).await?;
        let written = Arc::new(Notify::new());
        let writer = Writer::new(server.clone(), WRITERS, !options.without_log, Arc::clone(&written))?;
        let revoker = Writer::new(server.clone(), REVOKERS, !options.without_log, Arc::clone(&written))?;
        let changes = Arc::new(Changes::of_watched_store());
        let wake = Arc::new(Wake::new());
        // Not among the look-ups, which would wait behind a long answer.
        let aside = Arc::new(Readers::new(server.clone(), 1));
        let teller = Arc::new(Readers::new(server.clone(), 1));
        let log = Arc::new(Log::new(Arc::clone(&aside), Arc::clone(&wake)));
        let mut tasks = JoinSet::new();
        tasks.spawn(tell(Arc::clone(&teller), written));
        tasks.spawn(listen(server.clone(), options.feed, teller, wake));
        tasks.spawn(watch(Arc::clone(&log), Arc::clone(&changes)));
        tasks.spawn(clean(writer.clone()));
        Ok(Self { readers: Readers::new(server, READERS), aside, writer, revoker, changes, log, _tasks: tasks })
    }

    /// Deletes at once what is deleted in time.
    #[doc(hidden)]
    pub async fn clean(&self) -> Result<(), StoreError> {
        clean_once(&self.writer).await.map_err(Failure::into_error)
    }

    /// Rotates in one statement, which does it if nothing speaks against it. Returns false if something may, or if the session may
    /// become another one.
    async fn rotate_at_once(&self, rotation: &Rotation) -> Result<bool, Failure> {
        macro_rules! rotate {
            () => {
                concat!(
                    "UPDATE fastauth.token t SET
                         generation = $5, kid = $6, access_token = $7, access_sha256 = $8, access_expires_at = $9,
                         refresh_token = $10, refresh_sha256 = $11, refresh_expires_at = $12,
                         previous_access_sha256 = t.access_sha256, consumed_sha256 = t.refresh_sha256,
                         consumed_at_ms = ",
                    now_ms!(),
                    ", renewed_at = extract(epoch FROM clock_timestamp())::bigint, began_with = NULL,
                         version = nextval('fastauth.version')
                     WHERE t.client_id = $1 AND t.session = $2 AND t.refresh_sha256 = $3
                         AND (t.access_sha256 IS NOT NULL OR t.version <= $4) AND ",
                    live!(),
                    " RETURNING t.version"
                )
            };
        }
        const LOGGED: &str = concat!(
            "WITH put AS (",
            rotate!(),
            ") INSERT INTO fastauth.change (kind, client_id, session, version)
             SELECT 'rotate', $1, $2, put.version FROM put RETURNING version"
        );
        let successor = &rotation.successor;
        let Some((session, _)) = &rotation.presented_session else { return Ok(false) };
        if *session != successor.session || successor.generation == 0 {
            return Ok(false);
        }
        let values = [
            successor.client_id.as_str().into(),
            session.as_str().into(),
            rotation.presented.as_bytes().into(),
            rotation.decided_after.into(),
            successor.generation.into(),
            successor.kid.as_str().into(),
            successor.access.text.expose().into(),
            successor.access.digest.as_bytes().into(),
            successor.access.expires_at.into(),
            successor.refresh.text.expose().into(),
            successor.refresh.digest.as_bytes().into(),
            successor.refresh.expires_at.into(),
        ];
        let sql = if self.writer.keeps_log() { LOGGED } else { rotate!() };
        let done = self.writer.execute(&Query::new(sql, values)).await.map(|rows| !rows.is_empty());
        if !matches!(done, Ok(false)) {
            self.writer.note_change();
        }
        done
    }

    /// Returns the version of a session if it has this pair.
    async fn version_of(&self, record: &TokenRecord) -> Result<Option<u64>, StoreError> {
        const HELD: &str = "SELECT version FROM fastauth.token
             WHERE client_id = $1 AND session = $2 AND access_sha256 = $3 AND refresh_sha256 = $4";
        let values = [
            record.client_id.as_str().into(),
            record.session.as_str().into(),
            record.access.digest.as_bytes().into(),
            record.refresh.digest.as_bytes().into(),
        ];
        let rows = self.readers.query(Query::new(HELD, values)).await?;
        Ok(rows.first().map(|row| number(row, 0)))
    }

    async fn do_rotate(&self, rotation: &Rotation) -> Result<Rotated, StoreError> {
        let rotated = match self.rotate_at_once(rotation).await {
            Ok(true) => return Ok(Rotated::Rotated),
            Ok(false) => self.write(Rotate(rotation.clone())).await,
            Err(failure) => Err(failure),
        };
        match rotated {
            Ok(rotated) => Ok(rotated),
            Err(failure) => {
                let look = || async { Ok(self.version_of(&rotation.successor).await?.map(|_| Rotated::Rotated)) };
                self.writer.settle(failure, look).await
            }
        }
    }

    /// Does work to its end, so that no transaction stays open if its caller leaves.
    async fn write<W: super::transaction::Work>(&self, work: W) -> Result<W::Answer, Failure> {
        let writer = self.writer.clone();
        let done = tokio::spawn(async move { writer.write(&work).await });
        done.await.unwrap_or_else(|_| Err(Failure::Unknown(super::error::failed("the write was interrupted"))))
    }
}

impl TokenStore for PostgresStore {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        Box::pin(current_of(&self.readers, client_id, session))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(pair_of(&self.readers, client_id, None))
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, session: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(pair_of(&self.readers, client_id, Some(session)))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let saved = match self.write(Save { record: record.clone(), options }).await {
                Ok(saved) => Ok(saved),
                Err(failure) => {
                    let look = || async { Ok(self.version_of(record).await?.map(Saved::Saved)) };
                    self.writer.settle(failure, look).await.map_err(StoreError::on_save)
                }
            };
            if !matches!(saved, Ok(Saved::ConditionFailed)) {
                self.changes.client_changed(&record.client_id);
            }
            saved
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let rotated = self.do_rotate(rotation).await;
            if matches!(rotated, Ok(Rotated::Rotated | Rotated::Reused) | Err(_)) {
                self.changes.client_changed(&rotation.successor.client_id);
            }
            rotated.map_err(StoreError::on_save)
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        let work = Revoke { revocation: revocation.clone(), if_version };
        let changes = Arc::clone(&self.changes);
        let revocation = revocation.clone();
        let announce = move |answer: Option<&Revoked>| {
            // The count of all sessions is no proof that there were none.
            let has_done_nothing = revocation != Revocation::All
                && matches!(answer, Some(Revoked::Sessions(0) | Revoked::ConditionFailed));
            if !has_done_nothing {
                changes.revoked(&revocation);
            }
        };
        Box::pin(self.revoker.revoke(work, announce))
    }

    fn revoke_access<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, u64> {
        let work = RevokeAccess { client_id: client_id.to_owned(), session: session.map(str::to_owned) };
        let changes = Arc::clone(&self.changes);
        let client_id = client_id.to_owned();
        let announce = move |answer: Option<&u64>| {
            if answer != Some(&0) {
                changes.client_changed(&client_id);
            }
        };
        Box::pin(self.revoker.revoke(work, announce))
    }

    fn list<'a>(&'a self, filter: &'a SessionFilter) -> StoreFuture<'a, SessionPage> {
        Box::pin(list(&self.aside, filter))
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        const SPEND: &str = "INSERT INTO fastauth.ticket VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING expires_at";
        Box::pin(async move {
            let spent = self.writer.execute(&Query::new(SPEND, [ticket.into(), expires_at.into()])).await;
            spent.map(|rows| !rows.is_empty()).map_err(Failure::into_error)
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        const BEAT: &str = "UPDATE fastauth.upkeep SET beat = clock_timestamp() RETURNING 1";
        Box::pin(async move {
            current_of(&self.readers, "", None).await?;
            self.writer.execute(&Query::new(BEAT, [])).await.map(drop).map_err(Failure::into_error)
        })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }

    fn log(&self) -> Option<&dyn ChangeLog> {
        self.writer.keeps_log().then_some(&*self.log as &dyn ChangeLog)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
