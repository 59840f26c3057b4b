//! The body of a response that passed through the guard.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::ending::{EndingBody, Form};
use crate::check::permit::Permit;

pin_project! {
    /// The body of a response that passed through the guard: the inner service's, or the guard's refusal.
    ///
    /// If the permit of the request ends first, the body of an event stream ends as well, a gRPC stream ends with status 16, and any
    /// other body, on a rule with `ends-on`, fails with the [`EndReason`](crate::EndReason). All other bodies and errors are the inner
    /// service's. See the [guide](crate::guide::streams).
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
        Ending { #[pin] body: EndingBody<B> },
        Refusal { #[pin] body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// Creates a body that ends with the permit.
    pub(super) fn ending(body: B, form: Form, permit: Permit) -> Self {
        Self { kind: Kind::Ending { body: EndingBody::new(body, form, permit) } }
    }

    /// Returns the inner service's body, if it is unchanged.
    #[cfg(feature = "axum")]
    pub(crate) fn unchanged(self) -> Result<B, Self> {
        match self.kind {
            Kind::Inner { body } => Ok(body),
            kind => Err(Self { kind }),
        }
    }

    pub(crate) fn refusal(body: Full<Bytes>) -> Self {
        Self { kind: Kind::Refusal { body } }
    }
}

impl<B: Body> Body for ResponseBody<B>
where
    B::Data: From<Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            KindProjection::Ending { body } => body.poll_frame(cx),
            KindProjection::Refusal { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|Ok(frame)| Ok(frame.map_data(B::Data::from))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Ending { body } => body.is_end_stream(),
            Kind::Refusal { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Ending { body } => body.size_hint(),
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
            Kind::Ending { .. } => "ResponseBody(ending)",
            Kind::Refusal { .. } => "ResponseBody(refusal)",
        })
    }
}
