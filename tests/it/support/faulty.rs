//! A REST store that misbehaves, byte by byte as a test wants it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::stores::any_port;

/// What the server does with a request that it has read.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers in full, and keeps the connection.
    Answer(StatusCode, Vec<u8>),
    /// Answers as `Answer` does, as soon as the flag is up.
    AnswerWhen(watch::Receiver<bool>, Vec<u8>),
    /// Answers in full, with the body some time after the head.
    AnswerInTwo(StatusCode, Vec<u8>),
    /// Redirects to this URL.
    Redirect(String),
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes, and then byte after byte for ever.
    Drip(Vec<u8>),
    /// Sends these bytes, and then megabyte after megabyte for ever.
    Flood(Vec<u8>),
    /// Says nothing, and keeps the connection.
    Silent,
    /// Answers a GET with this body, and says nothing to a POST.
    SilentToPost(Vec<u8>),
    /// Does this to a POST, and answers a GET with this body.
    ToPost(Box<Behaviour>, Vec<u8>),
    /// Closes a connection that has served a request before; answers 200 with this body on a new one.
    CloseWhenReused(Vec<u8>),
    /// Says nothing on the first so many connections; answers 200 with this body on later ones.
    SilentBefore(usize, Vec<u8>),
    /// Answers with this content type as well.
    Typed(StatusCode, &'static str, Vec<u8>),
    /// Answers as a store of the first version that holds one pair, whoever asks: this one, and then what is written. Where it is
    /// empty there is none, and the 404 has no body.
    Holds(Arc<Mutex<Vec<u8>>>),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// As they came, without the line ends.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct FaultyStore {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: watch::Sender<Vec<Seen>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FaultyStore {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let seen = watch::Sender::new(Vec::new());
        let connections = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&behaviour), seen.clone(), Arc::clone(&connections)));
        Self { address, behaviour, seen, connections, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn becomes(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests have come.
    pub(crate) async fn saw(&self, count: usize) {
        self.seen.subscribe().wait_for(|seen| seen.len() >= count).await.unwrap();
    }
}

async fn accept(
    listener: TcpListener,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: watch::Sender<Vec<Seen>>,
    connections: Arc<AtomicUsize>,
) {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = connections.fetch_add(1, Ordering::Relaxed) + 1;
        tasks.spawn(serve(stream, number, Arc::clone(&behaviour), seen.clone()));
    }
}

/// Serves one connection until it is closed by either side.
async fn serve(stream: TcpStream, number: usize, behaviour: Arc<Mutex<Behaviour>>, seen: watch::Sender<Vec<Seen>>) {
    let mut stream = BufReader::new(stream);
    let mut served = 0;
    while let Some(request) = read(&mut stream).await {
        let is_post = request.line.starts_with("POST");
        let written = request.body.clone();
        seen.send_modify(|seen| seen.push(request));
        let behaviour = match behaviour.lock().unwrap().clone() {
            Behaviour::ToPost(to_post, _) if is_post => *to_post,
            Behaviour::ToPost(_, body) => Behaviour::Answer(StatusCode::OK, body),
            behaviour => behaviour,
        };
        if let (Behaviour::Holds(held), true) = (&behaviour, is_post) {
            *held.lock().unwrap() = written;
        }
        if !answer(stream.get_mut(), behaviour, number, served > 0, is_post).await {
            return;
        }
        served += 1;
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let line = lines.remove(0);
    Some(Seen { line, headers: lines, body })
}

/// Whether the connection is kept.
async fn answer(stream: &mut TcpStream, behaviour: Behaviour, number: usize, reused: bool, is_post: bool) -> bool {
    match behaviour {
        Behaviour::Answer(status, body) => respond(stream, status, "", &body).await,
        Behaviour::AnswerWhen(mut flag, body) => {
            flag.wait_for(|up| *up).await.is_ok() && respond(stream, StatusCode::OK, "", &body).await
        }
        Behaviour::AnswerInTwo(status, body) => {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            stream.write_all(&body).await.is_ok()
        }
        Behaviour::Redirect(to) => respond(stream, StatusCode::FOUND, &format!("location: {to}\r\n"), b"").await,
        Behaviour::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            false
        }
        Behaviour::Drip(bytes) => {
            let mut wrote = stream.write_all(&bytes).await;
            while wrote.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                wrote = stream.write_all(b"x").await;
            }
            false
        }
        Behaviour::Flood(bytes) => {
            let megabyte = vec![b' '; 1 << 20];
            let mut wrote = stream.write_all(&bytes).await;
            while wrote.is_ok() {
                wrote = stream.write_all(&megabyte).await;
            }
            false
        }
        Behaviour::Silent => true,
        Behaviour::SilentToPost(body) => is_post || respond(stream, StatusCode::OK, "", &body).await,
        Behaviour::SilentBefore(count, _) if number <= count => true,
        Behaviour::SilentBefore(_, body) => respond(stream, StatusCode::OK, "", &body).await,
        Behaviour::Typed(status, content_type, body) => {
            respond(stream, status, &format!("content-type: {content_type}\r\n"), &body).await
        }
        Behaviour::Holds(held) => {
            let held = held.lock().unwrap().clone();
            let status = if held.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
            respond(stream, status, "content-type: application/json\r\n", &held).await
        }
        Behaviour::ToPost(..) => unreachable!("it was one of the two"),
        Behaviour::CloseWhenReused(body) => !reused && respond(stream, StatusCode::OK, "", &body).await,
    }
}

async fn respond(stream: &mut TcpStream, status: StatusCode, headers: &str, body: &[u8]) -> bool {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), body].concat();
    stream.write_all(&answer).await.is_ok()
}
