//! The variables of the process.

use std::collections::BTreeMap;

/// The environment of the process.
#[derive(Default)]
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
    /// The names of those that are no text.
    pub(crate) unreadable: Vec<String>,
}

impl Environment {
    pub(crate) fn from_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                Err(_) => environment.unreadable.push(name),
            }
        }
        environment
    }
}

/// Takes off the line break that a value gets from the file that it was read from. Others are no part of any value.
pub(crate) fn without_line_break(value: &str) -> &str {
    let value = value.strip_suffix('\n').unwrap_or(value);
    value.strip_suffix('\r').unwrap_or(value)
}

/// Returns true if Kubernetes sets a variable of this name, for a service whose name begins as ours does.
pub fn is_of_a_service(name: &str) -> bool {
    const ENDS: [&str; 3] = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    ENDS.iter().any(|end| name.ends_with(end))
        || name.contains("_SERVICE_PORT_")
        || name.split("_PORT_").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}
