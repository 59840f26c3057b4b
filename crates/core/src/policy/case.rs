//! Comparing without case.

use std::{borrow::Cow, sync::LazyLock};

/// Folds the case of a text. Each character is folded by itself, so that what starts with a text still does after it;
/// the way over capitals unites what only shares those, as `ß` and `ẞ`, `s` and `ſ`.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    let mut folded = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\0'..='\x7f' => folded.push(char.to_ascii_lowercase()),
            '\u{80}'..TWO_BYTES_END => folded.push_str(&FOLDED[char as usize]),
            _ if has_no_case(char) => folded.push(char),
            _ => folded.extend(fold_char(char)),
        }
    }
    Cow::Owned(folded)
}

pub(super) fn fold_char(char: char) -> impl Iterator<Item = char> {
    char.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

const TWO_BYTES_END: char = '\u{800}';

/// The first characters, folded, since a look-up is faster.
static FOLDED: LazyLock<Vec<String>> =
    LazyLock::new(|| ('\0'..TWO_BYTES_END).map(|char| fold_char(char).collect()).collect());

/// Returns true for the scripts that have no case, by the first bytes of their characters.
fn has_no_case(char: char) -> bool {
    matches!(char, '\u{800}'..='\u{fff}' | '\u{3000}'..='\u{9fff}' | '\u{b000}'..='\u{efff}')
}
