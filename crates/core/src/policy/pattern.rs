//! The path of a rule: how it is parsed, what it matches, and how specific it is.

use std::cmp::Ordering;

use super::{Extent, MAX_PATH, Prefix, Use, case::fold, prefix::PrefixError};

/// The path of a rule, in segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    /// The place of the first parameter, or the number of segments.
    first_parameter: usize,
    /// The text before it, without a slash at its end: empty for `/`.
    head: Text,
    end: End,
}

/// A literal text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    plain: Box<str>,
    folded: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Text),
    /// `{name}`, and the first segment of `{*rest}`.
    Any,
    /// `{id:uuid}`.
    Uuid,
    /// `{n:int}`.
    Int,
}

/// A type of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Uuid,
    Int,
}

/// What a prefix or a rule has in the place of a segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    Text(String),
    Typed(Kind),
    Any,
}

/// What follows the segments of a pattern, from the least specific on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// `{*rest}`, the first segment of which is the last one of the pattern.
    Rest,
    /// Nothing, or more segments.
    Below,
    /// Nothing.
    Here,
}

/// How texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Byte by byte.
    Plain,
    /// Without case: what is not ASCII is [folded](fold) already.
    Folded,
}

/// How specific a rule is: of the rules that match a request, the greatest wins. The order of the fields is that of the
/// comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity {
    class: Class,
    segments: usize,
    literals: usize,
    typed: usize,
    end: End,
    has_methods: bool,
    /// An exemption is weaker than a rule for the same path.
    is_rule: bool,
    /// What only reports does not compete with what decides.
    only_reports: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Prefix,
    Pattern,
    Exact,
}

/// A fault of one rule, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The member of the rule that is at fault.
    pub(super) member: &'static str,
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Fault {
    /// Creates a fault of the path.
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::of("path", problem, remedy)
    }

    pub(super) fn of(member: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { member, problem: problem.into(), remedy: remedy.into() }
    }
}

impl Pattern {
    /// Parses the path of a rule. Escapes are decoded once.
    pub(super) fn parse(written: &str, extent: Extent) -> Result<Self, Fault> {
        if written.len() > MAX_PATH {
            return Err(Fault::new(
                "is longer than 8 KiB, and a request for such a path is refused with 414",
                "shorten it",
            ));
        }
        let last = written.split('/').count() - 1;
        let mut parameters = Vec::new();
        let mut literal = Vec::new();
        for (at, segment) in written.split('/').enumerate() {
            let parameter = parameter(segment)?;
            if at != last && parameter.as_ref().is_some_and(|parameter| parameter.is_rest) {
                let remedy = format!("put {segment} at the end of the path");
                return Err(Fault::new(format!("{segment} is not at the end"), remedy));
            }
            literal.push(if parameter.is_some() { placeholder(at) } else { segment.to_owned() });
            parameters.push(parameter);
        }
        let text = literal_text(written, &literal)?;
        let end = match (parameters.last(), extent) {
            (Some(Some(Parameter { is_rest: true, .. })), _) => End::Rest,
            (_, Extent::Prefix) => End::Below,
            (_, Extent::Exact) => End::Here,
        };
        // The first segment stands before the slash of the root.
        let named = text.split('/').zip(parameters).skip(1).filter(|(segment, _)| !segment.is_empty());
        let segments = named.map(|(segment, parameter)| match parameter {
            Some(parameter) => parameter.segment,
            None => Segment::Literal(Text::new(segment)),
        });
        Ok(Self::new(segments.collect(), end))
    }

    fn new(segments: Vec<Segment>, end: End) -> Self {
        let mut head = String::new();
        let mut first_parameter = 0;
        for segment in &segments {
            let Segment::Literal(text) = segment else { break };
            head.push('/');
            head.push_str(&text.plain);
            first_parameter += 1;
        }
        Self { segments, first_parameter, head: Text::new(&head), end }
    }

    /// Returns the segments from the first parameter on.
    fn tail(&self) -> &[Segment] {
        &self.segments[self.first_parameter..]
    }

