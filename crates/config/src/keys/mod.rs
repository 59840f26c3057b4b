//! The table of the configuration keys: a static for each, beside the method of the builder that sets it in code.

use crate::key::{Group, Key};

pub(crate) mod application;
pub(crate) mod cache;
pub(crate) mod endpoints;
pub(crate) mod paths;
pub(crate) mod secrets;
pub(crate) mod store;
pub(crate) mod tokens;
pub(crate) mod websockets;

/// Every key there is, in the order in which they are read, and in which reports show them.
pub(crate) static GROUPS: [&Group; 8] = [
    &application::GROUP,
    &store::GROUP,
    &secrets::GROUP,
    &paths::GROUP,
    &tokens::GROUP,
    &cache::GROUP,
    &endpoints::GROUP,
    &websockets::GROUP,
];

/// Returns every key there is.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys).copied()
}

/// Returns the keys that a variable without a prefix sets, too, with that variable.
pub(crate) fn bare() -> impl Iterator<Item = (&'static Key, &'static str)> {
    all().filter_map(|key| Some((key, key.bare?)))
}

/// Returns the key of a spelling in kebab-case, snake_case or both mixed.
pub(crate) fn find(spelling: &str) -> Option<&'static Key> {
    all().find(|key| key.is_spelled(spelling))
}

/// The known key that is most like an unknown one.
pub(crate) struct Nearest {
    pub(crate) name: &'static str,
    /// How many changes it is away.
    pub(crate) distance: usize,
}

/// Returns the known key that is most like this spelling.
pub(crate) fn nearest(spelling: &str) -> Nearest {
    let name = spelling.replace('_', "-").to_ascii_lowercase();
    all()
        .flat_map(|key| [Some(key.name), key.alias])
        .flatten()
        .map(|known| Nearest { name: known, distance: strsim::damerau_levenshtein(&name, known) })
        .min_by_key(|nearest| nearest.distance)
        .unwrap_or(Nearest { name: "", distance: usize::MAX })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::key::ValueKind;

    #[test]
    fn names_are_unique_and_documented() {
        let mut names = BTreeSet::new();
        for key in all() {
            for name in [Some(key.name), key.alias].into_iter().flatten() {
                assert!(names.insert(name), "{name} names two keys");
                assert_eq!(find(&name.replace('-', "_")), Some(key));
            }
            assert!(!key.doc.is_empty() || matches!(key.kind, ValueKind::Ignored), "{key:?} has no text");
        }
    }

    #[test]
    fn defaults_are_within_their_limits() {
        for key in all() {
            match &key.kind {
                ValueKind::Number { limits, .. } => {
                    assert!(limits.default.is_none_or(|number| (limits.min..=limits.max).contains(&number)), "{key:?}");
                }
                ValueKind::Time { limits, .. } => {
                    assert_eq!(limits.problem(limits.default), None, "{key:?}");
                }
                ValueKind::Choice(choices) => assert!(choices.len() > 1, "{key:?}"),
                _ => {}
            }
        }
    }

    #[test]
    fn slip_of_the_hand_is_recognised() {
        for (slip, name) in [("acces-token-paths", "access-token-paths"), ("MASTER_TOKE", "master-token")] {
            assert_eq!(nearest(slip).name, name);
        }
    }
}
