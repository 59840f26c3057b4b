//! When a session ends, which survives the tokens that it is refreshed to.

use std::{sync::Arc, thread, time::Duration};

use fastauth::{
    EndReason, Ended, FastAuthLayer, IssuedTokens, SettingsBuilder,
    config::{StoreFormat, TokensPerClient},
    store::{MemoryStore, Revocation, SqliteStore},
    test_util::ManualClock,
};
use futures_util::future::poll_immediate;
use tokio::{runtime::Builder, time::timeout};

use crate::{
    app::settings,
    permit::access,
    support::stores::{self, Fixture, session_of, with_clock},
};

/// How long an access token of these tests lasts.
const TTL: Duration = Duration::from_secs(60);
/// Longer than anything takes that is to come at once.
const SOON: Duration = Duration::from_secs(10);
const RECHECK: Duration = Duration::from_millis(100);

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    let settings = settings.tokens_per_client(TokensPerClient::Many).access_ttl(TTL).websocket_recheck(RECHECK);
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// A layer on a store of each kind.
async fn layers(clock: &ManualClock) -> Vec<(&'static str, FastAuthLayer, Fixture)> {
    let on = |(kind, fixture): (&'static str, Fixture)| {
        let layer = layer(settings().store(Arc::clone(&fixture.store)).clock(clock));
        (kind, layer, fixture)
    };
    with_clock(clock).await.map(on).into()
}

async fn refresh(layer: &FastAuthLayer, issued: &IssuedTokens) -> IssuedTokens {
    layer.issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap()
}

/// Waits until the replacement of a token is known.
async fn replaced(layer: &FastAuthLayer, of: &IssuedTokens, change: impl Future) {
    let ended = access(layer, of.tokens.access_token.expose()).await.ended();
    change.await;
    assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Superseded);
}

/// Does something while the rest of a test stands still.
fn unseen<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    thread::scope(|scope| scope.spawn(run).join().unwrap())
}

async fn goes_on(ended: &mut Ended) -> bool {
    poll_immediate(ended).await.is_none()
}

#[tokio::test]
async fn a_session_survives_refreshes_and_ends_when_it_is_revoked() {
    let clock = ManualClock::new();
    for (kind, layer, _fixture) in layers(&clock).await {
        for event in ["token", "session", "client", "all", "reuse", "access tokens alone"] {
            let first = layer.issuer().issue("alice").await.unwrap();
            let permit = access(&layer, first.tokens.access_token.expose()).await;
            let mut ended = permit.session_ended();
            assert!(goes_on(&mut ended).await, "{kind}, {event}");
            let mut issued = first.clone();
            for _ in 0..3 {
                let mut next = None;
                replaced(&layer, &issued, async { next = Some(refresh(&layer, &issued).await) }).await;
                issued = next.unwrap();
                assert!(goes_on(&mut ended).await, "{kind}, {event}");
            }
            match event {
                "token" => assert!(layer.issuer().revoke_token(issued.tokens.access_token.expose()).await.unwrap()),
                "session" => _ = layer.issuer().revoke(&session_of("alice", &first.session)).await.unwrap(),
                "client" => _ = layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap(),
                // Its claims may not hold any more.
                "access tokens alone" => _ = layer.issuer().revoke_access("alice", None).await.unwrap(),
                "reuse" => _ = layer.issuer().refresh(first.tokens.refresh_token.expose()).await.unwrap_err(),
                _ => _ = layer.issuer().revoke(&Revocation::All).await.unwrap(),
            }
            assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Revoked, "{kind}, {event}");
        }
    }
}

#[tokio::test]
async fn a_session_ends_with_its_last_token() {
    let clock = ManualClock::new();
    for (kind, layer, _fixture) in layers(&clock).await {
        let first = layer.issuer().issue("alice").await.unwrap();
        let mut ended = access(&layer, first.tokens.access_token.expose()).await.session_ended();
        assert!(goes_on(&mut ended).await, "{kind}");
        clock.advance(TTL / 2);
        let second = refresh(&layer, &first).await;
        // The first has expired, and the second is followed, by what waits and by what begins to.
        clock.advance(TTL * 2 / 3);
        let mut late = access(&layer, second.tokens.access_token.expose()).await.session_ended();
        let both = async { tokio::join!(&mut ended, &mut late) };
        assert!(timeout(3 * RECHECK, both).await.is_err(), "{kind}");
        clock.advance(TTL / 2);
        let reasons = timeout(SOON, async { tokio::join!(ended, late) }).await.unwrap();
        assert_eq!(reasons, (EndReason::Expired, EndReason::Expired), "{kind}");
    }
}

