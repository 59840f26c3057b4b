//! What a page opens by a URL with a ticket, since none of it can send a header: a stream of events, a picture, and a file by ranges.
//!
//! The stream and the file begin with the URI as the handler sees it: without the ticket.

use std::{convert::Infallible, ops::RangeInclusive, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::{
        HeaderMap, StatusCode, Uri,
        header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, RANGE},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::time;

use crate::support::Stopping;

/// How long after the end of a stream the browser connects again.
const RETRY: Duration = Duration::from_millis(100);
/// The size of the file, in bytes.
const SIZE: usize = 64 << 10;

pub(crate) fn router<S>(stopping: Stopping) -> Router<S> {
    Router::new()
        .route("/access/events", get(events))
        .route("/access/picture.svg", get(async || ([(CONTENT_TYPE, "image/svg+xml")], include_str!("page/icon.svg"))))
        .route("/access/files/report.txt", get(report))
        .with_state(stopping)
}

#[derive(Deserialize)]
struct Count {
    /// After how many events the stream ends
    count: Option<u64>,
}

/// Sends an event a second. The layer ends it with the token that the ticket stands for.
async fn events(
    uri: Uri,
    Query(Count { count }): Query<Count>,
    State(mut stopping): State<Stopping>,
) -> impl IntoResponse {
    let events = stream::iter(0..count.unwrap_or(u64::MAX)).then(move |number| {
        let event = Event::default().retry(RETRY).data(format!("{number} {uri}"));
        async move {
            if number > 0 {
                time::sleep(Duration::from_secs(1)).await;
            }
            Ok::<_, Infallible>(event)
        }
    });
    let end = async move { drop(stopping.wait_for(|stops| *stops).await) };
    Sse::new(events.take_until(Box::pin(end)))
}

/// Sends a file, or a range of it: `Range: bytes=FIRST-` or `bytes=FIRST-LAST`.
async fn report(uri: Uri, headers: HeaderMap) -> Response {
    let mut text = format!("{uri}\n");
    while text.len() < SIZE {
        text.push_str("All is well.\n");
    }
    text.truncate(SIZE);
    let about = [
        (CONTENT_TYPE, "text/plain"),
        (ACCEPT_RANGES, "bytes"),
        (CONTENT_DISPOSITION, "attachment; filename=\"report.txt\""),
    ];
    let Some(range) = headers.get(RANGE).and_then(|range| within(range.to_str().ok()?)) else {
        return (about, text).into_response();
    };
    let place = format!("bytes {}-{}/{SIZE}", range.start(), range.end());
    (StatusCode::PARTIAL_CONTENT, about, [(CONTENT_RANGE, place)], text[range].to_owned()).into_response()
}

/// Returns the part of the file that is asked for. What is not understood is as if it were not there, which RFC 9110 allows.
fn within(range: &str) -> Option<RangeInclusive<usize>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let last = if last.is_empty() { SIZE - 1 } else { last.parse::<usize>().ok()?.min(SIZE - 1) };
    (first <= last).then_some(first..=last)
}
