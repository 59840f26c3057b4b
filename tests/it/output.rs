//! Requests are answered, whatever becomes of what an example writes.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{MASTER, Server, Sink};

/// Cargo builds the examples along with the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let example = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(example.exists(), "build the examples first: cargo build --examples --all-features");
    example
}

#[test]
fn the_example_answers_while_nothing_can_be_written() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let master = ("master-token", MASTER);
    for sink in [Sink::Full, Sink::Closed, Sink::Unread] {
        let server = Server::start(&example("axum"), &["--config", "fastauth.config.json", "--listen"], sink);
        let (status, body) = server.send("POST", "/auth/token/new", &[master, FORM], "client_id=c");
        assert_eq!(status, 200, "{sink:?}");
        let issued: Value = serde_json::from_str(&body).unwrap();
        let form = format!("refresh_token={}", issued["data"]["refresh_token"].as_str().unwrap());
        let (status, body) = server.send("POST", "/auth/token/refresh", &[FORM], &form);
        assert_eq!(status, 200, "{sink:?}");
        let renewed: Value = serde_json::from_str(&body).unwrap();
        let access = renewed["data"]["access_token"].as_str().unwrap();
        assert_eq!(server.send("GET", "/access/health", &[("access-token", access)], "").0, 200, "{sink:?}");
        // Each of these is logged: together they are more than a pipe takes.
        for _ in 0..500 {
            assert_eq!(server.send("GET", "/access/health", &[], "").0, 401, "{sink:?}");
        }
        let revoked = server.send("POST", "/auth/token/revoke", &[master, FORM], "client_id=c");
        assert_eq!(revoked, (200, r#"{"revoked":1}"#.to_owned()), "{sink:?}");
        assert_eq!(server.send("GET", "/access/health", &[("access-token", access)], "").0, 401, "{sink:?}");
    }
}

/// What an example without a subscriber of `tracing` says on standard error until it listens, or until it ends.
fn said(config: &Value) -> String {
    said_by("static_files", config)
}

fn said_by(name: &str, config: &Value) -> String {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
    let mut command = Command::new(example(name));
    command.env_clear().env("RUST_LOG", "error");
    command.args(["--config", "fastauth.config.json", "--listen", "127.0.0.1:0"]).current_dir(place.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has told all when it listens.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let _ = child.kill();
    String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
}

#[test]
fn an_operator_is_told_at_the_start_if_nobody_listens_to_tracing() {
    let published = "kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4=";
    let with = |more: Value| {
        let mut config = json!({
            "master-token": MASTER,
            "cryptography-key": "a-key-of-forty-characters-in-all-for-tests",
            "access-token-paths": ["/access", "/api/"],
            "master-token-paths": ["/master"],
            "database-api-url": "http://127.0.0.1:9/store",
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for (more, expected) in [
        (
            json!({}),
            "fastauth: guards \"/master\" by the master token, \"/access\", \"/api/\" by an access token; tokens are kept in \
             http://127.0.0.1:9/store\n",
        ),
        (json!({ "public-paths": ["/access/open"] }), "; \"/access/open\" open to all; tokens are kept in"),
        (json!({ "shadow": true }), "warning: `shadow` is on"),
        (json!({ "shadow": true }), "by an access token, and guards nothing in `shadow`; tokens"),
        (json!({ "cryptography-key": published }), "warning: `cryptography-key` is a published example"),
        (
            json!({ "access-token-paths": [], "master-token-paths": [] }),
            "warning: there are no rules, and both path lists are empty",
        ),
        (
            json!({ "rules": [{ "path": "/auth", "level": "public" }], "access-token-paths": [] }),
            "fastauth: guards \"/master\" by the master token, paths by 1 rule, all other paths by an access token; tokens",
        ),
        (
            json!({ "default-level": "deny", "master-token-paths": [], "access-token-paths": [] }),
            "fastauth: guards all other paths by refusing every request; tokens",
        ),
        (json!({ "access-token-paths": [], "master-token-paths": [] }), "fastauth: guards no path; tokens are kept in"),
    ] {
        let said = said(&with(more));
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains(published) && !said.contains(MASTER), "{said}");
        assert_eq!(said.lines().filter(|line| line.contains("tokens are kept in")).count(), 1, "{said}");
    }
    // A subscriber that listens to errors alone hears no warning.
    let said_by_another = said_by("axum", &with(json!({ "shadow": true })));
    assert!(said_by_another.contains("fastauth: warning: `shadow` is on"), "{said_by_another}");
    // As `fn main() -> Result<(), Box<dyn Error>>` prints it.
    let said = said(&with(json!({ "access-ttl": "soon" })));
    assert!(said.starts_with("Error: FastAuth cannot start: 1 fault in its configuration\n  - "), "{said}");
}

#[test]
fn the_start_does_not_need_standard_error() {
    for sink in [Sink::Full, Sink::Closed, Sink::Unread] {
        let server = Server::start(&example("static_files"), &["--config", "fastauth.config.json", "--listen"], sink);
        assert_eq!(server.send("GET", "/access/health", &[], "").0, 401, "{sink:?}");
    }
}
