use std::{sync::atomic::Ordering, time::Duration};

use fastauth_core::{
    keys::Reform,
    secret::Secret,
    store::{Condition, StoreErrorKind, TokenEntry},
};
use tokio::sync::oneshot::Receiver;

use super::{
    convert::{KeptRow, kept_rows},
    queue::{Failure, REVOCATION_TIMEOUT, WRITE_TIMEOUT},
    read::list,
    *,
};

type Answered<T> = Receiver<Result<T, StoreError>>;

fn write<T>(since: Instant, command: impl FnOnce(Reply<T>) -> Command) -> (Write, Answered<T>) {
    let (reply, answered) = Reply::new();
    (Write { command: command(reply), since, _room: None }, answered)
}

fn save_of(client_id: &str) -> (Write, Answered<Saved>) {
    write(Instant::now(), |reply| Command::Save(record(client_id, "a"), SaveOptions::default(), reply))
}

fn revocation_of(client_id: &str, since: Instant) -> (Write, Answered<Revoked>) {
    write(since, |reply| Command::Revoke(Revocation::Client(client_id.to_owned()), None, reply))
}

fn asked_before(time: Duration) -> Instant {
    Instant::now().checked_sub(time).expect("the machine has run for so long")
}

fn record(client_id: &str, access: &str) -> TokenRecord {
    let entry = |text: &str| TokenEntry { text: text.into(), digest: TokenDigest::of(text), expires_at: 0 };
    TokenRecord {
        client_id: client_id.to_owned(),
        family: String::new(),
        generation: 0,
        kid: String::new(),
        access: entry(access),
        refresh: entry("r"),
    }
}

fn client_id(write: &Write) -> &str {
    let Command::Save(record, ..) = &write.command else { panic!("no save") };
    &record.client_id
}

/// Answers as if all had been written: saves get the versions from one on.
fn write_all(writes: &mut [Write]) -> Result<(), Failure> {
    for (write, version) in writes.iter_mut().zip(1..) {
        match &mut write.command {
            Command::Save(.., reply) => reply.answer = Some(Saved::Saved(version)),
            Command::Revoke(.., reply) => reply.answer = Some(Revoked::Families(1)),
            _ => panic!("neither a save nor a revocation"),
        }
    }
    Ok(())
}

#[test]
fn a_panic_fails_its_writes_and_no_others() {
    let (sender, queue) = mpsc::channel();
    let thread = thread::spawn(move || {
        serve(&queue, |writes| {
            assert!(writes.iter().all(|write| client_id(write) != "bad"), "on purpose");
            write_all(writes)
        });
    });
    for (client_id, succeeds) in [("good", true), ("bad", false), ("good", true)] {
        let (write, answered) = save_of(client_id);
        assert!(sender.send(write).is_ok());
        assert_eq!(answered.blocking_recv().is_ok(), succeeds, "{client_id}");
    }
    drop(sender);
    thread.join().expect("the thread outlives the panic and ends with the channel");
}

#[test]
fn queued_writes_are_one_transaction_without_the_abandoned() {
    let (sender, queue) = mpsc::channel();
    let (writes, mut answers): (Vec<_>, Vec<_>) = ["a", "gone", "b"].map(save_of).into_iter().unzip();
    drop(answers.remove(1));
    for write in writes {
        assert!(sender.send(write).is_ok());
    }
    drop(sender);
    let mut seen = Vec::new();
    serve(&queue, |writes| {
        if !writes.is_empty() {
            seen.push(writes.iter().map(|write| client_id(write).to_owned()).collect::<Vec<_>>());
        }
        write_all(writes)
    });
    assert_eq!(seen, [["a", "b"]]);
    for (answer, version) in answers.into_iter().zip(1..) {
        assert_eq!(answer.blocking_recv().expect("an answer").expect("saved"), Saved::Saved(version));
    }
}

