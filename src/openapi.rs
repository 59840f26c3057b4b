//! Adds what the guard requires to an application's OpenAPI document.

use std::{collections::BTreeMap, mem, sync::Arc};

use fastauth_core::openapi::Paths as OperationPaths;
use http::Method;
use serde_json::{Value, json};
use utoipa::{
    Modify,
    openapi::{OpenApi, PathItem, Paths, Ref, SecurityRequirement, path::Operation},
};

use crate::{
    credential::{MASTER_TOKEN, Scheme, TokenHeaders},
    rule::{Demands, Requirement, Rules},
    tokens::{RouterParts, Schema, examples},
};

const BAD_REQUEST: &str = "FastAuthBadRequest";
const UNAUTHORIZED: &str = "FastAuthUnauthorized";
const FORBIDDEN: &str = "FastAuthForbidden";
const TOO_MANY: &str = "FastAuthTooManyGuesses";
const UNAVAILABLE: &str = "FastAuthUnavailable";

/// The most alternatives that an operation gets because one of several roles or scopes is enough.
const MOST_ALTERNATIVES: usize = 8;

/// Adds what the guard requires to the OpenAPI document of an application: a modifier for [utoipa](https://docs.rs/utoipa).
///
/// - The security schemes `AccessTokenHeader`, `Bearer` and `MasterTokenHeader` are added.
/// - Each operation gets the requirement of its path and method, and the answers of the guard that it does not have yet: 400 and
///   401, 403 if the claims have to meet demands or the path is denied, 429 if the number of wrong master tokens is limited, and
///   503 if the store is asked. Its own requirements are kept.
/// - The roles and scopes that a token needs stand beside its scheme. If one of several is enough, each is an alternative. If
///   the token is optional, none (`{}`) is an alternative.
/// - An operation whose path is open is left alone. If the document requires one of these schemes everywhere, it gets
///   an empty list.
/// - [`endpoints`](Self::endpoints) adds the endpoints of the [`TokenRouter`](crate::TokenRouter).
///
/// A path with parameters, such as `/items/{id}`, gets all that its values may require: if `/items/admin` is guarded and
/// the rest is not, the credential is one alternative, and none (`{}`) is another. A parameter that is an integer or a UUID takes such
/// values alone, and what the document has a path for, such as `/items/all`, is no value. A value counts as one plain segment: that
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

    /// Returns what the paths of templates require.
    fn asked(&self, method: &Method, templates: &[String], paths: &OperationPaths<'_>) -> Vec<Asked> {
        let paths = |template: &String| paths.paths_of(&self.rules, template);
        let mut found = Vec::new();
        for requirement in templates.iter().flat_map(|template| self.rules.requirements_of(method, &paths(template))) {
            let asked = Asked::new(requirement, &self.rules);
            if !found.contains(&asked) {
                found.push(asked);
            }
        }
        // The least first, as a reader expects alternatives.
        found.sort_by_key(|asked| (asked.master, asked.access, asked.is_optional));
        found
    }

    fn secure(&self, item: &mut PathItem, path: &str, document: &Inherited, paths: &OperationPaths<'_>) {
        let written = json!(item);
        for (method, operation) in operations(item) {
            let templates = paths.templates(path, &written, &json!(operation));
            let asked = self.asked(&method, &templates, paths);
            if asked.iter().all(Asked::takes_no_credential) {
                open_operation(operation, document);
            } else {
                self.require_credentials(operation, &asked, document);
            }
            let answers = &mut operation.responses.responses;
            for (status, name) in self.refusals(&asked) {
                answers.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
            }
        }
    }

    fn require_credentials(&self, operation: &mut Operation, asked: &[Asked], document: &Inherited) {
        let guard = Alternatives::new(asked, self.router.sources);
        let own = operation.security.as_deref().map_or_else(|| document.without_ours(), Alternatives::read);
        if !own.include_some_of(&guard) {
            operation.security = Some(own.and(&guard).write());
        }
    }

    /// Returns the refusals of the guard for paths with these requirements.
    fn refusals(&self, asked: &[Asked]) -> Vec<(&'static str, &'static str)> {
        let any = |is_so: fn(&Asked) -> bool| asked.iter().any(is_so);
        let refusals = [
            ("400", BAD_REQUEST, any(|asked| !asked.takes_no_credential() || asked.is_denied)),
            ("401", UNAUTHORIZED, any(|asked| !asked.takes_no_credential())),
            ("403", FORBIDDEN, any(|asked| asked.is_denied || !asked.demands.is_empty())),
            ("429", TOO_MANY, self.router.limits_guesses() && any(|asked| asked.master)),
            ("503", UNAVAILABLE, any(|asked| asked.access || asked.is_optional)),
        ];
        refusals.into_iter().filter(|(.., is_so)| *is_so).map(|(status, name, _)| (status, name)).collect()
    }
}

