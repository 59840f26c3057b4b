//! The token store in memory, for tests and trials.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::log::RecentChanges;
use super::{
    ChangeKind, ChangeLog, Changes, Comparison, Condition, CurrentTokens, Promises, ReplacedToken, Revocation, Revoked,
    Rotated, Rotation, SCANNED_AT_ONCE, SaveOptions, Saved, Session, SessionEntry, SessionFilter, SessionPage,
    SessionStatus, StoreError, StoreFuture, StoredPair, TICKET_KEPT, TokenDigest, TokenEntry, TokenRecord, TokenStore,
    Verdict,
};
use crate::{clock::Clock, secret::eq_in_constant_time};

mod log;

/// A token store in memory, for tests and trials: its tokens are gone when the process ends, and no other process sees them.
///
/// A clone is another handle on the same tokens, so a test can keep one and look at what the server stored. Revoked sessions are
/// kept, too. Its [log](TokenStore::log) has the last 65,536 changes.
#[derive(Clone)]
pub struct MemoryStore {
    held: Arc<Mutex<Held>>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct Held {
    clients: BTreeMap<String, Client>,
    version: u64,
    clock: Clock,
    /// The used tickets, each after the time when it expires.
    spent: BTreeSet<(u64, String)>,
    log: RecentChanges,
}

/// The sessions of a client. Each look-up finds its session by one of these maps, however many there are.
#[derive(Default)]
struct Client {
    sessions: BTreeMap<String, HeldSession>,
    /// The names of the live sessions by their versions: the newest is the last.
    live: BTreeMap<u64, String>,
    /// The names of the sessions that began with a refresh token which names none.
    by_consumed: BTreeSet<Holder>,
}

/// The bytes of a digest, and the session that has consumed it.
type Holder = ([u8; 32], String);

struct HeldSession {
    record: TokenRecord,
    replaced: Option<ReplacedPair>,
    is_access_revoked: bool,
    status: SessionStatus,
    issued_at: u64,
    renewed_at: u64,
    version: u64,
}

/// The pair that a rotation has replaced.
#[derive(Clone, Copy)]
struct ReplacedPair {
    /// The consumed token.
    refresh: TokenDigest,
    /// The access token, unless it was revoked.
    access: Option<TokenDigest>,
    /// The time of the rotation by [`Clock::elapsed`].
    at: Duration,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::by(Clock::default())
    }

    /// Creates an empty store that goes by a test's clock.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn with_clock(clock: &crate::manual_clock::ManualClock) -> Self {
        Self::by(Clock::set_by(clock))
    }

    fn by(clock: Clock) -> Self {
        let held = Held { clock, ..Held::default() };
        Self { held: Arc::new(Mutex::new(held)), changes: Arc::new(Changes::of_own_store()) }
    }

    fn current(&self, client_id: &str, session: Option<&str>) -> Option<CurrentTokens> {
        let held = self.held();
        held.current(client_id, session).map(|session| session.current(held.clock.elapsed()))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

// No caller's code runs while the map is locked, so a poisoned lock still guards a whole map.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    fn newest(&self) -> Option<&HeldSession> {
        self.sessions.get(self.live.last_key_value()?.1)
    }

    /// Returns the session without a name if it has or has consumed the refresh token, else the session that began with the token.
    fn holder(&self, refresh: TokenDigest) -> Option<&HeldSession> {
        if let Some(nameless) = self.sessions.get("").filter(|session| session.holds(refresh)) {
            return Some(nameless);
        }
        let (digest, name) = self.by_consumed.range((*refresh.as_bytes(), String::new())..).next()?;
        self.sessions.get(name).filter(|_| digest == refresh.as_bytes())
    }

    fn put(&mut self, session: HeldSession) {
        let name = session.record.session.clone();
        self.forget(&name);
        if let Some(replaced) = session.replaced.filter(|_| session.record.generation == 0) {
            self.by_consumed.insert((*replaced.refresh.as_bytes(), name.clone()));
        }
        self.live.insert(session.version, name.clone());
        self.sessions.insert(name, session);
    }

    fn forget(&mut self, name: &str) {
        let Some(session) = self.sessions.remove(name) else { return };
        self.live.remove(&session.version);
        if let Some(replaced) = session.replaced {
            self.by_consumed.remove(&(*replaced.refresh.as_bytes(), name.to_owned()));
        }
    }

    /// Ends a session if it is live. The newest session that is left gets a new version, since the versions of a client only grow
    /// and it may be older than the ended one.
    fn end(&mut self, name: &str, status: SessionStatus, version: &mut u64) -> u64 {
        let Some(session) = self.sessions.get_mut(name).filter(|session| session.is_live()) else { return 0 };
        self.live.remove(&session.version);
        (session.status, session.version) = (status, *version + 1);
        *version += 2;
        if let Some((_, newest)) = self.live.pop_last() {
            if let Some(session) = self.sessions.get_mut(&newest) {
                session.version = *version;
            }
            self.live.insert(*version, newest);
        }
        1
    }

    /// Ends the oldest live sessions until `left` are left, and returns how many were ended.
    fn end_oldest(&mut self, left: usize) -> u64 {
        let mut ended = 0;
        while self.live.len() > left
            && let Some((_, name)) = self.live.pop_first()
        {
            if let Some(session) = self.sessions.get_mut(&name) {
                session.status = SessionStatus::Revoked;
            }
            ended += 1;
        }
        ended
    }

    /// Revokes the access tokens of a live session, or of all, and returns how many sessions that were. From the oldest of them on, the
    /// live sessions get new versions, in their order.
    fn revoke_access(&mut self, session: Option<&str>, version: &mut u64) -> u64 {
        let oldest = match session {
            Some(name) => self.sessions.get(name).filter(|session| session.is_live()).map(|session| session.version),
            None => Some(0),
        };
        let Some(oldest) = oldest else { return 0 };
        let mut revoked = 0;
        for name in self.live.split_off(&oldest).into_values() {
            *version += 1;
            if let Some(held) = self.sessions.get_mut(&name) {
                held.version = *version;
                if session.is_none_or(|session| session == name) {
                    held.revoke_access();
                    revoked += 1;
                }
            }
            self.live.insert(*version, name);
        }
        revoked
    }
}

