//! The `fastauth` program: makes keys, checks and explains a configuration, issues tokens and serves a store.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use anstream::ColorChoice;
use clap::{CommandFactory, Parser};

mod args;
mod ask;
mod backup;
mod bearer;
mod check;
mod config;
mod convert;
mod database;
mod explain;
mod failure;
mod files;
mod init;
mod keygen;
mod keys;
mod logging;
mod output;
mod pages;
#[cfg(test)]
mod reference;
mod routes;
mod runtime;
mod schema;
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
    // Before the arguments are parsed, which may end in help.
    if let Some(choice) = color_choice(env::args_os()) {
        choice.write_global();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) if usage.use_stderr() => {
            output::prompt(usage.render().to_string().trim_end());
            return ExitCode::from(2);
        }
        // Help, or the version.
        Err(help) => {
            let written = help.print().and_then(|()| io::stdout().flush()).map_err(|error| Failure::unwritten(&error));
            return written.map_or_else(|failure| report(&failure), |()| ExitCode::SUCCESS);
        }
    };
    if args.display.quiet {
        output::be_quiet();
    }
    let _flushes = args.command.logging().start(args.display.log_level());
    match run(args) {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

/// Returns what `--color` says, wherever it stands. A word that it does not take is refused with the other arguments.
fn color_choice(args: impl Iterator<Item = OsString>) -> Option<ColorChoice> {
    let words: Vec<_> = args.filter_map(|word| word.into_string().ok()).collect();
    let mut named = words.iter().enumerate().filter_map(|(at, word)| {
        let next = words.get(at + 1).filter(|_| word == "--color").map(String::as_str);
        match next.or_else(|| word.strip_prefix("--color="))? {
            "always" => Some(ColorChoice::Always),
            "never" => Some(ColorChoice::Never),
            _ => None,
        }
    });
    named.next_back()
}

fn report(failure: &Failure) -> ExitCode {
    if failure.is_closed() {
        return ExitCode::from(CLOSED);
    }
    output::prompt(&format!("fastauth: {failure}"));
    ExitCode::FAILURE
}

fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Init(init) => init::run(init),
        Command::Check(check) => check::run(check, args.display.verbose > 0),
        Command::Schema(args) => schema::run(&args),
        Command::Explain(args) => explain::run(args, Args::command()),
        Command::Routes(args) => routes::run(args),
        Command::Token(args) => token::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Store(args) => store::run(args),
        Command::Completions(args) => pages::completions(&args, Args::command()),
        Command::Man(args) => pages::man(&args, Args::command()),
    }
}
