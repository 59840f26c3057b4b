//! The text of a `.env` file: which lines give a variable its value, and which value.
//!
//! Readers of such files differ in what they make of `$`, of backslashes and of values over several lines. A value is taken
//! only where they all agree, so that what was written is what is read. Lines of other programs are not judged.

use std::ops::Range;

use fastauth_core::secret::Secret;

/// What to do about a line that readers would differ on.
pub(crate) const REMEDY: &str = "write NAME='value' on one line, in single quotes";

/// A line that gives a variable a value, or seems to.
pub(crate) struct Assignment<'a> {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) name: &'a str,
    /// Where the line is in the text, with its line break.
    pub(crate) range: Range<usize>,
    /// What stands before the name, such as `export `.
    pub(crate) before: &'a str,
    pub(crate) value: Result<AssignedValue<'a>, ReaderConflict>,
}

/// What stands behind `NAME=`.
pub(crate) struct AssignedValue<'a> {
    pub(crate) text: &'a str,
    /// From the `#` on, or nothing.
    pub(crate) comment: &'a str,
}

/// Why readers would differ on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReaderConflict {
    #[error("is not NAME=value")]
    NotAnAssignment,
    #[error("opens quotes that are not closed on it, or ends in a backslash")]
    Unclosed,
    #[error("is inside the quotes that line {0} opens")]
    Within(usize),
    #[error("continues line {0}, which ends in a backslash")]
    Continues(usize),
    #[error(
        "has a character outside of single quotes that readers change, or end the value at, such as $ \\ \" ; # & ~"
    )]
    Special,
    #[error("has text after its value")]
    Trailing,
    #[error("has a control character in its value, or is not UTF-8")]
    Control,
    #[error("sets another value than an earlier line")]
    Differs,
}

impl ReaderConflict {
    /// Returns true if the value may go on in the lines that follow, or began before.
    pub(crate) fn is_over_lines(self) -> bool {
        matches!(self, Self::Unclosed | Self::Within(_) | Self::Continues(_))
    }
}

/// A line that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineProblem {
    pub(crate) line: usize,
    pub(crate) problem: ReaderConflict,
}

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// Returns true if every reader takes the character as it is where it stands without quotes.
pub(crate) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-=.:/+,@%".contains(c)
}

/// Returns the value that a text gives `name`, if there is one, or the first line of the name that readers differ on.
pub(crate) fn value(text: &str, name: &str) -> Result<Option<Secret>, LineProblem> {
    let mut found: Option<Secret> = None;
    for Assignment { line, value, .. } in of_name(text, name) {
        let value = value.map_err(|problem| LineProblem { line, problem })?;
        if found.as_ref().is_some_and(|found| found.expose() != value.text) {
            return Err(LineProblem { line, problem: ReaderConflict::Differs });
        }
        found = Some(Secret::from(value.text));
    }
    Ok(found)
}

/// Returns the lines that give `name` a value, or seem to.
pub(crate) fn of_name<'a>(text: &'a str, name: &str) -> Vec<Assignment<'a>> {
    assignments(text).into_iter().filter(|line| line.name == name).collect()
}

/// Returns every line that gives a variable a value, or seems to, in its order.
pub(crate) fn assignments(text: &str) -> Vec<Assignment<'_>> {
    let mut found = Vec::new();
    // The line that goes on in the one that is looked at, and its mark: of open quotes, or a backslash.
    let mut open: Option<(usize, char)> = None;
    let mut start = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let number = number + 1;
        let range = start..start + line.len();
        start = range.end;
        let before_it = open;
        open = goes_on(line.trim_end_matches(['\r', '\n']), before_it.map(|(_, mark)| mark)).map(|mark| {
            let since = before_it.filter(|(_, before)| *before == mark && mark != '\\');
            (since.map_or(number, |(line, _)| line), mark)
        });
        let Some((before, name, rest)) = split(line) else {
            continue;
        };
        let written = rest.trim_start().strip_prefix('=').map(|written| written.trim_end_matches(['\r', '\n']));
        let value = match (before_it, written) {
            (Some((line, '\\')), _) => Err(ReaderConflict::Continues(line)),
            (Some((line, _)), _) => Err(ReaderConflict::Within(line)),
            (None, _) if open.is_some() => Err(ReaderConflict::Unclosed),
            (None, Some(written)) => parse(written),
            // `export NAME` gives it no value.
            (None, None) if rest.trim().is_empty() && before.contains("export") => continue,
            (None, None) => Err(ReaderConflict::NotAnAssignment),
        };
        found.push(Assignment { line: number, name, range, before, value });
    }
    found
}

