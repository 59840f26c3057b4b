//! The answers of the feed: a stream of events, a long poll, and the snapshot.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream::unfold};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    Feed, PATIENCE,
    page::{Detail, FeedPage, one_event, reset},
    reader::{FeedReader, News, out_of_date},
};
use crate::{
    server::{
        body::StoreBody,
        reply::{StoreProblem, StoreReply, empty, json_reply},
        route::parameter,
    },
    wire::feed::{ChangeBody, EndBody, LiveBody, MOST_AT_ONCE, PointBody, PollBody, event},
};
use fastauth_core::store::{LogPoint, StoreError};

/// How often a reader is told that the stream lives.
const BEAT: Duration = Duration::from_secs(1);
/// The longest that a poll waits.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The number of sessions that a snapshot reads at once.
const SNAPSHOT_PAGE: usize = 500;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx to pass events on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the caller of the feed asks for.
struct FeedCall {
    since: Option<LogPoint>,
    detail: Detail,
    wait: Option<Duration>,
}

impl FeedCall {
    fn parse(query: &str, headers: &HeaderMap) -> Result<Self, StoreProblem> {
        let detail = match parameter(query, "detail")?.as_deref() {
            None => Detail::Names,
            Some("digest") => Detail::Digests,
            Some(_) => return Err(StoreProblem::bad_request("detail must be digest")),
        };
        let wait = match parameter(query, "wait")?.map(|wait| wait.parse()) {
            None => None,
            Some(Ok(seconds)) => Some(Duration::from_secs(seconds).min(MAX_WAIT)),
            Some(Err(_)) => return Err(StoreProblem::bad_request("wait must be a number of seconds")),
        };
        let last = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?").to_owned());
        let since = match last {
            Some(last) => Some(last),
            None => parameter(query, "since")?.map(Cow::into_owned),
        };
        let since = since.map(|since| since.parse()).transpose();
        let since = since.map_err(|error| StoreProblem::bad_request(format!("since, or Last-Event-ID: {error}")))?;
        Ok(Self { since, detail, wait })
    }
}

impl Feed {
    /// Answers with the changes from a point on.
    pub(in crate::server) async fn changes(
        self: &Arc<Self>,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<StoreReply, StoreProblem> {
        let FeedCall { since, detail, wait } = FeedCall::parse(query, headers)?;
        let is_new = since.is_none();
        let (reader, lost) = FeedReader::join(self, since).await?;
        match wait {
            Some(wait) => {
                let wait = if is_new { Duration::ZERO } else { wait };
                Ok(poll(reader, lost.is_some(), detail, wait).await)
            }
            None => Ok(streamed("text/event-stream", events(reader, lost, detail))),
        }
    }

    /// Answers with all live sessions.
    pub(in crate::server) async fn snapshot(self: &Arc<Self>) -> Result<StoreReply, StoreProblem> {
        let Some(log) = self.store.log() else {
            return Err(StoreError::unsupported("the token store keeps no log of its changes").into());
        };
        let place = self.place()?;
        let unavailable = || StoreProblem::unavailable("the token store failed: try again");
        let point = log.follow(None).await?.ok_or_else(unavailable)?.point();
        let snapshot = Snapshot { feed: Arc::clone(self), point: Some(point), after: None, count: 0, _place: place };
        Ok(streamed("application/x-ndjson", unfold(Some(snapshot), Snapshot::next)))
    }
}

fn streamed(content_type: &'static str, chunks: impl Stream<Item = Bytes> + Send + 'static) -> StoreReply {
    let mut reply = empty(StatusCode::OK);
    *reply.body_mut() = StoreBody::stream(chunks);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    reply
}

/// A stream of events on its way.
struct EventStream {
    reader: FeedReader,
    detail: Detail,
    beat_at: Instant,
    /// The point from which it could not go on, until that is told.
    lost: Option<LogPoint>,
}

fn events(reader: FeedReader, lost: Option<LogPoint>, detail: Detail) -> impl Stream<Item = Bytes> {
    let stream = EventStream { reader, detail, beat_at: Instant::now(), lost };
    unfold(Some(stream), EventStream::next)
}

impl EventStream {
    /// Returns the next events, and what goes on after them.
    async fn next(stream: Option<Self>) -> Option<(Bytes, Option<Self>)> {
        let mut this = stream?;
        if let Some(lost) = this.lost.take() {
            // A reader that leaves before the reset comes back with the point that it came with.
            let text = one_event(&lost, event::HEARTBEAT, &out_of_date(&lost)) + &reset(this.reader.point());
            return Some((text.into(), Some(this)));
        }
        loop {
            if this.beat_at <= Instant::now() {
                let text = this.heartbeat();
                return Some((text.into(), Some(this)));
            }
            let was_behind = this.reader.is_behind();
            let Ok(news) = timeout_at(this.beat_at, this.reader.next()).await else { continue };
            if was_behind && !this.reader.is_behind() {
                this.beat_at = Instant::now();
            }
            match news {
                News::Page(page) => return Some((page.events(this.detail), Some(this))),
                News::CaughtUp => {}
                News::Moved => {
                    let text = one_event(this.reader.point(), event::MOVE, &json!({}));
                    return Some((text.into(), None));
                }
                News::CutOff => return None,
            }
        }
    }

