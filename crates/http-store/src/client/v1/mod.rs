//! A store that speaks the first version: `GET` and `POST` of one pair.
//!
//! There is no compare-and-swap, so a rotation is a look-up and a write. There are no sessions: a client is revoked by writing
//! a pair over its own that is no pair of tokens.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use super::{
    connection::Connection,
    settle::{Repeat, WriteState, settle},
};
use crate::record::unverified_record;
use fastauth_core::{
    keys::CurrentKeys,
    secret::Secret,
    store::{
        Condition, CurrentTokens, Rotated, Rotation, SaveOptions, Saved, StoreError, StoredPair, TokenDigest,
        TokenRecord,
    },
};

mod calls;
mod voiding;

pub(super) use calls::{HeldPair, foreign};
pub(super) use voiding::{LOOKED_UP, WATCHED};

/// The store, for as long as it has not announced the second version. An operation returns `None` if the store announced that
/// on the way and the operation is to be done by it.
#[derive(Clone)]
pub(super) struct V1 {
    connection: Arc<Connection>,
    /// The keys that tokens are encrypted by before they are stored.
    keys: Option<Arc<CurrentKeys>>,
    /// Its calls are made even if the store failed before.
    is_urgent: bool,
}

impl V1 {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, keys: None, is_urgent: false }
    }

    /// Returns the same store for revocations.
    pub(super) fn urgent(&self) -> Self {
        Self { is_urgent: true, ..self.clone() }
    }

    /// Decrypts stored tokens by these keys.
    pub(super) fn opened_by(self, keys: Arc<CurrentKeys>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    pub(super) fn current(&self, pair: &StoredPair) -> CurrentTokens {
        CurrentTokens {
            access: self.digest(pair.access_token.as_ref()),
            refresh: self.digest(pair.refresh_token.as_ref()),
            previous_access: None,
            version: pair.version,
        }
    }

    /// Returns the digest of the token that is kept as this text.
    fn digest(&self, kept: Option<&Secret>) -> Option<TokenDigest> {
        let kept = kept?;
        match &self.keys {
            Some(keys) => keys.get().open(kept).map(|token| TokenDigest::of(token.expose())),
            None => Some(TokenDigest::of(kept.expose())),
        }
    }

    pub(super) async fn save(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        options: SaveOptions,
    ) -> Result<Option<Saved>, StoreError> {
        if options.condition != Condition::None {
            return Err(StoreError::unsupported("the token store has no conditional writes"));
        }
        let saved = self.upsert(deadline, record, Repeat::WhenBroken, |_| true).await?;
        // The answer to this may have announced the second version, by which there may be more to save.
        Ok((is_plain(record, options) || !self.connection.speaks_v2()).then_some(saved))
    }

    /// Looks up what is held, and writes the successor if that is what the rotation replaces. Sets `saving` before it writes.
    pub(super) async fn rotate(
        &self,
        deadline: Instant,
        rotation: &Rotation,
        saving: &AtomicBool,
    ) -> Result<Option<Rotated>, StoreError> {
        let held = self.get(&rotation.successor.client_id).await?;
        if held.is_announced {
            return Ok(None);
        }
        if let Some(lost) = self.lost(held.pair.as_ref(), rotation) {
            return Ok(Some(lost));
        }
        saving.store(true, Ordering::Relaxed);
        let saved =
            self.upsert(deadline, &rotation.successor, Repeat::WhenBroken, |held| self.lost(held, rotation).is_none());
        saved.await?;
        Ok(Some(Rotated::Rotated))
    }

    /// Returns how a rotation fails if this is held, or `None` if it can be done.
    pub(super) fn lost(&self, held: Option<&StoredPair>, rotation: &Rotation) -> Option<Rotated> {
        match held {
            None => Some(Rotated::UnknownClient),
            Some(held) if self.digest(held.refresh_token.as_ref()) == Some(rotation.presented) => None,
            Some(_) => Some(Rotated::Superseded),
        }
    }

    /// Writes a pair, perhaps again if the store still holds what `is_replaced` knows.
    async fn upsert(
        &self,
        deadline: Instant,
        record: &TokenRecord,
        repeat: Repeat,
        is_replaced: impl Fn(Option<&StoredPair>) -> bool,
    ) -> Result<Saved, StoreError> {
        let is_replaced = &is_replaced;
        settle(
            deadline,
            repeat,
            move |via| async move { Ok(Saved::Saved(self.post(record, via).await?.unwrap_or_default())) },
            move || async move {
                Ok(match self.get(&record.client_id).await?.pair {
                    Some(held) if holds(&held, record) => {
                        WriteState::Done(Saved::Saved(held.version.unwrap_or_default()))
                    }
                    held if is_replaced(held.as_ref()) => WriteState::NotDone,
                    _ => WriteState::Unclear,
                })
            },
        )
        .await
    }
}

/// Returns true if the two tokens tell all there is to know of a record: then this version keeps it whole.
pub(super) fn is_plain(record: &TokenRecord, options: SaveOptions) -> bool {
    let access = record.access.text.clone();
    let refresh = record.refresh.text.clone();
    // One session, whose others end, is within any number of them.
    !options.keep_others
        && options.condition == Condition::None
        && *record == unverified_record(record.client_id.clone(), access, refresh)
}

/// Returns true if the tokens of a record are held.
fn holds(held: &StoredPair, record: &TokenRecord) -> bool {
    held.access_token.as_ref() == Some(&record.access.text) && held.refresh_token.as_ref() == Some(&record.refresh.text)
}
