//! Where tokens are kept: the contract of a token store, and the store in memory.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

mod address;
mod carry;
mod changes;
mod error;
mod forward;
mod list;
mod log;
mod memory;
mod records;
mod session;

pub use crate::secret::{TokenDigest, TokenDigestError};
pub use address::{HTTP_PATIENCE, UrlParts, check_headers, check_url, sqlite_path};
pub use carry::carried_through;
pub use changes::{Asked, Changes, Freshness, Stamp, first};
pub use error::{StoreError, StoreErrorKind};
pub use forward::StoreCall;
pub use list::{MAX_PAGE, SCANNED_AT_ONCE, SessionEntry, SessionFilter, SessionPage, SessionStatus};
pub use log::{Change, ChangeKind, ChangeLog, LiveSession, LogPage, LogPoint, LogPointError, LogReader};
pub use memory::MemoryStore;
pub use records::{
    Comparison, Condition, CurrentTokens, ReplacedToken, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved,
    StoredPair, TokenEntry, TokenPair, TokenRecord,
};
pub use session::{Session, Verdict};

/// The client that health checks look up. Nothing depends on what is stored for it.
pub const PROBE: &str = "fastauth-healthz";

/// How many seconds a used ticket is remembered after it has expired, for nodes whose clocks are behind.
pub const TICKET_KEPT: u64 = 5 * 60;

/// The text of the error of a store that keeps pairs whole.
const NO_ACCESS_REVOCATION: &str = "the token store cannot revoke access tokens alone: revoke the session, or use a store that can \
     (SQLite, `fastauth store serve`)";

