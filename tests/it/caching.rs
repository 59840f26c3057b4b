//! What caches between a client and the guard may keep.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Redirect},
    routing::get,
};
use fastauth::{FastAuthLayer, SettingsBuilder, store::MemoryStore};
use http::{Request, Response};

use crate::{
    app::{MASTER, access_token, get_request, send, settings},
    support::front::{Front, Mode},
};

fn app(layer: &FastAuthLayer) -> Router {
    let pages = || {
        Router::new()
            .route("/page", get(async || "page"))
            .route("/own/{directives}", get(async |Path(own): Path<String>| ([(CACHE_CONTROL, own)], "its own")))
            .route("/same", get(async || StatusCode::NOT_MODIFIED))
            .route("/away", get(async || Redirect::permanent("/")))
            .route("/fails", get(async || StatusCode::INTERNAL_SERVER_ERROR.into_response()))
    };
    Router::new()
        .merge(pages())
        .nest("/access", pages())
        .nest("/master", pages())
        .nest_service("/auth", layer.router())
        .layer(layer.clone())
}

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn cache_control(response: &Response<Body>) -> Option<&str> {
    let mut values = response.headers().get_all(CACHE_CONTROL).iter();
    let value = values.next().map(|value| value.to_str().unwrap());
    assert!(values.next().is_none(), "it is there once");
    value
}

/// What an application says, and what becomes of it on a guarded path: a time alone is not meant for strangers.
const OWN: [(&str, &str); 11] = [
    ("max-age=5", "max-age=5, private"),
    ("no-cache", "no-cache, private"),
    ("max-age=5, must-revalidate", "max-age=5, must-revalidate, private"),
    ("private=x, max-age=5", "private=x, max-age=5, private"),
    ("publicity", "publicity, private"),
    ("public, max-age=5", "public, max-age=5"),
    ("max-age=5,Public", "max-age=5,Public"),
    ("s-maxage=5", "s-maxage=5"),
    ("max-age=5, S-MaxAge=5", "max-age=5, S-MaxAge=5"),
    ("Private, max-age=5", "Private, max-age=5"),
    ("no-store", "no-store"),
];

const PRIVATE: Option<&str> = Some("private, no-store");

#[tokio::test]
async fn answers_that_needed_a_permit_are_kept_by_nobody() {
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    for layer in [layer(settings()), layer(settings().store(front.client()))] {
        let token = access_token(&layer, "alice").await;
        let app = app(&layer);
        let header = [("access-token", token.expose()), ("master-token", MASTER)];
        // The second time, the token is known.
        for _ in 0..2 {
            for prefix in ["/access", "/master", "//access", "/x/../access", "/%61ccess"] {
                for page in ["/page", "/same", "/away", "/fails", "/none"] {
                    let target = format!("{prefix}{page}");
                    let response = send(&app, get_request(&target, &header)).await;
                    assert_ne!(response.status(), 401, "{target}");
                    assert_eq!(cache_control(&response), PRIVATE, "{target}");
                }
            }
            for (directives, guarded) in OWN {
                for (prefix, expected) in [("/access", guarded), ("/master", guarded), ("", directives)] {
                    let target = format!("{prefix}/own/{}", directives.replace(' ', "%20"));
                    let response = send(&app, get_request(&target, &header)).await;
                    assert_eq!(cache_control(&response), Some(expected), "{target}");
                }
            }
            for target in ["/page", "/same", "/away", "/none"] {
                let response = send(&app, get_request(target, &header)).await;
                assert_eq!(cache_control(&response), None, "{target}");
            }
        }
    }
}

#[tokio::test]
async fn refusals_are_kept_by_nobody() {
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    let layer = layer(settings().store(front.client()));
    let token = access_token(&layer, "alice").await;
    let (app, long) = (app(&layer), format!("/access/{}", "x".repeat(9000)));
    for (status, method, target, header) in [
        (401, "GET", "/access/page", ("x", "")),
        (401, "HEAD", "/access/page", ("x", "")),
        (401, "GET", "/master/page", ("master-token", "wrong")),
        (401, "GET", "/access/page", ("access-token", "x.y.z")),
        (400, "GET", "/access/%zz", ("x", "")),
        (414, "GET", &*long, ("x", "")),
        (200, "POST", "/access/grpc", ("content-type", "application/grpc")),
    ] {
        let request = Request::builder().method(method).uri(target).header(header.0, header.1);
        let response = send(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!((response.status().as_u16(), cache_control(&response)), (status, PRIVATE), "{target}");
    }
    front.becomes(Mode::Page(502));
    let response = send(&app, get_request("/access/page", &[("access-token", token.expose())])).await;
    assert_eq!((response.status().as_u16(), cache_control(&response)), (503, PRIVATE));
}

/// What is let through only because refusals are tried out is to be refused one day, and no cache may answer then.
#[tokio::test]
async fn what_shadow_lets_through_is_kept_by_nobody() {
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    for layer in [layer(settings().shadow(true)), layer(settings().store(front.client()).shadow(true))] {
        let superseded = access_token(&layer, "alice").await;
        access_token(&layer, "alice").await;
        let app = app(&layer);
        for headers in [&[][..], &[("access-token", superseded.expose())]] {
            let response = send(&app, get_request("/access/page", headers)).await;
            assert_eq!((response.status().as_u16(), cache_control(&response)), (200, PRIVATE), "{headers:?}");
        }
        assert_eq!(cache_control(&send(&app, get_request("/page", &[])).await), None);
    }
}

#[tokio::test]
async fn no_answer_about_tokens_is_kept() {
    let layer = layer(settings());
    let app = app(&layer);
    for (status, method, target, headers) in [
        (401, "GET", "/auth/token/new", &[][..]),
        (200, "POST", "/auth/token/new", &[("master-token", MASTER)]),
        (200, "GET", "/auth/token/new?client_id=c", &[("master-token", MASTER)]),
        (422, "GET", "/auth/token/refresh", &[]),
        (401, "GET", "/auth/token/refresh?refresh_token=x", &[]),
        (405, "PUT", "/auth/token/refresh", &[]),
        (405, "GET", "/auth/ticket", &[]),
        (400, "POST", "/auth/token?x=1", &[]),
        (415, "POST", "/auth/token", &[("content-type", "text/plain")]),
        (404, "GET", "/auth/none", &[]),
        (404, "GET", "/auth/", &[]),
        (200, "GET", "/auth/healthz", &[]),
        (200, "GET", "/auth/openapi.json", &[]),
        (200, "HEAD", "/auth/openapi.json", &[]),
    ] {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if status == 415 { Body::from("x") } else { Body::empty() };
        let response = send(&app, request.body(body).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{target}");
        let found = cache_control(&response).unwrap_or_default();
        assert!(found.contains("no-store"), "{method} {target}: {found}");
    }
}
