//! The readings of a path: every text that something behind the guard may take it for.

use std::{borrow::Cow, fmt, mem};

use wide::u8x16;

use super::PathRefusal;

/// More readings than this by the steps that every path is taken through, no real path has: one to four are usual.
const MAX_READINGS: usize = 256;
/// How many readings there may be beyond those.
const MAX_BEYOND: usize = 256;
/// How much work the steps may do, in bytes that they go through or make: so much for any path, and so much for each of its
/// bytes. It bounds the time, as the number of readings does not.
const MAX_WORK: usize = 16 * 1024;
const MAX_WORK_BY_BYTE: usize = 10;
/// How much of it is kept for what goes beyond the eight steps: one part of so many.
const KEPT_FOR_BEYOND: usize = 6;
/// What a step costs that finds nothing, and what it costs to keep a reading, as if it were bytes.
const LOOK: usize = 8;
const KEEP: usize = 64;
/// The same of comparing a text without its case, for each byte and for each character that is not folded by a table.
const FOLD: usize = 1;
const FOLD_SLOWLY: usize = 64;
/// How many times a path may be encoded.
const MAX_ROUNDS: usize = 3;

/// How a reading comes about: as the path was sent, or by one step from another reading.
///
/// The first eight steps are taken from every reading; more readings by these than can be looked at are refused. The others
/// go beyond, for what is mounted below a prefix and for the ways of the url crate; they never are a reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// The path as it was sent, or with the base path before it.
    AsSent,
    /// Every well-formed escape decoded once, as most servers do.
    Decode,
    /// The same but for `%2F` and `%5C`, as servers do that keep encoded slashes.
    DecodeButSeparators,
    /// Cut at the first `?` or `#`, as by a client that parses a decoded path as a URL again.
    Cut,
    /// Backslashes turned into slashes, as URL parsers and Windows do.
    BackslashToSlash,
    /// Path parameters dropped: what follows a `;` in its segment, as Java containers do.
    DropParameters,
    /// Runs of slashes merged into one, as most file servers and routers do.
    MergeSlashes,
    /// Dot segments resolved, as RFC 3986, section 5.2.4, does.
    RemoveDotSegments,
    /// `//host` dropped, as a URL parser does that takes the path for a URL without a scheme.
    DropAuthority,
    /// Dot segments resolved with escaped ones among them, while all other escapes stay, as URL parsers do.
    RemoveEscapedDotSegments,
    /// Dot segments left out without climbing, as the url crate's `PathSegmentsMut` does.
    LeaveOutDotSegments,
    /// The scheme dropped, as a URL parser does that takes the path for a URL.
    DropScheme,
    /// Dot segments resolved by what is mounted above a prefix, and climbs no higher than that.
    RemoveDotSegmentsBelow,
    /// The same by a URL parser.
    RemoveEscapedDotSegmentsBelow,
    /// `//host` dropped by what is mounted above a prefix.
    DropAuthorityBelow,
    /// The scheme dropped by what is mounted above a prefix.
    DropSchemeBelow,
    /// Names as Windows reads them: without dots and spaces at their end, and without the name of a stream.
    WindowsNames,
}

/// The readings of a path, in the order of discovery. The path itself comes first.
#[derive(Debug)]
pub(super) struct Readings {
    pub(super) list: Vec<Reading>,
    /// Whether these are all. Where they are not, anything may be behind the others.
    pub(super) complete: bool,
}

/// One reading of a path.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) text: String,
    pub(super) step: Step,
    /// The place among the readings of the one that the step was taken from.
    pub(super) from: Option<usize>,
}

/// Whether a path has no other reading than itself, as nearly all have: one scan, and nothing is allocated.
#[inline]
pub(super) fn is_plain(path: &str, windows: bool) -> bool {
    let found = trouble(path.as_bytes());
    (found == 0 || found == COLON && drop_schemes(path).is_none())
        && !(windows && (windows_names(path).is_some() || has_short_name(path)))
}

/// The classes of trouble in a path.
#[inline]
fn trouble(path: &[u8]) -> u8 {
    if is_calm(path) { 0 } else { trouble_by_bytes(path) }
}

