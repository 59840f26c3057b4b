//! Explains which rule wins, and over which others.

use std::cmp::Reverse;

use serde::Serialize;

use super::{
    Level, Methods, Rules,
    contest::texts,
    pattern::{Specificity, Spelling},
    tails::Steps,
};

/// One comparison of a reading with the rules. There are more than one if the reading ends with a slash, has an empty segment, or
/// case is ignored, and that makes a difference: the winner of each counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedContest {
    text: String,
    #[serde(skip_serializing_if = "is_false")]
    ignores_case: bool,
    #[serde(skip_serializing_if = "is_false")]
    takes_empty: bool,
    contenders: Vec<Contender>,
}

/// A rule that matches a request, an exemption, or the default level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contender {
    kind: ContenderKind,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<usize>,
    level: Level,
    standing: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_by: Option<&'static str>,
}

/// What can decide on a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContenderKind {
    /// A rule.
    Rule,
    /// A prefix of `public-paths`.
    PublicPath,
    /// The level of what nothing else matches.
    DefaultLevel,
}

/// How a contender fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It decides.
    Wins,
    /// It would decide, if it did not only report.
    Reports,
    /// It does not decide: the winner is more specific.
    Loses,
}

/// A rule that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecidingRule {
    place: usize,
    name: String,
    level: Level,
    reading: usize,
}

impl ExplainedContest {
    /// Returns the text that is compared: the reading, or the reading without the slash at its end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns true if it is compared without case.
    #[must_use]
    pub fn ignores_case(&self) -> bool {
        self.ignores_case
    }

    /// Returns true if parameters stand for its empty segments, as they do to axum. Then all rules that match so count.
    #[must_use]
    pub fn takes_empty(&self) -> bool {
        self.takes_empty
    }

    /// Returns what matches, the most specific first and the default level last.
    #[must_use]
    pub fn contenders(&self) -> &[Contender] {
        &self.contenders
    }

    /// Returns what decides.
    pub fn winners(&self) -> impl Iterator<Item = &Contender> {
        self.contenders.iter().filter(|contender| contender.standing == Standing::Wins)
    }
}

impl Contender {
    /// Returns what it is.
    #[must_use]
    pub fn kind(&self) -> ContenderKind {
        self.kind
    }

    /// Returns the name of the rule, the prefix as it was written, or `default-level`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the place among the rules of the configuration, if it is a rule.
    #[must_use]
    pub fn place(&self) -> Option<usize> {
        self.place
    }

    /// Returns what it asks for.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns how it fares.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Returns the word of the order of rules by which it is ahead of the next contender: `exact`, `pattern over prefix`,
    /// `longer`, `more literal segments`, `more typed parameters`, `more of the path named`, `with methods`,
    /// `rule over exemption`, or `only reports` beside a rule that is as specific. `None` if only the default level is next.
    #[must_use]
    pub fn ahead_by(&self) -> Option<&'static str> {
        self.ahead_by
    }
}

impl DecidingRule {
    /// Returns the place among the rules of the configuration.
    #[must_use]
    pub fn place(&self) -> usize {
        self.place
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it asks for.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns the index of the first reading that it wins, in [`Explanation::readings`](super::Explanation::readings).
    #[must_use]
    pub fn reading(&self) -> usize {
        self.reading
    }

    pub(super) fn new(winner: &Contender, reading: usize) -> Option<Self> {
        let Contender { name, level, place, .. } = winner;
        Some(Self { place: (*place)?, name: name.clone(), level: *level, reading })
    }
}

impl Rules {
    /// Explains what the rules make of one reading.
    pub(super) fn contests(&self, reading: &str, method: Methods) -> Vec<ExplainedContest> {
        let mut contests: Vec<ExplainedContest> = Vec::new();
        if !self.are_ruled {
            return contests;
        }
        for text in texts(reading) {
            for spelling in self.spellings() {
                let contenders = self.ranked(text, *spelling, method);
                if contests.iter().all(|contest| contest.contenders != contenders) {
                    let ignores_case = *spelling == Spelling::Folded;
                    contests.push(ExplainedContest {
                        text: text.to_owned(),
                        ignores_case,
                        takes_empty: false,
                        contenders,
                    });
                }
            }
        }
        let mut contenders = Vec::new();
        self.empty_takers(reading, method, &Steps::unlimited(), |id, rule| {
            contenders.push(Contender {
                kind: ContenderKind::Rule,
                name: rule.name.clone(),
                place: Some(id.place() - self.listed.len()),
                level: rule.level,
                standing: Standing::Wins,
                ahead_by: None,
            });
        });
        if !contenders.is_empty() {
            let ignores_case = self.options.case_insensitive;
            contests.push(ExplainedContest { text: reading.to_owned(), ignores_case, takes_empty: true, contenders });
        }
        contests
    }

    fn ranked(&self, text: &str, spelling: Spelling, method: Methods) -> Vec<Contender> {
        let mut met = Vec::new();
        self.contenders(text, spelling, method, &Steps::unlimited(), |end| met.push(*end));
        met.sort_by_key(|end| Reverse(end.rank));
        let specificities: Vec<_> = met
            .iter()
            .filter_map(|end| match (self.compiled(end.rule), self.listed(end.rule)) {
                (Some(rule), _) => Some(rule.specificity),
                (None, Some(listed)) => Some(Specificity::of_exemption(&listed.prefix)),
                (None, None) => None,
            })
            .collect();
        let mut ahead_by = specificities.windows(2).map(|pair| pair[0].ahead_by(&pair[1]));
        let mut is_decided = false;
        let mut contenders = Vec::new();
        for end in met {
            let rule = self.compiled(end.rule);
            let standing = match rule {
                _ if is_decided => Standing::Loses,
                Some(rule) if rule.rule.is_report_only() => Standing::Reports,
                _ => Standing::Wins,
            };
            is_decided |= standing == Standing::Wins;
            contenders.push(Contender {
                kind: if rule.is_some() { ContenderKind::Rule } else { ContenderKind::PublicPath },
                name: self.name(end.rule).to_owned(),
                place: rule.map(|_| end.rule.place() - self.listed.len()),
                level: rule.map_or(Level::Public, |rule| rule.level),
                standing,
                ahead_by: ahead_by.next(),
            });
        }
        contenders.push(Contender {
            kind: ContenderKind::DefaultLevel,
            name: "default-level".to_owned(),
            place: None,
            level: self.default_level,
            standing: if is_decided { Standing::Loses } else { Standing::Wins },
            ahead_by: None,
        });
        contenders
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(is_so: &bool) -> bool {
    !is_so
}
