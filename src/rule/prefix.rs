//! One entry of a list of paths: what it accepts when it is read, and how it means to be matched.

use std::str;

use super::readings::{backslash_to_slash, cut, decode_bytes, drop_parameters, merge_slashes, normal_form, unescape};

/// A prefix of paths, as it stands in one of the lists.
///
/// `/access` is plain: it is met by everything that starts with it, `/accessible` too. `/access/` is the segment form:
/// it is met by `/access` itself and by everything below. `/` is met by every path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix {
    written: Box<str>,
    text: Box<str>,
    form: Form,
}

/// Where a prefix may end in a path that meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Anywhere.
    Plain,
    /// At the end of a segment.
    Segment,
}

impl Prefix {
    /// Reads an entry of a list, escapes decoded once: `/café` and `/caf%C3%A9` are the same prefix.
    pub(crate) fn parse(written: &str) -> Result<Self, PrefixError> {
        let text = sound(written).map_err(|fault| fault(accepted(written)))?;
        let (text, form) = match text.strip_suffix('/') {
            Some(stem) if !stem.is_empty() => (stem, Form::Segment),
            _ => (text.as_str(), Form::Plain),
        };
        Ok(Self { written: written.into(), text: text.into(), form })
    }

    /// The prefix as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.written
    }

    /// What whoever wrote this prefix had better know, though it is accepted.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        self.text
            .contains('*')
            .then_some("`*` is matched literally: a prefix has no wildcards and needs none at its end")
    }

    /// The decoded text, without the slash of the segment form.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// This prefix as an exemption, which never ends within a segment.
    pub(super) fn form_of_exemption(&self) -> Form {
        if &*self.text == "/" { Form::Plain } else { Form::Segment }
    }
}

/// Why a text is no prefix of paths, with a spelling that is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrefixError {
    #[error("is empty")]
    Empty,
    #[error("has white space around it")]
    WhiteSpace(String),
    #[error("must begin with `/`")]
    NoLeadingSlash(String),
    #[error("has a `%` that two hex digits do not follow")]
    MalformedEscape(String),
    #[error(
        "has an escape of `/`, `\\`, `%`, `;`, `?`, `#` or a control character, which not all read alike: write `{0}`"
    )]
    AmbiguousEscape(String),
    #[error("has escapes that are not UTF-8")]
    NotUtf8(String),
    #[error("has a control character")]
    ControlCharacter(String),
    #[error("has a `?` or `#`, but only paths are looked at")]
    QueryOrFragment(String),
    #[error("has a backslash")]
    Backslash(String),
    #[error("has a path parameter (`;`)")]
    Parameters(String),
    #[error("has a doubled slash")]
    DoubledSlash(String),
    #[error("has a dot segment")]
    DotSegment(String),
}

impl PrefixError {
    /// What to write instead.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Empty => "to guard everything write \"/\"".to_owned(),
            Self::WhiteSpace(accepted)
            | Self::NoLeadingSlash(accepted)
            | Self::MalformedEscape(accepted)
            | Self::AmbiguousEscape(accepted)
            | Self::NotUtf8(accepted)
            | Self::ControlCharacter(accepted)
            | Self::QueryOrFragment(accepted)
            | Self::Backslash(accepted)
            | Self::Parameters(accepted)
            | Self::DoubledSlash(accepted)
            | Self::DotSegment(accepted) => format!("write {accepted:?}"),
        }
    }
}

type Fault = fn(String) -> PrefixError;

/// The decoded text of a prefix in normal form. The order of the checks is that of the advice: what stands first hides
/// what comes after it.
fn sound(written: &str) -> Result<String, Fault> {
    if written.is_empty() {
        return Err(|_| PrefixError::Empty);
    }
    if written.trim() != written {
        return Err(PrefixError::WhiteSpace);
    }
    if !written.starts_with('/') {
        return Err(PrefixError::NoLeadingSlash);
    }
    if let Some((_, fault)) = first_bad_escape(written) {
        return Err(fault);
    }
    let text = String::from_utf8(decoded(written)).map_err(|_| PrefixError::NotUtf8 as Fault)?;
    match () {
        () if text.bytes().any(|byte| byte.is_ascii_control()) => Err(PrefixError::ControlCharacter),
        () if text.contains(['?', '#']) => Err(PrefixError::QueryOrFragment),
        () if text.contains('\\') => Err(PrefixError::Backslash),
        () if text.contains(';') => Err(PrefixError::Parameters),
        () if text.contains("//") => Err(PrefixError::DoubledSlash),
        () if text.split('/').any(|segment| matches!(segment, "." | "..")) => Err(PrefixError::DotSegment),
        () => Ok(text),
    }
}

/// Where the first escape stands that no prefix may have, and what is wrong with it.
fn first_bad_escape(written: &str) -> Option<(usize, Fault)> {
    written.match_indices('%').find_map(|(at, _)| match unescape(&written.as_bytes()[at..]) {
        None => Some((at, PrefixError::MalformedEscape as Fault)),
        Some(b'/' | b'\\' | b'%' | b';' | b'?' | b'#' | 0..=0x1f | 0x7f) => Some((at, PrefixError::AmbiguousEscape)),
        Some(_) => None,
    })
}

