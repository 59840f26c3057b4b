//! `/token`: the token endpoint of OAuth 2.0 for refresh tokens (RFC 6749 6), of clients without a secret.

use http::{header::AUTHORIZATION, request::Parts};
use serde_json::json;

use super::refresh;
use crate::{
    credential,
    settings::ResponseShape,
    tokens::{
        describe::{OAUTH_ERROR, Parameter, ParameterSet, ResponseDoc},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
        error::{EndpointError, GrantError},
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/token",
    methods: |_| "POST",
    protection: Protection::Token,
    effect: Effect::Issues,
    shape: EndpointShape::OAuth,
    cookie_replaces: Some("`refresh_token` beside the `grant_type`"),
    id: "token",
    summary: "OAuth 2.0 token endpoint, for refresh tokens",
    description: "RFC 6749 section 6, for clients without a secret.",
    parameters: |facts| {
        let grant_type = Parameter {
            text: json!({ "type": "string", "enum": ["refresh_token"] }),
            ..Parameter::required("grant_type", "The only supported grant type")
        };
        ParameterSet::only([
            grant_type,
            facts.refresh_token(),
            Parameter::optional("client_id", "The client that the token was issued to"),
            Parameter::optional("scope", "Names of the token's scope, separated by spaces"),
        ])
    },
    answers: |facts| {
        let refused = "The client tries to authenticate itself, but clients have no secret";
        let refused = ResponseDoc::new("401", refused, [OAUTH_ERROR]).oauth();
        vec![facts.pair(ResponseShape::OAuth), refused.header("WWW-Authenticate", "`Basic`")]
    },
    run: |call| Box::pin(run(call)),
};

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    // If access tokens are not read from that header, it belongs to the application.
    let by_header = call.parts.sources.include(&AUTHORIZATION) && has_basic_credentials(call.request);
    if by_header || call.optional("client_secret")?.is_some() || call.optional("client_assertion")?.is_some() {
        return Err(EndpointError::Grant(GrantError::ClientAuthentication { by_header }));
    }
    if call.required("grant_type")? != "refresh_token" {
        return Err(EndpointError::Grant(GrantError::UnsupportedGrantType));
    }
    let refresh_token = match call.optional("refresh_token")? {
        Some(refresh_token) => refresh_token,
        None => call.refresh_token_of_cookie()?,
    };
    let token = refresh::verify(&call, &refresh_token)?;
    if call.optional("client_id")?.is_some_and(|client_id| client_id != token.client_id()) {
        return Err(EndpointError::Grant(GrantError::OtherClient));
    }
    let scope = call.optional("scope")?;
    let mut asked = scope.iter().flat_map(|scope| scope.split(' ')).filter(|name| !name.is_empty());
    if !asked.all(|name| token.scope().any(|granted| granted == name)) {
        return Err(EndpointError::Grant(GrantError::Scope));
    }
    refresh::exchange(&call, &token).await
}

/// Returns true if the client tries to authenticate itself (RFC 6749 2.3.1).
fn has_basic_credentials(request: &Parts) -> bool {
    request.headers.get_all(AUTHORIZATION).iter().any(|value| credential::of_scheme(value, b"basic").is_some())
}
