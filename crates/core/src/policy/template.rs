//! Decides on the paths of a template, such as `/items/{id}`.
//!
//! A path meets a prefix by what it begins with, and of the prefixes that it meets, the longest one tells what the others
//! are. So it is enough to try, for each prefix, the paths of the template that begin with it, once ending a segment there
//! and once going on, and the path whose values no prefix knows: the rules themselves decide on each, and no other path
//! gets another answer.

use std::collections::BTreeSet;

use http::{Method, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{PathDecision, RequestLine, Rules, case::fold};

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

#[derive(Clone, Copy)]
enum Piece<'a> {
    Literal(&'a str),
    /// `{id}`: some text without a slash.
    Value,
    /// `{*path}`: some segments.
    Rest,
}

impl Rules {
    /// Returns the decisions on the paths of a template: one if all of them ask for the same.
    ///
    /// A value is taken literally. One that another reading makes a path of, such as `..%2faccess`, asks for more below any
    /// template, and does not count here.
    pub fn decisions(&self, method: &Method, template: &str) -> Vec<PathDecision> {
        use PathDecision as Decision;
        let template = Template::parse(template);
        let stranger = self.stranger();
        let mut paths: BTreeSet<_> = template.paths(&[], &stranger).into_iter().collect();
        let models = self.iter().flat_map(|rule| self.as_requested(rule.prefix.text()));
        for model in models.filter(|_| template.has_values()) {
            paths.extend(template.paths(&model.split('/').collect::<Vec<_>>(), &stranger));
        }
        let found: Vec<_> = paths.iter().filter_map(|path| self.decision(method, path)).collect();
        let all = [Decision::Public, Decision::Access, Decision::Master, Decision::MasterAndAccess];
        all.into_iter().filter(|decision| found.contains(decision)).collect()
    }

    fn decision(&self, method: &Method, path: &str) -> Option<PathDecision> {
        let uri: Uri = path.parse().ok()?;
        self.requirement(&RequestLine::new(method, &uri)).ok().map(PathDecision::from)
    }

    /// Returns a prefix as paths may begin, with the base path and without.
    fn as_requested<'a>(&self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let stripped = self.base_path.as_deref().and_then(|base| prefix.strip_prefix(base));
        [Some(prefix), stripped].into_iter().flatten()
    }

    /// Returns a text whose first character is in no prefix, nor has another case.
    fn stranger(&self) -> String {
        // Unicode's private use, which the prefixes do not exhaust.
        let mut strangers = '\u{e000}'..='\u{f8ff}';
        let is_known = |char| self.iter().any(|rule| rule.prefix.text().contains(char));
        strangers.find(|char| !is_known(*char)).unwrap_or('\u{e000}').to_string()
    }
}

impl<'a> Template<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.split('/').map(pieces).collect())
    }

    fn has_values(&self) -> bool {
        self.0.iter().flatten().any(|piece| !matches!(piece, Piece::Literal(_)))
    }

    /// Returns the paths that begin as the model does, as far as they can; all other values are strangers. Each goes on in
    /// another way right after the model.
    fn paths(&self, model: &[&str], stranger: &str) -> Vec<String> {
        let mut paths = vec![String::new()];
        for (at, pieces) in self.0.iter().enumerate() {
            let segments = match model.get(at..).unwrap_or_default() {
                [] => Vec::new(),
                rest if matches!(**pieces, [Piece::Rest]) => rests(rest, stranger),
                [last] => begun(pieces, last, stranger),
                [segment, ..] => whole(pieces, segment).into_iter().collect(),
            };
            let segments = if segments.is_empty() { vec![strange(pieces, stranger)] } else { segments };
            let slash = if at > 0 { "/" } else { "" };
            paths = paths.iter().flat_map(|path| segments.iter().map(move |s| format!("{path}{slash}{s}"))).collect();
        }
        paths
    }
}

/// Returns the segment with values that no prefix knows.
fn strange(pieces: &[Piece<'_>], stranger: &str) -> String {
    pieces.iter().map(|piece| piece.literal().map_or_else(|| value(stranger), literal)).collect()
}

/// Returns the segment if it can be the model.
fn whole(pieces: &[Piece<'_>], model: &str) -> Option<String> {
    let Some((piece, rest)) = pieces.split_first() else { return model.is_empty().then(String::new) };
    if let Some(text) = piece.literal() {
        return whole(rest, strip(model, text)?).map(|more| literal(text) + &more);
    }
    splits(model).find_map(|(text, left)| whole(rest, left).map(|more| value(text) + &more))
}

/// Returns the segments that begin with the model, or are it.
fn begun(pieces: &[Piece<'_>], model: &str, stranger: &str) -> Vec<String> {
    let Some((piece, rest)) = pieces.split_first() else {
        return if model.is_empty() { vec![String::new()] } else { Vec::new() };
    };
    let then =
        |text: String, left: &str| begun(rest, left, stranger).into_iter().map(move |more| format!("{text}{more}"));
    if let Some(text) = piece.literal() {
        return match (strip(model, text), strip(text, model)) {
            (Some(left), _) => then(literal(text), left).collect(),
            (None, Some(_)) => vec![literal(text) + &strange(rest, stranger)],
            (None, None) => Vec::new(),
        };
    }
    let goes_on = value(model) + &value(stranger) + &strange(rest, stranger);
    let ends = splits(model).flat_map(|(text, left)| then(value(text), left));
    ends.chain([goes_on]).collect()
}

/// Returns the rests that begin with the model, or are it.
fn rests(model: &[&str], stranger: &str) -> Vec<String> {
    let text: Vec<_> = model.iter().map(|segment| value(segment)).collect();
    let text = text.join("/");
    let goes_on = format!("{text}{}", value(stranger));
    if text.is_empty() { vec![goes_on] } else { vec![text, goes_on] }
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

fn literal(text: &str) -> String {
    utf8_percent_encode(text, &IN_LITERAL).to_string()
}

fn value(text: &str) -> String {
    utf8_percent_encode(text, &IN_VALUE).to_string()
}

impl<'a> Piece<'a> {
    fn literal(self) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Value | Self::Rest => None,
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
        pieces.push(if name.starts_with('*') { Piece::Rest } else { Piece::Value });
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
    use crate::policy::{PathOptions, Prefix};

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
                let decision = rules.decision(&Method::GET, &path).unwrap();
                prop_assert!(foretold.contains(&decision), "{} is {}", path, decision);
                found.insert(decision.to_string());
            }
            prop_assert_eq!(found.len(), foretold.len());
        }
    }

    /// The template with every combination of values that the prefixes of the test could tell apart.
    fn fillings(template: &str) -> Vec<String> {
        const VALUES: [&str; 13] = ["a", "b", "aa", "ab", "ba", "bb", "z", "az", "bz", "aaz", "abz", "baz", "bbz"];
        let Some((before, after)) = template.split_once("{x}") else { return vec![template.to_owned()] };
        let ends = fillings(after);
        VALUES.iter().flat_map(|value| ends.iter().map(move |end| format!("{before}{value}{end}"))).collect()
    }
}
