//! Refusing a WebSocket by opening and closing it: a browser tells a page nothing about a handshake that failed.
//!
//! The client is sent what `fastauth-api` sends, one text message and a closing, and the code of the reason beside it.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite},
    runtime::Handle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::{
    check::denial::Denial,
    credential::{PROTOCOL, entries, offered, single},
    denial::{Close, Spec},
};

/// How long such a socket may stay open.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How much the client may send before its own closing.
const MAX_READ: usize = 64 * 1024;

/// A handshake that is accepted to say why it is refused.
pub(crate) struct Closing {
    upgrade: OnUpgrade,
    runtime: Handle,
    /// `Sec-WebSocket-Accept`, over HTTP/1.1.
    accept: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    close: Close,
    reason: &'static str,
}

impl Closing {
    /// Takes what is needed out of a request. Returns `None` if the handshake is not sound, or if the refusal is for the
    /// browser instead of the page.
    pub(crate) fn take<B>(request: &mut Request<B>, denial: &Denial) -> Option<Self> {
        let Spec { close, code: reason, .. } = denial.reason().spec();
        let close = close?;
        let headers = request.headers();
        if !is_sound(request) || single(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return None;
        }
        let accept = if request.version() <= Version::HTTP_11 {
            Some(accept(single(headers, &SEC_WEBSOCKET_KEY)?)?)
        } else {
            None
        };
        let protocol = offered(headers).find(|protocol| *protocol == PROTOCOL.as_bytes());
        let protocol = protocol.or_else(|| offered(headers).next());
        let protocol = protocol.and_then(|protocol| HeaderValue::from_bytes(protocol).ok());
        let runtime = Handle::try_current().ok()?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Self { upgrade, runtime, accept, protocol, close, reason })
    }

    /// Returns the answer that opens the socket, which is closed as soon as it is open.
    pub(crate) fn open(self) -> Response<Full<Bytes>> {
        let Self { upgrade, runtime, accept, protocol, close: frame, reason } = self;
        let closing = async move {
            if let Ok(connection) = upgrade.await {
                close(TokioIo::new(connection), frame, reason).await;
            }
        };
        // The task makes the timer: on a runtime without timers the task fails, and the request does not.
        drop(runtime.spawn(async move { timeout(CLOSING_TIME, closing).await }));
        let mut response = Response::new(Full::default());
        if let Some(accept) = accept {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        response.headers_mut().extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol)));
        response
    }
}

/// Returns true if a request asks for a WebSocket by the standards: by an upgrade of HTTP/1.1 (RFC 6455 4.1), or by an
/// extended CONNECT (RFC 8441 5).
fn is_sound<B>(request: &Request<B>) -> bool {
    let names = |header, name: &[u8]| {
        request.headers().get_all(header).iter().flat_map(entries).any(|entry| entry.eq_ignore_ascii_case(name))
    };
    match *request.method() {
        Method::GET => {
            request.version() <= Version::HTTP_11 && names(UPGRADE, b"websocket") && names(CONNECTION, b"upgrade")
        }
        Method::CONNECT => request.version() > Version::HTTP_11,
        _ => false,
    }
}

/// Returns the answer to a key, which is sixteen bytes in base64 (RFC 6455 4.2.2).
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digits = key.as_bytes().strip_suffix(b"==")?;
    let are_digits = digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    // The last digit has four bits more than the sixteen bytes, which are zero.
    if digits.len() != 22 || !are_digits || !matches!(digits.last(), Some(b'A' | b'Q' | b'g' | b'w')) {
        return None;
    }
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

/// Sends the message and the closing, and waits for the client's closing, so that nothing is lost on the way.
async fn close(connection: impl AsyncRead + AsyncWrite + Unpin, frame: Close, reason: &str) {
    let Close { code, text: detail } = frame;
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .max_message_size(Some(MAX_READ))
        .max_frame_size(Some(MAX_READ));
    // Bytes are bounded and not messages, which may be empty.
    let (reader, writer) = io::split(connection);
    let connection = io::join(reader.take(MAX_READ as u64), writer);
    let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let text = format!(r#"{{"status":"error","detail":"{detail}","reason":"{reason}"}}"#);
    let frame = CloseFrame { code: code.into(), reason: "".into() };
    if socket.feed(Message::text(text)).await.is_err() || socket.send(Message::Close(Some(frame))).await.is_err() {
        return;
    }
    while let Some(Ok(_)) = socket.next().await {}
    let mut connection = Pin::new(socket.get_mut());
    let _ = poll_fn(|cx| connection.as_mut().poll_shutdown(cx)).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn accepted_key_is_that_of_the_standard() {
        let accept = |key: &'static str| accept(&HeaderValue::from_static(key));
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25j", "x"] {
            assert!(accept(key).is_none(), "{key}");
        }
    }

    /// Empty frames have no content that could be counted.
    #[tokio::test(start_paused = true)]
    async fn flood_of_empty_frames_is_cut_off() {
        const EMPTY_PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];
        let flood = EMPTY_PING.repeat(2 * MAX_READ / EMPTY_PING.len());
        let (server, mut client) = io::duplex(flood.len());
        client.write_all(&flood).await.unwrap();
        let closing = close(server, Close { code: 1008, text: "no" }, "none");
        assert!(timeout(CLOSING_TIME, closing).await.is_ok(), "the client has not closed, and need not");
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        assert!(sent.ends_with(&[0x88, 2, 0x03, 0xf0]), "{sent:?}");
    }
}
