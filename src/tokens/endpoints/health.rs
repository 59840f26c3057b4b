//! `/healthz`: answers if the process does, and with `deep` if the token store does.

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::{
    check::problem::ErrorForm,
    check::respond::json_response,
    tokens::{
        describe::{Facts, INVALID, Parameter, ParameterSet, ResponseDoc, Schema},
        endpoint::{Effect, Endpoint, EndpointCall, EndpointResult, EndpointShape, Protection},
    },
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/healthz",
    methods: |_| "GET, HEAD",
    protection: Protection::Open,
    effect: Effect::Reads,
    shape: EndpointShape::Configured,
    cookie_replaces: None,
    id: "health",
    summary: "Health check",
    description: "Answers 200 while the process serves requests. With `?deep`, 503 if the token store does not answer or cannot be \
                  written; and it says if the last reload of the configuration was refused.",
    parameters: |_| {
        let deep = Parameter {
            text: json!({ "type": "string", "enum": ["", "true", "false"] }),
            ..Parameter::optional("deep", "Also checks the token store, at most once a second")
        };
        ParameterSet::only([deep])
    },
    answers: |facts| {
        vec![
            ResponseDoc::new("200", "Healthy", [HEALTH]),
            unreadable(facts),
            ResponseDoc::new("503", "The token store does not answer", [HEALTH]),
        ]
    },
    run: |call| Box::pin(run(call)),
};

fn unreadable(facts: &Facts<'_>) -> ResponseDoc {
    const UNREADABLE: &str = "The parameter cannot be read";
    match ErrorForm::new(facts.options) {
        ErrorForm::Envelope => ResponseDoc::new("422", UNREADABLE, [INVALID]),
        ErrorForm::OAuth => ResponseDoc::error(ErrorForm::OAuth, "400", UNREADABLE),
        ErrorForm::Problem => ResponseDoc::error(ErrorForm::Problem, "422", UNREADABLE),
    }
}

const HEALTH: Schema = Schema {
    name: "FastAuthHealth",
    render: |_| {
        json!({
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": { "type": "string", "enum": ["ok", "unavailable"] },
                "checks": {
                    "type": "object",
                    "required": ["store", "configuration"],
                    "properties": {
                        "store": { "type": "string", "enum": ["ok", "unavailable"] },
                        "configuration": {
                            "type": "string",
                            "enum": ["ok", "faulty"],
                            "description": "Faulty if the last reload was refused, and the configuration before it is in force",
                        },
                    },
                },
            },
        })
    },
};

async fn run(call: EndpointCall<'_>) -> EndpointResult {
    let is_deep =
        call.text("deep").is_ok_and(|value| value.is_some_and(|value| value.is_empty())) || call.flag("deep")?;
    let store = if is_deep { Some(call.parts.health.is_up().await) } else { None };
    let is_healthy = store.unwrap_or(true);
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Requests are served nevertheless, by the configuration before.
    let configuration = if call.parts.reloads.last_failed() { "faulty" } else { "ok" };
    let checks = store.map(|is_up| HealthChecks { store: word(is_up), configuration });
    Ok(json_response(status, &HealthReport { status: word(is_healthy), checks }))
}

#[derive(Serialize)]
struct HealthReport {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<HealthChecks>,
}

#[derive(Serialize)]
struct HealthChecks {
    store: &'static str,
    configuration: &'static str,
}

fn word(is_up: bool) -> &'static str {
    if is_up { "ok" } else { "unavailable" }
}
