//! Configurations for the tests of keys.

use fastauth_core::{secret::Secret, store::MemoryStore};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{report::Report, settings::Settings};

/// The value of no secret in these tests may be shown: each has this word in it.
const HUSH: &str = "hush";

/// Returns the report on a configuration file without a fault, but for what is set here.
pub(crate) fn report(members: &[(&str, Value)]) -> Report {
    let mut config = json!({
        "master-token": "a-master-token-hush-02",
        "cryptography-key": "a-key-of-forty-characters-in-all-hush-01",
        "master-token-paths": ["/master"],
        "access-token-paths": ["/access"],
    });
    for (key, value) in members {
        config[*key] = value.clone();
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("fastauth.config.json");
    crate::file::replace(&path, &Secret::from(config.to_string()), crate::file::Mode::Private).unwrap();
    let builder = Settings::builder().directory(directory.path()).environment::<String, String>([]);
    // Builds without a store of their own are tested, too.
    let names_store = members.iter().any(|(key, _)| *key == "database-api-url");
    if names_store { builder.report() } else { builder.store(MemoryStore::new()).report() }
}

/// Checks the one fault that each of these values is.
pub(crate) fn check_faults(table: &[(&str, Value, &str)]) {
    for (key, value, expected) in table {
        let report = report(&[(key, value.clone())]);
        let [fault] = report.faults() else { panic!("{key} {value}: {:?}", report.faults()) };
        let text = fault.to_string();
        assert!(text.contains(expected), "{key} {value}: {text}");
        assert!(fault.key() == Some(*key) && !text.contains(HUSH), "{key} {value}: {text}");
    }
}

/// Returns what the report shows as the value of a key.
pub(crate) fn shown(report: &Report, key: &str) -> String {
    report.entries().iter().find(|entry| entry.key == key).unwrap().value.clone()
}
