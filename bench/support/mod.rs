//! What the benches have in common.

// Each bench takes what it needs.
#![allow(dead_code)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    marker::PhantomData,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header::CONTENT_TYPE};
use tower::{Layer, Service};

/// What is measured at once: so few requests stay in the processor's nearest cache.
const GROUP: usize = 50;

/// The inner service: it takes the request and answers at once, with a header, as applications do.
pub(crate) struct Inner<R = ()>(PhantomData<fn() -> R>);

impl<R> Inner<R> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<R> Clone for Inner<R> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<B, R: Default> Service<Request<B>> for Inner<R> {
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Ready<Result<Response<R>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(black_box(request));
        let mut response = Response::new(R::default());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ready(Ok(response))
    }
}

/// A layer that does nothing: what there is to lose at least.
#[derive(Clone)]
pub(crate) struct NothingLayer;

impl<S> Layer<S> for NothingLayer {
    type Service = Nothing<S>;

    fn layer(&self, inner: S) -> Nothing<S> {
        Nothing(inner)
    }
}

#[derive(Clone)]
pub(crate) struct Nothing<S>(S);

impl<B, S: Service<Request<B>>> Service<Request<B>> for Nothing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.0.call(request)
    }
}

/// What the future gives, which is there at once.
#[inline]
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing in this bench waits"),
    }
}

/// One header.
pub(crate) fn header(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
}

pub(crate) fn request<B: Default>(path: &Uri, headers: &HeaderMap) -> Request<B> {
    let mut request = Request::new(B::default());
    request.uri_mut().clone_from(path);
    request.headers_mut().clone_from(headers);
    request
}

/// The nanoseconds that each of so many requests takes, which take turns through the headers: the median of small groups,
/// so that it does not matter if something else has its turn between them.
///
/// They are made before the clock starts. Where a loop makes each of them just before it is sent, what a layer adds vanishes
/// in part behind the making, how much depending on how the compiler laid the loop out.
pub(crate) fn time<B, S>(service: &mut S, path: &Uri, headers: &[HeaderMap], count: usize) -> f64
where
    B: Default,
    S: Service<Request<B>, Error = Infallible>,
{
    let groups = (0..count).step_by(GROUP).enumerate().map(|(number, first)| {
        // They lie elsewhere each time: some addresses go together better than others, and that is nobody's merit.
        let gap = number % 19;
        let size = GROUP.min(count - first);
        let made = headers.iter().cycle().skip(first % headers.len()).take(size);
        let made: Vec<_> = headers.iter().cycle().take(gap).chain(made).map(|headers| request(path, headers)).collect();
        let mut requests = made.into_iter();
        requests.by_ref().take(gap).for_each(drop);
        nanoseconds(size, || {
            for request in requests {
                assert!(black_box(at_once(service.call(request))).is_ok());
            }
        })
    });
    median(groups.collect())
}

/// The nanoseconds that something else takes, done so many times with each of the texts in turn.
pub(crate) fn time_alone(texts: &[String], count: usize, mut work: impl FnMut(&str)) -> f64 {
    let texts: Vec<_> = texts.iter().cycle().take(count).collect();
    let groups = texts.chunks(GROUP).map(|group| nanoseconds(group.len(), || group.iter().for_each(|text| work(text))));
    median(groups.collect())
}

/// The nanoseconds that the work takes, by that number.
fn nanoseconds(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The token with a signature of the right form that is not its own.
pub(crate) fn forge(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature: String = signature.chars().rev().collect();
    // The last character has to be one that strict base64url lets stand there.
    format!("{signed}.{}A", &signature[..42])
}
