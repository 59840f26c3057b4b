//! Random hostile paths: a weighted grammar of what bypasses are made of.

use std::fmt::Write;

/// Steele and Vigna's xorshift64*: runs are the same wherever the seed is.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring runs, and the state must not be zero.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ mixed >> 31) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 33) % bound as u64).unwrap_or_default()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What paths are made of, with how often.
const TOKENS: [(&str, usize); 48] = [
    ("%20", 2),
    ("/", 60),
    ("//", 8),
    ("///", 2),
    ("/.", 6),
    ("/..", 12),
    ("/../", 10),
    ("/./", 4),
    ("..", 3),
    (".", 3),
    ("...", 1),
    ("%2e", 5),
    ("%2E", 2),
    ("%2e%2e", 6),
    ("%2f", 10),
    ("%2F", 3),
    ("%5c", 4),
    ("%5C", 1),
    ("\\", 5),
    ("\\..\\", 2),
    ("/..;", 3),
    (";", 3),
    (";x=1", 3),
    ("%3b", 3),
    ("%25", 2),
    ("%252f", 3),
    ("%252e", 2),
    ("%2561", 1),
    ("%3f", 2),
    ("?", 1),
    ("%23", 2),
    ("#", 1),
    ("access", 36),
    ("%61ccess", 5),
    ("acc", 1),
    ("master", 8),
    ("m%61ster", 1),
    ("public", 8),
    ("x", 14),
    ("api", 6),
    ("v1", 4),
    ("http:", 2),
    ("HTTPS:", 1),
    ("ws%3a", 1),
    ("index.html", 2),
    ("é", 1),
    ("@", 1),
    (":80", 1),
];

/// A path below one of the `starts`, most of the time.
pub(crate) fn hostile_path(random: &mut Random, starts: &[&str]) -> String {
    let mut path = if random.one_in(4) { "/" } else { starts[random.below(starts.len())] }.to_owned();
    let total: usize = TOKENS.iter().map(|(_, weight)| weight).sum();
    for _ in 0..=random.below(8) {
        let mut at = random.below(total);
        let token = TOKENS.iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.wrapping_sub(*weight);
            found
        });
        path.push_str(token.map_or("/", |(token, _)| token));
    }
    // What escapes are not among the tokens, double ones too.
    while random.one_in(4) {
        path = escape_one(&path, random.below(path.len()), random.one_in(2));
    }
    path
}

fn escape_one(path: &str, at: usize, upper: bool) -> String {
    let mut escaped = String::with_capacity(path.len() + 2);
    for (place, char) in path.char_indices() {
        // The first slash is what makes it a path.
        if place == at && place > 0 && char.is_ascii() {
            let _ =
                if upper { write!(escaped, "%{:02X}", char as u32) } else { write!(escaped, "%{:02x}", char as u32) };
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// The shortest path that is left when all that can go has gone, so that it still `does`.
pub(crate) fn shrink(path: &str, mut does: impl FnMut(&str) -> bool) -> String {
    let mut path = path.to_owned();
    let mut length = path.len() / 2 + 1;
    while length > 0 {
        let mut at = 1;
        while at + length <= path.len() {
            let shorter = path.get(..at).zip(path.get(at + length..)).map(|(head, tail)| format!("{head}{tail}"));
            match shorter.filter(|shorter| does(shorter)) {
                Some(shorter) => path = shorter,
                None => at += 1,
            }
        }
        length -= 1;
    }
    path
}
