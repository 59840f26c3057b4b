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

/// What an entry is for: the advice on a faulty one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// What it says is guarded, so that a shorter prefix errs on the safe side.
    Guard,
    /// What it says is open.
    Exemption,
    /// It is what a router strips.
    BasePath,
}

/// Why a text is no prefix of paths, with a spelling that is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrefixError {
    #[error("is empty")]
    Empty,
    #[error("has white space around it")]
    WhiteSpace(String),
    #[error("looks like a pattern (`{0}`), and prefixes have no patterns{1}")]
    Pattern(char, &'static str, String),
    #[error("must begin with `/`")]
    NoLeadingSlash(String),
    #[error("has a `%` that two hex digits do not follow")]
    MalformedEscape(String),
    #[error("has an escape of `/`, `\\`, `%`, `;`, `?`, `#` or a control character, which not all read alike")]
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
    /// Says what to write instead. A shorter prefix guards more, so it is advice for a guard alone.
    pub(crate) fn remedy(&self, of: Use) -> String {
        match self {
            Self::Empty if of == Use::Guard => "to guard everything write \"/\"".to_owned(),
            Self::Empty => "write a prefix such as \"/health\", or leave it out".to_owned(),
            Self::WhiteSpace(accepted)
            | Self::NoLeadingSlash(accepted)
            | Self::Backslash(accepted)
            | Self::DoubledSlash(accepted)
            | Self::DotSegment(accepted) => format!("write {accepted:?}"),
            Self::Pattern(_, _, accepted)
            | Self::MalformedEscape(accepted)
            | Self::AmbiguousEscape(accepted)
            | Self::NotUtf8(accepted)
            | Self::ControlCharacter(accepted)
            | Self::QueryOrFragment(accepted)
            | Self::Parameters(accepted) => match of {
                Use::Guard => format!("write {accepted:?}"),
                Use::Exemption => "name each path that is to stay open, by its plain text".to_owned(),
                Use::BasePath => "write the very text that the router strips".to_owned(),
            },
        }
    }
}

type Fault = fn(String) -> PrefixError;

/// The decoded text of a prefix in normal form. The order of the checks is that of the advice: what stands first hides
/// what comes after it.
fn sound(written: &str) -> Result<String, Box<dyn FnOnce(String) -> PrefixError>> {
    if let Some((_, sign)) = first_pattern(written) {
        let literal = match sign {
            '$' => "; where it means itself, write `%24`",
            '(' => "; where it means itself, write `%28`",
            ')' => "; where it means itself, write `%29`",
            '+' => "; where it means itself, write `%2B`",
            _ => "",
        };
        return Err(Box::new(move |accepted| PrefixError::Pattern(sign, literal, accepted)));
    }
    plain_and_sound(written).map_err(|fault| Box::new(fault) as _)
}

