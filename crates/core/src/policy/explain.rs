//! Explains why a path is answered as it is, step by step.

use std::fmt;

use http::{Method, Uri};
use serde::Serialize;

use super::{
    ContenderKind, DecidingRule, ExplainedContest, Level, Methods, PathRefusal, RequestLine, Requirement, Rules, Step,
    Watch,
    necessary::decode_necessary,
    requirement::{Asking, Cause},
};

/// The decision on one request target, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    decision: PathDecision,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<PathRefusal>,
    decided_by: Vec<DecidingPrefix>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overruled: Vec<DecidingPrefix>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decided_by_rules: Vec<DecidingRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_level: Option<Level>,
    readings: Vec<ExplainedReading>,
}

/// The credentials that a request needs, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathDecision {
    /// Nothing.
    Public,
    /// An access token.
    Access,
    /// The master token.
    Master,
    /// The master token and an access token.
    #[serde(rename = "master+access")]
    MasterAndAccess,
    /// Nothing, but an access token that is presented must be valid.
    Optional,
    /// No credential is enough.
    Deny,
    /// It cannot bring anything: the request is refused.
    Reject,
}

/// A list of prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathList {
    /// The paths that need the master token.
    Master,
    /// The paths that need an access token.
    Access,
    /// The paths that need nothing, except those that a longer prefix of the other lists guards.
    Public,
}

impl PathList {
    /// Returns the key of the list in the configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Master => "master-token-paths",
            Self::Access => "access-token-paths",
            Self::Public => "public-paths",
        }
    }
}

/// One reading of a path, with the prefixes that it meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedReading {
    text: String,
    step: Step,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<usize>,
    master: Vec<String>,
    access: Vec<String>,
    public: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contests: Vec<ExplainedContest>,
}

/// A prefix that decides or loses, with the first reading that meets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecidingPrefix {
    list: PathList,
    prefix: String,
    reading: usize,
}

impl Explanation {
    /// Returns the credentials that the request needs.
    #[must_use]
    pub fn decision(&self) -> PathDecision {
        self.decision
    }

    /// Returns the reason why the path is refused, or why every check is asked for whatever the prefixes say.
    #[must_use]
    pub fn reason(&self) -> Option<PathRefusal> {
        self.reason
    }

    /// Returns the prefixes that decide: one for each check that is asked for, or, if a guarded path is public, the
    /// exemption that is longer than its guards. Empty if no prefix applies.
    #[must_use]
    pub fn decided_by(&self) -> &[DecidingPrefix] {
        &self.decided_by
    }

    /// Returns the prefixes that lose to those that decide, since they are shorter, or as long and exempt: exemptions if a
    /// check is asked for, guards if a guarded path is public.
    #[must_use]
    pub fn overruled(&self) -> &[DecidingPrefix] {
        &self.overruled
    }

    /// Returns the rules that decide, each with the first reading that it wins: those that ask for something, or, if the path is
    /// public, those that make it so. Empty if all rules count, as for a path that cannot be read.
    #[must_use]
    pub fn decided_by_rules(&self) -> &[DecidingRule] {
        &self.decided_by_rules
    }

    /// Returns the default level, if it asks for something of a reading that nothing else matches.
    #[must_use]
    pub fn default_level(&self) -> Option<Level> {
        self.default_level
    }

    /// Returns the readings of the path, in the order in which they are found. The first is the path as it was sent. Empty
    /// if the path is refused.
    #[must_use]
    pub fn readings(&self) -> &[ExplainedReading] {
        &self.readings
    }

    fn refused(reason: PathRefusal) -> Self {
        Self {
            decision: PathDecision::Reject,
            reason: Some(reason),
            decided_by: Vec::new(),
            overruled: Vec::new(),
            decided_by_rules: Vec::new(),
            default_level: None,
            readings: Vec::new(),
        }
    }

    fn decided(requirement: Requirement, notes: Notes<'_>) -> Self {
        let Notes { readings, .. } = &notes;
        let mut decided_by = Vec::new();
        let mut overruled = Vec::new();
        for list in [PathList::Master, PathList::Access] {
            let cause = requirement.cause(list);
            let first = notes.asked.iter().position(|asked| asked.cause(list) == cause);
            let (Some(reading), Some(rule)) = (first, requirement.rule(list)) else { continue };
            let Some(prefix) = notes.rules.listed(rule) else { continue };
            let prefix = prefix.prefix().to_owned();
            decided_by.push(DecidingPrefix { list, prefix, reading });
            if matches!(cause, Cause::Guard(_)) {
                overruled.extend(named(readings, reading, PathList::Public));
            }
        }
        overruled.dedup();
        let guarded = readings.iter().position(|reading| !reading.master.is_empty() || !reading.access.is_empty());
        if let (true, Some(reading)) = (requirement.is_public(), guarded) {
            decided_by.extend(named(readings, reading, PathList::Public).last());
            overruled.extend(named(readings, reading, PathList::Master));
            overruled.extend(named(readings, reading, PathList::Access));
        }
        let mut explanation = Self {
            decision: requirement.into(),
            reason: notes.fault,
            decided_by,
            overruled,
            decided_by_rules: Vec::new(),
            default_level: None,
            readings: notes.readings,
        };
        explanation.name_winners(requirement);
        explanation
    }

