//! What applications test themselves with.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Body, routing::get};
use fastauth::{
    ClaimsRefusal, FastAuthLayer, Grant, Permit, Secret, Settings,
    config::{KeyRole, StoreFormat},
    store::{MemoryStore, Revocation, SessionFilter, SqliteStore, StoreErrorKind, TokenStore},
    test_util::{FailingStore, ManualClock, StoreCall, TestAuth, WithCredentials},
};
use http::{HeaderMap, Request, StatusCode, request};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::app::{Endpoints, FORM, KEY, app, body, layer, send, settings};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn health() -> request::Builder {
    Request::get("/access/health")
}

async fn status(auth: &TestAuth, request: request::Builder) -> StatusCode {
    send(&app(auth.layer()), request.body(Body::empty()).unwrap()).await.status()
}

async fn opens(auth: &TestAuth, token: &Secret) -> bool {
    status(auth, health().access_token(token)).await == StatusCode::OK
}

/// What the client is told.
async fn detail(auth: &TestAuth, token: &Secret) -> String {
    let request = health().access_token(token).body(Body::empty()).unwrap();
    body(send(&app(auth.layer()), request).await).await["detail"].as_str().unwrap_or_default().to_owned()
}

async fn post(auth: &TestAuth, path: &str, form: String) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", FORM).master_token(auth.master_token());
    let response = send(&app(auth.layer()), request.body(Body::from(form)).unwrap()).await;
    (response.status(), body(response).await)
}

async fn refresh(auth: &TestAuth, token: &Secret) -> (StatusCode, Value) {
    post(auth, "/auth/token/refresh", format!("refresh_token={}", token.expose())).await
}

#[tokio::test]
async fn a_token_is_one_line() {
    let auth = TestAuth::new(["/access"]);
    let (alice, bob) = (auth.token("alice").await, auth.token("bob").await);
    assert!(opens(&auth, &alice).await && opens(&auth, &bob).await);
    assert_eq!(status(&auth, health()).await, StatusCode::UNAUTHORIZED);
    // It is as any other: the next of its client takes its place, and it can be revoked.
    let newer = auth.token("alice").await;
    assert!(!opens(&auth, &alice).await && opens(&auth, &newer).await);
    auth.layer().issuer().revoke(&Revocation::Client("bob".to_owned())).await.unwrap();
    assert!(!opens(&auth, &bob).await && opens(&auth, &newer).await);
}

#[tokio::test]
async fn a_token_says_what_it_is_told_to() {
    let auth = TestAuth::with(Settings::builder().access_token_paths(["/access"]).issuer("tests"));
    let token = auth.token("alice").scope("read write").claim("roles", json!(["admin"])).lifetime(2 * SECOND).await;
    let said =
        get(|permit: Permit| async move { Value::Object(permit.claims().unwrap().as_object().clone()).to_string() });
    let app: Router = Router::new().route("/access/said", said).layer(auth.layer());
    let request = Request::get("/access/said").access_token(&token).body(Body::empty()).unwrap();
    let said = body(send(&app, request).await).await;
    let now = auth.clock().now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(
        (&said["client_id"], &said["scope"], &said["roles"], &said["iss"], &said["iat"], &said["exp"]),
        (&json!("alice"), &json!("read write"), &json!(["admin"]), &json!("tests"), &json!(now), &json!(now + 2))
    );
}

/// Each is refused for the one reason that it is made for.
#[tokio::test]
async fn tokens_that_are_no_good_are_so_for_one_reason() {
    let auth = TestAuth::new(["/access"]);
    let forged = auth.token("alice").forged().await;
    assert!(detail(&auth, &forged).await.contains("signature"), "{}", detail(&auth, &forged).await);
    let expired = auth.token("alice").expired().await;
    assert!(detail(&auth, &expired).await.contains("expired"), "{}", detail(&auth, &expired).await);
    let refresh_token = auth.token("alice").expired().refresh_token().await;
    assert_eq!(refresh(&auth, &refresh_token).await.0, StatusCode::UNAUTHORIZED);
    auth.clock().set(auth.clock().now() - SECOND);
    assert_eq!(refresh(&auth, &refresh_token).await.0, StatusCode::OK, "nothing else is wrong with it");
}

/// A forged token is not signed by a key that is still good.
#[tokio::test]
async fn no_previous_key_signs_what_is_forged() {
    let next_year = SystemTime::now() + 365 * DAY;
    let settings = Settings::builder().access_token_paths(["/access"]).previous_cryptography_keys([KEY]);
    let auth = TestAuth::with(settings.cryptography_key_signs_from(next_year));
    assert!(opens(&auth, &auth.token("alice").await).await);
    assert!(detail(&auth, &auth.token("alice").forged().await).await.contains("signature"));
}

