//! The REST store as others see it.

use std::sync::Arc;

use fastauth::{
    Secret,
    store::{
        Canonical, MemoryStore, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError,
        StoreErrorKind, StoreFuture, StoreService, StoredPair, TokenRecord, TokenStore,
    },
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::stores::{OnePair, held};

const PAIR: &str = r#"{"data":{"access_token":"access-1","refresh_token":"refresh-1"}}"#;

async fn ask(service: &StoreService, request: Request<String>) -> (Response<()>, Value) {
    let response = service.clone().oneshot(request.map(Full::<bytes::Bytes>::from)).await.unwrap();
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
    let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    (Response::from_parts(parts, ()), body)
}

fn request(method: Method, target: &str, body: &str) -> Request<String> {
    let request = Request::builder().method(method).uri(target).header(header::CONTENT_TYPE, "application/json");
    request.body(body.to_owned()).unwrap()
}

/// A page in a browser cannot send JSON across sites unasked.
#[tokio::test]
async fn only_json_is_taken() {
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = request(Method::POST, "/token?client_id=a", PAIR);
        match content_type {
            Some(content_type) => request.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().unwrap()),
            None => request.headers_mut().remove(header::CONTENT_TYPE),
        };
        assert_eq!(ask(&memory(), request).await.0.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let mut request = request(Method::POST, "/token?client_id=a", PAIR);
    request.headers_mut().insert(header::CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
    assert_eq!(ask(&memory(), request).await.0.status(), StatusCode::OK);
}

async fn status(service: &StoreService, method: Method, target: &str, body: &str) -> u16 {
    let (response, body) = ask(service, request(method, target, body)).await;
    assert!(response.status() == StatusCode::OK || body["detail"].is_string(), "{body}");
    response.status().as_u16()
}

fn memory() -> StoreService {
    StoreService::new(Arc::new(MemoryStore::new()))
}

#[tokio::test]
async fn a_pair_goes_in_and_comes_out() {
    let service = memory();
    for target in ["/token?client_id=a", "/mydb/data/token?client_id=b", "/token?x=1&client_id=c&y"] {
        assert_eq!(status(&service, Method::GET, target, "").await, 404);
        assert_eq!(status(&service, Method::POST, target, PAIR).await, 200);
        let (response, body) = ask(&service, request(Method::GET, target, "")).await;
        assert_eq!((response.status(), body), (StatusCode::OK, serde_json::from_str(PAIR).unwrap()));
    }
}

#[tokio::test]
async fn ids_are_decoded_as_forms_are() {
    let store = MemoryStore::new();
    let service = StoreService::new(Arc::new(store.clone()));
    for (query, id) in [
        ("client_id=a%20b", "a b"),
        ("client_id=a+b", "a b"),
        ("client_id=a%2Bb", "a+b"),
        ("client_id=a%252Fb", "a%2Fb"),
        ("client_id=%C3%A9l%c3%a8ve", "élève"),
        ("client%5Fid=x", "x"),
        ("client_id=a=b", "a=b"),
        ("client_id=%00", "\0"),
    ] {
        assert_eq!(status(&service, Method::POST, &format!("/token?{query}"), PAIR).await, 200);
        assert_eq!(store.held(id).await.unwrap(), held(1), "{query}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let service = memory();
    for query in [
        "",
        "?",
        "?client_id",
        "?client_id=",
        "?client_id=a&client_id=a",
        "?client_id=a&client%5Fid=b",
        "?Client_Id=a",
        "?client_id=%",
        "?client_id=%f",
        "?client_id=%zz",
        "?client_id=%+f",
        "?client_id=%ff",
        "?client_id=%C3",
        "?id=a",
    ] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(status(&service, method, &format!("/token{query}"), PAIR).await, 400, "{query}");
        }
    }
    for body in [
        "",
        "x",
        "{}",
        "[]",
        r#"{"data":null}"#,
        r#"{"data":{}}"#,
        r#"{"data":{"access_token":"a"}}"#,
        r#"{"data":{"access_token":"a","refresh_token":null}}"#,
        r#"{"data":{"access_token":1,"refresh_token":"r"}}"#,
        r#"{"data":["a","r"]}"#,
        r#"[["a","r"]]"#,
    ] {
        assert_eq!(status(&service, Method::POST, "/token?client_id=a", body).await, 422, "{body}");
    }
    let long = PAIR.replace("access-1", &"x".repeat(64 * 1024));
    assert_eq!(status(&service, Method::POST, "/token?client_id=a", &long).await, 413);
    for path in ["/", "/tokens", "/token/", "/token/x", "/%74oken", "/atoken"] {
        assert_eq!(status(&service, Method::GET, &format!("{path}?client_id=a"), "").await, 404, "{path}");
    }
    assert_eq!(status(&service, Method::GET, "/token?client_id=a", "").await, 404, "nothing was saved");
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let service = memory();
    for method in [Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let (response, _) = ask(&service, request(method, "/token?client_id=a", PAIR)).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET, POST");
    }
}

#[tokio::test]
async fn only_the_bearer_gets_in() {
    let service = memory().bearer(Secret::from("hush"));
    assert!(!format!("{service:?}").contains("hush"));
    let with = |values: &[&str]| {
        let mut request = request(Method::POST, "/token?client_id=a", PAIR);
        for value in values {
            request.headers_mut().append(header::AUTHORIZATION, value.parse().unwrap());
        }
        request
    };
    for values in [&["Bearer hush"][..], &["bearer hush"], &["BEARER  hush"]] {
        assert_eq!(ask(&service, with(values)).await.0.status(), StatusCode::OK, "{values:?}");
    }
    for values in [
        &[][..],
        &[""],
        &["hush"],
        &["Bearer"],
        &["Bearer "],
        &["Bearer hus"],
        &["Bearer hushh"],
        &["Bearer Hush"],
        &["Basic hush"],
        &["Bearer hush", "Bearer hush"],
        &["Bearer x", "Bearer hush"],
    ] {
        let (response, _) = ask(&service, with(values)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{values:?}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
    let closed = memory().bearer(Secret::from(""));
    assert_eq!(ask(&closed, with(&["Bearer "])).await.0.status(), StatusCode::UNAUTHORIZED);
}

/// Fails, and holds halves of pairs.
#[derive(Debug)]
struct OddStore;

impl TokenStore for OddStore {
    fn load<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> StoreFuture<'a, Option<Canonical>> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Failed, "hush")) })
    }

    fn pair<'a>(&'a self, client_id: &'a str) -> StoreFuture<'a, Option<StoredPair>> {
        Box::pin(async move {
            match client_id {
                "half" => Ok(Some(StoredPair { access_token: Some("a".into()), refresh_token: None, version: None })),
                _ => Err(StoreError::new(StoreErrorKind::Failed, "hush")),
            }
        })
    }

    fn save<'a>(&'a self, _: &'a TokenRecord, _: SaveOptions) -> StoreFuture<'a, Saved> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Failed, "hush")) })
    }

    fn rotate<'a>(&'a self, _: &'a Rotation) -> StoreFuture<'a, Rotated> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Failed, "hush")) })
    }

    fn revoke<'a>(&'a self, _: &'a Revocation, _: Option<u64>) -> StoreFuture<'a, Revoked> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Failed, "hush")) })
    }

    fn promises(&self) -> StoreFuture<'_, Promises> {
        Box::pin(async { Ok(Promises::NONE) })
    }
}

#[tokio::test]
async fn trouble_is_503_and_says_no_more() {
    let service = StoreService::new(Arc::new(OddStore));
    for method in [Method::GET, Method::POST] {
        let (response, body) = ask(&service, request(method, "/token?client_id=a", PAIR)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(!body.to_string().contains("hush"));
    }
    let (_, body) = ask(&service, request(Method::GET, "/token?client_id=half", "")).await;
    assert_eq!(body, json!({"data": {"access_token": "a", "refresh_token": null}}));
}
