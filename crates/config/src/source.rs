//! Reading the sources of settings, and merging them by precedence.
//!
//! figment merges and remembers where each value came from. It is never handed a secret: what it holds in place of one
//! is a number, since its errors and its `Debug` show values.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map as ProfileMap, Value as Merged},
};
use serde_json::Value;

use super::{
    env_file, env_text,
    environment::{Environment, is_of_a_service, without_line_break},
    fault::{Fault, Source},
    file,
    placeholder::{Place, unreplaced},
};
use fastauth_core::{json, secret::Secret};

/// The kinds of values that keys have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Secret,
    Flag,
    /// A whole number.
    Number,
    /// A list of texts.
    List,
    /// A list of texts, with commas between them in a variable.
    CommaList,
    /// A list of texts that are kept secret.
    SecretList,
    /// An object of texts that are kept secret.
    SecretMap,
    /// Accepted, and without effect.
    Ignored,
}

impl Kind {
    fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::SecretList | Self::SecretMap)
    }
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
pub(crate) const KEYS: [Key; 38] = [
    key("app-name", Kind::Text),
    Key { name: "database-api-url", kind: Kind::Text, alias: Some("database-api-path") },
    key("headers", Kind::SecretMap),
    key("master-token", Kind::Secret),
    key("master-tokens", Kind::SecretMap),
    key("cryptography-key", Kind::Secret),
    key("cryptography-key-signs-from", Kind::Text),
    key("previous-cryptography-keys", Kind::SecretList),
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
    key("refresh-grace", Kind::Text),
    key("tokens-per-client", Kind::Text),
    key("max-tokens-per-client", Kind::Number),
    key("store-format", Kind::Text),
    key("cache", Kind::Text),
    key("cache-capacity", Kind::Number),
    key("cache-ttl", Kind::Text),
    key("issuer", Kind::Text),
    key("audience", Kind::Text),
    key("allow-get", Kind::Flag),
    key("response-shape", Kind::Text),
    key("refresh-transport", Kind::Text),
    key("rate-limit-per-minute", Kind::Number),
    key("rate-limit-burst", Kind::Number),
    key("credential-sources", Kind::CommaList),
    key("websocket-origins", Kind::CommaList),
    key("websocket-recheck", Kind::Text),
    key("websocket-refusal", Kind::Text),
    key("log-lv", Kind::Ignored),
];

/// The bare variables that fill in what nothing else gives.
pub(crate) const BARE: [(&str, &str); 4] = [
    ("master-token", "MASTER_TOKEN"),
    ("cryptography-key", "CRYPTOGRAPHY_KEY"),
    ("previous-cryptography-keys", "PREVIOUS_CRYPTOGRAPHY_KEYS"),
    ("cryptography-key-signs-from", "CRYPTOGRAPHY_KEY_SIGNS_FROM"),
];

/// Names the file, so it is no setting itself.
const CONFIG_VARIABLE: &str = "FASTAUTH_CONFIG";

/// Variables that begin as ours do and are no settings: the program reads the second one.
const NOT_SETTINGS: [&str; 2] = [CONFIG_VARIABLE, "FASTAUTH_STORE_TOKEN"];

const DEFAULT_FILE: &str = "fastauth.config.json";

