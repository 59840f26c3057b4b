//! What the OpenAPI document says of an endpoint, as data, and the schemas that several endpoints share.
//!
//! Of JSON Schema, only what utoipa has a field for is used, since an application's document takes this one in.

pub(crate) mod examples;

use serde_json::{Map, Value, json};

use crate::{
    check::problem::{ErrorForm, OAuthError},
    credential::TokenHeaders,
    settings::{EndpointOptions, ResponseShape},
};

/// The settings that the document depends on.
pub(crate) struct Facts<'a> {
    pub(super) options: &'a EndpointOptions,
    pub(super) app_name: &'a str,
    pub(super) sources: TokenHeaders,
    /// Issuing is limited.
    pub(super) is_limited: bool,
    /// Wrong master tokens are limited.
    pub(super) limits_guesses: bool,
    /// The application may refuse to issue, with a status of its own.
    pub(super) has_claims_hook: bool,
}

impl Facts<'_> {
    /// Describes the challenge to a request without a good access token.
    pub(super) fn access_challenge(&self) -> &'static str {
        if self.sources.challenge() == "Bearer" { "`Bearer`, by RFC 6750" } else { "`AccessToken`" }
    }

    /// Describes the answer that carries a new pair.
    pub(super) fn pair(&self, shape: ResponseShape) -> ResponseDoc {
        let response = match shape {
            ResponseShape::Envelope => ResponseDoc::new("200", "The new pair", [ISSUED]),
            ResponseShape::OAuth => ResponseDoc::new("200", "The new pair", [TOKEN_PAIR]).oauth(),
        };
        if !self.options.uses_cookie() {
            return response;
        }
        response.header("Set-Cookie", "The refresh token, in a cookie that scripts cannot read")
    }

    pub(super) fn refresh_token(&self) -> Parameter {
        let parameter = Parameter::required("refresh_token", "The refresh token of the pair").example(examples::TOKEN);
        Parameter { required: !self.options.uses_cookie(), ..parameter }
    }
}

/// The parameters of one way to call an endpoint.
pub(super) struct ParameterSet {
    /// Empty if there is one way.
    pub(super) title: &'static str,
    pub(super) parameters: Vec<Parameter>,
}

impl ParameterSet {
    pub(super) fn new(title: &'static str, parameters: impl Into<Vec<Parameter>>) -> Self {
        Self { title, parameters: parameters.into() }
    }

    /// Creates the parameters of an endpoint that there is one way to call.
    pub(super) fn only(parameters: impl Into<Vec<Parameter>>) -> Vec<Self> {
        vec![Self::new("", parameters)]
    }
}

pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) required: bool,
    /// The schema of its value in a form or a URL.
    pub(super) text: Value,
    /// The schema of its value in JSON, if that is another.
    pub(super) json: Option<Value>,
}

impl Parameter {
    pub(super) fn required(name: &'static str, description: &'static str) -> Self {
        Self { name, description, required: true, text: json!({ "type": "string", "minLength": 1 }), json: None }
    }

    pub(super) fn example(mut self, example: &str) -> Self {
        self.text["examples"] = json!([example]);
        self
    }

    /// Creates one that may be empty, which is as if it were absent (RFC 6749 3.2).
    pub(super) fn optional(name: &'static str, description: &'static str) -> Self {
        Self { name, description, required: false, text: json!({ "type": "string" }), json: None }
    }
}

/// A schema by its name in the document.
#[derive(Clone, Copy)]
pub(crate) struct Schema {
    pub(crate) name: &'static str,
    pub(super) render: fn(&Facts<'_>) -> Value,
}

/// What the document says of an answer.
pub(super) struct ResponseDoc {
    pub(super) status: &'static str,
    pub(super) description: String,
    pub(super) headers: Map<String, Value>,
    /// The schemas of the body, which meets one of them. An empty list stands for any object.
    pub(super) schemas: Vec<Schema>,
    /// Only a request with a body can bring it about.
    pub(super) only_with_body: bool,
    /// The reason in the example of an error, if it is not the usual one of the status.
    pub(super) reason: Option<&'static str>,
}

impl ResponseDoc {
    pub(super) fn new(status: &'static str, description: &str, schemas: impl Into<Vec<Schema>>) -> Self {
        let response = Self {
            status,
            description: description.to_owned(),
            headers: Map::new(),
            schemas: schemas.into(),
            only_with_body: false,
            reason: None,
        };
        // The router sets it on every answer.
        response.header("Cache-Control", "`no-store`")
    }

    /// Describes an error in the form in which the endpoint answers.
    pub(super) fn error(form: ErrorForm, status: &'static str, description: &str) -> Self {
        let response = Self::new(status, description, [error_schema(form)]);
        if form == ErrorForm::OAuth { response.oauth() } else { response }
    }

    /// Marks an answer that only a request with a body can bring about.
    pub(super) fn only_with_body(self) -> Self {
        Self { only_with_body: true, ..self }
    }

