//! The endpoints that OAuth clients use: renewing, revoking and looking into tokens, and the forms of their answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastauth::{
    ClaimsRefusal, FastAuthLayer, Grant, IssuedTokens, SettingsBuilder,
    config::{RefreshTransport, ResponseShape, TokensPerClient},
    store::{
        MemoryStore, Revocation, Revoked, StoreCall, StoreError, StoreErrorKind, StoreFuture, TokenStore, forward_store,
    },
};
use http::StatusCode;
use oauth2::{
    AccessToken, ClientId, HttpRequest, HttpResponse, IntrospectionUrl, RefreshToken, RequestTokenError, RevocationUrl,
    StandardRevocableToken, TokenIntrospectionResponse, TokenResponse, TokenUrl,
    basic::{BasicClient, BasicErrorResponseType},
};
use serde_json::{Map, Value, json};

use crate::{
    app::{Endpoints, FORM, JSON, MASTER, Reply, settings},
    support::log,
};

const COOKIE: &str = "__Host-fastauth-refresh";

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// No token is good twice, not even for a while.
fn strict() -> SettingsBuilder {
    settings().refresh_grace(Duration::ZERO)
}

fn scoped() -> Map<String, Value> {
    Map::from_iter([("scope".to_owned(), json!("read write"))])
}

fn access(issued: &IssuedTokens) -> &str {
    issued.tokens.access_token.expose()
}

fn refresh(issued: &IssuedTokens) -> &str {
    issued.tokens.refresh_token.expose()
}

/// The status and OAuth's word for an error, in an answer that has the form of one.
fn error(reply: &Reply) -> (u16, String) {
    let body = reply.json();
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), ("no-store", "no-cache"), "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(
        body["error_description"].is_string() && body["reason"].is_string() && body.as_object().unwrap().len() == 3,
        "{body}"
    );
    (reply.status, body["error"].as_str().unwrap().to_owned())
}

/// The status and the code of the reason.
fn reason(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["reason"].as_str().unwrap().to_owned())
}

/// A store that is away, or is not able to revoke, when a test wants it so.
#[derive(Clone, Debug, Default)]
struct Moody {
    inner: MemoryStore,
    is_away: Arc<AtomicBool>,
    cannot_revoke: bool,
}

impl Moody {
    fn ask<'a, T: 'a>(&self, _: StoreCall, ask: impl FnOnce() -> StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        if self.is_away.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::Unreachable, "the test wants it so")) });
        }
        ask()
    }
}

impl TokenStore for Moody {
    forward_store!(|store| store.inner, ask; load pair save rotate promises);

    fn revoke<'a>(&'a self, revocation: &'a Revocation, if_version: Option<u64>) -> StoreFuture<'a, Revoked> {
        if self.cannot_revoke {
            return Box::pin(async { Err(StoreError::unsupported("this one keeps pairs and no more")) });
        }
        self.ask(StoreCall::Revoke, || self.inner.revoke(revocation, if_version))
    }
}

