//! The head of an HTTP/1 request, as a client without credentials may send it, at guarded applications: nothing that
//! is protected is reached.

#![no_main]

use std::{cell::OnceCell, path::Path};

use axum::body::Body;
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/sinks/apps.rs"]
mod apps;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/sinks/upstream.rs"]
mod upstream;

use apps::{App, SCENES, all, copy, guarded, make_files, reached};

struct Targets {
    runtime: Runtime,
    apps: Vec<(String, App)>,
}

impl Targets {
    fn new(files: &Path) -> Self {
        make_files(files);
        let mut apps = Vec::new();
        // The rules of these are for all methods alike.
        for scene in SCENES.iter().filter(|scene| scene.method == "GET") {
            let (sinks, guard) = (scene.sinks(files), scene.guard());
            apps.push((scene.name.to_owned(), guarded(all(&sinks), &guard)));
        }
        Self { runtime: Builder::new_current_thread().build().expect("a runtime"), apps }
    }
}

thread_local! {
    static TARGETS: OnceCell<Targets> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let Some(request) = parse(bytes) else { return };
    TARGETS.with(|targets| {
        let files = std::env::temp_dir().join("fastauth-fuzz");
        let targets = targets.get_or_init(|| Targets::new(&files));
        for (name, app) in &targets.apps {
            let reached = targets.runtime.block_on(reached(app, copy(&request)));
            assert!(reached.is_empty(), "{name}: {} reached {reached:?}", request.uri());
        }
    });
});

/// As hyper does it: httparse, and then the http crate.
fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Request::new(&mut headers);
    head.parse(bytes).ok()?;
    let mut request = Request::builder().method(head.method?).uri(head.path?.parse::<Uri>().ok()?);
    for header in head.headers.iter().filter(|header| !header.name.is_empty()) {
        request = request.header(header.name, header.value);
    }
    request.body(Body::empty()).ok()
}
