//! A slow and obvious model of the rules, written apart from them: it parses paths by itself, compares segment by segment,
//! and orders rules by the words of the documentation.

use std::{cmp::Ordering, collections::BTreeSet};

use proptest::sample::select;

use super::*;

/// One rule, as the model sees it.
#[derive(Debug, Clone)]
struct ModelRule {
    path: String,
    is_exact: bool,
    methods: Option<Vec<String>>,
    level: Level,
    only_reports: bool,
    /// An entry of `public-paths` takes part as well.
    is_exemption: bool,
}

/// What the model expects of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    levels: BTreeSet<&'static str>,
    winners: BTreeSet<usize>,
    reported: BTreeSet<usize>,
}

const UUID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const OTHER_UUID: &str = "6BA7B811-9DAD-11D1-80B4-00C04FD430C8";

impl ModelRule {
    fn segments(&self) -> Vec<&str> {
        self.path.split('/').filter(|segment| !segment.is_empty()).collect()
    }

    fn has_rest(&self) -> bool {
        self.path.contains("{*")
    }

    fn takes_method(&self, method: &str) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|named| named == method || named == "GET" && method == "HEAD"))
    }

    fn matches(&self, text: &str, ignores_case: bool) -> bool {
        if self.path == "/" {
            return !self.is_exact || text == "/";
        }
        let given: Vec<_> = text.split('/').skip(1).collect();
        let wanted = self.segments();
        if given.len() < wanted.len() {
            return false;
        }
        let ends_there = given.len() == wanted.len();
        let all = wanted.iter().zip(&given).all(|(wanted, given)| is_one(wanted, given, ignores_case));
        all && (ends_there || !self.is_exact || self.has_rest())
    }

    /// Returns true if the segments are those of the rule, when empty ones are left out, or stand for a parameter each, at
    /// least one of them.
    fn takes_empty(&self, text: &str, ignores_case: bool) -> bool {
        let given: Vec<_> = text.split('/').skip(1).collect();
        self.takes(&self.segments(), &given, ignores_case, false)
    }

    fn takes(&self, wanted: &[&str], given: &[&str], ignores_case: bool, has_taken: bool) -> bool {
        let Some((first, wanted_after)) = wanted.split_first() else {
            let ends_there = given.iter().all(|given| given.is_empty());
            return has_taken && (ends_there || !self.is_exact || self.has_rest());
        };
        match given {
            [] | [""] => false,
            ["", after @ ..] => {
                let is_untyped = first.starts_with('{') && !first.contains(':');
                self.takes(wanted, after, ignores_case, has_taken)
                    || is_untyped && self.takes(wanted_after, after, ignores_case, true)
            }
            [name, after @ ..] => {
                is_one(first, name, ignores_case) && self.takes(wanted_after, after, ignores_case, has_taken)
            }
        }
    }

    /// Exact literal, then pattern, then prefix; then longer, then more literal segments, then more typed parameters; then
    /// exact over prefix over a rest; then with methods over without; then a rule over an exemption.
    fn compare(&self, other: &Self) -> Ordering {
        let by_class = self.class().cmp(&other.class());
        let by_length = self.segments().len().cmp(&other.segments().len());
        let by_literals = self.literals().cmp(&other.literals());
        let by_types = self.typed().cmp(&other.typed());
        let by_end = self.end().cmp(&other.end());
        let by_methods = self.methods.is_some().cmp(&other.methods.is_some());
        let by_kind = other.is_exemption.cmp(&self.is_exemption);
        by_class.then(by_length).then(by_literals).then(by_types).then(by_end).then(by_methods).then(by_kind)
    }

    fn class(&self) -> u8 {
        match (self.path.contains('{'), self.is_exact) {
            (false, true) => 3,
            (true, _) => 2,
            (false, false) => 1,
        }
    }

    fn literals(&self) -> usize {
        self.segments().iter().filter(|segment| !segment.starts_with('{')).count()
    }

    fn typed(&self) -> usize {
        self.segments().iter().filter(|segment| segment.contains(':')).count()
    }

    fn end(&self) -> u8 {
        match (self.has_rest(), self.is_exact) {
            (true, _) => 1,
            (false, false) => 2,
            (false, true) => 3,
        }
    }

    fn rule(&self) -> Rule {
        let rule = if self.is_exact { Rule::exact(&*self.path) } else { Rule::prefix(&*self.path) };
        let rule = rule.at(self.level).report_only(self.only_reports);
        match &self.methods {
            Some(methods) => rule.methods(methods.clone()),
            None => rule,
        }
    }
}

