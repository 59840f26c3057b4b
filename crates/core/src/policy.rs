//! The paths: which checks a request needs, by its method and URI alone.
//!
//! A guard in front of a router never knows what is behind it: the router may match the path as it was sent, decode it,
//! merge its slashes, resolve its dots, or hand it to a server with rules of its own. So a request needs every check
//! whose prefix is met by *any* plausible [reading](readings) of its path, the path as it was sent included; a path
//! with no sound reading is refused; everything else is public. Nothing is rewritten: the guard only asks more often,
//! and one more reading or one more guarded prefix can never remove a check.
//!
//! An exemption opens a reading if it is longer than every guarded prefix that the reading meets, and a path if it opens
//! every reading. Else it has no effect.

use std::{borrow::Cow, sync::LazyLock};

use http::{Method, Uri};
use serde::{Serialize, Serializer};

mod deciding;
mod explain;
mod filter;
mod matcher;
mod overlap;
mod prefix;
mod readings;
mod template;
#[cfg(test)]
mod tests;

pub use self::deciding::{Deciding, RuleId};
pub use self::explain::{DecidingPrefix, ExplainedReading, Explanation, PathDecision, PathList};
pub use self::prefix::{Prefix, Use};
pub use self::readings::Step;
use self::{
    filter::Filter,
    matcher::{Entry, PrefixSet},
    readings::{Reading, faults, has_short_name, is_calm, is_plain, readings},
};

/// A longer path is not looked at. It bounds the work together with the limits on readings.
const MAX_PATH: usize = 8 * 1024;

const MASTER: u8 = 1;
const ACCESS: u8 = 2;

/// Which checks are asked of which paths.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The prefixes of both checks, folded where case does not count.
    guards: PrefixSet,
    exemptions: PrefixSet,
    /// Of the guards. There is none where a path without trouble may still be read in another way.
    filter: Option<Filter>,
    /// All prefixes, with the lists that they stand in.
    prefixes: Vec<(PathList, Prefix)>,
    base_path: Option<String>,
    options: PathOptions,
}

/// How paths are read, where the defaults do not fit what is behind the guard. All are off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathOptions {
    /// Case does not count where a check is asked for. It still does for exemptions: a guard errs towards asking.
    pub case_insensitive: bool,
    /// Dots and spaces at the end of a segment do not count, nor does the name of a stream (`::$DATA`), and a name that may be
    /// short for another is asked every check.
    pub windows: bool,
    /// A CORS preflight needs no check.
    pub skip_preflight: bool,
    pub ambiguous: Ambiguous,
}

/// What becomes of a path with a malformed escape, with escapes that are not UTF-8, or with too many readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ambiguous {
    #[default]
    Refuse,
    /// Every check that any prefix asks for is needed: for applications with URLs in Latin-1.
    Protect,
}

/// What the rules look at of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    /// The URI before a router stripped a prefix, where the request tells it.
    pub original_uri: Option<&'a Uri>,
    /// Whether there are an `Origin` and an `Access-Control-Request-Method`.
    pub cors_headers: bool,
    /// What a [glance](Rules::glance) at the URI's path has shown.
    pub glance: Option<Requirement>,
}

/// The checks that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    asked: u8,
    /// Those that the path asks for as it was sent.
    asked_as_sent: u8,
}

/// Why a path is refused whatever the prefixes say. The path itself is not in it, so it may be shown and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PathRefusal {
    /// A `%` that two hex digits do not follow: decoders disagree on what it is.
    #[error("malformed escape")]
    MalformedEscape,
    /// Decoded, the path is no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// A control character, plain or encoded: some parsers drop it, others end the path there.
    #[error("control character")]
    ControlCharacter,
    /// The path is encoded more than three times.
    #[error("encoded too often")]
    EncodedTooOften,
    /// The form of the request target is not one for this method, or the path does not begin with `/`.
    #[error("request target")]
    RequestTarget,
    /// The path can be read in more ways than any real one: in more than 256, or in more than can be looked at in the time
    /// that a path is given.
    #[error("too many readings")]
    TooManyReadings,
    /// A name in the path, such as `PRIVAT~1`, may be short for another one on Windows. No path is refused for it: every check
    /// that there is is asked for, with the option `windows`.
    #[error("short name")]
    ShortName,
    /// The path is longer than 8 KiB.
    #[error("target too long")]
    TargetTooLong,
}

