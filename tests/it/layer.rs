//! The layer as a tower service: what passes, what is refused, and what it does to readiness.

use std::{convert::Infallible, future::ready, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use fastauth::{
    Denial, DenialReason, FastAuthLayer, Permit, TokenType,
    store::{
        CurrentTokens, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError,
        StoreErrorKind, StoreFuture, StoredPair, TokenRecord, TokenStore,
    },
};
use http::{HeaderValue, Request, Response, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::{BodyExt, Full};
use tokio::{sync::Notify, time::timeout};
use tower::{Layer, Service, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, service_fn};
use tower_test::mock;

use crate::app::{MASTER, access_token, app, body, get_request, layer, send, settings};

type Answer = Response<Full<Bytes>>;

/// Says whom the permit names, or that there is none.
fn inner() -> impl Service<Request<()>, Response = Answer, Error = Infallible, Future: Send> + Clone {
    service_fn(|request: Request<()>| {
        let client =
            request.extensions().get::<Permit>().map(|permit| permit.client_id().unwrap_or("master").to_owned());
        ready(Ok(Response::new(Full::from(client.unwrap_or_else(|| "no permit".to_owned())))))
    })
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn answer(layer: &FastAuthLayer, request: Request<()>) -> (StatusCode, String) {
    let response = layer.layer(inner()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn each_path_asks_for_its_credentials() {
    let settings = settings().master_token_paths(["/master", "/both"]).access_token_paths(["/access", "/both"]);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let token = token.expose();
    let (master, access) = (("master-token", MASTER), ("access-token", token));
    let bearer = format!("Bearer {token}");
    let null = r#"{"status":"error","code":401,"reason":"missing_access_token","message":"Invalid Access Token. Access Token is null","detail":"Invalid Access Token. Access Token is null"}"#;
    let unauthorized = r#"{"status":"error","code":401,"reason":"missing_master_token","message":"Unauthorized Master Token","detail":"Unauthorized Master Token"}"#;
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let table: [Row<'_>; 13] = [
        ("/open", &[], 200, "no permit"),
        ("/open", &[master, access], 200, "no permit"),
        ("/master/x", &[], 401, unauthorized),
        ("/master/x", &[("master-token", "wrong")], 401, &unauthorized.replace("missing", "wrong")),
        ("/master/x", &[access], 401, unauthorized),
        ("/master/x", &[master], 200, "master"),
        ("/access/x", &[], 401, null),
        ("/access/x", &[master], 401, null),
        ("/access/x", &[access], 200, "alice"),
        ("/access/x", &[("authorization", &bearer)], 200, "alice"),
        ("/both", &[access], 401, unauthorized),
        ("/both", &[master], 401, null),
        ("/both", &[master, access], 200, "alice"),
    ];
    for (path, headers, status, text) in table {
        let (found_status, found) = answer(&layer, request(path, headers)).await;
        assert_eq!((found_status.as_u16(), found.as_str()), (status, text), "{path}");
    }
}

#[tokio::test]
async fn a_permit_says_what_was_passed() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let service = service_fn(|request: Request<()>| {
        let permit = request.extensions().get::<Permit>().unwrap();
        assert_eq!(permit.client_id(), Some("alice"));
        assert!(permit.passed_access_token() && !permit.passed_master_token());
        let claims = permit.claims().unwrap();
        assert_eq!(claims.token_type(), TokenType::Access);
        assert_eq!(permit.expires_at(), Some(claims.get("iat").unwrap().as_u64().unwrap() + 30 * 24 * 60 * 60));
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let response = layer.layer(service).oneshot(request("/access/x", &[("access-token", token.expose())])).await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_refusal_carries_its_reason_and_a_challenge() {
    let layer = layer();
    let superseded = access_token(&layer, "alice").await;
    access_token(&layer, "alice").await;
    let other = crate::app::layer();
    let unknown = access_token(&other, "nobody").await;
    let invalid = r#"Bearer realm="demo", error="invalid_token", error_description="#;
    type Row<'a> = (&'a str, &'a str, fn(&DenialReason) -> bool, String);
    let table: [Row<'_>; 6] = [
        (
            "master-token",
            "wrong",
            |r| matches!(r, DenialReason::WrongMasterToken),
            r#"MasterToken realm="demo""#.into(),
        ),
        ("x-none", "", |r| matches!(r, DenialReason::MissingAccessToken), r#"Bearer realm="demo""#.into()),
        (
            "access-token",
            "a.b",
            |r| matches!(r, DenialReason::InvalidAccessToken(_)),
            format!("{invalid}\"Invalid Access Token. Error: not a token\""),
        ),
        (
            "access-token",
            superseded.expose(),
            |r| matches!(r, DenialReason::NotCurrent),
            format!("{invalid}\"Unauthorized Access Token\""),
        ),
        (
            "access-token",
            unknown.expose(),
            |r| matches!(r, DenialReason::UnknownClient),
            format!("{invalid}\"Invalid Client ID\""),
        ),
        (
            "authorization",
            "Bearer ",
            |r| matches!(r, DenialReason::InvalidAccessToken(_)),
            format!("{invalid}\"Invalid Access Token. Error: not a token\""),
        ),
    ];
    for (name, value, expected, challenge) in table {
        let path = if name == "master-token" { "/master" } else { "/access" };
        let response = layer.layer(inner()).oneshot(request(path, &[(name, value)])).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{challenge}");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge.as_str());
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(expected(response.extensions().get::<Denial>().unwrap().reason()), "{challenge}");
    }
}

#[tokio::test]
async fn credentials_with_two_readings_are_refused() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let twice = |name: &'static str, value: &str| {
        let mut request = request(if name == "master-token" { "/master" } else { "/access" }, &[(name, value)]);
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        request
    };
    let conflicting = request("/access", &[("access-token", token.expose()), ("authorization", "Bearer another")]);
    for request in [twice("access-token", token.expose()), twice("master-token", MASTER), conflicting] {
        let response = layer.layer(inner()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let reason = response.extensions().get::<Denial>().unwrap().reason();
        assert!(matches!(reason, DenialReason::Credentials(_)), "{reason}");
    }
}

#[tokio::test]
async fn without_a_master_token_none_is_right() {
    let settings = fastauth::Settings::builder()
        .cryptography_key(crate::app::KEY)
        .access_token_paths(["/access"])
        .store(fastauth::store::MemoryStore::new());
    let app = app(FastAuthLayer::new(settings.build().unwrap()).unwrap());
    for headers in [&[][..], &[("master-token", "")], &[("master-token", MASTER)]] {
        let response = send(&app, get_request("/auth/token/new", headers)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(body(response).await["detail"], "Unauthorized Master Token");
    }
}

#[tokio::test]
async fn credentials_are_hidden_from_what_is_beneath() {
    let layer = layer();
    let service = service_fn(|request: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{:?}", request.headers())))))
    });
    let headers = [("master-token", "hush-1"), ("access-token", "hush-2"), ("authorization", "hush-3"), ("x", "seen")];
    let response = layer.layer(service).oneshot(request("/open", &headers)).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("seen") && !text.contains("hush"), "{text}");
}

#[tokio::test]
async fn the_inner_error_stays_what_it_was() {
    #[derive(Debug, PartialEq)]
    struct Broken;
    let service = service_fn(|_: Request<()>| ready(Err::<Answer, _>(Broken)));
    let error = layer().layer(service).oneshot(request("/open", &[])).await.unwrap_err();
    assert_eq!(error, Broken);
}

/// Bodies and services of all kinds: nothing is asked of them that the layer does not need.
#[tokio::test]
async fn bounds_are_few() {
    struct NotDefaultNorSend(#[allow(dead_code)] *const ());
    let service = service_fn(|_: Request<NotDefaultNorSend>| {
        let not_send = std::rc::Rc::new("text");
        async move { Ok::<_, Infallible>(Response::new(not_send.to_string())) }
    });
    let request = Request::builder().uri("/open").body(NotDefaultNorSend(std::ptr::null())).unwrap();
    let response = layer().layer(service).oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "text");
}

#[test]
fn types_are_what_servers_need() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<FastAuthLayer>();
    shared::<fastauth::TokenRouter>();
    shared::<fastauth::TokenIssuer>();
    shared::<fastauth::FastAuth<axum::Router>>();
    shared::<Permit>();
    shared::<Denial>();
    fn future<T: Send + 'static>() {}
    future::<fastauth::ResponseFuture<axum::Router, Request<Body>>>();
}

/// A store whose answers are let go one by one, or that is in trouble.
#[derive(Debug, Default)]
struct HeldStore {
    asked: Notify,
    go: Notify,
    trouble: bool,
}

impl TokenStore for Held {
    fn load<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
        Box::pin(async {
            if self.0.trouble {
                return Err(StoreError::new(StoreErrorKind::Unreachable, "the test wants it so"));
            }
            self.0.asked.notify_one();
            self.0.go.notified().await;
            Ok(None)
        })
    }

    fn pair<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async { Ok(None) })
    }

    fn save<'a>(&'a self, _: &'a TokenRecord, _: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async { Ok(Saved::Saved(1)) })
    }

    fn rotate<'a>(&'a self, _: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async { Ok(Rotated::UnknownClient) })
    }

    fn revoke<'a>(&'a self, _: &'a Revocation, _: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async { Ok(Revoked::Sessions(0)) })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::NONE) })
    }
}