/// Returns true if a segment can stand where a rule has this one.
fn is_one(wanted: &str, given: &str, ignores_case: bool) -> bool {
    match wanted {
        "{id:uuid}" => {
            let groups: Vec<_> = given.split('-').collect();
            groups.iter().map(|group| group.len()).collect::<Vec<_>>() == [8, 4, 4, 4, 12]
                && groups.concat().chars().all(|char| char.is_ascii_hexdigit())
        }
        "{n:int}" => {
            let digits = given.strip_prefix('-').unwrap_or(given);
            !digits.is_empty() && digits.chars().all(|char| char.is_ascii_digit())
        }
        parameter if parameter.starts_with('{') => !given.is_empty(),
        literal if ignores_case => literal.to_lowercase() == given.to_lowercase(),
        literal => literal == given,
    }
}

/// Expects of one text what the most specific rule asks.
fn expect(
    rules: &[ModelRule],
    method: &str,
    default: Level,
    matches: impl Fn(&ModelRule) -> bool,
    found: &mut Expected,
) {
    let matching = |(_, rule): &(usize, &ModelRule)| rule.takes_method(method) && matches(rule);
    let best = |only_reports: bool| {
        let rules = rules.iter().enumerate().filter(|(_, rule)| rule.only_reports == only_reports).filter(matching);
        rules.max_by(|(_, a), (_, b)| a.compare(b))
    };
    match best(false) {
        None => {
            found.levels.insert(default.as_str());
        }
        Some((place, winner)) => {
            found.levels.insert(winner.level.as_str());
            if winner.level != Level::Public {
                found.winners.insert(place);
            }
        }
    }
    // Beside a rule that is as specific, the one that only reports comes first.
    let reported = best(true).filter(|(_, report)| best(false).is_none_or(|(_, rule)| report.compare(rule).is_ge()));
    found.reported.extend(reported.map(|(place, _)| place));
}

/// Expects of a request what the winners for all its readings ask together.
fn expect_all(
    rules: &[ModelRule],
    readings: &[String],
    methods: &[&str],
    options: PathOptions,
    default: Level,
) -> Expected {
    let mut found = Expected::default();
    let readings: Vec<_> = readings.iter().map(|reading| without_needed_escapes(reading)).collect();
    for (reading, method) in readings.iter().flat_map(|reading| methods.iter().map(move |method| (reading, *method))) {
        let without = reading.strip_suffix('/').filter(|text| !text.is_empty());
        for text in [Some(reading.as_str()), without].into_iter().flatten() {
            let ignoring = if options.case_insensitive { &[false, true][..] } else { &[false] };
            for ignores_case in ignoring {
                let matches = |rule: &ModelRule| rule.matches(text, *ignores_case);
                expect(rules, method, default, matches, &mut found);
            }
        }
        for (place, rule) in
            rules.iter().enumerate().filter(|(_, rule)| !rule.only_reports && rule.takes_method(method))
        {
            if rule.takes_empty(reading, options.case_insensitive) {
                found.levels.insert(rule.level.as_str());
                found.winners.extend((rule.level != Level::Public).then_some(place));
            }
        }
    }
    found
}

fn segment() -> impl Strategy<Value = &'static str> {
    select(vec!["/a", "/b", "/A", "/5", "/é", "/{x}", "/{y}", "/{id:uuid}", "/{n:int}"])
}

fn model_rule() -> impl Strategy<Value = ModelRule> {
    let path = (vec(segment(), 0..4), prop::bool::weighted(0.15)).prop_map(|(segments, has_rest)| {
        let path = segments.concat() + if has_rest { "/{*rest}" } else { "" };
        if path.is_empty() { "/".to_owned() } else { path }
    });
    let methods = proptest::option::weighted(0.4, vec(select(vec!["GET", "HEAD", "POST", "CONNECT"]), 1..3));
    let level = select(Level::ALL.to_vec());
    (path, any::<bool>(), methods, level, prop::bool::weighted(0.2)).prop_map(
        |(path, is_exact, methods, level, only_reports)| {
            let methods = methods.map(|methods| methods.into_iter().map(str::to_owned).collect());
            ModelRule { path, is_exact, methods, level, only_reports, is_exemption: false }
        },
    )
}

