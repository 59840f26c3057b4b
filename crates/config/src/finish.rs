//! From the values of the keys to settings: what is wrong with them is gathered, not thrown.

use std::time::Duration;

use fastauth_core::{
    policy::{Rules, ServiceTest},
    settings::{Deployment, StoreSettings},
};

use crate::{
    configured_keys::ConfiguredKeys,
    digests::Digests,
    draft::Draft,
    fault::{Fault, Source},
    fingerprint::Fingerprint,
    given::Given,
    key::{self, Choice, Feature, Key, TimeLimits, ValueKind},
    keys::{self, application, cache, endpoints, secrets, store},
    settings::Settings,
    time,
};

/// What is left of a draft.
pub(crate) struct Finished {
    pub(crate) rules: Rules,
    pub(crate) service_test: ServiceTest,
    pub(crate) keys: Option<ConfiguredKeys>,
    /// Settings, unless there is a fault.
    pub(crate) settings: Option<Settings>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Draft<'_> {
    /// Reads every key, and then what several of them make together.
    pub(crate) fn finish(mut self) -> Finished {
        keys::all().for_each(|key| self.read(key));
        let rules = self.build_rules();
        let keys = secrets::complete_keys(&mut self);
        secrets::complete_master_tokens(&mut self);
        endpoints::complete(&mut self);
        secrets::check_format(&mut self);
        let store = store::complete(&mut self);
        self.compare_times(store.as_ref());
        #[cfg(feature = "test-util")]
        if self.parts.clock.is_manual() {
            self.warn("the clock is one that a test sets: it does not go by itself, and no token ends");
        }
        self.check_env_file();
        let faults = std::mem::take(&mut self.faults);
        let warnings = self.warnings.clone();
        let notes = std::mem::take(&mut self.notes);
        let service_test = self.rules.service_test.clone();
        let settings = match (&keys, store) {
            (Some(keys), Some(store)) if faults.is_empty() => {
                Some(self.into_settings(keys.clone(), rules.clone(), store))
            }
            _ => None,
        };
        Finished { rules, service_test, keys, settings, faults, warnings, notes }
    }

    fn into_settings(self, keys: ConfiguredKeys, rules: Rules, store: StoreSettings) -> Settings {
        let store_source = self.source(&store::DATABASE_API_URL);
        let headers_source = self.source(&store::HEADERS);
        let reload_source = self.source(&application::RELOAD);
        let cache_mode_source = self.source(&cache::CACHE_MODE);
        let deployment = Deployment {
            app_name: self.app_name,
            master_tokens: self.secrets.master_tokens,
            keys: keys.ring(),
            rules,
            service_test: self.rules.service_test,
            shadow: self.shadow,
            store_place: store::place(&store),
            store,
            issuing: self.issuing,
            caching: self.caching,
            endpoints: self.endpoints,
            clock: self.parts.clock.clone(),
            credential_sources: self.credential_sources,
            websocket: self.websocket,
            log_details: self.log_details,
            allowed_origins: self.allowed_origins,
            metrics: self.parts.metrics,
            hooks: self.parts.hooks.clone(),
            warnings: self.warnings,
            reload: self.reload,
            is_quiet: false,
        };
        Settings {
            deployment,
            keys,
            store_source,
            headers_source,
            reload_source,
            cache_mode_source,
            sources: None,
            files: Fingerprint::default(),
            digests: Digests::of(self.values),
        }
    }

