//! The body of a response that passed through the guard.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that passed through the guard: the inner service's, or the guard's refusal.
    ///
    /// If the response type must stay what it was (`option_layer`, a boxed service), map it:
    /// `map_response(|response| response.map(axum::body::Body::from))` with the feature `axum`, else by `Body::new`.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Refusal { #[pin] body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// Converts the body, whichever it is.
    #[cfg(feature = "axum")]
    pub(crate) fn either<T>(self, inner: impl FnOnce(B) -> T, refusal: impl FnOnce(Full<Bytes>) -> T) -> T {
        match self.kind {
            Kind::Inner { body } => inner(body),
            Kind::Refusal { body } => refusal(body),
        }
    }

    pub(crate) fn refusal(body: Full<Bytes>) -> Self {
        Self { kind: Kind::Refusal { body } }
    }
}

impl<B: Body> Body for ResponseBody<B>
where
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx),
            KindProjection::Refusal { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|Ok(frame)| Ok(frame.map_data(B::Data::from))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Refusal { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Refusal { body } => body.size_hint(),
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Inner { .. } => "ResponseBody(inner)",
            Kind::Refusal { .. } => "ResponseBody(refusal)",
        })
    }
}