fn plain_and_sound(written: &str) -> Result<String, Fault> {
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

/// Where the first sign of a pattern stands, and which it is: of globs, of templates of routers, of regular expressions.
///
/// Taken for plain text it would guard nothing that is meant. What no URI has plain, and stars, are signs escaped as well;
/// what some paths have is none where it is escaped (`%24metadata`), or within a segment (`/users:batch`).
fn first_pattern(written: &str) -> Option<(usize, char)> {
    let bytes = written.as_bytes();
    let (mut at, mut starts_segment) = (0, true);
    while let Some(&plain) = bytes.get(at) {
        let escaped = unescape(&bytes[at..]);
        let byte = escaped.unwrap_or(plain);
        let is_sign = match byte {
            b'*' | b'{' | b'}' | b'<' | b'>' | b'[' | b']' | b'|' | b'^' => true,
            b'$' | b'(' | b')' | b'+' => escaped.is_none(),
            b':' => starts_segment,
            b'.' => starts_segment && at > 1 && is_ellipsis(&written[at..]),
            _ => false,
        };
        if is_sign {
            return Some((at, char::from(byte)));
        }
        starts_segment = matches!(byte, b'/' | b'\\');
        at += if escaped.is_some() { 3 } else { 1 };
    }
    None
}

/// Whether the last segment is `...`, which some tools write for everything below.
fn is_ellipsis(text: &str) -> bool {
    matches!(text, "..." | ".../")
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
    let written = before_pattern(written.trim_start_matches(['^', '~', ' ']));
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
    let literal = ["$", "(", ")", "+"].into_iter().zip(["%24", "%28", "%29", "%2B"]);
    let text = literal.fold(normal_form(&merged), |text, (sign, escape)| text.replace(sign, escape));
    if sound(&text).is_ok() { text } else { "/".to_owned() }
}

/// What stands before the pattern in a text. One alternative of several says nothing of the others, nor does what a backslash
/// stands before.
fn before_pattern(written: &str) -> &str {
    let Some((at, sign)) = first_pattern(written) else { return written };
    let before = &written[..at];
    match before.find('\\') {
        Some(backslash) => &before[..backslash],
        None if sign == '|' => before.rfind('/').map_or("", |slash| &before[..=slash]),
        None => before,
    }
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
        assert_eq!(text_and_form("/a.b/.well-known/x"), ("/a.b/.well-known/x".into(), Form::Plain));
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
            assert_eq!(format!("{error}; {}", error.remedy(Use::Guard).replace('"', "`")), message, "{name}");
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
    fn patterns_are_errors_that_say_what_to_write() {
        for (written, guard) in [
            ("/api/*", "/api/"),
            ("/api/**", "/api/"),
            ("/api/*/x", "/api/"),
            ("/api*", "/api"),
            ("*", "/"),
            ("/*", "/"),
            ("**/api", "/"),
            ("/api/{id}", "/api/"),
            ("/api/{*rest}", "/api/"),
            ("/api/:id", "/api/"),
            ("/:tenant/api", "/"),
            (":tenant", "/"),
            ("/api/<id>", "/api/"),
            ("/api/<int:id>/x", "/api/"),
            ("/api/[id]", "/api/"),
            ("/api/[0-9]+", "/api/"),
            ("/api/(v1|v2)", "/api/"),
            ("/api/(?P<id>x)", "/api/"),
            ("/api/v1|/api/v2", "/api/"),
            ("^/api", "/api"),
            ("^/api/.*$", "/api/"),
            ("~ ^/api", "/api"),
            ("/api$", "/api"),
            ("/api/$id", "/api/"),
            ("/api/${id}", "/api/"),
            ("/api/.+", "/api/"),
            ("/api/\\d+", "/api/"),
            ("/api/+", "/api/"),
            ("/api/...", "/api/"),
            ("/api/%2A", "/api/"),
            ("/api/%2a%2a", "/api/"),
            ("/api/%7Bid%7D", "/api/"),
            ("/api/%3Cid%3E", "/api/"),
            ("/api/%3Aid", "/api/"),
            ("/api%2A", "/api"),
        ] {
            let error = Prefix::parse(written).expect_err(written);
            assert!(error.to_string().contains("pattern") || written.contains('\\'), "{written}: {error}");
            assert_eq!(error.remedy(Use::Guard), format!("write {guard:?}"), "{written}");
            // To be told to open more than was meant would be bad advice.
            let of_exemption = error.remedy(Use::Exemption);
            assert!(!of_exemption.contains(&format!("write {guard:?}")), "{written}: {of_exemption}");
        }
    }

    #[test]
    fn what_only_looks_like_a_pattern_is_taken() {
        for (written, text) in [
            ("/v1/users:batch", "/v1/users:batch"),
            ("/a:", "/a:"),
            ("/odata/%24metadata", "/odata/$metadata"),
            ("/wiki/Rust_%28language%29", "/wiki/Rust_(language)"),
            ("/c%2B%2B", "/c++"),
            ("/~user/@scope/it's,a=b&c!", "/~user/@scope/it's,a=b&c!"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a.../b", "/a.../b"),
            ("/...", "/..."),
        ] {
            assert_eq!(Prefix::parse(written).expect(written).text(), text);
        }
        for written in ["/odata/$metadata", "/wiki/Rust_(language)", "/c++"] {
            let error = Prefix::parse(written).expect_err(written);
            assert!(error.to_string().contains("%24") || error.to_string().contains("%2"), "{written}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_spelling_in_an_error_is_accepted(written in "[ -~é\t]{0,3}([/.;%?#\\\\ a-c2F\u{e9}\u{1}]|%2[ef]|://){0,8}") {
            if let Err(error) = Prefix::parse(&written) {
                let remedy = error.remedy(Use::Guard);
                let spelling: String = serde_json::from_str(&remedy[remedy.find('"').unwrap()..]).unwrap();
                prop_assert!(Prefix::parse(&spelling).is_ok(), "{:?}: {}", written, remedy);
            }
        }
    }
}
