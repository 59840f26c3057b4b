//! Many prefixes against one path, in one walk.

use std::{collections::VecDeque, ops::Range};

use super::{
    prefix::Form,
    readings::{first_mask, first_word},
};

/// So few prefixes are looked at one by one, by their first words, which is sooner done than a walk.
const FEW: usize = 16;

/// One prefix of a [`PrefixSet`], and what it stands for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) form: Form,
    /// The bits that a path gets by meeting this prefix.
    pub(super) mark: u8,
    /// How much of a path it takes in: where a guard and an exemption are met, the deeper one wins.
    pub(super) depth: usize,
    /// What the owner knows the prefix by.
    pub(super) id: usize,
}

/// A set of prefixes as a radix tree in flat arrays: the cost of a look-up grows with the length of the path, and not
/// with the number of prefixes.
#[derive(Debug, Clone, Default)]
pub(super) struct PrefixSet {
    /// Sorted by text.
    entries: Vec<Entry>,
    /// Their first words, each with the bits that count, where there are [few](FEW) of them.
    heads: Vec<(u64, u64)>,
    /// How long the longest of them is.
    longest: usize,
    /// Breadth first, so that the children of a node stand side by side.
    nodes: Vec<Node>,
    /// For each node, the byte that leads to it.
    keys: Vec<u8>,
    /// The bytes that nodes share, end to end.
    labels: Vec<u8>,
}

impl Entry {
    #[inline]
    fn is_met_by(&self, path: &str) -> bool {
        let Some(rest) = path.as_bytes().strip_prefix(self.text.as_bytes()) else { return false };
        self.form == Form::Plain || rest.is_empty() || rest.starts_with(b"/")
    }
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// What the path must go on with, after the key.
    label: Range<u32>,
    children: Range<u32>,
    /// The entries that end here.
    ends: Range<u32>,
    /// The marks of those that are plain, and of those in the segment form.
    plain: u8,
    segment: u8,
}

