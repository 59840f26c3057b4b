//! Computes the readings of a path: every text that something behind the guard may take it for.

use std::{borrow::Cow, fmt, mem};

use super::PathRefusal;

/// The most readings by the steps that every path is taken through. Real paths have one to four.
const MAX_READINGS: usize = 256;
/// The most readings beyond those.
const MAX_BEYOND: usize = 256;
/// The most work of all steps, in bytes that they go through or make: so much for any path, and so much for each of its
/// bytes. It bounds the time, which the number of readings does not.
const MAX_WORK: usize = 16 * 1024;
const MAX_WORK_BY_BYTE: usize = 10;
/// The part of it that is kept for what goes beyond the eight steps: one of so many.
const KEPT_FOR_BEYOND: usize = 6;
/// The cost of a step that finds nothing, and of keeping a reading, as if it were bytes.
const LOOK: usize = 8;
const KEEP: usize = 64;
/// The cost of comparing a text without its case, for each byte and for each character that is not folded by a table.
const FOLD: usize = 1;
const FOLD_SLOWLY: usize = 64;
/// The most times that a path may be encoded.
const MAX_ROUNDS: usize = 3;

/// The origin of a reading: as the path was sent, or by one step from another reading.
///
/// The first eight steps are taken from every reading; more readings by these than can be looked at are refused. The others
/// go beyond, for what is mounted below a prefix and for the ways of the url crate; they never are a reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// The path as it was sent, or with the base path before it or without it.
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
    /// The base path dropped from another reading.
    DropBasePath,
}

/// The readings of a path, in the order of discovery. The path itself comes first.
#[derive(Debug)]
pub(super) struct Readings {
    pub(super) list: Vec<Reading>,
    /// These are all. If not, the others may be anything.
    pub(super) complete: bool,
}

/// One reading of a path.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) text: String,
    pub(super) step: Step,
    /// The index of the reading that the step was taken from.
    pub(super) from: Option<usize>,
}

/// Returns true if a path has no other reading than itself, as nearly all have: one scan, and nothing is allocated.
#[inline]
pub(super) fn is_plain(path: &str, windows: bool) -> bool {
    let found = trouble(path.as_bytes());
    (found == 0 || found == COLON && drop_schemes(path).is_none())
        && !(windows && (windows_names(path).is_some() || has_short_name(path)))
}

/// Returns the classes of trouble in a path.
#[inline]
fn trouble(path: &[u8]) -> u8 {
    if is_calm(path) { 0 } else { trouble_by_bytes(path) }
}

/// Returns true if the path begins with a slash and nothing behind it can be trouble: neither what is, nor a colon, nor
/// anything beyond ASCII, nor some rare characters that save comparisons. It is looked at in words of eight bytes, the last
/// of which may overlap the one before it.
#[inline]
pub(super) fn is_calm(path: &[u8]) -> bool {
    let [b'/', bytes @ ..] = path else { return false };
    let Some((first, last)) = bytes.first_chunk().zip(bytes.last_chunk()) else { return is_calm_word(bytes) };
    let before = &path[..bytes.len()];
    let first = u64::from_le_bytes(*first);
    let before_last = before.last_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let ends = trouble_in(after_root(first), first) | trouble_in(before_last, u64::from_le_bytes(*last));
    ends & HIGH == 0 && (bytes.len() <= 16 || are_calm_words(before, bytes))
}

/// Looks at less than eight bytes after the root's slash. Letters take the place of those that are missing.
#[inline(never)]
fn is_calm_word(bytes: &[u8]) -> bool {
    let word = bytes.iter().rev().fold(each(b'a'), |word, byte| word << 8 | u64::from(*byte));
    trouble_in(after_root(word), word) & HIGH == 0
}

#[inline(never)]
fn are_calm_words(before: &[u8], bytes: &[u8]) -> bool {
    let words = before.as_chunks().0.iter().zip(bytes.as_chunks().0);
    let found = words.map(|(before, word)| trouble_in(u64::from_le_bytes(*before), u64::from_le_bytes(*word)));
    found.fold(0, |all, found| all | found) & HIGH == 0
}

/// Moves the bytes that follow the root's slash by one place, as they stand before the next ones.
#[inline]
fn after_root(word: u64) -> u64 {
    word << 8 | u64::from(b'/')
}

/// The highest bit of each byte.
const HIGH: u64 = each(0x80);

