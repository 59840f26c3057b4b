//! The paths: which checks a request needs, by its method and URI alone.
//!
//! A guard in front of a router never knows what is behind it: the router may match the path as it was sent, decode it,
//! merge its slashes, resolve its dots, or hand it to a server with rules of its own. So a request needs every check
//! whose prefix is met by *any* plausible reading of its path, the path as it was sent included; a path
//! that cannot be normalised unambiguously is refused; everything else is public. Nothing is rewritten: the guard only
//! asks more often, and one more reading or one more guarded prefix can never remove a check.
//!
//! An exemption opens a reading if it is longer than every guarded prefix that the reading meets, and a path if it opens
//! every reading. Otherwise it has no effect.
//!
//! The lists of prefixes are guards and exemptions. Rules are asked besides: for every reading, the most specific rule that
//! matches wins, and what all of the winners ask is needed, on top of what the guards ask. A reading that no rule matches is
//! asked what the default level says.

use std::{borrow::Cow, num::NonZeroU32};

use http::Method;
use serde::{Serialize, Serializer};

mod base_path;
mod build;
mod case;
mod contenders;
mod contest;
mod demands;
mod entry;
mod explain;
mod idle;
mod line;
mod matcher;
mod methods;
mod necessary;
mod overlap;
mod pattern;
mod prefix;
mod readings;
mod requirement;
mod rule;
mod set;
mod tails;
mod template;
#[cfg(test)]
mod tests;

pub use self::explain::{DecidingPrefix, ExplainedReading, Explanation, PathDecision, PathList};
pub use self::readings::Step;
pub use self::{
    build::RuleSources,
    contenders::{Contender, ContenderKind, DecidingRule, ExplainedContest, Standing},
    demands::{Demands, Principal, ServiceTest, Unmet},
    line::{Connect, RequestLine},
    prefix::{Prefix, Use},
    requirement::Requirement,
    rule::{EndsOn, Extent, Level, Rule},
    set::RuleFault,
};
use self::{
    case::fold,
    entry::End,
    line::target_path,
    matcher::Matcher,
    methods::Methods,
    necessary::decode_necessary,
    prefix::Form,
    readings::{Reading, faults, has_short_name, is_calm, is_plain, readings},
    requirement::{Asking, Cause},
    set::CompiledRule,
    tails::Steps,
};

/// A longer path is not looked at. It bounds the work together with the limits on readings.
const MAX_PATH: usize = 8 * 1024;

/// The lists and the rules: which checks are asked of which requests.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The prefixes of the lists, in the order of their ids, which come before those of the rules.
    listed: Vec<ListedPrefix>,
    rules: Vec<CompiledRule>,
    default_level: Level,
    /// There are rules, or the default level asks for something. If not, the lists are all.
    are_ruled: bool,
    /// What is asked of a path that no prefix and no rule matches.
    unmatched: Requirement,
    /// What all rules ask, for paths that cannot be read.
    everything: Requirement,
    matcher: Matcher,
    base_path: Option<String>,
    options: PathOptions,
}

/// A prefix in one of the lists.
#[derive(Debug, Clone)]
pub struct ListedPrefix {
    id: RuleId,
    list: PathList,
    prefix: Prefix,
}

/// The id of a prefix or a rule: its place in the configuration, the lists one after the other and then the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(
    /// One more than its place, so that an optional one is as small: requests carry several.
    NonZeroU32,
);

/// How paths are read, where the defaults do not fit what is behind the guard. All are off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathOptions {
    /// Ignores case where a check is asked for, but not for exemptions: a guard errs towards asking.
    pub case_insensitive: bool,
    /// Ignores dots and spaces at the end of a segment and the name of a stream (`::$DATA`), and asks every check for a
    /// name that may be short for another.
    pub windows: bool,
    /// Asks no credential of a CORS preflight. One that is denied stays so.
    pub skip_preflight: bool,
    /// The treatment of a path that has no single reading.
    pub ambiguous: Ambiguous,
}

/// What becomes of a path with a malformed escape, with escapes that are not UTF-8, or with too many readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ambiguous {
    /// The path is refused.
    #[default]
    Refuse,
    /// Every check that any rule asks for is needed: for applications with URLs in Latin-1.
    Protect,
}

impl Ambiguous {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Protect => "protect",
        }
    }
}

