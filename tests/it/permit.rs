//! When the right of a permit ends.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::ws::{Message, WebSocketUpgrade},
    response::Response as AxumResponse,
    routing::any,
};
use bytes::Bytes;
use fastauth::{
    EndReason, FastAuthLayer, Permit, SettingsBuilder,
    config::TokensPerClient,
    store::{MemoryStore, Revocation, SqliteStore},
};
use futures_util::{SinkExt, StreamExt, future::join_all};
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    app::{MASTER, access_token, serve, settings},
    support::{
        front::{Front, Mode},
        stores::{WithoutLog, session_of},
    },
    websocket::{Socket, open},
};

/// Longer than anything takes that is to come at once.
const SOON: Duration = Duration::from_secs(1);

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// What a request with this header is let through with.
async fn permit(layer: &FastAuthLayer, path: &str, header: (&str, &str)) -> Permit {
    let permitted = service_fn(|request: Request<()>| {
        let mut response = Response::new(Full::<Bytes>::default());
        response.extensions_mut().extend(request.extensions().clone());
        ready(Ok::<_, Infallible>(response))
    });
    let request = Request::builder().uri(path).header(header.0, header.1).body(()).unwrap();
    let response = layer.layer(permitted).oneshot(request).await.unwrap();
    response.extensions().get::<Permit>().expect("a permit").clone()
}

pub(crate) async fn access(layer: &FastAuthLayer, token: &str) -> Permit {
    permit(layer, "/access", ("access-token", token)).await
}

#[tokio::test]
async fn a_right_ends_by_what_happens_to_its_token() {
    let layer = layer(settings().tokens_per_client(TokensPerClient::Many));
    let issuer = layer.issuer();
    for (expected, event) in [
        (EndReason::Superseded, "refresh"),
        (EndReason::Revoked, "token"),
        (EndReason::Revoked, "session"),
        (EndReason::Revoked, "client"),
        (EndReason::Revoked, "all"),
    ] {
        let issued = issuer.issue("alice").await.unwrap();
        let other = issuer.issue("alice").await.unwrap();
        let access_token = issued.tokens.access_token.expose();
        let permit = access(&layer, access_token).await;
        let mut ended = permit.ended();
        let others = access(&layer, other.tokens.access_token.expose()).await.ended();
        assert!(timeout(Duration::from_millis(10), &mut ended).await.is_err(), "{event}");
        match event {
            "refresh" => _ = issuer.refresh(issued.tokens.refresh_token.expose()).await.unwrap(),
            "token" => assert!(issuer.revoke_token(access_token).await.unwrap()),
            "session" => _ = issuer.revoke(&session_of("alice", &issued.session)).await.unwrap(),
            "client" => _ = issuer.revoke(&Revocation::Client("alice".to_owned())).await.unwrap(),
            _ => _ = issuer.revoke(&Revocation::All).await.unwrap(),
        }
        assert_eq!(timeout(SOON, ended).await.unwrap(), expected, "{event}");
        // It is known to who asks later, too.
        assert_eq!(timeout(SOON, permit.ended()).await.unwrap(), expected, "{event}");
        let concerns_all = matches!(event, "client" | "all");
        assert_eq!(timeout(Duration::from_millis(50), others).await.is_ok(), concerns_all, "{event}");
    }
}

#[tokio::test]
async fn a_new_log_in_ends_the_right_of_the_one_before() {
    let layer = layer(settings());
    let token = access_token(&layer, "alice").await;
    let ended = access(&layer, token.expose()).await.ended();
    access_token(&layer, "bob").await;
    access_token(&layer, "alice").await;
    assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Superseded);
}

#[tokio::test]
async fn a_right_ends_with_the_last_second_of_its_token() {
    let layer = layer(settings().access_ttl(Duration::from_secs(1)));
    let token = access_token(&layer, "alice").await;
    let permit = access(&layer, token.expose()).await;
    assert_eq!(timeout(Duration::from_secs(4), permit.ended()).await.unwrap(), EndReason::Expired);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs() > permit.expires_at().unwrap());
}

