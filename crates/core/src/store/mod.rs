//! Where the tokens are kept: the contract of a store, and the stores that come with the crate.

use std::{borrow::Cow, error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::secret::Secret;

mod address;
mod carry;
mod changes;
mod family;
mod memory;

pub use address::{HTTP_PATIENCE, check_headers, check_url, sqlite_path};
pub use carry::carried_through;
pub use changes::{Changes, Stamp, first};
pub use family::{Family, Verdict};
pub use memory::MemoryStore;

pub use crate::secret::TokenDigest;

/// No client is issued tokens under this name but by who wants to: what is held of it does not matter.
pub const PROBE: &str = "fastauth-healthz";

/// What a store's methods return: a boxed future, so that a store can be used as `dyn TokenStore`.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps the token pairs that were issued.
///
/// Pairs come in *families*: one log-in, and what it was renewed to since (RFC 9700, 4.14.2). Of each family a store holds the newest
/// pair alone, and its access token is *canonical*: no other of the family is accepted, however well it is signed. So the
/// store decides, and these promises are what the guards rest on:
///
/// - **Nothing acknowledged is lost.** When a write answers, it is as durable as the store can make it, and the next
///   look-up, by whomever, sees it.
/// - **A pair is one value.** Nobody sees the access token of one pair beside the refresh token of another.
/// - **A client id is any text** and is kept exactly: no trimming, no folding of case, no normalisation.
/// - **Trouble is an error**, never an empty answer: `Ok(None)` says that the store knows of no such client.
/// - **It ends.** A call answers within about ten seconds. Dropping the future leaves the store sound; a write whose future was
///   dropped, or that failed with [`TimedOut`](StoreErrorKind::TimedOut), may or may not have happened.
/// - **What takes a right away goes on.** Once the future of [`revoke`](Self::revoke) was polled, the revocation is done though
///   its caller goes away, and it does not wait behind other writes.
/// - **What changes nothing is not written**, and told to nobody: revoking what was revoked before, a condition that is
///   not met, a rotation that is refused, a ticket that was spent.
///
/// What else a store can promise it says by [`promises`](Self::promises). The rules of a rotation are in
/// [`Family::judge`], for stores of your own to use; [`MemoryStore`] is the shortest example.
pub trait TokenStore: fmt::Debug + Send + Sync + 'static {
    /// What kind of store this is, in a word: logs and counts name it.
    fn kind(&self) -> &'static str {
        "custom"
    }

    /// What is canonical for `family` of `client_id`. Where the store does not hold that family, or none is named, it is
    /// what was issued to the client last; `None` for a client that the store does not know.
    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>>;

    /// How `token` compares with the access token that [`load`](Self::load) would give, where that can be told at once, in
    /// a few microseconds and without waiting for anything; `None` has `load` called. It saves what a future costs.
    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        let _ = (client_id, family, token);
        None
    }

    /// The pair that was issued to `client_id` last, as it is kept; `None` for a client that the store does not know.
    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>>;

    /// The pair of `family`, as it is kept; where the store does not hold that family, or keeps families not apart, which is
    /// the default, it is what [`pair`](Self::pair) gives. Who asks looks at the tokens.
    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        let _ = family;
        self.pair(client_id)
    }

    /// Holds the pair of `record`, the first of its family, from now on. A write may arrive twice, and late: a family with a name
    /// that was revoked, or holds a later generation, stays as it is ([`Saved::ConditionFailed`]), and so does one that holds this
    /// very pair.
    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved>;

    /// Replaces the pair whose refresh token was presented by its successor, or says what it found instead: in one
    /// step, so that of any number of rotations of one token one alone succeeds.
    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated>;

    /// Lets no token of `revocation` be canonical any more, nor be exchanged, and says how many families that were.
    ///
    /// With `if_version`, only if it is the version of what was issued to that client last.
    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked>;

    /// The families that `filter` asks for, in the order of client ids and families. A page may be shorter than asked for, or
    /// empty, and have a [`next`](FamilyPage::next) all the same: a store looks at so many families at a time and no more.
    ///
    /// A store need not be able to: the default is an error of the kind [`Unsupported`](StoreErrorKind::Unsupported).
    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        let _ = filter;
        Box::pin(async { Err(StoreError::unsupported("the token store cannot list what it holds")) })
    }

    /// Notes that a ticket is used, in one step for all processes that use the store: `true` for the first of them alone. It is
    /// remembered at least until the ticket has expired, `expires_at` being its last second since the Unix epoch.
    ///
    /// A store need not be able to: the default is an error of the kind [`Unsupported`](StoreErrorKind::Unsupported).
    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        let _ = (ticket, expires_at);
        Box::pin(async { Err(StoreError::unsupported("the token store cannot hold tickets to one use")) })
    }

    /// Tells whether the store answers, and can be written where it is able to tell: what health asks. It changes no token, and
    /// nobody is told of it. The default looks a client up that nobody is.
    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { self.load(PROBE, None).await.map(drop) })
    }

    /// What this store can promise. It may have to ask.
    fn promises(&self) -> StoreFuture<'_, Promises>;

    /// How long after a write has happened its answer may still be waited for: `refresh-grace` begins after that, so that a
    /// client that was told of a store in trouble can ask again. Ten seconds, as long as a call may take, unless the store
    /// knows better.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// What tells of changes, so that answers can be kept until then. Without it, which is the default, every request asks the store.
    fn changes(&self) -> Option<&Changes> {
        None
    }
}

