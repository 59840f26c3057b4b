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
    let question = format!("{path} has a {variable}. What it opened will be closed. Replace it? [y/N]");
    match ask(&question)?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(format!("{path} was left as it is"))),
    }
}

pub(crate) fn init(args: Init) -> Result<ExitCode, Failure> {
    let config = args.config.clone();
    let beside = config.with_file_name(".env");
    let env_file = EnvFile::new(args.env_file.clone().unwrap_or_else(|| beside.clone()));
    let taken = || Failure::new(format!("{} is there already and was left as it is", config.display()));
    if config.exists() {
        return Err(taken());
    }
    let answers = Answers::of(args)?;
    answers.try_out()?;
    // `create_new`: a file that has come into being meanwhile is not overwritten either.
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(&config).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => taken(),
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

fn write_secrets(file: &EnvFile, beside: &Path) -> Result<(), Failure> {
    for name in [SecretName::MasterToken, SecretName::CryptographyKey] {
        let variable = name.variable();
        let is_new = file.set_if_missing(variable, &Secret::generate())?;
        let done = if is_new { format!("Wrote {variable} to") } else { format!("Kept {variable} in") };
        output::note(&format!("{done} {}", file.path().display()));
    }
    if file.path() != beside {
        output::note(
            "Only the .env beside the configuration is read by itself, or else the one in the working directory: load any \
             other file into the environment",
        );
    }
    Ok(())
}

/// The configuration file to be.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answers {
    app_name: String,
    database_api_url: String,
    master_token_paths: Vec<String>,
    access_token_paths: Vec<String>,
}

impl Answers {
    fn of(args: Init) -> Result<Self, Failure> {
        let asks = !args.yes && io::stdin().is_terminal();
        let answer = |given: Option<String>, question: &str, default: &str| match given {
            Some(given) => Ok(given),
            None if asks => ask(&format!("{question} [{default}]"))
                .map(|answer| if answer.is_empty() { default.to_owned() } else { answer }),
            None => Ok(default.to_owned()),
        };
        let prefixes = |given: Vec<String>, question: &str, default: &str| match given.is_empty() {
            true => answer(None, question, default).map(|text| text.split_whitespace().map(str::to_owned).collect()),
            false => Ok(given),
        };
        let store = "Where tokens are kept, http://... or sqlite:FILE";
        Ok(Self {
            app_name: answer(args.app_name, "The application's name", "fastauth")?,
            database_api_url: answer(args.database_api_url, store, "sqlite:fastauth.db")?,
            master_token_paths: prefixes(args.master_path, "Prefixes that ask for the master token", "/master")?,
            access_token_paths: prefixes(args.access_path, "Prefixes that ask for an access token", "/access")?,
        })
    }

    /// Has the library look at the answers, with secrets made up, before anything is written.
    fn try_out(&self) -> Result<(), Failure> {
        let settings = Settings::builder()
            .app_name(&self.app_name)
            .database_api_url(&self.database_api_url)
            .master_token_paths(&self.master_token_paths)
            .access_token_paths(&self.access_token_paths)
            .master_token(Secret::generate())
            .cryptography_key(Secret::generate());
        let Err(error) = settings.build() else { return Ok(()) };
        let faults = error
            .faults()
            .iter()
            .map(|fault| format!("\n  - {}: {}; {}", fault.key().unwrap_or_default(), fault.problem(), fault.remedy()));
        Err(Failure::new(format!("nothing was written:{}", faults.collect::<String>())))
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
