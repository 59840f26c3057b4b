//! The change feed, the snapshot and the look-up of many sessions, in JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{DigestBody, HexDigest, milliseconds};
use fastauth_core::store::{Change, CurrentTokens, LiveSession};

/// The largest number of sessions that are looked up at once, and of changes in one answer.
pub(crate) const MOST_AT_ONCE: usize = 1000;

/// The names of the events of a feed.
pub(crate) mod event {
    pub(crate) const HEARTBEAT: &str = "hb";
    pub(crate) const CHANGE: &str = "change";
    pub(crate) const RESET: &str = "reset";
    pub(crate) const MOVE: &str = "move";
}

/// The data of a heartbeat.
#[derive(Serialize, Deserialize)]
pub(crate) struct HeartbeatBody {
    pub(crate) point: String,
    /// How long ago the database was asked for what the stream has told so far.
    pub(crate) db_ok_ms: u64,
}

/// The data of a reset.
#[derive(Serialize, Deserialize)]
pub(crate) struct PointBody {
    pub(crate) point: String,
}

/// The data of a change.
#[derive(Serialize, Deserialize)]
pub(crate) struct ChangeBody<'a> {
    pub(crate) number: u64,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) client_id: Option<Cow<'a, str>>,
    pub(crate) session: Option<Cow<'a, str>>,
    pub(crate) version: u64,
    /// With `detail=digest`: what is current for the session, all null if it is not live.
    #[serde(flatten)]
    pub(crate) current: Option<CurrentBody>,
}

/// What is current for a session.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct CurrentBody {
    pub(crate) access_sha256: Option<HexDigest>,
    pub(crate) previous_access_sha256: Option<HexDigest>,
    pub(crate) previous_access_age_ms: Option<u64>,
    pub(crate) refresh_sha256: Option<HexDigest>,
    pub(crate) access_expires_at: Option<u64>,
}

impl CurrentBody {
    fn new(tokens: &CurrentTokens, access_expires_at: u64) -> Self {
        Self {
            access_sha256: tokens.access.map(HexDigest),
            previous_access_sha256: tokens.previous_access.map(|previous| HexDigest(previous.digest)),
            previous_access_age_ms: tokens.previous_access.map(|previous| milliseconds(previous.age)),
            refresh_sha256: tokens.refresh.map(HexDigest),
            access_expires_at: Some(access_expires_at),
        }
    }
}

impl<'a> ChangeBody<'a> {
    pub(crate) fn new(change: &'a Change, with_digests: bool) -> Self {
        let current = change.current.as_ref();
        let current = current.map(|live| CurrentBody::new(&live.tokens, live.access_expires_at)).unwrap_or_default();
        Self {
            number: change.number,
            kind: change.kind.as_str().into(),
            client_id: change.client_id.as_deref().map(Cow::Borrowed),
            session: change.session.as_deref().map(Cow::Borrowed),
            version: change.version,
            current: with_digests.then_some(current),
        }
    }
}

/// The answer to a long poll.
#[derive(Serialize, Deserialize)]
pub(crate) struct PollBody<'a> {
    pub(crate) point: String,
    pub(crate) reset: bool,
    pub(crate) db_ok_ms: u64,
    #[serde(borrow)]
    pub(crate) changes: Vec<ChangeBody<'a>>,
}

/// A line of a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct LiveBody {
    pub(crate) client_id: String,
    pub(crate) session: String,
    pub(crate) version: Option<u64>,
    #[serde(flatten)]
    pub(crate) current: CurrentBody,
}

impl From<LiveSession> for LiveBody {
    fn from(live: LiveSession) -> Self {
        let current = CurrentBody::new(&live.tokens, live.access_expires_at);
        Self { client_id: live.client_id, session: live.session, version: live.tokens.version, current }
    }
}

/// The last line of a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) struct EndBody {
    /// The number of sessions.
    pub(crate) end: u64,
}

/// The sessions to look up.
#[derive(Serialize, Deserialize)]
pub(crate) struct BatchBody {
    pub(crate) tokens: Vec<BatchItem>,
}

/// A session to look up; without a name, what was issued to the client last.
#[derive(Serialize, Deserialize)]
pub(crate) struct BatchItem {
    pub(crate) client_id: String,
    pub(crate) session: Option<String>,
}

/// What was found, in the order of the request.
#[derive(Serialize, Deserialize)]
pub(crate) struct FoundBody {
    pub(crate) tokens: Vec<Option<DigestBody>>,
}