/// Whether nothing in the path can be trouble: neither what is, nor a colon, nor some rare characters that are only
/// taken along. It is looked at in blocks, the last of which may overlap the one before it.
#[inline(never)]
pub(super) fn is_calm(path: &[u8]) -> bool {
    let [head @ .., _] = path else { return true };
    let tail = &path[1..];
    if let (Some(before_last), Some(last)) = (head.last_chunk(), tail.last_chunk()) {
        let mut blocks = head.as_chunks().0.iter().zip(tail.as_chunks().0);
        return blocks.all(|(before, block)| is_calm_block(*before, *block)) && is_calm_block(*before_last, *last);
    }
    let ends = |text: &[u8]| Some([word(text.first_chunk()?), word(text.last_chunk()?)]);
    let first = first_word(path);
    let before = ends(head).unwrap_or([first << 8; 2]);
    let block = ends(tail).unwrap_or([first; 2]);
    is_calm_block(bytes(before), bytes(block))
}

/// Whether nothing in the block can be trouble. The bytes of `before` stand one place before its own.
#[inline]
fn is_calm_block(before: [u8; 16], block: [u8; 16]) -> bool {
    let (before, block, all) = (u8x16::new(before), u8x16::new(block), u8x16::splat);
    let control_to_percent = block.simd_eq(block.min(all(b'%')));
    // Two innocent characters are taken along by one comparison less.
    let colon_or_question = (block | all(5)).simd_eq(all(b'?'));
    let backslash = block.simd_eq(all(b'\\'));
    let delete_or_more = block.simd_eq(block.max(all(0x7f)));
    let after_slash = before.simd_eq(all(b'/')) & (block | all(1)).simd_eq(all(b'/'));
    !(control_to_percent | colon_or_question | backslash | delete_or_more | after_slash).any()
}

/// The first eight bytes. Where there are fewer, letters take the place of those that are missing.
#[inline]
pub(super) fn first_word(text: &[u8]) -> u64 {
    text.first_chunk().map_or_else(|| short_word(text), word)
}

/// The bits of the first eight bytes that a text of this length has.
pub(super) fn first_mask(len: usize) -> u64 {
    u64::MAX.checked_shr(8_usize.saturating_sub(len) as u32 * 8).unwrap_or_default()
}

/// The last eight bytes, in the same way.
#[inline]
pub(super) fn last_word(text: &[u8]) -> u64 {
    text.last_chunk().map_or_else(|| short_word(text), word)
}

#[inline]
fn short_word(text: &[u8]) -> u64 {
    let letters = each(b'a') << (text.len() % 8 * 8);
    let half = |half: &[u8; 4]| u64::from(u32::from_le_bytes(*half));
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => half(first) | half(last) << ((text.len() - 4) * 8) | letters,
        _ => text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) | letters,
    }
}

#[inline]
pub(super) fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

#[inline]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    (u128::from(words[0]) | u128::from(words[1]) << 64).to_le_bytes()
}

pub(super) const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

#[inline(never)]
fn trouble_by_bytes(path: &[u8]) -> u8 {
    let mut found = 0;
    let mut after = 0;
    for &byte in path {
        let class = CLASSES[usize::from(byte)];
        found |= class & (TROUBLE | COLON | after);
        // After a slash, the bit that is asked for above is `TROUBLE_AFTER_SLASH`.
        after = (class & SLASH) >> 1;
    }
    found
}

