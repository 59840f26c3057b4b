//! Checks the rules of a configuration and compiles them: all faults at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Level, Prefix, Principal, Rule, RuleId,
    entry::{End, Entry},
    methods::Methods,
    pattern::{Fault, Pattern, Specificity, Spelling},
    prefix::Form,
    tails::Tails,
};

/// A fault of a rule, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// The place of the rule in the configuration's list.
    pub place: usize,
    /// The name of the rule, as logs show it.
    pub name: String,
    /// The member of the rule that is at fault, by its key in the configuration.
    pub member: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

/// A rule that can decide on requests.
#[derive(Debug, Clone)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) name: String,
    pub(super) pattern: Pattern,
    pub(super) methods: Methods,
    pub(super) level: Level,
    pub(super) specificity: Specificity,
}

/// The ranks of all specificities that occur: the greater wins. No rank is 0.
#[derive(Debug)]
pub(super) struct Ranks(BTreeMap<Specificity, u32>);

impl Ranks {
    pub(super) fn new<'a>(rules: &[CompiledRule], exemptions: impl Iterator<Item = &'a Prefix>) -> Self {
        let of_rules = rules.iter().map(|rule| rule.specificity);
        let all: BTreeSet<_> = of_rules.chain(exemptions.map(Specificity::of_exemption)).collect();
        Self(all.into_iter().zip(1..).collect())
    }

    pub(super) fn of(&self, specificity: Specificity) -> u32 {
        self.0.get(&specificity).copied().unwrap_or_default()
    }
}

/// Compiles the rules.
pub(super) fn compile(
    rules: Vec<Rule>,
    spelling: Spelling,
    has_service_claim: bool,
) -> Result<Vec<CompiledRule>, Vec<RuleFault>> {
    let mut compiled = Vec::new();
    let mut faults = Vec::new();
    for (place, rule) in rules.into_iter().enumerate() {
        let name = rule.shown_name();
        let mut found = Vec::new();
        let pattern = Pattern::parse(rule.path(), rule.extent()).map_err(|fault| found.push(fault));
        let methods = Methods::parse(rule.for_methods()).map_err(|fault| found.push(fault));
        if rule.given_name().is_some_and(|name| name.trim().is_empty()) {
            found.push(Fault::of("name", "is empty", "write a name, or leave it out"));
        }
        if rule.given_name().is_some_and(|name| name.contains(char::is_control)) {
            found.push(Fault::of("name", "has a control character", "write it without"));
        }
        found.extend(level_faults(&rule));
        found.extend(demand_faults(&rule, has_service_claim));
        faults.extend(found.into_iter().map(|fault| RuleFault::new(place, &name, fault)));
        if let (Ok(pattern), Ok(methods), Some(level)) = (pattern, methods, rule.level()) {
            let specificity = pattern.specificity(methods != Methods::ALL, rule.is_report_only());
            compiled.push((place, CompiledRule { rule, name, pattern, methods, level, specificity }));
        }
    }
    faults.extend(ties(&compiled, spelling));
    faults.sort_by_key(|fault| fault.place);
    if faults.is_empty() { Ok(compiled.into_iter().map(|(_, rule)| rule).collect()) } else { Err(faults) }
}

/// Finds rules that are as specific as one before them and can match the same request.
fn ties(rules: &[(usize, CompiledRule)], spelling: Spelling) -> Vec<RuleFault> {
    let mut alike: BTreeMap<Specificity, Vec<&(usize, CompiledRule)>> = BTreeMap::new();
    for rule in rules {
        alike.entry(rule.1.specificity).or_default().push(rule);
    }
    let mut faults = Vec::new();
    for group in alike.values() {
        let entries: Vec<_> = group.iter().enumerate().map(|(at, (_, rule))| rule.compared(at, spelling)).collect();
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by(|a, b| a.tail.cmp(&b.tail));
        let tails = Tails::new(&sorted, 0);
        for (at, (place, rule)) in group.iter().enumerate() {
            let mut tied = at;
            tails.visit_meeting(&entries[at].tail, &mut |end| {
                let other = end.rule.place();
                if other < tied && rule.methods.meets(group[other].1.methods) {
                    tied = other;
                }
            });
            if tied < at {
                let (other_place, other) = group[tied];
                faults.push(RuleFault::new(*place, &rule.name, tie(*other_place, other)));
            }
        }
    }
    faults
}

