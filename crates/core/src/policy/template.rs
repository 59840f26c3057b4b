//! Decides on the paths of a template, such as `/items/{id}`.
//!
//! A path meets a prefix by what it begins with, and a rule segment by segment. So it is enough to try, in each place of the
//! template, what the prefixes and rules have there, once ending the segment and once going on, and a value that none of them
//! knows. Of two beginnings that the same prefixes and rules know, one is enough. On each of the paths that are left, the
//! rules themselves decide, and no other path gets another answer.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    Form, PathDecision, PathList, RequestLine, Requirement, Rules,
    case::fold,
    pattern::{Kind, Known},
};

/// The characters that are encoded in a path (RFC 3986, section 3.3), except those of its syntax.
const IN_LITERAL: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
const IN_VALUE: AsciiSet = IN_LITERAL.add(b'%').add(b'/');

/// The segments of a template.
struct Template<'a>(Vec<Vec<Piece<'a>>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    /// `{id}`: some text without a slash.
    Value,
    /// `{id:uuid}` or `{n:int}`.
    Typed(Kind),
    /// `{*path}`: some segments.
    Rest,
}

/// A prefix or a rule, in segments.
struct Model {
    segments: Vec<Known>,
    /// The last segment may go on: the prefix is a plain one.
    goes_on: bool,
}

/// A text for the place of a segment, and how a path has it.
#[derive(Clone)]
struct Candidate {
    plain: String,
    written: String,
}

impl Rules {
    /// Returns the decisions on the paths of a template: one if all of them ask for the same.
    ///
    /// A value is taken literally. One that another reading makes a path of, such as `..%2faccess`, asks for more below any
    /// template, and does not count here.
    pub fn decisions(&self, method: &Method, template: &str) -> Vec<PathDecision> {
        let found = self.requirements_of(method, &self.paths_of(template, &[]));
        let found: Vec<_> = found.into_iter().map(PathDecision::from).collect();
        let all = [
            PathDecision::Public,
            PathDecision::Optional,
            PathDecision::Access,
            PathDecision::Master,
            PathDecision::MasterAndAccess,
            PathDecision::Deny,
        ];
        all.into_iter().filter(|decision| found.contains(decision)).collect()
    }

    /// Returns what paths require, each requirement once.
    pub fn requirements_of(&self, method: &Method, paths: &[String]) -> Vec<Requirement> {
        let mut found = Vec::new();
        for path in paths {
            let requirement =
                path.parse().ok().and_then(|uri: Uri| self.requirement(&RequestLine::new(method, &uri)).ok());
            found.extend(requirement.filter(|requirement| !found.contains(requirement)));
        }
        found
    }

    /// Returns paths of a template, in order: whatever another path of it asks for, one of these does.
    ///
    /// A value of the template may have a type, as that of a rule: `{id:uuid}` or `{n:int}`. The paths in `besides` are not of the
    /// template: something else has them.
    pub fn paths_of(&self, template: &str, besides: &[String]) -> Vec<String> {
        let template = Template::parse(template);
        let models = self.models();
        let longest = models.iter().map(|model| model.segments.len()).max().unwrap_or_default();
        let mut paths = BTreeSet::new();
        for template in template.without_rest(longest + 1) {
            paths.extend(self.paths_by_models(&template, &models, besides));
        }
        paths.into_iter().collect()
    }

    fn paths_by_models(
        &self,
        template: &Template<'_>,
        models: &[Model],
        besides: &[String],
    ) -> impl Iterator<Item = String> + use<> {
        let has_values = template.0.iter().flatten().any(|piece| piece.literal().is_none());
        let stranger = self.stranger();
        let insensitive = self.options.case_insensitive;
        // The beginnings of paths, by the prefixes and rules that know them.
        let mut paths = BTreeMap::from([((0..models.len()).collect::<Vec<_>>(), String::new())]);
        for (at, pieces) in template.0.iter().enumerate() {
            let candidates = candidates(pieces, at, models, &stranger);
            let slash = if at > 0 { "/" } else { "" };
            let mut longer = BTreeMap::new();
            for (knowing, path) in &paths {
                for candidate in &candidates {
                    let begun = format!("{path}{slash}{}", candidate.written);
                    if has_values && at + 1 == template.0.len() && besides.contains(&begun) {
                        continue;
                    }
                    let knows = |model: &usize| models[*model].knows(at, &candidate.plain, insensitive);
                    let knowing: Vec<_> = knowing.iter().copied().filter(knows).collect();
                    longer.entry(knowing).or_insert(begun);
                }
            }
            paths = longer;
        }
        paths.into_values()
    }

