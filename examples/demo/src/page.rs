//! The pages and their files, which are plain: nothing has to be built between them and the browser.

use std::sync::Arc;

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa_swagger_ui::Config;

/// Everything comes from this server, WebSockets included, and no page may frame these.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; \
     frame-ancestors 'none'; base-uri 'none'",
);
/// The same for Swagger UI, which sets styles in its markup, and has its pictures there.
const SWAGGER_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The files by their paths, each with its type.
const FILES: [(&str, &str, &str); 11] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/demo/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/demo/style.css", CSS, include_str!("page/style.css")),
    ("/demo/main.js", SCRIPT, include_str!("page/main.js")),
    ("/demo/calls.js", SCRIPT, include_str!("page/calls.js")),
    ("/demo/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/demo/paths.js", SCRIPT, include_str!("page/paths.js")),
    ("/demo/session.js", SCRIPT, include_str!("page/session.js")),
    ("/demo/socket.js", SCRIPT, include_str!("page/socket.js")),
    ("/demo/docs.css", CSS, include_str!("page/docs.css")),
    ("/demo/docs.js", SCRIPT, include_str!("page/docs.js")),
];

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let files = FILES.into_iter().fold(Router::new(), |router, (path, content_type, text)| {
        router.route(path, get(async move || with_headers(text, content_type, POLICY)))
    });
    files
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async || with_headers(include_str!("page/docs.html"), HTML, SWAGGER_POLICY)))
        .route("/docs/{file}", get(swagger_file))
}

/// Returns a file of Swagger UI itself.
async fn swagger_file(Path(name): Path<String>) -> Response {
    match utoipa_swagger_ui::serve(&name, Arc::new(Config::default())) {
        Ok(Some(file)) => with_headers(file.bytes.into_owned(), &file.content_type, SWAGGER_POLICY),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn with_headers(body: impl IntoResponse, content_type: &str, policy: HeaderValue) -> Response {
    let mut response = body.into_response();
    let headers: [(HeaderName, HeaderValue); 4] = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The next start may have other files.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    response.headers_mut().extend(headers);
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}
