//! The token endpoints.

use std::{convert::Infallible, future::pending, time::Duration};

use axum::{Router, body::Body};
use fastauth::{FastAuthLayer, TokenRouter, TokenType, config::TokensPerClient};
use http::{Method, Request, StatusCode, header::CACHE_CONTROL};
use http_body_util::{Empty, StreamBody};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::app::{Endpoints, FORM, JSON, MASTER, app, body, error, get_request, layer, send, serve, settings};

async fn new_tokens(app: &Router, query: &str) -> Value {
    let response = send(app, get_request(&format!("/auth/token/new{query}"), &[("master-token", MASTER)])).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    body(response).await
}

async fn refresh(app: &Router, token: &str) -> (StatusCode, Value) {
    let response = send(app, get_request(&format!("/auth/token/refresh?refresh_token={token}"), &[])).await;
    (response.status(), body(response).await)
}

#[tokio::test]
async fn tokens_are_issued_and_refreshed() {
    let app = app(layer());
    let first = new_tokens(&app, "?client_id=a%20b%2B%C3%A9").await;
    assert_eq!(first["data"]["client_id"], "a b+é");
    assert_eq!(
        (&first["status"], &first["message"], &first["code"]),
        (&json!("success"), &json!("Token generated"), &json!(200))
    );

    let (status, second) = refresh(&app, first["data"]["refresh_token"].as_str().unwrap()).await;
    assert_eq!((status, &second["data"]["client_id"]), (StatusCode::OK, &json!("a b+é")));

    let access = |tokens: &Value| {
        get_request("/access/health", &[("access-token", tokens["data"]["access_token"].as_str().unwrap())])
    };
    assert_eq!(send(&app, access(&first)).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(&app, access(&second)).await.status(), StatusCode::OK);
    // A client that lost the answer gets the same pair again, for a while.
    let (status, repeated) = refresh(&app, first["data"]["refresh_token"].as_str().unwrap()).await;
    let access_token = |body: &Value| body["data"]["access_token"].clone();
    assert_eq!((status, access_token(&repeated)), (StatusCode::OK, access_token(&second)));
}

#[tokio::test]
async fn used_refresh_token_is_refused() {
    let app = app(FastAuthLayer::new(settings().refresh_grace(Duration::ZERO).build().unwrap()).unwrap());
    let first = new_tokens(&app, "?client_id=c").await;
    let refresh_token = first["data"]["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(&app, refresh_token).await.0, StatusCode::OK);
    let (status, used) = refresh(&app, refresh_token).await;
    assert_eq!((status, &used["status"], &used["code"]), (StatusCode::UNAUTHORIZED, &json!("error"), &json!(401)));
}

#[tokio::test]
async fn client_id_defaults_to_a_random_one() {
    let app = app(layer());
    let issued = new_tokens(&app, "").await;
    let id = uuid::Uuid::parse_str(issued["data"]["client_id"].as_str().unwrap()).unwrap();
    assert_eq!((id.get_version_num(), id.to_string().as_str()), (4, issued["data"]["client_id"].as_str().unwrap()));
}

fn missing(place: &str, name: &str) -> Value {
    let detail = json!([{ "type": "missing", "loc": [place, name], "msg": "Field required", "input": null }]);
    let message = format!("{name} is missing");
    json!({ "status": "error", "code": 422, "reason": "missing_parameter", "message": message, "detail": detail })
}

#[tokio::test]
async fn parameters_are_read_strictly() {
    let app = app(layer());
    let long = format!("?client_id={}", "x".repeat(1025));
    for query in ["?client_id=", "?client_id", "?client_id=a&client_id=b", "?client_id=%ff", "?client_id=a%00", &long] {
        let response = send(&app, get_request(&format!("/auth/token/new{query}"), &[("master-token", MASTER)])).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(body(response).await["detail"][0]["loc"], json!(["query", "client_id"]));
    }
    let response = send(&app, get_request("/auth/token/refresh", &[])).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body(response).await, missing("query", "refresh_token"));
}

#[tokio::test]
async fn other_methods_are_answered_with_405() {
    let layer = layer();
    let app = app(layer.clone());
    let first = new_tokens(&app, "?client_id=c").await;
    for method in ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        for path in [
            "/auth/token/new?client_id=c".to_owned(),
            format!("/auth/token/refresh?refresh_token={}", first["data"]["refresh_token"].as_str().unwrap()),
        ] {
            let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
            let response = send(&app, request.header("master-token", MASTER).body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(response.headers()["allow"], "GET, POST");
        }
    }
    let unchanged = get_request("/access/health", &[("access-token", first["data"]["access_token"].as_str().unwrap())]);
    assert_eq!(send(&app, unchanged).await.status(), StatusCode::OK);
}