/// The time counts from when the caller asked, not from each attempt; a revocation whose caller has gone is retried.
#[test]
fn a_late_write_fails_behind_a_lock() {
    let (sender, queue) = mpsc::channel();
    let (mut late, late_answered) = save_of("late");
    late.since = asked_before(WRITE_TIMEOUT);
    let (fresh, fresh_answered) = save_of("fresh");
    let abandoned = revocation_of("a", asked_before(WRITE_TIMEOUT)).0;
    for write in [late, fresh, abandoned] {
        assert!(sender.send(write).is_ok());
    }
    let mut lots = Vec::new();
    let mut sender = Some(sender);
    serve(&queue, |writes| {
        if !writes.is_empty() {
            lots.push(writes.len());
        }
        if lots.len() == 1 {
            return Err(Failure::Locked(error::failed("locked")));
        }
        sender = None;
        write_all(writes)
    });
    assert_eq!(lots, [3, 2], "the revocation is tried again, and what is not late");
    assert!(late_answered.blocking_recv().expect("an answer").is_err());
    assert!(fresh_answered.blocking_recv().expect("an answer").is_ok());
}

/// Whether or not anyone listens: the caller may be a task that goes on for one who has gone.
#[test]
fn a_revocation_is_tried_for_longer_than_its_caller_waits() {
    let (sender, queue) = mpsc::channel();
    let (waiting, mut delayed) = revocation_of("waiting", asked_before(WRITE_TIMEOUT));
    let (late, given_up) = revocation_of("late", asked_before(REVOCATION_TIMEOUT));
    for write in [waiting, late] {
        assert!(sender.send(write).is_ok());
    }
    let mut sender = Some(sender);
    let mut written = 0;
    serve(&queue, |writes| {
        if sender.is_none() {
            written += writes.iter().filter(|write| write.command.is_revocation()).count();
            return write_all(writes);
        }
        // Of this lot the second is given up, and the first gets its error; with the next one that is known.
        if writes.len() == 1 {
            let delay = delayed.try_recv().expect("answered by now").expect_err("not written yet");
            assert_eq!(delay.kind(), StoreErrorKind::TimedOut);
            sender = None;
        }
        Err(Failure::Locked(error::failed("locked")))
    });
    assert_eq!(given_up.blocking_recv().expect("an answer").expect_err("given up").kind(), StoreErrorKind::Failed);
    assert_eq!(written, 1, "it is written all the same");
}

/// One of the others may be at fault, such as one that is too large for the disk.
#[test]
fn a_revocation_does_not_fail_with_others() {
    let (sender, queue) = mpsc::channel();
    let (save, saved) = save_of("large");
    let (revocation, revoked) = revocation_of("a", Instant::now());
    for write in [save, revocation] {
        assert!(sender.send(write).is_ok());
    }
    drop(sender);
    serve(&queue, |writes| match writes {
        [Write { command: Command::Revoke(..), .. }, _] => Err(Failure::Failed(error::failed("full"))),
        [Write { command: Command::Save(..), .. }, ..] => panic!("revocations go first"),
        _ => write_all(writes),
    });
    assert!(saved.blocking_recv().expect("an answer").is_err());
    assert_eq!(revoked.blocking_recv().expect("an answer").expect("done"), Revoked::Families(1));
}

/// The counts are what is there, whatever an operator does.
#[test]
fn the_counts_keep_up() {
    let (_directory, mut writer) = scratch();
    let keep = SaveOptions { keep_others: true, ..SaveOptions::default() };
    let limited = SaveOptions { max_families: 3, ..keep };
    let counts = |writer: &Writer| -> (u64, u64, u64, u64) {
        let query = "SELECT live, total, (SELECT count(*) FROM token WHERE status = 'live' AND version > max(
                 (SELECT floor FROM store), (SELECT floor FROM client WHERE client.client_id = token.client_id))),
             (SELECT sum(version) FROM token) FROM store";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        writer.connection.query_row(query, [], read).expect("counted")
    };
    let of_client = |writer: &Writer| -> u64 {
        writer.connection.query_row("SELECT live FROM client WHERE client_id = 'a'", [], |row| row.get(0)).expect("one")
    };
    let check = |writer: &Writer, live: u64| {
        let (counted, total, found, sum) = counts(writer);
        assert_eq!((counted, total), (found, sum));
        assert_eq!(counted, live);
    };
    commit(&mut writer, (0..5).map(|n| save(login(n), keep)));
    check(&writer, 5);
    commit(&mut writer, [renewal("refresh-0", Some("family-0")), save(record("b", "b"), keep)]);
    check(&writer, 6);
    commit(&mut writer, [save(login(5), limited)]);
    check(&writer, 4);
    assert_eq!(of_client(&writer), 3);
    writer.run(&mut [], true).expect("swept");
    let revoked: u64 = writer
        .connection
        .query_row("SELECT count(*) FROM token WHERE status = 'revoked' AND access_token IS NULL", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(revoked, 3, "revoked families keep no tokens");
    check(&writer, 4);
    writer.connection.execute("DELETE FROM token WHERE family = 'family-5'", []).expect("deleted");
    check(&writer, 3);
    commit(&mut writer, [revoke(Revocation::All)]);
    check(&writer, 0);
    commit(&mut writer, [save(login(6), keep)]);
    check(&writer, 1);
    assert_eq!(of_client(&writer), 1);
    commit(&mut writer, [save(login(7), SaveOptions::default())]);
    check(&writer, 1);
    commit(&mut writer, [revoke(Revocation::Client("a".to_owned()))]);
    writer.connection.execute("DELETE FROM token WHERE client_id = 'a'", []).expect("deleted");
    check(&writer, 0);
    let clients: u64 =
        writer.connection.query_row("SELECT count(*) FROM client", [], |row| row.get(0)).expect("counted");
    assert_eq!(clients, 1, "nothing stays of a client that has nothing");
}