    fn models(&self) -> Vec<Model> {
        let prefixes = self.iter().map(|listed| {
            let segments = listed.prefix.text().split('/').map(Known::text).collect();
            let is_exemption = listed.list() == PathList::Public;
            let form = if is_exemption { listed.prefix.form_of_exemption() } else { listed.prefix.form() };
            Model { segments, goes_on: form == Form::Plain }
        });
        let rules = self.rules.iter().map(|rule| {
            let segments = [Known::text("")].into_iter().chain(rule.pattern.known()).collect();
            Model { segments, goes_on: false }
        });
        let models = prefixes.chain(rules);
        models.flat_map(|model| [self.without_base(&model), self.with_base(&model), Some(model)]).flatten().collect()
    }

    /// Returns a model as paths have it from which the base path was stripped.
    fn without_base(&self, model: &Model) -> Option<Model> {
        let base: Vec<_> = self.base_path.as_deref()?.split('/').map(Known::text).collect();
        let rest = model.segments.strip_prefix(&*base)?;
        let segments = [Known::text("")].into_iter().chain(rest.iter().cloned()).collect();
        Some(Model { segments, goes_on: model.goes_on })
    }

    /// Returns a model as paths have it that have the base path before it.
    fn with_base(&self, model: &Model) -> Option<Model> {
        let base = self.base_path.as_deref()?.split('/').map(Known::text);
        let segments = base.chain(model.segments.iter().skip(1).cloned()).collect();
        Some(Model { segments, goes_on: model.goes_on })
    }

    /// Returns a text whose first character is in no prefix and no rule, nor has another case.
    fn stranger(&self) -> String {
        // Unicode's private use, which the prefixes and rules do not exhaust.
        let mut strangers = '\u{e000}'..='\u{f8ff}';
        let is_known = |char| {
            self.iter().any(|listed| listed.prefix.text().contains(char))
                || self.rules.iter().any(|rule| rule.pattern.known().any(|known| known.contains(char)))
        };
        strangers.find(|char| !is_known(*char)).unwrap_or('\u{e000}').to_string()
    }
}

impl<'a> Template<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.split('/').map(pieces).collect())
    }

    /// Returns the templates with one to `most` values in place of a rest at the end.
    fn without_rest(mut self, most: usize) -> Vec<Self> {
        if self.0.last().is_none_or(|last| **last != [Piece::Rest]) {
            return vec![self];
        }
        self.0.pop();
        let with = |count| [&*self.0, &*vec![vec![Piece::Value]; count]].concat();
        (1..=most).map(|count| Self(with(count))).collect()
    }
}

impl Known {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn contains(&self, char: char) -> bool {
        matches!(self, Self::Text(text) if text.contains(char))
    }
}

impl Model {
    /// Returns true if paths can be the model's that have this text in the place.
    fn knows(&self, at: usize, text: &str, case_insensitive: bool) -> bool {
        let Some(known) = self.segments.get(at) else { return true };
        let is_last = at + 1 == self.segments.len();
        match known {
            Known::Text(known) if case_insensitive => begins(&fold(text), &fold(known), is_last && self.goes_on),
            Known::Text(known) => begins(text, known, is_last && self.goes_on),
            parameter => parameter.takes(text),
        }
    }
}

/// Returns true if a text is the other one, or begins with it.
fn begins(text: &str, other: &str, goes_on: bool) -> bool {
    if goes_on { text.starts_with(other) } else { text == other }
}

