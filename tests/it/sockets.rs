//! Guarded sockets, as their handlers see them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        Path,
        ws::{Message, WebSocketUpgrade},
    },
    response::Response as AxumResponse,
    routing::any,
};
use fastauth::{
    EndReason, EndsOn, FastAuthLayer, GuardedSocket, Permit, Rule, config::TokensPerClient, store::Revocation,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Duration, timeout},
};
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};

use crate::{
    app::{serve, settings},
    support::stores::{self, ManySessions},
    websocket::{Socket, open},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// What became of a handler's task: why the right ended as it knows it, or that it panicked.
type Outcome = Result<Option<EndReason>, String>;

/// How a handler uses its socket.
async fn handler(way: String, mut socket: GuardedSocket) -> Option<EndReason> {
    match &*way {
        "receives" => while let Some(Ok(_)) = socket.recv().await {},
        // It goes on asking after the end.
        "insists" => {
            while let Some(Ok(_)) = socket.recv().await {}
            assert!(socket.recv().await.is_none() && socket.next().await.is_none());
            let error = socket.send(Message::text("late")).await.unwrap_err();
            assert!(error.to_string().contains("access token"), "{error}");
            assert!(socket.flush().await.is_err());
            let _ = socket.close().await;
        }
        "sends" => {
            while socket.send(Message::text("tick")).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
        "selects" => loop {
            tokio::select! {
                received = socket.recv() => if received.is_none() { break },
                () = tokio::task::yield_now() => {}
            }
        },
        "halves" => {
            let (mut sending, mut receiving) = socket.split();
            let receives = tokio::spawn(async move {
                while receiving.next().await.is_some() {}
                receiving
            });
            while sending.send(Message::text("tick")).await.is_ok() {
                tokio::task::yield_now().await;
            }
            socket = receives.await.unwrap().reunite(sending).unwrap();
        }
        other => panic!("{other}"),
    }
    socket.end_reason()
}

/// An application whose handlers say what became of them.
fn app(layer: FastAuthLayer, outcomes: UnboundedSender<Outcome>) -> Router {
    let guarded = async move |permit: Permit, Path(way): Path<String>, upgrade: WebSocketUpgrade| -> AxumResponse {
        let outcomes = outcomes.clone();
        upgrade.on_upgrade(async move |socket| {
            let task = tokio::spawn(handler(way, permit.guard(socket)));
            outcomes.send(task.await.map_err(|error| error.to_string())).unwrap();
        })
    };
    Router::new().route("/access/{way}", any(guarded)).layer(layer)
}

/// Why a socket was closed, and whether that was in good order.
async fn closed(mut socket: Socket) -> (CloseCode, String) {
    let frame = loop {
        match socket.next().await.expect("a closing").unwrap() {
            tungstenite::Message::Text(_) => {}
            tungstenite::Message::Close(Some(frame)) => break frame,
            other => panic!("{other:?}"),
        }
    };
    assert!(socket.next().await.is_none(), "the connection was not reset");
    (frame.code, frame.reason.to_string())
}

const WAYS: [&str; 5] = ["receives", "insists", "sends", "selects", "halves"];

#[tokio::test]
async fn a_handler_goes_on_when_the_right_of_its_socket_has_ended() {
    use fastauth::test_util::ManualClock;

    for event in ["revoked", "replaced", "expired"] {
        let clock = ManualClock::new();
        let layer = FastAuthLayer::new(settings().clock(&clock).build().unwrap()).unwrap();
        let issued = layer.issuer().issue("alice").await.unwrap();
        let (sender, mut outcomes) = unbounded_channel();
        let address = serve(app(layer.clone(), sender)).await;
        let mut sockets = Vec::new();
        for way in WAYS {
            let url = format!("ws://{address}/access/{way}");
            let token = issued.tokens.access_token.expose();
            sockets.push(open(&url, &[("access-token", token)]).await.unwrap().0);
        }
        let expected = match event {
            "revoked" => {
                layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
                EndReason::Revoked
            }
            "replaced" => {
                layer.issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap();
                EndReason::Superseded
            }
            _ => {
                clock.advance(Duration::from_secs(31 * 24 * 60 * 60));
                EndReason::Expired
            }
        };
        for socket in sockets {
            let found = timeout(LONG, closed(socket)).await.unwrap();
            assert_eq!(found, (CloseCode::Policy, expected.to_string()), "{event}");
        }
        for _ in WAYS {
            let outcome = timeout(LONG, outcomes.recv()).await.unwrap().unwrap();
            assert_eq!(outcome, Ok(Some(expected)), "{event}");
        }
    }
}

#[tokio::test]
async fn a_socket_can_survive_a_refresh() {
    async fn echo(permit: Permit, Path(until): Path<String>, upgrade: WebSocketUpgrade) -> AxumResponse {
        upgrade.on_upgrade(async move |socket| {
            let mut socket = match &*until {
                "code" => permit.guard_until(EndsOn::Revoke, socket),
                "code-over-rule" => permit.guard_until(EndsOn::Token, socket),
                _ => permit.guard(socket),
            };
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
        })
    }
    let rule = Rule::prefix("/ruled").access().ends_on(EndsOn::Revoke);
    let layer = FastAuthLayer::new(settings().rules([rule]).build().unwrap()).unwrap();
    let issued = layer.issuer().issue("alice").await.unwrap();
    let app = Router::new().route("/access/{until}", any(echo)).route("/ruled/{until}", any(echo));
    let address = serve(app.layer(layer.clone())).await;
    let open = async |path: &str| {
        let url = format!("ws://{address}{path}");
        open(&url, &[("access-token", issued.tokens.access_token.expose())]).await.unwrap().0
    };
    let surviving = [open("/access/code").await, open("/ruled/rule").await];
    let others = [open("/access/rule").await, open("/ruled/code-over-rule").await];
    layer.issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    for other in others {
        assert_eq!(timeout(LONG, closed(other)).await.unwrap().1, "the access token was replaced");
    }
    let mut open_still = Vec::new();
    for mut socket in surviving {
        socket.send(tungstenite::Message::text("hello")).await.unwrap();
        let answer = timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, tungstenite::Message::text("hello"));
        open_still.push(socket);
    }
    layer.issuer().revoke(&Revocation::All).await.unwrap();
    for socket in open_still {
        let found = timeout(LONG, closed(socket)).await.unwrap();
        assert_eq!(found, (CloseCode::Policy, "the access token was revoked".to_owned()));
    }
}

/// As with streams: what `shadow` lets through it does not end.
#[tokio::test]
async fn with_shadow_no_socket_is_closed() {
    let (permits, mut opened) = unbounded_channel();
    let echo = async move |permit: Permit, Path(way): Path<String>, upgrade: WebSocketUpgrade| -> AxumResponse {
        permits.send(permit.clone()).unwrap();
        upgrade.on_upgrade(async move |socket| {
            let mut socket = match &*way {
                "code" => permit.guard_until(EndsOn::Token, socket),
                _ => permit.guard(socket),
            };
            while let Some(Ok(message)) = socket.recv().await {
                let _ = socket.send(message).await;
            }
        })
    };
    let rule = Rule::prefix("/access/ruled").access().ends_on(EndsOn::Revoke);
    let layer = FastAuthLayer::new(settings().rules([rule]).shadow(true).build().unwrap()).unwrap();
    let token = crate::app::access_token(&layer, "alice").await;
    let address = serve(Router::new().route("/access/{way}", any(echo)).layer(layer.clone())).await;
    let mut sockets = Vec::new();
    for way in ["plain", "ruled", "code"] {
        let url = format!("ws://{address}/access/{way}");
        sockets.push(open(&url, &[("access-token", token.expose())]).await.unwrap().0);
    }
    layer.issuer().revoke(&Revocation::All).await.unwrap();
    for mut socket in sockets {
        // What the handler asks itself is answered as ever.
        let permit = opened.recv().await.unwrap();
        assert_eq!(timeout(LONG, permit.ended()).await.unwrap(), EndReason::Revoked);
        socket.send(tungstenite::Message::text("hello")).await.unwrap();
        let answer = timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, tungstenite::Message::text("hello"));
    }
}

