//! What the sources say: for `fastauth check` and the like.

use std::path::{Path, PathBuf};

use fastauth_core::policy::{Explanation, Rules, ServiceTest};
use serde_json::Value;

use crate::{
    code_parts::CodeParts,
    configured_keys::ConfiguredKeys,
    draft::Draft,
    fault::{self, ConfigError, Fault, Source},
    fingerprint::Fingerprint,
    given::Given,
    key::{Key, ValueKind},
    keys::{self, paths, secrets, store},
    rules,
    settings::Settings,
    values::Values,
};

/// Every value and its source, and every fault.
#[derive(Clone, Debug)]
pub struct Report {
    entries: Vec<ReportEntry>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    notes: Vec<String>,
    pub(crate) settings: Option<Settings>,
    keys: Option<ConfiguredKeys>,
    rules: Rules,
    service_test: ServiceTest,
    env_file: PathBuf,
    files: Fingerprint,
    directory: PathBuf,
}

/// One key, its value, and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportEntry {
    /// The key.
    pub key: &'static str,
    /// The value for people to read. Secrets are only said to be set.
    pub value: String,
    /// The value as the configuration file takes it, times as texts such as `15m`; null if it is not set. Of a secret it is `"set"`,
    /// of several secrets their number, and of those with names the names.
    pub json: Value,
    /// Where it comes from.
    pub source: Source,
}

impl Report {
    pub(crate) fn new(values: Values, parts: &CodeParts) -> Self {
        let finished = Draft::new(&values, parts).finish();
        let entries = keys::all()
            .filter(|key| !matches!(key.kind, ValueKind::Ignored))
            .map(|key| ReportEntry {
                key: key.name,
                value: shown(key, &values, parts, &finished.faults),
                json: in_json(key, &values, parts, &finished.faults),
                source: values.source(key.name),
            })
            .collect();
        Self {
            entries,
            faults: finished.faults,
            warnings: finished.warnings,
            notes: finished.notes,
            settings: finished.settings,
            keys: finished.keys,
            rules: finished.rules,
            service_test: finished.service_test,
            env_file: values.env_file,
            files: values.files,
            directory: values.directory,
        }
    }

    /// Returns every key in a fixed order.
    #[must_use]
    pub fn entries(&self) -> &[ReportEntry] {
        &self.entries
    }

    /// Returns what keeps the application from starting.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Returns the faults as people are told of them: the first ones, and the number of the others.
    #[doc(hidden)]
    pub fn told_faults(&self) -> impl Iterator<Item = String> {
        fault::told(&self.faults)
    }

    /// Returns what an operator should know, though it is no fault.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the `.env` file that is read: beside the configuration file, or else in the working directory. It may not exist yet.
    #[must_use]
    pub fn env_file(&self) -> &Path {
        &self.env_file
    }

    /// Returns what the files held that were read.
    #[doc(hidden)]
    #[must_use]
    pub fn files(&self) -> &Fingerprint {
        &self.files
    }

    /// Returns each rule on one line: what it is for, and what it asks. There are none if one has a fault.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        self.rules.ids().filter_map(|id| self.rules.rule(id)).map(rules::line).collect()
    }

    /// Returns the directory of the configuration file, where relative paths begin. It may be empty, which is the working directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns how the lists of paths work together: each guard below an exemption, and each exemption below a guard.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Explains which tokens a request for `target`, as it would stand in a request line, requires and why: by the same code that
    /// the guard runs.
    ///
    /// # Errors
    ///
    /// The faults that concern paths. Others, such as a secret that is missing, do not matter here. Issuing has a guard of
    /// its own, which is not explained.
    pub fn explain(&self, method: &http::Method, target: &str) -> Result<Explanation, ConfigError> {
        Ok(self.compiled_rules()?.explain(method, target))
    }

    /// Returns the lists and rules, compiled.
    ///
    /// # Errors
    ///
    /// The faults that concern paths. Others do not matter here.
    #[doc(hidden)]
    pub fn compiled_rules(&self) -> Result<&Rules, ConfigError> {
        let keys: Vec<_> = [&paths::GROUP, &keys::rules::GROUP].iter().flat_map(|group| group.keys).copied().collect();
        let faults = self.faults_of(&keys);
        if !faults.is_empty() {
            return Err(ConfigError::new(faults));
        }
        Ok(&self.rules)
    }

    /// Returns the test that tells services from users: `service-claim`.
    #[doc(hidden)]
    #[must_use]
    pub fn service_test(&self) -> &ServiceTest {
        &self.service_test
    }

    /// Returns the keys: which one signs, which ones verify, and how to change them.
    ///
    /// # Errors
    ///
    /// The faults that concern keys, and those of a whole source. Others do not matter here.
    pub fn keys(&self) -> Result<&ConfiguredKeys, ConfigError> {
        let faults = self.faults_of(&[
            &secrets::CRYPTOGRAPHY_KEY,
            &secrets::CRYPTOGRAPHY_KEY_SIGNS_FROM,
            &secrets::PREVIOUS_CRYPTOGRAPHY_KEYS,
        ]);
        match &self.keys {
            Some(keys) if faults.is_empty() => Ok(keys),
            _ => Err(ConfigError::new(if faults.is_empty() { self.faults.clone() } else { faults })),
        }
    }

    /// Returns the settings.
    ///
    /// # Errors
    ///
    /// Every fault at once.
    pub fn into_settings(self) -> Result<Settings, ConfigError> {
        self.settings.ok_or(ConfigError::new(self.faults))
    }

    /// Returns the faults of these keys, and those of a whole source.
    fn faults_of(&self, keys: &[&Key]) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        faults.retain(|fault| fault.key().is_none_or(|name| keys.iter().any(|key| key.name == name)));
        faults
    }
}

