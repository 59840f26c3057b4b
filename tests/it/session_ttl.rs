//! `session-ttl`: a session ends that long after its log-in, however often it is refreshed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastauth::{
    Claims, FastAuthLayer, Grant, IssueErrorKind, IssuedTokens, SettingsBuilder, TokenType,
    config::RefreshTransport,
    store::{MemoryStore, TokenStore},
    test_util::ManualClock,
};
use serde_json::{Value, json};

use crate::{
    app::{Endpoints, settings},
    support::stores::with_clock,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// Access tokens of an hour and refresh tokens of a day, by this clock.
fn short(clock: &ManualClock, store: impl TokenStore) -> SettingsBuilder {
    settings().store(store).clock(clock).access_ttl(HOUR).refresh_ttl(24 * HOUR)
}

fn claims(layer: &FastAuthLayer, token: &str, token_type: TokenType) -> Claims {
    layer.issuer().verify(token, token_type).unwrap()
}

/// The claims of both tokens of a pair.
fn both(layer: &FastAuthLayer, issued: &IssuedTokens) -> [Claims; 2] {
    [
        claims(layer, issued.tokens.access_token.expose(), TokenType::Access),
        claims(layer, issued.tokens.refresh_token.expose(), TokenType::Refresh),
    ]
}

fn seconds(claims: &Claims, name: &str) -> Option<u64> {
    claims.get(name).and_then(Value::as_u64)
}

async fn refresh(layer: &FastAuthLayer, issued: &IssuedTokens) -> Result<IssuedTokens, IssueErrorKind> {
    let refreshed = layer.issuer().refresh(issued.tokens.refresh_token.expose()).await;
    refreshed.map_err(|error| error.kind().clone())
}

#[tokio::test]
async fn session_ends_however_often_it_is_refreshed() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = layer(short(&clock, fixture.store).session_ttl(2 * HOUR + MINUTE));
        let mut issued = layer.issuer().issue("alice").await.unwrap();
        let began = seconds(&both(&layer, &issued)[0], "iat").unwrap();
        let end = began + (2 * HOUR + MINUTE).as_secs();
        for (expires_in, is_last) in [(HOUR, false), (HOUR, false), (MINUTE, false), (Duration::from_secs(1), true)] {
            let [access, refresh_token] = both(&layer, &issued);
            assert_eq!(issued.expires_in, expires_in, "{kind}");
            for token in [&access, &refresh_token] {
                assert_eq!(seconds(token, "auth_time"), Some(began), "{kind}: it is kept");
                assert!(token.expires_at() <= end, "{kind}");
            }
            assert_eq!(refresh_token.expires_at(), end, "{kind}: it ends before `refresh-ttl`");
            assert_eq!(access.expires_at(), seconds(&access, "iat").unwrap() + expires_in.as_secs(), "{kind}");
            if is_last {
                break;
            }
            let step = if expires_in == MINUTE { MINUTE - Duration::from_secs(1) } else { HOUR };
            clock.advance(step);
            issued = refresh(&layer, &issued).await.unwrap();
        }
        let server = Endpoints::of(&layer).await;
        let access_token = issued.tokens.access_token.expose().to_owned();
        clock.advance(Duration::from_secs(1));
        assert!(server.opens(&access_token).await, "{kind}: it is its last second");
        assert!(matches!(refresh(&layer, &issued).await, Err(IssueErrorKind::SessionEnded)), "{kind}");
        clock.advance(Duration::from_secs(1));
        assert!(!server.opens(&access_token).await, "{kind}");
        let form = format!("refresh_token={}", issued.tokens.refresh_token.expose());
        for (path, form, status) in [
            ("/auth/token/refresh", form.clone(), 401),
            ("/auth/token", format!("grant_type=refresh_token&{form}"), 400),
        ] {
            let reply = server.post(path, &form).await;
            assert_eq!((reply.status, reply.json()["reason"].as_str()), (status, Some("session_ended")), "{kind}");
        }
        let again = layer.issuer().issue("alice").await.unwrap();
        assert_eq!(seconds(&both(&layer, &again)[0], "auth_time"), Some(end + 1), "{kind}: a new log-in");
    }
}

