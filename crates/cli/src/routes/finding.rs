//! What there is to say of the operations.

use fastauth_core::shown::shown;
use serde::Serialize;

use crate::{
    failure::Failure,
    output::{self, Label},
};

/// What there is to say, of an operation or of all of them.
#[derive(Serialize)]
pub(super) struct Finding {
    #[serde(serialize_with = "word")]
    severity: Label,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    message: String,
}

impl Finding {
    pub(super) fn new(severity: Label, method: &str, path: &str, message: String) -> Self {
        Self { severity, method: Some(method.to_owned()), path: Some(path.to_owned()), message }
    }

    pub(super) fn of_all(severity: Label, message: String) -> Self {
        Self { severity, method: None, path: None, message }
    }

    pub(super) fn severity(&self) -> Label {
        self.severity
    }

    pub(super) fn is_fault(&self) -> bool {
        self.severity == Label::Fault
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        match (&self.method, &self.path) {
            (Some(method), Some(path)) => {
                output::labelled(self.severity, &format!("{} {}: {}", shown(method), shown(path), self.message))
            }
            _ => output::labelled(self.severity, &self.message),
        }
    }
}

fn word<S: serde::Serializer>(label: &Label, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(label.word())
}