/// The reason why a path is refused whatever the rules say. It does not contain the path, so it may be shown and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PathRefusal {
    /// A `%` without two hex digits after it: decoders disagree on what it is.
    #[error("malformed escape")]
    MalformedEscape,
    /// Decoded, the path is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A control character, plain or encoded: some parsers drop it, others end the path there.
    #[error("control character")]
    ControlCharacter,
    /// The path is encoded more than three times.
    #[error("encoded too often")]
    EncodedTooOften,
    /// The form of the request target is wrong for this method, or the path does not begin with `/`.
    #[error("request target")]
    RequestTarget,
    /// The path can be read in more ways than any real one: in more than 256, or in more than can be looked at in the time
    /// that a path is given.
    #[error("too many readings")]
    TooManyReadings,
    /// A name in the path, such as `PRIVAT~1`, may be short for another one on Windows. With the option `windows`, every
    /// check is asked for. No path is refused for it.
    #[error("short name")]
    ShortName,
    /// The path is longer than 8 KiB.
    #[error("target too long")]
    TargetTooLong,
}

impl PathRefusal {
    /// Describes the fault, to follow the path in a sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::MalformedEscape => "has a `%` without two hex digits after it",
            Self::NotUtf8 => "is not UTF-8 when it is decoded",
            Self::ControlCharacter => "has a control character, plain or escaped",
            Self::EncodedTooOften => "is encoded more than three times",
            Self::RequestTarget => "is not an absolute path (expected \"/…\")",
            Self::TooManyReadings => "can be read in too many ways",
            Self::ShortName => "has a name that may be a short one of Windows",
            Self::TargetTooLong => "is longer than 8 KiB",
        }
    }
}

