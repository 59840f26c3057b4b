//! The log of a store in memory.

use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{Held, HeldSession, MemoryStore, lock};
use crate::{
    random::random_uuid,
    store::{
        Change, ChangeKind, ChangeLog, LiveSession, LogPage, LogPoint, LogReader, StoreError, StoreErrorKind,
        StoreFuture,
    },
};

/// The number of changes that are kept.
const KEPT: usize = 65_536;
/// The number of changes in a page.
const PAGE: usize = 1000;
/// How long a reader waits for a change.
const PATIENCE: Duration = Duration::from_secs(1);

/// The changes that were made last.
pub(super) struct RecentChanges {
    epoch: String,
    last: u64,
    changes: VecDeque<Change>,
    /// Wakes the readers.
    wake: watch::Sender<()>,
}

impl Default for RecentChanges {
    fn default() -> Self {
        Self { epoch: new_epoch(), last: 0, changes: VecDeque::new(), wake: watch::Sender::new(()) }
    }
}

fn new_epoch() -> String {
    random_uuid().replace('-', "")
}

impl RecentChanges {
    pub(super) fn note(&mut self, kind: ChangeKind, client_id: Option<&str>, session: Option<&str>, version: u64) {
        self.last += 1;
        if self.changes.len() == KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            number: self.last,
            kind,
            client_id: client_id.map(str::to_owned),
            session: session.map(str::to_owned),
            version,
            current: None,
        });
        self.wake.send_replace(());
    }

    fn end(&self) -> LogPoint {
        LogPoint { epoch: self.epoch.clone(), number: self.last }
    }

    fn reaches(&self, point: &LogPoint) -> bool {
        let first = self.last - self.changes.len() as u64;
        point.epoch == self.epoch && (first..=self.last).contains(&point.number)
    }
}

impl Held {
    fn live_session(&self, client_id: &str, session: &str) -> Option<LiveSession> {
        let held = self.clients.get(client_id)?.sessions.get(session)?;
        held.is_live().then(|| self.as_live(held))
    }

    fn as_live(&self, held: &HeldSession) -> LiveSession {
        LiveSession {
            client_id: held.record.client_id.clone(),
            session: held.record.session.clone(),
            tokens: held.current(self.clock.elapsed()),
            access_expires_at: held.record.access.expires_at,
        }
    }

    /// Returns the changes after a point, or `None` if they are not kept any more. After a restart, the page is empty.
    fn page(&self, after: &LogPoint) -> Option<LogPage> {
        let as_of = Instant::now();
        if after.epoch != self.log.epoch {
            return Some(LogPage { changes: Vec::new(), point: self.log.end(), as_of, has_more: false });
        }
        if !self.log.reaches(after) {
            return None;
        }
        let new = (self.log.last - after.number) as usize;
        let skipped = self.log.changes.len() - new;
        let changes: Vec<_> =
            self.log.changes.iter().skip(skipped).take(PAGE).map(|change| self.with_state(change)).collect();
        let number = changes.last().map_or(after.number, |change| change.number);
        let point = LogPoint { number, ..after.clone() };
        Some(LogPage { changes, point, as_of, has_more: number < self.log.last })
    }

    fn with_state(&self, change: &Change) -> Change {
        let session = change.client_id.as_deref().zip(change.session.as_deref());
        Change { current: session.and_then(|(client_id, name)| self.live_session(client_id, name)), ..change.clone() }
    }
}

impl ChangeLog for MemoryStore {
    fn follow<'a>(&'a self, since: Option<&'a LogPoint>) -> StoreFuture<'a, Option<Box<dyn LogReader>>> {
        Box::pin(async move {
            let held = self.held();
            if since.is_some_and(|since| !held.log.reaches(since)) {
                return Ok(None);
            }
            let point = since.cloned().unwrap_or_else(|| held.log.end());
            let woken = held.log.wake.subscribe();
            let reader = MemoryReader { held: Arc::clone(&self.held), point, woken, is_first: true };
            Ok(Some(Box::new(reader) as Box<dyn LogReader>))
        })
    }

    fn sessions<'a>(&'a self, after: Option<&'a (String, String)>, limit: usize) -> StoreFuture<'a, Vec<LiveSession>> {
        Box::pin(async move {
            let held = self.held();
            let (client_id, session) = after.map_or(("", ""), |(client_id, session)| (client_id, session));
            let clients = held.clients.range::<str, _>((Bound::Included(client_id), Bound::Unbounded));
            let live = clients.flat_map(|(id, client)| {
                let from = match after {
                    Some(_) if id == client_id => Bound::Excluded(session),
                    _ => Bound::Unbounded,
                };
                client.sessions.range::<str, _>((from, Bound::Unbounded)).map(|(_, held)| held)
            });
            Ok(live.filter(|session| session.is_live()).take(limit).map(|session| held.as_live(session)).collect())
        })
    }

    fn restart(&self) -> StoreFuture<'_, LogPoint> {
        Box::pin(async {
            let mut held = self.held();
            held.log.epoch = new_epoch();
            held.log.wake.send_replace(());
            Ok(held.log.end())
        })
    }
}

struct MemoryReader {
    held: Arc<Mutex<Held>>,
    point: LogPoint,
    woken: watch::Receiver<()>,
    is_first: bool,
}

impl MemoryReader {
    fn read(&mut self) -> Result<LogPage, StoreError> {
        self.woken.mark_unchanged();
        let page = lock(&self.held).page(&self.point);
        let page = page.ok_or_else(|| {
            StoreError::new(StoreErrorKind::Failed, "the log in memory does not reach back to where it was read")
        })?;
        self.point = page.point.clone();
        self.is_first = false;
        Ok(page)
    }
}

impl LogReader for MemoryReader {
    fn point(&self) -> LogPoint {
        self.point.clone()
    }

    fn next(&mut self) -> StoreFuture<'_, LogPage> {
        Box::pin(async move {
            if self.is_first {
                return self.read();
            }
            let has_new = lock(&self.held).log.end() != self.point;
            if !has_new && matches!(timeout(PATIENCE, self.woken.changed()).await, Ok(Err(_))) {
                return Err(StoreError::new(StoreErrorKind::Failed, "the store in memory is gone"));
            }
            self.read()
        })
    }
}
