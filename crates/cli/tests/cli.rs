//! The program, as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(target_os = "linux")]
#[path = "cli/output.rs"]
mod output;
#[cfg(unix)]
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/tls.rs"]
mod tls;
#[path = "../../../tests/it/support/v1.rs"]
mod v1;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use fastauth::store::{
    FamilyFilter, FamilyStatus, MemoryStore, RestStore, SaveOptions, StoreError, StoreService, TokenDigest, TokenEntry,
    TokenRecord, TokenStore,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory to run in, with nothing of the environment that could matter.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With a configuration and both secrets.
    fn ready(extra: &Value) -> Self {
        let place = Self::new();
        let mut config = json!({ "master-token-paths": ["/master"], "access-token-paths": ["/access"] });
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        fs::write(place.path().join("fastauth.config.json"), config.to_string()).unwrap();
        for name in ["MASTER_TOKEN", "CRYPTOGRAPHY_KEY"] {
            place.done(&["keygen", "--name", name, "--write"]);
        }
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fastauth"));
        command.args(words).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn run_with_input(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What it printed; it has to succeed.
    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// What it complained of; it has to end with this code.
    fn fails(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        stderr(&output)
    }

    fn env_value(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path().join(".env")).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}="))).unwrap();
        line.split_once('=').unwrap().1.to_owned()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn keygen_prints_a_fernet_key() {
    let place = Place::new();
    let key = place.done(&["keygen"]);
    assert!(fernet::Fernet::new(key.trim()).is_some(), "{key}");
    assert!(place.done(&["keygen", "--name", "MASTER_TOKEN"]).starts_with("MASTER_TOKEN="));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn keygen_writes_and_does_not_replace_unasked() {
    let place = Place::new();
    fs::write(place.path().join(".env"), "# kept\nOTHER=1").unwrap();
    let printed = place.done(&["keygen", "--write"]);
    let key = place.env_value("CRYPTOGRAPHY_KEY");
    assert!(!printed.contains(&key) && fernet::Fernet::new(&key).is_some());
    let refusal = place.fails(&["keygen", "--write"], 1);
    assert!(refusal.contains("--force") && !refusal.contains(&key), "{refusal}");
    assert_eq!(place.env_value("CRYPTOGRAPHY_KEY"), key);
    place.done(&["keygen", "--write", "--force"]);
    assert_ne!(place.env_value("CRYPTOGRAPHY_KEY"), key);
    assert!(fs::read_to_string(place.path().join(".env")).unwrap().starts_with("# kept\nOTHER=1\n"));
    place.done(&["keygen", "--name", "MASTER_TOKEN", "--write", "other.env"]);
    assert!(place.path().join("other.env").exists());
}

#[test]
fn init_makes_what_check_accepts() {
    let place = Place::new();
    place.done(&["init", "--app-name", "shop", "--access-path", "/api", "--access-path", "/files/", "--yes"]);
    let config: Value = serde_json::from_slice(&fs::read(place.path().join("fastauth.config.json")).unwrap()).unwrap();
    assert_eq!((&config["app-name"], &config["access-token-paths"]), (&json!("shop"), &json!(["/api", "/files/"])));
    let master = place.env_value("MASTER_TOKEN");
    assert!(place.done(&["check"]).contains("store: not there yet"));
    assert!(!place.path().join("fastauth.db").exists(), "checking makes nothing");
    place.done(&["token", "new"]);
    assert!(place.done(&["check"]).contains("store: answers"));
    assert!(place.fails(&["init"], 1).contains("left as it is"));
    assert_eq!(place.env_value("MASTER_TOKEN"), master);
}

#[test]
fn init_writes_nothing_that_would_not_start() {
    let place = Place::new();
    let message = place.fails(&["init", "--access-path", "api", "--database-api-url", "ftp://x"], 1);
    assert!(
        message.contains("must begin with `/`; write \"/api\"") && message.contains("database-api-url"),
        "{message}"
    );
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn check_tells_sources_faults_and_the_store() {
    let place = Place::ready(&json!({}));
    let report: Value = serde_json::from_str(&place.done(&["check", "--json"])).unwrap();
    assert_eq!((&report["ok"], &report["store"]["ok"], &report["faults"]), (&json!(true), &json!(true), &json!([])));
    let entries = report["settings"].as_array().unwrap();
    let master = entries.iter().find(|entry| entry["key"] == "master-token").unwrap();
    assert_eq!(master["value"], "set");
    assert!(master["source"].as_str().unwrap().ends_with(".env, variable MASTER_TOKEN"));

    let away = Place::ready(&json!({ "database-api-url": "http://127.0.0.1:1" }));
    let output = away.run(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("fault: store: the token store cannot be reached"), "{}", stdout(&output));
    assert_eq!(away.run(&["check", "--offline"]).status.code(), Some(0));

    let broken = Place::ready(&json!({ "acess-token-paths": [] }));
    let report: Value = serde_json::from_slice(&broken.run(&["check", "--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], &report["store"]), (&json!(false), &Value::Null));
    assert!(report["faults"][0]["remedy"].as_str().unwrap().contains("`access-token-paths`"));
}

#[test]
fn explain_answers_line_by_line() {
    let place = Place::ready(&json!({ "access-token-paths": ["/access", "/both"], "master-token-paths": ["/both"] }));
    let input = b"GET /health\nGET //access/x\r\nPOST /both\nGET /access/%zz\n\nGET /%c0%af\nOPTIONS *\nGET *\nG@T /x\nGET \xff\nGET\n";
    let output = place.run_with_input(&["explain", "-"], input);
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decisions: Vec<_> = lines.iter().map(|line| line["decision"].as_str().unwrap()).collect();
    let expected =
        ["public", "access", "master+access", "reject", "reject", "public", "reject", "reject", "reject", "reject"];
    assert_eq!(decisions, expected);
    assert_eq!((&lines[1]["method"], &lines[1]["target"]), (&json!("GET"), &json!("//access/x")));
    assert_eq!((&lines[3]["reason"], &lines[4]["reason"]), (&json!("malformed escape"), &json!("not UTF-8")));
    assert!(lines.iter().all(|line| line["reason"].is_string()));

    let text = place.done(&["explain", "GET", "//access/x"]);
    assert!(text.contains("GET //access/x: access") && text.contains("slashes merged"), "{text}");
    let text = place.done(&["explain", "GET", "access"]);
    assert_eq!(text.lines().next(), Some("GET access: rejected: \"access\" is not an absolute path (expected \"/…\")"));
    place.fails(&["explain", "GET"], 2);
}

/// Paths can be explained before there are secrets.
#[test]
fn explain_needs_no_secrets() {
    let place = Place::new();
    fs::write(place.path().join("fastauth.config.json"), r#"{"access-token-paths":["/access"]}"#).unwrap();
    assert!(place.done(&["explain", "GET", "/access"]).contains("access"));
    fs::write(place.path().join("fastauth.config.json"), r#"{"access-token-paths":["access"]}"#).unwrap();
    assert!(place.fails(&["explain", "GET", "/access"], 1).contains("must begin with `/`"));
}

#[test]
fn tokens_are_issued_renewed_and_read() {
    let place = Place::ready(&json!({}));
    let issued: Value = serde_json::from_str(&place.done(&["token", "new", "--client-id", "élève"])).unwrap();
    assert_eq!(issued["client_id"], "élève");
    let claims: Value =
        serde_json::from_str(&place.done(&["token", "decode", issued["access_token"].as_str().unwrap()])).unwrap();
    assert_eq!((&claims["client_id"], &claims["type"]), (&json!("élève"), &json!("access")));
    let refresh = issued["refresh_token"].as_str().unwrap();
    let renewed = place.run_with_input(&["token", "refresh", "-"], format!("{refresh}\n").as_bytes());
    assert_eq!(renewed.status.code(), Some(0), "{}", stderr(&renewed));
    // Whoever lost the answer gets it again, for a while.
    let repeated = place.done(&["token", "refresh", refresh]);
    assert_eq!(token_of(&repeated, "refresh_token"), token_of(&stdout(&renewed), "refresh_token"));
    assert!(place.fails(&["token", "decode", "garbage"], 1).contains("not a token"));
}

#[test]
fn a_used_refresh_token_revokes_its_family() {
    let place = Place::ready(&json!({ "refresh-grace": "0s" }));
    let used = token_of(&place.done(&["token", "new", "--client-id", "c"]), "refresh_token");
    let renewed = token_of(&place.done(&["token", "refresh", &used]), "refresh_token");
    let refusal = place.fails(&["token", "refresh", &used], 1);
    assert!(refusal.contains("was used before, and its family is revoked") && !refusal.contains(&used), "{refusal}");
    let refusal = place.fails(&["token", "refresh", &renewed], 1);
    assert!(refusal.contains("was revoked") && !refusal.contains(&renewed), "{refusal}");
}

fn token_of(printed: &str, name: &str) -> String {
    let printed: Value = serde_json::from_str(printed).unwrap();
    printed[name].as_str().unwrap().to_owned()
}

#[test]
fn words_that_are_not_understood_end_with_two() {
    let place = Place::new();
    place.fails(&["bogus"], 2);
    place.fails(&["keygen", "--name", "OTHER"], 2);
    assert_eq!(place.done(&["--version"]), format!("fastauth {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.done(&["completions", shell]).contains("fastauth"));
    }
}

/// A store that is served, on a port of the system's choice.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(place: &Place, bearer: Option<&str>) -> Self {
        let mut command =
            place.command(&["store", "serve", "--listen", "127.0.0.1:0", "--database", "sqlite:tokens.db"]);
        if let Some(bearer) = bearer {
            command.env("FASTAUTH_STORE_TOKEN", bearer);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, url: line.trim().strip_prefix("Listening on ").unwrap().to_owned() }
    }

    /// Ends it as an operator does, and waits for it.
    #[cfg(unix)]
    fn stop(mut self) -> Option<i32> {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap().code()
    }
}

/// Not even a test that fails leaves it behind.
impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a store hold a pair, whose tokens have the name in them.
async fn save(store: &impl TokenStore, client_id: &str, name: &str) -> Result<(), StoreError> {
    let entry = |text: String| TokenEntry { digest: TokenDigest::of(&text), text: text.into(), expires_at: 0 };
    let record = TokenRecord {
        client_id: client_id.to_owned(),
        family: String::new(),
        generation: 0,
        kid: String::new(),
        access: entry(format!("a-{name}")),
        refresh: entry(format!("r-{name}")),
    };
    store.save(&record, SaveOptions::default()).await.map(drop)
}

/// The name of the pair that a store holds.
async fn held(store: &RestStore, client_id: &str) -> Option<String> {
    let pair = store.pair(client_id).await.unwrap()?;
    let (access, refresh) = (pair.access_token.unwrap(), pair.refresh_token.unwrap());
    let name = access.expose().strip_prefix("a-").unwrap();
    assert_eq!(refresh.expose().strip_prefix("r-"), Some(name));
    Some(name.to_owned())
}

#[cfg(unix)]
#[tokio::test]
async fn a_served_store_keeps_what_it_acknowledged() {
    let place = Place::new();
    let served = Served::start(&place, None);
    let store = RestStore::new(&served.url, http::HeaderMap::new()).unwrap();
    save(&store, "a b", "1").await.unwrap();
    assert_eq!(held(&store, "a b").await.as_deref(), Some("1"));
    assert_eq!(held(&store, "ab").await, None);
    drop(store);
    assert_eq!(served.stop(), Some(0), "a signal to stop is no fault");

    let mut killed = Served::start(&place, None);
    let store = RestStore::new(&killed.url, http::HeaderMap::new()).unwrap();
    for number in 0..20 {
        save(&store, &format!("c{number}"), &number.to_string()).await.unwrap();
    }
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let served = Served::start(&place, None);
    let store = RestStore::new(&served.url, http::HeaderMap::new()).unwrap();
    for number in 0..20 {
        assert_eq!(held(&store, &format!("c{number}")).await, Some(number.to_string()));
    }
    assert_eq!(held(&store, "a b").await.as_deref(), Some("1"));
    drop(store);
    served.stop();
}

#[cfg(unix)]
#[tokio::test]
async fn a_served_store_can_ask_for_a_bearer_token() {
    let place = Place::new();
    let refusal = place.fails(&["store", "serve", "--listen", "0.0.0.0:0"], 1);
    assert!(refusal.contains("FASTAUTH_STORE_TOKEN"), "{refusal}");
    let served = Served::start(&place, Some("hush-by-the-bearer-of-this"));
    let with = |token: &str| {
        let headers =
            http::HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        RestStore::new(&served.url, headers).unwrap()
    };
    assert!(save(&with("wrong"), "c", "1").await.is_err());
    save(&with("hush-by-the-bearer-of-this"), "c", "1").await.unwrap();
    served.stop();
}

/// Serves an app on a port of the system's choice, for as long as the runtime lives.
async fn serve(app: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// The promises that `store test` says this of.
fn promises(report: &Value, verdict: &str) -> Vec<String> {
    let promises = report["promises"].as_array().unwrap().iter();
    promises
        .filter(|promise| promise["verdict"] == verdict)
        .map(|promise| promise["promise"].as_str().unwrap().to_owned())
        .collect()
}

#[cfg(unix)]
#[test]
fn a_served_store_passes_its_test() {
    let place = Place::new();
    let served = Served::start(&place, Some("hush-by-the-bearer-of-this"));
    let test = |words: &[&str]| {
        let words = [&["store", "test", &served.url], words].concat();
        place.command(&words).env("FASTAUTH_STORE_TOKEN", "hush-by-the-bearer-of-this").output().unwrap()
    };
    let output = test(&[]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}{}", stderr(&output));
    assert!(lines.ends_with("The store speaks v2: 29 kept, 0 broken, 0 not offered.\n"), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("kept  ") || line.starts_with("The store")), "{lines}");
    assert!(!lines.contains("hush"));
    let report: Value = serde_json::from_slice(&test(&["--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], &report["speaks"]), (&json!(true), &json!("v2")));
    assert_eq!(promises(&report, "kept").len(), 29);
    let refusal = place.fails(&["store", "test", &served.url], 1);
    assert!(refusal.contains("FASTAUTH_STORE_TOKEN"), "{refusal}");
    let header = "authorization: Bearer hush-by-the-bearer-of-this";
    assert!(place.done(&["store", "test", &served.url, "--header", header]).contains("speaks v2"));
    for words in [&["http://127.0.0.1:1"][..], &["ftp://x"], &["x"], &[&served.url, "--header", "hush"]] {
        assert!(!place.fails(&[&["store", "test"], words].concat(), 1).contains("hush"));
    }
    served.stop();
    // Nothing that the test issued is live any more.
    let store = fastauth::store::SqliteStore::open(place.path().join("tokens.db")).unwrap();
    let live = FamilyFilter { status: Some(FamilyStatus::Live), ..FamilyFilter::default() };
    let page = tokio::runtime::Runtime::new().unwrap().block_on(store.list(&live)).unwrap();
    assert_eq!(page.families, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_version_passes_its_test() {
    let (place, rows) = (Place::new(), v1::Rows::default());
    let url = serve(v1::app(rows.clone())).await;
    let lines = place.done(&["store", "test", &url]);
    assert!(lines.ends_with("The store speaks v1: 8 kept, 0 broken, 21 not offered.\n"), "{lines}");
    let is_void = |row: &Value| row["data"]["access_token"] == "revoked" && row["data"]["refresh_token"] == "revoked";
    assert!(rows.lock().unwrap().values().all(is_void), "what cannot be deleted is made worthless");
    assert!(rows.lock().unwrap().len() > 30);
}

/// Each of these breaks one promise, and it is found out.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_breaks_a_promise_does_not_pass() {
    use axum::{
        Router,
        http::{Method, header},
        middleware::{map_request, map_response},
        response::Response,
    };
    type Request = axum::extract::Request;
    let v1 = || v1::app(v1::Rows::default());
    let v2 = || Router::new().fallback_service(StoreService::new(Arc::new(MemoryStore::new())));
    let target = |mut request: Request, target: String| {
        *request.uri_mut() = target.parse().unwrap();
        request
    };
    let without = |name: header::HeaderName| {
        map_request(move |mut request: Request| {
            request.headers_mut().remove(&name);
            std::future::ready(request)
        })
    };
    for (promise, app) in [
        (
            "a client id is any text, and is kept exactly",
            v1().layer(map_request(move |request: Request| async move {
                let lower = request.uri().to_string().replace("-A", "-a");
                target(request, lower)
            })),
        ),
        (
            "a client id is any text, and is kept exactly",
            v1().layer(map_request(move |request: Request| async move {
                let decoded = request.uri().to_string().replace("%2B", "+");
                target(request, decoded)
            })),
        ),
        (
            "a pair that was written is read back",
            v1().layer(map_request(move |request: Request| async move {
                let other = request
                    .uri()
                    .to_string()
                    .replace("-read-back", if request.method() == Method::POST { "-x" } else { "-y" });
                target(request, other)
            })),
        ),
        (
            "each write gives a greater version, as ETag",
            v2().layer(map_response(|mut response: Response| async {
                response.headers_mut().remove(header::ETAG);
                response
            })),
        ),
        (
            "every answer announces the version",
            v2().layer(map_response(|mut response: Response| async {
                if response.status() == 204 {
                    response.headers_mut().remove("fastauth-store");
                }
                response
            })),
        ),
        (
            "If-Match and If-None-Match: * guard a write: 412, and nothing changes",
            v2().layer(without(header::IF_MATCH)),
        ),
        (
            "a save that arrives twice or late changes nothing: 200 with the version, or 412",
            v2().layer(map_response(|mut response: Response| async {
                if response.status() == 412 {
                    *response.status_mut() = axum::http::StatusCode::OK;
                }
                response
            })),
        ),
        ("If-None-Match: 304 without a body, until the next write", v2().layer(without(header::IF_NONE_MATCH))),
        (
            "revoking a client leaves a tombstone: 404, and versions go on",
            v2().layer(map_request(move |request: Request| async move {
                let kept = request.method() == Method::DELETE;
                let other = request.uri().to_string().replace("-tombstone", "-another");
                if kept { target(request, other) } else { request }
            })),
        ),
        (
            "a list is filtered",
            v2().layer(map_request(move |request: Request| async move {
                let all = request.uri().to_string().replace("kid=", "k=");
                target(request, all)
            })),
        ),
        (
            "refusals are problem JSON, and 405 says Allow",
            v2().layer(map_response(|mut response: Response| async {
                response.headers_mut().remove(header::ALLOW);
                response
            })),
        ),
    ] {
        let (place, url) = (Place::new(), serve(app).await);
        let output = place.run(&["store", "test", &url, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{promise}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(promises(&report, "broken").contains(&promise.to_owned()), "{promise}: {report:#}");
        assert_eq!(report["ok"], false);
    }
}

/// The environment of the process is read, and a variable that is no text is not passed over.
#[test]
fn the_environment_goes_before_the_file() {
    let place = Place::ready(&json!({ "app-name": "of the file" }));
    let mut command = place.command(&["check", "--json"]);
    let output = command.env("FASTAUTH_APP_NAME", "of the environment").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = &report["settings"][0];
    assert_eq!(
        (&name["value"], &name["source"]),
        (&json!("of the environment"), &json!("environment variable FASTAUTH_APP_NAME"))
    );
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let mut command = place.command(&["check", "--json"]);
        let output = command.env("FASTAUTH_MASTER_TOKEN", std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stdout(&output).contains("its value is not UTF-8"), "{}", stdout(&output));
        let mut command = place.command(&["store", "serve", "--listen", "127.0.0.1:0"]);
        let output = command.env("FASTAUTH_STORE_TOKEN", std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "it must not serve without the token");
    }
}

/// One JSON object for each line.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn keys(place: &Place) -> Vec<Value> {
    let list: Value = serde_json::from_str(&place.done(&["keys", "list", "--json"])).unwrap();
    list["keys"].as_array().unwrap().clone()
}

fn kid(key: &Value) -> &str {
    key["kid"].as_str().unwrap()
}

fn issue(place: &Place, client_id: &str) -> Value {
    serde_json::from_str(&place.done(&["token", "new", "--client-id", client_id])).unwrap()
}

fn renew(place: &Place, issued: &Value) -> Value {
    let refresh = issued["refresh_token"].as_str().unwrap();
    serde_json::from_str(&place.done(&["token", "refresh", refresh])).unwrap()
}

/// From a key in `.env` to its successor, with the log-ins that hold the old one back.
#[test]
fn keys_are_rotated_and_retired() {
    let place = Place::ready(&json!({}));
    let before = place.env_value("CRYPTOGRAPHY_KEY");
    let first = keys(&place);
    assert_eq!((first.len(), &first[0]["role"], &first[0]["live_families"]), (1, &json!("signs"), &json!(0)));
    assert!(!place.path().join("fastauth.db").exists(), "listing makes nothing");
    let issued = issue(&place, "c");

    let output = place.run(&["keys", "rotate", "--signs-in", "1h"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (told, after) = (stderr(&output), place.env_value("CRYPTOGRAPHY_KEY"));
    assert!(told.contains("restart every node before then") && told.contains(kid(&first[0])), "{told}");
    assert!(!told.contains(&before) && !told.contains(&after) && before != after, "{told}");
    assert_eq!(place.env_value("PREVIOUS_CRYPTOGRAPHY_KEYS"), before);
    let waiting = keys(&place);
    assert_eq!((&waiting[0]["role"], &waiting[1]["role"]), (&json!("signs-from"), &json!("signs")));
    assert!(waiting[0]["signs_from"].as_str().unwrap().ends_with('Z'));
    assert_eq!((kid(&waiting[1]), &waiting[1]["live_families"]), (kid(&first[0]), &json!(1)));
    let text = place.done(&["keys", "list"]);
    assert!(text.contains("signs from 20") && text.contains("1 session live"), "{text}");
    assert!(!text.contains(&before) && !text.contains(&after));
    let refusal = place.fails(&["keys", "rotate"], 1);
    assert!(refusal.contains("wait until then, or let the new key sign at once"), "{refusal}");
    assert!(place.fails(&["keys", "retire", kid(&first[0])], 1).contains("rotate first"));

    place.done(&["keys", "rotate", "--now"]);
    assert!(!fs::read_to_string(place.path().join(".env")).unwrap().contains("SIGNS_FROM"));
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("1 session live with tokens of") && refusal.contains("--force"), "{refusal}");
    // Nobody has a token of the one that never signed.
    place.done(&["keys", "retire", kid(&waiting[0])]);
    renew(&place, &issued);
    place.done(&["keys", "retire", kid(&first[0])]);
    let left = keys(&place);
    assert_eq!((left.len(), &left[0]["role"], &left[0]["live_families"]), (1, &json!("signs"), &json!(1)));
    assert!(place.fails(&["keys", "retire", kid(&left[0])], 1).contains("the key that signs"));
    assert!(place.fails(&["keys", "retire", "nobody"], 1).contains("no configured key has the id nobody"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(place.path().join(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// A leaked key goes at once, and what it signed is refused.
#[test]
fn a_leaked_key_is_taken_out() {
    let place = Place::ready(&json!({}));
    let issued = issue(&place, "c");
    let leaked = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    let access = issued["access_token"].as_str().unwrap();
    place.done(&["token", "decode", access]);
    place.done(&["keys", "retire", "--force", kid(&leaked[0])]);
    assert!(place.fails(&["token", "decode", access], 1).contains("the signature does not match"));
    let output = place.run(&["keys", "list"]);
    assert!(stderr(&output).contains("1 session live whose tokens are of"), "{}", stderr(&output));
    assert!(stderr(&output).contains("which is not configured"), "{}", stderr(&output));
}

#[test]
fn keys_in_the_file_are_changed_there() {
    let key = "RkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkY=";
    let place = Place::ready(&json!({ "cryptography-key": key }));
    let env = fs::read_to_string(place.path().join(".env")).unwrap();
    let planned = place.done(&["keys", "rotate", "--print"]);
    assert!(planned.contains(&format!("\"previous-cryptography-keys\": [\"{key}\"],")), "{planned}");
    assert_eq!(keys(&place).len(), 1, "it was printed, and not written");
    place.done(&["keys", "rotate"]);
    let config: Value = serde_json::from_slice(&fs::read(place.path().join("fastauth.config.json")).unwrap()).unwrap();
    assert_eq!(config["previous-cryptography-keys"], json!([key]));
    assert_ne!(config["cryptography-key"], json!(key));
    assert!(config["cryptography-key-signs-from"].is_string(), "{config}");
    assert_eq!(fs::read_to_string(place.path().join(".env")).unwrap(), env);
    place.done(&["check"]);
}

#[test]
fn keys_in_the_environment_are_told_and_not_changed() {
    let place = Place::ready(&json!({}));
    let before = place.env_value("CRYPTOGRAPHY_KEY");
    let key = "RUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUU=";
    let run = |words: &[&str]| place.command(words).env("FASTAUTH_CRYPTOGRAPHY_KEY", key).output().unwrap();
    let output = run(&["keys", "rotate"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("FASTAUTH_CRYPTOGRAPHY_KEY=…") && told.contains("SIGNS_FROM=20") && told.contains("--print"),
        "{told}"
    );
    assert!(!told.contains(key) && stdout(&output).is_empty(), "{told}");
    let output = run(&["keys", "rotate", "--print"]);
    let printed = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let values: Vec<_> = printed.lines().map(|line| line.split_once('=').unwrap()).collect();
    assert_eq!(values[1], ("FASTAUTH_PREVIOUS_CRYPTOGRAPHY_KEYS", key));
    assert!(!stderr(&output).contains(values[0].1) && place.env_value("CRYPTOGRAPHY_KEY") == before);
    // What was printed is what can be set.
    let mut command = place.command(&["keys", "list", "--json"]);
    let output = command.envs(values.iter().copied()).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&list["keys"][0]["role"], &list["keys"][1]["role"]), (&json!("signs-from"), &json!("signs")));
}

/// Where nobody can tell whose tokens are live, an earlier key is not taken out unasked.
#[test]
fn a_store_that_is_away_keeps_every_key() {
    let place = Place::ready(&json!({ "database-api-url": "http://127.0.0.1:1" }));
    let first = keys(&place);
    assert_eq!(first[0]["live_families"], Value::Null);
    place.done(&["keys", "rotate", "--now"]);
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("cannot be reached") || refusal.contains("cannot list"), "{refusal}");
    assert_eq!(keys(&place).len(), 2);
    place.done(&["keys", "retire", kid(&first[0]), "--force"]);
    assert_eq!(keys(&place).len(), 1);
}

#[test]
fn tokens_are_listed_a_page_after_the_other() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    assert!(place.done(&["token", "list"]).is_empty() && !place.path().join("fastauth.db").exists());
    for client_id in ["a1", "a1", "a2", "b\u{301}"] {
        issue(&place, client_id);
    }
    place.done(&["token", "revoke", "--client", "a2"]);
    let all = lines(&place.done(&["token", "list", "--json"]));
    let clients: Vec<_> = all.iter().map(|entry| entry["client_id"].as_str().unwrap()).collect();
    assert_eq!(clients, ["a1", "a1", "a2", "b\u{301}"]);
    assert_eq!((&all[2]["status"], &all[0]["kid"]), (&json!("revoked"), &keys(&place)[0]["kid"]));
    for (words, count) in [
        (&["--client-id", "a1"][..], 2),
        (&["--client", "a"], 0),
        (&["--prefix", "a"], 3),
        (&["--prefix", "a", "--status", "live"], 2),
        (&["--status", "revoked"], 1),
        (&["--status", "reused"], 0),
    ] {
        let words: Vec<_> = ["token", "list", "--json"].iter().chain(words).copied().collect();
        assert_eq!(lines(&place.done(&words)).len(), count, "{words:?}");
    }
    let table = place.done(&["token", "list"]);
    assert!(table.starts_with("CLIENT") && table.lines().count() == 5, "{table}");
    assert!(!table.contains("eyJ"), "no token is shown: {table}");
}

/// More log-ins than a page of the store has.
#[tokio::test]
async fn every_page_is_listed() {
    let place = Place::ready(&json!({}));
    issue(&place, "first");
    let store = fastauth::store::SqliteStore::open(place.path().join("fastauth.db")).unwrap();
    let save = async |number: usize| save(&store, &format!("c{number}"), "1").await;
    futures_util::future::try_join_all((0..1500).map(save)).await.unwrap();
    drop(store);
    assert_eq!(lines(&place.done(&["token", "list", "--json"])).len(), 1501);
    let list: Value = serde_json::from_str(&place.done(&["keys", "list", "--json"])).unwrap();
    assert_eq!((&list["keys"][0]["live_families"], &list["live_families_without_kid"]), (&json!(1), &json!(1500)));
    // Nobody knows which key these are of: their texts are no tokens, so none of ours.
    let first = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    place.done(&["token", "revoke", "--client-id", "first"]);
    place.done(&["keys", "retire", kid(&first[0])]);
}

/// `fastauth-api` writes no `kid`. Whether an earlier key signed what it wrote, the text tells.
#[tokio::test]
async fn pairs_that_name_no_key_hold_back_the_one_that_signed_them() {
    let place = Place::ready(&json!({}));
    let first = keys(&place);
    let of_first = issue(&place, "c");
    place.done(&["keys", "rotate", "--now"]);
    let of_second = issue(&place, "c");
    let save = async |pair: &Value| {
        let entry = |name: &str| {
            let text = pair[name].as_str().unwrap();
            TokenEntry { digest: TokenDigest::of(text), text: text.into(), expires_at: 0 }
        };
        let record = TokenRecord {
            client_id: "py".to_owned(),
            family: String::new(),
            generation: 0,
            kid: String::new(),
            access: entry("access_token"),
            refresh: entry("refresh_token"),
        };
        let store = fastauth::store::SqliteStore::open(place.path().join("fastauth.db")).unwrap();
        store.save(&record, SaveOptions::default()).await.unwrap();
    };
    save(&of_first).await;
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("1 session live whose tokens name no key and may be of"), "{refusal}");
    save(&of_second).await;
    place.done(&["keys", "retire", kid(&first[0])]);
}

#[test]
fn tokens_are_revoked_in_every_way() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    assert_eq!(place.done(&["token", "revoke", "--all", "--yes"]), "Revoked 0 sessions\n");
    assert!(!place.path().join("fastauth.db").exists());
    let issued: Vec<_> = ["a", "a", "b", "b", "c"].map(|client_id| issue(&place, client_id)).into();
    let families = |client_id: &str| -> Vec<String> {
        let live = place.done(&["token", "list", "--json", "--client-id", client_id, "--status", "live"]);
        lines(&live).iter().map(|entry| entry["family"].as_str().unwrap().to_owned()).collect()
    };
    let of_a = families("a");
    assert_eq!(place.done(&["token", "revoke", "--client-id", "a", "--family", &of_a[0]]), "Revoked 1 session\n");
    assert_eq!(families("a"), of_a[1..]);
    let of_b = families("b");
    let both = place.done(&["token", "revoke", "--family", &of_a[1], "--family", &of_b[0]]);
    assert_eq!(both, "Revoked 2 sessions\n");
    assert!(place.fails(&["token", "revoke", "--family", "nobody's"], 1).contains("no session has the family"));
    assert_eq!(place.done(&["token", "revoke", "--client", "b"]), "Revoked 1 session\n");
    assert_eq!(place.done(&["token", "revoke", "--client", "b"]), "Revoked 0 sessions\n");

    let refresh = issued[4]["refresh_token"].as_str().unwrap();
    assert!(place.done(&["token", "introspect", refresh]).contains("\"active\": true"));
    let output = place.run_with_input(&["token", "revoke", "-"], format!("{refresh}\n").as_bytes());
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "Revoked 1 session\n"));
    assert_eq!(
        serde_json::from_str::<Value>(&place.done(&["token", "introspect", refresh])).unwrap(),
        json!({ "active": false })
    );
    let again = place.fails(&["token", "revoke", refresh], 1);
    assert!(again.contains("nothing was revoked") && !again.contains(refresh), "{again}");

    issue(&place, "d");
    let refusal = place.fails(&["token", "revoke", "--all"], 1);
    assert!(refusal.contains("--yes"), "{refusal}");
    assert_eq!(families("d").len(), 1);
    assert_eq!(place.done(&["token", "revoke", "--all", "--yes"]), "Revoked 1 session\n");
    assert!(families("d").is_empty());
    place.fails(&["token", "revoke"], 2);
    place.fails(&["token", "revoke", "--all", "--client-id", "a"], 2);
    place.fails(&["token", "revoke", refresh, "--all"], 2);
}

/// The bytes of the database and of the files beside it.
fn database_bytes(place: &Place) -> Vec<u8> {
    let files = ["fastauth.db", "fastauth.db-wal", "fastauth.db-shm"].map(|name| place.path().join(name));
    files.iter().filter(|file| file.exists()).flat_map(|file| fs::read(file).unwrap()).collect()
}

fn is_in(text: &str, bytes: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_store_is_backed_up_and_restored() {
    let place = Place::ready(&json!({ "tokens-per-client": "many" }));
    assert!(place.fails(&["store", "backup", "backup.db"], 1).contains("there is no database"));
    let access = |pair: &Value| pair["access_token"].as_str().unwrap().to_owned();
    let active = |token: &str| place.done(&["token", "introspect", token]).contains("\"active\": true");
    let first = access(&issue(&place, "a"));
    assert_eq!(place.done(&["store", "backup", "backup.db"]), "backup.db is a backup of fastauth.db\n");
    assert!(place.fails(&["store", "backup", "backup.db"], 1).contains("backup.db exists already"));
    place.done(&["token", "revoke", "--client", "a"]);
    let second = access(&issue(&place, "b"));
    assert!(!active(&first) && active(&second));

    // What was revoked stays so.
    let output = place.run(&["store", "restore", "backup.db"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // By its whole name: the database may be behind a link.
    let replaced = place.path().canonicalize().unwrap().join("fastauth.db.replaced-1");
    let kept = format!(
        "the replaced database is {} now; it contains all clients' tokens, so delete it when you no longer need it",
        replaced.display()
    );
    assert_eq!(stdout(&output), format!("fastauth.db was restored from backup.db\n{kept}\n"));
    assert!(stderr(&output).contains("All sessions of the backup are revoked"), "{}", stderr(&output));
    assert!(!active(&first) && !active(&second));
    assert!(active(&access(&issue(&place, "a"))));

    let words = ["store", "restore", "backup.db", "--keep-sessions", "--database", "sqlite:fastauth.db"];
    let output = place.run(&words);
    assert!(stdout(&output).contains("fastauth.db.replaced-2"), "{}", stdout(&output));
    assert!(stderr(&output).contains("including those that were revoked later"), "{}", stderr(&output));
    assert!(active(&first));
    assert!(place.fails(&["store", "restore", "missing.db"], 1).contains("missing.db"));
}

#[test]
fn a_store_is_encrypted_and_kept_plain_again() {
    let place = Place::ready(&json!({}));
    assert!(place.fails(&["store", "convert", "--to", "fernet"], 1).contains("there is no database"));
    let mut issued: Vec<_> = (0..40).map(|number| issue(&place, &format!("c{number}"))).collect();
    for _ in 0..3 {
        issued[0] = renew(&place, &issued[0]);
    }
    assert!(is_in("eyJhbGciOi", &database_bytes(&place)));
    let output = place.run(&["store", "convert", "--to", "fernet"]);
    assert_eq!(stdout(&output), "40 rows, 40 converted, 0 that no key decrypts\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("`store-format` is not \"fernet\""), "{}", stderr(&output));
    let bytes = database_bytes(&place);
    assert!(!is_in("eyJhbGciOi", &bytes) && is_in("gAAAAA", &bytes));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for name in ["fastauth.db", "fastauth.db-wal", "fastauth.db-shm"] {
            let Ok(file) = fs::metadata(place.path().join(name)) else { continue };
            assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
    for pair in &issued {
        let answer = place.done(&["token", "introspect", pair["access_token"].as_str().unwrap()]);
        assert!(answer.contains("\"active\": true"), "{answer}");
    }
    renew(&place, &issued[7]);

    // By name, as where the store of a REST service lies; with the new key, which then opens them alone.
    let first = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    let words = ["store", "convert", "--to", "fernet", "--database", "sqlite:fastauth.db", "--no-compact"];
    assert_eq!(place.done(&words), "40 rows, 40 converted, 0 that no key decrypts\n");
    place.done(&["keys", "retire", "--force", kid(&first[0])]);
    assert_eq!(place.done(&["store", "convert", "--to", "plain"]), "40 rows, 40 converted, 0 that no key decrypts\n");
    let bytes = database_bytes(&place);
    assert!(is_in("eyJhbGciOi", &bytes));
    assert_eq!(place.done(&["store", "convert", "--to", "plain"]), "40 rows, 0 converted, 0 that no key decrypts\n");

    let away = Place::ready(&json!({ "database-api-url": "http://127.0.0.1:1" }));
    let told = away.fails(&["store", "convert", "--to", "fernet"], 1);
    assert!(told.contains("run this on the machine of its database") && told.contains("--database"), "{told}");
}

#[test]
fn check_tells_what_the_store_promises() {
    let place = Place::ready(&json!({}));
    place.done(&["token", "new"]);
    let text = place.done(&["check"]);
    assert!(text.contains("store: listing what it holds: yes") && !text.contains(": no\n"), "{text}");
    assert!(text.contains("suggestion: set `store-format` to \"fernet\" to encrypt stored tokens at rest"), "{text}");
    let report: Value = serde_json::from_str(&place.done(&["check", "--json"])).unwrap();
    let promises =
        json!({ "atomic_rotation": true, "many_families": true, "revoke_all": true, "list": true, "tickets": true });
    assert_eq!(report["store"]["promises"], promises);
    assert_eq!(report["store"]["advice"].as_array().unwrap().len(), 1);
    let encrypted = Place::ready(&json!({ "store-format": "fernet" }));
    assert!(!encrypted.done(&["check"]).contains("suggestion"));
}

/// A store that knows the two calls of the first contract, and no more.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_warns_of_what_a_plain_store_cannot_hold() {
    let plain = axum::Router::new().route("/token", axum::routing::get(async || http::StatusCode::NOT_FOUND));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, plain).await });
    let place = Place::ready(&json!({
        "database-api-url": url, "store-format": "fernet", "tokens-per-client": "many",
    }));
    let text = place.done(&["check"]);
    for line in [
        "store: atomic refresh rotation with reuse detection: no",
        "store: several sessions of a client: no",
        "store: revoking everything at once: no",
        "store: listing what it holds: no",
        "suggestion: set `store-format` to \"plain\" if `fastauth-api` uses this store: it refuses every encrypted token",
        "suggestion: set `tokens-per-client` to \"one\": the store holds one session of a client",
        "suggestion: use one node, or a store of the second version (`fastauth store serve`): on this store, a refresh that is \
         under way on one node undoes a revocation on another. The first version of the store API cannot prevent it",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let report: Value = serde_json::from_str(&place.done(&["check", "--json"])).unwrap();
    assert_eq!(
        (&report["store"]["promises"]["list"], report["store"]["advice"].as_array().unwrap().len()),
        (&json!(false), 3)
    );
    let first = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("cannot list") && refusal.contains("--force removes it"), "{refusal}");
    assert!(place.fails(&["token", "list"], 1).contains("cannot list"));
    assert!(place.fails(&["token", "revoke", "--family", "f"], 1).contains("--client-id"));
}

/// Keys and log-ins behind a served store are the store's to count, and `retire` rests on that.
#[cfg(unix)]
#[tokio::test]
async fn a_served_store_tells_whose_tokens_are_live() {
    let served_from = Place::new();
    let served = Served::start(&served_from, None);
    let place = Place::ready(&json!({ "database-api-url": served.url, "store-format": "fernet" }));
    let issued = issue(&place, "c");
    let first = keys(&place);
    assert_eq!(first[0]["live_families"], 1);
    place.done(&["keys", "rotate", "--now"]);
    assert!(place.fails(&["keys", "retire", kid(&first[0])], 1).contains("1 session live with tokens of"));
    // Encrypted by the first key still; the store's own machine has the file, and was given the keys.
    fs::copy(place.path().join(".env"), served_from.path().join(".env")).unwrap();
    fs::copy(place.path().join("fastauth.config.json"), served_from.path().join("fastauth.config.json")).unwrap();
    let converted = served_from.done(&["store", "convert", "--to", "fernet", "--database", "sqlite:tokens.db"]);
    assert_eq!(converted, "1 rows, 1 converted, 0 that no key decrypts\n");
    renew(&place, &issued);
    place.done(&["keys", "retire", kid(&first[0])]);
    let live = lines(&place.done(&["token", "list", "--json", "--status", "live"]));
    assert_eq!((live.len(), &live[0]["kid"]), (1, &keys(&place)[0]["kid"]));
    assert_eq!(place.done(&["token", "revoke", "--client-id", "c"]), "Revoked 1 session\n");
    served.stop();
}

#[test]
fn patterns_are_faults_and_a_guard_below_an_exemption_is_told() {
    for pattern in ["/api/*", "/api/{id}", "/api/:id", "/api/<id>", "/api/%2a"] {
        for key in ["access-token-paths", "master-token-paths", "public-paths"] {
            let place = Place::ready(&json!({ key: [pattern] }));
            let output = place.run(&["check", "--offline"]);
            assert_eq!(output.status.code(), Some(1), "{pattern}: {}", stdout(&output));
            let told = stdout(&output);
            assert!(told.contains("looks like a pattern"), "{told}");
            assert_eq!(told.contains("write \"/api/\""), key != "public-paths", "{told}");
        }
    }
    let place = Place::ready(&json!({
        "access-token-paths": ["/access", "/access/open/secret"], "public-paths": ["/access/open"],
    }));
    let told = place.done(&["check"]);
    assert!(told.contains("\"/access/open/secret\" stays guarded, though it is below \"/access/open\""), "{told}");
    assert!(told.contains("\"/access/open\" stays open, though it is below \"/access\""), "{told}");
    let told = place.done(&["explain", "GET", "/access/open/secret"]);
    let because = "\"/access/open/secret\" of access-token-paths is met by \"/access/open/secret\" (as sent), \
                   and wins over \"/access/open\" of public-paths";
    assert!(told.contains("/access/open/secret: access") && told.contains(because), "{told}");
    let told = place.done(&["explain", "GET", "/access/open/x"]);
    assert!(told.contains("public") && told.contains("and wins over \"/access\" of access-token-paths"), "{told}");
}
