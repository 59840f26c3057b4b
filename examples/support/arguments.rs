//! The command line, the secrets of a first start, and requests to try.

use std::{env, error::Error, net::SocketAddr};

use fastauth::{
    Secret, Settings, SettingsBuilder,
    config::{EnvFile, Fault, Source},
};

use super::{DefaultSetting, say};

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

    /// Applies settings to the shipped configuration, each unless something else sets its key.
    pub(crate) fn apply(&mut self, defaults: &[DefaultSetting]) {
        if !self.is_first_run {
            return;
        }
        for (key, set) in defaults {
            if self.source_of(key) == Some(Source::Default) {
                self.settings = set(self.settings.clone());
            }
        }
    }

    /// Reads the settings. Where the shipped configuration is missing, the error says that the clone has it.
    pub(crate) fn load(self) -> Result<Settings, String> {
        self.settings.load().map_err(|error| {
            let is_missing = |fault: &Fault| matches!(fault.source(), Source::File(path) if !path.exists());
            let is_elsewhere = self.is_first_run && error.faults().iter().any(is_missing);
            let remedy = if is_elsewhere {
                "\nOr start it in the clone of FastAuth, which has a fastauth.config.json."
            } else {
                ""
            };
            format!("{error}{remedy}")
        })
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

/// Returns commands for a shell, each of which works after those above it.
pub(crate) fn curl_lines(url: &str, master_token: Option<Source>) -> String {
    let master_token = match master_token {
        Some(Source::EnvFile(path, name)) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            // With and without `export`, quotes and a comment.
            let value = format!(r#"s/^ *\(export *\)*{name}=['\"]*\([^'\" ]*\).*/\2/p"#);
            format!(r#"$(sed -n "{value}" '{}')"#, path.display())
        }
        _ => "'the master token of your configuration'".to_owned(),
    };
    format!(
        r#"# a public path
curl -i {url}/health
# a pair of tokens for the client "me"
MASTER_TOKEN={master_token}
curl -s -H "MASTER-TOKEN: $MASTER_TOKEN" -d client_id=me {url}/auth/token/new
# a path that requires an access token, with the one of another pair
ACCESS_TOKEN=$(curl -s -H "MASTER-TOKEN: $MASTER_TOKEN" -d client_id=me {url}/auth/token/new | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
curl -i -H "ACCESS-TOKEN: $ACCESS_TOKEN" {url}/access/health
# a path that requires the master token
curl -i -H "MASTER-TOKEN: $MASTER_TOKEN" {url}/master/health
"#
    )
}
