//! Tokens in memory, for tests and trials.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use constant_time_eq::constant_time_eq;

use super::{
    Canonical, Changes, Comparison, Condition, Family, FamilyEntry, FamilyFilter, FamilyPage, FamilyStatus, Promises,
    Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError, StoreFuture, StoredPair, TICKET_KEPT,
    TokenDigest, TokenRecord, TokenStore, Verdict,
};
use crate::clock::Clock;

/// Keeps the tokens in memory: they are gone when the process ends, and no other process sees them.
///
/// It is meant for tests and for trying things out. A clone is another handle on the same tokens, so that a test can
/// keep one and look at what the server stored. Families that were revoked are kept, too.
#[derive(Clone)]
pub struct MemoryStore {
    held: Arc<Mutex<Held>>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct Held {
    /// By client, who has hardly ever more than one.
    families: HashMap<String, Vec<HeldFamily>>,
    version: u64,
    clock: Clock,
    /// The tickets that were used, each with its end before it.
    spent: BTreeSet<(u64, String)>,
}

struct HeldFamily {
    record: TokenRecord,
    /// And when, by [`Clock::elapsed`].
    consumed: Option<(TokenDigest, Duration)>,
    status: FamilyStatus,
    issued_at: u64,
    renewed_at: u64,
    version: u64,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::by(Clock::default())
    }

