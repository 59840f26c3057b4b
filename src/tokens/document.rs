//! Renders the OpenAPI document of the endpoints, as they are configured.
//!
//! Each [`Endpoint`] describes itself; what follows from its protection, its effect and the settings is added here.
//! `tests/it/openapi.rs` and `tests/openapi/run` compare the document with what the router does.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    describe::{Facts, INVALID, Parameter, ParameterSet, ResponseDoc, Schema},
    endpoint::{Effect, Endpoint, Protection},
    examples,
};
use crate::{
    check::problem::ErrorForm,
    credential::{MASTER_TOKEN, REFRESH_COOKIE, Scheme},
};

const DESCRIPTION: &str = "\
Issues, refreshes, revokes and introspects tokens.

A `POST` takes its parameters from its body, a form or a JSON object of up to 64 KiB; query parameters are rejected. A \
parameter may appear once. A method that a path does not list is answered with 405 and the header `Allow`; an \
unknown path, with 404. Every error has a `reason`: a code that stays, by which a client decides.";

/// Renders the document. The paths in it lack the mount of the router.
pub(super) fn render(endpoints: &[Endpoint], facts: &Facts<'_>) -> Value {
    let mut schemas = BTreeMap::new();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let item = EndpointItem { endpoint, facts, errors: endpoint.shape.of_errors(facts.options) };
        paths.insert(endpoint.path.to_owned(), item.render(&mut schemas));
    }
    let schemas = schemas.into_iter().map(|(name, schema)| (name.to_owned(), (schema.render)(facts)));
    json!({
        "openapi": "3.1.0",
        "info": { "title": format!("{}: tokens", facts.app_name), "version": "1.0", "description": DESCRIPTION },
        // Relative to the document, wherever the router is mounted.
        "servers": [{ "url": "." }],
        "tags": [{ "name": TAG, "description": "Issuing, refreshing, revoking and introspecting tokens" }],
        "paths": paths,
        "components": { "securitySchemes": security_schemes(facts), "schemas": schemas.collect::<Map<_, _>>() },
    })
}

const TAG: &str = "tokens";

type Schemas = BTreeMap<&'static str, Schema>;

/// The path item of an endpoint.
struct EndpointItem<'a> {
    endpoint: &'a Endpoint,
    facts: &'a Facts<'a>,
    errors: ErrorForm,
}

