//! The paths of rules from their first parameter on, as a tree of segments: what many rules have in common is looked at once.

use std::cell::Cell;

use super::{
    entry::{End, Entry},
    pattern::{Known, Spelling, next_segment},
};

/// What follows one literal beginning in the paths of rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Tails {
    /// The rules whose segments end here.
    ends: Box<[End]>,
    /// The names that go on from here, ascending.
    literals: Box<[(Box<str>, Tails)]>,
    /// The parameters that go on from here, of which there are three at most.
    parameters: Box<[(Known, Tails)]>,
}

/// How a text is looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) spelling: Spelling,
    pub(super) steps: &'a Steps,
}

/// The steps that are left for one path and all of its readings: one for each place of the tree, and more for long names.
#[derive(Debug)]
pub(super) struct Steps(Cell<usize>);

/// A name in a text, or nothing at its end, and the number of slashes before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    slashes: usize,
    text: &'a str,
}

/// A place in a text to which parameters have come, some of which may stand for an empty segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The number of the next name.
    name: usize,
    /// The number of empty segments before it that are taken.
    taken: usize,
    has_taken: bool,
}

/// The most steps for a path that is read in several ways. Real ones take at most some hundred.
const MOST_STEPS: usize = 4096;
/// The length of a name that is as much work as a step.
const NAME: usize = 32;

impl Steps {
    /// Creates those of a path that has no other reading. There are only so many as the rules have places for it.
    pub(super) fn unlimited() -> Self {
        Self(Cell::new(usize::MAX))
    }

    /// Creates those of a path that is read in several ways.
    pub(super) fn limited() -> Self {
        Self(Cell::new(MOST_STEPS))
    }

    pub(super) fn are_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Takes a step past each of these names. Returns false if not so many are left, and then none is.
    fn take<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let left = names.try_fold(self.0.get(), |left, name| left.checked_sub(1 + name.len() / NAME));
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

impl Tails {
    /// Builds the tree of the entries, which are sorted by their tails and share the first `depth` segments of these.
    pub(super) fn new(entries: &[&Entry], depth: usize) -> Self {
        let (ends, longer) = entries.split_at(entries.partition_point(|entry| entry.tail.len() == depth));
        let mut literals = Vec::new();
        let mut parameters = Vec::new();
        for chunk in longer.chunk_by(|a, b| a.tail[depth] == b.tail[depth]) {
            let child = Self::new(chunk, depth + 1);
            match &chunk[0].tail[depth] {
                Known::Text(text) => literals.push((text.as_str().into(), child)),
                parameter => parameters.push((parameter.clone(), child)),
            }
        }
        let ends = ends.iter().map(|entry| entry.end).collect();
        Self { ends, literals: literals.into(), parameters: parameters.into() }
    }

    /// Visits the rules that may match a text: all those that do, and some that only begin as it does.
    pub(super) fn visit(&self, text: &str, look: Look<'_>, met: &mut impl FnMut(&End)) {
        self.ends.iter().for_each(&mut *met);
        let Some((name, after)) = next_segment(text) else { return };
        if look.steps.take([name].into_iter()) {
            self.children(name, look.spelling).for_each(|child| child.visit(after, look, met));
        }
    }

    /// Returns true if some of the rules are for paths below this text.
    pub(super) fn go_below(&self, text: &str, look: Look<'_>) -> bool {
        let Some((name, after)) = next_segment(text) else {
            return text.is_empty() && !(self.literals.is_empty() && self.parameters.is_empty());
        };
        let mut children = self.children(name, look.spelling);
        look.steps.take([name].into_iter()) && children.any(|child| child.go_below(after, look))
    }

