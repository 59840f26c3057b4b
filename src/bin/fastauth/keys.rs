//! `keygen` and `init`.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use fastauth::{Secret, Settings, config::EnvFile};
use serde_json::json;

use crate::{
    args::{Init, Keygen, SecretName},
    failure::Failure,
    output,
};

pub(crate) fn keygen(args: &Keygen) -> Result<ExitCode, Failure> {
    let secret = Secret::generate();
    let Some(path) = &args.write else {
        let prefix = args.name.map(|name| format!("{}=", name.variable())).unwrap_or_default();
        output::line(&format!("{prefix}{}", secret.expose()));
        return Ok(ExitCode::SUCCESS);
    };
    let variable = args.name.unwrap_or(SecretName::CryptographyKey).variable();
    let file = EnvFile::new(path);
    if !args.force && file.contains(variable)? {
        confirm_replacement(variable, path)?;
    }
    file.set(variable, &secret)?;
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
    let (config, env_file) = (args.config.clone(), EnvFile::new(&args.env_file));
    if config.exists() {
        return Err(Failure::new(format!("{} is there already and was left as it is", config.display())));
    }
    let text = format!("{:#}\n", answers(args)?);
    try_out(&text)?;
    for name in [SecretName::MasterToken, SecretName::CryptographyKey] {
        let variable = name.variable();
        if env_file.contains(variable)? {
            output::note(&format!("Kept {variable} in {}", env_file.path().display()));
        } else {
            env_file.set(variable, &Secret::generate())?;
            output::note(&format!("Wrote {variable} to {}", env_file.path().display()));
        }
    }
    // `create_new`: a file that has come into being meanwhile is not overwritten either.
    let written = OpenOptions::new().write(true).create_new(true).open(&config);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::new(format!("{}: {error}", config.display())))?;
    output::note(&format!("Wrote {}; `fastauth check` tries it", config.display()));
    Ok(ExitCode::SUCCESS)
}

fn answers(args: Init) -> Result<serde_json::Value, Failure> {
    let asks = !args.yes && io::stdin().is_terminal();
    let or_ask = |given: Option<String>, question: &str, default: &str| match given {
        Some(given) => Ok(given),
        None if asks => ask(&format!("{question} [{default}]"))
            .map(|answer| if answer.is_empty() { default.to_owned() } else { answer }),
        None => Ok(default.to_owned()),
    };
    let listed = |given: Vec<String>| (!given.is_empty()).then(|| given.join(" "));
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    Ok(json!({
        "app-name": or_ask(args.app_name, "The application's name", "fastauth")?,
        "database-api-url": or_ask(args.database_api_url, "Where tokens are kept, http://... or sqlite:FILE", "sqlite:fastauth.db")?,
        "master-token-paths": words(or_ask(listed(args.master_path), "Prefixes that ask for the master token", "/master")?),
        "access-token-paths": words(or_ask(listed(args.access_path), "Prefixes that ask for an access token", "/access")?),
    }))
}

/// Has the library look at the answers, with secrets made up, before anything is written.
fn try_out(text: &str) -> Result<(), Failure> {
    let directory = std::env::temp_dir().join(format!("fastauth-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("fastauth.config.json");
    std::fs::write(&path, text)?;
    let secrets = [("MASTER_TOKEN", Secret::generate()), ("CRYPTOGRAPHY_KEY", Secret::generate())];
    let environment = secrets.iter().map(|(name, secret)| (*name, secret.expose()));
    let result = Settings::builder().config_file(&path).directory(&directory).environment(environment).load();
    std::fs::remove_dir_all(&directory)?;
    match result {
        Ok(_) => Ok(()),
        Err(error) => {
            let faults = error.faults().iter().map(|fault| {
                format!("\n  - {}: {}; {}", fault.key().unwrap_or_default(), fault.problem(), fault.remedy())
            });
            Err(Failure::new(format!("nothing was written:{}", faults.collect::<String>())))
        }
    }
}

fn ask(question: &str) -> Result<String, Failure> {
    let mut stderr = io::stderr();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("there was no answer"));
    }
    Ok(answer.trim().to_owned())
}