    /// Makes an empty store whose times are those of a test's clock.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn with_clock(clock: &crate::test_util::ManualClock) -> Self {
        Self::by(Clock::set_by(clock))
    }

    fn by(clock: Clock) -> Self {
        let held = Held { clock, ..Held::default() };
        Self { held: Arc::new(Mutex::new(held)), changes: Arc::new(Changes::of_own_store()) }
    }

    fn canonical(&self, client_id: &str, family: Option<&str>) -> Option<Canonical> {
        self.held().canonical(client_id, family).map(HeldFamily::canonical)
    }

    /// No caller's code runs while the map is locked, so a poisoned lock still guards a whole map.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    fn of_client(&self, client_id: &str) -> impl Iterator<Item = &HeldFamily> {
        self.families.get(client_id).into_iter().flatten()
    }

    fn newest(&self, client_id: &str) -> Option<&HeldFamily> {
        self.of_client(client_id).filter(|family| family.is_live()).max_by_key(|family| family.version)
    }

    fn family(&self, client_id: &str, name: &str) -> Option<&HeldFamily> {
        self.of_client(client_id).find(|family| family.record.family == name)
    }

    /// What is canonical for a family, or else for its client.
    fn canonical(&self, client_id: &str, name: Option<&str>) -> Option<&HeldFamily> {
        let named = name.and_then(|name| self.family(client_id, name)).filter(|family| family.is_live());
        named.or_else(|| self.newest(client_id))
    }

    fn meets(&self, client_id: &str, condition: Condition) -> bool {
        condition.is_met_by(self.newest(client_id).map(|family| family.version))
    }

    fn save(&mut self, record: &TokenRecord, options: SaveOptions) -> Saved {
        if !self.meets(&record.client_id, options.condition) {
            return Saved::ConditionFailed;
        }
        if !options.keep_others {
            self.families.remove(&record.client_id);
        }
        Saved::Saved(self.put(record.clone(), None, None))
    }

    fn put(&mut self, record: TokenRecord, consumed: Option<TokenDigest>, issued_at: Option<u64>) -> u64 {
        let now = self.clock.unix_now();
        self.version += 1;
        let family = HeldFamily {
            consumed: consumed.map(|digest| (digest, self.clock.elapsed())),
            status: FamilyStatus::Live,
            issued_at: issued_at.unwrap_or(now),
            renewed_at: now,
            version: self.version,
            record,
        };
        let of_client = self.families.entry(family.record.client_id.clone()).or_default();
        of_client.retain(|other| other.record.family != family.record.family);
        of_client.push(family);
        self.version
    }

    /// The family that a rotation is about: the one that the token names, else the one that holds the token.
    fn presented(&self, rotation: &Rotation) -> Option<&HeldFamily> {
        let client_id = &rotation.successor.client_id;
        let named = rotation.presented_family.as_ref();
        let named = named.and_then(|(family, _)| self.family(client_id, family));
        let holder = || self.of_client(client_id).find(|family| family.holds(&rotation.presented));
        named.or_else(holder)
    }

    fn rotate(&mut self, rotation: &Rotation) -> Rotated {
        let client_id = &rotation.successor.client_id;
        let Some(family) = self.presented(rotation) else {
            return if self.newest(client_id).is_some() { Rotated::Superseded } else { Rotated::UnknownClient };
        };
        match family.judge(rotation, self.clock.elapsed()) {
            Verdict::Rotate => {
                let (name, issued_at) = (family.record.family.clone(), family.issued_at);
                if let Some(families) = self.families.get_mut(client_id) {
                    families.retain(|family| family.record.family != name);
                }
                self.put(rotation.successor.clone(), Some(rotation.presented), Some(issued_at));
                Rotated::Rotated
            }
            Verdict::Repeat => Rotated::Repeated(family.pair()),
            Verdict::Reuse => {
                let family = family.record.family.clone();
                self.end(&Revocation::Family { client_id: client_id.clone(), family }, FamilyStatus::Reused);
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        }
    }

    /// Ends the families that are still live, and says how many those were.
    fn end(&mut self, revocation: &Revocation, status: FamilyStatus) -> u64 {
        let mut ended = 0;
        for families in self.families.values_mut() {
            let before = ended;
            for family in families.iter_mut().filter(|family| family.is_live() && family.is_of(revocation)) {
                self.version += 1;
                (family.status, family.version) = (status, self.version);
                ended += 1;
            }
            // What was issued last may have been issued before what has just ended, and the versions of a client
            // only grow.
            let live = families.iter_mut().filter(|family| family.is_live());
            if let Some(newest) = live.max_by_key(|family| family.version).filter(|_| ended > before) {
                self.version += 1;
                newest.version = self.version;
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
        if let (Some(version), Revocation::Family { client_id, .. } | Revocation::Client(client_id)) =
            (if_version, revocation)
            && !self.meets(client_id, Condition::Version(version))
        {
            return Revoked::ConditionFailed;
        }
        Revoked::Families(self.end(revocation, FamilyStatus::Revoked))
    }

    fn list(&self, filter: &FamilyFilter) -> FamilyPage {
        let limit = filter.page_limit();
        let after = filter.after.as_ref();
        let clients: Vec<_> = match &filter.client_id {
            Some(client_id) => self.families.get(client_id).into_iter().collect(),
            None => self.families.values().collect(),
        };
        let families = clients.into_iter().flatten();
        let rest = families.filter(|family| after.is_none_or(|after| family.key() > (&after.0, &after.1)));
        let mut families: Vec<_> = rest.map(HeldFamily::entry).filter(|entry| filter.admits(entry)).collect();
        families.sort_unstable_by(|a, b| (&a.client_id, &a.family).cmp(&(&b.client_id, &b.family)));
        let more = families.len() > limit;
        families.truncate(limit);
        let last = families.last().filter(|_| more);
        FamilyPage { next: last.map(|entry| (entry.client_id.clone(), entry.family.clone())), families }
    }
}

impl HeldFamily {
    fn key(&self) -> (&str, &str) {
        (&self.record.client_id, &self.record.family)
    }

    fn is_of(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Family { client_id, family } => self.key() == (client_id, family),
            Revocation::Client(client_id) => self.record.client_id == *client_id,
            Revocation::All => true,
        }
    }

    fn is_live(&self) -> bool {
        self.status == FamilyStatus::Live
    }

    fn holds(&self, refresh: &TokenDigest) -> bool {
        self.record.refresh.digest == *refresh || self.consumed.is_some_and(|(consumed, _)| consumed == *refresh)
    }

    fn judge(&self, rotation: &Rotation, now: Duration) -> Verdict {
        let family = Family {
            generation: self.record.generation,
            refresh: Some(self.record.refresh.digest),
            consumed: self.consumed.map(|(digest, at)| (digest, now.saturating_sub(at))),
            status: self.status,
        };
        family.judge(rotation)
    }

    fn canonical(&self) -> Canonical {
        Canonical {
            access: Some(self.record.access.digest),
            refresh: Some(self.record.refresh.digest),
            version: Some(self.version),
        }
    }

    fn compare(&self, token: &[u8]) -> Comparison {
        let access = &self.record.access;
        // Comparing texts takes a fraction of hashing one. Where they differ, what is kept may be encrypted.
        if constant_time_eq(access.text.expose().as_bytes(), token) {
            return Comparison::Canonical;
        }
        Comparison::of(TokenDigest::of(token), Some(&self.canonical()))
    }

    fn pair(&self) -> StoredPair {
        StoredPair {
            access_token: Some(self.record.access.text.clone()),
            refresh_token: Some(self.record.refresh.text.clone()),
            version: Some(self.version),
        }
    }

    fn entry(&self) -> FamilyEntry {
        FamilyEntry {
            client_id: self.record.client_id.clone(),
            family: self.record.family.clone(),
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

    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        Box::pin(async move { Ok(self.canonical(client_id, family)) })
    }

    fn compare_now(
        &self,
        client_id: &str,
        family: Option<&str>,
        token: &[u8],
    ) -> Option<Result<Comparison, StoreError>> {
        let held = self.held();
        let held = held.canonical(client_id, family);
        Some(Ok(held.map_or(Comparison::UnknownClient, |held| held.compare(token))))
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { Ok(self.held().newest(client_id).map(HeldFamily::pair)) })
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            let saved = self.held().save(record, options);
            self.changes.client_changed(&record.client_id);
            Ok(saved)
        })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move {
            let rotated = self.held().rotate(rotation);
            self.changes.client_changed(&rotation.successor.client_id);
            Ok(rotated)
        })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move {
            let revoked = self.held().revoke(revocation, if_version);
            self.changes.revoked(revocation);
            Ok(revoked)
        })
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        Box::pin(async move { Ok(self.held().list(filter)) })
    }

    fn spend<'a>(&'a self, ticket: &'a str, expires_at: u64) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(self.held().spend(ticket, expires_at)) })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
