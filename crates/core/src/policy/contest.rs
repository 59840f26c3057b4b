//! Which rule wins: of those that match a text, the most specific one.

use super::{
    CompiledRule, Level, Methods, PathList, Requirement, RuleId, Rules, entry::End, pattern::Spelling,
    readings::merge_slashes, requirement::Cause, tails::Steps,
};

/// The most specific match so far.
#[derive(Debug, Clone, Copy, Default)]
struct Best {
    rank: u32,
    rule: Option<RuleId>,
}

impl Best {
    fn add(&mut self, end: &End) {
        if end.rank > self.rank {
            *self = Self { rank: end.rank, rule: end.list.is_none().then_some(end.rule) };
        }
    }
}

impl Rules {
    /// Computes what the rules ask of one reading. It is also taken without the slash at its end and, if case is ignored,
    /// without case: all of these count, and all rules whose parameters stand for its empty segments.
    #[inline(never)]
    pub(super) fn ask_rules(&self, reading: &str, method: Methods, steps: &Steps) -> Requirement {
        let mut asked = Requirement::NOTHING;
        for text in texts(reading) {
            for spelling in self.spellings() {
                asked = asked.or(self.winner(text, *spelling, method, steps));
            }
        }
        asked
    }

    /// Computes the same of a reading that may have empty segments, which a plain path has not.
    pub(super) fn ask_rules_of_reading(&self, reading: &str, method: Methods, steps: &Steps) -> Requirement {
        let mut asked = self.ask_rules(reading, method, steps);
        self.empty_takers(reading, method, steps, |id, rule| asked = asked.or(Requirement::of_rule(rule.level, id)));
        asked
    }

    /// Returns the ways in which rules are compared, all of which count.
    pub(super) fn spellings(&self) -> &'static [Spelling] {
        if self.options.case_insensitive { &[Spelling::Plain, Spelling::Folded] } else { &[Spelling::Plain] }
    }

    /// Visits the rules that match a reading if a parameter stands for an empty segment in it, as it does to axum.
    pub(super) fn empty_takers(
        &self,
        reading: &str,
        method: Methods,
        steps: &Steps,
        mut met: impl FnMut(RuleId, &CompiledRule),
    ) {
        let cased = self.cased(reading);
        let Some(merged) = merge_slashes(&cased) else { return };
        self.matcher.visit_empty(&cased, &merged, steps, |end, is_at_end| {
            let rule = self.compiled(end.rule).filter(|rule| {
                let ends = is_at_end || !rule.pattern.ends_here();
                ends && rule.methods.meets(method) && !rule.rule.is_report_only()
            });
            if let Some(rule) = rule {
                met(end.rule, rule);
            }
        });
    }

    /// Computes what the winner of one comparison asks, and which rule only reports that would have won.
    fn winner(&self, text: &str, spelling: Spelling, method: Methods, steps: &Steps) -> Requirement {
        let mut best = Best::default();
        let mut best_report = Best::default();
        self.contenders(text, spelling, method, steps, |end| {
            let reports = self.compiled(end.rule).is_some_and(|rule| rule.rule.is_report_only());
            if reports { best_report.add(end) } else { best.add(end) }
        });
        let reported = best_report.rule.filter(|_| best_report.rank > best.rank);
        let asked = match best {
            Best { rank: 0, .. } => Requirement::of_level(self.default_level, Cause::Default),
            Best { rule: None, .. } => Requirement::NOTHING,
            Best { rule: Some(id), .. } => {
                Requirement::of_rule(self.compiled(id).map_or(Level::Deny, |rule| rule.level), id)
            }
        };
        asked.reporting(reported)
    }

    /// Visits the rules and exemptions that match a text and a method.
    pub(super) fn contenders(
        &self,
        text: &str,
        spelling: Spelling,
        method: Methods,
        steps: &Steps,
        mut met: impl FnMut(&End),
    ) {
        let cased = self.cased(text);
        let compared = spelling.pick(text, &cased);
        self.matcher.visit_all(&cased, steps, |end| {
            let matches = match (end.list, self.compiled(end.rule)) {
                (Some(PathList::Public), _) => {
                    spelling == Spelling::Folded
                        || self.listed(end.rule).is_some_and(|listed| listed.prefix.exempts(text))
                }
                (None, Some(rule)) => rule.methods.meets(method) && rule.pattern.matches(compared, spelling),
                _ => false,
            };
            if matches {
                met(end);
            }
        });
    }
}

/// Returns a reading as it is and without the slash at its end.
pub(super) fn texts(reading: &str) -> impl Iterator<Item = &str> {
    let without = reading.strip_suffix('/').filter(|text| !text.is_empty());
    [Some(reading), without].into_iter().flatten()
}
