//! `/token/introspect`: shows the claims of a token that is accepted (RFC 7662), for the holder of the master token.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    issue::Introspection,
    token::{Claims, TokenType},
    tokens::{
        describe::{Parameter, ParameterSet, ResponseDoc, Schema},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
        error::EndpointError,
        examples, render,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/token/introspect",
    methods: |_| "POST",
    protection: Protection::Master,
    effect: Effect::Reads,
    shape: EndpointShape::OAuth,
    cookie_replaces: None,
    id: "introspectToken",
    summary: "Token introspection (RFC 7662)",
    description: "Returns the claims of an access or refresh token that is accepted now. Requires the master token.",
    parameters: |_| {
        ParameterSet::only([Parameter::required("token", "An access or refresh token").example(examples::TOKEN)])
    },
    answers: |_| {
        let description = "The claims of the token if it is active; of any other token, only that it is not";
        vec![ResponseDoc::new("200", description, [INTROSPECTION]).oauth()]
    },
    run: |call| Box::pin(run(call)),
};

const INTROSPECTION: Schema = Schema {
    name: "FastAuthIntrospection",
    render: |_| {
        json!({
            "type": "object",
            "required": ["active"],
            "properties": {
                "active": { "type": "boolean" },
                "token_type": { "type": "string", "enum": ["Bearer", "refresh_token"] },
                "client_id": { "type": "string" },
                "sid": { "type": "string", "description": "The name of its session, by which it can be revoked" },
                "exp": { "type": "integer", "description": "The last second in which it is accepted, since 1970" },
                "iat": { "type": "integer", "description": "The second in which it was issued, since 1970" },
                "scope": { "type": "string" },
            },
            "additionalProperties": true,
            "description": "All claims of the token, if it is active",
        })
    },
};

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let token = call.required("token")?;
    match call.parts.issuer.introspect(&token).await.map_err(EndpointError::Store)? {
        Introspection::Active { claims, expires_at } => Ok(active(&claims, expires_at)),
        _ => Ok(render::oauth_ok(&json!({ "active": false }))),
    }
}

fn active(claims: &Claims, expires_at: u64) -> Response<Full<Bytes>> {
    let token_type = match claims.token_type() {
        TokenType::Access => "Bearer",
        TokenType::Refresh => "refresh_token",
    };
    let mut members = claims.as_object().clone();
    members.insert("active".to_owned(), true.into());
    members.insert("token_type".to_owned(), token_type.into());
    members.insert("exp".to_owned(), expires_at.into());
    // RFC 7662 has whole seconds, which a token need not have.
    if let Some(seconds) = claims.get("iat").and_then(Value::as_f64) {
        members.insert("iat".to_owned(), (seconds as u64).into());
    }
    render::oauth_ok(&members)
}
