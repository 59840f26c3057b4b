//! Tokens in memory, for tests and trials.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    Canonical, Condition, Family, FamilyEntry, FamilyFilter, FamilyPage, FamilyStatus, Promises, Revocation, Revoked,
    Rotated, Rotation, SaveOptions, Saved, StoreFuture, StoredPair, TokenDigest, TokenRecord, TokenStore, Verdict,
};
use crate::token::unix_now;

/// How many families a page of a list has at the most.
const PAGE: usize = 1000;

/// Keeps the tokens in memory: they are gone when the process ends, and no other process sees them.
///
/// It is meant for tests and for trying things out. A clone is another handle on the same tokens, so that a test can
/// keep one and look at what the server stored. Families that were revoked are kept, too.
#[derive(Clone, Default)]
pub struct MemoryStore {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// By client and family.
    families: BTreeMap<(String, String), HeldFamily>,
    version: u64,
}

struct HeldFamily {
    record: TokenRecord,
    consumed: Option<(TokenDigest, Instant)>,
    status: FamilyStatus,
    issued_at: u64,
    renewed_at: u64,
    version: u64,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No caller's code runs while the map is locked, so a poisoned lock still guards a whole map.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn of_client(&self, client_id: &str) -> impl Iterator<Item = &HeldFamily> {
        let from = Bound::Included((client_id.to_owned(), String::new()));
        let rest = self.families.range((from, Bound::Unbounded));
        rest.take_while(move |((client, _), _)| client == client_id).map(|(_, family)| family)
    }

    fn newest(&self, client_id: &str) -> Option<&HeldFamily> {
        self.of_client(client_id).filter(|family| family.is_live()).max_by_key(|family| family.version)
    }

    fn live(&self, client_id: &str, name: &str) -> Option<&HeldFamily> {
        self.families.get(&(client_id.to_owned(), name.to_owned())).filter(|family| family.is_live())
    }

    fn meets(&self, client_id: &str, condition: Condition) -> bool {
        let version = self.newest(client_id).map(|family| family.version);
        match condition {
            Condition::None => true,
            Condition::Absent => version.is_none(),
            Condition::Version(expected) => version == Some(expected),
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn save(&mut self, record: &TokenRecord, options: SaveOptions) -> Saved {
        if !self.meets(&record.client_id, options.condition) {
            return Saved::ConditionFailed;
        }
        if !options.keep_others {
            self.families.retain(|(client_id, _), _| *client_id != record.client_id);
        }
        let (version, now) = (self.next_version(), unix_now());
        let family = HeldFamily {
            record: record.clone(),
            consumed: None,
            status: FamilyStatus::Live,
            issued_at: now,
            renewed_at: now,
            version,
        };
        self.families.insert(key(record), family);
        Saved::Saved(version)
    }

    /// The family that a rotation is about: the one that the token names, else the one that holds the token.
    fn presented(&self, rotation: &Rotation) -> Option<&HeldFamily> {
        let client_id = &rotation.successor.client_id;
        let named = rotation.presented_family.as_ref();
        let named = named.and_then(|(family, _)| self.families.get(&(client_id.clone(), family.clone())));
        let holder = || self.of_client(client_id).find(|family| family.holds(&rotation.presented));
        named.or_else(holder)
    }

    fn rotate(&mut self, rotation: &Rotation) -> Rotated {
        let client_id = &rotation.successor.client_id;
        let Some(family) = self.presented(rotation) else {
            return if self.newest(client_id).is_some() { Rotated::Superseded } else { Rotated::UnknownClient };
        };
        let key = key(&family.record);
        match family.judge(rotation) {
            Verdict::Rotate => {
                let (version, issued_at) = (self.next_version(), family_issued_at(&self.families, &key));
                self.families.remove(&key);
                let family = HeldFamily {
                    record: rotation.successor.clone(),
                    consumed: Some((rotation.presented, Instant::now())),
                    status: FamilyStatus::Live,
                    issued_at,
                    renewed_at: unix_now(),
                    version,
                };
                self.families.insert(self::key(&rotation.successor), family);
                Rotated::Rotated
            }
            Verdict::Repeat => Rotated::Repeated(family.pair()),
            Verdict::Reuse => {
                self.end(&[key], FamilyStatus::Reused);
                Rotated::Reused
            }
            Verdict::Superseded => Rotated::Superseded,
            Verdict::Revoked => Rotated::Revoked,
        }
    }

    fn end(&mut self, keys: &[(String, String)], status: FamilyStatus) {
        for key in keys {
            let version = self.next_version();
            if let Some(family) = self.families.get_mut(key) {
                (family.status, family.version) = (status, version);
            }
        }
        keys.iter().for_each(|(client_id, _)| self.touch(client_id));
    }

    /// Gives what was issued last a new version: it may have been issued before what has just ended, and the versions
    /// of a client only grow.
    fn touch(&mut self, client_id: &str) {
        let newest = self.newest(client_id).map(|family| key(&family.record));
        let version = self.next_version();
        if let Some(family) = newest.and_then(|key| self.families.get_mut(&key)) {
            family.version = version;
        }
    }

    fn revoke(&mut self, revocation: &Revocation, if_version: Option<u64>) -> Revoked {
        let concerned = |(client_id, family): &(String, String)| match revocation {
            Revocation::Family { client_id: client, family: name } => client == client_id && name == family,
            Revocation::Client(client) => client == client_id,
            Revocation::All => true,
        };
        if let (Some(version), Revocation::Family { client_id, .. } | Revocation::Client(client_id)) =
            (if_version, revocation)
            && !self.meets(client_id, Condition::Version(version))
        {
            return Revoked::ConditionFailed;
        }
        let live = self.families.iter().filter(|(key, family)| family.is_live() && concerned(key));
        let keys: Vec<_> = live.map(|(key, _)| key.clone()).collect();
        self.end(&keys, FamilyStatus::Revoked);
        Revoked::Families(keys.len() as u64)
    }

    fn list(&self, filter: &FamilyFilter) -> FamilyPage {
        let limit = if filter.limit == 0 { PAGE } else { filter.limit.min(PAGE) };
        let from = filter.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.families.range((from, Bound::Unbounded)).map(|(_, family)| family.entry());
        let mut families: Vec<_> = entries.filter(|entry| filter.admits(entry)).take(limit + 1).collect();
        let more = families.len() > limit;
        families.truncate(limit);
        let last = families.last().filter(|_| more);
        FamilyPage { next: last.map(|entry| (entry.client_id.clone(), entry.family.clone())), families }
    }
}

fn family_issued_at(families: &BTreeMap<(String, String), HeldFamily>, key: &(String, String)) -> u64 {
    families.get(key).map_or_else(unix_now, |family| family.issued_at)
}

fn key(record: &TokenRecord) -> (String, String) {
    (record.client_id.clone(), record.family.clone())
}

impl HeldFamily {
    fn is_live(&self) -> bool {
        self.status == FamilyStatus::Live
    }

    fn holds(&self, refresh: &TokenDigest) -> bool {
        self.record.refresh.digest == *refresh || self.consumed.is_some_and(|(consumed, _)| consumed == *refresh)
    }

    fn judge(&self, rotation: &Rotation) -> Verdict {
        let family = Family {
            generation: self.record.generation,
            refresh: Some(self.record.refresh.digest),
            consumed: self.consumed.map(|(digest, at)| (digest, at.elapsed())),
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
    fn load<'a>(&'a self, client_id: &'a str, family: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        Box::pin(async move {
            let held = self.held();
            let named = family.and_then(|family| held.live(client_id, family));
            Ok(named.or_else(|| held.newest(client_id)).map(HeldFamily::canonical))
        })
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move { Ok(self.held().newest(client_id).map(HeldFamily::pair)) })
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move { Ok(self.held().save(record, options)) })
    }

    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async move { Ok(self.held().rotate(rotation)) })
    }

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async move { Ok(self.held().revoke(revocation, if_version)) })
    }

    fn list<'a>(&'a self, filter: &'a FamilyFilter) -> StoreFuture<'a, FamilyPage> {
        Box::pin(async move { Ok(self.held().list(filter)) })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::ALL) })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
