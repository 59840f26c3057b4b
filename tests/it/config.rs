//! Where settings come from, which of them counts, and what is said of those that are wrong.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fastauth::{
    FastAuthLayer, Settings, SettingsBuilder, TokenType,
    config::{
        ConfigError, EnvFile, KeyChangeError, KeyRole, RefreshTransport, ResponseShape, Source, WebSocketRefusal,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::Endpoints;
#[cfg(feature = "rate-limit")]
use crate::app::FORM;

pub(crate) const KEY: &str = "a-key-of-forty-characters-in-all-hush-01";
pub(crate) const MASTER: &str = "a-master-token-hush-02";

/// A directory with a configuration file, and nothing from the process's environment.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new(config: &Value) -> Self {
        Self::with_text(&config.to_string())
    }

    pub(crate) fn with_text(config: &str) -> Self {
        let place = Self(TempDir::new().unwrap());
        place.write("fastauth.config.json", config);
        place
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        // As secrets are kept, so that nothing is to be warned of.
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn builder(&self, environment: &[(&str, &str)]) -> SettingsBuilder {
        Settings::builder().directory(self.path()).environment(environment.iter().copied())
    }

    pub(crate) fn load(&self, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        self.builder(environment).load()
    }

    /// The message that the start ends with.
    pub(crate) fn faults(&self, environment: &[(&str, &str)]) -> String {
        self.load(environment).unwrap_err().to_string()
    }

    pub(crate) fn source(&self, environment: &[(&str, &str)], key: &str) -> Source {
        let report = self.builder(environment).report();
        report.entries().iter().find(|entry| entry.key == key).unwrap().source.clone()
    }
}

pub(crate) fn good() -> Value {
    json!({
        "app-name": "demo",
        "master-token": MASTER,
        "cryptography-key": KEY,
        "master-token-paths": ["/master"],
        "access-token-paths": ["/access"],
    })
}

pub(crate) fn with(key: &str, value: Value) -> Value {
    let mut config = good();
    config[key] = value;
    config
}

pub(crate) fn without(key: &str) -> Value {
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
            ("FASTAUTH_ALLOW_GET", "false"),
            ("FASTAUTH_RESPONSE_SHAPE", "oauth"),
            ("FASTAUTH_REFRESH_TRANSPORT", "cookie"),
        ])
        .unwrap();
    assert_eq!(settings.app_name(), "from the environment");
    assert_eq!(settings.access_ttl(), Duration::from_secs(15 * 60));
    assert_eq!(settings.refresh_ttl(), Duration::from_secs(90));
}

