//! The tower layer.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    Method, Request, Response, Uri,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{
    Span,
    instrument::{Instrument, Instrumented},
};

#[cfg(feature = "websocket")]
use crate::websocket::Closing;
use crate::{
    config::{ConfigError, Settings},
    cookie, credentials,
    gate::{Check, Decision, Denial, Gate, PathCounts, TokenCounts},
    guesses::Caller,
    issuer::TokenIssuer,
    observe,
    response::{Form, ResponseBody, keep_private},
    router::TokenRouter,
    rule::{RequestLine, Requirement},
    websocket::{Handshake, choose_protocol},
};

/// Guards a service by path.
///
/// The layer wraps any `Service<Request<B>, Response = Response<ResBody>>`. What it refuses never reaches the service.
/// What it lets through to a guarded path carries a [`Permit`](crate::Permit). A refused request is answered with a response whose
/// extensions hold the [`Denial`]; the inner service's error type stays what it was.
///
/// # Where to put it
///
#[doc = include_str!("docs/placement.md")]
#[derive(Clone, Debug)]
pub struct FastAuthLayer {
    gate: Arc<Gate>,
}

impl FastAuthLayer {
    /// The layer by `fastauth.config.json` and the environment: see [`Settings::load`].
    ///
    /// # Panics
    ///
    /// Stops the start with one message that lists every fault of the configuration. Use
    /// [`try_from_config`](Self::try_from_config) to handle it.
    #[must_use]
    #[track_caller]
    pub fn from_config() -> Self {
        match Self::try_from_config() {
            Ok(layer) => layer,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`from_config`](Self::from_config), with the faults as a value.
    ///
    /// # Errors
    ///
    /// Every fault of the configuration, or of opening the store.
    pub fn try_from_config() -> Result<Self, ConfigError> {
        Self::new(Settings::load()?)
    }

    /// The layer by settings that were made in code or loaded by [`Settings::builder`].
    ///
    /// It tells what is guarded by what, where tokens are kept and what to be warned of: by `tracing`, or on standard error if no
    /// subscriber listens.
    ///
    /// # Errors
    ///
    /// Where the store cannot be opened. A REST store that is away is no error: the layer works as soon as it is back.
    pub fn new(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self { gate: Arc::new(Gate::new(&settings)?) })
    }

    /// How many paths were refused or read otherwise than they were sent, since this layer was made.
    #[must_use]
    pub fn path_counts(&self) -> PathCounts {
        self.gate.observer.path_counts()
    }

    /// How many used refresh tokens came back, since this layer was made.
    #[must_use]
    pub fn token_counts(&self) -> TokenCounts {
        self.gate.observer.token_counts()
    }

    /// The endpoints that issue and renew tokens, sharing this layer's key and store.
    #[must_use]
    pub fn router(&self) -> TokenRouter {
        TokenRouter::new(Arc::clone(&self.gate))
    }

    /// Issues and renews tokens in code, sharing this layer's key and store.
    #[must_use]
    pub fn issuer(&self) -> TokenIssuer {
        TokenIssuer::new(Arc::clone(&self.gate))
    }
}

#[cfg(feature = "utoipa")]
impl FastAuthLayer {
    /// Tells in an application's OpenAPI document what this layer asks for.
    pub fn openapi(&self) -> crate::OpenApiSecurity {
        crate::OpenApiSecurity::new(Arc::clone(&self.gate))
    }
}

impl<S> Layer<S> for FastAuthLayer {
    type Service = FastAuth<S>;

    fn layer(&self, inner: S) -> FastAuth<S> {
        FastAuth { inner, gate: Arc::clone(&self.gate) }
    }
}

/// A service behind the guard: what [`FastAuthLayer`] makes.
#[derive(Clone, Debug)]
pub struct FastAuth<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S, B, ResBody> Service<Request<B>> for FastAuth<S>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let glance = self.gate.glance(request.uri().path());
        if self.leaves_untouched(&request, glance) { self.forward(request) } else { self.guard(request, glance) }
    }
}

impl<S> FastAuth<S> {
    /// Whether nothing is asked of the request for sure, nor is there anything to hide in it: so it is with most requests.
    ///
    /// Nothing here may borrow the request as a whole, or it is copied once more on its way to the inner service.
    #[inline]
    fn leaves_untouched<B>(&self, request: &Request<B>, glance: Option<Requirement>) -> bool {
        let is_open = |glance: Option<Requirement>| glance.is_some_and(Requirement::is_public);
        is_open(glance)
            && original_uri(request).is_none_or(|original| is_open(self.gate.glance(original.path())))
            && !credentials::may_be_in(request.headers())
            && !matches!(*request.method(), Method::CONNECT)
    }

