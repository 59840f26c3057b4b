//! What the router requires by itself, for `fastauth explain`.

use http::{Extensions, Uri};

use super::place::{Mount, PathMatch};
use crate::settings::EndpointOptions;

/// What the [`TokenRouter`](crate::TokenRouter) requires of requests to one of its endpoints, whatever the path lists say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointRequirement {
    /// What the endpoint does.
    pub summary: &'static str,
    /// The methods, as the header `Allow` lists them.
    pub methods: &'static str,
    /// What a request has to bring.
    pub credential: &'static str,
}

impl EndpointRequirement {
    /// Returns the requirement of the endpoint that a URI names, if the router is mounted at a prefix such as `/auth`.
    #[must_use]
    pub fn find(prefix: &str, uri: &Uri, options: &EndpointOptions) -> Option<Self> {
        let PathMatch::Endpoint(endpoint) = Mount::new(prefix).find(uri, &Extensions::new()) else { return None };
        Some(Self {
            summary: endpoint.summary,
            methods: (endpoint.methods)(options),
            credential: endpoint.protection.credential(),
        })
    }
}