impl Held {
    fn newest(&self, client_id: &str) -> Option<&HeldSession> {
        self.clients.get(client_id)?.newest()
    }

    /// Returns the named session if it is live, else the newest of the client.
    fn current(&self, client_id: &str, name: Option<&str>) -> Option<&HeldSession> {
        let client = self.clients.get(client_id)?;
        let named = name.and_then(|name| client.sessions.get(name)).filter(|session| session.is_live());
        named.or_else(|| client.newest())
    }

    fn meets(&self, client_id: &str, condition: Condition) -> bool {
        condition.is_met_by(self.newest(client_id).map(|session| session.version))
    }

    fn save(&mut self, record: &TokenRecord, options: SaveOptions) -> Saved {
        if !self.meets(&record.client_id, options.condition) {
            return Saved::ConditionFailed;
        }
        if let Some(saved) = self.saved_before(record) {
            return saved;
        }
        if !options.keep_others {
            self.clients.remove(&record.client_id);
        }
        let version = self.put(record.clone(), None, None);
        if let Some(client) = self.clients.get_mut(&record.client_id).filter(|_| options.max_sessions > 0)
            && client.end_oldest(options.max_sessions) > 0
        {
            self.note(ChangeKind::Revoke, Some(&record.client_id), None);
        }
        let kind = if options.keep_others { ChangeKind::Issue } else { ChangeKind::Replace };
        self.note(kind, Some(&record.client_id), Some(&record.session));
        Saved::Saved(version)
    }

    /// Writes a change to the log, with the version that it led to.
    fn note(&mut self, kind: ChangeKind, client_id: Option<&str>, session: Option<&str>) {
        self.log.note(kind, client_id, session, self.version);
    }

    fn saved_before(&self, record: &TokenRecord) -> Option<Saved> {
        if record.session.is_empty() {
            return None;
        }
        let held = self.clients.get(&record.client_id)?.sessions.get(&record.session)?;
        held.session(self.clock.elapsed()).judge_save(record, held.access().map(|access| access.digest), held.version)
    }

    fn put(&mut self, record: TokenRecord, replaced: Option<ReplacedPair>, issued_at: Option<u64>) -> u64 {
        let now = self.clock.unix_now();
        self.version += 1;
        let client_id = record.client_id.clone();
        let session = HeldSession {
            replaced,
            is_access_revoked: false,
            status: SessionStatus::Live,
            issued_at: issued_at.unwrap_or(now),
            renewed_at: now,
            version: self.version,
            record,
        };
        self.clients.entry(client_id).or_default().put(session);
        self.version
    }

    /// Returns the session of the presented token: the one that it names, else the one that [`Client::holder`] finds.
    fn presented(&self, rotation: &Rotation) -> Option<&HeldSession> {
        let client = self.clients.get(&rotation.successor.client_id)?;
        let named = rotation.presented_session.as_ref();
        let named = named.and_then(|(session, _)| client.sessions.get(session));
        named.or_else(|| client.holder(rotation.presented))
    }

