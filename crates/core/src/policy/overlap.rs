//! Describes where guards, exemptions and rules overlap.

use std::borrow::Cow;

use super::{ListedPrefix, PathList, Rules, case::fold};

/// What is said of a guard that is not ASCII.
pub(super) const AS_WRITTEN: &str = "is guarded as it is written: if a file system treats composed and decomposed letters as the \
                                     same, as that of macOS does, guard a directory above it that is named in ASCII";

/// The overlaps of the lists that an operator should know of.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// Each guard below an exemption, and each exemption below a guard.
    pub notes: Vec<String>,
    /// Exemptions and rules without effect, and guards of files that can be reached by another name.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Describes each guard that is below an exemption, each exemption, and each rule without effect.
    pub fn overlaps(&self) -> Overlaps {
        let mut overlaps = Overlaps::default();
        for rule in self.iter() {
            if rule.list == PathList::Public {
                self.describe_exemption(rule, &mut overlaps);
                continue;
            }
            self.describe_file(rule, &mut overlaps);
            let above = self.above(rule).into_iter().filter(|above| above.list == PathList::Public);
            overlaps.notes.extend(above.filter(|above| self.depth(above) < self.depth(rule)).map(|exemption| {
                format!("{} stays guarded, though it is below {}", rule.in_list(), exemption.of_list())
            }));
        }
        self.describe_rules(&mut overlaps);
        overlaps
    }

    /// Finds the rules that the prefix of a rule meets, the shortest first, as guards are compared: without case if that
    /// does not count.
    fn above(&self, rule: &ListedPrefix) -> Vec<&ListedPrefix> {
        let mut above = Vec::new();
        self.matcher.visit(&self.folded(rule), |end| above.extend(self.listed(end.rule)));
        above
    }

    fn depth(&self, rule: &ListedPrefix) -> usize {
        self.folded(rule).len()
    }

    fn folded<'a>(&self, rule: &'a ListedPrefix) -> Cow<'a, str> {
        let text = rule.prefix.text();
        if self.options.case_insensitive { fold(text) } else { Cow::Borrowed(text) }
    }

    fn describe_exemption(&self, exemption: &ListedPrefix, overlaps: &mut Overlaps) {
        if !self.are_ruled && self.iter().all(|rule| rule.list == PathList::Public) {
            return;
        }
        let above: Vec<_> = self.above(exemption).into_iter().filter(|above| above.list != PathList::Public).collect();
        let name = exemption.in_list();
        match above.last() {
            None if self.are_ruled => {}
            None => overlaps.warnings.push(format!("{name} has no effect: it is below no guarded prefix")),
            Some(guard) if self.depth(guard) == self.depth(exemption) => {
                let key = guard.list.key();
                overlaps.warnings.push(format!("{name} has no effect: `{key}` has the same path, and the guard wins"));
            }
            Some(_) => {
                let notes =
                    above.iter().map(|guard| format!("{name} stays open, though it is below {}", guard.of_list()));
                overlaps.notes.extend(notes);
            }
        }
    }

    /// Warns of names that a file system or a file server knows the guarded file by, too.
    fn describe_file(&self, rule: &ListedPrefix, overlaps: &mut Overlaps) {
        let name = rule.in_list();
        let text = rule.prefix.text();
        let directory = directory_of_index(text);
        let asked = directory.as_ref().map(|directory| self.weigh_lists(directory));
        if let Some((directory, asked)) = directory.zip(asked.filter(|asked| asked.rule(rule.list).is_none())) {
            let left = if asked.is_public() { "open" } else { "without this check" };
            overlaps.warnings.push(format!(
                "{name} leaves {directory:?} {left}, which file servers answer with that file: guard {directory:?}"
            ));
        }
        if let Some(colon) = rule.prefix.colon() {
            let (before, after) = rule.prefix().split_at(colon);
            overlaps.warnings.push(format!(
                "{name} guards exactly this text: if what follows the colon is a parameter, guard {before:?}; if not, write \
                 `{before}%3A{}`",
                &after[1..]
            ));
        }
        if !text.is_ascii() {
            overlaps.notes.push(format!("{name} {AS_WRITTEN}"));
        }
    }
}

impl ListedPrefix {
    fn in_list(&self) -> String {
        format!("`{}`: {:?}", self.list.key(), self.prefix())
    }

    pub(super) fn of_list(&self) -> String {
        format!("{:?} of `{}`", self.prefix(), self.list.key())
    }
}

/// Returns the directory, with a slash at its end, that file servers answer with this file.
pub(super) fn directory_of_index(path: &str) -> Option<String> {
    let (directory, file) = path.rsplit_once('/')?;
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem).to_ascii_lowercase();
    ["index", "default"].contains(&&*stem).then(|| format!("{directory}/"))
}
