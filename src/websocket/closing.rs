//! Refusing a WebSocket by opening and closing it: a browser tells a page nothing of a handshake that failed.
//!
//! The client is sent what `fastauth-api` sends, one text message and a closing. That takes two frames, which are written by
//! hand; of what the client sends, nothing is read but where its own closing is.

use std::{future::poll_fn, pin::Pin, time::Duration};

use base64_simd::STANDARD as BASE64;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use http_body_util::Full;
use hyper::{
    rt::{Read, ReadBuf, Write},
    upgrade::{OnUpgrade, Upgraded},
};
use sha1::{Digest, Sha1};
use tokio::{runtime::Handle, time::timeout};

use super::{PROTOCOL, entries, offered};
use crate::{Denial, DenialReason};

/// How long such a socket may take in all.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How much of what the client sends is looked at for its closing.
const MAX_READ: usize = 64 * 1024;

/// The codes of closings (RFC 6455 7.4, and its registry).
const POLICY: u16 = 1008;
const TRY_AGAIN_LATER: u16 = 1013;

/// The longest text that one byte tells the length of.
const SHORT: usize = 125;

/// A handshake that is to be accepted, to tell the client why it is refused.
pub(crate) struct Closing {
    upgrade: OnUpgrade,
    runtime: Handle,
    /// Over HTTP/1.1, what proves that the handshake was understood.
    accept: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    frames: Vec<u8>,
}