/// However many log-ins the client has, and whatever their names are.
#[tokio::test]
async fn the_reason_does_not_depend_on_the_names_of_log_ins() {
    for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await] {
        let settings = settings().tokens_per_client(TokensPerClient::Many).store(Arc::clone(&fixture.store));
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let issuer = layer.issuer();
        // A page of a list is full of those that come before.
        for n in 0..1100 {
            fixture.store.begin("alice", &format!("!{n}"), n).await;
        }
        for number in 0..4 {
            let log_in = issuer.issue("alice").await.unwrap();
            let ended = crate::permit::access(&layer, log_in.tokens.access_token.expose()).await.ended();
            let expected = if number % 2 == 0 {
                issuer.revoke(&stores::session_of("alice", &log_in.session)).await.unwrap();
                EndReason::Revoked
            } else {
                issuer.refresh(log_in.tokens.refresh_token.expose()).await.unwrap();
                EndReason::Superseded
            };
            assert_eq!(timeout(LONG, ended).await.unwrap(), expected, "{number}");
        }
    }
}

#[tokio::test]
async fn the_end_of_a_right_can_be_asked_for_again() {
    let layer = Arc::new(FastAuthLayer::new(settings().build().unwrap()).unwrap());
    let token = crate::app::access_token(&layer, "alice").await;
    let mut ended = crate::permit::access(&layer, token.expose()).await.ended();
    layer.issuer().revoke(&Revocation::All).await.unwrap();
    for _ in 0..3 {
        assert_eq!(timeout(LONG, &mut ended).await.unwrap(), EndReason::Revoked);
    }
}
