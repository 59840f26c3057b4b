//! Reading the sources of settings, and merging them by precedence.
//!
//! figment merges and remembers where each value came from. It is never handed a secret: what it holds in place of one
//! is a number, since its errors and its `Debug` show values.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map as ProfileMap, Value as Merged},
};
use serde_json::Value;

use super::fault::{Fault, Source};
use crate::{json, secret::Secret};

/// The kinds of values that keys have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Secret,
    Flag,
    /// A list of texts.
    List,
    /// An object of texts that are kept secret.
    SecretMap,
    /// Accepted, and without effect.
    Ignored,
}

pub(crate) struct Key {
    pub(crate) name: &'static str,
    kind: Kind,
    alias: Option<&'static str>,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, alias: None }
}

/// Every key there is, in the order in which reports show them.
pub(crate) const KEYS: [Key; 17] = [
    key("app-name", Kind::Text),
    Key { name: "database-api-url", kind: Kind::Text, alias: Some("database-api-path") },
    key("headers", Kind::SecretMap),
    key("master-token", Kind::Secret),
    key("cryptography-key", Kind::Secret),
    key("master-token-paths", Kind::List),
    key("access-token-paths", Kind::List),
    key("public-paths", Kind::List),
    key("base-path", Kind::Text),
    key("case-insensitive", Kind::Flag),
    key("windows", Kind::Flag),
    key("skip-preflight", Kind::Flag),
    key("ambiguous", Kind::Text),
    key("shadow", Kind::Flag),
    key("access-ttl", Kind::Text),
    key("refresh-ttl", Kind::Text),
    key("log-lv", Kind::Ignored),
];

/// The bare variables that fill in what nothing else gives.
const BARE: [(&str, &str); 2] = [("master-token", "MASTER_TOKEN"), ("cryptography-key", "CRYPTOGRAPHY_KEY")];

/// Names the file, so it is no setting itself.
const CONFIG_VARIABLE: &str = "FASTAUTH_CONFIG";

const DEFAULT_FILE: &str = "fastauth.config.json";

/// From where the sources are read. Tests make one of their own and so leave the process's alone.
#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) file: Option<PathBuf>,
}

/// The merged values, each with its source, and what was wrong with the sources.
#[derive(Default)]
pub(crate) struct Sources {
    figment: Figment,
    vault: Vec<Secret>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<String>,
    /// A `.env` that could not be read as a whole: a fault where a secret is missed, and else only a warning.
    pub(crate) env_file_problem: Option<(PathBuf, String)>,
    /// The configuration file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Where `sqlite:` paths start: the directory of the configuration file.
    pub(crate) directory: PathBuf,
}