/// A library for OAuth, as it comes, renews, looks into and revokes tokens. It asks for HTTPS, which ends before the server.
#[tokio::test]
async fn oauth2_crate_is_a_compatible_client() {
    let layer = layer(strict());
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue_with("a client", scoped()).await.unwrap();
    let url = |path: &str| format!("https://tokens.example/auth/{path}");
    let client = BasicClient::new(ClientId::new("a client".to_owned()))
        .set_token_uri(TokenUrl::new(url("token")).unwrap())
        .set_revocation_url(RevocationUrl::new(url("token/revoke")).unwrap())
        .set_introspection_url(IntrospectionUrl::new(url("token/introspect")).unwrap());
    let server = &server;
    let http = async |request: HttpRequest| {
        let path = request.uri().path().to_owned();
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let headers: Vec<_> = headers.chain([("master-token", MASTER)]).collect();
        let body = String::from_utf8(request.body().clone()).unwrap();
        let reply = server.send(request.method().as_str(), &path, &headers, &body).await;
        let mut response = HttpResponse::new(reply.text.into_bytes());
        (*response.status_mut(), *response.headers_mut()) =
            (StatusCode::from_u16(reply.status).unwrap(), reply.headers);
        Ok::<_, std::convert::Infallible>(response)
    };
    let http = |request| http(request);

    let first = RefreshToken::new(refresh(&issued).to_owned());
    let renewed = client.exchange_refresh_token(&first).request_async(&http).await.unwrap();
    assert_eq!(renewed.expires_in(), Some(Duration::from_secs(30 * 24 * 60 * 60)));
    assert_eq!(renewed.scopes().unwrap().iter().map(|scope| scope.as_str()).collect::<Vec<_>>(), ["read", "write"]);
    assert!(server.opens(renewed.access_token().secret()).await && !server.opens(access(&issued)).await);

    let told = client.introspect(renewed.access_token()).request_async(&http).await.unwrap();
    assert!(told.active() && told.client_id().unwrap().as_str() == "a client" && told.exp().is_some());
    let gone = client.introspect(&AccessToken::new(access(&issued).to_owned())).request_async(&http).await.unwrap();
    assert!(!gone.active());

    let token = StandardRevocableToken::from(renewed.refresh_token().unwrap());
    client.revoke_token(token).unwrap().request_async(&http).await.unwrap();
    assert!(!server.opens(renewed.access_token().secret()).await);
    let again = client.exchange_refresh_token(renewed.refresh_token().unwrap()).request_async(&http).await;
    let Err(RequestTokenError::ServerResponse(refusal)) = again else { panic!("{again:?}") };
    assert_eq!(refusal.error(), &BasicErrorResponseType::InvalidGrant);
}

#[tokio::test]
async fn grant_is_answered_in_the_form_of_oauth() {
    let layer = layer(strict());
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("c").await.unwrap();
    let reply =
        server.post("/auth/token", &format!("grant_type=refresh_token&refresh_token={}", refresh(&issued))).await;
    assert_eq!(
        (reply.status, reply.header("cache-control"), reply.header("pragma")),
        (200, "no-store", "no-cache"),
        "{reply:?}"
    );
    let body = reply.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(2_592_000)));
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    assert!(server.opens(body["access_token"].as_str().unwrap()).await);
    let posted = json!({ "grant_type": "refresh_token", "refresh_token": body["refresh_token"], "client_id": "c" });
    let headers = [("content-type", JSON)];
    assert_eq!(server.send("POST", "/auth/token", &headers, &posted.to_string()).await.status, 200);
}

