//! The command line, the secrets of a first start, and requests to try.

use std::{env, error::Error, net::SocketAddr};

use fastauth::{
    Secret, Settings, SettingsBuilder,
    config::{EnvFile, Fault, Source},
};

use super::say;

/// The secrets that a first start makes: each key with its variable.
const SECRETS: [(&str, &str); 2] = [("master-token", "MASTER_TOKEN"), ("cryptography-key", "CRYPTOGRAPHY_KEY")];

pub(crate) struct Arguments {
    pub(crate) settings: SettingsBuilder,
    pub(crate) listen: SocketAddr,
    /// True if the shipped configuration is used, which may have no secrets yet.
    is_first_run: bool,
}

impl Arguments {
    pub(crate) fn parse(program: &str) -> Result<Self, Box<dyn Error>> {
        let usage = || format!("usage: {program} [--config PATH] [--listen ADDR]");
        let mut arguments = Self {
            settings: Settings::builder(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            is_first_run: env::var_os("FASTAUTH_CONFIG").is_none(),
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(usage)?;
            match word.as_str() {
                "--config" => {
                    arguments.settings = arguments.settings.config_file(value);
                    arguments.is_first_run = false;
                }
                "--listen" => {
                    let address = value.parse().map_err(|_| "--listen takes an address such as 127.0.0.1:8000")?;
                    arguments.listen = address;
                }
                _ => return Err(usage().into()),
            }
        }
        Ok(arguments)
    }

    /// Adds missing secrets to the `.env` file, as `fastauth keygen --write` does, unless something else is wrong as well.
    pub(crate) fn make_missing_secrets(&self) -> Result<(), Box<dyn Error>> {
        let report = self.settings.clone().report();
        let are_missing = |fault: &Fault| variable(fault).is_some() && *fault.source() == Source::Default;
        if !self.is_first_run || !report.faults().iter().all(are_missing) {
            return Ok(());
        }
        let file = EnvFile::new(report.env_file());
        for variable in report.faults().iter().filter_map(variable) {
            file.set_if_missing(variable, &Secret::generate())?;
            say(&format!("Made a {variable} and put it into {}", env::current_dir()?.join(file.path()).display()));
        }
        Ok(())
    }

    /// Returns where the value of a key comes from.
    pub(crate) fn source_of(&self, key: &str) -> Option<Source> {
        let report = self.settings.clone().report();
        report.entries().iter().find(|entry| entry.key == key).map(|entry| entry.source.clone())
    }
}

/// Returns the variable of the secret that a fault is about.
fn variable(fault: &Fault) -> Option<&'static str> {
    SECRETS.iter().find(|(key, _)| fault.key() == Some(*key)).map(|(_, variable)| *variable)
}

pub(crate) fn curl_lines(address: SocketAddr, master_token: Option<Source>) -> String {
    let master_token = match master_token {
        Some(Source::EnvFile(path, name)) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            // With and without `export`, quotes and a comment.
            let value = format!(r#"s/^ *\(export *\)*{name}=['\"]*\([^'\" ]*\).*/\2/p"#);
            format!(r#"$(sed -n "{value}" '{}')"#, path.display())
        }
        _ => "'the master token of your configuration'".to_owned(),
    };
    let new = format!(r#"curl -s -H "MASTER-TOKEN: {master_token}" "http://{address}/auth/token/new?client_id=me""#);
    let access_token = format!(r#"$({new} | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#);
    format!(
        r#"An open path:
  curl -i http://{address}/health
A pair of tokens for the client "me":
  {new}
A path that needs an access token, with a new one:
  curl -i -H "ACCESS-TOKEN: {access_token}" http://{address}/access/health
A path that needs the master token:
  curl -i -H "MASTER-TOKEN: {master_token}" http://{address}/master/health
"#
    )
}
