//! What the guard asks for, told in an application's OpenAPI document.

use std::{collections::BTreeMap, mem, sync::Arc};

use http::Method;
use serde_json::{Value, json};
use utoipa::{
    Modify,
    openapi::{OpenApi, PathItem, Paths, Ref, SecurityRequirement, Server, path::Operation},
};

use crate::{
    credentials::TokenHeaders,
    gate::Gate,
    path::PathDecision,
    router::{
        TokenRouter,
        document::{ACCESS_SCHEME, BEARER_SCHEME, DETAIL, MASTER_SCHEME},
    },
};

const BAD_REQUEST: &str = "FastAuthBadRequest";
const UNAUTHORIZED: &str = "FastAuthUnauthorized";
const UNAVAILABLE: &str = "FastAuthUnavailable";

/// Completes the OpenAPI document of an application by what the guard asks for: a modifier for [utoipa](https://docs.rs/utoipa).
///
/// - The security schemes `AccessTokenHeader`, `Bearer` and `MasterTokenHeader` are added.
/// - Each operation gets the requirement that its path asks for, and the answers of the guard that it does not have yet:
///   400 and 401, and 503 where the store is asked. What the operation asks for by itself is still asked for.
/// - An operation whose path is open is left alone; where the document asks for one of these schemes everywhere, it gets
///   an empty list.
/// - [`endpoints`](Self::endpoints) adds the endpoints of the [`TokenRouter`](crate::TokenRouter).
///
/// Of a path with parameters, such as `/items/{id}`, all that its values may ask for is said: where `/items/admin` is
/// guarded and the rest is not, the credential is one alternative, and none (`{}`) is another. A value counts as one plain
/// segment; `..%2faccess` is asked for an access token wherever it stands, and the document does not tell.
///
/// Paths are taken with the path of each server that the document names: `/access` of a server `https://example.com/api`
/// is `/api/access`. Where the guard sees something else, say so by [`base_path`](Self::base_path).
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
    gate: Arc<Gate>,
    endpoints: Option<String>,
    base_path: Option<String>,
}

impl OpenApiSecurity {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, endpoints: None, base_path: None }
    }

    /// Adds the endpoints for tokens as well: those of the router that is mounted there, such as `/auth`. Like the paths of the
    /// document it stands behind that of a server.
    pub fn endpoints(mut self, mount: &str) -> Self {
        self.endpoints = Some(mount.trim_end_matches('/').to_owned());
        self
    }

    /// What stands before the document's paths in the requests that the guard sees, whatever the document's servers are:
    /// the empty text where something before the guard strips the path of the server.
    pub fn base_path(mut self, path: &str) -> Self {
        self.base_path = Some(path.trim_end_matches('/').to_owned());
        self
    }

    /// What the paths of an operation ask for.
    fn decisions(&self, method: &Method, servers: &[String], path: &str) -> Vec<PathDecision> {
        let bases = self.base_path.as_ref().map_or(servers, std::slice::from_ref);
        let of = |base: &String| self.gate.rules().decisions(method, &format!("{base}{path}"));
        bases.iter().flat_map(of).fold(Vec::new(), |mut found, decision| {
            if !found.contains(&decision) {
                found.push(decision);
            }
            found
        })
    }

    fn secure(&self, item: &mut PathItem, path: &str, document: &Inherited) {
        let servers = item.servers.as_deref().map_or_else(|| document.servers.clone(), paths_of);
        for (method, operation) in operations(item) {
            let servers = operation.servers.as_deref().map_or_else(|| servers.clone(), paths_of);
            let decisions = self.decisions(&method, &servers, path);
            secure_operation(operation, &Alternatives::of(&decisions, self.gate.sources), &decisions, document);
        }
    }
}

