//! The response future of the layer: checking, forwarding or refusing.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{REFERRER_POLICY, SEC_WEBSOCKET_PROTOCOL},
};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::{
    Span,
    instrument::{Instrument, Instrumented},
};

use super::{Pending, ResponseBody, Verdict, ending::Form, head, refusal::Refusal};
use crate::{
    check::{
        denial::Denial,
        permit::{Permit, WithoutPermit},
        refuse::keep_private,
    },
    credential::PROTOCOL,
    observe,
};

pin_project! {
    /// The response of a [`FastAuth`](crate::FastAuth). Dropping it drops the request and the service that it holds, and nothing else.
    ///
    /// # Panics
    ///
    /// If it is polled after it has resolved.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        pub(super) state: State<S, B, S::Future>,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline]
    pub(super) fn forwarding(response: S::Future) -> Self {
        Self { state: State::Forwarding { response } }
    }

    pub(super) fn refusing(refusal: Refusal, denial: Denial) -> Self {
        Self { state: State::Refusing { refusal: Some(refusal), denial: Some(denial) } }
    }

    pub(super) fn checking(pending: Pending, held: HeldRequest<S, B>) -> Self {
        Self { state: State::Checking { pending, held: Some(Box::new(held)) } }
    }
}

/// All that waits for the store.
pub(super) struct HeldRequest<S, B> {
    pub(super) ready_inner: S,
    pub(super) request: Request<B>,
    pub(super) refusal: Refusal,
    pub(super) chooses_protocol: bool,
    pub(super) by_ticket: bool,
}

/// What the guard adds to the inner service's response.
pub(super) struct Marks {
    /// A check applied to the request, so its response is private.
    pub(super) is_guarded: bool,
    /// The permit with which a response ends that goes on.
    pub(super) ending: Option<Permit>,
    /// The handshake offered the protocol which has to be chosen.
    pub(super) chooses_protocol: bool,
    /// The URL has a ticket in it, which a page at that URL must not pass on.
    pub(super) by_ticket: bool,
}

impl Marks {
    fn put_on<B>(&self, response: &mut Response<B>) {
        if self.is_guarded {
            keep_private(response.headers_mut());
        }
        if self.chooses_protocol {
            choose_protocol(response);
        }
        if self.by_ticket {
            // It fails if there are as many headers as there can be.
            if let Ok(entry) = response.headers_mut().try_entry(REFERRER_POLICY) {
                entry.or_insert(HeaderValue::from_static("no-referrer"));
            }
        }
    }
}

/// Lets a response that goes on end with its permit.
#[inline]
fn end_with<B>(permit: &mut Option<Permit>, response: Response<B>) -> Response<ResponseBody<B>> {
    let form = permit.as_ref().and_then(|permit| Form::of(response.headers(), permit));
    match (form, permit) {
        (Some(form), Some(permit)) => response.map(|body| ResponseBody::ending(body, form, permit.clone())),
        _ => response.map(ResponseBody::inner),
    }
}

/// Chooses [`PROTOCOL`] in the response to a handshake that offered it, if the socket opens and no other one was chosen.
#[cold]
fn choose_protocol<B>(response: &mut Response<B>) {
    let opens = response.status() == StatusCode::SWITCHING_PROTOCOLS || response.status().is_success();
    if opens && !response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
}

pin_project! {
    #[project = StateProjection]
    pub(super) enum State<S, B, F> {
        /// The store is asked; the request waits.
        Checking { pending: Pending, held: Option<Box<HeldRequest<S, B>>> },
        /// The inner service responds to a request to which no check applied.
        Forwarding { #[pin] response: F },
        /// The inner service responds to a request to which one did. If it goes on, it ends with the permit.
        Guarded { #[pin] response: F, ending: Option<Permit> },
        /// The inner service responds within a span, or to a handshake that offered the protocol which has to be chosen. It is
        /// boxed so that the other states are not larger for it.
        Attended { response: Pin<Box<Instrumented<F>>>, marks: Marks },
        /// The request was refused without waiting.
        Refusing { refusal: Option<Refusal>, denial: Option<Denial> },
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
                StateProjection::Forwarding { response } => {
                    let response = ready!(response.poll(cx))?;
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProjection::Guarded { response, ending } => {
                    let mut response = ready!(response.poll(cx))?;
                    keep_private(response.headers_mut());
                    return Poll::Ready(Ok(end_with(ending, response)));
                }
                StateProjection::Attended { response, marks } => {
                    let mut response = ready!(response.as_mut().poll(cx))?;
                    marks.put_on(&mut response);
                    return Poll::Ready(Ok(end_with(&mut marks.ending, response)));
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
    /// Calls the inner service, within a span if there is one.
    #[inline]
    pub(super) fn call(inner: &mut S, request: Request<B>, span: Option<Span>, marks: Marks) -> Self {
        if span.is_none() && !marks.chooses_protocol && !marks.by_ticket {
            let response = inner.call(request);
            return match marks.is_guarded {
                true => Self::Guarded { response, ending: marks.ending },
                false => Self::Forwarding { response },
            };
        }
        let span = span.unwrap_or_else(Span::none);
        let response = span.in_scope(|| inner.call(request));
        Self::Attended { response: Box::pin(response.instrument(span)), marks }
    }

    /// Returns a refusal, or `None` if the request has been forwarded to the inner service.
    ///
    /// It is no part of `poll`, so that the code of an open path stays small.
    #[inline(never)]
    #[allow(clippy::expect_used, reason = "polling a future after its end is the caller's fault, as the docs say")]
    fn poll_verdict(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response<Full<Bytes>>>> {
        const DONE: &str = "a ResponseFuture was polled after it had ended";
        match self.as_mut().project() {
            StateProjection::Checking { pending, held } => {
                let Verdict { head, permit } = ready!(pending.as_mut().poll(cx));
                let HeldRequest { mut ready_inner, mut request, refusal, chooses_protocol, by_ticket } =
                    *held.take().expect(DONE);
                if let Some(head) = head {
                    head::put_back(&mut request, head);
                }
                match permit {
                    Ok(permit) => {
                        let connect = head::connect(&request);
                        let permit = permit.map(|permit| permit.admitting(&request, connect));
                        let span = permit.as_ref().and_then(span);
                        let ending = permit.as_ref().and_then(Permit::ending);
                        match permit {
                            Some(permit) => _ = request.extensions_mut().insert(permit),
                            None => _ = request.extensions_mut().insert(WithoutPermit::Shadow),
                        }
                        let marks = Marks { is_guarded: true, ending, chooses_protocol, by_ticket };
                        self.set(Self::call(&mut ready_inner, request, span, marks));
                        Poll::Ready(None)
                    }
                    Err(denial) => {
                        let refusal = refusal.prepare(&mut request, &denial);
                        self.set(Self::Refusing { refusal: None, denial: None });
                        Poll::Ready(Some(refusal.render(denial)))
                    }
                }
            }
            StateProjection::Refusing { refusal, denial } => {
                Poll::Ready(Some(refusal.take().expect(DONE).render(denial.take().expect(DONE))))
            }
            StateProjection::Forwarding { .. } | StateProjection::Guarded { .. } | StateProjection::Attended { .. } => {
                Poll::Ready(None)
            }
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

/// Returns the span in which the inner service is called, if it is enabled.
#[inline]
pub(super) fn span(permit: &Permit) -> Option<Span> {
    observe::span(permit.client_id(), permit.master_token_name())
}
