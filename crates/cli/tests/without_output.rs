//! Requests are answered, whatever becomes of what the example and the program write.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

const MASTER: &str = "a-master-token-for-tests";

/// Where the output of a process goes.
#[derive(Clone, Copy, Debug)]
enum Sink {
    /// To a disk that is full.
    Full,
    /// Into a pipe that nobody reads any more.
    Closed,
    /// Into a pipe that is open and not read.
    Unread,
}

/// A process that serves requests, and ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
    place: TempDir,
}

impl Server {
    fn example(sink: Sink) -> Self {
        Self::start(example("axum"), &["--config", "fastauth.config.json", "--listen"], sink)
    }

    fn store(sink: Sink) -> Self {
        Self::start(PathBuf::from(env!("CARGO_BIN_EXE_fastauth")), &["store", "serve", "--listen"], sink)
    }

    fn start(program: PathBuf, words: &[&str], sink: Sink) -> Self {
        let place = TempDir::new().unwrap();
        let config = json!({
            "master-token": MASTER,
            "cryptography-key": "a-key-of-forty-characters-in-all-for-tests",
            "access-token-paths": ["/access"],
            "master-token-paths": ["/master"],
        });
        fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
        // Free a moment ago, and soon taken: what is printed cannot be read here.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(words).arg(address.to_string()).current_dir(place.path());
        command.env_clear().env("RUST_LOG", "trace").stdin(Stdio::null());
        command.stdout(output(sink)).stderr(output(sink));
        let mut child = command.spawn().unwrap();
        if matches!(sink, Sink::Closed) {
            drop((child.stdout.take(), child.stderr.take()));
        }
        while TcpStream::connect(address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "{sink:?}: it ended at its start");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, address, place }
    }

    /// Takes the tables away, as no program does.
    fn spoil_database(&self) {
        let database = rusqlite::Connection::open(self.place.path().join("fastauth.db")).unwrap();
        let mut tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for table in tables.iter().filter(|table| !table.starts_with("sqlite_")) {
            database.execute_batch(&format!("DROP TABLE {table}")).unwrap();
        }
    }

    /// The status and the body of an answer.
    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.address).unwrap();
        // Only a failure waits as long as that.
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        write!(connection, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{method} {target} was not answered"));
        (status.parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

/// Cargo builds the examples along with the tests.
fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let example = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(example.exists(), "build the examples first: cargo build --examples --all-features");
    example
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn output(sink: Sink) -> Stdio {
    match sink {
        Sink::Full => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap_or_else(|_| null())),
        Sink::Closed | Sink::Unread => Stdio::piped(),
    }
}

/// Only Linux has a disk that is always full.
fn null() -> File {
    OpenOptions::new().write(true).open(Path::new("/dev/null")).unwrap()
}

#[test]
fn the_example_answers_while_nothing_can_be_written() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let master = ("master-token", MASTER);
    for sink in [Sink::Full, Sink::Closed, Sink::Unread] {
        let server = Server::example(sink);
        let (status, body) = server.send("POST", "/auth/token/new", &[master, FORM], "client_id=c");
        assert_eq!(status, 200, "{sink:?}");
        let minted: Value = serde_json::from_str(&body).unwrap();
        let form = format!("refresh_token={}", minted["data"]["refresh_token"].as_str().unwrap());
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

#[test]
fn a_served_store_answers_while_nothing_can_be_written() {
    for sink in [Sink::Full, Sink::Closed, Sink::Unread] {
        let server = Server::store(sink);
        let pair = r#"{"data":{"access_token":"a","refresh_token":"r"}}"#;
        let written = server.send("POST", "/token?client_id=c", &[("content-type", "application/json")], pair);
        assert_eq!(written.0, 200, "{sink:?}: {written:?}");
        for _ in 0..500 {
            let (status, body) = server.send("GET", "/token?client_id=c", &[], "");
            assert!(status == 200 && body.contains(r#""a""#), "{sink:?}: {status} {body}");
        }
        // What is logged of a request is that the store failed.
        server.spoil_database();
        for _ in 0..500 {
            assert!(server.send("GET", "/token?client_id=c", &[], "").0 >= 500, "{sink:?}");
        }
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
        (json!({ "access-token-paths": [], "master-token-paths": [] }), "warning: both path lists are empty"),
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
        let server = Server::start(example("static_files"), &["--config", "fastauth.config.json", "--listen"], sink);
        assert_eq!(server.send("GET", "/access/health", &[], "").0, 401, "{sink:?}");
    }
}