fn path() -> impl Strategy<Value = String> {
    let name = select(vec![
        "/a",
        "/b",
        "/A",
        "/z",
        "/5",
        "/-7",
        "/6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "/a5",
        "/",
        "/%61",
        "/%C3%A9",
        "/%c3%a9",
        "/é",
        "/%20",
        "/..",
        "/.",
        ";v",
    ]);
    vec(name, 0..6).prop_map(|names| format!("/{}", names.concat().trim_start_matches('/')))
}

fn method() -> impl Strategy<Value = &'static str> {
    select(vec!["GET", "HEAD", "POST", "CONNECT", "BREW"])
}

/// Returns the texts that a path with a base path counts as: the readings of the path as it is, with the base path before it and
/// without it, and those of the first that begin with the base path, without that.
fn readings_with(rules: &Rules, path: &str, base: Option<&str>) -> Vec<String> {
    let read = |path: &str| texts_for(rules, path).unwrap();
    let mut readings = read(path);
    let Some(base) = base else { return readings };
    let without = |text: &String| {
        let (head, rest) = text.split_at_checked(base.len())?;
        let is_base = head == base || rules.options.case_insensitive && head.eq_ignore_ascii_case(base);
        (is_base && (rest.is_empty() || rest.starts_with('/')))
            .then(|| format!("/{}", rest.strip_prefix('/').unwrap_or("")))
    };
    let dropped: Vec<_> = readings.iter().filter_map(without).collect();
    readings.extend(without(&path.to_owned()).iter().flat_map(|below| read(below)));
    readings.extend(dropped);
    readings.extend(read(&format!("{base}{path}")));
    readings
}

fn build(
    model: &[ModelRule],
    public: &[&str],
    options: PathOptions,
    default: Option<Level>,
) -> Result<Rules, Vec<RuleFault>> {
    Rules::build(sources(model, public, options, default))
}

fn sources(model: &[ModelRule], public: &[&str], options: PathOptions, default: Option<Level>) -> RuleSources {
    let rules = model.iter().map(ModelRule::rule).collect();
    RuleSources { rules, public: prefixes(public), options, default_level: default, ..RuleSources::default() }
}