    /// Returns the segments, as the paths of a template are compared with them.
    pub(super) fn known(&self) -> impl Iterator<Item = Known> {
        self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Known::Text(text.plain.to_string()),
            Segment::Any => Known::Any,
            Segment::Uuid => Known::Typed(Kind::Uuid),
            Segment::Int => Known::Typed(Kind::Int),
        })
    }

    /// Returns the text that every path begins with which this matches.
    pub(super) fn head(&self) -> &str {
        if self.head.plain.is_empty() { "/" } else { &self.head.plain }
    }

    /// Returns the segments as they are compared.
    pub(super) fn compared(&self, spelling: Spelling) -> Vec<Known> {
        let compared = self.known().map(|known| match known {
            Known::Text(text) if spelling == Spelling::Folded => Known::Text(fold(&text).into_owned()),
            known => known,
        });
        compared.collect()
    }

    /// Returns those from the first parameter on.
    pub(super) fn compared_tail(&self, spelling: Spelling) -> Vec<Known> {
        self.compared(spelling).split_off(self.first_parameter)
    }

    /// Returns a path that this matches, as do all patterns that match all of its paths.
    pub(super) fn sample(&self) -> String {
        let names = self.known().map(|known| match known {
            Known::Text(text) => format!("/{text}"),
            Known::Typed(kind) => format!("/{}", kind.sample()),
            // It is in no path, so that it is no name of a rule.
            Known::Any => "/\0".to_owned(),
        });
        names.collect()
    }

    /// Returns the number of segments.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Returns true if nothing may follow the segments.
    pub(super) fn ends_here(&self) -> bool {
        self.end == End::Here
    }

    pub(super) fn has_parameters(&self) -> bool {
        self.first_parameter < self.segments.len()
    }

    /// Returns true if a text is one of the paths.
    #[inline]
    pub(super) fn matches(&self, text: &str, spelling: Spelling) -> bool {
        let Some(mut rest) = self.head.strip(text, spelling) else { return false };
        if self.segments.is_empty() {
            return self.end != End::Here || rest == "/";
        }
        for segment in self.tail() {
            let Some((name, after)) = next_segment(rest) else { return false };
            if !segment.matches(name, spelling) {
                return false;
            }
            rest = after;
        }
        rest.is_empty() || self.end != End::Here && rest.starts_with('/')
    }

    /// Returns true if a path can match both this and another pattern of the same specificity.
    pub(super) fn meets(&self, other: &Self, spelling: Spelling) -> bool {
        self.segments.iter().zip(&other.segments).all(|(a, b)| a.meets(b, spelling))
    }

    /// Returns true if every path that the other pattern matches is matched by this one.
    pub(super) fn covers(&self, other: &Self, spelling: Spelling) -> bool {
        let mine = self.segments.len();
        let others = other.segments.len();
        if self.end == End::Here && (other.end != End::Here || mine != others) || mine > others {
            return false;
        }
        self.segments.iter().zip(&other.segments).all(|(a, b)| a.covers(b, spelling))
    }

    /// Returns the pattern of all paths that both match, if there are any. Where one has a text, it does.
    pub(super) fn both(&self, other: &Self) -> Option<Self> {
        let [short, long] = if self.segments.len() <= other.segments.len() { [self, other] } else { [other, self] };
        let are_as_long = short.segments.len() == long.segments.len();
        if !(are_as_long || short.end != End::Here) || !short.meets(long, Spelling::Plain) {
            return None;
        }
        let shared = short.segments.iter().zip(&long.segments);
        let shared = shared.map(|(a, b)| if a.covers(b, Spelling::Plain) { b } else { a });
        let segments = shared.chain(&long.segments[short.segments.len()..]).cloned().collect();
        Some(Self::new(segments, if are_as_long { short.end.max(long.end) } else { long.end }))
    }

    /// Returns the pattern in parts, each of which a rule can match as a whole: the path alone, and the paths below.
    pub(super) fn parts(&self) -> Vec<Self> {
        if self.end != End::Below {
            return vec![self.clone()];
        }
        let below = self.segments.iter().cloned().chain([Segment::Any]).collect();
        vec![Self { end: End::Here, ..self.clone() }, Self::new(below, End::Rest)]
    }

    /// Returns the path as a rule has it, with names for its parameters.
    pub(super) fn written(&self) -> String {
        let last = self.segments.len().saturating_sub(1);
        let mut written = String::new();
        for (at, segment) in self.segments.iter().enumerate() {
            written.push('/');
            written.push_str(match segment {
                Segment::Literal(text) => &text.plain,
                Segment::Any if self.end == End::Rest && at == last => "{*rest}",
                Segment::Any => "{name}",
                Segment::Uuid => "{id:uuid}",
                Segment::Int => "{n:int}",
            });
        }
        if written.is_empty() { "/".to_owned() } else { written }
    }

    pub(super) fn specificity(&self, has_methods: bool, only_reports: bool) -> Specificity {
        let literals = self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count();
        let typed = self.segments.iter().filter(|segment| matches!(segment, Segment::Uuid | Segment::Int)).count();
        let class = match () {
            () if self.has_parameters() => Class::Pattern,
            () if self.end == End::Here => Class::Exact,
            () => Class::Prefix,
        };
        Specificity {
            class,
            segments: self.segments.len(),
            literals,
            typed,
            end: self.end,
            has_methods,
            is_rule: true,
            only_reports,
        }
    }
}