impl Rules {
    /// The rules that ask for the master token below the prefixes of `master`, for an access token below those of
    /// `access`, and for nothing where every reading is below one of `public`.
    ///
    /// Where an outer router strips a prefix before the guard sees the path, that is the `base_path`: the path is
    /// looked at without and with it, so that prefixes can be written either way.
    pub fn new(
        master: Vec<Prefix>,
        access: Vec<Prefix>,
        public: Vec<Prefix>,
        base_path: Option<&Prefix>,
        options: PathOptions,
    ) -> Self {
        let lists = [(PathList::Master, master), (PathList::Access, access), (PathList::Public, public)];
        let prefixes: Vec<_> =
            lists.into_iter().flat_map(|(list, prefixes)| prefixes.into_iter().map(move |p| (list, p))).collect();
        let entries = prefixes.iter().enumerate().map(|(id, (list, prefix))| entry(id, *list, prefix, options));
        let (exemptions, guards): (Vec<_>, Vec<_>) =
            entries.partition(|entry| prefixes[entry.id].0 == PathList::Public);
        let base_path = base_path.map(|base| base.text().trim_end_matches('/')).filter(|base| !base.is_empty());
        let only_as_sent = base_path.is_none() && !options.windows;
        let texts: Vec<_> = guards.iter().map(|entry| &*entry.text).collect();
        Self {
            filter: only_as_sent.then(|| Filter::new(&texts)),
            guards: PrefixSet::new(guards),
            exemptions: PrefixSet::new(exemptions),
            base_path: base_path.map(str::to_owned),
            prefixes,
            options,
        }
    }

    /// The checks that a path asks for, where one scan of it shows that it has no other reading: so it is with nearly all.
    ///
    /// A path without anything in it that can be trouble is ASCII, too, so that the filter, to which case never counts,
    /// holds for it whether or not case counts.
    #[inline]
    pub fn glance(&self, path: &str) -> Option<Requirement> {
        let filter = self.filter.as_ref()?;
        let bytes = path.as_bytes();
        if !(bytes.starts_with(b"/") && bytes.len() <= MAX_PATH && is_calm(bytes)) {
            return None;
        }
        Some(if filter.rules_out_head(bytes) { Requirement::NOTHING } else { self.look(filter, path) })
    }

    #[inline(never)]
    fn look(&self, filter: &Filter, path: &str) -> Requirement {
        let is_open = !self.guards.has_few() && filter.rules_out(path.as_bytes());
        if is_open { Requirement::NOTHING } else { self.weigh(path, &[]) }
    }

    /// The checks that a request needs: what is asked for by either URI is needed, and either may be the reason to refuse.
    #[inline]
    pub fn requirement(&self, line: &RequestLine<'_>) -> Result<Requirement, PathRefusal> {
        match line.glance {
            Some(requirement) if line.other_path().is_none() && !self.options.skip_preflight => Ok(requirement),
            _ => self.consider(line, &mut ()),
        }
    }

    #[inline]
    fn consider(&self, line: &RequestLine<'_>, watch: &mut impl Watch) -> Result<Requirement, PathRefusal> {
        let mut requirement = self.consider_uri(line.method, line.uri, watch)?;
        if let Some(original) = line.other_path() {
            requirement = requirement.union(self.consider_uri(line.method, original, watch)?);
        }
        Ok(if self.options.skip_preflight && line.is_preflight() { Requirement::NOTHING } else { requirement })
    }

    #[inline]
    fn consider_uri(&self, method: &Method, uri: &Uri, watch: &mut impl Watch) -> Result<Requirement, PathRefusal> {
        let path = target_path(method, uri)?;
        let requirement = self.consider_path(path, watch)?;
        let Some(base) = &self.base_path else { return Ok(requirement) };
        Ok(requirement.union(self.consider_path(&format!("{base}{path}"), watch)?))
    }

