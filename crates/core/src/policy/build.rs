//! Builds the rules from what a configuration says.

use super::{
    Level, ListedPrefix, PathList, PathOptions, Prefix, Requirement, Rule, RuleFault, RuleId, Rules,
    case::fold,
    entry::{End, Entry},
    matcher::Matcher,
    pattern::{Specificity, Spelling},
    prefix::Form,
    requirement::Cause,
    set::{CompiledRule, Ranks, compile},
};

/// What a configuration says about paths.
#[derive(Debug, Clone, Default)]
pub struct RuleSources {
    /// The prefixes that need the master token.
    pub master: Vec<Prefix>,
    /// The prefixes that need an access token.
    pub access: Vec<Prefix>,
    /// The prefixes that need nothing, but for longer ones that are guarded.
    pub public: Vec<Prefix>,
    /// What an outer router strips before or after the guard sees the path: the path is looked at as it is, with it and, if
    /// it begins with it, without it, so that guards can be written either way.
    pub base_path: Option<Prefix>,
    /// How paths are read.
    pub options: PathOptions,
    /// The rules, whose order does not count.
    pub rules: Vec<Rule>,
    /// The level of the requests that no rule matches. If it is not set, they are public if there are no rules, and need an
    /// access token if there are.
    pub default_level: Option<Level>,
    /// There is a test that tells services from users, so that rules can ask for either.
    pub has_service_claim: bool,
}

impl Rules {
    /// Creates the rules that ask for the master token below the prefixes of `master`, for an access token below those of
    /// `access`, and for nothing if every reading is below one of `public`.
    ///
    /// If an outer router strips a prefix before or after the guard sees the path, that is the `base_path`: the path is looked
    /// at as it is, with it and, if it begins with it, without it, so that guards can be written either way.
    pub fn new(
        master: Vec<Prefix>,
        access: Vec<Prefix>,
        public: Vec<Prefix>,
        base_path: Option<&Prefix>,
        options: PathOptions,
    ) -> Self {
        let base_path = base_path.cloned();
        let sources = RuleSources { master, access, public, base_path, options, ..RuleSources::default() };
        Self::assemble(sources, Vec::new(), Level::Public)
    }

    /// Builds the rules from all that a configuration says about paths.
    ///
    /// # Errors
    ///
    /// All faults of all rules, in the order of the rules.
    pub fn build(mut sources: RuleSources) -> Result<Self, Vec<RuleFault>> {
        let rules = std::mem::take(&mut sources.rules);
        let otherwise = if rules.is_empty() { Level::Public } else { Level::Access };
        let default_level = sources.default_level.unwrap_or(otherwise);
        let rules = compile(rules, Spelling::widest(sources.options), sources.has_service_claim)?;
        Ok(Self::assemble(sources, rules, default_level))
    }

    fn assemble(sources: RuleSources, rules: Vec<CompiledRule>, default_level: Level) -> Self {
        let RuleSources { master, access, public, base_path, options, .. } = sources;
        let lists = [(PathList::Master, master), (PathList::Access, access), (PathList::Public, public)];
        let listed = lists.into_iter().flat_map(|(list, prefixes)| prefixes.into_iter().map(move |p| (list, p)));
        let listed: Vec<_> = listed
            .enumerate()
            .map(|(place, (list, prefix))| ListedPrefix { id: RuleId::new(place), list, prefix })
            .collect();
        // Of the same length, the guard has the last word.
        let (exemptions, guards): (Vec<_>, Vec<_>) = listed.iter().partition(|listed| listed.list == PathList::Public);
        let ranks = Ranks::new(&rules, exemptions.iter().map(|exemption| &exemption.prefix));
        let prefixes = exemptions.into_iter().chain(guards).map(|listed| listed.entry(options, &ranks));
        let ids = (listed.len()..).map(RuleId::new);
        let patterns = rules.iter().zip(ids).map(|(rule, id)| rule.entry(id, options, &ranks));
        let longest = if rules.iter().any(|rule| rule.pattern.has_parameters()) { super::MAX_PATH } else { 0 };
        let matcher = Matcher::new(prefixes.chain(patterns).collect(), options.case_insensitive, longest);
        let base_path = base_path.as_ref().map(|base| base.text().trim_end_matches('/'));
        let deciding = rules.iter().filter(|rule| !rule.rule.is_report_only()).map(|rule| rule.level);
        let everything = deciding
            .chain([default_level])
            .fold(Requirement::NOTHING, |all, level| all.or(Requirement::of_level(level, Cause::Fault)));
        Self {
            matcher,
            base_path: base_path.filter(|base| !base.is_empty()).map(str::to_owned),
            unmatched: Requirement::of_level(default_level, Cause::Default),
            everything: if rules.is_empty() { everything } else { everything.by_all_rules() },
            are_ruled: !rules.is_empty() || default_level != Level::Public,
            default_level,
            listed,
            rules,
            options,
        }
    }
}

impl ListedPrefix {
    fn entry(&self, options: PathOptions, ranks: &Ranks) -> Entry {
        let is_exemption = self.list == PathList::Public;
        let form = if is_exemption { self.prefix.form_of_exemption() } else { self.prefix.form() };
        let rank = if is_exemption { ranks.of(Specificity::of_exemption(&self.prefix)) } else { 0 };
        let end = End { rule: self.id, list: Some(self.list), form, rank };
        Entry { text: cased(self.prefix.text(), options), tail: vec![], end }
    }
}

impl CompiledRule {
    fn entry(&self, id: RuleId, options: PathOptions, ranks: &Ranks) -> Entry {
        let has_parameters = self.pattern.has_parameters();
        let head = self.pattern.head();
        let form = if head == "/" && !has_parameters { Form::Plain } else { Form::Segment };
        // The tail begins with the slash.
        let head = if has_parameters { head.trim_end_matches('/') } else { head };
        let end = End { rule: id, list: None, form, rank: ranks.of(self.specificity) };
        Entry { text: cased(head, options), tail: self.pattern.compared_tail(Spelling::widest(options)), end }
    }
}

impl Spelling {
    /// Returns the way to compare that finds the most alike.
    pub(super) fn widest(options: PathOptions) -> Self {
        if options.case_insensitive { Self::Folded } else { Self::Plain }
    }
}

fn cased(text: &str, options: PathOptions) -> String {
    if options.case_insensitive { fold(text).into_owned() } else { text.to_owned() }
}