impl Closing {
    /// Takes what is needed out of a request; `None` where it is no sound handshake, or its refusal is no matter of
    /// credentials: that is for the browser, and not for the page.
    pub(crate) fn take<B>(request: &mut Request<B>, denial: &Denial) -> Option<Self> {
        let (code, detail) = words(denial.reason())?;
        let headers = request.headers();
        let is_sound =
            is_sound(request) && single(headers, SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let accept = match request.version() {
            _ if !is_sound => return None,
            version if version <= Version::HTTP_11 => Some(accept(single(headers, SEC_WEBSOCKET_KEY)?)?),
            _ => None,
        };
        let protocol = offered(headers).find(|protocol| *protocol == PROTOCOL.as_bytes());
        let protocol = protocol.or_else(|| offered(headers).next());
        let protocol = protocol.and_then(|protocol| HeaderValue::from_bytes(protocol).ok());
        let (runtime, upgrade) = (Handle::try_current().ok()?, request.extensions_mut().remove::<OnUpgrade>()?);
        Some(Self { upgrade, runtime, accept, protocol, frames: frames(detail, code) })
    }

    /// The answer that opens the socket. It is closed as soon as it is open.
    pub(crate) fn open(self) -> Response<Full<Bytes>> {
        let Self { upgrade, runtime, accept, protocol, frames } = self;
        let closing = async move {
            if let Ok(socket) = upgrade.await {
                close(socket, &frames).await;
            }
        };
        // The timer is made by the task: on a runtime without timers, the request must not be what fails.
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

/// How a refusal is told, in the words that clients of `fastauth-api` go by.
fn words(reason: &DenialReason) -> Option<(u16, &'static str)> {
    use DenialReason as Reason;
    match reason {
        Reason::Path(_) | Reason::ForeignOrigin => None,
        Reason::MissingMasterToken | Reason::WrongMasterToken => {
            Some((POLICY, "Disconnected: Unauthorized Master Token"))
        }
        Reason::TooManyGuesses(_) => Some((TRY_AGAIN_LATER, crate::response::TOO_MANY_GUESSES)),
        Reason::StoreUnavailable(_) => Some((TRY_AGAIN_LATER, crate::response::STORE_UNAVAILABLE)),
        Reason::Credentials(_)
        | Reason::MissingAccessToken
        | Reason::InvalidAccessToken(_)
        | Reason::InvalidTicket(_)
        | Reason::SpentTicket
        | Reason::UnknownClient
        | Reason::NotCanonical => Some((POLICY, "Disconnected: Unauthrized ACCESS-TOKEN")),
    }
}

/// The message, and the closing after it. A server's frames are not masked.
fn frames(detail: &str, code: u16) -> Vec<u8> {
    let text = format!(r#"{{"status":"error","detail":"{detail}"}}"#);
    debug_assert!(text.len() <= SHORT, "{detail}");
    let mut frames = vec![0x81, text.len() as u8];
    frames.extend_from_slice(text.as_bytes());
    frames.extend_from_slice(&[0x88, 2]);
    frames.extend_from_slice(&code.to_be_bytes());
    frames
}

/// Whether a request asks for a WebSocket as the standards have it: by an upgrade of HTTP/1.1 (RFC 6455 4.1), or by an
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

/// The one value of a header.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The answer to a key, which is sixteen bytes in base64 (RFC 6455 4.2.2).
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let is_key = BASE64.decode_to_vec(key).is_ok_and(|bytes| bytes.len() == 16);
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(BASE64.encode_to_string(digest)).ok().filter(|_| is_key)
}

/// Sends the frames, and waits until the client has closed as well, so that nothing is lost on the way.
async fn close(mut socket: Upgraded, frames: &[u8]) {
    let mut socket = Pin::new(&mut socket);
    let mut rest = frames;
    while !rest.is_empty() {
        match poll_fn(|cx| socket.as_mut().poll_write(cx, rest)).await {
            Ok(written) if written > 0 => rest = &rest[written..],
            _ => return,
        }
    }
    if poll_fn(|cx| socket.as_mut().poll_flush(cx)).await.is_err() {
        return;
    }
    let (mut scan, mut buffer, mut total) = (Scan::default(), [0; 1024], 0);
    while total < MAX_READ {
        let mut read = ReadBuf::new(&mut buffer);
        let outcome = poll_fn(|cx| socket.as_mut().poll_read(cx, read.unfilled())).await;
        let bytes = read.filled();
        if outcome.is_err() || bytes.is_empty() || scan.finds_closing(bytes) {
            break;
        }
        total += bytes.len();
    }
    let _ = poll_fn(|cx| socket.as_mut().poll_shutdown(cx)).await;
}

/// Looks for the closing among the frames of a client, piece by piece.
#[derive(Default)]
struct Scan {
    /// The head of a frame, as far as it has come: at most ten bytes and a mask.
    head: [u8; 14],
    len: usize,
    /// What is left of a frame's content.
    content: u64,
}

impl Scan {
    fn finds_closing(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.content > 0 {
                let skipped = usize::try_from(self.content).unwrap_or(usize::MAX).min(bytes.len());
                self.content -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.len] = bytes[0];
            self.len += 1;
            bytes = &bytes[1..];
            if self.head[0] & 0x0f == 0x08 {
                return true;
            }
            if let Some(content) = self.content() {
                (self.len, self.content) = (0, content);
            }
        }
        false
    }

    /// How long the frame's content is, once its head is whole.
    fn content(&self) -> Option<u64> {
        if self.len < 2 {
            return None;
        }
        let length = self.head[1] & 0x7f;
        let extra = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        let is_whole = self.len == 2 + extra + mask;
        let big = self.head[2..2 + extra].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        is_whole.then(|| if extra == 0 { length.into() } else { big })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        let of = |key: &'static str| accept(&HeaderValue::from_static(key));
        assert_eq!(of("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "x"] {
            assert!(of(key).is_none(), "{key}");
        }
    }

    #[test]
    fn frames_are_short_and_plain() {
        let reasons = [
            DenialReason::MissingMasterToken,
            DenialReason::MissingAccessToken,
            DenialReason::StoreUnavailable(crate::store::StoreError::unsupported("x")),
        ];
        for reason in reasons {
            let (code, detail) = words(&reason).unwrap();
            let frames = frames(detail, code);
            let length = usize::from(frames[1]);
            assert!(frames[0] == 0x81 && length <= SHORT);
            let text: serde_json::Value = serde_json::from_slice(&frames[2..2 + length]).unwrap();
            assert_eq!(text, serde_json::json!({ "status": "error", "detail": detail }));
            assert_eq!(frames[2 + length..], [&[0x88, 2][..], &code.to_be_bytes()].concat());
        }
    }

    #[test]
    fn a_closing_is_found_behind_other_frames() {
        let masked = |opcode: u8, length: &[u8], content: usize| {
            let mut frame = vec![0x80 | opcode, 0x80 | length[0]];
            frame.extend_from_slice(&length[1..]);
            frame.extend(std::iter::repeat_n(0x88, 4 + content));
            frame
        };
        let others = [
            masked(1, &[3], 3),
            masked(2, &[126, 1, 0], 256),
            masked(2, &[127, 0, 0, 0, 0, 0, 1, 0, 1], 65_537),
            masked(9, &[0], 0),
            vec![0x81, 2, 0x88, 0x88],
        ]
        .concat();
        for step in [1, 7, 1024] {
            let mut scan = Scan::default();
            assert!(!others.chunks(step).any(|piece| scan.finds_closing(piece)), "{step}");
            assert!(masked(8, &[2], 2).chunks(step).any(|piece| scan.finds_closing(piece)), "{step}");
        }
    }
}
