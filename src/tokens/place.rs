//! Finds the endpoint that a path names. Each has one path, as clients see it.

use http::{Extensions, Uri};

use super::{endpoint::Endpoint, endpoints::ENDPOINTS};
use crate::original_uri;

/// The mount, unless a router before this one strips it.
const USUAL: &str = "/auth";

/// The part of a path before the endpoint's own.
#[derive(Clone, Debug)]
pub(super) enum Mount {
    /// `/auth`, or nothing if a router has stripped it.
    Usual,
    /// This text, in the path as it arrives.
    At(String),
}

/// What a path leads to.
#[derive(Clone, Copy)]
pub(super) enum PathMatch {
    Endpoint(&'static Endpoint),
    /// An endpoint with a slash at its end, after this last segment.
    WithSlash(&'static str),
    Nothing,
    /// Nothing, but it would be an endpoint if something had stripped `/auth`.
    PerhapsStripped,
}

impl Mount {
    /// Creates the mount at a prefix, whose slashes at both ends are optional.
    pub(super) fn new(prefix: &str) -> Self {
        Self::At(match prefix.trim_matches('/') {
            "" => String::new(),
            inner => format!("/{inner}"),
        })
    }

    /// Returns what stands before the endpoints' paths if nothing is stripped.
    #[cfg(feature = "axum")]
    pub(super) fn prefix(&self) -> &str {
        match self {
            Self::Usual => USUAL,
            Self::At(prefix) => prefix,
        }
    }

    pub(super) fn find(&self, uri: &Uri, extensions: &Extensions) -> PathMatch {
        let path = uri.path();
        let original = original_uri::get(extensions).map(Uri::path);
        let stripped = original.filter(|original| *original != path);
        if stripped.is_some_and(|original| !original.strip_suffix(path).is_some_and(is_mount)) {
            return PathMatch::Nothing;
        }
        let own = match self {
            Self::Usual if stripped.is_some() => Some(path),
            Self::Usual => path.strip_prefix(USUAL),
            Self::At(prefix) => path.strip_prefix(&**prefix),
        };
        match own.and_then(find_own) {
            Some(found) => found,
            None if matches!(self, Self::Usual) && original.is_none() && find_own(path).is_some() => {
                PathMatch::PerhapsStripped
            }
            None => PathMatch::Nothing,
        }
    }
}

/// Returns true if a router can be mounted there. Some strip one more slash, and then a path would have two forms.
fn is_mount(stripped: &str) -> bool {
    !stripped.ends_with('/') && !stripped.contains("//")
}

fn find_own(own: &str) -> Option<PathMatch> {
    ENDPOINTS.iter().find_map(|endpoint| match own.strip_prefix(endpoint.path)? {
        "" => Some(PathMatch::Endpoint(endpoint)),
        "/" => Some(PathMatch::WithSlash(endpoint.path.rsplit('/').next()?)),
        _ => None,
    })
}