/// Returns the value of a key for people to read.
fn shown(key: &'static Key, values: &Values, parts: &CodeParts, faults: &[Fault]) -> String {
    if let Some(instead) = shown_instead(key, parts, faults) {
        return instead.to_owned();
    }
    let Some(given) = values.given(key.name) else {
        return key.default_text();
    };
    let shown = match &key.kind {
        ValueKind::Time { .. } => given.shown_time(),
        _ => given.shown(),
    };
    shown.unwrap_or_else(|| key.unset.to_owned())
}

/// Returns the value of a key for programs.
fn in_json(key: &'static Key, values: &Values, parts: &CodeParts, faults: &[Fault]) -> Value {
    if shown_instead(key, parts, faults).is_some() {
        return Value::Null;
    }
    match (values.given(key.name), &key.kind) {
        (None, _) => key.default_json(),
        (Some(given), ValueKind::Time { .. }) => given.shown_time().map_or(Value::Null, Value::from),
        (Some(Given::Rules(rules)), _) => rules.iter().map(rules::as_object).collect(),
        (Some(given), _) => given.in_json(),
    }
}

/// Returns what stands in place of a value that is not used, or must not be shown.
fn shown_instead(key: &'static Key, parts: &CodeParts, faults: &[Fault]) -> Option<&'static str> {
    if *key == store::DATABASE_API_URL && parts.store.is_some() {
        return Some("the application's own store");
    }
    let is_refused = key.is_concealed && faults.iter().any(|fault| fault.key() == Some(key.name));
    is_refused.then_some("not usable")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{SettingsBuilder, settings::Settings, testing::report};

    #[test]
    fn missing_file_is_told_with_the_directory_that_was_looked_in() {
        for (named, expected) in [
            (Some("nowhere/x.json"), "nowhere/x.json: the file does not exist in "),
            (None, "fastauth.config.json: the file does not exist in "),
        ] {
            let builder = Settings::builder().environment::<String, String>([]);
            let builder = named.into_iter().fold(builder, SettingsBuilder::config_file);
            let error = builder.load().unwrap_err().to_string();
            let mut directory = std::env::current_dir().unwrap();
            directory.extend(named.map(|_| "nowhere"));
            assert!(error.contains(&format!("{expected}{};", directory.display())), "{error}");
        }
    }

    /// A full disk is no fault in the configuration.
    #[test]
    fn fault_of_the_store_is_not_said_to_be_in_the_configuration() {
        let settings = report(&[]).into_settings().unwrap();
        let error = settings.store_fault("the disk is full".to_owned(), "make room");
        let text = error.to_string();
        assert!(
            text.starts_with("FastAuth cannot start:\n  - ") && text.ends_with("the disk is full; make room"),
            "{text}"
        );
        let text = error.of_reload().to_string();
        assert!(text.starts_with("FastAuth did not reload:\n  - "), "{text}");
    }

    /// Values of the wrong type, values that are not usable, and what does not fit together.
    #[test]
    fn all_faults_are_told_in_one_round() {
        let report = report(&[
            ("access-ttl", json!(5)),
            ("shadow", json!("yes")),
            ("issuer", json!("")),
            ("access-token-paths", json!([1])),
            ("rules", json!([{ "path": "x", "level": 1 }, { "path": "/p", "level": "access", "principal": "user" }])),
        ]);
        let faults: Vec<_> = report.faults().iter().map(|fault| fault.place().or(fault.key()).unwrap()).collect();
        let expected = [
            "access-token-paths",
            "access-ttl",
            "issuer",
            "rules[0].level",
            "rules[0].path",
            "rules[1].principal",
            "shadow",
        ];
        let mut sorted = faults.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{faults:?}");
    }

    #[test]
    fn value_in_json_has_its_type_and_no_secret() {
        let report = report(&[
            ("access-ttl", json!("90s")),
            ("allow-get", json!(false)),
            ("cache-capacity", json!(5)),
            ("public-paths", json!(["/access/open"])),
            ("headers", json!({ "X-Key": "hush-hush-hush" })),
            ("previous-cryptography-keys", json!(["another-key-of-forty-characters-hush-0123"])),
            ("cryptography-key-signs-from", json!("2020-01-01T00:00:00Z")),
        ]);
        for (key, expected) in [
            ("access-ttl", json!("1m 30s")),
            ("refresh-ttl", json!("365d")),
            ("allow-get", json!(false)),
            ("shadow", json!(false)),
            ("cache-capacity", json!(5)),
            ("max-tokens-per-client", json!(100)),
            ("rate-limit-per-minute", json!(null)),
            ("public-paths", json!(["/access/open"])),
            ("credential-sources", json!(["ACCESS-TOKEN", "Authorization"])),
            ("allowed-origins", json!(null)),
            ("cache", json!("on")),
            ("issuer", json!(null)),
            ("master-token", json!("set")),
            ("master-tokens", json!(null)),
            ("headers", json!(["X-Key"])),
            ("previous-cryptography-keys", json!(1)),
            ("cryptography-key-signs-from", json!("2020-01-01T00:00:00Z")),
            ("database-api-url", json!(null)),
        ] {
            let entry = report.entries().iter().find(|entry| entry.key == key).unwrap();
            assert_eq!(entry.json, expected, "{key}");
            assert!(!entry.json.to_string().contains("hush"), "{key}");
        }
    }
}
