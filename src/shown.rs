//! Text that others chose, as people are shown it: in logs, in errors and by the program.

use std::{borrow::Cow, fmt::Write};

/// As many characters of a text are shown. No id of ours is longer.
const MOST: usize = 256;

/// Returns a text of at most 256 characters in which nothing is left that a terminal obeys or that cannot be seen, line
/// ends among it.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.len() <= MOST && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(MOST).map(|(end, _)| end);
    let kept = &text[..end.unwrap_or(text.len())];
    if end.is_none() && !kept.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = escaped(kept, |_| false);
    if end.is_some() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

/// Escapes what is hidden, but for what is `kept`.
pub(crate) fn escaped(text: &str, kept: fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for char in text.chars() {
        if is_hidden(char) && !kept(char) {
            // Writing to a text does not fail.
            let _ = write!(escaped, "{}", char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Whether a character is a control, turns the order of what is read, ends a line, or is not seen at all. Those that join
/// letters and emoji are left.
pub(crate) fn is_hidden(char: char) -> bool {
    const FORMATS: [(char, char); 10] = [
        ('\u{ad}', '\u{ad}'),
        ('\u{61c}', '\u{61c}'),
        ('\u{180e}', '\u{180e}'),
        ('\u{200b}', '\u{200b}'),
        ('\u{200e}', '\u{200f}'),
        ('\u{2028}', '\u{202e}'),
        ('\u{2060}', '\u{206f}'),
        ('\u{feff}', '\u{feff}'),
        ('\u{fff9}', '\u{fffb}'),
        ('\u{e0000}', '\u{e0fff}'),
    ];
    char.is_control() || FORMATS.iter().any(|(first, last)| (*first..=*last).contains(&char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_shown_as_it_is() {
        for text in ["", "alice", "a \\ \"b\"", "élève", "日本", "e\u{301}", "👩\u{200d}🚀", &"é".repeat(256)]
        {
            assert!(matches!(shown(text), Cow::Borrowed(shown) if shown == text), "{text}");
        }
    }

    #[test]
    fn what_is_hidden_is_escaped() {
        for (text, expected) in [
            ("a\u{1b}[31m", r"a\u{1b}[31m"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\0\u{7f}\u{9b}", r"\u{0}\u{7f}\u{9b}"),
            ("\u{202e}a\u{2066}", r"\u{202e}a\u{2066}"),
            ("a\u{2028}b\u{feff}", r"a\u{2028}b\u{feff}"),
            ("é\u{200b}", r"é\u{200b}"),
            ("\u{e0041}", r"\u{e0041}"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        for text in ["x", "é", "\u{1b}"] {
            let long = shown(&text.repeat(100_000)).into_owned();
            assert!(long.ends_with('…') && long.len() < 2_000, "{}", long.len());
        }
        assert_eq!(shown(&"x".repeat(256)).len(), 256);
    }
}
