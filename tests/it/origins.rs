//! Pages of other origins: the cookie, and CORS outside of the guard.

use axum::{Router, body::Body, routing::get};
use fastauth::{
    FastAuthLayer,
    config::{CookieSameSite, RefreshTransport},
};
use http::{
    HeaderMap, HeaderName, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, SET_COOKIE},
};
use tower_http::cors::CorsLayer;

use crate::app::{body, send, settings};

const PAGE: &str = "https://app.example";

/// As the guide has it.
fn app(auth: &FastAuthLayer) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(auth.allowed_origins())
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("access-token")]);
    Router::new()
        .route("/access/report", get(async || "guarded"))
        .nest_service("/auth", auth.router())
        .layer(auth.clone())
        .layer(cors)
}

fn layer(same_site: CookieSameSite) -> FastAuthLayer {
    let settings = settings().refresh_transport(RefreshTransport::Cookie).cookie_same_site(same_site);
    FastAuthLayer::new(settings.allowed_origins([PAGE]).build().unwrap()).unwrap()
}

async fn ask(app: &Router, method: &str, path: &str, lines: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "api.example");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    send(app, request.body(Body::empty()).unwrap()).await
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn cookie_serves_the_pages_of_the_list_and_the_own() {
    let auth = layer(CookieSameSite::None);
    let app = app(&auth);
    for (name, lines, status) in [
        ("of the list", vec![("origin", PAGE), ("sec-fetch-site", "cross-site")], 200),
        ("of the list, in an older browser", vec![("origin", PAGE)], 200),
        ("own", vec![("origin", "https://api.example"), ("sec-fetch-site", "same-origin")], 200),
        ("no browser", vec![], 200),
        ("another", vec![("origin", "https://x.example"), ("sec-fetch-site", "cross-site")], 403),
        ("another of the same site", vec![("origin", "https://x.app.example"), ("sec-fetch-site", "same-site")], 403),
        ("a sandbox", vec![("origin", "null"), ("sec-fetch-site", "cross-site")], 403),
        ("a form that names no origin", vec![("sec-fetch-site", "cross-site")], 403),
        ("without TLS", vec![("origin", "http://app.example"), ("sec-fetch-site", "cross-site")], 403),
    ] {
        for path in ["/auth/token/refresh", "/auth/token/revoke"] {
            let issued = auth.issuer().issue("alice").await.unwrap();
            let cookie = format!("__Host-fastauth-refresh={}", issued.tokens.refresh_token.expose());
            let mut lines = lines.clone();
            lines.push(("cookie", &cookie));
            let response = ask(&app, "POST", path, &lines).await;
            assert_eq!(response.status(), status, "{name} {path}");
            if status == 403 {
                assert_eq!(body(response).await["reason"], "cross_origin", "{name}");
                assert!(auth.issuer().refresh(issued.tokens.refresh_token.expose()).await.is_ok(), "{name}: no effect");
            }
        }
    }
}

#[tokio::test]
async fn cookie_says_to_which_sites_it_goes() {
    for (same_site, attribute) in
        [(CookieSameSite::Strict, "SameSite=Strict;"), (CookieSameSite::None, "SameSite=None; Partitioned;")]
    {
        let auth = layer(same_site);
        let app = app(&auth);
        let issued = auth.issuer().issue("alice").await.unwrap();
        let cookie = format!("__Host-fastauth-refresh={}", issued.tokens.refresh_token.expose());
        for path in ["/auth/token/refresh", "/auth/token/revoke"] {
            let response = ask(&app, "POST", path, &[("cookie", &cookie)]).await;
            let set = header(response.headers(), SET_COOKIE.as_str());
            assert!(set.contains("; Path=/; Secure; HttpOnly; ") && set.contains(attribute), "{path}: {set}");
        }
    }
}

#[tokio::test]
async fn preflights_are_answered_and_refusals_can_be_read() {
    let app = app(&layer(CookieSameSite::Strict));
    for path in ["/access/report", "/auth/token/refresh", "/auth/ticket"] {
        let asks = [("access-control-request-method", "POST"), ("access-control-request-headers", "access-token")];
        let preflight = ask(&app, "OPTIONS", path, &[[("origin", PAGE)].as_slice(), &asks].concat()).await;
        assert_eq!(preflight.status(), StatusCode::OK, "{path}");
        assert_eq!(header(preflight.headers(), "access-control-allow-origin"), PAGE);
        assert_eq!(header(preflight.headers(), "access-control-allow-credentials"), "true");
        assert!(header(preflight.headers(), "access-control-allow-headers").contains("access-token"));
        let method = if path == "/access/report" { "GET" } else { "POST" };
        let refused = ask(&app, method, path, &[("origin", PAGE), ("sec-fetch-site", "same-site")]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(header(refused.headers(), "access-control-allow-origin"), PAGE, "{path}");
        let elsewhere =
            ask(&app, "OPTIONS", path, &[[("origin", "https://x.example")].as_slice(), &asks].concat()).await;
        assert_eq!(header(elsewhere.headers(), "access-control-allow-origin"), "", "{path}");
    }
}
