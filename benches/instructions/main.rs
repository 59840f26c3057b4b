//! Sends one kind of request through the layer, so often as it is told: for `benches/instructions/run`, which counts the
//! instructions that one takes. Counts do not depend on what else a machine does.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    convert::Infallible,
    env,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tower::{Layer, Service, service_fn};

const MASTER_TOKEN: &str = "a master token of thirty-two characters";

fn inner()
-> impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future = Ready<Result<Response<()>, Infallible>>>
+ Clone {
    service_fn(|request: Request<()>| {
        drop(black_box(request));
        ready(Ok(Response::new(())))
    })
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn send<S: Service<Request<()>, Error = Infallible>>(service: &mut S, path: &Uri, headers: &HeaderMap, count: usize) {
    for _ in 0..count {
        let mut request = Request::new(());
        request.uri_mut().clone_from(path);
        request.headers_mut().clone_from(headers);
        assert!(black_box(at_once(service.call(request))).is_ok());
    }
}

/// The token with another signature.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let [case, count] = &words[..] else {
        println!("instructions are counted by benches/instructions/run");
        return;
    };
    let settings = Settings::builder()
        .cryptography_key(Secret::from("kAONxbkATfyk3kmnUhw7YyAMotmvuJ6tVsuT1w3A6N4="))
        .master_token(MASTER_TOKEN)
        .access_token_paths(["/access", "/other"])
        .master_token_paths(["/master", "/admin"])
        .cache(case != "new")
        .store(MemoryStore::new());
    let auth = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = at_once(auth.issuer().issue("client-1")).unwrap().tokens.access_token;
    let header = |name: &'static str, value: &str| {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    };
    let (path, headers) = match &**case {
        "bare" | "open" => ("/api/v1/items", HeaderMap::new()),
        "bare-token" | "known" | "new" => ("/access/x", header("access-token", token.expose())),
        "master" => ("/master/x", header("master-token", MASTER_TOKEN)),
        "missing" => ("/access/x", HeaderMap::new()),
        "forged" => ("/access/x", header("access-token", &forged(token.expose()))),
        other => panic!("there is no case {other}"),
    };
    let (path, count) = (path.parse().unwrap(), count.parse().unwrap());
    if case.starts_with("bare") {
        send(&mut inner(), &path, &headers, count);
    } else {
        send(&mut auth.layer(inner()), &path, &headers, count);
    }
}
