use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use fastauth_core::store::{Revocation, Revoked, Saved, StoreError, StoreErrorKind};
use tokio::sync::oneshot::Receiver;

use super::{write, write_save};
use crate::{
    command::Command,
    error::failed,
    queue::{REVOCATION_TIMEOUT, WRITE_TIMEOUT, Write, WriteFailure, serve},
};

fn write_revocation(client_id: &str, since: Instant) -> (Write, Receiver<Result<Revoked, StoreError>>) {
    write(since, |reply| Command::Revoke(Revocation::Client(client_id.to_owned()), None, reply))
}

fn time_before(time: Duration) -> Instant {
    Instant::now().checked_sub(time).expect("the machine has run for so long")
}

fn client_id(write: &Write) -> &str {
    let Command::Save(record, ..) = &write.command else { panic!("no save") };
    &record.client_id
}

/// Answers as if all had been written. The versions of saves count from one.
fn answer_all(writes: &mut [Write]) -> Result<(), WriteFailure> {
    for (write, version) in writes.iter_mut().zip(1..) {
        match &mut write.command {
            Command::Save(.., reply) => reply.answer = Some(Saved::Saved(version)),
            Command::Revoke(.., reply) => reply.answer = Some(Revoked::Sessions(1)),
            _ => panic!("neither a save nor a revocation"),
        }
    }
    Ok(())
}

#[test]
fn panic_fails_only_its_own_writes() {
    let (sender, queue) = mpsc::channel();
    let thread = thread::spawn(move || {
        serve(&queue, |writes| {
            assert!(writes.iter().all(|write| client_id(write) != "bad"), "on purpose");
            answer_all(writes)
        });
    });
    for (client_id, succeeds) in [("good", true), ("bad", false), ("good", true)] {
        let (write, answered) = write_save(client_id);
        assert!(sender.send(write).is_ok());
        assert_eq!(answered.blocking_recv().is_ok(), succeeds, "{client_id}");
    }
    drop(sender);
    thread.join().expect("the thread outlives the panic and ends with the channel");
}

#[test]
fn queued_writes_are_one_transaction_without_the_abandoned() {
    let (sender, queue) = mpsc::channel();
    let (writes, mut answers): (Vec<_>, Vec<_>) = ["a", "gone", "b"].map(write_save).into_iter().unzip();
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
        answer_all(writes)
    });
    assert_eq!(seen, [["a", "b"]]);
    for (answer, version) in answers.into_iter().zip(1..) {
        assert_eq!(answer.blocking_recv().expect("an answer").expect("saved"), Saved::Saved(version));
    }
}

/// The time counts from the call of the caller, not from each attempt. A revocation is retried though its caller has gone.
#[test]
fn late_write_fails_behind_a_lock() {
    let (sender, queue) = mpsc::channel();
    let (mut late, late_answered) = write_save("late");
    late.since = time_before(WRITE_TIMEOUT);
    let (fresh, fresh_answered) = write_save("fresh");
    let abandoned = write_revocation("a", time_before(WRITE_TIMEOUT)).0;
    for write in [late, fresh, abandoned] {
        assert!(sender.send(write).is_ok());
    }
    let mut attempts = Vec::new();
    let mut sender = Some(sender);
    serve(&queue, |writes| {
        if !writes.is_empty() {
            attempts.push(writes.len());
        }
        if attempts.len() == 1 {
            return Err(WriteFailure::Locked(failed("locked")));
        }
        sender = None;
        answer_all(writes)
    });
    assert_eq!(attempts, [3, 2], "the revocation is tried again, and the fresh write");
    assert!(late_answered.blocking_recv().expect("an answer").is_err());
    assert!(fresh_answered.blocking_recv().expect("an answer").is_ok());
}

#[test]
fn revocation_is_retried_after_its_caller_has_an_error() {
    let (sender, queue) = mpsc::channel();
    let (waiting, mut delayed) = write_revocation("waiting", time_before(WRITE_TIMEOUT));
    let (late, given_up) = write_revocation("late", time_before(REVOCATION_TIMEOUT));
    for write in [waiting, late] {
        assert!(sender.send(write).is_ok());
    }
    let mut sender = Some(sender);
    let mut written = 0;
    serve(&queue, |writes| {
        if sender.is_none() {
            written += writes.iter().filter(|write| write.command.is_revocation()).count();
            return answer_all(writes);
        }
        // The first attempt gives up the late one and sends the error of the other, which the second attempt sees.
        if writes.len() == 1 {
            let delay = delayed.try_recv().expect("answered by now").expect_err("not written yet");
            assert_eq!(delay.kind(), StoreErrorKind::TimedOut);
            sender = None;
        }
        Err(WriteFailure::Locked(failed("locked")))
    });
    assert_eq!(given_up.blocking_recv().expect("an answer").expect_err("given up").kind(), StoreErrorKind::Failed);
    assert_eq!(written, 1, "it is written all the same");
}

/// The cause may be another write, such as one that is too large for the disk.
#[test]
fn revocation_does_not_fail_with_other_writes() {
    let (sender, queue) = mpsc::channel();
    let (save, saved) = write_save("large");
    let (revocation, revoked) = write_revocation("a", Instant::now());
    for write in [save, revocation] {
        assert!(sender.send(write).is_ok());
    }
    drop(sender);
    serve(&queue, |writes| match writes {
        [Write { command: Command::Revoke(..), .. }, _] => Err(WriteFailure::Failed(failed("full"))),
        [Write { command: Command::Save(..), .. }, ..] => panic!("revocations go first"),
        _ => answer_all(writes),
    });
    assert!(saved.blocking_recv().expect("an answer").is_err());
    assert_eq!(revoked.blocking_recv().expect("an answer").expect("done"), Revoked::Sessions(1));
}
