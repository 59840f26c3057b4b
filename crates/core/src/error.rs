//! How errors are shown.

use std::{error::Error, fmt};

/// Has `Debug` show errors as `Display` does, with their causes: it is what `fn main() -> Result<(), Box<dyn Error>>` prints.
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

/// Writes an error and those of its causes that it does not tell itself.
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
    crate::issue::IssueError,
    crate::token::TokenError,
    crate::store::StoreError,
    crate::secret::TokenDigestError,
);
