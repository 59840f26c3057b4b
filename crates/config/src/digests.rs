//! The values of the keys, to name those that another configuration changes.

use std::collections::BTreeMap;

use fastauth_core::secret::SecretDigest;

use crate::{keys, values::Values};

/// What the values of the keys are recognised by. None of them can be found out from it.
#[derive(Clone, Debug, Default)]
pub struct Digests(BTreeMap<&'static str, SecretDigest>);

impl Digests {
    pub(crate) fn of(values: &Values) -> Self {
        Self(keys::all().filter_map(|key| Some((key.name, values.given(key.name)?.digest()))).collect())
    }

    /// Returns the keys whose values differ.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let names = keys::all().map(|key| key.name);
        names.filter(|name| self.0.get(name) != other.0.get(name)).collect()
    }
}
