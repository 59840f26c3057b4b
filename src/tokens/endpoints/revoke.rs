//! `/token/revoke`: revokes a token for its holder (RFC 7009), or by client for the holder of the master token.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::json;

use crate::{
    store::{Revocation, StoreError, StoreErrorKind},
    tokens::{
        describe::{Facts, OAUTH_ERROR, Parameter, ParameterSet, ResponseDoc, Schema},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
        error::EndpointError,
        examples, issued, render,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/token/revoke",
    methods: |_| "POST",
    protection: Protection::TokenOrMaster,
    effect: Effect::Writes,
    shape: EndpointShape::OAuth,
    cookie_replaces: Some("any parameter"),
    id: "revokeTokens",
    summary: "Revoke tokens",
    description: "A `token` revokes its own session, and no other credential is required (RFC 7009). With the master token, \
                  a `client_id` revokes all sessions of the client, a `client_id` and a `session` one of them, and `all=true` \
                  everything. With `access_only=true`, a `client_id` keeps its log-ins: only the access tokens are revoked, so \
                  the next refresh brings new claims.",
    parameters,
    answers: |facts| {
        let unable = "The token store does not support revocation";
        vec![revoked(facts), ResponseDoc::new("501", unable, [OAUTH_ERROR]).oauth()]
    },
    run: |call| Box::pin(run(call)),
};

const REVOKED: Schema = Schema {
    name: "FastAuthRevoked",
    render: |_| {
        json!({
            "type": "object",
            "properties": {
                "revoked": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "How many sessions were revoked, or with `access_only=true`, how many live ones lost their \
                                    access tokens; present if the master token was required",
                },
            },
        })
    },
};

const ONE_OF: &str = "send `token`, or `client_id` with or without `session`, or `all=true`";
const ACCESS_ONLY: &str = "`access_only` goes with `client_id`, with or without `session`, and nothing else";

fn parameters(facts: &Facts<'_>) -> Vec<ParameterSet> {
    let text = || json!({ "type": "string", "enum": ["true"] });
    let json = || Some(json!({ "type": ["boolean", "string"], "enum": [true, "true"] }));
    let all = Parameter { text: text(), json: json(), ..Parameter::required("all", "Revokes all tokens") };
    let access_only = Parameter {
        text: text(),
        json: json(),
        ..Parameter::optional("access_only", "Revokes the access tokens alone, and keeps the log-ins")
    };
    let by_token = [
        Parameter::required("token", "An access or refresh token").example(examples::TOKEN),
        Parameter::optional("client_id", "The client that it was issued to"),
    ];
    let by_client = [
        Parameter::required("client_id", "The client whose tokens are revoked").example(examples::CLIENT_ID),
        Parameter::optional("session", "The one session of the client to revoke"),
        access_only,
    ];
    let mut sets = vec![
        ParameterSet::new("By token", by_token),
        ParameterSet::new("By client", by_client),
        ParameterSet::new("Everything", [all]),
    ];
    if facts.options.uses_cookie() {
        sets.push(ParameterSet::new("By the cookie", []));
    }
    sets
}

fn revoked(facts: &Facts<'_>) -> ResponseDoc {
    let response = ResponseDoc::new("200", "The tokens are revoked, or were not valid", [REVOKED]).oauth();
    if !facts.options.uses_cookie() {
        return response;
    }
    response.header("Set-Cookie", "Removes the cookie, unless the master token was required")
}

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let all = call.flag("all")?;
    let access_only = call.flag("access_only")?;
    match (call.optional("token")?, call.optional("client_id")?, call.optional("session")?, all) {
        (None, Some(client_id), session, false) if access_only => {
            call.check_master()?;
            let count = call.parts.issuer.revoke_access(&client_id, session.as_deref()).await;
            Ok(revoked_count(count.map_err(EndpointError::Store)?))
        }
        _ if access_only => Err(EndpointError::Mixed(ACCESS_ONLY)),
        // A client without a secret names itself beside its token (RFC 7009 2.1).
        (Some(token), client_id, None, false) => revoke_token(&call, &token, client_id.as_deref()).await,
        (None, Some(client_id), None, false) => {
            revoke_as_administrator(&call, Revocation::Client(client_id.into_owned())).await
        }
        (None, Some(client_id), Some(session), false) => {
            let session = Revocation::Session { client_id: client_id.into_owned(), session: session.into_owned() };
            revoke_as_administrator(&call, session).await
        }
        (None, None, None, true) => revoke_as_administrator(&call, Revocation::All).await,
        (None, None, None, false) => match call.cookie()? {
            Some(token) => revoke_token(&call, &token, None).await,
            // To log out is no error for one who is not logged in.
            None if call.parts.options.uses_cookie() => Ok(issued::logged_out(call.parts.options.cookie())),
            None => Err(EndpointError::Mixed(ONE_OF)),
        },
        _ => Err(EndpointError::Mixed(ONE_OF)),
    }
}

async fn revoke_token(call: &EndpointCall<'_>, token: &str, client_id: Option<&str>) -> EndpointResult {
    let parts = call.parts;
    let claims = parts.issuer.verify_any(token).ok();
    match claims.filter(|claims| client_id.is_none_or(|client_id| client_id == claims.client_id())) {
        Some(claims) => {
            parts.issuer.revoke_verified(&claims).await.map_err(EndpointError::Store)?;
        }
        // Or else the answers of a store in trouble would show which tokens are valid.
        None if !parts.health.is_up_now().await => {
            let error = StoreError::new(StoreErrorKind::Unreachable, "it did not answer, so nothing can be revoked");
            return Err(EndpointError::Store(error));
        }
        None => {}
    }
    Ok(issued::logged_out(parts.options.cookie()))
}

async fn revoke_as_administrator(call: &EndpointCall<'_>, revocation: Revocation) -> EndpointResult {
    call.check_master()?;
    let count = call.parts.issuer.revoke(&revocation).await.map_err(EndpointError::Store)?;
    Ok(revoked_count(count))
}

fn revoked_count(count: u64) -> Response<Full<Bytes>> {
    render::oauth_ok(&json!({ "revoked": count }))
}