#[tokio::test]
async fn grants_are_refused_in_the_form_of_oauth() {
    let layer = layer(strict());
    let server = Endpoints::of(&layer).await;
    let used = layer.issuer().issue("c").await.unwrap();
    let issued = layer.issuer().refresh(refresh(&used)).await.unwrap();
    let other = layer.issuer().issue("d").await.unwrap();
    let grant = |token: &str| format!("grant_type=refresh_token&refresh_token={token}");
    let good = grant(refresh(&issued));
    for (name, form, status, word) in [
        ("nothing", String::new(), 400, "invalid_request"),
        ("no grant type", format!("refresh_token={}", refresh(&issued)), 400, "invalid_request"),
        ("an empty one", format!("grant_type=&refresh_token={}", refresh(&issued)), 400, "invalid_request"),
        ("another one", "grant_type=password&username=c&password=x".to_owned(), 400, "unsupported_grant_type"),
        ("no token", "grant_type=refresh_token".to_owned(), 400, "invalid_request"),
        ("an empty token", grant(""), 400, "invalid_request"),
        ("garbage", grant("garbage"), 400, "invalid_grant"),
        ("an access token", grant(access(&issued)), 400, "invalid_grant"),
        ("another client", format!("{good}&client_id=d"), 400, "invalid_grant"),
        ("twice", format!("{good}&grant_type=refresh_token"), 400, "invalid_request"),
        ("a scope it does not have", format!("{good}&scope=read"), 400, "invalid_scope"),
        ("a secret", format!("{good}&client_id=c&client_secret=x"), 400, "invalid_client"),
        ("an assertion", format!("{good}&client_id=c&client_assertion=x"), 400, "invalid_client"),
    ] {
        assert_eq!(error(&server.post("/auth/token", &form).await), (status, word.to_owned()), "{name}");
    }
    let basic = [("content-type", FORM), ("authorization", "Basic Yzp4")];
    let reply = server.send("POST", "/auth/token", &basic, &good).await;
    assert_eq!(error(&reply), (401, "invalid_client".to_owned()));
    assert_eq!(reply.header("www-authenticate"), r#"Basic realm="demo""#);
    for (name, target, headers, status) in [
        ("in the URL", format!("/auth/token?{good}"), [("content-type", FORM)], 400),
        ("another type", "/auth/token".to_owned(), [("content-type", "text/plain")], 415),
    ] {
        let reply = server.send("POST", &target, &headers, &good).await;
        assert_eq!(error(&reply), (status, "invalid_request".to_owned()), "{name}");
    }
    // Nothing of that has used the token up. A token that was used before does, for all its session.
    assert!(server.opens(access(&issued)).await);
    assert_eq!(error(&server.post("/auth/token", &grant(refresh(&used))).await), (400, "invalid_grant".to_owned()));
    assert_eq!(error(&server.post("/auth/token", &good).await), (400, "invalid_grant".to_owned()));
    assert!(!server.opens(access(&issued)).await && server.opens(access(&other)).await);
}

#[tokio::test]
async fn scope_can_only_be_narrowed() {
    let layer = layer(strict());
    let server = Endpoints::of(&layer).await;
    let mut token = refresh(&layer.issuer().issue_with("c", scoped()).await.unwrap()).to_owned();
    for (asked, is_granted) in
        [("", true), ("read", true), ("write+read", true), ("read+admin", false), ("Read", false)]
    {
        let form = format!("grant_type=refresh_token&refresh_token={token}&scope={asked}");
        let reply = server.post("/auth/token", &form).await;
        if is_granted {
            let body = reply.json();
            assert_eq!((reply.status, &body["scope"]), (200, &json!("read write")), "{asked}");
            token = body["refresh_token"].as_str().unwrap().to_owned();
        } else {
            assert_eq!(error(&reply), (400, "invalid_scope".to_owned()), "{asked}");
        }
    }
}

#[tokio::test]
async fn unreachable_store_is_503() {
    let store = Moody::default();
    let layer = layer(strict().store(store.clone()).response_shape(ResponseShape::OAuth));
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("c").await.unwrap();
    store.is_away.store(true, Ordering::Relaxed);
    let token = refresh(&issued);
    for (path, form) in [
        ("/auth/token", format!("grant_type=refresh_token&refresh_token={token}")),
        ("/auth/token/new", String::new()),
        ("/auth/token/refresh", format!("refresh_token={token}")),
        ("/auth/token/revoke", format!("token={token}")),
        ("/auth/token/revoke", "all=true".to_owned()),
        ("/auth/token/introspect", format!("token={token}")),
    ] {
        let reply = server.post_as_master(path, &form).await;
        assert_eq!(error(&reply), (503, "temporarily_unavailable".to_owned()), "{path}");
        assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{path}");
    }
    // Or it would tell which tokens are ours.
    assert_eq!(server.post("/auth/token/revoke", "token=x").await.status, 503);
    store.is_away.store(false, Ordering::Relaxed);
    assert!(server.opens(access(&issued)).await);
}

#[tokio::test]
async fn holder_revokes_a_token() {
    let layer = layer(strict().tokens_per_client(TokensPerClient::Many));
    let server = Endpoints::of(&layer).await;
    let other = layer.issuer().issue("c").await.unwrap();
    for form in [
        |issued: &IssuedTokens| format!("token={}", refresh(issued)),
        |issued: &IssuedTokens| format!("token={}", access(issued)),
        |issued: &IssuedTokens| format!("token={}&token_type_hint=what&client_id=c", access(issued)),
    ] {
        let issued = layer.issuer().issue("c").await.unwrap();
        let form = form(&issued);
        assert!(server.opens(access(&issued)).await);
        let reply = server.post("/auth/token/revoke", &form).await;
        assert_eq!((reply.status, reply.text.as_str(), reply.header("cache-control")), (200, "{}", "no-store"));
        assert!(!server.opens(access(&issued)).await, "{form}");
        let renewal = format!("grant_type=refresh_token&refresh_token={}", refresh(&issued));
        assert_eq!(error(&server.post("/auth/token", &renewal).await), (400, "invalid_grant".to_owned()));
        // Revoking twice has the same result.
        assert_eq!(server.post("/auth/token/revoke", &form).await.status, 200);
    }
    assert!(server.opens(access(&other)).await, "the client's other log-in goes on");
    let stranger = self::layer(settings().cryptography_key("another key of thirty-two bytes.."));
    let foreign = stranger.issuer().issue("c").await.unwrap();
    for token in ["x", "a.b.c", refresh(&foreign), access(&foreign)] {
        let reply = server.post("/auth/token/revoke", &format!("token={token}")).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, "{}"), "{token}");
    }
    let reply = server.post("/auth/token/revoke", &format!("token={}&client_id=d", access(&other))).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "{}"), "as for an invalid token");
    assert!(server.opens(access(&other)).await);
}

