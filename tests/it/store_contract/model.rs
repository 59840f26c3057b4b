//! Whatever is done in whatever order, two stores that promise the same answer the same.

use fastauth::store::{
    Condition, MemoryStore, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionStatus,
    SqliteStore, StoredPair, TokenDigest, TokenStore,
};
use proptest::{collection::vec, prelude::*};

use super::GRACE;
use crate::support::stores::{ManySessions, record, refresh, session_of};

const CLIENTS: [&str; 3] = ["a", "A", "a\0b"];
const SESSIONS: [&str; 3] = ["", "f", "g"];

#[derive(Clone, Debug)]
enum Step {
    Save {
        client: usize,
        session: usize,
        keep_others: bool,
        condition: When,
    },
    /// Presents one of the pairs that were issued, as a token of that session and generation, or of none.
    Rotate {
        client: usize,
        session: usize,
        presented: usize,
        named: Option<u64>,
        gracious: bool,
        /// The claims were decided on after what the store has done by now.
        informed: bool,
    },
    /// Of a session, or of all.
    RevokeAccess {
        client: usize,
        session: Option<usize>,
    },
    Revoke {
        what: What,
        condition: When,
    },
    List {
        client: Option<usize>,
        status: Option<SessionStatus>,
        limit: usize,
    },
}

#[derive(Clone, Debug)]
enum What {
    Session(usize, usize),
    Client(usize),
    All,
}

/// The versions of stores differ, so a step names one by when it was current.
#[derive(Clone, Copy, Debug)]
enum When {
    Any,
    Absent,
    Current,
    /// The version after an earlier step.
    Then(usize),
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        6 => Just(When::Any),
        1 => Just(When::Absent),
        1 => Just(When::Current),
        1 => (0..100_usize).prop_map(When::Then),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (client, session) = (0..CLIENTS.len(), 0..SESSIONS.len());
    let status = prop_oneof![Just(SessionStatus::Live), Just(SessionStatus::Revoked), Just(SessionStatus::Reused),];
    let what = prop_oneof![
        4 => (client.clone(), session.clone()).prop_map(|(client, session)| What::Session(client, session)),
        2 => client.clone().prop_map(What::Client),
        1 => Just(What::All),
    ];
    prop_oneof![
        4 => (client.clone(), session.clone(), any::<bool>(), when()).prop_map(
            |(client, session, keep_others, condition)| Step::Save { client, session, keep_others, condition }
        ),
        8 => (client.clone(), session.clone(), 0..4_usize, proptest::option::weighted(0.8, 0..4_u64), any::<[bool; 2]>())
            .prop_map(|(client, session, presented, named, [gracious, informed])| {
                Step::Rotate { client, session, presented, named, gracious, informed }
            }),
        2 => (client.clone(), proptest::option::of(session))
            .prop_map(|(client, session)| Step::RevokeAccess { client, session }),
        2 => (what, when()).prop_map(|(what, condition)| Step::Revoke { what, condition }),
        1 => (proptest::option::of(client), proptest::option::of(status), 0..4_usize)
            .prop_map(|(client, status, limit)| Step::List { client, status, limit }),
    ]
}

/// The answer of a store to a step, and what it holds after it, without what may differ between stores.
#[derive(Debug, PartialEq)]
struct Seen {
    answer: String,
    holds: Vec<String>,
    /// Which of all versions that are to be seen, in their order, each one is.
    ranks: Vec<Option<usize>>,
    /// Whether the version of each client is a new one, if it has changed at all.
    grew: Vec<bool>,
}

/// A store, and the versions that each client has had in it.
struct Actor<'a> {
    store: &'a dyn TokenStore,
    versions: [Vec<u64>; CLIENTS.len()],
    /// The pairs that were given out to a client, by their numbers, the latest first.
    issued: [Vec<usize>; CLIENTS.len()],
}

impl<'a> Actor<'a> {
    fn new(store: &'a dyn TokenStore) -> Self {
        Self { store, versions: Default::default(), issued: Default::default() }
    }

    async fn condition(&self, client: usize, when: When) -> Condition {
        match when {
            When::Any => Condition::None,
            When::Absent => Condition::Absent,
            When::Current => match self.store.version(CLIENTS[client]).await {
                Some(version) => Condition::Version(version),
                None => Condition::Version(u64::MAX),
            },
            When::Then(index) => match &self.versions[client][..] {
                [] => Condition::Version(0),
                versions => Condition::Version(versions[index % versions.len()]),
            },
        }
    }