impl Sources {
    /// Only what was set in code.
    pub(crate) fn of_code(code: Vec<(&'static str, Value)>, surroundings: &Surroundings) -> Self {
        let directory = surroundings.directory.clone().unwrap_or_default();
        let mut sources = Self { directory, ..Self::default() };
        sources.add_code(code);
        sources
    }

    /// Everything, the lowest precedence first.
    pub(crate) fn read(code: Vec<(&'static str, Value)>, surroundings: &Surroundings) -> Self {
        let environment = match &surroundings.environment {
            Some(variables) => Environment(variables.clone()),
            None => Environment::of_process(),
        };
        let working_directory = surroundings.directory.clone().unwrap_or_default();
        let mut sources = Self::default();
        sources.add_env_file(&working_directory.join(".env"));
        sources.add_bare(&environment);
        sources.add_file(surroundings, &environment, &working_directory, &code);
        sources.add_environment(&environment);
        sources.add_code(code);
        sources
    }

    fn add_env_file(&mut self, path: &Path) {
        let (variables, problem) = read_env_file(path);
        self.env_file_problem = problem.map(|problem| (path.to_owned(), problem));
        let mut layer = Layer::new(|key| {
            let variable = BARE.iter().find(|(name, _)| *name == key).map_or(key, |(_, variable)| variable);
            Source::EnvFile(path.to_owned(), variable.to_owned())
        });
        for (name, value) in variables {
            if let Some((key, _)) = BARE.iter().find(|(_, variable)| *variable == name) {
                self.insert(&mut layer, known(key), &name, Value::String(value));
            } else if name.starts_with("FASTAUTH_") {
                let path = path.display();
                self.warnings.push(format!("{path}: {name} is not read from here; set it in the environment"));
            }
        }
        self.merge(layer);
    }

    fn add_bare(&mut self, environment: &Environment) {
        let mut layer = Layer::new(|key| {
            let variable = BARE.iter().find(|(name, _)| *name == key).map_or(key, |(_, variable)| variable);
            Source::Environment(variable.to_owned())
        });
        for (key, variable) in BARE {
            if let Some(value) = environment.0.get(variable) {
                self.insert(&mut layer, known(key), variable, Value::String(value.clone()));
            }
        }
        self.merge(layer);
    }

    fn add_file(
        &mut self,
        surroundings: &Surroundings,
        environment: &Environment,
        directory: &Path,
        code: &[(&'static str, Value)],
    ) {
        let named = surroundings.file.clone().or_else(|| environment.0.get(CONFIG_VARIABLE).map(PathBuf::from));
        let path = directory.join(named.as_deref().unwrap_or(Path::new(DEFAULT_FILE)));
        self.directory = path.parent().map(Path::to_owned).unwrap_or_default();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Secret::from(text),
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
                // Code that says which paths to guard needs no file; without either, every path would be open.
                if !code.iter().any(|(key, _)| key.ends_with("-token-paths")) {
                    self.faults.push(Fault::new(
                        Source::File(path),
                        "there is no such file",
                        format!("make one with `fastauth init`, or name another in {CONFIG_VARIABLE}"),
                    ));
                }
                return;
            }
            Err(error) => {
                let problem = format!("the file cannot be read ({})", error.kind());
                self.faults.push(Fault::new(Source::File(path), problem, "give the path of a readable file"));
                return;
            }
        };
        self.file = Some(path.clone());
        match json::object(text.expose().trim_start_matches('\u{feff}').as_bytes()) {
            Ok(members) => self.add_members(members, &path),
            Err(error) => {
                let problem = format!("the file is not usable JSON: {error}");
                self.faults.push(Fault::new(Source::File(path), problem, "write one JSON object"));
            }
        }
    }

    fn add_members(&mut self, members: serde_json::Map<String, Value>, path: &Path) {
        let file = Source::File(path.to_owned());
        let mut layer = Layer::new(|_| Source::File(path.to_owned()));
        let mut spellings: BTreeMap<&str, (String, Value)> = BTreeMap::new();
        for (spelling, value) in members {
            let Some(key) = find(&spelling) else {
                let (problem, remedy) = unknown_key(&spelling);
                self.faults.push(Fault::new(file.clone(), problem, remedy));
                continue;
            };
            match spellings.get(key.name) {
                Some((_, other)) if *other == value => {}
                Some((other, _)) => self.faults.push(Fault::of(
                    key.name,
                    file.clone(),
                    format!("`{other}` and `{spelling}` are the same key, with different values"),
                    "keep one of them",
                )),
                None => {
                    self.insert(&mut layer, key, &spelling, value.clone());
                    spellings.insert(key.name, (spelling, value));
                }
            }
        }
        self.merge(layer);
    }

    fn add_environment(&mut self, environment: &Environment) {
        let mut layer = Layer::new(|key| Source::Environment(variable(key)));
        for (name, value) in &environment.0 {
            let Some(rest) = name.strip_prefix("FASTAUTH_").filter(|_| name != CONFIG_VARIABLE) else { continue };
            match find(&rest.to_ascii_lowercase()) {
                Some(key) => self.insert(&mut layer, key, name, Value::String(value.clone())),
                // Not a fault: Kubernetes sets such variables by itself for a service that is called fastauth.
                None => {
                    let (problem, remedy) = unknown_key(&rest.to_ascii_lowercase());
                    self.warnings.push(format!("environment variable {name}: {problem}; {remedy}"));
                }
            }
        }
        self.merge(layer);
    }

    fn add_code(&mut self, code: Vec<(&'static str, Value)>) {
        let mut layer = Layer::new(|_| Source::Code);
        for (key, value) in code {
            self.insert(&mut layer, known(key), key, value);
        }
        self.merge(layer);
    }

    /// Takes one value into a layer if it is of the key's kind, and notes a fault if it is not.
    fn insert(&mut self, layer: &mut Layer<'_>, key: &'static Key, spelling: &str, value: Value) {
        let source = (layer.source)(key.name);
        let from_environment = matches!(source, Source::Environment(_) | Source::EnvFile(..));
        let merged = match (key.kind, value) {
            // As in `fastauth-api`, null is as good as absent.
            (_, Value::Null) => return,
            (Kind::Ignored, _) => {
                self.warnings.push(format!("{source}: `{spelling}` has no effect here; logging is the application's"));
                return;
            }
            (Kind::Text, Value::String(text)) => Ok(Merged::from(text)),
            (Kind::Secret, Value::String(text)) => Ok(self.hide(text)),
            (Kind::Flag, Value::Bool(flag)) => Ok(Merged::from(flag)),
            (Kind::Flag, Value::String(text)) if from_environment && (text == "true" || text == "false") => {
                Ok(Merged::from(text == "true"))
            }
            (Kind::List | Kind::SecretMap, Value::String(_)) if from_environment => {
                Err("only single values can be set by a variable".to_owned())
            }
            (Kind::List, Value::Array(items)) => texts(items).map(Merged::from),
            (Kind::SecretMap, Value::Object(members)) => self.hide_members(members).map(Merged::from),
            (_, other) => Err(format!("found {}", describe(&other))),
        };
        match merged {
            Ok(merged) => drop(layer.values.insert(key.name.to_owned(), merged)),
            Err(problem) => {
                let remedy = if from_environment && matches!(key.kind, Kind::List | Kind::SecretMap) {
                    "set it in the configuration file".to_owned()
                } else {
                    format!("write {}", example(key.kind))
                };
                self.faults.push(Fault::of(key.name, source, problem, remedy));
            }
        }
    }

    fn hide(&mut self, text: String) -> Merged {
        self.vault.push(Secret::from(text));
        Merged::from(self.vault.len() - 1)
    }

    fn hide_members(&mut self, members: serde_json::Map<String, Value>) -> Result<Dict, String> {
        members
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name, self.hide(text))),
                other => Err(format!("found {} as the value of `{name}`", describe(&other))),
            })
            .collect()
    }

    fn merge(&mut self, layer: Layer<'_>) {
        for (name, value) in layer.values {
            let one = OneValue { metadata: metadata(&(layer.source)(&name)), name, value };
            self.figment = std::mem::take(&mut self.figment).merge(one);
        }
    }

    fn find(&self, key: &str) -> Option<(Merged, Source)> {
        let value = self.figment.find_value(key).ok()?;
        let source = self.figment.get_metadata(value.tag()).map_or(Source::Default, source);
        Some((value, source))
    }

    /// Where the value of `key` comes from.
    pub(crate) fn source(&self, key: &str) -> Source {
        self.find(key).map_or(Source::Default, |(_, source)| source)
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.find(key)?.0.into_string()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.find(key).and_then(|(value, _)| value.to_bool()).unwrap_or_default()
    }

    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let items = self.find(key).and_then(|(value, _)| value.into_array()).unwrap_or_default();
        items.into_iter().filter_map(Merged::into_string).collect()
    }

    pub(crate) fn secret(&self, key: &str) -> Option<Secret> {
        self.reveal(&self.find(key)?.0)
    }

    pub(crate) fn secrets(&self, key: &str) -> Vec<(String, Secret)> {
        let members = self.find(key).and_then(|(value, _)| value.into_dict()).unwrap_or_default();
        members.into_iter().filter_map(|(name, value)| Some((name, self.reveal(&value)?))).collect()
    }

    fn reveal(&self, hidden: &Merged) -> Option<Secret> {
        let index = usize::try_from(hidden.to_u128()?).ok()?;
        self.vault.get(index).cloned()
    }
}

