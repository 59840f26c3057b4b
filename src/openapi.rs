//! Adds what the guard requires to an application's OpenAPI document.

use std::{collections::BTreeMap, mem, sync::Arc};

use http::Method;
use serde_json::{Value, json};
use utoipa::{
    Modify,
    openapi::{OpenApi, PathItem, Paths, Ref, SecurityRequirement, Server, path::Operation},
};

use crate::{
    credential::{MASTER_TOKEN, Scheme, TokenHeaders},
    path::PathDecision,
    rule::Rules,
    tokens::{RouterParts, Schema, examples},
};

const BAD_REQUEST: &str = "FastAuthBadRequest";
const UNAUTHORIZED: &str = "FastAuthUnauthorized";
const TOO_MANY: &str = "FastAuthTooManyGuesses";
const UNAVAILABLE: &str = "FastAuthUnavailable";

/// Adds what the guard requires to the OpenAPI document of an application: a modifier for [utoipa](https://docs.rs/utoipa).
///
/// - The security schemes `AccessTokenHeader`, `Bearer` and `MasterTokenHeader` are added.
/// - Each operation gets the requirement of its path, and the answers of the guard that it does not have yet: 400 and 401,
///   429 if the number of wrong master tokens is limited, and 503 if the store is asked. Its own requirements are kept.
/// - An operation whose path is open is left alone. If the document requires one of these schemes everywhere, it gets
///   an empty list.
/// - [`endpoints`](Self::endpoints) adds the endpoints of the [`TokenRouter`](crate::TokenRouter).
///
/// A path with parameters, such as `/items/{id}`, gets all that its values may require: if `/items/admin` is guarded and
/// the rest is not, the credential is one alternative, and none (`{}`) is another. A value counts as one plain segment: that
/// `..%2faccess` requires an access token wherever it stands is not in the document.
///
/// Paths are taken with the path of each server that the document names: `/access` of a server `https://example.com/api`
/// is `/api/access`. If the guard sees other paths, set [`base_path`](Self::base_path).
///
/// ```
/// use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
/// use utoipa::{Modify, OpenApi};
///
/// #[utoipa::path(get, path = "/access/report", responses((status = 200, body = String)))]
/// async fn report() -> &'static str {
///     "for holders of a token"
/// }
///
/// #[derive(OpenApi)]
/// #[openapi(paths(report))]
/// struct Api;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = Secret::generate();
/// let settings = Settings::builder().cryptography_key(key).access_token_paths(["/access"]).store(MemoryStore::new());
/// let auth = FastAuthLayer::new(settings.build()?)?;
///
/// let mut document = Api::openapi();
/// auth.openapi().endpoints("/auth").modify(&mut document);
///
/// let document = serde_json::to_value(document)?;
/// let security = &document["paths"]["/access/report"]["get"]["security"];
/// assert_eq!(*security, serde_json::json!([{ "AccessTokenHeader": [] }, { "Bearer": [] }]));
/// assert!(document["paths"]["/auth/token/refresh"]["post"].is_object());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until its `modify` is called"]
pub struct OpenApiSecurity {
    rules: Rules,
    router: Arc<RouterParts>,
    endpoints: Option<String>,
    base_path: Option<String>,
}

impl OpenApiSecurity {
    pub(crate) fn new(rules: Rules, router: Arc<RouterParts>) -> Self {
        Self { rules, router, endpoints: None, base_path: None }
    }

    /// Adds the token endpoints as well, by the mount of their router, such as `/auth`. Like the paths of the document, it is
    /// relative to the path of a server.
    pub fn endpoints(mut self, mount: &str) -> Self {
        self.endpoints = Some(mount.trim_end_matches('/').to_owned());
        self
    }

    /// Sets what stands before the document's paths in the requests that the guard sees, whatever the document's servers are:
    /// the empty text if something before the guard strips the path of the server.
    pub fn base_path(mut self, path: &str) -> Self {
        self.base_path = Some(path.trim_end_matches('/').to_owned());
        self
    }

    /// Returns what the paths of an operation require.
    fn decisions(&self, method: &Method, servers: &[String], path: &str) -> Vec<PathDecision> {
        let bases = self.base_path.as_ref().map_or(servers, std::slice::from_ref);
        let mut found = Vec::new();
        for decision in bases.iter().flat_map(|base| self.rules.decisions(method, &format!("{base}{path}"))) {
            if !found.contains(&decision) {
                found.push(decision);
            }
        }
        found
    }

    fn secure(&self, item: &mut PathItem, path: &str, document: &Inherited) {
        let servers = item.servers.as_deref().map_or_else(|| document.servers.clone(), paths_of);
        for (method, operation) in operations(item) {
            let servers = operation.servers.as_deref().map_or_else(|| servers.clone(), paths_of);
            let decisions = self.decisions(&method, &servers, path);
            if decisions.iter().all(|decision| *decision == PathDecision::Public) {
                open_operation(operation, document);
            } else {
                self.secure_operation(operation, &decisions, document);
            }
        }
    }

