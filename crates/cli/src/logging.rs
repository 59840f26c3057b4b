//! The log of the program, on standard error.

use std::io;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each event
    #[default]
    Text,
    /// A JSON object for each event, on one line
    Json,
}

/// How a command logs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logging {
    format: LogFormat,
    /// A command that serves says what it does, and not only what goes wrong.
    is_server: bool,
    access_log: bool,
}

impl Logging {
    pub(crate) fn of_server(format: LogFormat, access_log: bool) -> Self {
        Self { format, is_server: true, access_log }
    }

    /// Starts the log at the level that a flag sets, or else by RUST_LOG if it is set. Dropping the guard writes what is left.
    pub(crate) fn start(self, level: Option<&str>) -> WorkerGuard {
        let default = if self.is_server { "warn,fastauth=info" } else { "warn" };
        let filter = match level {
            Some(level) => EnvFilter::new(level),
            None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
        };
        // It has a flag of its own, whatever else is logged.
        let filter = match "fastauth::access=info".parse() {
            Ok(directive) if self.access_log => filter.add_directive(directive),
            _ => filter,
        };
        // Standard error may be closed, full or not read: a thread of its own waits for it, and requests do not.
        let (writer, flushes) = tracing_appender::non_blocking(io::stderr());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
        match self.format {
            LogFormat::Text => log.with_ansi(AutoStream::choice(&io::stderr()) != ColorChoice::Never).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        flushes
    }
}
