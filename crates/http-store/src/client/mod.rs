//! Tokens behind an HTTP API.
//!
//! The API is that of `fastauth-api`: two calls, `GET` and `POST` of `{base}/token?client_id=…`. It has no
//! compare-and-swap, so [`rotate`](TokenStore::rotate) is a look-up followed by a write, one at a time for each client
//! within this process. Between processes two rotations of one refresh token can both succeed; the store then holds
//! the pair that was written last. It holds one pair of a client and no family, so a client is revoked by writing a
//! pair over its own that is no pair of tokens.
//!
//! A store that announces the second version of the API decides on all of that itself. Which one a store speaks is
//! learnt from its answers: the first operation for which it matters asks. A store of the first version may announce the second
//! one later; what announced it once is never taken for less, since something that takes the announcement out would have
//! rotations and revocations decided by the wrong rules.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING},
};
use tokio::{sync::Semaphore, time::Instant};

use self::{
    calls::{Calls, Speaks, failed, until},
    settle::{Asked, Repeat, settle},
    v1::Found,
};
use crate::flight::{Flights, Turns};
use fastauth_core::store::{
    Canonical, Changes, Condition, FamilyFilter, FamilyPage, FamilyStatus, Promises, Revocation, Revoked, Rotated,
    Rotation, SaveOptions, Saved, StoreError, StoreFuture, StoredPair, TokenDigest, TokenRecord, TokenStore,
    carried_through,
};
use fastauth_core::{keys::KeyRing, secret::Secret, token::unverified_record};

mod calls;
mod clients;
mod places;
mod settle;
mod v1;
mod v2;
mod voiding;

/// How long a call may take in all, as the contract has it.
const TIMEOUT: Duration = Duration::from_secs(10);

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
/// - A look-up whose connection broke before it was answered, or that has no answer after a second, is sent once more on a new
///   connection, and no other kept connection is used again. When the answer to a write does not come, the store is asked what
///   it holds. A write that did not happen because its connection broke is sent once more; where nothing is heard of it, a
///   revocation alone is: another write might arrive twice, after what was done since.
/// - Idle connections are kept for four seconds, which is less than servers usually do.
/// - At most an eighth of the process's descriptors, and 512, are waited by at a time. While the store answers, others wait for
///   their turn; one that has not answered for a second has all others refused at once until it does.
/// - With the first version, writes of one client follow each other within this object; a revocation goes before those that wait.
/// - A revocation goes on when its future is dropped.
///
/// The store may be away when this is made, and may come back at any time. Calls need a tokio runtime with time and
/// I/O; making it does not. A clone is the same store.
#[derive(Clone)]
pub struct RestStore {
    calls: Arc<Calls>,
    pairs: Flights<Result<Option<StoredPair>, StoreError>>,
    digests: Flights<Result<Option<Canonical>, StoreError>>,
    turns: Turns,
    timeout: Duration,
    /// Reads what was encrypted before it was stored.
    keys: Option<Arc<KeyRing>>,
    /// Of what is written here; nobody tells of what others write.
    changes: Arc<Changes>,
    /// How many revocations are looked after, once they are done.
    looked_after: Arc<Semaphore>,
    /// And how many of them are looked at.
    looked_at: Arc<Semaphore>,
}

/// Who goes before whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Usual,
    /// What takes a right away.
    First,
}