/// A shared store is a store, such as the one that `Settings::open_store` opens.
impl<T: TokenStore + ?Sized> TokenStore for Arc<T> {
    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        (**self).load(client_id, family)
    }

    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        (**self).compare_now(client_id, family, token)
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        (**self).pair(client_id)
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        (**self).pair_of(client_id, family)
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        (**self).save(record, options)
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        (**self).rotate(rotation)
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        (**self).revoke(revocation, if_version)
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        (**self).list(filter)
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        (**self).spend(ticket, expires_at)
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        (**self).check()
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        (**self).promises()
    }

    fn patience(&self) -> Duration {
        (**self).patience()
    }

    fn changes(&self) -> Option<&Changes> {
        (**self).changes()
    }
}

/// A pair as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// The token that opens the paths of `access-token-paths`.
    pub access_token: Secret,
    /// The token that is exchanged for a new pair.
    pub refresh_token: Secret,
}

/// A pair on its way into a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Whom it is issued to.
    pub client_id: String,
    /// The family, a name that is unique within the client; empty where the tokens name none, as those of
    /// `fastauth-api` do.
    pub family: String,
    /// How many pairs of the family there were before this one.
    pub generation: u64,
    /// The id of the key that signed the pair; empty where it is not known.
    pub kid: String,
    /// The access token.
    pub access: TokenEntry,
    /// The refresh token.
    pub refresh: TokenEntry,
}

/// One token of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// What is to be kept: the token, or its encrypted form, by the `store-format`.
    pub text: Secret,
    /// The digest of the token itself, by which it is compared.
    pub digest: TokenDigest,
    /// The last second in which it is valid, since the Unix epoch; 0 where it is not known.
    pub expires_at: u64,
}

/// What [`TokenStore::save`] has to mind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Whether the client's other families stay. Otherwise this one takes their place.
    pub keep_others: bool,
    /// How many live families the client may have then, this one included; 0 is any number. The oldest give way, those that were
    /// renewed longest ago: they are revoked.
    pub max_families: usize,
    /// What must be there for the record to be saved.
    pub condition: Condition,
}

/// What must be held for a client so that a write happens (RFC 9110 13.1: `If-Match`, `If-None-Match: *`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Anything.
    #[default]
    None,
    /// This version of what was issued last.
    Version(u64),
    /// Nothing: the store does not know the client.
    Absent,
}

impl Condition {
    /// Whether it holds where this version was issued last.
    pub fn is_met_by(self, version: Option<u64>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

/// What [`TokenStore::save`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The record is held now, in this version.
    Saved(u64),
    /// The condition was not met, or the family was revoked or renewed before, and nothing changed.
    ConditionFailed,
}

/// What a store holds to compare tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The canonical access token. A store that others write to may lack it.
    pub access: Option<TokenDigest>,
    /// The one refresh token that may still be exchanged.
    pub refresh: Option<TokenDigest>,
    /// Grows with every write to the client, where the store counts: also when what was issued last is revoked, and
    /// something older takes its place.
    pub version: Option<u64>,
}

