//! What guarding a path costs: `cargo bench --bench paths`.
//!
//! Everything is measured in one run, in rounds that take turns, so that ratios hold on a machine whose speed drifts.
//! "adds" is the median over the rounds of what a request through a layer takes longer than without one.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use http::{Request, Response, Uri};
use tower::{Layer, Service, service_fn};

const ROUNDS: usize = 41;

/// Open paths: one that no prefix has anything in common with, and one that goes along with many of them.
const PLAIN: [&str; 2] = ["/api/v1/items/42", "/access4321/open"];

fn inner()
-> impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future = Ready<Result<Response<()>, Infallible>>>
+ Clone {
    service_fn(|request: Request<()>| {
        drop(black_box(request));
        ready(Ok(Response::new(())))
    })
}

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

fn prefixes(count: usize, kind: &str) -> Vec<String> {
    (0..count).map(|number| format!("/{kind}{number}/area")).collect()
}

fn guard(count: usize) -> FastAuthLayer {
    let settings = Settings::builder()
        .cryptography_key(Secret::generate())
        .master_token(Secret::generate())
        .master_token_paths(prefixes(count / 2, "master"))
        .access_token_paths(prefixes(count - count / 2, "access"))
        .store(MemoryStore::new());
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// The time of one call in nanoseconds, over enough of them to be measured.
fn time<S: Service<Request<()>>>(service: &mut S, path: &Uri, calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        let mut request = Request::new(());
        *request.uri_mut() = path.clone();
        let response = pin!(service.call(request));
        let answer = response.poll(&mut Context::from_waker(Waker::noop()));
        assert!(black_box(answer).is_ready());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    PLAIN.into_iter().for_each(open_path);
    other_paths();
}

fn open_path(text: &str) {
    const CALLS: u32 = 20_000;
    let path: Uri = text.parse().unwrap();
    let mut bare = inner();
    let linear = |count: usize| StartsWith {
        inner: inner(),
        prefixes: [prefixes(count / 2, "master"), prefixes(count - count / 2, "access")].concat(),
    };
    let mut linears = [linear(2), linear(10), linear(10_000)];
    let mut guards = [2, 10, 1_000, 10_000].map(|count| guard(count).layer(inner()));
    let mut table: Vec<Vec<f64>> = vec![Vec::new(); linears.len() + guards.len()];
    for _ in 0..ROUNDS {
        let base = time(&mut bare, &path, CALLS);
        let mut adds = Vec::new();
        adds.extend(linears.iter_mut().map(|service| time(service, &path, CALLS / 10)));
        adds.extend(guards.iter_mut().map(|service| time(service, &path, CALLS)));
        table.iter_mut().zip(adds).for_each(|(row, time)| row.push(time - base));
    }
    let adds: Vec<f64> = table.into_iter().map(median).collect();
    let names = [
        "starts_with of 2",
        "starts_with of 10",
        "starts_with of 10,000",
        "guard of 2",
        "guard of 10",
        "guard of 1,000",
        "guard of 10,000",
    ];
    println!("an open path, {text}:");
    for (name, nanoseconds) in names.iter().zip(&adds) {
        println!("  {name:22} adds {nanoseconds:8.1} ns, {:6.2} times starts_with of 2", nanoseconds / adds[0]);
    }
    println!("  guard of 10,000 : guard of 10 = {:.2}", adds[6] / adds[4]);
}

/// Paths with more than one reading, ordinary ones and the worst that were found.
fn other_paths() {
    let mut service = guard(10).layer(inner());
    println!("paths with other readings:");
    for path in ["/a%20b/c", "/files/caf%C3%A9/menu.pdf", "//a/../b%2Fc;d"] {
        let times = (0..ROUNDS).map(|_| time(&mut service, &path.parse().unwrap(), 1_000));
        println!("  {path:28} {:8.0} ns", median(times.collect()));
    }
    let hostile = [
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
        let path = unit.repeat(8 * 1024 / unit.len());
        let times = (0..5).map(|_| time(&mut service, &path.parse().unwrap(), 1));
        (median(times.collect()) / 1e6, unit)
    });
    let (milliseconds, unit) = worst.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    println!("  the worst of {} hostile paths of 8 KiB, {unit:?} repeated: {milliseconds:.2} ms", hostile.len());
}
