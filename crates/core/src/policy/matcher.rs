//! The matcher: finds every prefix, and every rule by its literal beginning, that a path starts with, in one walk.

use super::{
    Form,
    entry::{End, Entry},
    pattern::Spelling,
    tails::{Look, Name, Steps, Tails},
};

/// The texts of all rules as a radix tree, behind a filter of their first bytes.
///
/// The cost of a look-up grows with the part of the path that is shared with the rules, not with the number of rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Matcher {
    heads: Heads,
    root: Node,
    longest: usize,
    any_case: bool,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// The bytes that all texts below share, after the key that leads here.
    label: Box<[u8]>,
    /// The rules whose texts end with the label.
    ends: Box<[End]>,
    /// The same of those that have parameters.
    tails: Option<Box<Tails>>,
    /// The bytes that lead to the children, ascending.
    keys: Box<[u8]>,
    children: Box<[Node]>,
}

impl Matcher {
    /// Builds the tree. Rules with the same text are found in the order of their entries.
    ///
    /// With `any_case`, the texts are [folded](super::case::fold), and so are the paths; of ASCII paths, the tree itself
    /// ignores the case. So much of a path is folded as the longest text has, and at least `longest` bytes.
    pub(super) fn new(mut entries: Vec<Entry>, any_case: bool, longest: usize) -> Self {
        entries.sort_by(|a, b| a.text.cmp(&b.text).then_with(|| a.tail.cmp(&b.tail)));
        let longest = entries.iter().map(|entry| entry.text.len()).fold(longest, usize::max);
        Self { heads: Heads::new(&entries), root: Node::new(&entries, 0), longest, any_case }
    }

    /// Returns the number of bytes of a path that are compared.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Returns true if an ASCII path meets no rule for certain. It is most of what an open path costs.
    #[inline]
    pub(super) fn rules_out(&self, path: &str) -> bool {
        !self.heads.has(path.as_bytes())
    }

    /// Visits the rules without parameters that `path` meets, the shortest first.
    #[inline]
    pub(super) fn visit(&self, path: &str, mut met: impl FnMut(&End)) {
        self.walk(path, |node, tail| node.met(tail).for_each(&mut met));
    }

    /// Visits the same, and all rules with parameters that `path` may meet.
    #[inline]
    pub(super) fn visit_all(&self, path: &str, steps: &Steps, mut met: impl FnMut(&End)) {
        self.walk(path, |node, tail| {
            node.met(tail).for_each(&mut met);
            if let Some(tails) = node.tails_of(tail) {
                tails.visit(&path[path.len() - tail.len()..], self.look(steps), &mut met);
            }
        });
    }

    /// Visits the rules with parameters that `path` meets if one of these stands for an empty segment. Without its empty
    /// segments, it is `merged`. Tells whether a rule may end where the path does.
    pub(super) fn visit_empty(&self, path: &str, merged: &str, steps: &Steps, mut met: impl FnMut(&End, bool)) {
        let names = Name::all(path);
        self.walk(merged, |node, tail| {
            if let Some(tails) = node.tails_of(tail) {
                let passed = merged[..merged.len() - tail.len()].matches('/').count();
                tails.visit_empty(&names, passed, self.look(steps), &mut met);
            }
        });
    }

    /// Returns true if a rule with parameters is for paths below `path`.
    pub(super) fn has_parameter_below(&self, path: &str, steps: &Steps) -> bool {
        let mut found = false;
        self.walk(path, |node, tail| {
            let tails = node.tails_of(tail);
            found |= tails.is_some_and(|tails| tails.go_below(&path[path.len() - tail.len()..], self.look(steps)));
        });
        found
    }

