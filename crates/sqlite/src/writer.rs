//! The thread that writes, and its queue.

use std::{
    collections::HashSet,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    books::{Books, CLEANED_AT_ONCE, Command, Outcome, Sweep},
    error::{failed, file_lost, is_busy, unwritable},
    presence::Presence,
    schema::{LOGGED, NEEDS_LOG},
};
use fastauth_core::clock::Clock;
use fastauth_core::store::{Changes, StoreError, StoreErrorKind};

/// How often the thread looks for what other processes wrote, and for how long nothing of theirs can have been missed then: what
/// they write counts here after so long at the latest.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);
const WATCHED_MS: u64 = 50;
/// How long a write waits in all for a lock that another process holds, from when it was asked for: as long as a compaction by
/// another process takes, and less than a caller's patience.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a revocation is tried, though its caller was told before that it waits for the lock.
pub(super) const REVOCATION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the lock is waited for at a time, so that what others do is looked at meanwhile.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(15);
/// How soon it is tried again: SQLite does not always wait.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// How often rows are deleted that nothing can ask for any more.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);
/// How often the file is told that its log is needed: each time that SQLite writes the log back, it forgets.
const MARKING_INTERVAL: Duration = Duration::from_secs(60);
/// For how long a write shows that others can be done.
const PROOF: Duration = Duration::from_secs(10);
/// Writes that may wait in the queue, and so also the most that one transaction holds, revocations aside: a few tens of
/// milliseconds.
pub(super) const QUEUE: usize = 1024;
/// From which size on the log is complained of, and how often.
const LARGE_LOG: u64 = 64 << 20;
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// One write that waits for its turn.
pub(super) struct Write {
    pub(super) command: Command,
    /// Where its caller waits, until that has been told.
    pub(super) answer: Option<oneshot::Sender<Result<Outcome, StoreError>>>,
    /// When it was asked for.
    pub(super) since: Instant,
    /// Its place in the queue, until it is done. What takes a right away needs none.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

impl Write {
    /// Whether nobody is left to be told of it.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn takes_away(&self) -> bool {
        matches!(self.command, Command::Revoke(..))
    }

    /// Whether it is looked at though its caller has gone: it may take a right away.
    fn is_wanted(&self) -> bool {
        let may_end_something = matches!(self.command, Command::Revoke(..) | Command::Rotate(_) | Command::Spend(..));
        may_end_something || !self.is_abandoned()
    }

    /// Whether it has waited for the lock for as long as it may.
    fn is_late(&self, is_closing: bool) -> bool {
        let is_patient = self.takes_away() && !is_closing;
        self.since.elapsed() >= if is_patient { REVOCATION_TIMEOUT } else { WRITE_TIMEOUT }
    }

    /// Tells the caller of what is still tried that it need not wait.
    fn tell_of_delay(&mut self, error: &StoreError) {
        if self.since.elapsed() < WRITE_TIMEOUT {
            return;
        }
        if let Some(answer) = self.answer.take() {
            let message = "the revocation could not be written yet, and is tried for a minute in all";
            let _ = answer.send(Err(StoreError::new(StoreErrorKind::TimedOut, message).caused_by(error.clone())));
        }
    }

    fn answer(self, done: Result<Outcome, StoreError>) {
        let takes_away = self.takes_away();
        let unheard = match self.answer {
            Some(answer) => answer.send(done).err(),
            None => Some(done),
        };
        if let (true, Some(Err(error))) = (takes_away, unheard) {
            let error = error.with_causes();
            tracing::error!(target: "fastauth", "a revocation was not written, and nobody waits for it any more: {error}");
        }
    }
}

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another program holds the lock. It may be tried again.
    Locked(StoreError),
    Failed(StoreError),
}