impl EndpointItem<'_> {
    fn render(&self, schemas: &mut Schemas) -> Value {
        let methods = (self.endpoint.methods)(self.facts.options).split(", ");
        methods.map(|method| (method.to_ascii_lowercase(), self.operation(method, schemas))).collect()
    }

    fn operation(&self, method: &str, schemas: &mut Schemas) -> Value {
        let endpoint = self.endpoint;
        let is_post = method == Method::POST.as_str();
        let id = if is_post { endpoint.id.to_owned() } else { format!("{}By{}", endpoint.id, capitalised(method)) };
        let sets = self.parameter_sets();
        let mut operation = json!({
            "operationId": id,
            "summary": endpoint.summary,
            "tags": [TAG],
            "security": self.security(),
        });
        let mut parameters = Vec::new();
        if is_post {
            operation["requestBody"] = body(&sets);
            parameters.extend(self.cookie_replaces().map(|_| cookie_parameter()));
        } else {
            parameters.extend(sets.iter().flat_map(|set| &set.parameters).map(Parameter::in_query));
        }
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let description = self.description();
        if !description.is_empty() {
            operation["description"] = description.into();
        }
        let mut responses = Map::new();
        for response in self.responses() {
            if is_post || !response.only_with_body {
                schemas.extend(response.schemas.iter().map(|schema| (schema.name, *schema)));
                responses.insert(response.status.to_owned(), response.render(method != Method::HEAD.as_str()));
            }
        }
        operation["responses"] = responses.into();
        operation
    }

    /// Returns what the cookie replaces, if refresh tokens travel in one.
    fn cookie_replaces(&self) -> Option<&'static str> {
        self.endpoint.cookie_replaces.filter(|_| self.facts.options.uses_cookie())
    }

    fn description(&self) -> String {
        let description = self.endpoint.description;
        match self.cookie_replaces() {
            Some(replaced) => format!(
                "{description} Without {replaced}, the refresh token is taken from the cookie `{REFRESH_COOKIE}`."
            ),
            None => description.to_owned(),
        }
    }

    fn parameter_sets(&self) -> Vec<ParameterSet> {
        (self.endpoint.parameters)(self.facts)
    }

    /// Returns the alternatives, each with the schemes that it needs together.
    fn security(&self) -> Value {
        match self.endpoint.protection {
            Protection::Open | Protection::Token => json!([]),
            Protection::Master => json!([requirement(&MASTER_TOKEN)]),
            Protection::TokenOrMaster => json!([{}, requirement(&MASTER_TOKEN)]),
            Protection::Access => self.facts.sources.schemes().map(requirement).collect(),
        }
    }

    fn responses(&self) -> Vec<ResponseDoc> {
        let mut responses = (self.endpoint.answers)(self.facts);
        if self.endpoint.protection != Protection::Open {
            responses.extend(self.refusals_of_requests());
            responses.extend(self.refusals_of_credentials());
        }
        if self.endpoint.effect == Effect::Issues {
            responses.push(self.error("500", "The tokens could not be signed"));
            if self.facts.has_claims_hook {
                responses.push(self.error("default", "Refused by the application, with a status of its choice"));
            }
        }
        responses.extend(self.too_many());
        responses
    }

    fn refusals_of_requests(&self) -> Vec<ResponseDoc> {
        let bad_request = match self.errors {
            ErrorForm::Envelope | ErrorForm::Problem => "The request cannot be read",
            ErrorForm::OAuth => "The request cannot be read, or is not valid",
        };
        let mut bad_request = self.error("400", bad_request);
        if self.endpoint.protection != Protection::Token {
            bad_request = bad_request.header("WWW-Authenticate", "If a credential appears twice");
        } else if self.errors != ErrorForm::OAuth {
            bad_request = bad_request.only_with_body();
        }
        let mut refusals = vec![
            bad_request,
            self.error("408", "The body did not arrive within ten seconds, or paused for three").only_with_body(),
            self.error("413", "The body is longer than 64 KiB, or than the application allows").only_with_body(),
            self.error("415", "The body is neither a form nor JSON, or its charset is not supported").only_with_body(),
            self.error("503", "The token store is unavailable").retry_after(),
        ];
        let has_parameters = self.parameter_sets().iter().any(|set| !set.parameters.is_empty());
        const INVALID_PARAMETER: &str = "A parameter is missing or not valid";
        match self.errors {
            ErrorForm::Envelope if has_parameters => {
                refusals.push(ResponseDoc::new("422", INVALID_PARAMETER, [INVALID]));
            }
            ErrorForm::Problem if has_parameters => refusals.push(self.error("422", INVALID_PARAMETER)),
            _ => {}
        }
        refusals
    }

    fn refusals_of_credentials(&self) -> Vec<ResponseDoc> {
        let mut refusals = Vec::new();
        if self.endpoint.protection.may_ask_master() {
            let refused = self.error("401", "The master token is missing or wrong").reason("wrong_master_token");
            refusals.push(refused.header("WWW-Authenticate", "`MasterToken`"));
        }
        if self.facts.options.uses_cookie() {
            refusals.push(self.error("403", "The request comes from a page of another origin"));
        }
        refusals
    }

    fn too_many(&self) -> Option<ResponseDoc> {
        let limits_issuing = self.facts.is_limited && self.endpoint.effect == Effect::Issues;
        let limits_guesses = self.facts.limits_guesses && self.endpoint.protection.may_ask_master();
        if !limits_issuing && !limits_guesses {
            return None;
        }
        Some(self.error("429", "Too many requests, or too many wrong master tokens").retry_after())
    }

    fn error(&self, status: &'static str, description: &str) -> ResponseDoc {
        ResponseDoc::error(self.errors, status, description)
    }
}

