//! The OpenAPI document of the endpoints, as they are configured.
//!
//! [`Facts::operation`] says of each endpoint what it takes and how it answers; one that it does not know does not compile.
//! `tests/it/openapi.rs` and `tests/openapi/run` hold what is said here against what the router does.
//!
//! Of JSON Schema, only what utoipa has a place for is used: an application's document takes this one in.

use fastauth_core::{
    issue::MAX_CLIENT_ID_LEN,
    settings::{EndpointOptions, Shape},
};
use http::Method;
use serde_json::{Map, Value, json};

use super::{ENDPOINTS, Endpoint};
use crate::{cookie::REFRESH_COOKIE, credentials::TokenHeaders};

/// The names of the security schemes, which are those of `fastauth-api`.
pub(crate) const MASTER_SCHEME: &str = "MasterTokenHeader";
pub(crate) const ACCESS_SCHEME: &str = "AccessTokenHeader";
pub(crate) const BEARER_SCHEME: &str = "Bearer";

/// The schema of the guard's refusals.
pub(crate) const DETAIL: &str = "FastAuthDetail";
const ISSUED: &str = "FastAuthIssued";
const FAILURE: &str = "FastAuthFailure";
const INVALID: &str = "FastAuthInvalidParameters";
const TOKEN_PAIR: &str = "FastAuthTokenPair";
const OAUTH_ERROR: &str = "FastAuthOAuthError";
const REVOKED: &str = "FastAuthRevoked";
const INTROSPECTION: &str = "FastAuthIntrospection";
const TICKET: &str = "FastAuthTicket";
const HEALTH: &str = "FastAuthHealth";

const DESCRIPTION: &str = "\
Issues tokens, renews them, takes them back and tells what they say.

A `POST` takes its parameters from its body, a form or a JSON object of up to 64 KiB; those of its URL are refused. Each \
parameter stands there once. A method that a path does not list does nothing and is answered with 405, the header `Allow` \
and `{\"detail\": \"Method Not Allowed\"}`; a path that is not here, with 404.";

/// What the document depends on.
pub(super) struct Facts<'a> {
    pub(super) options: &'a EndpointOptions,
    pub(super) app_name: &'a str,
    pub(super) sources: TokenHeaders,
    /// Whether the application may refuse to issue, with a status of its own.
    pub(super) has_claims_hook: bool,
}

/// What is said of an endpoint.
struct Operation {
    id: &'static str,
    summary: &'static str,
    description: String,
    /// The alternatives: each is a list of schemes that are needed together.
    security: Vec<Vec<&'static str>>,
    /// The ways to call it: each has its parameters.
    ways: Vec<Way>,
    /// Whether there is a way to call it without parameters.
    may_be_bare: bool,
    takes_cookie: bool,
    success: Answer,
    refusals: Vec<Answer>,
}

struct Way {
    title: &'static str,
    parameters: Vec<Parameter>,
}

struct Parameter {
    name: &'static str,
    description: &'static str,
    required: bool,
    /// Of its value in a form or a URL.
    text: Value,
    /// Of its value in JSON, where that may be something else.
    json: Option<Value>,
}

struct Answer {
    status: &'static str,
    description: String,
    headers: Map<String, Value>,
    /// The schemas of the body, of which it has one; none where there is no body.
    schemas: Vec<&'static str>,
}