#[tokio::test]
async fn clients_and_sessions_are_revoked_with_the_master_token() {
    let layer = layer(strict().tokens_per_client(TokensPerClient::Many));
    let server = Endpoints::of(&layer).await;
    let issue = async |client_id| layer.issuer().issue(client_id).await.unwrap();
    let (one, two, three) = (issue("c").await, issue("c").await, issue("c").await);
    let (other, last) = (issue("d").await, issue("e").await);
    for form in ["client_id=c", "all=true"] {
        let reply = server.post("/auth/token/revoke", form).await;
        assert_eq!(reason(&reply), (401, "missing_master_token".to_owned()), "{form}");
    }
    assert!(server.opens(access(&one)).await);
    let by_session = format!("client_id=c&session={}", one.session);
    for (form, count, revoked, live) in [
        (by_session.as_str(), 1, vec![&one], vec![&two, &three, &other, &last]),
        ("client_id=c", 2, vec![&two, &three], vec![&other, &last]),
        ("client_id=c", 0, vec![], vec![&other, &last]),
        ("client_id=nobody", 0, vec![], vec![&other, &last]),
        ("all=true", 2, vec![&other, &last], vec![]),
    ] {
        let reply = server.post_as_master("/auth/token/revoke", form).await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "revoked": count })), "{form}");
        for issued in revoked {
            assert!(!server.opens(access(issued)).await, "{form}");
        }
        for issued in live {
            assert!(server.opens(access(issued)).await, "{form}");
        }
    }
    let kept = issue("c").await;
    let headers = [("content-type", JSON), ("master-token", MASTER)];
    for body in [r#"{"all":false}"#, r#"{"all":"yes"}"#, r#"{"all":1}"#] {
        let reply = server.send("POST", "/auth/token/revoke", &headers, body).await;
        assert_eq!(error(&reply), (400, "invalid_request".to_owned()), "{body}");
    }
    let session = &kept.session;
    for form in [
        String::new(),
        "client_id=".to_owned(),
        format!("session={session}"),
        "client_id=c&all=true".to_owned(),
        format!("token={}&all=true", access(&kept)),
        format!("token={}&client_id=c&session={session}", access(&kept)),
        format!("session={session}&all=true"),
    ] {
        let reply = server.post_as_master("/auth/token/revoke", &form).await;
        assert_eq!(error(&reply), (400, "invalid_request".to_owned()), "{form}");
    }
    assert!(server.opens(access(&kept)).await);
    assert_eq!(server.send("POST", "/auth/token/revoke", &headers, r#"{"all":true}"#).await.json()["revoked"], 1);
}

#[tokio::test]
async fn store_without_revocation_is_501() {
    let layer = layer(strict().store(Moody { cannot_revoke: true, ..Moody::default() }));
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("c").await.unwrap();
    for form in [format!("token={}", refresh(&issued)), "client_id=c".to_owned(), "all=true".to_owned()] {
        let reply = server.post_as_master("/auth/token/revoke", &form).await;
        assert_eq!(error(&reply), (501, "server_error".to_owned()), "{form}");
        assert_eq!(reply.json()["error_description"], "The token store does not support this");
    }
    assert_eq!(server.post("/auth/token/revoke", "token=x").await.status, 200);
}

#[tokio::test]
async fn token_is_introspected() {
    let claims = Map::from_iter([
        ("scope".to_owned(), json!("read write")),
        ("roles".to_owned(), json!(["reader"])),
        ("active".to_owned(), json!("never")),
    ]);
    let layer = layer(strict().issuer("https://tokens.example").audience("demo").access_ttl(Duration::from_secs(60)));
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue_with("c", claims).await.unwrap();
    let ask = async |token: &str| {
        let reply = server.post_as_master("/auth/token/introspect", &format!("token={token}&token_type_hint=x")).await;
        assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"));
        reply.json()
    };
    let told = ask(access(&issued)).await;
    for (name, expected) in [
        ("active", json!(true)),
        ("client_id", json!("c")),
        ("token_type", json!("Bearer")),
        ("scope", json!("read write")),
        ("iss", json!("https://tokens.example")),
        ("aud", json!("demo")),
        ("roles", json!(["reader"])),
    ] {
        assert_eq!(told[name], expected, "{name}: {told}");
    }
    assert_eq!(told["exp"].as_u64().unwrap() - told["iat"].as_u64().unwrap(), 60);
    assert!(told["jti"].as_str().is_some_and(|jti| !jti.is_empty()));
    assert_eq!(ask(refresh(&issued)).await["token_type"], "refresh_token");

    let renewed = layer.issuer().refresh(refresh(&issued)).await.unwrap();
    let foreign = self::layer(strict()).issuer().issue("c").await.unwrap();
    for token in [access(&issued), refresh(&issued), access(&foreign), "x", "a.b.c", "%00", "%F0%9F%98%80"] {
        assert_eq!(ask(token).await, json!({ "active": false }), "{token}");
    }
    assert_eq!(ask(access(&renewed)).await["active"], true);
    layer.issuer().revoke_token(access(&renewed)).await.unwrap();
    assert_eq!(ask(access(&renewed)).await, json!({ "active": false }));

    let without = server.post_as_master("/auth/token/introspect", "").await;
    assert_eq!(error(&without), (400, "invalid_request".to_owned()));
    assert_eq!(server.post("/auth/token/introspect", &format!("token={}", access(&renewed))).await.status, 401);
}

/// Both shapes of an answer, and of the refusals that go with them.
#[tokio::test]
async fn issuing_and_refreshing_answer_in_the_configured_form() {
    let layer = layer(strict().response_shape(ResponseShape::OAuth));
    let server = Endpoints::of(&layer).await;
    let issued = server.send("GET", "/auth/token/new?client_id=c", &[("master-token", MASTER)], "").await;
    let first = issued.json();
    assert_eq!((issued.status, issued.header("pragma")), (200, "no-cache"));
    assert_eq!((&first["token_type"], &first["expires_in"]), (&json!("Bearer"), &json!(2_592_000)));
    assert_eq!(first.as_object().unwrap().len(), 4, "{first}");
    let form = format!("refresh_token={}", first["refresh_token"].as_str().unwrap());
    let second = server.post("/auth/token/refresh", &form).await;
    assert!(server.opens(second.json()["access_token"].as_str().unwrap()).await);

    assert_eq!(error(&server.post("/auth/token/refresh", &form).await), (400, "invalid_grant".to_owned()));
    assert_eq!(error(&server.post("/auth/token/refresh", "").await), (400, "invalid_request".to_owned()));
    let empty = server.post_as_master("/auth/token/new", "client_id=").await;
    assert_eq!(error(&empty), (400, "invalid_request".to_owned()));
    assert_eq!(reason(&server.post("/auth/token/new", "").await), (401, "missing_master_token".to_owned()));

    let issued = layer.issuer().issue_with("c", scoped()).await.unwrap();
    let scoped = server.post("/auth/token/refresh", &format!("refresh_token={}", refresh(&issued))).await;
    assert_eq!(scoped.json()["scope"], "read write");
}

#[tokio::test]
async fn refusal_of_the_application_keeps_its_status_and_text() {
    let hook = |grant: Grant| async move {
        match grant.client_id.as_str() {
            "locked" => Err(ClaimsRefusal::new(StatusCode::FORBIDDEN, "this client is locked")),
            "paid" => Err(ClaimsRefusal::new(StatusCode::PAYMENT_REQUIRED, "pay first")),
            "broken" => Err(ClaimsRefusal::new(StatusCode::BAD_GATEWAY, "no directory")),
            _ => Ok(grant.claims),
        }
    };
    for shape in [ResponseShape::Envelope, ResponseShape::OAuth] {
        let server = Endpoints::of(&layer(strict().claims_hook(hook).response_shape(shape))).await;
        for (client_id, status, word, message) in [
            ("locked", 403, "access_denied", "this client is locked"),
            ("paid", 402, "access_denied", "pay first"),
            ("broken", 502, "server_error", "no directory"),
        ] {
            let reply = server.post_as_master("/auth/token/new", &format!("client_id={client_id}")).await;
            let expected = match shape {
                ResponseShape::Envelope => crate::app::error(status, "refused", message),
                ResponseShape::OAuth => json!({ "error": word, "error_description": message, "reason": "refused" }),
            };
            assert_eq!((reply.status, reply.json()), (status, expected));
        }
        assert_eq!(server.post_as_master("/auth/token/new", "client_id=free").await.status, 200);
    }
}

/// The value of the cookie that an answer sets, and what else the answer says of it.
fn cookie(reply: &Reply) -> (String, String) {
    let (value, attributes) = reply.header("set-cookie").split_once("; ").unwrap_or_else(|| panic!("{reply:?}"));
    (value.strip_prefix("__Host-fastauth-refresh=").unwrap().to_owned(), attributes.to_owned())
}

#[tokio::test]
async fn refresh_token_can_travel_in_a_cookie() {
    let server = &Endpoints::of(&layer(strict().refresh_transport(RefreshTransport::Cookie))).await;
    let with = async |path: &str, value: &str, form: &str| {
        let line = format!("theme=dark; {COOKIE}={value}; x=y");
        server.send("POST", path, &[("content-type", FORM), ("cookie", &line)], form).await
    };
    let issued = server.post_as_master("/auth/token/new", "client_id=c").await;
    let (mut value, attributes) = cookie(&issued);
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=31536000");
    let data = issued.json()["data"].clone();
    assert!(data["access_token"].is_string() && data.get("refresh_token").is_none());
    let mut last = String::new();
    for (path, form) in [
        ("/auth/token/refresh", String::new()),
        ("/auth/token", "grant_type=refresh_token&client_id=c".to_owned()),
        // The parameter goes before the cookie.
        ("/auth/token/refresh", "refresh_token=VALUE".to_owned()),
        ("/auth/token", "grant_type=refresh_token&refresh_token=VALUE".to_owned()),
    ] {
        let form_has_it = form.contains("VALUE");
        let reply = with(path, if form_has_it { "x" } else { &value }, &form.replace("VALUE", &value)).await;
        assert_eq!(reply.status, 200, "{path} {form}: {reply:?}");
        let renewed = cookie(&reply).0;
        assert!(renewed != value && !reply.text.contains(&renewed) && !reply.text.contains("refresh_token"));
        let body = reply.json();
        let token = body["access_token"].as_str().or(body["data"]["access_token"].as_str()).unwrap();
        (value, last) = (renewed, token.to_owned());
    }
    // No type is said, and nothing: what a browser sends of itself.
    let cookie_line = format!("{COOKIE}={value}");
    let bare = server.send("POST", "/auth/token/refresh", &[("cookie", &cookie_line)], "").await;
    assert_eq!(bare.status, 200);
    assert!(!server.opens(&last).await);
    let (value, last) = (cookie(&bare).0, bare.json()["data"]["access_token"].as_str().unwrap().to_owned());

    // A link of another site is a GET, and must not do anything, whichever token it brings.
    let line = format!("{COOKIE}={value}");
    for target in ["/auth/token/refresh".to_owned(), format!("/auth/token/refresh?refresh_token={value}")] {
        let link = server.send("GET", &target, &[("cookie", &line)], "").await;
        assert_eq!((link.status, link.headers.get("set-cookie")), (405, None), "{target}");
    }
    // Nor may a form of another page, on a subdomain of the same site either.
    for (name, said) in
        [("sec-fetch-site", "same-site"), ("sec-fetch-site", "cross-site"), ("origin", "https://x.example")]
    {
        for (path, form) in
            [("/auth/token/refresh", ""), ("/auth/token", "grant_type=refresh_token"), ("/auth/token/revoke", "")]
        {
            let headers = [("content-type", FORM), ("cookie", line.as_str()), (name, said)];
            let reply = server.send("POST", path, &headers, form).await;
            assert_eq!((reply.status, reply.headers.get("set-cookie")), (403, None), "{path} {name}: {said}");
        }
    }
    assert!(server.opens(&last).await);
    let twice = format!("{COOKIE}={value}; {COOKIE}={value}");
    for path in ["/auth/token/refresh", "/auth/token", "/auth/token/revoke"] {
        let headers = [("content-type", FORM), ("cookie", twice.as_str())];
        let form = if path == "/auth/token" { "grant_type=refresh_token" } else { "" };
        assert_eq!(server.send("POST", path, &headers, form).await.status, 400, "{path}");
    }
    assert!(server.opens(&last).await);
    assert_eq!(with("/auth/token/refresh", "", "").await.status, 401);

    let given_up = with("/auth/token/revoke", &value, "").await;
    assert_eq!((given_up.status, cookie(&given_up)), (200, (String::new(), attributes.replace("31536000", "0"))));
    assert!(!server.opens(&last).await);
    assert_eq!(reason(&with("/auth/token/refresh", &value, "").await), (401, "revoked".to_owned()));
    // One who has logged out, or has never logged in.
    let headers = [("content-type", FORM)];
    let none = server.send("POST", "/auth/token/refresh", &headers, "").await;
    assert_eq!(reason(&none), (401, "not_logged_in".to_owned()));
    let none = server.send("POST", "/auth/token", &headers, "grant_type=refresh_token").await;
    assert_eq!((reason(&none), error(&none).1), ((400, "not_logged_in".to_owned()), "invalid_grant".to_owned()));
    let none = server.send("POST", "/auth/token/revoke", &headers, "").await;
    assert_eq!((none.status, none.json()), (200, json!({})));
    // The administrator's own cookie is none of that.
    let all = server.post_as_master("/auth/token/revoke", "all=true").await;
    assert_eq!((all.status, all.header("set-cookie")), (200, ""));
}

#[tokio::test]
async fn cookie_is_ignored_unless_it_is_configured() {
    let layer = layer(strict());
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("c").await.unwrap();
    let line = format!("{COOKIE}={}", refresh(&issued));
    for (path, status) in [("/auth/token/refresh", 422), ("/auth/token", 400), ("/auth/token/revoke", 400)] {
        assert_eq!(server.send("POST", path, &[("cookie", &line)], "").await.status, status, "{path}");
    }
    let issued = server.post_as_master("/auth/token/new", "").await;
    assert_eq!(issued.header("set-cookie"), "");
}

/// Whatever is done with a token, no error and no log has it in it.
#[tokio::test]
async fn tokens_are_never_logged() {
    log::capture();
    let store = Moody::default();
    let layer = layer(strict().store(store.clone()).refresh_transport(RefreshTransport::Cookie));
    let server = Endpoints::of(&layer).await;
    let used = layer.issuer().issue("c").await.unwrap();
    let issued = layer.issuer().refresh(refresh(&used)).await.unwrap();
    let other = layer.issuer().issue("d").await.unwrap();
    let shown = [&used, &issued, &other].map(|issued| [access(issued).to_owned(), refresh(issued).to_owned()]);
    let shown = shown.concat();

    let mut errors = String::new();
    for is_away in [true, false] {
        store.is_away.store(is_away, Ordering::Relaxed);
        for (path, name) in [
            ("/auth/token/new", "client_id"),
            ("/auth/token/refresh", "refresh_token"),
            ("/auth/token", "refresh_token"),
            ("/auth/token/revoke", "token"),
            ("/auth/token/introspect", "token"),
        ] {
            for token in [refresh(&used), refresh(&issued), access(&issued)] {
                for form in [
                    format!("{name}={token}&{token}={token}&{token}={token}"),
                    format!("{name}={token}%ff"),
                    format!("grant_type={token}&{name}={token}&scope={token}"),
                    format!("grant_type=refresh_token&{name}={token}&client_id={token}&all={token}"),
                    format!("grant_type=refresh_token&{name}={token}x"),
                    format!("grant_type=refresh_token&{name}={token}&scope={token}"),
                ] {
                    let cookie = format!("{COOKIE}={token}; {COOKIE}={token}");
                    let headers = [("content-type", FORM), ("cookie", &*cookie), ("authorization", token)];
                    let replies = [
                        server.send("POST", path, &headers, &form).await,
                        server.post(&format!("{path}?{form}"), "").await,
                        server
                            .send("POST", path, &[("content-type", JSON)], &format!("{{\"{token}\":1,\"{token}\":1}}"))
                            .await,
                    ];
                    for reply in replies.into_iter().filter(|reply| reply.status >= 400) {
                        errors += &format!("{reply:?}\n");
                    }
                }
            }
        }
    }
    // Used tokens revoke, and tokens that are given up log that.
    server.post("/auth/token/refresh", &format!("refresh_token={}", refresh(&used))).await;
    server.post("/auth/token/revoke", &format!("token={}", refresh(&other))).await;
    let log = log::captured();
    for word in ["not issued", "refreshed", "revoked", "came back", "the token store is unavailable"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert!(errors.contains("invalid_grant") && errors.contains("temporarily_unavailable"));
    for token in &shown {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!log.contains(signature), "{log}");
        assert!(!errors.contains(signature), "{errors}");
    }
}

/// Who administers is noted by the name of the master token.
#[tokio::test]
async fn administration_logs_the_name_of_the_master_token() {
    log::capture();
    let settings = strict().master_tokens([("alice", "the master token of alice"), ("bob", "the master token of bob")]);
    let server = Endpoints::of(&layer(settings)).await;
    let headers = [("content-type", FORM), ("master-token", "the master token of bob")];
    assert_eq!(server.send("POST", "/auth/token/revoke", &headers, "all=true").await.status, 200);
    let log = log::captured();
    assert!(log.contains(r#"master_token="bob""#) && !log.contains("alice") && !log.contains("of bob"), "{log}");
}