    fn secure_operation(&self, operation: &mut Operation, decisions: &[PathDecision], document: &Inherited) {
        let guard = Alternatives::new(decisions, self.router.sources);
        let own = operation.security.as_deref().map_or_else(|| document.without_ours(), Alternatives::read);
        if !own.include_some_of(&guard) {
            operation.security = Some(own.and(&guard).write());
        }
        let answers = &mut operation.responses.responses;
        for (status, name) in self.refusals(decisions) {
            answers.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
        }
    }

    /// Returns the refusals of the guard for paths with these requirements.
    fn refusals(&self, decisions: &[PathDecision]) -> Vec<(&'static str, &'static str)> {
        use PathDecision::{Access, Master, MasterAndAccess};
        let mut refusals = vec![("400", BAD_REQUEST), ("401", UNAUTHORIZED)];
        if self.router.limits_guesses() && decisions.iter().any(|d| matches!(d, Master | MasterAndAccess)) {
            refusals.push(("429", TOO_MANY));
        }
        if decisions.iter().any(|d| matches!(d, Access | MasterAndAccess)) {
            refusals.push(("503", UNAVAILABLE));
        }
        refusals
    }
}

impl Modify for OpenApiSecurity {
    fn modify(&self, openapi: &mut OpenApi) {
        let mut tokens = own_document(&self.router);
        match &self.endpoints {
            Some(mount) => *openapi = mem::take(openapi).nest(mount, tokens),
            None => {
                tokens.paths = Paths::new();
                tokens.tags = None;
                if let Some(components) = &mut tokens.components {
                    components.schemas.retain(|name, _| name == self.router.error_schema().name);
                }
                openapi.merge(tokens);
            }
        }
        let document = Inherited::new(openapi);
        for (path, item) in &mut openapi.paths.paths {
            self.secure(item, path, &document);
        }
    }
}

/// What operations inherit from the document.
struct Inherited {
    /// The paths of the servers.
    servers: Vec<String>,
    security: Option<Alternatives>,
}

impl Inherited {
    fn new(openapi: &OpenApi) -> Self {
        let servers = paths_of(openapi.servers.as_deref().unwrap_or_default());
        Self { servers, security: openapi.security.as_deref().map(Alternatives::read) }
    }

    /// Returns what an operation inherits, without the guard's schemes: those depend on its path.
    fn without_ours(&self) -> Alternatives {
        let mut security = self.security.clone().unwrap_or_default();
        for alternative in &mut security.0 {
            alternative.retain(|scheme, _| !is_ours(scheme));
        }
        security
    }

    fn has_ours(&self) -> bool {
        self.security.as_ref().is_some_and(Alternatives::have_ours)
    }
}

fn is_ours(scheme: &str) -> bool {
    is_access(scheme) || name_of(&MASTER_TOKEN) == Some(scheme)
}

/// Returns true if this is the name of a scheme that carries an access token.
fn is_access(scheme: &str) -> bool {
    TokenHeaders::ALL.schemes().any(|ours| name_of(ours) == Some(scheme))
}

fn name_of(scheme: &Scheme) -> Option<&'static str> {
    scheme.openapi.map(|openapi| openapi.name)
}

/// Schemes that are required together, each with its scopes.
type Together = BTreeMap<String, Vec<String>>;

/// Alternatives, of which one has to be met. An empty one is always met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Alternatives(Vec<Together>);

impl Alternatives {
    fn read(security: &[SecurityRequirement]) -> Self {
        Self(security.iter().filter_map(read_requirement).collect())
    }

    fn write(self) -> Vec<SecurityRequirement> {
        self.0.into_iter().map(write_requirement).collect()
    }

    fn new(decisions: &[PathDecision], sources: TokenHeaders) -> Self {
        Self(decisions.iter().flat_map(|decision| alternatives(*decision, sources)).collect())
    }

    fn have_ours(&self) -> bool {
        self.0.iter().flat_map(BTreeMap::keys).any(|scheme| is_ours(scheme))
    }

    /// Returns true if the guard's schemes in these are alternatives of the guard, whatever else they require.
    fn include_some_of(&self, guard: &Self) -> bool {
        self.have_ours() && self.0.iter().all(|together| guard.0.contains(&only_ours(together)))
    }

    /// Returns what meets both. An empty list requires nothing.
    fn and(self, other: &Self) -> Self {
        let any = [Together::new()];
        let own = if self.0.is_empty() { &any[..] } else { &self.0 };
        let mut both = Vec::new();
        for (a, b) in own.iter().flat_map(|a| other.0.iter().map(move |b| (a, b))) {
            let united = unite(a, b);
            if !both.contains(&united) {
                both.push(united);
            }
        }
        Self(both)
    }
}

fn read_requirement(requirement: &SecurityRequirement) -> Option<Together> {
    serde_json::from_value(serde_json::to_value(requirement).ok()?).ok()
}

fn write_requirement(together: Together) -> SecurityRequirement {
    together.into_iter().fold(SecurityRequirement::default(), |written, (scheme, scopes)| {
        written.add::<String, Vec<_>, String>(scheme, scopes)
    })
}

