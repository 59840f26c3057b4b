//! Which prefixes a decision rests on, by their places: what is logged and counted of it.

use super::{ACCESS, MASTER, PathList, PathRefusal, RequestLine, Requirement, Rules, Step, Watch};

/// The place of a prefix among all of them.
pub(crate) type RuleId = usize;

/// The first prefix of each list that is met, reading by reading and the shortest first, as an explanation has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deciding {
    pub(crate) master: Option<RuleId>,
    pub(crate) access: Option<RuleId>,
}

impl Rules {
    /// As [`requirement`](Self::requirement), and notes the prefixes that it rests on, in one pass over the readings.
    #[inline(never)]
    pub(crate) fn requirement_by(
        &self,
        line: &RequestLine<'_>,
        deciding: &mut Deciding,
    ) -> Result<Requirement, PathRefusal> {
        self.consider(line, &mut First { rules: self, deciding })
    }

    /// All prefixes as they were written, in the order of their [places](RuleId).
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (PathList, &str)> {
        self.prefixes.iter().map(|(list, prefix)| (*list, prefix.as_str()))
    }
}

struct First<'a> {
    rules: &'a Rules,
    deciding: &'a mut Deciding,
}

impl Watch for First<'_> {
    fn reading(&mut self, text: &str, _: Step, _: Option<usize>) {
        let text = self.rules.cased(text);
        let first = |mark| self.rules.guards.first(&text, mark);
        self.deciding.master = self.deciding.master.or_else(|| first(MASTER));
        self.deciding.access = self.deciding.access.or_else(|| first(ACCESS));
    }

    fn fault(&mut self, _: PathRefusal) {}
}
