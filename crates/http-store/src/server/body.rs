//! The body of an answer.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

/// The body of an answer of a [`StoreService`](crate::StoreService): whole, or for the change feed and the snapshot a stream that goes
/// on for as long as the caller reads.
pub struct StoreBody(Content);

enum Content {
    Whole(Full<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl StoreBody {
    pub(super) fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Content::Stream(Box::pin(chunks)))
    }
}

impl Default for StoreBody {
    fn default() -> Self {
        Self(Content::Whole(Full::default()))
    }
}

impl<T: Into<Bytes>> From<T> for StoreBody {
    fn from(bytes: T) -> Self {
        Self(Content::Whole(Full::new(bytes.into())))
    }
}

impl Body for StoreBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Content::Whole(body) => Pin::new(body).poll_frame(cx),
            Content::Stream(chunks) => chunks.as_mut().poll_next(cx).map(|chunk| Some(Ok(Frame::data(chunk?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(body) => body.is_end_stream(),
            Content::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(body) => body.size_hint(),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for StoreBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_stream = matches!(self.0, Content::Stream(_));
        f.debug_struct("StoreBody").field("is_stream", &is_stream).finish_non_exhaustive()
    }
}