const TROUBLE: u8 = 1;
const TROUBLE_AFTER_SLASH: u8 = 2;
const SLASH: u8 = 4;
const COLON: u8 = 8;
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte <= 0xff {
        classes[byte] = match byte as u8 {
            b'%' | b'\\' | b';' | b'?' | b'#' | b' ' | 0..=0x1f | 0x7f => TROUBLE,
            b'/' => SLASH | TROUBLE_AFTER_SLASH,
            b'.' => TROUBLE_AFTER_SLASH,
            b':' => COLON,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

/// What is wrong with a path that has no sound reading. Rounds of decoding tell: each decodes every well-formed escape.
pub(super) fn faults(path: &str) -> impl Iterator<Item = PathRefusal> {
    let mut round = Cow::Borrowed(path.as_bytes());
    let (mut malformed, mut not_utf8, mut control, mut unsettled) = (false, false, has_control(path.as_bytes()), false);
    for rounds in 0.. {
        let escapes = Escapes::read(&round, |_| true);
        malformed |= rounds == 0 && escapes.malformed;
        let Some(decoded) = escapes.decoded else { break };
        not_utf8 |= std::str::from_utf8(&decoded).is_err();
        control |= has_control(&decoded);
        unsettled = rounds == MAX_ROUNDS;
        if unsettled {
            break;
        }
        round = Cow::Owned(decoded);
    }
    [
        malformed.then_some(PathRefusal::MalformedEscape),
        not_utf8.then_some(PathRefusal::NotUtf8),
        control.then_some(PathRefusal::ControlCharacter),
        unsettled.then_some(PathRefusal::EncodedTooOften),
    ]
    .into_iter()
    .flatten()
}

/// All bytes are looked at, which compiles to a few vector instructions.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == 0x7f))
}

/// The closure of a path under the steps. Only those beyond the eight depend on the rules: `is_above` says whether a
/// path is above one of their prefixes, by whole segments.
///
/// So much of each reading, `folded`, is compared without its case, which is work as well.
pub(super) fn readings(
    path: &str,
    windows: bool,
    folded: usize,
    is_above: IsAbove<'_>,
) -> Result<Readings, PathRefusal> {
    let most_work = MAX_WORK + MAX_WORK_BY_BYTE * path.len();
    let mut closure = Closure {
        list: Vec::with_capacity(8),
        hashes: Vec::with_capacity(8),
        most: MAX_READINGS,
        work: 0,
        most_work: most_work - most_work / KEPT_FOR_BEYOND,
        folded,
    };
    closure.add(path.to_owned(), Step::AsSent, None)?;
    closure.close()?;
    closure.most_work = most_work;
    let complete = closure.go_beyond(windows, is_above).is_ok();
    Ok(Readings { list: closure.list, complete })
}

type IsAbove<'a> = &'a dyn Fn(&str) -> bool;

struct Closure {
    list: Vec<Reading>,
    /// Of the texts in the list.
    hashes: Vec<u64>,
    most: usize,
    work: usize,
    most_work: usize,
    /// How much of a text is compared without its case, in bytes.
    folded: usize,
}

impl Closure {
    /// Takes the eight steps from each reading.
    fn close(&mut self) -> Result<(), PathRefusal> {
        let mut at = 0;
        while at < self.list.len() {
            self.expand(at, |this, text| this.take_eight(at, text))?;
            at += 1;
        }
        Ok(())
    }

    /// Takes all steps from each reading. Those that there are have been taken through the eight.
    fn go_beyond(&mut self, windows: bool, is_above: IsAbove<'_>) -> Result<(), PathRefusal> {
        let closed = self.list.len();
        self.most = closed + MAX_BEYOND;
        let mut at = 0;
        while at < self.list.len() {
            self.expand(at, |this, text| {
                if at >= closed {
                    this.take_eight(at, text)?;
                }
                beyond(this, at, text, windows, is_above)
            })?;
            at += 1;
        }
        Ok(())
    }

    /// Takes steps from one reading. Its text is out of the list meanwhile, where nothing could find it: no step makes it.
    fn expand(
        &mut self,
        at: usize,
        steps: impl FnOnce(&mut Self, &str) -> Result<(), PathRefusal>,
    ) -> Result<(), PathRefusal> {
        let text = mem::take(&mut self.list[at].text);
        let taken = steps(self, &text);
        self.list[at].text = text;
        taken
    }

    fn take_eight(&mut self, at: usize, text: &str) -> Result<(), PathRefusal> {
        const EIGHT: [Step; 8] = [
            Step::Decode,
            Step::DecodeButSeparators,
            Step::Cut,
            Step::BackslashToSlash,
            Step::DropParameters,
            Step::MergeSlashes,
            Step::RemoveDotSegments,
            Step::DropAuthority,
        ];
        EIGHT.into_iter().try_for_each(|step| self.take(step, at, text))
    }

    /// Takes a step from the reading at this place.
    fn take(&mut self, step: Step, at: usize, text: &str) -> Result<(), PathRefusal> {
        let made = step.take(text)?;
        self.spend(step.work(text, made.is_some()))?;
        made.map_or(Ok(()), |made| self.add(made, step, Some(at)))
    }

    fn add(&mut self, text: String, step: Step, from: Option<usize>) -> Result<(), PathRefusal> {
        self.spend(KEEP + text.len() / 8)?;
        let hash = hash(text.as_bytes());
        let mut alike = self.hashes.iter().zip(&self.list).filter(|(known, _)| **known == hash);
        if !alike.any(|(_, known)| known.text == text) {
            self.spend(self.folding(&text))?;
            self.list.push(Reading { text, step, from });
            self.hashes.push(hash);
        }
        if self.list.len() <= self.most { Ok(()) } else { Err(PathRefusal::TooManyReadings) }
    }

    /// What it costs to compare a text without its case, of which no more than `folded` characters count.
    fn folding(&self, text: &str) -> usize {
        // What begins a character of a script that is not folded by a table.
        let is_slow = |byte: &&u8| matches!(byte, 0xe1 | 0xe2 | 0xea | 0xef..);
        let slow = if self.folded == 0 { 0 } else { text.as_bytes().iter().filter(is_slow).count() };
        FOLD * text.len().min(2 * self.folded) + FOLD_SLOWLY * slow.min(self.folded)
    }

    fn spend(&mut self, work: usize) -> Result<(), PathRefusal> {
        self.work += work;
        if self.work <= self.most_work { Ok(()) } else { Err(PathRefusal::TooManyReadings) }
    }
}

/// Saves comparing texts that differ, and is trusted with nothing else.
fn hash(text: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(ODD);
    let (words, rest) = text.as_chunks();
    let hash = words.iter().fold(ODD, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(mix(hash, text.len() as u64), |hash, byte| mix(hash, u64::from(*byte)))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsSent => "as sent",
            Self::Decode => "decoded",
            Self::DecodeButSeparators => "decoded but for separators",
            Self::Cut => "cut at ? or #",
            Self::BackslashToSlash => "backslashes turned",
            Self::DropParameters => "parameters dropped",
            Self::MergeSlashes => "slashes merged",
            Self::RemoveDotSegments => "dot segments resolved",
            Self::DropAuthority => "authority dropped",
            Self::RemoveEscapedDotSegments => "escaped dot segments resolved",
            Self::LeaveOutDotSegments => "dot segments left out",
            Self::DropScheme => "scheme dropped",
            Self::RemoveDotSegmentsBelow => "dot segments resolved below a mount",
            Self::RemoveEscapedDotSegmentsBelow => "escaped dot segments resolved below a mount",
            Self::DropAuthorityBelow => "authority dropped below a mount",
            Self::DropSchemeBelow => "scheme dropped below a mount",
            Self::WindowsNames => "as Windows reads names",
        })
    }
}

