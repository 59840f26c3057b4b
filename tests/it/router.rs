//! The token endpoints.

use std::time::Duration;

use axum::{Router, body::Body};
use fastauth::{FastAuthLayer, TokenRouter, TokenType};
use http::{Method, Request, StatusCode, header::CACHE_CONTROL};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::app::{MASTER, app, body, get_request, layer, send, settings};

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
async fn tokens_are_issued_and_renewed() {
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
    // Whoever lost the answer gets it again, for a while.
    let (status, repeated) = refresh(&app, first["data"]["refresh_token"].as_str().unwrap()).await;
    assert_eq!((status, &repeated["data"]), (StatusCode::OK, &second["data"]));
}

#[tokio::test]
async fn a_used_refresh_token_is_refused() {
    let app = app(FastAuthLayer::new(settings().refresh_grace(Duration::ZERO).build().unwrap()).unwrap());
    let first = new_tokens(&app, "?client_id=c").await;
    let refresh_token = first["data"]["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(&app, refresh_token).await.0, StatusCode::OK);
    let (status, used) = refresh(&app, refresh_token).await;
    assert_eq!((status, &used["status"], &used["code"]), (StatusCode::UNAUTHORIZED, &json!("error"), &json!(401)));
}

#[tokio::test]
async fn an_id_is_made_where_none_is_given() {
    let app = app(layer());
    let issued = new_tokens(&app, "").await;
    let id = uuid::Uuid::parse_str(issued["data"]["client_id"].as_str().unwrap()).unwrap();
    assert_eq!((id.get_version_num(), id.to_string().as_str()), (4, issued["data"]["client_id"].as_str().unwrap()));
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
    let missing = json!({ "detail": [{ "type": "missing", "loc": ["query", "refresh_token"], "msg": "Field required", "input": null }] });
    assert_eq!(body(response).await, missing);
}

#[tokio::test]
async fn other_methods_issue_nothing() {
    let layer = layer();
    let app = app(layer.clone());
    let first = new_tokens(&app, "?client_id=c").await;
    for method in ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        for path in [
            "/auth/token/new?client_id=c".to_owned(),
            format!("/auth/token/refresh?refresh_token={}", first["data"]["refresh_token"].as_str().unwrap()),
        ] {
            let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
            let response = send(&app, request.header("master-token", MASTER).body(Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(response.headers()["allow"], "GET");
        }
    }
    let unchanged = get_request("/access/health", &[("access-token", first["data"]["access_token"].as_str().unwrap())]);
    assert_eq!(send(&app, unchanged).await.status(), StatusCode::OK);
}

/// However it is mounted, it answers under its paths, and minting is guarded.
#[tokio::test]
async fn it_can_be_mounted_in_every_way() {
    let router = || layer().router();
    let mounted: [(&str, &str, Router); 5] = [
        ("nested", "/auth", Router::new().nest_service("/auth", router())),
        ("nested elsewhere", "/v1/login", Router::new().nest_service("/v1/login", router())),
        ("merged", "/auth", Router::new().merge(router().into_axum())),
        (
            "as routes",
            "/auth",
            Router::new().route_service("/auth/token/new", router()).route_service("/auth/token/refresh", router()),
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
    }
}

#[tokio::test]
async fn it_answers_without_a_framework() {
    let router: TokenRouter = layer().router();
    for (target, status) in
        [("/auth/token/new", 200), ("/token/new", 200), ("/auth/token/newer", 404), ("/auth", 404), ("/", 404)]
    {
        let request = Request::get(target).header("master-token", MASTER).body(()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{target}");
    }
}

#[tokio::test]
async fn lifetimes_are_the_configured_ones() {
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
async fn only_the_stored_refresh_token_refreshes() {
    let layer: FastAuthLayer = layer();
    let app = app(layer.clone());
    let issued = layer.issuer().issue("c").await.unwrap();
    let stranger = crate::app::layer().issuer().issue("c").await.unwrap();
    let table = [
        ("access token", issued.tokens.access_token.expose(), "Invalid refresh token: not a refresh token"),
        ("garbage", "garbage", "Invalid refresh token"),
        ("empty", "", "Invalid refresh token"),
        ("not stored", stranger.tokens.refresh_token.expose(), "Invalid refresh token: used or revoked"),
    ];
    for (name, token, message) in table {
        let (status, answer) = refresh(&app, token).await;
        assert_eq!(
            (status, answer),
            (StatusCode::UNAUTHORIZED, json!({ "status": "error", "message": message, "code": 401 })),
            "{name}"
        );
    }
}
