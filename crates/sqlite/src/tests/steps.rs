use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use fastauth_core::store::{Revocation, SessionFilter, TokenRecord};

use super::{KEEP, REPLACE, commit, refresh, revoke, revoke_client, save, scratch, session_number};
use crate::{
    command::Command,
    read::{current, list, newest_pair},
    writer::Writer,
};

type Call = Box<dyn FnOnce(&mut Writer)>;

/// Counts the steps of SQLite's virtual machine: about twenty for each row that it looks at.
fn steps(writer: &mut Writer, call: Call) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let handler = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    writer.connection.progress_handler(1, Some(handler)).expect("counted");
    call(writer);
    writer.connection.progress_handler(0, None::<fn() -> bool>).expect("not counted any more");
    count.load(Ordering::Relaxed)
}

fn write(command: Command) -> Call {
    Box::new(move |writer| drop(commit(writer, [command])))
}

fn load(session: &'static str) -> Call {
    Box::new(move |writer| drop(current(&writer.connection, "a", Some(session), 0)))
}

fn revoke_new() -> Command {
    revoke(Revocation::Session { client_id: "a".to_owned(), session: "new".to_owned() })
}

/// Returns the steps of each call for a client with this number of sessions.
fn steps_with(sessions: usize) -> Vec<(&'static str, u64)> {
    let (_directory, mut writer) = scratch();
    commit(&mut writer, (0..sessions).map(|n| save(session_number(n), KEEP)));
    let first_of_client = SessionFilter { client_id: Some("a".to_owned()), limit: 1, ..SessionFilter::default() };
    let without_session = TokenRecord { session: String::new(), ..session_number(sessions) };
    let calls: Vec<(&'static str, Call)> = vec![
        ("load", load("session-0")),
        ("load an unknown session", load("none")),
        ("pair", Box::new(|writer| drop(newest_pair(&writer.connection, "a")))),
        ("list", Box::new(move |writer| drop(list(&writer.connection, &first_of_client)))),
        ("save", write(save(without_session, KEEP))),
        ("rotate", write(refresh("refresh-0", Some("session-0")))),
        ("rotate again", write(refresh("refresh-0", Some("session-0")))),
        ("rotate an unknown token", write(refresh("none", Some("none")))),
        ("rotate without a session", write(refresh(&format!("refresh-{sessions}"), None))),
        ("revoke a session", write(revoke_new())),
        ("revoke it again", write(revoke_new())),
        ("load after a revocation", load("new")),
        ("revoke the client", write(revoke_client("a"))),
        ("load after all were revoked", load("new")),
        ("rotate after all were revoked", write(refresh("none", Some("none")))),
        ("revoke everything", write(revoke(Revocation::All))),
        ("save after it", write(save(session_number(sessions + 1), KEEP))),
        ("replace all", write(save(session_number(sessions + 2), REPLACE))),
    ];
    calls.into_iter().map(|(name, call)| (name, steps(&mut writer, call))).collect()
}

/// A new pair deletes up to sixteen others, and triggers count and note each.
#[test]
fn ten_thousand_sessions_cost_no_more_than_one() {
    let few = steps_with(1);
    let many = steps_with(10_000);
    let dear: Vec<_> = few.iter().zip(&many).filter(|(few, many)| many.1 > few.1 + 3000).collect();
    assert!(dear.is_empty(), "steps with one session, and with 10,000: {dear:?}");
}
