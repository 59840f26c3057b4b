//! Writing: attempts, time-outs, and what becomes of a write whose answer was lost.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use fastauth_core::store::{StoreError, StoreErrorKind};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::{Error, Row};

use super::{
    error::{Failure, is_conflict, is_lost, is_of_pooler, said, timed_out},
    server::{Server, take},
    transaction::{Manner, Transaction, Work},
    value::{Query, run},
};

/// How long a write is tried. The server ends its statements before that.
const WRITING: Duration = Duration::from_millis(6500);
/// How long a write is looked for whose answer was lost.
const SETTLING: Duration = Duration::from_secs(3);
/// The longest time for which a revocation is tried. Its caller gets an error after [`PATIENCE`].
const REVOKING: Duration = Duration::from_secs(60);
/// How long a call may take in all.
pub(crate) const PATIENCE: Duration = Duration::from_millis(9500);
/// The pause before a revocation is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Connections to write with, and how they are used.
#[derive(Clone)]
pub(crate) struct Writer {
    server: Server,
    pool: Pool,
    keeps_log: bool,
    /// Woken by everything that is written to the log.
    written: Arc<Notify>,
}

impl Writer {
    pub(crate) fn new(server: Server, size: usize, keeps_log: bool, written: Arc<Notify>) -> Result<Self, StoreError> {
        Ok(Self { pool: server.pool(size)?, server, keeps_log, written })
    }

    /// Notes that there may be a new change.
    pub(crate) fn note_change(&self) {
        if self.keeps_log {
            self.written.notify_one();
        }
    }

    pub(crate) fn keeps_log(&self) -> bool {
        self.keeps_log
    }

    /// Does work, again on another connection as long as it is certain that it was not done.
    pub(crate) async fn write<W: Work>(&self, work: &W) -> Result<W::Answer, Failure> {
        self.repeat(|deadline| self.transact(work, deadline)).await
    }

    /// Runs one statement, which is a transaction of its own.
    pub(crate) async fn execute(&self, query: &Query) -> Result<Vec<Row>, Failure> {
        self.repeat(|deadline| self.try_execute(query, deadline)).await
    }

    async fn repeat<T, F>(&self, attempt: impl Fn(Instant) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + WRITING;
        loop {
            let failure = match attempt(deadline).await {
                Err(failure @ Failure::NotWritten(_)) => failure,
                done => return done,
            };
            if timeout_at(deadline, sleep(PAUSE)).await.is_err() {
                return Err(failure);
            }
        }
    }

    async fn transact<W: Work>(&self, work: &W, deadline: Instant) -> Result<W::Answer, Failure> {
        let connection = self.connection(deadline).await?;
        let is_committing = AtomicBool::new(false);
        let done = timeout_at(deadline, async {
            let manner = Manner { is_pooled: self.server.is_pooled(), keeps_log: self.keeps_log };
            work.run(Transaction::begin(&connection, manner, work.client_id(), &is_committing).await?).await
        });
        let done = done.await;
        let may_be_written = is_committing.load(Ordering::Relaxed);
        if may_be_written {
            self.note_change();
        }
        self.judge(connection, done.ok(), may_be_written)
    }

