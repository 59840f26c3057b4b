//! The error that ends the program with exit code 1.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

/// A message for standard error.
pub(crate) struct Failure {
    message: String,
    is_closed: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_closed: false }
    }

    /// Creates the failure to write standard output.
    pub(crate) fn unwritten(error: &io::Error) -> Self {
        let message = format!("standard output cannot be written: {error}");
        Self { message, is_closed: error.kind() == ErrorKind::BrokenPipe }
    }

    /// Returns true if the reader of standard output is gone, so that nothing needs to be said.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
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

/// Returns an error and those of its causes that its own text does not contain.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