/// How an access token compares with what a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the canonical one.
    Canonical,
    /// Another one is.
    NotCanonical,
    /// The store does not know the client.
    UnknownClient,
}

impl Comparison {
    /// Compares the token of this digest with what a store holds.
    #[must_use]
    pub fn of(token: TokenDigest, held: Option<&Canonical>) -> Self {
        match held {
            None => Self::UnknownClient,
            Some(held) if held.access == Some(token) => Self::Canonical,
            Some(_) => Self::NotCanonical,
        }
    }
}

/// A pair as a store keeps it: the tokens, or their encrypted forms. A store that others write to may lack either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPair {
    /// The access token.
    pub access_token: Option<Secret>,
    /// The refresh token.
    pub refresh_token: Option<Secret>,
    /// Grows with every write to the client, where the store counts.
    pub version: Option<u64>,
}

/// The exchange of a refresh token for a new pair.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The refresh token that was presented.
    pub presented: TokenDigest,
    /// Its family and generation, where it names them. A token that names none is held by the family without a name, or was consumed by
    /// the one that it began.
    pub presented_family: Option<(String, u64)>,
    /// The pair that takes its place, of the same client. Where the presented token names no family, this one begins it.
    pub successor: TokenRecord,
    /// How long after a rotation the token that it consumed is answered with the same successor once more, since the first
    /// answer may have been lost.
    pub grace: Duration,
}

/// What [`TokenStore::rotate`] did, or found instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The refresh token was the one held; the successor is held now.
    Rotated,
    /// The refresh token was consumed within the grace, and this is the pair that took its place then.
    Repeated(StoredPair),
    /// The refresh token was consumed before: somebody has a copy. The family is revoked now (RFC 9700, 4.14.2).
    Reused,
    /// The store holds another refresh token, and this one is refused without more.
    Superseded,
    /// The family was revoked.
    Revoked,
    /// The store does not know the client.
    UnknownClient,
}

/// Which tokens are to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// One family.
    Family {
        /// The client.
        client_id: String,
        /// The family's name.
        family: String,
    },
    /// All families of a client.
    Client(String),
    /// Everything that was issued until now.
    All,
}

/// What [`TokenStore::revoke`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// So many families were live, and are not any more.
    Families(u64),
    /// Another version was found, and nothing changed.
    ConditionFailed,
}

/// Which families [`TokenStore::list`] is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyFilter {
    /// Those of this client.
    pub client_id: Option<String>,
    /// Those of this name. With a client, it is one look-up, however many families the client has.
    pub family: Option<String>,
    /// Those of clients whose id begins so.
    pub client_id_prefix: Option<String>,
    /// Those of clients whose id has this in it.
    pub client_id_part: Option<String>,
    /// Those whose pair was signed by the key of this id.
    pub kid: Option<String>,
    /// Those with this status.
    pub status: Option<FamilyStatus>,
    /// Those after this client and family: the [`next`](FamilyPage::next) of the page before.
    pub after: Option<(String, String)>,
    /// The most that are wanted; a store may give fewer at a time. 0 is as many as the store likes.
    pub limit: usize,
}

/// How many seconds longer than it is good a ticket is remembered, for nodes whose clocks are behind.
pub const TICKET_KEPT: u64 = 5 * 60;

/// The most families that a page of a list has.
pub const MAX_PAGE: usize = 1000;

/// How many families are looked at for one page: some ten milliseconds.
pub const SCANNED_AT_ONCE: usize = 10_000;

impl FamilyFilter {
    /// How many families a page for it may have.
    pub fn page_limit(&self) -> usize {
        if self.limit == 0 { MAX_PAGE } else { self.limit.min(MAX_PAGE) }
    }

