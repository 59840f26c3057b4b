//! What guarding a path costs: `cargo bench -p fastauth-bench --bench paths`.
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
    for length in [256, 1024, 8 * 1024] {
        let (micros, path) = worst(&mut service, length);
        println!("  the worst found of {length} bytes: {micros:.0} µs, {:.60}…", path.path());
    }
}

/// The slowest path that a search finds: what takes long is changed a little, again and again.
fn worst<S: Service<Request<()>, Error = Infallible>>(service: &mut S, length: usize) -> (f64, Uri) {
    const TRIES: usize = 20_000;
    const KEPT: usize = 20;
    // Xorshift: the same paths in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 1_000_003).unwrap() % end
    };
    let mut kept: Vec<(f64, Vec<(usize, usize)>)> = Vec::new();
    for _ in 0..TRIES {
        let mut runs = if kept.len() < KEPT || below(3) == 0 { vec![] } else { kept[below(kept.len())].1.clone() };
        for _ in 0..=below(if runs.is_empty() { 12 } else { 2 }) {
            let times = [1 + below(3), 1 + below(40), length][below(3)];
            let run = (below(PARTS.len().pow(2)), times);
            match runs.len() {
                0..12 => runs.insert(below(runs.len() + 1), run),
                known => runs[below(known)] = run,
            }
        }
        let path = path_of(&runs, length);
        // What other programs took does not count.
        let micros =
            |service: &mut S, times| (0..times).map(|_| time(service, &path, 1)).fold(f64::MAX, f64::min) / 1e3;
        let least = kept.last().map_or(0.0, |(least, _)| *least);
        if kept.len() < KEPT || micros(service, 2) > least {
            kept.push((micros(service, 8), runs));
            kept.sort_by(|a, b| b.0.total_cmp(&a.0));
            kept.truncate(KEPT);
        }
    }
    let path = path_of(&kept[0].1, length);
    ((0..20).map(|_| time(service, &path, 1)).fold(f64::MAX, f64::min) / 1e3, path)
}

/// What multiplies readings.
const PARTS: [&str; 24] = [
    "/a", "/..", "/.", "//", ";v", "%2f", "%252f", "\\", "%3f", "%2e%2e", "%20", "%41", "/http:", "%252525", "//a",
    "%5c", "%25", "%c3%a9", ";", "/;", "/%2e", "x", "/access0", "..",
];

/// A path of runs of two parts each.
fn path_of(runs: &[(usize, usize)], length: usize) -> Uri {
    let mut path = String::from("/");
    for (parts, times) in runs {
        let unit = [PARTS[parts / PARTS.len()], PARTS[parts % PARTS.len()]].concat();
        path.push_str(&unit.repeat((*times).min((length - path.len()) / unit.len())));
    }
    path.parse().unwrap()
}
