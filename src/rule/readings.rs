//! The readings of a path: every text that something behind the guard may take it for.

use std::{fmt, rc::Rc};

use wide::u8x16;

use super::PathRefusal;

/// More readings than this by the steps that every path is taken through, no real path has: one to four are usual.
const MAX_READINGS: usize = 256;
/// How many readings there may be beyond those.
const MAX_BEYOND: usize = 256;
/// How many bytes the steps may go through to make the readings beyond, known ones too. It bounds the time, as the
/// number of readings does not for a path that is long.
const MAX_WORK_BEYOND: usize = 256 * 1024;
/// How many times a path may be encoded.
const MAX_ROUNDS: usize = 3;

/// How a reading comes about: as the path was sent, or by one step from another reading.
///
/// The first eight steps are taken from every reading; more than 256 readings by these are refused. The others go
/// beyond, for what is mounted below a prefix and for the ways of the url crate; they never are a reason to refuse.
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

/// The closure of a path under the steps. Only those beyond the eight depend on the rules: `is_above` says whether a
/// path is above one of their prefixes, by whole segments.
pub(super) fn readings(path: &str, windows: bool, is_above: IsAbove<'_>) -> Result<Readings, PathRefusal> {
    let mut closure = Closure { list: Vec::with_capacity(8), most: MAX_READINGS, work: 0, most_work: usize::MAX };
    closure.add(path.to_owned(), Step::AsSent, None)?;
    closure.close()?;
    let complete = closure.go_beyond(windows, is_above).is_ok();
    Ok(Readings { list: closure.list, complete })
}

type IsAbove<'a> = &'a dyn Fn(&str) -> bool;

struct Closure {
    list: Vec<Reading>,
    most: usize,
    work: usize,
    most_work: usize,
}

impl Closure {
    /// Takes the eight steps from each reading.
    fn close(&mut self) -> Result<(), PathRefusal> {
        let mut at = 0;
        while let Some(text) = self.text(at) {
            self.take_eight(at, &text)?;
            at += 1;
        }
        Ok(())
    }

    /// Takes all steps from each reading. Those that there are have been taken through the eight.
    fn go_beyond(&mut self, windows: bool, is_above: IsAbove<'_>) -> Result<(), PathRefusal> {
        let closed = self.list.len();
        (self.most, self.most_work) = (closed + MAX_BEYOND, MAX_WORK_BEYOND);
        self.work = 0;
        let mut at = 0;
        while let Some(text) = self.text(at) {
            if at >= closed {
                self.take_eight(at, &text)?;
            }
            // Looking for what there is to take is work as well.
            self.work += text.len();
            self.bounded()?;
            beyond(&text, windows, is_above, &mut |made, step| self.add(made, step, Some(at)))?;
            at += 1;
        }
        Ok(())
    }

    fn text(&self, at: usize) -> Option<Rc<str>> {
        self.list.get(at).map(|reading| Rc::clone(&reading.text))
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
        EIGHT.into_iter().try_for_each(|step| step.take(text)?.map_or(Ok(()), |made| self.add(made, step, Some(at))))
    }

    fn add(&mut self, text: String, step: Step, from: Option<usize>) -> Result<(), PathRefusal> {
        self.work += from.map_or(text.len(), |from| self.list[from].text.len());
        let hash = hash(text.as_bytes());
        if !self.list.iter().any(|known| known.hash == hash && *known.text == *text) {
            self.list.push(Reading { text: text.into(), step, from, hash });
        }
        self.bounded()
    }

    fn bounded(&self) -> Result<(), PathRefusal> {
        let is_bounded = self.list.len() <= self.most && self.work <= self.most_work;
        is_bounded.then_some(()).ok_or(PathRefusal::TooManyReadings)
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
    /// What this step makes of the whole of `path`, where that is something else.
    fn take(self, path: &str) -> Result<Option<String>, PathRefusal> {
        Ok(match self {
            Self::Decode => decode(path, |_| true)?,
            Self::DecodeButSeparators => decode(path, |byte| !matches!(byte, b'/' | b'\\'))?,
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
    path: &str,
    windows: bool,
    is_above: IsAbove<'_>,
    emit: &mut dyn FnMut(String, Step) -> Result<(), PathRefusal>,
) -> Result<(), PathRefusal> {
    const OF_THE_WHOLE: [Step; 3] = [Step::RemoveEscapedDotSegments, Step::LeaveOutDotSegments, Step::DropScheme];
    const BELOW: [Step; 4] = [
        Step::RemoveDotSegmentsBelow,
        Step::RemoveEscapedDotSegmentsBelow,
        Step::DropAuthorityBelow,
        Step::DropSchemeBelow,
    ];
    for step in OF_THE_WHOLE.into_iter().chain(windows.then_some(Step::WindowsNames)) {
        step.take(path)?.map_or(Ok(()), |made| emit(made, step))?;
    }
    let mut mount = String::new();
    let mut rest = path;
    while let Some(below) = descend(&mut mount, rest, is_above) {
        for step in BELOW {
            step.take(below)?.map_or(Ok(()), |made| emit(format!("{mount}{made}"), step))?;
        }
        rest = below;
    }
    Ok(())
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

/// As [`decode`], for any bytes. `None` when nothing changes.
pub(super) fn decode_bytes(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    position(path, b'%')?;
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = position(rest, b'%') {
        let escaped = unescape(&rest[at..]).filter(|&byte| wanted(byte));
        decoded.extend_from_slice(&rest[..at]);
        decoded.push(escaped.unwrap_or(b'%'));
        rest = &rest[at + if escaped.is_some() { 3 } else { 1 }..];
    }
    decoded.extend_from_slice(rest);
    (decoded.len() < path.len()).then_some(decoded)
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
pub(super) fn unescape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else { return None };
    let digit = |hex: u8| char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

pub(super) fn cut(path: &str) -> Option<String> {
    let first = [b'?', b'#'].into_iter().filter_map(|sign| position(path.as_bytes(), sign)).min();
    first.map(|at| path[..at].to_owned())
}

pub(super) fn backslash_to_slash(path: &str) -> Option<String> {
    position(path.as_bytes(), b'\\').map(|_| path.replace('\\', "/"))
}

pub(super) fn drop_parameters(path: &str) -> Option<String> {
    position(path.as_bytes(), b';')?;
    let mut dropped = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = position(rest.as_bytes(), b';') {
        dropped.push_str(&rest[..at]);
        rest = position(&rest.as_bytes()[at..], b'/').map_or("", |end| &rest[at + end..]);
    }
    dropped.push_str(rest);
    (dropped.len() < path.len()).then_some(dropped)
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
    let escaped = [path.find("%2e"), path.find("%2E")].into_iter().flatten().min()?;
    let first = path[..escaped].rfind('/').unwrap_or_default();
    resolve_dots(path, path.find("/.").map_or(first, |plain| plain.min(first)), dots_of_urls)
}

fn leave_out_dot_segments(path: &str) -> Option<String> {
    let first = path.find("/..")?;
    resolve_dots(path, path.find("/.").unwrap_or(first), |segment| dots(segment).min(1))
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
    let first = [b'.', b' ', b':'].into_iter().filter_map(|sign| position(path.as_bytes(), sign)).min()?;
    let (before, rest) = path.split_at(path[..first].rfind('/')?);
    let mut names = String::with_capacity(path.len());
    names.push_str(before);
    for segment in segments(rest) {
        names.push('/');
        names.push_str(windows_name(segment));
    }
    (names.len() < path.len()).then_some(names)
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
