//! Where guards and exemptions overlap, in words.

use super::{PathList, Rules, entry, matcher::PrefixSet};

/// What an operator should know of how the lists work together.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// Each guard below an exemption, and each exemption below a guard.
    pub notes: Vec<String>,
    /// Exemptions that open nothing, and guards of what is found under another name.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Tells of each guard that is below an exemption, and of each exemption.
    pub fn overlaps(&self) -> Overlaps {
        let mut overlaps = Overlaps::default();
        // As guards are compared: without case if that does not count.
        let exemptions = self.prefixes.iter().enumerate().filter(|(_, (list, _))| *list == PathList::Public).map(
            |(id, (_, prefix))| {
                let form = prefix.form_of_exemption();
                super::matcher::Entry { form, ..entry(id, PathList::Access, prefix, self.options) }
            },
        );
        let exemptions = PrefixSet::new(exemptions.collect());
        for (id, (list, prefix)) in self.prefixes.iter().enumerate() {
            let folded = entry(id, PathList::Access, prefix, self.options);
            if *list == PathList::Public {
                self.tell_of_exemption(id, &folded.text, &mut overlaps);
                continue;
            }
            self.tell_of_file(id, &mut overlaps);
            let above = exemptions.met(&folded.text).into_iter().filter(|exemption| exemption.depth < folded.depth);
            overlaps.notes.extend(above.map(|exemption| {
                format!("{} stays guarded, though it is below {}", self.entry_of(id), self.of_list(exemption.id))
            }));
        }
        overlaps
    }

    fn tell_of_exemption(&self, id: usize, folded: &str, overlaps: &mut Overlaps) {
        if self.guards.is_empty() {
            return;
        }
        let above = self.guards.met(folded);
        let name = self.entry_of(id);
        match above.last() {
            None => overlaps.warnings.push(format!("{name} opens nothing: it is below no guarded prefix")),
            Some(guard) if guard.depth == folded.len() => {
                let key = self.prefixes[guard.id].0.key();
                overlaps.warnings.push(format!("{name} opens nothing: `{key}` has it too, and the guard wins"));
            }
            Some(_) => overlaps.notes.extend(
                above.iter().map(|guard| format!("{name} stays open, though it is below {}", self.of_list(guard.id))),
            ),
        }
    }

    /// Tells of names that a file system or a file server has beside the one that is guarded.
    fn tell_of_file(&self, id: usize, overlaps: &mut Overlaps) {
        let (list, prefix) = &self.prefixes[id];
        let (text, name) = (prefix.text(), self.entry_of(id));
        let Some((directory, file)) = text.rsplit_once('/') else { return };
        let stem = file.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let directory = format!("{directory}/");
        let asked = self.weigh(&directory, &[]);
        let is_guarded = if *list == PathList::Master { asked.needs_master() } else { asked.needs_access() };
        if ["index", "default"].contains(&&*stem) && !is_guarded {
            let left = if asked.is_public() { "open" } else { "without this check" };
            overlaps.warnings.push(format!(
                "{name} leaves {directory:?} {left}, which file servers answer with that file: guard {directory:?}"
            ));
        }
        if let Some(colon) = prefix.colon() {
            let (before, after) = prefix.as_str().split_at(colon);
            overlaps.warnings.push(format!(
                "{name} guards that very text: if what follows the colon is a parameter, guard {before:?}; if not, write \
                 `{before}%3A{}`",
                &after[1..]
            ));
        }
        if !text.is_ascii() {
            overlaps.notes.push(format!(
                "{name} is guarded as it is written: where a file system takes composed and decomposed letters for the same, as \
                 that of macOS does, guard a directory above it that is named in ASCII"
            ));
        }
    }

    fn entry_of(&self, id: usize) -> String {
        let (list, prefix) = &self.prefixes[id];
        format!("`{}`: {:?}", list.key(), prefix.as_str())
    }

    fn of_list(&self, id: usize) -> String {
        let (list, prefix) = &self.prefixes[id];
        format!("{:?} of `{}`", prefix.as_str(), list.key())
    }
}