    #[inline]
    fn consider_path(&self, path: &str, watch: &mut impl Watch) -> Result<Requirement, PathRefusal> {
        if path.len() > MAX_PATH {
            return Err(PathRefusal::TargetTooLong);
        }
        if is_plain(path, self.options.windows) {
            watch.reading(path, Step::AsSent, None);
            return Ok(self.weigh(path, &[]));
        }
        self.consider_readings(path, watch)
    }

    #[inline(never)]
    fn consider_readings(&self, path: &str, watch: &mut impl Watch) -> Result<Requirement, PathRefusal> {
        let mut ambiguous = None;
        for fault in faults(path) {
            if !self.tolerates(fault) {
                return Err(fault);
            }
            ambiguous = ambiguous.or(Some(fault));
        }
        if let Some(fault) = ambiguous {
            watch.reading(path, Step::AsSent, None);
            return Ok(self.everything(path, fault, watch));
        }
        let folded = if self.options.case_insensitive { self.guards.longest() } else { 0 };
        let readings = match readings(path, self.options.windows, folded, &|path| self.is_above(path)) {
            Err(fault) if self.tolerates(fault) => {
                watch.reading(path, Step::AsSent, None);
                return Ok(self.everything(path, fault, watch));
            }
            readings => readings?,
        };
        for Reading { text, step, from } in &readings.list {
            watch.reading(text, *step, *from);
        }
        if !readings.complete {
            return Ok(self.everything(path, PathRefusal::TooManyReadings, watch));
        }
        if self.options.windows && readings.list.iter().any(|reading| has_short_name(&reading.text)) {
            return Ok(self.everything(path, PathRefusal::ShortName, watch));
        }
        Ok(self.weigh(path, &readings.list))
    }

    /// Every check that there is, for this fault of the path.
    fn everything(&self, path: &str, fault: PathRefusal, watch: &mut impl Watch) -> Requirement {
        watch.fault(fault);
        Requirement { asked: self.guards.all_marks(), asked_as_sent: self.checks(path) }
    }

    fn tolerates(&self, fault: PathRefusal) -> bool {
        use PathRefusal::{MalformedEscape, NotUtf8, TooManyReadings};
        let ambiguity = matches!(fault, MalformedEscape | NotUtf8 | TooManyReadings);
        ambiguity && self.options.ambiguous == Ambiguous::Protect
    }

    /// What the path asks for with its readings, which may be left out when it is the only one.
    #[inline]
    fn weigh(&self, path: &str, readings: &[Reading]) -> Requirement {
        let asked_as_sent = self.checks(path);
        let others = readings.iter().skip(1);
        let asked = others.clone().fold(asked_as_sent, |asked, reading| asked | self.checks(&reading.text));
        if asked == 0 || self.exemptions.is_empty() {
            return Requirement { asked, asked_as_sent };
        }
        self.weigh_exemptions(Requirement { asked, asked_as_sent }, path, readings)
    }

    #[inline(never)]
    fn weigh_exemptions(&self, asked: Requirement, path: &str, readings: &[Reading]) -> Requirement {
        if !self.is_exempt(path) {
            return asked;
        }
        match readings.iter().skip(1).all(|reading| self.is_exempt(&reading.text)) {
            true => Requirement::NOTHING,
            false => Requirement { asked_as_sent: 0, ..asked },
        }
    }

    /// Whether an exemption that the reading meets is longer than every guard that it meets.
    fn is_exempt(&self, reading: &str) -> bool {
        self.exemptions.depth(reading) > self.guards.depth(&self.cased(reading))
    }

    #[inline]
    fn checks(&self, reading: &str) -> u8 {
        self.guards.marks(&self.cased(reading))
    }

    /// The prefixes of a list that a reading meets.
    fn met(&self, reading: &str, list: PathList) -> impl Iterator<Item = &Prefix> {
        let entries = match list {
            PathList::Public => self.exemptions.met(reading),
            PathList::Master | PathList::Access => self.guards.met(&self.cased(reading)),
        };
        entries.into_iter().map(|entry| &self.prefixes[entry.id]).filter(move |(of, _)| *of == list).map(|(_, p)| p)
    }

    /// Whether a path is above one of the prefixes, by whole segments.
    fn is_above(&self, path: &str) -> bool {
        self.guards.is_above(&self.cased(path)) || self.exemptions.is_above(path)
    }

