//! From the lists and the rules to what decides on requests, and what is odd about it.

use fastauth_core::policy::{Extent, Level, PathList, RequestLine, Rule, RuleSources, Rules};
use http::{Method, Uri};

use super::members::PATH;
use crate::{
    draft::Draft,
    fault::{Fault, label_of},
    key::Key,
    keys::{
        self,
        paths::{ACCESS_TOKEN_PATHS, MASTER_TOKEN_PATHS},
        rules::{DEFAULT_LEVEL, RULES},
        tokens::AUDIENCE,
    },
};

/// Where the endpoints for tokens usually are.
const ENDPOINTS: &str = "/auth";

impl Draft<'_> {
    /// Builds what decides on requests. With a fault in a rule, that is what the lists ask.
    pub(crate) fn build_rules(&mut self) -> Rules {
        let paths = std::mem::take(&mut self.paths);
        let sources = RuleSources {
            master: paths.master,
            access: paths.access,
            public: paths.public,
            base_path: paths.base,
            options: paths.options,
            rules: self.rules.rules.clone(),
            default_level: self.rules.default_level,
            has_service_claim: self.rules.service_test.is_set(),
        };
        self.check_audiences();
        // Without it, the time since a log-in would be that since the last refresh.
        self.issuing.auth_time = sources.rules.iter().any(|rule| rule.demands().max_age.is_some());
        let rules = match Rules::build(sources.clone()) {
            Ok(rules) => rules,
            Err(faults) => {
                for fault in faults {
                    let is_known = fault.member != PATH.name || sources.rules[fault.place].path().is_empty();
                    if is_known && self.rules.unread.contains(&fault.place) {
                        continue;
                    }
                    let label = label_of(&sources.rules[fault.place]);
                    let place = format!("{}[{}].{}", RULES.name, fault.place, fault.member);
                    let fault = Fault::new(RULES.name, self.source(&RULES), fault.problem, fault.remedy);
                    self.faults.push(fault.at(place, label));
                }
                let RuleSources { master, access, public, base_path, options, .. } = sources;
                return Rules::new(master, access, public, base_path.as_ref(), options);
            }
        };
        let overlaps = rules.overlaps();
        self.notes.extend(overlaps.notes);
        self.warnings.extend(overlaps.warnings);
        if rules.has_rules() && self.rules.default_level.is_none() && !self.has_fault(&[&DEFAULT_LEVEL]) {
            self.notes.push(format!(
                "`{}` is not set, so requests that no rule matches require an access token",
                DEFAULT_LEVEL.name
            ));
        }
        self.check_refresh(&rules, &sources);
        self.check_guards(&rules);
        rules
    }

    /// Checks that tokens can meet the audiences that rules demand: every token has the one of the configuration, and no other.
    fn check_audiences(&mut self) {
        let own = self.issuing.audience.as_deref();
        let reason = match own {
            _ if self.has_fault(&[&AUDIENCE]) => return,
            Some(own) => format!("every token has {own:?} of `{}`", AUDIENCE.name),
            None => format!("no token has an audience, since `{}` is not set", AUDIENCE.name),
        };
        let mut faults = Vec::new();
        for (place, rule) in self.rules.rules.iter().enumerate() {
            let demanded = rule.demands().audience.as_deref().filter(|demanded| !demanded.is_empty());
            let Some(demanded) = demanded.filter(|demanded| own != Some(*demanded)) else { continue };
            let problem = format!("no token can have {demanded:?}, for {reason}");
            let remedy = format!("leave it out, or write the same as `{}`", AUDIENCE.name);
            let fault = Fault::new(RULES.name, self.source(&RULES), problem, remedy);
            faults.push(fault.at(format!("{}[{place}].audience", RULES.name), label_of(rule)));
        }
        self.faults.extend(faults);
    }

    /// Warns if the layer requires a token to refresh, at the usual path: a client whose access token has expired could not.
    fn check_refresh(&mut self, rules: &Rules, sources: &RuleSources) {
        let refresh = Uri::from_static("/auth/token/refresh");
        let Ok(requirement) = rules.requirement(&RequestLine::new(&Method::POST, &refresh)) else { return };
        if !(requirement.needs_access() || requirement.needs_master() || requirement.is_denied()) {
            return;
        }
        let so = format!("guards {refresh}, so that a client whose access token has expired cannot refresh");
        let lists = [PathList::Access, PathList::Master];
        let guard = lists.into_iter().find_map(|list| requirement.rule(list)).and_then(|id| rules.listed(id));
        if let Some(rule) = guard {
            let opened: Vec<_> = sources.public.iter().map(|prefix| prefix.as_str().trim_end_matches('/')).collect();
            let missing = paths_of_endpoints(sources, &opened).into_iter().map(|path| format!("{path:?}"));
            return self.warn(format!(
                "`{}`: {:?} also {so}; add {}, whose endpoints check requests themselves, and your log-in to `public-paths`",
                rule.list().key(),
                rule.prefix(),
                missing.collect::<Vec<_>>().join(" and "),
            ));
        }
        let what = match requirement.first_rule() {
            Some(rule) => format!("`{}`: {:?}", RULES.name, rules.name(rule)),
            None => format!("`{}`", DEFAULT_LEVEL.name),
        };
        let opened: Vec<_> = sources.rules.iter().filter(|rule| opens_all(rule)).map(Rule::path).collect();
        let missing = paths_of_endpoints(sources, &opened).into_iter();
        let missing = missing.map(|path| format!("{{\"path\": {path:?}, \"level\": \"public\"}}"));
        let missing = missing.collect::<Vec<_>>().join(" and ");
        self.warn(format!(
            "{what} also {so}; add {missing}, whose endpoints check requests themselves, and one for your log-in to `{}`",
            RULES.name
        ));
    }

    /// Checks that it is said what to guard, be it nothing.
    fn check_guards(&mut self, rules: &Rules) {
        let sayers: Vec<&Key> = keys::all().filter(|key| keys::says_what_to_guard(key)).collect();
        // An unknown key may be one of them, misspelt.
        let is_reported = self.has_fault(&sayers) || self.faults.iter().any(|fault| fault.key().is_none());
        if self.values.has_file && !sayers.iter().any(|key| self.is_set(key)) && !is_reported {
            let problem =
                "neither it nor `access-token-paths` or `master-token-paths` is set, so no path would be guarded";
            self.fault(&RULES, problem, "write rules, or list the prefixes to guard, or write [] to guard no path");
        }
        let has_lists = [&ACCESS_TOKEN_PATHS, &MASTER_TOKEN_PATHS].iter().any(|list| self.values.has_items(list.name));
        if has_lists || !self.faults.is_empty() {
            return;
        }
        let levels = rules.ids().filter_map(|id| rules.rule(id)?.level()).chain([rules.default_level()]);
        if levels.into_iter().all(|level| matches!(level, Level::Public | Level::Optional)) {
            let why = if rules.has_rules() {
                "every rule opens its paths"
            } else {
                "there are no rules, and both path lists are empty"
            };
            self.warn(format!("{why}: no path is guarded"));
        }
    }
}

fn opens_all(rule: &Rule) -> bool {
    let is_open = matches!(rule.level(), Some(Level::Public | Level::Optional));
    is_open && rule.extent() == Extent::Prefix && rule.for_methods().is_none()
}

/// Returns the paths of the endpoints for tokens that are to be opened: both with the base path and without, but those that are
/// open already.
fn paths_of_endpoints(sources: &RuleSources, opened: &[&str]) -> Vec<String> {
    let base =
        sources.base_path.as_ref().map(|base| base.as_str().trim_end_matches('/')).filter(|base| !base.is_empty());
    let mut paths = vec![ENDPOINTS.to_owned()];
    paths.extend(base.map(|base| format!("{base}{ENDPOINTS}")));
    let missing: Vec<_> = paths.iter().filter(|path| !opened.contains(&path.as_str())).cloned().collect();
    // One that is open may still lose to another rule.
    if missing.is_empty() { paths } else { missing }
}