fn capitalised(method: &str) -> String {
    let (first, rest) = method.split_at(1.min(method.len()));
    format!("{first}{}", rest.to_ascii_lowercase())
}

fn cookie_parameter() -> Value {
    json!({
        "name": REFRESH_COOKIE, "in": "cookie", "required": false, "schema": { "type": "string" },
        "description": "The refresh token",
    })
}

fn body(sets: &[ParameterSet]) -> Value {
    json!({
        "required": !sets.iter().any(ParameterSet::may_be_empty),
        "content": {
            // A parameter appears once, so none is a list.
            "application/x-www-form-urlencoded": { "schema": any_of(sets, Parameter::text, &json!({ "type": "string" })) },
            "application/json": { "schema": any_of(sets, Parameter::json, &json!(true)), "example": example(sets) },
        },
    })
}

/// Returns a body by the first set of parameters, with those that have an example.
fn example(sets: &[ParameterSet]) -> Value {
    let parameters = sets.iter().take(1).flat_map(|set| &set.parameters);
    let shown = parameters.filter_map(|parameter| {
        let example = parameter.text.pointer("/examples/0").or_else(|| parameter.text.pointer("/enum/0"))?;
        Some((parameter.name.to_owned(), example.clone()))
    });
    shown.collect::<Map<_, _>>().into()
}

fn any_of(sets: &[ParameterSet], of: fn(&Parameter) -> Value, others: &Value) -> Value {
    match sets {
        [set] => set.schema(of, others),
        sets => json!({ "anyOf": sets.iter().map(|set| set.schema(of, others)).collect::<Vec<_>>() }),
    }
}

impl ParameterSet {
    fn may_be_empty(&self) -> bool {
        !self.parameters.iter().any(|parameter| parameter.required)
    }

    fn schema(&self, of: fn(&Parameter) -> Value, others: &Value) -> Value {
        let properties = self.parameters.iter().map(|parameter| (parameter.name.to_owned(), parameter.described(of)));
        let mut schema = json!({ "type": "object", "additionalProperties": others });
        if !self.parameters.is_empty() {
            schema["properties"] = properties.collect::<Map<_, _>>().into();
        }
        let required: Vec<_> = self.parameters.iter().filter(|p| p.required).map(|p| p.name).collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if !self.title.is_empty() {
            schema["title"] = json!(self.title);
        }
        schema
    }
}

impl Parameter {
    fn text(&self) -> Value {
        self.text.clone()
    }

    /// Returns the schema of the value in JSON, in which `null` is as if it were absent.
    fn json(&self) -> Value {
        let mut schema = self.json.clone().unwrap_or_else(|| self.text.clone());
        if !self.required {
            let mut types = match schema["type"].take() {
                Value::Array(types) => types,
                one => vec![one],
            };
            types.push(json!("null"));
            schema["type"] = types.into();
        }
        schema
    }

    fn described(&self, of: fn(&Self) -> Value) -> Value {
        let mut schema = of(self);
        schema["description"] = json!(self.description);
        schema
    }

    fn in_query(&self) -> Value {
        json!({
            "name": self.name, "in": "query", "required": self.required,
            "description": self.description, "schema": self.text,
        })
    }
}

impl ResponseDoc {
    fn render(self, has_body: bool) -> Value {
        let mut response = json!({ "description": self.description });
        if has_body {
            response["content"] = self.content();
        }
        if !self.headers.is_empty() {
            response["headers"] = self.headers.into();
        }
        response
    }

