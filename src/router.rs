//! The endpoints at which tokens are issued, renewed, revoked and looked into.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error,
    future::Future,
    pin::Pin,
    sync::{Arc, Once, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use fastauth_core::{
    issue::{Introspection, IssueError, IssuedTokens},
    settings::{EndpointOptions, Shape},
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{AUTHORIZATION, CONNECTION},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use serde_json::Value;
use tower_service::Service;

use crate::{
    cookie, credentials,
    gate::Gate,
    issuer::{Presented, TokenIssuer},
    keys::CAN_ENCRYPT,
    observe::{self, Issued},
    query::ParameterError,
    random::random_uuid,
    response,
    shown::shown,
    store::{Revocation, StoreError, StoreErrorKind, TokenDigest},
    token::{Claims, TokenError},
};

pub(crate) mod document;
mod limiting;
mod parameters;
mod place;
mod refusal;

use document::Facts;
pub(crate) use parameters::UnreadError;
use parameters::{Parameters, of_body};
use place::{Mount, Place};
pub(crate) use refusal::{GrantError, Refusal};

/// The endpoints of tokens: a plain tower service.
///
/// | endpoint | parameters | needs | answers |
/// |---|---|---|---|
/// | `POST` or `GET /auth/token/new` | `client_id`, else a random one | the master token | a new pair |
/// | `POST` or `GET /auth/token/refresh` | `refresh_token` | that token | the pair that takes its place |
/// | `POST /auth/token` | `grant_type=refresh_token`, `refresh_token`; `client_id`, `scope` | that token | the same, for OAuth clients (RFC 6749 6) |
/// | `POST /auth/token/revoke` | `token`; `client_id` | that token | 200, whatever the token is (RFC 7009) |
/// | | `client_id`, with or without `family`; or `all=true` | the master token | how many families that were |
/// | `POST /auth/token/introspect` | `token` | the master token | what the token says, if it is accepted (RFC 7662) |
/// | `POST /auth/ticket` | | an access token | a ticket that opens one WebSocket, as `?ticket=…`, within 30 seconds |
/// | `GET /auth/openapi.json` | | | an OpenAPI document of all these, as they are configured |
/// | `GET /auth/healthz` | `deep` | nothing | 200 `{"status":"ok"}`; with `deep`, 503 where the store does not answer |
///
/// A `POST` takes its parameters from its body, a form (`application/x-www-form-urlencoded`) or a JSON object
/// (`application/json`), of up to 64 KiB, within ten seconds and without a pause of three; those of a URL are refused. Of a `GET` they stand in the
/// URL, as `fastauth-api` has it, and so in many a log: `allow-get: false` closes that way. Other methods do nothing and
/// are answered with 405.
///
/// The first two answer with the envelope of `fastauth-api`, or with `response-shape: "oauth"` as the third always does:
/// `{"access_token":"…","token_type":"Bearer","expires_in":…,"refresh_token":"…"}`, and errors by RFC 6749 5.2. With
/// `refresh-transport: "cookie"` the refresh token is not in the body but in a cookie that scripts cannot read, and a `POST`
/// without a `refresh_token` (for `revoke`: without anything) takes it from there.
///
/// `healthz` tells that the process answers: `{"status":"ok"}`. With `?deep` it asks the store as well, for two seconds at the
/// most, and once a second at the most however often it is called: 200 `{"status":"ok","checks":{"store":"ok"}}`, or 503 with
/// `unavailable` in both places. It needs no credential, unless the path lists say so.
///
/// It guards minting and administration by itself, wherever it is mounted and whatever the path lists say:
///
/// - axum, with the feature `axum`: `.nest_service("/auth", layer.router())`, or `.merge(layer.router().into_axum())`,
///   or each path by `.route_service("/auth/token/new", layer.router())`;
/// - hyper: call it for the paths below `/auth`.
///
/// Each endpoint has one path, as the client sees it, and every other is 404: what a nesting router of axum has stripped is
/// no part of the path that arrives, and otherwise `/auth` stands before the endpoints' own paths. Where that is
/// something else, or something other than axum strips it, say so by [`prefix`](Self::prefix). A path with one slash too many at
/// its end is redirected (307), as `fastauth-api` does.
///
/// Bodies are read by tokio's clock, so a runtime needs its time driver.
#[derive(Clone, Debug)]
pub struct TokenRouter {
    gate: Arc<Gate>,
    mount: Mount,
    /// Whether it was said that the paths that arrive may be stripped.
    hint: Arc<Once>,
    /// The OpenAPI document, from the first time on that it is asked for.
    document: Arc<OnceLock<Bytes>>,
}

/// What there is to say to who mounts the router without its feature.
const PERHAPS_STRIPPED: &str = "a request asked the token router for an endpoint without `/auth` before it, and was \
answered 404: where something strips the prefix, say `.prefix(\"\")`, or with axum enable the feature `axum`";

type Answer = Result<Response<Full<Bytes>>, Refusal>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    New,
    Refresh,
    Token,
    Revoke,
    Introspect,
    Ticket,
    Health,
    Document,
}

/// What each of them takes and answers, [`document`] says.
const ENDPOINTS: [(&str, Endpoint); 8] = [
    ("/token/new", Endpoint::New),
    ("/token/refresh", Endpoint::Refresh),
    ("/token", Endpoint::Token),
    ("/token/revoke", Endpoint::Revoke),
    ("/token/introspect", Endpoint::Introspect),
    ("/ticket", Endpoint::Ticket),
    ("/healthz", Endpoint::Health),
    ("/openapi.json", Endpoint::Document),
];

impl Endpoint {
    fn methods(self, options: &EndpointOptions) -> &'static str {
        match self {
            Self::New if options.allow_get => "GET, POST",
            // A link on any page is a GET, and its answer would set the cookie.
            Self::Refresh if options.allow_get && !options.cookie => "GET, POST",
            Self::Health | Self::Document => "GET, HEAD",
            _ => "POST",
        }
    }

    fn shape(self, options: &EndpointOptions) -> Shape {
        match self {
            Self::New | Self::Refresh => options.shape,
            _ => Shape::OAuth,
        }
    }

    fn issues(self) -> bool {
        matches!(self, Self::New | Self::Refresh | Self::Token)
    }

    /// Whether it changes nothing and tells no secret, so that any page may ask.
    fn is_open(self) -> bool {
        matches!(self, Self::Document | Self::Health)
    }

    /// Whether nobody without a master token has anything to do here.
    fn is_administration(self) -> bool {
        matches!(self, Self::New | Self::Introspect)
    }
}

