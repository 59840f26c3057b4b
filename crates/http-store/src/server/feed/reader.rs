//! A reader of the feed: what it was told, and what comes next.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::sleep,
};

use super::{Feed, PAUSES, page::FeedPage};
use crate::{server::reply::StoreProblem, wire::feed::HeartbeatBody};
use fastauth_core::store::{LogPage, LogPoint, LogReader, StoreError};

/// The age that is stated while changes are outstanding which the log has, longer than any that a reader trusts.
const OUT_OF_DATE: Duration = Duration::from_secs(3600);

/// A reader, and its place.
pub(super) struct FeedReader {
    feed: Arc<Feed>,
    news: watch::Receiver<()>,
    /// The number of the next page of the hub.
    next_page: u64,
    /// Reads the log up to that page.
    log: Option<Box<dyn LogReader>>,
    point: LogPoint,
    /// Since when the reader knows everything up to its point; `None` if the log has more.
    as_of: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

/// What a reader is told next.
pub(super) enum News {
    Page(Arc<FeedPage>),
    /// It has read the log, and knows everything.
    CaughtUp,
    /// The server stops.
    Moved,
    /// It was too slow.
    CutOff,
}

impl FeedReader {
    /// Begins after `since`, or now. The second value is `since`, if it cannot go on from there.
    pub(super) async fn join(
        feed: &Arc<Feed>,
        since: Option<LogPoint>,
    ) -> Result<(Self, Option<LogPoint>), StoreProblem> {
        let Some(log) = feed.store.log() else {
            return Err(StoreError::unsupported("the token store keeps no log of its changes").into());
        };
        let place = feed.place()?;
        feed.started().await?;
        let news = feed.news.subscribe();
        // First the hub's place, and then the log, so that nothing is missed in between.
        let (next_page, now) = {
            let recent = feed.recent();
            (recent.end(), recent.now.clone())
        };
        let now = now.ok_or_else(|| StoreProblem::unavailable("the token store failed: try again"))?;
        let log = match &since {
            Some(since) => log.follow(Some(since)).await?,
            None => None,
        };
        let is_caught_up = log.is_none();
        let lost = since.clone().filter(|_| is_caught_up);
        let point = since.filter(|_| !is_caught_up).unwrap_or(now.point);
        let as_of = is_caught_up.then_some(now.as_of);
        Ok((Self { feed: Arc::clone(feed), news, next_page, log, point, as_of, _place: place }, lost))
    }

    pub(super) fn point(&self) -> &LogPoint {
        &self.point
    }

    /// Returns true while the log has changes that it was not told.
    pub(super) fn is_behind(&self) -> bool {
        self.log.is_some()
    }

    /// Returns what comes next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> News {
        loop {
            self.news.mark_unchanged();
            if self.feed.recent().is_stopped {
                return News::Moved;
            }
            if let Some(log) = &mut self.log {
                let page = log.next().await;
                match self.take(page).await {
                    Some(news) => return news,
                    None => continue,
                }
            }
            if let Some(news) = self.of_hub() {
                return news;
            }
            if self.news.changed().await.is_err() {
                return News::Moved;
            }
        }
    }

    /// Takes a page of the log.
    async fn take(&mut self, page: Result<LogPage, StoreError>) -> Option<News> {
        let page = match page {
            Ok(page) => page,
            // The hub logs that the store fails.
            Err(_) => {
                sleep(PAUSES[0]).await;
                return self.again().await;
            }
        };
        let is_last = !page.has_more;
        let as_of = page.as_of;
        let page = FeedPage::new(&self.point, page);
        self.point = page.after().clone();
        if is_last {
            let recent = self.feed.recent();
            if self.next_page >= recent.dropped {
                self.log = None;
                self.as_of = Some(as_of);
            } else {
                // The hub has gone on too far while the log was read. What it has now is in the next page of the log.
                self.next_page = recent.end();
            }
        }
        if !page.is_empty() {
            self.count(&page);
            return Some(News::Page(Arc::new(page)));
        }
        self.log.is_none().then_some(News::CaughtUp)
    }

    /// Follows the log again after a failure: with the hub, and with a reset, if it does not reach back.
    async fn again(&mut self) -> Option<News> {
        let followed = self.feed.store.log()?.follow(Some(&self.point)).await.ok()?;
        if followed.is_some() {
            self.log = followed;
            return None;
        }
        let recent = self.feed.recent();
        let now = recent.now.clone()?;
        self.next_page = recent.end();
        self.log = None;
        self.point = now.point.clone();
        self.as_of = Some(now.as_of);
        Some(News::Page(Arc::new(FeedPage::reset(now.point, now.as_of))))
    }

    /// Returns the next page of the hub, if there is one.
    fn of_hub(&mut self) -> Option<News> {
        let recent = self.feed.recent();
        let Some(place) = self.next_page.checked_sub(recent.dropped) else {
            self.feed.cut_off.fetch_add(1, Ordering::Relaxed);
            return Some(News::CutOff);
        };
        let page = Arc::clone(recent.pages.get(place as usize)?);
        drop(recent);
        self.next_page += 1;
        self.point = page.after().clone();
        self.as_of = Some(page.as_of());
        self.count(&page);
        Some(News::Page(page))
    }

    fn count(&self, page: &FeedPage) {
        self.feed.sent.fetch_add(page.changes().len() as u64, Ordering::Relaxed);
    }

    /// Returns where the reader is, and how up to date. It is where the hub is if the hub has told it everything.
    pub(super) fn heartbeat(&mut self) -> HeartbeatBody {
        let recent = self.feed.recent();
        if let Some(now) = recent.now.as_ref().filter(|_| self.log.is_none() && self.next_page == recent.end()) {
            self.point = now.point.clone();
            self.as_of = Some(now.as_of);
        }
        beat(&self.point, self.as_of.map_or(OUT_OF_DATE, |as_of| as_of.elapsed()))
    }
}

/// Returns the heartbeat of a reader that cannot rely on what it knows.
pub(super) fn out_of_date(point: &LogPoint) -> HeartbeatBody {
    beat(point, OUT_OF_DATE)
}

fn beat(point: &LogPoint, age: Duration) -> HeartbeatBody {
    HeartbeatBody { point: point.to_string(), db_ok_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX) }
}