    /// Renders the schemas of the body, each under its media type.
    fn content(&self) -> Value {
        if self.schemas.is_empty() {
            return json!({ "application/json": { "schema": { "type": "object" } } });
        }
        let types: BTreeSet<_> = self.schemas.iter().map(|schema| schema.media_type()).collect();
        let content = types.into_iter().map(|media_type| {
            let schemas: Vec<_> = self.schemas.iter().filter(|schema| schema.media_type() == media_type).collect();
            let refs: Vec<_> = schemas.iter().map(|schema| reference(schema.name)).collect();
            let [schema] = &*schemas else { return (media_type.to_owned(), json!({ "schema": { "anyOf": refs } })) };
            let mut content = json!({ "schema": reference(schema.name) });
            if let Some(example) = examples::error(schema.name, self.status, self.reason, &self.description) {
                content["example"] = example;
            }
            (media_type.to_owned(), content)
        });
        content.collect::<Map<_, _>>().into()
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Returns the requirement of a scheme.
fn requirement(scheme: &Scheme) -> Value {
    scheme.openapi.iter().map(|openapi| (openapi.name.to_owned(), json!([]))).collect::<Map<_, _>>().into()
}

fn security_schemes(facts: &Facts<'_>) -> Value {
    let schemes = facts.sources.schemes().chain([&MASTER_TOKEN]);
    let described = schemes.filter_map(|scheme| {
        let openapi = scheme.openapi?;
        let mut value = if openapi.bearer {
            json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" })
        } else {
            json!({ "type": "apiKey", "in": "header", "name": scheme.name })
        };
        value["description"] = json!(openapi.description);
        Some((openapi.name.to_owned(), value))
    });
    described.collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::TokenHeaders,
        settings::{EndpointOptions, RefreshTransport},
        tokens::endpoints::ENDPOINTS,
    };

    fn documents() -> impl Iterator<Item = (EndpointOptions, Value)> {
        use crate::settings::{ErrorShape, ResponseShape};
        let shapes = [
            (ResponseShape::Envelope, ErrorShape::Response),
            (ResponseShape::OAuth, ErrorShape::Response),
            (ResponseShape::Envelope, ErrorShape::Problem),
        ];
        let all = shapes.map(|shape| [false, true].map(|on| (shape, on)));
        all.into_iter().flatten().flat_map(|(shape, cookie)| [false, true].map(|on| (shape, cookie, on))).map(
            |((response_shape, error_shape), cookie, on)| {
                let refresh_transport = if cookie { RefreshTransport::Cookie } else { RefreshTransport::Body };
                let options = EndpointOptions {
                    allow_get: on,
                    response_shape,
                    error_shape,
                    refresh_transport,
                    rate_limit: None,
                    ..EndpointOptions::default()
                };
                let facts = Facts {
                    options: &options,
                    app_name: "demo",
                    sources: TokenHeaders::ALL,
                    is_limited: on,
                    limits_guesses: cookie,
                    has_claims_hook: on,
                };
                let document = render(ENDPOINTS, &facts);
                (options, document)
            },
        )
    }

    #[test]
    fn every_endpoint_is_described() {
        for (options, document) in documents() {
            let paths = document["paths"].as_object().unwrap();
            assert_eq!(paths.len(), ENDPOINTS.len());
            let mut ids = BTreeSet::new();
            for endpoint in ENDPOINTS {
                let path = endpoint.path;
                let methods: BTreeSet<_> =
                    paths[path].as_object().unwrap().keys().map(|m| m.to_ascii_uppercase()).collect();
                assert_eq!(methods, (endpoint.methods)(&options).split(", ").map(str::to_owned).collect(), "{path}");
                for operation in paths[path].as_object().unwrap().values() {
                    assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
                    assert!(ids.insert(operation["operationId"].to_string()), "{path}: another one has this id");
                    let asks_master = operation["security"] == json!([requirement(&MASTER_TOKEN)]);
                    assert_eq!(asks_master, endpoint.protection == Protection::Master, "{path}");
                }
            }
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there_and_every_one_there_is_named() {
        for (_, document) in documents() {
            let text = document.to_string();
            let named = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
            let there = document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str);
            assert_eq!(named.collect::<BTreeSet<_>>(), there.collect());
        }
    }

    #[cfg(feature = "utoipa")]
    #[test]
    fn utoipa_keeps_all_of_it() {
        for (_, document) in documents() {
            let read: utoipa::openapi::OpenApi = serde_json::from_value(document.clone()).unwrap();
            let kept = serde_json::to_value(read).unwrap();
            assert!(kept == document, "of\n{document:#}\nit keeps\n{kept:#}");
        }
    }
}