    fn rotate(&mut self, rotation: &Rotation) -> Rotated {
        let client_id = &rotation.successor.client_id;
        let Some(session) = self.presented(rotation) else {
            return if self.newest(client_id).is_some() { Rotated::Superseded } else { Rotated::UnknownClient };
        };
        match session.session(self.clock.elapsed()).judge(rotation) {
            Verdict::Rotate => {
                let name = session.record.session.clone();
                let issued_at = session.issued_at;
                let access = session.access().map(|access| access.digest);
                let replaced = ReplacedPair { refresh: rotation.presented, access, at: self.clock.elapsed() };
                if let Some(client) = self.clients.get_mut(client_id) {
                    client.forget(&name);
                }
                self.put(rotation.successor.clone(), Some(replaced), Some(issued_at));
                if name != rotation.successor.session {
                    self.note(ChangeKind::Revoke, Some(client_id), Some(&name));
                }
                self.note(ChangeKind::Rotate, Some(client_id), Some(&rotation.successor.session));
                Rotated::Rotated
            }
            Verdict::AccessRevoked(version) => Rotated::AccessRevoked(version),
            Verdict::Repeat => Rotated::Repeated(session.pair()),
            Verdict::Reuse => {
                let session = session.record.session.clone();
                self.end(&Revocation::Session { client_id: client_id.clone(), session }, SessionStatus::Reused);
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        }
    }

    /// Ends the sessions that are still live, and returns how many. Each session is visited once in its life.
    fn end(&mut self, revocation: &Revocation, status: SessionStatus) -> u64 {
        let version = &mut self.version;
        let ended = match revocation {
            Revocation::Session { client_id, session } => {
                self.clients.get_mut(client_id).map_or(0, |client| client.end(session, status, version))
            }
            Revocation::Client(client_id) => self.clients.get_mut(client_id).map_or(0, |client| client.end_oldest(0)),
            Revocation::All => self.clients.values_mut().map(|client| client.end_oldest(0)).sum(),
        };
        if ended > 0 {
            match revocation {
                Revocation::Session { client_id, session } => {
                    self.note(ChangeKind::Revoke, Some(client_id), Some(session));
                }
                Revocation::Client(client_id) => self.note(ChangeKind::Revoke, Some(client_id), None),
                Revocation::All => self.note(ChangeKind::Revoke, None, None),
            }
        }
        ended
    }

    fn spend(&mut self, ticket: &str, expires_at: u64) -> bool {
        let now = self.clock.unix_now();
        while self.spent.first().is_some_and(|(expires_at, _)| expires_at.saturating_add(TICKET_KEPT) < now) {
            self.spent.pop_first();
        }
        self.spent.insert((expires_at, ticket.to_owned()))
    }

    fn revoke(&mut self, revocation: &Revocation, if_version: Option<u64>) -> Revoked {
        if let (Some(version), Revocation::Session { client_id, .. } | Revocation::Client(client_id)) =
            (if_version, revocation)
            && !self.meets(client_id, Condition::Version(version))
        {
            return Revoked::ConditionFailed;
        }
        Revoked::Sessions(self.end(revocation, SessionStatus::Revoked))
    }

    fn revoke_access(&mut self, client_id: &str, session: Option<&str>) -> u64 {
        let version = &mut self.version;
        let revoked = self.clients.get_mut(client_id).map_or(0, |client| client.revoke_access(session, version));
        if revoked > 0 {
            self.note(ChangeKind::RevokeAccess, Some(client_id), session);
        }
        revoked
    }

    /// Looks at no more than [`SCANNED_AT_ONCE`] sessions: if few of them match, the page is short and says where to go on.
    fn list(&self, filter: &SessionFilter) -> SessionPage {
        let (after_client, after_session) = filter.after.as_ref().map(|after| (&after.0, &after.1)).unzip();
        let first = [filter.client_id.as_deref(), filter.client_id_prefix.as_deref(), after_client.map(String::as_str)];
        let first = first.into_iter().flatten().max().unwrap_or_default();
        let clients = self.clients.range::<str, _>((Bound::Included(first), Bound::Unbounded));
        let clients = clients.take_while(|(id, _)| filter.client_id.as_ref().is_none_or(|only| *id == only));
        let prefix = filter.client_id_prefix.as_deref().unwrap_or_default();
        let clients = clients.take_while(|(id, _)| id.starts_with(prefix));
        let sessions = clients.flat_map(|(id, client)| {
            let after = after_session.filter(|_| after_client == Some(id)).map(String::as_str);
            let from = after.or(filter.session.as_deref().filter(|_| filter.client_id.is_some())).unwrap_or_default();
            client.sessions.range::<str, _>((Bound::Included(from), Bound::Unbounded)).map(|(_, session)| session)
        });
        let is_after =
            |session: &&HeldSession| filter.after.as_ref().is_none_or(|after| session.key() > (&after.0, &after.1));
        let entries = sessions.filter(is_after).map(|session| Ok::<_, Infallible>(session.entry()));
        let Ok(page) = filter.page(entries, SCANNED_AT_ONCE);
        page
    }
}

impl ReplacedPair {
    fn access(&self, now: Duration) -> Option<ReplacedToken> {
        Some(ReplacedToken { digest: self.access?, age: now.saturating_sub(self.at) })
    }
}

impl HeldSession {
    fn key(&self) -> (&str, &str) {
        (&self.record.client_id, &self.record.session)
    }

