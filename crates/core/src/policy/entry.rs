//! What the tree of rules is built of.

use super::{Form, PathList, RuleId, pattern::Known};

/// One text to match.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) text: String,
    /// What follows the text in the paths of a rule with parameters.
    pub(super) tail: Vec<Known>,
    pub(super) end: End,
}

/// The end of a rule's text in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) rule: RuleId,
    /// The list of the prefix, so that most matches look nothing up; `None` for a rule.
    pub(super) list: Option<PathList>,
    pub(super) form: Form,
    /// How specific it is among the rules and exemptions; 0 for a guard.
    pub(super) rank: u32,
}
