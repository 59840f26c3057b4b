//! Tokens behind an HTTP API.
//!
//! The API is that of `fastauth-api`: two calls, `GET` and `POST` of `{base}/token?client_id=…`. It has no
//! compare-and-swap, so [`rotate`](TokenStore::rotate) is a look-up followed by a write, one at a time for each client
//! within this process. Between processes two rotations of one refresh token can both succeed; the store then holds
//! the pair that was written last. It holds one pair of a client and no family, so a client is revoked by writing a
//! pair over its own that is no pair of tokens.
//!
//! A store that announces the second version of the API decides on all of that itself. Which one a store speaks is
//! learnt from its answers: the first operation for which it matters asks, and each answer after it may teach better.

use std::{
    fmt,
    future::{Future, pending},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING},
};
use tokio::time::Instant;

use self::{
    calls::{Calls, Speaks, failed, within},
    v2::Fault,
};
use super::{
    Canonical, Changes, Condition, FamilyFilter, FamilyPage, FamilyStatus, Promises, Revocation, Revoked, Rotated,
    Rotation, SaveOptions, Saved, StoreError, StoreErrorKind, StoreFuture, StoredPair, TokenDigest, TokenRecord,
    TokenStore,
    flight::{Flights, Turns},
};
use crate::{keys::KeyRing, secret::Secret, token::unverified_record};

mod calls;
mod v1;
mod v2;

/// How long a call may take in all, as the contract has it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What stands in place of the tokens of a client that was revoked. It is no token, so nobody can present it.
const REVOKED: &str = "revoked";

/// What a configured header may not be: these frame the body, and a wrong one breaks the connection.
const FORBIDDEN: [HeaderName; 2] = [CONTENT_LENGTH, TRANSFER_ENCODING];

/// Keeps the tokens in a store behind HTTP: the `database-api-url` of `fastauth-api`, or a
/// `StoreService`.
///
/// - Where the store announces the second version of the API, rotations, revocations and lists are its own, and look-ups
///   fetch digests and no tokens. Otherwise it is used as `fastauth-api` does, which can [promise](TokenStore::promises) less.
/// - A call ends within ten seconds in all ([`timeout`](Self::timeout)), however the store dawdles, and an answer of
///   more than 1 MiB is cut off.
/// - Redirects are not followed, and proxies from the environment are not used.
/// - Look-ups of one client and family at the same moment are one call. Nothing is kept after it.
/// - A look-up whose connection broke before it was answered, as a pooled one may when the store was restarted, is tried
///   once more on a new connection. A write is sent once; when its answer does not come, the store is asked what it holds.
/// - Writes of one client follow each other, within this object.
///
/// The store may be away when this is made, and may come back at any time. Calls need a tokio runtime with time and
/// I/O; making it does not.
pub struct RestStore {
    calls: Arc<Calls>,
    pairs: Flights<Result<Option<StoredPair>, StoreError>>,
    digests: Flights<Result<Held, StoreError>>,
    turns: Turns,
    timeout: Duration,
    /// Reads what was encrypted before it was stored.
    keys: Option<Arc<KeyRing>>,
    /// Of what is written here; nobody tells of what others write.
    changes: Changes,
}

/// What a look-up of digests found.
#[derive(Clone)]
enum Held {
    Digests(Option<Canonical>),
    /// It is a store of the first version by now.
    Pair(StoredPair),
}

impl RestStore {
    /// A store at `base_url`, with or without a `/` at its end; `headers` go with every call.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`] when the URL is none of `http` or `https`, or has a user, a query or a fragment, and
    /// when a header is `content-length` or `transfer-encoding`. The text does not show the URL: there may be a password in it.
    pub fn new(base_url: &str, mut headers: HeaderMap) -> Result<Self, StoreError> {
        if let Some(name) = FORBIDDEN.iter().find(|name| headers.contains_key(*name)) {
            return Err(failed(format!("the header {name} cannot be set for the token store: take it out")));
        }
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Ok(Self {
            calls: Arc::new(Calls::new(base_url, headers)?),
            pairs: Flights::new(),
            digests: Flights::new(),
            turns: Turns::new(),
            timeout: TIMEOUT,
            keys: None,
            changes: Changes::of_shared_store(),
        })
    }