/// Returns the mark of the quotes that are open at the end of a line, or the backslash that it ends in, if one of the readers may
/// take the next line for a part of it. They differ on a backslash in single quotes.
fn goes_on(line: &str, open: Option<char>) -> Option<char> {
    let is_comment = open.is_none() && line.trim_start().starts_with('#');
    if is_comment {
        return None;
    }
    left_open(line, open, false).or_else(|| left_open(line, open, true))
}

fn left_open(line: &str, open: Option<char>, single_quotes_escape: bool) -> Option<char> {
    let begins = if open.is_some() { 0 } else { line.find(['=', ':']).map_or(line.len(), |at| at + 1) };
    let mut quote = open.filter(|mark| QUOTES.contains(mark));
    let mut is_escaped = false;
    let mut last = ' ';
    for c in line[begins..].chars() {
        let escapes = c == '\\' && !is_escaped && (quote != Some('\'') || single_quotes_escape);
        match quote {
            Some(mark) if c == mark && !is_escaped => quote = None,
            // An apostrophe within a word is none, as in `it's`.
            None if QUOTES.contains(&c) && !is_escaped && !(c == '\'' && last.is_alphanumeric()) => quote = Some(c),
            None if c == '#' && last.is_whitespace() => return None,
            _ => {}
        }
        is_escaped = escapes;
        last = c;
    }
    quote.or_else(|| (is_escaped || begins == line.len() && line.ends_with('\\')).then_some('\\'))
}

/// Splits a line into what stands before a name, the name, and the rest.
fn split(line: &str) -> Option<(&str, &str, &str)> {
    let is_space = |c: char| c.is_whitespace() || c == '\u{feff}';
    let trimmed = line.trim_start_matches(is_space);
    let exported = trimmed.strip_prefix("export").filter(|rest| rest.starts_with(is_space));
    let named = exported.map_or(trimmed, |rest| rest.trim_start_matches(is_space));
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let length = named.find(|c| !is_of_name(c)).unwrap_or(named.len());
    let (name, rest) = named.split_at(length);
    (!name.is_empty()).then(|| (&line[..line.len() - named.len()], name, rest))
}

/// Reads the value and the comment behind `NAME=`.
fn parse(written: &str) -> Result<AssignedValue<'_>, ReaderConflict> {
    let trimmed = written.trim();
    let (text, behind) = match trimmed.chars().next() {
        // Behind a space it is a comment.
        Some('#') if trimmed.len() < written.trim_end().len() => ("", trimmed),
        Some('#') => return Err(ReaderConflict::Trailing),
        Some(quote) if QUOTES.contains(&quote) => {
            let end = closing(&trimmed[1..], quote).ok_or(ReaderConflict::Unclosed)?;
            (&trimmed[1..=end], &trimmed[end + 2..])
        }
        _ => trimmed.split_at(trimmed.find(char::is_whitespace).unwrap_or(trimmed.len())),
    };
    let is_changed = |c: char| ['$', '\\', '`', '"', '\''].contains(&c);
    let is_clear = match trimmed.chars().next() {
        Some('\'') => true,
        Some('`') => false,
        Some('"') => !text.contains(is_changed),
        _ => text.chars().all(|c| is_plain(c) || c.is_control() || c == char::REPLACEMENT_CHARACTER),
    };
    if !is_clear {
        return Err(ReaderConflict::Special);
    }
    let comment = behind.trim_start();
    if !comment.is_empty() && !comment.starts_with('#') {
        return Err(ReaderConflict::Trailing);
    }
    if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return Err(ReaderConflict::Control);
    }
    Ok(AssignedValue { text, comment })
}

