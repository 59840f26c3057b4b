//! What the program writes: that it is written, and that a terminal is told nothing by strangers.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    process::{Command, Output, Stdio},
};

use fastauth::{
    Secret,
    store::{SaveOptions, SqliteStore, TokenDigest, TokenEntry, TokenRecord, TokenStore},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a terminal obeys, or what turns the order of what is read: ESC, CSI in C1, BEL, DEL, bidi, line ends.
const HOSTILE: &str = "x\u{1b}[31m\u{9b}2J\u{7}\u{7f}\u{202e}\u{2066}\u{2028}\u{200b}\r\nfault: none";

fn place(extra: &Value) -> TempDir {
    let place = TempDir::new().unwrap();
    let mut config = json!({
        "master-token": "a-master-token-for-tests",
        "cryptography-key": "a-key-of-forty-characters-in-all-for-tests",
        "access-token-paths": ["/access"],
    });
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
    place
}

fn command(place: &TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastauth"));
    command.args(words).current_dir(place.path()).env_clear().stdin(Stdio::null());
    command
}

/// One for each way of writing that the program has.
const COMMANDS: [&[&str]; 17] = [
    &["keygen"],
    &["keygen", "--name", "MASTER_TOKEN"],
    &["check"],
    &["check", "--json"],
    &["explain", "GET", "/access"],
    &["explain", "--json", "GET", "/access"],
    &["keys", "list"],
    &["keys", "list", "--json"],
    &["keys", "rotate", "--print"],
    &["token", "new"],
    &["token", "list"],
    &["token", "list", "--json"],
    &["token", "revoke", "--client-id", "alice"],
    &["completions", "bash"],
    &["completions", "zsh"],
    &["--help"],
    &["--version"],
];

fn outcome(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let place = place(&json!({}));
    assert!(command(&place, &["token", "new", "--client-id", "alice"]).output().unwrap().status.success());
    for words in COMMANDS {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, told) = outcome(&command(&place, words).stdout(full).output().unwrap());
        assert_eq!(code, Some(1), "{words:?}: {told}");
        assert!(told.contains("standard output") && !told.contains("panicked"), "{words:?}: {told}");
    }
}

/// As of other programs, nothing is said, and the shell is told by the code.
#[test]
fn a_reader_that_went_away_ends_the_program_quietly() {
    let place = place(&json!({}));
    assert!(command(&place, &["token", "new", "--client-id", "alice"]).output().unwrap().status.success());
    for words in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, told) = outcome(&command(&place, words).stdout(writer).output().unwrap());
        assert_eq!(code, Some(141), "{words:?}: {told}");
        assert!(!told.contains("panicked") && !told.contains("standard output"), "{words:?}: {told}");
    }
}

#[track_caller]
fn assert_harmless(words: &[&str], text: &[u8]) {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let obeyed = |char: &char| *char != '\n' && *char != ' ' && !char.is_ascii_graphic() && HOSTILE.contains(*char);
    assert_eq!(text.chars().find(obeyed), None, "{words:?}: {text:?}");
    // Whoever runs the program may give it words of several lines.
    let is_own = words.iter().any(|word| word.contains('\n'));
    assert!(is_own || !text.lines().any(|line| line == "fault: none"), "{words:?}: a line of a stranger's: {text}");
}

fn save(place: &Path, client_id: &str, session: &str, kid: &str) {
    let store = SqliteStore::open(place.join("fastauth.db")).unwrap();
    let entry =
        |text: &str| TokenEntry { digest: TokenDigest::of(text), text: Secret::from(text), expires_at: 4_000_000_000 };
    let record = TokenRecord {
        client_id: client_id.to_owned(),
        session: session.to_owned(),
        generation: 0,
        kid: kid.to_owned(),
        access: entry("access"),
        refresh: entry("refresh"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(store.save(&record, SaveOptions::default())).unwrap();
}

#[test]
fn what_strangers_chose_is_shown_and_not_obeyed() {
    let place = place(&json!({ "app-name": HOSTILE }));
    save(place.path(), HOSTILE, HOSTILE, HOSTILE);
    let target = format!("/{}", HOSTILE.replace(['\u{1b}', '\u{7}', '\u{7f}', '\r', '\n', ' '], ""));
    for words in [
        &["token", "list", "--all"][..],
        &["token", "list", "--wide", "--all"],
        &["token", "list", "--json"],
        &["keys", "list"],
        &["keys", "list", "--json"],
        &["check"],
        &["check", "--json"],
        &["explain", "GET", &target],
        &["explain", "--json", "GET", &target],
        &["explain", "GET", HOSTILE],
        &["explain", HOSTILE, "/"],
        &["token", "decode", HOSTILE],
        &["token", "revoke", "--session", HOSTILE],
        &["token", "revoke", HOSTILE],
        &["keys", "retire", HOSTILE],
        &["store", "test", HOSTILE],
        &["store", "convert", "--to", "plain", "--database", HOSTILE],
        &["check", "--config", HOSTILE],
        &[HOSTILE],
        &["token", "list", "--status", HOSTILE],
    ] {
        let output = command(&place, words).output().unwrap();
        assert_harmless(words, &output.stdout);
        assert_harmless(words, &output.stderr);
        if words.contains(&"--json") {
            // Escaped, it is the same text.
            let last = String::from_utf8(output.stdout.clone()).unwrap();
            let found: Value = serde_json::from_str(&last).unwrap_or_else(|error| panic!("{words:?}: {error}: {last}"));
            let texts = found.to_string();
            assert!(texts.contains("31m"), "{words:?}: {texts}");
        }
    }
    let listed = command(&place, &["token", "list", "--wide", "--all"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(r"x\u{1b}[31m\u{9b}2J\u{7}\u{7f}\u{202e}"), "{listed}");
}

#[test]
fn what_strangers_chose_is_bounded() {
    let place = place(&json!({}));
    let long = "x".repeat(5_000);
    save(place.path(), &long, &long, &long);
    let target = format!("/{long}");
    for words in [&["token", "list"][..], &["keys", "list"], &["explain", "GET", &target], &["explain", &long, "/"]] {
        let output = command(&place, words).output().unwrap();
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(all.contains("xxx") && all.contains('…'), "{words:?}: {all}");
        let longest = all.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest < 1_200, "{words:?}: a line of {longest} characters");
    }
}
