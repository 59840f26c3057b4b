//! The current access tokens of all clients, as digests, so that no look-up has to wait for the store.

use std::{
    collections::HashSet,
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastauth_core::store::TokenDigest;
use foldhash::quality::RandomState;
use papaya::HashMap;

/// How long after a write of this process the client is asked for at the store: what the feed tells of it may be from before.
const WRITTEN_FOR: Duration = Duration::from_secs(10);

/// The replica of a store. It may lack sessions: the store is asked for those.
///
/// Look-ups take no lock. What writes to it takes turns.
pub(super) struct Replica {
    clients: HashMap<u128, Client, RandomState>,
    /// Hash the names of clients and sessions, differently in each process.
    hashers: [RandomState; 2],
    writing: Mutex<Writing>,
}

#[derive(Default)]
struct Writing {
    /// The clients of which the feed has told since the snapshot was asked for; `None` if none is being loaded.
    told_of: Option<HashSet<u128>>,
}

/// What is known of a client.
enum Client {
    /// Most have one session.
    One(Session),
    Several(Box<[Session]>),
    /// This process has written something, at this time by a clock that is never set.
    Written(Duration),
}

/// A live session with an access token.
#[derive(Clone, Copy)]
pub(super) struct Session {
    name: u64,
    version: u64,
    access: TokenDigest,
    /// The last second of the access token, since the Unix epoch; the largest number if it is not known.
    expires_at: u32,
}

/// A change that the feed tells of one client.
pub(super) struct ClientChange<'a> {
    pub(super) client_id: &'a str,
    pub(super) session: Option<&'a str>,
    /// The client's other sessions are as they were.
    pub(super) concerns_one: bool,
    pub(super) version: u64,
    /// The access token that the session has now.
    pub(super) access: Option<TokenDigest>,
    pub(super) expires_at: u64,
}

impl Replica {
    pub(super) fn new() -> Self {
        Self {
            clients: HashMap::with_hasher(RandomState::default()),
            hashers: [RandomState::default(), RandomState::default()],
            writing: Mutex::default(),
        }
    }

    /// Returns true if the token is the current access token of the session.
    pub(super) fn is_current(&self, client_id: &str, session: &str, token: &[u8]) -> bool {
        let clients = self.clients.pin();
        let Some(client) = clients.get(&self.key(client_id)) else { return false };
        let name = self.name(session);
        client.sessions().iter().any(|held| held.name == name && held.access == TokenDigest::of(token))
    }

    /// Returns the number of clients.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Forgets everything, and keeps from now on what the feed tells apart from what a snapshot does.
    pub(super) fn begin(&self) {
        let mut writing = self.lock();
        writing.told_of = Some(HashSet::new());
        self.clients.pin().clear();
    }

    /// Notes that the snapshot is loaded.
    pub(super) fn finish(&self) {
        self.lock().told_of = None;
    }

    /// Forgets everything, since every session was revoked.
    pub(super) fn clear(&self) {
        // What a snapshot that is being loaded says of it may be from before.
        let _writing = self.lock();
        self.clients.pin().clear();
    }

    /// Adds a session of a snapshot.
    pub(super) fn load(&self, change: &ClientChange<'_>) {
        let writing = self.lock();
        let key = self.key(change.client_id);
        if writing.told_of.as_ref().is_some_and(|told_of| !told_of.contains(&key)) {
            self.put(key, change);
        }
    }

    /// Takes what the feed tells, at this time by a clock that is never set.
    pub(super) fn take(&self, change: &ClientChange<'_>, now: Duration) {
        let mut writing = self.lock();
        let key = self.key(change.client_id);
        let clients = self.clients.pin();
        if let Some(told_of) = &mut writing.told_of {
            told_of.insert(key);
            clients.remove(&key);
        } else if !clients.get(&key).is_some_and(|client| client.is_written_at(now)) {
            self.put(key, change);
        }
    }

    /// Forgets a client of whom this process has written something.
    pub(super) fn written(&self, client_id: &str, now: Duration) {
        let mut writing = self.lock();
        let key = self.key(client_id);
        if let Some(told_of) = &mut writing.told_of {
            told_of.insert(key);
        }
        self.clients.pin().insert(key, Client::Written(now));
    }

    /// Removes what is of no use any more.
    pub(super) fn sweep(&self, unix: u64, now: Duration) {
        let _writing = self.lock();
        let is_of_use = |client: &Client| match client {
            Client::Written(_) => client.is_written_at(now),
            _ => client.sessions().iter().any(|session| u64::from(session.expires_at) >= unix),
        };
        self.clients.pin().retain(|_, client| is_of_use(client));
    }

    /// Puts a session in the place of what is known of it.
    fn put(&self, key: u128, change: &ClientChange<'_>) {
        let clients = self.clients.pin();
        let held = clients.get(&key).map(Client::sessions).unwrap_or_default();
        let Some(name) = change.session.map(|session| self.name(session)) else {
            clients.remove(&key);
            return;
        };
        if held.iter().any(|session| session.name == name && session.version > change.version) {
            return;
        }
        let others = held.iter().filter(|session| change.concerns_one && session.name != name);
        let mut sessions: Vec<_> = others.copied().collect();
        sessions.extend(change.access.map(|access| Session {
            name,
            version: change.version,
            access,
            expires_at: match change.expires_at {
                0 => u32::MAX,
                second => u32::try_from(second).unwrap_or(u32::MAX),
            },
        }));
        match sessions[..] {
            [] => _ = clients.remove(&key),
            [one] => _ = clients.insert(key, Client::One(one)),
            _ => _ = clients.insert(key, Client::Several(sessions.into())),
        }
    }

