//! `init`.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use fastauth::{Level, Secret, config::EnvFile, store::SqliteStore};
use serde::Serialize;
use serde_json::{Map, Value};

use self::answers::{Answers, RuleEntry};
use crate::{
    failure::Failure,
    files::{self, Existing},
    keygen::SecretName,
    output, schema,
};

mod answers;
pub(crate) mod args;
mod axum;
mod gitignore;

use args::Init;

/// The configuration that is read if none is named.
const DEFAULT_CONFIG: &str = "fastauth.config.json";

/// Keys of a configuration that is replaced which the new one keeps.
const KEPT: [&str; 6] = [
    "master-token",
    "master-tokens",
    "cryptography-key",
    "cryptography-key-signs-from",
    "previous-cryptography-keys",
    "headers",
];

pub(crate) fn run(args: Init) -> Result<ExitCode, Failure> {
    if let Some(directory) = &args.axum {
        return axum::run(directory, args.fastauth.as_deref());
    }
    let config =
        args.config.clone().or_else(config_of_the_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    let kept = kept_members(&config, args.force)?;
    let asks = !args.yes && io::stdin().is_terminal();
    let answers = Answers::take(&args, &config, asks)?;
    let env_file = args.env_file.unwrap_or_else(|| config.with_file_name(".env"));
    let existing = if args.force { Existing::Replace } else { Existing::Refuse };
    let files = Files { schema: schema::beside(&config, existing)?, config, env_file };
    files.write(&answers, &kept, existing)?;
    files.say_what_is_next(&answers);
    if answers.is_served() && !kept.contains_key("headers") {
        files.say_how_to_send_a_token();
    }
    Ok(ExitCode::SUCCESS)
}

fn config_of_the_environment() -> Option<PathBuf> {
    env::var_os("FASTAUTH_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Returns the secrets in a configuration that is to be replaced.
fn kept_members(config: &Path, force: bool) -> Result<Map<String, Value>, Failure> {
    if !config.exists() {
        return Ok(Map::new());
    }
    let path = config.display();
    if !force {
        return Err(Failure::new(format!(
            "{path} already exists, and was not changed; `fastauth check --config {path}` checks it, and --force replaces it \
             (secrets are kept)"
        )));
    }
    let text = fs::read_to_string(config).map_err(|error| Failure::new(format!("{path}: cannot be read: {error}")))?;
    let Ok(Value::Object(members)) = serde_json::from_str(text.trim_start_matches('\u{feff}')) else {
        return Err(Failure::new(format!(
            "{path} is not a JSON object, so the secrets in it cannot be kept; nothing was written: move the file away"
        )));
    };
    Ok(members.into_iter().filter(|(name, _)| KEPT.contains(&name.replace('_', "-").as_str())).collect())
}

/// The files to write.
struct Files {
    config: PathBuf,
    env_file: PathBuf,
    /// By which editors check the configuration.
    schema: PathBuf,
}

impl Files {
    /// Writes the configuration last: until then, an interrupted program can be run again.
    fn write(&self, answers: &Answers, kept: &Map<String, Value>, existing: Existing) -> Result<(), Failure> {
        self.ignore(&answers.store)?;
        self.write_secrets(answers.secrets_from.as_deref(), kept)?;
        schema::write(&self.schema)?;
        files::write(&self.config, &Configuration::new(answers, kept).text()?, existing)?;
        output::note(&format!("Wrote {}", self.config.display()));
        if !kept.is_empty() {
            let names = kept.keys().cloned().collect::<Vec<_>>().join(", ");
            output::note(&format!("Kept {names} in {}", self.config.display()));
        }
        Ok(())
    }

    /// Keeps the secrets and the database out of version control.
    fn ignore(&self, store: &str) -> Result<(), Failure> {
        let mut changed = vec![gitignore::add(&self.env_file, "")?];
        if let Some(file) = SqliteStore::path_in_url(store).filter(|_| store.starts_with("sqlite:")) {
            // SQLite has more files beside it.
            changed.push(gitignore::add(&self.config.with_file_name(file), "*")?);
        }
        let mut changed: Vec<_> = changed.into_iter().flatten().collect();
        changed.dedup();
        for path in changed {
            output::note(&format!("Added the files with secrets and tokens to {}", path.display()));
        }
        Ok(())
    }

    /// Writes the secrets that the configuration does not have.
    fn write_secrets(&self, from: Option<&Path>, kept: &Map<String, Value>) -> Result<(), Failure> {
        let file = EnvFile::new(&self.env_file);
        for name in SecretName::ALL {
            let variable = name.variable();
            let is_in_config = kept.keys().any(|key| key.replace('-', "_").eq_ignore_ascii_case(variable));
            if is_in_config {
                continue;
            }
            let copied = match from {
                Some(from) => EnvFile::new(from).value(variable)?,
                None => None,
            };
            let done = match &copied {
                Some(secret) => {
                    file.set(variable, secret)?;
                    "Copied"
                }
                None if file.set_if_missing(variable, &Secret::generate())? => "Wrote",
                None => "Kept",
            };
            output::note(&format!(
                "{done} {variable} {} {}",
                if done == "Kept" { "in" } else { "to" },
                self.env_file.display()
            ));
        }
        if self.env_file != self.config.with_file_name(".env") {
            output::note(
                "Only the .env beside the configuration file is read, or else the one in the working directory: load any other \
                 file into the environment",
            );
        }
        Ok(())
    }

    fn say_how_to_send_a_token(&self) {
        output::note(&format!(
            "If the store requires a bearer token, as `fastauth store serve --token-file FILE` does, add it to {}, and keep that \
             file out of version control:\n  \"headers\": {{\"Authorization\": \"Bearer <the token>\"}}",
            self.config.display()
        ));
    }

    fn say_what_is_next(&self, answers: &Answers) {
        let config = if self.config == Path::new(DEFAULT_CONFIG) {
            String::new()
        } else {
            format!(" --config {}", self.config.display())
        };
        let path = answers.guards.example();
        let mut commands = vec![
            (format!("fastauth check{config}"), "the configuration and the store"),
            (format!("fastauth explain{config} GET {path}"), "what a request requires, and why"),
            (format!("fastauth token new{config} --client-id alice"), "tokens to try"),
        ];
        if answers.is_shared {
            commands
                .insert(0, ("fastauth store serve".to_owned(), "if the store does not run yet; in another terminal"));
        }
        let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
        let lines = commands.iter().map(|(command, what)| format!("\n  {command:width$}  # {what}"));
        output::note(&format!("\nNext:{}", lines.collect::<String>()));
        if answers.is_shared && answers.secrets_from.is_none() {
            output::note(&format!(
                "Give fastauth-api the CRYPTOGRAPHY_KEY of {}: each side then accepts the tokens of the other",
                self.env_file.display()
            ));
        }
    }
}

/// The configuration file, in the order in which it is written.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    app_name: &'a str,
    database_api_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<&'a [RuleEntry]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_token_paths: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_paths: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_ttl: Option<&'static str>,
    allow_get: bool,
    tokens_per_client: &'static str,
    store_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_shape: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    #[serde(flatten)]
    kept: &'a Map<String, Value>,
}

impl<'a> Configuration<'a> {
    fn new(answers: &'a Answers, kept: &'a Map<String, Value>) -> Self {
        let is_shared = answers.is_shared;
        let guards = &answers.guards;
        Self {
            schema: schema::REFERENCE,
            app_name: &answers.app_name,
            database_api_url: &answers.store,
            default_level: guards.rules().map(|_| Level::Access.as_str()),
            rules: guards.rules(),
            master_token_paths: guards.master_list(),
            access_token_paths: guards.access_list(),
            // fastauth-api has thirty days, which is the default.
            access_ttl: (!is_shared).then_some("15m"),
            allow_get: is_shared,
            tokens_per_client: if is_shared { "one" } else { "many" },
            store_format: if is_shared { "plain" } else { "fernet" },
            response_shape: is_shared.then_some("envelope"),
            cache: (!is_shared).then_some("on"),
            kept,
        }
    }

    /// Returns the text of the file, with each rule on a line of its own.
    fn text(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(format!("{}\n", text.replace("{\n      ", "{ ").replace(",\n      ", ", ").replace("\n    }", " }")))
    }
}
