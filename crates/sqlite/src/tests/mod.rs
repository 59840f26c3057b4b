//! Tests from the inside; what a user of the store sees is in `tests/it/store_contract`.

use std::{path::Path, sync::Arc, time::Duration, time::Instant};

use fastauth_core::{
    clock::Clock,
    store::{
        Changes, Condition, Revocation, Rotation, SaveOptions, Saved, StoreError, TokenDigest, TokenEntry, TokenRecord,
    },
};
use tempfile::TempDir;
use tokio::sync::{oneshot::Receiver, watch};

use super::{
    command::{Command, Reply},
    presence::Presence,
    queue::Write,
    schema::{locate, prepare},
    writer::Writer,
};

mod commands;
mod queue;
mod steps;
mod writer;

const KEEP: SaveOptions = SaveOptions { keep_others: true, max_sessions: 0, condition: Condition::None };
const REPLACE: SaveOptions = SaveOptions { keep_others: false, ..KEEP };

fn scratch() -> (TempDir, Writer) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = locate(&directory.path().join("t.db")).expect("a file");
    let connection = prepare(&path).expect("a database");
    let writer = writer_on(connection, &path);
    (directory, writer)
}

fn writer_on(connection: rusqlite::Connection, path: &Path) -> Writer {
    let changes = Arc::new(Changes::of_watched_store());
    Writer::new(connection, changes, watch::Sender::new(()), Clock::default(), Arc::new(Presence::new(path)))
}

/// Commits as if a caller waited for each command, and returns the commands with their answers.
fn commit(writer: &mut Writer, commands: impl IntoIterator<Item = Command>) -> Vec<Command> {
    let writes = commands.into_iter().map(|command| Write { command, since: Instant::now(), _room: None });
    let mut writes: Vec<_> = writes.collect();
    writer.commit(&mut writes).expect("written");
    writes.into_iter().map(|write| write.command).collect()
}

/// Returns a reply whose caller never goes away.
fn waited_for<T>() -> Reply<T> {
    let (reply, answered) = Reply::new();
    std::mem::forget(answered);
    reply
}

fn write<T>(since: Instant, command: impl FnOnce(Reply<T>) -> Command) -> (Write, Receiver<Result<T, StoreError>>) {
    let (reply, answered) = Reply::new();
    (Write { command: command(reply), since, _room: None }, answered)
}

fn write_save(client_id: &str) -> (Write, Receiver<Result<Saved, StoreError>>) {
    write(Instant::now(), |reply| Command::Save(record(client_id, "a"), REPLACE, reply))
}

fn save(record: TokenRecord, options: SaveOptions) -> Command {
    Command::Save(record, options, waited_for())
}

fn save_if(client_id: &str, condition: Condition) -> Command {
    save(record(client_id, "a"), SaveOptions { condition, ..KEEP })
}

fn rotate(rotation: Rotation) -> Command {
    Command::Rotate(rotation, waited_for())
}

fn revoke(revocation: Revocation) -> Command {
    Command::Revoke(revocation, None, waited_for())
}

fn revoke_client(client_id: &str) -> Command {
    revoke(Revocation::Client(client_id.to_owned()))
}

fn entry(text: &str) -> TokenEntry {
    TokenEntry { text: text.into(), digest: TokenDigest::of(text), expires_at: 0 }
}

fn record(client_id: &str, access: &str) -> TokenRecord {
    TokenRecord {
        client_id: client_id.to_owned(),
        session: String::new(),
        generation: 0,
        kid: String::new(),
        access: entry(access),
        refresh: entry("r"),
    }
}

/// Returns the first pair of a session of client "a".
fn session_number(n: usize) -> TokenRecord {
    let mut record = record("a", &format!("access-{n}"));
    record.session = format!("session-{n}");
    record.refresh.digest = TokenDigest::of(format!("refresh-{n}"));
    record
}

fn refresh(presented: &str, session: Option<&str>) -> Command {
    let successor = TokenRecord { session: session.unwrap_or("new").to_owned(), generation: 1, ..session_number(0) };
    rotate(Rotation {
        presented: TokenDigest::of(presented),
        presented_session: session.map(|session| (session.to_owned(), 0)),
        successor,
        grace: Duration::ZERO,
        decided_after: 0,
    })
}

/// Returns the first value of the first row.
fn value<T: rusqlite::types::FromSql>(writer: &Writer, query: &str) -> T {
    writer.connection.query_row(query, [], |row| row.get(0)).expect("a value")
}
