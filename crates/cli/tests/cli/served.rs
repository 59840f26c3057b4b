//! Stores that the program serves, and those that it tests.

use super::*;

#[cfg(unix)]
#[tokio::test]
async fn a_served_store_keeps_what_it_acknowledged() {
    let place = Place::new();
    let served = Served::start(&place, None);
    let store = RestStore::new(&served.url, http::HeaderMap::new()).unwrap();
    save(&store, "a b", "1").await.unwrap();
    assert_eq!(held(&store, "a b").await.as_deref(), Some("1"));
    assert_eq!(held(&store, "ab").await, None);
    drop(store);
    assert_eq!(served.stop(), Some(0), "a signal to stop is no fault");

    let mut killed = Served::start(&place, None);
    let store = RestStore::new(&killed.url, http::HeaderMap::new()).unwrap();
    for number in 0..20 {
        save(&store, &format!("c{number}"), &number.to_string()).await.unwrap();
    }
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let served = Served::start(&place, None);
    let store = RestStore::new(&served.url, http::HeaderMap::new()).unwrap();
    for number in 0..20 {
        assert_eq!(held(&store, &format!("c{number}")).await, Some(number.to_string()));
    }
    assert_eq!(held(&store, "a b").await.as_deref(), Some("1"));
    drop(store);
    served.stop();
}

#[cfg(unix)]
#[tokio::test]
async fn a_served_store_can_ask_for_a_bearer_token() {
    let place = Place::new();
    let refusal = place.fails(&["store", "serve", "--listen", "0.0.0.0:0"], 1);
    assert!(refusal.contains("FASTAUTH_STORE_TOKEN"), "{refusal}");
    let served = Served::start(&place, Some("hush-by-the-bearer-of-this"));
    let with = |token: &str| {
        let headers =
            http::HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        RestStore::new(&served.url, headers).unwrap()
    };
    assert!(save(&with("wrong"), "c", "1").await.is_err());
    save(&with("hush-by-the-bearer-of-this"), "c", "1").await.unwrap();
    served.stop();
}