    fn key(&self, client_id: &str) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(client_id)));
        high << 64 | low
    }

    fn name(&self, session: &str) -> u64 {
        self.hashers[0].hash_one(session)
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn sessions(&self) -> &[Session] {
        match self {
            Self::One(session) => std::slice::from_ref(session),
            Self::Several(sessions) => sessions,
            Self::Written(_) => &[],
        }
    }

    fn is_written_at(&self, now: Duration) -> bool {
        matches!(self, Self::Written(at) if now.saturating_sub(*at) < WRITTEN_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    /// Returns a change to this token in the session, or to none.
    fn change<'a>(session: Option<&'a str>, version: u64, token: Option<&str>) -> ClientChange<'a> {
        let access = token.map(TokenDigest::of);
        ClientChange { client_id: "c", session, concerns_one: true, version, access, expires_at: 1000 }
    }

    fn knows(replica: &Replica, session: &str, token: &str) -> bool {
        replica.is_current("c", session, token.as_bytes())
    }

    #[test]
    fn current_token_of_each_session_is_known() {
        let replica = Replica::new();
        replica.take(&change(Some("phone"), 1, Some("p1")), NOW);
        replica.take(&change(Some("desk"), 2, Some("d1")), NOW);
        assert!(knows(&replica, "phone", "p1") && knows(&replica, "desk", "d1"));
        assert!(!knows(&replica, "desk", "p1") && !replica.is_current("d", "phone", b"p1"));
        replica.take(&change(Some("phone"), 3, Some("p2")), NOW);
        assert!(knows(&replica, "phone", "p2") && !knows(&replica, "phone", "p1"));
        replica.take(&change(Some("phone"), 1, Some("p1")), NOW);
        assert!(knows(&replica, "phone", "p2"), "a change may come twice");
        replica.take(&change(Some("desk"), 4, None), NOW);
        assert!(knows(&replica, "phone", "p2") && !knows(&replica, "desk", "d1"));
        replica.take(&ClientChange { concerns_one: false, ..change(Some("tv"), 5, Some("t1")) }, NOW);
        assert!(knows(&replica, "tv", "t1") && !knows(&replica, "phone", "p2"));
        replica.take(&change(None, 6, None), NOW);
        assert!(!knows(&replica, "tv", "t1") && replica.len() == 0);
    }

    #[test]
    fn what_the_feed_tells_wins_over_the_snapshot() {
        let replica = Replica::new();
        replica.take(&change(Some("phone"), 1, Some("old")), NOW);
        replica.begin();
        assert!(!knows(&replica, "phone", "old"));
        replica.load(&change(Some("phone"), 1, Some("p1")));
        assert!(knows(&replica, "phone", "p1"));
        // It is told while the snapshot is on its way.
        replica.take(&change(Some("phone"), 2, Some("p2")), NOW);
        replica.load(&change(Some("desk"), 1, Some("d1")));
        assert!(!knows(&replica, "phone", "p1") && !knows(&replica, "desk", "d1"), "the store is asked");
        replica.finish();
        replica.load(&change(Some("desk"), 1, Some("d1")));
        assert!(!knows(&replica, "desk", "d1"), "it is over");
        replica.take(&change(Some("phone"), 3, Some("p3")), NOW);
        assert!(knows(&replica, "phone", "p3"));
    }

    #[test]
    fn client_that_this_process_wrote_is_asked_for_at_the_store() {
        let replica = Replica::new();
        replica.take(&change(Some("phone"), 1, Some("p1")), NOW);
        replica.written("c", NOW);
        assert!(!knows(&replica, "phone", "p1"));
        replica.take(&change(Some("phone"), 1, Some("p1")), NOW + WRITTEN_FOR / 2);
        assert!(!knows(&replica, "phone", "p1"), "it may be from before");
        replica.take(&change(Some("phone"), 3, Some("p3")), NOW + WRITTEN_FOR);
        assert!(knows(&replica, "phone", "p3"));
        replica.begin();
        replica.written("c", NOW);
        replica.load(&change(Some("phone"), 1, Some("p1")));
        assert!(!knows(&replica, "phone", "p1"));
    }

    #[test]
    fn what_is_of_no_use_is_swept_out() {
        let replica = Replica::new();
        replica.take(&change(Some("phone"), 1, Some("p1")), NOW);
        replica.sweep(1000, NOW);
        assert!(knows(&replica, "phone", "p1"));
        replica.sweep(1001, NOW);
        assert_eq!(replica.len(), 0);
        replica.written("c", NOW);
        replica.sweep(0, NOW + WRITTEN_FOR / 2);
        assert_eq!(replica.len(), 1);
        replica.sweep(0, NOW + WRITTEN_FOR);
        assert_eq!(replica.len(), 0);
    }

    #[test]
    fn client_takes_less_than_200_bytes() {
        const CLIENTS: u64 = 1_000_000;
        let measured = allocation_counter::measure(|| {
            let replica = Replica::new();
            for number in 0..CLIENTS {
                let client_id = format!("client-{number:08}");
                replica.take(&ClientChange { client_id: &client_id, ..change(Some("phone"), number, Some("t")) }, NOW);
            }
            assert_eq!(replica.len() as u64, CLIENTS);
            std::mem::forget(replica);
        });
        // An allocation takes 16 bytes more at most.
        let bytes = measured.bytes_current / CLIENTS as i64 + 16;
        println!("{bytes} bytes a client, and {} at most while it grew", measured.bytes_max / CLIENTS);
        assert!(bytes < 200, "{bytes}");
    }
}