#[tokio::test]
async fn refresh_token_that_expires_before_is_an_expired_one() {
    let clock = ManualClock::new();
    let layer = layer(short(&clock, MemoryStore::with_clock(&clock)).session_ttl(48 * HOUR));
    let issued = layer.issuer().issue("alice").await.unwrap();
    clock.advance(25 * HOUR);
    assert!(matches!(refresh(&layer, &issued).await, Err(IssueErrorKind::InvalidRefreshToken(_))));
}

/// The key was set, or shortened, after the tokens were issued.
#[tokio::test]
async fn tokens_from_before_count_by_their_own_time() {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(&clock);
    let before = layer(short(&clock, store.clone()));
    let issued = before.issuer().issue("alice").await.unwrap();
    let [access, refresh_token] = both(&before, &issued);
    assert_eq!((seconds(&access, "auth_time"), seconds(&refresh_token, "auth_time")), (None, None));
    let after = layer(short(&clock, store.clone()).session_ttl(3 * HOUR));
    clock.advance(HOUR);
    let refreshed = refresh(&after, &issued).await.unwrap();
    let [access, _] = both(&after, &refreshed);
    assert_eq!(seconds(&access, "auth_time"), seconds(&refresh_token, "iat"));
    let shortened = layer(short(&clock, store).session_ttl(HOUR));
    assert!(matches!(refresh(&shortened, &refreshed).await, Err(IssueErrorKind::SessionEnded)));
    // A node without the key keeps the time, too.
    clock.advance(HOUR);
    let kept = refresh(&before, &refreshed).await.unwrap();
    clock.advance(HOUR);
    assert!(matches!(refresh(&after, &kept).await, Err(IssueErrorKind::SessionEnded)));
}

/// So that tokens are those of `fastauth-api`, and an application that sets the claim goes on.
#[tokio::test]
async fn without_the_key_the_claim_is_the_applications() {
    let clock = ManualClock::new();
    let layer = layer(short(&clock, MemoryStore::with_clock(&clock)));
    let plain = layer.issuer().issue("alice").await.unwrap();
    for claims in both(&layer, &plain) {
        let mut names: Vec<_> = claims.as_object().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["client_id", "exp", "gen", "iat", "jti", "sid", "type"]);
    }
    let own = layer.issuer().issue_with("alice", json!({ "auth_time": 7 })).await.unwrap();
    let refreshed = refresh(&layer, &own).await.unwrap();
    assert!(both(&layer, &refreshed).iter().all(|claims| seconds(claims, "auth_time") == Some(7)));
}

#[tokio::test]
async fn with_the_key_the_claim_is_reserved() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let adds = Arc::new(Mutex::new(false));
    let hook = {
        let (seen, adds) = (Arc::clone(&seen), Arc::clone(&adds));
        move |mut grant: Grant| {
            seen.lock().unwrap().push(grant.claims.clone());
            if *adds.lock().unwrap() {
                grant.claims.insert("auth_time".to_owned(), json!(7));
            }
            async move { Ok(grant.claims) }
        }
    };
    let layer = layer(settings().session_ttl(HOUR).claims_hook(hook));
    let error = layer.issuer().issue_with("alice", json!({ "auth_time": 7 })).await.unwrap_err();
    assert!(matches!(error.kind(), IssueErrorKind::ReservedClaim(name) if name == "auth_time"));
    let issued = layer.issuer().issue_with("alice", json!({ "roles": ["reader"] })).await.unwrap();
    let issued = refresh(&layer, &issued).await.unwrap();
    let of_refresh = seen.lock().unwrap().last().cloned();
    assert_eq!(of_refresh.as_ref(), json!({ "roles": ["reader"] }).as_object(), "the hook sees its own claims");
    *adds.lock().unwrap() = true;
    let refused = refresh(&layer, &issued).await.unwrap_err();
    assert!(matches!(refused, IssueErrorKind::ReservedClaim(name) if name == "auth_time"));
}

