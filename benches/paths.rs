//! What guarding a path costs: `cargo bench --bench paths`.
//!
//! Everything is measured in one run, in rounds that take turns, so that ratios hold on a machine whose speed drifts.
//! "adds" is the median over the rounds of what a request through a layer takes longer than without one.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use support::{Inner, NothingLayer, median};
use tower::{Layer, Service};
use tower_http::validate_request::ValidateRequestHeaderLayer;

const ROUNDS: usize = 41;

/// Open paths: one that no prefix has anything in common with, and one that goes along with many of them.
const PLAIN: [&str; 2] = ["/api/v1/items/42", "/access4321/open"];

/// What most people write: two lists, looked through one by one.
#[derive(Clone)]
struct StartsWith<S> {
    inner: S,
    prefixes: Vec<String>,
}

impl<S: Service<Request<()>, Response = Response<()>>> Service<Request<()>> for StartsWith<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> S::Future {
        let path = request.uri().path();
        assert!(!self.prefixes.iter().any(|prefix| path.starts_with(&**prefix)), "the paths of this bench are open");
        self.inner.call(request)
    }
}

/// The same by tower-http, which can refuse.
fn validate_request<S: Service<Request<()>, Response = Response<()>, Error = Infallible>>(
    count: usize,
    inner: S,
) -> impl Service<Request<()>, Error = Infallible> {
    let prefixes = both(count).concat();
    let validate = move |request: &mut Request<()>| {
        let path = request.uri().path();
        let guarded = prefixes.iter().any(|prefix| path.starts_with(&**prefix));
        if guarded && !request.headers().contains_key("access-token") {
            let mut refusal = Response::new(());
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            return Err(refusal);
        }
        Ok(())
    };
    ValidateRequestHeaderLayer::custom(validate).layer(inner)
}

fn prefixes(count: usize, kind: &str) -> Vec<String> {
    (0..count).map(|number| format!("/{kind}{number}/area")).collect()
}

/// As many for one check as for the other.
fn both(count: usize) -> [Vec<String>; 2] {
    [prefixes(count / 2, "master"), prefixes(count / 2, "access")]
}

fn guard(count: usize) -> FastAuthLayer {
    let [master, access] = both(count);
    let settings = Settings::builder()
        .cryptography_key(Secret::generate())
        .master_token(Secret::generate())
        .master_token_paths(master)
        .access_token_paths(access)
        .store(MemoryStore::new());
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn time<S: Service<Request<()>, Error = Infallible>>(service: &mut S, path: &Uri, calls: usize) -> f64 {
    support::time::<(), _>(service, path, &[HeaderMap::new()], calls)
}

fn main() {
    PLAIN.into_iter().for_each(open_path);
    other_paths();
}

fn open_path(text: &str) {
    const CALLS: usize = 20_000;
    const FEW: [usize; 2] = [2, 4];
    const MANY: [usize; 3] = [10, 1_000, 10_000];
    let path: Uri = text.parse().unwrap();
    let mut bare = Inner::<()>::new();
    let mut nothing = NothingLayer.layer(Inner::<()>::new());
    let mut linears = FEW.map(|count| StartsWith { inner: Inner::<()>::new(), prefixes: both(count).concat() });
    let mut validators = FEW.map(|count| validate_request(count, Inner::<()>::new()));
    let mut few = FEW.map(|count| guard(count).layer(Inner::<()>::new()));
    let mut many = MANY.map(|count| guard(count).layer(Inner::<()>::new()));
    let mut table: [Vec<f64>; 10] = Default::default();
    for _ in 0..ROUNDS {
        let base = time(&mut bare, &path, CALLS);
        let mut times = vec![time(&mut nothing, &path, CALLS)];
        times.extend(linears.iter_mut().map(|service| time(service, &path, CALLS)));
        times.extend(validators.iter_mut().map(|service| time(service, &path, CALLS)));
        times.extend(few.iter_mut().map(|service| time(service, &path, CALLS)));
        times.extend(many.iter_mut().map(|service| time(service, &path, CALLS)));
        table.iter_mut().zip(times).for_each(|(row, time)| row.push(time - base));
    }
    let [nothing, linear_2, linear_4, validate_2, validate_4, guard_2, guard_4, guard_10, guard_1_000, guard_10_000] =
        table.map(median);
    println!("an open path, {text}, takes through a layer so much more:");
    println!("  one that does nothing {nothing:8.1} ns");
    for (prefixes, linear, validate, guard) in
        [("1+1", linear_2, validate_2, guard_2), ("2+2", linear_4, validate_4, guard_4)]
    {
        println!("  {prefixes} prefixes: starts_with {linear:.1} ns, tower-http's validate_request {validate:.1} ns");
        let (by_linear, by_validate) = (guard / linear, guard / validate);
        println!("    the guard {guard:8.1} ns: {by_linear:.2} and {by_validate:.2} times as much");
    }
    println!("  the guard with 10 prefixes {guard_10:.1} ns, 1,000 {guard_1_000:.1} ns, 10,000 {guard_10_000:.1} ns:");
    println!("    {:.2} and {:.2} times what it is with 10", guard_1_000 / guard_10, guard_10_000 / guard_10);
}

/// Paths with more than one reading, ordinary ones and the worst that were found.
fn other_paths() {
    let mut service = guard(10).layer(Inner::<()>::new());
    println!("paths with other readings:");
    for path in ["/a%20b/c", "/files/caf%C3%A9/menu.pdf", "//a/../b%2Fc;d"] {
        let times = (0..ROUNDS).map(|_| time(&mut service, &path.parse().unwrap(), 1_000));
        println!("  {path:28} {:8.0} ns", median(times.collect()));
    }
    // Hosts first make as many readings as there may be.
    let hosts = "//a".repeat(25);
    let hostile = [
        "%41;v/..",
        "/..%252525/a",
        "/a%2f..;x//",
        "/%2e%2e/a;b",
        "/a%252f.%5c",
        "//a/..%2f",
        "/x/..;/%2561",
        "/%3b/../a%3f",
        "/a:/../%2e",
        r"/\..%5c;/",
    ];
    let worst = hostile.map(|unit| {
        let path = format!("{hosts}/{}", unit.repeat(8000 / unit.len()));
        let times = (0..5).map(|_| time(&mut service, &path.parse().unwrap(), 1));
        (median(times.collect()) / 1e6, unit)
    });
    let (milliseconds, unit) = worst.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    println!("  the worst of {} hostile paths of 8 KB, {unit:?} repeated: {milliseconds:.2} ms", hostile.len());
}
