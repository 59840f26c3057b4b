//! What the stores that promise everything list.

use std::collections::BTreeSet;

use fastauth::store::{Rotated, SessionEntry, SessionFilter, SessionStatus, TokenStore};

use super::{Store, ids};
use crate::support::stores::ManySessions;

macro_rules! listings {
    ($module:ident, $fixture:ident) => {
        tests_on!(
            $module,
            $fixture,
            entry_describes_the_session,
            filters_select,
            pages_have_each_session_once_and_in_order,
            sessions_saved_between_pages_shift_nothing,
            every_limit_is_accepted,
            ids_of_any_text_are_listed,
            one_session_is_looked_up,
            page_ends_after_a_number_of_looked_at_sessions,
        );
    };
}

listings!(on_memory, memory);
listings!(on_sqlite, sqlite);
listings!(on_postgres, postgres);
listings!(on_rest, rest);

type Name = (String, String);

fn name(entry: &SessionEntry) -> Name {
    (entry.client_id.clone(), entry.session.clone())
}

fn names(entries: &[SessionEntry]) -> Vec<Name> {
    entries.iter().map(name).collect()
}

/// Returns client and session of each, with a space between them.
async fn found(store: &Store, filter: SessionFilter) -> Vec<String> {
    let entries = store.all(filter).await;
    entries.into_iter().map(|entry| format!("{} {}", entry.client_id, entry.session)).collect()
}

async fn entry_describes_the_session(store: &Store) {
    assert_eq!(store.list(&SessionFilter::default()).await.unwrap(), fastauth::store::SessionPage::default());
    let version = store.begin("a", "f", 1).await;
    let entry = store.session("a", "f").await;
    assert_eq!((entry.client_id.as_str(), entry.session.as_str(), entry.kid.as_str()), ("a", "f", "key-1"));
    assert_eq!((entry.generation, entry.status, entry.version), (0, SessionStatus::Live, version));
    assert_eq!((entry.access_expires_at, entry.refresh_expires_at), (4_000_000_000, 4_000_000_000));
    assert!(entry.issued_at > 1_700_000_000 && entry.renewed_at == entry.issued_at, "{entry:?}");
    assert_eq!(store.renew("a", "f", 0, 1, 2).await, Rotated::Rotated);
    let renewed = store.session("a", "f").await;
    assert_eq!((renewed.generation, renewed.kid.as_str(), renewed.issued_at), (1, "key-2", entry.issued_at));
    assert!(renewed.version > version && renewed.renewed_at >= entry.renewed_at);
    assert!(!format!("{renewed:?}").contains("refresh-") && !format!("{renewed:?}").contains("access-"));
}

