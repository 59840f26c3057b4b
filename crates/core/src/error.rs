//! The `Debug` form of errors.

use std::{error::Error, fmt};

/// Implements `Debug` like `Display`, with the causes: `fn main() -> Result<(), Box<dyn Error>>` prints it.
#[macro_export]
macro_rules! debug_as_text {
    ($($error:ty),+ $(,)?) => {
        $(impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::error::write_with_causes(self, f)
            }
        })+
    };
}

/// Writes an error and its causes, except those whose text is part of it.
pub fn write_with_causes(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let text = causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") });
    f.write_str(&text)
}

debug_as_text!(
    crate::issue::ClaimsRefusal,
    crate::issue::ClientIdError,
    crate::issue::IssueErrorKind,
    crate::token::TokenError,
    crate::store::StoreError,
    crate::secret::TokenDigestError,
);
