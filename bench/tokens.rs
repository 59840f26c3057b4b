//! What checking a token costs: `cargo bench -p fastauth-bench --bench tokens`.
//!
//! Everything is measured in one run, in rounds that take turns, so that ratios hold on a machine whose speed drifts.
//! "adds" is the median over the rounds of what a request through a layer takes longer than without one. The yardstick is
//! `jsonwebtoken::decode` of the same token, which is what most layers that verify tokens are made of.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::{hint::black_box, thread};

use fastauth::{FastAuth, FastAuthLayer, Secret, Settings, SettingsBuilder, store::MemoryStore};
use http::{HeaderMap, Request, StatusCode, Uri};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use support::{Inner, at_once, forge, header, median, request, time, time_alone};
use tower::{Layer, Service};

const ROUNDS: usize = 31;
const CALLS: usize = 5_000;
const CLIENTS: usize = 64;

struct Node {
    layer: FastAuthLayer,
    /// Tokens of as many clients.
    tokens: Vec<String>,
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
        issued.tokens.access_token.expose().to_owned()
    });
    Node { tokens: tokens.collect(), layer }
}

fn with(name: &'static str, values: &[String]) -> Vec<HeaderMap> {
    values.iter().map(|value| header(name, value)).collect()
}

struct Case {
    name: &'static str,
    service: FastAuth<Inner>,
    path: Uri,
    headers: Vec<HeaderMap>,
    status: StatusCode,
}

fn main() {
    let key = Secret::generate();
    let (known, unknown) = (node(&key, |settings| settings), node(&key, |settings| settings.cache(false)));
    let none = vec![HeaderMap::new()];
    let case = |name, node: &Node, path, headers, status| Case {
        name,
        service: node.layer.layer(Inner::new()),
        path: Uri::from_static(path),
        headers,
        status,
    };
    let (ok, unauthorized) = (StatusCode::OK, StatusCode::UNAUTHORIZED);
    let master = [MASTER_TOKEN.to_owned()];
    let wrong = ["another text of that length...".to_owned()];
    let forged: Vec<String> = known.tokens.iter().map(|token| forge(token)).collect();
    let mut cases = [
        case("open path", &known, "/api/v1/items", none.clone(), ok),
        case("master token", &known, "/master/x", with("master-token", &master), ok),
        case("wrong master token", &known, "/master/x", with("master-token", &wrong), unauthorized),
        case("token seen before", &known, "/access/x", with("access-token", &known.tokens), ok),
        case("token never seen", &unknown, "/access/x", with("access-token", &unknown.tokens), ok),
        case("forged token", &known, "/access/x", with("access-token", &forged), unauthorized),
        case("no token", &known, "/access/x", none, unauthorized),
    ];
    for case in &mut cases {
        for headers in &case.headers {
            let request: Request<()> = request(&case.path, headers);
            assert_eq!(at_once(case.service.call(request)).unwrap().status(), case.status, "{}", case.name);
        }
    }
    let decode = decode(&key, &known.tokens);
    let mut adds = vec![Vec::new(); cases.len()];
    let mut decodes = Vec::new();
    let mut bare = Inner::<()>::new();
    for _ in 0..ROUNDS {
        decodes.push(decode());
        for (case, adds) in cases.iter_mut().zip(&mut adds) {
            let base = time::<(), _>(&mut bare, &case.path, &case.headers, CALLS);
            adds.push(time::<(), _>(&mut case.service, &case.path, &case.headers, CALLS) - base);
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

fn decode(key: &Secret, tokens: &[String]) -> impl Fn() -> f64 {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let key = DecodingKey::from_secret(key.expose().as_bytes()).unwrap();
    let validation = Validation::new(Algorithm::HS256);
    move || {
        time_alone(tokens, CALLS, |token| {
            black_box(jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).unwrap());
        })
    }
}

/// One hot token, asked for by one thread and by two at once.
fn two_threads(node: &Node) {
    let run = || {
        // Of each thread alone, as requests from different sockets are.
        let (path, headers) = (Uri::from_static("/access/x"), with("access-token", &node.tokens[..1]));
        time::<(), _>(&mut node.layer.layer(Inner::<()>::new()), &path, &headers, 100_000)
    };
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