#[tokio::test]
async fn the_right_of_a_master_token_does_not_end() {
    let layer = layer(settings());
    let ended = permit(&layer, "/master", ("master-token", MASTER)).await.ended();
    layer.issuer().revoke(&Revocation::All).await.unwrap();
    assert!(timeout(Duration::from_millis(100), ended).await.is_err());
}

/// Echoes, and holds the socket as long as the permit's right lasts.
pub(crate) async fn echo(permit: Permit, upgrade: WebSocketUpgrade) -> AxumResponse {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = permit.guard(socket);
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

/// Says hello by one half of the socket, while another task waits for the other half.
async fn halves(permit: Permit, upgrade: WebSocketUpgrade) -> AxumResponse {
    upgrade.on_upgrade(async move |socket| {
        let (mut sending, mut receiving) = permit.guard(socket).split();
        let receives = tokio::spawn(async move { while receiving.next().await.is_some() {} });
        // The other task has begun to wait then.
        tokio::task::yield_now().await;
        sending.send(Message::Text("hello".into())).await.unwrap();
        receives.await.unwrap();
    })
}

#[tokio::test]
async fn a_socket_in_two_halves_closes_whoever_used_it_last() {
    let layer = layer(settings().store(MemoryStore::new()));
    let token = access_token(&layer, "alice").await;
    let app = Router::new().route("/access/ws", any(halves)).layer(layer.clone());
    let url = format!("ws://{}/access/ws", serve(app).await);
    let (mut socket, _) = open(&url, &[("access-token", token.expose())]).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), "hello");
    layer.issuer().revoke(&Revocation::All).await.unwrap();
    let (code, _) = timeout(SOON, closed(&mut socket)).await.unwrap();
    assert_eq!(code, CloseCode::Policy);
}

async fn sockets(layer: &FastAuthLayer, token: &str, count: usize) -> Vec<Socket> {
    let address = serve(Router::new().route("/access/ws", any(echo)).layer(layer.clone())).await;
    let url = format!("ws://{address}/access/ws");
    join_all((0..count).map(|_| async { open(&url, &[("access-token", token)]).await.unwrap().0 })).await
}

