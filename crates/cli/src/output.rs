//! Writing to people and to scripts.
//!
//! Standard output is what was asked for: the program fails if it cannot be written, since a secret would be lost with it.
//! Nothing that others chose is obeyed by a terminal; what stands between the lines of this program is shown by
//! [`shown`](fastauth_core::shown::shown).

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use fastauth_core::shown::{escaped, is_hidden};

use crate::failure::Failure;

/// Writes a line on standard output: what was asked for.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    verbatim(&format!("{}\n", visible(text)))
}

/// Writes a text on standard output as it is: scripts, and secrets, which would be others if anything in them was escaped.
pub(crate) fn verbatim(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::unwritten(&error))
}

/// Writes a line on standard error: what is to be known beside it. There is nobody to tell if that cannot be written.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Writes JSON on standard output, for people to read as well.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    verbatim(&format!("{}\n", escaped_json(&serde_json::to_string_pretty(value)?)))
}

/// Writes JSON on one line of standard output.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    verbatim(&format!("{}\n", escaped_json(&serde_json::to_string(value)?)))
}

fn visible(text: &str) -> String {
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// The same JSON, in which the texts have nothing hidden: they alone may have any.
fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || !is_hidden(char) {
            escaped.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a text does not fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}
