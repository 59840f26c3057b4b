//! Finds rules that have no effect, or less than it seems.

use std::collections::HashMap;

use super::{
    Level, PathList, Prefix, Requirement, Rule, RuleId, Rules,
    entry::Entry,
    overlap::{AS_WRITTEN, Overlaps, directory_of_index},
    pattern::{Pattern, Spelling},
    requirement::Cause,
    set::CompiledRule,
    tails::{Steps, Tails},
};
use crate::token::TokenType;

impl Rules {
    /// Warns of rules that can never win, or win less than it seems, that a guard overrules, and that report or end nothing.
    pub(super) fn describe_rules(&self, overlaps: &mut Overlaps) {
        let entries: Vec<_> =
            self.rules.iter().enumerate().map(|(place, rule)| rule.compared(place, Spelling::Plain)).collect();
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by(|a, b| a.tail.cmp(&b.tail));
        let tails = Tails::new(&sorted, 0);
        let mut names = HashMap::new();
        for (place, rule) in self.rules.iter().enumerate() {
            if let Some(given) = rule.rule.given_name()
                && let Some(first) = names.insert(given, place)
            {
                overlaps.warnings.push(format!(
                    "rules[{place}] {given:?} has the name of rules[{first}]: logs and metrics do not tell them apart"
                ));
            }
            let wins = self.never_wins(rule).or_else(|| self.loses_some(&entries[place], &tails));
            let opens = self.is_overruled(rule).or_else(|| self.opens_one_way(rule));
            let problems = [wins, opens, reports_nothing(rule), ends_nothing(rule)];
            let name = format!("rules[{place}] {:?}", rule.name);
            let problems = problems.into_iter().flatten().chain(odd_members(&rule.rule));
            overlaps.warnings.extend(problems.map(|problem| format!("{name} {problem}")));
            self.describe_file_of_rule(&name, rule, overlaps);
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

    /// Finds a rule that wins some of the requests of another one, though it is not for a part of its paths alone.
    fn loses_some(&self, entry: &Entry, tails: &Tails) -> Option<String> {
        let rule = &self.rules[entry.end.rule.place()];
        let mut places = Vec::new();
        tails.visit_overlapping(&entry.tail, &mut |end| places.push(end.rule.place()));
        places.sort_unstable();
        let others: Vec<_> = places.into_iter().map(|place| (place, &self.rules[place])).collect();
        let find = |is_one: &dyn Fn(&CompiledRule) -> bool| {
            others.iter().find(|(_, other)| is_one(other) && wins_some(other, rule, &others))
        };
        let &(place, winner) = find(&|other| !asks_as_much(other, rule)).or_else(|| {
            let is_literal = !rule.pattern.has_parameters();
            find(&|other| is_literal && other.pattern.len() <= rule.pattern.len())
        })?;
        let both = winner.pattern.both(&rule.pattern)?;
        let asks_less = if asks_as_much(winner, rule) { "" } else { " and asks less" };
        let path = both.written();
        let add = match (both.has_parameters(), both.ends_here()) {
            (true, false) => format!("{path:?}"),
            (_, true) => format!("{path:?} with `\"match\": \"exact\"`"),
            (false, false) => format!("{path:?} with `\"match\": \"exact\"`, and \"{path}/{{*rest}}\""),
        };
        Some(format!(
            "does not decide on all of its requests: rules[{place}] {:?} wins {path:?}{asks_less}; add {add}",
            winner.name
        ))
    }

    /// Finds a rule that opens its paths with the base path alone, or without it alone, and so opens none.
    fn opens_one_way(&self, rule: &CompiledRule) -> Option<String> {
        let base = self.base_path.as_ref()?;
        if !opens(rule) || rule.rule.is_report_only() {
            return None;
        }
        let other_way = |path: &str| match self.below_base(path) {
            Some(below) => below.to_owned(),
            None => format!("{base}{}", if path == "/" { "" } else { path }),
        };
        let asked = self.weigh(&other_way(&rule.pattern.sample()), rule.methods);
        if Requirement::NOTHING.asks_all_of(asked) {
            return None;
        }
        let path = other_way(&rule.pattern.written());
        Some(format!(
            "opens nothing: with `base-path`, its paths count as {path:?} as well, which is guarded; open that, too"
        ))
    }

    /// Warns of names that a file server knows a guarded file by, too.
    fn describe_file_of_rule(&self, name: &str, rule: &CompiledRule, overlaps: &mut Overlaps) {
        if opens(rule) || rule.rule.is_report_only() {
            return;
        }
        let written = rule.pattern.written();
        let sample = rule.pattern.sample();
        if let (Some(directory), Some(sample)) = (directory_of_index(&written), directory_of_index(&sample)) {
            let asked = self.weigh(&sample, rule.methods);
            if !self.ask_as_much(asked, rule) {
                let left = if asked.is_public() { "open" } else { "without this check" };
                let path = if directory == "/" { "/" } else { directory.trim_end_matches('/') };
                overlaps.warnings.push(format!(
                    "{name} leaves {directory:?} {left}, which file servers answer with that file: add {path:?} with \
                     `\"match\": \"exact\"`"
                ));
            }
        }
        if let Some(colon) = Prefix::parse(rule.rule.path()).ok().and_then(|prefix| prefix.colon()) {
            let (before, after) = rule.rule.path().split_at(colon);
            overlaps.warnings.push(format!(
                "{name} is for exactly this text: if what follows the colon is a parameter, write {{name}} for a whole \
                 segment; if not, write `{before}%3A{}`",
                &after[1..]
            ));
        }
        if !written.is_ascii() {
            overlaps.notes.push(format!("{name} {AS_WRITTEN}"));
        }
    }

    /// Returns true if a request is asked all that a rule asks for.
    fn ask_as_much(&self, asked: Requirement, rule: &CompiledRule) -> bool {
        let meets = |(_, winner): (RuleId, &Rule)| winner.demands().ask_all_of(rule.rule.demands());
        let demands = rule.rule.demands().is_empty() || asked.is_denied() || self.winners(asked).any(meets);
        asked.asks_all_of(Requirement::of_level(rule.level, Cause::None)) && demands
    }

    fn is_overruled(&self, rule: &CompiledRule) -> Option<String> {
        if !opens(rule) {
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

fn opens(rule: &CompiledRule) -> bool {
    matches!(rule.level, Level::Public | Level::Optional)
}

/// Returns true if a rule with parameters wins some of the requests of another one, and has paths beside those of that one.
fn wins_some(winner: &CompiledRule, rule: &CompiledRule, others: &[(usize, &CompiledRule)]) -> bool {
    let competes = winner.specificity > rule.specificity
        && winner.pattern.has_parameters()
        && !winner.rule.is_report_only()
        && winner.methods.meets(rule.methods);
    if !competes || rule.pattern.covers(&winner.pattern, Spelling::Plain) {
        return false;
    }
    let Some(both) = winner.pattern.both(&rule.pattern) else { return false };
    // Unless all of these are won by others.
    let wins_all = |other: &CompiledRule, part: &Pattern| {
        other.specificity > winner.specificity
            && !other.rule.is_report_only()
            && !rule.methods.without(other.methods).meets(winner.methods)
            && other.pattern.covers(part, Spelling::Plain)
    };
    both.parts().iter().any(|part| !others.iter().any(|(_, other)| wins_all(other, part)))
}

fn asks_as_much(winner: &CompiledRule, rule: &CompiledRule) -> bool {
    let asked = Requirement::of_level(winner.level, Cause::None);
    let is_as_strict = winner.rule.demands().ask_all_of(rule.rule.demands());
    asked.asks_all_of(Requirement::of_level(rule.level, Cause::None)) && (is_as_strict || asked.is_denied())
}

/// Finds members that are hardly written as they are meant.
fn odd_members(rule: &Rule) -> Vec<String> {
    let demands = rule.demands();
    let lists = [
        ("methods", rule.for_methods()),
        ("roles-any", demands.roles_any.as_deref()),
        ("roles-all", demands.roles_all.as_deref()),
        ("scopes", demands.scopes.as_deref()),
        ("scopes-any", demands.scopes_any.as_deref()),
    ];
    let mut odd = Vec::new();
    for (key, list) in lists {
        let list = list.unwrap_or_default();
        if let Some((_, twice)) = list.iter().enumerate().find(|(at, text)| list[..*at].contains(text)) {
            odd.push(format!("has {twice:?} twice in `{key}`"));
        }
        if let Some(blank) = list.iter().find(|text| text.trim() != text.as_str()) {
            odd.push(format!(
                "has {blank:?} in `{key}`: the white space around it counts, so that few tokens can have it"
            ));
        }
    }
    let types = demands.claim_equals.iter().flatten().filter(|(name, _)| name == "type");
    if let Some((_, other)) = types.into_iter().find(|(_, value)| *value != TokenType::Access.as_str()) {
        odd.push(format!(
            "asks for the claim `type` to be {other}, which no access token has: it refuses every request"
        ));
    }
    odd
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