/// What paths of an operation ask for.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    master: bool,
    access: bool,
    is_optional: bool,
    is_denied: bool,
    /// What the claims of the access token must say, of all rules that decide.
    demands: Vec<Demands>,
}

impl Asked {
    fn new(requirement: Requirement, rules: &Rules) -> Self {
        let demands = rules.winners(requirement).map(|(_, rule)| rule.demands().clone());
        Self {
            master: requirement.needs_master(),
            access: requirement.needs_access(),
            is_optional: requirement.is_optional(),
            is_denied: requirement.is_denied(),
            demands: demands.filter(|demands| !demands.is_empty()).collect(),
        }
    }

    fn takes_no_credential(&self) -> bool {
        !(self.master || self.access || self.is_optional)
    }

    /// Returns the lists of schemes of which one is required.
    fn alternatives(&self, sources: TokenHeaders) -> Vec<Together> {
        let master = name_of(&MASTER_TOKEN).filter(|_| self.master).map(|name| (name.to_owned(), Vec::new()));
        let master: Together = master.into_iter().collect();
        if self.takes_no_credential() || !(self.access || self.is_optional) {
            return vec![master];
        }
        let mut alternatives = if self.is_optional { vec![Together::new()] } else { Vec::new() };
        for scheme in sources.schemes().filter_map(name_of) {
            for names in self.names() {
                let mut together = master.clone();
                together.insert(scheme.to_owned(), names);
                alternatives.push(together);
            }
        }
        alternatives
    }

    /// Returns the roles and scopes that a token needs: lists of which one is enough.
    fn names(&self) -> Vec<Vec<String>> {
        let mut alternatives = vec![Vec::new()];
        for demands in &self.demands {
            for name in [&demands.scopes, &demands.roles_all].into_iter().flatten().flatten() {
                alternatives.iter_mut().for_each(|names| add_name(names, name));
            }
            for any in [&demands.scopes_any, &demands.roles_any].into_iter().flatten() {
                // A document with more of them cannot be read.
                if alternatives.len() * any.len() > MOST_ALTERNATIVES {
                    continue;
                }
                let before = mem::take(&mut alternatives);
                for (name, names) in any.iter().flat_map(|name| before.iter().map(move |names| (name, names))) {
                    let mut names = names.clone();
                    add_name(&mut names, name);
                    alternatives.push(names);
                }
            }
        }
        alternatives
    }
}

fn add_name(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|other| other == name) {
        names.push(name.to_owned());
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
        let written = json!(openapi);
        let paths = OperationPaths::of_document(&written, self.base_path.as_deref());
        for (path, item) in &mut openapi.paths.paths {
            self.secure(item, path, &document, &paths);
        }
    }
}

/// What operations inherit from the document.
struct Inherited {
    security: Option<Alternatives>,
}

impl Inherited {
    fn new(openapi: &OpenApi) -> Self {
        Self { security: openapi.security.as_deref().map(Alternatives::read) }
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

    fn new(asked: &[Asked], sources: TokenHeaders) -> Self {
        let mut all = Vec::new();
        for together in asked.iter().flat_map(|asked| asked.alternatives(sources)) {
            if !all.contains(&together) {
                all.push(together);
            }
        }
        Self(all)
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
    let access: Vec<_> = a.keys().filter(|scheme| is_access(scheme)).cloned().collect();
    let mut united = a.clone();
    for (scheme, names) in b {
        let schemes = if is_access(scheme) && !access.is_empty() { &access[..] } else { std::slice::from_ref(scheme) };
        for scheme in schemes {
            let known = united.entry(scheme.clone()).or_default();
            names.iter().for_each(|name| add_name(known, name));
        }
    }
    united
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
        FORBIDDEN: {
            "description": "The access token lacks a role, a scope or a claim that the path demands, or the path is denied to all",
            "headers": challenge,
            "content": content("403", "missing_role", "The access token lacks a required role"),
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
