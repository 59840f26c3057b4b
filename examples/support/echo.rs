//! WebSockets that send every message back.

use axum::{
    Error,
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use fastauth::Permit;
use futures_util::{Sink, SinkExt, Stream, StreamExt};

use super::Stopping;

/// The longest message of a WebSocket, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// Sends every text and binary message back.
pub(crate) async fn echo(State(stopping): State<Stopping>, upgrade: WebSocketUpgrade) -> Response {
    limited(upgrade).on_upgrade(|socket| send_back(socket, stopping))
}

/// Does the same until the client's token expires, is replaced or is revoked.
pub(crate) async fn guarded_echo(
    permit: Permit,
    State(stopping): State<Stopping>,
    upgrade: WebSocketUpgrade,
) -> Response {
    limited(upgrade).on_upgrade(move |socket| send_back(permit.guard(socket), stopping))
}

/// Bounds the memory of a socket. By default it has a buffer of 128 KiB, idle or not, and takes messages of 64 MiB.
fn limited(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(4 << 10)
        .write_buffer_size(4 << 10)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
}

async fn send_back<S>(mut socket: S, mut stopping: Stopping)
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                // The library answers pings and closings.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            () = async { drop(stopping.wait_for(|stops| *stops).await) } => break,
        }
    }
    // The client connects again, to the server that takes this one's place.
    let frame = CloseFrame { code: close_code::AWAY, reason: "the server stops".into() };
    let _ = socket.send(Message::Close(Some(frame))).await;
    while let Some(Ok(_)) = socket.next().await {}
}