    /// Sets how long a call may take in all: waiting its turn, connecting, and the whole answer. Ten seconds otherwise,
    /// which is also the most that the store contract allows.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.timeout).unwrap_or(now + TIMEOUT)
    }

    /// Reads tokens that are kept encrypted by these keys.
    pub(crate) fn opened_by(mut self, keys: Arc<KeyRing>) -> Self {
        self.keys = Some(keys);
        self
    }

    fn canonical(&self, pair: &StoredPair) -> Canonical {
        Canonical {
            access: self.digest(pair.access_token.as_ref()),
            refresh: self.digest(pair.refresh_token.as_ref()),
            version: pair.version,
        }
    }

    /// The digest of a token by what is kept of it.
    fn digest(&self, kept: Option<&Secret>) -> Option<TokenDigest> {
        let kept = kept?;
        match &self.keys {
            Some(keys) => keys.open(kept).map(|token| TokenDigest::of(token.expose())),
            None => Some(TokenDigest::of(kept.expose())),
        }
    }

    async fn shared_pair(&self, client_id: &str, family: Option<&str>) -> Result<Option<StoredPair>, StoreError> {
        let call = || {
            let (calls, timeout) = (Arc::clone(&self.calls), self.timeout);
            let (client_id, family) = (client_id.to_owned(), family.map(str::to_owned));
            async move { within(timeout, calls.get_of(&client_id, family.as_deref())).await }
        };
        self.pairs.join(client_id, family, call).await
    }

    async fn shared_digests(&self, client_id: &str, family: Option<&str>) -> Result<Held, StoreError> {
        let call = || {
            let (calls, timeout) = (Arc::clone(&self.calls), self.timeout);
            let (client_id, family) = (client_id.to_owned(), family.map(str::to_owned));
            async move { within(timeout, digests(&calls, &client_id, family.as_deref())).await }
        };
        self.digests.join(client_id, family, call).await
    }

    /// Runs `write` when its turn has come, and keeps look-ups from before it apart from those after. Without a client it
    /// concerns all. A future that is not boxed would be held, and moved, several times over: once by each that waits.
    async fn write<T>(
        &self,
        client_id: Option<&str>,
        write: impl Future<Output = Result<T, StoreError>> + Unpin,
    ) -> Result<T, StoreError> {
        let turn = self.turns.take(client_id.unwrap_or_default(), async {
            // Told last, when nobody can join a look-up from before the write any more.
            let _announcing = Announcing(&self.changes, client_id);
            let _writing = (self.pairs.writing(client_id), self.digests.writing(client_id));
            write.await
        });
        within(self.timeout, turn).await
    }

    /// Sends a write, and when its answer does not come, asks the store whether it happened. A quarter of the time that
    /// is left is kept for that; a slow write goes on meanwhile.
    async fn settle<T>(
        &self,
        deadline: Instant,
        write: impl Future<Output = Result<T, Fault>> + Unpin,
        ask: impl Future<Output = Result<Option<T>, Fault>> + Unpin,
    ) -> Result<T, Fault> {
        let patience = deadline.saturating_duration_since(Instant::now()) * 3 / 4;
        let (mut write, ask) = (pin!(write), async { ask.await.ok().flatten() });
        match tokio::time::timeout(patience, write.as_mut()).await {
            Ok(Err(Fault::Store(error))) if is_open(&error) => ask.await.ok_or(Fault::Store(error)),
            Ok(written) => written,
            Err(_) => {
                let happened = async {
                    match ask.await {
                        Some(done) => Ok(done),
                        None => pending().await,
                    }
                };
                select(write, pin!(happened)).await.factor_first().0
            }
        }
    }

    /// Writes a pair by the first version.
    async fn upsert(&self, deadline: Instant, record: &TokenRecord) -> Result<Saved, StoreError> {
        let (client_id, pair) = (&record.client_id, (&record.access.text, &record.refresh.text));
        let write = async { Ok(Saved::Saved(self.calls.post(client_id, pair).await?.unwrap_or_default())) };
        let ask = async {
            let held = self.calls.look_up(client_id).await?.pair.filter(|held| holds(held, record));
            Ok(held.map(|held| Saved::Saved(held.version.unwrap_or_default())))
        };
        self.settle(deadline, Box::pin(write), Box::pin(ask)).await.map_err(Fault::into_error)
    }

    async fn save_within(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        options: SaveOptions,
    ) -> Result<Saved, StoreError> {
        if !self.calls.speaks_v2()
            && let Some(saved) = self.save_by_first(deadline, record, options).await?
        {
            return Ok(saved);
        }
        let ask = async {
            let held = self.calls.digests(&record.client_id, Some(&record.family)).await?;
            let held = held.filter(|held| is_digest_of(held, record));
            Ok(held.and_then(|held| held.version).map(Saved::Saved))
        };
        match self.settle(deadline, Box::pin(self.calls.issue(record, options)), Box::pin(ask)).await {
            Err(Fault::Lost(error)) if options.condition == Condition::None => {
                self.save_to_another(deadline, record, error).await
            }
            saved => saved.map_err(Fault::into_error),
        }
    }

    /// Saves a pair by the first version, unless the store turns out to speak the second one and has more to know.
    async fn save_by_first(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        options: SaveOptions,
    ) -> Result<Option<Saved>, StoreError> {
        let says_it_all = is_plain(record, options);
        if !says_it_all {
            self.calls.discover().await?;
            if self.calls.speaks_v2() {
                return Ok(None);
            }
        }
        if options.condition != Condition::None {
            return Err(StoreError::unsupported("the token store has no conditional writes"));
        }
        let saved = self.upsert(deadline, record).await?;
        // It may have been the answer to this that told of the second version.
        Ok((says_it_all || !self.calls.speaks_v2()).then_some(saved))
    }

    /// Saves a pair where a store of the second version was until now. A new store may be empty, and its 404 looks like
    /// anybody's: what it holds after the write tells.
    async fn save_to_another(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        error: StoreError,
    ) -> Result<Saved, StoreError> {
        match self.calls.look_up(&record.client_id).await {
            Ok(found) if !found.is_announced => {}
            _ => return Err(error),
        }
        self.upsert(deadline, record).await?;
        match self.calls.look_up(&record.client_id).await?.pair {
            Some(held) if holds(&held, record) => {
                self.calls.learn(Speaks::V1);
                Ok(Saved::Saved(0))
            }
            _ => Err(error),
        }
    }

    /// The pair at a store that was exchanged for one of the first version, or else the error.
    async fn pair_elsewhere(&self, client_id: &str, error: StoreError) -> Result<StoredPair, StoreError> {
        pair_elsewhere(&self.calls, client_id, error).await
    }

    async fn rotate_within(
        &self,
        deadline: Instant,
        rotation: &Rotation,
        saving: &AtomicBool,
    ) -> Result<Rotated, StoreError> {
        let successor = &rotation.successor;
        if !self.calls.speaks_v2() {
            let held = self.calls.get(&successor.client_id).await?;
            if !self.calls.speaks_v2() {
                return self.exchange(deadline, held, rotation, saving).await;
            }
        }
        saving.store(true, Ordering::Relaxed);
        let ask = async {
            let held = self.calls.digests(&successor.client_id, Some(&successor.family)).await?;
            Ok(held.filter(|held| is_digest_of(held, successor)).map(|_| Rotated::Rotated))
        };
        match self.settle(deadline, Box::pin(self.calls.exchange(rotation)), Box::pin(ask)).await {
            Err(Fault::Lost(error)) => {
                let held = self.pair_elsewhere(&successor.client_id, error).await?;
                self.exchange(deadline, Some(held), rotation, saving).await
            }
            rotated => rotated.map_err(Fault::into_error),
        }
    }

    /// A rotation by the first version, of what is held.
    async fn exchange(
        &self,
        deadline: Instant,
        held: Option<StoredPair>,
        rotation: &Rotation,
        saving: &AtomicBool,
    ) -> Result<Rotated, StoreError> {
        let Some(held) = held else { return Ok(Rotated::UnknownClient) };
        if self.digest(held.refresh_token.as_ref()) != Some(rotation.presented) {
            return Ok(Rotated::Superseded);
        }
        saving.store(true, Ordering::Relaxed);
        self.upsert(deadline, &rotation.successor).await.map(|_| Rotated::Rotated)
    }

    async fn revoke_within(
        &self,
        deadline: Instant,
        revocation: &Revocation,
        if_version: Option<u64>,
    ) -> Result<Revoked, StoreError> {
        let alone = match (revocation, if_version) {
            (Revocation::Client(client_id) | Revocation::Family { client_id, .. }, None) => Some(client_id),
            _ => None,
        };
        if !self.calls.speaks_v2() {
            let Some(client_id) = alone else {
                self.calls.discover().await?;
                return match self.calls.speaks() {
                    Speaks::V2 => self.end(deadline, revocation, if_version).await.map_err(Fault::into_error),
                    _ => Err(StoreError::unsupported(
                        "the token store cannot revoke everything at once: change the key instead",
                    )),
                };
            };
            let held = self.calls.get(client_id).await?;
            if !self.calls.speaks_v2() {
                return self.void_if_concerned(deadline, held.as_ref(), client_id, revocation).await;
            }
        }
        match (self.end(deadline, revocation, if_version).await, alone) {
            (Err(Fault::Lost(error)), Some(client_id)) => {
                let held = self.pair_elsewhere(client_id, error).await?;
                self.void_if_concerned(deadline, Some(&held), client_id, revocation).await
            }
            (ended, _) => ended.map_err(Fault::into_error),
        }
    }

    /// Revokes by the second version. Of a revocation whose answer did not come it is not known how many families it
    /// ended; one at the least.
    async fn end(&self, deadline: Instant, revocation: &Revocation, if_version: Option<u64>) -> Result<Revoked, Fault> {
        let (client_id, name) = match revocation {
            Revocation::Family { client_id, family } => (Some(client_id.clone()), Some(family)),
            Revocation::Client(client_id) => (Some(client_id.clone()), None),
            Revocation::All => (None, None),
        };
        let filter = FamilyFilter { client_id, status: Some(FamilyStatus::Live), ..FamilyFilter::default() };
        let ask = async {
            let page = self.calls.page(&filter).await?;
            let is_live = page.families.iter().any(|entry| name.is_none_or(|name| entry.family == *name));
            // Of a list that goes on, what is not in this part may be in another.
            Ok((!is_live && page.next.is_none()).then_some(Revoked::Families(1)))
        };
        self.settle(deadline, Box::pin(self.calls.end(revocation, if_version)), Box::pin(ask)).await
    }

    async fn void_if_concerned(
        &self,
        deadline: Instant,
        held: Option<&StoredPair>,
        client_id: &str,
        revocation: &Revocation,
    ) -> Result<Revoked, StoreError> {
        let is_concerned = held.is_some_and(|held| self.is_concerned(held, revocation));
        if is_concerned { self.void(deadline, client_id).await } else { Ok(Revoked::Families(0)) }
    }

    /// Whether a revocation is about the pair that a store of the first version holds, which names its family itself.
    fn is_concerned(&self, held: &StoredPair, revocation: &Revocation) -> bool {
        let Revocation::Family { client_id, family } = revocation else { return true };
        let opened = held.refresh_token.as_ref().and_then(|kept| match &self.keys {
            Some(keys) => keys.open(kept),
            None => Some(kept.clone()),
        });
        opened.is_some_and(|token| unverified_record(client_id.clone(), token.clone(), token).family == *family)
    }

    /// Revokes by the first version.
    async fn void(&self, deadline: Instant, client_id: &str) -> Result<Revoked, StoreError> {
        let record = unverified_record(client_id.to_owned(), Secret::from(REVOKED), Secret::from(REVOKED));
        self.upsert(deadline, &record).await.map(|_| Revoked::Families(1))
    }
}

