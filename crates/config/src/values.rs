//! The values of the keys, merged by precedence, each with its source.
//!
//! figment merges the numbers of the values, and is never handed a value: its errors and its `Debug` would show secrets.

use std::path::PathBuf;

use figment::Figment;

use crate::{
    fault::{Fault, Source},
    fingerprint::Fingerprint,
    given::Given,
};

/// The merged values, each with its source, and what was wrong with the sources.
#[derive(Default)]
pub(crate) struct Values {
    /// For each key the number of its value.
    merged: Figment,
    values: Vec<Sourced>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<String>,
    /// A `.env` that could not be read as a whole: a fault if a secret is missed, and else only a warning.
    pub(crate) env_file_problem: Option<(PathBuf, String)>,
    /// Lines of `.env` that readers differ on, by key: each a fault if no other source gives its key, and else only a warning.
    pub(crate) env_line_faults: Vec<(&'static str, Fault)>,
    /// What the files held that were read.
    pub(crate) files: Fingerprint,
    pub(crate) has_file: bool,
    /// The `.env` that is read, or would be if there were one: where a secret can be put.
    pub(crate) env_file: PathBuf,
    /// Where `sqlite:` paths start: the directory of the configuration file.
    pub(crate) directory: PathBuf,
}

struct Sourced {
    given: Given,
    source: Source,
}

impl Values {
    /// Takes a value over those of the sources before.
    pub(crate) fn insert(&mut self, key: &'static str, given: Given, source: Source) {
        let number = self.values.len();
        self.values.push(Sourced { given, source });
        self.merged = std::mem::take(&mut self.merged).merge((key, number));
    }

    fn find(&self, key: &str) -> Option<&Sourced> {
        let number = self.merged.extract_inner::<usize>(key).ok()?;
        self.values.get(number)
    }

    /// Returns the value of a key that counts.
    pub(crate) fn given(&self, key: &str) -> Option<&Given> {
        self.find(key).map(|value| &value.given)
    }

    /// Returns where the value of a key comes from.
    pub(crate) fn source(&self, key: &str) -> Source {
        self.find(key).map_or(Source::Default, |value| value.source.clone())
    }

    /// Returns true if a list is set and not empty.
    pub(crate) fn has_items(&self, key: &str) -> bool {
        matches!(self.given(key), Some(Given::List(items)) if !items.is_empty())
    }
}