/// The variables of the environment that are text. One that is not cannot be a setting.
struct Environment(BTreeMap<String, String>);

impl Environment {
    fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }
}

/// What one source says.
struct Layer<'a> {
    source: Box<dyn Fn(&str) -> Source + 'a>,
    values: Dict,
}

impl<'a> Layer<'a> {
    fn new(source: impl Fn(&str) -> Source + 'a) -> Self {
        Self { source: Box::new(source), values: Dict::new() }
    }
}

/// One value for figment, with metadata that leads back to its source.
struct OneValue {
    metadata: Metadata,
    name: String,
    value: Merged,
}

impl Provider for OneValue {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::Result<ProfileMap<Profile, Dict>> {
        Ok(Profile::Default.collect(Dict::from([(self.name.clone(), self.value.clone())])))
    }
}

fn metadata(source: &Source) -> Metadata {
    match source {
        Source::File(path) => Metadata::from("file", path.as_path()),
        Source::EnvFile(path, name) => Metadata::from(name.clone(), path.as_path()),
        Source::Environment(name) => Metadata::from("environment", name.clone()),
        Source::Code | Source::Default => Metadata::named("code"),
    }
}

fn source(metadata: &Metadata) -> Source {
    match (&metadata.source, metadata.name.as_ref()) {
        (Some(figment::Source::File(path)), "file") => Source::File(path.clone()),
        (Some(figment::Source::File(path)), name) => Source::EnvFile(path.clone(), name.to_owned()),
        (Some(figment::Source::Custom(name)), _) => Source::Environment(name.clone()),
        _ => Source::Code,
    }
}

