//! One entry of a list of paths: how it is parsed, and how it is matched.

mod spelling;
#[cfg(test)]
mod tests;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use self::spelling::{accepted, escapes, sound, starts_name};

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
    /// Parses an entry of a list. Escapes are decoded once: `/café` and `/caf%C3%A9` are the same prefix.
    ///
    /// # Errors
    ///
    /// The entry is not in normal form, or looks as if it meant more than its text.
    pub fn parse(written: &str) -> Result<Self, PrefixError> {
        let text = sound(written).map_err(|fault| PrefixError { fault, accepted: accepted(written) })?;
        let (text, form) = match text.strip_suffix('/') {
            Some(stem) if !stem.is_empty() => (stem, Form::Segment),
            _ => (text.as_str(), Form::Plain),
        };
        Ok(Self { written: written.into(), text: text.into(), form })
    }

    /// Returns the prefix as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns the decoded text, without the slash of the segment form.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the prefix without the slash of the segment form: decoded, as it was written, and as browsers write it.
    pub(super) fn spellings(&self) -> [String; 3] {
        const PATH: &AsciiSet =
            &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'^').add(b'`').add(b'{').add(b'}');
        let written = self.written.strip_suffix('/').unwrap_or(&self.written);
        [self.text.to_string(), written.to_owned(), utf8_percent_encode(&self.text, PATH).to_string()]
    }

    /// Finds a plain colon within a name that other tools may take for a parameter: `/v:version`.
    pub(super) fn colon(&self) -> Option<usize> {
        let written = &self.written;
        written.match_indices(':').map(|(at, _)| at).find(|at| starts_name(&written[at + 1..]))
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Returns the form of this prefix as an exemption, which never ends within a segment.
    pub(super) fn form_of_exemption(&self) -> Form {
        if &*self.text == "/" { Form::Plain } else { Form::Segment }
    }

    /// Returns true if a path meets this prefix as an exemption.
    pub(super) fn exempts(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.text);
        rest.is_some_and(|rest| self.form_of_exemption() == Form::Plain || matches!(rest.as_bytes(), [] | [b'/', ..]))
    }
}

/// The use of an entry, on which the advice on a faulty one depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It guards, so that a shorter prefix errs on the safe side.
    Guard,
    /// It opens.
    Exemption,
    /// It is what a router strips.
    BasePath,
    /// It is the literal part of a rule's path.
    Rule,
}

/// A text that is not a prefix of paths, with a spelling that is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct PrefixError {
    fault: PrefixFault,
    accepted: String,
}

/// The reason why a text is not a prefix of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PrefixFault {
    #[error("is empty")]
    Empty,
    #[error("has white space around it")]
    WhiteSpace,
    #[error("has white space within, which is written `{}`", escapes(.0))]
    WhiteSpaceWithin(char),
    #[error("has an invisible character, which is written `{}`", escapes(.0))]
    Hidden(char),
    #[error("is a list of paths in one text")]
    List,
    #[error("looks like a pattern (`{0}`), and prefixes have no patterns")]
    Pattern(char),
    #[error(
        "looks like a pattern (`{char}`), and prefixes have no patterns; for the character itself, write `{escaped}`",
        char = .0,
        escaped = escapes(.0)
    )]
    PlainPattern(char),
    #[error("must begin with `/`")]
    NoLeadingSlash,
    #[error("has a `%` without two hex digits after it")]
    MalformedEscape,
    #[error(
        "has an escape of `/`, `\\`, `%`, `;`, `?`, `#` or a control character, which servers read in different ways"
    )]
    AmbiguousEscape,
    #[error("has escapes that are not UTF-8")]
    NotUtf8,
    #[error("has a control character")]
    ControlCharacter,
    #[error("has a `?` or `#`, but only the path is matched")]
    QueryOrFragment,
    #[error("has a backslash")]
    Backslash,
    #[error("has a path parameter (`;`)")]
    Parameters,
    #[error("has a doubled slash")]
    DoubledSlash,
    #[error("has a dot segment")]
    DotSegment,
}

impl PrefixError {
    /// Returns the character that makes the text look like a pattern.
    pub(super) fn pattern_sign(&self) -> Option<char> {
        match self.fault {
            PrefixFault::Pattern(sign) | PrefixFault::PlainPattern(sign) => Some(sign),
            _ => None,
        }
    }

    /// Returns what to write instead. A shorter prefix guards more, so it is advice for a guard alone.
    pub fn remedy(&self, of: Use) -> String {
        use PrefixFault::{Backslash, DotSegment, DoubledSlash, Empty, List, NoLeadingSlash, WhiteSpace};
        let accepted = &self.accepted;
        match (self.fault, of) {
            (Empty, Use::Guard) => "to guard everything write \"/\"".to_owned(),
            (Empty, Use::Rule) => "write a path such as \"/api\", or \"/\" for all paths".to_owned(),
            (Empty, _) => "write a prefix such as \"/health\", or leave it out".to_owned(),
            (List, Use::Guard) => format!("make each path an entry of its own, the first {accepted:?}"),
            (List, _) => "make each path an entry of its own".to_owned(),
            (_, Use::Guard) => format!("write {accepted:?}"),
            // Nothing is cut off these: they mean one path.
            (WhiteSpace | NoLeadingSlash | Backslash | DoubledSlash | DotSegment, _) if accepted != "/" => {
                format!("write {accepted:?}")
            }
            (_, Use::Exemption) => "list each open path by its plain text".to_owned(),
            (_, Use::Rule) => "write the plain text of the path, with {name} for a segment that varies".to_owned(),
            (_, Use::BasePath) => "write exactly the text that the router strips".to_owned(),
        }
    }
}
