//! The client of a token store behind HTTP.
//!
//! The first version of the API is that of `fastauth-api`: `GET` and `POST` of `{base}/token?client_id=…` ([`v1`]). A store that
//! announces the second version decides on rotations, revocations and lists itself ([`v2`]). The first operation for which the
//! version matters finds it out, and every later answer may announce the second one. A store that announced it once is never
//! taken for less: something that removes the announcement would have rotations and revocations decided by the wrong rules.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::{sync::Semaphore, time::Instant};

use self::{
    connection::{Connection, Version, until},
    feed::Feed,
    slots::Lane,
    v1::{HeldPair, V1},
    v2::V2,
};
pub use self::{
    feed::{FeedListener, FeedNews},
    http_client::{HttpClient, HttpError},
    news::{CallListener, CallNews},
};
use crate::flight::{Flights, Turns};
use fastauth_core::clock::Clock;
use fastauth_core::keys::CurrentKeys;
use fastauth_core::store::{
    Changes, Comparison, CurrentTokens, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved,
    SessionFilter, SessionPage, StoreError, StoreFuture, StoredPair, TokenRecord, TokenStore, carried_through,
    check_headers,
};

mod breaker;
mod budget;
mod connection;
mod feed;
mod http_client;
mod limits;
mod news;
mod pools;
mod servers;
mod settle;
mod slots;
mod stream;
mod v1;
mod v2;

/// A token store behind HTTP: the `database-api-url` of `fastauth-api`, or a `StoreService`.
///
/// - If the store announces the second version of the API, it decides on rotations, revocations and lists, and look-ups fetch digests
///   instead of tokens. Otherwise it is used as `fastauth-api` does, which can [promise](TokenStore::promises) less.
/// - A write ends within three seconds in all, and a look-up within 1.2 seconds ([`timeout`](Self::timeout)). An answer of more than
///   1 MiB is cut off.
/// - Redirects are not followed, and proxies from the environment are not used.
/// - `https` uses rustls, and verifies the store by the certificates that the system trusts.
/// - Concurrent look-ups of one client and session share one call. Nothing is cached.
/// - If the store has a feed of its changes, a task reads it from the first call on, until the last clone is dropped.
/// - A look-up is sent a second time if it could not be sent, its connection broke, there is no answer after 0.4 seconds, or the answer
///   is 502, 503 or 504: to another address, or on a new connection; other connections that were kept are then not used any more. That is so for a fifth
///   of all calls and ten a second at most. If the answer to a write does not come, the store is asked what it holds. A write that
///   did not happen because its connection broke is sent again. If nothing is heard of a write, only a revocation is sent again: any
///   other might arrive twice, after what was done since.
/// - Idle connections are kept for four seconds, which is less than servers usually do.
/// - Of several addresses, a call goes to one that does not fail, and of two of these to the one with fewer calls under way.
/// - An address that fails, five times in a row or half of the time, is not asked for a second, and then by one call at a time with
///   pauses of up to ten seconds. If all addresses fail, calls are refused at once, except revocations.
/// - At most 256 look-ups, 64 writes and 16 revocations are under way at a time, fewer if the process may have few file descriptors.
///   Some more wait for their turn, and what is beyond that is refused at once.
/// - By the first version, writes of one client take turns within this object; a revocation goes first.
/// - A revocation goes on if its future is dropped.
///
/// The store may be away when this is created, and may come back at any time. Calls need a tokio runtime with time and I/O; creating
/// it does not. A clone is the same store.
#[derive(Clone)]
pub struct RestStore {
    connection: Arc<Connection>,
    v1: V1,
    v2: V2,
    pairs: Flights<HeldPair>,
    digests: Flights<Option<CurrentTokens>>,
    turns: Turns,
    /// Announces what is written here, and what the feed tells of others.
    changes: Arc<Changes>,
    feed: Arc<Feed>,
    /// Bounds the clients that are watched after a revocation by the first version.
    watched: Arc<Semaphore>,
    /// Bounds those of them that are looked up at a time.
    looked_up: Arc<Semaphore>,
}