async fn filters_select(store: &Store) {
    for (client_id, session, n) in
        [("alice", "f", 1), ("alice", "g", 2), ("al", "f", 3), ("bob", "f", 4), ("malice", "f", 5), ("Alice", "f", 6)]
    {
        store.begin(client_id, session, n).await;
    }
    store.revoke_session("bob", "f").await;
    assert_eq!(store.renew("al", "f", 0, 3, 13).await, Rotated::Rotated);
    assert_eq!(store.renew("al", "f", 0, 3, 14).await, Rotated::Reused);
    let none = SessionFilter::default;
    let some = |text: &str| Some(text.to_owned());
    let status = |status| SessionFilter { status: Some(status), ..none() };
    let table = [
        ("all", none(), &["Alice f", "al f", "alice f", "alice g", "bob f", "malice f"][..]),
        ("client", SessionFilter { client_id: some("alice"), ..none() }, &["alice f", "alice g"]),
        ("client that is a part", SessionFilter { client_id: some("al"), ..none() }, &["al f"]),
        ("no client", SessionFilter { client_id: some("ali"), ..none() }, &[]),
        ("session", SessionFilter { session: some("g"), ..none() }, &["alice g"]),
        ("session of a client", SessionFilter { client_id: some("alice"), session: some("f"), ..none() }, &["alice f"]),
        ("revoked session", SessionFilter { client_id: some("bob"), session: some("f"), ..none() }, &["bob f"]),
        ("no session", SessionFilter { client_id: some("alice"), session: some(""), ..none() }, &[]),
        (
            "session of another status",
            SessionFilter { client_id: some("bob"), session: some("f"), ..status(SessionStatus::Live) },
            &[],
        ),
        (
            "session, after it",
            SessionFilter {
                client_id: some("alice"),
                session: some("f"),
                after: Some(("alice".into(), "f".into())),
                ..none()
            },
            &[],
        ),
        ("prefix", SessionFilter { client_id_prefix: some("al"), ..none() }, &["al f", "alice f", "alice g"]),
        ("prefix that is all", SessionFilter { client_id_prefix: some("malice"), ..none() }, &["malice f"]),
        (
            "empty prefix and part",
            SessionFilter { client_id_prefix: some(""), client_id_part: some(""), kid: some("key-1"), ..none() },
            &["alice f"],
        ),
        (
            "part",
            SessionFilter { client_id_part: some("lice"), ..none() },
            &["Alice f", "alice f", "alice g", "malice f"],
        ),
        ("part of another case", SessionFilter { client_id_part: some("LICE"), ..none() }, &[]),
        ("no pattern", SessionFilter { client_id_part: some("%"), ..none() }, &[]),
        ("key", SessionFilter { kid: some("key-2"), ..none() }, &["alice g"]),
        ("empty key", SessionFilter { kid: some(""), ..none() }, &[]),
        ("live", status(SessionStatus::Live), &["Alice f", "alice f", "alice g", "malice f"]),
        ("revoked", status(SessionStatus::Revoked), &["bob f"]),
        ("reused", status(SessionStatus::Reused), &["al f"]),
        (
            "prefix and part",
            SessionFilter { client_id_prefix: some("a"), client_id_part: some("c"), ..none() },
            &["alice f", "alice g"],
        ),
        (
            "client and prefix",
            SessionFilter { client_id: some("al"), client_id_prefix: some("a"), ..none() },
            &["al f"],
        ),
        (
            "client and another prefix",
            SessionFilter { client_id: some("al"), client_id_prefix: some("ali"), ..none() },
            &[],
        ),
        ("client and no prefix", SessionFilter { client_id: some("al"), client_id_prefix: some("b"), ..none() }, &[]),
        ("client and part", SessionFilter { client_id: some("al"), client_id_part: some("x"), ..none() }, &[]),
        (
            "after",
            SessionFilter { after: Some(("alice".into(), "f".into())), ..none() },
            &["alice g", "bob f", "malice f"],
        ),
        (
            "after what is not there",
            SessionFilter { after: Some(("am".into(), "".into())), ..none() },
            &["bob f", "malice f"],
        ),
        ("after the last", SessionFilter { after: Some(("malice".into(), "f".into())), ..none() }, &[]),
        (
            "after, of a prefix",
            SessionFilter { after: Some(("Alice".into(), "f".into())), client_id_prefix: some("al"), ..none() },
            &["al f", "alice f", "alice g"],
        ),
        (
            "after, of a client",
            SessionFilter { after: Some(("alice".into(), "f".into())), client_id: some("alice"), ..none() },
            &["alice g"],
        ),
        (
            "after the client",
            SessionFilter { after: Some(("bob".into(), "".into())), client_id: some("alice"), ..none() },
            &[],
        ),
    ];
    for (name, filter, expected) in table {
        for limit in [0, 1, 2, 1000] {
            let filter = SessionFilter { limit, ..filter.clone() };
            assert_eq!(found(store, filter).await, expected, "{name}, {limit} at a time");
        }
    }
}

async fn pages_have_each_session_once_and_in_order(store: &Store) {
    let mut expected = BTreeSet::new();
    for n in 0..60 {
        // Neither clients nor sessions are saved in their order.
        let (client_id, session) = (format!("c{}", n * 7 % 20), format!("f{}", n * 11 % 13));
        store.begin(&client_id, &session, n).await;
        expected.insert((client_id, session));
    }
    let expected: Vec<_> = expected.into_iter().collect();
    for limit in [1, 7, expected.len() - 1, expected.len(), expected.len() + 1] {
        let mut filter = SessionFilter { limit, ..SessionFilter::default() };
        let mut seen = Vec::new();
        loop {
            let page = store.list(&filter).await.unwrap();
            assert!(page.sessions.len() <= limit, "{} on a page of {limit}", page.sessions.len());
            assert!(!page.sessions.is_empty(), "a page that is asked for has something on it");
            seen.extend(names(&page.sessions));
            let Some(next) = page.next else { break };
            assert_eq!(Some(&next), seen.last());
            assert!(Some(&next) > filter.after.as_ref(), "the list does not get on");
            filter.after = Some(next);
        }
        assert_eq!(seen, expected, "{limit} at a time");
    }
}

/// Sessions that exist from the beginning are seen once each, whatever is saved, revoked or changed between the pages.
async fn sessions_saved_between_pages_shift_nothing(store: &Store) {
    let mut there = BTreeSet::new();
    for n in 0..30 {
        let client_id = format!("c{:02}", n * 2);
        store.begin(&client_id, "f", n).await;
        there.insert((client_id, "f".to_owned()));
    }
    let mut filter = SessionFilter { limit: 4, ..SessionFilter::default() };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = store.list(&filter).await.unwrap();
        seen.extend(names(&page.sessions));
        let Some(next) = page.next else { break };
        assert!(Some(&next) > filter.after.as_ref(), "the list does not get on");
        // One before where the list is, one after it, a rotation, a revocation.
        store.begin(&format!("c{:02}", 2 * round + 1), "f", 100 + round).await;
        store.begin(&next.0, "g", 200 + round).await;
        store.renew(&next.0, "f", 0, round, 300 + round).await;
        store.revoke_session(&next.0, "f").await;
        filter.after = Some(next);
    }
    let unique: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
    assert!(seen.is_sorted() && there.is_subset(&unique), "{seen:?}");
}