    #[inline]
    fn forward<B>(&mut self, request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        ResponseFuture { state: State::Forwarding { response: self.inner.call(request), is_guarded: false } }
    }

    #[inline(never)]
    fn guard<B>(&mut self, mut request: Request<B>, glance: Option<Requirement>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let seen = credentials::mark_sensitive(request.headers_mut());
        if seen.cookie {
            cookie::take(&mut request);
        }
        let may_be_handshake = seen.upgrade || request.method() == Method::CONNECT;
        let handshake = if may_be_handshake { Handshake::take(&mut request) } else { None };
        let chooses_protocol = handshake.as_ref().is_some_and(|handshake| handshake.offers_protocol);
        let mut caller = Caller::default();
        if self.gate.guesses.are_limited() && request.headers().contains_key(credentials::MASTER_TOKEN) {
            let (parts, body) = request.into_parts();
            caller = self.gate.guesses.caller(&parts);
            request = Request::from_parts(parts, body);
        }
        let line = RequestLine { glance, ..request_line(&request) };
        let decision = self.gate.decide(&line, request.headers(), handshake.as_ref(), caller);
        let is_guarded = !matches!(decision, Ok(Decision::Pass));
        let span = match decision {
            Ok(Decision::Pass | Decision::Tolerate) => None,
            Ok(Decision::Permit(permit)) => {
                let span = observe::span(&permit);
                request.extensions_mut().insert(permit);
                span
            }
            Err(denial) => {
                let refusal = Refusal::to(&request, &self.gate).of(&mut request, &denial);
                return ResponseFuture { state: State::Refusing { refusal: Some((refusal, denial)) } };
            }
            Ok(Decision::AskStore(check)) => {
                let refusal = Refusal::to(&request, &self.gate);
                // What was polled ready is this instance, not its clone: this one is called, and the clone stays.
                let unready_inner = self.inner.clone();
                let ready_inner = mem::replace(&mut self.inner, unready_inner);
                let held = (ready_inner, request, refusal, chooses_protocol);
                return ResponseFuture { state: State::Checking { check, held: Some(Box::new(held)) } };
            }
        };
        // In one place, so that the request is not copied once more.
        ResponseFuture { state: State::by(&mut self.inner, request, span, Marks { is_guarded, chooses_protocol }) }
    }
}

fn request_line<B>(request: &Request<B>) -> RequestLine<'_> {
    let (method, headers) = (request.method(), request.headers());
    RequestLine {
        cors_headers: method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        original_uri: original_uri(request),
        ..RequestLine::new(method, request.uri())
    }
}

/// The URI before a router stripped a prefix, where the request tells it.
#[cfg(feature = "axum")]
#[inline]
fn original_uri<B>(request: &Request<B>) -> Option<&Uri> {
    crate::extract::original_uri(request.extensions())
}

#[cfg(not(feature = "axum"))]
#[inline]
fn original_uri<B>(_: &Request<B>) -> Option<&Uri> {
    None
}

/// What is needed to write a refusal once the request has moved on.
struct Refusal {
    form: Form,
    gate: Arc<Gate>,
    /// The socket that is opened to say so.
    #[cfg(feature = "websocket")]
    closing: Option<Box<Closing>>,
}

impl Refusal {
    fn to<B>(request: &Request<B>, gate: &Arc<Gate>) -> Self {
        Self {
            form: Form::of(request.method(), request.headers()),
            gate: Arc::clone(gate),
            #[cfg(feature = "websocket")]
            closing: None,
        }
    }

    /// The same with what it takes to refuse a WebSocket by closing it, where that is wished for.
    #[cfg(feature = "websocket")]
    fn of<B>(mut self, request: &mut Request<B>, denial: &Denial) -> Self {
        if self.gate.closes_sockets {
            self.closing = Closing::take(request, denial).map(Box::new);
        }
        self
    }

    #[cfg(not(feature = "websocket"))]
    fn of<B>(self, _: &mut Request<B>, _: &Denial) -> Self {
        self
    }

