//! Why a path is answered as it is, step by step.

use std::fmt;

use http::{Method, Uri};
use serde::Serialize;

use super::{ACCESS, MASTER, PathRefusal, RequestLine, Requirement, Rules, Step, Watch, deciding::First};

/// What the rules say of one request target, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    decision: PathDecision,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<PathRefusal>,
    decided_by: Vec<DecidingPrefix>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overruled: Vec<DecidingPrefix>,
    readings: Vec<ExplainedReading>,
}

/// What a request has to bring, by its path.
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
    /// The paths that need nothing, but for those that a longer prefix of the other lists guards.
    Public,
}

impl PathList {
    /// The key of the list in the configuration.
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
}

/// A prefix that a decision rests on, with the first reading that meets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecidingPrefix {
    list: PathList,
    prefix: String,
    reading: usize,
}

impl Explanation {
    /// What the request has to bring.
    #[must_use]
    pub fn decision(&self) -> PathDecision {
        self.decision
    }

    /// Why the path is refused, or why every check is asked for whatever the prefixes say.
    #[must_use]
    pub fn reason(&self) -> Option<PathRefusal> {
        self.reason
    }

    /// The prefixes that the decision rests on: one for each check that is asked for, or, where a guarded path is
    /// public, the exemption that is longer than its guards. None where nothing applies.
    #[must_use]
    pub fn decided_by(&self) -> &[DecidingPrefix] {
        &self.decided_by
    }

    /// The prefixes that lose to those that decide, since they are shorter, or as long and exempt: exemptions where a
    /// check is asked for, guards where a guarded path is public.
    #[must_use]
    pub fn overruled(&self) -> &[DecidingPrefix] {
        &self.overruled
    }

    /// The readings of the path, in the order in which they are found. The first is the path as it was sent; there is
    /// none when the path is refused.
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
            readings: Vec::new(),
        }
    }

    fn decided(requirement: Requirement, notes: Notes<'_>) -> Self {
        let Notes { first, readings, fault, .. } = &notes;
        let (mut decided_by, mut overruled) = (Vec::new(), Vec::new());
        let asked = [
            (PathList::Master, MASTER, requirement.needs_master()),
            (PathList::Access, ACCESS, requirement.needs_access()),
        ];
        for (list, met) in
            asked.iter().filter(|(_, _, asked)| *asked).filter_map(|(list, mark, _)| Some((*list, first.met(*mark)?)))
        {
            let prefix = notes.rules.prefixes[met.rule].1.as_str().to_owned();
            decided_by.push(DecidingPrefix { list, prefix, reading: met.reading });
            if met.wins {
                overruled.extend(named(readings, met.reading, PathList::Public));
            }
        }
        overruled.dedup();
        let guarded = readings.iter().position(|reading| !reading.master.is_empty() || !reading.access.is_empty());
        if let (true, Some(reading)) = (requirement.is_public(), guarded) {
            decided_by.extend(named(readings, reading, PathList::Public).last());
            overruled.extend(named(readings, reading, PathList::Master).chain(named(
                readings,
                reading,
                PathList::Access,
            )));
        }
        Self { decision: requirement.into(), reason: *fault, decided_by, overruled, readings: notes.readings }
    }
}

impl ExplainedReading {
    /// The path, by this reading.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The step that made it.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// The place, among the readings, of the one that the step was taken from.
    #[must_use]
    pub fn from(&self) -> Option<usize> {
        self.from
    }

    /// The prefixes of a list that it meets, as they were written, shortest first.
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
    /// The list that the prefix stands in.
    #[must_use]
    pub fn list(&self) -> PathList {
        self.list
    }

    /// The prefix, as it was written.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The place of the reading, in [`Explanation::readings`].
    #[must_use]
    pub fn reading(&self) -> usize {
        self.reading
    }
}

impl From<Requirement> for PathDecision {
    fn from(requirement: Requirement) -> Self {
        match (requirement.needs_master(), requirement.needs_access()) {
            (true, true) => Self::MasterAndAccess,
            (true, false) => Self::Master,
            (false, true) => Self::Access,
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
            Self::Reject => "reject",
        })
    }
}

impl Rules {
    /// Explains what [`requirement`](Self::requirement) answers for a request target, as it would stand in a request
    /// line: origin form, absolute form, `host:port` or `*`.
    pub fn explain(&self, method: &Method, target: &str) -> Explanation {
        // The http crate takes no more, and hyper answers 414 as we do.
        if target.len() >= usize::from(u16::MAX) {
            return Explanation::refused(PathRefusal::TargetTooLong);
        }
        let Ok(uri) = target.parse::<Uri>() else { return Explanation::refused(PathRefusal::RequestTarget) };
        let mut notes = Notes { rules: self, first: First::new(self), readings: Vec::new(), fault: None, as_sent: 0 };
        match self.consider(&RequestLine::new(method, &uri), &mut notes) {
            Ok(requirement) => Explanation::decided(requirement, notes),
            Err(reason) => Explanation::refused(reason),
        }
    }
}

/// What is noted down while the rules consider a request.
struct Notes<'a> {
    rules: &'a Rules,
    first: First<'a>,
    readings: Vec<ExplainedReading>,
    fault: Option<PathRefusal>,
    /// The place of the first reading of the path that is being looked at.
    as_sent: usize,
}

impl Watch for Notes<'_> {
    fn reading(&mut self, text: &str, step: Step, from: Option<usize>) {
        self.first.reading(text, step, from);
        if step == Step::AsSent {
            self.as_sent = self.readings.len();
        }
        let met = |list| self.rules.met(text, list).map(|prefix| prefix.as_str().to_owned()).collect();
        self.readings.push(ExplainedReading {
            text: text.to_owned(),
            step,
            from: from.map(|from| self.as_sent + from),
            master: met(PathList::Master),
            access: met(PathList::Access),
            public: met(PathList::Public),
        });
    }

    fn fault(&mut self, fault: PathRefusal) {
        self.fault = Some(fault);
    }
}

/// The prefixes of a list that a reading meets.
fn named(readings: &[ExplainedReading], reading: usize, list: PathList) -> impl Iterator<Item = DecidingPrefix> {
    readings[reading].met(list).iter().map(move |prefix| DecidingPrefix { list, prefix: prefix.clone(), reading })
}
