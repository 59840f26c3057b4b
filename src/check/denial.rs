//! A refusal, with its reason and the token that it concerns.

use std::sync::Arc;

use super::lifetime::Access;
use crate::DenialReason;

/// A refusal, to be found in the extensions of the response. Only the guard and the token endpoints can create one.
#[derive(Clone, Debug)]
pub struct Denial {
    reason: DenialReason,
    /// Of the token, if its signature is valid.
    access: Option<Arc<Access>>,
}

impl Denial {
    pub(crate) fn new(reason: DenialReason, access: &Arc<Access>) -> Self {
        Self { reason, access: Some(Arc::clone(access)) }
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// Returns the client that the access token was issued to, if its signature is valid: the token is not accepted any more, or the
    /// store could not be asked. Returns `None` if it is not known who sent the request.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.access.as_ref().map(|access| access.client_id())
    }
}

impl From<DenialReason> for Denial {
    fn from(reason: DenialReason) -> Self {
        Self { reason, access: None }
    }
}
