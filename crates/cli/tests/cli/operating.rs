//! `store serve` in the hands of an operator: health, metrics, logs, signals, sockets and variables.

use std::{
    io::Read,
    net::TcpStream,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    time::{Duration, Instant},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

const BEARER: &str = "hush-by-the-bearer-of-this";
const SUCCESSOR: &str = "hush-the-next-bearer-of-this";

/// A server with its log in a file.
struct Operated<'a> {
    child: Child,
    /// What it says that it listens on.
    listening: String,
    place: &'a Place,
}

impl<'a> Operated<'a> {
    fn start(place: &'a Place, words: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = place.command(&[&["store", "serve"], words].concat());
        if !words.contains(&"--listen") && !variables.iter().any(|(name, _)| *name == "FASTAUTH_STORE_LISTEN") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let log = fs::File::create(place.path().join("log")).unwrap();
        let mut child = command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = fs::read_to_string(place.path().join("log")).unwrap();
        assert!(!line.is_empty(), "it did not start: {log}");
        Self { child, listening: line.trim().replace("Listening on ", ""), place }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    /// Waits for a line of the log with all of these in it.
    fn logged(&self, words: &[&str]) -> String {
        awaited(|| {
            let log = self.log();
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn stop(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }

    /// The address of the metrics, which it logs.
    fn metrics_url(&self) -> String {
        let line = self.logged(&["metrics and health are served"]);
        line.split('"').find(|part| part.starts_with("http://")).unwrap().to_owned()
    }
}

impl Drop for Operated<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn awaited<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come");
        std::thread::yield_now();
    }
}

/// An answer: its status, its head and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// A request without a body, with these lines in its head.
fn request(line: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += "host: localhost\r\n";
    }
    request.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    request + "\r\n"
}

fn ask(url: &str, line: &str, headers: &[(&str, &str)]) -> Answer {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, &request(line, headers))
}

/// A call with the bearer token and a body of JSON.
fn call(url: &str, line: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {BEARER}");
    let length = body.len().to_string();
    let headers = [("authorization", &*bearer), ("content-type", "application/json"), ("content-length", &*length)];
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, &(request(line, &headers) + body))
}

/// What a command that does not serve complains of.
fn refusal(mut command: Command, code: i32) -> String {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() < PATIENCE => std::thread::yield_now(),
            None => {
                child.kill().unwrap();
                panic!("it serves: {command:?}");
            }
        }
    };
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {told}");
    told
}