/// However it is mounted, it answers under its paths, and issuing is guarded.
#[tokio::test]
async fn router_works_however_it_is_mounted() {
    let router = || layer().router();
    let mounted: [(&str, &str, Router); 5] = [
        ("nested", "/auth", Router::new().nest_service("/auth", router())),
        ("nested elsewhere", "/v1/login", Router::new().nest_service("/v1/login", router())),
        ("merged", "/auth", Router::new().merge(router())),
        (
            "as routes",
            "/auth",
            Router::new()
                .route_service("/auth/token", router())
                .route_service("/auth/token/{endpoint}", router())
                .route_service("/auth/healthz", router()),
        ),
        ("with a prefix of its own", "/v2/auth", Router::new().fallback_service(router().prefix("/v2/auth"))),
    ];
    for (name, prefix, app) in mounted {
        let target = format!("{prefix}/token/new?client_id=c");
        assert_eq!(send(&app, get_request(&target, &[])).await.status(), StatusCode::UNAUTHORIZED, "{name}");
        assert_eq!(
            send(&app, get_request(&target, &[("master-token", MASTER)])).await.status(),
            StatusCode::OK,
            "{name}"
        );
        let refresh = get_request(&format!("{prefix}/token/refresh?refresh_token=x"), &[]);
        assert_eq!(send(&app, refresh).await.status(), StatusCode::UNAUTHORIZED, "{name}");
        let healthz = get_request(&format!("{prefix}/healthz"), &[]);
        assert_eq!(send(&app, healthz).await.status(), StatusCode::OK, "{name}");
        let server = Endpoints::at(serve(app).await);
        for (path, form, status) in [
            ("/token/new", "", 200),
            ("/token/refresh", "refresh_token=x", 401),
            ("/token", "grant_type=refresh_token&refresh_token=x", 400),
            ("/token/revoke", "token=x", 200),
            ("/token/introspect", "token=x", 200),
            ("/healthz", "", 405),
        ] {
            assert_eq!(server.post_as_master(&format!("{prefix}{path}"), form).await.status, status, "{name}: {path}");
        }
    }
}