/// A list in a variable is JSON, or has commas, and overrides that of the file as a whole.
#[test]
fn lists_can_be_variables() {
    let place = Place::new(&good());
    let shown = |environment: &[(&str, &str)], key: &str| {
        let report = place.builder(environment).report();
        assert!(report.faults().is_empty(), "{:?}", report.faults());
        report.entries().iter().find(|entry| entry.key == key).unwrap().value.clone()
    };
    for (variable, text, key, expected) in [
        ("FASTAUTH_ACCESS_TOKEN_PATHS", "/api, /files/", "access-token-paths", r#"["/api", "/files/"]"#),
        ("FASTAUTH_ACCESS_TOKEN_PATHS", r#"["/a,b"]"#, "access-token-paths", r#"["/a,b"]"#),
        ("FASTAUTH_PUBLIC_PATHS", "[]", "public-paths", "[]"),
        ("FASTAUTH_ALLOWED_ORIGINS", r#"["https://a.example"]"#, "allowed-origins", r#"["https://a.example"]"#),
    ] {
        assert_eq!(shown(&[(variable, text)], key), expected);
    }
    let older = r#"["an-older-key-of-forty-characters-in-all,", "another-key-of-forty-characters-in-all-1"]"#;
    assert_eq!(shown(&[("PREVIOUS_CRYPTOGRAPHY_KEYS", older)], "previous-cryptography-keys"), "2 set");
    // What is empty or half a list opens no path.
    for text in ["", " ", "/a,", "[/a]", r#"["/a",]"#, "$PATHS", "${PATHS}"] {
        let message = place.faults(&[("FASTAUTH_ACCESS_TOKEN_PATHS", text)]);
        assert!(message.contains("environment variable FASTAUTH_ACCESS_TOKEN_PATHS"), "{text:?}: {message}");
    }
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
        ("no key", without("cryptography-key"), "`cryptography-key`: it is not set"),
        (
            "no master token",
            without("master-token"),
            "`master-token`: it is not set, but `master-token-paths` requires it",
        ),
        (
            "time",
            with("access-ttl", json!("soon")),
            "fastauth.config.json, `access-ttl`: \"soon\" is not a time; write a time",
        ),
        ("password in the URL", with("database-api-url", json!("http://u:hush@h")), "holds a user or a password"),
        ("secret of a wrong kind", with("master-token", json!(["hush"])), "`master-token`: found a list"),
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
    let error = place.load(&[("FASTAUTH_ACCESS_TTL", "x"), ("FASTAUTH_HEADERS", "{\"X-A\": \"x\"}")]).unwrap_err();
    let keys: Vec<_> = error.faults().iter().map(|fault| fault.key().unwrap_or("-")).collect();
    for key in ["master-token", "cryptography-key", "access-token-paths", "access-ttl", "headers", "-"] {
        assert!(keys.contains(&key), "{key}: {error}");
    }
    let message = error.to_string();
    assert!(
        message.contains("environment variable FASTAUTH_ACCESS_TTL") && message.contains("fastauth.config.json"),
        "{message}"
    );
    assert!(message.contains("an object cannot be set by a variable; set it in the configuration file"), "{message}");
}

#[test]
fn sources_of_credentials_are_as_they_were_configured() {
    let shown = |builder: SettingsBuilder| {
        let report = builder.report();
        assert!(report.faults().is_empty(), "{:?}", report.faults());
        report.entries().iter().find(|entry| entry.key == "credential-sources").unwrap().value.clone()
    };
    assert_eq!(shown(Place::new(&good()).builder(&[])), r#"["ACCESS-TOKEN", "Authorization"]"#);
    let mut config = good();
    config["credential_sources"] = json!(["access-token"]);
    let place = Place::new(&config);
    assert_eq!(shown(place.builder(&[])), "[\"access-token\"]");
    let variable = [("FASTAUTH_CREDENTIAL_SOURCES", "Authorization, ACCESS-TOKEN")];
    assert_eq!(shown(place.builder(&variable)), "[\"Authorization\", \"ACCESS-TOKEN\"]");
    assert_eq!(shown(place.builder(&variable).credential_sources(["Authorization"])), "[\"Authorization\"]");
}

/// What each key of WebSockets is set to, and by whom.
#[test]
fn websockets_are_as_they_were_configured() {
    let shown = |builder: SettingsBuilder| {
        let report = builder.report();
        assert!(report.faults().is_empty(), "{:?}", report.faults());
        ["allowed-origins", "websocket-recheck", "websocket-refusal"].map(|key| {
            let entry = report.entries().iter().find(|entry| entry.key == key).unwrap().clone();
            (entry.value, matches!(entry.source, Source::Default))
        })
    };
    let of = |values: [&str; 3], is_default| values.map(|value| (value.to_owned(), is_default));
    assert_eq!(shown(Place::new(&good()).builder(&[])), of(["the own; any for WebSockets", "5s", "http"], true));
    let mut config = good();
    config["allowed-origins"] = json!(["https://a.example"]);
    config["websocket_recheck"] = json!("2s");
    config["websocket-refusal"] = json!("close");
    let place = Place::new(&config);
    assert_eq!(shown(place.builder(&[])), of(["[\"https://a.example\"]", "2s", "close"], false));
    let environment = [
        ("FASTAUTH_ALLOWED_ORIGINS", "https://b.example, http://localhost:3000"),
        ("FASTAUTH_WEBSOCKET_RECHECK", "3s"),
        ("FASTAUTH_WEBSOCKET_REFUSAL", "http"),
    ];
    let expected = of(["[\"https://b.example\", \"http://localhost:3000\"]", "3s", "http"], false);
    assert_eq!(shown(place.builder(&environment)), expected);
    let in_code =
        place.builder(&environment).allowed_origins(["https://c.example"]).websocket_refusal(WebSocketRefusal::Close);
    let in_code = in_code.websocket_recheck(std::time::Duration::from_millis(250));
    assert_eq!(shown(in_code), of(["[\"https://c.example\"]", "250ms", "close"], false));
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
        assert!(message.contains("fastauth.config.json: the file does not exist; "), "{message}");
    }
    let named = builder(&[secrets[0], secrets[1], ("FASTAUTH_CONFIG", "other.json")]);
    let message = named.clone().load().unwrap_err().to_string();
    assert!(message.contains("other.json: the file does not exist"), "{message}");
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

/// A configuration with a store behind HTTP, and with these times.
fn remote_with(times: &[(&str, &str)]) -> Value {
    let mut config = with("database-api-url", json!("http://127.0.0.1:9/db"));
    for (key, time) in times {
        config[*key] = json!(time);
    }
    config
}

fn remote(key: &str, time: &str) -> Value {
    remote_with(&[(key, time)])
}

/// Each is right by itself, and so they are together.
#[test]
fn times_that_fit_together_draw_no_warning() {
    for config in [
        remote_with(&[
            ("access-ttl", "11s"),
            ("refresh-ttl", "80s"),
            ("websocket-recheck", "2s"),
            ("cache-ttl", "10s"),
        ]),
        remote_with(&[("refresh-grace", "0s"), ("refresh-ttl", "30d")]),
        // The embedded store answers as soon as it has written.
        {
            let mut config = with("access-ttl", json!("5s"));
            config["websocket-recheck"] = json!("100ms");
            config["cache-ttl"] = json!("1h");
            config
        },
    ] {
        let settings = Place::new(&config).load(&[]).unwrap();
        assert!(settings.warnings().is_empty(), "{config}: {:?}", settings.warnings());
    }
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
        ("closed", closed, "issuing over HTTP is closed"),
        ("an exemption of nothing", with("public-paths", json!(["/open"])), "\"/open\" has no effect"),
        ("everything", with("access-token-paths", json!(["/"])), "\"/\" also guards /auth/token/refresh"),
        ("shadow", with("shadow", json!(true)), "no path is guarded"),
        ("lifetimes", with("refresh-ttl", json!("1m")), "`refresh-ttl` is shorter than `access-ttl`"),
        (
            "a short life",
            remote("access-ttl", "3s"),
            "`access-ttl` is no longer than a call to the store may take (3s)",
        ),
        ("a short patience", remote("websocket-recheck", "500ms"), "closes all WebSockets"),
        ("a long memory", remote_with(&[("cache-ttl", "1h"), ("access-ttl", "1h")]), "`cache-ttl` is not shorter than"),
        (
            "a long grace",
            remote_with(&[("access-ttl", "1m"), ("refresh-ttl", "62s")]),
            "`refresh-ttl` is no longer than `refresh-grace`",
        ),
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
    let mut open = with("access-token-paths", json!(["/"]));
    open["public-paths"] = json!(["/auth"]);
    assert!(Place::new(&open).load(&[]).unwrap().warnings().is_empty());
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
fn a_broken_env_file_matters_only_where_a_secret_is_missed() {
    let place = Place::new(&good());
    place.write(".env", "MASTER_TOKEN=\"hush, never closed\nCRYPTOGRAPHY_KEY=hush");
    let settings = place.load(&[]).unwrap();
    let warnings = settings.warnings().concat();
    assert!(warnings.contains("line 1 opens quotes") && warnings.contains("line 2 is inside"), "{warnings}");
    place.write("fastauth.config.json", &without("cryptography-key").to_string());
    let message = place.faults(&[]);
    let expected = ".env, variable CRYPTOGRAPHY_KEY: line 2 is inside the quotes that line 1 opens; write NAME='value'";
    assert!(message.contains(expected) && !message.contains("hush") && message.contains("1 fault in"), "{message}");
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
    assert_eq!(text, "# kept\nA=1\nexport MASTER_TOKEN='with spaces & signs'\nMASTER_TOKEN_2='x'\n\nB=2");
    assert!(file.contains("MASTER_TOKEN").unwrap());
    assert!(file.set("MASTER_TOKEN", &"it's".into()).is_err());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no draft is left");
}

/// What each endpoint key is set to, by whom, and what it does.
#[tokio::test]
async fn endpoints_are_as_they_were_configured() {
    let mut config = good();
    config["allow_get"] = json!(false);
    config["response_shape"] = json!("oauth");
    config["refresh-transport"] = json!("cookie");
    let place = Place::new(&config);
    let environment = [("FASTAUTH_RESPONSE_SHAPE", "envelope"), ("FASTAUTH_ALLOW_GET", "true")];
    let shown = |builder: SettingsBuilder, key: &str| {
        let report = builder.report();
        let entry = report.entries().iter().find(|entry| entry.key == key).unwrap().clone();
        (entry.value, entry.source)
    };
    let defaults = [("allow-get", "true"), ("response-shape", "envelope"), ("refresh-transport", "body")];
    for (key, value) in defaults.into_iter().chain([("rate-limit-per-minute", "none"), ("rate-limit-burst", "10")]) {
        assert_eq!(shown(Place::new(&good()).builder(&[]), key), (value.to_owned(), Source::Default));
    }
    let file = || Source::File(place.path().join("fastauth.config.json"));
    let variable = |name: &str| Source::Environment(name.to_owned());
    assert_eq!(shown(place.builder(&[]), "allow-get"), ("false".to_owned(), file()));
    assert_eq!(shown(place.builder(&[]), "response-shape"), ("oauth".to_owned(), file()));
    let (value, source) = shown(place.builder(&environment), "response-shape");
    assert_eq!((value.as_str(), source), ("envelope", variable("FASTAUTH_RESPONSE_SHAPE")));
    let in_code = place
        .builder(&environment)
        .response_shape(ResponseShape::OAuth)
        .allow_get(false)
        .refresh_transport(RefreshTransport::Body);
    for (key, value) in [("response-shape", "oauth"), ("allow-get", "false"), ("refresh-transport", "body")] {
        assert_eq!(shown(in_code.clone(), key), (value.to_owned(), Source::Code));
    }

    let layer = FastAuthLayer::new(place.load(&[]).unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let headers = [("master-token", MASTER)];
    assert_eq!(server.send("GET", "/auth/token/new", &headers, "").await.status, 405);
    let issued = server.send("POST", "/auth/token/new", &headers, "").await;
    assert_eq!((issued.status, &issued.json()["token_type"]), (200, &json!("Bearer")));
    assert!(issued.header("set-cookie").starts_with("__Host-fastauth-refresh="));
}

#[cfg(feature = "rate-limit")]
#[tokio::test]
async fn rates_are_as_they_were_configured() {
    let mut config = with("rate-limit-per-minute", json!(1));
    config["rate_limit_burst"] = json!(3);
    let place = Place::new(&config);
    let served = async |environment: &[(&str, &str)]| {
        let server = Endpoints::of(&FastAuthLayer::new(place.load(environment).unwrap()).unwrap()).await;
        let headers = [("master-token", MASTER), ("content-type", FORM)];
        let mut served = 0;
        while server.send("POST", "/auth/token/new", &headers, "client_id=c").await.status == 200 {
            served += 1;
        }
        served
    };
    assert_eq!(served(&[]).await, 3);
    assert_eq!(served(&[("FASTAUTH_RATE_LIMIT_BURST", "5")]).await, 5);
    for (name, value, expected) in [
        ("FASTAUTH_RATE_LIMIT_PER_MINUTE", "often", "\"often\" is not a whole number; write a whole number"),
        ("FASTAUTH_RATE_LIMIT_PER_MINUTE", "0", "0 is out of range; write a whole number from 1 to 1000000"),
        ("FASTAUTH_RATE_LIMIT_BURST", "9999999999", "9999999999 is out of range"),
    ] {
        let message = place.faults(&[(name, value)]);
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
}

/// A limit that is asked for and cannot be kept ends the start.
#[cfg(not(feature = "rate-limit"))]
#[test]
fn rates_need_their_feature() {
    let message = Place::new(&with("rate-limit-per-minute", json!(60))).faults(&[]);
    let expected = "`rate-limit-per-minute`: this build has no rate limits; build with the feature `rate-limit`";
    assert!(message.contains(expected), "{message}");
}

const OLD: &str = "an-earlier-key-of-forty-characters-hush5";
const OLDER: &str = "the-key-before-that-of-forty-characters6";

/// The keys by their ids, and what they do.
fn roles(builder: SettingsBuilder) -> Vec<(String, KeyRole)> {
    let report = builder.report();
    report.keys().unwrap().list().into_iter().map(|key| (key.kid, key.role)).collect()
}

fn kid(key: &str) -> String {
    let settings = Settings::builder().cryptography_key(key).access_token_paths(["/"]).build().unwrap();
    settings.keys().list()[0].kid.clone()
}

/// In a file, in variables of either kind and in `.env`, the same keys are the same ring.
#[test]
fn previous_keys_can_stand_in_every_source() {
    let soon = SystemTime::now() + Duration::from_secs(600);
    let soon = UNIX_EPOCH + Duration::from_secs(soon.duration_since(UNIX_EPOCH).unwrap().as_secs());
    let (list, time) = (format!("{OLD}, {OLDER}"), humantime_of(soon));
    let expected = [(kid(KEY), KeyRole::SignsFrom(soon)), (kid(OLD), KeyRole::Signs), (kid(OLDER), KeyRole::Verifies)];
    let mut config = with("previous-cryptography-keys", json!([OLD, OLDER]));
    config["cryptography-key-signs-from"] = json!(time);
    assert_eq!(roles(Place::new(&config).builder(&[])), expected);
    let bare = Place::new(&without("cryptography-key"));
    let variables = [
        ("CRYPTOGRAPHY_KEY", KEY),
        ("PREVIOUS_CRYPTOGRAPHY_KEYS", list.as_str()),
        ("CRYPTOGRAPHY_KEY_SIGNS_FROM", time.as_str()),
    ];
    assert_eq!(roles(bare.builder(&variables)), expected);
    let prefixed = variables.map(|(name, value)| (format!("FASTAUTH_{name}"), value));
    assert_eq!(roles(bare.builder(&prefixed.each_ref().map(|(name, value)| (name.as_str(), *value)))), expected);
    bare.write(".env", &variables.map(|(name, value)| format!("{name}='{value}'\n")).concat());
    assert_eq!(roles(bare.builder(&[])), expected);
    // A source goes before another as a whole: lists are not mixed. An empty one takes the earlier keys away.
    assert_eq!(roles(bare.builder(&[("PREVIOUS_CRYPTOGRAPHY_KEYS", OLDER)]))[1].0, kid(OLDER));
    let none =
        bare.builder(&[("PREVIOUS_CRYPTOGRAPHY_KEYS", ""), ("CRYPTOGRAPHY_KEY_SIGNS_FROM", "2020-01-01T00:00:00Z")]);
    assert_eq!(roles(none), [(kid(KEY), KeyRole::Signs)]);
}

fn humantime_of(time: SystemTime) -> String {
    // Through the crate: what it writes it has to read.
    let report = Settings::builder().cryptography_key_signs_from(time).report();
    report.entries().iter().find(|entry| entry.key == "cryptography-key-signs-from").unwrap().value.clone()
}

#[test]
fn key_that_waits_needs_one_that_signs() {
    let far = json!("2999-01-01T00:00:00Z");
    let mut waiting = with("previous-cryptography-keys", json!([OLD]));
    waiting["cryptography-key-signs-from"] = far.clone();
    Place::new(&waiting).load(&[]).unwrap();
    let message = Place::new(&with("cryptography-key-signs-from", far)).faults(&[]);
    assert!(message.contains("no key signs until then; add the earlier key"), "{message}");
    let message = Place::new(&with("previous-cryptography-keys", json!([OLD, "hush"]))).faults(&[]);
    assert!(message.contains("one has 4 bytes, and HS256") && !message.contains("hush"), "{message}");
}

#[test]
fn warnings_of_keys_and_tokens() {
    let published = "kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4=";
    let table = [
        ("twice", with("previous-cryptography-keys", json!([OLD, OLD])), "a key appears twice"),
        ("still", with("previous-cryptography-keys", json!([KEY])), "a key appears twice"),
        ("published", with("previous-cryptography-keys", json!([published])), "with which anyone can sign"),
        ("same", with("master-tokens", json!({ "ops": MASTER })), "\"master-token\" and \"ops\" are the same text"),
        ("short", with("master-tokens", json!({ "ops": "hush" })), "`master-tokens.ops` has only 4 characters"),
        ("key", with("master-tokens", json!({ "ops": KEY })), "`ops` and a cryptography key are the same text"),
    ];
    for (name, config, expected) in table {
        let settings = Place::new(&config).load(&[]).unwrap();
        let found = settings.warnings().iter().any(|warning| warning.contains(expected));
        assert!(found, "{name}: {:?}", settings.warnings());
        assert!(!settings.warnings().concat().contains("hush"), "{name}");
    }
}

#[test]
fn master_tokens_need_no_master_token_beside_them() {
    let mut config = without("master-token");
    config["master-tokens"] = json!({ "ops": "the-ops-token-hush-07" });
    let place = Place::new(&config);
    assert!(place.load(&[]).unwrap().warnings().is_empty());
    let report = place.builder(&[]).report();
    let shown = report.entries().iter().find(|entry| entry.key == "master-tokens").unwrap();
    assert_eq!(shown.value, "ops");
}

#[test]
fn nothing_shows_a_key_or_a_named_token() {
    let mut config = with("previous-cryptography-keys", json!([OLD]));
    config["master-tokens"] = json!({ "ops": "the-ops-token-hush-07" });
    let place = Place::new(&config);
    let report = place.builder(&[]).report();
    let keys = report.keys().unwrap();
    let changes = (keys.rotate(None).unwrap(), keys.retire(&kid(OLD)).unwrap());
    let settings = changes.0.settings();
    let mut shown = format!("{report:?} {keys:?} {changes:?} {settings:?}");
    shown += &format!("{:?} {:?}", place.load(&[]).unwrap(), keys.retire(&kid(KEY)).unwrap_err());
    assert!(shown.contains(&kid(OLD)) && !shown.contains("hush"), "{shown}");
}

/// The file stays as it is around the keys, and says the same as what was planned.
#[test]
fn keys_are_changed_within_the_file() {
    let text = format!(
        "{{\n  \"app-name\": \"demo\",\n  \"cryptography_key\": \"{KEY}\",\n\n  \"access-token-paths\": [\"/access\"]\n}}\n"
    );
    let place = Place::with_text(&text);
    let soon = SystemTime::now() + Duration::from_secs(600);
    let keys = |place: &Place| place.builder(&[]).report().keys().unwrap().clone();
    let change = keys(&place).rotate(Some(soon)).unwrap();
    change.write().unwrap();
    let rotated = fs::read_to_string(place.path().join("fastauth.config.json")).unwrap();
    assert!(rotated.starts_with("{\n  \"app-name\": \"demo\",\n  \"cryptography_key\": \""), "{rotated}");
    assert!(rotated.contains(&format!("\",\n  \"previous-cryptography-keys\": [\"{KEY}\"],\n  \"crypto")), "{rotated}");
    assert!(rotated.ends_with("\",\n\n  \"access-token-paths\": [\"/access\"]\n}\n"), "{rotated}");
    let now = roles(place.builder(&[]));
    assert_eq!(now[0].0, change.kid());
    assert!(matches!(now[0].1, KeyRole::SignsFrom(_)) && now[1] == (kid(KEY), KeyRole::Signs), "{now:?}");

    let waiting = keys(&place);
    assert!(matches!(waiting.rotate(Some(soon)), Err(KeyChangeError::Pending { .. })));
    assert!(matches!(waiting.retire(&kid(KEY)), Err(KeyChangeError::InUse(_))), "it signs");
    assert!(matches!(waiting.retire(change.kid()), Err(KeyChangeError::InUse(_))), "it is to sign");
    assert!(matches!(waiting.retire("nobody"), Err(KeyChangeError::Unknown(_))));
    let urgent = waiting.rotate(None).unwrap();
    urgent.write().unwrap();
    assert!(matches!(change.write(), Err(KeyChangeError::Changed(_))), "it was planned on another file");
    assert_eq!(roles(place.builder(&[]))[0], (urgent.kid().to_owned(), KeyRole::Signs));
    for gone in [kid(KEY), change.kid().to_owned()] {
        keys(&place).retire(&gone).unwrap().write().unwrap();
    }
    let retired = fs::read_to_string(place.path().join("fastauth.config.json")).unwrap();
    let lines = |text: &str| {
        text.lines().filter(|line| !line.contains("cryptography_key")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&retired).concat(), lines(&text).concat());
    assert_eq!(roles(place.builder(&[])), [(urgent.kid().to_owned(), KeyRole::Signs)]);
}

#[test]
fn keys_are_changed_within_the_env_file() {
    let place = Place::new(&without("cryptography-key"));
    place.write(".env", &format!("# kept\nCRYPTOGRAPHY_KEY={KEY}\nOTHER=1\nPREVIOUS_CRYPTOGRAPHY_KEYS={OLD}\n"));
    let soon = SystemTime::now() + Duration::from_secs(600);
    let keys = |place: &Place| place.builder(&[]).report().keys().unwrap().clone();
    keys(&place).rotate(Some(soon)).unwrap().write().unwrap();
    let text = fs::read_to_string(place.path().join(".env")).unwrap();
    assert!(text.starts_with("# kept\nCRYPTOGRAPHY_KEY=") && text.contains("\nOTHER=1\n"), "{text}");
    assert!(
        text.contains(&format!("\nPREVIOUS_CRYPTOGRAPHY_KEYS={KEY},{OLD}\nCRYPTOGRAPHY_KEY_SIGNS_FROM=20")),
        "{text}"
    );
    keys(&place).rotate(None).unwrap().write().unwrap();
    assert!(!fs::read_to_string(place.path().join(".env")).unwrap().contains("SIGNS_FROM"));
    let kids: Vec<_> = roles(place.builder(&[])).into_iter().map(|(kid, _)| kid).collect();
    assert_eq!(kids[2..], [kid(KEY), kid(OLD)]);
    for gone in &kids[1..] {
        keys(&place).retire(gone).unwrap().write().unwrap();
    }
    let text = fs::read_to_string(place.path().join(".env")).unwrap();
    assert!(text.lines().count() == 3 && !text.contains("PREVIOUS"), "{text}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no draft is left");
}

#[test]
fn keys_in_several_places_or_out_of_reach_are_left_alone() {
    let place = Place::new(&with("previous-cryptography-keys", json!([OLD])));
    let keys = |environment: &[(&str, &str)]| place.builder(environment).report().keys().unwrap().clone();
    let error = keys(&[("FASTAUTH_CRYPTOGRAPHY_KEY", OLDER)]).rotate(None).unwrap_err().to_string();
    assert!(error.contains("move them to one place") && error.contains("FASTAUTH_CRYPTOGRAPHY_KEY"), "{error}");
    let all = [("FASTAUTH_CRYPTOGRAPHY_KEY", OLDER), ("PREVIOUS_CRYPTOGRAPHY_KEYS", OLD)];
    let place = Place::new(&without("cryptography-key"));
    let change = place.builder(&all).report().keys().unwrap().rotate(None).unwrap();
    assert!(matches!(change.write(), Err(KeyChangeError::Unwritable(_))));
    let settings = change.settings();
    let names: Vec<_> = settings.iter().map(|setting| setting.name.as_str()).collect();
    assert_eq!(
        names,
        ["FASTAUTH_CRYPTOGRAPHY_KEY", "PREVIOUS_CRYPTOGRAPHY_KEYS", "FASTAUTH_CRYPTOGRAPHY_KEY_SIGNS_FROM"]
    );
    assert_eq!(settings[1].value, Some(format!("{OLDER},{OLD}").as_str().into()));
    let comma = "a key, with a comma, of more than 32 bytes";
    let error = place.builder(&[("CRYPTOGRAPHY_KEY", comma)]).report().keys().unwrap().rotate(None).unwrap_err();
    assert!(matches!(error, KeyChangeError::Unlistable), "{error}");
}

/// Who changes the keys may be another user than the application, which must be able to read them still.
#[cfg(unix)]
#[test]
fn the_file_keeps_its_mode_and_its_owner() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    for (mode, expected) in [(0o600, 0o600), (0o640, 0o640), (0o400, 0o400)] {
        let place = Place::new(&good());
        let path = place.path().join("fastauth.config.json");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        // Only the superuser can give a file away, and so only there something can be lost.
        let _ = chown(&path, Some(12_345), Some(12_346));
        let before = fs::metadata(&path).unwrap();
        place.builder(&[]).report().keys().unwrap().rotate(None).unwrap().write().unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.permissions().mode() & 0o777, expected);
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino(), "it was replaced in one step");
    }
}

/// Nothing that a deployment can set, whatever the build, turns the guard off or moves its clock. There is `shadow`, which warns
/// and says what it does.
#[tokio::test]
async fn no_file_and_no_variable_turns_the_guard_off_or_sets_the_clock() {
    const WORDS: [&str; 10] =
        ["clock", "now", "time", "test", "test-util", "test-mode", "manual-clock", "disabled", "enabled", "insecure"];
    const TIMES: [&str; 4] = ["2001-09-09T01:46:40Z", "1000000000", "true", "0"];
    let config = json!({ "access-token-paths": ["/access"], "cryptography-key": KEY, "master-token": MASTER });
    for word in WORDS {
        for time in TIMES {
            let mut config = config.clone();
            config[word] = json!(time);
            assert!(Place::new(&config).faults(&[]).contains("is not a known key"), "{word}");
        }
    }

    let place = Place::new(&config);
    let names = WORDS.map(|word| word.replace('-', "_").to_ascii_uppercase());
    let names = names.iter().flat_map(|name| [format!("FASTAUTH_{name}"), name.clone()]);
    let names: Vec<_> = names.chain(["SOURCE_DATE_EPOCH", "FAKETIME"].map(str::to_owned)).collect();
    let unix_now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for time in TIMES {
        let environment: Vec<_> = names.iter().map(|name| (name.as_str(), time)).collect();
        let before = unix_now();
        let builder = place.builder(&environment).store(fastauth::store::MemoryStore::new());
        let layer = FastAuthLayer::new(builder.access_ttl(Duration::from_secs(60)).load().unwrap()).unwrap();
        let issued = layer.issuer().issue("c").await.unwrap();
        let token = issued.tokens.access_token.expose();
        let claims = layer.issuer().verify(token, TokenType::Access).unwrap();
        // Tokens go by the kernel's last tick, which may have been in the second before.
        assert!((before + 59..=unix_now() + 60).contains(&claims.expires_at()), "{time}");
        let server = Endpoints::of(&layer).await;
        assert!(server.opens(token).await);
        assert_eq!(server.send("GET", "/access/health", &[], "").await.status, 401, "{time}");
    }

    let report = place.builder(&[]).report();
    for entry in report.entries() {
        let is_suspect = |word: &str| entry.key.split('-').any(|part| part == word);
        assert!(!WORDS.into_iter().any(is_suspect), "{}: what does it do?", entry.key);
    }
}
