//! Secrets as the program writes them: none is lost, and none goes where it was not meant to.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

fn program(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastauth"));
    command.args(words).current_dir(directory).env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it printed and what it complained of; it has to end with this code.
fn run(directory: &Path, words: &[&str], code: i32) -> (String, String) {
    told(program(directory, words).output().unwrap(), words, code)
}

fn told(output: Output, words: &[&str], code: i32) -> (String, String) {
    let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(code), "{words:?}: {texts:?}");
    texts.into()
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap()
}

/// Of many processes that write one file at the same time, each finds what it wrote.
#[test]
fn no_secret_is_lost_when_several_are_written_at_once() {
    for round in 0..40 {
        let place = TempDir::new().unwrap();
        fs::write(place.path().join(".env"), "# kept\nOTHER=1\n").unwrap();
        let all = ["MASTER_TOKEN", "CRYPTOGRAPHY_KEY"]
            .map(|name| program(place.path(), &["keygen", "--name", name, "--write"]).spawn().unwrap());
        for child in all {
            told(child.wait_with_output().unwrap(), &["keygen"], 0);
        }
        let text = read(place.path(), ".env");
        for line in ["# kept\n", "OTHER=1\n", "MASTER_TOKEN=", "CRYPTOGRAPHY_KEY="] {
            assert_eq!(text.matches(line).count(), 1, "round {round}: {line} in {text}");
        }
    }
}

/// Of two that make the same secret where there is none, one is told that there is one.
#[test]
fn one_of_two_makes_a_secret_that_is_missing() {
    for round in 0..20 {
        let place = TempDir::new().unwrap();
        let words = ["keygen", "--name", "MASTER_TOKEN", "--write"];
        let both = [0, 1].map(|_| program(place.path(), &words).spawn().unwrap());
        let mut codes = both.map(|child| child.wait_with_output().unwrap().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(1)], "round {round}");
    }
}

/// Keys that are rotated at once by two are all kept, or one is told that it was too late.
#[test]
fn no_key_is_lost_when_two_rotate_at_once() {
    for round in 0..10 {
        let place = TempDir::new().unwrap();
        run(place.path(), &["init", "--yes"], 0);
        let both = [0, 1].map(|_| program(place.path(), &["keys", "rotate", "--now"]).spawn().unwrap());
        let done = both.map(|child| child.wait_with_output().unwrap().status.success());
        let rotated = done.iter().filter(|done| **done).count();
        let keys: Value = serde_json::from_str(&run(place.path(), &["keys", "list", "--json"], 0).0).unwrap();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 1 + rotated, "round {round}");
        assert!(rotated > 0, "round {round}");
    }
}

#[test]
fn a_leaked_secret_is_replaced_in_every_form() {
    let place = TempDir::new().unwrap();
    for leaked in [
        "export\tMASTER_TOKEN=leaked-hush\n",
        "MASTER_TOKEN=one\n\texport  MASTER_TOKEN = 'leaked-hush'\n",
        "\u{feff}MASTER_TOKEN=leaked-hush",
        "MASTER_TOKEN=leaked$hush\n",
    ] {
        fs::write(place.path().join(".env"), leaked).unwrap();
        assert!(
            run(place.path(), &["keygen", "--name", "MASTER_TOKEN", "--write"], 1).1.contains("--force replaces it")
        );
        run(place.path(), &["keygen", "--name", "MASTER_TOKEN", "--write", "--force"], 0);
        let text = read(place.path(), ".env");
        assert!(!text.contains("leaked") && text.matches("MASTER_TOKEN").count() == 1, "{text}");
    }
    // A value over several lines would take the new secret in.
    for taken_in in
        ["NOTE=\"a\nMASTER_TOKEN=leaked-hush\nb\"\n", "MASTER_TOKEN='leaked-hush\nb'\n", "NOTE='never closed\n"]
    {
        fs::write(place.path().join(".env"), taken_in).unwrap();
        let refusal = run(place.path(), &["keygen", "--name", "MASTER_TOKEN", "--write", "--force"], 1).1;
        assert!(
            refusal.contains("nothing was written: edit the line by hand") && !refusal.contains("hush"),
            "{refusal}"
        );
        assert_eq!(read(place.path(), ".env"), taken_in);
    }
}

#[test]
fn keygen_does_not_follow_a_link_that_anybody_could_have_put_there() {
    let place = TempDir::new().unwrap();
    let shared = place.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(place.path().join("of-the-user"), "kept\n").unwrap();
    symlink("../of-the-user", shared.join(".env")).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    for words in [&["keygen", "--write"][..], &["keygen", "--write", "--force"], &["init", "--yes"]] {
        let refusal = run(&shared, words, 1).1;
        assert!(refusal.contains("is a link in a directory that every user can write to"), "{refusal}");
        assert_eq!(read(place.path(), "of-the-user"), "kept\n");
        assert!(!shared.join("fastauth.config.json").exists(), "a half configuration is not left");
    }
}

