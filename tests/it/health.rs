//! The health endpoint: what it tells, to whom, and how often it asks the store.

use std::time::Duration;

use fastauth::{FastAuthLayer, config::RefreshTransport};
use http::HeaderMap;
use serde_json::json;

use crate::{
    app::{Endpoints, settings},
    support::{
        faulty::{Behaviour, FaultyStore},
        stores::{self, StoreServer},
    },
};

#[tokio::test]
async fn it_says_that_the_process_answers() {
    let settings = settings().allow_get(false).refresh_transport(RefreshTransport::Cookie);
    let server = Endpoints::of(&FastAuthLayer::new(settings.build().unwrap()).unwrap()).await;
    for path in ["/auth/healthz", "/auth/healthz?", "/auth/healthz?deep=false", "/auth/healthz?other=1"] {
        // Nothing is asked of anybody, from whichever page.
        let reply = server.send("GET", path, &[("origin", "https://elsewhere.example")], "").await;
        assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"status":"ok"}"#), "{path}");
        assert_eq!((reply.header("cache-control"), reply.header("content-type")), ("no-store", "application/json"));
    }
    let head = server.send("HEAD", "/auth/healthz?deep", &[], "").await;
    assert_eq!((head.status, head.text.as_str(), head.header("cache-control")), (200, "", "no-store"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let reply = server.send(method, "/auth/healthz", &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    for query in ["deep=perhaps", "deep=true&deep=true", "deep=%ff"] {
        assert_eq!(server.send("GET", &format!("/auth/healthz?{query}"), &[], "").await.status, 422, "{query}");
    }
}

#[tokio::test]
async fn every_store_answers_when_it_is_there() {
    for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await, stores::rest_v1().await] {
        let layer = FastAuthLayer::new(settings().store(fixture.store.clone()).build().unwrap()).unwrap();
        let server = Endpoints::of(&layer).await;
        for query in ["deep", "deep=", "deep=true"] {
            let reply = server.send("GET", &format!("/auth/healthz?{query}"), &[], "").await;
            assert_eq!(reply.status, 200, "{} {query}", fixture.store.kind());
            assert_eq!(reply.json(), json!({ "status": "ok", "checks": { "store": "ok", "configuration": "ok" } }));
            assert_eq!(reply.header("cache-control"), "no-store");
        }
    }
}

#[tokio::test]
async fn a_store_that_goes_and_comes_back_is_seen() {
    let behind = stores::sqlite().await;
    let store = StoreServer::start(behind.store.clone(), None).await;
    let layer = FastAuthLayer::new(settings().store(store.client()).build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let becomes = async |status: u16| {
        // The answer counts for a second, so that a change is seen after that.
        for _ in 0..100 {
            let reply = server.send("GET", "/auth/healthz?deep", &[], "").await;
            if reply.status == status {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never becomes {status}");
    };
    becomes(200).await;
    let address = store.stop().await;
    let reply = becomes(503).await;
    let checks = json!({ "store": "unavailable", "configuration": "ok" });
    assert_eq!(reply.json(), json!({ "status": "unavailable", "checks": checks }));
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(!reply.text.contains(&address.to_string()));
    assert_eq!(server.send("GET", "/auth/healthz", &[], "").await.status, 200, "the process itself is there");
    assert_eq!(server.send("HEAD", "/auth/healthz?deep", &[], "").await.status, 503);
    let _store = StoreServer::start(behind.store.clone(), Some(address)).await;
    becomes(200).await;
}

#[tokio::test]
async fn a_flood_does_not_reach_the_store() {
    let store = FaultyStore::start(Behaviour::Answer(http::StatusCode::NOT_FOUND, Vec::new())).await;
    let client = fastauth::store::RestStore::new(&store.url(), HeaderMap::new()).unwrap();
    let layer = FastAuthLayer::new(settings().store(client).build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let started = tokio::time::Instant::now();
    for _ in 0..200 {
        assert_eq!(server.send("GET", "/auth/healthz?deep", &[], "").await.status, 200);
    }
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((1..=seconds + 1).contains(&store.count()), "asked {} times in {seconds} seconds", store.count());
}
