//! `keygen`.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use fastauth::{Secret, Settings, config::EnvFile};

use crate::{ask::ask, failure::Failure, output};

#[derive(Args)]
#[command(after_help = "\
Examples:
  fastauth keygen
  fastauth keygen --name MASTER_TOKEN
  fastauth keygen --name CRYPTOGRAPHY_KEY --write --force")]
pub(crate) struct Keygen {
    /// The secret to generate [default with --write: CRYPTOGRAPHY_KEY]
    #[arg(long, value_enum, ignore_case = true)]
    name: Option<SecretName>,
    /// Write it to this file instead of printing it; other lines are kept [default FILE: the .env that is read, beside the
    /// configuration file that FASTAUTH_CONFIG names, or else in the working directory]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    write: Option<Option<PathBuf>>,
    /// Replace an existing value without asking
    #[arg(long, requires = "write")]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SecretName {
    #[value(name = "CRYPTOGRAPHY_KEY")]
    CryptographyKey,
    #[value(name = "MASTER_TOKEN")]
    MasterToken,
}

impl SecretName {
    pub(crate) const ALL: [Self; 2] = [Self::MasterToken, Self::CryptographyKey];

    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::CryptographyKey => "CRYPTOGRAPHY_KEY",
            Self::MasterToken => "MASTER_TOKEN",
        }
    }
}

pub(crate) fn run(args: &Keygen) -> Result<ExitCode, Failure> {
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
        return Err(Failure::new(format!(
            "{path} already has a {variable}, and nothing was written; --force replaces it"
        )));
    }
    let what = match variable {
        "MASTER_TOKEN" => "all callers that send it",
        _ => "all tokens",
    };
    let question = format!("{path} already has a {variable}. Replacing it invalidates {what}. Replace? [y/N]");
    match ask(&question)?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(format!("{path} was not changed"))),
    }
}
