//! The log of a store's changes: what a change feed tells to other nodes.

use std::{fmt, str::FromStr, time::Instant};

use super::{CurrentTokens, StoreError, StoreFuture};

/// The log that a store writes with each change, in the same step, so that other nodes learn of it.
///
/// The log of a store on a disk keeps its changes for an hour at least. A reader that comes later, or after the store was restored from a backup, cannot
/// go on where it was: it forgets what it knew, and [begins at the end](Self::follow).
pub trait ChangeLog: fmt::Debug + Send + Sync {
    /// Begins to read after `since`, or at the end if it is `None`. Returns `None` if the log does not reach back to `since`: its
    /// changes were deleted, or it is a point in another log.
    fn follow<'a>(&'a self, since: Option<&'a LogPoint>) -> StoreFuture<'a, Option<Box<dyn LogReader>>>;

    /// Lists the live sessions with what is current for them, in the order of client ids and sessions, `limit` at most, from the one
    /// that comes after `after`. A caller that follows the log from before the first page has them all when it has seen the last. A
    /// page with fewer than `limit` is the last.
    fn sessions<'a>(&'a self, after: Option<&'a (String, String)>, limit: usize) -> StoreFuture<'a, Vec<LiveSession>>;

    /// Gives the log another [epoch](LogPoint::epoch), so that every reader forgets what it knew: for a store that was restored from a
    /// backup by other means than its own. Returns the point where the new epoch begins.
    ///
    /// It is optional: the default is an error of the kind [`Unsupported`](super::StoreErrorKind::Unsupported).
    fn restart(&self) -> StoreFuture<'_, LogPoint> {
        Box::pin(async { Err(StoreError::unsupported("the log of this token store cannot be begun anew")) })
    }
}

/// A place in a [`ChangeLog`] from which a reader goes on.
pub trait LogReader: Send {
    /// Returns the point after which it reads on: that of the last page, or before the first one the point from which it
    /// [follows](ChangeLog::follow).
    fn point(&self) -> LogPoint;

    /// Waits for changes, for a second at most, and returns those that are new. Without any, the page is empty, which shows that the
    /// store was asked and answered. The first page comes without waiting.
    ///
    /// A change may come twice. It never comes later than a [point](LogPage::point) that is behind it. Dropping the future loses
    /// nothing. After an error, the reader may be used again, and [`follow`](ChangeLog::follow) tells if the log still reaches back to
    /// its point.
    fn next(&mut self) -> StoreFuture<'_, LogPage>;
}

/// The changes that a reader got at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The changes, in the order in which the store made those of one client.
    pub changes: Vec<Change>,
    /// The point after which there may be changes that the reader has not got. Its epoch differs from that of the page before if the
    /// store was restored in between: then any client may have changed.
    pub point: LogPoint,
    /// The moment just before the store was asked for this page: what was changed until then is in this page or in an earlier one,
    /// unless [`has_more`](Self::has_more).
    pub as_of: Instant,
    /// There are more changes, which the next page has without waiting.
    pub has_more: bool,
}

/// A point in a log: a reader that goes on after it misses nothing.
///
/// Its text is `EPOCH-NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPoint {
    /// The name of the log, of 1 to 64 characters `A-Z a-z 0-9`. A store that was restored from a backup has another one.
    pub epoch: String,
    /// The number of a change. All changes up to it have been read.
    pub number: u64,
}

/// One change of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number. A later change of the same client has a higher one.
    pub number: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The client that it concerns; `None` if it concerns all.
    pub client_id: Option<String>,
    /// The session that it concerns; `None` if it concerns all sessions of the client.
    pub session: Option<String>,
    /// The version that the client has since.
    pub version: u64,
    /// What is current for the session now, which may be the work of a later change. `None` if the session is not live, if the change
    /// concerns several, and in a log that does not tell it.
    pub current: Option<LiveSession>,
}

/// What happened in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A session began, beside the client's others.
    Issue,
    /// A session began, and the client's others ended.
    Replace,
    /// A session was refreshed.
    Rotate,
    /// Sessions ended.
    Revoke,
    /// Access tokens were revoked, and their sessions stay.
    RevokeAccess,
}

impl ChangeKind {
    const ALL: [Self; 5] = [Self::Issue, Self::Replace, Self::Rotate, Self::Revoke, Self::RevokeAccess];

    /// Returns the name of the kind, as logs and feeds have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Replace => "replace",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::RevokeAccess => "revoke_access",
        }
    }

    /// Returns the kind with this name. Later versions may have others: a reader takes those for a change of any kind.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A live session with what is current for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// The client.
    pub client_id: String,
    /// The name of the session.
    pub session: String,
    /// Its tokens, as digests, with its version.
    pub tokens: CurrentTokens,
    /// The last second in which the access token is valid, since the Unix epoch; 0 if it is not known.
    pub access_expires_at: u64,
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

/// The error of a text that is no [`LogPoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a point in a change log is EPOCH-NUMBER, with an epoch of 1 to 64 letters and digits")]
pub struct LogPointError;

impl FromStr for LogPoint {
    type Err = LogPointError;

    fn from_str(text: &str) -> Result<Self, LogPointError> {
        let (epoch, number) = text.split_once('-').ok_or(LogPointError)?;
        let is_epoch = (1..=64).contains(&epoch.len()) && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        match number.parse() {
            Ok(number) if is_epoch && is_number => Ok(Self { epoch: epoch.to_owned(), number }),
            _ => Err(LogPointError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_from_its_text() {
        let point = LogPoint { epoch: "a1".to_owned(), number: u64::MAX };
        assert_eq!(point.to_string().parse(), Ok(point));
        for text in ["", "-1", "a", "a-", "a-+1", "a-1-2", "a b-1", "a-18446744073709551616"] {
            assert_eq!(text.parse::<LogPoint>(), Err(LogPointError), "{text}");
        }
    }
}
