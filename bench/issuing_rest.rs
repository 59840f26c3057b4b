//! What it takes to issue a pair to a store behind HTTP: `cargo bench -p fastauth-bench --bench issuing_rest`.
//!
//! The limit is reqwest alone, which sends the very calls that were recorded of issuing, over as many connections, to the
//! same store in the same run. Issuing to a store in memory tells what of the difference is issuing: claims, JSON and four
//! digests. Client and server share the cores. The rounds take turns, so that ratios hold on a machine whose speed drifts.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fastauth::{
    FastAuthLayer, Secret, Settings, TokenIssuer,
    store::{MemoryStore, RestStore, StoreService, TokenStore},
};
use http::{HeaderMap, Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};
use tower::ServiceExt;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(300);
const IN_FLIGHT: [usize; 3] = [1, 8, 64];
const CLIENTS: usize = 1_024;

/// One call to the store, as it was sent.
#[derive(Clone)]
struct Call {
    method: Method,
    path_and_query: String,
    body: Bytes,
}

type Calls = Arc<Mutex<Vec<Call>>>;

async fn serve() -> SocketAddr {
    let service = StoreService::new(Arc::new(MemoryStore::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// The same, and notes what it is asked.
async fn serve_and_note(calls: Calls) -> SocketAddr {
    let store = StoreService::new(Arc::new(MemoryStore::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (store, calls) = (store.clone(), Arc::clone(&calls));
            let service = service_fn(move |request: Request<Incoming>| {
                let (store, calls) = (store.clone(), Arc::clone(&calls));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let path_and_query = parts.uri.path_and_query().unwrap().to_string();
                    calls.lock().unwrap().push(Call {
                        method: parts.method.clone(),
                        path_and_query,
                        body: body.clone(),
                    });
                    Ok::<_, Infallible>(store.oneshot(Request::from_parts(parts, Full::new(body))).await.unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn issuer(store: impl TokenStore) -> TokenIssuer {
    let settings =
        Settings::builder().cryptography_key(Secret::generate()).access_token_paths(["/access"]).store(store);
    FastAuthLayer::new(settings.build().unwrap()).unwrap().issuer()
}

fn rest(address: SocketAddr) -> TokenIssuer {
    issuer(RestStore::new(&format!("http://{address}"), HeaderMap::new()).unwrap())
}

fn client_id(number: usize) -> String {
    format!("client-{}", number % CLIENTS)
}

/// What issuing sends for each client once it knows what the store speaks: one call.
async fn recorded() -> Vec<Call> {
    let calls = Calls::default();
    let issuer = rest(serve_and_note(Arc::clone(&calls)).await);
    issuer.issue("first").await.unwrap();
    calls.lock().unwrap().clear();
    for number in 0..CLIENTS {
        issuer.issue(&client_id(number)).await.unwrap();
    }
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    assert_eq!(calls.len(), CLIENTS);
    calls
}

/// How much of `work` is done in a second, so much of it at a time; each is told its number.
async fn rate<F>(in_flight: usize, work: impl Fn(usize) -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..in_flight {
        let work = work.clone();
        tasks.spawn(async move {
            let mut count = 0;
            while start.elapsed() < ROUND {
                // Clients do not wait for each other: each task has its own.
                work(task + count * in_flight).await;
                count += 1;
            }
            count
        });
    }
    let count: usize = tasks.join_all().await.into_iter().sum();
    count as f64 / start.elapsed().as_secs_f64()
}

async fn issue_at(issuer: &TokenIssuer, in_flight: usize) -> f64 {
    let issuer = issuer.clone();
    rate(in_flight, move |number| {
        let issuer = issuer.clone();
        async move { drop(issuer.issue(&client_id(number)).await.unwrap()) }
    })
    .await
}

async fn replay(client: &reqwest::Client, base: &str, calls: &Arc<Vec<Call>>, in_flight: usize) -> f64 {
    let (client, base, calls) = (client.clone(), base.to_owned(), Arc::clone(calls));
    rate(in_flight, move |number| {
        let call = calls[number % calls.len()].clone();
        let request = client.request(call.method, format!("{base}{}", call.path_and_query));
        let request = request.header(CONTENT_TYPE, "application/json").body(call.body);
        async move {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer.bytes().await.unwrap();
        }
    })
    .await
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let calls = Arc::new(recorded().await);
        let address = serve().await;
        let base = format!("http://{address}");
        let alone = reqwest::Client::builder().no_proxy().http1_only().build().unwrap();
        let (through_rest, in_memory) = (rest(address), issuer(MemoryStore::new()));
        let call = &calls[0];
        println!("the call: {} {}, {} bytes", call.method, call.path_and_query, call.body.len());
        for in_flight in IN_FLIGHT {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let alone = replay(&alone, &base, &calls, in_flight).await;
                let issued = issue_at(&through_rest, in_flight).await;
                rounds.push([alone, issued, issue_at(&in_memory, in_flight).await]);
            }
            let column = |at: usize| median(rounds.iter().map(|round| round[at]).collect());
            let ratio = median(rounds.iter().map(|round| round[1] / round[0]).collect());
            println!(
                "{in_flight:3} in flight: reqwest alone {:6.0}/s, issuing through RestStore {:6.0}/s, {ratio:.2} times; \
                 issuing in memory {:6.0}/s",
                column(0),
                column(1),
                column(2),
            );
        }
    });
}