#[tokio::test]
async fn router_works_without_a_framework() {
    let router: TokenRouter = layer().router();
    for (target, status) in
        [("/auth/token/new", 200), ("/token/new", 404), ("/auth/token/newer", 404), ("/auth", 404), ("/", 404)]
    {
        let request = Request::get(target).header("master-token", MASTER).body(Empty::<&[u8]>::new()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{target}");
    }
}

#[tokio::test]
async fn lifetimes_are_as_configured() {
    let layer = layer();
    let issued = layer.issuer().issue("c").await.unwrap();
    let lifetime = |token: &fastauth::Secret, token_type| {
        let claims = layer.issuer().verify(token.expose(), token_type).unwrap();
        claims.expires_at() - claims.get("iat").unwrap().as_u64().unwrap()
    };
    assert_eq!(lifetime(&issued.tokens.access_token, TokenType::Access), 2_592_000);
    assert_eq!(lifetime(&issued.tokens.refresh_token, TokenType::Refresh), 31_536_000);
}

#[tokio::test]
async fn only_the_stored_refresh_token_is_exchanged() {
    let layer: FastAuthLayer = layer();
    let app = app(layer.clone());
    let issued = layer.issuer().issue("c").await.unwrap();
    let stranger = crate::app::layer().issuer().issue("c").await.unwrap();
    const INVALID: &str = "invalid_refresh_token";
    let access = issued.tokens.access_token.expose();
    let table = [
        ("access token", access, INVALID, "Invalid refresh token: not a refresh token"),
        ("garbage", "garbage", INVALID, "Invalid refresh token"),
        ("empty", "", INVALID, "Invalid refresh token"),
        ("not stored", stranger.tokens.refresh_token.expose(), "superseded", "Invalid refresh token: used or revoked"),
    ];
    for (name, token, reason, message) in table {
        let (status, answer) = refresh(&app, token).await;
        assert_eq!((status, answer), (StatusCode::UNAUTHORIZED, error(401, reason, message)), "{name}");
    }
}

#[tokio::test]
async fn post_accepts_forms_and_json() {
    let layer = layer();
    let server = Endpoints::of(&layer).await;
    let forms = ["client_id=a+b%2B%C3%A9", "refresh_token=TOKEN"];
    let json = [r#"{"client_id":"a b+é"}"#, r#"{"refresh_token":"TOKEN"}"#];
    for (content_type, [new, refresh]) in [(FORM, forms), (JSON, json)] {
        let headers = [("content-type", content_type), ("master-token", MASTER)];
        let first = server.send("POST", "/auth/token/new", &headers, new).await;
        assert_eq!((first.status, first.header("cache-control")), (200, "no-store"));
        let first = first.json();
        assert_eq!((&first["message"], &first["data"]["client_id"]), (&json!("Token generated"), &json!("a b+é")));
        let body = refresh.replace("TOKEN", first["data"]["refresh_token"].as_str().unwrap());
        let second = server.send("POST", "/auth/token/refresh", &headers[..1], &body).await;
        assert_eq!(second.status, 200, "{second:?}");
        assert!(server.opens(second.json()["data"]["access_token"].as_str().unwrap()).await);
    }
    // Nothing in the body, and no type of it: the client gets a name.
    let random = server.send("POST", "/auth/token/new", &[("master-token", MASTER)], "").await.json();
    assert!(uuid::Uuid::parse_str(random["data"]["client_id"].as_str().unwrap()).is_ok());
}

#[tokio::test]
async fn posted_parameters_are_read_strictly() {
    let layer = layer();
    let server = Endpoints::of(&layer).await;
    let kept = layer.issuer().issue("c").await.unwrap();
    let (long, typed) = (format!("client_id=c&x={}", "y".repeat(64 * 1024)), "application/json; charset=utf-16");
    for (name, target, content_type, body, status) in [
        ("in the URL", "/auth/token/new?client_id=c", FORM, "", 400),
        ("in both", "/auth/token/new?x=1", FORM, "client_id=c", 400),
        ("repeated", "/auth/token/new", FORM, "client_id=c&client_id=c", 400),
        ("another repeated", "/auth/token/new", FORM, "client_id=c&x=1&x=1", 400),
        ("repeated in JSON", "/auth/token/new", JSON, r#"{"client_id":"c","client_id":"c"}"#, 400),
        ("no object", "/auth/token/new", JSON, r#"["client_id"]"#, 400),
        ("no UTF-8", "/auth/token/new", FORM, "client_id=%ff", 400),
        ("a number", "/auth/token/new", JSON, r#"{"client_id":7}"#, 422),
        ("empty", "/auth/token/new", FORM, "client_id=", 422),
        ("no type", "/auth/token/new", "", "client_id=c", 415),
        ("another type", "/auth/token/new", "text/plain", "client_id=c", 415),
        ("another charset", "/auth/token/new", typed, r#"{"client_id":"c"}"#, 415),
        ("long", "/auth/token/new", FORM, &long, 413),
    ] {
        let headers = [("master-token", MASTER), ("content-type", content_type)];
        let headers = if content_type.is_empty() { &headers[..1] } else { &headers };
        let reply = server.send("POST", target, headers, body).await;
        assert_eq!(reply.status, status, "{name}: {reply:?}");
        match status {
            422 => assert_eq!(reply.json()["detail"][0]["loc"], json!(["body", "client_id"]), "{name}"),
            _ => assert_eq!(reply.json()["detail"], reply.json()["message"], "{name}"),
        }
        assert_eq!((&reply.json()["code"], &reply.json()["status"]), (&json!(status), &json!("error")), "{name}");
        assert!(server.opens(kept.tokens.access_token.expose()).await, "{name}: nothing was issued");
    }
    let packed = [("master-token", MASTER), ("content-type", FORM), ("content-encoding", "gzip")];
    assert_eq!(server.send("POST", "/auth/token/new", &packed, "x").await.status, 415);
    let reply = server.post("/auth/token/refresh", "").await;
    assert_eq!((reply.status, reply.json()), (422, missing("body", "refresh_token")));
}

/// A body without a stated length is limited as well.
#[tokio::test]
async fn long_body_in_chunks_is_refused() {
    let chunks = std::iter::repeat_n(Ok::<_, Infallible>("x".repeat(1000)), 100);
    let address = serve(app(layer())).await;
    let request = reqwest::Client::new()
        .post(format!("http://{address}/auth/token/new"))
        .header("master-token", MASTER)
        .header("content-type", FORM)
        .body(reqwest::Body::wrap(StreamBody::new(futures_util::stream::iter(
            chunks.map(|chunk| chunk.map(|chunk| http_body::Frame::data(bytes::Bytes::from(chunk)))),
        ))));
    assert_eq!(request.send().await.unwrap().status(), 413);
}

#[tokio::test(start_paused = true)]
async fn stalled_body_times_out() {
    let body =
        StreamBody::new(futures_util::stream::once(pending::<Result<http_body::Frame<bytes::Bytes>, Infallible>>()));
    let request = Request::post("/auth/token/new").header("master-token", MASTER).header("content-type", FORM);
    let started = tokio::time::Instant::now();
    let response = layer().router().oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), started.elapsed().as_secs()), (408, 3));
}

#[tokio::test]
async fn incomplete_body_issues_nothing() {
    let body = StreamBody::new(futures_util::stream::iter([
        Ok(http_body::Frame::data(bytes::Bytes::from("client_id=c"))),
        Err(std::io::Error::other("the connection is gone")),
    ]));
    let request = Request::post("/auth/token/new").header("master-token", MASTER).header("content-type", FORM);
    let layer = layer();
    let response = layer.router().oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(layer.issuer().list(&fastauth::store::SessionFilter::default()).await.unwrap().sessions.is_empty());
}

#[tokio::test]
async fn get_can_be_switched_off() {
    let layer = FastAuthLayer::new(settings().allow_get(false).build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("c").await.unwrap();
    let refresh_token = issued.tokens.refresh_token.expose();
    for target in
        ["/auth/token/new?client_id=c".to_owned(), format!("/auth/token/refresh?refresh_token={refresh_token}")]
    {
        let reply = server.send("GET", &target, &[("master-token", MASTER)], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{target}");
    }
    assert!(server.opens(issued.tokens.access_token.expose()).await);
    assert_eq!(server.post("/auth/token/refresh", &format!("refresh_token={refresh_token}")).await.status, 200);
}

#[tokio::test]
async fn oauth_endpoints_accept_only_post() {
    let layer = layer();
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("c").await.unwrap();
    let refresh_token = issued.tokens.refresh_token.expose();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        for target in [
            format!("/auth/token?grant_type=refresh_token&refresh_token={refresh_token}"),
            format!("/auth/token/revoke?token={refresh_token}"),
            "/auth/token/revoke?all=true".to_owned(),
            format!("/auth/token/introspect?token={refresh_token}"),
        ] {
            let reply = server.send(method, &target, &[("master-token", MASTER)], "").await;
            assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{method} {target}");
            assert!(method != "HEAD" || reply.text.is_empty());
        }
    }
    assert!(server.opens(issued.tokens.access_token.expose()).await);
}

#[tokio::test]
async fn post_requires_the_master_token_as_get_does() {
    let server = Endpoints::of(&layer()).await;
    for path in ["/auth/token/new", "/auth/token/introspect"] {
        for (reason, headers) in [
            ("missing_master_token", &[("content-type", FORM)][..]),
            ("wrong_master_token", &[("content-type", FORM), ("master-token", "wrong")]),
        ] {
            let reply = server.send("POST", path, headers, "client_id=c&token=x").await;
            let message = "Unauthorized Master Token";
            let expected = match path {
                "/auth/token/new" => error(401, reason, message),
                _ => json!({ "error": "invalid_client", "error_description": message, "reason": reason }),
            };
            assert_eq!((reply.status, reply.json()), (401, expected));
            assert!(reply.header("www-authenticate").starts_with("MasterToken "));
        }
    }
}

#[tokio::test]
async fn client_has_at_most_the_configured_sessions() {
    let settings = settings().tokens_per_client(TokensPerClient::Many).max_tokens_per_client(2);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let reply = server.post_as_master("/auth/token/new", "client_id=a").await;
        assert_eq!(reply.status, 200);
        pairs.push(reply.json()["data"].clone());
    }
    let token = |pair: &Value, name: &str| pair[name].as_str().unwrap().to_owned();
    for (n, pair) in pairs.iter().enumerate() {
        assert_eq!(server.opens(&token(pair, "access_token")).await, n > 0, "{n}");
    }
    let refresh = async |n: usize| {
        server.post("/auth/token/refresh", &format!("refresh_token={}", token(&pairs[n], "refresh_token"))).await.status
    };
    assert_eq!((refresh(0).await, refresh(1).await, refresh(2).await), (401, 200, 200));
}