impl Facts<'_> {
    pub(super) fn document(&self) -> Value {
        let paths = ENDPOINTS.into_iter().map(|(path, endpoint)| (path.to_owned(), self.path_item(endpoint)));
        json!({
            "openapi": "3.1.0",
            "info": { "title": format!("{}: tokens", self.app_name), "version": "1.0", "description": DESCRIPTION },
            // Where the document lies, wherever that is.
            "servers": [{ "url": "." }],
            "tags": [{ "name": "tokens", "description": "Issuing, renewing, revoking and looking into tokens" }],
            "paths": paths.collect::<Map<_, _>>(),
            "components": { "securitySchemes": self.security_schemes(), "schemas": self.schemas() },
        })
    }

    fn path_item(&self, endpoint: Endpoint) -> Value {
        let methods = endpoint.methods(self.options).split(", ");
        methods.map(|method| (method.to_ascii_lowercase(), self.operation(endpoint).render(method))).collect()
    }

    fn operation(&self, endpoint: Endpoint) -> Operation {
        match endpoint {
            Endpoint::New => self.new_tokens(),
            Endpoint::Refresh => self.refresh(),
            Endpoint::Token => self.token(),
            Endpoint::Revoke => self.revoke(),
            Endpoint::Introspect => self.introspect(),
            Endpoint::Ticket => self.ticket(),
            Endpoint::Health => health(),
            Endpoint::Document => document_itself(),
        }
    }

    fn new_tokens(&self) -> Operation {
        let client_id = Parameter::client_id("Whom the tokens are issued to; a new random id where there is none");
        Operation {
            id: "newTokens",
            summary: "Issues a pair of tokens",
            description: "With the master token, to whatever client is named.".to_owned(),
            security: vec![vec![MASTER_SCHEME]],
            ways: vec![Way::of([client_id])],
            may_be_bare: true,
            takes_cookie: false,
            success: self.issued(Endpoint::New),
            refusals: self.refusals(Endpoint::New, [wrong_master_token()]),
        }
    }

    fn refresh(&self) -> Operation {
        let refused = "The refresh token is not valid, or was used or revoked";
        let own = match self.options.shape {
            Shape::Envelope => {
                vec![Answer::new("401", refused, [FAILURE]).with("WWW-Authenticate", self.challenge())]
            }
            Shape::OAuth => Vec::new(),
        };
        Operation {
            id: "refreshTokens",
            summary: "Exchanges a refresh token for a new pair",
            description: format!(
                "The pair that the refresh token is of is replaced, and the token is not accepted again.{}",
                self.of_the_cookie("`refresh_token`")
            ),
            security: Vec::new(),
            ways: vec![Way::of([self.refresh_token()])],
            may_be_bare: self.options.cookie,
            takes_cookie: self.options.cookie,
            success: self.issued(Endpoint::Refresh),
            refusals: self.refusals(Endpoint::Refresh, own),
        }
    }

    fn token(&self) -> Operation {
        let grant_type = Parameter {
            text: json!({ "type": "string", "enum": ["refresh_token"] }),
            ..Parameter::required("grant_type", "The only grant type here")
        };
        let basic = Answer::new(
            "401",
            "The client tries to authenticate itself, and clients have no secret here",
            [OAUTH_ERROR],
        );
        let parameters = [
            grant_type,
            self.refresh_token(),
            Parameter::optional("client_id", "The client that the token was issued to"),
            Parameter::optional("scope", "Names of the token's scope, with spaces between them"),
        ];
        Operation {
            id: "token",
            summary: "The token endpoint of OAuth 2.0, for refresh tokens",
            description: format!(
                "RFC 6749 6, for clients without a secret.{}",
                self.of_the_cookie("`refresh_token` beside the `grant_type`")
            ),
            security: Vec::new(),
            ways: vec![Way::of(parameters)],
            may_be_bare: false,
            takes_cookie: self.options.cookie,
            success: self.issued(Endpoint::Token),
            refusals: self.refusals(Endpoint::Token, [basic.with("WWW-Authenticate", "`Basic`").oauth()]),
        }
    }

    fn revoke(&self) -> Operation {
        let all = Parameter {
            text: json!({ "type": "string", "enum": ["true"] }),
            json: Some(json!({ "type": ["boolean", "string"], "enum": [true, "true"] })),
            ..Parameter::required("all", "Everything is meant")
        };
        let by_token = [
            Parameter::required("token", "An access or refresh token"),
            Parameter::optional("client_id", "The client that it was issued to"),
        ];
        let by_client = [
            Parameter::required("client_id", "Whose tokens are revoked"),
            Parameter::optional("family", "The one log-in of the client that is meant"),
        ];
        let unable = Answer::new("501", "The token store is not able to revoke", [OAUTH_ERROR]).oauth();
        Operation {
            id: "revokeTokens",
            summary: "Revokes tokens",
            description: format!(
                "By the token itself, which is enough to bring (RFC 7009); or, with the master token, by client, by one \
                 log-in of a client, or all of them.{}",
                self.of_the_cookie("any parameter")
            ),
            security: vec![Vec::new(), vec![MASTER_SCHEME]],
            ways: [
                Way { title: "By token", parameters: by_token.into() },
                Way { title: "By client", parameters: by_client.into() },
                Way { title: "Everything", parameters: vec![all] },
            ]
            .into_iter()
            .chain(self.options.cookie.then(|| Way { title: "By the cookie", parameters: Vec::new() }))
            .collect(),
            may_be_bare: self.options.cookie,
            takes_cookie: self.options.cookie,
            success: self.revoked(),
            refusals: self.refusals(Endpoint::Revoke, [wrong_master_token(), unable]),
        }
    }

    fn introspect(&self) -> Operation {
        Operation {
            id: "introspectToken",
            summary: "Tells what a token says, if it is accepted",
            description: "RFC 7662, for the holder of the master token.".to_owned(),
            security: vec![vec![MASTER_SCHEME]],
            ways: vec![Way::of([Parameter::required("token", "An access or refresh token")])],
            may_be_bare: false,
            takes_cookie: false,
            success: Answer::new("200", "What the token says; of any other, that it is not active", [INTROSPECTION])
                .oauth(),
            refusals: self.refusals(Endpoint::Introspect, [wrong_master_token()]),
        }
    }

    fn ticket(&self) -> Operation {
        let refused = "The access token is missing or not accepted";
        let refused = Answer::new("401", refused, [DETAIL]).with("WWW-Authenticate", self.challenge());
        let unable = "The token store is not able to hold tickets to one use";
        let unsigned = Answer::new("500", "The ticket could not be signed", [OAUTH_ERROR]).oauth();
        Operation {
            id: "newTicket",
            summary: "Issues a ticket that opens one WebSocket",
            description: "For the holder of an access token: `?ticket=…` in the URL of a WebSocket opens it once."
                .to_owned(),
            security: self.sources.of(vec![ACCESS_SCHEME], vec![BEARER_SCHEME]).collect(),
            ways: vec![Way::of([])],
            may_be_bare: true,
            takes_cookie: false,
            success: Answer::new("200", "The ticket", [TICKET]).oauth(),
            refusals: self
                .refusals(Endpoint::Ticket, [refused, Answer::new("501", unable, [OAUTH_ERROR]).oauth(), unsigned]),
        }
    }

    fn refresh_token(&self) -> Parameter {
        let required = !self.options.cookie;
        Parameter { required, ..Parameter::required("refresh_token", "The refresh token of the pair") }
    }

    fn of_the_cookie(&self, without: &str) -> String {
        if !self.options.cookie {
            return String::new();
        }
        format!(" Without {without}, the refresh token is taken from the cookie `{REFRESH_COOKIE}`.")
    }

    fn issued(&self, endpoint: Endpoint) -> Answer {
        let answer = match endpoint.shape(self.options) {
            Shape::Envelope => Answer::new("200", "The new pair", [ISSUED]),
            Shape::OAuth => Answer::new("200", "The new pair", [TOKEN_PAIR]).oauth(),
        };
        if self.options.cookie {
            answer.with("Set-Cookie", "The refresh token, out of reach of scripts")
        } else {
            answer
        }
    }

    fn revoked(&self) -> Answer {
        let answer = Answer::new("200", "The tokens are revoked, or were none of ours", [REVOKED]).oauth();
        if self.options.cookie {
            answer.with("Set-Cookie", "Takes the refresh token back, where no administrator asked")
        } else {
            answer
        }
    }

    /// The endpoint's own refusals, and those that it shares with others.
    fn refusals(&self, endpoint: Endpoint, own: impl IntoIterator<Item = Answer>) -> Vec<Answer> {
        let is_envelope = endpoint.shape(self.options) == Shape::Envelope;
        let problem = |status, description| {
            let answer = Answer::new(status, description, [if is_envelope { FAILURE } else { OAUTH_ERROR }]);
            if is_envelope { answer } else { answer.oauth() }
        };
        let mut bad_request = problem("400", "The request cannot be read");
        if !is_envelope {
            "The request cannot be read, or asks for what there is not".clone_into(&mut bad_request.description);
        }
        if endpoint.is_administration() || matches!(endpoint, Endpoint::Revoke | Endpoint::Ticket) {
            bad_request.schemas.push(DETAIL);
            bad_request.headers.insert("WWW-Authenticate".to_owned(), header("Where a credential is there twice"));
        }
        let mut unavailable = problem("503", "The token store is unavailable");
        if endpoint == Endpoint::Ticket {
            unavailable.schemas.push(DETAIL);
        }
        let mut refusals = vec![
            bad_request,
            problem("408", "The body did not come within ten seconds, or paused for three"),
            problem("413", "The body is longer than 64 KiB, or than the application allows"),
            problem("415", "The body is neither a form nor JSON, or of a charset that is not read"),
            unavailable.with("Retry-After", "In how many seconds to try again"),
        ];
        refusals.extend(own);
        if is_envelope {
            refusals.push(Answer::new("422", "A parameter is missing or of no use", [INVALID]));
        }
        if self.options.cookie {
            refusals.push(problem("403", "A page of another origin asks"));
        }
        if endpoint.issues() {
            refusals.push(problem("500", "The tokens could not be signed"));
            if self.has_claims_hook {
                refusals.push(problem("default", "The application refuses, with a status of its own"));
            }
        }
        let asks_master = endpoint.is_administration() || endpoint == Endpoint::Revoke;
        if self.is_limited() && (endpoint.issues() || asks_master) {
            let mut limited = problem("429", "There were too many requests, or wrong master tokens, before");
            if !endpoint.issues() {
                limited.schemas.clear();
            }
            limited.schemas.extend(asks_master.then_some(DETAIL));
            refusals.push(limited.with("Retry-After", "In how many seconds to try again"));
        }
        refusals
    }

    fn is_limited(&self) -> bool {
        self.options.rate_limit.is_some()
    }

    fn schemas(&self) -> Value {
        let mut schemas = json!({
            DETAIL: {
                "type": "object",
                "required": ["detail"],
                "properties": { "detail": { "type": "string" } },
            },
            TOKEN_PAIR: self.token_pair(),
            OAUTH_ERROR: {
                "type": "object",
                "required": ["error", "error_description"],
                "properties": {
                    "error": {
                        "type": "string",
                        "enum": [
                            "invalid_request", "invalid_client", "invalid_grant", "invalid_scope",
                            "unsupported_grant_type", "access_denied", "server_error", "temporarily_unavailable",
                        ],
                    },
                    "error_description": { "type": "string" },
                },
            },
            REVOKED: {
                "type": "object",
                "properties": {
                    "revoked": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "How many log-ins were ended; not told to who gave a token up",
                    },
                },
            },
            INTROSPECTION: introspection(),
            TICKET: {
                "type": "object",
                "required": ["ticket", "expires_in"],
                "properties": {
                    "ticket": { "type": "string" },
                    "expires_in": { "type": "integer", "minimum": 0, "description": "For how many seconds it is good" },
                },
            },
            HEALTH: {
                "type": "object",
                "required": ["status"],
                "properties": {
                    "status": { "type": "string", "enum": ["ok", "unavailable"] },
                    "checks": {
                        "type": "object",
                        "required": ["store"],
                        "properties": { "store": { "type": "string", "enum": ["ok", "unavailable"] } },
                    },
                },
            },
        });
        if self.options.shape == Shape::Envelope {
            schemas[ISSUED] = self.envelope();
            schemas[FAILURE] = failure();
            schemas[INVALID] = invalid_parameters();
        }
        schemas
    }

    fn token_pair(&self) -> Value {
        let mut schema = json!({
            "type": "object",
            "required": ["access_token", "token_type", "expires_in"],
            "properties": {
                "access_token": { "type": "string" },
                "token_type": { "type": "string", "enum": ["Bearer"] },
                "expires_in": { "type": "integer", "minimum": 0, "description": "For how many seconds it is valid" },
                "scope": { "type": "string" },
            },
        });
        self.add_refresh_token(&mut schema);
        schema
    }

    fn envelope(&self) -> Value {
        let mut data = json!({
            "type": "object",
            "required": ["client_id", "access_token"],
            "properties": { "client_id": { "type": "string" }, "access_token": { "type": "string" } },
        });
        self.add_refresh_token(&mut data);
        json!({
            "type": "object",
            "required": ["status", "message", "code", "data"],
            "properties": {
                "status": { "type": "string", "enum": ["success"] },
                "message": { "type": "string" },
                "code": { "type": "integer", "enum": [200] },
                "data": data,
            },
        })
    }

    fn add_refresh_token(&self, schema: &mut Value) {
        if self.options.cookie {
            return;
        }
        schema["properties"]["refresh_token"] = json!({ "type": "string" });
        if let Some(required) = schema["required"].as_array_mut() {
            required.push(json!("refresh_token"));
        }
    }
}