impl Specificity {
    /// Returns the word of the order by which this is ahead of what it wins over.
    pub(super) fn ahead_by(&self, other: &Self) -> &'static str {
        match () {
            () if self.class != other.class && self.class == Class::Exact => "exact",
            () if self.class != other.class => "pattern over prefix",
            () if self.segments != other.segments => "longer",
            () if self.literals != other.literals => "more literal segments",
            () if self.typed != other.typed => "more typed parameters",
            () if self.end != other.end => "more of the path named",
            () if self.has_methods != other.has_methods => "with methods",
            () if self.is_rule != other.is_rule => "rule over exemption",
            () => "only reports",
        }
    }

    /// Returns the place of an exemption among the rules.
    pub(super) fn of_exemption(prefix: &Prefix) -> Self {
        let segments = prefix.text().split('/').filter(|segment| !segment.is_empty()).count();
        Self {
            class: Class::Prefix,
            segments,
            literals: segments,
            typed: 0,
            end: End::Below,
            has_methods: false,
            is_rule: false,
            only_reports: false,
        }
    }
}

impl Spelling {
    /// Returns the text to compare.
    #[inline]
    pub(super) fn pick<'a>(self, plain: &'a str, folded: &'a str) -> &'a str {
        match self {
            Self::Plain => plain,
            Self::Folded => folded,
        }
    }

    /// Compares a name of a rule with one of a text, which may have capitals if it is ASCII.
    pub(super) fn compare(self, known: &str, name: &str) -> Ordering {
        match self {
            Self::Plain => known.cmp(name),
            Self::Folded => known.bytes().cmp(name.bytes().map(|byte| byte.to_ascii_lowercase())),
        }
    }

    pub(super) fn is_same(self, known: &str, name: &str) -> bool {
        match self {
            Self::Plain => known == name,
            Self::Folded => known.eq_ignore_ascii_case(name),
        }
    }
}

impl Text {
    fn new(plain: &str) -> Self {
        Self { plain: plain.into(), folded: fold(plain).as_ref().into() }
    }

    /// Strips this text as `strip_prefix` does.
    #[inline]
    fn strip<'a>(&self, text: &'a str, spelling: Spelling) -> Option<&'a str> {
        match spelling {
            Spelling::Plain => text.strip_prefix(&*self.plain),
            Spelling::Folded => {
                let (head, rest) = text.split_at_checked(self.folded.len())?;
                head.eq_ignore_ascii_case(&self.folded).then_some(rest)
            }
        }
    }

    fn is(&self, other: &Self, spelling: Spelling) -> bool {
        match spelling {
            Spelling::Plain => self.plain == other.plain,
            Spelling::Folded => self.folded == other.folded,
        }
    }
}

impl Known {
    pub(super) fn takes(&self, name: &str) -> bool {
        match self {
            Self::Text(text) => text == name,
            Self::Typed(kind) => kind.takes(name),
            Self::Any => !name.is_empty(),
        }
    }
}

impl Kind {
    pub(super) fn takes(self, name: &str) -> bool {
        match self {
            Self::Uuid => is_uuid(name.as_bytes()),
            Self::Int => is_int(name.as_bytes()),
        }
    }

    /// Returns a value that no rule is likely to name.
    pub(super) fn sample(self) -> &'static str {
        match self {
            Self::Uuid => "5ca1ab1e-0f0f-4e4e-8d8d-3c3c2b2b1a1a",
            Self::Int => "-7906053",
        }
    }

    /// Returns one that begins with a text, if there is one.
    pub(super) fn sample_from(self, begin: &str) -> Option<String> {
        let rest = match self {
            Self::Uuid => self.sample().get(begin.len()..)?,
            Self::Int => "7906053",
        };
        Some(format!("{begin}{rest}")).filter(|text| self.takes(text))
    }
}

