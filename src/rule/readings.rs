//! The readings of a path: every text that something behind the guard may take it for.

use std::{
    borrow::Cow,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use super::PathRefusal;

/// More readings than this no real path has: one to four are usual.
const MAX_READINGS: usize = 256;
/// How many bytes the steps may go through to make readings, known ones too. It bounds the time, as the number of
/// readings does not for a path that is long.
const MAX_WORK: usize = 256 * 1024;
/// How many times a path may be encoded.
const MAX_ROUNDS: usize = 3;

/// How a reading comes about: as the path was sent, or by one step from another reading.
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
    /// Dot segments resolved, by something that sees the whole path or that is mounted below a part of it.
    RemoveDotSegments,
    /// `//host` dropped, as a URL parser does that takes the path for a URL without a scheme.
    DropAuthority,
    /// The scheme dropped from a segment, as a URL parser does that takes the rest of the path for a URL.
    DropScheme,
    /// Names as Windows reads them: without dots and spaces at their end, and without the name of a stream.
    WindowsNames,
}

/// One reading of a path.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) text: Rc<str>,
    pub(super) step: Step,
    /// The place among the readings of the one that the step was taken from.
    pub(super) from: Option<usize>,
    hash: u64,
}

/// Whether a path has no other reading than itself, as nearly all have: one scan, and nothing is allocated.
#[inline]
pub(super) fn is_plain(path: &str, windows: bool) -> bool {
    let found = trouble(path.as_bytes());
    (found == 0 || found == COLON && drop_schemes(path).is_none()) && !(windows && windows_names(path).is_some())
}

/// The classes of trouble in a path.
#[inline]
fn trouble(path: &[u8]) -> u8 {
    if is_calm(path) { 0 } else { trouble_by_bytes(path) }
}

/// Whether nothing in the path can be trouble: neither what is, nor a colon, nor some rare characters that are only
/// taken along. It is looked at in blocks, the last of which may overlap the one before it.
#[inline]
pub(super) fn is_calm(path: &[u8]) -> bool {
    let [head @ .., _] = path else { return true };
    let tail = &path[1..];
    if let (Some(before_last), Some(last)) = (head.last_chunk(), tail.last_chunk()) {
        let mut blocks = head.as_chunks().0.iter().zip(tail.as_chunks().0);
        return blocks.all(|(before, block)| is_calm_block(before, block)) && is_calm_block(before_last, last);
    }
    let ends = |text: &[u8]| Some([word(text.first_chunk()?), word(text.last_chunk()?)]);
    let first = first_word(path);
    let before = ends(head).unwrap_or([first << 8; 2]);
    let block = ends(tail).unwrap_or([first; 2]);
    is_calm_block(&bytes(before), &bytes(block))
}

/// Whether nothing in the block can be trouble. The bytes of `before` stand one place before its own.
///
/// The compiler makes thirty instructions of this, vectors and no branches: that is what it is written for. Inlined, or
/// with its blocks as numbers, it becomes ten times as many.
#[inline(never)]
fn is_calm_block(before: &[u8; 16], block: &[u8; 16]) -> bool {
    let mut found = [0; 16];
    for at in 0..16 {
        let byte = block[at];
        // What the trouble differs in, among itself and from some innocent bytes, is set or left out by each test.
        let control_to_percent = byte <= b'%';
        let colon_or_question = byte | 5 == b'?';
        let delete_or_more = byte >= 0x7f;
        let after_slash = (before[at] == b'/') & (byte | 1 == b'/');
        let trouble = control_to_percent | colon_or_question | delete_or_more | after_slash | (byte == b'\\');
        found[at] = u8::from(trouble);
    }
    u128::from_ne_bytes(found) == 0
}

/// The first eight bytes. Where there are fewer, letters take the place of those that are missing.
#[inline]
pub(super) fn first_word(text: &[u8]) -> u64 {
    text.first_chunk().map_or_else(|| short_word(text), word)
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
    let malformed = path.match_indices('%').any(|(at, _)| unescape(&path.as_bytes()[at..]).is_none());
    let rounds = rounds(path);
    let not_utf8 = rounds.iter().any(|bytes| std::str::from_utf8(bytes).is_err());
    let control = rounds.iter().flatten().any(u8::is_ascii_control);
    let unsettled = rounds.len() > MAX_ROUNDS + 1;
    [
        malformed.then_some(PathRefusal::MalformedEscape),
        not_utf8.then_some(PathRefusal::NotUtf8),
        control.then_some(PathRefusal::ControlCharacter),
        unsettled.then_some(PathRefusal::EncodedTooOften),
    ]
    .into_iter()
    .flatten()
}

/// The path and what each round of decoding makes of it, until nothing changes or there was a round too many.
fn rounds(path: &str) -> Vec<Vec<u8>> {
    let first = Some(path.as_bytes().to_vec());
    std::iter::successors(first, |bytes| decode_bytes(bytes, |_| true)).take(MAX_ROUNDS + 2).collect()
}