#[test]
fn a_large_log_is_warned_of_once_a_minute() {
    let (directory, writer) = scratch();
    let large = directory.path().join("large.db");
    let log = std::fs::File::create(directory.path().join("large.db-wal")).expect("a file");
    let presence = Arc::new(Presence::new(&large));
    let mut writer = Writer::new(writer.connection, Arc::new(Changes::of_watched_store()), Clock::default(), presence);
    for (size, warns) in [(16 << 20, false), (100 << 20, true)] {
        log.set_len(size).expect("room for a hole");
        writer.watch();
        assert_eq!(writer.warned.is_some(), warns, "{size}");
    }
    let first = writer.warned;
    writer.watch();
    assert_eq!(writer.warned, first, "once a minute");
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

fn too_large() -> Write {
    write(Instant::now(), |reply| Command::Save(record("large", &"x".repeat(1 << 20)), SaveOptions::default(), reply)).0
}

#[test]
fn a_full_disk_fails_the_writes_and_passes() {
    let (_directory, mut writer) = scratch();
    let limit = |writer: &Writer, pages: i32| {
        let update = writer.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        update.expect("a limit");
    };
    let small = save_of("small").0;
    let large = too_large();
    limit(&writer, 10);
    let mut writes = [small, large];
    let Err(Failure::Failed(error)) = writer.commit(&mut writes) else { panic!("there is no room") };
    assert_eq!((error.kind(), error.to_string().contains("full")), (StoreErrorKind::Failed, true), "{error}");
    let held = |writer: &Writer, id| canonical(&writer.connection, id, None).expect("readable");
    assert_eq!(held(&writer, "small"), None, "the writes stand or fall together");
    limit(&writer, 10_000);
    writer.commit(&mut writes).expect("room");
    assert!(writes.iter().all(|write| write.command.has_changed_tokens()));
    assert!(held(&writer, "small").is_some());
    assert!(held(&writer, "large").is_some());
}

/// What could be written before the disk was full says nothing of what can be written now.
#[test]
fn a_write_that_fails_takes_the_proof_away() {
    let (_directory, mut writer) = scratch();
    let beaten = |writer: &mut Writer| -> bool {
        commit(writer, [Command::Beat(waited_for())]);
        writer.connection.query_row("SELECT beat > 0 FROM store", [], |row| row.get(0)).expect("one")
    };
    commit(&mut writer, [save_if("a", Condition::None)]);
    assert!(!beaten(&mut writer), "it was written a moment ago");
    writer.connection.pragma_update_and_check(None, "max_page_count", 20, |_| Ok(())).expect("a limit");
    writer.commit(&mut [too_large()]).expect_err("there is no room");
    assert!(beaten(&mut writer), "whether it can be written is tried again");
}

/// Nothing of them is needed any more, and whoever reads the file could read them.
#[test]
fn what_a_floor_revoked_keeps_no_tokens() {
    let (_directory, mut writer) = scratch();
    let keep = SaveOptions { keep_others: true, ..SaveOptions::default() };
    let kept = |writer: &Writer| -> u64 {
        let query = "SELECT count(*) FROM token WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL";
        writer.connection.query_row(query, [], |row| row.get(0)).expect("counted")
    };
    commit(&mut writer, (0..3).map(|n| save(login(n), keep)));
    // The floor of the client is below that of the store.
    commit(&mut writer, [revoke(Revocation::Client("a".to_owned())), save(login(3), keep)]);
    commit(&mut writer, (0..1500).map(|n| save_if(&format!("client-{n}"), Condition::None)));
    commit(&mut writer, [revoke(Revocation::All), save_if("after", Condition::None)]);
    let before = kept(&writer);
    writer.run(&mut [], true).expect("swept");
    assert!((1..=1000 + 4).contains(&(before - kept(&writer))), "a bounded number at a time");
    for _ in 0..3 {
        writer.run(&mut [], true).expect("swept");
    }
    assert_eq!(kept(&writer), 1, "that which was saved later");
    assert!(canonical(&writer.connection, "after", None).expect("readable").is_some());
    commit(&mut writer, [revoke(Revocation::All)]);
    for _ in 0..4 {
        writer.run(&mut [], true).expect("swept");
    }
    assert_eq!(kept(&writer), 0, "and again with the next");
}

fn writer_at(path: &Path) -> Writer {
    let connection = prepare(path).expect("a database");
    Writer::new(connection, Arc::new(Changes::of_watched_store()), Clock::default(), Arc::new(Presence::new(path)))
}

fn scratch() -> (tempfile::TempDir, Writer) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = locate(&directory.path().join("t.db")).expect("a file");
    (directory, writer_at(&path))
}