#[test]
fn health_needs_no_token_and_follows_the_database() {
    let place = Place::new();
    let served = Operated::start(&place, &["--database", "sqlite:tokens.db"], &[("FASTAUTH_STORE_TOKEN", BEARER)]);
    for path in ["/livez", "/readyz"] {
        for headers in [&[][..], &[("host", "10.1.2.3:6789")], &[("origin", "https://elsewhere.example")]] {
            let answer = ask(&served.listening, &format!("GET {path}"), headers);
            assert_eq!((answer.status, &*answer.body), (200, r#"{"status":"ok"}"#), "{path} {headers:?}");
            assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
        }
        let head = ask(&served.listening, &format!("HEAD {path}"), &[]);
        assert_eq!((head.status, &*head.body), (200, ""));
        let post = ask(&served.listening, &format!("POST {path}"), &[]);
        assert_eq!(post.status, 405);
        assert!(post.head.contains("allow: get, head"), "{}", post.head);
    }
    for path in ["/", "/livez/", "/readyz/x", "/health", "/token"] {
        assert_eq!(ask(&served.listening, &format!("GET {path}"), &[]).status, 401, "{path}");
    }
    for entry in fs::read_dir(place.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("tokens.db") {
            fs::remove_file(path).unwrap();
        }
    }
    let unready = awaited(|| Some(ask(&served.listening, "GET /readyz", &[])).filter(|answer| answer.status != 200));
    assert_eq!((unready.status, &*unready.body), (503, r#"{"status":"unavailable"}"#));
    assert_eq!(ask(&served.listening, "GET /livez", &[]).status, 200, "the process answers");
    assert_eq!(served.stop(), Some(0));
}

#[test]
fn metrics_count_calls_and_sessions() {
    let place = Place::new();
    let words = ["--metrics-listen", "127.0.0.1:0"];
    let served = Operated::start(&place, &words, &[("FASTAUTH_STORE_TOKEN", BEARER)]);
    let metrics = served.metrics_url();
    let pair = r#"{"access_token":"a","refresh_token":"r","session":"s","generation":0}"#;
    for client in ["alice", "bob"] {
        assert_eq!(call(&served.listening, &format!("POST /v2/clients/{client}/token"), pair).status, 200);
    }
    // The refresh token of a pair, then of none, then one that was used.
    let rotation = |presented: &str, n: u8| {
        let digest = TokenDigest::of(presented).to_string();
        let new = json!({ "access_token": format!("a{n}"), "refresh_token": format!("r{n}"), "session": "s", "generation": n });
        let body = json!({ "refresh_sha256": digest, "session": "s", "generation": n - 1, "new": new });
        call(&served.listening, "POST /v2/clients/alice/rotate", &body.to_string()).status
    };
    assert_eq!((rotation("r", 1), rotation("r", 1)), (200, 409));
    assert_eq!(call(&served.listening, "DELETE /v2/clients/bob/token", "").status, 200);
    assert_eq!(
        ask(&served.listening, "GET /v2/clients/mallory/token", &[("authorization", "Bearer hush")]).status,
        401
    );
    let scraped = ask(&metrics, "GET /metrics", &[("host", "10.1.2.3:9100")]);
    assert_eq!(scraped.status, 200);
    assert!(scraped.head.contains("content-type: text/plain; version=0.0.4"), "{}", scraped.head);
    for line in [
        r#"fastauth_server_requests_total{operation="save",status="200",outcome="ok"} 2"#,
        r#"fastauth_server_requests_total{operation="revoke",status="200",outcome="ok"} 1"#,
        r#"fastauth_server_requests_total{operation="rotate",status="200",outcome="ok"} 1"#,
        r#"fastauth_server_requests_total{operation="rotate",status="409",outcome="reuse_detected"} 1"#,
        r#"fastauth_server_requests_total{operation="load",status="401",outcome="unauthorized"} 1"#,
        r#"fastauth_server_request_seconds_count{operation="save"} "#,
        r#"fastauth_server_request_seconds_bucket{operation="save",le="0.05"} "#,
        r#"fastauth_server_sessions_total{event="saved"} 2"#,
        r#"fastauth_server_sessions_total{event="revoked"} 1"#,
        r#"fastauth_server_sessions_total{event="rotated"} 1"#,
        r#"fastauth_server_sessions_total{event="reused"} 1"#,
        "fastauth_server_connections ",
        "fastauth_build_info{version=\"",
        "# TYPE fastauth_server_request_seconds histogram",
    ] {
        assert!(scraped.body.contains(line), "{line}: {}", scraped.body);
    }
    for client in ["alice", "bob", "mallory", "hush"] {
        assert!(!scraped.body.contains(client), "{client}: {}", scraped.body);
    }
    for path in ["/token?client_id=alice", "/v2/clients", "/v2/clients/alice/token"] {
        assert_eq!(ask(&metrics, &format!("GET {path}"), &[]).status, 404, "no calls at the address of metrics");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(ask(&metrics, &format!("GET {path}"), &[]).status, 200, "{path}");
    }
    let authorized = [("authorization", &*format!("Bearer {BEARER}"))];
    assert_eq!(ask(&served.listening, "GET /metrics", &authorized).status, 404, "they are elsewhere");
}

#[test]
fn metrics_beside_the_calls_require_what_calls_require() {
    let place = Place::new();
    let served = Operated::start(&place, &[], &[("FASTAUTH_STORE_TOKEN", BEARER)]);
    let authorized = [("authorization", &*format!("Bearer {BEARER}"))];
    for (headers, status) in [(&[][..], 401), (&[("authorization", "Bearer hush")], 401), (&authorized, 200)] {
        assert_eq!(ask(&served.listening, "GET /metrics", headers).status, status, "{headers:?}");
    }
    drop(served);
    let served = Operated::start(&place, &[], &[]);
    for (headers, status) in [(&[][..], 200), (&[("host", "evil.example")], 403), (&[("origin", "http://x")], 403)] {
        assert_eq!(ask(&served.listening, "GET /metrics", headers).status, status, "{headers:?}");
    }
}

#[test]
fn access_log_has_a_line_a_request_without_ids_and_tokens() {
    let place = Place::new();
    let variables =
        [("FASTAUTH_STORE_TOKEN", BEARER), ("FASTAUTH_STORE_LOG_FORMAT", "json"), ("FASTAUTH_STORE_ACCESS_LOG", "1")];
    let served = Operated::start(&place, &[], &variables);
    let started: Value = serde_json::from_str(&served.listening).unwrap();
    let url = started["url"].as_str().unwrap().to_owned();
    let pair = r#"{"access_token":"hush-a","refresh_token":"hush-r"}"#;
    assert_eq!(call(&url, "POST /v2/clients/alice-the-client/token", pair).status, 200);
    assert_eq!(call(&url, "GET /token?client_id=alice-the-client", "").status, 200);
    let long = "x".repeat(7_000);
    let ids = ["req-1", "a\u{9b}\u{202e}{\"level\":\"FAKE\"}", "\u{2028}", &*long];
    for id in ids {
        let headers = [("x-request-id", id), ("authorization", "Bearer hush-hush-of-a-stranger")];
        let line = "GET /v2/clients/alice-the-client/token?hush=alice-the-client";
        assert_eq!(ask(&url, line, &headers).status, 401);
    }
    ask(&url, "GET /alice-the-client/elsewhere", &[]);
    ask(&url, "GET /livez", &[]);
    served.logged(&["/livez"]);
    let log = served.log();
    assert!(!log.contains("alice-the-client") && !log.contains("hush"), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let accesses: Vec<_> = lines.iter().filter(|line| line["target"] == "fastauth::access").collect();
    let saved = accesses.iter().find(|line| line["method"] == "POST").unwrap();
    assert_eq!(
        (&saved["route"], &saved["status"], &saved["outcome"], &saved["level"]),
        (&json!("/v2/clients/{client_id}/token"), &json!(200), &json!("ok"), &json!("INFO"))
    );
    assert!(saved["duration_us"].as_u64().is_some_and(|time| time > 0), "{saved}");
    assert!(saved["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{saved}");
    assert!(saved.get("request_id").is_none());
    let refused: Vec<_> = accesses.iter().filter(|line| line["outcome"] == "unauthorized").collect();
    let named: Vec<_> = refused.iter().filter_map(|line| line["request_id"].as_str()).collect();
    assert_eq!(named.len(), ids.len(), "{refused:?}");
    assert_eq!(named[0], "req-1");
    assert!(named.iter().all(|id| id.chars().count() <= 257 && !id.contains(['\u{9b}', '\u{202e}', '\u{2028}'])));
    assert!(refused.iter().any(|line| line["route"] == "other"));
    let live = accesses.iter().find(|line| line["route"] == "/livez").unwrap();
    assert_eq!(live["status"], 200);
}

#[test]
fn nothing_is_logged_of_requests_without_the_flag() {
    let place = Place::new();
    let served = Operated::start(&place, &[], &[("FASTAUTH_STORE_ACCESS_LOG", "false"), ("RUST_LOG", "trace")]);
    ask(&served.listening, "GET /livez", &[]);
    let started = served.logged(&["serving a token store"]);
    assert!(started.contains("sqlite:fastauth.db") && started.contains("bearer_tokens=0"), "{started}");
    assert!(!served.log().contains("fastauth::access"), "{}", served.log());
}

/// A connection that is open goes on, and its next request is judged by the new tokens.
#[test]
fn hang_up_reads_the_tokens_again_and_drops_nothing() {
    let place = Place::new();
    let file = place.path().join("store-token");
    let write = |tokens: &str| fs::write(&file, tokens).unwrap();
    write(&format!("{BEARER}\r\n\n"));
    let served = Operated::start(&place, &[], &[("FASTAUTH_STORE_TOKEN_FILE", "store-token")]);
    let address = served.listening.strip_prefix("http://").unwrap();
    let mut kept = BufReader::new(TcpStream::connect(address).unwrap());
    kept.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut status = |token: &str| -> u16 {
        let request = format!("HEAD /v2/clients HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        kept.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        kept.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        while line != "\r\n" {
            line.clear();
            kept.read_line(&mut line).unwrap();
        }
        status
    };
    let reload = |word: &str, times: usize| {
        served.signal("-HUP");
        awaited(|| (served.log().matches(word).count() == times).then_some(()));
    };
    assert_eq!((status(BEARER), status(SUCCESSOR)), (200, 401));
    write(&format!("{SUCCESSOR}\n{BEARER}\n"));
    assert_eq!((status(BEARER), status(SUCCESSOR)), (200, 401), "not before the signal");
    reload("were reloaded", 1);
    served.logged(&["were reloaded", "bearer_tokens=2"]);
    assert_eq!((status(BEARER), status(SUCCESSOR)), (200, 200));
    for (times, faulty) in ["", "\n", "short", "two hush-words-on-one-line", "hush-hush-hush-é-hush"].iter().enumerate()
    {
        write(faulty);
        reload("were not reloaded", times + 1);
        assert_eq!((status(BEARER), status(SUCCESSOR)), (200, 200), "{faulty:?}");
    }
    write(SUCCESSOR);
    reload("were reloaded", 2);
    assert_eq!((status(BEARER), status(SUCCESSOR)), (401, 200));
    assert!(!served.log().contains("hush"), "{}", served.log());
    assert_eq!(served.stop(), Some(0));
    drop(fs::remove_file(&file));
    let served = Operated::start(&place, &[], &[]);
    served.signal("-HUP");
    served.logged(&["nothing to reload"]);
    assert_eq!(ask(&served.listening, "GET /livez", &[]).status, 200);
}

#[test]
fn faulty_tokens_do_not_start_a_server() {
    let place = Place::new();
    let long = "x".repeat(70_000);
    for (content, variables, words) in [
        (
            None,
            &[][..],
            "FASTAUTH_STORE_TOKEN_FILE (or --token-file): the file store-token cannot be read: No such file",
        ),
        (Some(""), &[], "store-token: no bearer token is in it"),
        (Some("hush-hush"), &[], "store-token: the bearer token has 9 characters"),
        (Some("\nhush hush hush hush"), &[], "store-token: line 2: a bearer token must be printable ASCII"),
        (Some(&*long), &[], "store-token: longer than 65536 bytes"),
        (Some(BEARER), &[("FASTAUTH_STORE_TOKEN", SUCCESSOR)], "are both set: unset one of them"),
    ] {
        let _ = fs::remove_file(place.path().join("store-token"));
        if let Some(content) = content {
            fs::write(place.path().join("store-token"), content).unwrap();
        }
        let mut command = place.command(&["store", "serve", "--listen", "127.0.0.1:0", "--token-file", "store-token"]);
        command.envs(variables.iter().copied());
        let told = refusal(command, 1);
        assert!(told.contains(words) && !told.contains("hush"), "{words}: {told}");
        assert!(!place.path().join("fastauth.db").exists(), "{words}");
    }
}

#[test]
fn unix_socket_is_for_those_who_may_open_it() {
    let place = Place::new();
    let path = place.path().join("store.sock");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let words = ["--listen", "unix:store.sock", "--access-log"];
    let served = Operated::start(&place, &words, &[]);
    assert_eq!(served.listening, "unix:store.sock");
    assert_eq!(mode(), 0o600);
    let ask =
        |line: &str, headers: &[(&str, &str)]| exchange(UnixStream::connect(&path).unwrap(), &request(line, headers));
    assert_eq!(ask("GET /v2/clients", &[]).body, r#"{"sessions":[],"next":null}"#);
    assert_eq!(ask("GET /v2/clients", &[("host", "evil.example")]).status, 403);
    assert_eq!(ask("GET /readyz", &[("host", "evil.example")]).status, 200);
    served.logged(&["fastauth::access", "peer=unix:uid="]);

    let told = refusal(place.command(&["store", "serve", "--listen", "unix:store.sock"]), 1);
    assert!(told.contains("cannot listen on unix:store.sock: another process listens on it"), "{told}");
    assert_eq!(ask("GET /livez", &[]).status, 200, "it still answers");
    assert_eq!(served.stop(), Some(0));
    assert!(!path.exists(), "its file is removed");

    let mut killed = Operated::start(&place, &[&words[..], &["--socket-mode", "0660"]].concat(), &[]);
    assert_eq!(mode(), 0o660);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert!(path.exists(), "a process that is killed leaves it");
    let served = Operated::start(&place, &words, &[]);
    assert_eq!(ask("GET /livez", &[]).status, 200);
    // Another process took the path over: its file stays.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(served.stop(), Some(0));
    assert!(path.exists());
    drop(other);
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".fastauth-")), "{names:?}");
}

#[test]
fn path_of_a_socket_that_cannot_be_used_says_why() {
    let place = Place::new();
    fs::write(place.path().join("file"), "kept").unwrap();
    let long = format!("unix:{}", "x".repeat(200));
    for (words, told) in [
        (&["--listen", "unix:file"][..], "there is a file that is not a socket"),
        (&["--listen", "unix:none/store.sock"], "No such file or directory"),
        (&["--listen", &long], "path must be shorter than SUN_LEN"),
    ] {
        let refusal = refusal(place.command(&[&["store", "serve"], words].concat()), 1);
        assert!(refusal.contains(told) && !refusal.contains("serving"), "{words:?}: {refusal}");
        assert!(!place.path().join("fastauth.db").exists(), "{words:?}");
    }
    assert_eq!(fs::read_to_string(place.path().join("file")).unwrap(), "kept");
    for words in
        [["--listen", "unix:"], ["--listen", "localhost:1"], ["--socket-mode", "0060"], ["--log-format", "xml"]]
    {
        let refusal = refusal(place.command(&[&["store", "serve"], &words[..]].concat()), 2);
        assert!(refusal.contains(words[0]), "{words:?}: {refusal}");
    }
}

#[test]
fn service_manager_is_notified() {
    let place = Place::new();
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut state = [0; 64];
    let mut received = || {
        let length = manager.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    };
    let served = Operated::start(&place, &[], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(received(), "READY=1");
    assert_eq!(ask(&served.listening, "GET /livez", &[]).status, 200);
    served.signal("-TERM");
    assert_eq!(received(), "STOPPING=1");
    drop(served);
    // One that is gone does not keep the server from serving.
    fs::remove_file(&path).unwrap();
    let served = Operated::start(&place, &[], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    served.logged(&["NOTIFY_SOCKET"]);
    assert_eq!(ask(&served.listening, "GET /livez", &[]).status, 200);
}

#[test]
fn every_flag_has_a_variable() {
    let place = Place::new();
    fs::write(place.path().join("token"), BEARER).unwrap();
    let variables = [
        ("FASTAUTH_STORE_LISTEN", "unix:calls.sock"),
        ("FASTAUTH_STORE_SOCKET_MODE", "0666"),
        ("FASTAUTH_STORE_DATABASE", "sqlite:of-the-variable.db"),
        ("FASTAUTH_STORE_TOKEN_FILE", "token"),
        ("FASTAUTH_STORE_METRICS_LISTEN", "unix:metrics.sock"),
        ("FASTAUTH_STORE_LOG_FORMAT", "json"),
        ("FASTAUTH_STORE_ACCESS_LOG", "yes"),
    ];
    let served = Operated::start(&place, &[], &variables);
    let to = |socket: &str, line: &str| {
        exchange(UnixStream::connect(place.path().join(socket)).unwrap(), &request(line, &[])).status
    };
    assert_eq!((to("calls.sock", "GET /v2/clients"), to("metrics.sock", "GET /metrics")), (401, 200));
    assert!(place.path().join("of-the-variable.db").exists());
    served.logged(&[r#""target":"fastauth::access""#, r#""route":"/metrics""#]);
    let help = place.done(&["store", "serve", "--help"]);
    for (name, _) in variables {
        assert!(help.contains(&format!("[env: {name}]")), "{name}: {help}");
    }
    assert!(!served.log().contains("environment variable"), "{}", served.log());
    let others = [("FASTAUTH_STORE_LISTN", "hush"), ("FASTAUTH_STORE_PORT_6789_TCP_ADDR", "10.0.0.1")];
    let slip = Place::new();
    let served = Operated::start(&slip, &[], &others);
    let warning = served.logged(&["FASTAUTH_STORE_LISTN is none of the server's"]);
    assert!(warning.contains("WARN") && !warning.contains("hush"), "{warning}");
    assert!(!served.log().contains("6789_TCP"), "a service of Kubernetes");
    // They are no settings of an application.
    let application = Place::ready(&json!({}));
    let checked = application.command(&["check"]).envs(variables).output().unwrap();
    assert!(!stdout(&checked).contains("FASTAUTH_STORE"), "{}", stdout(&checked));
}