fn document_itself() -> Operation {
    Operation {
        id: "describeEndpoints",
        summary: "This document",
        description: String::new(),
        security: Vec::new(),
        ways: Vec::new(),
        may_be_bare: true,
        takes_cookie: false,
        success: Answer::new("200", "An OpenAPI document of these endpoints", []),
        refusals: Vec::new(),
    }
}

fn health() -> Operation {
    let deep = Parameter {
        text: json!({ "type": "string", "enum": ["", "true", "false"] }),
        ..Parameter::optional("deep", "Whether the token store is asked, too; it is asked once a second at the most")
    };
    Operation {
        id: "health",
        summary: "Whether tokens can be issued and judged",
        description: String::new(),
        security: Vec::new(),
        ways: vec![Way::of([deep])],
        may_be_bare: true,
        takes_cookie: false,
        success: Answer::new("200", "It is well", [HEALTH]),
        refusals: vec![
            Answer::new("400", "The parameter cannot be read", [OAUTH_ERROR]).oauth(),
            Answer::new("503", "The token store does not answer", [HEALTH]),
        ],
    }
}

fn wrong_master_token() -> Answer {
    Answer::new("401", "The master token is wrong or missing", [DETAIL]).with("WWW-Authenticate", "`MasterToken`")
}

fn introspection() -> Value {
    json!({
        "type": "object",
        "required": ["active"],
        "properties": {
            "active": { "type": "boolean" },
            "token_type": { "type": "string", "enum": ["Bearer", "refresh_token"] },
            "client_id": { "type": "string" },
            "fam": { "type": "string", "description": "The log-in that it is of, as the `family` to revoke" },
            "exp": { "type": "integer", "description": "The last second in which it is valid, since 1970" },
            "iat": { "type": "integer", "description": "The second in which it was issued, since 1970" },
            "scope": { "type": "string" },
        },
        "additionalProperties": true,
        "description": "With all that a token says, if it is active",
    })
}