async fn every_limit_is_accepted(store: &Store) {
    for n in 0..3 {
        store.begin("a", &n.to_string(), n).await;
    }
    for limit in [0, 3, 1_000_000, usize::MAX] {
        let page = store.list(&SessionFilter { limit, ..SessionFilter::default() }).await.unwrap();
        assert_eq!((page.sessions.len(), page.next), (3, None), "{limit}");
    }
}

async fn one_session_is_looked_up(store: &Store) {
    for (client_id, session, n) in [("a", "", 1), ("a", "f", 2), ("a", "ff", 3), ("b", "f", 4)] {
        store.begin(client_id, session, n).await;
    }
    store.revoke_session("a", "f").await;
    let some = |text: &str| Some(text.to_owned());
    let one = |session| SessionFilter { client_id: some("a"), session: some(session), ..SessionFilter::default() };
    for limit in [0, 1] {
        assert_eq!(found(store, SessionFilter { limit, ..one("f") }).await, ["a f"]);
        assert_eq!(found(store, SessionFilter { limit, ..one("") }).await, ["a "]);
        assert!(found(store, SessionFilter { limit, ..one("g") }).await.is_empty());
        let live = SessionFilter { limit, status: Some(SessionStatus::Live), ..one("f") };
        assert!(found(store, live).await.is_empty());
        let after = SessionFilter { limit, after: Some(("a".into(), "f".into())), ..one("f") };
        assert!(found(store, after).await.is_empty());
        let of_all = SessionFilter { limit, session: some("f"), ..SessionFilter::default() };
        assert_eq!(found(store, of_all).await, ["a f", "b f"]);
    }
}

/// Otherwise a list of few among many would occupy a thread for as long as it takes to look at all.
async fn page_ends_after_a_number_of_looked_at_sessions(store: &Store) {
    for lot in 0..25 {
        let saves = (0..500).map(|n| async move { store.begin("a", &format!("{:05}", lot * 500 + n), "x").await });
        futures_util::future::join_all(saves).await;
    }
    store.begin("b", "f", 1).await;
    for filter in [
        SessionFilter { client_id_part: Some("b".to_owned()), ..SessionFilter::default() },
        SessionFilter { kid: Some("key-1".to_owned()), ..SessionFilter::default() },
    ] {
        let page = store.list(&filter).await.unwrap();
        assert!(page.sessions.is_empty(), "{:?}", page.sessions);
        assert!(page.next.is_some(), "where to go on");
        assert_eq!(found(store, filter).await, ["b f"]);
    }
}

async fn ids_of_any_text_are_listed(store: &Store) {
    let mut ids = ids();
    ids.extend(["\u{10ffff}\u{10ffff}", "\u{10ffff}x", "a\u{10ffff}x", "a\0\0", "\0\0"].map(str::to_owned));
    let mut expected = BTreeSet::new();
    for (n, id) in (0..).zip(&ids) {
        for (client_id, session) in [(id.as_str(), "f"), ("a session of", id.as_str())] {
            store.begin(client_id, session, n).await;
            expected.insert((client_id.to_owned(), session.to_owned()));
        }
    }
    let expected: Vec<_> = expected.into_iter().collect();
    let filters = |text: &String| {
        let none = SessionFilter::default;
        [
            none(),
            SessionFilter { client_id: Some(text.clone()), ..none() },
            SessionFilter { client_id_prefix: Some(text.clone()), ..none() },
            SessionFilter { client_id_part: Some(text.clone()), ..none() },
            SessionFilter { after: Some((text.clone(), "f".to_owned())), ..none() },
            SessionFilter { after: Some(("a session of".to_owned(), text.clone())), ..none() },
        ]
    };
    for filter in ids.iter().flat_map(filters) {
        let matches = |(client_id, session): &&Name| {
            filter.client_id.as_ref().is_none_or(|id| client_id == id)
                && filter.client_id_prefix.as_ref().is_none_or(|prefix| client_id.starts_with(prefix))
                && filter.client_id_part.as_ref().is_none_or(|part| client_id.contains(part))
                && filter.after.as_ref().is_none_or(|after| (client_id, session) > (&after.0, &after.1))
        };
        let expected: Vec<_> = expected.iter().filter(matches).cloned().collect();
        let found = names(&store.all(SessionFilter { limit: 50, ..filter.clone() }).await);
        assert_eq!(found, expected, "{filter:?}");
    }
}
