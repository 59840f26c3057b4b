//! The change feed: one hub reads the log of the store, and each reader of the feed is told what the hub has read.
//!
//! The hub keeps the last changes. A reader that comes back first reads the log from its point up to them, and a reader that falls behind
//! them is cut off: it comes back, and reads the log.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use self::page::FeedPage;
use super::reply::StoreProblem;
use fastauth_core::store::{LogPoint, LogReader, StoreError, TokenStore};

mod answers;
mod page;
mod reader;

/// How many changes a reader may be behind.
const BACKLOG: usize = 8192;
/// How many readers there may be, unless the application says so.
const READERS: usize = 1024;
/// How long the hub waits after changes, so that those of a busy store are sent together.
const GATHERING: Duration = Duration::from_millis(5);
/// How long the hub goes on without readers.
const IDLE: Duration = Duration::from_secs(10);
/// How long the log may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the hub waits after a failure of the log: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The state of a change feed, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStatus {
    /// The number of readers.
    pub readers: usize,
    /// How long ago the store was asked for changes; `None` while there are no readers.
    pub lag: Option<Duration>,
    /// The number of changes that were sent to readers, since the start.
    pub sent: u64,
    /// The number of readers that were cut off because they were too slow, since the start.
    pub cut_off: u64,
}

/// What all readers of a feed share.
pub(super) struct Feed {
    store: Arc<dyn TokenStore>,
    recent: Mutex<Recent>,
    /// Tells readers to look at `recent`.
    news: watch::Sender<()>,
    places: Arc<Semaphore>,
    most_readers: usize,
    sent: AtomicU64,
    cut_off: AtomicU64,
}

/// What the hub has read last.
#[derive(Default)]
struct Recent {
    pages: VecDeque<Arc<FeedPage>>,
    /// The number of pages that were there before these.
    dropped: u64,
    /// The number of changes in the pages.
    changes: usize,
    /// Where the hub is; `None` until it has begun.
    now: Option<Moment>,
    is_running: bool,
    is_stopped: bool,
}

/// A point, and since when it is known to be the newest.
#[derive(Clone)]
struct Moment {
    point: LogPoint,
    as_of: Instant,
}

impl Recent {
    fn end(&self) -> u64 {
        self.dropped + self.pages.len() as u64
    }

    /// Adds a page, and returns true if it tells something.
    fn add(&mut self, page: FeedPage) -> bool {
        self.now = Some(Moment { point: page.after().clone(), as_of: page.as_of() });
        if page.is_empty() {
            return false;
        }
        self.changes += page.changes().len();
        self.pages.push_back(Arc::new(page));
        while self.changes > BACKLOG
            && let Some(oldest) = self.pages.pop_front()
        {
            self.changes -= oldest.changes().len();
            self.dropped += 1;
        }
        true
    }
}

impl Feed {
    pub(super) fn new(store: Arc<dyn TokenStore>) -> Arc<Self> {
        Self::with_readers(store, READERS)
    }