/// The order of writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Usual,
    /// A revocation goes first.
    First,
}

impl RestStore {
    /// Creates a store at `base_url`, with or without a `/` at its end; `headers` go with every call.
    ///
    /// # Errors
    ///
    /// [`Failed`](fastauth_core::store::StoreErrorKind::Failed) if the URL is not `http` or `https`, or has a user, a query, a fragment or a host that
    /// is not ASCII, if a header is `content-length` or `transfer-encoding`, and if the system has no certificates to verify an
    /// `https` store by. The error does not show the URL: there may be a password in it.
    pub fn new(base_url: &str, headers: HeaderMap) -> Result<Self, StoreError> {
        Self::with_urls([base_url], headers)
    }

    /// Creates a store that several servers answer for, each at its own base URL. They must share one database.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if there is no URL.
    pub fn with_urls<'a>(
        base_urls: impl IntoIterator<Item = &'a str>,
        mut headers: HeaderMap,
    ) -> Result<Self, StoreError> {
        check_headers(&headers)?;
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        let connection = Arc::new(Connection::new(base_urls, headers)?);
        let changes = Arc::new(Changes::of_fed_store());
        Ok(Self {
            v1: V1::new(Arc::clone(&connection)),
            v2: V2::new(Arc::clone(&connection)),
            connection: Arc::clone(&connection),
            pairs: Flights::new(&changes),
            digests: Flights::new(&changes),
            turns: Turns::new(),
            feed: Arc::new(Feed::new(Arc::clone(&connection), Arc::clone(&changes))),
            changes,
            watched: Arc::new(Semaphore::new(v1::WATCHED)),
            looked_up: Arc::new(Semaphore::new(v1::LOOKED_UP)),
        })
    }

    /// Sets how long a write may take in all: waiting its turn, connecting, the whole answer, and asking for what is held if that does not
    /// come. The default is three seconds, as the store contract has it. A look-up may take two fifths of it, with its second try, and
    /// each try of it a third.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.connection.limits.set(timeout);
        self
    }

    /// Tells `listener` of what becomes of the calls, such as servers that fail. A store has one listener, the first one.
    #[must_use]
    pub fn on_calls(self, listener: CallListener) -> Self {
        self.connection.listen(listener);
        self
    }

    /// Decrypts stored tokens by the keys of the moment.
    #[must_use]
    pub fn opened_by(mut self, keys: Arc<CurrentKeys>) -> Self {
        self.v1 = self.v1.opened_by(keys);
        self
    }

    /// Sets the clock by which it is stated until when no change can have been missed. It is that of the guard.
    #[doc(hidden)]
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.feed = Arc::new(self.feed.with_clock(clock));
        self
    }

    /// Holds the digests of the current tokens of all clients, by some 150 bytes each, as soon as the store has told them. While its feed
    /// tells what changes, a token that is among them is confirmed without a call.
    #[must_use]
    pub fn with_replica(mut self) -> Self {
        self.feed = Arc::new(self.feed.with_replica());
        self
    }

    /// Tells `listener` of what happens to the feed.
    #[must_use]
    pub fn on_feed(mut self, listener: FeedListener) -> Self {
        self.feed = Arc::new(self.feed.with_listener(listener));
        self
    }

    /// Returns when a write that begins now ends.
    fn deadline(&self) -> Instant {
        Instant::now() + self.connection.limits.get().write
    }

    /// Returns when a look-up that begins now ends.
    fn look_up_deadline(&self) -> Instant {
        Instant::now() + self.connection.limits.get().look_up
    }

    async fn shared_pair(&self, client_id: &str, session: Option<&str>) -> Result<HeldPair, StoreError> {
        let call = self.pairs.join(client_id, session, || {
            let connection = Arc::clone(&self.connection);
            let v1 = self.v1.clone();
            let deadline = self.look_up_deadline();
            let client_id = client_id.to_owned();
            let session = session.map(str::to_owned);
            async move {
                let looking_up = async {
                    let _slot = connection.slots.verifying.slot().await?;
                    v1.get_of(&client_id, session.as_deref()).await
                };
                until(deadline, looking_up).await
            }
        });
        call?.answer().await
    }

    async fn shared_digests(
        &self,
        client_id: &str,
        session: Option<&str>,
    ) -> Result<Option<CurrentTokens>, StoreError> {
        let call = self.digests.join(client_id, session, || {
            let connection = Arc::clone(&self.connection);
            let v2 = self.v2.clone();
            let deadline = self.look_up_deadline();
            let client_id = client_id.to_owned();
            let session = session.map(str::to_owned);
            async move {
                let asked_at = Instant::now();
                let looking_up = async {
                    let _slot = connection.slots.verifying.slot().await?;
                    v2.digests(&client_id, session.as_deref()).await
                };
                let held = until(deadline, looking_up).await?;
                // The store cannot know how long its answer takes, and a caller may have joined at the end.
                Ok(held.map(|held| held.aged(asked_at.elapsed())))
            }
        });
        call?.answer().await
    }

    /// Waits for a shared look-up.
    async fn share<T>(&self, shared: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let _place = self.connection.slots.verifying.enter()?;
        let answer = until(self.look_up_deadline(), shared).await;
        self.feed.follow();
        answer
    }

    /// Asks the store when there is a slot for it, for as long as a look-up may take.
    async fn ask<T>(&self, lane: &Lane, asking: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let answer = until(self.look_up_deadline(), in_lane(lane, asking)).await;
        self.feed.follow();
        answer
    }

    /// Runs `write` when its turn has come, and separates the look-ups before it from those after. Without a client it concerns
    /// all clients. `write` is to be boxed: each future around it would hold and move another copy.
    async fn write<T>(
        &self,
        deadline: Instant,
        client_id: Option<&str>,
        urgency: Urgency,
        write: impl Future<Output = Result<T, StoreError>> + Unpin,
        changes_nothing: impl FnOnce(&T) -> bool,
    ) -> Result<T, StoreError> {
        let slots = &self.connection.slots;
        let is_first = urgency == Urgency::First;
        let lane = if is_first { &slots.revoking } else { &slots.issuing };
        let _place = lane.enter()?;
        let writing = async {
            // A store of the second version decides on each write by itself.
            let queue = (!self.connection.speaks_v2()).then(|| self.turns.queue(client_id.unwrap_or_default()));
            let _turn = match &queue {
                None => None,
                Some(queue) if is_first => Some(queue.next_turn().await),
                Some(queue) => Some(queue.turn().await),
            };
            let _slot = lane.slot().await?;
            // Dropped last, when no look-up from before the write can be joined any more.
            let mut announcing = Announcing { changes: &self.changes, feed: &self.feed, client_id, is_needless: false };
            let _pairs = self.pairs.writing(client_id);
            let _digests = self.digests.writing(client_id);
            let written = write.await;
            announcing.is_needless = written.as_ref().is_ok_and(changes_nothing);
            written
        };
        let written = until(deadline, writing).await;
        self.feed.follow();
        written
    }

    async fn save_within(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        options: SaveOptions,
    ) -> Result<Saved, StoreError> {
        if !v1::is_plain(record, options) {
            self.v1.discover().await?;
        }
        if !self.connection.speaks_v2()
            && let Some(saved) = self.v1.save(deadline, record, options).await?
        {
            return Ok(saved);
        }
        self.v2.save(deadline, record, options).await
    }

    async fn rotate_within(
        &self,
        deadline: Instant,
        rotation: &Rotation,
        saving: &AtomicBool,
    ) -> Result<Rotated, StoreError> {
        if !self.connection.speaks_v2()
            && let Some(rotated) = self.v1.rotate(deadline, rotation, saving).await?
        {
            return Ok(rotated);
        }
        saving.store(true, Ordering::Relaxed);
        self.v2.rotate(deadline, rotation).await
    }

    /// Returns how a rotation by the first version fails, if that is known before its turn: of many that wait, one alone can be
    /// done.
    async fn lost_before_its_turn(&self, rotation: &Rotation) -> Result<Option<Rotated>, StoreError> {
        let client_id = &rotation.successor.client_id;
        if self.connection.version() != Version::V1 || !self.turns.queue(client_id).is_busy() {
            return Ok(None);
        }
        let held = self.ask(&self.connection.slots.issuing, Box::pin(self.v1.get(client_id))).await?;
        Ok(if held.is_announced { None } else { self.v1.lost(held.pair.as_ref(), rotation) })
    }

    async fn revoke_within(
        &self,
        deadline: Instant,
        revocation: &Revocation,
        if_version: Option<u64>,
    ) -> Result<Revoked, StoreError> {
        match client_of(revocation).filter(|_| if_version.is_none()) {
            Some(client_id) => {
                if !self.connection.speaks_v2()
                    && let Some(voided) = self.v1.urgent().revoke(deadline, client_id, revocation).await?
                {
                    if let Some(session) = voided.watched {
                        self.watch(client_id.to_owned(), session);
                    }
                    return Ok(Revoked::Sessions(voided.sessions));
                }
            }
            None => {
                const REMEDY: &str = "the token store cannot revoke everything at once: change the key instead";
                self.discover_v2(&self.v1.urgent(), REMEDY).await?;
            }
        }
        self.v2.urgent().revoke(deadline, revocation, if_version).await
    }

    /// Makes sure that the store speaks the second version.
    async fn discover_v2(&self, v1: &V1, otherwise: &'static str) -> Result<(), StoreError> {
        match v1.discover().await? {
            Version::V2 => Ok(()),
            Version::V1 | Version::Unknown => Err(StoreError::unsupported(otherwise)),
        }
    }

    async fn revoke_now(&self, revocation: &Revocation, if_version: Option<u64>) -> Result<Revoked, StoreError> {
        let deadline = self.deadline();
        let revoking = Box::pin(self.revoke_within(deadline, revocation, if_version));
        let revoked = self.write(deadline, client_of(revocation), Urgency::First, revoking, |revoked| {
            // If nothing was live, another node may have revoked it, and that was not announced here.
            *revoked == Revoked::ConditionFailed
        });
        revoked.await
    }

    async fn revoke_access_now(&self, client_id: &str, session: Option<&str>) -> Result<u64, StoreError> {
        const REMEDY: &str = "the token store speaks the first version, which cannot revoke access tokens alone: revoke the client, or \
                              use a store of the second version (`fastauth store serve`)";
        let deadline = self.deadline();
        let revoking = Box::pin(async {
            self.discover_v2(&self.v1.urgent(), REMEDY).await?;
            self.v2.urgent().revoke_access(deadline, client_id, session).await
        });
        self.write(deadline, Some(client_id), Urgency::First, revoking, |_| false).await
    }
}