/// The closure of a path under the steps, in the order of discovery. The path itself comes first.
pub(super) fn readings(path: &str, windows: bool) -> Result<Vec<Reading>, PathRefusal> {
    let mut closure = Closure { readings: Vec::with_capacity(8), work: 0 };
    closure.add(path.to_owned(), Step::AsSent, None)?;
    let mut at = 0;
    while let Some(reading) = closure.readings.get(at) {
        let text = Rc::clone(&reading.text);
        for step in Step::all(windows) {
            step.take(&text, &mut |made| closure.add(made, step, Some(at)))?;
        }
        at += 1;
    }
    Ok(closure.readings)
}

struct Closure {
    readings: Vec<Reading>,
    work: usize,
}

impl Closure {
    fn add(&mut self, text: String, step: Step, from: Option<usize>) -> Result<(), PathRefusal> {
        self.work += from.map_or(text.len(), |from| self.readings[from].text.len());
        let hash = hash(&text);
        if !self.readings.iter().any(|known| known.hash == hash && *known.text == *text) {
            self.readings.push(Reading { text: text.into(), step, from, hash });
        }
        if self.readings.len() > MAX_READINGS || self.work > MAX_WORK {
            return Err(PathRefusal::TooManyReadings);
        }
        Ok(())
    }
}

/// Saves comparing texts that differ, and is trusted with nothing else.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
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
            Self::DropScheme => "scheme dropped",
            Self::WindowsNames => "as Windows reads names",
        })
    }
}

type Emit<'a> = &'a mut dyn FnMut(String) -> Result<(), PathRefusal>;

impl Step {
    fn all(windows: bool) -> impl Iterator<Item = Self> {
        const ALL: [Step; 10] = [
            Step::Decode,
            Step::DecodeButSeparators,
            Step::Cut,
            Step::BackslashToSlash,
            Step::DropParameters,
            Step::MergeSlashes,
            Step::RemoveDotSegments,
            Step::DropAuthority,
            Step::DropScheme,
            Step::WindowsNames,
        ];
        ALL.into_iter().filter(move |step| windows || *step != Step::WindowsNames)
    }

    /// Emits what this step makes of `path`, where that is something else.
    fn take(self, path: &str, emit: Emit<'_>) -> Result<(), PathRefusal> {
        let made = match self {
            Self::AsSent => None,
            Self::Decode => decode(path, |_| true)?,
            Self::DecodeButSeparators => decode(path, |byte| !matches!(byte, b'/' | b'\\'))?,
            Self::Cut => cut(path),
            Self::BackslashToSlash => backslash_to_slash(path),
            Self::DropParameters => drop_parameters(path),
            Self::MergeSlashes => merge_slashes(path),
            Self::RemoveDotSegments => return remove_dot_segments(path, emit),
            Self::DropAuthority => return drop_authority(path, emit),
            Self::DropScheme => drop_schemes(path),
            Self::WindowsNames => windows_names(path),
        };
        made.map_or(Ok(()), emit)
    }
}

/// Decodes once the well-formed escapes of the bytes that are `wanted`.
fn decode(path: &str, wanted: impl Fn(u8) -> bool) -> Result<Option<String>, PathRefusal> {
    let decoded = decode_bytes(path.as_bytes(), wanted).map(String::from_utf8).transpose();
    decoded.map_err(|_| PathRefusal::NotUtf8)
}

/// As [`decode`], for any bytes. `None` when nothing changes.
pub(super) fn decode_bytes(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut rest = &path[path.iter().position(|&byte| byte == b'%')?..];
    let mut decoded = path[..path.len() - rest.len()].to_vec();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = unescape(rest).filter(|&byte| wanted(byte));
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &rest[3..] } else { tail };
    }
    (decoded.len() < path.len()).then_some(decoded)
}

/// The byte that the escape stands for with which `text` begins.
pub(super) fn unescape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else { return None };
    let digit = |hex: u8| char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

pub(super) fn cut(path: &str) -> Option<String> {
    path.find(['?', '#']).map(|at| path[..at].to_owned())
}

pub(super) fn backslash_to_slash(path: &str) -> Option<String> {
    path.contains('\\').then(|| path.replace('\\', "/"))
}

pub(super) fn drop_parameters(path: &str) -> Option<String> {
    map_segments(path, &[';'], |segment| segment.split(';').next().unwrap_or(segment))
}

pub(super) fn merge_slashes(path: &str) -> Option<String> {
    let mut after_slash = false;
    let keep = |char: &char| {
        let doubled = after_slash && *char == '/';
        after_slash = *char == '/';
        !doubled
    };
    path.contains("//").then(|| path.chars().filter(keep).collect())
}

/// A path in which dots are resolved at the root.
pub(super) fn normal_form(path: &str) -> String {
    resolve_dots(path, 0, dots).0
}

