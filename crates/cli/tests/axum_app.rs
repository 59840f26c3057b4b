//! The application that `init --axum` writes: it compiles without a network, its tests pass, and its users log in.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Ends the application, also if the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request, and returns the status and the body of the answer.
fn ask(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn written_application_passes_its_tests_and_serves_a_log_in() {
    let program = Path::new(env!("CARGO_BIN_EXE_fastauth"));
    let place = TempDir::new().unwrap();
    let written = Command::new(program).args(["init", "--axum", "my-shop"]).current_dir(place.path()).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let directory = place.path().join("my-shop");
    // What this test was built into, where the crates are compiled already.
    let target = program.ancestors().nth(2).unwrap();
    for words in [["test", "--offline"], ["build", "--offline"]] {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        let output = cargo.args(words).arg("--target-dir").arg(target).current_dir(&directory).output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !told.contains("warning:"), "{words:?}: {told}");
        assert!(words[0] != "test" || told.contains("4 passed"), "{told}");
    }

    let mut child = Command::new(target.join("debug/my-shop"))
        .current_dir(&directory)
        .env("LISTEN", "127.0.0.1:0")
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(fs::File::create(place.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut running = Running(child);
    let address = line.trim().strip_prefix("Listening on http://").unwrap();

    let source = fs::read_to_string(directory.join("src/main.rs")).unwrap();
    let password = source.split("(\"alice\", \"").nth(1).unwrap().split('"').next().unwrap();
    let json_type = ("Content-Type", "application/json");
    let form = |password: &str| json!({ "user": "alice", "password": password }).to_string();
    assert_eq!(ask(address, "POST /log-in", &[json_type], &form("guess")).0, 401);
    let (status, body) = ask(address, "POST /log-in", &[json_type], &form(password));
    assert_eq!(status, 200, "{body}");
    let pair: Value = serde_json::from_str(&body).unwrap();
    let token = pair["data"]["access_token"].as_str().unwrap();
    assert_eq!(ask(address, "GET /api/me", &[("ACCESS-TOKEN", token)], ""), (200, r#"{"user":"alice"}"#.to_owned()));
    assert_eq!(ask(address, "GET /api/me", &[], "").0, 401);
    // What the Containerfile's HEALTHCHECK asks.
    assert_eq!(ask(address, "GET /auth/healthz", &[], "").0, 200);
    assert_eq!(ask(address, "POST /api/log-out", &[("ACCESS-TOKEN", token)], "").0 / 100, 2);
    assert_eq!(ask(address, "GET /api/me", &[("ACCESS-TOKEN", token)], "").0, 401);

    // A second one finds the port in use.
    let second = Command::new(target.join("debug/my-shop")).current_dir(&directory).env("LISTEN", address).output();
    let second = second.unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("cannot listen on {address}: Address already in use")), "{told}");
    assert!(told.contains("set LISTEN to another address"), "{told}");

    Command::new("kill").arg(running.0.id().to_string()).status().unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0), "the signal that stops a container ends it in order");
    let log = fs::read_to_string(place.path().join("log")).unwrap();
    assert!(log.contains("issued") && log.contains("alice") && !log.contains(token), "{log}");
}
