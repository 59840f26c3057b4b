//! Which prefixes a decision rests on, by their places: what is logged and counted of it.

use super::{ACCESS, MASTER, PathList, PathRefusal, RequestLine, Requirement, Rules, Step, Watch};

/// The place of a prefix among all of them.
pub type RuleId = usize;

/// The first prefix of each list that is met and that no exemption beats, reading by reading and the shortest first, as an
/// explanation has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deciding {
    pub master: Option<RuleId>,
    pub access: Option<RuleId>,
}

impl Rules {
    /// As [`requirement`](Self::requirement), and notes the prefixes that it rests on, in one pass over the readings.
    #[inline(never)]
    pub fn requirement_by(&self, line: &RequestLine<'_>, deciding: &mut Deciding) -> Result<Requirement, PathRefusal> {
        let mut first = First::new(self);
        let requirement = self.consider(line, &mut first);
        let rule = |mark| first.met(mark).map(|met| met.rule);
        *deciding = Deciding { master: rule(MASTER), access: rule(ACCESS) };
        requirement
    }

    /// All prefixes as they were written, in the order of their [places](RuleId).
    pub fn prefixes(&self) -> impl Iterator<Item = (PathList, &str)> {
        self.prefixes.iter().map(|(list, prefix)| (*list, prefix.as_str()))
    }
}

/// A prefix that a reading meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) rule: RuleId,
    /// The place of the reading.
    pub(super) reading: usize,
    /// Whether it is as long as the longest exemption that the reading meets.
    pub(super) wins: bool,
}

/// Looks for the first prefix of each list that is met.
pub(super) struct First<'a> {
    rules: &'a Rules,
    /// By their marks.
    found: [Option<Met>; 2],
    readings: usize,
}

impl<'a> First<'a> {
    pub(super) fn new(rules: &'a Rules) -> Self {
        Self { rules, found: [None; 2], readings: 0 }
    }

    /// The guard that asks for this check. One that loses to an exemption counts where no other asks for it: another
    /// reading, by which the path is not exempt, has it count.
    pub(super) fn met(&self, mark: u8) -> Option<Met> {
        self.found[usize::from(mark == ACCESS)]
    }
}

impl Watch for First<'_> {
    fn reading(&mut self, text: &str, _: Step, _: Option<usize>) {
        let reading = self.readings;
        self.readings += 1;
        let exempt = self.rules.exemptions.depth(text).unwrap_or_default();
        let text = self.rules.cased(text);
        for (mark, found) in [MASTER, ACCESS].into_iter().zip(&mut self.found) {
            if found.is_some_and(|met| met.wins) {
                continue;
            }
            let first = |depth| self.rules.guards.first(&text, mark, depth);
            if let Some(rule) = first(exempt) {
                *found = Some(Met { rule, reading, wins: true });
            } else if found.is_none() {
                *found = first(0).map(|rule| Met { rule, reading, wins: false });
            }
        }
    }

    fn fault(&mut self, _: PathRefusal) {}
}