    /// Reads the value of a key, or its default, and sets it.
    fn read(&mut self, key: &'static Key) {
        let given = self.values.given(key.name).cloned();
        if let (Some(feature), Some(_)) = (key.feature, &given) {
            self.check_feature(key, feature, "leave this out");
        }
        match (&key.kind, given) {
            (ValueKind::Text { set, .. }, Some(Given::Text(text))) => set(self, text),
            (ValueKind::Text { default: Some(text), set }, None) => set(self, (*text).to_owned()),
            (ValueKind::Addresses { set, .. }, Some(Given::Text(text))) => set(self, vec![text]),
            (ValueKind::Addresses { set, .. }, Some(Given::List(items))) => set(self, items),
            (ValueKind::Addresses { default, set }, None) => set(self, vec![(*default).to_owned()]),
            (ValueKind::Choice { choices, .. }, Some(Given::Text(word))) => self.choose(key, choices, &word),
            (ValueKind::Choice { choices: [first, ..], has_default: true }, None) => (first.set)(self),
            (ValueKind::Flag { set, .. }, Some(Given::Flag(flag))) => set(self, flag),
            (ValueKind::Flag { default, set }, None) => set(self, *default),
            (ValueKind::Number { limits, set }, Some(Given::Number(number))) => {
                if (limits.min..=limits.max).contains(&number) {
                    set(self, number);
                } else {
                    self.fault(key, format!("{number} is out of range"), limits.remedy());
                }
            }
            (ValueKind::Number { limits, set }, None) => {
                if let Some(number) = limits.default {
                    set(self, number);
                }
            }
            (ValueKind::Time { limits, set }, Some(Given::Time(time))) => {
                let time = self.time_within(key, limits, time, &time::show(time));
                set(self, time);
            }
            (ValueKind::Time { limits, set }, Some(Given::Text(text))) => {
                let time = self.time(key, limits, &text);
                set(self, time);
            }
            (ValueKind::Time { limits, set }, None) => set(self, limits.default),
            (ValueKind::Instant { set }, Some(Given::Instant(instant))) => set(self, instant),
            (ValueKind::Instant { set }, Some(Given::Text(text))) => match humantime::parse_rfc3339_weak(&text) {
                Ok(instant) => set(self, instant),
                Err(_) => {
                    let remedy = r#"write one in UTC, such as "2030-01-31T12:00:00Z""#;
                    self.fault(key, format!("{text:?} is not a time"), remedy);
                }
            },
            (ValueKind::List { set, .. }, Some(Given::List(items))) => set(self, items),
            (ValueKind::Secret { set }, Some(Given::Secret(secret))) => set(self, secret),
            (ValueKind::SecretList { set }, Some(Given::SecretList(secrets))) => set(self, secrets),
            (ValueKind::SecretMap { set }, Some(Given::SecretMap(members))) => set(self, members),
            (ValueKind::Rules { set }, Some(Given::RuleEntries(entries))) => {
                let rules = self.read_rules(key, &entries);
                set(self, rules);
            }
            (ValueKind::Rules { set }, Some(Given::Rules(rules))) => set(self, rules),
            (ValueKind::Claims { set }, Some(Given::Claims(claims))) => set(self, claims),
            // Its source is read with the others, since the secret in it counts in its place.
            (ValueKind::SecretFile { .. }, Some(Given::Text(_))) | (_, None) => {}
            (kind, Some(_)) => self.fault(key, "the value has the wrong type", kind.remedy()),
        }
    }

    fn choose(&mut self, key: &'static Key, choices: &'static [Choice], word: &str) {
        let Some(choice) = choices.iter().find(|choice| choice.word == word) else {
            let remedy = key::one_of(choices.iter().map(|choice| choice.word));
            return self.fault(key, format!("{word:?} is not one of its values"), remedy);
        };
        if let Some(feature) = choice.feature {
            self.check_feature(key, feature, &format!("write \"{}\"", choices[0].word));
        }
        (choice.set)(self);
    }

    fn check_feature(&mut self, key: &'static Key, feature: &Feature, otherwise: &str) {
        if !feature.is_built {
            self.fault(key, feature.problem, format!("build with the feature `{}`, or {otherwise}", feature.name));
        }
    }

    fn time(&mut self, key: &'static Key, limits: &TimeLimits, text: &str) -> Duration {
        match time::parse(text) {
            Ok(time) => self.time_within(key, limits, time, text),
            Err(problem) => {
                self.fault(key, problem, limits.remedy());
                limits.default
            }
        }
    }

    fn time_within(&mut self, key: &'static Key, limits: &TimeLimits, time: Duration, shown: &str) -> Duration {
        let Some(problem) = limits.problem(time) else {
            return time;
        };
        self.fault(key, format!("{shown:?} {problem}"), limits.remedy());
        limits.default
    }

    /// Reports what is wrong with `.env`: as faults if a secret may be missing because of it, else as warnings.
    fn check_env_file(&mut self) {
        let has_secrets = !self.secrets.master_tokens.is_empty() && self.secrets.key.is_some();
        match &self.values.env_file_problem {
            Some((path, problem)) if has_secrets => self.warnings.push(format!("{}: {problem}", path.display())),
            Some((path, problem)) => {
                let source = Source::File(path.clone());
                let remedy = "fix the file: a secret is expected in it";
                // What is not set may be in the file.
                let expected = [secrets::CRYPTOGRAPHY_KEY.name, secrets::MASTER_TOKEN.name];
                self.faults.retain(|fault| {
                    *fault.source() != Source::Default || fault.key().is_none_or(|key| !expected.contains(&key))
                });
                self.faults.push(Fault::new(secrets::CRYPTOGRAPHY_KEY.name, source, problem.clone(), remedy));
            }
            None => {}
        }
        for (key, fault) in &self.values.env_line_faults {
            if self.values.given(key).is_some() {
                self.warnings.push(fault.to_string());
            } else {
                // It is not missing, then.
                self.faults.retain(|other| (other.key(), other.source()) != (Some(*key), &Source::Default));
                self.faults.push(fault.clone());
            }
        }
    }
}