    fn is_live(&self) -> bool {
        self.status == SessionStatus::Live
    }

    /// Returns the access token, unless it was revoked.
    fn access(&self) -> Option<&TokenEntry> {
        if self.is_access_revoked { None } else { Some(&self.record.access) }
    }

    fn revoke_access(&mut self) {
        self.is_access_revoked = true;
        if let Some(replaced) = &mut self.replaced {
            replaced.access = None;
        }
    }

    fn holds(&self, refresh: TokenDigest) -> bool {
        self.record.refresh.digest == refresh || self.replaced.is_some_and(|replaced| replaced.refresh == refresh)
    }

    fn session(&self, now: Duration) -> Session {
        Session {
            generation: self.record.generation,
            refresh: Some(self.record.refresh.digest),
            consumed: self.replaced.map(|replaced| (replaced.refresh, now.saturating_sub(replaced.at))),
            access_revoked: self.is_access_revoked.then_some(self.version),
            status: self.status,
        }
    }

    fn current(&self, now: Duration) -> CurrentTokens {
        CurrentTokens {
            access: self.access().map(|access| access.digest),
            refresh: Some(self.record.refresh.digest),
            previous_access: self.replaced.and_then(|replaced| replaced.access(now)),
            version: Some(self.version),
        }
    }

    fn compare(&self, token: &[u8], now: Duration) -> Comparison {
        // Comparing texts is much faster than hashing one. If they differ, the stored form may be encrypted.
        if self.access().is_some_and(|access| eq_in_constant_time(access.text.expose().as_bytes(), token)) {
            return Comparison::Current;
        }
        Comparison::new(TokenDigest::of(token), Some(&self.current(now)))
    }

    fn pair(&self) -> StoredPair {
        StoredPair {
            access_token: self.access().map(|access| access.text.clone()),
            refresh_token: Some(self.record.refresh.text.clone()),
            version: Some(self.version),
        }
    }

    fn entry(&self) -> SessionEntry {
        SessionEntry {
            client_id: self.record.client_id.clone(),
            session: self.record.session.clone(),
            generation: self.record.generation,
            kid: self.record.kid.clone(),
            status: self.status,
            issued_at: self.issued_at,
            renewed_at: self.renewed_at,
            access_expires_at: self.record.access.expires_at,
            refresh_expires_at: self.record.refresh.expires_at,
            version: self.version,
        }
    }
}

impl TokenStore for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn load<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        Box::pin(async move { Ok(self.current(client_id, session)) })
    }

    fn compare_now(
        &self,
        client_id: &str,
        session: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        let held = self.held();
        let session = held.current(client_id, session);
        let now = held.clock.elapsed();
        Some(Ok(session.map_or(Comparison::UnknownClient, |session| session.compare(token, now))))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { Ok(self.held().newest(client_id).map(HeldSession::pair)) })
    }

    fn pair_of<'a>(&'a self, client_id: &'a str, session: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { Ok(self.held().current(client_id, Some(session)).map(HeldSession::pair)) })
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let saved = self.held().save(record, options);
            if saved != Saved::ConditionFailed {
                self.changes.client_changed(&record.client_id);
            }
            Ok(saved)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let rotated = self.held().rotate(rotation);
            if matches!(rotated, Rotated::Rotated | Rotated::Reused) {
                self.changes.client_changed(&rotation.successor.client_id);
            }
            Ok(rotated)
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let revoked = self.held().revoke(revocation, if_version);
            if !matches!(revoked, Revoked::Sessions(0) | Revoked::ConditionFailed) {
                self.changes.revoked(revocation);
            }
            Ok(revoked)
        })
    }

    fn revoke_access<'a>(&'a self, client_id: &'a str, session: Option<&'a str>) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let revoked = self.held().revoke_access(client_id, session);
            if revoked > 0 {
                self.changes.client_changed(client_id);
            }
            Ok(revoked)
        })
    }

    fn list<'a>(&'a self, filter: &'a SessionFilter) -> StoreFuture<'a, SessionPage> {
        Box::pin(async move { Ok(self.held().list(filter)) })
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.held().spend(ticket, expires_at)) })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
    }

    // It answers as soon as it has written.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }

    fn log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