    /// Does the step, with this number for its new pair.
    async fn act(&mut self, step: &Step, number: usize) -> Seen {
        let answer = match step {
            Step::Save { client, session, keep_others, condition } => {
                let condition = self.condition(*client, *condition).await;
                let options = SaveOptions { keep_others: *keep_others, condition, ..SaveOptions::default() };
                let record = record(CLIENTS[*client], SESSIONS[*session], 0, number);
                match self.store.save(&record, options).await.unwrap() {
                    Saved::Saved(version) => {
                        assert_eq!(self.store.version(CLIENTS[*client]).await, Some(version));
                        self.issued[*client].insert(0, number);
                        "saved".to_owned()
                    }
                    Saved::ConditionFailed => "condition failed".to_owned(),
                }
            }
            Step::Rotate { client, session, presented, named, gracious, informed } => {
                let rotation = self.rotation(*client, *session, *presented, *named, *gracious, number);
                let decided_after = if *informed { u64::MAX } else { 0 };
                match self.store.rotate(&Rotation { decided_after, ..rotation }).await.unwrap() {
                    Rotated::AccessRevoked(_) => "access revoked".to_owned(),
                    Rotated::Repeated(pair) => format!("repeated {:?}", texts(pair)),
                    rotated => {
                        if rotated == Rotated::Rotated {
                            self.issued[*client].insert(0, number);
                        }
                        format!("{rotated:?}")
                    }
                }
            }
            Step::RevokeAccess { client, session } => {
                let session = session.map(|session| SESSIONS[session]);
                format!("revoked {}", self.store.revoke_access(CLIENTS[*client], session).await.unwrap())
            }
            Step::Revoke { what, condition } => {
                let (client, revocation) = match what {
                    What::Session(client, session) => (*client, session_of(CLIENTS[*client], SESSIONS[*session])),
                    What::Client(client) => (*client, Revocation::Client(CLIENTS[*client].to_owned())),
                    What::All => (0, Revocation::All),
                };
                let version = match self.condition(client, *condition).await {
                    Condition::Version(version) if !matches!(what, What::All) => Some(version),
                    _ => None,
                };
                match self.store.revoke(&revocation, version).await.unwrap() {
                    Revoked::Sessions(count) => format!("revoked {count}"),
                    Revoked::ConditionFailed => "condition failed".to_owned(),
                }
            }
            Step::List { client, status, limit } => {
                let client_id = client.map(|client| CLIENTS[client].to_owned());
                let filter = SessionFilter { client_id, status: *status, limit: *limit, ..SessionFilter::default() };
                let page = self.store.list(&filter).await.unwrap();
                let next = page.next;
                let names = page.sessions.into_iter().map(|entry| (entry.client_id, entry.session));
                format!("{:?} {next:?}", names.collect::<Vec<_>>())
            }
        };
        self.look(answer).await
    }

    fn rotation(
        &self,
        client: usize,
        session: usize,
        presented: usize,
        named: Option<u64>,
        gracious: bool,
        number: usize,
    ) -> Rotation {
        let presented = self.issued[client].get(presented).copied().unwrap_or(usize::MAX);
        Rotation {
            presented: TokenDigest::of(refresh(presented)),
            presented_session: named.map(|generation| (SESSIONS[session].to_owned(), generation)),
            successor: record(CLIENTS[client], SESSIONS[session], named.map_or(0, |generation| generation + 1), number),
            grace: if gracious { GRACE } else { std::time::Duration::ZERO },
            decided_after: 0,
        }
    }

    async fn look(&mut self, answer: String) -> Seen {
        let (mut holds, mut versions, mut grew) = (Vec::new(), Vec::new(), Vec::new());
        for (client, id) in CLIENTS.into_iter().enumerate() {
            let pair = self.store.pair(id).await.unwrap();
            let version = pair.as_ref().map(|pair| pair.version.unwrap());
            grew.push(self.note(client, version));
            versions.push(version);
            holds.push(format!("{id:?}: {:?}", pair.map(texts)));
            for session in SESSIONS.map(Some).into_iter().chain([Some("unknown"), None]) {
                let held = self.store.load(id, session).await.unwrap();
                versions.push(held.map(|held| held.version.unwrap()));
                holds.push(format!(
                    "{id:?} {session:?}: {:?}",
                    held.map(|held| {
                        (held.access, held.refresh, held.previous_access.map(|previous| previous.digest))
                    })
                ));
            }
        }
        for entry in self.store.all(SessionFilter::default()).await {
            assert!(entry.issued_at <= entry.renewed_at);
            holds.push(format!(
                "{:?} {:?} {} {} {:?}",
                entry.client_id, entry.session, entry.generation, entry.kid, entry.status
            ));
        }
        let mut order: Vec<_> = versions.iter().flatten().copied().collect();
        order.sort_unstable();
        order.dedup();
        let ranks = versions.iter().map(|version| version.map(|version| order.binary_search(&version).unwrap()));
        Seen { answer, holds, ranks: ranks.collect(), grew }
    }

    fn note(&mut self, client: usize, version: Option<u64>) -> bool {
        let Some(version) = version else { return false };
        let versions = &mut self.versions[client];
        let last = versions.last().copied().unwrap_or_default();
        assert!(version >= last, "the version ran backwards, from {last} to {version}");
        if version > last {
            versions.push(version);
        }
        version > last
    }
}

fn texts(pair: StoredPair) -> [Option<String>; 2] {
    [pair.access_token, pair.refresh_token].map(|token| token.map(|token| token.expose().to_owned()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_answer_the_same(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (memory, sqlite) = (MemoryStore::new(), SqliteStore::open(directory.path().join("tokens.db")).unwrap());
        let (mut one, mut other) = (Actor::new(&memory), Actor::new(&sqlite));
        for (number, step) in steps.iter().enumerate() {
            let (expected, found) = runtime.block_on(async { (one.act(step, number).await, other.act(step, number).await) });
            prop_assert_eq!(found, expected, "{:?}", step);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_and_postgres_answer_the_same(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let Some(url) = crate::support::postgres::database() else { return Ok(()) };
        let (memory, postgres) = (MemoryStore::new(), runtime.block_on(crate::support::postgres::connect(&url)));
        let (mut one, mut other) = (Actor::new(&memory), Actor::new(&postgres));
        for (number, step) in steps.iter().enumerate() {
            let (expected, found) = runtime.block_on(async { (one.act(step, number).await, other.act(step, number).await) });
            prop_assert_eq!(found, expected, "{:?}", step);
        }
    }
}
