use std::time::Duration;

use fastauth_core::{
    clock::Clock,
    keys::Reform,
    secret::Secret,
    store::{Condition, Revocation, Rotation, SaveOptions, SessionFilter, TokenDigest},
};

use super::{
    KEEP, REPLACE, commit, record, refresh, revoke, revoke_client, rotate, save, save_if, scratch, session_number,
    value, waited_for,
};
use crate::{
    command::{Command, Reply},
    convert::{Conversion, KeptRow, kept_rows},
    read::{current, list, newest_pair},
    tables::ConvertedRow,
    writer::Writer,
};

/// Checks that the counts of the tables are what the rows say.
fn assert_counts(writer: &Writer, live: u64) {
    let counted: u64 = value(writer, "SELECT live FROM store");
    let total: u64 = value(writer, "SELECT total FROM store");
    let found: u64 = value(
        writer,
        "SELECT count(*) FROM token WHERE status = 'live' AND version > max(
             (SELECT floor FROM store), (SELECT floor FROM client WHERE client.client_id = token.client_id))",
    );
    let sum: u64 = value(writer, "SELECT coalesce(sum(version), 0) FROM token");
    assert_eq!((counted, total), (found, sum));
    assert_eq!(counted, live);
}

fn live_of_a(writer: &Writer) -> u64 {
    value(writer, "SELECT live FROM client WHERE client_id = 'a'")
}

#[test]
fn counts_stay_right_even_if_rows_are_deleted_by_hand() {
    let (_directory, mut writer) = scratch();
    commit(&mut writer, (0..5).map(|n| save(session_number(n), KEEP)));
    assert_counts(&writer, 5);
    commit(&mut writer, [refresh("refresh-0", Some("session-0")), save(record("b", "b"), KEEP)]);
    assert_counts(&writer, 6);
    commit(&mut writer, [save(session_number(5), SaveOptions { max_sessions: 3, ..KEEP })]);
    assert_counts(&writer, 4);
    assert_eq!(live_of_a(&writer), 3);
    writer.run(&mut [], true).expect("swept");
    let revoked: u64 = value(&writer, "SELECT count(*) FROM token WHERE status = 'revoked' AND access_token IS NULL");
    assert_eq!(revoked, 3, "revoked sessions keep no tokens");
    assert_counts(&writer, 4);
    writer.connection.execute("DELETE FROM token WHERE session = 'session-5'", []).expect("deleted");
    assert_counts(&writer, 3);
    commit(&mut writer, [revoke(Revocation::All)]);
    assert_counts(&writer, 0);
    commit(&mut writer, [save(session_number(6), KEEP)]);
    assert_counts(&writer, 1);
    assert_eq!(live_of_a(&writer), 1);
    commit(&mut writer, [save(session_number(7), REPLACE)]);
    assert_counts(&writer, 1);
    commit(&mut writer, [revoke_client("a")]);
    writer.connection.execute("DELETE FROM token WHERE client_id = 'a'", []).expect("deleted");
    assert_counts(&writer, 0);
    assert_eq!(value::<u64>(&writer, "SELECT count(*) FROM client"), 1, "a client without rows is deleted");
}

fn kept_tokens(writer: &Writer) -> u64 {
    value(writer, "SELECT count(*) FROM token WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL")
}

#[test]
fn revoked_rows_lose_their_tokens_bit_by_bit() {
    let (_directory, mut writer) = scratch();
    commit(&mut writer, (0..3).map(|n| save(session_number(n), KEEP)));
    // The floor of this client is below that of the store.
    commit(&mut writer, [revoke_client("a"), save(session_number(3), KEEP)]);
    commit(&mut writer, (0..1500).map(|n| save_if(&format!("client-{n}"), Condition::None)));
    commit(&mut writer, [revoke(Revocation::All), save_if("after", Condition::None)]);
    let before = kept_tokens(&writer);
    writer.run(&mut [], true).expect("swept");
    assert!((1..=1000 + 4).contains(&(before - kept_tokens(&writer))), "a bounded number at a time");
    for _ in 0..3 {
        writer.run(&mut [], true).expect("swept");
    }
    assert_eq!(kept_tokens(&writer), 1, "the pair that was saved later");
    assert!(current(&writer.connection, "after", None, 0).expect("readable").is_some());
    commit(&mut writer, [revoke(Revocation::All)]);
    for _ in 0..4 {
        writer.run(&mut [], true).expect("swept");
    }
    assert_eq!(kept_tokens(&writer), 0, "the next revocation starts from the first client");
}

fn answer(command: &Command) -> String {
    match command {
        Command::Save(.., reply) => format!("{:?}", reply.answer),
        Command::Rotate(_, reply) => format!("{:?}", reply.answer),
        Command::Revoke(.., reply) => format!("{:?}", reply.answer),
        _ => panic!("none of these"),
    }
}