    fn look<'a>(&self, steps: &'a Steps) -> Look<'a> {
        Look { spelling: if self.any_case { Spelling::Folded } else { Spelling::Plain }, steps }
    }

    /// Visits the nodes whose texts `path` begins with, and what follows.
    #[inline]
    fn walk(&self, path: &str, met: impl FnMut(&Node, &[u8])) {
        if self.any_case {
            self.walk_cased(path, |byte| byte.to_ascii_lowercase(), met);
        } else {
            self.walk_cased(path, |byte| byte, met);
        }
    }

    #[inline]
    fn walk_cased(&self, path: &str, cased: impl Fn(u8) -> u8, mut met: impl FnMut(&Node, &[u8])) {
        let mut node = &self.root;
        let mut rest = path.as_bytes();
        loop {
            let Some((head, tail)) = rest.split_at_checked(node.label.len()) else { return };
            // Labels are so short that a call of `memcmp` would cost more.
            if head.iter().zip(&node.label).any(|(byte, wanted)| cased(*byte) != *wanted) {
                return;
            }
            met(node, tail);
            let Some((key, tail)) = tail.split_first() else { return };
            let Some(child) = node.child(cased(*key)) else { return };
            node = child;
            rest = tail;
        }
    }

    /// Returns true if a text goes on with a slash where `path` ends.
    pub(super) fn is_above(&self, path: &str) -> bool {
        let mut node = &self.root;
        let mut rest = path.as_bytes();
        loop {
            if rest.len() < node.label.len() {
                let (shared, more) = node.label.split_at(rest.len());
                return more.starts_with(b"/") && self.strip(rest, shared).is_some();
            }
            let Some(tail) = self.strip(rest, &node.label) else { return false };
            let Some((key, tail)) = tail.split_first() else { return node.child(b'/').is_some() };
            let Some(child) = node.child(self.cased(*key)) else { return false };
            node = child;
            rest = tail;
        }
    }

    /// Strips a label as `strip_prefix` does.
    fn strip<'a>(&self, path: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
        let (head, tail) = path.split_at_checked(label.len())?;
        head.iter().zip(label).all(|(byte, wanted)| self.cased(*byte) == *wanted).then_some(tail)
    }

    fn cased(&self, byte: u8) -> u8 {
        if self.any_case { byte.to_ascii_lowercase() } else { byte }
    }
}

impl Node {
    /// Builds the node of the sorted entries, which share their first `depth` bytes.
    fn new(entries: &[Entry], depth: usize) -> Self {
        let Some(first) = entries.first() else { return Self::default() };
        let last = entries.last().unwrap_or(first);
        let label = shared(&first.text.as_bytes()[depth..], &last.text.as_bytes()[depth..]);
        let end = depth + label.len();
        let (ends, longer) = entries.split_at(entries.partition_point(|entry| entry.text.len() == end));
        let children: Vec<_> = longer.chunk_by(|a, b| a.text.as_bytes()[end] == b.text.as_bytes()[end]).collect();
        let (ends, tails): (Vec<_>, Vec<_>) = ends.iter().partition(|entry| entry.tail.is_empty());
        Self {
            label: label.into(),
            ends: ends.iter().map(|entry| entry.end).collect(),
            tails: (!tails.is_empty()).then(|| Tails::new(&tails, 0).into()),
            keys: children.iter().map(|chunk| chunk[0].text.as_bytes()[end]).collect(),
            children: children.iter().map(|chunk| Self::new(chunk, end + 1)).collect(),
        }
    }

    /// Returns the rules without parameters that end here and are met if a path goes on like this.
    #[inline]
    fn met(&self, tail: &[u8]) -> impl Iterator<Item = &End> {
        let is_segment = matches!(tail, [] | [b'/', ..]);
        self.ends.iter().filter(move |end| is_segment || end.form == Form::Plain)
    }

    /// Returns those with parameters.
    #[inline]
    fn tails_of(&self, tail: &[u8]) -> Option<&Tails> {
        self.tails.as_deref().filter(|_| matches!(tail, [] | [b'/', ..]))
    }

    #[inline]
    fn child(&self, key: u8) -> Option<&Self> {
        let keys = &self.keys;
        let at = if keys.len() <= 8 { keys.iter().position(|&k| k == key) } else { keys.binary_search(&key).ok() };
        self.children.get(at?)
    }
}

/// The first bytes of all texts, as many as the shortest has, at most eight: a bit for each. It saves most open paths the way
/// through the tree, without which they would cost a quarter more.
#[derive(Debug, Clone, Default)]
struct Heads {
    mask: u64,
    /// Their number is a power of two.
    blocks: Box<[u64]>,
}

impl Heads {
    fn new(entries: &[Entry]) -> Self {
        let shortest = entries.iter().map(|entry| entry.text.len()).min().unwrap_or(0);
        let mask = u64::MAX.checked_shr(8_usize.saturating_sub(shortest) as u32 * 8).unwrap_or(0);
        let mut heads = Self { mask, blocks: vec![0; (entries.len() / 4 + 1).next_power_of_two()].into() };
        for entry in entries {
            let (at, bit) = heads.place(entry.text.as_bytes());
            heads.blocks[at] |= bit;
        }
        heads
    }

