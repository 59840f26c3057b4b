//! What ends the program with exit code 1.

use std::{
    error::Error,
    io::{self, ErrorKind},
    process::ExitCode,
};

use crate::output;

/// What a shell is told of a program whose reader went away: 128 and the number of `SIGPIPE`.
const CLOSED: u8 = 141;

/// A message for standard error.
pub(crate) struct Failure {
    message: String,
    /// Whoever read standard output is gone, and nothing needs to be said.
    is_closed: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_closed: false }
    }

    /// Standard output could not be written.
    pub(crate) fn unwritten(error: &io::Error) -> Self {
        let message = format!("standard output cannot be written: {error}");
        Self { message, is_closed: error.kind() == ErrorKind::BrokenPipe }
    }

    pub(crate) fn report(self) -> ExitCode {
        if self.is_closed {
            return ExitCode::from(CLOSED);
        }
        output::note(&format!("fastauth: {}", self.message));
        ExitCode::FAILURE
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(chain(&error))
    }
}

/// An error with those of its causes that it does not tell itself.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