/// A command sees the writes of those before it, in one transaction as well as in many.
#[test]
fn one_transaction_gives_the_answers_of_many() {
    fn commands() -> [Command; 11] {
        let rotation = Rotation {
            presented: TokenDigest::of("r"),
            presented_session: None,
            successor: record("b", "b"),
            grace: Duration::ZERO,
            decided_after: 0,
        };
        [
            save_if("a", Condition::None),
            revoke(Revocation::All),
            revoke(Revocation::All),
            save_if("a", Condition::Absent),
            save_if("a", Condition::Absent),
            rotate(rotation.clone()),
            save_if("b", Condition::Absent),
            rotate(rotation),
            revoke_client("b"),
            revoke(Revocation::All),
            save_if("a", Condition::Absent),
        ]
    }
    let (_one, mut one) = scratch();
    let (_other, mut other) = scratch();
    let together: Vec<_> = commit(&mut one, commands()).iter().map(answer).collect();
    let apart = commands().map(|command| answer(&commit(&mut other, [command])[0]));
    assert_eq!(together, apart);
    let expected = [
        "Saved(1)",
        "Sessions(1)",
        "Sessions(0)",
        "Saved(3)",
        "ConditionFailed",
        "UnknownClient",
        "Saved(4)",
        "Rotated",
        "Sessions(1)",
        "Sessions(1)",
        "Saved(8)",
    ];
    assert_eq!(apart, expected.map(|answer| format!("Some({answer})")));
    let held = [&one, &other].map(|writer| current(&writer.connection, "a", None, 0).expect("readable"));
    assert!(held[0].is_some() && held[0] == held[1]);
}

fn clients(writer: &Writer) -> Vec<String> {
    let page = list(&writer.connection, &SessionFilter::default()).expect("readable");
    page.sessions.into_iter().map(|entry| entry.client_id).collect()
}

#[test]
fn row_is_deleted_when_both_tokens_have_expired() {
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
    commit(
        &mut writer,
        ends.map(|(client_id, access, refresh)| {
            let mut record = record(client_id, "a");
            record.access.expires_at = access;
            record.refresh.expires_at = refresh;
            save(record, REPLACE)
        }),
    );
    assert_eq!(clients(&writer).len(), ends.len(), "rows are cleaned once a minute");
    writer.run(&mut [], true).expect("cleaned");
    let expected = ["access live", "access unknown", "live", "refresh live", "refresh unknown", "unknown"];
    assert_eq!(clients(&writer), expected);
}

fn sealed(rows: Vec<KeptRow>) -> Vec<ConvertedRow> {
    let reform = |kept: &Secret| Reform::Replace(format!("sealed {}", kept.expose()).into(), TokenDigest::of("t"));
    rows.into_iter().filter_map(|row| row.converted(reform, &mut Conversion::default())).collect()
}

fn all_rows(writer: &Writer) -> Vec<KeptRow> {
    kept_rows(&writer.connection, &Default::default()).expect("readable")
}

fn access_token(writer: &Writer, client_id: &str) -> Option<Secret> {
    newest_pair(&writer.connection, client_id).expect("readable").and_then(|pair| pair.access_token)
}

#[test]
fn conversion_leaves_rows_that_were_written_since() {
    let (_directory, mut writer) = scratch();
    commit(&mut writer, ["kept", "written", "revoked"].map(|id| save_if(id, Condition::None)));
    let rows = all_rows(&writer);
    assert_eq!(rows.len(), 3);
    let revoked = Revocation::Session { client_id: "revoked".to_owned(), session: String::new() };
    commit(&mut writer, [save(record("written", "newer"), REPLACE), revoke(revoked)]);
    let done = commit(&mut writer, [Command::Convert(sealed(rows), waited_for())]);
    assert!(matches!(&done[..], [Command::Convert(_, Reply { answer: Some(1), .. })]));
    assert_eq!(access_token(&writer, "kept"), Some("sealed a".into()));
    assert_eq!(access_token(&writer, "written"), Some("newer".into()));
    assert_eq!(newest_pair(&writer.connection, "revoked").expect("readable"), None);
    let digests = current(&writer.connection, "kept", None, 0).expect("readable").expect("known");
    assert_eq!((digests.access, digests.refresh), (Some(TokenDigest::of("t")), Some(TokenDigest::of("t"))));
    assert_eq!(sealed(all_rows(&writer)).len(), 2, "a revoked row has no tokens to convert");
}

#[test]
fn number_too_large_for_sqlite_does_not_fail_the_transaction() {
    let (_directory, mut writer) = scratch();
    let mut odd = record("odd", "a");
    odd.generation = u64::MAX;
    odd.access.expires_at = u64::MAX;
    odd.refresh.expires_at = u64::MAX;
    commit(&mut writer, [save_if("a", Condition::None), save(odd, REPLACE)]);
    for client_id in ["a", "odd"] {
        assert!(current(&writer.connection, client_id, None, 0).expect("readable").is_some());
    }
    assert_eq!(clients(&writer).len(), 2);
}

#[test]
fn changes_are_deleted_after_an_hour_but_not_the_newest() {
    let (_directory, mut writer) = scratch();
    commit(&mut writer, (0..3).map(|n| save(session_number(n), KEEP)));
    let numbers = |writer: &Writer| -> (u64, u64) {
        (value(writer, "SELECT min(number) FROM change"), value(writer, "SELECT max(number) FROM change"))
    };
    let age = |writer: &Writer, ms: u64| {
        writer.connection.execute("UPDATE change SET at_ms = at_ms - ?1", [ms]).expect("aged");
    };
    age(&writer, 3_590_000);
    writer.run(&mut [], true).expect("cleaned");
    assert_eq!(numbers(&writer), (1, 3));
    age(&writer, 20_000);
    writer.run(&mut [], true).expect("cleaned");
    assert_eq!(numbers(&writer), (3, 3));
    commit(&mut writer, [revoke_client("a")]);
    assert_eq!(numbers(&writer), (3, 4), "numbers go on");
}
