//! `keygen` and `init`.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, ErrorKind, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use fastauth::{Secret, Settings, config::EnvFile};
use serde::Serialize;

use crate::{
    args::{Init, Keygen, SecretName},
    failure::Failure,
    output,
};

pub(crate) fn keygen(args: &Keygen) -> Result<ExitCode, Failure> {
    let secret = Secret::generate();
    let Some(named) = &args.write else {
        let prefix = args.name.map(|name| format!("{}=", name.variable())).unwrap_or_default();
        output::verbatim(&format!("{prefix}{}\n", secret.expose()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let variable = args.name.unwrap_or(SecretName::CryptographyKey).variable();
    let path = named.clone().unwrap_or_else(|| Settings::builder().report().env_file().to_owned());
    let file = EnvFile::new(&path);
    if args.force {
        file.set(variable, &secret)?;
    } else if !file.set_if_missing(variable, &secret)? {
        confirm_replacement(variable, &path)?;
        file.set(variable, &secret)?;
    }
    output::note(&format!("Wrote {variable} to {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

fn confirm_replacement(variable: &str, path: &Path) -> Result<(), Failure> {
    let path = path.display();
    if !io::stdin().is_terminal() {
        return Err(Failure::new(format!("{path} has a {variable}; --force replaces it")));
    }
    let question = match variable {
        "MASTER_TOKEN" => {
            format!("{path} has a {variable}. Replacing it invalidates all callers that use it. Replace? [y/N]")
        }
        _ => format!("{path} has a {variable}. Replacing it invalidates all tokens. Replace? [y/N]"),
    };
    match ask(&question)?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(format!("{path} was left as it is"))),
    }
}

pub(crate) fn init(args: Init) -> Result<ExitCode, Failure> {
    let config = args.config.clone();
    let beside = config.with_file_name(".env");
    let env_file = EnvFile::new(args.env_file.clone().unwrap_or_else(|| beside.clone()));
    if config.exists() {
        return Err(existing(&config));
    }
    let answers = Answers::from_args(args)?;
    answers.check()?;
    // `create_new`: a file that another process has just created is not overwritten either.
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(&config).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => existing(&config),
            _ => Failure::new(format!("{}: {error}", config.display())),
        })?;
    let written = serde_json::to_string_pretty(&answers).map_err(Failure::from).and_then(|text| {
        file.write_all(format!("{text}\n").as_bytes())?;
        write_secrets(&env_file, &beside)
    });
    if let Err(failure) = written {
        // Half a configuration would only be in the way of the next try.
        let _ = std::fs::remove_file(&config);
        return Err(failure);
    }
    output::note(&format!("Wrote {}. To try it: fastauth check --config {0}", config.display()));
    Ok(ExitCode::SUCCESS)
}

fn existing(config: &Path) -> Failure {
    Failure::new(format!("{} already exists and was left as it is", config.display()))
}

fn write_secrets(file: &EnvFile, beside: &Path) -> Result<(), Failure> {
    for name in [SecretName::MasterToken, SecretName::CryptographyKey] {
        let variable = name.variable();
        let is_new = file.set_if_missing(variable, &Secret::generate())?;
        let done = if is_new { format!("Wrote {variable} to") } else { format!("Kept {variable} in") };
        output::note(&format!("{done} {}", file.path().display()));
    }
    if file.path() != beside {
        output::note(
            "Only the .env beside the configuration file is read, or else the one in the working directory: load any other \
             file into the environment",
        );
    }
    Ok(())
}

/// The configuration file to write.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answers {
    app_name: String,
    database_api_url: String,
    master_token_paths: Vec<String>,
    access_token_paths: Vec<String>,
}

impl Answers {
    fn from_args(args: Init) -> Result<Self, Failure> {
        let asks = !args.yes && io::stdin().is_terminal();
        let master = if args.master_path.is_empty() { None } else { Some(args.master_path) };
        let access = if args.access_path.is_empty() { None } else { Some(args.access_path) };
        let store = "Store of the tokens, http://... or sqlite:FILE";
        Ok(Self {
            app_name: answer(asks, args.app_name, "Name of the application", "fastauth")?,
            database_api_url: answer(asks, args.database_api_url, store, "sqlite:fastauth.db")?,
            master_token_paths: prefixes(asks, master, "Path prefixes that require the master token", "/master")?,
            access_token_paths: prefixes(asks, access, "Path prefixes that require an access token", "/access")?,
        })
    }

    /// Checks the answers, with generated secrets, before anything is written.
    fn check(&self) -> Result<(), Failure> {
        let settings = Settings::builder()
            .app_name(&self.app_name)
            .database_api_url(&self.database_api_url)
            .master_token_paths(&self.master_token_paths)
            .access_token_paths(&self.access_token_paths)
            .master_token(Secret::generate())
            .cryptography_key(Secret::generate());
        let Err(error) = settings.build() else { return Ok(()) };
        let mut message = "nothing was written:".to_owned();
        for fault in error.faults() {
            let key = fault.key().unwrap_or("configuration");
            message += &format!("\n  - {key}: {}; {}", fault.problem(), fault.remedy());
        }
        Err(Failure::new(message))
    }
}

/// Returns what was given, else what is answered, else the default.
fn answer(asks: bool, given: Option<String>, question: &str, default: &str) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    let answer = if asks { ask(&format!("{question} [{default}]"))? } else { String::new() };
    Ok(if answer.is_empty() { default.to_owned() } else { answer })
}

fn prefixes(asks: bool, given: Option<Vec<String>>, question: &str, default: &str) -> Result<Vec<String>, Failure> {
    match given {
        Some(given) => Ok(given),
        None => Ok(answer(asks, None, question, default)?.split_whitespace().map(str::to_owned).collect()),
    }
}

pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    let mut stderr = io::stderr();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("there was no answer"));
    }
    Ok(answer.trim().to_owned())
}