/// Resolves dot segments as RFC 3986, section 5.2.4, does, for every place where it may be done.
///
/// `..` does not climb above the root, and whatever is mounted at `/api` has its root there: a service nested in a
/// router, or a proxy that puts the rest of the path behind the address of its upstream. To them `/api/../x` is
/// `/api/x`. So each run of segments before the first dot segment may be a root. And what builds a URL from segments
/// may leave dots out without climbing at all, as the url crate's `PathSegmentsMut` does.
fn remove_dot_segments(path: &str, emit: Emit<'_>) -> Result<(), PathRefusal> {
    if path.contains("/.") {
        remove_dots(path, dots, emit)?;
    }
    if path.contains("%2e") || path.contains("%2E") {
        remove_dots(path, dots_of_urls, emit)?;
    }
    Ok(())
}

fn remove_dots(path: &str, dots: Dots, emit: Emit<'_>) -> Result<(), PathRefusal> {
    let Some(first) = segments(path).position(|segment| dots(segment) > 0) else { return Ok(()) };
    let (resolved, lowest) = resolve_dots(path, 0, dots);
    emit(resolved)?;
    // A root at or below the lowest point that is reached makes no difference.
    let mut roots = (lowest.saturating_add(1)..=first).chain([usize::MAX]);
    roots.try_for_each(|root| emit(resolve_dots(path, root, dots).0))
}

/// The path with its dot segments resolved below the first `root` segments, and the fewest segments that `..` left.
fn resolve_dots(path: &str, root: usize, dots: Dots) -> (String, usize) {
    let mut kept: Vec<&str> = Vec::new();
    let mut lowest = usize::MAX;
    for segment in segments(path) {
        match dots(segment) {
            0 => kept.push(segment),
            1 => {}
            _ => {
                kept.truncate(kept.len().saturating_sub(1).max(root));
                lowest = lowest.min(kept.len());
            }
        }
    }
    // What ends in dots names a directory.
    if segments(path).next_back().is_some_and(|segment| dots(segment) > 0) {
        kept.push("");
    }
    (format!("/{}", kept.join("/")), lowest)
}

/// How many dots a segment is that is nothing else: one, two, or none.
type Dots = fn(&str) -> usize;

fn dots(segment: &str) -> usize {
    if matches!(segment, "." | "..") { segment.len() } else { 0 }
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

/// What begins with `//` may be below a root, too, and which of the doubled slashes those are cannot be told: the
/// services that axum nests take one more slash each than they are mounted at.
fn drop_authority(path: &str, emit: Emit<'_>) -> Result<(), PathRefusal> {
    let runs = path.match_indices("//").map(|(at, _)| path.split_at(at)).filter(|(root, _)| !root.ends_with('/'));
    for (root, after) in runs {
        let (_host, path) = after.trim_start_matches('/').split_once('/').unwrap_or_default();
        emit(format!("{root}/{path}"))?;
    }
    Ok(())
}

/// The schemes that URL parsers call special. To a base of the same scheme, `http:/x` and `http:x` are relative; to
/// any other they are `http://x`, which is why a slash takes the place of the scheme.
fn drop_schemes(path: &str) -> Option<String> {
    const SPECIAL: [&str; 6] = ["http", "https", "ws", "wss", "ftp", "file"];
    let without_scheme = |segment: &str| match segment.split_once(':') {
        Some((scheme, rest)) if SPECIAL.iter().any(|special| scheme.eq_ignore_ascii_case(special)) => {
            Some(format!("/{rest}"))
        }
        _ => None,
    };
    if !path.contains(':') {
        return None;
    }
    let dropped: Vec<_> = path.split('/').map(|name| without_scheme(name).map_or(name.into(), Cow::Owned)).collect();
    dropped.iter().any(|name| matches!(name, Cow::Owned(_))).then(|| dropped.join("/"))
}

fn windows_names(path: &str) -> Option<String> {
    map_segments(path, &['.', ' ', ':'], |segment| match segment.trim_end_matches(' ') {
        dots @ ("." | "..") => dots,
        name => name.split(':').next().unwrap_or(name).trim_end_matches(['.', ' ']),
    })
}

/// The segments of a path, which are one more than it has slashes after the first.
fn segments(path: &str) -> std::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// The path with each segment replaced by what `map` leaves of it, or `None` when all are left whole. Where none of the
/// `signs` is in the path, they are.
fn map_segments(path: &str, signs: &[char], map: impl Fn(&str) -> &str) -> Option<String> {
    if !path.contains(signs) {
        return None;
    }
    let mut mapped = String::with_capacity(path.len());
    for segment in path.split_inclusive('/') {
        let name = segment.strip_suffix('/').unwrap_or(segment);
        mapped.push_str(map(name));
        mapped.push_str(&segment[name.len()..]);
    }
    (mapped.len() < path.len()).then_some(mapped)
}