fn failure() -> Value {
    json!({
        "type": "object",
        "required": ["status", "message", "code"],
        "properties": {
            "status": { "type": "string", "enum": ["error"] },
            "message": { "type": "string" },
            "code": { "type": "integer", "description": "The HTTP status" },
            "data": { "type": "object", "properties": { "client_id": { "type": "string" } } },
        },
    })
}

/// FastAPI's.
fn invalid_parameters() -> Value {
    let problem = json!({
        "type": "object",
        "required": ["type", "loc", "msg", "input"],
        "properties": {
            "type": { "type": "string" },
            "loc": { "type": "array", "items": { "type": "string" }, "description": "Where it stands, and its name" },
            "msg": { "type": "string" },
            "input": { "type": "null" },
        },
    });
    json!({
        "type": "object",
        "required": ["detail"],
        "properties": { "detail": { "type": "array", "items": problem } },
    })
}

impl Facts<'_> {
    fn security_schemes(&self) -> Value {
        let access_token = json!({
            "type": "apiKey", "in": "header", "name": "ACCESS-TOKEN",
            "description": "An access token",
        });
        let bearer = json!({
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "An access token as `Authorization: Bearer`",
        });
        let master_token = json!({
            "type": "apiKey", "in": "header", "name": "MASTER-TOKEN",
            "description": "The master token",
        });
        let of_access = self.sources.of((ACCESS_SCHEME, access_token), (BEARER_SCHEME, bearer));
        let all = of_access.chain([(MASTER_SCHEME, master_token)]);
        all.map(|(name, scheme)| (name.to_owned(), scheme)).collect::<Map<_, _>>().into()
    }

    /// How an access token is asked for.
    fn challenge(&self) -> &'static str {
        if self.sources.authorization { "`Bearer`, by RFC 6750" } else { "`AccessToken`" }
    }
}

