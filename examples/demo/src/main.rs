//! The example `axum` with pages to try it in a browser: `cargo run --release -p example-demo -- [--config PATH] [--listen ADDR]`.
//!
//! `/` is a page that issues, refreshes and revokes tokens. `/docs` is Swagger UI over `/openapi.json`, the application's
//! description, to which the layer adds what each path needs and the endpoints for tokens.

use std::process::ExitCode;

use axum::{
    Json, Router,
    http::StatusCode,
    response::Html,
    routing::{any, get},
};
use fastauth::FastAuthLayer;
use serde::Serialize;
use serde_json::json;
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

#[path = "../../support/mod.rs"]
mod support;

use support::{
    Example, Stopping,
    echo::{echo, guarded_echo},
};

fn app(auth: FastAuthLayer, stopping: Stopping) -> Router {
    let mut description = Description::openapi();
    auth.openapi().endpoints("/auth").modify(&mut description);
    // Without "none", the page sends the description to a validator on the internet.
    let docs =
        SwaggerUi::new("/docs").url("/openapi.json", description).config(Config::default().validator_url("none"));
    Router::new()
        .route("/", get(async || Html(include_str!("demo.html"))))
        .route("/health", get(health))
        .route("/access/health", get(access_health))
        .route("/master/health", get(master_health))
        .route("/ws", any(echo))
        .route("/access/ws", any(guarded_echo))
        .route("/master/ws", any(echo))
        .nest_service("/auth", auth.router())
        .merge(docs)
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))))
        .with_state(stopping)
        // Last: a route that is added after the layer is not guarded.
        .layer(auth)
}

#[derive(OpenApi)]
#[openapi(info(title = "FastAuth's example"), paths(health, access_health, master_health))]
struct Description;

#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'static str>,
}

/// Open to all
#[utoipa::path(get, path = "/health", responses((status = 200, description = "It is well", body = Health)))]
async fn health() -> Json<Health> {
    healthy(None)
}

/// For holders of an access token
#[utoipa::path(get, path = "/access/health", responses((status = 200, description = "It is well", body = Health)))]
async fn access_health() -> Json<Health> {
    healthy(Some("access"))
}

/// For holders of the master token
#[utoipa::path(get, path = "/master/health", responses((status = 200, description = "It is well", body = Health)))]
async fn master_health() -> Json<Health> {
    healthy(Some("master"))
}

fn healthy(service: Option<&'static str>) -> Json<Health> {
    Json(Health { status: "healthy", service })
}

#[tokio::main]
async fn main() -> ExitCode {
    Example { name: "example-demo", pages: &[("/", "All of them"), ("/docs", "Swagger UI")], app }.run().await
}
