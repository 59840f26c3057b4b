//! Which endpoint a path names: each has one path, as it is seen from outside.

use http::{Extensions, Uri};

use super::{ENDPOINTS, Endpoint};
#[cfg(feature = "axum")]
use crate::extract::original_uri;

/// Where the endpoints are, unless a router before them strips what they are mounted at.
const USUAL: &str = "/auth";

/// What stands before the endpoints' own paths.
#[derive(Clone, Debug)]
pub(super) enum Mount {
    /// Nothing, if a router has stripped it, and `/auth` otherwise.
    Usual,
    /// This, in the path as it arrives.
    At(String),
}

/// What a path names.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Endpoint(Endpoint),
    /// An endpoint, but for a slash at the end: the last segment before it.
    WithSlash(&'static str),
    Nothing,
    /// What would be an endpoint if something had stripped `/auth`.
    PerhapsStripped,
}

impl Mount {
    /// Below a prefix, however its ends are written.
    pub(super) fn at(prefix: &str) -> Self {
        Self::At(match prefix.trim_matches('/') {
            "" => String::new(),
            inner => format!("/{inner}"),
        })
    }

    /// What stands before the endpoints' paths if nothing is stripped.
    #[cfg(feature = "axum")]
    pub(super) fn prefix(&self) -> &str {
        match self {
            Self::Usual => USUAL,
            Self::At(prefix) => prefix,
        }
    }

    pub(super) fn place(&self, uri: &Uri, extensions: &Extensions) -> Place {
        let path = uri.path();
        let original = original_uri(extensions).map(Uri::path);
        let stripped = original.filter(|original| *original != path);
        if stripped.is_some_and(|original| !original.strip_suffix(path).is_some_and(is_mount)) {
            return Place::Nothing;
        }
        let own = match self {
            Self::Usual if stripped.is_some() => Some(path),
            Self::Usual => path.strip_prefix(USUAL),
            Self::At(prefix) => path.strip_prefix(&**prefix),
        };
        match own.and_then(endpoint) {
            Some(place) => place,
            None if matches!(self, Self::Usual) && original.is_none() && endpoint(path).is_some() => {
                Place::PerhapsStripped
            }
            None => Place::Nothing,
        }
    }
}

/// Whether a router can be mounted there. Some strip one slash more than that, and then a path has two forms.
fn is_mount(stripped: &str) -> bool {
    !stripped.ends_with('/') && !stripped.contains("//")
}

fn endpoint(own: &str) -> Option<Place> {
    ENDPOINTS.into_iter().find_map(|(known, endpoint)| match own.strip_prefix(known)? {
        "" => Some(Place::Endpoint(endpoint)),
        "/" => Some(Place::WithSlash(known.rsplit('/').next()?)),
        _ => None,
    })
}

/// The URI before a router stripped a prefix, if the request tells it.
#[cfg(not(feature = "axum"))]
fn original_uri(_: &Extensions) -> Option<&Uri> {
    None
}