impl Step {
    /// How much work it was to take this step, as if it were bytes: as many as there are where all were gone through, and
    /// less where what the step looks for was not there.
    fn work(self, path: &str, has_made: bool) -> usize {
        let bytes = path.as_bytes();
        let passes = match self {
            Self::WindowsNames if has_made || first_odd_name(bytes).is_some() => 3,
            _ if has_made => 1,
            Self::RemoveDotSegments | Self::RemoveDotSegmentsBelow | Self::LeaveOutDotSegments
                if position_of_pair(bytes, *b"/.").is_some() =>
            {
                1
            }
            // They have looked at each escape.
            Self::DecodeButSeparators | Self::RemoveEscapedDotSegments | Self::RemoveEscapedDotSegmentsBelow
                if position(bytes, b'%').is_some() =>
            {
                return LOOK + bytes.len() / 3;
            }
            _ => return LOOK + bytes.len() / 32,
        };
        LOOK + passes * bytes.len()
    }

    /// What this step makes of the whole of `path`, where that is something else.
    fn take(self, path: &str) -> Result<Option<String>, PathRefusal> {
        Ok(match self {
            Self::Decode => decode(path, |_| true)?,
            Self::DecodeButSeparators => decode_but_separators(path)?,
            Self::Cut => cut(path),
            Self::BackslashToSlash => backslash_to_slash(path),
            Self::DropParameters => drop_parameters(path),
            Self::MergeSlashes => merge_slashes(path),
            Self::RemoveDotSegments | Self::RemoveDotSegmentsBelow => remove_dot_segments(path),
            Self::RemoveEscapedDotSegments | Self::RemoveEscapedDotSegmentsBelow => remove_escaped_dot_segments(path),
            Self::LeaveOutDotSegments => leave_out_dot_segments(path),
            Self::DropAuthority | Self::DropAuthorityBelow => drop_authority(path),
            Self::DropScheme | Self::DropSchemeBelow => drop_scheme(path),
            Self::WindowsNames => windows_names(path),
            Self::AsSent => None,
        })
    }
}

