//! Secrets in files that a key of the configuration names.

use std::{fs, time::Duration};

use fastauth::{
    FastAuthLayer, Introspection, Secret, Settings, SettingsBuilder,
    config::{KeyRole, Source},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "a-key-of-forty-characters-in-all-for-tests";
const MASTER: &str = "a-master-token-for-tests";

/// Writes a configuration beside a file with each secret, and returns what reads it.
fn place(config: &Value, variables: &[(&str, &str)]) -> (TempDir, SettingsBuilder) {
    let place = TempDir::new().unwrap();
    let directory = place.path().join("etc");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("key"), format!("{KEY}\n")).unwrap();
    fs::write(directory.join("master"), format!("{MASTER}\r\n")).unwrap();
    fs::write(directory.join("fastauth.config.json"), config.to_string()).unwrap();
    let builder = Settings::builder().config_file("etc/fastauth.config.json").directory(place.path());
    let builder = builder.environment(variables.iter().copied()).database_api_url("sqlite:tokens.db");
    (place, builder)
}

fn in_files(more: &Value) -> Value {
    let mut config = json!({ "access-token-paths": [], "cryptography-key-file": "key", "master_token_file": "master" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn faults(builder: SettingsBuilder) -> String {
    let message = builder.load().unwrap_err().to_string();
    assert!(!message.contains(KEY) && !message.contains(MASTER), "{message}");
    message
}

#[test]
fn paths_start_at_the_configuration_and_a_line_break_does_not_count() {
    let (place, builder) = place(&in_files(&json!({})), &[]);
    let report = builder.clone().report();
    let source = |key: &str| report.entries().iter().find(|entry| entry.key == key).unwrap().source.clone();
    let file = |name: &str| place.path().join("etc").join(name);
    assert_eq!(source("cryptography-key"), Source::SecretFile(file("key"), "cryptography-key-file".to_owned()));
    assert_eq!(source("master-token"), Source::SecretFile(file("master"), "master_token_file".to_owned()));
    let entry = report.entries().iter().find(|entry| entry.key == "cryptography-key-file").unwrap();
    assert_eq!((entry.value.as_str(), &entry.source), ("key", &Source::File(file("fastauth.config.json"))));
    let kid = |settings: Settings| settings.keys().list()[0].kid.clone();
    let of_code = Settings::builder().cryptography_key(KEY).database_api_url("sqlite:tokens.db").build().unwrap();
    assert_eq!(kid(builder.load().unwrap()), kid(of_code));
}

#[test]
fn sources_above_the_configuration_count_before_it() {
    let other = Secret::generate();
    let (_place, builder) = place(&in_files(&json!({})), &[("FASTAUTH_CRYPTOGRAPHY_KEY", other.expose())]);
    assert_eq!(
        *builder.clone().load().unwrap().keys().source(),
        Source::Environment("FASTAUTH_CRYPTOGRAPHY_KEY".to_owned())
    );
    let settings = builder.cryptography_key_file("etc/key").load().unwrap();
    assert!(
        matches!(settings.keys().source(), Source::SecretFile(path, _) if path.ends_with("etc/key")),
        "{settings:?}"
    );
}

#[test]
fn the_secret_and_its_file_exclude_each_other() {
    for (more, variables, expected) in [
        (json!({ "cryptography-key": KEY }), &[][..], "`cryptography-key`: "),
        (json!({ "master-token": MASTER }), &[], "`master-token`: "),
        (
            json!({}),
            &[("FASTAUTH_MASTER_TOKEN", MASTER), ("FASTAUTH_MASTER_TOKEN_FILE", "etc/master")],
            "variable FASTAUTH_MASTER_TOKEN_FILE: ",
        ),
    ] {
        let (_place, builder) = place(&in_files(&more), variables);
        let message = faults(builder);
        let fault = message.lines().find(|line| line.contains("is set, too; unset one of them"));
        assert!(fault.is_some_and(|fault| fault.contains(expected)), "{message}");
    }
    let (_place, builder) = place(&json!({ "access-token-paths": [] }), &[]);
    let message = faults(builder.cryptography_key(KEY).cryptography_key_file("etc/key"));
    assert!(message.contains("code, `cryptography-key-file`: cryptography-key is set, too"), "{message}");
}

#[test]
fn what_is_in_the_file_is_checked_as_any_secret() {
    for (path, text, expected) in [
        ("nowhere", "", "`cryptography-key`: the file "),
        ("other", "", "named by cryptography-key-file: it is empty"),
        ("other", "\n", "it is empty"),
        ("other", "short", "it has 5 bytes"),
        ("other", "${CRYPTOGRAPHY_KEY_OF_THE_DEPLOYMENT}", "it is a placeholder"),
        ("other", &format!("{KEY}\n\n"), "has a line break"),
        (".", "", "it is a directory"),
    ] {
        let (place, builder) = place(&in_files(&json!({ "cryptography-key-file": path })), &[]);
        fs::write(place.path().join("etc/other"), text).unwrap();
        let message = faults(builder);
        assert!(message.contains(expected), "{path} {text:?}: {message}");
    }
    let (_place, builder) = place(&in_files(&json!({ "cryptography-key-file": 1 })), &[]);
    let message = faults(builder);
    assert!(message.contains("`cryptography-key-file`: found a number; write the path of a file"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_file_that_every_user_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let (place, builder) = place(&in_files(&json!({})), &[]);
    let mode = |mode| fs::set_permissions(place.path().join("etc/key"), fs::Permissions::from_mode(mode)).unwrap();
    let warns = || builder.clone().report().warnings().iter().any(|warning| warning.contains("etc/key: every user"));
    mode(0o644);
    assert!(warns());
    mode(0o600);
    assert!(!warns());
}

/// The file is not written: what is printed goes into it, and the rest into the configuration.
#[test]
fn rotating_says_what_goes_where() {
    let (place, builder) = place(&in_files(&json!({})), &[]);
    let from = std::time::SystemTime::now() + Duration::from_secs(600);
    let change = builder.clone().report().keys().unwrap().rotate(Some(from)).unwrap();
    assert!(change.write().is_err());
    let settings = change.settings();
    let names: Vec<_> =
        settings.iter().map(|setting| (setting.name.as_str(), setting.is_in_file, setting.is_member)).collect();
    let expected = [
        ("cryptography-key-file", true, false),
        ("previous-cryptography-keys", false, true),
        ("cryptography-key-signs-from", false, true),
    ];
    assert_eq!(names, expected);
    let value = |number: usize| settings[number].value.as_ref().unwrap().expose();
    let mut config = in_files(&json!({}));
    for number in [1, 2] {
        config[settings[number].name.as_str()] = serde_json::from_str(value(number)).unwrap();
    }
    fs::write(place.path().join("etc/key"), value(0)).unwrap();
    fs::write(place.path().join("etc/fastauth.config.json"), config.to_string()).unwrap();
    let keys = builder.load().unwrap().keys().list();
    assert!(matches!(keys[0].role, KeyRole::SignsFrom(_)) && keys[0].kid == change.kid(), "{keys:?}");
    assert_eq!(keys[1].role, KeyRole::Signs);
}

/// A node that has started since knows nothing of the key that was replaced.
#[tokio::test]
async fn while_a_new_key_waits_the_previous_one_signs_and_none_that_was_replaced() {
    const SECOND: &str = "the-second-key-of-forty-characters-in-all";
    let (place, builder) = place(&in_files(&json!({})), &[]);
    let write = |name: &str, text: &str| fs::write(place.path().join("etc").join(name), text).unwrap();
    let database = format!("sqlite:{}", place.path().join("shared.db").display());
    let layer = FastAuthLayer::new(builder.database_api_url(&database).load().unwrap()).unwrap();
    write("key", SECOND);
    layer.reload().unwrap();
    write("key", "the-third-key-of-forty-characters-in-all-");
    let waits =
        json!({ "previous-cryptography-keys": [SECOND], "cryptography-key-signs-from": "2999-01-01T00:00:00Z" });
    write("fastauth.config.json", &in_files(&waits).to_string());
    layer.reload().unwrap();
    let token = layer.issuer().issue("alice").await.unwrap().tokens.access_token;
    let settings = Settings::builder().cryptography_key(SECOND).master_token(MASTER).database_api_url(database);
    let other = FastAuthLayer::new(settings.access_token_paths(["/"]).build().unwrap()).unwrap();
    let told = other.issuer().introspect(token.expose()).await.unwrap();
    assert!(matches!(told, Introspection::Active { .. }), "{told:?}");
}

/// A reload that shortens `refresh-ttl` does not shorten the life of tokens that were issued before.
#[cfg(feature = "test-util")]
#[tokio::test]
async fn replaced_key_verifies_as_long_as_any_token_of_it_can_live() {
    use fastauth::{store::MemoryStore, test_util::ManualClock};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (place, builder) = place(&in_files(&json!({ "refresh-ttl": "30d" })), &[]);
    let write = |name: &str, text: &str| fs::write(place.path().join("etc").join(name), text).unwrap();
    let clock = ManualClock::new();
    let layer = FastAuthLayer::new(builder.clock(&clock).store(MemoryStore::new()).load().unwrap()).unwrap();
    let first = layer.issuer().issue("alice").await.unwrap().tokens;
    write("fastauth.config.json", &in_files(&json!({ "refresh-ttl": "1h", "access-ttl": "1h" })).to_string());
    layer.reload().unwrap();
    write("key", "the-second-key-of-forty-characters-in-all");
    layer.reload().unwrap();
    clock.advance(DAY * 29);
    layer.reload().unwrap();
    let refreshed = layer.issuer().refresh(first.refresh_token.expose()).await;
    assert!(refreshed.is_ok(), "{refreshed:?}");
    clock.advance(DAY * 2);
    layer.reload().unwrap();
    let late = layer.issuer().introspect(first.refresh_token.expose()).await.unwrap();
    assert!(matches!(late, Introspection::Inactive), "{late:?}");
}