impl PrefixSet {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.text.cmp(&b.text));
        let longest = entries.iter().map(|entry| entry.text.len()).max().unwrap_or_default();
        let head = |entry: &Entry| (first_word(entry.text.as_bytes()), first_mask(entry.text.len()));
        let mut set = Self { entries, longest, ..Self::default() };
        if set.has_few() {
            set.heads = set.entries.iter().map(head).collect();
        }
        set.build();
        set
    }

    /// How long the longest prefix is.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn has_few(&self) -> bool {
        self.entries.len() <= FEW
    }

    /// The marks of all prefixes, as if a path met each of them.
    pub(super) fn all_marks(&self) -> u8 {
        self.entries.iter().fold(0, |marks, entry| marks | entry.mark)
    }

    /// The marks of the prefixes that `path` meets.
    pub(super) fn marks(&self, path: &str) -> u8 {
        if self.has_few() {
            let first = first_word(path.as_bytes());
            let begin_alike =
                self.heads.iter().zip(&self.entries).filter(|((head, mask), _)| (first ^ head) & mask == 0);
            let met = begin_alike.map(|(_, entry)| entry).filter(|entry| entry.is_met_by(path));
            return met.fold(0, |marks, entry| marks | entry.mark);
        }
        let mut marks = 0;
        self.walk(path, |node, at_end_of_segment| {
            marks |= node.plain | if at_end_of_segment { node.segment } else { 0 };
        });
        marks
    }

    /// The prefixes that `path` meets, shortest first.
    pub(super) fn met(&self, path: &str) -> Vec<&Entry> {
        let mut met = Vec::new();
        self.walk(path, |node, at_end_of_segment| {
            let ends = &self.entries[range(&node.ends)];
            met.extend(ends.iter().filter(|entry| entry.form == Form::Plain || at_end_of_segment));
        });
        met
    }

    /// The depth of the deepest prefix that `path` meets.
    pub(super) fn depth(&self, path: &str) -> Option<usize> {
        if self.has_few() {
            return self.entries.iter().filter(|entry| entry.is_met_by(path)).map(|entry| entry.depth).max();
        }
        let mut deepest = None;
        self.walk(path, |node, at_end_of_segment| {
            let ends = self.entries[range(&node.ends)].iter();
            let met = ends.filter(|entry| entry.form == Form::Plain || at_end_of_segment);
            deepest = deepest.max(met.map(|entry| entry.depth).max());
        });
        deepest
    }

    /// The shortest prefix with this mark and so deep that `path` meets, as the owner knows it.
    pub(super) fn first(&self, path: &str, mark: u8, depth: usize) -> Option<usize> {
        let mut first = None;
        self.walk(path, |node, at_end_of_segment| {
            let marks = node.plain | if at_end_of_segment { node.segment } else { 0 };
            if first.is_none() && marks & mark != 0 {
                let with_mark = self.entries[range(&node.ends)].iter().filter(|entry| entry.mark & mark != 0);
                let mut met = with_mark.filter(|entry| entry.form == Form::Plain || at_end_of_segment);
                first = met.find(|entry| entry.depth >= depth).map(|entry| entry.id);
            }
        });
        first
    }

    /// As much of a path as can count, in whatever way its characters are folded: each leaves a byte at least.
    pub(super) fn head<'a>(&self, path: &'a str) -> &'a str {
        path.char_indices().nth(self.longest + 1).map_or(path, |(end, _)| &path[..end])
    }

    /// Whether a prefix is below `path`, by whole segments.
    pub(super) fn is_above(&self, path: &str) -> bool {
        let goes_on = |entry: &Entry| entry.text.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let below = (path.bytes().chain([b'/'])).collect::<Vec<_>>();
        let first = self.entries.partition_point(|entry| entry.text.as_bytes() < &*below);
        self.entries.get(first).is_some_and(goes_on)
    }

    /// Visits each node whose text `path` starts with, and says whether a segment ends there.
    #[inline]
    fn walk<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a Node, bool)) {
        let mut rest = path.as_bytes();
        let mut next = self.nodes.first();
        while let Some(node) = next {
            let Some(tail) = strip(rest, &self.labels[range(&node.label)]) else { return };
            let Some((&key, tail)) = tail.split_first() else { return visit(node, true) };
            visit(node, key == b'/');
            next = self.child(node, key);
            rest = tail;
        }
    }

    #[inline]
    fn child(&self, node: &Node, key: u8) -> Option<&Node> {
        let children = range(&node.children);
        let keys = &self.keys[children.clone()];
        let at = if keys.len() <= 8 { keys.iter().position(|&k| k == key) } else { keys.binary_search(&key).ok() };
        self.nodes[children].get(at?)
    }

    fn build(&mut self) {
        let mut pending = VecDeque::new();
        if !self.entries.is_empty() {
            self.reserve(0, 0..self.entries.len(), 0, &mut pending);
        }
        while let Some(work) = pending.pop_front() {
            self.build_node(work, &mut pending);
        }
    }

    /// Makes room for the node of the entries in `range`, which share their first `depth` bytes.
    fn reserve(&mut self, key: u8, entries: Range<usize>, depth: usize, pending: &mut VecDeque<Pending>) {
        pending.push_back(Pending { node: self.nodes.len(), entries, depth });
        self.nodes.push(Node::default());
        self.keys.push(key);
    }

    fn build_node(&mut self, work: Pending, pending: &mut VecDeque<Pending>) {
        let Pending { node, entries, depth } = work;
        let of_node = &self.entries[entries.clone()];
        let label = shared(&of_node[0].text.as_bytes()[depth..], &of_node[of_node.len() - 1].text.as_bytes()[depth..]);
        let depth = depth + label.len();
        let ends = of_node.partition_point(|entry| entry.text.len() == depth);
        let marks = |form| of_node[..ends].iter().filter(|e| e.form == form).fold(0, |marks, e| marks | e.mark);
        let children: Vec<_> = of_node[ends..]
            .chunk_by(|a, b| a.text.as_bytes()[depth] == b.text.as_bytes()[depth])
            .map(|chunk| (chunk[0].text.as_bytes()[depth], chunk.len()))
            .collect();

        let (plain, segment) = (marks(Form::Plain), marks(Form::Segment));
        let label_at = self.labels.len();
        self.labels.extend_from_slice(label);
        let (label, ends) = (label_at..self.labels.len(), entries.start..entries.start + ends);
        let first_child = self.nodes.len();
        let mut start = ends.end;
        for (key, count) in children {
            self.reserve(key, start..start + count, depth + 1, pending);
            start += count;
        }
        let children = narrow(first_child..self.nodes.len());
        self.nodes[node] = Node { label: narrow(label), children, ends: narrow(ends), plain, segment };
    }
}