/// Takes the steps beyond the eight.
///
/// Whatever is mounted at `/api`, a service nested in a router or a proxy that puts the rest of the path behind the
/// address of its upstream, takes the rest for a whole path: to it `/api/../x` is `/api/x`. That matters to the rules
/// only where one of their prefixes is below `/api`.
fn beyond(
    closure: &mut Closure,
    at: usize,
    path: &str,
    windows: bool,
    is_above: IsAbove<'_>,
) -> Result<(), PathRefusal> {
    const OF_THE_WHOLE: [Step; 3] = [Step::RemoveEscapedDotSegments, Step::LeaveOutDotSegments, Step::DropScheme];
    const BELOW: [Step; 4] = [
        Step::RemoveDotSegmentsBelow,
        Step::RemoveEscapedDotSegmentsBelow,
        Step::DropAuthorityBelow,
        Step::DropSchemeBelow,
    ];
    for step in OF_THE_WHOLE.into_iter().chain(windows.then_some(Step::WindowsNames)) {
        closure.take(step, at, path)?;
    }
    let mut mount = String::new();
    let mut rest = path;
    loop {
        closure.spend(KEEP + mount.len() + closure.folding(&mount))?;
        let Some(below) = descend(&mut mount, rest, is_above) else { return Ok(()) };
        for step in BELOW {
            let made = step.take(below)?;
            closure.spend(step.work(below, made.is_some()) + path.len() / 8)?;
            if let Some(made) = made {
                closure.add(format!("{mount}{made}"), step, Some(at))?;
            }
        }
        rest = below;
    }
}

/// Adds the first name in `rest` to the path of a mount, and returns what is below. `None` where no rule cares for what
/// is mounted there. Runs of slashes count as one, since services that axum nests take one more each than they are
/// mounted at, and a name may be encoded.
fn descend<'a>(mount: &mut String, rest: &'a str, is_above: IsAbove<'_>) -> Option<&'a str> {
    let named = rest.trim_start_matches('/');
    let (name, below) = named.split_at(named.find('/')?);
    let length = mount.len();
    let decoded = decode(name, |_| true).ok().flatten();
    let found = [Some(name), decoded.as_deref()].into_iter().flatten().any(|name| {
        mount.truncate(length);
        mount.push('/');
        mount.push_str(name);
        is_above(mount)
    });
    found.then_some(below)
}

/// Decodes once the well-formed escapes of the bytes that are `wanted`.
fn decode(path: &str, wanted: impl Fn(u8) -> bool) -> Result<Option<String>, PathRefusal> {
    let decoded = decode_bytes(path.as_bytes(), wanted).map(String::from_utf8).transpose();
    decoded.map_err(|_| PathRefusal::NotUtf8)
}

/// The same but for separators; `None` also where that is what all escapes decoded come to.
fn decode_but_separators(path: &str) -> Result<Option<String>, PathRefusal> {
    if !has_separator(path.as_bytes()) {
        return Ok(None);
    }
    decode(path, |byte| !matches!(byte, b'/' | b'\\'))
}

/// Whether there is an escape of a separator.
fn has_separator(path: &[u8]) -> bool {
    let is_separator = |escape: &[u8]| matches!(escape, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']);
    position(path, b'%').is_some_and(|first| path[first..].windows(3).any(is_separator))
}

/// Where the first escape of a dot is.
fn first_escaped_dot(path: &[u8]) -> Option<usize> {
    let first = position(path, b'%')?;
    let dot = path[first..].windows(3).position(|escape| matches!(escape, [b'%', b'2', b'e' | b'E']))?;
    Some(first + dot)
}

/// As [`decode`], for any bytes. `None` when nothing changes.
pub(super) fn decode_bytes(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    Escapes::read(path, wanted).decoded
}

/// What the escapes of a path come to.
struct Escapes {
    /// `None` when nothing changes.
    decoded: Option<Vec<u8>>,
    /// Whether two hex digits do not follow some `%`.
    malformed: bool,
}

impl Escapes {
    fn read(path: &[u8], wanted: impl Fn(u8) -> bool) -> Self {
        if position(path, b'%').is_none() {
            return Self { decoded: None, malformed: false };
        }
        let mut decoded = Vec::with_capacity(path.len());
        let (mut rest, mut malformed) = (path, false);
        while let Some(at) = position(rest, b'%') {
            decoded.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            // Where there is one escape, there are often more.
            while let [b'%', ..] = rest {
                let escaped = unescape(rest);
                malformed |= escaped.is_none();
                let byte = escaped.filter(|&byte| wanted(byte));
                decoded.push(byte.unwrap_or(b'%'));
                rest = &rest[if byte.is_some() { 3 } else { 1 }..];
            }
        }
        decoded.extend_from_slice(rest);
        Self { decoded: (decoded.len() < path.len()).then_some(decoded), malformed }
    }
}

/// Where a byte stands first, looked for in blocks, which compilers make a few instructions of.
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    let is_in = |block: &[u8; 32]| block.iter().fold(false, |found, byte| found | (*byte == wanted));
    let skipped = 32 * bytes.as_chunks().0.iter().take_while(|block| !is_in(block)).count();
    bytes[skipped..].iter().position(|byte| *byte == wanted).map(|at| skipped + at)
}

