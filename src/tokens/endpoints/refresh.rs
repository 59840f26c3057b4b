//! `/token/refresh`: exchanges a refresh token for a new pair.

use crate::{
    check::problem::ErrorForm,
    observe::Issued,
    query::ParameterError,
    token::TokenError,
    tokens::{
        describe::{ParameterSet, ResponseDoc},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection, unusable},
        error::EndpointError,
        issuer::RefreshToken,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/token/refresh",
    // A link on any page is a GET, and its answer would set the cookie.
    methods: |options| if options.allow_get && !options.uses_cookie() { "GET, POST" } else { "POST" },
    protection: Protection::Token,
    effect: Effect::Issues,
    shape: EndpointShape::Configured,
    cookie_replaces: Some("`refresh_token`"),
    id: "refreshTokens",
    summary: "Exchange a refresh token for a new pair",
    description: "Replaces the session's pair. A refresh token is accepted once: using it again returns the same new pair \
                  within `refresh-grace`, and revokes the session after it.",
    parameters: |facts| ParameterSet::only([facts.refresh_token()]),
    answers: |facts| {
        let mut answers = vec![facts.pair(facts.options.response_shape)];
        let errors = ErrorForm::new(facts.options);
        if errors != ErrorForm::OAuth {
            let refused =
                "The refresh token is not valid, was used or was revoked, its session has ended, or there is none";
            let refused = ResponseDoc::error(errors, "401", refused).reason("invalid_refresh_token");
            answers.push(refused.header("WWW-Authenticate", facts.access_challenge()));
        }
        answers
    },
    run: |call| Box::pin(run(call)),
};

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let refresh_token = match call.parameters.get("refresh_token") {
        Ok(Some(refresh_token)) => refresh_token,
        Ok(None) => call.refresh_token_of_cookie()?,
        // What is not text is not a token.
        Err(ParameterError::NotText) => return Err(EndpointError::NotIssued(TokenError::Malformed.into())),
        Err(problem) => return Err(unusable("refresh_token", problem)),
    };
    let token = verify(&call, &refresh_token)?;
    exchange(&call, &token).await
}

/// Verifies a refresh token. Only the exchange shows if it is the current one.
pub(super) fn verify(call: &EndpointCall<'_>, refresh_token: &str) -> Result<RefreshToken, EndpointError> {
    call.parts.issuer.verify_refresh(refresh_token).map_err(EndpointError::NotIssued)
}

/// Exchanges a refresh token. The client is charged only after the store has accepted the token, so that a used one costs the
/// client nothing.
pub(super) async fn exchange(call: &EndpointCall<'_>, token: &RefreshToken) -> EndpointResult {
    let parts = call.parts;
    parts.admit_token(token.client_id(), token.digest())?;
    let (issued, how) = parts.issuer.exchange(token).await.map_err(EndpointError::NotIssued)?;
    if how == Issued::New {
        parts.charge_client(token.client_id());
    }
    Ok(issued.with_response_shape(call.shape()).into())
}
