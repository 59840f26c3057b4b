//! The environment variables of the server.

use std::env;

use clap::{Args, Command};
use fastauth_config::is_of_a_service;
use fastauth_core::shown::shown;

use crate::{args::Serve, bearer::BEARER_VARIABLE};

/// Warns of each variable that begins as the server's do and is none of them. Kubernetes sets some for a service of that name.
pub(super) fn warn_of_unknown() {
    let command = Serve::augment_args(Command::new("serve"));
    let is_known = |name: &str| {
        name == BEARER_VARIABLE || command.get_arguments().any(|flag| flag.get_env().is_some_and(|known| known == name))
    };
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("FASTAUTH_STORE_") && !is_known(&name) && !is_of_a_service(&name) {
            let name = shown(&name);
            tracing::warn!(
                target: "fastauth",
                "environment variable {name} is none of the server's, and has no effect: see `fastauth store serve --help`"
            );
        }
    }
}