    pub(super) fn with_readers(store: Arc<dyn TokenStore>, most_readers: usize) -> Arc<Self> {
        let most_readers = most_readers.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            store,
            recent: Mutex::default(),
            news: watch::Sender::new(()),
            places: Arc::new(Semaphore::new(most_readers)),
            most_readers,
            sent: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
        })
    }

    /// Returns true if the store keeps a log.
    pub(super) fn is_offered(&self) -> bool {
        self.store.log().is_some()
    }

    /// Tells all readers to go to another server, and refuses new ones.
    pub(super) fn stop(&self) {
        self.recent().is_stopped = true;
        self.news.send_replace(());
    }

    pub(super) fn status(&self) -> FeedStatus {
        FeedStatus {
            readers: self.readers(),
            lag: self.recent().now.as_ref().map(|now| now.as_of.elapsed()),
            sent: self.sent.load(Ordering::Relaxed),
            cut_off: self.cut_off.load(Ordering::Relaxed),
        }
    }

    /// Returns true if the log has answered a moment ago, or answers now. A store without one has nothing to answer.
    pub(super) async fn is_up(&self) -> bool {
        let now = self.recent().now.clone();
        if let Some(now) = now {
            return now.as_of.elapsed() < PATIENCE;
        }
        match self.store.log() {
            Some(log) => matches!(timeout(PATIENCE, log.follow(None)).await, Ok(Ok(Some(_)))),
            None => true,
        }
    }

    fn readers(&self) -> usize {
        self.most_readers - self.places.available_permits()
    }

    // Only this module's code runs while it is locked, which leaves it whole.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of a reader.
    fn place(self: &Arc<Self>) -> Result<OwnedSemaphorePermit, StoreProblem> {
        if self.recent().is_stopped {
            return Err(StoreProblem::unavailable("this server is stopping: connect to another one, or later"));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| StoreProblem::unavailable("the change feed has as many readers as it takes: try again"))
    }

    /// Starts the hub, unless it runs, and waits until it knows where the log is.
    async fn started(self: &Arc<Self>) -> Result<(), StoreProblem> {
        let mut news = self.news.subscribe();
        let is_running = std::mem::replace(&mut self.recent().is_running, true);
        if !is_running {
            tokio::spawn(run(Arc::downgrade(self)));
        }
        let started = async { while self.recent().now.is_none() && news.changed().await.is_ok() {} };
        let unavailable = |_| StoreProblem::unavailable("the token store failed: try again");
        timeout(PATIENCE, started).await.map_err(unavailable)
    }

    /// Follows the log again after a failure: at its end, and with a reset, if it does not reach back.
    async fn again(&self, reader: &mut Box<dyn LogReader>) -> Result<(), StoreError> {
        let Some(log) = self.store.log() else { return Ok(()) };
        if let Some(same) = log.follow(Some(&reader.point())).await? {
            *reader = same;
            return Ok(());
        }
        let as_of = Instant::now();
        if let Some(other) = log.follow(None).await? {
            self.publish(FeedPage::reset(other.point(), as_of));
            *reader = other;
        }
        Ok(())
    }

    /// Publishes a page.
    fn publish(&self, page: FeedPage) {
        let has_news = self.recent().add(page);
        if has_news {
            self.news.send_replace(());
        }
    }

    /// Returns true if the hub has to go on. Without readers, it forgets what it knows and ends, as the next one starts it again.
    fn goes_on(&self, unread_since: &mut Option<Instant>) -> bool {
        let mut recent = self.recent();
        let is_idle = match self.readers() {
            0 => unread_since.get_or_insert_with(Instant::now).elapsed() > IDLE,
            _ => {
                *unread_since = None;
                false
            }
        };
        if is_idle || recent.is_stopped {
            *recent = Recent { is_stopped: recent.is_stopped, ..Recent::default() };
            return false;
        }
        true
    }
}

/// Reads the log and publishes its pages, for as long as there are readers. It does not keep the store open.
async fn run(feed: Weak<Feed>) {
    let Some(mut reader) = begin(&feed).await else { return };
    let mut unread_since = None;
    let mut pause = None;
    loop {
        let before = reader.point();
        let page = reader.next().await;
        let Some(feed) = feed.upgrade() else { return };
        let page = match page {
            Ok(page) => Ok(page),
            Err(error) => feed.again(&mut reader).await.and(Err(error)),
        };
        let wait = match page {
            Ok(page) => {
                pause = None;
                let wait = if page.changes.is_empty() || page.has_more { Duration::ZERO } else { GATHERING };
                feed.publish(FeedPage::new(&before, page));
                wait
            }
            Err(error) => fail(&error, &mut pause),
        };
        if !feed.goes_on(&mut unread_since) {
            return;
        }
        drop(feed);
        sleep(wait).await;
    }
}

/// Begins at the end of the log.
async fn begin(feed: &Weak<Feed>) -> Option<Box<dyn LogReader>> {
    let mut unread_since = None;
    let mut pause = None;
    loop {
        let feed = feed.upgrade()?;
        let as_of = Instant::now();
        let wait = match feed.store.log()?.follow(None).await {
            Ok(Some(reader)) => {
                feed.recent().now = Some(Moment { point: reader.point(), as_of });
                feed.news.send_replace(());
                return Some(reader);
            }
            Ok(None) => PAUSES[1],
            Err(error) => fail(&error, &mut pause),
        };
        if !feed.goes_on(&mut unread_since) {
            return None;
        }
        drop(feed);
        sleep(wait).await;
    }
}

/// Logs the first of several failures, and returns how long to wait after this one.
fn fail(error: &StoreError, pause: &mut Option<Duration>) -> Duration {
    let Some(last) = *pause else {
        let error = error.with_causes();
        tracing::error!(target: "fastauth", "the change feed cannot read the log of the token store, and tries again: {error}");
        return *pause.insert(PAUSES[0]);
    };
    *pause.insert((last * 2).min(PAUSES[1]))
}
