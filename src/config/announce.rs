//! What an operator is told at the start.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use super::Settings;
use crate::path::PathList;

/// More prefixes of a list than this are only counted.
const MAX_SHOWN: usize = 8;

impl Settings {
    /// Says what is guarded by what and where tokens are kept, and warns: by `tracing`, or on standard error if nobody
    /// listens to that.
    pub(crate) fn announce(&self) {
        if tracing::dispatcher::has_been_set() {
            for warning in self.warnings() {
                tracing::warn!(target: "fastauth", "{warning}");
            }
            tracing::info!(target: "fastauth", "{}", self.summary());
        } else if !self.is_quiet {
            // It may be closed, which is no reason not to start.
            let mut stderr = io::stderr().lock();
            for warning in self.warnings() {
                let _ = writeln!(stderr, "fastauth: warning: {warning}");
            }
            let _ = writeln!(stderr, "fastauth: {}", self.summary());
        }
    }

    /// What is guarded by what, and where tokens are kept, on one line.
    fn summary(&self) -> String {
        let mut summary = String::new();
        for (list, by) in [(PathList::Master, "the master token"), (PathList::Access, "an access token")] {
            let prefixes = self.prefixes(list);
            if !prefixes.is_empty() {
                let _ = write!(summary, "{}{prefixes} by {by}", if summary.is_empty() { "" } else { ", " });
            }
        }
        let guards = match (summary.as_str(), self.shadow) {
            ("", _) => "guards no path".to_owned(),
            (guarded, true) => format!("would guard {guarded}, and guards nothing in `shadow`"),
            (guarded, false) => format!("guards {guarded}"),
        };
        let public = self.prefixes(PathList::Public);
        let public = if public.is_empty() { public } else { format!("; {public} open to all") };
        format!("{guards}{public}; tokens are kept in {}", self.store_place)
    }

    fn prefixes(&self, list: PathList) -> String {
        let all = self.rules.prefixes().filter(|(other, _)| *other == list).map(|(_, prefix)| prefix);
        let all: Vec<_> = all.collect();
        let shown: Vec<_> = all.iter().take(MAX_SHOWN).map(|prefix| format!("{prefix:?}")).collect();
        let shown = shown.join(", ");
        if all.len() > MAX_SHOWN { format!("{shown} and {} more", all.len() - MAX_SHOWN) } else { shown }
    }
}