/// The future that a store's methods return, boxed so that a store can be used as `dyn TokenStore`.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store of the token pairs that were issued.
///
/// Pairs come in *sessions*: a log-in and the pairs that it is refreshed to (RFC 9700, 4.14.2). A store holds
/// only the newest pair of each session. The access token of that pair is *current*: no other token of the session is accepted,
/// even if its signature is valid. The store therefore decides, and the guards rely on these promises:
///
/// - **An acknowledged write is not lost.** When a write answers, it is as durable as the store can make it, and every later
///   look-up sees it, in any process.
/// - **A pair is one value.** No reader sees the access token of one pair beside the refresh token of another.
/// - **A client id is any text**, kept exactly as it is: no trimming, no case folding, no normalisation.
/// - **A failure is an error**, never an empty answer: `Ok(None)` says that the store has no such client.
/// - **Each call ends** within about ten seconds. Dropping its future leaves the store sound. A write may or may not have
///   happened if its future was dropped or it failed with [`TimedOut`](StoreErrorKind::TimedOut).
/// - **A revocation goes on.** Once the future of [`revoke`](Self::revoke) or [`revoke_access`](Self::revoke_access) was polled, the revocation is completed even if its
///   caller goes away, and it does not wait behind other writes.
/// - **A write without effect is not written** and not announced: revoking what was revoked before, an unmet condition, a refused
///   rotation, a spent ticket.
///
/// A store states further promises by [`promises`](Self::promises). Stores of your own can use [`Session::judge`] and
/// [`Session::judge_save`], which are the rules of a rotation and of a write that arrives twice. [`MemoryStore`] is the shortest
/// example. A store that wraps another forwards the other methods by [`forward_store!`](crate::forward_store).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a token store",
    label = "not a token store",
    note = "give it a `MemoryStore`, a `SqliteStore`, a `RestStore`, an `Arc<dyn TokenStore>`, or a type of your own that implements `TokenStore`"
)]
pub trait TokenStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the kind of this store in one word, for logs and metrics.
    fn kind(&self) -> &'static str {
        "custom"
    }

    /// Returns what is current for `session` of `client_id`. If the store does not have that session, or none is named, that is
    /// the pair issued to the client last. Returns `None` if the store has no such client.
    fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>>;

    /// Compares `token` with the access token that [`load`](Self::load) would return, if the store can do so within a few
    /// microseconds and without waiting. On `None`, `load` is called. It saves the cost of a future.
    fn compare_now(
        &self,
        client_id: &str,
        session: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        let _ = (client_id, session, token);
        None
    }

    /// Returns the pair issued to `client_id` last, in its stored form; `None` if the store has no such client.
    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>>;

    /// Returns the pair of `session` in its stored form, or what [`pair`](Self::pair) returns if the store does not have that
    /// session. The default, for stores that do not tell sessions apart, always returns the latter. Callers look at the tokens.
    fn pair_of<'a>(&'a self, client_id: &'a str, session: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        let _ = session;
        self.pair(client_id)
    }

    /// Saves the pair of `record`, the first of its session.
    ///
    /// A write may arrive twice, and late. A named session that was revoked or has a later generation therefore stays as it is
    /// ([`Saved::ConditionFailed`]), and so does a session that has this very pair.
    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved>;

    /// Replaces the pair whose refresh token was presented by its successor, or says why not. It is one step: if one token is
    /// rotated several times at once, only one rotation succeeds.
    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated>;

    /// Revokes the tokens of `revocation`, and returns how many sessions that were. None of them is current any more, and none
    /// can be exchanged.
    ///
    /// With `if_version`, it only does so if that is the version of what was issued to the client last.
    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked>;

    /// Revokes the access tokens of one session of a client, or of all its live sessions, and keeps the log-ins: their refresh tokens can
    /// be exchanged. Returns how many live sessions it concerned.
    ///
    /// - [`load`](Self::load) and [`pair`](Self::pair) then have no access token for these sessions, and no
    ///   [`previous_access`](CurrentTokens::previous_access), until the next rotation.
    /// - A rotation whose claims were decided on before is not done ([`Rotated::AccessRevoked`]), so that a refresh which runs at the
    ///   same time does not bring old claims back.
    /// - The sessions get new versions, and keep their order. It is announced each time, and goes on as
    ///   [`revoke`](Self::revoke) does.
    ///
    /// It is optional: the default is an error of the kind [`Unsupported`](StoreErrorKind::Unsupported).
    fn revoke_access<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, u64> {
        let _ = (client_id, session);
        Box::pin(async { Err(StoreError::unsupported(NO_ACCESS_REVOCATION)) })
    }

    /// Lists the sessions that match `filter`, in the order of client ids and sessions. A page may be shorter than asked for, or
    /// empty, and still have a [`next`](SessionPage::next), since a store looks at a bounded number of sessions at a time.
    ///
    /// It is optional: the default is an error of the kind [`Unsupported`](StoreErrorKind::Unsupported).
    fn list<'a>(&'a self, filter: &'a SessionFilter) -> StoreFuture<'a, SessionPage> {
        let _ = filter;
        Box::pin(async { Err(StoreError::unsupported("the token store cannot list its sessions")) })
    }

    /// Marks a ticket as used, in one step for all processes that use the store. Returns `true` to the first caller only. The mark
    /// is kept at least until the ticket has expired; `expires_at` is its last second since the Unix epoch.
    ///
    /// It is optional: the default is an error of the kind [`Unsupported`](StoreErrorKind::Unsupported).
    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        let _ = (ticket, expires_at);
        Box::pin(async { Err(StoreError::unsupported("the token store cannot limit tickets to one use")) })
    }

    /// Checks that the store answers, and that it can be written to if it is able to tell: the health endpoint calls it. It changes
    /// no token and is not announced. The default looks up a client that does not exist.
    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { self.load(PROBE, None).await.map(drop) })
    }

    /// Returns what this store promises beyond the contract. It may have to ask a server.
    fn promises(&self) -> StoreFuture<'_, Promises>;

    /// Returns how long the answer to a write may take after the write has happened. `refresh-grace` begins after that time, so
    /// that a client can retry after an error of the store. The default is ten seconds, the longest that a call may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Returns the announcer of changes, by which answers can be cached. The default is `None`: every request asks the store.
    fn changes(&self) -> Option<&Changes> {
        None
    }

    /// Returns the log of changes, from which other nodes are told of them. The default is `None`: the store keeps none.
    fn log(&self) -> Option<&dyn ChangeLog> {
        None
    }
}

/// A shared store is a store, for example the one that `Settings::open_store` opens.
impl<T: TokenStore + ?Sized> TokenStore for Arc<T> {
    crate::forward_store!(|store| (**store);
        kind load compare_now pair pair_of save rotate revoke revoke_access list spend check promises patience changes log);
}

/// What a store promises beyond the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a promise of its own")]
pub struct Promises {
    /// A rotation is one step for all processes that use the store, and a consumed token is recognised.
    pub atomic_rotation: bool,
    /// A client can have more than one session.
    pub many_sessions: bool,
    /// All tokens can be revoked at once.
    pub revoke_all: bool,
    /// Sessions can be listed.
    pub list: bool,
    /// A ticket opens one WebSocket, in whichever process.
    pub tickets: bool,
    /// After a rotation, the access token that it replaced is known until the next one, with its age: see
    /// [`CurrentTokens::previous_access`]. A revocation ends it, too.
    pub access_grace: bool,
}

impl Promises {
    /// All promises.
    pub const ALL: Self = Self {
        atomic_rotation: true,
        many_sessions: true,
        revoke_all: true,
        list: true,
        tickets: true,
        access_grace: true,
    };
    /// No promise: a store that only knows `GET` and `POST` of one pair.
    pub const NONE: Self = Self {
        atomic_rotation: false,
        many_sessions: false,
        revoke_all: false,
        list: false,
        tickets: false,
        access_grace: false,
    };
}