impl TokenStore for RestStore {
    fn kind(&self) -> &'static str {
        "rest"
    }

    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        let load = async move {
            if !self.calls.speaks_v2() {
                let pair = self.shared_pair(client_id, None).await?;
                if !self.calls.speaks_v2() {
                    return Ok(pair.map(|pair| self.canonical(&pair)));
                }
            }
            Ok(match self.shared_digests(client_id, family).await? {
                Held::Digests(held) => held,
                Held::Pair(pair) => Some(self.canonical(&pair)),
            })
        };
        Box::pin(within(self.timeout, load))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(self.shared_pair(client_id, None))
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(self.shared_pair(client_id, Some(family)))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let deadline = self.deadline();
            let saved =
                self.write(Some(&record.client_id), Box::pin(self.save_within(deadline, record, options))).await;
            saved.map_err(StoreError::on_save)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let deadline = self.deadline();
            let (client_id, saving) = (&rotation.successor.client_id, AtomicBool::new(false));
            let rotated = self.write(Some(client_id), Box::pin(self.rotate_within(deadline, rotation, &saving))).await;
            // The time limit is around all calls, so which of them it cut off is noted beside.
            rotated.map_err(|error| if saving.load(Ordering::Relaxed) { error.on_save() } else { error })
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let deadline = self.deadline();
            let client_id = match revocation {
                Revocation::Client(client_id) | Revocation::Family { client_id, .. } => Some(client_id.as_str()),
                Revocation::All => None,
            };
            self.write(client_id, Box::pin(self.revoke_within(deadline, revocation, if_version))).await
        })
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        let list = async move {
            self.calls.discover().await?;
            if !self.calls.speaks_v2() {
                return Err(StoreError::unsupported("the token store cannot list what it holds"));
            }
            self.calls.page(filter).await.map_err(Fault::into_error)
        };
        Box::pin(within(self.timeout, list))
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        let spend = async move {
            self.calls.discover().await?;
            if !self.calls.speaks_v2() {
                return Err(StoreError::unsupported("the token store speaks the first version, which has no tickets"));
            }
            self.calls.spend(ticket, expires_at).await.map_err(Fault::into_error)
        };
        Box::pin(within(self.timeout, spend))
    }

    fn patience(&self) -> Duration {
        self.timeout
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        let promises = async {
            self.calls.discover().await?;
            Ok(if self.calls.speaks_v2() { Promises::ALL } else { Promises::NONE })
        };
        Box::pin(within(self.timeout, promises))
    }
}