impl Operation {
    fn render(self, method: &str) -> Value {
        let is_post = method == Method::POST.as_str();
        let mut operation = json!({
            "operationId": if is_post { self.id.to_owned() } else { format!("{}By{}", self.id, capitalised(method)) },
            "summary": self.summary,
            "tags": ["tokens"],
            "security": self.security.iter().map(|schemes| requirement(schemes)).collect::<Value>(),
        });
        let mut parameters = Vec::new();
        if is_post {
            operation["requestBody"] = self.body();
        } else {
            parameters.extend(self.ways.iter().flat_map(|way| &way.parameters).map(Parameter::in_query));
        }
        if is_post && self.takes_cookie {
            parameters.push(json!({
                "name": REFRESH_COOKIE, "in": "cookie", "required": false, "schema": { "type": "string" },
                "description": "The refresh token",
            }));
        }
        let optional = [("description", json!(self.description)), ("parameters", json!(parameters))];
        for (name, value) in optional {
            if !matches!(value.as_str(), Some("")) && value != json!([]) {
                operation[name] = value;
            }
        }
        let answers = std::iter::once(self.success).chain(self.refusals);
        let answers =
            answers.filter_map(|answer| if is_post { Some(answer) } else { answer.without_body_of_request() });
        let has_body = method != Method::HEAD.as_str();
        operation["responses"] = answers.map(|answer| (answer.status.to_owned(), answer.render(has_body))).collect();
        operation
    }

