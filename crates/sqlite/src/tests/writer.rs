use std::{fs::File, time::Instant};

use fastauth_core::store::{Condition, CurrentTokens, StoreErrorKind};

use super::{REPLACE, commit, record, save_if, scratch, value, waited_for, write, write_save, writer_on};
use crate::{
    command::Command,
    queue::{Write, WriteFailure},
    read::current,
    schema::{locate, prepare},
    writer::Writer,
};

fn write_of_a_mebibyte() -> Write {
    write(Instant::now(), |reply| Command::Save(record("large", &"x".repeat(1 << 20)), REPLACE, reply)).0
}

fn limit(writer: &Writer, pages: i32) {
    writer.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).expect("a limit");
}

fn held(writer: &Writer, client_id: &str) -> Option<CurrentTokens> {
    current(&writer.connection, client_id, None, 0).expect("readable")
}

#[test]
fn large_log_is_warned_of_once_a_minute() {
    let (directory, writer) = scratch();
    let log = File::create(directory.path().join("large.db-wal")).expect("a file");
    let mut writer = writer_on(writer.connection, &directory.path().join("large.db"));
    for (size, warns) in [(16 << 20, false), (100 << 20, true)] {
        log.set_len(size).expect("room for a hole");
        writer.watch();
        assert_eq!(writer.warned.is_some(), warns, "{size}");
    }
    let first = writer.warned;
    writer.watch();
    assert_eq!(writer.warned, first);
}

#[test]
fn every_connection_syncs_fully() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = locate(&directory.path().join("t.db")).expect("a file");
    let connection = prepare(&path).expect("a database");
    for (pragma, value) in [
        ("synchronous", 2),
        ("busy_timeout", 2000),
        ("foreign_keys", 1),
        ("wal_autocheckpoint", 1000),
        ("journal_size_limit", 16 << 20),
    ] {
        let found: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0)).expect("a value");
        assert_eq!(found, value, "{pragma}");
    }
}

#[test]
fn full_disk_fails_the_writes_until_there_is_room() {
    let (_directory, mut writer) = scratch();
    limit(&writer, 10);
    let mut writes = [write_save("small").0, write_of_a_mebibyte()];
    let Err(WriteFailure::Failed(error)) = writer.commit(&mut writes) else { panic!("there is no room") };
    assert_eq!(error.kind(), StoreErrorKind::Failed);
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(held(&writer, "small"), None, "the writes of a transaction succeed or fail together");
    limit(&writer, 10_000);
    writer.commit(&mut writes).expect("room");
    assert!(writes.iter().all(|write| write.command.has_changed_tokens()));
    assert!(held(&writer, "small").is_some() && held(&writer, "large").is_some());
}

#[test]
fn failed_write_ends_the_proof_that_the_file_can_be_written() {
    let (_directory, mut writer) = scratch();
    commit(&mut writer, [save_if("a", Condition::None)]);
    commit(&mut writer, [Command::Beat(waited_for())]);
    assert_eq!(value::<u64>(&writer, "SELECT beat FROM store"), 0, "it was written a moment ago");
    limit(&writer, 20);
    writer.commit(&mut [write_of_a_mebibyte()]).expect_err("there is no room");
    commit(&mut writer, [Command::Beat(waited_for())]);
    assert_ne!(value::<u64>(&writer, "SELECT beat FROM store"), 0, "it is tried again");
}