    fn render(self, denial: Denial) -> Response<Full<Bytes>> {
        #[cfg(feature = "websocket")]
        if let Some(closing) = self.closing {
            let mut response = closing.open();
            response.extensions_mut().insert(denial);
            return response;
        }
        self.gate.refusals.answer(denial, self.form)
    }
}

pin_project! {
    /// The response to come. Dropping it drops the request and the service that it holds, and nothing else.
    ///
    /// # Panics
    ///
    /// When it is polled after it has ended.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, S::Future>,
    }
}

/// What the guard adds to the inner service's answer.
#[derive(Clone, Copy)]
struct Marks {
    /// Something was asked of the request, so its answer is for nobody else.
    is_guarded: bool,
    /// The handshake offered the protocol which has to be chosen.
    chooses_protocol: bool,
}

impl Marks {
    fn put_on<B>(self, response: &mut Response<B>) {
        if self.is_guarded {
            keep_private(response.headers_mut());
        }
        if self.chooses_protocol {
            choose_protocol(response);
        }
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F> {
        /// The store is asked; the request waits.
        Checking { check: Check, held: Option<Box<(S, Request<B>, Refusal, bool)>> },
        /// The inner service answers, maybe to a request that was asked for something.
        Forwarding { #[pin] response: F, is_guarded: bool },
        /// As that, in a span, or of a handshake that offered the protocol which has to be chosen. It is boxed so that all
        /// others are not larger for it.
        Attended { response: Pin<Box<Instrumented<F>>>, marks: Marks },
        /// The answer was known at once.
        Refusing { refusal: Option<(Refusal, Denial)> },
    }
}

impl<S, B, ResBody> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Forwarding { response, is_guarded } => {
                    let mut response = ready!(response.poll(cx))?;
                    if *is_guarded {
                        keep_private(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProjection::Attended { response, marks } => {
                    let mut response = ready!(response.as_mut().poll(cx))?;
                    marks.put_on(&mut response);
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProjection::Checking { .. } | StateProjection::Refusing { .. } => {}
            }
            if let Some(refusal) = ready!(state.as_mut().poll_verdict(cx)) {
                return Poll::Ready(Ok(refusal.map(ResponseBody::refusal)));
            }
        }
    }
}

impl<S, B> State<S, B, S::Future>
where
    S: Service<Request<B>>,
{
    /// Has the inner service answer a request, within a span if there is one.
    #[inline]
    fn by(inner: &mut S, request: Request<B>, span: Option<Span>, marks: Marks) -> Self {
        if span.is_none() && !marks.chooses_protocol {
            return Self::Forwarding { response: inner.call(request), is_guarded: marks.is_guarded };
        }
        let span = span.unwrap_or_else(Span::none);
        let response = span.in_scope(|| inner.call(request));
        Self::Attended { response: Box::pin(response.instrument(span)), marks }
    }

    /// Waits for the store where it is asked. There is a refusal, or the request has moved on to the inner service.
    ///
    /// It is no part of `poll` so that what an open path needs of that stays small.
    #[inline(never)]
    #[allow(clippy::expect_used, reason = "polling a future after its end is the caller's fault, as the docs say")]
    fn poll_verdict(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response<Full<Bytes>>>> {
        const DONE: &str = "a ResponseFuture was polled after it had ended";
        match self.as_mut().project() {
            StateProjection::Checking { check, held } => {
                let verdict = ready!(check.as_mut().poll(cx));
                let (mut ready_inner, mut request, refusal, chooses_protocol) = *held.take().expect(DONE);
                let (next, refused) = match verdict {
                    Ok(permit) => {
                        let span = permit.as_ref().and_then(observe::span);
                        if let Some(permit) = permit {
                            request.extensions_mut().insert(permit);
                        }
                        let marks = Marks { is_guarded: true, chooses_protocol };
                        (State::by(&mut ready_inner, request, span, marks), None)
                    }
                    Err(denial) => {
                        let refusal = refusal.of(&mut request, &denial);
                        (State::Refusing { refusal: None }, Some(refusal.render(denial)))
                    }
                };
                self.set(next);
                Poll::Ready(refused)
            }
            StateProjection::Refusing { refusal } => {
                let (refusal, denial) = refusal.take().expect(DONE);
                Poll::Ready(Some(refusal.render(denial)))
            }
            StateProjection::Forwarding { .. } | StateProjection::Attended { .. } => Poll::Ready(None),
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
