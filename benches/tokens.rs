//! What checking a token costs: `cargo bench --bench tokens`.
//!
//! Everything is measured in one run, in rounds that take turns, so that ratios hold on a machine whose speed drifts.
//! "adds" is the median over the rounds of what a request through a layer takes longer than without one. The yardstick is
//! `jsonwebtoken::decode` of the same token, which is what most layers that verify tokens are made of.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use fastauth::{FastAuth, FastAuthLayer, Secret, Settings, SettingsBuilder, store::MemoryStore};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use tower::{Layer, Service, util::ServiceFn};

const ROUNDS: usize = 31;
const CALLS: u32 = 5_000;
const CLIENTS: usize = 64;

type Inner = ServiceFn<fn(Request<()>) -> Ready<Result<Response<()>, Infallible>>>;

fn inner() -> Inner {
    fn answer(request: Request<()>) -> Ready<Result<Response<()>, Infallible>> {
        drop(black_box(request));
        ready(Ok(Response::new(())))
    }
    tower::service_fn(answer)
}

struct Node {
    layer: FastAuthLayer,
    /// Tokens of as many clients.
    tokens: Vec<HeaderValue>,
}

const MASTER_TOKEN: &str = "a master token that nobody has";

fn node(key: &Secret, settings: impl Fn(SettingsBuilder) -> SettingsBuilder) -> Node {
    let builder = Settings::builder()
        .cryptography_key(key.clone())
        .master_token(MASTER_TOKEN)
        .access_token_paths(["/access", "/other"])
        .master_token_paths(["/master", "/admin"])
        .store(MemoryStore::new());
    let layer = FastAuthLayer::new(settings(builder).build().unwrap()).unwrap();
    let issuer = layer.issuer();
    let tokens = (0..CLIENTS).map(|client| {
        let issued = at_once(issuer.issue(&format!("client-{client}"))).unwrap();
        HeaderValue::from_str(issued.tokens.access_token.expose()).unwrap()
    });
    Node { tokens: tokens.collect(), layer }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a store in memory does not wait"),
    }
}

/// The time of one request in nanoseconds. The requests take turns through the headers.
fn time<S>(service: &mut S, path: &'static str, headers: &[HeaderMap], calls: u32) -> f64
where
    S: Service<Request<()>, Error = Infallible>,
{
    let start = Instant::now();
    for call in 0..calls {
        let mut request = Request::new(());
        *request.uri_mut() = http::Uri::from_static(path);
        request.headers_mut().clone_from(&headers[call as usize % headers.len()]);
        assert!(black_box(at_once(service.call(request))).is_ok());
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn with(name: &'static str, values: &[HeaderValue]) -> Vec<HeaderMap> {
    let headers = |value: &HeaderValue| HeaderMap::from_iter([(http::HeaderName::from_static(name), value.clone())]);
    values.iter().map(headers).collect()
}

fn forged(tokens: &[HeaderValue]) -> Vec<HeaderValue> {
    let forge = |token: &HeaderValue| {
        let (signed, signature) = token.to_str().unwrap().rsplit_once('.').unwrap();
        let signature: String = signature.chars().rev().collect();
        // The last character has to be one that strict base64url lets stand there.
        HeaderValue::from_str(&format!("{signed}.{}A", &signature[..42])).unwrap()
    };
    tokens.iter().map(forge).collect()
}

struct Case {
    name: &'static str,
    service: FastAuth<Inner>,
    path: &'static str,
    headers: Vec<HeaderMap>,
    status: StatusCode,
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let key = Secret::generate();
    let (known, unknown) = (node(&key, |settings| settings), node(&key, |settings| settings.cache(false)));
    let none = vec![HeaderMap::new()];
    let case = |name, node: &Node, path, headers, status| Case {
        name,
        service: node.layer.layer(inner()),
        path,
        headers,
        status,
    };
    let (ok, unauthorized) = (StatusCode::OK, StatusCode::UNAUTHORIZED);
    let master = [HeaderValue::from_static(MASTER_TOKEN)];
    let wrong = [HeaderValue::from_static("another text of that length...")];
    let mut cases = [
        case("open path", &known, "/api/v1/items", none.clone(), ok),
        case("master token", &known, "/master/x", with("master-token", &master), ok),
        case("wrong master token", &known, "/master/x", with("master-token", &wrong), unauthorized),
        case("token seen before", &known, "/access/x", with("access-token", &known.tokens), ok),
        case("token never seen", &unknown, "/access/x", with("access-token", &unknown.tokens), ok),
        case("forged token", &known, "/access/x", with("access-token", &forged(&known.tokens)), unauthorized),
        case("no token", &known, "/access/x", none, unauthorized),
    ];
    for case in &mut cases {
        for headers in &case.headers {
            let mut request = Request::new(());
            *request.uri_mut() = http::Uri::from_static(case.path);
            request.headers_mut().clone_from(headers);
            assert_eq!(at_once(case.service.call(request)).unwrap().status(), case.status, "{}", case.name);
        }
    }
    let decode = decode(&key, &known.tokens);
    let mut adds = vec![Vec::new(); cases.len()];
    let mut decodes = Vec::new();
    let mut bare = inner();
    for _ in 0..ROUNDS {
        decodes.push(decode());
        for (case, adds) in cases.iter_mut().zip(&mut adds) {
            let base = time(&mut bare, case.path, &case.headers, CALLS);
            adds.push(time(&mut case.service, case.path, &case.headers, CALLS) - base);
        }
    }
    let decode = median(decodes);
    println!("jsonwebtoken::decode            {decode:8.0} ns");
    for (case, adds) in cases.iter().zip(adds) {
        let adds = median(adds);
        println!("{:25} adds {adds:8.0} ns, {:6.3} times decode", case.name, adds / decode);
    }
    two_threads(&known);
}

fn decode(key: &Secret, tokens: &[HeaderValue]) -> impl Fn() -> f64 {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let key = DecodingKey::from_secret(key.expose().as_bytes());
    let tokens: Vec<String> = tokens.iter().map(|token| token.to_str().unwrap().to_owned()).collect();
    move || {
        let validation = Validation::new(Algorithm::HS256);
        let start = Instant::now();
        for call in 0..CALLS {
            let token = &tokens[call as usize % tokens.len()];
            black_box(jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).unwrap());
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    }
}

/// One hot token, asked for by one thread and by two at once.
fn two_threads(node: &Node) {
    let headers = with("access-token", &node.tokens[..1]);
    let run = || time(&mut node.layer.layer(inner()), "/access/x", &headers, 100_000);
    let rounds = (0..9).map(|_| {
        let one = run();
        let two = thread::scope(|scope| {
            let other = scope.spawn(run);
            (run() + other.join().unwrap()) / 2.0
        });
        (one, two)
    });
    let (one, two): (Vec<_>, Vec<_>) = rounds.unzip();
    let (one, two) = (median(one), median(two));
    println!(
        "a whole request with one hot token: {one:.0} ns, by two threads at once {two:.0} ns each, {:.2} times",
        two / one
    );
}