/// Every text that the rules of these tests can tell apart, up to a length beyond theirs.
fn all_texts() -> Vec<String> {
    let names = ["a", "b", "A", "5", "-7", "é", "z", UUID, OTHER_UUID, ""];
    let mut texts = vec![String::new()];
    let mut all = Vec::new();
    for _ in 0..4 {
        texts = texts.iter().flat_map(|text| names.map(|name| format!("{text}/{name}"))).collect();
        all.extend(texts.iter().cloned());
    }
    all
}

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "CONNECT", "BREW"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn requests_need_what_the_model_says(
        model in vec(model_rule(), 0..8), exempt in prop::bool::weighted(0.3), path in path(), method in method(),
        default in proptest::option::of(select(Level::ALL.to_vec())), case_insensitive: bool,
        base in prop::option::weighted(0.3, select(vec!["/a", "/b/5"])),
        connect in select(vec![Connect::Tunnel, Connect::WebSocket, Connect::Unknown]),
    ) {
        let options = PathOptions { case_insensitive, ..PLAIN };
        let public: &[&str] = if exempt { &["/a", "/b/5/"] } else { &[] };
        let sources = sources(&model, public, options, default);
        let base_path = base.map(|base| Prefix::parse(base).unwrap());
        let Ok(rules) = Rules::build(RuleSources { base_path, ..sources }) else { return Ok(()) };
        let exemptions = ["/a", "/b/5"].into_iter().filter(|_| exempt).map(|path| ModelRule {
            path: path.to_owned(),
            is_exact: false,
            methods: None,
            level: Level::Public,
            only_reports: false,
            is_exemption: true,
        });
        let model: Vec<_> = model.into_iter().chain(exemptions).collect();
        let default = default.unwrap_or(if rules.has_rules() { Level::Access } else { Level::Public });
        let method_of_request: Method = method.parse().unwrap();
        let uri: Uri = path.parse().unwrap();
        let line = RequestLine { connect, ..RequestLine::new(&method_of_request, &uri) };
        let answer = rules.requirement(&line).unwrap();
        let readings = readings_with(&rules, uri.path(), base);
        let methods = match (method, connect) {
            ("CONNECT", Connect::WebSocket) => &["GET"][..],
            ("CONNECT", Connect::Unknown) => &["GET", "CONNECT"],
            _ => &[method],
        };
        let expected = expect_all(&model, &readings, methods, options, default);
        let asks = |words: &[&str]| words.iter().any(|word| expected.levels.contains(word));
        if expected.winners.len() <= 4 {
            prop_assert_eq!(answer.needs_master(), asks(&["master", "both"]));
            prop_assert_eq!(answer.needs_access(), asks(&["access", "both"]));
            prop_assert_eq!(answer.is_denied(), asks(&["deny"]));
            prop_assert_eq!(answer.is_public(), !asks(&["optional", "access", "master", "both", "deny"]));
            prop_assert_eq!(answer.is_optional(), expected.levels.iter().all(|level| ["optional", "public"].contains(level)) && asks(&["optional"]));
            let places = |id: RuleId| id.place() - public.len();
            let winners: BTreeSet<_> = rules.winners(answer).map(|(id, _)| places(id)).collect();
            prop_assert_eq!(winners, expected.winners);
            prop_assert_eq!(answer.reported().is_some(), !expected.reported.is_empty());
            prop_assert!(answer.reported().is_none_or(|id| expected.reported.contains(&places(id))));
        } else {
            // Fail closed: there are more than are kept.
            prop_assert_eq!(rules.winners(answer).count(), model.iter().filter(|rule| !rule.only_reports && !rule.is_exemption).count());
        }
        if let Some(glance) = rules.glance(&method_of_request, uri.path()) {
            prop_assert_eq!(glance, answer);
        }
    }

    #[test]
    fn the_order_is_that_of_the_words(a in model_rule(), b in model_rule()) {
        let specificity = |rule: &ModelRule| {
            let extent = if rule.is_exact { Extent::Exact } else { Extent::Prefix };
            pattern::Pattern::parse(&rule.path, extent).unwrap().specificity(rule.methods.is_some(), false)
        };
        prop_assert_eq!(specificity(&a).cmp(&specificity(&b)), a.compare(&b));
        prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ties_are_those_of_the_model(model in vec(model_rule(), 2..5)) {
        let texts = all_texts();
        let both_match = |a: &ModelRule, b: &ModelRule| {
            METHODS.iter().any(|method| a.takes_method(method) && b.takes_method(method))
                && texts.iter().any(|text| a.matches(text, false) && b.matches(text, false))
        };
        let ties = |b: &ModelRule, a: &ModelRule| {
            a.compare(b).is_eq() && a.only_reports == b.only_reports && both_match(a, b)
        };
        let expected: Vec<_> = (0..model.len()).filter(|place| model[..*place].iter().any(|a| ties(&model[*place], a))).collect();
        let found = build(&model, &[], PLAIN, None).map_or_else(|faults| faults, |_| vec![]);
        prop_assert_eq!(found.iter().map(|fault| fault.place).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn warnings_are_of_rules_that_win_nothing(model in vec(model_rule(), 2..6)) {
        let Ok(rules) = build(&model, &[], PLAIN, None) else { return Ok(()) };
        let warnings = rules.overlaps().warnings;
        let mut wins = BTreeSet::new();
        for text in all_texts() {
            for method in METHODS {
                let matching = || model.iter().enumerate().filter(|(_, rule)| rule.takes_method(method) && rule.matches(&text, false));
                let best = matching().filter(|(_, rule)| !rule.only_reports).max_by(|(_, a), (_, b)| a.compare(b));
                let report = matching().filter(|(_, rule)| rule.only_reports).max_by(|(_, a), (_, b)| a.compare(b));
                let report = report.filter(|(_, report)| best.is_none_or(|(_, best)| report.compare(best).is_ge()));
                wins.extend(best.into_iter().chain(report).map(|(place, _)| place));
            }
        }
        for place in 0..model.len() {
            let start = format!("rules[{place}] ");
            let warned = warnings.iter().any(|warning| warning.starts_with(&start) && warning.contains("has no effect"));
            prop_assert_eq!(warned, !wins.contains(&place), "{} {:?}", place, warnings);
        }
    }
}