impl RestStore {
    /// A store at `base_url`, with or without a `/` at its end; `headers` go with every call.
    ///
    /// # Errors
    ///
    /// [`Failed`](fastauth_core::store::StoreErrorKind::Failed) when the URL is none of `http` or `https`, or has a user, a query or a fragment, when a header is
    /// `content-length` or `transfer-encoding`, and when there are no certificates to verify an `https` store by. The text does
    /// not show the URL: there may be a password in it.
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
            changes: Arc::new(Changes::of_shared_store()),
            looked_after: Arc::new(Semaphore::new(voiding::LOOKED_AFTER)),
            looked_at: Arc::new(Semaphore::new(voiding::LOOKED_AT)),
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
    #[doc(hidden)]
    #[must_use]
    pub fn opened_by(mut self, keys: Arc<KeyRing>) -> Self {
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
            let (calls, deadline) = (Arc::clone(&self.calls), self.deadline());
            let (client_id, family) = (client_id.to_owned(), family.map(str::to_owned));
            async move { until(deadline, calls.get_of(&client_id, family.as_deref())).await }
        };
        self.pairs.join(client_id, family, call).await
    }

    async fn shared_digests(&self, client_id: &str, family: Option<&str>) -> Result<Option<Canonical>, StoreError> {
        let call = || {
            let (calls, deadline) = (Arc::clone(&self.calls), self.deadline());
            let (client_id, family) = (client_id.to_owned(), family.map(str::to_owned));
            async move { until(deadline, calls.digests(&client_id, family.as_deref())).await }
        };
        self.digests.join(client_id, family, call).await
    }

    /// Asks the store, unless it is silent and enough others wait for it.
    async fn ask<T>(&self, asking: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let asking = async {
            let _place = self.calls.places.take().await?;
            asking.await
        };
        until(self.deadline(), asking).await
    }

    /// Runs `write` when its turn has come, and keeps look-ups from before it apart from those after. Without a client it
    /// concerns all. A future that is not boxed would be held, and moved, several times over: once by each that waits.
    async fn write<T>(
        &self,
        deadline: Instant,
        client_id: Option<&str>,
        urgency: Urgency,
        write: impl Future<Output = Result<T, StoreError>> + Unpin,
        changes_nothing: impl FnOnce(&T) -> bool,
    ) -> Result<T, StoreError> {
        let (places, is_first) = (&self.calls.places, urgency == Urgency::First);
        let writing = async {
            // A store of the second version decides on each write by itself.
            let queue = (!self.calls.speaks_v2()).then(|| self.turns.queue(client_id.unwrap_or_default()));
            let _turn = match &queue {
                None => None,
                Some(queue) if is_first => Some(places.queue(queue.next_turn()).await?),
                Some(queue) => Some(places.queue(queue.turn()).await?),
            };
            let _place = if is_first { places.take_to_revoke().await? } else { places.take().await? };
            // Told last, when nobody can join a look-up from before the write any more.
            let mut announcing = Announcing { changes: &self.changes, client_id, is_needless: false };
            let _writing = (self.pairs.writing(client_id), self.digests.writing(client_id));
            let written = write.await;
            announcing.is_needless = written.as_ref().is_ok_and(changes_nothing);
            written
        };
        until(deadline, writing).await
    }

    /// Writes a pair by the first version, perhaps again if the store still holds what `is_replaced` knows.
    async fn upsert(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        repeat: Repeat,
        is_replaced: impl Fn(Option<&StoredPair>) -> bool,
    ) -> Result<Saved, StoreError> {
        let (client_id, is_replaced) = (&record.client_id, &is_replaced);
        let write = move |via| async move {
            let pair = (&record.access.text, &record.refresh.text);
            Ok(Saved::Saved(self.calls.post(client_id, pair, via).await?.unwrap_or_default()))
        };
        let ask = move || async move {
            Ok(match self.calls.get(client_id).await? {
                Some(held) if holds(&held, record) => Asked::Done(Saved::Saved(held.version.unwrap_or_default())),
                held if is_replaced(held.as_ref()) => Asked::NotDone,
                _ => Asked::Unclear,
            })
        };
        settle(deadline, repeat, write, ask).await
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
        let write = move |via| self.calls.issue(record, options, via);
        let ask = move || async move {
            let held = self.calls.digests(&record.client_id, Some(&record.family)).await?;
            let version = held.filter(|held| is_digest_of(held, record)).and_then(|held| held.version);
            Ok(version.map_or(Asked::NotDone, |version| Asked::Done(Saved::Saved(version))))
        };
        let repeat = if options.condition == Condition::None { Repeat::WhenBroken } else { Repeat::Never };
        settle(deadline, repeat, write, ask).await
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
        let saved = self.upsert(deadline, record, Repeat::WhenBroken, |_| true).await?;
        // It may have been the answer to this that told of the second version.
        Ok((says_it_all || !self.calls.speaks_v2()).then_some(saved))
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
                if let Some(lost) = self.lost(held.as_ref(), rotation) {
                    return Ok(lost);
                }
                saving.store(true, Ordering::Relaxed);
                let is_replaced = |held: Option<&StoredPair>| self.lost(held, rotation).is_none();
                let rotated = self.upsert(deadline, successor, Repeat::WhenBroken, is_replaced).await;
                return rotated.map(|_| Rotated::Rotated);
            }
        }
        saving.store(true, Ordering::Relaxed);
        let write = move |via| self.calls.exchange(rotation, via);
        let ask = move || async move {
            Ok(match self.calls.digests(&successor.client_id, Some(&successor.family)).await? {
                Some(held) if is_digest_of(&held, successor) => Asked::Done(Rotated::Rotated),
                Some(held) if held.refresh == Some(rotation.presented) => Asked::NotDone,
                _ => Asked::Unclear,
            })
        };
        // Without a grace, the second of two that arrive looks like somebody else's.
        let repeat = if rotation.grace.is_zero() { Repeat::Never } else { Repeat::WhenBroken };
        settle(deadline, repeat, write, ask).await
    }

    /// What a rotation by the first version comes to where this is held; `None` if it can be done.
    fn lost(&self, held: Option<&StoredPair>, rotation: &Rotation) -> Option<Rotated> {
        match held {
            None => Some(Rotated::UnknownClient),
            Some(held) if self.digest(held.refresh_token.as_ref()) == Some(rotation.presented) => None,
            Some(_) => Some(Rotated::Superseded),
        }
    }

    /// Whether a rotation by the first version is lost before its turn comes: of many that wait for theirs one alone can be done.
    async fn lost_before_its_turn(&self, rotation: &Rotation) -> Result<Option<Rotated>, StoreError> {
        let client_id = &rotation.successor.client_id;
        if self.calls.speaks() != Speaks::V1 || !self.turns.queue(client_id).is_busy() {
            return Ok(None);
        }
        let held = self.ask(Box::pin(self.calls.get(client_id))).await?;
        Ok(self.lost(held.as_ref(), rotation).filter(|_| !self.calls.speaks_v2()))
    }

    async fn revoke_within(
        &self,
        deadline: Instant,
        revocation: &Revocation,
        if_version: Option<u64>,
    ) -> Result<Revoked, StoreError> {
        if self.calls.speaks_v2() {
            return self.end(deadline, revocation, if_version).await;
        }
        let client_id = match revocation {
            Revocation::Client(client_id) | Revocation::Family { client_id, .. } if if_version.is_none() => client_id,
            _ => {
                self.calls.discover().await?;
                return match self.calls.speaks() {
                    Speaks::V2 => self.end(deadline, revocation, if_version).await,
                    _ => Err(StoreError::unsupported(
                        "the token store cannot revoke everything at once: change the key instead",
                    )),
                };
            }
        };
        match self.calls.look_up(client_id, None).await? {
            _ if self.calls.speaks_v2() => self.end(deadline, revocation, if_version).await,
            Found::Pair(held) if self.is_concerned(&held, revocation) => self.void(deadline, client_id, &held).await,
            Found::Nothing { is_said: false } => self.void_unknown(deadline, client_id).await,
            _ => Ok(Revoked::Families(0)),
        }
    }

    /// Revokes by the second version. Of a revocation whose answer did not come it is not known how many families it
    /// ended; one at the least.
    async fn end(
        &self,
        deadline: Instant,
        revocation: &Revocation,
        if_version: Option<u64>,
    ) -> Result<Revoked, StoreError> {
        let (client_id, name) = match revocation {
            Revocation::Family { client_id, family } => (Some(client_id.clone()), Some(family)),
            Revocation::Client(client_id) => (Some(client_id.clone()), None),
            Revocation::All => (None, None),
        };
        let family = name.cloned();
        let filter = &FamilyFilter { client_id, family, status: Some(FamilyStatus::Live), ..FamilyFilter::default() };
        let write = move |via| self.calls.end(revocation, if_version, via);
        let ask = move || async move {
            let page = self.calls.page(filter).await?;
            let is_live = page.families.iter().any(|entry| name.is_none_or(|name| entry.family == *name));
            Ok(match page.next {
                _ if is_live => Asked::NotDone,
                // Of a list that goes on, what is not in this part may be in another.
                Some(_) => Asked::Unclear,
                None => Asked::Done(Revoked::Families(1)),
            })
        };
        let repeat = if if_version.is_none() { Repeat::WhenSilent } else { Repeat::Never };
        settle(deadline, repeat, write, ask).await
    }

    async fn revoke_now(&self, revocation: &Revocation, if_version: Option<u64>) -> Result<Revoked, StoreError> {
        let deadline = self.deadline();
        let client_id = match revocation {
            Revocation::Client(client_id) | Revocation::Family { client_id, .. } => Some(client_id.as_str()),
            Revocation::All => None,
        };
        let revoking = Box::pin(self.revoke_within(deadline, revocation, if_version));
        // It may be long since another node revoked the same, of which nobody has told this one.
        let changes_nothing = |revoked: &Revoked| *revoked == Revoked::ConditionFailed;
        self.write(deadline, client_id, Urgency::First, revoking, changes_nothing).await
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
            self.shared_digests(client_id, family).await
        };
        Box::pin(self.ask(load))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(self.ask(self.shared_pair(client_id, None)))
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, family: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(self.ask(self.shared_pair(client_id, Some(family))))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let deadline = self.deadline();
            let save = Box::pin(self.save_within(deadline, record, options));
            let changes_nothing = |saved: &Saved| *saved == Saved::ConditionFailed;
            let saved = self.write(deadline, Some(&record.client_id), Urgency::Usual, save, changes_nothing).await;
            saved.map_err(StoreError::on_save)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let deadline = self.deadline();
            if let Some(lost) = self.lost_before_its_turn(rotation).await? {
                return Ok(lost);
            }
            let (client_id, saving) = (&rotation.successor.client_id, AtomicBool::new(false));
            let rotate = Box::pin(self.rotate_within(deadline, rotation, &saving));
            // By a reuse the family was revoked.
            let changes_nothing = |rotated: &Rotated| !matches!(rotated, Rotated::Rotated | Rotated::Reused);
            let rotated = self.write(deadline, Some(client_id), Urgency::Usual, rotate, changes_nothing).await;
            // The time limit is around all calls, so which of them it cut off is noted beside.
            rotated.map_err(|error| if saving.load(Ordering::Relaxed) { error.on_save() } else { error })
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let (store, revocation) = (self.clone(), revocation.clone());
            carried_through(async move { store.revoke_now(&revocation, if_version).await }).await
        })
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        Box::pin(self.ask(async move {
            self.calls.discover().await?;
            if !self.calls.speaks_v2() {
                return Err(StoreError::unsupported("the token store cannot list what it holds"));
            }
            self.calls.page(filter).await
        }))
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        Box::pin(self.ask(async move {
            self.calls.discover().await?;
            if !self.calls.speaks_v2() {
                return Err(StoreError::unsupported("the token store speaks the first version, which has no tickets"));
            }
            self.calls.spend(ticket, expires_at).await
        }))
    }

    fn patience(&self) -> Duration {
        self.timeout
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(self.ask(async {
            self.calls.discover().await?;
            Ok(if self.calls.speaks_v2() { Promises::ALL } else { Promises::NONE })
        }))
    }
}

/// Tells of a change when a write ends, also when it failed or was given up: it may have happened.
struct Announcing<'a> {
    changes: &'a Changes,
    client_id: Option<&'a str>,
    is_needless: bool,
}

impl Drop for Announcing<'_> {
    fn drop(&mut self) {
        match self.client_id {
            _ if self.is_needless => {}
            Some(client_id) => self.changes.client_changed(client_id),
            None => self.changes.anything_changed(),
        }
    }
}

impl fmt::Debug for RestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestStore").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Whether the first version has a store hold all that there is to know of a record: its tokens tell the rest.
fn is_plain(record: &TokenRecord, options: SaveOptions) -> bool {
    let (access, refresh) = (record.access.text.clone(), record.refresh.text.clone());
    // One family, whose others end, is within any number of them.
    !options.keep_others
        && options.condition == Condition::None
        && *record == unverified_record(record.client_id.clone(), access, refresh)
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
