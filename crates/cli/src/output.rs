//! Writing to people and to scripts.
//!
//! Standard output carries the result: the program fails if it cannot be written, since a secret would be lost with it.
//! A terminal obeys nothing that others chose: [`shown`](fastauth_core::shown::shown) escapes what stands within a line.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use fastauth_core::shown::{escaped, is_hidden};
use serde::Serialize;

use crate::failure::Failure;

/// Writes a line to standard output: the result.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    verbatim(&format!("{}\n", visible(text)))
}

/// Writes a text to standard output as it is: scripts, and secrets, which escaping would change.
pub(crate) fn verbatim(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::unwritten(&error))
}

/// Writes a line to standard error, beside the result.
pub(crate) fn note(text: &str) {
    // If it cannot be written, there is nowhere to say so.
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Writes JSON to standard output, indented for people.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    verbatim(&format!("{}\n", escaped_json(&serde_json::to_string_pretty(value)?)))
}

/// Writes JSON to one line of standard output.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    verbatim(&format!("{}\n", escaped_json(&serde_json::to_string(value)?)))
}

fn visible(text: &str) -> String {
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// Escapes the hidden characters of JSON, which can only stand in its texts.
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
