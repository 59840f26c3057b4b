//! Writing to people and to scripts.
//!
//! Standard output carries the result: the program fails if it cannot be written, since a secret would be lost with it.
//! A terminal obeys nothing that others chose: [`shown`](fastauth_core::shown::shown) escapes what stands within a line.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use anstyle::{AnsiColor, Style};
use fastauth_core::shown::{escaped, is_hidden};
use serde::Serialize;

use crate::failure::Failure;

/// What --quiet sets, once, before a command runs.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out what [`note`] writes.
pub(crate) fn be_quiet() {
    IS_QUIET.store(true, Relaxed);
}

/// What a line says, by its first word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    Fault,
    Warning,
    Suggestion,
    Note,
}

impl Label {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Suggestion => "suggestion",
            Self::Note => "note",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Fault => AnsiColor::Red.on_default().bold(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Suggestion => AnsiColor::Cyan.on_default().bold(),
            Self::Note => Style::new().bold(),
        }
    }
}

/// Writes a line to standard output: the result.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    verbatim(&format!("{}\n", visible(text)))
}

/// Writes a line with a label to standard output, in colour where that is wanted.
pub(crate) fn labelled(label: Label, text: &str) -> Result<(), Failure> {
    let (style, word) = (label.style(), label.word());
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    let written = writeln!(stdout, "{style}{word}{style:#}: {}", visible(text)).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::unwritten(&error))
}

/// Writes a text to standard output as it is: scripts, and secrets, which escaping would change.
pub(crate) fn verbatim(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::unwritten(&error))
}

/// Writes a line to standard error, beside the result, unless --quiet is given.
pub(crate) fn note(text: &str) {
    if !IS_QUIET.load(Relaxed) {
        prompt(text);
    }
}

/// Writes a line to standard error in any case: an error, or what belongs to a question.
pub(crate) fn prompt(text: &str) {
    // If it cannot be written, there is nowhere to say so.
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Writes a warning to standard error, also with --quiet.
pub(crate) fn warning(text: &str) {
    let style = Label::Warning.style();
    let mut stderr = anstream::AutoStream::auto(io::stderr().lock());
    let _ = writeln!(stderr, "{style}warning{style:#}: {}", visible(text));
}

/// Writes JSON to standard output, indented for people.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    verbatim(&format!("{}\n", escaped_json(&serde_json::to_string_pretty(value)?)))
}

/// Writes JSON to one line of standard output.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    verbatim(&format!("{}\n", escaped_json(&serde_json::to_string(value)?)))
}

/// Escapes what a terminal would obey, except for line breaks and tabs.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// Breaks a text into lines of at most 100 characters, at its spaces.
pub(crate) fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut wrapped = String::with_capacity(text.len());
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
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
