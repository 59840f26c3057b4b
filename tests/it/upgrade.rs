//! WebSockets: refused before the handshake, and working behind the guard.

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::app::{MASTER, access_token, app, layer, serve};

#[tokio::test]
async fn sockets_open_by_the_guards_of_their_path() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let address = serve(app(layer)).await;
    let open = |path: &str, header: Option<(&'static str, &str)>| {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        connect_async(request)
    };
    for (path, header) in [
        ("/ws", None),
        ("/access/ws", Some(("access-token", token.expose()))),
        ("/master/ws", Some(("master-token", MASTER))),
    ] {
        let (mut socket, _) = open(path, header).await.unwrap();
        for message in [Message::text("hello"), Message::binary(vec![0, 1, 255])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
    }
    for path in ["/access/ws", "/master/ws"] {
        let Err(Error::Http(response)) = open(path, None).await else { panic!("{path} opened") };
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key("www-authenticate"));
        assert!(response.body().as_ref().unwrap().starts_with(br#"{"status":"error","code":401,"reason":"missing_"#));
    }
}
