//! `/token/new`: issues a pair to any client, for the holder of the master token.

use std::borrow::Cow;

use serde_json::json;

use crate::{
    issue::MAX_CLIENT_ID_LEN,
    tokens::{
        describe::{Parameter, ParameterSet},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
        error::EndpointError,
        examples,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/token/new",
    methods: |options| if options.allow_get { "GET, POST" } else { "POST" },
    protection: Protection::Master,
    effect: Effect::Issues,
    shape: EndpointShape::Configured,
    cookie_replaces: None,
    id: "newTokens",
    summary: "Issue a token pair",
    description: "Requires the master token; issues to any client id.",
    parameters: |_| ParameterSet::only([client_id()]),
    answers: |facts| vec![facts.pair(facts.options.response_shape)],
    run: |call| Box::pin(run(call)),
};

fn client_id() -> Parameter {
    // Bytes are limited and not characters, so an id that meets this may still be too long.
    let text = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_CLIENT_ID_LEN,
        "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$", "examples": [examples::CLIENT_ID],
    });
    Parameter { text, ..Parameter::optional("client_id", "The client to issue to; a new random id by default") }
}

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let named = call.text("client_id")?;
    if let Some(client_id) = &named {
        call.parts.admit_client(client_id)?;
    }
    let client_id = named.unwrap_or_else(|| Cow::Owned(crate::random::random_uuid()));
    let issued = call.parts.issuer.issue(&client_id).await;
    let issued = issued.map_err(|error| EndpointError::NotIssued(error.into_kind()))?;
    Ok(issued.with_response_shape(call.shape()).into())
}
