//! What files held, to notice by their content that they have changed.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use fastauth_core::secret::{Secret, SecretDigest};

/// What the files of a configuration held when they were read. It compares by content: a link that is swapped is noticed, and a new
/// date is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fingerprint(Vec<(PathBuf, Result<SecretDigest, ErrorKind>)>);

impl Fingerprint {
    /// Adds what came of reading a file.
    pub(crate) fn note(&mut self, path: &Path, read: &io::Result<Secret>) {
        let held = match read {
            Ok(text) => Ok(SecretDigest::of(text.expose().as_bytes())),
            Err(error) => Err(error.kind()),
        };
        self.0.push((path.to_owned(), held));
    }
}
