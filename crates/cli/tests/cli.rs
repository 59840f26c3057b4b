//! The program, as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "cli/checking.rs"]
mod checking;
#[cfg(unix)]
#[path = "cli/feed.rs"]
mod feed;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/keys.rs"]
mod keys_and_sessions;
#[cfg(unix)]
#[path = "cli/operating.rs"]
mod operating;
#[cfg(target_os = "linux")]
#[path = "cli/output.rs"]
mod output;
#[cfg(all(target_os = "linux", feature = "postgres"))]
#[path = "cli/postgres.rs"]
mod postgres;
#[path = "cli/rules.rs"]
mod rules;
#[path = "cli/served.rs"]
mod served;
#[cfg(unix)]
#[path = "cli/serving.rs"]
mod serving;
#[path = "cli/streams.rs"]
mod streams;
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
    MemoryStore, RestStore, SaveOptions, SessionFilter, SessionStatus, StoreError, StoreService, TokenDigest,
    TokenEntry, TokenRecord, TokenStore,
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
    let checked = place.done(&["check"]);
    assert!(checked.contains("does not exist yet; the first start creates it"), "{checked}");
    assert!(checked.ends_with("result: no faults, no warnings, no suggestions\n"), "{checked}");
    assert!(!place.path().join("fastauth.db").exists(), "checking makes nothing");
    place.done(&["token", "new"]);
    assert!(place.done(&["check"]).contains("fastauth.db (tokens encrypted; answers)"));
    assert!(place.fails(&["init"], 1).contains("already exists, and was not changed"));
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
    let input = b"GET /health\nGET //access/x\r\nPOST /both\nGET /access/%zz\n\nGET /%c0%af\nOPTIONS *\nGET *\nG@T /x\nGET \xff\n";
    let output = place.run_with_input(&["explain", "-"], input);
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decisions: Vec<_> = lines.iter().map(|line| line["decision"].as_str().unwrap()).collect();
    let expected = ["public", "access", "master+access", "reject", "reject", "public", "reject", "reject", "reject"];
    assert_eq!(decisions, expected);
    assert_eq!((&lines[1]["method"], &lines[1]["target"]), (&json!("GET"), &json!("//access/x")));
    assert_eq!((&lines[3]["reason"], &lines[4]["reason"]), (&json!("malformed escape"), &json!("not UTF-8")));
    assert!(lines.iter().all(|line| line["reason"].is_string()));

    let text = place.done(&["explain", "GET", "//access/x"]);
    assert!(
        text.starts_with("GET //access/x: requires an access token\n") && text.contains("slashes merged"),
        "{text}"
    );
    let text = place.done(&["explain", "GET", "access"]);
    assert_eq!(text.lines().next(), Some("GET access: rejected: \"access\" is not an absolute path (expected \"/…\")"));
    for (target, problem) in
        [("/access/a b", "has a space"), ("/access/a<b", "has '<', which no request target can have")]
    {
        let text = place.done(&["explain", "GET", target]);
        assert!(text.contains(&format!("rejected: \"{target}\" {problem}")), "{text}");
        let escaped = text.trim_end().rsplit("write ").next().unwrap();
        let text = place.done(&["explain", "GET", &format!("/access/a{escaped}b")]);
        assert!(text.contains("requires an access token"), "{text}");
    }
    let refusal = place.fails(&["explain", "GET"], 2);
    assert!(refusal.contains("Usage: fastauth explain "), "{refusal}");
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
fn a_used_refresh_token_revokes_its_session() {
    let place = Place::ready(&json!({ "refresh-grace": "0s" }));
    let used = token_of(&place.done(&["token", "new", "--client-id", "c"]), "refresh_token");
    let renewed = token_of(&place.done(&["token", "refresh", &used]), "refresh_token");
    let refusal = place.fails(&["token", "refresh", &used], 1);
    assert!(refusal.contains("was used before, and its session is revoked") && !refusal.contains(&used), "{refusal}");
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
        Self::start_with(place, bearer, &[])
    }

    fn start_with(place: &Place, bearer: Option<&str>, words: &[&str]) -> Self {
        let mut command =
            place.command(&["store", "serve", "--listen", "127.0.0.1:0", "--database", "sqlite:tokens.db"]);
        command.args(words);
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
        session: String::new(),
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
    assert!(place.fails(&["store", "backup", "backup.db"], 1).contains("there is no such database"));
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
    assert!(place.fails(&["store", "convert", "--to", "fernet"], 1).contains("there is no such database"));
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
    assert!(text.ends_with("result: no faults, no warnings, 1 suggestion\n") && !text.contains("without"), "{text}");
    let verbose = place.done(&["check", "--verbose"]);
    assert!(verbose.contains("store: listing what it holds: yes") && !verbose.contains(": no\n"), "{verbose}");
    assert!(text.contains("suggestion: set `store-format` to \"fernet\" to encrypt stored tokens at rest"), "{text}");
    let report: Value = serde_json::from_str(&place.done(&["check", "--json"])).unwrap();
    let promises = json!({
        "atomic_rotation": true, "many_sessions": true, "revoke_all": true, "list": true, "access_grace": true, "tickets": true,
    });
    assert_eq!(report["store"]["promises"], promises);
    assert_eq!(report["store"]["suggestions"].as_array().unwrap().len(), 1);
    let encrypted = Place::ready(&json!({ "store-format": "fernet" }));
    assert!(!encrypted.done(&["check"]).contains("suggestion:"));
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
        "database-api-url": url, "store-format": "fernet", "tokens-per-client": "many", "access-grace": "10s",
    }));
    let text = place.done(&["check", "-v"]);
    for line in [
        "store: atomic refresh rotation with reuse detection: no",
        "store: several sessions of a client: no",
        "store: revoking everything at once: no",
        "store: listing what it holds: no",
        "suggestion: set `store-format` to \"plain\" if `fastauth-api` uses this store: it refuses every encrypted token",
        "suggestion: set `tokens-per-client` to \"one\": the store holds one session of a client",
        "store: replaced access tokens accepted for a moment (`access-grace`): no",
        "suggestion: remove `access-grace`: it has no effect, since the store does not keep replaced access tokens",
        "suggestion: use one node, or a store of the second version (`fastauth store serve`): on this store, a refresh that is \
         under way on one node undoes a revocation on another. The first version of the store API cannot prevent it",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let report: Value = serde_json::from_str(&place.done(&["check", "--json"])).unwrap();
    assert_eq!(
        (&report["store"]["promises"]["list"], report["store"]["suggestions"].as_array().unwrap().len()),
        (&json!(false), 4)
    );
    let first = keys(&place);
    place.done(&["keys", "rotate", "--now"]);
    let refusal = place.fails(&["keys", "retire", kid(&first[0])], 1);
    assert!(refusal.contains("cannot list") && refusal.contains("--force removes it"), "{refusal}");
    assert!(place.fails(&["token", "list"], 1).contains("cannot list"));
    assert!(place.fails(&["token", "revoke", "--session", "f"], 1).contains("--client-id"));
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
    assert_eq!(first[0]["live_sessions"], 1);
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
    let because = "\"/access/open/secret\" of access-token-paths matches \"/access/open/secret\" (as sent), \
                   and wins over \"/access/open\" of public-paths";
    assert!(told.contains("/access/open/secret: requires an access token") && told.contains(because), "{told}");
    let told = place.done(&["explain", "GET", "/access/open/x"]);
    assert!(
        told.contains("requires no credential") && told.contains("and wins over \"/access\" of access-token-paths"),
        "{told}"
    );
}
