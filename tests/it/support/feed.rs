//! A reader of a change feed.

use std::time::Duration;

use bytes::Bytes;
use fastauth::store::{StoreBody, StoreService};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::time::timeout;
use tower::ServiceExt;

/// Longer than anything takes that comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FeedEvent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl FeedEvent {
    /// What happened, to whom: `rotate bob/phone`.
    pub(crate) fn change(&self) -> String {
        assert_eq!(self.name, "change", "{self:?}");
        let text = |member: &str| self.data[member].as_str().unwrap_or("*").to_owned();
        format!("{} {}/{}", text("kind"), text("client_id"), text("session"))
    }
}

/// A stream of events.
pub(crate) struct FeedEvents {
    body: StoreBody,
    text: String,
}

impl FeedEvents {
    /// Follows the feed of a service; the query begins with `?`, or is empty.
    pub(crate) async fn open(service: &StoreService, query: &str) -> Self {
        let response = ask(service, Request::get(format!("/v2/changes{query}"))).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// Returns the next event, or `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("a heartbeat at the latest")?;
            self.text += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
        }
    }

    /// Returns the next event that is no heartbeat.
    pub(crate) async fn news(&mut self) -> Option<FeedEvent> {
        loop {
            match self.next().await {
                Some(event) if event.name == "hb" => {}
                event => return event,
            }
        }
    }

    /// Returns the next changes.
    pub(crate) async fn changes(&mut self, count: usize) -> Vec<FeedEvent> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.push(self.news().await.expect("a change"));
        }
        changes
    }
}

fn parse(text: &str) -> FeedEvent {
    let field = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("{name} in {text:?}")).to_owned()
    };
    FeedEvent { id: field("id"), name: field("event"), data: serde_json::from_str(&field("data")).unwrap() }
}

pub(crate) async fn ask(service: &StoreService, request: http::request::Builder) -> Response<StoreBody> {
    service.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

/// Returns the JSON of an answer.
pub(crate) async fn json(service: &StoreService, target: &str) -> Value {
    let response = ask(service, Request::get(target)).await;
    assert_eq!(response.status(), 200, "{target}");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
