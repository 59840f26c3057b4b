//! A store that speaks the second version, and decides on every operation itself.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    connection::Connection,
    settle::{Repeat, WriteState, settle},
};
use fastauth_core::store::{
    Condition, CurrentTokens, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, SessionFilter, SessionStatus,
    StoreError, TokenRecord,
};

mod calls;

/// The store, once it has announced the second version.
#[derive(Clone)]
pub(super) struct V2 {
    connection: Arc<Connection>,
    /// Its calls are made even if the store failed before.
    is_urgent: bool,
}

impl V2 {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, is_urgent: false }
    }

    /// Returns the same store for revocations.
    pub(super) fn urgent(&self) -> Self {
        Self { is_urgent: true, ..self.clone() }
    }

    pub(super) async fn save(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        options: SaveOptions,
    ) -> Result<Saved, StoreError> {
        let repeat = if options.condition == Condition::None { Repeat::WhenBroken } else { Repeat::Never };
        settle(
            deadline,
            repeat,
            move |via| self.post_record(record, options, via),
            move || async move {
                let held = self.digests(&record.client_id, Some(&record.session)).await?;
                let version = held.filter(|held| is_digest_of(held, record)).and_then(|held| held.version);
                Ok(version.map_or(WriteState::NotDone, |version| WriteState::Done(Saved::Saved(version))))
            },
        )
        .await
    }

    pub(super) async fn rotate(&self, deadline: Instant, rotation: &Rotation) -> Result<Rotated, StoreError> {
        let successor = &rotation.successor;
        // Without a grace, the second of two that arrive looks like a stolen token.
        let repeat = if rotation.grace.is_zero() { Repeat::Never } else { Repeat::WhenBroken };
        settle(
            deadline,
            repeat,
            move |via| self.post_rotation(rotation, via),
            move || async move {
                Ok(match self.digests(&successor.client_id, Some(&successor.session)).await? {
                    Some(held) if is_digest_of(&held, successor) => WriteState::Done(Rotated::Rotated),
                    Some(held) if held.refresh == Some(rotation.presented) => WriteState::NotDone,
                    _ => WriteState::Unclear,
                })
            },
        )
        .await
    }

    /// Revokes. If the answer to a revocation is lost, the number of sessions that it ended is not known: it is at least one.
    pub(super) async fn revoke(
        &self,
        deadline: Instant,
        revocation: &Revocation,
        if_version: Option<u64>,
    ) -> Result<Revoked, StoreError> {
        let live = &live_sessions(revocation);
        let name = live.session.as_deref();
        let repeat = if if_version.is_none() { Repeat::WhenSilent } else { Repeat::Never };
        settle(
            deadline,
            repeat,
            move |via| self.delete(revocation, if_version, via),
            move || async move {
                let page = self.page(live).await?;
                let is_live = page.sessions.iter().any(|entry| name.is_none_or(|name| entry.session == name));
                Ok(match page.next {
                    _ if is_live => WriteState::NotDone,
                    // What this page lacks, the next may have.
                    Some(_) => WriteState::Unclear,
                    None => WriteState::Done(Revoked::Sessions(1)),
                })
            },
        )
        .await
    }

    /// Revokes access tokens alone. If the answer does not come, it is sent again: no look-up shows whether it happened, and twice does no
    /// harm.
    pub(super) async fn revoke_access(
        &self,
        deadline: Instant,
        client_id: &str,
        session: Option<&str>,
    ) -> Result<u64, StoreError> {
        settle(
            deadline,
            Repeat::WhenSilent,
            move |via| self.delete_access(client_id, session, via),
            || async { Ok(WriteState::NotDone) },
        )
        .await
    }
}

/// Returns the filter for the sessions that a revocation is to end.
fn live_sessions(revocation: &Revocation) -> SessionFilter {
    let mut filter = SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() };
    match revocation {
        Revocation::Session { client_id, session } => {
            filter.client_id = Some(client_id.clone());
            filter.session = Some(session.clone());
        }
        Revocation::Client(client_id) => filter.client_id = Some(client_id.clone()),
        Revocation::All => {}
    }
    filter
}

/// Returns true if the digests are those of a record's tokens. The access token may have been revoked since.
fn is_digest_of(held: &CurrentTokens, record: &TokenRecord) -> bool {
    held.access.is_none_or(|access| access == record.access.digest) && held.refresh == Some(record.refresh.digest)
}
