//! Revoking by the first version, which knows no such thing: a pair that is no pair of tokens is written over the client's.
//!
//! A refresh that is under way on another node may write its pair over that once more, and the contract has nothing to
//! prevent it. So what was revoked is looked after for as long as such a refresh can take, and revoked again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{RestStore, Urgency, holds, settle::Repeat, v1::not_its_own};
use fastauth_core::{
    secret::Secret,
    store::{Revocation, Revoked, StoreError, StoredPair, TokenRecord},
    token::unverified_record,
};

/// What stands in place of the tokens of a client that was revoked. It is no token, so nobody can present it.
const REVOKED: &str = "revoked";

/// How many revocations are looked after at the same time.
pub(super) const LOOKED_AFTER: usize = 4096;

/// How many of them are looked at, at the same time; the others wait, each for its turn.
pub(super) const LOOKED_AT: usize = 16;

/// How long is waited before each look at what was revoked; together as long as a refresh may take.
const WAITS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
];

impl RestStore {
    /// Whether a revocation is about the pair that a store of the first version holds, which names its family itself. What was
    /// revoked before is nothing to revoke.
    pub(super) fn is_concerned(&self, held: &StoredPair, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Family { family, .. } => self.family_of(held).is_some_and(|held| held == *family),
            Revocation::Client(_) | Revocation::All => !holds(held, &void("")),
        }
    }

    /// The family that a pair names.
    fn family_of(&self, held: &StoredPair) -> Option<String> {
        let kept = held.refresh_token.as_ref()?;
        let token = match &self.keys {
            Some(keys) => keys.open(kept)?,
            None => kept.clone(),
        };
        Some(unverified_record(String::new(), token.clone(), token).family)
    }

    /// Revokes by the first version what is held, and looks after it.
    pub(super) async fn void(
        &self,
        deadline: Instant,
        client_id: &str,
        held: &StoredPair,
    ) -> Result<Revoked, StoreError> {
        let family = self.family_of(held).filter(|family| !family.is_empty());
        self.overwrite(deadline, client_id).await?;
        // A pair of no family could be that of a new log-in.
        if let Some(family) = family {
            if self.is_back(client_id, &family).await? {
                self.overwrite(deadline, client_id).await?;
            }
            self.look_after(client_id.to_owned(), family);
        }
        Ok(Revoked::Families(1))
    }

    /// Revokes where a 404 without a body says that the client is not known, which is not always the store's word: what is
    /// held once it was written is.
    pub(super) async fn void_unknown(&self, deadline: Instant, client_id: &str) -> Result<Revoked, StoreError> {
        self.overwrite(deadline, client_id).await?;
        match self.calls.get(client_id).await? {
            Some(_) => Ok(Revoked::Families(0)),
            None => Err(not_its_own()),
        }
    }

    async fn overwrite(&self, deadline: Instant, client_id: &str) -> Result<(), StoreError> {
        let void = void(client_id);
        // It goes through, although it may arrive twice.
        self.upsert(deadline, &void, Repeat::WhenSilent, |_| true).await.map(drop)
    }

    /// Whether a pair of a family that was revoked is held again.
    async fn is_back(&self, client_id: &str, family: &str) -> Result<bool, StoreError> {
        let held = self.calls.get(client_id).await?;
        Ok(held.and_then(|held| self.family_of(&held)).is_some_and(|held| held == family))
    }

    fn look_after(&self, client_id: String, family: String) {
        let Ok(permit) = Arc::clone(&self.looked_after).try_acquire_owned() else {
            tracing::warn!(
                most = LOOKED_AFTER,
                "too many revocations at once to look after each: a refresh that is under way on another node may undo this one"
            );
            return;
        };
        let store = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            for wait in WAITS {
                sleep(wait).await;
                let Ok(_turn) = store.looked_at.acquire().await else { return };
                if store.calls.speaks_v2() {
                    return;
                }
                // Trouble with the store passes, or everything that rests on it is refused.
                if store.ask(Box::pin(store.is_back(&client_id, &family))).await.unwrap_or(false) {
                    tracing::warn!("a refresh on another node has undone a revocation, which is done again");
                    let deadline = store.deadline();
                    let again = Box::pin(store.overwrite(deadline, &client_id));
                    let _ = store.write(deadline, Some(&client_id), Urgency::First, again, |()| false).await;
                }
            }
        });
    }
}

fn void(client_id: &str) -> TokenRecord {
    unverified_record(client_id.to_owned(), Secret::from(REVOKED), Secret::from(REVOKED))
}
