//! What the layer allocates: nothing for a request that it lets pass, and a bounded number for one that it checks.

#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
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
        .metrics(true)
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
            let cookie = [("cookie", "a=1; __Host-other=2"), ("upgrade", "h2c")];
            assert_eq!(allocations(&layer, path, &cookie), (0, 200), "{path} with other cookies");
        }
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    let Poll::Ready(output) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    output
}

/// Three calls put the first thing into the extensions of a request or a response: the map, its table, and the thing.
const EXTENSION: u64 = 3;
/// Two calls copy the headers of a refusal, or make those of an answer that has none yet.
const HEADERS: u64 = 2;

/// One call keeps for the permit what its request asked for. Another one makes the text of the URI shareable, which it is already if a server
/// has read it.
const ADMISSION: u64 = 2;

#[test]
fn the_master_token_costs_the_permit() {
    let layer = layer(2);
    let master = |token: &str| allocations(&layer, "/master/1", &[("master-token", token)]);
    assert_eq!(master("the master token of the tests"), (EXTENSION + ADMISSION + HEADERS, 200));
    master("the first one writes the refusal");
    assert_eq!(master("another"), (EXTENSION + HEADERS, 401));
}

/// None of them grows with the token, which is compared where it stands.
#[test]
fn a_known_token_costs_the_permit() {
    let layer = layer(2);
    for client_id in ["c".to_owned(), "a long client id ".repeat(15)] {
        let issued = at_once(layer.issuer().issue(&client_id)).unwrap();
        let token = issued.tokens.access_token.expose();
        let send = || allocations(&layer, "/access/1", &[("access-token", token)]);
        assert_eq!(send().1, 200);
        let expected = (EXTENSION + ADMISSION + HEADERS, 200);
        assert_eq!(send(), expected);
        assert!((0..1000).all(|_| send() == expected));
    }
}

#[test]
fn a_new_token_costs_little_more() {
    let layer = layer(2);
    let tokens: Vec<_> =
        (0..3).map(|client| at_once(layer.issuer().issue(&format!("client-{client}"))).unwrap()).collect();
    let send = |client: usize| {
        let token = tokens[client].tokens.access_token.expose();
        allocations(&layer, "/access/1", &[("access-token", token)])
    };
    // The first makes the cache's first table.
    send(0);
    send(1);
    let (count, status) = send(2);
    assert_eq!(status, 200);
    // The claims, their text, and the entry in the cache.
    assert!(count <= EXTENSION + ADMISSION + HEADERS + 4, "{count} allocations");
}

#[test]
fn refusing_costs_the_refusal() {
    let layer = layer(2);
    let issued = at_once(layer.issuer().issue("c")).unwrap();
    let good = issued.tokens.access_token.expose();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    for (case, headers) in [("missing", vec![]), ("forged", vec![("access-token", &*forged)])] {
        // The first one writes the refusal.
        allocations(&layer, "/access/1", &headers);
        assert_eq!(allocations(&layer, "/access/1", &headers), (EXTENSION + HEADERS, 401), "{case}");
    }
}

/// What is counted was resolved when the layer was made.
#[cfg(feature = "metrics")]
#[test]
fn counting_allocates_nothing() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let layer = layer(2);
        let issued = at_once(layer.issuer().issue("c")).unwrap();
        let known = || allocations(&layer, "/access/1", &[("access-token", issued.tokens.access_token.expose())]);
        let missing = || allocations(&layer, "/access/1", &[]);
        let open = || allocations(&layer, "/", &[]);
        // The first ones look the store up, write the refusal and resolve its count.
        known();
        missing();
        let (permitted, refused) = (EXTENSION + ADMISSION + HEADERS, EXTENSION + HEADERS);
        assert_eq!((known(), missing(), open()), ((permitted, 200), (refused, 401), (0, 200)));
    });
    let text = recorder.handle().render();
    for (outcome, reason) in [("permitted", "none"), ("refused", "missing_access_token")] {
        let series = format!(r#"{{rule="/access/1",outcome="{outcome}",reason="{reason}"}} 2"#);
        assert!(text.contains(&series), "{text}");
    }
}