#[tokio::test]
async fn the_whole_pair_works_at_the_endpoints() {
    let auth = TestAuth::with(Settings::builder().access_token_paths(["/access"]).master_token_paths(["/master"]));
    assert_eq!(status(&auth, Request::get("/master/health")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&auth, Request::get("/master/health").master_token(auth.master_token())).await, StatusCode::OK);
    let pair = auth.token("alice").scope("read").pair().await;
    assert_eq!(pair.scope.as_deref(), Some("read"));
    let (status, renewed) = refresh(&auth, &pair.tokens.refresh_token).await;
    assert_eq!(status, StatusCode::OK);
    let renewed = Secret::from(renewed["data"]["access_token"].as_str().unwrap());
    assert!(opens(&auth, &renewed).await && !opens(&auth, &pair.tokens.access_token).await);
}

#[tokio::test]
async fn credentials_go_into_all_kinds_of_requests() {
    let auth = TestAuth::new(["/access"]);
    let token = auth.token("alice").await;
    assert_eq!(status(&auth, health().bearer_token(&token)).await, StatusCode::OK);
    let whole = health().body(Body::empty()).unwrap().access_token(&token);
    assert_eq!(send(&app(auth.layer()), whole).await.status(), StatusCode::OK);
    let headers = HeaderMap::new().access_token(&token).master_token(auth.master_token());
    assert_eq!((headers["access-token"].to_str().unwrap(), headers.len()), (token.expose(), 2));
    assert!(!format!("{headers:?} {auth:?}").contains(token.expose()), "they are not shown");
    assert!(!format!("{headers:?} {auth:?}").contains(auth.master_token().expose()));
}

#[tokio::test]
#[should_panic(expected = "no token was issued to \"mallory\": the application refused: locked")]
async fn the_applications_hook_has_its_say() {
    let hook = |grant: Grant| async move {
        match &*grant.client_id {
            "mallory" => Err(ClaimsRefusal::new(StatusCode::FORBIDDEN, "locked")),
            _ => Ok(grant.claims),
        }
    };
    let auth = TestAuth::with(Settings::builder().access_token_paths(["/access"]).claims_hook(hook));
    assert!(opens(&auth, &auth.token("alice").await).await);
    auth.token("mallory").await;
}

#[tokio::test]
async fn the_applications_own_configuration_is_tested() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        json!({ "access-token-paths": ["/access"], "access-ttl": "5s", "database-api-url": "sqlite:tokens.db" });
    fs::write(directory.path().join("fastauth.config.json"), config.to_string()).unwrap();
    let nothing: [(&str, &str); 0] = [];
    let auth = TestAuth::load(Settings::builder().directory(directory.path()).environment(nothing));
    let token = auth.token("alice").await;
    assert!(opens(&auth, &token).await);
    auth.clock().advance(6 * SECOND);
    assert!(!opens(&auth, &token).await);
    assert!(!directory.path().join("tokens.db").exists(), "the store is the test's");
}

#[test]
#[should_panic(expected = "`access-token-paths`")]
fn faults_of_the_settings_are_told() {
    let _ = TestAuth::new(["no/slash"]);
}

#[tokio::test]
async fn tokens_end_by_the_clock() {
    let auth = TestAuth::with(Settings::builder().access_token_paths(["/access"]).access_ttl(10 * SECOND));
    let token = auth.token("alice").await;
    auth.clock().advance(10 * SECOND);
    assert!(opens(&auth, &token).await, "its last second");
    auth.clock().advance(SECOND);
    assert!(!opens(&auth, &token).await);
    auth.clock().set(auth.clock().now() - SECOND);
    assert!(opens(&auth, &token).await, "the clock is all that was in its way");
}

#[tokio::test]
async fn the_grace_of_a_refresh_goes_by_the_clock() {
    for moment in [9 * SECOND, 10 * SECOND] {
        let auth = TestAuth::with(Settings::builder().access_token_paths(["/access"]).refresh_grace(10 * SECOND));
        let used = auth.token("alice").refresh_token().await;
        let (_, first) = refresh(&auth, &used).await;
        auth.clock().advance(moment);
        let (status, again) = refresh(&auth, &used).await;
        let is_in_time = moment < 10 * SECOND;
        let is_same = ["access_token", "refresh_token"].iter().all(|name| again["data"][name] == first["data"][name]);
        assert_eq!(status == StatusCode::OK && is_same, is_in_time, "{moment:?}: {again}");
        assert_eq!(auth.layer().token_counts().reused, u64::from(!is_in_time));
    }
}

