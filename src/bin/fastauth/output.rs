//! Writing to people and to scripts. A reader that goes away (`| head`) is no fault.

use std::io::{self, Write};

use serde::Serialize;

/// A line on standard output: what was asked for.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line on standard error: what is to be known beside it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// JSON on standard output, for people to read as well.
pub(crate) fn json(value: &impl Serialize) {
    // Texts and numbers under textual names can always be written.
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}