/// Finds where quotes end: a backslash takes the next character along, but in single quotes.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == quote && !is_escaped;
        is_escaped = c == '\\' && !is_escaped && quote != '\'';
        closes.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, ReaderConflict> {
        let found = assignments(text);
        let found = found.into_iter().find(|found| found.name == "X").unwrap();
        found.value.map(|value| format!("{}|{}", value.text, value.comment))
    }

    #[test]
    fn value_is_read_if_all_readers_agree() {
        for (text, expected) in [
            ("X=abc", "abc|"),
            ("X = abc \r\n", "abc|"),
            ("\u{feff}X=abc\n", "abc|"),
            ("  export\tX=abc # why\n", "abc|# why"),
            ("X=aZ9_-=.:/+,@%", "aZ9_-=.:/+,@%|"),
            ("X='a;b#c&d~\\e'", "a;b#c&d~\\e|"),
            ("X=\"~a;b#c&d\"", "~a;b#c&d|"),
            ("X=", "|"),
            ("X= # nothing", "|# nothing"),
            ("X='a$b\\c\"d`e # f' # why", "a$b\\c\"d`e # f|# why"),
            ("X=\"a b\"", "a b|"),
            ("X=''", "|"),
            ("NOTE=it's\nX=abc", "abc|"),
            ("A='x\ny'\nX=abc", "abc|"),
            ("A=\"x\\\"\ny\"\nX=abc", "abc|"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn line_that_readers_differ_on_is_a_problem() {
        for (text, expected) in [
            ("X=a$b", ReaderConflict::Special),
            ("X=\"a${B}\"", ReaderConflict::Special),
            ("X=a\\$b", ReaderConflict::Special),
            ("X=a`b`", ReaderConflict::Special),
            ("X=`ab`", ReaderConflict::Special),
            ("X=it's", ReaderConflict::Special),
            ("X='a'\\''b'", ReaderConflict::Trailing),
            ("X='a'b", ReaderConflict::Trailing),
            ("X=a b", ReaderConflict::Trailing),
            ("X=#a", ReaderConflict::Trailing),
            ("X=a#b", ReaderConflict::Special),
            ("X=a;b", ReaderConflict::Special),
            ("X=a&b", ReaderConflict::Special),
            ("X=a|b", ReaderConflict::Special),
            ("X=a<b", ReaderConflict::Special),
            ("X=a(b", ReaderConflict::Special),
            ("X=~a", ReaderConflict::Special),
            ("X='a\\'", ReaderConflict::Unclosed),
            ("X=a\\", ReaderConflict::Unclosed),
            ("A=b\\\nX=a", ReaderConflict::Continues(1)),
            ("A=b\\\nB=c\\\r\nX=a", ReaderConflict::Continues(2)),
            ("A=\"b\\\nX=a\"", ReaderConflict::Within(1)),
            ("X='a", ReaderConflict::Unclosed),
            ("X=\"a\\\"", ReaderConflict::Unclosed),
            ("X: a", ReaderConflict::NotAnAssignment),
            ("X", ReaderConflict::NotAnAssignment),
            ("X='a\tb'", ReaderConflict::Control),
            ("A=\"x\nX=abc\n\"", ReaderConflict::Within(1)),
            ("B=1\nA='x\nX=abc'\n", ReaderConflict::Within(2)),
        ] {
            assert_eq!(read(text), Err(expected), "{text:?}");
        }
        assert!(assignments("export X\n# X=1\n=1\n").is_empty());
    }
}
