//! What the answers of the endpoints tell of a token to who is not meant to know.

use fastauth::{
    FastAuthLayer,
    store::{MemoryStore, StoreErrorKind},
    test_util::{FailingStore, StoreCall},
};
use http::HeaderMap;

use crate::app::{Endpoints, Reply, settings};

/// All of an answer but for the time, and for when to try again, which is random.
fn told(reply: Reply) -> (u16, HeaderMap, String) {
    let mut headers = reply.headers;
    headers.remove("date");
    if let Some(wait) = headers.get_mut("retry-after") {
        *wait = http::HeaderValue::from_static("some");
    }
    (reply.status, headers, reply.text)
}

struct Tokens {
    server: Endpoints,
    store: FailingStore<MemoryStore>,
    valid: Vec<String>,
    worthless: Vec<String>,
}

async fn tokens() -> Tokens {
    let store = FailingStore::new(MemoryStore::new());
    let layer = |settings: fastauth::SettingsBuilder| FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let ours = layer(settings().store(store.clone()));
    let foreign = layer(settings().cryptography_key("another key of thirty-two bytes.."));
    let valid = ours.issuer().issue("c").await.unwrap().tokens;
    let forged = foreign.issuer().issue("c").await.unwrap().tokens;
    let text = |token: &fastauth::Secret| token.expose().to_owned();
    Tokens {
        server: Endpoints::of(&ours).await,
        store,
        valid: [&valid.access_token, &valid.refresh_token].map(text).to_vec(),
        worthless: [&forged.access_token, &forged.refresh_token]
            .map(text)
            .into_iter()
            .chain(["x".to_owned()])
            .collect(),
    }
}

#[tokio::test]
async fn revoking_for_another_client_is_as_revoking_a_forged_token() {
    let Tokens { server, store, valid, worthless } = tokens().await;
    let expected = told(server.post("/auth/token/revoke", &format!("token={}&client_id=d", worthless[0])).await);
    assert_eq!((expected.0, &*expected.2), (200, "{}"));
    for token in valid.iter().chain(&worthless) {
        let reply = server.post("/auth/token/revoke", &format!("token={token}&client_id=d")).await;
        assert_eq!(told(reply), expected, "{token}");
    }
    assert_eq!(store.calls(StoreCall::Revoke), 0);
    assert!(server.opens(&valid[0]).await, "it is another client's to give up");
    let own = server.post("/auth/token/revoke", &format!("token={}&client_id=c", valid[0])).await;
    assert_eq!(told(own), expected);
    assert!(!server.opens(&valid[0]).await);
}

#[tokio::test]
async fn while_the_store_is_away_no_revocation_tells_of_its_token() {
    let Tokens { server, store, valid, worthless } = tokens().await;
    store.fail_all(StoreErrorKind::Unreachable);
    let expected = told(server.post("/auth/token/revoke", &format!("token={}", valid[0])).await);
    assert_eq!(expected.0, 503);
    for token in valid.iter().chain(&worthless) {
        for client in ["", "&client_id=c", "&client_id=d"] {
            let reply = server.post("/auth/token/revoke", &format!("token={token}{client}")).await;
            assert_eq!(told(reply), expected, "{token}{client}");
        }
    }
    store.recover();
    let forged = server.post("/auth/token/revoke", &format!("token={}", worthless[0])).await;
    assert_eq!(forged.status, 200, "as soon as it is back");
}

#[tokio::test]
async fn a_grant_for_another_client_is_as_one_of_a_forged_token() {
    let Tokens { server, store, valid, worthless } = tokens().await;
    let grant = |token: &str| format!("grant_type=refresh_token&refresh_token={token}&client_id=d");
    let expected = told(server.post("/auth/token", &grant(&worthless[1])).await);
    assert_eq!(expected.0, 400);
    assert_eq!(told(server.post("/auth/token", &grant(&valid[1])).await), expected);
    store.fail_all(StoreErrorKind::Unreachable);
    assert_eq!(told(server.post("/auth/token", &grant(&valid[1])).await), expected);
}