/// Returns the texts to try in a place: a strange one, one of each type, and those that the models have there.
fn candidates(pieces: &[Piece<'_>], at: usize, models: &[Model], stranger: &str) -> Vec<Candidate> {
    if let [Piece::Typed(kind)] = pieces {
        let known = models.iter().filter_map(|model| match model.segments.get(at..).unwrap_or_default() {
            [Known::Text(last)] if model.goes_on => kind.sample_from(last),
            [Known::Text(text), ..] => Some(text.clone()).filter(|text| kind.takes(text)),
            _ => None,
        });
        return [kind.sample().to_owned()].into_iter().chain(known).map(|text| Candidate::value(&text)).collect();
    }
    let mut candidates = vec![strange(pieces, stranger)];
    candidates.extend([Kind::Uuid, Kind::Int].into_iter().filter_map(|kind| whole(pieces, kind.sample())));
    for model in models {
        match model.segments.get(at..).unwrap_or_default() {
            [Known::Text(last)] if model.goes_on => {
                let typed = [Kind::Uuid, Kind::Int].into_iter().filter_map(|kind| kind.sample_from(last));
                candidates.extend(typed.filter_map(|text| whole(pieces, &text)));
                candidates.extend(begun(pieces, last, stranger));
            }
            [Known::Text(text), ..] => candidates.extend(whole(pieces, text)),
            _ => {}
        }
    }
    candidates
}

/// Returns the segment with values that no prefix knows.
fn strange(pieces: &[Piece<'_>], stranger: &str) -> Candidate {
    let texts =
        pieces.iter().map(|piece| piece.literal().map_or_else(|| Candidate::value(stranger), Candidate::literal));
    texts.fold(Candidate::literal(""), |begin, text| begin.then(&text))
}

/// Returns the segment if it can be the model.
fn whole(pieces: &[Piece<'_>], model: &str) -> Option<Candidate> {
    let Some((piece, rest)) = pieces.split_first() else { return model.is_empty().then(|| Candidate::literal("")) };
    if let Some(text) = piece.literal() {
        return whole(rest, strip(model, text)?).map(|more| Candidate::literal(text).then(&more));
    }
    splits(model).find_map(|(text, left)| whole(rest, left).map(|more| Candidate::value(text).then(&more)))
}

/// Returns the segments that begin with the model, or are it.
fn begun(pieces: &[Piece<'_>], model: &str, stranger: &str) -> Vec<Candidate> {
    let Some((piece, rest)) = pieces.split_first() else {
        return if model.is_empty() { vec![Candidate::literal("")] } else { Vec::new() };
    };
    let then = |begin: Candidate, left: &str| {
        begun(rest, left, stranger).into_iter().map(move |more| begin.clone().then(&more))
    };
    if let Some(text) = piece.literal() {
        return match (strip(model, text), strip(text, model)) {
            (Some(left), _) => then(Candidate::literal(text), left).collect(),
            (None, Some(_)) => vec![Candidate::literal(text).then(&strange(rest, stranger))],
            (None, None) => Vec::new(),
        };
    }
    let goes_on = Candidate::value(&format!("{model}{stranger}")).then(&strange(rest, stranger));
    let ends = splits(model).flat_map(|(text, left)| then(Candidate::value(text), left));
    ends.chain([goes_on]).collect()
}

impl Candidate {
    fn literal(text: &str) -> Self {
        Self { plain: text.to_owned(), written: utf8_percent_encode(text, &IN_LITERAL).to_string() }
    }

    fn value(text: &str) -> Self {
        Self { plain: text.to_owned(), written: utf8_percent_encode(text, &IN_VALUE).to_string() }
    }

    fn then(self, more: &Self) -> Self {
        Self { plain: self.plain + &more.plain, written: self.written + &more.written }
    }
}

/// Splits a text in two in all ways.
fn splits(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.char_indices().map(|(at, char)| text.split_at(at + char.len_utf8()))
}

/// Strips a beginning as `strip_prefix` does, without case: whether that counts, the rules decide.
fn strip<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let mut chars = text.chars();
    let is_same = |a: char, b: char| a == b || fold(a.encode_utf8(&mut [0; 4])) == fold(b.encode_utf8(&mut [0; 4]));
    beginning.chars().all(|char| chars.next().is_some_and(|other| is_same(char, other))).then_some(chars.as_str())
}

impl<'a> Piece<'a> {
    fn literal(self) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Value | Self::Typed(_) | Self::Rest => None,
        }
    }
}

fn pieces(mut segment: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some((literal, (name, after))) =
        segment.split_once('{').and_then(|(literal, rest)| Some((literal, rest.split_once('}')?)))
    {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        pieces.push(match name.split_once(':') {
            Some((_, "uuid")) => Piece::Typed(Kind::Uuid),
            Some((_, "int")) => Piece::Typed(Kind::Int),
            _ if name.starts_with('*') => Piece::Rest,
            _ => Piece::Value,
        });
        segment = after;
    }
    if !segment.is_empty() {
        pieces.push(Piece::Literal(segment));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::policy::{PathOptions, Prefix, Rule, RuleSources};

    fn prefixes(texts: &[impl AsRef<str>]) -> Vec<Prefix> {
        texts.iter().map(|text| Prefix::parse(text.as_ref()).unwrap()).collect()
    }

    fn rules(access: &[&str], master: &[&str], public: &[&str], base: Option<&str>) -> Rules {
        let base = base.map(|base| Prefix::parse(base).unwrap());
        Rules::new(prefixes(master), prefixes(access), prefixes(public), base.as_ref(), PathOptions::default())
    }

    fn decisions(rules: &Rules, template: &str) -> String {
        let decisions: Vec<_> = rules.decisions(&Method::GET, template).iter().map(ToString::to_string).collect();
        decisions.join(" ")
    }

    #[test]
    fn templates_ask_for_what_their_paths_ask_for() {
        let plain = rules(&["/access", "/items/admin", "/café"], &["/master/", "/items/admin/keys"], &[], None);
        let exempt = rules(&["/"], &["/admin"], &["/health", "/docs/open"], None);
        let based = rules(&["/api/access", "/api/items/admin"], &[], &[], Some("/api"));
        for (name, rules, template, expected) in [
            ("nothing", &plain, "/health", "public"),
            ("below", &plain, "/access/{id}", "access"),
            ("a plain prefix", &plain, "/accessible/{id}", "access"),
            ("a segment", &plain, "/masterly/{id}", "public"),
            ("its segment", &plain, "/master", "master"),
            ("one value of many", &plain, "/items/{id}", "public access"),
            ("with what follows", &plain, "/items/{id}/keys", "public access master+access"),
            ("with another that follows", &plain, "/items/{id}/{part}", "public access master+access"),
            ("a value that goes on", &plain, "/items/{id}/other", "public access"),
            ("any first segment", &plain, "/{tenant}/x", "public access master"),
            ("any first two", &plain, "/{tenant}/{id}", "public access master"),
            ("a part of a segment", &plain, "/acc{rest}", "public access"),
            ("between literals", &plain, "/items/ad{x}n/keys", "public access master+access"),
            ("two in a segment", &plain, "/items/{a}m{b}", "public access"),
            ("a rest", &plain, "/items/{*path}", "public access master+access"),
            ("a rest that cannot", &plain, "/other/{*path}", "public"),
            ("beyond ASCII", &plain, "/café/{id}", "access"),
            ("a value beyond ASCII", &plain, "/{x}", "public access master"),
            ("all but some", &exempt, "/{x}", "public access master+access"),
            ("all but itself", &exempt, "/health", "public"),
            ("an exemption below", &exempt, "/docs/{page}", "public access"),
            ("all", &exempt, "/items/{id}", "access"),
            ("without its base path", &based, "/access/{id}", "access"),
            ("with its base path", &based, "/api/access/{id}", "access"),
            ("a value without its base path", &based, "/items/{id}", "public access"),
            ("no path", &plain, "access", ""),
        ] {
            assert_eq!(decisions(rules, template), expected, "{name}");
        }
    }

    #[test]
    fn rules_ask_for_what_their_paths_ask_for() {
        let rules = Rules::build(RuleSources {
            rules: vec![
                Rule::exact("/health").public(),
                Rule::prefix("/items").methods(["GET"]).optional(),
                Rule::exact("/items/{id:uuid}/image").public(),
                Rule::prefix("/items/{n:int}").deny(),
                Rule::prefix("/items/{id}/{n:int}").master(),
                Rule::prefix("/items/admin").access(),
                Rule::prefix("/files/{*rest}").public(),
                Rule::prefix("/files/a/b").deny(),
            ],
            access: prefixes(&["/items/sec"]),
            ..RuleSources::default()
        });
        let rules = rules.unwrap();
        for (template, expected) in [
            ("/health", "public"),
            ("/{x}", "public optional access"),
            ("/items", "optional"),
            ("/items/{id:uuid}", "optional"),
            ("/items/{n:int}", "deny"),
            ("/items/{id}", "optional access deny"),
            ("/items/{id:uuid}/image", "public"),
            ("/items/{id}/image", "public optional access deny"),
            ("/items/{id}/{n:int}", "master master+access"),
            ("/items/7/{n:int}", "master"),
            ("/files/{path}", "public"),
            ("/files/{a}/{b}", "public"),
            ("/files/{*path}", "public"),
            ("/{*path}", "public optional access master master+access deny"),
            ("/other/{*path}", "access"),
        ] {
            assert_eq!(decisions(&rules, template), expected, "{template}");
        }
        assert_eq!(rules.decisions(&Method::POST, "/items/{id:uuid}"), [PathDecision::Access]);
        assert_eq!(rules.decisions(&Method::POST, "/items"), [PathDecision::Access]);
    }

    #[test]
    fn rule_is_met_without_the_base_path() {
        let base_path = Some(Prefix::parse("/api").unwrap());
        let rules = vec![Rule::prefix("/api/items/{id:uuid}").public()];
        let rules = Rules::build(RuleSources { rules, base_path, ..RuleSources::default() }).unwrap();
        assert_eq!(decisions(&rules, "/items/{id}"), "access");
        // Both what it is with the base path and what it is without count.
        let opened = vec![Rule::prefix("/api/items/{id:uuid}").public(), Rule::prefix("/items/{id:uuid}").public()];
        let base_path = Some(Prefix::parse("/api").unwrap());
        let rules = Rules::build(RuleSources { rules: opened, base_path, ..RuleSources::default() }).unwrap();
        assert_eq!(decisions(&rules, "/items/{id}"), "public access");
    }

    #[test]
    fn case_counts_as_the_rules_have_it() {
        let options = PathOptions { case_insensitive: true, ..PathOptions::default() };
        let rules = Rules::new(vec![], prefixes(&["/Items/Straße"]), vec![], None, options);
        assert_eq!(decisions(&rules, "/items/{id}"), "public access");
        assert_eq!(decisions(&rules, "/ITEMS/STRASSE"), "access");
        assert_eq!(decisions(&rules, "/ITEMS/straße/{x}"), "access");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Whatever value a template is given, what it asks for was foretold, and what was foretold some value asks for.
        #[test]
        fn no_value_asks_for_anything_else(
            access in vec("(/[ab]{1,2}){1,3}/?", 0..4),
            master in vec("(/[ab]{1,2}){1,3}/?", 0..3),
            public in vec("(/[ab]{1,2}){1,3}", 0..3),
            template in "(/([ab]{1,2}|\\{x\\}|[ab]\\{x\\}|\\{x\\}[ab]|\\{x\\}b\\{x\\})){1,2}",
        ) {
            let rules = Rules::new(prefixes(&master), prefixes(&access), prefixes(&public), None, PathOptions::default());
            let foretold = rules.decisions(&Method::GET, &template);
            let mut found = BTreeSet::new();
            for path in fillings(&template) {
                let uri: Uri = path.parse().unwrap();
                let requirement = rules.requirement(&RequestLine::new(&Method::GET, &uri)).unwrap();
                let decision = PathDecision::from(requirement);
                prop_assert!(foretold.contains(&decision), "{} is {}", path, decision);
                found.insert(decision.to_string());
            }
            prop_assert_eq!(found.len(), foretold.len());
        }
    }

    fn rule(path: String, kind: u8) -> Rule {
        let rule = if kind.is_multiple_of(2) { Rule::prefix(path) } else { Rule::exact(path) };
        match kind % 5 {
            0 => rule.public(),
            1 => rule.optional(),
            2 => rule.access(),
            3 => rule.master(),
            _ => rule.deny(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The same of rules, which know types.
        #[test]
        fn no_value_asks_rules_for_anything_else(
            rules in vec(("(/([ab]{1,2}|7|\\{x\\}|\\{x:int\\})){1,3}(/\\{\\*r\\})?", 0u8..10), 1..5),
            access in vec("(/[ab7]{1,2}){1,2}/?", 0..3),
            template in "(/([ab]{1,2}|7|\\{x\\})){1,3}",
        ) {
            let rules = rules.into_iter().map(|(path, kind)| rule(path, kind)).collect();
            let sources = RuleSources { rules, access: prefixes(&access), ..RuleSources::default() };
            // Some of them tie.
            let Ok(rules) = Rules::build(sources) else { return Ok(()) };
            let foretold = rules.requirements_of(&Method::GET, &rules.paths_of(&template, &[]));
            let mut found = Vec::new();
            for path in fillings(&template) {
                let uri: Uri = path.parse().unwrap();
                let requirement = rules.requirement(&RequestLine::new(&Method::GET, &uri)).unwrap();
                prop_assert!(foretold.contains(&requirement), "{} asks for {:?}", path, requirement);
                if !found.contains(&requirement) {
                    found.push(requirement);
                }
            }
            prop_assert_eq!(found.len(), foretold.len());
        }
    }

    /// The template with every combination of values that the prefixes of the test could tell apart.
    fn fillings(template: &str) -> Vec<String> {
        const VALUES: [&str; 24] = [
            "a", "b", "aa", "ab", "ba", "bb", "z", "az", "bz", "aaz", "abz", "baz", "bbz", "7", "77", "7a", "7b", "a7",
            "b7", "7z", "77z", "7az", "a7z", "5",
        ];
        let Some((before, after)) = template.split_once("{x}") else { return vec![template.to_owned()] };
        let ends = fillings(after);
        VALUES.iter().flat_map(|value| ends.iter().map(move |end| format!("{before}{value}{end}"))).collect()
    }
}
