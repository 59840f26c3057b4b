//! The queue of writes, and the loop of the thread that writes them.

use std::{
    collections::HashSet,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use fastauth_core::store::{StoreError, StoreErrorKind};
use tokio::sync::OwnedSemaphorePermit;

use super::command::Command;

/// How often the thread looks for writes of other processes.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_millis(20);
/// The total time that a write waits for a lock of another process: long enough for a compaction, and less than a caller waits.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(9);
/// The total time that a revocation is tried. Its caller gets an error after [`WRITE_TIMEOUT`].
pub(super) const REVOCATION_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause between two attempts, since SQLite does not always wait for the lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// The number of writes that may wait, and so the largest transaction, revocations not counted: a few tens of milliseconds.
pub(super) const QUEUE: usize = 1024;

/// A write in the queue.
pub(super) struct Write {
    pub(super) command: Command,
    /// When the caller asked for it.
    pub(super) since: Instant,
    /// Its place in the queue. Revocations need none.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

impl Write {
    fn is_wanted(&mut self) -> bool {
        self.command.outlives_caller() || !self.command.is_abandoned()
    }

    /// Returns true if it has waited for the lock as long as it may.
    fn is_late(&self, is_closing: bool) -> bool {
        let is_patient = self.command.is_revocation() && !is_closing;
        self.since.elapsed() >= if is_patient { REVOCATION_TIMEOUT } else { WRITE_TIMEOUT }
    }

    /// Answers the caller of a delayed revocation, which stays in the queue.
    fn report_delay(&mut self, error: &StoreError) {
        if self.since.elapsed() >= WRITE_TIMEOUT {
            let message = "the revocation is delayed by a lock on the token database; it is retried for up to a minute";
            let delay = StoreError::new(StoreErrorKind::TimedOut, message).caused_by(error.clone());
            self.command.send_error(delay);
        }
    }

    fn fail(mut self, error: &StoreError) {
        if !self.command.send_error(error.clone()) && self.command.is_revocation() {
            let error = error.with_causes();
            tracing::error!(target: "fastauth", "a revocation was not written, and its caller has gone: {error}");
        }
    }
}

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum WriteFailure {
    /// Another program holds the lock: try again.
    Locked(StoreError),
    Failed(StoreError),
}

/// Passes writes to `commit`, all that have queued up at a time, until the store is dropped.
///
/// `commit` is also called with no writes, after [`WATCH_INTERVAL`] without any. A failure concerns the writes of that call
/// alone. If `commit` panics, their callers get an error because their replies are dropped.
pub(super) fn serve(queue: &Receiver<Write>, mut commit: impl FnMut(&mut [Write]) -> Result<(), WriteFailure>) {
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
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| commit(&mut waiting))) else {
            waiting.clear();
            continue;
        };
        match result {
            Ok(()) => waiting.drain(..).for_each(|mut write| write.command.send_answer()),
            Err(WriteFailure::Locked(error)) => {
                waiting.extract_if(.., |write| write.is_late(is_closing)).for_each(|write| write.fail(&error));
                waiting.iter_mut().for_each(|write| write.report_delay(&error));
                thread::sleep(RETRY_INTERVAL);
            }
            Err(WriteFailure::Failed(error)) => {
                // One of the other writes may be the cause, so the revocations are tried alone next.
                let others: Vec<_> = waiting.extract_if(.., |write| !write.command.is_revocation()).collect();
                let failed = if others.is_empty() { mem::take(&mut waiting) } else { others };
                failed.into_iter().for_each(|write| write.fail(&error));
            }
        }
    }
}

/// Takes all writes that have queued up, puts revocations first, and returns true if the store was dropped.
fn gather(queue: &Receiver<Write>, waiting: &mut Vec<Write>) -> bool {
    let is_closing = loop {
        match queue.try_recv() {
            Ok(write) => waiting.push(write),
            Err(TryRecvError::Empty) => break false,
            Err(TryRecvError::Disconnected) => break true,
        }
    };
    waiting.retain_mut(Write::is_wanted);
    if waiting.len() > QUEUE {
        drop_duplicates(waiting);
    }
    waiting.sort_by_key(|write| !write.command.is_revocation());
    is_closing
}

/// Drops abandoned revocations that are in the queue more than once.
fn drop_duplicates(waiting: &mut Vec<Write>) {
    let mut known = HashSet::new();
    let mut known_access = HashSet::new();
    waiting.retain(|write| match &write.command {
        Command::Revoke(revocation, None, reply) if reply.is_abandoned() => known.insert(revocation.clone()),
        Command::RevokeAccess(client_id, session, reply) if reply.is_abandoned() => {
            known_access.insert((client_id.clone(), session.clone()))
        }
        _ => true,
    });
}