/// Sets the highest bit of some byte if any of the eight can be trouble. Those of `before` stand one place before the others.
#[inline]
fn trouble_in(before: u64, word: u64) -> u64 {
    // In words of ASCII no addition carries into the next byte; others are trouble anyway.
    let delete = word.wrapping_add(each(1));
    let is_above_percent = word.wrapping_add(each(0x80 - (b'%' + 1)));
    let no_backslash = differs(word, b'\\');
    // Two innocent characters are taken along by one comparison less.
    let no_colon_or_question = differs(word | each(5), b'?');
    let not_after_slash = differs(before, b'/') | differs(word | each(1), b'/');
    word | delete | !(is_above_percent & no_backslash & no_colon_or_question & not_after_slash)
}

/// Sets the highest bit of each byte that is ASCII and not this one.
#[inline]
fn differs(word: u64, byte: u8) -> u64 {
    (word ^ each(byte)).wrapping_add(each(0x7f))
}

#[inline]
const fn each(byte: u8) -> u64 {
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

/// Finds what is wrong with a path that has no sound reading, in rounds of decoding every well-formed escape.
pub(super) fn faults(path: &str) -> impl Iterator<Item = PathRefusal> {
    let mut round = Cow::Borrowed(path.as_bytes());
    let mut malformed = false;
    let mut not_utf8 = false;
    let mut control = has_control(path.as_bytes());
    let mut unsettled = false;
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

/// Returns true if there is a control character. All bytes are looked at, which compiles to a few vector instructions.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == 0x7f))
}

/// Computes the closure of a path under the steps. Only those beyond the eight depend on the rules: `is_above` returns true
/// for a path above one of their prefixes, by whole segments.
///
/// `folded` bytes of each reading are compared without case, which is work as well.
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
    /// The bytes of each text that are compared without case.
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

    /// Takes all steps from each reading. The eight have been taken already from those in the list.
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

    /// Takes steps from one reading. During that, its text is not in the list, which no step can notice: none makes it.
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

    /// Returns the cost of comparing a text without case, of which no more than `folded` characters count.
    fn folding(&self, text: &str) -> usize {
        if self.folded == 0 {
            return 0;
        }
        // These begin a character of a script that is not folded by a table.
        let slow = text.bytes().filter(|byte| matches!(byte, 0xe1 | 0xe2 | 0xea | 0xef..)).count();
        FOLD * text.len().min(2 * self.folded) + FOLD_SLOWLY * slow.min(self.folded)
    }

    fn spend(&mut self, work: usize) -> Result<(), PathRefusal> {
        self.work += work;
        if self.work <= self.most_work { Ok(()) } else { Err(PathRefusal::TooManyReadings) }
    }
}

/// Hashes a text, only to save comparing texts that differ.
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
            Self::DropBasePath => "base path dropped",
        })
    }
}

impl Step {
    /// Returns the work of taking this step, in bytes: all of the path if the step went through it, and less if what it
    /// looks for was not there.
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

