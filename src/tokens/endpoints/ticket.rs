//! `/ticket`: issues a ticket, which opens one WebSocket or requests below one path, for the holder of an access token.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    check::problem::ErrorForm,
    check::{
        denial::Denial,
        lifetime::Access,
        ticket::{LIFETIME, Opens, Ticket},
    },
    credential::Presented,
    denial::DenialReason,
    issue::IssueErrorKind,
    keys::CAN_ENCRYPT,
    observe::Event,
    rule::Prefix,
    store::StoreError,
    tokens::{
        describe::{Parameter, ParameterSet, ResponseDoc, Schema},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
        error::EndpointError,
        examples, render,
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/ticket",
    methods: |_| "POST",
    protection: Protection::Access,
    effect: Effect::Writes,
    shape: EndpointShape::Configured,
    cookie_replaces: None,
    id: "newTicket",
    summary: "Issue a ticket, for a client that can only control the URL",
    description: "Requires an access token. Without parameters, `?ticket=…` in the URL of a WebSocket handshake is accepted once. With \
                  `path`, in the URL of one request to that path or below it; with `expires_in` as well, of any number of them.",
    parameters: |_| ParameterSet::only(parameters()),
    answers: |facts| {
        let error = |status, description| ResponseDoc::error(ErrorForm::new(facts.options), status, description);
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

fn parameters() -> [Parameter; 3] {
    let seconds = json!({ "type": "integer", "minimum": 1, "maximum": LONGEST });
    [
        Parameter::optional("path", "The path to open with all below it, in whole segments, as the client sends it"),
        Parameter {
            text: json!({ "type": "string", "enum": METHODS }),
            ..Parameter::optional("method", "The method; `GET` by default")
        },
        Parameter {
            text: seconds,
            ..Parameter::optional("expires_in", "Seconds for which it can be used again and again, instead of once")
        },
    ]
}

/// The methods of what cannot set headers, and of those who do it by hand.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// The longest time that a ticket can be used again, in seconds.
const LONGEST: u64 = 60 * 60;
/// The longest path that a ticket can name: it makes the ticket longer.
const LONGEST_PATH: usize = 512;

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let parts = call.parts;
    let access = access(&call).await.map_err(|denial| {
        let client = denial.client_id();
        let reason = denial.reason();
        let details = &parts.details(call.request);
        parts.observer.record(Event::TicketRefused { method: &call.request.method, client, reason, details });
        EndpointError::Denied(denial)
    })?;
    let seconds = call.seconds("expires_in", LONGEST)?;
    let opens = opens(&call, seconds.is_some())?;
    if !CAN_ENCRYPT {
        let error = StoreError::unsupported("tickets need the feature `fernet`, which this build lacks");
        return Err(EndpointError::Store(error));
    }
    let now = parts.confirmer.clock.unix_now();
    let ticket = Ticket::for_access(&access, opens, seconds.map_or(LIFETIME, Duration::from_secs), now);
    // Without that promise, a ticket for one use could be used again.
    if !ticket.is_repeatable() && !parts.store.promises().await.map_err(EndpointError::Store)?.tickets {
        let error = StoreError::unsupported("the token store cannot restrict a ticket to one use");
        return Err(EndpointError::Store(error));
    }
    let sealed = ticket.seal(&parts.confirmer.keys, now).ok_or(EndpointError::NotIssued(IssueErrorKind::Signing))?;
    tracing::debug!(target: "fastauth", "a ticket was issued");
    Ok(render::oauth_ok(&json!({ "ticket": sealed.expose(), "expires_in": ticket.expires_at.saturating_sub(now) })))
}

/// Confirms the access token in the headers.
async fn access(call: &EndpointCall<'_>) -> Result<Arc<Access>, Denial> {
    let presented = Presented::read(&call.request.headers, call.parts.sources);
    let token = presented.access_token().map_err(DenialReason::Credentials)?;
    call.parts.confirmer.access(token.ok_or(DenialReason::MissingAccessToken)?).await
}

/// Reads what the ticket is to open.
fn opens(call: &EndpointCall<'_>, is_repeatable: bool) -> Result<Opens, EndpointError> {
    let path = call.optional("path")?;
    let method = call.optional("method")?;
    let Some(path) = path else {
        let has_others = method.is_some() || is_repeatable;
        return if has_others { Err(EndpointError::Missing("path")) } else { Ok(Opens::Socket) };
    };
    let unusable = |problem: String| EndpointError::Unusable { name: "path", problem: problem.into() };
    if path.len() > LONGEST_PATH {
        return Err(unusable(format!("the path is longer than {LONGEST_PATH} bytes")));
    }
    let path = Prefix::parse(&path).map_err(|error| unusable(format!("the path {error}")))?;
    if path.as_str() == "/" {
        return Err(unusable("the path is `/`, which is everything: name what the ticket is for".to_owned()));
    }
    let method = method.as_deref().unwrap_or("GET");
    let known = METHODS.iter().find(|known| **known == method).and_then(|known| known.parse().ok());
    let problem =
        || EndpointError::Unusable { name: "method", problem: format!("send one of {}", METHODS.join(", ")).into() };
    Ok(Opens::Requests { method: known.ok_or_else(problem)?, path, is_repeatable })
}
