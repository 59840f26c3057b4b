//! What a call was, and what came of it, for logs and metrics.

/// A call of the store API and its outcome, without any id or token. Each response of a
/// [`StoreService`](crate::StoreService) has it in its extensions, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreOutcome {
    /// The path with names in place of ids, such as `/v2/clients/{client_id}/token`, or `other` if the API has no such path.
    pub route: &'static str,
    /// What is asked of the store, such as `rotate`, or `other`.
    pub operation: &'static str,
    /// `ok`, `repeated` for a rotation whose pair was sent again, or the code of the refusal, such as `reuse_detected`.
    pub outcome: &'static str,
    /// The number of sessions that the call revoked.
    pub revoked: u64,
}

/// The part of an outcome that the call itself knows.
#[derive(Clone, Copy)]
pub(super) struct CallResult {
    pub(super) outcome: &'static str,
    pub(super) revoked: u64,
}

impl CallResult {
    pub(super) const OK: Self = Self { outcome: "ok", revoked: 0 };

    pub(super) fn new(outcome: &'static str) -> Self {
        Self { outcome, ..Self::OK }
    }

    pub(super) fn revoked(revoked: u64) -> Self {
        Self { revoked, ..Self::OK }
    }
}