/// How a socket was closed.
async fn closed(socket: &mut Socket) -> (CloseCode, String) {
    match timeout(5 * SOON, socket.next()).await.expect("it is closed").unwrap().unwrap() {
        tungstenite::Message::Close(Some(frame)) => (frame.code, frame.reason.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sockets_on_two_instances_close_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let store = || SqliteStore::open(directory.path().join("tokens.db")).unwrap();
    let (one, two) = (layer(settings().store(store())), layer(settings().store(store())));
    for event in ["refresh", "revoke"] {
        let tokens = one.issuer().issue("alice").await.unwrap().tokens;
        let other = access_token(&one, "bob").await;
        let mut open = sockets(&one, tokens.access_token.expose(), 25).await;
        open.extend(sockets(&two, tokens.access_token.expose(), 25).await);
        let mut others = sockets(&two, other.expose(), 1).await;
        let began = Instant::now();
        let expected = if event == "refresh" {
            one.issuer().refresh(tokens.refresh_token.expose()).await.unwrap();
            "the access token was replaced"
        } else {
            one.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
            "the access token was revoked"
        };
        for found in join_all(open.iter_mut().map(closed)).await {
            assert_eq!(found, (CloseCode::Policy, expected.to_owned()));
        }
        let took = began.elapsed();
        assert!(took < SOON, "{event}: {took:?}");
        assert!(timeout(Duration::from_millis(50), others[0].next()).await.is_err(), "bob's socket is open");
    }
}

#[tokio::test]
async fn a_socket_closes_when_its_token_expires_though_the_client_says_nothing() {
    let layer = layer(settings().access_ttl(Duration::from_secs(1)));
    let token = access_token(&layer, "alice").await;
    let mut socket = sockets(&layer, token.expose(), 1).await.remove(0);
    assert_eq!(closed(&mut socket).await, (CloseCode::Policy, "the access token has expired".to_owned()));
}

/// A handler that only sends is told as well.
#[tokio::test]
async fn nothing_can_be_sent_any_more() {
    async fn ticker(permit: Permit, upgrade: WebSocketUpgrade) -> AxumResponse {
        upgrade.on_upgrade(async move |socket| {
            let mut socket = permit.guard(socket);
            while socket.send(Message::text("tick")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }
    let layer = layer(settings());
    let token = access_token(&layer, "alice").await;
    let address = serve(Router::new().route("/access/ws", any(ticker)).layer(layer.clone())).await;
    let (mut socket, _) =
        open(&format!("ws://{address}/access/ws"), &[("access-token", token.expose())]).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    layer.issuer().revoke(&Revocation::All).await.unwrap();
    let last = timeout(SOON, async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                tungstenite::Message::Text(_) => {}
                other => return other,
            }
        }
    });
    assert!(matches!(last.await.unwrap(), tungstenite::Message::Close(Some(frame)) if frame.code == CloseCode::Policy));
}

const RECHECK: Duration = Duration::from_millis(200);

/// A layer on a REST store that others write to, and what stands before that.
async fn rest() -> (FastAuthLayer, FastAuthLayer, Front) {
    let behind = MemoryStore::new();
    let front = Front::start(Arc::new(WithoutLog(behind.clone()))).await;
    let other = layer(settings().store(behind));
    (layer(settings().store(front.client()).websocket_recheck(RECHECK)), other, front)
}

#[tokio::test]
async fn a_store_that_does_not_tell_is_asked_again_once_for_all() {
    let (layer, other, front) = rest().await;
    let tokens = layer.issuer().issue("alice").await.unwrap().tokens;
    let token = tokens.access_token.expose();
    let permits = join_all((0..20).map(|_| access(&layer, token))).await;
    front.seen();
    let mut waiting = join_all(permits.iter().map(Permit::ended));
    assert!(timeout(5 * RECHECK, &mut waiting).await.is_err());
    let asked = front.seen().len();
    assert!((1..=8).contains(&asked), "{asked} times for twenty permits in five intervals");
    // Somebody else revokes.
    other.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
    let reasons = timeout(2 * RECHECK + SOON, waiting).await.unwrap();
    assert_eq!(reasons, [EndReason::Revoked; 20]);
}

#[tokio::test]
async fn what_this_process_does_is_not_waited_for() {
    let (_, _, front) = rest().await;
    let layer = layer(settings().store(front.client()).websocket_recheck(Duration::from_secs(3600)));
    let tokens = layer.issuer().issue("alice").await.unwrap().tokens;
    let ended = access(&layer, tokens.access_token.expose()).await.ended();
    layer.issuer().refresh(tokens.refresh_token.expose()).await.unwrap();
    assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Superseded);
}

#[tokio::test]
async fn a_right_outlives_trouble_with_the_store_for_a_while_only() {
    let (_, _, front) = rest().await;
    // A store that failed is not asked for a second.
    let recheck = 3 * RECHECK;
    let layer = layer(settings().store(front.client()).websocket_recheck(recheck));
    let token = access_token(&layer, "alice").await;
    let permit = access(&layer, token.expose()).await;
    let mut ended = permit.ended();
    // It comes back in time.
    front.becomes(Mode::Page(502));
    assert!(timeout(3 * recheck, &mut ended).await.is_err());
    front.becomes(Mode::Pass);
    assert!(timeout(8 * recheck, &mut ended).await.is_err());
    // It does not.
    front.becomes(Mode::Page(502));
    let began = Instant::now();
    assert_eq!(timeout(8 * recheck + SOON, ended).await.unwrap(), EndReason::Unconfirmed);
    assert!(began.elapsed() > 4 * recheck, "{:?}", began.elapsed());
}

/// Nothing waits there, so nothing times out.
#[cfg(feature = "test-util")]
#[tokio::test]
async fn a_store_that_fails_at_once_is_borne_no_longer() {
    let store = fastauth::test_util::FailingStore::new(MemoryStore::new());
    let layer = layer(settings().store(store.clone()).websocket_recheck(RECHECK));
    let token = access_token(&layer, "alice").await;
    let ended = access(&layer, token.expose()).await.ended();
    store.fail_all(fastauth::store::StoreErrorKind::Failed);
    assert_eq!(timeout(8 * RECHECK + SOON, ended).await.unwrap(), EndReason::Unconfirmed);
}