    /// Visits the rules that match a text after the first `passed` names if a parameter stands for an empty segment in it. All
    /// other empty segments are left out, and slashes at the end do not count. Tells whether a rule may end where the text
    /// does.
    pub(super) fn visit_empty(
        &self,
        names: &[Name<'_>],
        passed: usize,
        look: Look<'_>,
        met: &mut impl FnMut(&End, bool),
    ) {
        self.visit_from(&[Place { name: passed, taken: 0, has_taken: false }], names, look, met);
    }

    fn visit_from(&self, places: &[Place], names: &[Name<'_>], look: Look<'_>, met: &mut impl FnMut(&End, bool)) {
        if !look.steps.take(places.iter().map(|place| place.next(names).text)) {
            return;
        }
        let mut ends = places.iter().filter(|place| place.has_taken).map(|place| place.next(names).text).peekable();
        if ends.peek().is_some() {
            let is_at_end = ends.any(str::is_empty);
            self.ends.iter().for_each(|end| met(end, is_at_end));
        }
        for (parameter, child) in &self.parameters {
            let mut next: Vec<_> = places.iter().flat_map(|place| place.after(parameter, names)).collect();
            next.sort_unstable();
            next.dedup();
            if !next.is_empty() {
                child.visit_from(&next, names, look, met);
            }
        }
        let named = places.iter().filter_map(|place| {
            let child = self.literal(place.next(names).text, look.spelling)?;
            Some((child, place.after_name()))
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable();
        named.dedup();
        for same in named.chunk_by(|a, b| a.0 == b.0) {
            let next: Vec<_> = same.iter().map(|(_, place)| *place).collect();
            self.literals[same[0].0].1.visit_from(&next, names, look, met);
        }
    }

    /// Visits the rules whose segments may be, each of them, a value of these: the paths of as many segments that have something
    /// in common with them.
    pub(super) fn visit_meeting(&self, segments: &[Known], met: &mut impl FnMut(&End)) {
        match segments.split_first() {
            None => self.ends.iter().for_each(met),
            Some((first, after)) => self.meeting(first).into_iter().for_each(|child| child.visit_meeting(after, met)),
        }
    }

    /// Visits the same rules, and those of which so is a beginning of the segments, or that begin so.
    pub(super) fn visit_overlapping(&self, segments: &[Known], met: &mut impl FnMut(&End)) {
        self.ends.iter().for_each(&mut *met);
        match segments.split_first() {
            None => self.all().for_each(|child| child.visit_overlapping(&[], met)),
            Some((first, after)) => {
                self.meeting(first).into_iter().for_each(|child| child.visit_overlapping(after, met));
            }
        }
    }

    /// Returns what goes on from here with a segment that may be a value of this one.
    fn meeting<'a>(&'a self, first: &'a Known) -> Vec<&'a Self> {
        if let Known::Text(name) = first {
            return self.children(name, Spelling::Plain).collect();
        }
        let is_any = |known: &Known| *known == Known::Any;
        let parameters = self.parameters.iter().filter(|(other, _)| other == first || is_any(other) || is_any(first));
        let literals = self.literals.iter().filter(|(text, _)| first.takes(text));
        parameters.map(|(_, child)| child).chain(literals.map(|(_, child)| child)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Self> {
        self.literals.iter().map(|(_, child)| child).chain(self.parameters.iter().map(|(_, child)| child))
    }

    fn children<'a>(&'a self, name: &'a str, spelling: Spelling) -> impl Iterator<Item = &'a Self> {
        let literal = self.literal(name, spelling).map(|at| &self.literals[at].1);
        let parameters = self.parameters.iter().filter(|(parameter, _)| parameter.takes(name));
        literal.into_iter().chain(parameters.map(|(_, child)| child))
    }

    fn literal(&self, name: &str, spelling: Spelling) -> Option<usize> {
        if self.literals.len() <= 4 {
            return self.literals.iter().position(|(text, _)| spelling.is_same(text, name));
        }
        self.literals.binary_search_by(|(text, _)| spelling.compare(text, name)).ok()
    }
}

impl<'a> Name<'a> {
    /// Returns the names of a text that begins with a slash.
    pub(super) fn all(text: &'a str) -> Vec<Self> {
        let mut names = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let named = rest.trim_start_matches('/');
            let (text, after) = named.split_at(named.find('/').unwrap_or(named.len()));
            names.push(Self { slashes: rest.len() - named.len(), text });
            rest = after;
        }
        names
    }
}

impl Place {
    /// Returns what is next, which has no text at the end.
    fn next<'a>(self, names: &[Name<'a>]) -> Name<'a> {
        names.get(self.name).copied().unwrap_or(Name { slashes: 0, text: "" })
    }

    fn after_name(self) -> Self {
        Self { name: self.name + 1, taken: 0, ..self }
    }

    /// Returns the places after a parameter, which may stand for the next name, or for nothing between two slashes.
    fn after(self, parameter: &Known, names: &[Name<'_>]) -> impl Iterator<Item = Self> {
        let Name { slashes, text } = self.next(names);
        let is_empty = *parameter == Known::Any && slashes > self.taken + 1;
        let empty = is_empty.then_some(Self { taken: self.taken + 1, has_taken: true, ..self });
        empty.into_iter().chain(parameter.takes(text).then(|| self.after_name()))
    }
}