/// Returns the client that a revocation names.
fn client_of(revocation: &Revocation) -> Option<&str> {
    match revocation {
        Revocation::Client(client_id) | Revocation::Session { client_id, .. } => Some(client_id),
        Revocation::All => None,
    }
}

impl TokenStore for RestStore {
    fn kind(&self) -> &'static str {
        "rest"
    }

    fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        let load = async move {
            if !self.connection.speaks_v2() {
                let held = self.shared_pair(client_id, None).await?;
                if !held.is_announced {
                    return Ok(held.pair.map(|pair| self.v1.current(&pair)));
                }
            }
            self.shared_digests(client_id, session).await
        };
        Box::pin(self.share(load))
    }

    fn compare_now(
        &self,
        client_id: &str,
        session: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        // What is not there may have come a moment ago.
        self.feed.confirms(client_id, session?, token).then_some(Ok(Comparison::Current))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(self.share(async move { Ok(self.shared_pair(client_id, None).await?.pair) }))
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, session: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(self.share(async move { Ok(self.shared_pair(client_id, Some(session)).await?.pair) }))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let deadline = self.deadline();
            let save = Box::pin(self.save_within(deadline, record, options));
            let saved = self.write(deadline, Some(&record.client_id), Urgency::Usual, save, |saved| {
                *saved == Saved::ConditionFailed
            });
            saved.await.map_err(StoreError::on_save)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let deadline = self.deadline();
            if let Some(lost) = self.lost_before_its_turn(rotation).await? {
                return Ok(lost);
            }
            let client_id = &rotation.successor.client_id;
            let saving = AtomicBool::new(false);
            let rotate = Box::pin(self.rotate_within(deadline, rotation, &saving));
            let rotated = self.write(deadline, Some(client_id), Urgency::Usual, rotate, |rotated| {
                // A reuse revoked the session.
                !matches!(rotated, Rotated::Rotated | Rotated::Reused)
            });
            // The time limit is around all calls, so a flag tells which of them it cut off.
            rotated.await.map_err(|error| if saving.load(Ordering::Relaxed) { error.on_save() } else { error })
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let store = self.clone();
            let revocation = revocation.clone();
            carried_through(async move { store.revoke_now(&revocation, if_version).await }).await
        })
    }

    fn revoke_access<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let store = self.clone();
            let client_id = client_id.to_owned();
            let session = session.map(str::to_owned);
            carried_through(async move { store.revoke_access_now(&client_id, session.as_deref()).await }).await
        })
    }

    fn list<'a>(&'a self, filter: &'a SessionFilter) -> StoreFuture<'a, SessionPage> {
        let listing = async move {
            self.discover_v2(&self.v1, "the token store cannot list what it holds").await?;
            self.v2.page(filter).await
        };
        Box::pin(async { until(self.deadline(), in_lane(&self.connection.slots.issuing, listing)).await })
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        let spending = async move {
            self.discover_v2(&self.v1, "the token store speaks the first version, which has no tickets").await?;
            self.v2.spend(ticket, expires_at).await
        };
        Box::pin(self.ask(&self.connection.slots.verifying, spending))
    }

    fn patience(&self) -> Duration {
        self.connection.limits.get().write
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        let asking = async {
            Ok(match self.v1.discover().await? {
                Version::V2 => Promises::ALL,
                Version::V1 | Version::Unknown => Promises::NONE,
            })
        };
        Box::pin(self.ask(&self.connection.slots.verifying, asking))
    }
}

