//! Reading the sources of settings, the lowest precedence first.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use fastauth_core::{json, secret::Secret};
use serde_json::{Map, Value};

use crate::{
    builder::Code,
    code_parts::Surroundings,
    env_text,
    environment::{Environment, is_of_a_service, without_line_break},
    fault::{Fault, Source},
    file,
    given::{Given, NO_VARIABLE, Raw},
    key::{Key, ValueKind, variable},
    keys,
    values::Values,
};

/// Names the file, so it is no setting itself.
const CONFIG_VARIABLE: &str = "FASTAUTH_CONFIG";

/// Variables that begin as those of keys do and are no settings: the program reads those of the store.
const NOT_SETTINGS: [&str; 9] = [
    CONFIG_VARIABLE,
    "FASTAUTH_STORE_ACCESS_LOG",
    "FASTAUTH_STORE_DATABASE",
    "FASTAUTH_STORE_LISTEN",
    "FASTAUTH_STORE_LOG_FORMAT",
    "FASTAUTH_STORE_METRICS_LISTEN",
    "FASTAUTH_STORE_SOCKET_MODE",
    "FASTAUTH_STORE_TOKEN",
    "FASTAUTH_STORE_TOKEN_FILE",
];

/// The end of a variable that names a file with the value in it.
pub(crate) const FILE_ENDING: &str = "_FILE";

const DEFAULT_FILE: &str = "fastauth.config.json";

/// Names the file's schema to editors, and is no setting.
const SCHEMA: &str = "$schema";

/// The values on their way in.
#[derive(Default)]
struct Reader {
    values: Values,
    /// Where the paths in variables and in code start.
    working_directory: PathBuf,
}

/// The spelling and the value of each key that a source has.
type Spellings = BTreeMap<&'static str, (String, Value)>;

/// The configuration file.
struct ConfigFile {
    path: PathBuf,
    /// Then it has to exist.
    is_named: bool,
}

/// Takes only what was set in code.
pub(crate) fn of_code(code: Code, surroundings: &Surroundings) -> Values {
    let mut reader = Reader::default();
    reader.values.directory = surroundings.directory.clone().unwrap_or_default();
    reader.working_directory.clone_from(&reader.values.directory);
    reader.add_code(code);
    reader.values
}

/// Reads everything, the lowest precedence first.
pub(crate) fn read(code: Code, surroundings: &Surroundings) -> Values {
    let environment = match &surroundings.environment {
        Some(variables) => Environment { variables: variables.clone(), ..Environment::default() },
        None => Environment::from_process(),
    };
    let working_directory = surroundings.directory.clone().unwrap_or_default();
    let mut reader = Reader { working_directory: working_directory.clone(), ..Reader::default() };
    let is_ours = |name: &&String| {
        let of_value = name.strip_suffix(FILE_ENDING).unwrap_or(name);
        name.starts_with("FASTAUTH_") || keys::bare().any(|(_, variable)| variable == of_value)
    };
    for name in environment.unreadable.iter().filter(is_ours) {
        let source = Source::Environment(name.clone());
        reader.fault(Fault::without_key(source, "its value is not UTF-8", "set it to a text, or unset it"));
    }
    let config = reader.config_file(surroundings, &environment, &working_directory);
    reader.add_env_file(&working_directory);
    reader.add_bare(&environment, &working_directory);
    if let Some(config) = config {
        reader.add_file(config, &code);
    }
    reader.add_environment(&environment, &working_directory);
    reader.add_code(code);
    reader.values
}

impl Reader {
    fn config_file(
        &mut self,
        surroundings: &Surroundings,
        environment: &Environment,
        working_directory: &Path,
    ) -> Option<ConfigFile> {
        let variable = environment.variables.get(CONFIG_VARIABLE).map(|path| without_line_break(path));
        let named = surroundings.file.as_deref().or(variable.map(Path::new));
        let path = working_directory.join(named.unwrap_or(Path::new(DEFAULT_FILE)));
        self.values.directory = path.parent().map(Path::to_owned).unwrap_or_default();
        if named.is_some_and(|path| path.as_os_str().is_empty()) {
            self.values.directory = working_directory.to_owned();
            let source = match surroundings.file {
                Some(_) => Source::Code,
                None => Source::Environment(CONFIG_VARIABLE.to_owned()),
            };
            let problem = "the path of the configuration file is empty";
            self.fault(Fault::without_key(source, problem, "name a file, or unset that"));
            return None;
        }
        Some(ConfigFile { path, is_named: named.is_some() })
    }