fn tie(place: usize, other: &CompiledRule) -> Fault {
    let path = other.rule.path();
    let named = if other.rule.given_name().is_some() {
        format!("{:?}, path {path:?}", other.name)
    } else {
        format!("{:?}", other.name)
    };
    Fault::of(
        "path",
        format!("is as specific as rules[{place}] ({named}), and some requests match both"),
        "merge the two, give them different `methods`, or make one path more specific",
    )
}

fn level_faults(rule: &Rule) -> Option<Fault> {
    let Some(level) = rule.level() else {
        let words: Vec<_> = Level::ALL.iter().map(|level| format!("{:?}", level.as_str())).collect();
        return Some(Fault::of("level", "is missing", format!("write one of {}", words.join(", "))));
    };
    let takes_demands = matches!(level, Level::Access | Level::Both);
    if takes_demands || rule.demands().is_empty() {
        return None;
    }
    let demands: Vec<_> = rule.demands().keys().iter().map(|key| format!("`{key}`")).collect();
    Some(Fault::of(
        "level",
        format!("is {:?}, which asks for no access token that could meet {}", level.as_str(), demands.join(", ")),
        "write the level \"access\" or \"both\", or leave the demands out",
    ))
}

fn demand_faults(rule: &Rule, has_service_claim: bool) -> Vec<Fault> {
    let demands = rule.demands();
    let lists = [
        ("roles-any", &demands.roles_any),
        ("roles-all", &demands.roles_all),
        ("scopes", &demands.scopes),
        ("scopes-any", &demands.scopes_any),
        ("issuers", &demands.issuers),
    ];
    let mut faults = Vec::new();
    for (key, list) in lists {
        let Some(list) = list else { continue };
        if list.is_empty() {
            faults.push(Fault::of(key, "is empty", "name at least one, or leave it out"));
        }
        if list.iter().any(String::is_empty) {
            faults.push(Fault::of(key, "has an empty text", "leave it out of the list"));
        }
        let parted = list.iter().find(|text| key.starts_with("scopes") && text.contains(char::is_whitespace));
        if let Some(parted) = parted {
            let problem = format!("has {parted:?}, and no scope has white space");
            faults.push(Fault::of(key, problem, "make each scope an entry of its own"));
        }
        let odd = list.iter().find(|text| {
            key.starts_with("scopes") && text.contains(|char| !is_of_scope(char) && !char::is_whitespace(char))
        });
        if let Some(odd) = odd {
            let problem = format!("has {odd:?}, and scopes are of printable ASCII without `\"` and `\\` (RFC 6749)");
            faults.push(Fault::of(key, problem, "write a scope that tokens can have"));
        }
    }
    let foreign = demands.issuers.iter().flatten().find(|issuer| *issuer != "own" && !issuer.is_empty());
    if let Some(foreign) = foreign {
        let problem = format!("has {foreign:?}, and only \"own\" is known, which is this application");
        faults.push(Fault::of("issuers", problem, "write [\"own\"], or leave `issuers` out"));
    }
    if let Some(claims) = &demands.claim_equals {
        if claims.is_empty() {
            faults.push(Fault::of("claim-equals", "is empty", "name at least one claim, or leave it out"));
        }
        if let Some((name, _)) =
            claims.iter().find(|(_, value)| value.is_array() || value.is_object() || value.is_null())
        {
            let problem = format!("compares {name:?} with what is no text, number or boolean");
            faults.push(Fault::of("claim-equals", problem, "write a text, a number, true or false"));
        }
    }
    if demands.audience.as_ref().is_some_and(String::is_empty) {
        faults.push(Fault::of("audience", "is empty", "write the audience, or leave it out"));
    }
    if demands.principal != Principal::Any && !has_service_claim {
        let problem = format!("is {:?}, and nothing tells users from services", demands.principal.as_str());
        faults.push(Fault::of("principal", problem, "set `service-claim` to the claims that a service's token has"));
    }
    faults
}

/// Returns true for what a scope can have by RFC 6749, section 3.3.
fn is_of_scope(char: char) -> bool {
    matches!(char, '!' | '#'..='[' | ']'..='~')
}

impl CompiledRule {
    /// Returns all segments, as they are compared with those of other rules.
    pub(super) fn compared(&self, place: usize, spelling: Spelling) -> Entry {
        let end = End { rule: RuleId::new(place), list: None, form: Form::Segment, rank: 0 };
        Entry { text: String::new(), tail: self.pattern.compared(spelling), end }
    }
}

impl RuleFault {
    fn new(place: usize, name: &str, fault: Fault) -> Self {
        let Fault { member, problem, remedy } = fault;
        Self { place, name: name.to_owned(), member, problem, remedy }
    }
}
