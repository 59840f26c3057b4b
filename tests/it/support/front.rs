//! What may stand between a client and a store: it passes calls on, notes them, and spoils them as a test wants it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use fastauth::store::{RestStore, StoreService, TokenStore};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tower::ServiceExt;

use super::{
    stores::any_port,
    v1::{self, Rows},
};

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// The store answers.
    Pass,
    /// An empty store of the first version answers, and others after it.
    First(Rows),
    /// A page answers, with this status, and no store sees the call.
    Page(u16),
    /// As `Page`, but for the calls of the second version alone.
    PageBeforeV2(u16),
    /// Something answers in the store's name, with this status and body, and no store sees the call.
    Says(u16, &'static str),
    /// The store sees the call, but its answer to a write never comes.
    LosesAnswers,
    /// The store sees the call, but a write's connection breaks before the answer.
    CutsAnswers,
    /// The store sees the call, but of the answer to a write only the head comes.
    CutsBodies,
    /// Writes reach the store after this time, and are answered then.
    Delays(Duration),
    /// Writes never reach the store, and their connections break.
    CutsWrites,
    /// As `CutsWrites`, once.
    CutsOneWrite(Arc<AtomicBool>),
    /// A POST reaches the store when the flag is up; all else does at once.
    HoldsPosts(watch::Receiver<bool>),
    /// Nothing is answered.
    Hangs,
    /// Each connection breaks before an answer.
    Breaks,
    /// The store answers after this time.
    Slow(Duration),
    /// The store refuses writes, for the client is issued tokens too often: it has to wait for so many seconds.
    Limits(u64),
    /// The store answers, and its announcement is taken out of the answers to these methods.
    Strips(&'static [&'static str]),
}

/// What is noted of the calls.
#[derive(Clone, Default)]
struct Notes {
    /// Method, path and query.
    seen: Arc<Mutex<Vec<String>>>,
    /// The `traceparent`, empty where there is none.
    traces: Arc<Mutex<Vec<String>>>,
}

pub(crate) struct Front {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    notes: Notes,
    tasks: JoinSet<()>,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

impl Front {
    pub(crate) async fn start(store: Arc<dyn TokenStore>) -> Self {
        Self::start_at(any_port(), store).await
    }

    pub(crate) async fn start_at(address: SocketAddr, store: Arc<dyn TokenStore>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(Mode::Pass));
        let notes = Notes::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, StoreService::new(store), Arc::clone(&mode), notes.clone()));
        Self { address, mode, notes, tasks }
    }

    pub(crate) fn becomes(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Stops, and returns the address that is free then.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.tasks.shutdown().await;
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new client.
    pub(crate) fn client(&self) -> RestStore {
        RestStore::new(&format!("http://{}", self.address), HeaderMap::new()).unwrap()
    }

    /// How many calls there were since they were asked for last.
    pub(crate) fn count(&self) -> usize {
        self.notes.seen.lock().unwrap().len()
    }

    /// The traces of the calls since this was asked last.
    pub(crate) fn traces(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.traces.lock().unwrap())
    }

    /// The calls since this was asked last: method, path and query.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.seen.lock().unwrap())
    }
}

async fn accept(listener: TcpListener, service: StoreService, mode: Arc<Mutex<Mode>>, notes: Notes) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (service, mode, notes) = (service.clone(), Arc::clone(&mode), notes.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            // The node reads the feed by itself.
            if request.uri().path() != "/v2/changes" {
                notes.seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
                let parent = request.headers().get("traceparent").map_or("", |parent| parent.to_str().unwrap());
                notes.traces.lock().unwrap().push(parent.to_owned());
            }
            answer(service.clone(), mode.lock().unwrap().clone(), request.map(Body::new))
        });
        // It ends with an error where a connection is cut on purpose.
        connections
            .spawn(async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await) });
    }
}

async fn answer(service: StoreService, mode: Mode, request: Request<Body>) -> Result<Response<Body>, Cut> {
    let is_write = request.method() != http::Method::GET;
    match mode {
        Mode::First(rows) => Ok(v1::app(rows).oneshot(request).await.unwrap()),
        Mode::PageBeforeV2(status) if request.uri().path().starts_with("/v2/") => Ok(page(status)),
        Mode::Page(status) => Ok(page(status)),
        Mode::Says(status, body) => Ok(says(status, body)),
        Mode::CutsWrites if is_write => Err(Cut),
        Mode::Breaks => Err(Cut),
        Mode::Hangs => std::future::pending().await,
        Mode::Slow(time) => {
            tokio::time::sleep(time).await;
            Ok(service.oneshot(request).await.unwrap().map(Body::new))
        }
        Mode::Limits(seconds) if is_write => Ok(limited(seconds)),
        Mode::CutsOneWrite(was_cut) if is_write && !was_cut.swap(true, Ordering::Relaxed) => Err(Cut),
        Mode::HoldsPosts(mut flag) => {
            if request.method() == http::Method::POST {
                let _ = flag.wait_for(|is_up| *is_up).await;
            }
            Ok(service.oneshot(request).await.unwrap().map(Body::new))
        }
        Mode::Strips(methods) => {
            let is_stripped = methods.contains(&request.method().as_str());
            let mut response = service.oneshot(request).await.unwrap().map(Body::new);
            if is_stripped {
                response.headers_mut().remove("fastauth-store");
            }
            Ok(response)
        }
        Mode::Delays(time) if is_write => {
            tokio::time::sleep(time).await;
            Ok(service.oneshot(request).await.unwrap().map(Body::new))
        }
        mode => {
            let response = service.oneshot(request).await.unwrap().map(Body::new);
            match mode {
                Mode::LosesAnswers if is_write => std::future::pending().await,
                Mode::CutsAnswers if is_write => Err(Cut),
                Mode::CutsBodies if is_write => Ok(response
                    .map(|_| Body::from_stream(futures_util::stream::once(async { Err::<bytes::Bytes, _>(Cut) })))),
                _ => Ok(response),
            }
        }
    }
}

fn page(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::from("<html>hush-page</html>"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn limited(seconds: u64) -> Response<Body> {
    let mut response = says(429, r#"{"code":"rate_limited","status":429}"#);
    response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    response
}

fn says(status: u16, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let announcement = HeaderValue::from_static("v=2; epoch=5; feed=/v2/changes");
    response.headers_mut().insert("fastauth-store", announcement);
    response.headers_mut().insert("etag", HeaderValue::from_static("\"7\""));
    response
}
