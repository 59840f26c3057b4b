//! Foreign text made safe to show: in logs, in errors and by the program.

use std::{borrow::Cow, fmt::Write};

/// The number of characters shown. No client id is longer.
const MOST: usize = 256;

/// Escapes control characters, line ends and invisible characters, and cuts the text after 256 characters.
pub fn shown(text: &str) -> Cow<'_, str> {
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

/// Shows bytes that a client sent, such as the value of a header. At most 2 KiB of them are read, which is more than is shown.
#[must_use]
pub fn shown_bytes(bytes: &[u8]) -> String {
    const MAX_READ: usize = 2048;
    shown(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_READ)])).into_owned()
}

/// Escapes control and invisible characters, except those for which `kept` returns true.
pub fn escaped(text: &str, kept: fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for char in text.chars() {
        if is_hidden(char) && !kept(char) {
            // Writing to a `String` does not fail.
            let _ = write!(escaped, "{}", char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Returns true for controls, line ends, invisible characters, spaces other than the plain one, and characters that reverse the
/// direction of text. Characters that join letters and emoji are not among them.
pub fn is_hidden(char: char) -> bool {
    const HIDDEN: [(char, char); 22] = [
        ('\u{a0}', '\u{a0}'),
        ('\u{ad}', '\u{ad}'),
        ('\u{34f}', '\u{34f}'),
        ('\u{61c}', '\u{61c}'),
        ('\u{115f}', '\u{1160}'),
        ('\u{1680}', '\u{1680}'),
        ('\u{17b4}', '\u{17b5}'),
        ('\u{180b}', '\u{180f}'),
        ('\u{2000}', '\u{200b}'),
        ('\u{200e}', '\u{200f}'),
        ('\u{2028}', '\u{202f}'),
        ('\u{205f}', '\u{206f}'),
        ('\u{2800}', '\u{2800}'),
        ('\u{3000}', '\u{3000}'),
        ('\u{3164}', '\u{3164}'),
        ('\u{fe00}', '\u{fe0f}'),
        ('\u{feff}', '\u{feff}'),
        ('\u{ffa0}', '\u{ffa0}'),
        ('\u{fff0}', '\u{fffb}'),
        ('\u{1bca0}', '\u{1bca3}'),
        ('\u{1d173}', '\u{1d17a}'),
        ('\u{e0000}', '\u{e0fff}'),
    ];
    char.is_control() || HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_changed() {
        for text in ["", "alice", "a \\ \"b\"", "élève", "日本", "e\u{301}", "👩\u{200d}🚀", &"é".repeat(256)]
        {
            assert!(matches!(shown(text), Cow::Borrowed(shown) if shown == text), "{text}");
        }
    }

    #[test]
    fn hidden_characters_are_escaped() {
        for (text, expected) in [
            ("a\u{1b}[31m", r"a\u{1b}[31m"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\0\u{7f}\u{9b}", r"\u{0}\u{7f}\u{9b}"),
            ("\u{202e}a\u{2066}", r"\u{202e}a\u{2066}"),
            ("a\u{2028}b\u{feff}", r"a\u{2028}b\u{feff}"),
            ("é\u{200b}", r"é\u{200b}"),
            ("\u{e0041}", r"\u{e0041}"),
            ("\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}", r"\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}"),
            ("\u{180b}\u{180f}\u{2800}\u{3164}\u{ffa0}", r"\u{180b}\u{180f}\u{2800}\u{3164}\u{ffa0}"),
            ("\u{fe00}\u{fe0f}\u{fff0}\u{fffb}", r"\u{fe00}\u{fe0f}\u{fff0}\u{fffb}"),
            ("\u{1bca0}\u{1d173}\u{1d17a}\u{e0fff}", r"\u{1bca0}\u{1d173}\u{1d17a}\u{e0fff}"),
            ("a\u{a0}\u{1680}\u{2000}\u{200a}b", r"a\u{a0}\u{1680}\u{2000}\u{200a}b"),
            ("a\u{202f}\u{205f}\u{3000}b", r"a\u{202f}\u{205f}\u{3000}b"),
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