#[tokio::test]
async fn a_store_beside_has_its_times_by_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let own = SqliteStore::open_with_clock(directory.path().join("own.db"), &clock).unwrap();
    let file = format!("sqlite:{}", directory.path().join("theirs.db").display());
    let of_settings = Settings::builder().access_token_paths(["/"]).cryptography_key(KEY).database_api_url(file);
    let layer =
        |settings: fastauth::SettingsBuilder| FastAuthLayer::new(settings.clock(&clock).build().unwrap()).unwrap();
    for layer in
        [layer(settings().store(own)), layer(settings().store(MemoryStore::with_clock(&clock))), layer(of_settings)]
    {
        let issuer = layer.issuer();
        let began = clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let used = issuer.issue("c").await.unwrap().tokens.refresh_token;
        clock.advance(60 * SECOND);
        let renewed = issuer.refresh(used.expose()).await.unwrap().tokens;
        clock.advance(59 * SECOND);
        assert_eq!(issuer.refresh(used.expose()).await.unwrap().tokens, renewed, "within the grace");
        let session = issuer.list(&SessionFilter::default()).await.unwrap().sessions.remove(0);
        assert_eq!((session.issued_at, session.renewed_at), (began, began + 60));
        clock.advance(SECOND);
        assert!(issuer.refresh(used.expose()).await.is_err(), "after it");
    }
}

#[tokio::test]
async fn what_is_remembered_ends_by_the_clock() {
    let settings = Settings::builder().access_token_paths(["/access"]).cache_ttl(60 * SECOND);
    let auth = TestAuth::with(settings);
    let token = auth.token("alice").await;
    let loads = async |times: usize| {
        for _ in 0..times {
            assert!(opens(&auth, &token).await);
        }
        auth.store().calls(StoreCall::Load)
    };
    assert_eq!(loads(3).await, 1);
    auth.clock().advance(59 * SECOND);
    assert_eq!(loads(1).await, 1);
    auth.clock().advance(SECOND);
    assert_eq!(loads(3).await, 2);
    // What is issued apart counts at once, as all that this process does.
    auth.token("alice").await;
    assert!(!opens(&auth, &token).await);
}

#[tokio::test]
async fn a_waiting_key_signs_when_the_clock_says_so() {
    let clock = ManualClock::new();
    let builder = settings().clock(&clock).previous_cryptography_keys([Secret::generate()]);
    let built = builder.cryptography_key_signs_from(clock.now() + DAY).build().unwrap();
    let keys = built.keys().clone();
    let layer = FastAuthLayer::new(built).unwrap();
    let kid = async || {
        layer.issuer().issue("c").await.unwrap();
        layer.issuer().list(&SessionFilter::default()).await.unwrap().sessions.remove(0).kid
    };
    let [newest, previous] = &keys.list()[..] else { panic!("two keys") };
    assert!(matches!(newest.role, KeyRole::SignsFrom(_)) && previous.role == KeyRole::Signs);
    assert_eq!(kid().await, previous.kid);
    clock.advance(DAY);
    assert_eq!((kid().await, keys.list()[0].role), (newest.kid.clone(), KeyRole::Signs));
}

