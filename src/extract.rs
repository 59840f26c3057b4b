//! The URI from before a nested axum router stripped a prefix.

use axum::extract::OriginalUri;
use http::{Extensions, Uri};

/// Returns the URI as the client sent it, if an axum router stored it.
#[inline]
pub(crate) fn original_uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<OriginalUri>().map(|OriginalUri(uri)| uri)
}

/// Changes that URI.
pub(crate) fn change_original_uri(extensions: &mut Extensions, change: impl FnOnce(&Uri) -> Option<Uri>) {
    if let Some(OriginalUri(uri)) = extensions.get_mut::<OriginalUri>()
        && let Some(changed) = change(uri)
    {
        *uri = changed;
    }
}
