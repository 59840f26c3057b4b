//! Where settings come from, which of them counts, and what is said of those that are wrong.

use std::{fs, path::Path, time::Duration};

use fastauth::{
    FastAuthLayer, Settings, SettingsBuilder, TokenType,
    config::{ConfigError, EnvFile, Source},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "a-key-of-forty-characters-in-all-hush-01";
const MASTER: &str = "a-master-token-hush-02";

/// A directory with a configuration file, and nothing from the process's environment.
struct Place(TempDir);

impl Place {
    fn new(config: &Value) -> Self {
        Self::with_text(&config.to_string())
    }

    fn with_text(config: &str) -> Self {
        let place = Self(TempDir::new().unwrap());
        place.write("fastauth.config.json", config);
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn builder(&self, environment: &[(&str, &str)]) -> SettingsBuilder {
        Settings::builder().directory(self.path()).environment(environment.iter().copied())
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        self.builder(environment).load()
    }

    /// The message that the start ends with.
    fn faults(&self, environment: &[(&str, &str)]) -> String {
        self.load(environment).unwrap_err().to_string()
    }

    fn source(&self, environment: &[(&str, &str)], key: &str) -> Source {
        let report = self.builder(environment).report();
        report.entries().iter().find(|entry| entry.key == key).unwrap().source.clone()
    }
}

fn good() -> Value {
    json!({
        "app-name": "demo",
        "master-token": MASTER,
        "cryptography-key": KEY,
        "master-token-paths": ["/master"],
        "access-token-paths": ["/access"],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut config = good();
    config[key] = value;
    config
}

fn without(key: &str) -> Value {
    let mut config = good();
    config.as_object_mut().unwrap().remove(key);
    config
}

/// Of two sources the higher one counts, for every pair of them.
#[test]
fn precedence() {
    let place = Place::new(&without("cryptography-key"));
    let file = || place.write("fastauth.config.json", &good().to_string());
    let environment = [("FASTAUTH_CRYPTOGRAPHY_KEY", KEY)];
    let bare = [("CRYPTOGRAPHY_KEY", KEY)];
    let both = [environment[0], bare[0]];

    place.write(".env", &format!("CRYPTOGRAPHY_KEY={KEY}\nOTHER=x\n"));
    assert!(matches!(place.source(&[], "cryptography-key"), Source::EnvFile(_, name) if name == "CRYPTOGRAPHY_KEY"));
    assert_eq!(place.source(&bare, "cryptography-key"), Source::Environment("CRYPTOGRAPHY_KEY".into()));
    file();
    assert!(matches!(place.source(&bare, "cryptography-key"), Source::File(_)));
    assert_eq!(place.source(&both, "cryptography-key"), Source::Environment("FASTAUTH_CRYPTOGRAPHY_KEY".into()));
    let report = place.builder(&both).cryptography_key(KEY).report();
    assert!(report.entries().iter().any(|entry| entry.key == "cryptography-key" && entry.source == Source::Code));
}

/// The value that counts is the one that is used: tokens are signed by the key of the highest source.
#[tokio::test]
async fn the_winning_key_signs() {
    let place = Place::new(&good());
    let other = "the-environments-key-of-forty-characters";
    let signer = FastAuthLayer::new(place.load(&[("FASTAUTH_CRYPTOGRAPHY_KEY", other)]).unwrap()).unwrap();
    let issued = signer.issuer().issue("c").await.unwrap();
    let code = Settings::builder().cryptography_key(other).access_token_paths(["/"]);
    let verifier = FastAuthLayer::new(code.store(fastauth::store::MemoryStore::new()).build().unwrap()).unwrap();
    assert!(verifier.issuer().verify(issued.tokens.access_token.expose(), TokenType::Access).is_ok());
}

#[test]
fn every_scalar_key_can_be_a_variable() {
    let place = Place::new(&json!({ "access-token-paths": ["/access"] }));
    let settings = place
        .load(&[
            ("FASTAUTH_APP_NAME", "from the environment"),
            ("FASTAUTH_MASTER_TOKEN", MASTER),
            ("FASTAUTH_CRYPTOGRAPHY_KEY", KEY),
            ("FASTAUTH_DATABASE_API_URL", "http://127.0.0.1:1/x"),
            ("FASTAUTH_ACCESS_TTL", "15m"),
            ("FASTAUTH_REFRESH_TTL", "90s"),
            ("FASTAUTH_WINDOWS", "true"),
        ])
        .unwrap();
    assert_eq!(settings.app_name(), "from the environment");
    assert_eq!(settings.access_ttl(), Duration::from_secs(15 * 60));
    assert_eq!(settings.refresh_ttl(), Duration::from_secs(90));
}

/// A secret that looks like a number or like JSON is a text all the same.
#[test]
fn variables_are_taken_as_they_are() {
    let key = "12345678901234567890123456789012";
    let place = Place::new(&json!({ "access-token-paths": ["/access"] }));
    for master in
        ["1234567890123456", "true-but-still-a-text", r#"["a","list","it","is","not"]"#, "[0x1f, never closed"]
    {
        let settings = place.load(&[("FASTAUTH_MASTER_TOKEN", master), ("CRYPTOGRAPHY_KEY", key)]);
        assert!(settings.is_ok(), "{master}: {settings:?}");
    }
}

#[test]
fn both_spellings_and_the_alias_are_known() {
    for config in [
        json!({ "master_token": MASTER, "cryptography-key": KEY, "access_token-paths": ["/a"], "database_api_path": "http://h/x" }),
        json!({ "master-token": MASTER, "cryptography_key": KEY, "access-token_paths": ["/a"], "database-api_url": "http://h/x" }),
        json!({ "app-name": "same", "app_name": "same", "cryptography-key": KEY, "access-token-paths": ["/a"] }),
    ] {
        Place::new(&config).load(&[]).unwrap();
    }
    let mut config = good();
    config["database-api-url"] = json!("http://one.example");
    config["database_api_path"] = json!("http://two.example");
    let message = Place::new(&config).faults(&[]);
    assert!(
        message.contains("`database-api-url` and `database_api_path` are the same key, with different values"),
        "{message}"
    );
}

#[test]
fn null_is_absent() {
    let settings = Place::new(&with("database-api-url", Value::Null)).load(&[]).unwrap();
    assert_eq!(settings.app_name(), "demo");
}

#[test]
fn the_originals_log_level_is_reported_as_without_effect() {
    let settings = Place::new(&with("log_lv", json!("INFO"))).load(&[]).unwrap();
    assert!(settings.warnings().iter().any(|warning| warning.contains("`log_lv` has no effect")), "{settings:?}");
}

#[test]
fn faults_name_the_place_and_the_remedy() {
    let table = [
        (
            "unknown key",
            with("acces-token-paths", json!([])),
            "`acces-token-paths` is not a known key; did you mean `access-token-paths`?",
        ),
        ("no key", without("cryptography-key"), "`cryptography-key`: it is missing"),
        (
            "no master token",
            without("master-token"),
            "`master-token`: it is missing, and `master-token-paths` asks for it",
        ),
        ("short key", with("cryptography-key", json!("hush-short")), "it has 10 bytes, and HS256 needs at least 32"),
        ("empty secret", with("master-token", json!("")), "`master-token`: it is empty"),
        ("white secret", with("master-token", json!("  ")), "`master-token`: it is empty"),
        ("placeholder", with("master-token", json!("<your-master-token>")), "it is a placeholder, not a secret"),
        (
            "variable left",
            with("cryptography-key", json!("${CRYPTOGRAPHY_KEY_OF_THE_DEPLOYMENT}")),
            "it is a placeholder",
        ),
        (
            "not for a header",
            with("master-token", json!("hush\nhush-hush-hush")),
            "no client could send `master-token`",
        ),
        ("number", with("app-name", json!(1)), "`app-name`: found a number; write a text in quotes"),
        ("secret of a wrong kind", with("master-token", json!(["hush"])), "`master-token`: found a list"),
        ("text for a list", with("access-token-paths", json!("/access")), "found a text; write a list of texts"),
        ("number in a list", with("access-token-paths", json!(["/a", 1])), "found a number in the list"),
        (
            "prefix",
            with("access-token-paths", json!(["access"])),
            "the prefix \"access\" must begin with `/`; write \"/access\"",
        ),
        ("empty prefix", with("access-token-paths", json!([""])), "is empty; to guard everything write \"/\""),
        ("dots", with("master-token-paths", json!(["/a/../b"])), "has a dot segment; write \"/b\""),
        ("time", with("access-ttl", json!("soon")), "\"soon\" is not a time"),
        ("no time", with("access-ttl", json!("0s")), "\"0s\" is not a time of whole seconds above zero"),
        ("half seconds", with("access-ttl", json!("1500ms")), "is not a time of whole seconds"),
        ("ages", with("refresh-ttl", json!("900years")), "more than a hundred years"),
        ("seconds as a number", with("access-ttl", json!(60)), "`access-ttl`: found a number"),
        (
            "store",
            with("database-api-url", json!("ftp://x")),
            "neither the address of a REST store nor of an SQLite file",
        ),
        ("memory", with("database-api-url", json!("sqlite::memory:")), "would forget every token"),
        ("password in the URL", with("database-api-url", json!("http://u:hush@h")), "holds a user or a password"),
        ("header name", with("headers", json!({ "bad name": "hush" })), "\"bad name\" is not a header name"),
        ("header value", with("headers", json!({ "X-A": "hush\n" })), "the value of \"X-A\" cannot stand in a header"),
        ("header kind", with("headers", json!({ "X-A": 1 })), "found a number as the value of `X-A`"),
        ("header twice", with("headers", json!({ "X-A": "hush", "x-a": "hush" })), "is there twice"),
        ("flag", with("windows", json!("yes")), "`windows`: found a text; write true or false"),
        ("ambiguous", with("ambiguous", json!("maybe")), "write \"refuse\" or \"protect\""),
    ];
    for (name, config, expected) in table {
        let message = Place::new(&config).faults(&[]);
        assert!(message.contains(expected), "{name}: {message}");
        assert!(!message.contains("hush") && message.contains("1 fault in"), "{name}: {message}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let place =
        Place::new(&json!({ "master-token": "", "cryptography_key": 1, "access-token-paths": ["x"], "what": 1 }));
    let error = place.load(&[("FASTAUTH_ACCESS_TTL", "x"), ("FASTAUTH_ACCESS_TOKEN_PATHS", "/a")]).unwrap_err();
    let keys: Vec<_> = error.faults().iter().map(|fault| fault.key().unwrap_or("-")).collect();
    for key in ["master-token", "cryptography-key", "access-token-paths", "access-ttl", "-"] {
        assert!(keys.contains(&key), "{key}: {error}");
    }
    let message = error.to_string();
    assert!(
        message.contains("environment variable FASTAUTH_ACCESS_TTL") && message.contains("fastauth.config.json"),
        "{message}"
    );
    assert!(
        message.contains("only single values can be set by a variable; set it in the configuration file"),
        "{message}"
    );
}

#[test]
fn broken_files_end_the_start_and_are_not_quoted() {
    for (name, text) in [
        ("empty", ""),
        ("cut off", r#"{"master-token": "hush"#),
        ("a text", r#""hush""#),
        ("a list", r#"["hush"]"#),
        ("a key twice", r#"{"master-token": "hush-1", "master-token": "hush-2"}"#),
        ("rubbish behind", r#"{"master-token": "hush"} hush"#),
    ] {
        let message = Place::with_text(text).faults(&[("FASTAUTH_CRYPTOGRAPHY_KEY", KEY)]);
        assert!(message.contains("the file is not usable JSON") && !message.contains("hush"), "{name}: {message}");
    }
    let place = Place::new(&good());
    fs::write(place.path().join("fastauth.config.json"), b"{\"app-name\": \"\xff\"}").unwrap();
    assert!(place.faults(&[]).contains("the file cannot be read"));
}

#[test]
fn a_missing_file_is_no_open_door() {
    let empty = TempDir::new().unwrap();
    let builder = |environment: &[(&str, &str)]| {
        Settings::builder().directory(empty.path()).environment(environment.iter().copied())
    };
    let secrets = [("MASTER_TOKEN", MASTER), ("CRYPTOGRAPHY_KEY", KEY)];
    for environment in [&[][..], &secrets] {
        let message = builder(environment).load().unwrap_err().to_string();
        assert!(message.contains("fastauth.config.json: there is no such file"), "{message}");
    }
    let named = builder(&[secrets[0], secrets[1], ("FASTAUTH_CONFIG", "other.json")]);
    assert!(named.clone().load().unwrap_err().to_string().contains("other.json: the file cannot be read"));
    assert!(named.access_token_paths(["/access"]).load().is_err(), "a file that is named has to be there");
    // Code that says what to guard needs no file.
    builder(&secrets).access_token_paths(["/access"]).load().unwrap();
}

#[test]
fn the_file_is_found_by_argument_variable_and_default() {
    let place = Place::new(&good());
    place.write("argument.json", &with("app-name", json!("argument")).to_string());
    place.write("variable.json", &with("app-name", json!("variable")).to_string());
    let variable = [("FASTAUTH_CONFIG", "variable.json")];
    assert_eq!(place.load(&[]).unwrap().app_name(), "demo");
    assert_eq!(place.load(&variable).unwrap().app_name(), "variable");
    assert_eq!(place.builder(&variable).config_file("argument.json").load().unwrap().app_name(), "argument");
}

#[test]
fn warnings_are_given() {
    let published = "kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4=";
    let mut same = with("master-token", json!(published));
    same["cryptography-key"] = json!(published);
    let mut closed = without("master-token");
    closed["master-token-paths"] = json!([]);
    let table = [
        ("same text", same.clone(), "are the same text"),
        ("published", same, "`cryptography-key` is a published example"),
        ("short", with("master-token", json!("short")), "has only 5 characters"),
        ("closed", closed, "minting over HTTP is closed"),
        ("star", with("access-token-paths", json!(["/a/*"])), "matched literally"),
        ("shadow", with("shadow", json!(true)), "no path is guarded"),
        ("lifetimes", with("refresh-ttl", json!("1m")), "`refresh-ttl` is shorter than `access-ttl`"),
        ("headers for nobody", with("headers", json!({ "X": "y" })), "`headers` go to a REST store"),
    ];
    for (name, config, expected) in table {
        let settings = Place::new(&config).load(&[]).unwrap();
        assert!(
            settings.warnings().iter().any(|warning| warning.contains(expected)),
            "{name}: {:?}",
            settings.warnings()
        );
    }
    let settings =
        Place::new(&good()).load(&[("FASTAUTH_PORT", "tcp://10.0.0.1:80"), ("FASTAUTH_MASTER_TOKE", "x")]).unwrap();
    let warnings = settings.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("did you mean FASTAUTH_MASTER_TOKEN?"), "{warnings:?}");
}

/// A source goes before another as a whole: its headers are not mixed with those of the other.
#[tokio::test]
async fn headers_are_replaced_as_a_whole() {
    let mut config = with("headers", json!({ "x-api-key": "old", "x-file": "1", "Content-Type": "application/json" }));
    config["database-api-url"] = json!("http://127.0.0.1:1");
    let place = Place::new(&config);
    let shown = |builder: SettingsBuilder| {
        let report = builder.report();
        assert!(report.faults().is_empty(), "{report:?}");
        report.entries().iter().find(|entry| entry.key == "headers").unwrap().value.clone()
    };
    assert_eq!(shown(place.builder(&[])), "Content-Type, x-api-key, x-file");
    assert_eq!(shown(place.builder(&[]).headers([("X-Api-Key", "new")])), "X-Api-Key");
}

#[test]
fn two_variables_of_one_key_are_compared() {
    let urls = [("FASTAUTH_DATABASE_API_PATH", "http://a.example"), ("FASTAUTH_DATABASE_API_URL", "http://b.example")];
    let place = Place::new(&good());
    assert!(place.faults(&urls).contains("are the same key, with different values"));
    assert_eq!(place.source(&urls[..1], "database-api-url"), Source::Environment("FASTAUTH_DATABASE_API_PATH".into()));
}

#[test]
fn a_url_that_is_refused_is_not_shown() {
    for url in ["http:user:hush@db/x", "user:hush@db:5432/x", "http://db.example/?key=hush", "http://u:hush@h"] {
        let report = Place::new(&with("database-api-url", json!(url))).builder(&[]).report();
        assert!(!format!("{:?} {:?}", report.entries(), report.faults()).contains("hush"), "{url}");
    }
}

#[test]
fn a_broken_env_file_matters_only_where_a_secret_is_missed() {
    let place = Place::new(&good());
    place.write(".env", "MASTER_TOKEN=\"hush, never closed\nCRYPTOGRAPHY_KEY=hush");
    let settings = place.load(&[]).unwrap();
    assert!(settings.warnings().iter().any(|warning| warning.contains(".env")), "{:?}", settings.warnings());
    place.write("fastauth.config.json", &without("cryptography-key").to_string());
    let message = place.faults(&[]);
    assert!(message.contains("line 1 is not NAME=value") && !message.contains("hush"), "{message}");
}

#[test]
fn the_process_environment_is_left_alone() {
    let place = Place::new(&without("cryptography-key"));
    place.write(".env", &format!("CRYPTOGRAPHY_KEY={KEY}\nFASTAUTH_TEST_MARK=1\n"));
    place.load(&[]).unwrap();
    assert!(
        std::env::var_os("FASTAUTH_TEST_MARK").is_none() && std::env::var("CRYPTOGRAPHY_KEY").as_deref() != Ok(KEY)
    );
}

#[test]
fn nothing_shows_a_secret() {
    let place = Place::new(&with("headers", json!({ "X-Store": "hush-03" })));
    let builder = place.builder(&[("FASTAUTH_MASTER_TOKEN", "hush-04-of-the-environment")]).cryptography_key(KEY);
    let report = builder.clone().report();
    let mut shown = format!("{builder:?} {report:?}");
    shown += &format!("{:?}", report.into_settings().unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn the_embedded_store_is_beside_the_configuration() {
    let place = Place::new(&good());
    FastAuthLayer::new(place.load(&[]).unwrap()).unwrap();
    assert!(place.path().join("fastauth.db").exists());
    place.write("fastauth.config.json", &with("database-api-url", json!("sqlite:other.db")).to_string());
    FastAuthLayer::new(place.load(&[]).unwrap()).unwrap();
    assert!(place.path().join("other.db").exists());
    place.write("fastauth.config.json", &with("database-api-url", json!("sqlite:no/such/directory.db")).to_string());
    let error = FastAuthLayer::new(place.load(&[]).unwrap()).unwrap_err().to_string();
    assert!(error.contains("`database-api-url`") && error.contains("directory.db"), "{error}");
}

#[test]
fn env_files_keep_their_other_lines() {
    let place = Place::new(&good());
    let file = EnvFile::new(place.path().join(".env"));
    assert!(!file.contains("MASTER_TOKEN").unwrap());
    file.set("MASTER_TOKEN", &"one".into()).unwrap();
    for unset in ["MASTER_TOKEN=", "MASTER_TOKEN=\"\"", "MASTER_TOKEN= # todo", "MASTER_TOKEN=<your-master-token>"] {
        place.write(".env", unset);
        assert!(!file.contains("MASTER_TOKEN").unwrap(), "{unset}");
    }
    place.write(".env", "A=1\r\nMASTER_TOKEN=x\r\nB=2\r\n");
    file.set("MASTER_TOKEN", &"y".into()).unwrap();
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "A=1\r\nMASTER_TOKEN=y\r\nB=2\r\n");
    place.write(".env", "# kept\nA=1\nexport MASTER_TOKEN=one\nMASTER_TOKEN_2='x'\n\nMASTER_TOKEN = two\nB=2");
    file.set("MASTER_TOKEN", &"with spaces & signs".into()).unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    assert_eq!(text, "# kept\nA=1\nMASTER_TOKEN='with spaces & signs'\nMASTER_TOKEN_2='x'\n\nB=2");
    assert!(file.contains("MASTER_TOKEN").unwrap());
    assert!(file.set("MASTER_TOKEN", &"it's".into()).is_err());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no draft is left");
}
