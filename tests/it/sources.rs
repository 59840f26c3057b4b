//! Where access tokens are looked for.

use axum::{Router, http::HeaderMap, routing::get};
use fastauth::FastAuthLayer;
use serde_json::json;

use crate::app::{Endpoints, FORM, Reply, access_token, serve, settings};

/// Says what comes to it in `Authorization`.
async fn seen(headers: HeaderMap) -> String {
    headers.get("authorization").map_or("nothing", |value| value.to_str().unwrap()).to_owned()
}

async fn start(sources: &[&str]) -> (FastAuthLayer, Endpoints) {
    let settings = settings().credential_sources(sources.iter().copied());
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let app = Router::new().route("/access/seen", get(seen)).nest_service("/auth", layer.router());
    (layer.clone(), Endpoints::at(serve(app.layer(layer)).await))
}

const FOREIGN: (&str, &str) = ("authorization", "Bearer of-the-platform");

fn outcome(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.header("www-authenticate"))
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone() {
    let (layer, server) = start(&["ACCESS-TOKEN"]).await;
    let token = access_token(&layer, "alice").await;
    let token = ("access-token", token.expose());
    let reply = server.send("GET", "/access/seen", &[token, FOREIGN], "").await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "Bearer of-the-platform"));
    let reply = server.send("POST", "/auth/ticket", &[token, FOREIGN], "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    for path in ["/access/seen", "/auth/ticket"] {
        let method = if path == "/access/seen" { "GET" } else { "POST" };
        let own = ("authorization", &*format!("Bearer {}", token.1));
        for headers in [vec![], vec![FOREIGN], vec![own], vec![FOREIGN, FOREIGN]] {
            let reply = server.send(method, path, &headers, "").await;
            assert_eq!(outcome(&reply), (401, r#"AccessToken realm="demo""#), "{path} {headers:?}");
        }
    }
    let reply = server.send("GET", "/access/seen", &[("access-token", "x.y.z"), FOREIGN], "").await;
    assert!(reply.header("www-authenticate").starts_with(r#"AccessToken realm="demo", error="invalid_token""#));
    // The Basic of a page in front of all is no client's secret.
    let refresh_token = layer.issuer().issue("bob").await.unwrap().tokens.refresh_token;
    let form = format!("grant_type=refresh_token&refresh_token={}", refresh_token.expose());
    let headers = [("content-type", FORM), ("authorization", "Basic dDp0")];
    let reply = server.send("POST", "/auth/token", &headers, &form).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = server.send("POST", "/auth/token", &headers, "grant_type=refresh_token&refresh_token=x").await;
    assert_eq!((reply.status, &reply.json()["error"]), (400, &json!("invalid_grant")));
}

#[tokio::test]
async fn the_bearer_can_be_the_only_one() {
    let (layer, server) = start(&["Authorization"]).await;
    let token = access_token(&layer, "alice").await;
    let bearer = format!("Bearer {}", token.expose());
    let foreign = ("access-token", "of-the-platform");
    let reply = server.send("GET", "/access/seen", &[("authorization", &bearer), foreign], "").await;
    assert_eq!(reply.status, 200);
    let own = ("access-token", token.expose());
    for headers in [vec![], vec![own], vec![foreign, foreign]] {
        let reply = server.send("GET", "/access/seen", &headers, "").await;
        assert_eq!(outcome(&reply), (401, r#"Bearer realm="demo""#), "{headers:?}");
    }
}

#[tokio::test]
async fn the_documents_tell_where() {
    for (sources, used, unused) in
        [(["ACCESS-TOKEN"], "AccessTokenHeader", "Bearer"), (["Authorization"], "Bearer", "AccessTokenHeader")]
    {
        let (_, server) = start(&sources).await;
        let document = server.send("GET", "/auth/openapi.json", &[], "").await.json();
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        assert!(schemes.contains_key(used) && !schemes.contains_key(unused), "{schemes:?}");
        let ticket = document["paths"].as_object().unwrap().iter().find(|(path, _)| path.ends_with("/ticket"));
        assert_eq!(ticket.unwrap().1["post"]["security"], json!([{ used: [] }]));
    }
}

#[cfg(feature = "utoipa")]
#[tokio::test]
async fn the_document_of_an_application_tells_where() {
    use utoipa::Modify;

    let (layer, _) = start(&["ACCESS-TOKEN"]).await;
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "x", "version": "1" },
        "paths": { "/access/seen": { "get": { "responses": {} } } },
    });
    let mut document: utoipa::openapi::OpenApi = serde_json::from_value(document).unwrap();
    layer.openapi().modify(&mut document);
    let document: serde_json::Value = serde_json::to_value(document).unwrap();
    assert_eq!(document["paths"]["/access/seen"]["get"]["security"], json!([{ "AccessTokenHeader": [] }]));
    assert!(document["components"]["securitySchemes"].get("Bearer").is_none());
}
