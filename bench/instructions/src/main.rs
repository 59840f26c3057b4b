//! Sends one kind of request through the layer, so often as it is told: for `bench/instructions/run`, which counts the
//! instructions that one takes. Counts do not depend on what else a machine does.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../support/mod.rs"]
mod support;

use std::{env, sync::Arc};

use fastauth::{
    FastAuthLayer, Rule, Secret, Settings,
    store::{Changes, MemoryStore, TokenStore, forward_store},
};
use http::HeaderMap;
use serde_json::json;
use support::{Inner, at_once, forge, header, time};
use tower::Layer;

const MASTER_TOKEN: &str = "a master token of thirty-two characters";

/// A store whose feed tells of its changes.
#[derive(Debug)]
struct Fed {
    inner: MemoryStore,
    changes: Changes,
}

impl Fed {
    fn new() -> Self {
        let changes = Changes::of_fed_store();
        changes.fed_until(u64::MAX, 0);
        Self { inner: MemoryStore::new(), changes }
    }
}

impl TokenStore for Fed {
    forward_store!(|store| store.inner; load pair save rotate revoke promises);

    fn changes(&self) -> Option<&Changes> {
        Some(&self.changes)
    }
}

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let [case, count] = &words[..] else {
        println!("instructions are counted by bench/instructions/run");
        return;
    };
    let rule = Rule::prefix("/ruled").access();
    let rule = if case == "demands" { rule.roles_any(["admin"]).scopes(["write"]) } else { rule };
    let is_ruled = matches!(&**case, "ruled" | "demands");
    let store: Arc<dyn TokenStore> = if case == "fed" { Arc::new(Fed::new()) } else { Arc::new(MemoryStore::new()) };
    let settings = Settings::builder()
        .rules(is_ruled.then_some(rule))
        .cryptography_key(Secret::from("kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4="))
        .master_token(MASTER_TOKEN)
        .access_token_paths(["/access", "/other"])
        .master_token_paths(["/master", "/admin"])
        .cache(case != "new")
        .store(store);
    let auth = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let claims = if is_ruled { json!({ "roles": ["reader", "admin"], "scope": "read write" }) } else { json!({}) };
    let token = at_once(auth.issuer().issue_with("client-1", claims)).unwrap().tokens.access_token;
    let (path, headers) = match &**case {
        "bare" | "open" => ("/api/v1/items", HeaderMap::new()),
        "bare-token" | "known" | "fed" | "new" => ("/access/x", header("access-token", token.expose())),
        "ruled" | "demands" => ("/ruled/x", header("access-token", token.expose())),
        "master" => ("/master/x", header("master-token", MASTER_TOKEN)),
        "missing" => ("/access/x", HeaderMap::new()),
        "forged" => ("/access/x", header("access-token", &forge(token.expose()))),
        other => panic!("there is no case {other}"),
    };
    let (path, headers, count) = (path.parse().unwrap(), [headers], count.parse().unwrap());
    if case.starts_with("bare") {
        time::<(), _>(&mut Inner::<()>::new(), &path, &headers, count);
    } else {
        time::<(), _>(&mut auth.layer(Inner::<()>::new()), &path, &headers, count);
    }
}