impl Rules {
    /// Returns the prefixes of the lists, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &ListedPrefix> {
        self.listed.iter()
    }

    /// Returns all ids, in order: of the prefixes, and then of the rules.
    pub fn ids(&self) -> impl Iterator<Item = RuleId> + use<> {
        (0..self.listed.len() + self.rules.len()).map(RuleId::new)
    }

    /// Returns the prefix with this id, if it is that of a prefix.
    #[must_use]
    pub fn listed(&self, id: RuleId) -> Option<&ListedPrefix> {
        self.listed.get(id.place())
    }

    /// Returns the rule with this id, if it is that of a rule.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.compiled(id).map(|rule| &rule.rule)
    }

    /// Returns the name that logs and explanations show: a prefix as it was written, or the name of a rule.
    #[must_use]
    pub fn name(&self, id: RuleId) -> &str {
        let listed = self.listed(id).map(ListedPrefix::prefix);
        listed.or(self.compiled(id).map(|rule| rule.name.as_str())).unwrap_or_default()
    }

    /// Returns the level of the requests that no rule matches.
    #[must_use]
    pub fn default_level(&self) -> Level {
        self.default_level
    }

    /// Returns true if there are rules.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Returns the rules whose demands a request has to meet, if an access token is needed or presented where it is optional:
    /// those that won, or all that decide if the path cannot be read. Rules that make a path public are not among them.
    #[inline]
    pub fn winners(&self, requirement: Requirement) -> impl Iterator<Item = (RuleId, &Rule)> {
        let won = requirement.won();
        let most = won.map_or(self.rules.len(), |won| won.iter().flatten().count());
        (0..most).filter_map(move |at| {
            let Some(won) = won else {
                let rule = &self.rules[at].rule;
                return (!rule.is_report_only()).then(|| (RuleId::new(self.listed.len() + at), rule));
            };
            let id = won[at]?;
            Some((id, self.rule(id)?))
        })
    }

    /// Returns what a rule by itself asks for: of one that only reports, what it would ask.
    #[must_use]
    pub fn requirement_of(&self, id: RuleId) -> Option<Requirement> {
        self.compiled(id).map(|rule| Requirement::of_rule(rule.level, id))
    }

    fn compiled(&self, id: RuleId) -> Option<&CompiledRule> {
        self.rules.get(id.place().checked_sub(self.listed.len())?)
    }

    /// Returns the checks that a request asks for, if one scan of its path shows that it has no other reading, as with nearly
    /// all.
    #[inline]
    pub fn glance(&self, method: &Method, path: &str) -> Option<Requirement> {
        let only_as_sent = self.base_path.is_none() && !self.options.windows;
        let bytes = path.as_bytes();
        if !(only_as_sent && bytes.len() <= MAX_PATH && is_calm(bytes)) {
            return None;
        }
        // A path without anything that can be trouble is ASCII, whose case the matcher ignores.
        if self.matcher.rules_out(path) {
            return Some(self.unmatched);
        }
        if !self.are_ruled {
            return Some(self.weigh_lists(path));
        }
        // Whether it counts as a GET, its path alone does not tell.
        (method != Method::CONNECT).then(|| self.weigh(path, Methods::of_request(method, Connect::Tunnel)))
    }

    /// Returns the checks that a request needs: what either URI asks for, and either may be the reason to refuse.
    #[inline]
    pub fn requirement(&self, line: &RequestLine<'_>) -> Result<Requirement, PathRefusal> {
        match line.glance {
            Some(requirement) if line.other_path().is_none() && !self.options.skip_preflight => Ok(requirement),
            _ if line.connect == Connect::Unknown => {
                let by = |connect| self.consider(&RequestLine { connect, ..*line }, &mut ());
                Ok(self.complete(by(Connect::WebSocket)?.or(by(Connect::Tunnel)?)))
            }
            _ => self.consider(line, &mut ()),
        }
    }

    /// Returns true for a preflight of which nothing is asked, whatever its path.
    #[must_use]
    pub fn skip(&self, line: &RequestLine<'_>) -> bool {
        self.options.skip_preflight && line.is_preflight()
    }

    fn consider(&self, line: &RequestLine<'_>, watch: &mut impl Watch) -> Result<Requirement, PathRefusal> {
        let mut requirement = self.consider_uri(line, line.uri, watch)?;
        if let Some(original) = line.other_path() {
            requirement = requirement.or(self.consider_uri(line, original, watch)?);
        }
        // What is refused whatever it brings stays so.
        if self.skip(line) && !requirement.is_denied() {
            return Ok(Requirement::NOTHING);
        }
        Ok(self.complete(requirement))
    }

    /// Returns the same with all rules, if more of them won than can be kept.
    fn complete(&self, requirement: Requirement) -> Requirement {
        if requirement.won().is_none() { requirement.or(self.everything) } else { requirement }
    }

    /// Computes what a path asks for. If it is the one of the request, its readings are also taken without the base path.
    fn consider_path(
        &self,
        path: &str,
        method: Methods,
        drops_base: bool,
        watch: &mut impl Watch,
    ) -> Result<Requirement, PathRefusal> {
        if path.len() > MAX_PATH {
            return Err(PathRefusal::TargetTooLong);
        }
        if is_plain(path, self.options.windows) {
            watch.reading(path, Step::AsSent, None);
            return Ok(self.weigh(path, method));
        }
        self.consider_readings(path, method, drops_base, watch)
    }

    #[inline(never)]
    fn consider_readings(
        &self,
        path: &str,
        method: Methods,
        drops_base: bool,
        watch: &mut impl Watch,
    ) -> Result<Requirement, PathRefusal> {
        let mut ambiguous = None;
        for fault in faults(path) {
            if !self.tolerates(fault) {
                return Err(fault);
            }
            ambiguous = ambiguous.or(Some(fault));
        }
        if let Some(fault) = ambiguous {
            watch.reading(path, Step::AsSent, None);
            return Ok(self.everything(path, &[], fault, watch));
        }
        let folded = if self.options.case_insensitive { self.matcher.longest() } else { 0 };
        let steps = Steps::limited();
        let readings = match readings(path, self.options.windows, folded, &|path| self.is_above(path, &steps)) {
            Err(fault) if self.tolerates(fault) => {
                watch.reading(path, Step::AsSent, None);
                return Ok(self.everything(path, &[], fault, watch));
            }
            readings => readings?,
        };
        for Reading { text, step, from } in &readings.list {
            watch.reading(text, *step, *from);
        }
        if !readings.complete {
            return Ok(self.everything(path, &readings.list, PathRefusal::TooManyReadings, watch));
        }
        if self.options.windows && readings.list.iter().any(|reading| has_short_name(&reading.text)) {
            return Ok(self.everything(path, &readings.list, PathRefusal::ShortName, watch));
        }
        let mut asked = self.weigh_all(path, &readings.list, method, &steps);
        if drops_base {
            asked = asked.or(self.weigh_below_base(&readings.list, method, &steps, watch));
        }
        if steps.are_used_up() {
            return Ok(self.everything(path, &readings.list, PathRefusal::TooManyReadings, watch));
        }
        Ok(asked)
    }

    /// Asks for every check that any prefix or rule asks for, because of a fault of the path. The prefixes that its readings
    /// meet are named all the same.
    fn everything(&self, path: &str, readings: &[Reading], fault: PathRefusal, watch: &mut impl Watch) -> Requirement {
        watch.fault(fault);
        let cause = |list| if self.iter().any(|listed| listed.list == list) { Cause::Fault } else { Cause::None };
        let as_sent = Asking { is_exempt: false, ..self.ask(path) };
        let others = readings.iter().skip(1).map(|reading| self.ask(&reading.text));
        let met = others.fold(as_sent, Asking::or);
        let all = Asking { master: cause(PathList::Master), access: cause(PathList::Access), is_exempt: false };
        Requirement::new(met.or(all), as_sent).or(self.everything)
    }

    fn tolerates(&self, fault: PathRefusal) -> bool {
        use PathRefusal::{MalformedEscape, NotUtf8, TooManyReadings};
        let ambiguity = matches!(fault, MalformedEscape | NotUtf8 | TooManyReadings);
        ambiguity && self.options.ambiguous == Ambiguous::Protect
    }

    /// Computes what a path asks for that has no other reading.
    fn weigh(&self, path: &str, method: Methods) -> Requirement {
        let asked = self.weigh_lists(path);
        if self.are_ruled { asked.or(self.ask_rules(path, method, &Steps::unlimited())) } else { asked }
    }

    #[inline(never)]
    fn weigh_lists(&self, path: &str) -> Requirement {
        let as_sent = self.ask(path);
        Requirement::new(as_sent, as_sent)
    }

    /// Computes what a path asks for with all its readings, itself the first of them.
    fn weigh_all(&self, path: &str, readings: &[Reading], method: Methods, steps: &Steps) -> Requirement {
        let path = decode_necessary(path);
        let others: Vec<_> = readings.iter().skip(1).map(|reading| decode_necessary(&reading.text)).collect();
        let as_sent = self.ask(&path);
        let asked = others.iter().map(|other| self.ask(other)).fold(as_sent, Asking::and);
        let asked = Requirement::new(asked, as_sent);
        if !self.are_ruled {
            return asked;
        }
        let ask = |reading: &str| self.ask_rules_of_reading(reading, method, steps);
        let others = others.iter().map(|other| ask(other).of_other_reading());
        others.fold(asked.or(ask(&path)), Requirement::or)
    }

    /// Computes what the lists ask of one reading.
    #[inline]
    fn ask(&self, reading: &str) -> Asking {
        let mut asking = Asking::default();
        self.visit(reading, |list, end| asking.add(list, end.rule));
        asking
    }

    /// Visits the prefixes that a reading meets: the shortest first, and exemptions before guards of the same length.
    #[inline]
    fn visit(&self, reading: &str, mut met: impl FnMut(PathList, &End)) {
        self.matcher.visit(&self.cased(reading), |end| {
            let Some(list) = end.list else { return };
            // The case of exemptions counts.
            if list != PathList::Public || self.listed[end.rule.place()].prefix.exempts(reading) {
                met(list, end);
            }
        });
    }

    /// Returns true if a path is above a prefix or a path of a rule, by whole segments.
    fn is_above(&self, path: &str, steps: &Steps) -> bool {
        let cased = self.cased(path);
        self.matcher.is_above(&cased) || self.are_ruled && self.matcher.has_parameter_below(&cased, steps)
    }

    /// Folds a reading as far as it can be matched, if case is ignored.
    #[inline]
    fn cased<'a>(&self, reading: &'a str) -> Cow<'a, str> {
        if !self.options.case_insensitive || reading.is_ascii() {
            return Cow::Borrowed(reading);
        }
        Cow::Owned(self.case_folded(reading))
    }

    #[cold]
    fn case_folded(&self, reading: &str) -> String {
        // However its characters are folded, each leaves at least one byte.
        let end = reading.char_indices().nth(self.matcher.longest() + 1).map_or(reading.len(), |(end, _)| end);
        fold(&reading[..end]).into_owned()
    }
}

impl ListedPrefix {
    /// Returns the id.
    pub fn id(&self) -> RuleId {
        self.id
    }

    /// Returns the list that the prefix stands in, which says what it asks for.
    pub fn list(&self) -> PathList {
        self.list
    }

    /// Returns the prefix, as it was written.
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }
}

impl RuleId {
    #[allow(clippy::expect_used, reason = "a configuration of so many rules does not fit into memory")]
    fn new(place: usize) -> Self {
        let number = u32::try_from(place + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("there are less than 2^32 - 1 prefixes and rules"))
    }

    /// Returns its place among all prefixes and rules.
    #[inline]
    pub fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Serialize for PathRefusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A watcher of what the rules look at, for explanations.
trait Watch {
    fn reading(&mut self, text: &str, step: Step, from: Option<usize>);
    /// Takes a fault for which every check is asked, whatever the readings meet.
    fn fault(&mut self, fault: PathRefusal);
}

impl Watch for () {
    #[inline]
    fn reading(&mut self, _: &str, _: Step, _: Option<usize>) {}
    #[inline]
    fn fault(&mut self, _: PathRefusal) {}
}