/// Serves an app on a port of the system's choice, for as long as the runtime lives.
async fn serve(app: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// The promises that `store test` says this of.
fn promises(report: &Value, verdict: &str) -> Vec<String> {
    let promises = report["promises"].as_array().unwrap().iter();
    promises
        .filter(|promise| promise["verdict"] == verdict)
        .map(|promise| promise["promise"].as_str().unwrap().to_owned())
        .collect()
}

#[cfg(unix)]
#[test]
fn a_served_store_passes_its_test() {
    let place = Place::new();
    let served = Served::start(&place, Some("hush-by-the-bearer-of-this"));
    let test = |words: &[&str]| {
        let words = [&["store", "test", &served.url], words].concat();
        place.command(&words).env("FASTAUTH_STORE_TOKEN", "hush-by-the-bearer-of-this").output().unwrap()
    };
    let output = test(&[]);
    let lines = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{lines}{}", stderr(&output));
    assert!(lines.ends_with("The store speaks v2: 37 kept, 0 broken, 0 not offered.\n"), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("kept  ") || line.starts_with("The store")), "{lines}");
    assert!(!lines.contains("hush"));
    let report: Value = serde_json::from_slice(&test(&["--json"]).stdout).unwrap();
    assert_eq!((&report["ok"], &report["speaks"]), (&json!(true), &json!("v2")));
    assert_eq!(promises(&report, "kept").len(), 37);
    let refusal = place.fails(&["store", "test", &served.url], 1);
    assert!(refusal.contains("FASTAUTH_STORE_TOKEN ") && refusal.contains("FASTAUTH_STORE_TOKEN_FILE"), "{refusal}");
    let header = "authorization: Bearer hush-by-the-bearer-of-this";
    assert!(place.done(&["store", "test", &served.url, "--header", header]).contains("speaks v2"));
    for words in [&["http://127.0.0.1:1"][..], &["ftp://x"], &["x"], &[&served.url, "--header", "hush"]] {
        assert!(!place.fails(&[&["store", "test"], words].concat(), 1).contains("hush"));
    }
    served.stop();
    // Nothing that the test issued is live any more.
    let store = fastauth::store::SqliteStore::open(place.path().join("tokens.db")).unwrap();
    let live = SessionFilter { status: Some(SessionStatus::Live), ..SessionFilter::default() };
    let page = tokio::runtime::Runtime::new().unwrap().block_on(store.list(&live)).unwrap();
    assert_eq!(page.sessions, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_version_passes_its_test() {
    let (place, rows) = (Place::new(), v1::Rows::default());
    let url = serve(v1::app(rows.clone())).await;
    let lines = place.done(&["store", "test", &url]);
    assert!(lines.ends_with("The store speaks v1: 8 kept, 0 broken, 29 not offered.\n"), "{lines}");
    let is_void = |row: &Value| row["data"]["access_token"] == "revoked" && row["data"]["refresh_token"] == "revoked";
    assert!(rows.lock().unwrap().values().all(is_void), "what cannot be deleted is made worthless");
    assert!(rows.lock().unwrap().len() > 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_a_proxy_that_does_not_reach_it_is_not_tested() {
    let proxy = axum::Router::new().fallback(|| async { axum::http::StatusCode::BAD_GATEWAY });
    let told = Place::new().fails(&["store", "test", &serve(proxy).await], 1);
    assert!(told.contains("a proxy answered 502") && !told.contains("broken"), "{told}");
}

/// Each of these breaks one promise, and it is found out.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_breaks_a_promise_does_not_pass() {
    use axum::{
        Router,
        http::{Method, header},
        middleware::{map_request, map_response},
        response::Response,
    };
    type Request = axum::extract::Request;
    let v1 = || v1::app(v1::Rows::default());
    let v2 = || Router::new().fallback_service(StoreService::new(Arc::new(MemoryStore::new())));
    let target = |mut request: Request, target: String| {
        *request.uri_mut() = target.parse().unwrap();
        request
    };
    let without = |name: header::HeaderName| {
        map_request(move |mut request: Request| {
            request.headers_mut().remove(&name);
            std::future::ready(request)
        })
    };
    for (promise, app) in [
        (
            "a client id is any text, and is kept exactly",
            v1().layer(map_request(move |request: Request| async move {
                let lower = request.uri().to_string().replace("-A", "-a");
                target(request, lower)
            })),
        ),
        (
            "a client id is any text, and is kept exactly",
            v1().layer(map_request(move |request: Request| async move {
                let decoded = request.uri().to_string().replace("%2B", "+");
                target(request, decoded)
            })),
        ),
        (
            "a pair that was written is read back",
            v1().layer(map_request(move |request: Request| async move {
                let other = request
                    .uri()
                    .to_string()
                    .replace("-read-back", if request.method() == Method::POST { "-x" } else { "-y" });
                target(request, other)
            })),
        ),
        (
            "each write gives a greater version, as ETag",
            v2().layer(map_response(|mut response: Response| async {
                response.headers_mut().remove(header::ETAG);
                response
            })),
        ),
        (
            "every answer announces the version",
            v2().layer(map_response(|mut response: Response| async {
                if response.status() == 204 {
                    response.headers_mut().remove("fastauth-store");
                }
                response
            })),
        ),
        (
            "If-Match and If-None-Match: * guard a write: 412, and nothing changes",
            v2().layer(without(header::IF_MATCH)),
        ),
        (
            "a save that arrives twice or late changes nothing: 200 with the version, or 412",
            v2().layer(map_response(|mut response: Response| async {
                if response.status() == 412 {
                    *response.status_mut() = axum::http::StatusCode::OK;
                }
                response
            })),
        ),
        ("If-None-Match: 304 without a body, until the next write", v2().layer(without(header::IF_NONE_MATCH))),
        (
            "the access token before a rotation is known, with its age, until the next one or a revocation",
            v2().layer(map_response(|response: Response| async {
                let (head, body) = response.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let text = String::from_utf8_lossy(&body).replace("previous_access_age_ms", "previous_access_age");
                Response::from_parts(head, axum::body::Body::from(text))
            })),
        ),
        (
            "revoking a client leaves a tombstone: 404, and versions go on",
            v2().layer(map_request(move |request: Request| async move {
                let kept = request.method() == Method::DELETE;
                let other = request.uri().to_string().replace("-tombstone", "-another");
                if kept { target(request, other) } else { request }
            })),
        ),
        (
            "revoking access tokens alone keeps the log-ins: no digest of them, and a retried save brings none back",
            v2().layer(map_request(move |request: Request| async move {
                let whole = request.uri().to_string().replace("-/access-token", "-/token");
                target(request, whole)
            })),
        ),
        (
            "a rotation decided on before a revocation of access tokens is 409 access_revoked, and succeeds with its version",
            v2().layer(map_request(|request: Request| async {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let text = String::from_utf8_lossy(&body).replace("decided_after", "decided");
                Request::from_parts(head, axum::body::Body::from(text))
            })),
        ),
        (
            "a list is filtered",
            v2().layer(map_request(move |request: Request| async move {
                let all = request.uri().to_string().replace("kid=", "k=");
                target(request, all)
            })),
        ),
        (
            "refusals are problem JSON, and 405 says Allow",
            v2().layer(map_response(|mut response: Response| async {
                response.headers_mut().remove(header::ALLOW);
                response
            })),
        ),
    ] {
        let (place, url) = (Place::new(), serve(app).await);
        let output = place.run(&["store", "test", &url, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{promise}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(promises(&report, "broken").contains(&promise.to_owned()), "{promise}: {report:#}");
        assert_eq!(report["ok"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_may_lack_the_revocation_of_access_tokens() {
    let service = StoreService::new(Arc::new(MemoryStore::new()));
    let older = axum::middleware::map_request(|mut request: axum::extract::Request| async {
        *request.uri_mut() = request.uri().to_string().replace("access-token", "unknown").parse().unwrap();
        request
    });
    let url = serve(axum::Router::new().fallback_service(service).layer(older)).await;
    let place = Place::new();
    let report: Value = serde_json::from_str(&place.done(&["store", "test", &url, "--json"])).unwrap();
    let mut lacking = promises(&report, "not-offered");
    lacking.retain(|promise| promise.contains("access tokens"));
    assert_eq!((lacking.len(), &report["ok"]), (2, &json!(true)), "{report:#}");
}