    async fn try_execute(&self, query: &Query, deadline: Instant) -> Result<Vec<Row>, Failure> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        const LIMIT: &str = "SELECT set_config('statement_timeout', '5s', true)";
        let connection = self.connection(deadline).await?;
        let is_pooled = self.server.is_pooled();
        let done = timeout_at(deadline, async {
            if !is_pooled {
                return run(&connection, false, std::slice::from_ref(query)).await;
            }
            let queries = [Query::new(BEGIN, []), Query::new(LIMIT, []), query.clone(), Query::new("COMMIT", [])];
            Ok(run(&connection, true, &queries).await?.into_iter().skip(2).collect())
        });
        let done = done.await;
        let rows = self.judge(connection, done.ok(), true)?;
        Ok(rows.into_iter().flatten().collect())
    }

    async fn connection(&self, deadline: Instant) -> Result<Object, Failure> {
        let taken = timeout_at(deadline, take(&self.pool)).await;
        taken.unwrap_or_else(|_| Err(timed_out())).map_err(Failure::NotWritten)
    }

    /// Says what became of an attempt, of which `None` has not ended in time. A connection of which that is not clear is closed, which
    /// rolls back what is open.
    fn judge<T>(&self, connection: Object, done: Option<Result<T, Error>>, may_be_written: bool) -> Result<T, Failure> {
        let error = match done {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => error,
            None => {
                drop(Object::take(connection));
                let failure = if may_be_written { Failure::Unknown } else { Failure::NotWritten };
                return Err(failure(timed_out()));
            }
        };
        self.server.learn(&error);
        drop(Object::take(connection));
        Err(if is_of_pooler(&error) || is_conflict(&error) || (is_lost(&error) && !may_be_written) {
            Failure::NotWritten(said(&error))
        } else if is_lost(&error) {
            Failure::Unknown(said(&error))
        } else {
            Failure::Refused(said(&error))
        })
    }

    /// Does a revocation, which goes on if its caller leaves, and for up to a minute if the server cannot be reached. After each
    /// attempt, `done` gets the answer, or `None` if that was lost. It also gets `None` after the attempts that follow, which find
    /// nothing to do if the lost one was done after all.
    pub(crate) async fn revoke<W: Work>(
        &self,
        work: W,
        done: impl Fn(Option<&W::Answer>) + Send + 'static,
    ) -> Result<W::Answer, StoreError> {
        let writer = self.clone();
        let is_late = Arc::new(AtomicBool::new(false));
        let has_left = Left(Arc::clone(&is_late));
        let task = tokio::spawn(async move {
            let started = Instant::now();
            let mut was_lost = false;
            loop {
                let failure = match writer.write(&work).await {
                    Ok(answer) => {
                        if was_lost {
                            writer.note_change();
                        }
                        done((!was_lost).then_some(&answer));
                        return Ok(answer);
                    }
                    Err(failure) => failure,
                };
                done(None);
                was_lost = true;
                if matches!(failure, Failure::Refused(_)) || started.elapsed() > REVOKING {
                    let error = failure.into_error();
                    if is_late.load(Ordering::Relaxed) {
                        let error = error.with_causes();
                        tracing::error!(target: "fastauth", "a revocation failed after its caller went away: {error}");
                    }
                    return Err(error);
                }
                sleep(PAUSE).await;
            }
        });
        match timeout(PATIENCE, task).await {
            Ok(Ok(answer)) => {
                has_left.disarm();
                answer
            }
            Ok(Err(_)) => Err(StoreError::new(StoreErrorKind::Failed, "the revocation was interrupted")),
            Err(_) => Err(StoreError::new(
                StoreErrorKind::TimedOut,
                "the revocation is delayed, for the database server does not answer; it is retried for up to a minute",
            )),
        }
    }

    /// Looks for a write whose answer was lost, and returns its answer if it was done.
    pub(crate) async fn settle<T, F>(&self, failure: Failure, look: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let Failure::Unknown(error) = failure else { return Err(failure.into_error()) };
        let found = timeout(SETTLING, async {
            loop {
                match look().await {
                    Ok(found) => return found,
                    Err(_) => sleep(PAUSE).await,
                }
            }
        });
        match found.await {
            Ok(Some(answer)) => Ok(answer),
            // The server may still be at it.
            Ok(None) | Err(_) => Err(StoreError::new(
                StoreErrorKind::TimedOut,
                "the answer of the database server was lost, and the write is not there yet",
            )
            .caused_by(error)),
        }
    }
}

/// Notes that the caller does not wait any more.
struct Left(Arc<AtomicBool>);

impl Left {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