/// Commits as if a caller waited for each of them, and returns the commands with their answers.
fn commit(writer: &mut Writer, commands: impl IntoIterator<Item = Command>) -> Vec<Command> {
    let write = |command| Write { command, since: Instant::now(), _room: None };
    let mut writes: Vec<_> = commands.into_iter().map(write).collect();
    writer.commit(&mut writes).expect("written");
    writes.into_iter().map(|write| write.command).collect()
}

/// A reply whose caller never goes away.
fn waited_for<T>() -> Reply<T> {
    let (reply, answered) = Reply::new();
    std::mem::forget(answered);
    reply
}

fn save(record: TokenRecord, options: SaveOptions) -> Command {
    Command::Save(record, options, waited_for())
}

fn save_if(client_id: &str, condition: Condition) -> Command {
    save(record(client_id, "a"), SaveOptions { keep_others: true, condition, ..SaveOptions::default() })
}

fn rotate(rotation: Rotation) -> Command {
    Command::Rotate(rotation, waited_for())
}

fn revoke(revocation: Revocation) -> Command {
    Command::Revoke(revocation, None, waited_for())
}

/// Those of one transaction see what those before them did, as those of different ones do.
#[test]
fn one_transaction_is_as_good_as_many() {
    let commands = || {
        let revoke_all = || revoke(Revocation::All);
        let rotation = Rotation {
            presented: TokenDigest::of("r"),
            presented_family: None,
            successor: record("b", "b"),
            grace: Duration::ZERO,
        };
        [
            save_if("a", Condition::None),
            revoke_all(),
            revoke_all(),
            save_if("a", Condition::Absent),
            save_if("a", Condition::Absent),
            rotate(rotation.clone()),
            save_if("b", Condition::Absent),
            rotate(rotation),
            revoke(Revocation::Client("b".to_owned())),
            revoke_all(),
            save_if("a", Condition::Absent),
        ]
    };
    let (_one, mut one) = scratch();
    let (_other, mut other) = scratch();
    let answer = |command: &Command| match command {
        Command::Save(.., reply) => format!("{:?}", reply.answer),
        Command::Rotate(_, reply) => format!("{:?}", reply.answer),
        Command::Revoke(.., reply) => format!("{:?}", reply.answer),
        _ => panic!("none of these"),
    };
    let together: Vec<_> = commit(&mut one, commands()).iter().map(answer).collect();
    let apart = commands().map(|command| answer(&commit(&mut other, [command])[0]));
    assert_eq!(together, apart);
    let expected = [
        "Saved(1)",
        "Families(1)",
        "Families(0)",
        "Saved(3)",
        "ConditionFailed",
        "UnknownClient",
        "Saved(4)",
        "Rotated",
        "Families(1)",
        "Families(1)",
        "Saved(8)",
    ];
    assert_eq!(apart, expected.map(|answer| format!("Some({answer})")));
    let held = |writer: &Writer| canonical(&writer.connection, "a", None).expect("readable");
    assert!(held(&one).is_some() && held(&one) == held(&other));
}

