//! Tokens in memory, for tests and trials.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Rotation, StoreFuture, StoredTokens, TokenPair, TokenStore};
use crate::secret::Secret;

/// Keeps the tokens in memory: they are gone when the process ends, and no other process sees them.
///
/// It is meant for tests and for trying things out. A clone is another handle on the same tokens, so that a test can
/// keep one and look at what the server stored.
#[derive(Clone, Default)]
pub struct MemoryStore {
    pairs: Arc<Mutex<HashMap<String, TokenPair>>>,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No caller's code runs while the map is locked, so a poisoned lock still guards a whole map.
    fn pairs(&self) -> MutexGuard<'_, HashMap<String, TokenPair>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenStore for MemoryStore {
    fn load<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredTokens>> {
        Box::pin(async move { Ok(self.pairs().get(client_id).cloned().map(StoredTokens::from)) })
    }

    fn save<'a>(&'a self, client_id: &'a str, tokens: &'a TokenPair) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.pairs().insert(client_id.to_owned(), tokens.clone());
            Ok(())
        })
    }

    fn rotate<'a>(
        &'a self,
        client_id: &'a str,
        presented: &'a Secret,
        successor: &'a TokenPair,
    ) -> StoreFuture<'a, Rotation> {
        Box::pin(async move {
            Ok(match self.pairs().get_mut(client_id) {
                None => Rotation::UnknownClient,
                Some(pair) if pair.refresh_token != *presented => Rotation::Superseded,
                Some(pair) => {
                    *pair = successor.clone();
                    Rotation::Rotated
                }
            })
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
