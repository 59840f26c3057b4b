//! The master token: a static secret in the header `MASTER-TOKEN`.

use http::HeaderName;

use super::{Carries, Scheme, SecurityScheme, whole};

pub(super) const NAME: &str = "MASTER-TOKEN";

pub(super) const HEADER: HeaderName = HeaderName::from_static("master-token");

/// A master token in the header `MASTER-TOKEN`.
pub static MASTER_TOKEN: Scheme = Scheme {
    name: NAME,
    carries: Carries::MasterToken,
    header: Some(HEADER),
    read: Some(whole),
    challenge: None,
    openapi: Some(SecurityScheme {
        name: "MasterTokenHeader",
        bearer: false,
        description: "The master token: `master-token` in the configuration",
    }),
};
