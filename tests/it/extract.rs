//! The permit as an axum extractor.

use axum::{Router, routing::get};
use fastauth::Permit;
use http::StatusCode;

use crate::app::{MASTER, access_token, get_request, layer, send};

async fn client(permit: Permit) -> String {
    permit.client_id().unwrap_or("the operator").to_owned()
}

async fn client_if_any(permit: Option<Permit>) -> String {
    permit.map_or_else(|| "nobody".to_owned(), |permit| permit.client_id().unwrap_or("the operator").to_owned())
}

#[tokio::test]
async fn a_handler_gets_the_permit_of_its_request() {
    let layer = layer();
    let token = access_token(&layer, "alice").await;
    let app = Router::new()
        .route("/access/who", get(client))
        .route("/master/who", get(client))
        .route("/access/maybe", get(client_if_any))
        .route("/maybe", get(client_if_any))
        .route("/forgotten", get(client))
        .layer(layer);
    let headers = [("access-token", token.expose()), ("master-token", MASTER)];
    for (path, expected) in [
        ("/access/who", Ok("alice")),
        ("/master/who", Ok("the operator")),
        ("/access/maybe", Ok("alice")),
        ("/maybe", Ok("nobody")),
        // Credentials do not make a permit where none are asked for: the handler must not run as if they had.
        ("/forgotten", Err(StatusCode::INTERNAL_SERVER_ERROR)),
    ] {
        let response = send(&app, get_request(path, &headers)).await;
        match expected {
            Err(status) => {
                assert_eq!(response.status(), status, "{path}");
                // Tests are built with debug assertions.
                let body = crate::app::body(response).await;
                assert!(
                    body["detail"].as_str().is_some_and(|detail| detail.contains("`access-token-paths`")),
                    "{body}"
                );
            }
            Ok(text) => {
                let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
                assert_eq!(body, text, "{path}");
            }
        }
    }
}
