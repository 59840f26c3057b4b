//! The changes that are sent together, in the form of server-sent events.

use std::{fmt::Write, sync::OnceLock, time::Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::wire::feed::{ChangeBody, PointBody, event};
use fastauth_core::store::{Change, LogPage, LogPoint};

/// What a change is told with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Whom it concerns.
    Names,
    /// What is current since, too.
    Digests,
}

/// A page of the log as readers are told it.
pub(super) struct FeedPage {
    /// The point before it, from which a reader that got a part of it goes on.
    before: LogPoint,
    after: LogPoint,
    as_of: Instant,
    /// Anything may have changed before it.
    is_reset: bool,
    changes: Vec<Change>,
    /// The texts for each detail, made when the first reader needs them.
    texts: [OnceLock<Bytes>; 2],
}

impl FeedPage {
    pub(super) fn new(before: &LogPoint, page: LogPage) -> Self {
        let LogPage { changes, point, as_of, .. } = page;
        let is_reset = before.epoch != point.epoch;
        Self { before: before.clone(), after: point, as_of, is_reset, changes, texts: Default::default() }
    }

    /// Returns the page of a log that does not reach back, and is read on from this point.
    pub(super) fn reset(point: LogPoint, as_of: Instant) -> Self {
        let texts = Default::default();
        Self { before: point.clone(), after: point, as_of, is_reset: true, changes: Vec::new(), texts }
    }

    /// Returns true if it tells nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.is_reset
    }

    pub(super) fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn after(&self) -> &LogPoint {
        &self.after
    }

    pub(super) fn as_of(&self) -> Instant {
        self.as_of
    }

    /// Returns its events.
    pub(super) fn events(&self, detail: Detail) -> Bytes {
        let text = match detail {
            Detail::Names => &self.texts[0],
            Detail::Digests => &self.texts[1],
        };
        text.get_or_init(|| self.render(detail).into()).clone()
    }

    fn render(&self, detail: Detail) -> String {
        let mut text = String::new();
        let mut before = &self.before;
        if self.is_reset {
            before = &self.after;
            text += &reset(&self.after);
        }
        let last = self.changes.len().saturating_sub(1);
        let is_gapless = self.is_gapless();
        for (place, change) in self.changes.iter().enumerate() {
            let point = match place {
                place if place == last => self.after.clone(),
                _ if is_gapless => LogPoint { number: change.number, ..before.clone() },
                _ => before.clone(),
            };
            write_event(&mut text, &point, event::CHANGE, &ChangeBody::new(change, detail == Detail::Digests));
        }
        text
    }

    /// Returns true if each change is the one after that before it, so that a reader can go on after any of them.
    fn is_gapless(&self) -> bool {
        let numbers = self.before.number + 1..=self.after.number;
        !self.is_reset && self.changes.iter().map(|change| change.number).eq(numbers)
    }
}

pub(super) fn reset(point: &LogPoint) -> String {
    one_event(point, event::RESET, &PointBody { point: point.to_string() })
}

pub(super) fn one_event(point: &LogPoint, name: &str, data: &impl Serialize) -> String {
    let mut text = String::new();
    write_event(&mut text, point, name, data);
    text
}

#[allow(clippy::expect_used, reason = "no input: the data are this crate's own types, and a String takes every text")]
fn write_event(text: &mut String, point: &LogPoint, name: &str, data: &impl Serialize) {
    // JSON has no line breaks outside of strings, and none inside them.
    let data = serde_json::to_string(data).expect("strings and numbers under string keys serialize");
    write!(text, "id: {point}\nevent: {name}\ndata: {data}\n\n").expect("a String takes every text");
}
