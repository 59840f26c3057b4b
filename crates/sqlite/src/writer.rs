//! The connection that writes: one transaction for all that has queued up, and the watch on other processes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastauth_core::{clock::Clock, store::Changes};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::{
    cleaning::{CLEANED_AT_ONCE, Sweep},
    error::{file_lost, is_busy, unwritable},
    presence::Presence,
    queue::{WATCH_INTERVAL, Write, WriteFailure},
    schema::{LOGGED, NEEDS_LOG},
    tables::Tables,
};

/// How long after a look at the file no write of another process can have been missed.
const WATCHED_MS: u64 = 50;
/// How long SQLite waits for the lock at a time, so that the watch goes on while the lock is held.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(15);
/// How often readers of the log look at it without changes, which shows that the file can be read.
const TELLING_INTERVAL: Duration = Duration::from_millis(500);
/// How often rows are deleted that no call can ask for.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);
/// The most transactions that remove revoked tokens when the store is closed, with at most a thousand sessions each.
const SWEPT_AT_CLOSE: usize = 100;
/// How often the file is marked as needing its log. SQLite clears the mark each time it writes the log back.
const MARKING_INTERVAL: Duration = Duration::from_secs(60);
/// How long a successful write proves that the file can be written.
const PROOF: Duration = Duration::from_secs(10);
/// The size of the log from which a warning is logged, and how often.
const LARGE_LOG: u64 = 64 << 20;
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The one connection that writes.
pub(super) struct Writer {
    pub(super) connection: Connection,
    changes: Arc<Changes>,
    /// Wakes those who read the log.
    news: watch::Sender<()>,
    clock: Clock,
    presence: Arc<Presence>,
    watched: Option<Instant>,
    data_version: Option<i64>,
    /// When the readers of the log were woken last, though there might be nothing to read.
    told: Instant,
    cleaned: Instant,
    marked: Instant,
    /// The time of the last write, if none has failed since.
    proven_at: Option<Instant>,
    has_written: bool,
    /// Tokens that this process has revoked may still be in their rows.
    owes_sweep: bool,
    sweep: Sweep,
    pub(super) warned: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        changes: Arc<Changes>,
        news: watch::Sender<()>,
        clock: Clock,
        presence: Arc<Presence>,
    ) -> Self {
        Self {
            connection,
            changes,
            news,
            clock,
            presence,
            watched: None,
            data_version: None,
            told: Instant::now(),
            cleaned: Instant::now(),
            marked: Instant::now(),
            proven_at: None,
            has_written: false,
            owes_sweep: false,
            sweep: Sweep::default(),
            warned: None,
        }
    }

    /// Applies `writes` in order, in one transaction: all of them are on the disk when this returns, or none. Looks for writes of
    /// other processes as well, if it is time.
    pub(super) fn commit(&mut self, writes: &mut [Write]) -> Result<(), WriteFailure> {
        let result = if writes.is_empty() { Ok(()) } else { self.write(writes) };
        let commands = writes.iter().map(|write| &write.command);
        match &result {
            Ok(()) => commands.filter(|command| command.has_changed_tokens()).for_each(|it| it.announce(&self.changes)),
            // It may be on the disk all the same.
            Err(WriteFailure::Failed(_)) => commands.for_each(|command| command.announce(&self.changes)),
            Err(WriteFailure::Locked(_)) => {}
        }
        if !writes.is_empty() && !matches!(result, Err(WriteFailure::Locked(_))) {
            self.news.send_replace(());
        }
        if self.watched.is_none_or(|watched| watched.elapsed() >= WATCH_INTERVAL) {
            self.watch();
        }
        result
    }

    fn write(&mut self, writes: &mut [Write]) -> Result<(), WriteFailure> {
        if !self.presence.check() {
            return Err(WriteFailure::Failed(file_lost()));
        }
        let clean = self.cleaned.elapsed() > CLEANING_INTERVAL;
        if let Err(error) = self.run(writes, clean) {
            self.proven_at = None;
            let failure = if is_busy(&error) { WriteFailure::Locked } else { WriteFailure::Failed };
            return Err(failure(unwritable(error)));
        }
        // A write to a file that no other process sees must not be acknowledged.
        if !self.presence.check() {
            return Err(WriteFailure::Failed(file_lost()));
        }
        Ok(())
    }

    /// Looks for writes of other processes, and whether the file is there. If that fails, the time up to which changes are known
    /// does not move.
    pub(super) fn watch(&mut self) {
        let now_ms = self.clock.unix_now_ms();
        if !self.presence.check() {
            // Once is enough: no stamp from before is valid after it.
            if self.data_version.take().is_some() {
                self.changes.anything_changed();
            }
            self.news.send_replace(());
            self.watched = Some(Instant::now());
            return;
        }
        self.warn_of_large_log();
        let Ok(version) = self.connection.pragma_query_value(None, "data_version", |row| row.get(0)) else { return };
        if self.data_version.replace(version) != Some(version) {
            self.changes.others_changed();
            self.news.send_replace(());
            self.told = Instant::now();
        } else if self.told.elapsed() >= TELLING_INTERVAL {
            self.news.send_replace(());
            self.told = Instant::now();
        }
        self.changes.watched_until(now_ms.saturating_add(WATCHED_MS));
        self.watched = Some(Instant::now());
    }

    fn warn_of_large_log(&mut self) {
        if self.warned.is_some_and(|warned| warned.elapsed() < WARNING_INTERVAL) {
            return;
        }
        let size = self.presence.log_size();
        if size < LARGE_LOG {
            return;
        }
        self.warned = Some(Instant::now());
        tracing::warn!(
            target: "fastauth",
            "the log of the token database has grown to {} MiB: another program has been reading the database for a long time \
             (a forgotten `sqlite3` or backup?), and the log cannot be cut back before it ends",
            size >> 20
        );
    }

    pub(super) fn run(&mut self, writes: &mut [Write], clean: bool) -> rusqlite::Result<()> {
        let before = self.connection.total_changes();
        // IMMEDIATE takes the lock, and waits for it, here and not between reading and writing.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_proven = self.proven_at.is_some_and(|written| written.elapsed() < PROOF);
        let mut tables = Tables::open(&transaction, self.clock.unix_now_ms(), is_proven)?;
        for write in &mut *writes {
            write.command.apply(&mut tables)?;
        }
        let mut sweep = self.sweep.clone();
        // If there is more to clean, the next write goes on.
        let is_clean = clean && tables.clean(&mut sweep)? < CLEANED_AT_ONCE;
        let needs_mark = tables.close(self.marked.elapsed() > MARKING_INTERVAL)?;
        transaction.commit()?;
        self.sweep = sweep;
        self.owes_sweep |= writes.iter().any(|write| write.command.is_revocation());
        if is_clean {
            self.cleaned = Instant::now();
            self.owes_sweep = false;
        }
        if self.connection.total_changes() != before {
            self.proven_at = Some(Instant::now());
            self.has_written = true;
        }
        if needs_mark && let Err(error) = self.mark() {
            // Without the mark, the loss of the log goes unnoticed.
            tracing::debug!(target: "fastauth", %error, "the token database was not marked as in use");
        }
        Ok(())
    }

    /// Marks the file itself as needing its log, and the log as being there. If other processes prevent it, the next write tries
    /// again.
    fn mark(&mut self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        let logged = "UPDATE store SET closed = ?1 WHERE closed = ?2";
        self.connection.execute(logged, [LOGGED, NEEDS_LOG])?;
        self.marked = Instant::now();
        Ok(())
    }

    /// Removes the tokens that this process has revoked from their rows, for it may have ended before the next cleaning. If there are
    /// many, or another program holds the lock, a process that goes on does it.
    fn sweep_at_close(&mut self) {
        for _ in 0..SWEPT_AT_CLOSE {
            if !self.owes_sweep || self.run(&mut [], true).is_err() {
                return;
            }
        }
    }

    /// Marks the file as closed in order, if this process has written to it or has checked it.
    pub(super) fn close(&mut self, was_checked: bool) {
        if !(self.has_written || was_checked) || !self.presence.check() {
            return;
        }
        self.sweep_at_close();
        let closed = self.connection.execute("UPDATE store SET closed = version WHERE closed <> version", []);
        // Without the mark, the file is checked at the next start.
        if let Err(error) = closed {
            tracing::debug!(target: "fastauth", %error, "the token database was not marked as closed");
        }
    }
}