fn only_ours(together: &Together) -> Together {
    together.clone().into_iter().filter(|(scheme, _)| is_ours(scheme)).collect()
}

/// Merges two lists of schemes. The access token counts once, in whichever of its headers it comes.
fn unite(a: &Together, b: &Together) -> Together {
    let has_access = a.keys().any(|scheme| is_access(scheme));
    let mut united = a.clone();
    for (scheme, scopes) in b {
        if !(has_access && is_access(scheme)) {
            united.entry(scheme.clone()).or_insert_with(|| scopes.clone());
        }
    }
    united
}

/// Returns the lists of schemes of which one is required.
fn alternatives(decision: PathDecision, sources: TokenHeaders) -> Vec<Together> {
    let together = |schemes: &[&Scheme]| -> Together {
        schemes.iter().filter_map(|scheme| Some((name_of(scheme)?.to_owned(), Vec::new()))).collect()
    };
    match decision {
        PathDecision::Public => vec![together(&[])],
        PathDecision::Access => sources.schemes().map(|access| together(&[access])).collect(),
        PathDecision::Master => vec![together(&[&MASTER_TOKEN])],
        PathDecision::MasterAndAccess => sources.schemes().map(|access| together(&[&MASTER_TOKEN, access])).collect(),
        PathDecision::Optional => {
            let presented = sources.schemes().map(|access| together(&[access]));
            [together(&[])].into_iter().chain(presented).collect()
        }
        PathDecision::Deny | PathDecision::Reject => Vec::new(),
    }
}

/// Exempts an operation from schemes of the guard that the document requires everywhere.
fn open_operation(operation: &mut Operation, document: &Inherited) {
    if operation.security.is_some() || !document.has_ours() {
        return;
    }
    let left = document.without_ours().and(&Alternatives(vec![Together::new()]));
    let is_open = left.0.iter().any(BTreeMap::is_empty);
    operation.security = Some(if is_open { Vec::new() } else { left.write() });
}

fn operations(item: &mut PathItem) -> Vec<(Method, &mut Operation)> {
    let standard = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
        (Method::HEAD, &mut item.head),
        (Method::PATCH, &mut item.patch),
        (Method::TRACE, &mut item.trace),
    ];
    let standard = standard.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)));
    let other = |name: &str| Method::from_bytes(name.as_bytes()).unwrap_or_default();
    let query = item.query.as_mut().map(|operation| (other("QUERY"), operation));
    let others = item.additional_operations.iter_mut().map(|(name, operation)| (other(name), operation));
    standard.chain(query).chain(others).collect()
}

/// Returns the path of each server, without a slash at its end. That of a server relative to the document cannot be known
/// here. Without any, the server is the one that the document comes from.
fn paths_of(servers: &[Server]) -> Vec<String> {
    if servers.is_empty() {
        return vec![String::new()];
    }
    servers.iter().map(path_of).collect()
}

fn path_of(server: &Server) -> String {
    let url = server.url.split(['?', '#']).next().unwrap_or_default();
    let behind_host = url.split_once("://").map(|(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let path = behind_host.unwrap_or(url);
    if path.starts_with('/') { path.trim_end_matches('/').to_owned() } else { String::new() }
}

/// Returns the document of the router without its mount, with the answers of the guard.
#[allow(clippy::expect_used, reason = "a test reads the document of every configuration")]
fn own_document(router: &RouterParts) -> OpenApi {
    let mut document = router.document();
    document["components"]["responses"] = guard_responses(router.error_schema());
    let mut document: OpenApi = serde_json::from_value(document).expect("utoipa reads the document of the endpoints");
    document.servers = None;
    document
}

fn guard_responses(schema: Schema) -> Value {
    let content = |status, reason, message| {
        let schema_of = json!({ "$ref": format!("#/components/schemas/{}", schema.name) });
        let example = examples::error(schema.name, status, Some(reason), message);
        json!({ schema.media_type(): { "schema": schema_of, "example": example } })
    };
    let header =
        |name: &str, description: &str| json!({ name: { "description": description, "schema": { "type": "string" } } });
    let challenge = header("WWW-Authenticate", "`Bearer`, by RFC 6750, or `AccessToken`, or `MasterToken`");
    let retry_after = header("Retry-After", "Seconds to wait before trying again");
    json!({
        BAD_REQUEST: {
            "description": "The path, or a credential, can be read in more than one way",
            "headers": challenge,
            "content": content("400", "path_malformed_escape", "malformed escape"),
        },
        UNAUTHORIZED: {
            "description": "A credential is missing or not accepted. Where the operation has an alternative without any, \
                            some values of its parameters require one",
            "headers": challenge,
            "content": content("401", "missing_access_token", "Invalid Access Token. Access Token is null"),
        },
        TOO_MANY: {
            "description": "Too many wrong master tokens",
            "headers": retry_after,
            "content": content("429", "too_many_guesses", "Too many wrong master tokens, try again later"),
        },
        UNAVAILABLE: {
            "description": "The token store is unavailable",
            "headers": retry_after,
            "content": content("503", "store_unavailable", "The token store is unavailable, try again later"),
        },
    })
}
