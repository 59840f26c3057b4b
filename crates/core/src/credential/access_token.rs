//! The access token in the header `ACCESS-TOKEN`.

use http::HeaderName;

use super::{Carries, Scheme, SecurityScheme, whole};

pub(super) const HEADER: HeaderName = HeaderName::from_static("access-token");

/// An access token in the header `ACCESS-TOKEN`.
pub static ACCESS_TOKEN: Scheme = Scheme {
    name: "ACCESS-TOKEN",
    carries: Carries::AccessToken,
    header: Some(HEADER),
    read: Some(whole),
    challenge: None,
    openapi: Some(SecurityScheme {
        name: "AccessTokenHeader",
        bearer: false,
        description: "An access token (JWT), which the token endpoints issue",
    }),
};