/// A node that is yet to be built.
struct Pending {
    node: usize,
    entries: Range<usize>,
    depth: usize,
}

/// What both texts begin with.
fn shared<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let len = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    &a[..len]
}

/// As `strip_prefix`, byte by byte: labels are so short that a call of `memcmp` would cost more.
#[inline]
fn strip<'a>(path: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = path.split_at_checked(label.len())?;
    head.iter().zip(label).all(|(a, b)| a == b).then_some(tail)
}

#[inline]
fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// A configuration of four thousand million bytes of prefixes cannot be; if it were, the arrays' bounds would be hit.
fn narrow(range: Range<usize>) -> Range<u32> {
    let narrow = |at| u32::try_from(at).unwrap_or(u32::MAX);
    narrow(range.start)..narrow(range.end)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn set(entries: &[(String, bool)]) -> PrefixSet {
        let form = |segment| if segment { Form::Segment } else { Form::Plain };
        let entry = |(id, (text, segment)): (usize, &(String, bool))| Entry {
            text: text.clone(),
            form: form(*segment),
            mark: 1 << (id % 8),
            depth: text.len(),
            id,
        };
        PrefixSet::new(entries.iter().enumerate().map(entry).collect())
    }

    /// What the tree must do, said the plain way.
    fn meets(path: &str, text: &str, segment: bool) -> bool {
        path.strip_prefix(text).is_some_and(|rest| !segment || rest.is_empty() || rest.starts_with('/'))
    }

    #[test]
    fn empty_sets_meet_nothing() {
        assert_eq!(PrefixSet::default().marks("/"), 0);
        assert!(PrefixSet::new(vec![]).met("/").is_empty());
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_starts_with(
            entries in vec(("/[ab\u{e9}/]{0,4}", any::<bool>()), 0..30),
            more in prop_oneof![
                9 => vec(("/[a-z]{0,2}", any::<bool>()), 0..30),
                1 => vec((100..999_u32, any::<bool>()), 1_000..2_000).prop_map(|numbers| {
                    numbers.iter().map(|(number, segment)| (format!("/{number}/a"), *segment)).collect()
                }),
            ],
            path in "/([a-c\u{e9}/]{0,9}|[0-9]{3}/a[a/]?)",
        ) {
            let entries = [entries, more].concat();
            let set = set(&entries);
            let expected: Vec<_> =
                (0..entries.len()).filter(|&id| meets(&path, &entries[id].0, entries[id].1)).collect();
            let mut met: Vec<_> = set.met(&path).iter().map(|entry| entry.id).collect();
            met.sort_unstable();
            prop_assert_eq!(set.marks(&path), expected.iter().fold(0, |marks, id| marks | 1 << (id % 8)));
            for mark in (0..8).map(|bit| 1 << bit) {
                let first = set.met(&path).iter().find(|entry| entry.mark == mark).map(|entry| entry.id);
                prop_assert_eq!(set.first(&path, mark, 0), first);
            }
            prop_assert_eq!(set.depth(&path), expected.iter().map(|id| entries[*id].0.len()).max());
            prop_assert_eq!(met, expected);
        }
    }
}