impl Modify for OpenApiSecurity {
    fn modify(&self, openapi: &mut OpenApi) {
        let Some(mut tokens) = own_document(&self.gate) else { return };
        match &self.endpoints {
            Some(mount) => *openapi = mem::take(openapi).nest(mount, tokens),
            None => {
                tokens.paths = Paths::new();
                tokens.tags = None;
                if let Some(components) = &mut tokens.components {
                    components.schemas.retain(|name, _| name == DETAIL);
                }
                openapi.merge(tokens);
            }
        }
        let document = Inherited::of(openapi);
        for (path, item) in &mut openapi.paths.paths {
            self.secure(item, path, &document);
        }
    }
}

/// What operations have of the document where they say nothing themselves.
struct Inherited {
    /// The paths of the servers.
    servers: Vec<String>,
    security: Option<Alternatives>,
}

impl Inherited {
    fn of(openapi: &OpenApi) -> Self {
        let servers = paths_of(openapi.servers.as_deref().unwrap_or_default());
        Self { servers, security: openapi.security.as_deref().map(Alternatives::read) }
    }

    /// What is asked of an operation that says nothing, but for what the guard asks: that goes by the path.
    fn but_for_ours(&self) -> Alternatives {
        let mut security = self.security.clone().unwrap_or_default();
        for alternative in &mut security.0 {
            alternative.retain(|scheme, _| !is_ours(scheme));
        }
        security
    }

    fn names_ours(&self) -> bool {
        self.security.as_ref().is_some_and(Alternatives::name_ours)
    }
}

fn is_ours(scheme: &str) -> bool {
    [ACCESS_SCHEME, BEARER_SCHEME, MASTER_SCHEME].contains(&scheme)
}

/// The schemes that are needed together, each with its scopes.
type Together = BTreeMap<String, Vec<String>>;

/// One of these has to be met. An empty one is: then nothing is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Alternatives(Vec<Together>);

impl Alternatives {
    fn read(security: &[SecurityRequirement]) -> Self {
        let read = |requirement| serde_json::from_value(serde_json::to_value(requirement).ok()?).ok();
        Self(security.iter().filter_map(read).collect())
    }

    fn write(self) -> Vec<SecurityRequirement> {
        let write = |together: Together| {
            let add =
                |written: SecurityRequirement, (scheme, scopes)| written.add::<String, Vec<_>, String>(scheme, scopes);
            together.into_iter().fold(SecurityRequirement::default(), add)
        };
        self.0.into_iter().map(write).collect()
    }

    fn of(decisions: &[PathDecision], sources: TokenHeaders) -> Self {
        let used: Vec<_> = sources.of(ACCESS_SCHEME, BEARER_SCHEME).chain([MASTER_SCHEME]).collect();
        let is_used = |schemes: &&&[&str]| schemes.iter().all(|scheme| used.contains(scheme));
        let together = |schemes: &&[&str]| schemes.iter().map(|scheme| ((*scheme).to_owned(), Vec::new())).collect();
        let schemes = decisions.iter().flat_map(|decision| schemes(*decision));
        Self(schemes.filter(is_used).map(together).collect())
    }

    fn name_ours(&self) -> bool {
        self.0.iter().flat_map(BTreeMap::keys).any(|scheme| is_ours(scheme))
    }

    /// Whether these are what the guard asks for, or some of it, whatever they ask for besides.
    fn tell_of(&self, guard: &Self) -> bool {
        let ours = |together: &Together| -> Together {
            together.clone().into_iter().filter(|(scheme, _)| is_ours(scheme)).collect()
        };
        self.name_ours() && self.0.iter().all(|together| guard.0.contains(&ours(together)))
    }

    /// What meets both. An empty list asks for nothing.
    fn and(self, other: &Self) -> Self {
        let any = [Together::new()];
        let (ours, others) = (if self.0.is_empty() { &any[..] } else { &self.0 }, &other.0);
        let mut both = Vec::new();
        for (a, b) in ours.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            let united = unite(a, b);
            if !both.contains(&united) {
                both.push(united);
            }
        }
        Self(both)
    }
}