    fn heartbeat(&mut self) -> String {
        self.beat_at = Instant::now() + BEAT;
        let beat = self.reader.heartbeat();
        one_event(self.reader.point(), event::HEARTBEAT, &beat)
    }
}

/// Waits for changes, and answers with those that are there.
async fn poll(mut reader: FeedReader, mut is_reset: bool, detail: Detail, wait: Duration) -> StoreReply {
    let mut until = if is_reset { Instant::now() } else { Instant::now() + wait };
    let mut beat = reader.heartbeat();
    let mut pages: Vec<Arc<FeedPage>> = Vec::new();
    let mut count = 0;
    // However short the wait, what the log has is read.
    let read_by = Instant::now() + PATIENCE;
    loop {
        let reads_log = reader.is_behind() && pages.is_empty();
        let end = if reads_log { until.max(read_by) } else { until };
        let Ok(news) = timeout_at(end, reader.next()).await else { break };
        match news {
            News::Page(page) if count > 0 && count + page.changes().len() > MOST_AT_ONCE => break,
            News::Page(page) => {
                is_reset |= page.is_reset();
                count += page.changes().len();
                pages.push(page);
                // What else is there already.
                until = Instant::now();
            }
            News::CaughtUp => {}
            News::Moved | News::CutOff => break,
        }
        beat = reader.heartbeat();
    }
    if pages.is_empty() {
        beat = reader.heartbeat();
    }
    let changes = pages.iter().flat_map(|page| page.changes());
    let changes = changes.map(|change| ChangeBody::new(change, detail == Detail::Digests)).collect();
    json_reply(StatusCode::OK, &PollBody { point: beat.point, reset: is_reset, db_ok_ms: beat.db_ok_ms, changes })
}

/// A snapshot on its way.
struct Snapshot {
    feed: Arc<Feed>,
    /// The first line, unless it was sent.
    point: Option<LogPoint>,
    after: Option<(String, String)>,
    count: u64,
    _place: OwnedSemaphorePermit,
}

impl Snapshot {
    /// Returns the next lines, and what goes on after them. If the store fails or the server stops, the last line is missing.
    async fn next(snapshot: Option<Self>) -> Option<(Bytes, Option<Self>)> {
        let mut this = snapshot?;
        let mut lines = BytesMut::new().writer();
        if let Some(point) = this.point.take() {
            write_line(&mut lines, &PointBody { point: point.to_string() });
            return Some((lines.into_inner().freeze(), Some(this)));
        }
        if this.feed.recent().is_stopped {
            return None;
        }
        let page = match this.feed.store.log()?.sessions(this.after.as_ref(), SNAPSHOT_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                let error = error.with_causes();
                tracing::error!(target: "fastauth", "a snapshot of the token store was cut off: {error}");
                return None;
            }
        };
        let is_last = page.len() < SNAPSHOT_PAGE;
        this.count += page.len() as u64;
        this.after = page.last().map(|live| (live.client_id.clone(), live.session.clone()));
        page.into_iter().for_each(|live| write_line(&mut lines, &LiveBody::from(live)));
        if is_last {
            write_line(&mut lines, &EndBody { end: this.count });
        }
        Some((lines.into_inner().freeze(), (!is_last).then_some(this)))
    }
}

#[allow(clippy::expect_used, reason = "no input: the lines are this crate's own types, and memory takes every text")]
fn write_line(lines: &mut bytes::buf::Writer<BytesMut>, line: &impl Serialize) {
    serde_json::to_writer(&mut *lines, line).expect("strings and numbers under string keys serialize");
    lines.get_mut().put_u8(b'\n');
}
