//! The example `axum` with a page to try it in a browser: `cargo run -p example-demo -- [--config PATH] [--listen ADDR]`.
//!
//! At its start it prints a link that logs a browser in. `/docs/` is Swagger UI over `/openapi.json`, the application's description, to
//! which the layer adds what each path requires and the token endpoints.

use std::{process::ExitCode, time::Duration};

use axum::{
    Json, Router,
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    routing::{any, get},
};
use fastauth::{FastAuthLayer, config::TokensPerClient};
use serde::Serialize;
use serde_json::json;
use tower_http::cors::CorsLayer;
use utoipa::{Modify, OpenApi, ToSchema};

mod explain;
mod link;
mod page;
mod problem;
mod sessions;
#[path = "../../support/mod.rs"]
mod support;
mod tickets;

use link::Links;
use support::{
    Example, Stopping,
    echo::{echo, guarded_echo},
};

fn app(auth: FastAuthLayer, stopping: Stopping, url: &str) -> Router {
    let mut description = Description::openapi();
    auth.openapi().endpoints("/auth").modify(&mut description);
    let links = Links::new(url, auth.issuer());
    links.print_first();
    let origins = auth.allowed_origins();
    let app = Router::new()
        .route("/health", get(health))
        .route("/access/health", get(access_health))
        .route("/master/health", get(master_health))
        .route("/ws", any(echo))
        .route("/access/ws", any(guarded_echo))
        .route("/master/ws", any(echo))
        .with_state(stopping.clone())
        .route("/openapi.json", get(async move || Json(description)))
        .route("/demo/explain", get(explain::explain).with_state(auth.clone()))
        .nest_service("/auth", auth.router())
        .merge(link::router(links))
        .merge(sessions::router(auth.issuer()))
        .merge(tickets::router(stopping))
        .merge(page::router())
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))))
        // After the routes: one that is added after the layer is not guarded.
        .layer(auth);
    // And outside of the guard: it answers preflights, and lets the pages of the list read refusals.
    if origins.is_empty() { app } else { app.layer(cors(origins)) }
}

/// Lets pages of these origins call this server, with the cookie.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("access-token")])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE])
}

#[derive(OpenApi)]
#[openapi(
    info(title = "FastAuth demo", version = "1.0", description = INTRODUCTION),
    paths(
        health, access_health, master_health, explain::explain, link::print, link::log_in, sessions::list, sessions::revoke,
        sessions::log_out_everywhere,
    ),
    tags((name = "demo", description = "The demo's own paths")),
)]
struct Description;

const INTRODUCTION: &str = "\
An application whose paths are guarded by FastAuth.

To call what requires a token, choose **Authorize** and paste one: an access token from the [demo page](/), or the master token from \
`.env`, where the demo was started.";

#[derive(Serialize, ToSchema)]
struct Health {
    #[schema(example = "healthy")]
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "access")]
    service: Option<&'static str>,
}

/// Public health check
#[utoipa::path(get, path = "/health", tag = "demo", responses((status = 200, description = "Healthy", body = Health)))]
async fn health() -> Json<Health> {
    healthy(None)
}

/// Health check that requires an access token
#[utoipa::path(get, path = "/access/health", tag = "demo", responses((status = 200, description = "Healthy", body = Health)))]
async fn access_health() -> Json<Health> {
    healthy(Some("access"))
}

/// Health check that requires the master token
#[utoipa::path(get, path = "/master/health", tag = "demo", responses((status = 200, description = "Healthy", body = Health)))]
async fn master_health() -> Json<Health> {
    healthy(Some("master"))
}

fn healthy(service: Option<&'static str>) -> Json<Health> {
    Json(Health { status: "healthy", service })
}

#[tokio::main]
async fn main() -> ExitCode {
    Example {
        name: "example-demo",
        // Short enough to watch a token expire.
        defaults: &[
            ("access-ttl", |settings| settings.access_ttl(Duration::from_secs(2 * 60))),
            ("refresh-ttl", |settings| settings.refresh_ttl(Duration::from_secs(60 * 60))),
            ("tokens-per-client", |settings| settings.tokens_per_client(TokensPerClient::Many)),
        ],
        app,
    }
    .run()
    .await
}
