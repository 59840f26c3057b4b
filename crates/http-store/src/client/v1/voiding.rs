//! Revoking by the first version, which has no such call: a pair that is no pair of tokens is written over the client's.
//!
//! A refresh that is under way on another node may write its pair over that again, and the contract has nothing to prevent it. So a
//! revoked client is watched for as long as such a refresh can take, and revoked again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    super::{RestStore, Urgency, settle::Repeat},
    V1,
    calls::not_its_own,
    holds,
};
use crate::record::unverified_record;
use fastauth_core::{
    secret::Secret,
    store::{Revocation, StoreError, StoredPair, TokenRecord},
};

/// The text that takes the place of a revoked client's tokens. It is no token, so it cannot be presented.
const REVOKED: &str = "revoked";

/// How many clients are watched at a time.
pub(crate) const WATCHED: usize = 4096;

/// How many of them are looked up at a time.
pub(crate) const LOOKED_UP: usize = 16;

/// The pauses before each look-up of a watched client; together as long as a refresh may take.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
];

/// What a revocation by the first version did.
pub(crate) struct Voided {
    pub(crate) sessions: u64,
    /// The session that a refresh on another node may bring back.
    pub(crate) watched: Option<String>,
}

impl V1 {
    /// Revokes a client, or one session of it.
    pub(crate) async fn revoke(
        &self,
        deadline: Instant,
        client_id: &str,
        revocation: &Revocation,
    ) -> Result<Option<Voided>, StoreError> {
        let held = self.get(client_id).await?;
        if held.is_announced {
            return Ok(None);
        }
        Ok(Some(match held.pair {
            Some(pair) if self.is_concerned(&pair, revocation) => self.void(deadline, client_id, &pair).await?,
            None if held.is_bare => self.void_unknown(deadline, client_id).await?,
            _ => Voided { sessions: 0, watched: None },
        }))
    }

    /// Returns true if a revocation concerns a pair, which names its session itself. A revoked pair is not revoked again.
    fn is_concerned(&self, held: &StoredPair, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Session { session, .. } => self.session_of(held).is_some_and(|held| held == *session),
            Revocation::Client(_) | Revocation::All => !holds(held, &void("")),
        }
    }

    /// Returns the session that a pair names.
    fn session_of(&self, held: &StoredPair) -> Option<String> {
        let kept = held.refresh_token.as_ref()?;
        let token = match &self.keys {
            Some(keys) => keys.get().open(kept)?,
            None => kept.clone(),
        };
        Some(unverified_record(String::new(), token.clone(), token).session)
    }

    async fn void(&self, deadline: Instant, client_id: &str, held: &StoredPair) -> Result<Voided, StoreError> {
        // A pair of no session could be that of a new session.
        let session = self.session_of(held).filter(|session| !session.is_empty());
        self.overwrite(deadline, client_id).await?;
        if let Some(session) = &session
            && self.is_back(client_id, session).await?
        {
            self.overwrite(deadline, client_id).await?;
        }
        Ok(Voided { sessions: 1, watched: session })
    }

    /// Revokes a client that a bare 404 says is unknown, which is not always the store's word: what is held after a write is.
    async fn void_unknown(&self, deadline: Instant, client_id: &str) -> Result<Voided, StoreError> {
        self.overwrite(deadline, client_id).await?;
        match self.get(client_id).await?.pair {
            Some(_) => Ok(Voided { sessions: 0, watched: None }),
            None => Err(not_its_own()),
        }
    }

    async fn overwrite(&self, deadline: Instant, client_id: &str) -> Result<(), StoreError> {
        // It does no harm if it arrives twice.
        self.upsert(deadline, &void(client_id), Repeat::WhenSilent, |_| true).await.map(drop)
    }

    /// Returns true if a pair of a revoked session is held again.
    async fn is_back(&self, client_id: &str, session: &str) -> Result<bool, StoreError> {
        let held = self.get(client_id).await?.pair;
        Ok(held.and_then(|held| self.session_of(&held)).is_some_and(|held| held == session))
    }
}

impl RestStore {
    /// Watches a revoked client, and revokes it again if a refresh on another node brings its session back.
    pub(crate) fn watch(&self, client_id: String, session: String) {
        let Ok(permit) = Arc::clone(&self.watched).try_acquire_owned() else {
            tracing::warn!(
                target: "fastauth",
                limit = WATCHED,
                "too many revocations at once to watch each: a refresh that is under way on another node may undo this one"
            );
            return;
        };
        let store = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            for pause in PAUSES {
                sleep(pause).await;
                let Ok(_turn) = store.looked_up.acquire().await else { return };
                if store.connection.speaks_v2() {
                    return;
                }
                // Trouble with the store passes, or every request that needs it is refused.
                let is_back = Box::pin(store.v1.is_back(&client_id, &session));
                if store.ask(&store.connection.slots.revoking, is_back).await.unwrap_or(false) {
                    tracing::warn!(target: "fastauth", "a refresh on another node undid a revocation: revoking again");
                    let deadline = store.deadline();
                    let again = Box::pin(store.v1.overwrite(deadline, &client_id));
                    let _ = store.write(deadline, Some(&client_id), Urgency::First, again, |()| false).await;
                }
            }
        });
    }
}

fn void(client_id: &str) -> TokenRecord {
    unverified_record(client_id.to_owned(), Secret::from(REVOKED), Secret::from(REVOKED))
}
