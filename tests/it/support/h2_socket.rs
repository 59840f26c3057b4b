//! WebSockets over HTTP/2 (RFC 8441), by the h2 crate.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

pub(crate) type Socket = WebSocketStream<DuplexStream>;

/// Asks for a socket on a connection of its own: the answer, and the socket where it opens.
pub(crate) async fn open(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
) -> (Response<()>, Result<Socket, Bytes>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    // The server says so in its first frame.
    while !client.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{address}{target}"))
        .version(Version::HTTP_2)
        .header("sec-websocket-version", "13")
        .extension(h2::ext::Protocol::from_static("websocket"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (response, sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let (parts, receiving) = response.await.unwrap().into_parts();
    let outcome =
        if parts.status == StatusCode::OK { Ok(socket(sending, receiving).await) } else { Err(whole(receiving).await) };
    (Response::from_parts(parts, ()), outcome)
}

async fn whole(mut receiving: h2::RecvStream) -> Bytes {
    let mut body = Vec::new();
    while let Some(chunk) = receiving.data().await {
        body.extend_from_slice(&chunk.unwrap());
    }
    body.into()
}

async fn socket(mut sending: h2::SendStream<Bytes>, mut receiving: h2::RecvStream) -> Socket {
    let (near, far) = duplex(1 << 16);
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 14];
        while let Ok(len @ 1..) = read.read(&mut buffer).await {
            if sending.send_data(Bytes::copy_from_slice(&buffer[..len]), false).is_err() {
                return;
            }
        }
        let _ = sending.send_data(Bytes::new(), true);
    });
    tokio::spawn(async move {
        while let Some(Ok(chunk)) = receiving.data().await {
            let _ = receiving.flow_control().release_capacity(chunk.len());
            if write.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    WebSocketStream::from_raw_socket(near, Role::Client, None).await
}
