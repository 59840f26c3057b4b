//! A store that does not answer, and a process that may not have many descriptors.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fastauth::store::RestStore;
use futures_util::future::join_all;
use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{app, support::stores::any_port};

/// Names the store for the process with few descriptors.
const STORE: &str = "FASTAUTH_TEST_SILENT_STORE";
const LISTENING: &str = "listening on ";

/// Less than the ten seconds that a call of the store may take.
const SOON: Duration = Duration::from_secs(6);

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(store: &str, descriptors: u32) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "store_contract::descriptors::server_with_few_descriptors", "--ignored", "--nocapture"])
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address =
            lines.find_map(|line| line.split_once(LISTENING)?.1.parse().ok()).expect("it says where it listens");
        // Its later output is not read, and is short.
        Self { child, address }
    }

    async fn ask(&self, path: &str, token: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: test\r\naccess-token: {token}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_store_does_not_take_the_descriptors_of_open_paths() {
    // It listens, and never accepts.
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let issuer = app::layer();
    let clients = (0..300).map(|n| if n % 2 == 0 { "one".to_owned() } else { format!("client-{n}") });
    let tokens = join_all(clients.map(async |id| app::access_token(&issuer, &id).await)).await;
    let server = Server::start(&format!("http://{}", silent.local_addr().unwrap()), 256);
    let guarded = join_all(tokens.iter().map(|token| server.ask("/access/health", token.expose()))).await;
    for _ in 0..20 {
        let start = Instant::now();
        let mut open = server.ask("/health", "").await;
        let mut answer = String::new();
        tokio::time::timeout(SOON, open.read_to_string(&mut answer)).await.expect("an answer").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(start.elapsed() < SOON);
    }
    // Those without a place are refused at once.
    let mut refused = server.ask("/access/health", tokens[1].expose()).await;
    let mut answer = String::new();
    tokio::time::timeout(SOON, refused.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(guarded);
}

/// The process with few descriptors: serves until its input ends.
#[tokio::test]
#[ignore = "run by silent_store_does_not_take_the_descriptors_of_open_paths"]
async fn server_with_few_descriptors() {
    let Ok(url) = std::env::var(STORE) else { return };
    let store = RestStore::new(&url, HeaderMap::new()).unwrap();
    let layer = fastauth::FastAuthLayer::new(app::settings().store(store).build().unwrap()).unwrap();
    let address = app::serve(app::app(layer)).await;
    println!("{LISTENING}{address}");
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = end.await;
}