/// What replaces a leaked secret stands where that one was read.
#[test]
fn keygen_writes_into_the_file_that_is_read() {
    let place = TempDir::new().unwrap();
    for directory in ["conf", "other"] {
        fs::create_dir(place.path().join(directory)).unwrap();
    }
    let (conf, other) = (place.path().join("conf"), place.path().join("other"));
    run(&conf, &["init", "--yes"], 0);
    let keygen = |directory: &Path| {
        let words = ["keygen", "--name", "MASTER_TOKEN", "--write", "--force"];
        let output =
            program(directory, &words).env("FASTAUTH_CONFIG", "../conf/fastauth.config.json").output().unwrap();
        told(output, &words, 0).1
    };
    fs::write(other.join(".env"), "A=1\n").unwrap();
    let leaked = read(&conf, ".env");
    assert!(keygen(&other).contains("Wrote MASTER_TOKEN to ../conf/.env"));
    assert_ne!(read(&conf, ".env").lines().next(), leaked.lines().next());
    assert_eq!(read(&other, ".env"), "A=1\n");
    // Where there is none beside the configuration, the one of the working directory is read.
    fs::remove_file(conf.join(".env")).unwrap();
    assert!(keygen(&other).contains("Wrote MASTER_TOKEN to .env"));
    assert!(read(&other, ".env").starts_with("A=1\nMASTER_TOKEN=") && !conf.join(".env").exists());
    fs::remove_file(other.join(".env")).unwrap();
    assert!(keygen(&other).contains("Wrote MASTER_TOKEN to ../conf/.env"));
    // A file that is named is the one.
    run(&conf, &["keygen", "--write", "named"], 0);
    assert!(read(&conf, "named").starts_with("CRYPTOGRAPHY_KEY="));
}

/// Whoever can open the directory can lock it.
#[test]
fn a_lock_that_is_not_let_go_ends_in_an_error() {
    let place = TempDir::new().unwrap();
    run(place.path(), &["init", "--yes"], 0);
    let before = read(place.path(), ".env");
    let held = fs::File::open(place.path()).unwrap();
    held.lock_shared().unwrap();
    let all =
        [&["keygen", "--write", "--force"][..], &["keys", "rotate", "--now"], &["init", "--yes", "--config", "x"]]
            .map(|words| (words, program(place.path(), words).spawn().unwrap()));
    for (words, child) in all {
        let refusal = told(child.wait_with_output().unwrap(), words, 1).1;
        assert!(refusal.contains("another process has locked the directory"), "{refusal}");
    }
    assert_eq!(read(place.path(), ".env"), before);
    drop(held);
    run(place.path(), &["keygen", "--write", "--force"], 0);
}

/// A key that is read can be rotated, and what is printed can be put into a file.
#[test]
fn a_key_with_signs_in_it_is_rotated_and_printed() {
    let place = TempDir::new().unwrap();
    run(place.path(), &["init", "--yes"], 0);
    let odd = "CRYPTOGRAPHY_KEY='a-key-with-a-back\\slash-and-\"quote\"-0123456789 $x'\n";
    fs::write(place.path().join(".env"), format!("MASTER_TOKEN=a-master-token-of-the-ops\n{odd}")).unwrap();
    let kid = |number: usize| {
        let keys: Value = serde_json::from_str(&run(place.path(), &["keys", "list", "--json"], 0).0).unwrap();
        keys["keys"][number]["kid"].clone()
    };
    let old = kid(0);
    let printed = run(place.path(), &["keys", "rotate", "--now", "--print"], 0).0;
    run(place.path(), &["keys", "rotate", "--now"], 0);
    assert_eq!(kid(1), old);
    fs::write(place.path().join(".env"), format!("MASTER_TOKEN=a-master-token-of-the-ops\n{printed}")).unwrap();
    assert_eq!(kid(1), old);
}

/// The secrets go where the application looks for them first: beside the configuration.
#[test]
fn init_puts_the_secrets_beside_the_configuration() {
    let place = TempDir::new().unwrap();
    fs::create_dir(place.path().join("etc")).unwrap();
    let notes = run(place.path(), &["init", "--yes", "--config", "etc/shop.json"], 0).1;
    assert!(notes.contains("Wrote MASTER_TOKEN to etc/.env"), "{notes}");
    run(place.path(), &["check", "--config", "etc/shop.json"], 0);
    assert!(!place.path().join(".env").exists());
    let other = run(place.path(), &["init", "--yes", "--config", "other.json", "--env-file", "secrets"], 0).1;
    assert!(other.contains("load any other file into the environment"), "{other}");
    assert!(
        other.contains("beside the configuration file is read, or else the one in the working directory"),
        "{other}"
    );
}

#[test]
fn months_are_no_time_to_rotate_in() {
    let place = TempDir::new().unwrap();
    run(place.path(), &["init", "--yes"], 0);
    let refusal = run(place.path(), &["keys", "rotate", "--signs-in", "10M"], 2).1;
    assert!(refusal.contains("write \"10m\" for minutes"), "{refusal}");
    run(place.path(), &["keys", "rotate", "--signs-in", "10m"], 0);
}