/// What waited for its token has made the store be asked, and nobody had looked for the end of the next one.
#[tokio::test]
async fn a_session_can_be_followed_late() {
    let clock = ManualClock::new();
    for (kind, layer, _fixture) in layers(&clock).await {
        let first = layer.issuer().issue("alice").await.unwrap();
        let permit = access(&layer, first.tokens.access_token.expose()).await;
        let mut keeps_watching = access(&layer, first.tokens.access_token.expose()).await.ended();
        assert!(goes_on(&mut keeps_watching).await);
        replaced(&layer, &first, refresh(&layer, &first)).await;
        // It was replaced before anything waited for the end of its session.
        let mut ended = permit.session_ended();
        assert!(timeout(3 * RECHECK, &mut ended).await.is_err(), "{kind}");
        layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
        assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Revoked, "{kind}");
    }
}

/// The process that follows the session may not look between the revocation and the refresh.
#[tokio::test]
async fn access_tokens_that_were_revoked_end_a_session_that_is_refreshed_at_once() {
    let clock = ManualClock::new();
    for (kind, layer, fixture) in layers(&clock).await {
        let first = layer.issuer().issue("alice").await.unwrap();
        let permit = access(&layer, first.tokens.access_token.expose()).await;
        let mut ended = permit.session_ended();
        assert!(goes_on(&mut ended).await, "{kind}");
        assert_eq!(fixture.store.revoke_access("alice", None).await.unwrap(), 1);
        let second = refresh(&layer, &first).await;
        assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Revoked, "{kind}");
        // What was let through before, and begins to wait now.
        let mut new = access(&layer, second.tokens.access_token.expose()).await.session_ended();
        assert!(goes_on(&mut new).await, "{kind}");
        assert_ne!(timeout(SOON, permit.session_ended()).await.unwrap(), EndReason::Expired, "{kind}");
        replaced(&layer, &second, refresh(&layer, &second)).await;
        assert!(timeout(3 * RECHECK, new).await.is_err(), "{kind}");
    }
}

/// A revocation may have been between two refreshes that were not seen.
#[tokio::test]
async fn a_session_that_was_refreshed_twice_unseen_is_not_followed() {
    let layer = layer(settings().store(MemoryStore::new()));
    let first = layer.issuer().issue("alice").await.unwrap();
    let mut ended = access(&layer, first.tokens.access_token.expose()).await.session_ended();
    assert!(goes_on(&mut ended).await);
    unseen(async { refresh(&layer, &refresh(&layer, &first).await).await });
    assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Superseded);
}

#[tokio::test]
async fn a_new_log_in_in_its_place_ends_a_session() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let settings = settings().store(Arc::clone(&fixture.store)).clock(&clock).websocket_recheck(RECHECK);
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        let first = layer.issuer().issue("alice").await.unwrap();
        let mut ended = access(&layer, first.tokens.access_token.expose()).await.session_ended();
        let second = refresh(&layer, &first).await;
        assert!(timeout(3 * RECHECK, &mut ended).await.is_err(), "{kind}");
        layer.issuer().issue("alice").await.unwrap();
        let reason = timeout(SOON, ended).await.unwrap();
        assert_ne!(reason, EndReason::Expired, "{kind}");
        drop(second);
    }
}

/// The stored form says when the token ends, and only its key opens that.
#[tokio::test]
async fn encrypted_tokens_of_another_process_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let node = || {
        let store = SqliteStore::open_with_clock(directory.path().join("tokens.db"), &clock).unwrap();
        layer(settings().store(store).clock(&clock).store_format(StoreFormat::Fernet))
    };
    let (one, other) = (node(), node());
    let first = one.issuer().issue("alice").await.unwrap();
    let mut ended = access(&one, first.tokens.access_token.expose()).await.session_ended();
    assert!(goes_on(&mut ended).await);
    clock.advance(TTL / 2);
    replaced(&one, &first, refresh(&other, &first)).await;
    clock.advance(TTL * 2 / 3);
    assert!(timeout(3 * RECHECK, &mut ended).await.is_err());
    other.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
    assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Revoked);
}

/// It holds one pair of a client, and knows nothing of sessions: the tokens do.
#[tokio::test]
async fn a_store_of_the_first_version_is_followed() {
    let fixture = stores::rest_v1().await;
    let settings = settings().store(Arc::clone(&fixture.store)).websocket_recheck(RECHECK);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let first = layer.issuer().issue("alice").await.unwrap();
    let mut ended = access(&layer, first.tokens.access_token.expose()).await.session_ended();
    replaced(&layer, &first, refresh(&layer, &first)).await;
    assert!(timeout(3 * RECHECK, &mut ended).await.is_err());
    layer.issuer().issue("alice").await.unwrap();
    assert_eq!(timeout(SOON, ended).await.unwrap(), EndReason::Superseded);
}