    /// Names what won among the rules, as far as that decides.
    fn name_winners(&mut self, requirement: Requirement) {
        for (at, reading) in self.readings.iter().enumerate() {
            for winner in reading.contests.iter().flat_map(ExplainedContest::winners) {
                let decides = winner.level() != Level::Public || requirement.is_public();
                match winner.kind() {
                    _ if !decides || requirement.won().is_none() => {}
                    ContenderKind::DefaultLevel => {
                        self.default_level = Some(winner.level()).filter(|level| *level != Level::Public);
                    }
                    ContenderKind::PublicPath => {
                        let prefix = winner.name().to_owned();
                        let named = self.decided_by.iter().any(|by| by.list == PathList::Public && by.prefix == prefix);
                        if !named {
                            self.decided_by.push(DecidingPrefix { list: PathList::Public, prefix, reading: at });
                        }
                    }
                    ContenderKind::Rule => {
                        let is_named = self.decided_by_rules.iter().any(|by| Some(by.place()) == winner.place());
                        self.decided_by_rules.extend(DecidingRule::new(winner, at).filter(|_| !is_named));
                    }
                }
            }
        }
    }
}

impl ExplainedReading {
    /// Returns the path, by this reading.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the step that made it.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Returns the index of the reading that the step was taken from.
    #[must_use]
    pub fn from(&self) -> Option<usize> {
        self.from
    }

    /// Returns how the rules compare it, and which win. Empty if there are no rules and the default level asks for nothing.
    #[must_use]
    pub fn contests(&self) -> &[ExplainedContest] {
        &self.contests
    }

    /// Returns the prefixes of a list that it meets, as they were written, shortest first.
    #[must_use]
    pub fn met(&self, list: PathList) -> &[String] {
        match list {
            PathList::Master => &self.master,
            PathList::Access => &self.access,
            PathList::Public => &self.public,
        }
    }
}

impl DecidingPrefix {
    /// Returns the list of the prefix.
    #[must_use]
    pub fn list(&self) -> PathList {
        self.list
    }

    /// Returns the prefix, as it was written.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the index of the reading in [`Explanation::readings`].
    #[must_use]
    pub fn reading(&self) -> usize {
        self.reading
    }
}

impl From<Requirement> for PathDecision {
    fn from(requirement: Requirement) -> Self {
        if requirement.is_denied() {
            return Self::Deny;
        }
        match (requirement.needs_master(), requirement.needs_access()) {
            (true, true) => Self::MasterAndAccess,
            (true, false) => Self::Master,
            (false, true) => Self::Access,
            (false, false) if requirement.is_optional() => Self::Optional,
            (false, false) => Self::Public,
        }
    }
}

impl fmt::Display for PathDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Access => "access",
            Self::Master => "master",
            Self::MasterAndAccess => "master+access",
            Self::Optional => "optional",
            Self::Deny => "deny",
            Self::Reject => "reject",
        })
    }
}

impl Rules {
    /// Explains what [`requirement`](Self::requirement) answers for a request target, as it is written in a request line:
    /// origin form, absolute form, `host:port` or `*`. A CONNECT is a plain one: that which opens a WebSocket over HTTP/2 is a GET to rules.
    pub fn explain(&self, method: &Method, target: &str) -> Explanation {
        // The http crate takes no more, and hyper answers 414 as we do.
        if target.len() >= usize::from(u16::MAX) {
            return Explanation::refused(PathRefusal::TargetTooLong);
        }
        let Ok(uri) = target.parse::<Uri>() else { return Explanation::refused(PathRefusal::RequestTarget) };
        let line = RequestLine::new(method, &uri);
        let mut notes = Notes {
            rules: self,
            method: Methods::of_request(method, line.connect),
            readings: Vec::new(),
            asked: Vec::new(),
            fault: None,
            as_sent: 0,
        };
        match self.consider(&line, &mut notes) {
            Ok(requirement) => Explanation::decided(requirement, notes),
            Err(reason) => Explanation::refused(reason),
        }
    }
}

/// The notes on what the rules look at.
struct Notes<'a> {
    rules: &'a Rules,
    method: Methods,
    readings: Vec<ExplainedReading>,
    /// The checks that each reading asks for by itself.
    asked: Vec<Asking>,
    fault: Option<PathRefusal>,
    /// The place of the first reading of the path that is being looked at.
    as_sent: usize,
}

impl Watch for Notes<'_> {
    fn reading(&mut self, text: &str, step: Step, from: Option<usize>) {
        if step == Step::AsSent {
            self.as_sent = self.readings.len();
        }
        let compared = decode_necessary(text);
        let mut reading = ExplainedReading {
            text: text.to_owned(),
            step,
            from: from.map(|from| self.as_sent + from),
            master: Vec::new(),
            access: Vec::new(),
            public: Vec::new(),
            contests: self.rules.contests(&compared, self.method),
        };
        let mut asking = Asking::default();
        self.rules.visit(&compared, |list, end| {
            asking.add(list, end.rule);
            let met = match list {
                PathList::Master => &mut reading.master,
                PathList::Access => &mut reading.access,
                PathList::Public => &mut reading.public,
            };
            met.push(self.rules.name(end.rule).to_owned());
        });
        self.readings.push(reading);
        self.asked.push(asking);
    }

    fn fault(&mut self, fault: PathRefusal) {
        self.fault = Some(fault);
    }
}

/// Returns the prefixes of a list that a reading meets.
fn named(readings: &[ExplainedReading], reading: usize, list: PathList) -> impl Iterator<Item = DecidingPrefix> {
    readings[reading].met(list).iter().map(move |prefix| DecidingPrefix { list, prefix: prefix.clone(), reading })
}