    /// Whether a family is asked for, its place in the list aside.
    #[must_use]
    pub fn admits(&self, entry: &FamilyEntry) -> bool {
        let client_id = entry.client_id.as_str();
        self.client_id.as_ref().is_none_or(|id| client_id == id)
            && self.family.as_ref().is_none_or(|family| entry.family == *family)
            && self.client_id_prefix.as_ref().is_none_or(|prefix| client_id.starts_with(prefix))
            && self.client_id_part.as_ref().is_none_or(|part| client_id.contains(part))
            && self.kid.as_ref().is_none_or(|kid| entry.kid == *kid)
            && self.status.is_none_or(|status| entry.status == status)
    }
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyPage {
    /// The families.
    pub families: Vec<FamilyEntry>,
    /// Where the next page begins, if there is one.
    pub next: Option<(String, String)>,
}

/// One family in a list. There is no token in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FamilyEntry {
    /// The client.
    pub client_id: String,
    /// The family's name, empty where its tokens name none.
    pub family: String,
    /// How many times it was renewed.
    pub generation: u64,
    /// The id of the key that signed its pair; empty where it is not known.
    pub kid: String,
    /// Whether its tokens are accepted.
    pub status: FamilyStatus,
    /// When it began, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// When it was renewed last, in seconds since the Unix epoch; at first, when it began.
    pub renewed_at: u64,
    /// The last second of its access token since the Unix epoch; 0 where it is not known.
    pub access_expires_at: u64,
    /// The last second of its refresh token since the Unix epoch; 0 where it is not known.
    pub refresh_expires_at: u64,
    /// The version of the last write to it.
    pub version: u64,
}

/// Whether the tokens of a family are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyStatus {
    /// They are, as long as they have not expired.
    Live,
    /// They were revoked.
    Revoked,
    /// They were revoked because a consumed refresh token was presented.
    Reused,
}

impl FamilyStatus {
    const ALL: [Self; 3] = [Self::Live, Self::Revoked, Self::Reused];

    /// Its name, in the API of stores and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Reused => "reused",
        }
    }

    /// The status of this [name](Self::as_str).
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What a store can promise beyond the contract that all keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a promise of its own")]
pub struct Promises {
    /// A rotation is one step for all processes that use the store, and a token that was consumed is recognised.
    pub atomic_rotation: bool,
    /// More than one family of a client can be held.
    pub many_families: bool,
    /// Everything can be revoked at once.
    pub revoke_all: bool,
    /// What is held can be listed.
    pub list: bool,
    /// A ticket opens one WebSocket, whichever process it is brought to.
    pub tickets: bool,
}

impl Promises {
    /// All of them.
    pub const ALL: Self =
        Self { atomic_rotation: true, many_families: true, revoke_all: true, list: true, tickets: true };
    /// None of them: a store that knows `GET` and `POST` of one pair.
    pub const NONE: Self =
        Self { atomic_rotation: false, many_families: false, revoke_all: false, list: false, tickets: false };
}

/// Why a store could not answer. Its text names no address, no token and no client (only an error of opening a file
/// names the file); the cause is its [`source`](Error::source).
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    is_save: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kind of trouble a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It did not answer in time. A write may or may not have happened.
    TimedOut,
    /// It answered, but not by its contract.
    InvalidAnswer,
    /// It could not be opened, read or written.
    Failed,
    /// It is not able to do this.
    Unsupported,
}

impl StoreError {
    /// An error of `kind`; `message` is what an operator reads: lower case, no full stop, and nothing secret.
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), is_save: false, source: None }
    }

    /// An error that says what the store is not able to do.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Unsupported, message)
    }

    /// Adds the cause. It must not show a secret or a URL either, for logs print the whole chain.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Says that it was a pair that could not be saved. It matters in [`TokenStore::rotate`], which asks first.
    #[must_use]
    pub fn on_save(mut self) -> Self {
        self.is_save = true;
        self
    }

    /// Whether a pair could not be saved, rather than the store not be asked.
    #[must_use]
    pub fn is_save(&self) -> bool {
        self.is_save
    }

    /// The text with those of the causes, for logs and for who sets the store up.
    pub fn with_causes(&self) -> String {
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }

    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl StoreErrorKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Unreachable, Self::TimedOut, Self::InvalidAnswer, Self::Failed, Self::Unsupported];

    /// Returns a short name that stays, for logs and counts.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::InvalidAnswer => "invalid_answer",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
