//! An axum WebSocket that closes when its permit ends.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use axum::{
    Error,
    extract::ws::{CloseFrame, Message, WebSocket, close_code},
    http::HeaderValue,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt, task::AtomicWaker};
use tokio::time::{Sleep, sleep};

use crate::{
    EndsOn,
    check::{
        lifetime::EndReason,
        permit::{Ended, Permit},
    },
};

/// How long the client has to answer the closing.
const CLOSING_TIME: Duration = Duration::from_secs(5);

impl Permit {
    /// Closes the socket when this permit ends: see [`GuardedSocket`]. The rule of the path may say by `ends-on` that it goes on when its
    /// access token is replaced. With `shadow`, it is not closed.
    #[must_use]
    pub fn guard(&self, socket: WebSocket) -> GuardedSocket {
        GuardedSocket::new(socket, self.guard_ended(None))
    }

    /// Closes the socket as [`guard`](Self::guard) does, but when this says so, whatever the rule of the path says:
    /// with [`EndsOn::Revoke`], it goes on when its access token is replaced.
    #[must_use]
    pub fn guard_until(&self, ends_on: EndsOn, socket: WebSocket) -> GuardedSocket {
        GuardedSocket::new(socket, self.guard_ended(Some(ends_on)))
    }
}

/// A [`WebSocket`] that closes when its [`Permit`] ends, with code 1008 and the [`EndReason`] as the reason.
///
/// ```
/// use axum::{Router, extract::ws::WebSocketUpgrade, response::Response, routing::any};
/// use fastauth::Permit;
///
/// async fn echo(permit: Permit, upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async move |socket| {
///         let mut socket = permit.guard(socket);
///         while let Some(Ok(message)) = socket.recv().await {
///             if socket.send(message).await.is_err() {
///                 break;
///             }
///         }
///     })
/// }
///
/// let app: Router = Router::new().route("/access/echo", any(echo));
/// ```
///
/// It is a `Stream` and a `Sink` of messages, as the socket is. After the end of the permit it neither receives nor sends.
/// It notices the end only while it receives or sends, so keep receiving if a handler waits for something else:
/// [`recv`](Self::recv) loses no message when `tokio::select!` drops it.
#[derive(Debug)]
pub struct GuardedSocket {
    socket: WebSocket,
    ended: Ended,
    state: SocketState,
    sides: Arc<Sides>,
}

#[derive(Debug)]
enum SocketState {
    Open,
    /// The permit has ended, and the client is being informed.
    Closing {
        reason: EndReason,
        step: SocketStep,
        time: Pin<Box<Sleep>>,
    },
    Closed(EndReason),
}

/// The tasks that wait for the socket. A split socket has a task on each side, and the end wakes both.
#[derive(Debug, Default)]
struct Sides {
    receiving: AtomicWaker,
    sending: AtomicWaker,
}

impl Wake for Sides {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.receiving.wake();
        self.sending.wake();
    }
}

#[derive(Clone, Copy, Debug)]
enum SocketStep {
    Send,
    Flush,
    AwaitClient,
}

impl GuardedSocket {
    fn new(socket: WebSocket, ended: Ended) -> Self {
        Self { socket, ended, state: SocketState::Open, sides: Arc::default() }
    }

    /// Receives the next message. Returns `None` when the socket has closed, for any reason.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        self.next().await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// If the connection is lost, or if the permit has ended. In that case the error's source is the [`EndReason`].
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        SinkExt::send(self, message).await
    }

    /// Returns why the permit has ended, after the socket has noticed it.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        match &self.state {
            SocketState::Open => None,
            SocketState::Closing { reason, .. } | SocketState::Closed(reason) => Some(*reason),
        }
    }

    /// Returns the protocol that the handler chose.
    #[must_use]
    pub fn protocol(&self) -> Option<&HeaderValue> {
        self.socket.protocol()
    }

    /// Returns `Ok` while the permit lasts. After its end, closes the socket and then returns the reason.
    fn poll_permit(&mut self) -> Poll<Result<(), EndReason>> {
        let waker = Waker::from(Arc::clone(&self.sides));
        let cx = &mut Context::from_waker(&waker);
        if matches!(self.state, SocketState::Open) {
            let Poll::Ready(reason) = Pin::new(&mut self.ended).poll(cx) else { return Poll::Ready(Ok(())) };
            self.state = SocketState::Closing { reason, step: SocketStep::Send, time: Box::pin(sleep(CLOSING_TIME)) };
        }
        let reason = match &mut self.state {
            SocketState::Open => return Poll::Ready(Ok(())),
            SocketState::Closed(reason) => return Poll::Ready(Err(*reason)),
            SocketState::Closing { reason, step, time } => {
                if time.as_mut().poll(cx).is_pending() {
                    ready!(poll_closing(&mut self.socket, *reason, step, cx));
                }
                *reason
            }
        };
        self.state = SocketState::Closed(reason);
        self.sides.wake_by_ref();
        Poll::Ready(Err(reason))
    }
}

/// Sends the closing, and waits for the client's. An error ends the wait as well.
fn poll_closing(socket: &mut WebSocket, reason: EndReason, step: &mut SocketStep, cx: &mut Context<'_>) -> Poll<()> {
    let mut socket = Pin::new(socket);
    loop {
        match step {
            SocketStep::Send => {
                let frame = CloseFrame { code: close_code::POLICY, reason: reason.to_string().into() };
                let is_sent = ready!(socket.as_mut().poll_ready(cx)).is_ok()
                    && socket.as_mut().start_send(Message::Close(Some(frame))).is_ok();
                if !is_sent {
                    return Poll::Ready(());
                }
                *step = SocketStep::Flush;
            }
            SocketStep::Flush => {
                if ready!(socket.as_mut().poll_flush(cx)).is_err() {
                    return Poll::Ready(());
                }
                *step = SocketStep::AwaitClient;
            }
            SocketStep::AwaitClient => match ready!(socket.as_mut().poll_next(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            },
        }
    }
}

impl Stream for GuardedSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.sides.receiving.register(cx.waker());
        match ready!(self.poll_permit()) {
            Ok(()) => Pin::new(&mut self.socket).poll_next(cx),
            Err(_) => Poll::Ready(None),
        }
    }
}

impl Sink<Message> for GuardedSocket {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.sides.sending.register(cx.waker());
        ready!(self.poll_permit()).map_err(Error::new)?;
        Pin::new(&mut self.socket).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        // The permit may have ended since `poll_ready`.
        self.end_reason().map_or(Ok(()), |reason| Err(Error::new(reason)))?;
        Pin::new(&mut self.socket).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.sides.sending.register(cx.waker());
        ready!(self.poll_permit()).map_err(Error::new)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}
