//! What remembering a token takes: `cargo bench -p fastauth-bench --bench memory`, on Linux.
//!
//! A million tokens are asked for once each, and the growth of the process is told by token. The store keeps nothing.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    future::ready,
    sync::{Arc, Mutex},
};

use fastauth::{
    FastAuthLayer, Secret, Settings,
    store::{
        Changes, CurrentTokens, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreFuture,
        StoredPair, TokenDigest, TokenRecord, TokenStore,
    },
};
use http::{Request, StatusCode, Uri};
use support::{Inner, at_once, header, request};
use tower::{Layer, Service};

const TOKENS: usize = 1_000_000;

/// Says of the token that was saved last that it is current.
#[derive(Clone, Debug)]
struct Latest {
    access: Arc<Mutex<Option<TokenDigest>>>,
    changes: Arc<Changes>,
}

impl TokenStore for Latest {
    fn load<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        let access = *self.access.lock().unwrap();
        Box::pin(ready(Ok(Some(CurrentTokens { access, refresh: None, previous_access: None, version: None }))))
    }

    fn pair<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(ready(Ok(None)))
    }

    fn save<'a>(&'a self, record: &'a TokenRecord, _: SaveOptions) -> StoreFuture<'a, Saved> {
        *self.access.lock().unwrap() = Some(record.access.digest);
        Box::pin(ready(Ok(Saved::Saved(0))))
    }

    fn rotate<'a>(&'a self, _: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(ready(Ok(Rotated::UnknownClient)))
    }

    fn revoke<'a>(&'a self, _: &'a Revocation, _: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(ready(Ok(Revoked::Sessions(0))))
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(ready(Ok(Promises::NONE)))
    }

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }
}

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn main() {
    let store = Latest { access: Arc::default(), changes: Arc::new(Changes::of_own_store()) };
    let settings = Settings::builder()
        .cryptography_key(Secret::generate())
        .access_token_paths(["/access"])
        .cache_capacity(2 * TOKENS)
        .store(store);
    let auth = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let mut service = auth.layer(Inner::<()>::new());
    let issuer = auth.issuer();
    let mut length = 0;
    let mut ask = |client: usize| {
        let issued = at_once(issuer.issue(&format!("client-{client:07}"))).unwrap();
        let token = issued.tokens.access_token;
        length = token.expose().len();
        let request: Request<()> = request(&Uri::from_static("/access"), &header("access-token", token.expose()));
        assert_eq!(at_once(service.call(request)).unwrap().status(), StatusCode::OK);
    };
    // What grows once, and in steps.
    (0..1000).for_each(&mut ask);
    let before = resident();
    (1000..1000 + TOKENS).for_each(&mut ask);
    let bytes = (resident() - before) / TOKENS;
    println!("{TOKENS} tokens of {length} bytes are remembered in {bytes} bytes each");
}
