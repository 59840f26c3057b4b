//! The matcher: finds every rule whose text a path starts with, in one walk.

use super::{Form, RuleId};

/// The texts of all rules as a radix tree.
///
/// The cost of a look-up grows with the length of the path that the rules share, not with the number of rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Matcher {
    root: Node,
    longest: usize,
    any_case: bool,
}

/// One text to match.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) end: End,
}

/// The end of a rule's text in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) rule: RuleId,
    pub(super) form: Form,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// The bytes that all texts below share, after the key that leads here.
    label: Box<[u8]>,
    /// The rules whose texts end with the label.
    ends: Box<[End]>,
    /// The bytes that lead to the children, ascending.
    keys: Box<[u8]>,
    children: Box<[Node]>,
}

impl Matcher {
    /// Builds the tree. Rules with the same text are found in the order of their entries.
    ///
    /// With `any_case`, the texts are [folded](super::case::fold), and so are the paths; of ASCII paths, the tree itself
    /// ignores the case.
    pub(super) fn new(mut entries: Vec<Entry>, any_case: bool) -> Self {
        entries.sort_by(|a, b| a.text.cmp(&b.text));
        let longest = entries.iter().map(|entry| entry.text.len()).max().unwrap_or(0);
        Self { root: Node::new(&entries, 0), longest, any_case }
    }

    /// Returns the length of the longest text.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Returns true if no rule is met: what an open path costs.
    #[inline]
    pub(super) fn meets_nothing(&self, path: &str) -> bool {
        self.met(path).next().is_none()
    }

    /// Finds the rules that `path` meets, the shortest first.
    #[inline]
    pub(super) fn met<'a>(&'a self, path: &'a str) -> impl Iterator<Item = RuleId> + 'a {
        let mut next = Some((&self.root, path.as_bytes()));
        let nodes = std::iter::from_fn(move || {
            loop {
                let (node, rest) = next?;
                let rest = self.strip(rest, &node.label)?;
                next = rest.split_first().and_then(|(key, rest)| Some((node.child(self.cased(*key))?, rest)));
                if !node.ends.is_empty() {
                    return Some((node, matches!(rest, [] | [b'/', ..])));
                }
            }
        });
        nodes.flat_map(|(node, ends_segment)| {
            let ends = node.ends.iter().filter(move |end| end.form == Form::Plain || ends_segment);
            ends.map(|end| end.rule)
        })
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

    /// Does what `strip_prefix` does, byte by byte: labels are so short that a call of `memcmp` would cost more.
    #[inline]
    fn strip<'a>(&self, path: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
        let (head, tail) = path.split_at_checked(label.len())?;
        head.iter().zip(label).all(|(byte, wanted)| self.cased(*byte) == *wanted).then_some(tail)
    }

    #[inline]
    fn cased(&self, byte: u8) -> u8 {
        if self.any_case { byte.to_ascii_lowercase() } else { byte }
    }
}

impl Node {
    /// Builds the node of the sorted entries, which share their first `depth` bytes.
    fn new(entries: &[Entry], depth: usize) -> Self {
        let [first, .., last] = entries else {
            return entries.first().map_or_else(Self::default, |entry| Self {
                label: entry.text.as_bytes()[depth..].into(),
                ends: [entry.end].into(),
                ..Self::default()
            });
        };
        let label = shared(&first.text.as_bytes()[depth..], &last.text.as_bytes()[depth..]);
        let end = depth + label.len();
        let (ends, longer) = entries.split_at(entries.partition_point(|entry| entry.text.len() == end));
        let children: Vec<_> = longer.chunk_by(|a, b| a.text.as_bytes()[end] == b.text.as_bytes()[end]).collect();
        Self {
            label: label.into(),
            ends: ends.iter().map(|entry| entry.end).collect(),
            keys: children.iter().map(|chunk| chunk[0].text.as_bytes()[end]).collect(),
            children: children.iter().map(|chunk| Self::new(chunk, end + 1)).collect(),
        }
    }

    #[inline]
    fn child(&self, key: u8) -> Option<&Self> {
        let keys = &self.keys;
        let at = if keys.len() <= 8 { keys.iter().position(|&k| k == key) } else { keys.binary_search(&key).ok() };
        self.children.get(at?)
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

    fn matcher(entries: &[(String, bool)], any_case: bool) -> Matcher {
        let entries = entries.iter().enumerate().map(|(place, (text, segment))| Entry {
            text: text.clone(),
            end: End { rule: RuleId::new(place), form: if *segment { Form::Segment } else { Form::Plain } },
        });
        Matcher::new(entries.collect(), any_case)
    }

    /// Does what the tree must do, the plain way.
    fn meets(path: &str, text: &str, segment: bool) -> bool {
        path.strip_prefix(text).is_some_and(|rest| !segment || rest.is_empty() || rest.starts_with('/'))
    }

    #[test]
    fn empty_tree_meets_nothing() {
        assert!(Matcher::default().meets_nothing("/") && !Matcher::default().is_above("/"));
        assert_eq!(Matcher::new(vec![], false).met("/").count(), 0);
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
            let met: Vec<_> = matcher.met(&written).map(RuleId::place).collect();
            prop_assert_eq!(&met, &expected);
            prop_assert_eq!(matcher.meets_nothing(&written), expected.is_empty());
            let below = format!("{path}/");
            prop_assert_eq!(matcher.is_above(&written), entries.iter().any(|(text, _)| text.starts_with(&below)));
        }
    }
}
