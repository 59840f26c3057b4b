//! What the layer allocates: nothing for a request that it lets pass, and a bounded number for one that it checks.

#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use http::{Request, Response};
use tower::{Layer, Service, service_fn};

fn inner()
-> impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future = Ready<Result<Response<()>, Infallible>>>
+ Clone {
    service_fn(|_| ready(Ok(Response::new(()))))
}

fn layer(paths: usize) -> FastAuthLayer {
    let settings = Settings::builder()
        .cryptography_key(Secret::generate())
        .master_token("the master token of the tests")
        .master_token_paths((0..paths).map(|number| format!("/master/{number}")))
        .access_token_paths((0..paths).map(|number| format!("/access/{number}")))
        .store(MemoryStore::new());
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// How often one request through the layer allocates, in calls of the allocator, and its status.
fn allocations(layer: &FastAuthLayer, path: &str, headers: &[(&'static str, &str)]) -> (u64, u16) {
    let mut service = layer.layer(inner());
    let mut status = 0;
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let info = allocation_counter::measure(|| {
        let response = pin!(service.call(request));
        let Poll::Ready(response) = response.poll(&mut Context::from_waker(Waker::noop())) else { return };
        status = response.unwrap().status().as_u16();
    });
    (info.count_total, status)
}

const NAMES: [&str; 14] =
    ["access-token", "authorization", "master-token", "accept", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

#[test]
fn passing_allocates_nothing() {
    for paths in [2, 1000] {
        let layer = layer(paths);
        for path in [
            "/",
            "/health",
            "/api/v1/items/42?q=1",
            "/mastery",
            "/access/x/not/a/number",
            "/accessible/with/a/rather/long/path/behind/it",
        ] {
            assert_eq!(allocations(&layer, path, &[]), (0, 200), "{path}");
            // As many as fill the map, which must not grow.
            for count in 1..=NAMES.len() {
                let headers: Vec<_> = NAMES[..count].iter().map(|name| (*name, "x")).collect();
                assert_eq!(allocations(&layer, path, &headers), (0, 200), "{path} with {count} headers");
            }
        }
    }
}

/// The one that there is carries the permit.
#[test]
fn the_master_token_costs_the_permit() {
    let layer = layer(2);
    let (count, status) = allocations(&layer, "/master/1", &[("master-token", "the master token of the tests")]);
    assert_eq!(status, 200);
    assert!(count <= 3, "{count} allocations");
}