impl Segment {
    fn matches(&self, name: &str, spelling: Spelling) -> bool {
        match self {
            Self::Literal(text) => text.strip(name, spelling) == Some(""),
            Self::Any => !name.is_empty(),
            Self::Uuid => is_uuid(name.as_bytes()),
            Self::Int => is_int(name.as_bytes()),
        }
    }

    fn meets(&self, other: &Self, spelling: Spelling) -> bool {
        match (self, other) {
            (Self::Literal(a), Self::Literal(b)) => a.is(b, spelling),
            (Self::Literal(text), kind) | (kind, Self::Literal(text)) => kind.matches(&text.plain, spelling),
            (a, b) => *a == Self::Any || *b == Self::Any || a == b,
        }
    }

    fn covers(&self, other: &Self, spelling: Spelling) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Literal(a), Self::Literal(b)) => a.is(b, spelling),
            (kind, Self::Literal(text)) => kind.matches(&text.plain, spelling),
            (a, b) => a == b,
        }
    }
}

/// Splits off the first segment of a text that begins with a slash.
#[inline]
pub(super) fn next_segment(text: &str) -> Option<(&str, &str)> {
    let named = text.strip_prefix('/')?;
    Some(named.split_at(named.bytes().position(|byte| byte == b'/').unwrap_or(named.len())))
}

/// Returns true for 8-4-4-4-12 hex digits.
fn is_uuid(name: &[u8]) -> bool {
    name.len() == 36
        && name.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_int(name: &[u8]) -> bool {
    let digits = name.strip_prefix(b"-").unwrap_or(name);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

struct Parameter {
    segment: Segment,
    is_rest: bool,
}

/// Reads a segment as a parameter, if it has braces.
fn parameter(segment: &str) -> Result<Option<Parameter>, Fault> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
        let remedy = "make the parameter a whole segment, such as \"/files/{name}\"";
        return Err(Fault::new(format!("{segment:?} has a parameter as a part of a segment"), remedy));
    };
    let (name, kind) = inner.split_once(':').map_or((inner, None), |(name, kind)| (name, Some(kind)));
    let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
    if !is_name(name) {
        let remedy = if is_rest { "write {*rest}" } else { "write a name of letters, digits and `_`, such as {id}" };
        return Err(Fault::new(format!("{segment:?} has no name for its parameter"), remedy));
    }
    let segment = match kind {
        None => Segment::Any,
        Some("uuid") if !is_rest => Segment::Uuid,
        Some("int") if !is_rest => Segment::Int,
        Some(_) if is_rest => {
            return Err(Fault::new(
                format!("{segment:?} has a type, and a rest has none"),
                format!("write {{*{name}}}"),
            ));
        }
        Some(kind) => {
            let remedy = format!("write {{{name}:uuid}} or {{{name}:int}}, or {{{name}}} for any segment");
            return Err(Fault::new(format!("{kind:?} is not a type of parameters"), remedy));
        }
    };
    Ok(Some(Parameter { segment, is_rest }))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the text that stands for a parameter while the rest of the path is checked.
fn placeholder(place: usize) -> String {
    format!("parameter-{place}-")
}

/// Checks and decodes the path with placeholders for its parameters.
fn literal_text(written: &str, literal: &[String]) -> Result<String, Fault> {
    if written.len() > 1 && written.ends_with('/') {
        let without = written.trim_end_matches('/');
        let remedy = format!("write {without:?}, which is met with a slash at the end, too");
        return Err(Fault::new("has a slash at its end", if without.is_empty() { "write \"/\"" } else { &remedy }));
    }
    let text = literal.join("/");
    let prefix = Prefix::parse(&text).map_err(|error| {
        let fault = fault(&error);
        let segments = written.split('/').enumerate();
        let with_parameters =
            segments.fold(fault.remedy, |remedy, (at, segment)| remedy.replace(&placeholder(at), segment));
        Fault { remedy: with_parameters, ..fault }
    })?;
    Ok(prefix.text().to_owned())
}

fn fault(error: &PrefixError) -> Fault {
    match error.pattern_sign() {
        Some('*') => Fault::new(
            "has a `*`, which stands for nothing here",
            "write {name} for one segment, or {*rest} at the end for all that follows",
        ),
        Some(':') => Fault::new(
            "has a `:`, which stands for nothing here",
            "write {name} for one segment, or `%3A` for the colon itself",
        ),
        Some(sign) => Fault::new(format!("has a `{sign}`, which stands for nothing here"), error.remedy(Use::Rule)),
        None => Fault::new(error.to_string(), error.remedy(Use::Rule)),
    }
}