    #[inline]
    fn cased<'a>(&self, reading: &'a str) -> Cow<'a, str> {
        if self.options.case_insensitive { fold(self.guards.head(reading)) } else { Cow::Borrowed(reading) }
    }
}

impl<'a> RequestLine<'a> {
    pub fn new(method: &'a Method, uri: &'a Uri) -> Self {
        Self { method, uri, original_uri: None, cors_headers: false, glance: None }
    }

    /// The URI before a router stripped a prefix, where its path is another one.
    #[inline]
    fn other_path(&self) -> Option<&'a Uri> {
        self.original_uri.filter(|original| original.path() != self.uri.path())
    }

    fn is_preflight(&self) -> bool {
        self.cors_headers && self.method == Method::OPTIONS
    }
}

impl Requirement {
    const NOTHING: Self = Self { asked: 0, asked_as_sent: 0 };

    pub fn needs_master(self) -> bool {
        self.asked & MASTER != 0
    }

    pub fn needs_access(self) -> bool {
        self.asked & ACCESS != 0
    }

    #[inline]
    pub fn is_public(self) -> bool {
        self.asked == 0
    }

    /// Whether the path as it was sent would have got by with less: an attack, or a client with a fault.
    pub fn only_by_other_reading(self) -> bool {
        self.asked & !self.asked_as_sent != 0
    }

    fn union(self, other: Self) -> Self {
        Self { asked: self.asked | other.asked, asked_as_sent: self.asked_as_sent | other.asked_as_sent }
    }
}

impl Serialize for PathRefusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Is told what the rules look at: nobody, or who has to explain it.
trait Watch {
    fn reading(&mut self, text: &str, step: Step, from: Option<usize>);
    /// A fault for which every check is asked, whatever the reading meets.
    fn fault(&mut self, fault: PathRefusal);
}

impl Watch for () {
    #[inline]
    fn reading(&mut self, _: &str, _: Step, _: Option<usize>) {}
    #[inline]
    fn fault(&mut self, _: PathRefusal) {}
}

/// The path of a request target, `/` where the target is one that has none (RFC 9112, section 3.2). Of hosts, queries
/// and fragments nothing counts.
#[inline]
fn target_path<'a>(method: &Method, uri: &'a Uri) -> Result<&'a str, PathRefusal> {
    match uri.path() {
        path if path.starts_with('/') => Ok(path),
        "*" if method == Method::OPTIONS => Ok("/"),
        "" if method == Method::CONNECT => Ok("/"),
        // HTTP/2 let paths without a slash through before http 1.4.1.
        _ => Err(PathRefusal::RequestTarget),
    }
}

fn entry(id: usize, list: PathList, prefix: &Prefix, options: PathOptions) -> Entry {
    let text = prefix.text();
    let folded = if options.case_insensitive { fold(text).into_owned() } else { text.to_owned() };
    // Both are measured folded, as the guards are compared.
    let depth = folded.len();
    match list {
        PathList::Master => Entry { text: folded, form: prefix.form(), mark: MASTER, depth, id },
        PathList::Access => Entry { text: folded, form: prefix.form(), mark: ACCESS, depth, id },
        PathList::Public => Entry { text: text.to_owned(), form: prefix.form_of_exemption(), mark: 1, depth, id },
    }
}

/// The text without its case. Each character is folded by itself, so that what starts with a text still does after it;
/// the way over capitals unites what only shares those, as `ß` and `ẞ`, `s` and `ſ`.
fn fold(text: &str) -> Cow<'_, str> {
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

fn fold_char(char: char) -> impl Iterator<Item = char> {
    char.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

const TWO_BYTES_END: char = '\u{800}';

/// The first characters, folded: they are looked up sooner.
static FOLDED: LazyLock<Vec<String>> =
    LazyLock::new(|| ('\0'..TWO_BYTES_END).map(|char| fold_char(char).collect()).collect());

/// Scripts that have no case, by the first bytes of their characters.
fn has_no_case(char: char) -> bool {
    matches!(char, '\u{800}'..='\u{fff}' | '\u{3000}'..='\u{9fff}' | '\u{b000}'..='\u{efff}')
}