/// Tells of a change when a write ends, also when it failed or was given up: it may have happened.
struct Announcing<'a>(&'a Changes, Option<&'a str>);

impl Drop for Announcing<'_> {
    fn drop(&mut self) {
        match self.1 {
            Some(client_id) => self.0.client_changed(client_id),
            None => self.0.anything_changed(),
        }
    }
}

impl fmt::Debug for RestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestStore").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

async fn digests(calls: &Calls, client_id: &str, family: Option<&str>) -> Result<Held, StoreError> {
    match calls.digests(client_id, family).await {
        Ok(held) => Ok(Held::Digests(held)),
        Err(Fault::Store(error)) => Err(error),
        Err(Fault::Lost(error)) => pair_elsewhere(calls, client_id, error).await.map(Held::Pair),
    }
}

async fn pair_elsewhere(calls: &Calls, client_id: &str, error: StoreError) -> Result<StoredPair, StoreError> {
    match calls.get(client_id).await {
        Ok(Some(pair)) if !calls.speaks_v2() => Ok(pair),
        _ => Err(error),
    }
}

/// Whether the first version has a store hold all that there is to know of a record: its tokens tell the rest.
fn is_plain(record: &TokenRecord, options: SaveOptions) -> bool {
    let (access, refresh) = (record.access.text.clone(), record.refresh.text.clone());
    options == SaveOptions::default() && *record == unverified_record(record.client_id.clone(), access, refresh)
}

/// Whether an error leaves it open what became of a write.
fn is_open(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::TimedOut | StoreErrorKind::Unreachable)
}

fn holds(held: &StoredPair, record: &TokenRecord) -> bool {
    held.access_token.as_ref() == Some(&record.access.text) && held.refresh_token.as_ref() == Some(&record.refresh.text)
}

fn is_digest_of(held: &Canonical, record: &TokenRecord) -> bool {
    held.access == Some(record.access.digest) && held.refresh == Some(record.refresh.digest)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

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
            "data:hush",
        ] {
            let error = RestStore::new(base, HeaderMap::new()).expect_err(base);
            assert_eq!(error.kind(), StoreErrorKind::Failed);
            assert!(!format!("{error} {error:?}").contains("hush"), "{base}: {error:?}");
        }
    }

    #[test]
    fn headers_that_frame_the_request_are_refused() {
        for name in FORBIDDEN {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("hush"))]);
            let error = RestStore::new("http://db.example", headers).expect_err("refused");
            assert!(!format!("{error:?}").contains("hush"));
        }
    }
}
