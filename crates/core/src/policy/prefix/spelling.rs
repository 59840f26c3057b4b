//! Finds what is wrong with the spelling of a prefix, and a spelling that is accepted.

use std::borrow::Cow;

use super::{
    super::readings::{backslash_to_slash, cut, decode_bytes, merge_slashes, normal_form, unescape},
    PrefixFault,
};
use crate::shown::is_hidden;

/// Returns the decoded text of a prefix in normal form. The order of the checks is that of the advice: the first fault hides
/// the others.
pub(super) fn sound(written: &str) -> Result<String, PrefixFault> {
    let trimmed = written.trim();
    let sign = first_sign(trimmed.trim_start_matches(['~', ' '])).map(|(_, sign)| sign);
    // Quotes around a path are none of it.
    let is_quoted = !trimmed.starts_with('/') && matches!(sign, Some(Sign::Pattern('"' | '`', _)));
    match sign {
        Some(Sign::Pattern(char, true)) if !is_quoted => return Err(PrefixFault::Pattern(char)),
        Some(Sign::Pattern(char, false)) if !is_quoted => return Err(PrefixFault::PlainPattern(char)),
        _ => begins_well(written)?,
    }
    match sign {
        Some(Sign::List) => Err(PrefixFault::List),
        Some(Sign::WhiteSpace(char)) => Err(PrefixFault::WhiteSpaceWithin(char)),
        Some(Sign::Hidden(char)) => Err(PrefixFault::Hidden(char)),
        Some(Sign::Pattern(..)) | None => plain_and_sound(written),
    }
}

fn begins_well(written: &str) -> Result<(), PrefixFault> {
    match () {
        () if written.is_empty() => Err(PrefixFault::Empty),
        () if written.trim() != written => Err(PrefixFault::WhiteSpace),
        () if !written.starts_with('/') => Err(PrefixFault::NoLeadingSlash),
        () => Ok(()),
    }
}

fn plain_and_sound(written: &str) -> Result<String, PrefixFault> {
    if let Some((_, fault)) = first_bad_escape(written) {
        return Err(fault);
    }
    let text = String::from_utf8(decoded(written)).map_err(|_| PrefixFault::NotUtf8)?;
    match () {
        () if text.bytes().any(|byte| byte.is_ascii_control()) => Err(PrefixFault::ControlCharacter),
        () if text.contains(['?', '#']) => Err(PrefixFault::QueryOrFragment),
        () if text.contains('\\') => Err(PrefixFault::Backslash),
        () if text.contains(';') => Err(PrefixFault::Parameters),
        () if text.contains("//") => Err(PrefixFault::DoubledSlash),
        () if text.split('/').any(|segment| matches!(segment, "." | "..")) => Err(PrefixFault::DotSegment),
        () => Ok(text),
    }
}

/// A sign that no prefix may have plain: it means more than its text, which would then guard nothing that is meant.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// Of globs, of templates of routers, of regular expressions, and whether it is one escaped as well.
    Pattern(char, bool),
    /// It stands between the paths of a list.
    List,
    WhiteSpace(char),
    Hidden(char),
}

/// Finds the first sign.
fn first_sign(written: &str) -> Option<(usize, Sign)> {
    let mut at = 0;
    let mut segment = 0;
    while let Some(plain) = written[at..].chars().next() {
        let escaped = unescape(&written.as_bytes()[at..]).map(char::from);
        let char = escaped.unwrap_or(plain);
        let before = &written[segment..at];
        let next = at + if escaped.is_some() { 3 } else { plain.len_utf8() };
        let sign = match is_sign_escaped(char, before) {
            true => Some(Sign::Pattern(char, true)),
            false if escaped.is_some() => None,
            false => plain_sign(char, before, &written[next..]),
        };
        if let Some(sign) = sign {
            return Some((at, sign));
        }
        at = next;
        if matches!(char, '/' | '\\') {
            segment = at;
        }
    }
    None
}

/// Returns true for what is a sign even if it is escaped: stars, and what no URI has plain. What some paths have is none if
/// it is escaped (`%24metadata`), or within a segment (`users%3Abatch`).
fn is_sign_escaped(char: char, before: &str) -> bool {
    match char {
        '*' | '{' | '}' | '<' | '>' | '[' | ']' | '|' | '^' => true,
        ':' => before.is_empty(),
        '+' => before.ends_with('.'),
        _ => false,
    }
}

fn plain_sign(char: char, before: &str, after: &str) -> Option<Sign> {
    let another = after.trim_start().strip_prefix('/');
    match char {
        ',' if another.is_some() || after.is_empty() => Some(Sign::List),
        ';' if another.is_some() => Some(Sign::List),
        ':' if another.is_some_and(|another| !another.is_empty()) => Some(Sign::List),
        ':' if starts_name(after) && !(is_word(before) && is_word(until_slash(after))) => {
            Some(Sign::Pattern(char, false))
        }
        '.' if is_ellipsis(before, after) => Some(Sign::Pattern(char, false)),
        _ if is_sign_plain(char) => Some(Sign::Pattern(char, false)),
        _ if char.is_whitespace() && another.is_some() => Some(Sign::List),
        _ if char.is_ascii_control() => None,
        _ if char.is_whitespace() => Some(Sign::WhiteSpace(char)),
        _ if is_hidden(char) => Some(Sign::Hidden(char)),
        _ => None,
    }
}

