//! Where the endpoints answer, however they are mounted, and that they answer nowhere else.

use axum::{Router, body::Body};
use fastauth::TokenRouter;
use http::{Request, StatusCode, header::LOCATION};
use http_body_util::Full;
use tower::ServiceExt;

use crate::{
    app::{Endpoints, MASTER, app, layer, send, serve, settings},
    support::log,
};

const ENDPOINTS: [&str; 8] = [
    "/token/new",
    "/token/refresh",
    "/token",
    "/token/revoke",
    "/token/introspect",
    "/ticket",
    "/healthz",
    "/openapi.json",
];

/// Every path of up to four segments over the words that the endpoints are made of.
fn paths() -> Vec<String> {
    const WORDS: [&str; 11] =
        ["auth", "v1", "token", "new", "refresh", "revoke", "introspect", "ticket", "healthz", "openapi.json", ""];
    let longer = |paths: &Vec<String>| -> Vec<String> {
        paths.iter().flat_map(|path| WORDS.map(|word| format!("{path}/{word}"))).collect()
    };
    let mut all = vec![vec![String::new()]];
    for _ in 0..4 {
        all.push(longer(&all[all.len() - 1]));
    }
    all.into_iter().skip(1).flatten().collect()
}

/// What a request that does nothing shows of a path: `PUT` is no method of any endpoint.
fn probe(path: &str) -> Request<Body> {
    Request::put(path).header("master-token", MASTER).body(Body::empty()).unwrap()
}

fn expected(base: &str, path: &str) -> u16 {
    let known = |path: &str| path.strip_prefix(base).is_some_and(|path| ENDPOINTS.contains(&path));
    match path.strip_suffix('/') {
        _ if known(path) => 405,
        Some(path) if known(path) => 307,
        _ => 404,
    }
}

#[tokio::test]
async fn only_the_paths_of_endpoints_answer() {
    let router = || layer().router();
    let paths = paths();
    for (mounted, base, app) in [
        ("nested", "/auth", app(layer())),
        ("nested elsewhere", "/v1", Router::new().nest_service("/v1", router())),
        ("nested deeper", "/v1/auth", Router::new().nest_service("/v1/auth", router())),
        ("nested twice", "/v1/auth", Router::new().nest("/v1", Router::new().nest_service("/auth", router()))),
        ("nested in a service", "/v1/auth", {
            Router::new().nest_service("/v1", Router::new().nest_service("/auth", router()))
        }),
        ("merged", "/auth", Router::new().merge(router())),
        ("merged with a prefix", "/v1", Router::new().merge(router().prefix("/v1"))),
        ("merged and nested", "/v1/auth", Router::new().nest("/v1", router().into())),
        ("merged without a prefix, and nested", "/auth", Router::new().nest("/auth", router().prefix("").into())),
        ("as the fallback", "/auth", Router::new().fallback_service(router())),
        ("as the fallback, with a prefix", "/v1/auth", Router::new().fallback_service(router().prefix("/v1/auth/"))),
        ("nested, with a prefix", "/v1/auth", Router::new().nest_service("/v1", router().prefix("auth"))),
        ("at every path", "/auth", Router::new().route_service("/{*path}", router())),
    ] {
        for path in &paths {
            let response = send(&app, probe(path)).await;
            assert_eq!(response.status().as_u16(), expected(base, path), "{mounted}: {path}");
        }
    }
}

#[tokio::test]
async fn prefix_decides_without_axum() {
    let bare = |router: TokenRouter| {
        async move |path: &str| {
            let (parts, _) = probe(path).into_parts();
            router.clone().oneshot(Request::from_parts(parts, Full::<bytes::Bytes>::default())).await.unwrap().status()
        }
    };
    let paths = paths();
    let router = || layer().router();
    for (base, router) in [("/auth", router()), ("", router().prefix("/")), ("/v1", router().prefix("/v1"))] {
        let ask = bare(router);
        for path in &paths {
            assert_eq!(ask(path).await.as_u16(), expected(base, path), "below {base:?}: {path}");
        }
    }
}

/// Who mounts it where something strips the prefix without telling is told why nothing is found, and not by every request.
#[tokio::test]
async fn hint_at_a_stripped_prefix_is_logged_once() {
    let router = layer().router();
    log::capture();
    for path in ["/other", "/token/new", "/healthz", "/auth/token/newer"] {
        let request = Request::get(path).body(Full::<bytes::Bytes>::default()).unwrap();
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(log::captured().matches(r#"`.prefix("")`"#).count(), 1);
}

/// `base-path` is of the guard, and changes nothing about where the endpoints are.
#[tokio::test]
async fn base_path_does_not_add_a_second_path() {
    let layer = fastauth::FastAuthLayer::new(settings().base_path("/v1").build().unwrap()).unwrap();
    let app = Router::new().nest_service("/auth", layer.router()).layer(layer);
    for path in paths() {
        assert_eq!(send(&app, probe(&path)).await.status().as_u16(), expected("/auth", &path), "{path}");
    }
}

/// Other spellings are other paths.
#[tokio::test]
async fn other_spellings_are_not_found() {
    let app = app(layer());
    for path in [
        "/auth/token/%6eew",
        "/auth/%74oken/new",
        "/auth/token%2fnew",
        "/auth/Token/new",
        "/auth/token/new;x=1",
        "/auth/./token/new",
        "/auth/x/../token/new",
        "/auth\\token\\new",
        "/auth/token/new//",
        "/auth//token/new/",
        "/auth/token/new/.",
        "/auth/token/new%2f",
    ] {
        assert_eq!(send(&app, probe(path)).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

/// As `fastauth-api` does: the same request, one slash less. It holds behind any proxy, since it names no more than that.
#[tokio::test]
async fn trailing_slash_is_redirected() {
    let response = send(&app(layer()), probe("/auth/token/new/?client_id=a%20b")).await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()[LOCATION], "../new?client_id=a%20b");
    let response = send(&app(layer()), probe("/auth/openapi.json/")).await;
    assert_eq!(response.headers()[LOCATION], "../openapi.json");

    for router in [app(layer()), Router::new().merge(layer().router())] {
        let server = Endpoints::at(serve(router).await);
        let by_get = server.send("GET", "/auth/token/new/?client_id=c", &[("master-token", MASTER)], "").await;
        assert_eq!((by_get.status, &by_get.json()["data"]["client_id"]), (200, &"c".into()));
        let by_post = server.post_as_master("/auth/token/new/", "client_id=d").await;
        assert_eq!((by_post.status, &by_post.json()["data"]["client_id"]), (200, &"d".into()));
        assert_eq!(server.send("GET", "/auth/healthz/", &[], "").await.status, 200);
    }
}