/// Names the file's schema to editors, and is no setting.
const SCHEMA: &str = "$schema";

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
    vault: Vec<Vec<(String, Secret)>>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<String>,
    /// A `.env` that could not be read as a whole: a fault where a secret is missed, and else only a warning.
    pub(crate) env_file_problem: Option<(PathBuf, String)>,
    /// Lines of `.env` that readers differ on: each a fault where no other source gives its key, and else only a warning.
    pub(crate) env_line_faults: Vec<(&'static str, Fault)>,
    /// Whether there is a configuration file.
    pub(crate) has_file: bool,
    /// The `.env` that is read, or would be if there were one: where a secret can be put.
    pub(crate) env_file: PathBuf,
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
            Some(variables) => Environment { variables: variables.clone(), ..Environment::default() },
            None => Environment::of_process(),
        };
        let working_directory = surroundings.directory.clone().unwrap_or_default();
        let mut sources = Self::default();
        let is_ours = |name: &str| name.starts_with("FASTAUTH_") || BARE.iter().any(|(_, variable)| *variable == name);
        for name in environment.unreadable.iter().filter(|name| is_ours(name)) {
            let source = Source::Environment(name.clone());
            sources.faults.push(Fault::new(source, "its value is not UTF-8", "set it to a text, or unset it"));
        }
        let config = sources.config_file(surroundings, &environment, &working_directory);
        sources.add_env_file(&working_directory);
        sources.add_bare(&environment);
        if let Some((path, is_named)) = config {
            sources.add_file(path, is_named, &code);
        }
        sources.add_environment(&environment);
        sources.add_code(code);
        sources
    }

    /// Returns the path of the configuration file, and whether it was named, so that it has to be there.
    fn config_file(
        &mut self,
        surroundings: &Surroundings,
        environment: &Environment,
        working_directory: &Path,
    ) -> Option<(PathBuf, bool)> {
        let variable = environment.variables.get(CONFIG_VARIABLE).map(|path| without_line_break(path));
        let named = surroundings.file.as_deref().or(variable.map(Path::new));
        let path = working_directory.join(named.unwrap_or(Path::new(DEFAULT_FILE)));
        self.directory = path.parent().map(Path::to_owned).unwrap_or_default();
        if named.is_some_and(|path| path.as_os_str().is_empty()) {
            self.directory = working_directory.to_owned();
            let source = if surroundings.file.is_some() {
                Source::Code
            } else {
                Source::Environment(CONFIG_VARIABLE.to_owned())
            };
            let problem = "the path of the configuration file is empty";
            self.faults.push(Fault::new(source, problem, "name the file, or leave that out"));
            return None;
        }
        Some((path, named.is_some()))
    }

    /// Reads the `.env` beside the configuration file, or else the one in the working directory.
    fn add_env_file(&mut self, working_directory: &Path) {
        let beside = self.directory.join(".env");
        let (path, text) = match file::read_shared_text(&beside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let path = working_directory.join(".env");
                let text = file::read_shared_text(&path);
                (path, text)
            }
            text => (beside.clone(), text),
        };
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.env_file = beside;
                return;
            }
            Err(error) => {
                self.env_file.clone_from(&path);
                self.env_file_problem = Some((path, format!("the file cannot be read ({})", file::why(&error))));
                return;
            }
        };
        self.env_file.clone_from(&path);
        let mut has_secrets = false;
        for (key, name) in BARE {
            let source = Source::EnvFile(path.clone(), name.to_owned());
            match env_file::value(text.expose(), name) {
                Ok(Some(value)) => {
                    has_secrets = true;
                    self.insert(known(key), name, source, Value::String(value.expose().to_owned()));
                }
                Ok(None) => {}
                Err((line, problem)) => {
                    let problem = format!("line {line} {problem}");
                    self.env_line_faults.push((key, Fault::of(key, source, problem, env_file::REMEDY)));
                }
            }
        }
        self.warnings.extend(has_secrets.then(|| file::exposure(&path)).flatten());
        let names: BTreeSet<_> = env_text::assignments(text.expose()).into_iter().map(|line| line.name).collect();
        for name in names.iter().filter(|name| name.starts_with("FASTAUTH_")) {
            let path = path.display();
            self.warnings.push(format!("{path}: {name} is not read from here; set it in the environment"));
        }
    }

    fn add_bare(&mut self, environment: &Environment) {
        for (key, variable) in BARE {
            if let Some(value) = environment.variables.get(variable) {
                let source = Source::Environment(variable.to_owned());
                self.insert(known(key), variable, source, Value::String(value.clone()));
            }
        }
    }

    fn add_file(&mut self, path: PathBuf, is_named: bool, code: &[(&'static str, Value)]) {
        let text = match file::read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !is_named => {
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
                let problem = format!("the file cannot be read ({})", file::why(&error));
                self.faults.push(Fault::new(Source::File(path), problem, "give the path of a readable file"));
                return;
            }
        };
        match json::object(text.expose().trim_start_matches('\u{feff}').as_bytes()) {
            Ok(members) => {
                self.has_file = true;
                self.add_members(members, &path);
            }
            Err(error) => {
                let problem = format!("the file is not usable JSON: {error}");
                self.faults.push(Fault::new(Source::File(path), problem, "write one JSON object"));
            }
        }
    }

    fn add_members(&mut self, members: serde_json::Map<String, Value>, path: &Path) {
        let mut spellings = Spellings::new();
        let mut has_secrets = false;
        for (spelling, value) in members {
            let file = Source::File(path.to_owned());
            match find(&spelling) {
                Some(key) => {
                    has_secrets |= key.kind.is_secret();
                    self.insert_once(&mut spellings, key, &spelling, file, value);
                }
                None if spelling == SCHEMA => {}
                None => {
                    let (problem, nearest, _) = unknown_key(&spelling);
                    self.faults.push(Fault::new(file, problem, format!("did you mean `{nearest}`?")));
                }
            }
        }
        self.warnings.extend(file::exposed(path, has_secrets));
    }

    fn add_environment(&mut self, environment: &Environment) {
        /// Below this many changes a name is taken for a slip of the hand.
        const SLIP: usize = 4;
        let mut spellings = Spellings::new();
        for (name, value) in &environment.variables {
            let Some(rest) = name.strip_prefix("FASTAUTH_").filter(|_| !NOT_SETTINGS.contains(&name.as_str())) else {
                continue;
            };
            let is_upper = !rest.contains(|c: char| c.is_ascii_lowercase());
            let rest = rest.to_ascii_lowercase();
            if let Some(key) = find(&rest).filter(|_| is_upper) {
                let source = Source::Environment(name.clone());
                self.insert_once(&mut spellings, key, name, source, Value::String(value.clone()));
                continue;
            }
            let (problem, nearest, distance) = unknown_key(&rest);
            if is_of_a_service(name) {
                continue;
            }
            let remedy = if distance < SLIP {
                format!("did you mean {}?", variable(nearest))
            } else {
                "it has no effect".to_owned()
            };
            self.warnings.push(format!("environment variable {name}: {problem}; {remedy}"));
        }
    }

    fn add_code(&mut self, code: Vec<(&'static str, Value)>) {
        for (key, value) in code {
            self.insert(known(key), key, Source::Code, value);
        }
    }

    /// Takes one value of a source in which a key may stand in several spellings.
    fn insert_once(
        &mut self,
        spellings: &mut Spellings,
        key: &'static Key,
        spelling: &str,
        source: Source,
        value: Value,
    ) {
        match spellings.get(key.name) {
            Some((_, other)) if *other == value => {}
            Some((other, _)) => {
                let problem = format!("`{other}` and `{spelling}` are the same key, with different values");
                self.faults.push(Fault::of(key.name, source, problem, "keep one of them"));
            }
            None => {
                spellings.insert(key.name, (spelling.to_owned(), value.clone()));
                self.insert(key, spelling, source, value);
            }
        }
    }

    /// Takes one value, over those of the sources before, if it is of the key's kind, and notes a fault if it is not.
    fn insert(&mut self, key: &'static Key, spelling: &str, source: Source, value: Value) {
        let from_environment = matches!(source, Source::Environment(_) | Source::EnvFile(..));
        let value = match value {
            Value::String(text) if from_environment => Value::String(without_line_break(&text).to_owned()),
            value => value,
        };
        let place = match key.kind {
            kind if kind.is_secret() => Place::Secret,
            Kind::List => Place::Path,
            _ if key.name == "base-path" => Place::Path,
            _ => Place::Text,
        };
        if let Some(problem) = unreplaced(&value, place) {
            self.faults.push(Fault::of(key.name, source, problem, "put the value in its place"));
            return;
        }
        let merged = match (key.kind, value) {
            // It would leave a guard out that somebody meant to set.
            (_, Value::Null) => {
                self.faults.push(Fault::of(key.name, source, "found null", "give it a value, or leave the key out"));
                return;
            }
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
            (Kind::Number, Value::Number(number)) => {
                number.as_u64().map(Merged::from).ok_or_else(|| format!("{number} is not a whole number"))
            }
            (Kind::Number, Value::String(text)) if from_environment => {
                text.parse::<u64>().map(Merged::from).map_err(|_| format!("{text:?} is not a whole number"))
            }
            (Kind::SecretList, Value::String(text)) if from_environment => {
                let texts = text.split(',').map(|text| Value::String(text.trim().to_owned()));
                // Nothing at all is an empty list, and not a list of one empty text.
                self.hide_items(if text.trim().is_empty() { Vec::new() } else { texts.collect() })
            }
            (Kind::List | Kind::SecretMap, Value::String(_)) if from_environment => {
                Err("only single values can be set by a variable".to_owned())
            }
            (Kind::CommaList, Value::String(text)) if from_environment => {
                Ok(text.split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>().into())
            }
            (Kind::List | Kind::CommaList, Value::Array(items)) => texts(items).map(Merged::from),
            (Kind::SecretList, Value::Array(items)) => self.hide_items(items),
            (Kind::SecretMap, Value::Object(members)) => self.hide_members(members),
            (_, other) => Err(format!("found {}", describe(&other))),
        };
        match merged {
            Ok(value) => {
                let one = OneValue { metadata: metadata(&source), name: key.name, value };
                self.figment = std::mem::take(&mut self.figment).merge(one);
            }
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
        self.hide_all(vec![(String::new(), Secret::from(text))])
    }

    fn hide_items(&mut self, items: Vec<Value>) -> Result<Merged, String> {
        let texts = texts(items)?.into_iter().map(|text| (String::new(), Secret::from(text)));
        Ok(self.hide_all(texts.collect()))
    }

    fn hide_members(&mut self, members: serde_json::Map<String, Value>) -> Result<Merged, String> {
        let texts = members.into_iter().map(|(name, value)| match value {
            Value::String(text) => Ok((name, Secret::from(text))),
            other => Err(format!("found {} as the value of `{name}`", describe(&other))),
        });
        texts.collect::<Result<_, _>>().map(|texts| self.hide_all(texts))
    }

    /// figment gets one number for all of them: it would unite two maps, and a source goes before another as a whole.
    fn hide_all(&mut self, texts: Vec<(String, Secret)>) -> Merged {
        self.vault.push(texts);
        Merged::from(self.vault.len() - 1)
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

    /// A flag that is on where nothing says otherwise.
    pub(crate) fn flag_or_on(&self, key: &str) -> bool {
        self.find(key).and_then(|(value, _)| value.to_bool()).unwrap_or(true)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.find(key).and_then(|(value, _)| u64::try_from(value.to_u128()?).ok())
    }

    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let items = self.find(key).and_then(|(value, _)| value.into_array()).unwrap_or_default();
        items.into_iter().filter_map(Merged::into_string).collect()
    }

    pub(crate) fn secret(&self, key: &str) -> Option<Secret> {
        self.secrets(key).into_iter().next().map(|(_, secret)| secret)
    }

    /// The members of a map of secrets, or a single secret under the empty name.
    pub(crate) fn secrets(&self, key: &str) -> Vec<(String, Secret)> {
        let number = self.find(key).and_then(|(value, _)| usize::try_from(value.to_u128()?).ok());
        number.and_then(|number| self.vault.get(number)).cloned().unwrap_or_default()
    }
}

/// The spelling and the value of each key that a source has.
type Spellings = BTreeMap<&'static str, (String, Value)>;

/// One value for figment, with metadata that leads back to its source.
struct OneValue {
    metadata: Metadata,
    name: &'static str,
    value: Merged,
}

impl Provider for OneValue {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::Result<ProfileMap<Profile, Dict>> {
        Ok(Profile::Default.collect(Dict::from([(self.name.to_owned(), self.value.clone())])))
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

/// The variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("FASTAUTH_{}", key.replace('-', "_").to_ascii_uppercase())
}

/// Whether a name in the configuration file stands for a key.
pub(crate) fn is_spelling(name: &str, key: &str) -> bool {
    find(name).is_some_and(|found| found.name == key)
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

/// What is wrong with a key that there is not, the nearest one that there is, and how many changes it is away.
fn unknown_key(spelling: &str) -> (String, &'static str, usize) {
    let name = spelling.replace('_', "-").to_ascii_lowercase();
    let names = KEYS.iter().flat_map(|key| [Some(key.name), key.alias]).flatten();
    let distances = names.map(|known| (known, strsim::damerau_levenshtein(&name, known)));
    let (nearest, distance) = distances.min_by_key(|(_, distance)| *distance).unwrap_or_default();
    (format!("`{spelling}` is not a known key"), nearest, distance)
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
        Kind::Number => "a whole number, such as 60",
        Kind::List => r#"a list of texts, such as ["/access"]"#,
        Kind::CommaList => r#"a list of texts, such as ["https://app.example"]"#,
        Kind::SecretList => r#"a list of texts"#,
        Kind::SecretMap => r#"an object of texts, such as {"X-Name": "value"}"#,
    }
}