/// Takes writes from the queue, as many at once as there are, until the store is dropped. Nothing that goes wrong with
/// one lot of writes keeps the next from being tried; when `commit` panics, its writers hear of it because their
/// `answer` is dropped. Where there is nothing to write for a while, `commit` is given none.
pub(super) fn serve(queue: &Receiver<Write>, mut commit: impl FnMut(&[Write]) -> Result<Vec<Outcome>, Failure>) {
    let mut waiting: Vec<Write> = Vec::new();
    let mut is_closing = false;
    loop {
        if waiting.is_empty() {
            match queue.recv_timeout(WATCH_INTERVAL) {
                Ok(first) => waiting.push(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        is_closing |= gather(queue, &mut waiting);
        let Ok(done) = catch_unwind(AssertUnwindSafe(|| commit(&waiting))) else {
            waiting.clear();
            continue;
        };
        match done {
            Ok(outcomes) => {
                for (write, outcome) in waiting.drain(..).zip(outcomes) {
                    write.answer(Ok(outcome));
                }
            }
            Err(Failure::Locked(error)) => {
                let late = waiting.extract_if(.., |write| write.is_late(is_closing));
                late.for_each(|write| write.answer(Err(error.clone())));
                waiting.iter_mut().for_each(|write| write.tell_of_delay(&error));
                thread::sleep(RETRY_INTERVAL);
            }
            Err(Failure::Failed(error)) => {
                // One of the others may be at fault, and must not keep a revocation from being written.
                let others: Vec<_> = waiting.extract_if(.., |write| !write.takes_away()).collect();
                let failed = if others.is_empty() { mem::take(&mut waiting) } else { others };
                failed.into_iter().for_each(|write| write.answer(Err(error.clone())));
            }
        }
    }
}

/// Takes what has come, what takes a right away first, and says whether nothing more can come.
fn gather(queue: &Receiver<Write>, waiting: &mut Vec<Write>) -> bool {
    let is_closing = loop {
        match queue.try_recv() {
            Ok(write) => waiting.push(write),
            Err(TryRecvError::Empty) => break false,
            Err(TryRecvError::Disconnected) => break true,
        }
    };
    waiting.retain(Write::is_wanted);
    if waiting.len() > QUEUE {
        // Nobody waits for these, and one of each does the same as all.
        let mut known = HashSet::new();
        waiting.retain(|write| match &write.command {
            Command::Revoke(revocation, None) if write.is_abandoned() => known.insert(revocation.clone()),
            _ => true,
        });
    }
    waiting.sort_by_key(|write| !write.takes_away());
    is_closing
}

/// The one connection that writes.
pub(super) struct Writer {
    pub(super) connection: Connection,
    changes: Arc<Changes>,
    clock: Clock,
    presence: Arc<Presence>,
    watched: Option<Instant>,
    data_version: Option<i64>,
    cleaned: Instant,
    /// When the file was told last that its log is needed.
    marked: Instant,
    /// When something was written last, if nothing has failed since.
    proven_at: Option<Instant>,
    has_written: bool,
    sweep: Sweep,
    pub(super) complained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(connection: Connection, changes: Arc<Changes>, clock: Clock, presence: Arc<Presence>) -> Self {
        Self {
            connection,
            changes,
            clock,
            presence,
            watched: None,
            data_version: None,
            cleaned: Instant::now(),
            marked: Instant::now(),
            proven_at: None,
            has_written: false,
            sweep: Sweep::default(),
            complained: None,
        }
    }

    /// Applies `writes` in their order, in one transaction: all are on the disk when this returns, or none. With none, it
    /// only looks for what others wrote.
    pub(super) fn commit(&mut self, writes: &[Write]) -> Result<Vec<Outcome>, Failure> {
        let outcomes = if writes.is_empty() { Ok(Vec::new()) } else { self.write(writes) };
        match &outcomes {
            Ok(outcomes) => {
                let changed = writes.iter().zip(outcomes).filter(|(_, outcome)| outcome.changes_tokens());
                changed.for_each(|(write, _)| announce(&write.command, &self.changes));
            }
            // It may be on the disk all the same.
            Err(Failure::Failed(_)) => writes.iter().for_each(|write| announce(&write.command, &self.changes)),
            Err(Failure::Locked(_)) => {}
        }
        if self.watched.is_none_or(|watched| watched.elapsed() >= WATCH_INTERVAL) {
            self.watch();
        }
        outcomes
    }

    fn write(&mut self, writes: &[Write]) -> Result<Vec<Outcome>, Failure> {
        if !self.presence.look() {
            return Err(Failure::Failed(file_lost()));
        }
        let clean = self.cleaned.elapsed() > CLEANING_INTERVAL;
        let outcomes = self.run(writes, clean).map_err(|error| {
            self.proven_at = None;
            match is_busy(&error) {
                true => Failure::Locked(unwritable(error)),
                false => Failure::Failed(unwritable(error)),
            }
        })?;
        // What went to a file that nobody else sees is not acknowledged.
        if !self.presence.look() {
            return Err(Failure::Failed(file_lost()));
        }
        Ok(outcomes)
    }

    /// Looks for what others wrote, and for the file. Where that fails, nothing is known of it, and the next look says more.
    pub(super) fn watch(&mut self) {
        let now_ms = self.clock.unix_now_ms();
        if !self.presence.look() {
            // Once is enough, for nothing counts any more that was known before.
            if self.data_version.take().is_some() {
                self.changes.anything_changed();
            }
            self.watched = Some(Instant::now());
            return;
        }
        self.look_at_log();
        let Ok(version) = self.connection.pragma_query_value(None, "data_version", |row| row.get(0)) else { return };
        if self.data_version.replace(version) != Some(version) {
            self.changes.others_changed();
        }
        self.changes.watched_until(now_ms.saturating_add(WATCHED_MS));
        self.watched = Some(Instant::now());
    }

    /// Complains of a log that grows because somebody reads in it without an end.
    fn look_at_log(&mut self) {
        if self.complained.is_some_and(|complained| complained.elapsed() < COMPLAINT_INTERVAL) {
            return;
        }
        let size = self.presence.log_size();
        if size < LARGE_LOG {
            return;
        }
        self.complained = Some(Instant::now());
        tracing::warn!(
            target: "fastauth",
            "the log of the token database has grown to {} MiB: another program has been reading the database for a long time \
             (a forgotten `sqlite3` or backup?), and the log cannot be cut back before it ends",
            size >> 20
        );
    }

    pub(super) fn run(&mut self, writes: &[Write], clean: bool) -> rusqlite::Result<Vec<Outcome>> {
        let before = self.connection.total_changes();
        // IMMEDIATE: the lock is taken, and waited for, here and not between reading and writing.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_proven = self.proven_at.is_some_and(|written| written.elapsed() < PROOF);
        let mut sweep = self.sweep.clone();
        let mut books = Books::open(&transaction, self.clock.unix_now_ms(), is_proven)?;
        let outcomes = writes
            .iter()
            .map(|write| books.apply(&write.command, write.is_abandoned()))
            .collect::<rusqlite::Result<_>>()?;
        // Where there is more of it, the next write goes on.
        let is_clean = clean && books.clean(&mut sweep)? < CLEANED_AT_ONCE;
        let is_first = books.close(self.marked.elapsed() > MARKING_INTERVAL)?;
        transaction.commit()?;
        self.sweep = sweep;
        if is_clean {
            self.cleaned = Instant::now();
        }
        if self.connection.total_changes() != before {
            self.proven_at = Some(Instant::now());
            self.has_written = true;
        }
        if is_first && let Err(error) = self.mark() {
            // Without it, the loss of the log goes unnoticed.
            tracing::debug!(target: "fastauth", %error, "the token database was not marked as in use");
        }
        Ok(outcomes)
    }

    /// Has the file itself say that its log is needed, and the log that it is there. Where others are at it, the next write
    /// goes on.
    fn mark(&mut self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        let logged = "UPDATE store SET closed = ?1 WHERE closed = ?2";
        self.connection.execute(logged, [LOGGED, NEEDS_LOG])?;
        self.marked = Instant::now();
        Ok(())
    }

    /// Notes that the file was left in order, if this has written to it or gone through it.
    pub(super) fn close(&self, was_checked: bool) {
        if !(self.has_written || was_checked) || !self.presence.look() {
            return;
        }
        let noted = self.connection.execute("UPDATE store SET closed = version WHERE closed <> version", []);
        // Without the note, the file is checked at the next start.
        if let Err(error) = noted {
            tracing::debug!(target: "fastauth", %error, "the token database was not noted as in order");
        }
    }
}

fn announce(command: &Command, changes: &Changes) {
    match command {
        Command::Save(record, _) => changes.client_changed(&record.client_id),
        Command::Rotate(rotation) => changes.client_changed(&rotation.successor.client_id),
        Command::Revoke(revocation, _) => changes.revoked(revocation),
        Command::Convert(_) | Command::Spend(..) | Command::Beat => {}
    }
}

/// Says that the thread could not be started.
pub(super) fn not_started(error: std::io::Error) -> StoreError {
    failed("cannot start the thread that writes the token database").caused_by(error)
}