#[test]
fn rows_go_when_all_their_tokens_have_expired() {
    let (_directory, mut writer) = scratch();
    let now = Clock::default().unix_now();
    let ends = [
        ("unknown", 0, 0),
        ("access unknown", 0, 1),
        ("refresh unknown", 1, 0),
        ("live", now + 600, now + 600),
        ("access live", now + 600, 1),
        ("refresh live", 1, now + 600),
        ("expired", now - 1, now - 2),
    ];
    let ended = |(client_id, access, refresh): (&str, u64, u64)| {
        let mut record = record(client_id, "a");
        (record.access.expires_at, record.refresh.expires_at) = (access, refresh);
        save(record, SaveOptions::default())
    };
    commit(&mut writer, ends.map(ended));
    let held = |writer: &Writer| {
        let page = list(&writer.connection, &FamilyFilter::default()).expect("readable");
        page.families.into_iter().map(|entry| entry.client_id).collect::<Vec<_>>()
    };
    assert_eq!(held(&writer).len(), ends.len(), "it is not time yet");
    writer.run(&mut [], true).expect("cleaned");
    let expected = ["access live", "access unknown", "live", "refresh live", "refresh unknown", "unknown"];
    assert_eq!(held(&writer), expected);
}

/// A row that was written since it was read is the newer one's. Revoked rows have nothing to convert, and stay so.
#[test]
fn a_conversion_takes_nothing_back() {
    let (_directory, mut writer) = scratch();
    let held = |writer: &Writer, id: &str| newest_pair(&writer.connection, id).expect("readable");
    let ids = ["kept", "written", "revoked"];
    commit(&mut writer, ids.map(|id| save_if(id, Condition::None)));
    let rows = kept_rows(&writer.connection, &Default::default()).expect("readable");
    assert_eq!(rows.len(), 3);
    let newer = save(record("written", "newer"), SaveOptions::default());
    let revoked = Revocation::Family { client_id: "revoked".to_owned(), family: String::new() };
    commit(&mut writer, [newer, revoke(revoked)]);
    let mut counts = Conversion::default();
    let reform = |kept: &Secret| Reform::Replace(format!("sealed {}", kept.expose()).into(), TokenDigest::of("t"));
    let converted = |rows: Vec<KeptRow>, counts: &mut Conversion| {
        rows.into_iter().filter_map(|row| row.converted(&reform, counts)).collect::<Vec<_>>()
    };
    let outcome = commit(&mut writer, [Command::Convert(converted(rows, &mut counts), waited_for())]);
    assert!(matches!(&outcome[..], [Command::Convert(_, Reply { answer: Some(1), .. })]));
    let text = |writer: &Writer, id| held(writer, id).and_then(|pair| pair.access_token);
    assert_eq!(text(&writer, "kept"), Some("sealed a".into()));
    assert_eq!(text(&writer, "written"), Some("newer".into()));
    assert_eq!(held(&writer, "revoked"), None);
    let digests = canonical(&writer.connection, "kept", None).expect("readable").expect("known");
    assert_eq!((digests.access, digests.refresh), (Some(TokenDigest::of("t")), Some(TokenDigest::of("t"))));
    let rows = kept_rows(&writer.connection, &Default::default()).expect("readable");
    assert_eq!(converted(rows, &mut counts).len(), 2, "the tombstone keeps no text");
}

/// A number that SQLite cannot hold must not fail the writes beside it.
#[test]
fn any_number_is_taken() {
    let (_directory, mut writer) = scratch();
    let mut odd = record("odd", "a");
    (odd.generation, odd.access.expires_at, odd.refresh.expires_at) = (u64::MAX, u64::MAX, u64::MAX);
    commit(&mut writer, [save_if("a", Condition::None), save(odd, SaveOptions::default())]);
    for client_id in ["a", "odd"] {
        assert!(canonical(&writer.connection, client_id, None).expect("readable").is_some());
    }
    assert_eq!(list(&writer.connection, &FamilyFilter::default()).expect("readable").families.len(), 2);
}