    /// Reads the `.env` beside the configuration file, or else the one in the working directory.
    fn add_env_file(&mut self, working_directory: &Path) {
        let mut path = self.values.directory.join(".env");
        let mut text = self.read(&path, file::read_shared_text);
        if is_not_found(&text) {
            let other = working_directory.join(".env");
            let other_text = self.read(&other, file::read_shared_text);
            if is_not_found(&other_text) {
                self.values.env_file = path;
                return;
            }
            path = other;
            text = other_text;
        }
        self.values.env_file.clone_from(&path);
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                self.values.env_file_problem = Some((path, format!("the file cannot be read ({})", file::why(&error))));
                return;
            }
        };
        let mut has_secrets = false;
        for (key, name) in keys::bare() {
            let source = Source::EnvFile(path.clone(), name.to_owned());
            match env_text::value(text.expose(), name) {
                Ok(Some(value)) => {
                    has_secrets = true;
                    self.insert(key, name, source, Raw::variable(value.expose()));
                }
                Ok(None) => {}
                Err(fault) => {
                    let problem = format!("line {} {}", fault.line, fault.problem);
                    self.values
                        .env_line_faults
                        .push((key.name, Fault::new(key.name, source, problem, env_text::REMEDY)));
                }
            }
        }
        self.values.warnings.extend(has_secrets.then(|| file::exposure(&path)).flatten());
        let names: BTreeSet<_> = env_text::assignments(text.expose()).into_iter().map(|line| line.name).collect();
        for name in names.iter().filter(|name| name.starts_with("FASTAUTH_")) {
            let path = path.display();
            self.values.warnings.push(format!("{path}: {name} is not read from here; set it in the environment"));
        }
    }

    fn add_bare(&mut self, environment: &Environment, working_directory: &Path) {
        for (key, variable) in keys::bare() {
            let of_file = format!("{variable}{FILE_ENDING}");
            match (environment.variables.get(variable), environment.variables.get(&of_file)) {
                (Some(_), Some(_)) => self.twice(key, Source::Environment(of_file), variable),
                (Some(value), None) => {
                    self.insert(key, variable, Source::Environment(variable.to_owned()), Raw::variable(value));
                }
                (None, Some(path)) => {
                    let source = Source::Environment(of_file.clone());
                    self.add_secret_file(key, &of_file, source, &working_directory.join(without_line_break(path)));
                }
                (None, None) => {}
            }
        }
    }

    fn twice(&mut self, key: &Key, source: Source, other: &str) {
        self.fault(Fault::new(key.name, source, format!("{other} is set, too"), "unset one of them"));
    }

    /// Reads the file that a variable or a key names. All of it is the value, except for the line break at its end.
    fn add_secret_file(&mut self, key: &'static Key, name: &str, named_in: Source, path: &Path) {
        match self.read(path, file::read_text) {
            Ok(text) => {
                self.values.warnings.extend(file::exposure(path));
                let source = Source::SecretFile(path.to_owned(), name.to_owned());
                self.insert(key, name, source, Raw::variable(text.expose()));
            }
            Err(error) => {
                let problem = format!("the file {} cannot be read ({})", path.display(), file::why(&error));
                let source = named_in;
                self.fault(Fault::new(key.name, source, problem, "name a file that holds the value and nothing else"));
            }
        }
    }

    fn add_file(&mut self, config: ConfigFile, code: &[(&'static Key, Given)]) {
        let path = config.path;
        let text = match self.read(&path, file::read_text) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let problem = format!("the file does not exist{}", in_directory(&path));
                // Code that says which paths to guard needs no file; without either, every path would be open.
                if config.is_named {
                    self.fault(Fault::without_key(Source::File(path), problem, "give the path of a readable file"));
                } else if !code.iter().any(|(key, _)| keys::says_what_to_guard(key)) {
                    let remedy = format!("create it with `fastauth init`, or name another file in {CONFIG_VARIABLE}");
                    self.fault(Fault::without_key(Source::File(path), problem, remedy));
                }
                return;
            }
            Err(error) => {
                let problem = format!("the file cannot be read ({})", file::why(&error));
                let remedy = "give the path of a readable file";
                self.fault(Fault::without_key(Source::File(path), problem, remedy));
                return;
            }
        };
        match json::object(text.expose().trim_start_matches('\u{feff}').as_bytes()) {
            Ok(members) => {
                self.values.has_file = true;
                self.add_members(members, &path);
            }
            Err(error) => {
                let problem = format!("the file is not usable JSON: {error}");
                self.fault(Fault::without_key(Source::File(path), problem, "write one JSON object"));
            }
        }
    }

    fn add_members(&mut self, members: Map<String, Value>, path: &Path) {
        let mut spellings = Spellings::new();
        let mut has_secrets = false;
        for (spelling, value) in members {
            let file = Source::File(path.to_owned());
            match keys::find(&spelling) {
                Some(key) => {
                    has_secrets |= key.kind.is_secret();
                    self.insert_once(&mut spellings, key, &spelling, file, value);
                }
                None if spelling == SCHEMA => {}
                None => {
                    let problem = format!("`{spelling}` is not a known key");
                    let remedy = format!("did you mean `{}`?", keys::nearest(&spelling).name);
                    self.fault(Fault::without_key(file, problem, remedy));
                }
            }
        }
        self.values.warnings.extend(file::exposed(path, has_secrets));
    }

    fn add_environment(&mut self, environment: &Environment, working_directory: &Path) {
        /// Below this many changes a name is taken for a slip of the hand.
        const SLIP: usize = 4;
        let mut spellings = Spellings::new();
        for (name, value) in &environment.variables {
            let Some(rest) = name.strip_prefix("FASTAUTH_").filter(|_| !NOT_SETTINGS.contains(&name.as_str())) else {
                continue;
            };
            let is_upper = !rest.contains(|c: char| c.is_ascii_lowercase());
            let rest = rest.to_ascii_lowercase();
            if let Some(key) = keys::find(&rest).filter(|_| is_upper) {
                let source = Source::Environment(name.clone());
                self.insert_once(&mut spellings, key, name, source, Value::String(value.clone()));
                continue;
            }
            if is_of_a_service(name) {
                continue;
            }
            if let Some(key) = name.strip_suffix(FILE_ENDING).and_then(of_secret) {
                match spellings.get(key.name) {
                    Some((other, _)) => self.twice(key, Source::Environment(name.clone()), other),
                    None => {
                        let source = Source::Environment(name.clone());
                        self.add_secret_file(key, name, source, &working_directory.join(without_line_break(value)));
                    }
                }
                continue;
            }
            let nearest = keys::nearest(&rest);
            let remedy = if nearest.distance < SLIP {
                format!("did you mean {}?", variable(nearest.name))
            } else {
                "it has no effect".to_owned()
            };
            self.values.warnings.push(format!("environment variable {name}: `{rest}` is not a known key; {remedy}"));
        }
    }

    fn add_code(&mut self, code: Code) {
        let names: Vec<_> = code.iter().map(|(key, _)| key.name).collect();
        for (key, given) in code {
            match key.kind {
                ValueKind::SecretFile { of } if names.contains(&of.name) => self.twice(key, Source::Code, of.name),
                _ => self.insert(key, key.name, Source::Code, Raw::Code(given)),
            }
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
        let twin = keys::twin(key).and_then(|twin| spellings.get(twin.name));
        if let Some((other, _)) = twin.filter(|_| !value.is_null()) {
            let secret = if let ValueKind::SecretFile { of } = key.kind { of } else { key };
            return self.twice(secret, source, other);
        }
        match spellings.get(key.name) {
            Some((_, other)) if *other == value => {}
            Some((other, _)) => {
                let problem = format!("`{other}` and `{spelling}` are the same key, with different values");
                self.fault(Fault::new(key.name, source, problem, "keep one of them"));
            }
            None => {
                spellings.insert(key.name, (spelling.to_owned(), value.clone()));
                let raw = match value {
                    Value::String(text) if matches!(source, Source::Environment(_)) => Raw::variable(&text),
                    value => Raw::Json(value),
                };
                self.insert(key, spelling, source, raw);
            }
        }
    }

    /// Takes one value, over those of the sources before, if it is of the key's kind, and adds a fault if it is not.
    fn insert(&mut self, key: &'static Key, spelling: &str, source: Source, raw: Raw) {
        if let Some(problem) = raw.unreplaced(key.text_kind) {
            let fault = Fault::new(key.name, source, problem, "replace it by the value");
            let place = raw.place_of_unreplaced(key.text_kind).map(|place| format!("{}{place}", key.name));
            self.fault(place.into_iter().fold(fault, |fault, place| fault.at(place, "")));
            return;
        }
        // Taken as missing, it could leave out a guard that was meant to be set.
        if matches!(raw, Raw::Json(Value::Null)) {
            self.fault(Fault::new(key.name, source, "found null", "give it a value, or remove the key"));
            return;
        }
        if matches!(key.kind, ValueKind::Ignored) {
            self.values
                .warnings
                .push(format!("{source}: `{spelling}` has no effect here; logging is the application's"));
            return;
        }
        match raw.into_given(key.kind.form()) {
            Ok(given) => {
                if let (ValueKind::SecretFile { of }, Given::Text(path)) = (&key.kind, &given) {
                    let directory = match source {
                        Source::File(_) => self.values.directory.clone(),
                        _ => self.working_directory.clone(),
                    };
                    self.add_secret_file(of, spelling, source.clone(), &directory.join(path));
                }
                self.values.insert(key.name, given, source);
            }
            Err(problem) => {
                let remedy = if problem == NO_VARIABLE {
                    "set it in the configuration file".to_owned()
                } else {
                    key.kind.remedy()
                };
                self.fault(Fault::new(key.name, source, problem, remedy));
            }
        }
    }

    /// Reads a file, and notes what it held.
    fn read(&mut self, path: &Path, how: fn(&Path) -> io::Result<Secret>) -> io::Result<Secret> {
        let text = how(path);
        self.values.files.note(path, &text);
        text
    }

    fn fault(&mut self, fault: Fault) {
        self.values.faults.push(fault);
    }
}

/// Returns the secret that a variable `FASTAUTH_…` sets.
fn of_secret(name: &str) -> Option<&'static Key> {
    keys::bare().map(|(key, _)| key).find(|key| key.variable() == name)
}

fn is_not_found<T>(read: &std::io::Result<T>) -> bool {
    matches!(read, Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Returns the directory of a relative path, as a part of a sentence.
fn in_directory(path: &Path) -> String {
    let absolute = std::path::absolute(path).ok().filter(|_| path.is_relative());
    absolute.as_deref().and_then(Path::parent).map_or_else(String::new, |parent| format!(" in {}", parent.display()))
}