    /// Returns what this step makes of the whole of `path`, if that is something else.
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
            // These are made by the rules.
            Self::AsSent | Self::DropBasePath => None,
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

/// Adds the first name in `rest` to the path of a mount, and returns what is below. `None` if no rule is about what is
/// mounted there. Runs of slashes count as one, since services that axum nests take one more each than they are
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

/// Decodes once all escapes but those of separators. `None` also if that is the same as decoding all.
fn decode_but_separators(path: &str) -> Result<Option<String>, PathRefusal> {
    if !has_separator(path.as_bytes()) {
        return Ok(None);
    }
    decode(path, |byte| !matches!(byte, b'/' | b'\\'))
}

/// Returns true if there is an escape of a separator.
fn has_separator(path: &[u8]) -> bool {
    position(path, b'%').is_some_and(|first| {
        let mut escapes = path[first..].windows(3);
        escapes.any(|escape| matches!(escape, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']))
    })
}

/// Finds the first escape of a dot.
fn first_escaped_dot(path: &[u8]) -> Option<usize> {
    let first = position(path, b'%')?;
    let dot = path[first..].windows(3).position(|escape| matches!(escape, [b'%', b'2', b'e' | b'E']))?;
    Some(first + dot)
}

/// Decodes as [`decode`] does, for any bytes. `None` if nothing changes.
pub(super) fn decode_bytes(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    Escapes::read(path, wanted).decoded
}

/// The result of decoding the escapes of a path.
struct Escapes {
    /// `None` if nothing changes.
    decoded: Option<Vec<u8>>,
    /// Some `%` has no two hex digits after it.
    malformed: bool,
}

impl Escapes {
    fn read(path: &[u8], wanted: impl Fn(u8) -> bool) -> Self {
        if position(path, b'%').is_none() {
            return Self { decoded: None, malformed: false };
        }
        let mut decoded = Vec::with_capacity(path.len());
        let mut rest = path;
        let mut malformed = false;
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

/// Finds the first place of a byte, in blocks, of which compilers make a few vector instructions.
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    let blocks = bytes.as_chunks::<32>().0.iter();
    let without = blocks.take_while(|block| !block.iter().fold(false, |found, byte| found | (*byte == wanted)));
    let skipped = 32 * without.count();
    bytes[skipped..].iter().position(|byte| *byte == wanted).map(|at| skipped + at)
}

/// Finds the first place of two bytes in a row, in the same way.
fn position_of_pair(bytes: &[u8], [first, second]: [u8; 2]) -> Option<usize> {
    let seconds = bytes.get(1..)?;
    let blocks = bytes.as_chunks::<32>().0.iter().zip(seconds.as_chunks::<32>().0);
    let without = blocks.take_while(|(block, seconds)| {
        !block.iter().zip(*seconds).fold(false, |found, (a, b)| found | ((*a == first) & (*b == second)))
    });
    let skipped = 32 * without.count();
    bytes[skipped..].windows(2).position(|pair| pair == [first, second]).map(|at| skipped + at)
}

/// Decodes the escape that `text` begins with.
#[inline]
pub(super) fn unescape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else { return None };
    let high = HEX[usize::from(high)];
    let low = HEX[usize::from(low)];
    (high | low <= 0xf).then_some(high << 4 | low)
}

/// The value of each hex digit; of all else, more than that.
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

/// Resolves dots at the root.
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

/// Resolves the dot segments at and behind the slash at `first` as RFC 3986, section 5.2.4, does. `..` does not climb above
/// the root.
fn resolve_dots(path: &str, first: usize, dots: impl Fn(&str) -> usize) -> Option<String> {
    let (before, rest) = path.split_at(first);
    let mut resolved = String::with_capacity(path.len() + 1);
    resolved.push_str(before);
    let mut last = 0;
    let mut found = false;
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

/// Counts the dots of a segment that is `.` or `..`; 0 for any other.
#[inline]
fn dots(segment: &str) -> usize {
    match segment.as_bytes() {
        b"." => 1,
        b".." => 2,
        _ => 0,
    }
}

/// Counts dots as URL parsers do, to which an escaped dot is a dot. They leave all other escapes as they are.
fn dots_of_urls(segment: &str) -> usize {
    let mut rest = segment;
    for found in 0..=2 {
        rest = match rest {
            "" => return found,
            _ if rest.starts_with('.') => &rest[1..],
            _ if rest.get(..3).is_some_and(|escape| escape.eq_ignore_ascii_case("%2e")) => &rest[3..],
            _ => return 0,
        };
    }
    0
}

fn drop_authority(path: &str) -> Option<String> {
    let from_host = path.strip_prefix("//")?.trim_start_matches('/');
    Some(from_host.find('/').map_or("/", |at| &from_host[at..]).to_owned())
}

/// Drops a scheme. To a base of the same scheme, `http:/x` and `http:x` are relative; to any other they are `http://x`,
/// which is why a slash takes the place of the scheme.
fn drop_scheme(path: &str) -> Option<String> {
    after_scheme(path.trim_start_matches('/')).map(|rest| format!("//{rest}"))
}

/// Returns what follows the first scheme that a segment begins with. Without one, no step drops any.
fn drop_schemes(path: &str) -> Option<&str> {
    path.split('/').find_map(after_scheme)
}

/// Returns what follows a scheme that URL parsers call special.
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

/// Returns true if a name may be a short one of Windows, such as `PRIVAT~1` for `private-files`: only the disk knows what it
/// is short for.
pub(super) fn has_short_name(path: &str) -> bool {
    position(path.as_bytes(), b'~').is_some_and(|first| {
        let mut pairs = path.as_bytes()[first..].windows(2);
        pairs.any(|pair| pair[0] == b'~' && pair[1].is_ascii_digit())
    })
}

/// Finds where the first name may end that Windows takes for a shorter one.
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

/// Splits a path into segments, which are one more than it has slashes after the first.
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
