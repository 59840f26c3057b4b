//! What an operator is told at the start.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use tracing::Level;

use fastauth_core::{
    policy::{PathList, Rule},
    settings::Deployment,
};

/// Writes a line to standard error. It may be closed, which is no reason not to start.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "fastauth: {line}");
}

/// More prefixes of a list than this are only counted.
const MAX_SHOWN: usize = 8;

/// Says at the start what an operator is to know.
#[derive(Debug)]
pub struct Announcement<'a>(pub &'a Deployment);

impl Announcement<'_> {
    /// Says what is guarded by what and where tokens are kept, and warns: by `tracing`, or on standard error if no subscriber
    /// listens.
    pub fn announce(&self) {
        // A subscriber may listen to errors alone, as those do that go by `RUST_LOG` when it is not set.
        let warns_by_tracing = self.0.is_quiet || tracing::enabled!(target: "fastauth", Level::WARN);
        for warning in &self.0.warnings {
            if warns_by_tracing {
                tracing::warn!(target: "fastauth", "{warning}");
            } else {
                say(&format!("warning: {warning}"));
            }
        }
        if self.0.is_quiet || tracing::dispatcher::has_been_set() {
            tracing::info!(target: "fastauth", "{}", self.summary());
        } else {
            say(&self.summary());
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
        let guards = match (summary.as_str(), self.0.shadow) {
            ("", _) => "guards no path".to_owned(),
            (guarded, true) => format!("would guard {guarded}, and guards nothing in `shadow`"),
            (guarded, false) => format!("guards {guarded}"),
        };
        let public = self.prefixes(PathList::Public);
        let public = if public.is_empty() { public } else { format!("; {public} open to all") };
        format!("{guards}{public}; tokens are kept in {}", self.0.store_place)
    }

    fn prefixes(&self, list: PathList) -> String {
        let all: Vec<_> = self.0.rules.iter().filter(|rule| rule.list() == list).map(Rule::prefix).collect();
        let shown: Vec<_> = all.iter().take(MAX_SHOWN).map(|prefix| format!("{prefix:?}")).collect();
        let shown = shown.join(", ");
        if all.len() > MAX_SHOWN { format!("{shown} and {} more", all.len() - MAX_SHOWN) } else { shown }
    }
}
