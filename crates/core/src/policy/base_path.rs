//! The path of a request with the base path before it, and without it.

use http::Uri;

use super::{
    Methods, PathRefusal, Prefix, RequestLine, Requirement, Rules, Watch,
    case::fold,
    readings::{Reading, Step},
    tails::Steps,
    target_path,
};

impl Rules {
    /// Returns true if every reading of a request's path is this prefix or below it, in whole segments: of the path as the client sent it, or
    /// of that with the base path before it. A reading with an empty or a dot segment is below nothing: something that is mounted on the way may
    /// take it for another path.
    #[must_use]
    pub fn are_below(&self, line: &RequestLine<'_>, prefix: &Prefix) -> bool {
        let Ok(path) = target_path(line.method, line.original_uri.unwrap_or(line.uri)) else { return false };
        let is_below = |path: &str| {
            let mut below = Below { spellings: prefix.spellings(), are_all: true };
            self.consider_path(path, Methods::ALL, false, &mut below).is_ok() && below.are_all
        };
        is_below(path) || self.base_path.as_ref().is_some_and(|base| is_below(&format!("{base}{path}")))
    }

    /// Computes what a URI asks for: its path as it is, with the base path before it and, if it begins with that, without it.
    /// So a guard counts however it is written, and what opens has to be written in all ways.
    pub(super) fn consider_uri(
        &self,
        line: &RequestLine<'_>,
        uri: &Uri,
        watch: &mut impl Watch,
    ) -> Result<Requirement, PathRefusal> {
        let path = target_path(line.method, uri)?;
        let method = Methods::of_request(line.method, line.connect);
        let Some(base) = &self.base_path else { return self.consider_path(path, method, false, watch) };
        let as_sent = self.consider_path(path, method, true, watch)?;
        let requirement = as_sent.or(self.consider_path(&format!("{base}{path}"), method, false, watch)?);
        let Some(below) = self.below_base(path) else { return Ok(requirement) };
        Ok(requirement.or(self.consider_path(below, method, false, watch)?))
    }

    /// Computes what is asked of the readings that begin with the base path, without that. The path as it was sent, which is
    /// the first of them, is looked at by itself.
    pub(super) fn weigh_below_base(
        &self,
        readings: &[Reading],
        method: Methods,
        steps: &Steps,
        watch: &mut impl Watch,
    ) -> Requirement {
        let mut below: Vec<Reading> = Vec::new();
        for (from, reading) in readings.iter().enumerate().skip(1) {
            if let Some(text) = self.below_base(&reading.text) {
                watch.reading(text, Step::DropBasePath, Some(from));
                below.push(Reading { text: text.to_owned(), step: Step::DropBasePath, from: Some(from) });
            }
        }
        match below.first() {
            Some(first) => self.weigh_all(&first.text, &below, method, steps).of_other_reading(),
            None => Requirement::NOTHING,
        }
    }

    /// Returns what is below the base path, if a path is that or below.
    pub(super) fn below_base<'a>(&self, path: &'a str) -> Option<&'a str> {
        let base = self.base_path.as_ref()?;
        let end = path.match_indices('/').nth(base.matches('/').count()).map_or(path.len(), |(at, _)| at);
        let (head, below) = path.split_at(end);
        let is_base = if self.options.case_insensitive { fold(head) == fold(base) } else { head == base };
        is_base.then_some(if below.is_empty() { "/" } else { below })
    }
}

/// Whether all readings are below a prefix.
struct Below {
    spellings: [String; 3],
    are_all: bool,
}

impl Watch for Below {
    fn reading(&mut self, text: &str, _: Step, _: Option<usize>) {
        let is_plain = text.strip_prefix('/').is_some_and(|rest| {
            rest.strip_suffix('/').unwrap_or(rest).split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        });
        let is_below = self.spellings.iter().any(|prefix| {
            text.strip_prefix(prefix.as_str()).is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'/', ..]))
        });
        self.are_all &= is_plain && is_below;
    }

    fn fault(&mut self, _: PathRefusal) {
        self.are_all = false;
    }
}
