//! One entry of a list of paths: what it accepts when it is read, and how it means to be matched.

use std::{borrow::Cow, str};

use super::readings::{backslash_to_slash, cut, decode_bytes, merge_slashes, normal_form, unescape};
use crate::shown::is_hidden;

/// A prefix of paths, as it stands in one of the lists.
///
/// `/access` is plain: it is met by everything that starts with it, `/accessible` too. `/access/` is the segment form:
/// it is met by `/access` itself and by everything below. `/` is met by every path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
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
    pub fn parse(written: &str) -> Result<Self, PrefixError> {
        let text = sound(written).map_err(|fault| fault(accepted(written)))?;
        let (text, form) = match text.strip_suffix('/') {
            Some(stem) if !stem.is_empty() => (stem, Form::Segment),
            _ => (text.as_str(), Form::Plain),
        };
        Ok(Self { written: written.into(), text: text.into(), form })
    }

    /// The prefix as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The decoded text, without the slash of the segment form.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a plain colon stands within a name that other tools may take for a parameter: `/v:version`.
    pub(super) fn colon(&self) -> Option<usize> {
        let written = &self.written;
        written.match_indices(':').map(|(at, _)| at).find(|at| starts_name(&written[at + 1..]))
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
pub enum Use {
    /// What it says is guarded, so that a shorter prefix errs on the safe side.
    Guard,
    /// What it says is open.
    Exemption,
    /// It is what a router strips.
    BasePath,
}

/// Why a text is no prefix of paths, with a spelling that is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("is empty")]
    Empty,
    #[error("has white space around it")]
    WhiteSpace(String),
    #[error("has white space within, which escaped is `{0}`")]
    WhiteSpaceWithin(String, String),
    #[error("has a character that is not seen, which escaped is `{0}`")]
    Hidden(String, String),
    #[error("is a list of paths in one text")]
    List(String),
    #[error("looks like a pattern (`{0}`), and prefixes have no patterns{1}")]
    Pattern(char, String, String),
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
    pub fn remedy(&self, of: Use) -> String {
        match self {
            Self::Empty if of == Use::Guard => "to guard everything write \"/\"".to_owned(),
            Self::Empty => "write a prefix such as \"/health\", or leave it out".to_owned(),
            Self::List(accepted) if of == Use::Guard => {
                format!("make each path an entry of its own, the first {accepted:?}")
            }
            Self::List(_) => "make each path an entry of its own".to_owned(),
            Self::WhiteSpace(accepted)
            | Self::NoLeadingSlash(accepted)
            | Self::Backslash(accepted)
            | Self::DoubledSlash(accepted)
            | Self::DotSegment(accepted)
                if of == Use::Guard || accepted != "/" =>
            {
                format!("write {accepted:?}")
            }
            Self::WhiteSpace(accepted)
            | Self::NoLeadingSlash(accepted)
            | Self::Backslash(accepted)
            | Self::DoubledSlash(accepted)
            | Self::DotSegment(accepted)
            | Self::WhiteSpaceWithin(_, accepted)
            | Self::Hidden(_, accepted)
            | Self::Pattern(_, _, accepted)
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
type BoxedFault = Box<dyn FnOnce(String) -> PrefixError>;

/// The decoded text of a prefix in normal form. The order of the checks is that of the advice: what stands first hides
/// what comes after it.
fn sound(written: &str) -> Result<String, BoxedFault> {
    let trimmed = written.trim();
    let sign = first_sign(trimmed.trim_start_matches(['~', ' '])).map(|(_, sign)| sign);
    // Quotes around a path are none of it.
    let is_quoted = !trimmed.starts_with('/') && matches!(sign, Some(Sign::Pattern('"' | '`', _)));
    if let Some(Sign::Pattern(char, is_sign_escaped)) = sign
        && !is_quoted
    {
        let literal = match is_sign_escaped {
            true => String::new(),
            false => format!("; where it means itself, write `{}`", escapes(char)),
        };
        return Err(Box::new(move |accepted| PrefixError::Pattern(char, literal, accepted)));
    }
    begins_well(written).map_err(|fault| Box::new(fault) as BoxedFault)?;
    match sign {
        Some(Sign::List) => Err(Box::new(PrefixError::List)),
        Some(Sign::WhiteSpace(char)) => {
            Err(Box::new(move |accepted| PrefixError::WhiteSpaceWithin(escapes(char), accepted)))
        }
        Some(Sign::Hidden(char)) => Err(Box::new(move |accepted| PrefixError::Hidden(escapes(char), accepted))),
        Some(Sign::Pattern(..)) | None => plain_and_sound(written).map_err(|fault| Box::new(fault) as BoxedFault),
    }
}

fn begins_well(written: &str) -> Result<(), Fault> {
    match () {
        () if written.is_empty() => Err(|_| PrefixError::Empty),
        () if written.trim() != written => Err(PrefixError::WhiteSpace),
        () if !written.starts_with('/') => Err(PrefixError::NoLeadingSlash),
        () => Ok(()),
    }
}

fn plain_and_sound(written: &str) -> Result<String, Fault> {
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

/// What no prefix may have plain: who writes it means more than that very text, which would guard nothing that is meant.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// Of globs, of templates of routers, of regular expressions, and whether it is one escaped as well.
    Pattern(char, bool),
    /// It stands between the paths of a list.
    List,
    WhiteSpace(char),
    Hidden(char),
}

/// Where the first sign stands, and which it is.
fn first_sign(written: &str) -> Option<(usize, Sign)> {
    let (mut at, mut segment) = (0, 0);
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

/// What no URI has plain, and stars, are signs escaped as well. What some paths have is none where it is escaped
/// (`%24metadata`), or within a segment (`users%3Abatch`).
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

/// Whether a character is a sign wherever it stands plain: with those of ASCII, what looks like one.
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

fn starts_name(text: &str) -> bool {
    text.starts_with(|char: char| char.is_alphabetic() || char == '_')
}

fn is_word(text: &str) -> bool {
    text.ends_with(char::is_alphanumeric)
        && text.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-'))
}

fn until_slash(text: &str) -> &str {
    text.split(['/', '\\']).next().unwrap_or(text)
}

/// Whether a dot begins `...` where some tools write that for everything below: as a whole segment, or at the end.
fn is_ellipsis(before: &str, after: &str) -> bool {
    let is_whole = before.is_empty() && until_slash(after).bytes().all(|byte| byte == b'.');
    after.starts_with("..") && (is_whole || matches!(after.trim_start_matches('.'), "" | "/"))
}

fn escapes(char: char) -> String {
    char.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
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
            true => text.push_str(&escapes(char)),
            false => text.push(char),
        }
    }
    if sound(&text).is_ok() { text } else { "/".to_owned() }
}

/// The text from the slash on that the path seems to begin with; `/` where a host may stand before it.
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

/// What stands before the first sign in a text. One alternative of several says nothing of the others, nor does what a
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

    /// Whether a guard with this text is met by a path.
    fn guards(written: &str, path: &str) -> bool {
        let prefix = Prefix::parse(written).unwrap();
        path.strip_prefix(prefix.text())
            .is_some_and(|rest| prefix.form() == Form::Plain || rest.is_empty() || rest.starts_with('/'))
    }

    /// The text that an error says to write.
    fn spelling(remedy: &str) -> String {
        serde_json::from_str(&remedy[remedy.find('"').unwrap()..]).unwrap()
    }

    #[test]
    fn errors_say_what_to_write() {
        const LIST: &str = "is a list of paths in one text; make each path an entry of its own, the first";
        const ROOT: &str = "must begin with `/`; write";
        const WITHIN: &str = "has white space within, which escaped is `%20`; write";
        const QUERY: &str = "has a `?` or `#`, but only paths are looked at; write";
        const CONTROL: &str = "has a control character; write";
        const PERCENT: &str = "has a `%` that two hex digits do not follow; write";
        const DOTS: &str = "has a dot segment; write";
        // With a path that what is to be written has to guard.
        for (name, written, message, remedy, guarded) in [
            ("empty", "", "is empty; to guard everything write", "/", "/x"),
            ("no slash", "access", ROOT, "/access", "/access/7"),
            ("a URL", "https://example.com/access", ROOT, "/access", "/access/7"),
            ("a host", "https://example.com", ROOT, "/", "/x"),
            ("a host without a scheme", "example.com", ROOT, "/", "/x"),
            ("a host and a path", "app.example/api", ROOT, "/", "/api/7"),
            ("a host and a port", "localhost:8080/api", ROOT, "/", "/api/7"),
            ("a host after slashes", "//app.example/api", "has a doubled slash; write", "/", "/api/7"),
            ("a method", "GET /api", ROOT, "/api", "/api/7"),
            ("a method and a colon", "POST:/api", ROOT, "/api", "/api/7"),
            ("a kind", "REGEX:/api", ROOT, "/api", "/api/7"),
            ("half a scheme", "http:/api", ROOT, "/api", "/api/7"),
            ("quoted", "\"/api\"", ROOT, "/api", "/api/7"),
            ("quoted by one", "'/api'", ROOT, "/api", "/api/7"),
            ("quoted by others", "\u{201c}/api\u{201d}", ROOT, "/api", "/api/7"),
            ("of a list", "- /api", ROOT, "/api", "/api/7"),
            ("negated", "!/api", ROOT, "/api", "/api/7"),
            ("relative", "./api", ROOT, "/api", "/api/7"),
            ("from above", "../api", ROOT, "/api", "/api/7"),
            ("with a mark before", "\u{feff}/api", ROOT, "/api", "/api/7"),
            ("with nothing before", "\u{200b}/api", ROOT, "/api", "/api/7"),
            ("a method without a slash", "GET api", ROOT, "/", "/api/7"),
            ("list by comma", "/api,/admin", LIST, "/api", "/api/7"),
            ("list by comma and space", "/api, /admin", LIST, "/api", "/api/7"),
            ("list by semicolon", "/api;/admin", LIST, "/api", "/api/7"),
            ("list by colon", "/api:/admin", LIST, "/api", "/api/7"),
            ("list by space", "/api /admin", LIST, "/api", "/api/7"),
            ("list by line", "/api\n/admin", LIST, "/api", "/api/7"),
            ("list by tab", "/api\t/admin", LIST, "/api", "/api/7"),
            ("list that ends early", "/api,", LIST, "/api", "/api/7"),
            ("list without a slash", "api,/admin", ROOT, "/", "/api/7"),
            ("space before", " /access", "has white space around it; write", "/access", "/access/7"),
            ("newline after", "/access\n", "has white space around it; write", "/access", "/access/7"),
            ("space within", "/my files", WITHIN, "/my", "/my files"),
            (
                "a wide space",
                "/my\u{3000}files",
                "has white space within, which escaped is `%E3%80%80`; write",
                "/my",
                "/my\u{3000}files",
            ),
            (
                "not seen",
                "/api/\u{200b}x",
                "has a character that is not seen, which escaped is `%E2%80%8B`; write",
                "/api/",
                "/api/x",
            ),
            ("doubled slash", "/a//b", "has a doubled slash; write", "/a/b", "/a/b/7"),
            ("two at the start", "//access", "has a doubled slash; write", "/access", "/access/7"),
            ("dot", "/./access", DOTS, "/access", "/access/7"),
            ("dots", "/x/../access", DOTS, "/access", "/access/7"),
            ("escaped dots", "/x/%2e%2E/access", DOTS, "/access", "/access/7"),
            ("dot last", "/access/.", DOTS, "/access/", "/access/7"),
            ("parameters", "/access;v=1/x", "has a path parameter (`;`); write", "/access", "/access/x"),
            ("backslash", r"/access\x", "has a backslash; write", "/access/x", "/access/x/7"),
            ("query", "/access?x", QUERY, "/access", "/access/7"),
            ("fragment", "/access#x", QUERY, "/access", "/access/7"),
            ("control", "/acc\u{1}ess", CONTROL, "/acc", "/access"),
            ("lone percent", "/100%", PERCENT, "/100", "/100%25"),
            ("half an escape", "/a%2", PERCENT, "/a", "/a/7"),
            ("Latin-1", "/caf%E9", "has escapes that are not UTF-8; write", "/caf", "/caf\u{e9}"),
        ] {
            let error = Prefix::parse(written).expect_err(name);
            assert_eq!(format!("{error}; {}", error.remedy(Use::Guard)), format!("{message} {remedy:?}"), "{name}");
            assert!(guards(remedy, guarded), "{name}: {guarded}");
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
            ("/...", "/"),
            ("/api/.../x", "/api/"),
            ("/api...", "/api"),
            ("/api/\u{2026}", "/api/"),
            ("/api/\u{ff0a}", "/api/"),
            ("/api/\u{2217}", "/api/"),
            ("/api/\u{2039}id\u{203a}", "/api/"),
            ("/api/\u{3008}id\u{3009}", "/api/"),
            ("/api/\u{ff5b}id\u{ff5d}", "/api/"),
            ("/api/\u{ff1a}id", "/api/"),
            ("/api/file.:ext", "/api/file."),
            ("/flights/:from-:to", "/flights/"),
            ("/flights/from-:from", "/flights/from-"),
            ("/api/x:id.json", "/api/x"),
            ("/api/.%2B", "/api/"),
            ("/api\"", "/api"),
            ("/api`", "/api"),
            ("/\"/api\"", "/"),
            ("*/api", "/"),
            ("{tenant}/api", "/"),
            ("(?i)/api", "/"),
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
            ("/a/%2E%2E%2E", "/a/..."),
            ("/v1/users%3Abatch/x", "/v1/users:batch/x"),
            ("/time/12:30/x", "/time/12:30/x"),
            ("/my%20files", "/my files"),
            ("/a%2C/b", "/a,/b"),
            ("/a%E2%80%A6", "/a\u{2026}"),
            ("/a/%EF%BC%8A", "/a/\u{ff0a}"),
            ("/日本/ダウンロード", "/日本/ダウンロード"),
            ("/me\u{301}moire", "/me\u{301}moire"),
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
        fn the_spelling_in_an_error_is_accepted(written in "[ -~é\t]{0,3}([/.;,:…%?#\\\\ a-c2F\u{e9}\u{1}]|%2[ef]|://){0,8}") {
            if let Err(error) = Prefix::parse(&written) {
                let remedy = error.remedy(Use::Guard);
                let spelling = spelling(&remedy);
                prop_assert!(Prefix::parse(&spelling).is_ok(), "{:?}: {}", written, remedy);
            }
        }
    }
}
