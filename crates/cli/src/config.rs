//! The argument that names the configuration file.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use fastauth::{Settings, SettingsBuilder};

#[derive(ClapArgs)]
pub(crate) struct Config {
    /// The configuration file [env: FASTAUTH_CONFIG=] [default: fastauth.config.json]
    #[arg(long, short, value_name = "PATH")]
    config: Option<PathBuf>,
}

impl Config {
    pub(crate) fn settings(self) -> SettingsBuilder {
        match self.config {
            Some(path) => Settings::builder().config_file(path),
            None => Settings::builder(),
        }
    }
}
