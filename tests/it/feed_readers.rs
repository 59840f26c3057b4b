//! Many readers of a change feed, slow ones, and ones that come back.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastauth::store::{Revocation, StoreService, TokenStore};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    feed::FeedEvents,
    stores::{self, Fixture, ManySessions, any_port},
};

fn service(fixture: &Fixture) -> StoreService {
    StoreService::new(Arc::clone(&fixture.store))
}

/// Serves over TCP, until the test ends.
async fn serve(service: StoreService) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback_service(service);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The lines of a feed over a socket.
struct Socket {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _open: tokio::net::tcp::OwnedWriteHalf,
}

impl Socket {
    async fn open(address: SocketAddr) -> Self {
        let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        write.write_all(b"GET /v2/changes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut socket = Self { lines: BufReader::new(read).lines(), _open: write };
        socket.until("event: hb").await;
        socket
    }

    async fn until(&mut self, wanted: &str) {
        let found = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the feed goes on");
                if line.contains(wanted) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), found).await.expect("told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_readers_are_told_of_a_revocation() {
    const ROUNDS: usize = 50;
    let fixture = stores::sqlite().await;
    let address = serve(service(&fixture)).await;
    let mut sockets = join_all((0..100).map(|_| Socket::open(address))).await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let id = format!("client-{round}");
        fixture.store.begin(&id, "", round).await;
        let told = |kind: &str| format!("\"kind\":\"{kind}\",\"client_id\":\"{id}\"");
        let issued = told("issue");
        join_all(sockets.iter_mut().map(|socket| socket.until(&issued))).await;
        let mut reading = JoinSet::new();
        for mut socket in sockets.drain(..) {
            let wanted = told("revoke");
            reading.spawn(async move {
                socket.until(&wanted).await;
                (socket, Instant::now())
            });
        }
        let start = Instant::now();
        fixture.store.revoke_all_of(&id).await;
        while let Some(read) = reading.join_next().await {
            let (socket, at) = read.unwrap();
            times.push(at - start);
            sockets.push(socket);
        }
    }
    times.sort();
    let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
    println!("100 readers, from before a revocation to each reader: p50 {p50:?}, p99 {p99:?}");
    // The machine may be busy with other tests.
    assert!(p99 < Duration::from_secs(1), "p50 {p50:?}, p99 {p99:?}");
}

/// What was acknowledged is told to a reader that comes and goes, whatever is written at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reader_that_comes_back_misses_nothing() {
    for fixture in [stores::memory().await, stores::sqlite().await] {
        let service = service(&fixture);
        let is_done = Arc::new(AtomicBool::new(false));
        let mut feed = FeedEvents::open(&service, "").await;
        let mut point = feed.next().await.unwrap().id;
        let mut writing = JoinSet::new();
        for writer in 0..8 {
            let store = Arc::clone(&fixture.store);
            writing.spawn(async move {
                for n in 0..150 {
                    let id = format!("{writer}-{n}");
                    store.begin(&id, "", n).await;
                    if n % 3 == 0 {
                        store.revoke(&Revocation::Client(id), None).await.unwrap();
                    }
                }
            });
        }
        let reading = {
            let is_done = Arc::clone(&is_done);
            let service = service.clone();
            tokio::spawn(async move {
                let mut told = HashSet::new();
                let mut left = 1_usize;
                loop {
                    // It leaves after one event, after two, and so on, and goes on after the last that it got.
                    let event = match left {
                        0 => None,
                        _ => feed.next().await,
                    };
                    left = left.saturating_sub(1);
                    let Some(event) = event else {
                        tokio::task::yield_now().await;
                        feed = FeedEvents::open(&service, &format!("?since={point}")).await;
                        left = told.len() % 17 + 2;
                        continue;
                    };
                    let is_fresh = event.name == "hb" && event.data["db_ok_ms"].as_u64().unwrap() < 3000;
                    if event.name == "change" {
                        told.insert(event.change());
                    }
                    assert_ne!(event.name, "reset");
                    if is_fresh && is_done.load(Ordering::SeqCst) && told.contains("issue last/") {
                        return told;
                    }
                    point = event.id;
                }
            })
        };
        while writing.join_next().await.transpose().unwrap().is_some() {}
        fixture.store.begin("last", "", 0).await;
        is_done.store(true, Ordering::SeqCst);
        let told = timeout(Duration::from_secs(60), reading).await.unwrap().unwrap();
        for writer in 0..8 {
            for n in 0..150 {
                assert!(told.contains(&format!("issue {writer}-{n}/")), "{writer}-{n}");
                assert!(n % 3 != 0 || told.contains(&format!("revoke {writer}-{n}/*")), "{writer}-{n}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_reader_is_cut_off_and_the_others_are_not() {
    const WRITES: usize = 10_000;
    let fixture = stores::memory().await;
    let service = service(&fixture);
    let mut slow = FeedEvents::open(&service, "").await;
    let start = slow.next().await.unwrap().id;
    let mut fast = FeedEvents::open(&service, "").await;
    let reading = tokio::spawn(async move {
        let mut numbers = BTreeMap::new();
        while numbers.len() < WRITES {
            let event = fast.news().await.expect("not cut off");
            numbers.insert(event.data["number"].as_u64().unwrap(), event.data["client_id"].to_string());
        }
        numbers.len()
    });
    for n in 0..WRITES {
        fixture.store.begin(&format!("c{n}"), "", n).await;
    }
    assert_eq!(reading.await.unwrap(), WRITES);
    while let Some(event) = slow.next().await {
        assert_eq!(event.name, "hb", "it was told nothing else");
    }
    assert_eq!(service.feed_status().unwrap().cut_off, 1);
    // It comes back, and reads what it has missed from the log.
    let mut back = FeedEvents::open(&service, &format!("?since={start}")).await;
    let mut clients = HashSet::new();
    while clients.len() < WRITES {
        clients.insert(back.news().await.expect("not cut off").data["client_id"].to_string());
    }
}