    fn body(&self) -> Value {
        let schema = |of: fn(&Parameter) -> Value, others: &Value| {
            let ways = self.ways.iter().map(|way| way.schema(of, others)).collect::<Vec<_>>();
            match <[Value; 1]>::try_from(ways) {
                Ok([way]) => way,
                Err(ways) => json!({ "anyOf": ways }),
            }
        };
        json!({
            "required": !self.may_be_bare,
            "content": {
                // No parameter is there twice, so that none is a list.
                "application/x-www-form-urlencoded": { "schema": schema(Parameter::text, &json!({ "type": "string" })) },
                "application/json": { "schema": schema(Parameter::json, &json!(true)) },
            },
        })
    }
}

fn requirement(schemes: &[&str]) -> Value {
    schemes.iter().map(|scheme| ((*scheme).to_owned(), json!([]))).collect::<Map<_, _>>().into()
}

fn capitalised(method: &str) -> String {
    let (first, rest) = method.split_at(1.min(method.len()));
    format!("{first}{}", rest.to_ascii_lowercase())
}

impl Way {
    fn of(parameters: impl Into<Vec<Parameter>>) -> Self {
        Self { title: "", parameters: parameters.into() }
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
    fn required(name: &'static str, description: &'static str) -> Self {
        Self { name, description, required: true, text: json!({ "type": "string", "minLength": 1 }), json: None }
    }

    /// One that may be empty, which is as if it were not there (RFC 6749 3.2).
    fn optional(name: &'static str, description: &'static str) -> Self {
        Self { name, description, required: false, text: json!({ "type": "string" }), json: None }
    }

    fn client_id(description: &'static str) -> Self {
        // Bytes are counted and not characters, so that this may still be too long.
        let text = json!({
            "type": "string", "minLength": 1, "maxLength": MAX_CLIENT_ID_LEN,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$", "examples": ["alice"],
        });
        Self { text, ..Self::optional("client_id", description) }
    }

    fn text(&self) -> Value {
        self.text.clone()
    }

    /// `null` is as if it were not there.
    fn json(&self) -> Value {
        let mut schema = self.json.clone().unwrap_or_else(|| self.text.clone());
        if !self.required {
            schema["type"] = json!([schema["type"], "null"]);
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

impl Answer {
    fn new(status: &'static str, description: &str, schemas: impl Into<Vec<&'static str>>) -> Self {
        let answer = Self { status, description: description.to_owned(), headers: Map::new(), schemas: schemas.into() };
        // As all that the router answers.
        answer.with("Cache-Control", "`no-store`")
    }

    fn with(mut self, name: &str, description: &str) -> Self {
        self.headers.insert(name.to_owned(), header(description));
        self
    }

    fn oauth(self) -> Self {
        self.with("Pragma", "`no-cache`")
    }

    /// The same where there is no body that could be too long, or of another type, or not be read.
    fn without_body_of_request(mut self) -> Option<Self> {
        if self.status == "400" {
            self.schemas.retain(|schema| *schema != FAILURE);
        }
        let is_of_body =
            matches!(self.status, "408" | "413" | "415") || self.status == "400" && self.schemas.is_empty();
        (!is_of_body).then_some(self)
    }

    fn render(self, has_body: bool) -> Value {
        let mut answer = json!({ "description": self.description });
        if !self.headers.is_empty() {
            answer["headers"] = self.headers.into();
        }
        if has_body {
            let refs: Vec<_> = self.schemas.iter().map(|name| reference(name)).collect();
            let schema = match &*refs {
                [] => json!({ "type": "object" }),
                [schema] => schema.clone(),
                _ => json!({ "anyOf": refs }),
            };
            answer["content"] = json!({ "application/json": { "schema": schema } });
        }
        answer
    }
}

fn header(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn documents() -> impl Iterator<Item = (EndpointOptions, Value)> {
        let all = [Shape::Envelope, Shape::OAuth].map(|shape| [false, true].map(|on| (shape, on)));
        all.into_iter().flatten().flat_map(|(shape, cookie)| [false, true].map(|on| (shape, cookie, on))).map(
            |(shape, cookie, on)| {
                let options = EndpointOptions { allow_get: on, shape, cookie, rate_limit: None };
                let facts =
                    Facts { options: &options, app_name: "demo", sources: TokenHeaders::ALL, has_claims_hook: on };
                let document = facts.document();
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
            for (path, endpoint) in ENDPOINTS {
                let methods: BTreeSet<_> =
                    paths[path].as_object().unwrap().keys().map(|m| m.to_ascii_uppercase()).collect();
                assert_eq!(methods, endpoint.methods(&options).split(", ").map(str::to_owned).collect(), "{path}");
                for operation in paths[path].as_object().unwrap().values() {
                    assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
                    assert!(ids.insert(operation["operationId"].to_string()), "{path}: another one has this id");
                    let asks_master = operation["security"] == json!([{ MASTER_SCHEME: [] }]);
                    assert_eq!(asks_master, endpoint.is_administration(), "{path}");
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
