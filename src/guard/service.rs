//! The service that the layer makes.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Method, Request, Response,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use tower_service::Service;

use super::{
    Guard, Question, ResponseBody, ResponseFuture, Settled,
    future::{HeldRequest, Marks, State, span},
    head,
    refusal::Refusal,
};
use crate::{
    check::{live::Current, master::Caller, permit::WithoutPermit},
    credential::{self, Credentials, Found, MASTER_TOKEN},
    original_uri,
    rule::{RequestLine, Requirement},
    trace,
};

/// A service behind the guard, which [`FastAuthLayer`](crate::FastAuthLayer) creates.
#[derive(Clone, Debug)]
pub struct FastAuth<S> {
    inner: S,
    /// The guard that was current when the last request came.
    guard: Arc<Guard>,
    live: Arc<dyn Current<Guard>>,
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
        if self.guard.replaced.is_so() {
            self.renew();
        }
        let glance = self.guard.policy.rules.glance(request.method(), request.uri().path());
        if !self.is_open(&request, glance) {
            return self.guard(request, glance);
        }
        match credential::look(request.headers()) {
            Found::Nothing => self.forward(request),
            Found::Credentials => self.forward_marked(request),
            Found::Upgrade => self.guard(request, glance),
        }
    }
}

impl<S> FastAuth<S> {
    pub(crate) fn new(inner: S, live: Arc<dyn Current<Guard>>) -> Self {
        Self { inner, guard: live.current(), live }
    }

    /// Takes the guard of the current configuration.
    #[cold]
    fn renew(&mut self) {
        self.guard = self.live.current();
    }

    /// Returns true if no check applies for sure, as is the case with most requests.
    ///
    /// Nothing here may borrow the request as a whole, or it is copied again on its way to the inner service.
    #[inline]
    fn is_open<B>(&self, request: &Request<B>, glance: Option<Requirement>) -> bool {
        glance.is_some_and(Requirement::is_open)
            && original_uri::get(request.extensions()).is_none_or(|original| {
                self.guard.policy.rules.glance(request.method(), original.path()).is_some_and(Requirement::is_open)
            })
            && !matches!(*request.method(), Method::CONNECT)
    }

    #[inline]
    fn forward<B>(&mut self, request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        ResponseFuture::forwarding(self.inner.call(request))
    }

    /// Forwards a request to an open path with the credentials in it marked as sensitive.
    #[inline(never)]
    fn forward_marked<B>(&mut self, mut request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        Credentials::take(&mut request);
        self.forward(request)
    }

    #[inline(never)]
    fn guard<B>(&mut self, mut request: Request<B>, glance: Option<Requirement>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let credentials = Credentials::take(&mut request);
        if credentials.had_ticket() {
            original_uri::change(request.extensions_mut(), credential::without_ticket);
        }
        let chooses_protocol = credentials.offer_protocol();
        let mut caller = Caller::default();
        let presents_master = || MASTER_TOKEN.header.as_ref().is_some_and(|name| request.headers().contains_key(name));
        if self.guard.master.limits_guesses() && presents_master() {
            let (parts, body) = request.into_parts();
            caller = self.guard.master.caller(&parts);
            request = Request::from_parts(parts, body);
        }
        let line = RequestLine { glance, ..request_line(&request) };
        let verdict = self.guard.decide(&line, request.headers(), &credentials, request.extensions(), caller);
        let is_guarded = !matches!(verdict, Ok(Settled::Pass | Settled::Preflight));
        let mut ending = None;
        let span = match verdict {
            Ok(Settled::Pass) => None,
            Ok(Settled::Preflight) => {
                request.extensions_mut().insert(WithoutPermit::Preflight(Arc::clone(&self.guard.terms)));
                None
            }
            Ok(Settled::Anonymous) => {
                request.extensions_mut().insert(WithoutPermit::Anonymous(Arc::clone(&self.guard.terms)));
                None
            }
            Ok(Settled::Tolerate) => {
                request.extensions_mut().insert(WithoutPermit::Shadow);
                None
            }
            Ok(Settled::Permit(permit)) => {
                let permit = permit.admitting(&request, head::connect(&request));
                let span = span(&permit);
                ending = permit.ending();
                request.extensions_mut().insert(permit);
                span
            }
            Err(denial) => {
                let refusal = Refusal::new(&request, &self.guard.terms).prepare(&mut request, &denial);
                return ResponseFuture::refusing(refusal, denial);
            }
            Ok(Settled::Await(outstanding)) => {
                let by_ticket = matches!(outstanding.question, Question::Ticket { .. });
                if by_ticket {
                    head::strip_ticket(&mut request);
                }
                let refusal = Refusal::new(&request, &self.guard.terms);
                let observer = &self.guard.terms.observer;
                let details = observer.details(request.uri(), request.headers(), request.extensions());
                let method = request.method().clone();
                let parent = trace::parent_of(request.headers());
                let head = self.guard.asks_application().then(|| head::take(&mut request));
                let pending = self.guard.pending(*outstanding, head, method, details, parent);
                // What was polled ready is this instance, not its clone: this one is called, and the clone stays.
                let unready_inner = self.inner.clone();
                let ready_inner = mem::replace(&mut self.inner, unready_inner);
                return ResponseFuture::checking(
                    pending,
                    HeldRequest { ready_inner, request, refusal, chooses_protocol, by_ticket },
                );
            }
        };
        // In one place, so that the request is not copied again.
        let marks = Marks { is_guarded, ending, chooses_protocol, by_ticket: false };
        ResponseFuture { state: State::call(&mut self.inner, request, span, marks) }
    }
}

fn request_line<B>(request: &Request<B>) -> RequestLine<'_> {
    let method = request.method();
    let headers = request.headers();
    RequestLine {
        cors_headers: method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        original_uri: original_uri::get(request.extensions()),
        connect: head::connect(request),
        ..RequestLine::new(method, request.uri())
    }
}