/// Returns true for a character that is a sign wherever it stands plain: with those of ASCII, what looks like one.
fn is_sign_plain(char: char) -> bool {
    matches!(
        char,
        '$' | '(' | ')' | '+' | '"' | '`'
            | '\u{ab}' | '\u{bb}' | '\u{66d}' | '\u{2024}'..='\u{2026}' | '\u{2039}' | '\u{203a}' | '\u{2044}' | '\u{204e}'
            | '\u{2051}' | '\u{2215}'..='\u{2217}' | '\u{2223}' | '\u{2236}' | '\u{22c6}' | '\u{22ee}'..='\u{22f1}'
            | '\u{2329}' | '\u{232a}' | '\u{2722}'..='\u{274b}' | '\u{2768}'..='\u{2775}' | '\u{27e6}'..='\u{27ef}'
            | '\u{2983}'..='\u{2998}' | '\u{29f8}' | '\u{3008}'..='\u{301b}' | '\u{a789}' | '\u{fe10}'..='\u{fe19}'
            | '\u{fe50}'..='\u{fe6b}' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}'
            | '\u{ff5b}'..='\u{ff60}'
    )
}

pub(super) fn starts_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_alphabetic() || char == '_')
}

fn is_word(text: &str) -> bool {
    text.ends_with(char::is_alphanumeric)
        && text.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-'))
}

fn until_slash(text: &str) -> &str {
    text.split(['/', '\\']).next().unwrap_or(text)
}

/// Returns true if a dot begins `...` as some tools write it for everything below: as a whole segment, or at the end.
fn is_ellipsis(before: &str, after: &str) -> bool {
    let is_whole = before.is_empty() && until_slash(after).bytes().all(|byte| byte == b'.');
    after.starts_with("..") && (is_whole || matches!(after.trim_start_matches('.'), "" | "/"))
}

pub(super) fn escapes(char: &char) -> String {
    char.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Finds the first escape that no prefix may have.
fn first_bad_escape(written: &str) -> Option<(usize, PrefixFault)> {
    written.match_indices('%').find_map(|(at, _)| match unescape(&written.as_bytes()[at..]) {
        None => Some((at, PrefixFault::MalformedEscape)),
        Some(b'/' | b'\\' | b'%' | b';' | b'?' | b'#' | 0..=0x1f | 0x7f) => Some((at, PrefixFault::AmbiguousEscape)),
        Some(_) => None,
    })
}

fn decoded(written: &str) -> Vec<u8> {
    decode_bytes(written.as_bytes(), |_| true).unwrap_or_else(|| written.into())
}

/// Returns a prefix that is accepted and that guards at least what `written` seems to mean: it ends before the first part
/// that cannot be kept.
pub(super) fn accepted(written: &str) -> String {
    let from_root = from_root(written);
    let written = before_sign(&from_root);
    let end = first_bad_escape(written).map_or(written.len(), |(at, _)| at);
    let bytes = decoded(&written[..end]);
    let text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let end = text.find(|char: char| char == ';' || char.is_ascii_control()).unwrap_or(text.len());
    let cleaned = [cut, backslash_to_slash, merge_slashes]
        .into_iter()
        .fold(text[..end].to_owned(), |text, clean| clean(&text).unwrap_or(text));
    let mut text = String::new();
    for char in normal_form(&cleaned).chars() {
        match is_sign_plain(char) || char.is_whitespace() {
            true => text.push_str(&escapes(&char)),
            false => text.push(char),
        }
    }
    if sound(&text).is_ok() { text } else { "/".to_owned() }
}

/// Returns the text from the slash on that the path seems to begin with; `/` if a host may stand before it.
fn from_root(written: &str) -> Cow<'_, str> {
    const QUOTES: [char; 7] = ['"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}'];
    let text = written.trim_start_matches(['^', '~', ' ']).trim_matches(QUOTES).trim();
    if let Some(after) = text.strip_prefix("//")
        && until_slash(after.trim_start_matches('/')).contains(['.', ':', '@'])
    {
        return Cow::Borrowed("/");
    }
    if text.starts_with('/') {
        return Cow::Borrowed(text);
    }
    if let Some((_, after)) = text.split_once("://") {
        return Cow::Borrowed(after.find('/').map_or("/", |at| &after[at..]));
    }
    let Some(slash) = text.find('/') else {
        return if is_word(text) { Cow::Owned(format!("/{text}")) } else { Cow::Borrowed("/") };
    };
    let before = &text[..slash];
    let is_name = before.ends_with(|char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | ',' | ';'));
    let is_pattern = matches!(first_sign(before), Some((_, Sign::Pattern(..))));
    Cow::Borrowed(if is_name || is_pattern { "/" } else { &text[slash..] })
}

/// Returns the text before the first sign. One alternative of several says nothing of the others, nor does what a
/// backslash stands before in a pattern.
fn before_sign(written: &str) -> &str {
    let Some((at, sign)) = first_sign(written) else { return written };
    let before = &written[..at];
    let Sign::Pattern(char, _) = sign else { return before };
    match before.find('\\') {
        Some(backslash) => &before[..backslash],
        None if char == '|' => before.rfind('/').map_or("", |slash| &before[..=slash]),
        None => before,
    }
}
