//! The program, as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "it/support/v1.rs"]
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

/// Has a store hold a pair, whose tokens have the name in them.
async fn save(store: &RestStore, client_id: &str, name: &str) -> Result<(), StoreError> {
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
    let served = Served::start(&place, Some("hush-hush"));
    let with = |token: &str| {
        let headers =
            http::HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        RestStore::new(&served.url, headers).unwrap()
    };
    assert!(save(&with("wrong"), "c", "1").await.is_err());
    save(&with("hush-hush"), "c", "1").await.unwrap();
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
    let served = Served::start(&place, Some("hush-hush"));
    let test = |words: &[&str]| {
        let words = [&["store", "test", &served.url], words].concat();
        place.command(&words).env("FASTAUTH_STORE_TOKEN", "hush-hush").output().unwrap()
    };
    let output = test(&[]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}{}", stderr(&output));
    assert!(lines.ends_with("The store speaks v2: 27 kept, 0 broken, 0 not offered.\n"), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("kept  ") || line.starts_with("The store")), "{lines}");
    assert!(!lines.contains("hush"));
    let report: Value = serde_json::from_slice(&test(&["--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], &report["speaks"]), (&json!(true), &json!("v2")));
    assert_eq!(promises(&report, "kept").len(), 27);
    let refusal = place.fails(&["store", "test", &served.url], 1);
    assert!(refusal.contains("FASTAUTH_STORE_TOKEN"), "{refusal}");
    let header = "authorization: Bearer hush-hush";
    assert!(place.done(&["store", "test", &served.url, "--header", header]).contains("speaks v2"));
    for words in [&["http://127.0.0.1:1"][..], &["ftp://x"], &["x"], &[&served.url, "--header", "hush"]] {
        assert!(!place.fails(&[&["store", "test"], words].concat(), 1).contains("hush"));
    }
    served.stop();
    // Nothing that the test issued is live any more.
    let store = fastauth::store::SqliteStore::open(place.path().join("tokens.db")).unwrap();
    let live = FamilyFilter { status: Some(FamilyStatus::Live), ..FamilyFilter::default() };
    let page = futures_util::future::FutureExt::now_or_never(store.list(&live)).unwrap().unwrap();
    assert_eq!(page.families, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_version_passes_its_test() {
    let (place, rows) = (Place::new(), v1::Rows::default());
    let url = serve(v1::app(rows.clone())).await;
    let lines = place.done(&["store", "test", &url]);
    assert!(lines.ends_with("The store speaks v1: 8 kept, 0 broken, 19 not offered.\n"), "{lines}");
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