#[tokio::test]
async fn time_that_cannot_be_read_is_an_old_one() {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(&clock);
    let before = layer(short(&clock, store.clone()));
    let after = layer(short(&clock, store).session_ttl(3 * HOUR));
    for (auth_time, is_ended) in
        [(json!("now"), true), (json!(null), true), (json!(-1), true), (json!(7), true), (json!(4e12), false)]
    {
        let issued = before.issuer().issue_with("alice", json!({ "auth_time": auth_time })).await.unwrap();
        match refresh(&after, &issued).await {
            Err(IssueErrorKind::SessionEnded) => assert!(is_ended, "{auth_time}"),
            refreshed => {
                let [access, _] = both(&after, &refreshed.unwrap());
                assert!(!is_ended, "{auth_time}");
                assert_eq!(seconds(&access, "auth_time"), seconds(&access, "iat"), "no later than the token itself");
            }
        }
    }
}

#[tokio::test]
async fn refresh_beyond_the_end_asks_neither_the_store_nor_the_application() {
    let clock = ManualClock::new();
    let store = fastauth::test_util::FailingStore::new(MemoryStore::with_clock(&clock));
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let hook = move |grant: Grant| {
        *count.lock().unwrap() += 1;
        async move { Ok(grant.claims) }
    };
    let layer = layer(short(&clock, store.clone()).session_ttl(HOUR).claims_hook(hook));
    let issued = layer.issuer().issue("alice").await.unwrap();
    clock.advance(2 * HOUR);
    assert!(matches!(refresh(&layer, &issued).await, Err(IssueErrorKind::SessionEnded)));
    assert_eq!((*asked.lock().unwrap(), store.calls(fastauth::test_util::StoreCall::Rotate)), (1, 0));
}

#[tokio::test]
async fn cookie_lasts_no_longer_than_the_session() {
    let clock = ManualClock::new();
    let settings = short(&clock, MemoryStore::with_clock(&clock)).refresh_transport(RefreshTransport::Cookie);
    let layer = layer(settings.session_ttl(2 * HOUR));
    let issued = layer.issuer().issue("alice").await.unwrap();
    let cookie = issued.refresh_cookie().unwrap();
    assert!(cookie.to_str().unwrap().contains("Max-Age=7200"), "{cookie:?}");
}

#[tokio::test]
async fn introspection_shows_when_the_log_in_was() {
    let clock = ManualClock::new();
    let layer = layer(short(&clock, MemoryStore::with_clock(&clock)).session_ttl(3 * HOUR));
    let issued = layer.issuer().issue("alice").await.unwrap();
    clock.advance(HOUR);
    // Its claims are decided on again, and its beginning stays.
    layer.issuer().revoke_access("alice", None).await.unwrap();
    let refreshed = refresh(&layer, &issued).await.unwrap();
    let server = Endpoints::of(&layer).await;
    let form = format!("token={}", refreshed.tokens.access_token.expose());
    let reply = server.post_as_master("/auth/token/introspect", &form).await.json();
    assert_eq!(reply["auth_time"], json!(reply["iat"].as_u64().unwrap() - HOUR.as_secs()));
}

#[test]
fn session_without_a_refresh_draws_a_warning() {
    for (session_ttl, warns) in [(Duration::ZERO, false), (HOUR, true), (2 * HOUR, false)] {
        let settings = settings().access_ttl(HOUR).session_ttl(session_ttl).build().unwrap();
        let has_warning = settings.warnings().iter().any(|warning| warning.contains("`session-ttl` is no longer than"));
        assert_eq!(has_warning, warns, "{session_ttl:?}");
    }
}