fn decoded(written: &str) -> Vec<u8> {
    decode_bytes(written.as_bytes(), |_| true).unwrap_or_else(|| written.into())
}

/// A prefix that is accepted and that guards at least what `written` seems to mean: where a part cannot be kept, the
/// prefix ends before it.
fn accepted(written: &str) -> String {
    let end = first_bad_escape(written).map_or(written.len(), |(at, _)| at);
    let bytes = decoded(&written[..end]);
    let text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let text: String = text.chars().filter(|char| !char.is_ascii_control()).collect();
    let text = text.split_once("://").map_or(&*text, |(_, after)| after.find('/').map_or("/", |at| &after[at..]));
    let cleaned = [cut, backslash_to_slash, drop_parameters]
        .into_iter()
        .fold(text.to_owned(), |text, clean| clean(&text).unwrap_or(text));
    let rooted = format!("/{}", cleaned.trim());
    let merged = merge_slashes(&rooted).unwrap_or(rooted);
    normal_form(&merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_and_form(written: &str) -> (String, Form) {
        let prefix = Prefix::parse(written).unwrap();
        (prefix.text().to_owned(), prefix.form())
    }

    #[test]
    fn forms() {
        assert_eq!(text_and_form("/access"), ("/access".into(), Form::Plain));
        assert_eq!(text_and_form("/access/"), ("/access".into(), Form::Segment));
        assert_eq!(text_and_form("/"), ("/".into(), Form::Plain));
        assert_eq!(text_and_form("/a.b/.well-known/..."), ("/a.b/.well-known/...".into(), Form::Plain));
        assert_eq!(text_and_form("/caf%C3%A9"), text_and_form("/café"));
        assert_eq!(text_and_form("/a%20b"), ("/a b".into(), Form::Plain));
    }

    #[test]
    fn errors_say_what_to_write() {
        for (name, written, message) in [
            ("empty", "", "is empty; to guard everything write `/`"),
            ("no slash", "access", "must begin with `/`; write `/access`"),
            ("a URL", "https://example.com/access", "must begin with `/`; write `/access`"),
            ("a host", "https://example.com", "must begin with `/`; write `/`"),
            ("space before", " /access", "has white space around it; write `/access`"),
            ("newline after", "/access\n", "has white space around it; write `/access`"),
            ("doubled slash", "/a//b", "has a doubled slash; write `/a/b`"),
            ("two at the start", "//access", "has a doubled slash; write `/access`"),
            ("dot", "/./access", "has a dot segment; write `/access`"),
            ("dots", "/x/../access", "has a dot segment; write `/access`"),
            ("escaped dots", "/x/%2e%2E/access", "has a dot segment; write `/access`"),
            ("dot last", "/access/.", "has a dot segment; write `/access/`"),
            ("parameters", "/access;v=1/x", "has a path parameter (`;`); write `/access/x`"),
            ("backslash", r"/access\x", "has a backslash; write `/access/x`"),
            ("query", "/access?x", "has a `?` or `#`, but only paths are looked at; write `/access`"),
            ("fragment", "/access#x", "has a `?` or `#`, but only paths are looked at; write `/access`"),
            ("control", "/acc\tess", "has a control character; write `/access`"),
            ("lone percent", "/100%", "has a `%` that two hex digits do not follow; write `/100`"),
            ("half an escape", "/a%2", "has a `%` that two hex digits do not follow; write `/a`"),
            ("Latin-1", "/caf%E9", "has escapes that are not UTF-8; write `/caf`"),
        ] {
            let error = Prefix::parse(written).unwrap_err();
            assert_eq!(format!("{error}; {}", error.remedy().replace('"', "`")), message, "{name}");
        }
    }

    #[test]
    fn ambiguous_escapes_are_errors() {
        for escape in ["%2F", "%2f", "%5C", "%25", "%3B", "%3F", "%23", "%00", "%09", "%7F"] {
            let error = Prefix::parse(&format!("/a{escape}b")).unwrap_err();
            assert_eq!(error, PrefixError::AmbiguousEscape("/a".into()), "{escape}");
        }
    }

    #[test]
    fn stars_draw_a_warning() {
        assert!(Prefix::parse("/access/*").unwrap().warning().unwrap().contains("matched literally"));
        assert_eq!(Prefix::parse("/access/").unwrap().warning(), None);
    }

    proptest! {
        #[test]
        fn the_spelling_in_an_error_is_accepted(written in "[ -~é\t]{0,3}([/.;%?#\\\\ a-c2F\u{e9}\u{1}]|%2[ef]|://){0,8}") {
            if let Err(error) = Prefix::parse(&written) {
                let remedy = error.remedy();
                let spelling: String = serde_json::from_str(&remedy[remedy.find('"').unwrap()..]).unwrap();
                prop_assert!(Prefix::parse(&spelling).is_ok(), "{:?}: {}", written, remedy);
            }
        }
    }
}
