//! The `fastauth` program: makes keys, checks and explains a configuration, issues tokens and serves a store.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

mod args;
mod backup;
mod bearer;
mod check;
mod convert;
mod explain;
mod failure;
mod init;
mod keys;
mod logging;
mod output;
mod server;
mod sessions;
mod store;
mod store_test;
mod token;

use args::{Args, Command};
use failure::Failure;

/// The exit code if the reader of standard output went away: 128 and the number of `SIGPIPE`, as a shell has it.
const CLOSED: u8 = 141;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) if usage.use_stderr() => {
            output::note(usage.render().to_string().trim_end());
            return ExitCode::from(2);
        }
        // Help, or the version.
        Err(help) => {
            let written = help.print().and_then(|()| io::stdout().flush()).map_err(|error| Failure::unwritten(&error));
            return written.map_or_else(|failure| report(&failure), |()| ExitCode::SUCCESS);
        }
    };
    let _flushes = args.command.logging().start();
    match run(args.command) {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    if failure.is_closed() {
        return ExitCode::from(CLOSED);
    }
    output::note(&format!("fastauth: {failure}"));
    ExitCode::FAILURE
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Keygen(args) => init::keygen(&args),
        Command::Init(args) => init::init(args),
        Command::Keys(args) => keys::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Token(args) => token::run(args),
        Command::Store(args) => store::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "fastauth", &mut script);
            output::verbatim(&String::from_utf8(script)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