    /// Names the reason in the example.
    pub(super) fn reason(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(super) fn header(mut self, name: &str, description: &str) -> Self {
        let header = json!({ "description": description, "schema": { "type": "string" } });
        self.headers.insert(name.to_owned(), header);
        self
    }

    /// Adds the header that RFC 6749 5.1 asks for.
    pub(super) fn oauth(self) -> Self {
        self.header("Pragma", "`no-cache`")
    }

    pub(super) fn retry_after(self) -> Self {
        self.header("Retry-After", "Seconds to wait before trying again")
    }
}

/// Returns the schema of all errors in a form.
pub(crate) fn error_schema(form: ErrorForm) -> Schema {
    match form {
        ErrorForm::Envelope => ERROR,
        ErrorForm::OAuth => OAUTH_ERROR,
        ErrorForm::Problem => PROBLEM,
    }
}

impl Schema {
    /// Returns the media type of such a body.
    pub(crate) fn media_type(self) -> &'static str {
        if self.name == PROBLEM.name { "application/problem+json" } else { "application/json" }
    }
}

pub(super) const ISSUED: Schema = Schema { name: "FastAuthIssued", render: envelope };

pub(super) const TOKEN_PAIR: Schema = Schema { name: "FastAuthTokenPair", render: token_pair };

const ERROR: Schema = Schema {
    name: "FastAuthError",
    render: |_| error(&json!({ "type": "string", "description": "The message, under the name that FastAPI gives it" })),
};

/// FastAPI's answer to a missing or invalid parameter.
pub(super) const INVALID: Schema = Schema { name: "FastAuthInvalidParameters", render: |_| invalid_parameters() };

pub(super) const OAUTH_ERROR: Schema = Schema {
    name: "FastAuthOAuthError",
    render: |_| {
        json!({
            "type": "object",
            "required": ["error", "error_description", "reason"],
            "properties": {
                "error": { "type": "string", "enum": OAuthError::ALL },
                "error_description": { "type": "string" },
                "reason": reason(),
            },
        })
    },
};

const PROBLEM: Schema = Schema {
    name: "FastAuthProblem",
    render: |_| {
        json!({
            "type": "object",
            "required": ["type", "title", "status", "detail", "reason"],
            "properties": {
                "type": { "type": "string", "enum": ["about:blank"] },
                "title": { "type": "string", "description": "That of the status" },
                "status": { "type": "integer", "description": "The HTTP status" },
                "detail": { "type": "string", "description": "The message" },
                "reason": reason(),
            },
        })
    },
};

fn reason() -> Value {
    json!({ "type": "string", "description": "A code that stays, such as `expired_token`: what a client goes by" })
}

fn token_pair(facts: &Facts<'_>) -> Value {
    let mut schema = json!({
        "type": "object",
        "required": ["access_token", "token_type", "expires_in"],
        "properties": {
            "access_token": examples::text(examples::TOKEN),
            "token_type": { "type": "string", "enum": ["Bearer"] },
            "expires_in": expires_in(),
            "scope": examples::text("notes:read notes:write"),
        },
    });
    add_refresh_token(&mut schema, facts);
    schema
}

fn expires_in() -> Value {
    json!({
        "type": "integer", "minimum": 0, "examples": [900], "description": "Seconds until the access token expires",
    })
}

fn envelope(facts: &Facts<'_>) -> Value {
    let mut data = json!({
        "type": "object",
        "required": ["client_id", "access_token", "expires_in"],
        "properties": {
            "client_id": examples::text(examples::CLIENT_ID),
            "access_token": examples::text(examples::TOKEN),
            "expires_in": expires_in(),
        },
    });
    add_refresh_token(&mut data, facts);
    json!({
        "type": "object",
        "required": ["status", "message", "code", "data"],
        "properties": {
            "status": { "type": "string", "enum": ["success"] },
            "message": examples::text("Token generated"),
            "code": { "type": "integer", "enum": [200] },
            "data": data,
        },
    })
}

fn add_refresh_token(schema: &mut Value, facts: &Facts<'_>) {
    if facts.options.uses_cookie() {
        return;
    }
    schema["properties"]["refresh_token"] = examples::text(examples::TOKEN);
    if let Some(required) = schema["required"].as_array_mut() {
        required.push(json!("refresh_token"));
    }
}

fn error(detail: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["status", "code", "reason", "message", "detail"],
        "properties": {
            "status": { "type": "string", "enum": ["error"] },
            "code": { "type": "integer", "description": "The HTTP status" },
            "reason": reason(),
            "message": { "type": "string" },
            "detail": detail,
            "data": { "type": "object", "properties": { "client_id": { "type": "string" } } },
        },
    })
}

fn invalid_parameters() -> Value {
    let problem = json!({
        "type": "object",
        "required": ["type", "loc", "msg", "input"],
        "properties": {
            "type": { "type": "string" },
            "loc": { "type": "array", "items": { "type": "string" }, "description": "`query` or `body`, and the parameter" },
            "msg": { "type": "string" },
            "input": { "type": "null" },
        },
    });
    error(&json!({ "type": "array", "items": problem }))
}