#[cfg(feature = "rate-limit")]
#[tokio::test]
async fn rates_go_by_the_clock() {
    let auth = TestAuth::with(
        Settings::builder().access_token_paths(["/access"]).rate_limit_per_minute(1).rate_limit_burst(1),
    );
    let issue = async || post(&auth, "/auth/token/new", "client_id=alice".to_owned()).await.0;
    assert_eq!((issue().await, issue().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
    auth.clock().advance(59 * SECOND);
    assert_eq!(issue().await, StatusCode::TOO_MANY_REQUESTS);
    auth.clock().advance(SECOND);
    assert_eq!((issue().await, issue().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn a_store_that_fails_is_503_until_it_recovers() {
    use StoreErrorKind::{Failed, InvalidAnswer, TimedOut, Unreachable};
    let auth = TestAuth::new(["/access"]);
    let token = auth.token("alice").await;
    assert!(opens(&auth, &token).await);
    for kind in [Unreachable, TimedOut, InvalidAnswer, Failed] {
        auth.store().fail_all(kind);
        for _ in 0..2 {
            assert_eq!(status(&auth, health().access_token(&token)).await, StatusCode::SERVICE_UNAVAILABLE, "{kind:?}");
        }
        let (status, _) = post(&auth, "/auth/token/new", "client_id=bob".to_owned()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{kind:?}");
        let forged = auth.token("alice").forged().await;
        assert_eq!(self::status(&auth, health().access_token(&forged)).await, StatusCode::UNAUTHORIZED);
        auth.store().recover();
        assert!(opens(&auth, &token).await, "{kind:?}");
    }
}

#[tokio::test]
async fn a_store_fails_so_often_as_it_is_told() {
    let auth = TestAuth::new(["/access"]);
    let token = auth.token("alice").await;
    auth.store().fail_next(2);
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(opens(&auth, &token).await);
    }
    assert_eq!(opened, [false, false, true, true]);
    assert_eq!(auth.store().calls(StoreCall::Load), 4);
    auth.store().fail_next(1);
    auth.store().recover();
    assert!(opens(&auth, &token).await);
}

#[tokio::test]
async fn one_call_fails_and_the_others_do_not() {
    let auth = TestAuth::new(["/access"]);
    let pair = auth.token("alice").pair().await.tokens;
    auth.store().fail_on(StoreCall::Rotate, StoreErrorKind::Unreachable);
    assert_eq!(refresh(&auth, &pair.refresh_token).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(opens(&auth, &pair.access_token).await, "nothing was exchanged");
    auth.store().recover();
    assert_eq!(refresh(&auth, &pair.refresh_token).await.0, StatusCode::OK);
    assert_eq!(auth.store().calls(StoreCall::Rotate), 2);
}

/// A test takes what it needs before and while the store fails, and counts what the application does alone.
#[tokio::test]
async fn tokens_for_the_test_are_apart_from_it() {
    let auth = TestAuth::new(["/access"]);
    auth.store().fail_all(StoreErrorKind::Failed);
    let token = auth.token("alice").await;
    auth.store().recover();
    assert_eq!(auth.store().calls(StoreCall::Save), 0);
    assert!(opens(&auth, &token).await);
    assert_eq!((auth.store().calls(StoreCall::Save), auth.store().calls(StoreCall::Load)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_takes_its_time() {
    let auth = TestAuth::new(["/access"]);
    let token = auth.token("alice").await;
    let ask = async || {
        let start = tokio::time::Instant::now();
        assert!(opens(&auth, &token).await);
        start.elapsed()
    };
    assert_eq!(ask().await, Duration::ZERO);
    auth.store().delay(5 * SECOND);
    let asked = ask().await;
    assert!((5 * SECOND..6 * SECOND).contains(&asked), "{asked:?}");
    auth.store().recover();
    assert_eq!(ask().await, Duration::ZERO);
}

/// It passes on what the store beneath answers, whatever that is.
#[tokio::test]
async fn a_failing_store_that_does_not_fail_is_the_store_beneath() {
    let store = FailingStore::new(MemoryStore::new());
    let layer = FastAuthLayer::new(settings().store(store.clone()).build().unwrap()).unwrap();
    let issuer = layer.issuer();
    let issued = issuer.issue("c").await.unwrap();
    issuer.refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    assert_eq!(issuer.list(&SessionFilter::default()).await.unwrap().sessions.len(), 1);
    assert_eq!(issuer.promises().await.unwrap(), store.inner().promises().await.unwrap());
    assert_eq!(store.pair("c").await.unwrap(), store.inner().pair("c").await.unwrap());
    assert_eq!(issuer.revoke(&Revocation::All).await.unwrap(), 1);
    use StoreCall::{List, Load, Pair, Promises, Revoke, Rotate, Save};
    assert_eq!([Load, Pair, Save, Rotate, Revoke, List, Promises].map(|call| store.calls(call)), [0, 1, 1, 1, 1, 1, 1]);
}

/// Somebody who puts such a clock into production is told.
#[test]
fn a_clock_that_a_test_sets_is_warned_of() {
    let is_warned = |settings: &Settings| settings.warnings().iter().any(|warning| warning.contains("clock"));
    assert!(is_warned(&settings().clock(&ManualClock::new()).build().unwrap()));
    let settings = settings().build().unwrap();
    assert!(!is_warned(&settings));
    assert_eq!(settings.store_format(), StoreFormat::Plain);
}

/// The feature by itself changes nothing of a guard that is made as ever.
#[tokio::test]
async fn without_a_clock_of_a_test_the_systems_counts() {
    let unix_now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = unix_now();
    let layer = layer();
    let issued = layer.issuer().issue("c").await.unwrap();
    let server = Endpoints::of(&layer).await;
    assert!(server.opens(issued.tokens.access_token.expose()).await);
    let session = layer.issuer().list(&SessionFilter::default()).await.unwrap().sessions.remove(0);
    assert!((before..=unix_now()).contains(&session.issued_at));
    assert_eq!(ServiceExt::oneshot(app(layer), health().body(Body::empty()).unwrap()).await.unwrap().status(), 401);
}
