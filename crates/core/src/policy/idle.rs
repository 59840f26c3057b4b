//! Finds rules that have no effect, or less than it seems.

use super::{
    Level, PathList, RuleId, Rules, overlap::Overlaps, pattern::Spelling, requirement::Cause, set::CompiledRule,
    tails::Steps,
};

impl Rules {
    /// Warns of rules that can never win, or win less than it seems, that a guard overrules, and that report or end nothing.
    pub(super) fn describe_rules(&self, overlaps: &mut Overlaps) {
        for (place, rule) in self.rules.iter().enumerate() {
            let wins = self.never_wins(rule).or_else(|| self.wins_less(rule));
            let problems = [wins, self.is_overruled(rule), reports_nothing(rule), ends_nothing(rule)];
            let name = format!("rules[{place}] {:?}", rule.name);
            overlaps.warnings.extend(problems.into_iter().flatten().map(|problem| format!("{name} {problem}")));
        }
    }

    /// Finds the rules that together win all requests of this one.
    fn never_wins(&self, rule: &CompiledRule) -> Option<String> {
        let mut left = rule.methods;
        let mut winners = Vec::new();
        for (id, other) in self.matching(&rule.pattern.sample()) {
            let competes = rule.rule.is_report_only() || !other.rule.is_report_only();
            let wins = competes && other.specificity > rule.specificity && other.methods.meets(left);
            if wins && other.pattern.covers(&rule.pattern, Spelling::Plain) {
                left = left.without(other.methods);
                winners.push(self.in_rules(id));
            }
        }
        left.is_empty().then(|| {
            let wins = if winners.len() == 1 { "wins" } else { "win" };
            format!("has no effect: {} {wins} all of its requests", winners.join(" and "))
        })
    }

    /// Finds a shorter path with parameters that wins some of the requests of a longer prefix.
    fn wins_less(&self, rule: &CompiledRule) -> Option<String> {
        let wins = |other: &CompiledRule| {
            other.methods.meets(rule.methods)
                && !other.rule.is_report_only()
                && other.pattern.wins_over_longer(&rule.pattern, Spelling::Plain)
        };
        let (winner, _) = self.matching(rule.pattern.head()).into_iter().find(|(_, other)| wins(other))?;
        Some(format!(
            "does not decide on all of its requests: {} wins some of them, since a path with parameters wins over any prefix",
            self.in_rules(winner)
        ))
    }

    fn is_overruled(&self, rule: &CompiledRule) -> Option<String> {
        if !matches!(rule.level, Level::Public | Level::Optional) {
            return None;
        }
        let asking = self.ask(rule.pattern.head());
        let guard = [PathList::Access, PathList::Master].into_iter().find_map(|list| match asking.cause(list) {
            Cause::Guard(id) | Cause::Beaten(id) if !asking.is_exempt => self.listed(id),
            _ => None,
        })?;
        Some(format!(
            "is {}, but {} guards its paths all the same: shorten that list, or put the path into `public-paths`, too",
            rule.level.as_str(),
            guard.of_list(),
        ))
    }

    /// Returns all rules that match a text, and some others, in the order of the configuration.
    fn matching(&self, text: &str) -> Vec<(RuleId, &CompiledRule)> {
        let mut matching = Vec::new();
        self.matcher.visit_all(&self.cased(text), &Steps::unlimited(), |end| {
            matching.extend(self.compiled(end.rule).map(|rule| (end.rule, rule)));
        });
        matching.sort_by_key(|(id, _)| id.place());
        matching
    }

    fn in_rules(&self, id: RuleId) -> String {
        format!("rules[{}] {:?}", id.place() - self.listed.len(), self.name(id))
    }
}

fn reports_nothing(rule: &CompiledRule) -> Option<String> {
    let is_idle = rule.rule.is_report_only() && rule.level == Level::Public;
    is_idle.then(|| "only reports, and refuses no request that it could report".to_owned())
}

/// Finds an `ends-on` by which nothing ends. With the master token alone, a reload does.
fn ends_nothing(rule: &CompiledRule) -> Option<String> {
    rule.rule.ending()?;
    let why = match rule.level {
        _ if rule.rule.is_report_only() => "only reports",
        Level::Public => "is public, so no token is looked at that could end",
        Level::Deny => "refuses every request",
        Level::Optional | Level::Access | Level::Master | Level::Both => return None,
    };
    Some(format!("{why}: its `ends-on` has no effect"))
}
