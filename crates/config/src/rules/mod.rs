//! Reading the rules of a file or of a variable: from objects to rules.

use fastauth_core::policy::{Extent, Level, Rule};
use serde_json::{Map, Value};

use crate::{
    draft::Draft,
    fault::{Fault, label_of},
    given::describe,
    key::Key,
};

mod compile;
mod member;
mod members;
#[cfg(test)]
mod tests;

use self::members::{LEVEL, PATH};
pub(crate) use self::{
    member::{Member, MemberKind},
    members::MEMBERS,
};

const EXAMPLE: &str = r#"{"path": "/api", "level": "access"}"#;

/// Returns a rule as a configuration would have it.
pub(crate) fn as_object(rule: &Rule) -> Value {
    let members = MEMBERS.iter().filter_map(|member| Some((member.name.to_owned(), (member.get)(rule)?)));
    members.collect::<Map<_, _>>().into()
}

/// Returns what a rule demands of an access token, as a configuration would have it.
#[must_use]
pub fn demands_as_object(rule: &Rule) -> Map<String, Value> {
    let demands = MEMBERS.iter().filter(|member| member.is_demand);
    demands.filter_map(|member| Some((member.name.to_owned(), (member.get)(rule)?))).collect()
}

/// Returns what a rule is for, and what it asks, on one line.
pub(crate) fn line(rule: &Rule) -> String {
    let mut line = rule.for_methods().map(|methods| format!("{} ", methods.join(", "))).unwrap_or_default();
    line.push_str(rule.path());
    if rule.extent() == Extent::Exact {
        line.push_str(" (exact)");
    }
    let level = rule.level().map_or("", Level::as_str);
    line.push_str(&format!(": {level}"));
    for member in MEMBERS.iter().skip_while(|member| member.name != LEVEL.name).skip(1) {
        if let Some(value) = (member.get)(rule) {
            line.push_str(&format!(", {} {value}", member.name));
        }
    }
    line
}

impl Draft<'_> {
    /// Reads the entries of a list, and adds a fault for each thing that is wrong with any.
    pub(crate) fn read_rules(&mut self, key: &'static Key, entries: &[Value]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let faults = self.faults.len();
            let rule = self.read_rule(key, place, entry);
            if self.faults.len() == faults {
                rules.push(rule);
            } else {
                // It keeps its place. Its path can still be checked, and without a level it decides nothing.
                let unread = Rule::prefix(rule.path());
                rules.push(rule.given_name().map_or(unread.clone(), |name| unread.name(name)));
                self.rules.unread.insert(place);
            }
        }
        rules
    }

    fn read_rule(&mut self, key: &'static Key, place: usize, entry: &Value) -> Rule {
        let Value::Object(members) = entry else {
            let fault = Fault::new(
                key.name,
                self.source(key),
                format!("found {}", describe(entry)),
                format!("write an object, such as {EXAMPLE}"),
            );
            self.faults.push(fault.at(format!("{}[{place}]", key.name), ""));
            return Rule::prefix("");
        };
        let mut reader = RuleReader { rule: begun(members), faults: Vec::new() };
        reader.check_names(members);
        for member in MEMBERS {
            reader.read(member, members);
        }
        let label = label_of(&reader.rule);
        for EntryFault { member, problem, remedy } in reader.faults {
            let fault = Fault::new(key.name, self.source(key), problem, remedy);
            self.faults.push(fault.at(format!("{}[{place}].{member}", key.name), &label));
        }
        reader.rule
    }
}

/// Returns a rule for the path of an object.
fn begun(members: &Map<String, Value>) -> Rule {
    Rule::prefix(members.get(PATH.name).and_then(Value::as_str).unwrap_or_default())
}

/// A rule that is being read, and what is wrong with its object.
struct RuleReader {
    rule: Rule,
    faults: Vec<EntryFault>,
}

struct EntryFault {
    member: String,
    problem: String,
    remedy: String,
}

impl RuleReader {
    fn fault(&mut self, member: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(EntryFault { member: member.to_owned(), problem: problem.into(), remedy: remedy.into() });
    }

    fn check_names(&mut self, members: &Map<String, Value>) {
        for name in members.keys().filter(|name| !MEMBERS.iter().any(|member| member.is_spelled(name))) {
            self.fault(name, "it is not a known member", format!("did you mean `{}`?", nearest(name)));
        }
    }

    fn read(&mut self, member: &'static Member, members: &Map<String, Value>) {
        let mut found = members.iter().filter(|(name, _)| member.is_spelled(name));
        let Some((name, value)) = found.next() else {
            if member.is_required {
                self.fault(member.name, "is missing", member.kind.remedy());
            }
            return;
        };
        if let Some((other, _)) = found.find(|(_, other)| *other != value) {
            let problem = format!("`{name}` and `{other}` are the same member, with different values");
            return self.fault(member.name, problem, "keep one of them");
        }
        match member.set(self.rule.clone(), value) {
            Ok(rule) => self.rule = rule,
            Err(found) => self.fault(member.name, found.problem, found.remedy),
        }
    }
}

/// Returns the member that is most like an unknown name.
fn nearest(name: &str) -> &'static str {
    let name = name.replace('_', "-").to_ascii_lowercase();
    let names = MEMBERS.iter().map(|member| member.name);
    names.min_by_key(|known| strsim::damerau_levenshtein(&name, known)).unwrap_or(LEVEL.name)
}
