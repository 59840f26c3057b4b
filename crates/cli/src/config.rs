//! The argument that names the configuration file, and those that stand beside it in several commands.

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

/// What a command needs to know that explains decisions, and how it prints them.
#[derive(ClapArgs)]
pub(crate) struct Explaining {
    /// Where the application mounts the token router
    #[arg(long, value_name = "PREFIX", default_value = "/auth")]
    pub(crate) auth_prefix: String,
    #[command(flatten)]
    pub(crate) config: Config,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