/// The variables of a `.env` file, the last one of a name, and what could not be read.
fn read_env_file(path: &Path) -> (BTreeMap<String, String>, Option<String>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Secret::from(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Default::default(),
        Err(error) => return (BTreeMap::new(), Some(format!("the file cannot be read ({})", error.kind()))),
    };
    // dotenvy's error is not passed on: it quotes the line.
    let (variables, failed): (Vec<_>, Vec<_>) =
        dotenvy::from_read_iter(text.expose().as_bytes()).partition(Result::is_ok);
    let problem = (!failed.is_empty()).then(|| "a line of the file is not NAME=value".to_owned());
    (variables.into_iter().flatten().collect(), problem)
}

/// The variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("FASTAUTH_{}", key.replace('-', "_").to_ascii_uppercase())
}

/// The key of a spelling in kebab-case, snake_case or both mixed.
fn find(spelling: &str) -> Option<&'static Key> {
    let name = spelling.replace('_', "-");
    KEYS.iter().find(|key| key.name == name || key.alias == Some(name.as_str()))
}

/// A key that the code names.
fn known(name: &str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).unwrap_or(&KEYS[0])
}

fn unknown_key(spelling: &str) -> (String, String) {
    let name = spelling.replace('_', "-").to_ascii_lowercase();
    let nearest = KEYS
        .iter()
        .flat_map(|key| [Some(key.name), key.alias])
        .flatten()
        .min_by_key(|known| strsim::damerau_levenshtein(&name, known))
        .unwrap_or_default();
    (format!("`{spelling}` is not a known key"), format!("did you mean `{nearest}`?"))
}

fn texts(items: Vec<Value>) -> Result<Vec<String>, String> {
    let text = |item| match item {
        Value::String(text) => Ok(text),
        other => Err(format!("found {} in the list", describe(&other))),
    };
    items.into_iter().map(text).collect()
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret | Kind::Ignored => r#"a text in quotes"#,
        Kind::Flag => "true or false",
        Kind::List => r#"a list of texts, such as ["/access"]"#,
        Kind::SecretMap => r#"an object of texts, such as {"X-Name": "value"}"#,
    }
}
