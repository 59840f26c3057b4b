//! `/openapi.json`: the OpenAPI document of the endpoints, as they are configured.

use bytes::Bytes;
use http::StatusCode;

use crate::{
    check::respond::json_text_response,
    tokens::{
        describe::ResponseDoc,
        document,
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/openapi.json",
    methods: |_| "GET, HEAD",
    protection: Protection::Open,
    effect: Effect::Reads,
    shape: EndpointShape::Configured,
    cookie_replaces: None,
    id: "describeEndpoints",
    summary: "The OpenAPI document of these endpoints",
    description: "Describes the endpoints as they are configured. Requires nothing.",
    parameters: |_| Vec::new(),
    answers: |_| vec![ResponseDoc::new("200", "An OpenAPI document of these endpoints", [])],
    run: |call| Box::pin(run(call)),
};

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let parts = call.parts;
    let document =
        parts.document.get_or_init(|| Bytes::from(document::render(call.endpoints, &parts.facts()).to_string()));
    Ok(json_text_response(StatusCode::OK, document.clone()))
}