/// Both lists of schemes. The access token is one, in whichever of its two headers it comes.
fn unite(a: &Together, b: &Together) -> Together {
    let has_access = a.contains_key(ACCESS_SCHEME) || a.contains_key(BEARER_SCHEME);
    let is_new = |scheme: &str| !(has_access && matches!(scheme, ACCESS_SCHEME | BEARER_SCHEME));
    let mut united = a.clone();
    for (scheme, scopes) in b.iter().filter(|(scheme, _)| is_new(scheme)) {
        united.entry(scheme.clone()).or_insert_with(|| scopes.clone());
    }
    united
}

/// The lists of schemes of which one is needed.
fn schemes(decision: PathDecision) -> &'static [&'static [&'static str]] {
    match decision {
        PathDecision::Public => &[&[]],
        PathDecision::Access => &[&[ACCESS_SCHEME], &[BEARER_SCHEME]],
        PathDecision::Master => &[&[MASTER_SCHEME]],
        PathDecision::MasterAndAccess => &[&[MASTER_SCHEME, ACCESS_SCHEME], &[MASTER_SCHEME, BEARER_SCHEME]],
        PathDecision::Reject => &[],
    }
}

fn secure_operation(operation: &mut Operation, guard: &Alternatives, decisions: &[PathDecision], document: &Inherited) {
    if decisions.iter().all(|decision| *decision == PathDecision::Public) {
        if operation.security.is_none() && document.names_ours() {
            let left = document.but_for_ours().and(&Alternatives(vec![Together::new()]));
            let is_open = left.0.iter().any(BTreeMap::is_empty);
            operation.security = Some(if is_open { Vec::new() } else { left.write() });
        }
        return;
    }
    let own = operation.security.as_deref().map_or_else(|| document.but_for_ours(), Alternatives::read);
    if !own.tell_of(guard) {
        operation.security = Some(own.and(guard).write());
    }
    let asks_store = decisions.iter().any(|d| matches!(d, PathDecision::Access | PathDecision::MasterAndAccess));
    let answers = [("400", BAD_REQUEST), ("401", UNAUTHORIZED)];
    for (status, name) in answers.into_iter().chain(asks_store.then_some(("503", UNAVAILABLE))) {
        let answers = &mut operation.responses.responses;
        answers.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
    }
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

/// The path of each server, without a slash at its end. One that is relative to where the document lies has none that
/// could be known here. Where no server is named, it is the one that the document is from.
fn paths_of(servers: &[Server]) -> Vec<String> {
    if servers.is_empty() {
        return vec![String::new()];
    }
    let path = |server: &Server| {
        let url = server.url.split(['?', '#']).next().unwrap_or_default();
        let behind_host = url.split_once("://").map(|(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        let path = behind_host.unwrap_or(url);
        if path.starts_with('/') { path.trim_end_matches('/').to_owned() } else { String::new() }
    };
    servers.iter().map(path).collect()
}

/// What the router says of itself, without where it is, and how the guard answers what it refuses.
fn own_document(gate: &Arc<Gate>) -> Option<OpenApi> {
    let mut document = TokenRouter::new(Arc::clone(gate)).document();
    document["components"]["responses"] = guard_responses();
    let read = serde_json::from_value(document);
    debug_assert!(read.is_ok(), "utoipa reads the document of the endpoints");
    let mut document: OpenApi = read.ok()?;
    document.servers = None;
    Some(document)
}

fn guard_responses() -> Value {
    let content = json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{DETAIL}") } } });
    let header =
        |name: &str, description: &str| json!({ name: { "description": description, "schema": { "type": "string" } } });
    let challenge = header("WWW-Authenticate", "`Bearer`, by RFC 6750, or `AccessToken`, or `MasterToken`");
    json!({
        BAD_REQUEST: {
            "description": "The path, or a credential, can be read in more than one way",
            "headers": challenge,
            "content": content,
        },
        UNAUTHORIZED: {
            "description": "A credential is missing or not accepted. Where the operation has an alternative without any, \
                            some values of its parameters ask for one",
            "headers": challenge,
            "content": content,
        },
        UNAVAILABLE: {
            "description": "The token store is unavailable",
            "headers": header("Retry-After", "In how many seconds to try again"),
            "content": content,
        },
    })
}
