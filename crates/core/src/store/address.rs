//! The address of a store, as far as it can be checked without one.

use std::{fmt, path::Path, time::Duration};

use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING},
};

use super::{StoreError, StoreErrorKind};

/// Frame the body of a call, so that a wrong one breaks the connection.
const FORBIDDEN: [HeaderName; 2] = [CONTENT_LENGTH, TRANSFER_ENCODING];

/// How long a call to a store behind HTTP may take in all, as its contract has it.
pub const HTTP_PATIENCE: Duration = Duration::from_secs(3);

/// The parts of a URL as they are written. Each is empty if it is not there.
#[derive(Clone, Copy)]
pub struct UrlParts<'a> {
    /// What is before `://`.
    pub scheme: &'a str,
    /// The host, with or without a port, and perhaps a user and a password.
    pub authority: &'a str,
    /// The path with all that follows.
    pub path: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Splits a URL, of whatever form.
    #[must_use]
    pub fn new(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        Self { scheme, authority, path }
    }
}

// Any other part may hold a password.
impl fmt::Debug for UrlParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlParts").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// Checks the URL of a store behind HTTP.
///
/// # Errors
///
/// [`StoreErrorKind::Failed`] if it does not begin with `http://` or `https://`, or has a user, a query or a fragment. The text does not show
/// the URL: there may be a password in it.
pub fn check_url(url: &str) -> Result<(), StoreError> {
    let UrlParts { scheme, authority, path } = UrlParts::new(url);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(failed("the token store's URL has to begin with http:// or https://"));
    }
    if authority.contains('@') {
        return Err(failed("the token store's URL holds a user or a password: send them in a header instead"));
    }
    if path.contains(['?', '#']) {
        return Err(failed("the token store's URL has a query or a fragment: end it with the path"));
    }
    if authority.is_empty() {
        return Err(failed("the token store's URL names no host"));
    }
    Ok(())
}

/// Checks the headers that go with every call to a store behind HTTP.
///
/// # Errors
///
/// [`StoreErrorKind::Failed`] if one of them frames the body.
pub fn check_headers(headers: &HeaderMap) -> Result<(), StoreError> {
    match FORBIDDEN.iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(failed(format!("the header {name} cannot be set for the token store: take it out"))),
        None => Ok(()),
    }
}

fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

/// Returns the path in `sqlite:FILE`, or a bare path. Behind `sqlite:` it is taken as it is written, relative or from `/` on.
///
/// `None` if it names no file, a directory or a database in memory, and for what other programs understand in different ways:
/// `//` or `~` in front of the path, `file:`, parameters behind `?`, and `#`, `%` and `$`.
#[must_use]
pub fn sqlite_path(url: &str) -> Option<&Path> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        return (!url.is_empty() && !url.starts_with(':')).then(|| Path::new(url));
    };
    let is_plain = !path.starts_with("//")
        && !path.starts_with([':', '~'])
        && !path.ends_with('/')
        && Path::new(path).file_name().is_some()
        && !path.to_ascii_lowercase().starts_with("file:")
        && !path.contains(['?', '#', '%', '$'])
        && path.trim() == path;
    (is_plain && !path.is_empty()).then(|| Path::new(path))
}