#[derive(Clone, Debug, Default)]
struct Held(Arc<HeldStore>);

#[tokio::test]
async fn trouble_of_the_store_is_not_the_callers_fault() {
    let store = Held(Arc::new(HeldStore { trouble: true, ..HeldStore::default() }));
    let layer = FastAuthLayer::new(settings().store(store).build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let response = layer.layer(inner()).oneshot(request("/access", &[("access-token", token.expose())])).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds));
    assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
    assert!(matches!(response.extensions().get::<Denial>().unwrap().reason(), DenialReason::StoreUnavailable(_)));
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let found: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let message = "The token store is unavailable, try again later";
    assert_eq!(found, crate::app::error(503, "store_unavailable", message));
}

#[tokio::test]
async fn readiness_is_the_inner_services() {
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Answer, _>(layer());
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let answer = service.call(request("/open", &[]));
    let (_, respond) = handle.next_request().await.unwrap();
    respond.send_response(Response::new(Full::from("seen")));
    assert_eq!(answer.await.unwrap().into_body().collect().await.unwrap().to_bytes(), "seen");
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_inner_service() {
    let (mut service, mut handle) = mock::spawn_layer::<Request<()>, Answer, _>(layer());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    assert_eq!(service.call(request("/access", &[])).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    // The readiness that was not used serves the next request.
    let answer = service.call(request("/open", &[]));
    let (seen, respond) = handle.next_request().await.unwrap();
    assert_eq!(seen.uri().path(), "/open");
    respond.send_response(Response::new(Full::default()));
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
}

/// A clone of a limited or buffered service is not ready: calling it in place of the ready one panics.
#[tokio::test]
async fn limits_and_buffers_are_called_when_ready() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let headers = [("access-token", token.expose())];
    let mut limited = layer.layer(ConcurrencyLimit::new(inner(), 1));
    let buffered_inner = Buffer::new(ConcurrencyLimit::new(inner(), 1), 1);
    let mut buffered = layer.layer(buffered_inner);
    for path in ["/access", "/open", "/access", "/access"] {
        let call = limited.ready().await.unwrap().call(request(path, &headers));
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
        let call = buffered.ready().await.unwrap().call(request(path, &headers));
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_dropped_request_gives_its_place_back() {
    let store = Held::default();
    let layer = FastAuthLayer::new(settings().store(store.clone()).build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let mut service = layer.layer(ConcurrencyLimit::new(inner(), 1));
    let waiting = service.ready().await.unwrap().call(request("/access", &[("access-token", token.expose())]));
    {
        let mut waiting = pin!(waiting);
        tokio::select! {
            _ = &mut waiting => panic!("the store has not answered"),
            () = store.0.asked.notified() => {}
        }
    }
    let next = timeout(Duration::from_secs(5), service.ready()).await.expect("the place is free again").unwrap();
    assert_eq!(next.call(request("/open", &[])).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_waits_holds_no_other_up() {
    let store = Held::default();
    let layer = FastAuthLayer::new(settings().store(store.clone()).build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let service = layer.layer(inner());
    let waiting = tokio::spawn(service.clone().oneshot(request("/access", &[("access-token", token.expose())])));
    store.0.asked.notified().await;
    assert_eq!(service.oneshot(request("/open", &[])).await.unwrap().status(), StatusCode::OK);
    store.0.go.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
#[should_panic(expected = "polled after it had ended")]
async fn polling_a_refusal_twice_panics_with_a_reason() {
    let mut service = layer().layer(inner());
    let mut response = pin!(service.call(request("/access", &[])));
    assert_eq!(response.as_mut().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let _ = response.await;
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let shown = format!("{layer:?} {:?} {:?} {:?}", layer.router(), layer.issuer(), layer.layer(()));
    for secret in [MASTER, crate::app::KEY, token.expose()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_request_debug_is_silent(&layer).await;
}

async fn assert_request_debug_is_silent(layer: &FastAuthLayer) {
    let issued = layer.issuer().issue("bob").await.unwrap();
    let shown = format!("{issued:?}");
    assert!(!shown.contains(issued.tokens.access_token.expose()), "{shown}");
    assert!(!shown.contains(issued.tokens.refresh_token.expose()), "{shown}");
}