/// A start that waits for a pipe never ends.
#[test]
fn a_pipe_ends_no_command_in_waiting() {
    let place = TempDir::new().unwrap();
    let config = json!({ "access-token-paths": ["/access"], "database-api-url": "sqlite:x.db" });
    fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
    for pipe in [".env", "pipe.json"] {
        assert!(Command::new("mkfifo").arg(place.path().join(pipe)).status().unwrap().success());
    }
    assert!(run(place.path(), &["check"], 1).0.contains("it is a pipe, a socket or a device, and not a file"));
    assert!(run(place.path(), &["check", "--config", "pipe.json"], 1).0.contains("it is a pipe"));
    assert!(run(place.path(), &["keygen", "--write"], 1).1.contains("it is a pipe"));
}

/// A file that is mounted by itself, as Docker does it, cannot be renamed over.
#[cfg(target_os = "linux")]
#[test]
fn a_mounted_file_is_left_with_a_word_of_what_to_do() {
    let place = TempDir::new().unwrap();
    run(place.path(), &["init", "--yes"], 0);
    fs::rename(place.path().join(".env"), place.path().join("mounted")).unwrap();
    fs::write(place.path().join(".env"), "").unwrap();
    let before = read(place.path(), "mounted");
    let rotate = "mount --bind mounted .env || exit 77; exec \"$0\" keys rotate --now";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", rotate, env!("CARGO_BIN_EXE_fastauth")]);
    let Ok(output) = command.current_dir(place.path()).output() else { return };
    let told = String::from_utf8_lossy(&output.stderr);
    // Some machines let nobody mount.
    if output.status.code() == Some(77) || told.contains("unshare:") {
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{told}");
    let expected = "it is mounted as a single file, which cannot be replaced in one step, and nothing was changed";
    assert!(told.contains(expected) && told.contains("or mount its directory"), "{told}");
    assert_eq!(read(place.path(), "mounted"), before);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4, "no draft is left");
}

/// What a file or a secret of Kubernetes adds to a variable is no part of it.
#[test]
fn a_line_break_behind_the_stores_bearer_is_no_part_of_it() {
    let place = TempDir::new().unwrap();
    let words = ["store", "test", "http://127.0.0.1:1"];
    let output = program(place.path(), &words).env("FASTAUTH_STORE_TOKEN", "a-bearer-of-the-store\n").output().unwrap();
    let refusal = told(output, &words, 1).1;
    assert!(!refusal.contains("printable ASCII"), "{refusal}");
}

#[test]
fn the_bearer_of_the_store_is_read_from_a_file() {
    let place = TempDir::new().unwrap();
    let words = ["store", "test", "http://127.0.0.1:1"];
    let refusal = |variables: &[(&str, &str)]| {
        let output = program(place.path(), &words).envs(variables.iter().copied()).output().unwrap();
        told(output, &words, 1).1
    };
    let file = ("FASTAUTH_STORE_TOKEN_FILE", "bearer");
    let missing = refusal(&[file]);
    assert!(
        missing.contains("FASTAUTH_STORE_TOKEN_FILE (or --token-file): the file bearer cannot be read"),
        "{missing}"
    );
    fs::write(place.path().join("bearer"), "a bearer with spaces, hush").unwrap();
    fs::set_permissions(place.path().join("bearer"), fs::Permissions::from_mode(0o600)).unwrap();
    let unusable = refusal(&[file]);
    assert!(unusable.contains("printable ASCII") && !unusable.contains("hush"), "{unusable}");
    let both = refusal(&[file, ("FASTAUTH_STORE_TOKEN", "a-bearer-of-the-store")]);
    assert!(both.contains("are both set: unset one of them"), "{both}");
    fs::write(place.path().join("bearer"), "a-bearer-of-the-store\n").unwrap();
    let refused = refusal(&[file]);
    assert!(!refused.contains("bearer") && !refused.contains("STORE_TOKEN"), "the store was called: {refused}");
}

#[test]
fn a_database_is_named_by_a_plain_path() {
    let place = TempDir::new().unwrap();
    for database in ["sqlite:tokens.db?mode=rwc", "sqlite:///tokens.db", "sqlite:file:tokens.db", "sqlite::memory:"] {
        let refusal = run(place.path(), &["store", "serve", "--listen", "127.0.0.1:0", "--database", database], 1).1;
        assert!(refusal.contains("write sqlite:FILE with the plain path of a file"), "{refusal}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

/// Whoever reads the database is every client.
#[test]
fn a_served_database_that_others_can_read_is_warned_of() {
    let place = TempDir::new().unwrap();
    let database = place.path().join("tokens.db");
    fs::write(&database, "").unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    let words = ["store", "serve", "--listen", "127.0.0.1:0", "--database", "sqlite:tokens.db"];
    let mut child = program(place.path(), &words).spawn().unwrap();
    // It has warned when it listens.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child.kill().unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("tokens.db: every user of this machine can read it"), "{said}");
}