    /// Returns false if no text begins as an ASCII path does. Case does not count.
    #[inline]
    fn has(&self, path: &[u8]) -> bool {
        let (at, bit) = self.place(path);
        self.blocks.get(at).is_some_and(|block| block & bit != 0)
    }

    #[inline]
    fn place(&self, text: &[u8]) -> (usize, u64) {
        const NO_CASE: u64 = u64::from_le_bytes([0x20; 8]);
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let hash = ((first_word(text) | NO_CASE) & self.mask).wrapping_mul(ODD);
        ((hash >> 32) as usize & self.blocks.len().wrapping_sub(1), 1 << (hash >> 58))
    }
}

/// Returns the first eight bytes, with zeros for those that are missing.
#[inline]
fn first_word(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Returns the bytes that both texts begin with.
fn shared<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let len = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    &a[..len]
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::policy::{PathList, RuleId};

    fn matcher(entries: &[(String, bool)], any_case: bool) -> Matcher {
        let entries = entries.iter().enumerate().map(|(place, (text, segment))| Entry {
            text: text.clone(),
            tail: vec![],
            end: End {
                rule: RuleId::new(place),
                list: Some(PathList::Access),
                form: if *segment { Form::Segment } else { Form::Plain },
                rank: 0,
            },
        });
        Matcher::new(entries.collect(), any_case, 0)
    }

    fn met(matcher: &Matcher, path: &str) -> Vec<usize> {
        let mut met = Vec::new();
        matcher.visit(path, |end| met.push(end.rule.place()));
        met
    }

    /// Does what the tree must do, the plain way.
    fn meets(path: &str, text: &str, segment: bool) -> bool {
        path.strip_prefix(text).is_some_and(|rest| !segment || rest.is_empty() || rest.starts_with('/'))
    }

    #[test]
    fn empty_tree_meets_nothing() {
        for empty in [Matcher::default(), Matcher::new(vec![], false, 0)] {
            assert!(empty.rules_out("/") && !empty.is_above("/") && met(&empty, "/").is_empty());
        }
    }

    #[test]
    fn most_open_paths_are_ruled_out_by_their_first_bytes() {
        let entries: Vec<_> = (0..10_000).map(|number| (format!("/access{number}/area"), false)).collect();
        let matcher = matcher(&entries, false);
        let out = (0..10_000).filter(|number| matcher.rules_out(&format!("/api/v1/items/{number}"))).count();
        assert_eq!(out, 10_000);
        let out = (0..10_000).filter(|number| matcher.rules_out(&format!("/{number}/items"))).count();
        assert!(out > 9_000, "{out}");
    }

    proptest! {
        #[test]
        fn tree_agrees_with_starts_with(
            entries in vec(("/[ab\u{e9}/]{0,4}", any::<bool>()), 0..30),
            more in prop_oneof![
                9 => vec(("/[a-z]{0,2}", any::<bool>()), 0..30),
                1 => vec((100..999_u32, any::<bool>()), 1_000..2_000).prop_map(|numbers| {
                    numbers.iter().map(|(number, segment)| (format!("/{number}/a"), *segment)).collect()
                }),
            ],
            path in "/([a-c\u{e9}/]{0,9}|[0-9]{3}/a[a/]?)",
            any_case: bool,
        ) {
            let entries = [entries, more].concat();
            let matcher = matcher(&entries, any_case);
            let mut expected: Vec<_> =
                (0..entries.len()).filter(|&place| meets(&path, &entries[place].0, entries[place].1)).collect();
            // The shortest first, and those of the same length as they were given.
            expected.sort_by_key(|place| entries[*place].0.len());
            let written = if any_case { path.to_ascii_uppercase() } else { path.clone() };
            prop_assert!(expected.is_empty() || !matcher.rules_out(&written));
            prop_assert_eq!(met(&matcher, &written), expected);
            let below = format!("{path}/");
            prop_assert_eq!(matcher.is_above(&written), entries.iter().any(|(text, _)| text.starts_with(&below)));
        }
    }
}
