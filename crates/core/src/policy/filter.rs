//! Which paths meet no prefix, told at once and nearly always.

use super::readings::{each, first_mask, first_word, last_word, word};

/// How many lengths are looked at, whatever the prefixes are: it bounds the time.
const MAX_LENGTHS: usize = 16;

/// Rules out that a path meets one of many prefixes; what it does not rule out, the prefixes themselves decide.
///
/// It is a Bloom filter. First the path's beginning is looked up, as far as the shortest prefix goes, at most one word:
/// that rules most paths out. Then, unless there are so few that they are looked at themselves, for each length that a
/// prefix has, so much of the path. The cost depends on these
/// lengths, and not on the number of prefixes. The case of ASCII never counts here, as it may not count there.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    /// The bits of a path's first word that each prefix has.
    head: u64,
    /// Ascending. For a prefix whose length is not among them, the next lower one stands.
    lengths: Vec<usize>,
    /// Their number is a power of two. Each text has two bits in one of them.
    blocks: Vec<u64>,
}

impl Filter {
    pub(super) fn new(prefixes: &[&str]) -> Self {
        let mut lengths: Vec<_> = prefixes.iter().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let blocks = (prefixes.len() / 2 + 1).next_power_of_two();
        let head = first_mask(lengths.first().copied().unwrap_or_default());
        let mut filter = Self { head, lengths: thinned(&lengths), blocks: vec![0; blocks] };
        for prefix in prefixes {
            let text = prefix.as_bytes();
            let whole = filter.keys(text).last();
            [Some(filter.head_key(text)), whole].into_iter().flatten().for_each(|key| filter.put(key));
        }
        filter
    }

    /// Whether the path meets no prefix for sure, given that it is ASCII or that case counts: by its first word alone.
    #[inline]
    pub(super) fn rules_out_head(&self, path: &[u8]) -> bool {
        !self.holds(self.head_key(path))
    }

    /// The same by as much of it as the prefixes are long.
    pub(super) fn rules_out(&self, path: &[u8]) -> bool {
        !self.keys(path).any(|key| self.holds(key))
    }

    #[inline]
    fn head_key(&self, text: &[u8]) -> u64 {
        const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
        mix(SEED, first_word(text), self.head)
    }

    /// What stands for the beginnings of the text, one for each length.
    #[inline]
    fn keys(&self, text: &[u8]) -> impl Iterator<Item = u64> {
        let (mut words, mut hash, mut hashed) = (text.as_chunks().0.iter(), 0, 0);
        let lengths = self.lengths.iter().take_while(|&&len| len <= text.len());
        lengths.map(move |&len| {
            while hashed + 8 < len {
                hash = mix(hash, words.next().map_or(0, word), u64::MAX);
                hashed += 8;
            }
            mix(hash, last_word(&text[..len]), u64::MAX)
        })
    }

    fn put(&mut self, key: u64) {
        let (at, bits) = self.place(key);
        self.blocks[at] |= bits;
    }

    #[inline]
    fn holds(&self, key: u64) -> bool {
        let (at, bits) = self.place(key);
        self.blocks.get(at).is_none_or(|block| block & bits == bits)
    }

    #[inline]
    fn place(&self, key: u64) -> (usize, u64) {
        let at = (key >> 32) as usize & (self.blocks.len() - 1);
        (at, 1 << (key & 63) | 1 << (key >> 6 & 63))
    }
}

/// As many of the lengths as are looked at, the shortest among them.
fn thinned(lengths: &[usize]) -> Vec<usize> {
    let count = lengths.len().min(MAX_LENGTHS);
    (0..count).map(|at| lengths[at * lengths.len() / count]).collect()
}

/// One more word of a text in its hash: so much of the word as the mask leaves, without its case. By a folded product,
/// since all bits of a word count in all bits of that.
#[inline]
fn mix(hash: u64, word: u64, mask: u64) -> u64 {
    const FACTOR: u128 = 0xa076_1d64_78bd_642f;
    let product = u128::from(hash ^ ((word | each(0x20)) & mask)) * FACTOR;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn filter(prefixes: &[String]) -> Filter {
        Filter::new(&prefixes.iter().map(|prefix| &**prefix).collect::<Vec<_>>())
    }

    fn rules_out(filter: &Filter, path: &[u8]) -> bool {
        filter.rules_out_head(path) || filter.rules_out(path)
    }

    /// How many of the paths are ruled out.
    fn ruled_out(filter: &Filter, paths: impl Iterator<Item = String>) -> usize {
        paths.filter(|path| rules_out(filter, path.as_bytes())).count()
    }

    #[test]
    fn without_prefixes_all_is_ruled_out() {
        assert!(rules_out(&filter(&[]), b"/") && rules_out(&filter(&[]), b"/a/rather/long/path"));
        let root = filter(&["/".to_owned()]);
        assert!(!rules_out(&root, b"/") && !rules_out(&root, b"/health"));
    }

    #[test]
    fn nearly_all_that_meets_nothing_is_ruled_out() {
        let prefixes: Vec<_> = (0..10_000).map(|number| format!("/access{number}/area")).collect();
        let filter = filter(&prefixes);
        let beside = ruled_out(&filter, (0..10_000).map(|number| format!("/access{number}/open/to/all")));
        assert!(beside > 9_500, "{beside} of those with the stem of a prefix");
        let others = ruled_out(&filter, (0..10_000).map(|number| format!("/api/v1/items/{number}")));
        assert!(others > 9_500, "{others} of those that share nothing");
    }

    #[test]
    fn any_number_of_lengths_is_looked_at_in_a_few() {
        let prefixes: Vec<_> = (1..2_000).map(|length| format!("/tenant/{}", "x".repeat(length))).collect();
        let filter = filter(&prefixes);
        assert_eq!(filter.lengths.len(), MAX_LENGTHS);
        assert_eq!(ruled_out(&filter, prefixes.iter().cloned()), 0);
        assert_eq!(ruled_out(&filter, ["/tenant/y".to_owned()].into_iter()), 1);
    }

    /// Short and long ones, with the same stems, and with characters of more than one byte.
    fn prefix() -> impl Strategy<Value = String> {
        "/((access|tenant|x)[0-9]{0,4}/?(area|caf\u{e9}|\u{4e2d}\u{6587})?|[a-d/\u{e9}]{0,40})"
    }

    /// Some of any kind, with some thousands of one kind now and then.
    fn prefixes() -> impl Strategy<Value = Vec<String>> {
        let numbers = prop_oneof![9 => vec(0..10_000_u32, 0..10), 1 => vec(0..10_000_u32, 1_000..3_000)];
        (vec(prefix(), 1..40), numbers).prop_map(|(mut prefixes, numbers)| {
            prefixes.extend(numbers.iter().map(|number| format!("/access{number}/area")));
            prefixes
        })
    }

    proptest! {
        #[test]
        fn nothing_that_starts_with_a_prefix_is_ruled_out(
            prefixes in prefixes(), at: Index, more in "[a-c/\u{e9}]{0,30}", path in prefix(), capitals: bool,
        ) {
            let filter = filter(&prefixes);
            let below = format!("{}{more}", prefixes[at.index(prefixes.len())]);
            let below = if capitals { below.to_ascii_uppercase() } else { below };
            prop_assert!(!rules_out(&filter, below.as_bytes()), "{}", below);
            if rules_out(&filter, path.as_bytes()) {
                prop_assert!(!prefixes.iter().any(|prefix| path.starts_with(&**prefix)), "{}", path);
            }
        }
    }
}