/// Runs a call with a place and a slot of a lane.
async fn in_lane<T>(lane: &Lane, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let _place = lane.enter()?;
    let _slot = lane.slot().await?;
    call.await
}

/// Announces a change when a write ends, also if it failed or was dropped: it may have happened.
struct Announcing<'a> {
    changes: &'a Changes,
    feed: &'a Feed,
    client_id: Option<&'a str>,
    is_needless: bool,
}

impl Drop for Announcing<'_> {
    fn drop(&mut self) {
        if self.is_needless {
            return;
        }
        self.feed.written(self.client_id);
        match self.client_id {
            Some(client_id) => self.changes.client_changed(client_id),
            None => self.changes.anything_changed(),
        }
    }
}

impl fmt::Debug for RestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestStore").field("timeout", &self.connection.limits.get().write).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::{
        HeaderValue,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    };

    use super::*;
    use fastauth_core::store::StoreErrorKind;

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_it() {
        for base in [
            "",
            "hush.example",
            "hush.example:80",
            "ftp://hush.example",
            "http://hush:hush@db.example",
            "http://hush@db.example",
            "http://db.example/?hush",
            "http://db.example/?",
            "http://db.example/#hush",
            "http://hush hush/",
            "http://hush.bücher.example",
            "http://hush.example:port",
            "http://hush.example:99999",
            "http:///hush",
            "http://:80/hush",
            "data:hush",
        ] {
            let error = RestStore::new(base, HeaderMap::new()).expect_err(base);
            assert_eq!(error.kind(), StoreErrorKind::Failed);
            assert!(!format!("{error} {error:?}").contains("hush"), "{base}: {error:?}");
        }
    }

    #[test]
    fn headers_that_frame_the_request_are_refused() {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("hush"))]);
            let error = RestStore::new("http://db.example", headers).expect_err("refused");
            assert!(!format!("{error:?}").contains("hush"));
        }
    }
}
