//! The cookie of the refresh token, which is nobody's business but the router's.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, header::COOKIE},
    middleware::{Next, from_fn},
    routing::any,
};
use fastauth::{FastAuthLayer, config::RefreshTransport};
use http::StatusCode;

use crate::app::{MASTER, access_token, body, send, settings};

const NAME: &str = "__Host-fastauth-refresh";

/// The lines of `Cookie` as a handler sees them.
async fn seen(headers: HeaderMap) -> Vec<u8> {
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    lines.join(&b'|')
}

fn layer() -> FastAuthLayer {
    FastAuthLayer::new(settings().refresh_transport(RefreshTransport::Cookie).build().unwrap()).unwrap()
}

fn request(method: &str, path: &str, headers: &[(&str, &[u8])]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn the_application_does_not_see_it() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let app = Router::new()
        .route("/open", any(seen))
        .route("/access/page", any(seen))
        .route("/master/page", any(seen))
        .layer(layer);
    let ours = format!("{NAME}=x.y.z");
    for (lines, left) in [
        (vec![ours.clone()], ""),
        (vec![format!("{ours};")], ""),
        (vec![format!("a=1; {ours}; b=2")], "a=1; b=2"),
        (vec![format!("{ours}; b=\"2 3\";c")], "b=\"2 3\";c"),
        (vec![format!("a=1;{ours}")], "a=1"),
        (vec![format!("a=1;  {ours} ;b=2")], "a=1;b=2"),
        (vec![format!("a=1; {ours}; {ours}2; b=2")], "a=1; b=2"),
        (vec![format!("{NAME} = x")], ""),
        (vec![NAME.to_owned()], NAME),
        (vec!["a=1".to_owned(), ours.clone(), format!("{ours}; b=2")], "a=1|b=2"),
        (vec![format!("x{ours}; {NAME}-2=x")], "x__Host-fastauth-refresh=x.y.z; __Host-fastauth-refresh-2=x"),
        (vec!["a=1;  b;;c ".to_owned(), "d".to_owned()], "a=1;  b;;c |d"),
    ] {
        for path in ["/open", "/access/page", "/master/page"] {
            let mut headers: Vec<_> = lines.iter().map(|line| ("cookie", line.as_bytes())).collect();
            headers.push(("access-token", token.expose().as_bytes()));
            headers.push(("master-token", MASTER.as_bytes()));
            let response = send(&app, request("GET", path, &headers)).await;
            assert_eq!(response.status(), 200, "{path}");
            let found = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            // A line has no space at its end on the wire.
            let found = String::from_utf8(found.to_vec()).unwrap();
            assert_eq!(found, left, "{path} {lines:?}");
        }
    }
    let odd = [("cookie", &b"a=\xff; __Host-fastauth-refresh=x; b=\xfe"[..])];
    let response = send(&app, request("GET", "/open", &odd)).await;
    assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), &b"a=\xff; b=\xfe"[..]);
}

/// The router takes it where the layer is around it, once or twice, and where none is.
#[tokio::test]
async fn the_router_takes_it() {
    let layer = layer();
    let router = || Router::new().nest_service("/auth", layer.router());
    let spied: Arc<Mutex<Vec<bool>>> = Arc::default();
    let spy = {
        let spied = Arc::clone(&spied);
        from_fn(move |request: Request, next: Next| {
            spied.lock().unwrap().push(request.headers().contains_key(COOKIE));
            next.run(request)
        })
    };
    for app in [
        router(),
        router().layer(layer.clone()),
        router().layer(layer.clone()).layer(layer.clone()),
        router().layer(spy).layer(layer.clone()),
    ] {
        let issued = layer.issuer().issue("alice").await.unwrap().tokens;
        let refresh = |token: &str| {
            let cookie = format!("a=1; {NAME}={token}");
            request("POST", "/auth/token/refresh", &[("cookie", cookie.as_bytes())])
        };
        let response = send(&app, refresh(issued.refresh_token.expose())).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()["set-cookie"].to_str().unwrap().starts_with(NAME));
        assert!(body(response).await["data"]["access_token"].is_string());
        assert_eq!(send(&app, refresh("x.y.z")).await.status(), StatusCode::UNAUTHORIZED);
        // Of two, nobody knows who set which.
        let twice = format!("{NAME}=x; {NAME}=x");
        let response = send(&app, request("POST", "/auth/token/refresh", &[("cookie", twice.as_bytes())])).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        // None of it.
        let none = send(&app, request("POST", "/auth/token/refresh", &[("cookie", b"a=1")])).await;
        assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
        assert!(none.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer realm="));
        assert_eq!(body(none).await["reason"], "not_logged_in");
    }
    assert_eq!(*spied.lock().unwrap(), [true, true, false, true]);
}
