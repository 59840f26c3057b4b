//! The body of a response that ends with the permit of its request.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::check::{
    lifetime::EndReason,
    permit::{Ended, Permit},
    refuse::{GRPC_MESSAGE, GRPC_STATUS, is_grpc},
};

/// How many frames may pass before the permit is watched, if they are ready at once: those of a gRPC response that is no stream.
const UNWATCHED_FRAMES: u8 = 2;
/// `PERMISSION_DENIED`
const PERMISSION_DENIED: HeaderValue = HeaderValue::from_static("7");
/// `UNAUTHENTICATED`
const UNAUTHENTICATED: HeaderValue = HeaderValue::from_static("16");

/// How a response is ended before its time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// As if all events had been sent: the client connects again, and is refused.
    EventStream,
    /// By a status.
    Grpc,
    /// By an error, so that no part passes for the whole.
    Other,
}

impl Form {
    /// Returns the form of a response that is to end with its permit; `None` if it goes on.
    #[inline]
    pub(super) fn of(headers: &HeaderMap, permit: &Permit) -> Option<Self> {
        // One pass over the few headers that a response has beats a look-up.
        match headers.iter().find(|(name, _)| **name == CONTENT_TYPE).map(|(_, value)| value) {
            Some(content_type) if is_grpc(content_type) => Some(Self::Grpc),
            Some(content_type) if is_event_stream(content_type) => Some(Self::EventStream),
            _ => permit.ends_every_response().then_some(Self::Other),
        }
    }

    /// Returns what the client gets at the end.
    fn last<D>(self, reason: EndReason) -> Option<Result<Frame<D>, Box<dyn Error + Send + Sync>>> {
        match self {
            Self::EventStream => None,
            Self::Grpc => Some(Ok(Frame::trailers(status(reason)))),
            Self::Other => Some(Err(reason.into())),
        }
    }
}

/// Returns true for `text/event-stream`, with or without parameters.
fn is_event_stream(content_type: &HeaderValue) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    let content_type = content_type.as_bytes();
    let is_it = content_type.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE));
    is_it && matches!(content_type[TYPE.len()..], [] | [b';' | b' ', ..])
}

fn status(reason: EndReason) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = if reason == EndReason::RuleChanged { PERMISSION_DENIED } else { UNAUTHENTICATED };
    trailers.insert(GRPC_STATUS, status);
    if let Ok(message) = HeaderValue::from_str(&reason.to_string()) {
        trailers.insert(GRPC_MESSAGE, message);
    }
    trailers
}

pin_project! {
    /// A body that ends with a permit.
    pub(super) struct EndingBody<B> {
        // `None` after the end.
        #[pin]
        body: Option<B>,
        end: Box<End>,
    }
}

struct End {
    form: Form,
    watch: Watch,
}

enum Watch {
    /// Most gRPC responses are complete before it is worth a task to watch their permits.
    NotYet {
        permit: Permit,
        frames: u8,
    },
    Started(Ended),
}

impl End {
    /// Returns the reason if the permit has ended and is watched.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        match &mut self.watch {
            Watch::Started(ended) => Pin::new(ended).poll(cx),
            Watch::NotYet { .. } => Poll::Pending,
        }
    }

    /// Starts to watch the permit. Returns false if it is watched already.
    fn start(&mut self) -> bool {
        let Watch::NotYet { permit, .. } = &self.watch else { return false };
        self.watch = Watch::Started(permit.right_ended());
        true
    }

    /// Counts a frame that passed.
    fn count(&mut self) {
        if let Watch::NotYet { frames, .. } = &mut self.watch {
            *frames += 1;
            if *frames == UNWATCHED_FRAMES {
                self.start();
            }
        }
    }
}

impl<B> EndingBody<B> {
    pub(super) fn new(body: B, form: Form, permit: Permit) -> Self {
        let watch = Watch::NotYet { permit, frames: 0 };
        Self { body: Some(body), end: Box::new(End { form, watch }) }
    }
}

impl<B: Body> Body for EndingBody<B>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let mut this = self.project();
        loop {
            let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            // First, since the body may always be ready.
            if let Poll::Ready(reason) = this.end.poll(cx) {
                this.body.set(None);
                tracing::debug!(target: "fastauth", "a response was ended: {reason}");
                return Poll::Ready(this.end.form.last(reason));
            }
            match body.poll_frame(cx) {
                Poll::Pending if this.end.start() => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    this.end.count();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(last) => {
                    this.body.set(None);
                    return Poll::Ready(last.map(|last| last.map_err(Into::into)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests;