/// As [`position`], for two bytes in a row.
fn position_of_pair(bytes: &[u8], [first, second]: [u8; 2]) -> Option<usize> {
    let seconds = bytes.get(1..)?;
    let is_in = |(block, seconds): &(&[u8; 32], &[u8; 32])| {
        block.iter().zip(*seconds).fold(false, |found, (a, b)| found | ((*a == first) & (*b == second)))
    };
    let blocks = bytes.as_chunks().0.iter().zip(seconds.as_chunks().0);
    let skipped = 32 * blocks.take_while(|blocks| !is_in(blocks)).count();
    bytes[skipped..].windows(2).position(|pair| pair == [first, second]).map(|at| skipped + at)
}

/// The byte that the escape stands for with which `text` begins.
#[inline]
pub(super) fn unescape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else { return None };
    let (high, low) = (HEX[usize::from(high)], HEX[usize::from(low)]);
    (high | low <= 0xf).then_some(high << 4 | low)
}

/// What each hex digit stands for; of all else, more than that.
const HEX: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digits[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
};

pub(super) fn cut(path: &str) -> Option<String> {
    let first = [b'?', b'#'].into_iter().filter_map(|sign| position(path.as_bytes(), sign)).min();
    first.map(|at| path[..at].to_owned())
}

pub(super) fn backslash_to_slash(path: &str) -> Option<String> {
    position(path.as_bytes(), b'\\').map(|_| path.replace('\\', "/"))
}

pub(super) fn drop_parameters(path: &str) -> Option<String> {
    let first = position(path.as_bytes(), b';')?;
    let (before, rest) = path.split_at(first);
    let mut kept = Vec::with_capacity(path.len());
    kept.extend_from_slice(before.as_bytes());
    let mut is_kept = true;
    for &byte in rest.as_bytes() {
        is_kept = byte == b'/' || is_kept && byte != b';';
        if is_kept {
            kept.push(byte);
        }
    }
    // Cut at ASCII alone, it is text as before.
    String::from_utf8(kept).ok()
}

pub(super) fn merge_slashes(path: &str) -> Option<String> {
    position_of_pair(path.as_bytes(), *b"//")?;
    let mut merged = path.as_bytes().to_vec();
    merged.dedup_by(|byte, before| (*before, *byte) == (b'/', b'/'));
    String::from_utf8(merged).ok()
}

/// A path in which dots are resolved at the root.
pub(super) fn normal_form(path: &str) -> String {
    remove_dot_segments(path).unwrap_or_else(|| path.to_owned())
}

fn remove_dot_segments(path: &str) -> Option<String> {
    resolve_dots(path, position_of_pair(path.as_bytes(), *b"/.")?, dots)
}

fn remove_escaped_dot_segments(path: &str) -> Option<String> {
    let escaped = first_escaped_dot(path.as_bytes())?;
    let first = path[..escaped].rfind('/').unwrap_or_default();
    let plain = position_of_pair(path.as_bytes(), *b"/.");
    resolve_dots(path, plain.map_or(first, |plain| plain.min(first)), dots_of_urls)
}

fn leave_out_dot_segments(path: &str) -> Option<String> {
    let first = position_of_pair(path.as_bytes(), *b"/.")?;
    let has_two = path.as_bytes()[first..].windows(3).any(|three| three == b"/..");
    has_two.then(|| resolve_dots(path, first, |segment| dots(segment).min(1))).flatten()
}

