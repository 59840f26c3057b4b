//! The REST store as others see it.

use std::sync::Arc;

use fastauth::{
    Secret,
    store::{
        CurrentTokens, MemoryStore, Promises, Revocation, Revoked, Rotated, Rotation, SaveOptions, Saved, StoreError,
        StoreErrorKind, StoreFuture, StoreService, StoredPair, TokenRecord, TokenStore,
    },
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::stores::{OnePair, held};

const BEARER: &str = "hush-by-the-bearer-of-this";

const PAIR: &str = r#"{"data":{"access_token":"access-1","refresh_token":"refresh-1"}}"#;

async fn ask(service: &StoreService, request: Request<String>) -> (Response<()>, Value) {
    let response = service.clone().oneshot(request.map(Full::<bytes::Bytes>::from)).await.unwrap();
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
    let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    (Response::from_parts(parts, ()), body)
}

pub(super) fn request(method: Method, target: &str, body: &str) -> Request<String> {
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

pub(super) fn memory() -> StoreService {
    StoreService::new(Arc::new(MemoryStore::new()))
}

#[tokio::test]
async fn a_pair_goes_in_and_comes_out() {
    let service = memory();
    for target in ["/token?client_id=a", "/token?x=1&client_id=c&y"] {
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
    for path in ["/", "/tokens", "/token/", "/token/x", "/x/token", "/%74oken", "/atoken"] {
        assert_eq!(status(&service, Method::GET, &format!("{path}?client_id=a"), "").await, 404, "{path}");
    }
    assert_eq!(status(&service, Method::GET, "/token?client_id=a", "").await, 404, "nothing was saved");
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let service = memory();
    for (service, allow) in [
        (service, "GET, HEAD, POST, DELETE, OPTIONS"),
        (StoreService::new(Arc::new(OddStore(Promises::NONE))), "GET, HEAD, POST, OPTIONS"),
    ] {
        for method in [Method::PUT, Method::PATCH, Method::TRACE] {
            let (response, _) = ask(&service, request(method, "/token?client_id=a", PAIR)).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(response.headers()[header::ALLOW], allow);
        }
        let response = bare(&service, request(Method::OPTIONS, "/token", "")).await;
        assert_eq!(
            (response.status(), &response.headers()[header::ALLOW]),
            (StatusCode::NO_CONTENT, &allow.parse().unwrap())
        );
    }
}

/// An answer without a body.
async fn bare(service: &StoreService, request: Request<String>) -> Response<()> {
    let response = service.clone().oneshot(request.map(Full::<bytes::Bytes>::from)).await.unwrap();
    let (parts, body) = response.into_parts();
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    assert!(!parts.headers.contains_key(header::CONTENT_TYPE) || parts.headers.contains_key(header::CONTENT_LENGTH));
    Response::from_parts(parts, ())
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let service = memory();
    assert_eq!(status(&service, Method::POST, "/token?client_id=a", PAIR).await, 200);
    for target in ["/token?client_id=a", "/v2/clients/a/token", "/v2/clients", "/v2/openapi.json", "/token?client_id=b"]
    {
        let get =
            service.clone().oneshot(request(Method::GET, target, "").map(Full::<bytes::Bytes>::from)).await.unwrap();
        let head = bare(&service, request(Method::HEAD, target, "")).await;
        assert_eq!(head.status(), get.status(), "{target}");
        let length = get.headers().clone();
        let body = get.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(head.headers()[header::CONTENT_LENGTH], body.len().to_string(), "{target}");
        assert_eq!(head.headers().get(header::ETAG), length.get(header::ETAG), "{target}");
    }
}

/// A store that promises less speaks the first version, as if there were no other.
#[tokio::test]
async fn only_a_store_that_promises_all_announces_the_second_version() {
    for promises in [
        Promises::NONE,
        Promises { atomic_rotation: false, ..Promises::ALL },
        Promises { many_sessions: false, ..Promises::ALL },
        Promises { revoke_all: false, ..Promises::ALL },
        Promises { list: false, ..Promises::ALL },
        Promises { tickets: false, ..Promises::ALL },
        Promises { access_grace: false, ..Promises::ALL },
    ] {
        let service = StoreService::new(Arc::new(OddStore(promises)));
        for (method, target, status) in [
            (Method::GET, "/token?client_id=half", 200),
            (Method::DELETE, "/token?client_id=half", 405),
            (Method::GET, "/v2/clients/half/token", 404),
            (Method::GET, "/v2/openapi.json", 404),
            (Method::POST, "/v2/revoke-all", 404),
        ] {
            let response =
                service.clone().oneshot(request(method, target, "{}").map(Full::<bytes::Bytes>::from)).await.unwrap();
            assert_eq!(response.status(), status, "{target}");
            assert!(!response.headers().contains_key("fastauth-store"), "{target}");
        }
    }
    let (response, _) = ask(&memory(), request(Method::GET, "/token?client_id=a", "")).await;
    assert_eq!(response.headers()["fastauth-store"], "v=2; feed=v2/changes");
}

/// Answers of the second version: status, `code` of a refusal, body.
async fn ask_v2(service: &StoreService, request: Request<String>) -> (u16, String, Value) {
    let response = service.clone().oneshot(request.map(Full::<bytes::Bytes>::from)).await.unwrap();
    let (parts, body) = response.into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
    let status = parts.status.as_u16();
    let code = body["code"].as_str().unwrap_or_default().to_owned();
    if status >= 400 {
        assert_eq!(parts.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:fastauth:store:{code}"));
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    }
    (status, code, body)
}

#[tokio::test]
async fn refusals_of_the_second_version_are_problems() {
    let service = memory();
    let record = r#"{"access_token":"a","refresh_token":"r"}"#;
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(64 * 1024));
    for (method, target, body, expected) in [
        (Method::GET, "/v2/clients/a/token", "", (404, "unknown_client")),
        (Method::GET, "/v2/clients/%ff/token", "", (400, "bad_request")),
        (Method::GET, "/v2/clients//token", "", (400, "bad_request")),
        (Method::GET, "/v2/clients/-/token", "", (400, "bad_request")),
        (Method::GET, "/v2/clients/a/token?client_id=b", "", (400, "bad_request")),
        (Method::GET, "/v2/clients/-/token?client_id=a&session=x&session=y", "", (400, "bad_request")),
        (Method::PUT, "/v2/clients/a/token", record, (405, "method_not_allowed")),
        (Method::GET, "/v2/clients/a/rotate", "", (405, "method_not_allowed")),
        (Method::GET, "/v2/revoke-all", "", (405, "method_not_allowed")),
        (Method::POST, "/v2/clients", "", (405, "method_not_allowed")),
        (Method::POST, "/v2/clients/a/token", &long, (413, "too_large")),
        (Method::POST, "/v2/clients/a/token", "{}", (422, "invalid_body")),
        (
            Method::POST,
            "/v2/clients/a/token",
            r#"{"access_token":"a","refresh_token":"r","keep_others":1}"#,
            (422, "invalid_body"),
        ),
        (Method::POST, "/v2/clients/a/rotate", record, (422, "invalid_body")),
        (Method::POST, "/v2/revoke-all", "", (422, "invalid_body")),
        (Method::POST, "/v2/revoke-all", "[]", (422, "invalid_body")),
        (Method::GET, "/v2/clients?status=dead", "", (400, "bad_request")),
        (Method::GET, "/v2/clients?limit=0", "", (400, "bad_request")),
        (Method::GET, "/v2/clients?limit=-1", "", (400, "bad_request")),
        (Method::GET, "/v2/clients?cursor=x", "", (400, "bad_request")),
        (Method::GET, "/v2/", "", (404, "not_found")),
        (Method::GET, "/v2/nothing", "", (404, "not_found")),
        (Method::POST, "/v2/clients/a/token/more", record, (404, "not_found")),
    ] {
        let (status, code, _) = ask_v2(&service, request(method.clone(), target, body)).await;
        assert_eq!((status, code.as_str()), expected, "{method} {target}");
    }
    for target in ["/v2/revoke-all", "/v2/clients/a/token", "/v2/clients/a/rotate"] {
        let mut request = request(Method::POST, target, record);
        request.headers_mut().remove(header::CONTENT_TYPE);
        assert_eq!(ask_v2(&service, request).await.0, 415, "{target}: a page in a browser can send this unasked");
    }
    assert_eq!(ask_v2(&service, request(Method::GET, "/v2/clients/a/token", "")).await.0, 404, "nothing was saved");
    let guarded = memory().bearer(Secret::from(BEARER)).unwrap();
    for (method, target) in
        [(Method::GET, "/v2/openapi.json"), (Method::OPTIONS, "/v2/clients"), (Method::POST, "/v2/revoke-all")]
    {
        let (status, code, _) = ask_v2(&guarded, request(method, target, "{}")).await;
        assert_eq!((status, code.as_str()), (401, "unauthorized"), "{target}");
    }
}

#[tokio::test]
async fn a_page_is_short_though_its_ids_are_long() {
    let store = MemoryStore::new();
    let id = |n: usize| format!("{n:03}{}", "\u{1}".repeat(2000));
    for n in 0..100 {
        store.put(&id(n), n).await.unwrap();
    }
    let service = StoreService::new(Arc::new(store));
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (status, _, page) =
            ask_v2(&service, request(Method::GET, &format!("/v2/clients?limit=1000{cursor}"), "")).await;
        assert!(status == 200 && page.to_string().len() < 1024 * 1024, "{}", page.to_string().len());
        found.extend(
            page["sessions"].as_array().unwrap().iter().map(|entry| entry["client_id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(pages > 1);
    assert_eq!(found, (0..100).map(id).collect::<Vec<_>>());
}

/// Each path of the description is there, with the methods that it has, and no other is.
#[tokio::test]
async fn the_description_is_of_this_service() {
    let service = memory();
    let (status, _, description) = ask_v2(&service, request(Method::GET, "/v2/openapi.json", "")).await;
    assert_eq!((status, &description["openapi"]), (200, &json!("3.1.0")));
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 16);
    for (path, operations) in paths {
        let target = path.replace("{id}", "a").replace("{session}", "f");
        let response = bare(&service, request(Method::OPTIONS, &target, "")).await;
        let allow = response.headers()[header::ALLOW].to_str().unwrap().to_owned();
        let mut allowed: Vec<_> = allow.split(", ").map(str::to_ascii_lowercase).collect();
        let mut described: Vec<_> =
            operations.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect();
        allowed.sort();
        described.sort();
        assert_eq!(allowed, described, "{path}");
    }
}

#[tokio::test]
async fn only_the_bearer_gets_in() {
    let service = memory().bearer(Secret::from(BEARER)).unwrap();
    assert!(!format!("{service:?}").contains("hush"));
    let with = |values: &[&str]| {
        let mut request = request(Method::POST, "/token?client_id=a", PAIR);
        for value in values {
            request.headers_mut().append(header::AUTHORIZATION, value.parse().unwrap());
        }
        request
    };
    for values in [[format!("Bearer {BEARER}")], [format!("bearer {BEARER}")], [format!("BEARER  {BEARER}")]] {
        let mut request = with(&[&values[0]]);
        assert_eq!(ask(&service, request).await.0.status(), StatusCode::OK, "{values:?}");
        // By the bearer it is known who asks, whatever name the store is asked by.
        request = with(&[&values[0]]);
        request.headers_mut().insert(header::HOST, "db.example".parse().unwrap());
        assert_eq!(ask(&service, request).await.0.status(), StatusCode::OK, "{values:?}");
    }
    let (good, short, long) =
        (format!("Bearer {BEARER}"), format!("Bearer {}", &BEARER[1..]), format!("Bearer {BEARER}h"));
    let (basic, upper) = (format!("Basic {BEARER}"), format!("Bearer {}", BEARER.to_uppercase()));
    for values in [
        &[][..],
        &[""],
        &[BEARER],
        &["Bearer"],
        &["Bearer "],
        &[&short],
        &[&long],
        &[&upper],
        &[&basic],
        &[&good, &good],
        &["Bearer x", &good],
    ] {
        let (response, _) = ask(&service, with(values)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{values:?}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}

#[tokio::test]
async fn a_bearer_that_could_be_guessed_is_refused() {
    for weak in ["", "x", "hush", "hush-hush-hush", "hhhhhhhhhhhhhhhhhhhhhhhh"] {
        let error = memory().bearer(Secret::from(weak)).expect_err(weak);
        assert!(error.to_string().contains("fastauth keygen") && !error.to_string().contains("hush"), "{error}");
    }
}

/// Of each path of up to three segments over all words that any path has.
#[tokio::test]
async fn each_call_has_one_path() {
    const WORDS: [&str; 14] = [
        "token",
        "v2",
        "clients",
        "-",
        "a",
        "rotate",
        "sessions",
        "revoke-all",
        "tickets",
        "openapi.json",
        "auth",
        "mydb",
        "V2",
        "",
    ];
    const THERE: [&str; 5] = ["/token", "/v2/clients", "/v2/revoke-all", "/v2/tickets", "/v2/openapi.json"];
    let service = memory();
    let deeper = |paths: &[String]| -> Vec<String> {
        paths.iter().flat_map(|path| WORDS.map(|word| format!("{path}/{word}"))).collect()
    };
    let one = deeper(&[String::new()]);
    let two = deeper(&one);
    let mut found = Vec::new();
    for path in [one, two.clone(), deeper(&two)].concat() {
        let request = request(Method::OPTIONS, &path, "").map(Full::<bytes::Bytes>::from);
        match service.clone().oneshot(request).await.unwrap().status() {
            StatusCode::NOT_FOUND => {}
            _ => found.push(path),
        }
    }
    found.sort_unstable();
    let mut there = THERE;
    there.sort_unstable();
    assert_eq!(found, there);
}

/// A page of another site may send requests to a name of its own that leads to this machine.
#[tokio::test]
async fn pages_and_other_names_are_refused_where_there_is_no_bearer() {
    let store = MemoryStore::new();
    store.put("a", 1).await.unwrap();
    let service = StoreService::new(Arc::new(store));
    let with = |method: Method, target: &str, headers: &[(&'static str, &str)]| {
        let mut request = request(method, target, "{}");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    };
    for headers in [
        &[("host", "evil.example")][..],
        &[("host", "evil.example:6789")],
        &[("host", "127.0.0.1.evil.example:6789")],
        &[("host", "0.0.0.0:6789")],
        &[("host", "10.0.0.7:6789")],
        &[("host", "")],
        &[("host", "localhost:6789"), ("host", "evil.example")],
        &[("host", "localhost:6789"), ("origin", "http://evil.example")],
        &[("host", "localhost:6789"), ("origin", "null")],
        &[("host", "localhost:6789"), ("origin", "http://localhost:6789")],
        &[("host", "localhost:6789"), ("sec-fetch-site", "cross-site")],
        &[("host", "localhost:6789"), ("sec-fetch-site", "none")],
        &[("host", "127.0.0.1:6789"), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")],
    ] {
        let (response, _) = ask(&service, with(Method::GET, "/token?client_id=a", headers)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{headers:?}");
        let (status, code, _) = ask_v2(&service, with(Method::POST, "/v2/revoke-all", headers)).await;
        assert_eq!((status, code.as_str()), (403, "forbidden"), "{headers:?}");
    }
    let absolute = with(Method::GET, "http://evil.example/token?client_id=a", &[]);
    assert_eq!(ask(&service, absolute).await.0.status(), StatusCode::FORBIDDEN);
    // Programs, of which some say how they fetch.
    for headers in [
        &[][..],
        &[("host", "localhost:6789")],
        &[("host", "LOCALHOST")],
        &[("host", "127.0.0.1:6789"), ("user-agent", "python-requests/2.32.3"), ("accept", "*/*")],
        &[("host", "127.8.9.10")],
        &[("host", "[::1]:6789")],
        &[("host", "localhost:6789"), ("sec-fetch-mode", "cors"), ("user-agent", "node")],
    ] {
        let (response, _) = ask(&service, with(Method::GET, "/token?client_id=a", headers)).await;
        assert_eq!(response.status(), StatusCode::OK, "{headers:?}");
    }
    let service = service.guarded_in_front();
    let (response, _) = ask(&service, with(Method::GET, "/token?client_id=a", &[("host", "db.example")])).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// Fails, and holds halves of pairs.
#[derive(Debug)]
struct OddStore(Promises);

impl TokenStore for OddStore {
    fn load<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> StoreFuture<'a, Option<CurrentTokens>> {
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
        Box::pin(async { Ok(self.0) })
    }
}

#[tokio::test]
async fn trouble_is_503_and_says_no_more() {
    let service = StoreService::new(Arc::new(OddStore(Promises::NONE)));
    for method in [Method::GET, Method::POST] {
        let (response, body) = ask(&service, request(method, "/token?client_id=a", PAIR)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(!body.to_string().contains("hush"));
    }
    let (_, body) = ask(&service, request(Method::GET, "/token?client_id=half", "")).await;
    assert_eq!(body, json!({"data": {"access_token": "a", "refresh_token": null}}));
}

#[tokio::test]
async fn trouble_is_a_problem_in_the_second_version() {
    let service = StoreService::new(Arc::new(OddStore(Promises::ALL)));
    let rotation =
        format!(r#"{{"refresh_sha256":"{}","new":{{"access_token":"a","refresh_token":"r"}}}}"#, "0".repeat(64));
    for (method, target, body, expected) in [
        (Method::GET, "/v2/clients/a/token", "", (503, "unavailable")),
        (Method::POST, "/v2/clients/a/token", r#"{"access_token":"a","refresh_token":"r"}"#, (503, "unavailable")),
        (Method::POST, "/v2/clients/a/rotate", &rotation, (503, "unavailable")),
        (Method::DELETE, "/v2/clients/a/token", "", (503, "unavailable")),
        (Method::DELETE, "/v2/clients/a/sessions/f", "", (503, "unavailable")),
        (Method::POST, "/v2/revoke-all", "{}", (503, "unavailable")),
        (Method::GET, "/v2/clients", "", (501, "unsupported")),
    ] {
        let (status, code, body) = ask_v2(&service, request(method, target, body)).await;
        assert_eq!((status, code.as_str()), expected, "{target}");
        assert!(!body.to_string().contains("hush"));
    }
}