impl TokenRouter {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, mount: Mount::Usual, hint: Arc::new(Once::new()), document: Arc::default() }
    }

    /// Sets what stands before the endpoints' paths when they arrive here: the whole of what the router is mounted at, or
    /// what is left of it if something before it strips a part, or `""` if that strips all of it.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.mount = Mount::at(prefix);
        self
    }

    /// The same as an axum router, to be merged.
    #[cfg(feature = "axum")]
    pub fn into_axum<S: Clone + Send + Sync + 'static>(mut self) -> axum::Router<S> {
        self.mount = Mount::at(self.mount.prefix());
        let prefix = self.mount.prefix();
        ENDPOINTS.into_iter().fold(axum::Router::new(), |router, (path, _)| {
            router
                .route_service(&format!("{prefix}{path}"), self.clone())
                .route_service(&format!("{prefix}{path}/"), self.clone())
        })
    }

    async fn answer<B>(&self, request: &Parts, body: B) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let endpoint = match self.mount.place(&request.uri, &request.extensions) {
            Place::Endpoint(endpoint) => endpoint,
            Place::WithSlash(segment) => return response::without_slash(segment, request.uri.query()),
            Place::Nothing => return response::not_found(),
            Place::PerhapsStripped => {
                self.hint.call_once(|| tracing::warn!(target: "fastauth", "{PERHAPS_STRIPPED}"));
                return response::not_found();
            }
        };
        match self.run(endpoint, request, body).await {
            Ok(response) => response,
            Err(refusal) => {
                refusal.log();
                response::endpoint_refusal(refusal, endpoint.shape(self.options()), request, &self.gate.refusals)
            }
        }
    }

    async fn run<B>(&self, endpoint: Endpoint, request: &Parts, body: B) -> Answer
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let allow = endpoint.methods(self.options());
        let is_allowed = allow.split(", ").any(|method| method == request.method.as_str());
        if is_allowed && endpoint.issues() {
            self.admit_caller(request)?;
        }
        if endpoint.is_administration() {
            self.administrator(endpoint, request)?;
        }
        if !is_allowed {
            return Err(Refusal::Method { allow });
        }
        // Cookies come with what other pages send as well, and are set by what answers them.
        if self.options().cookie && !endpoint.is_open() && credentials::is_cross_origin(request) {
            return Err(Refusal::CrossOrigin);
        }
        let parameters = match request.method {
            Method::GET | Method::HEAD => Parameters::Url(request.uri.query().unwrap_or_default()),
            _ => of_body(request, body).await.map_err(Refusal::Unread)?,
        };
        match endpoint {
            Endpoint::New => self.new_tokens(&parameters).await,
            Endpoint::Refresh => self.refresh(request, &parameters).await,
            Endpoint::Token => self.token(request, &parameters).await,
            Endpoint::Revoke => self.revoke(request, &parameters).await,
            Endpoint::Introspect => self.introspect(&parameters).await,
            Endpoint::Ticket => self.ticket(request).await,
            Endpoint::Document => Ok(response::document(self.document_text())),
            Endpoint::Health => self.health(&parameters).await,
        }
    }

    /// The OpenAPI document of the endpoints. Their paths stand in it without the prefix.
    pub(crate) fn document(&self) -> Value {
        let facts = Facts {
            options: self.options(),
            app_name: self.gate.refusals.realm(),
            sources: self.gate.sources,
            has_claims_hook: self.gate.issuing.claims_hook.is_some(),
        };
        facts.document()
    }

    fn document_text(&self) -> Bytes {
        self.document.get_or_init(|| Bytes::from(self.document().to_string())).clone()
    }

    async fn new_tokens(&self, parameters: &Parameters<'_>) -> Answer {
        let named = parameters.get("client_id").map_err(|problem| unusable("client_id", parameters, problem))?;
        if let Some(client_id) = &named {
            self.admit_client(client_id)?;
        }
        let client_id = named.unwrap_or_else(|| Cow::Owned(random_uuid()));
        let issued = self.issuer().issue(&client_id).await.map_err(Refusal::NotIssued)?;
        Ok(self.issued(&issued, self.options().shape))
    }

    async fn refresh(&self, request: &Parts, parameters: &Parameters<'_>) -> Answer {
        let refresh_token = match parameters.get("refresh_token") {
            Ok(Some(refresh_token)) => refresh_token,
            Ok(None) => self.cookie(request)?.ok_or(missing("refresh_token", parameters))?,
            // What is no text is no token.
            Err(ParameterError::NotText) => return Err(Refusal::NotIssued(TokenError::Malformed.into())),
            Err(problem) => return Err(unusable("refresh_token", parameters, problem)),
        };
        let presented = self.presented(&refresh_token)?;
        self.exchange(&refresh_token, &presented, self.options().shape).await
    }

    /// RFC 6749 6, of clients without a secret.
    async fn token(&self, request: &Parts, parameters: &Parameters<'_>) -> Answer {
        let given = |name| parameters.given(name).map_err(|problem| unusable(name, parameters, problem));
        // Where no token is looked for in that header, it is somebody else's.
        let by_header = self.gate.sources.authorization && has_basic_credentials(request);
        if by_header || given("client_secret")?.is_some() || given("client_assertion")?.is_some() {
            return Err(Refusal::Grant(GrantError::ClientAuthentication { by_header }));
        }
        match given("grant_type")?.as_deref() {
            None => return Err(missing("grant_type", parameters)),
            Some("refresh_token") => {}
            Some(_) => return Err(Refusal::Grant(GrantError::UnsupportedGrantType)),
        }
        let refresh_token = match given("refresh_token")? {
            Some(refresh_token) => refresh_token,
            None => self.cookie(request)?.ok_or(missing("refresh_token", parameters))?,
        };
        let presented = self.presented(&refresh_token)?;
        if given("client_id")?.is_some_and(|client_id| client_id != presented.claims.client_id()) {
            return Err(Refusal::Grant(GrantError::OtherClient));
        }
        let scope = given("scope")?;
        let mut asked = scope.iter().flat_map(|scope| scope.split(' ')).filter(|name| !name.is_empty());
        if !asked.all(|name| presented.claims.scope().any(|granted| granted == name)) {
            return Err(Refusal::Grant(GrantError::Scope));
        }
        self.exchange(&refresh_token, &presented, Shape::OAuth).await
    }

    /// The claims of a refresh token. Whether it is the one that is held is seen when it is exchanged.
    fn presented(&self, refresh_token: &str) -> Result<Presented, Refusal> {
        let issuer = self.issuer();
        issuer.present(refresh_token).map_err(|error| Refusal::NotIssued(issuer.not_renewed(error.into())))
    }

    /// Nothing is counted of a client before the store has taken its token: a spent one must not use up what the client may do.
    async fn exchange(&self, refresh_token: &str, presented: &Presented, shape: Shape) -> Answer {
        let client_id = presented.claims.client_id();
        self.admit_token(client_id, TokenDigest::of(refresh_token))?;
        let (issued, how) = self.issuer().exchange(refresh_token, presented).await.map_err(Refusal::NotIssued)?;
        if how == Issued::Anew {
            self.charge_client(client_id);
        }
        Ok(self.issued(&issued, shape))
    }

    fn issued(&self, issued: &IssuedTokens, shape: Shape) -> Response<Full<Bytes>> {
        response::issued(issued, shape, self.options().cookie.then_some(self.gate.issuing.refresh_ttl))
    }

    /// RFC 7009 for the holder of a token, and the same by client for that of a master token.
    async fn revoke(&self, request: &Parts, parameters: &Parameters<'_>) -> Answer {
        const ONE_OF: &str = "give `token`, or `client_id` with or without `family`, or `all=true`";
        let given = |name| parameters.given(name).map_err(|problem| unusable(name, parameters, problem));
        let all = parameters.is_true("all").map_err(|problem| unusable("all", parameters, problem))?;
        match (given("token")?, given("client_id")?, given("family")?, all) {
            // A client without a secret names itself beside its token (RFC 7009 2.1).
            (Some(token), client_id, None, false) => self.revoke_token(&token, client_id.as_deref()).await,
            (None, Some(client_id), None, false) => {
                self.revoke_as_administrator(request, Revocation::Client(client_id.into_owned())).await
            }
            (None, Some(client_id), Some(family), false) => {
                let (client_id, family) = (client_id.into_owned(), family.into_owned());
                self.revoke_as_administrator(request, Revocation::Family { client_id, family }).await
            }
            (None, None, None, true) => self.revoke_as_administrator(request, Revocation::All).await,
            (None, None, None, false) => match self.cookie(request)? {
                Some(token) => self.revoke_token(&token, None).await,
                None => Err(Refusal::Mixed(ONE_OF)),
            },
            _ => Err(Refusal::Mixed(ONE_OF)),
        }
    }

    async fn revoke_token(&self, token: &str, client_id: Option<&str>) -> Answer {
        let issuer = self.issuer();
        let is_of_client = |claims: &Claims| client_id.is_none_or(|client_id| client_id == claims.client_id());
        match issuer.verify_any(token).ok().filter(is_of_client) {
            Some(claims) => _ = issuer.revoke_verified(token, &claims).await.map_err(Refusal::Store)?,
            // Or a store in trouble would tell which tokens are ours.
            None if !self.gate.health.of_store_now(&self.gate.store).await => {
                let error =
                    StoreError::new(StoreErrorKind::Unreachable, "it did not answer, so nothing can be revoked");
                return Err(Refusal::Store(error));
            }
            None => {}
        }
        Ok(response::token_revoked(self.options().cookie))
    }

    async fn revoke_as_administrator(&self, request: &Parts, revocation: Revocation) -> Answer {
        self.administrator(Endpoint::Revoke, request)?;
        let count = self.issuer().revoke(&revocation).await.map_err(Refusal::Store)?;
        Ok(response::families_revoked(count))
    }

    async fn introspect(&self, parameters: &Parameters<'_>) -> Answer {
        let token = match parameters.given("token") {
            Ok(Some(token)) => token,
            Ok(None) => return Err(missing("token", parameters)),
            Err(problem) => return Err(unusable("token", parameters, problem)),
        };
        match self.issuer().introspect(&token).await.map_err(Refusal::Store)? {
            Introspection::Active(claims) => Ok(response::active(&claims)),
            Introspection::Inactive => Ok(response::inactive()),
        }
    }

    /// A ticket of a store that cannot hold it to one use would be an access token in a URL.
    async fn ticket(&self, request: &Parts) -> Answer {
        let ticket = self.gate.issue_ticket(&request.method, &request.headers).await.map_err(Refusal::Denied)?;
        if !CAN_ENCRYPT {
            return Err(Refusal::Store(StoreError::unsupported(
                "tickets need the feature `fernet`, which this build lacks",
            )));
        }
        if !self.gate.store.promises().await.map_err(Refusal::Store)?.tickets {
            return Err(Refusal::Store(StoreError::unsupported("the token store cannot hold tickets to one use")));
        }
        let ticket = ticket.ok_or(Refusal::NotIssued(IssueError::Signing))?;
        tracing::debug!(target: "fastauth", "a ticket was issued");
        Ok(response::ticket(&ticket))
    }

    /// Whether this process answers, and with `deep` whether the store does.
    async fn health(&self, parameters: &Parameters<'_>) -> Answer {
        let is_deep = match parameters.get("deep") {
            Ok(Some(value)) if value.is_empty() => true,
            _ => parameters.is_true("deep").map_err(|problem| unusable("deep", parameters, problem))?,
        };
        let store = if is_deep { Some(self.gate.health.of_store(&self.gate.store).await) } else { None };
        Ok(response::health(store))
    }

    /// The refresh token in the cookie, where that is how it travels. A GET never takes it: another site's link is one.
    fn cookie<'a>(&self, request: &'a Parts) -> Result<Option<Cow<'a, str>>, Refusal> {
        if !self.options().cookie || request.method != Method::POST {
            return Ok(None);
        }
        let cookie = cookie::refresh_token(request).map_err(|_| Refusal::Unread(UnreadError::RepeatedCookie))?;
        Ok(cookie.map(Cow::Borrowed))
    }

    /// Lets the holder of a master token pass, and notes which one it was where something is changed.
    fn administrator(&self, endpoint: Endpoint, request: &Parts) -> Result<(), Refusal> {
        let master_token = self.gate.guard_administration(request).map_err(Refusal::Denied)?;
        let (method, path) = (observe::name_of(&request.method), &*shown(request.uri.path()));
        if endpoint == Endpoint::Introspect {
            tracing::debug!(target: "fastauth", %method, path, master_token = &*master_token, "administration");
        } else {
            tracing::info!(target: "fastauth", %method, path, master_token = &*master_token, "administration");
        }
        Ok(())
    }

    fn options(&self) -> &EndpointOptions {
        &self.gate.endpoints
    }

    fn issuer(&self) -> TokenIssuer {
        TokenIssuer::new(Arc::clone(&self.gate))
    }
}

fn missing(name: &'static str, parameters: &Parameters<'_>) -> Refusal {
    Refusal::Missing { name, place: parameters.place() }
}

fn unusable(name: &'static str, parameters: &Parameters<'_>, problem: ParameterError) -> Refusal {
    Refusal::Unusable { name, place: parameters.place(), problem }
}

/// Whether a client tries to authenticate itself (RFC 6749 2.3.1).
fn has_basic_credentials(request: &Parts) -> bool {
    request.headers.get_all(AUTHORIZATION).iter().any(|value| credentials::of_scheme(value, b"basic").is_some())
}

impl<B> Service<Request<B>> for TokenRouter
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        let (request, body) = request.into_parts();
        Box::pin(async move {
            let mut response = this.answer(&request, body).await;
            // Whatever is said of tokens was true of one moment, and most of it for one caller.
            response::forbid_caching(response.headers_mut());
            // What is left of such a body is not read, so nothing else can come on its connection.
            let is_unread = matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
            if is_unread && request.version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(if request.method == Method::HEAD { response::head_only(response) } else { response })
        })
    }
}