/// Resolves dot segments as RFC 3986, section 5.2.4, does, where there are any at or behind the slash at `first`. `..`
/// does not climb above the root.
fn resolve_dots(path: &str, first: usize, dots: impl Fn(&str) -> usize) -> Option<String> {
    let (before, rest) = path.split_at(first);
    let mut resolved = String::with_capacity(path.len() + 1);
    resolved.push_str(before);
    let (mut last, mut found) = (0, false);
    for segment in segments(rest) {
        last = dots(segment);
        found |= last > 0;
        match last {
            0 => {
                resolved.push('/');
                resolved.push_str(segment);
            }
            1 => {}
            _ => resolved.truncate(resolved.bytes().rposition(|byte| byte == b'/').unwrap_or_default()),
        }
    }
    // What ends in dots names a directory.
    if last > 0 || resolved.is_empty() {
        resolved.push('/');
    }
    found.then_some(resolved)
}

/// How many dots a segment is that is nothing else: one, two, or none.
#[inline]
fn dots(segment: &str) -> usize {
    match segment.as_bytes() {
        b"." => 1,
        b".." => 2,
        _ => 0,
    }
}

/// URL parsers take an escaped dot for a dot, and leave all other escapes as they are.
fn dots_of_urls(segment: &str) -> usize {
    let escaped = |text: &str| text.get(..3).is_some_and(|escape| escape.eq_ignore_ascii_case("%2e"));
    let mut rest = segment;
    for found in 0..=2 {
        rest = match rest {
            "" => return found,
            _ if rest.starts_with('.') => &rest[1..],
            _ if escaped(rest) => &rest[3..],
            _ => return 0,
        };
    }
    0
}

fn drop_authority(path: &str) -> Option<String> {
    let from_host = path.strip_prefix("//")?.trim_start_matches('/');
    Some(from_host.find('/').map_or("/", |at| &from_host[at..]).to_owned())
}

/// To a base of the same scheme, `http:/x` and `http:x` are relative; to any other they are `http://x`, which is why a
/// slash takes the place of the scheme.
fn drop_scheme(path: &str) -> Option<String> {
    after_scheme(path.trim_start_matches('/')).map(|rest| format!("//{rest}"))
}

/// What follows the first scheme in a path that a segment begins with. Without one, no step drops any.
fn drop_schemes(path: &str) -> Option<&str> {
    path.split('/').find_map(after_scheme)
}

/// What follows the scheme, if it is one of those that URL parsers call special.
fn after_scheme(text: &str) -> Option<&str> {
    const SPECIAL: [&str; 6] = ["http", "https", "ws", "wss", "ftp", "file"];
    let colon = text.bytes().take("https:".len()).position(|byte| byte == b':')?;
    let (scheme, rest) = text.split_at(colon);
    SPECIAL.iter().any(|special| scheme.eq_ignore_ascii_case(special)).then(|| &rest[1..])
}

fn windows_names(path: &str) -> Option<String> {
    let first = first_odd_name(path.as_bytes())?;
    let (before, rest) = path.split_at(path[..first].rfind('/')?);
    let mut names = String::with_capacity(path.len());
    names.push_str(before);
    for segment in segments(rest) {
        names.push('/');
        names.push_str(windows_name(segment));
    }
    (names.len() < path.len()).then_some(names)
}

/// Whether a name may be a short one of Windows, such as `PRIVAT~1` for `private-files`: what it is short for only the disk
/// knows.
pub(super) fn has_short_name(path: &str) -> bool {
    let is_short = |pair: &[u8]| pair[0] == b'~' && pair[1].is_ascii_digit();
    position(path.as_bytes(), b'~').is_some_and(|first| path.as_bytes()[first..].windows(2).any(is_short))
}

/// Where the first name may end that Windows takes for a shorter one.
fn first_odd_name(path: &[u8]) -> Option<usize> {
    let ends = [*b"./", *b" /"].into_iter().filter_map(|end| position_of_pair(path, end));
    let last = path.last().filter(|byte| matches!(byte, b'.' | b' ')).map(|_| path.len() - 1);
    ends.chain(last).chain(position(path, b':')).min()
}

fn windows_name(segment: &str) -> &str {
    match segment.trim_end_matches(' ') {
        dots @ ("." | "..") => dots,
        name => name.split(':').next().unwrap_or(name).trim_end_matches(['.', ' ']),
    }
}

/// The segments of a path, which are one more than it has slashes after the first.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path.strip_prefix('/').unwrap_or(path));
    std::iter::from_fn(move || {
        let text = rest?;
        // Most are so short that to look for their ends in blocks costs more.
        let end = text.bytes().position(|byte| byte == b'/');
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}
