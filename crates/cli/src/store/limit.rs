//! A limit on how often each client is issued tokens, for all nodes that use the store together.

use std::{
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::Arc,
};

use fastauth::store::{
    Rotated, Rotation, SaveOptions, Saved, StoreError, StoreFuture, TokenRecord, TokenStore, forward_store,
};
use fastauth_core::{
    clock::Clock,
    limit::{Charge, Limiter},
};

/// A store that refuses to issue tokens to a client beyond its limit.
#[derive(Debug)]
pub(super) struct LimitedStore {
    store: Arc<dyn TokenStore>,
    clients: Limiter,
    hasher: RandomState,
}

impl LimitedStore {
    pub(super) fn new(store: Arc<dyn TokenStore>, per_minute: NonZeroU32, burst: NonZeroU32) -> Self {
        let clients = Limiter::per_minute(per_minute, burst, &Clock::default());
        Self { store, clients, hasher: RandomState::new() }
    }

    fn visit(&self, client_id: &str, charge: Charge) -> Result<(), StoreError> {
        self.clients.visit(self.hasher.hash_one(client_id), charge).map_err(StoreError::rate_limited)
    }
}

impl TokenStore for LimitedStore {
    forward_store!(|store| (store.store);
        kind load compare_now pair pair_of revoke revoke_access list spend check promises patience changes log);

    fn save<'a>(&'a self, record: &'a TokenRecord, options: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async move {
            self.visit(&record.client_id, Charge::IfWithin).map_err(StoreError::on_save)?;
            self.store.save(record, options).await
        })
    }

    /// Counts the rotations that are done: a refresh token that is refused costs the client nothing.
    fn rotate<'a>(&'a self, rotation: &'a Rotation) -> StoreFuture<'a, Rotated> {
        let client_id = &rotation.successor.client_id;
        Box::pin(async move {
            self.visit(client_id, Charge::Never).map_err(StoreError::on_save)?;
            let rotated = self.store.rotate(rotation).await?;
            if rotated == Rotated::Rotated {
                let _ = self.visit(client_id, Charge::Always);
            }
            Ok(rotated)
        })
    }
}