/// The steps that SQLite's machine takes for `work`: some twenty for each row that it looks at.
fn steps(writer: &mut Writer, work: impl FnOnce(&mut Writer)) -> u64 {
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let count_step = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    writer.connection.progress_handler(1, Some(count_step)).expect("counted");
    work(writer);
    writer.connection.progress_handler(0, None::<fn() -> bool>).expect("not counted any more");
    count.load(Ordering::Relaxed)
}

fn login(n: usize) -> TokenRecord {
    let mut record = record("a", &format!("access-{n}"));
    record.family = format!("family-{n}");
    record.refresh.digest = TokenDigest::of(format!("refresh-{n}"));
    record
}

fn renewal(presented: &str, family: Option<&str>) -> Command {
    let successor = TokenRecord { family: family.unwrap_or("new").to_owned(), generation: 1, ..login(0) };
    rotate(Rotation {
        presented: TokenDigest::of(presented),
        presented_family: family.map(|family| (family.to_owned(), 0)),
        successor,
        grace: Duration::ZERO,
    })
}

/// Each call with the steps that it takes where the client has so many log-ins.
fn steps_with(logins: usize) -> Vec<(&'static str, u64)> {
    let (_directory, mut writer) = scratch();
    let keep = SaveOptions { keep_others: true, ..SaveOptions::default() };
    commit(&mut writer, (0..logins).map(|n| save(login(n), keep)));
    let one_family = |name: &str| Revocation::Family { client_id: "a".to_owned(), family: name.to_owned() };
    let of_client = |limit| FamilyFilter { client_id: Some("a".to_owned()), limit, ..FamilyFilter::default() };
    type Work = Box<dyn FnOnce(&mut Writer)>;
    let write = |command: Command| -> Work { Box::new(move |writer| drop(commit(writer, [command]))) };
    let calls: Vec<(&'static str, Work)> = vec![
        ("load", Box::new(|writer| drop(canonical(&writer.connection, "a", Some("family-0"))))),
        ("load of no family", Box::new(|writer| drop(canonical(&writer.connection, "a", Some("none"))))),
        ("pair", Box::new(|writer| drop(newest_pair(&writer.connection, "a")))),
        ("list", Box::new(move |writer| drop(list(&writer.connection, &of_client(1))))),
        ("save", write(save(TokenRecord { family: String::new(), ..login(logins) }, keep))),
        ("rotate", write(renewal("refresh-0", Some("family-0")))),
        ("rotate again", write(renewal("refresh-0", Some("family-0")))),
        ("rotate what nobody holds", write(renewal("none", Some("none")))),
        ("rotate without a family", write(renewal(&format!("refresh-{logins}"), None))),
        ("revoke a family", write(revoke(one_family("new")))),
        ("revoke it again", write(revoke(one_family("new")))),
        ("load after a revocation", Box::new(|writer| drop(canonical(&writer.connection, "a", Some("new"))))),
        ("revoke the client", write(revoke(Revocation::Client("a".to_owned())))),
        ("load after all were revoked", Box::new(|writer| drop(canonical(&writer.connection, "a", Some("new"))))),
        ("rotate after all were revoked", write(renewal("none", Some("none")))),
        ("revoke everything", write(revoke(Revocation::All))),
        ("save after it", write(save(login(logins + 1), keep))),
        ("replace them all", write(save(login(logins + 2), SaveOptions::default()))),
    ];
    calls.into_iter().map(|(name, work)| (name, steps(&mut writer, work))).collect()
}

/// Whatever a client stores, its calls and those of others stay as quick.
#[test]
fn ten_thousand_logins_cost_no_more_than_one() {
    let (few, many) = (steps_with(1), steps_with(10_000));
    let dear: Vec<_> = few.iter().zip(&many).filter(|(few, many)| many.1 > few.1 + 2000).collect();
    assert!(dear.is_empty(), "steps with one log-in, and with 10,000: {dear:?}");
}
