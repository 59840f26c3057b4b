//! `/ticket`: issues a ticket that opens one WebSocket, for the holder of an access token.

use serde_json::json;

use crate::{
    check::{
        denial::Denial,
        ticket::{LIFETIME, Ticket},
    },
    credential::Presented,
    denial::DenialReason,
    issue::IssueErrorKind,
    keys::CAN_ENCRYPT,
    observe::Event,
    secret::Secret,
    store::StoreError,
    tokens::{
        describe::{ParameterSet, ResponseDoc, Schema},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, Protection},
        error::EndpointError,
        examples, render,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/ticket",
    methods: |_| "POST",
    protection: Protection::Access,
    effect: Effect::Writes,
    shape: |options| options.response_shape,
    cookie_replaces: None,
    id: "newTicket",
    summary: "Issue a ticket that opens one WebSocket",
    description: "Requires an access token. `?ticket=…` in the URL of a WebSocket handshake is accepted once.",
    parameters: |_| ParameterSet::only([]),
    answers: |facts| {
        let error = |status, description| ResponseDoc::error(facts.options.response_shape, status, description);
        let refused = error("401", "The access token is missing or not accepted");
        let unable = "The token store cannot restrict a ticket to one use";
        vec![
            ResponseDoc::new("200", "The ticket", [TICKET]).oauth(),
            refused.header("WWW-Authenticate", facts.access_challenge()),
            error("500", "The ticket could not be encrypted"),
            error("501", unable),
        ]
    },
    run: |call| Box::pin(run(call)),
};

const TICKET: Schema = Schema {
    name: "FastAuthTicket",
    render: |_| {
        json!({
            "type": "object",
            "required": ["ticket", "expires_in"],
            "properties": {
                "ticket": examples::text("gAAAAABnS0Q9c2lnbmVk"),
                "expires_in": { "type": "integer", "minimum": 0, "examples": [30], "description": "Seconds until it expires" },
            },
        })
    },
};

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let parts = call.parts;
    let ticket = new_ticket(&call).await.map_err(|denial| {
        let client = denial.client_id();
        let reason = denial.reason();
        let details = &parts.details(call.request);
        parts.observer.record(Event::TicketRefused { method: &call.request.method, client, reason, details });
        EndpointError::Denied(denial)
    })?;
    if !CAN_ENCRYPT {
        let error = StoreError::unsupported("tickets need the feature `fernet`, which this build lacks");
        return Err(EndpointError::Store(error));
    }
    // Without that promise, a ticket would be an access token in a URL.
    if !parts.store.promises().await.map_err(EndpointError::Store)?.tickets {
        let error = StoreError::unsupported("the token store cannot restrict a ticket to one use");
        return Err(EndpointError::Store(error));
    }
    let ticket = ticket.ok_or(EndpointError::NotIssued(IssueErrorKind::Signing))?;
    tracing::debug!(target: "fastauth", "a ticket was issued");
    Ok(render::oauth_ok(&json!({ "ticket": ticket.expose(), "expires_in": LIFETIME.as_secs() })))
}

/// Creates a ticket for the holder of an access token, or `None` if it cannot be encrypted.
async fn new_ticket(call: &EndpointCall<'_>) -> Result<Option<Secret>, Denial> {
    let confirmer = &call.parts.confirmer;
    let presented = Presented::read(&call.request.headers, call.parts.sources);
    let token = presented.access_token().map_err(DenialReason::Credentials)?;
    let access = confirmer.access(token.ok_or(DenialReason::MissingAccessToken)?).await?;
    let now = confirmer.clock.unix_now();
    Ok(Ticket::for_access(&access, now).seal(&confirmer.keys, now))
}
