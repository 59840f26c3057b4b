//! The URI from before a nested axum router stripped a prefix.

#[cfg(feature = "axum")]
use axum::extract::OriginalUri;
use http::{Extensions, Uri};

/// Returns the URI as the client sent it, if an axum router stored it.
#[cfg(feature = "axum")]
#[inline]
pub(crate) fn get(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<OriginalUri>().map(|OriginalUri(uri)| uri)
}

#[cfg(not(feature = "axum"))]
#[inline]
pub(crate) fn get(_: &Extensions) -> Option<&Uri> {
    None
}

/// Changes that URI.
#[cfg(feature = "axum")]
pub(crate) fn change(extensions: &mut Extensions, change: impl FnOnce(&Uri) -> Option<Uri>) {
    if let Some(OriginalUri(uri)) = extensions.get_mut::<OriginalUri>()
        && let Some(changed) = change(uri)
    {
        *uri = changed;
    }
}

#[cfg(not(feature = "axum"))]
pub(crate) fn change(_: &mut Extensions, _: impl FnOnce(&Uri) -> Option<Uri>) {}
