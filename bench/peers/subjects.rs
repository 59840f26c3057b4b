//! The layers that are compared, and the requests that they get.
//!
//! All guard the same inner service with the same key. What they let pass is checked to have reached it with the claims of
//! the token that was sent, and what they refuse not to have.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    marker::PhantomData,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use aliri_clock::UnixTime;
use aliri_tower::Oauth2Authorizer;
use axum::{
    body::Body,
    extract::{Request as AxumRequest, State},
    middleware::{Next, from_fn_with_state},
    response::Response as AxumResponse,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fastauth::{FastAuthLayer, Permit, Secret, Settings, store::MemoryStore};
use http::{Extensions, HeaderMap, Request, Response, StatusCode, Uri, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use jwt_authorizer::IntoLayer;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tower::{Layer, Service};
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tower_oauth2_resource_server::{
    server::OAuth2ResourceServer, tenant::TenantConfiguration, validation::ClaimsValidationSpec,
};

use crate::support::{Inner, NothingLayer, at_once, forge, header, request, time, time_alone};

const OPEN: &str = "/api/v1/items/42";
pub(crate) const GUARDED: &str = "/access0/area/x";
const MASTER: &str = "/master0/area/x";
const MASTER_TOKEN: &str = "a master token that nobody has";
/// Tokens that are sent again and again.
const CLIENTS: usize = 64;
/// Tokens of a round that were never sent.
const FRESH: usize = 500;

/// The name of the layer that this is about.
pub(crate) const OURS: &str = "FastAuth";
/// The same with the token in `ACCESS-TOKEN`.
pub(crate) const OURS_BY_ACCESS_TOKEN: &str = "FastAuth, by ACCESS-TOKEN";
pub(crate) const OURS_10: &str = "FastAuth, 10 prefixes";
pub(crate) const OURS_10_000: &str = "FastAuth, 10,000 prefixes";
pub(crate) const CLOSURE: &str = "tower-http, closure of 1+1";
pub(crate) const DECODE: &str = "decode alone, into a struct";
pub(crate) const DECODE_TO_MAP: &str = "decode alone, into a map";
pub(crate) const SHA_256: &str = "SHA-256 alone, of the header";
/// What verifies tokens in a layer.
pub(crate) const PEERS: [&str; 5] =
    ["from_fn and jsonwebtoken", "aliri_tower", "axum-jwt", "jwt-authorizer", "tower-oauth2-resource-server"];

/// As many for one check as for the other.
fn prefixes(count: usize) -> [Vec<String>; 2] {
    ["master", "access"].map(|kind| (0..count / 2).map(|number| format!("/{kind}{number}/area")).collect())
}

/// What a layer of one's own would read from a token.
#[derive(Clone, Deserialize)]
struct Claims {
    client_id: String,
    exp: u64,
    // What aliri asks for is not in these tokens.
    #[serde(default)]
    scope: aliri_oauth2::Scope,
}

impl aliri_oauth2::HasScope for Claims {
    fn scope(&self) -> &aliri_oauth2::Scope {
        &self.scope
    }
}

impl aliri::jwt::CoreClaims for Claims {
    fn nbf(&self) -> Option<UnixTime> {
        None
    }

    fn exp(&self) -> Option<UnixTime> {
        Some(UnixTime(self.exp))
    }

    fn aud(&self) -> &aliri::jwt::Audiences {
        aliri::jwt::Audiences::EMPTY_AUD
    }

    fn iss(&self) -> Option<&aliri::jwt::IssuerRef> {
        None
    }

    fn sub(&self) -> Option<&aliri::jwt::SubjectRef> {
        None
    }
}

/// Where in a request the token stands.
#[derive(Clone, Copy)]
enum Place {
    Bearer,
    Named(&'static str),
}

impl Place {
    fn headers(self, token: &str) -> HeaderMap {
        match self {
            Self::Bearer => header("authorization", &format!("Bearer {token}")),
            Self::Named(name) => header(name, token),
        }
    }
}

/// The requests of one round.
pub(crate) struct Batch {
    path: Uri,
    headers: Vec<HeaderMap>,
    tokens: Vec<String>,
    /// How many of them are sent in all.
    pub(crate) count: usize,
}

/// What has to come of a request.
#[derive(Clone, Copy)]
enum Outcome {
    /// It reaches the inner service, with the client of the token where there is one.
    Passes,
    Refused,
}

/// Sends the requests, and tells the nanoseconds that each took.
type Run = Box<dyn FnMut(&Batch) -> f64>;

/// Holds the answers, and what came of the requests, against what has to come of them.
type Check = Box<dyn Fn(&Batch, Outcome)>;

/// Something to be measured.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    place: Place,
    pub(crate) run: Run,
    /// The same without the layer, where it is one: that is measured by what it adds.
    pub(crate) bare: Option<Run>,
    check: Check,
}

impl Subject {
    fn in_place(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

/// The inner service that tells whether it was reached, and with whose claims.
struct Witness<R> {
    client: fn(&Extensions) -> Option<String>,
    seen: Arc<Mutex<Option<Option<String>>>>,
    body: PhantomData<fn() -> R>,
}

impl<R> Clone for Witness<R> {
    fn clone(&self) -> Self {
        Self { client: self.client, seen: Arc::clone(&self.seen), body: PhantomData }
    }
}

impl<B, R: Default> Service<Request<B>> for Witness<R> {
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Ready<Result<Response<R>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        *self.seen.lock().unwrap() = Some((self.client)(request.extensions()));
        ready(Ok(Response::new(R::default())))
    }
}

/// A layer, and how the inner service learns from it whose token it was.
fn layer<B, R, L, A, C>(name: &'static str, layer: L, client: fn(&Extensions) -> Option<String>) -> Subject
where
    B: Default,
    R: Default + 'static,
    L: Layer<Inner<R>> + Layer<Witness<R>> + 'static,
    <L as Layer<Inner<R>>>::Service: Service<Request<B>, Response = Response<A>, Error = Infallible> + 'static,
    <L as Layer<Witness<R>>>::Service: Service<Request<B>, Response = Response<C>, Error = Infallible>,
{
    let mut service: <L as Layer<Inner<R>>>::Service = layer.layer(Inner::new());
    let check = move |batch: &Batch, outcome: Outcome| {
        for (number, headers) in batch.headers.iter().enumerate() {
            let seen = Arc::default();
            let witness = Witness { client, seen: Arc::clone(&seen), body: PhantomData };
            let mut service: <L as Layer<Witness<R>>>::Service = layer.layer(witness);
            let status = at_once(service.call(request::<B>(&batch.path, headers))).unwrap().status();
            let expected = match outcome {
                Outcome::Passes => (StatusCode::OK, Some(batch.tokens.get(number).and_then(|token| client_of(token)))),
                Outcome::Refused => (StatusCode::UNAUTHORIZED, None),
            };
            assert_eq!((status, seen.lock().unwrap().clone()), expected, "{name}, {}", batch.path);
        }
    };
    Subject {
        name,
        place: Place::Bearer,
        run: Box::new(move |batch| time::<B, _>(&mut service, &batch.path, &batch.headers, batch.count)),
        bare: Some(Box::new(|batch| time::<B, _>(&mut Inner::<R>::new(), &batch.path, &batch.headers, batch.count))),
        check: Box::new(check),
    }
}

/// Whom a token names; a master token names nobody.
fn client_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).unwrap();
    Some(serde_json::from_slice::<Claims>(&payload).unwrap().client_id)
}

fn nobody(_: &Extensions) -> Option<String> {
    None
}

/// Something that is no layer, done with each token.
fn alone(name: &'static str, mut work: impl FnMut(&str) + 'static) -> Subject {
    Subject {
        name,
        place: Place::Bearer,
        run: Box::new(move |batch| time_alone(&batch.tokens, batch.count, &mut work)),
        bare: None,
        check: Box::new(|_, _| ()),
    }
}

fn decode<C: DeserializeOwned + 'static>(name: &'static str, key: &Secret, outcome: Outcome) -> Subject {
    let key = DecodingKey::from_secret(key.expose().as_bytes()).unwrap();
    let validation = Validation::new(Algorithm::HS256);
    alone(name, move |token| {
        let decoded = black_box(jsonwebtoken::decode::<C>(token, &key, &validation));
        assert_eq!(decoded.is_ok(), matches!(outcome, Outcome::Passes));
    })
}

fn guard(key: &Secret, count: usize) -> FastAuthLayer {
    let [master, access] = prefixes(count);
    let settings = Settings::builder()
        .cryptography_key(key.clone())
        .master_token(MASTER_TOKEN)
        .master_token_paths(master)
        .access_token_paths(access)
        .store(MemoryStore::new());
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn ours<B: Default + 'static>(name: &'static str, auth: &FastAuthLayer) -> Subject {
    let client = |extensions: &Extensions| extensions.get::<Permit>()?.client_id().map(str::to_owned);
    layer::<B, B, _, _, _>(name, auth.clone(), client)
}

/// What most people write.
fn from_fn(key: &Secret) -> Subject {
    struct Keys {
        key: DecodingKey,
        validation: Validation,
        prefixes: Vec<String>,
    }
    async fn check(
        State(keys): State<Arc<Keys>>,
        mut request: AxumRequest,
        next: Next,
    ) -> Result<AxumResponse, StatusCode> {
        let path = request.uri().path();
        if keys.prefixes.iter().any(|prefix| path.starts_with(&**prefix)) {
            let value = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = value.and_then(|value| value.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
            let token = jsonwebtoken::decode::<Claims>(token, &keys.key, &keys.validation);
            let claims = token.map_err(|_| StatusCode::UNAUTHORIZED)?.claims;
            request.extensions_mut().insert(claims);
        }
        Ok(next.run(request).await)
    }
    let keys = Keys {
        key: DecodingKey::from_secret(key.expose().as_bytes()).unwrap(),
        validation: Validation::new(Algorithm::HS256),
        prefixes: prefixes(2).concat(),
    };
    layer::<Body, Body, _, _, _>(PEERS[0], from_fn_with_state(Arc::new(keys), check), claimed)
}

fn claimed(extensions: &Extensions) -> Option<String> {
    extensions.get::<Claims>().map(|claims| claims.client_id.clone())
}

/// The key as the JSON that two of the peers read.
fn key_set(key: &Secret, token: &str) -> String {
    let kid = jsonwebtoken::decode_header(token).unwrap().kid;
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": URL_SAFE_NO_PAD.encode(key.expose())}]}).to_string()
}

fn aliri(key: &Secret, token: &str) -> Subject {
    let keys: aliri::Jwks = serde_json::from_str(&key_set(key, token)).unwrap();
    // What it cannot read, it passes over.
    assert_eq!(keys.keys().len(), 1);
    let validator = aliri::jwt::CoreValidator::default().add_approved_algorithm(aliri::jwa::Algorithm::HS256);
    let authority = aliri_oauth2::Authority::new(keys, validator);
    let authorizer = Oauth2Authorizer::new().with_claims::<Claims>().with_terse_error_handler::<Body>();
    layer::<Body, Body, _, _, _>(PEERS[1], authorizer.jwt_layer::<Body>(authority), claimed)
}

fn axum_jwt(key: &Secret) -> Subject {
    use axum_jwt::{
        Decoder, Token,
        jsonwebtoken::{Algorithm, DecodingKey, Validation},
    };
    let key = DecodingKey::from_secret(key.expose().as_bytes());
    let decoder = Decoder::new(key, Validation::new(Algorithm::HS256));
    let verified = axum_jwt::layer(decoder).with_filter(|_: &Token<Claims>| true).store_to_extension();
    layer::<Body, Body, _, _, _>(PEERS[2], verified, |extensions| {
        extensions.get::<Token<Claims>>().map(|token| token.claims.client_id.clone())
    })
}

fn jwt_authorizer(key: &Secret) -> Subject {
    let builder = jwt_authorizer::JwtAuthorizer::<Claims>::from_secret(key.expose());
    let verified = at_once(builder.build()).unwrap().into_layer();
    // It verifies with the same jsonwebtoken as axum-jwt.
    layer::<Body, axum07::body::Body, _, _, _>(PEERS[3], verified, |extensions| {
        extensions.get::<axum_jwt::jsonwebtoken::TokenData<Claims>>().map(|token| token.claims.client_id.clone())
    })
}

fn oauth2_resource_server(key: &Secret, token: &str) -> Subject {
    let tenant = TenantConfiguration::static_builder(key_set(key, token))
        .claims_validation(ClaimsValidationSpec::new().exp(true))
        .allowed_algorithms(&[jsonwebtoken11::Algorithm::HS256])
        .build()
        .unwrap();
    let server = at_once(OAuth2ResourceServer::<Claims>::builder().add_tenant(tenant).build()).unwrap();
    layer::<Body, Body, _, _, _>(PEERS[4], server.into_layer::<Body>(), claimed)
}

/// tower-http's way to refuse, with a closure that asks some header of the guarded paths.
fn closure<B: Default + 'static>(name: &'static str, count: usize) -> Subject {
    let prefixes = prefixes(count).concat();
    let validate = move |request: &mut Request<B>| {
        let path = request.uri().path();
        let guarded = prefixes.iter().any(|prefix| path.starts_with(&**prefix));
        if guarded && !request.headers().contains_key("access-token") {
            let mut refusal = Response::new(B::default());
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            return Err(refusal);
        }
        Ok(())
    };
    layer::<B, B, _, _, _>(name, ValidateRequestHeaderLayer::custom(validate), nobody)
}

/// What an open path takes, with bodies of that type.
fn open<B: Default + 'static>(key: &Secret) -> Vec<Subject> {
    vec![
        layer::<B, B, _, _, _>("a layer that does nothing", NothingLayer, nobody),
        closure::<B>(CLOSURE, 2),
        closure::<B>("tower-http, closure of 2+2", 4),
        ours::<B>(OURS, &guard(key, 4)),
        ours::<B>(OURS_10, &guard(key, 10)),
        ours::<B>(OURS_10_000, &guard(key, 10_000)),
    ]
}

#[allow(deprecated, reason = "it is what there is to compare with")]
fn bearer(token: &str) -> Subject {
    layer::<Body, Body, _, _, _>("tower-http, bearer", ValidateRequestHeaderLayer::bearer(token), nobody)
}

/// The requests of a case.
enum Tokens {
    /// The same ones in every round, if any.
    Same(Vec<String>),
    /// Others in every round.
    Fresh(Box<dyn Fn(usize) -> Vec<String>>),
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    path: &'static str,
    tokens: Tokens,
    pub(crate) subjects: Vec<Subject>,
}

impl Case {
    /// The tokens of a round, of which a fresh one may be sent once.
    pub(crate) fn tokens(&self, round: usize) -> Vec<String> {
        match &self.tokens {
            Tokens::Same(tokens) => tokens.clone(),
            Tokens::Fresh(issue) => issue(round),
        }
    }

    /// The requests with them for the subject of that number.
    pub(crate) fn batch(&self, subject: usize, tokens: &[String]) -> Batch {
        let place = self.subjects[subject].place;
        let headers = if tokens.is_empty() { vec![HeaderMap::new()] } else { Vec::new() };
        let headers = headers.into_iter().chain(tokens.iter().map(|token| place.headers(token))).collect();
        let count = match &self.tokens {
            Tokens::Fresh(_) => tokens.len(),
            Tokens::Same(tokens) if tokens.len() < 2 => 5_000,
            Tokens::Same(_) => 1_000,
        };
        Batch { path: Uri::from_static(self.path), headers, tokens: tokens.to_vec(), count }
    }

    fn checked(self, outcome: Outcome) -> Self {
        let tokens = self.tokens(0);
        for (number, subject) in self.subjects.iter().enumerate() {
            (subject.check)(&self.batch(number, &tokens), outcome);
        }
        self
    }
}

/// All there is to measure, checked. Round 0 was for that.
pub(crate) fn cases() -> Vec<Case> {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let key = Secret::generate();
    let auth = guard(&key, 4);
    let known: Vec<String> = (0..CLIENTS).map(|client| issue(&auth, &format!("client-{client}"))).collect();
    let forged: Vec<String> = known.iter().map(|token| forge(token)).collect();
    let fresh = {
        let auth = auth.clone();
        move |round| (0..FRESH).map(|client| issue(&auth, &format!("client-{round}-{client}"))).collect()
    };
    let verifying = || {
        let token = &known[0];
        let peers = [
            from_fn(&key),
            aliri(&key, token),
            axum_jwt(&key),
            jwt_authorizer(&key),
            oauth2_resource_server(&key, token),
        ];
        [ours::<Body>(OURS, &auth)].into_iter().chain(peers).collect::<Vec<_>>()
    };
    let by_access_token = || ours::<Body>(OURS_BY_ACCESS_TOKEN, &auth).in_place(Place::Named("access-token"));
    let decoding =
        |outcome| [decode::<Claims>(DECODE, &key, outcome), decode::<Map<String, Value>>(DECODE_TO_MAP, &key, outcome)];
    let with = |mut subjects: Vec<Subject>, more: Vec<Subject>| {
        subjects.extend(more);
        subjects
    };
    let master = vec![
        alone(SHA_256, |token| {
            black_box(Sha256::digest(black_box(token)));
        }),
        bearer(MASTER_TOKEN),
        ours::<Body>(OURS, &auth).in_place(Place::Named("master-token")),
    ];
    let [passing, refused] = [Outcome::Passes, Outcome::Refused];
    let none = || Tokens::Same(Vec::new());
    let case = |name, path, tokens, subjects, outcome| Case { name, path, tokens, subjects }.checked(outcome);
    vec![
        case("open path", OPEN, none(), with(open::<Body>(&key), vec![from_fn(&key)]), passing),
        case("open path, bodies of ()", OPEN, none(), open::<()>(&key), passing),
        case("master token", MASTER, Tokens::Same(vec![MASTER_TOKEN.to_owned()]), master, passing),
        case(
            "token seen before",
            GUARDED,
            Tokens::Same(known.clone()),
            with(with(verifying(), vec![by_access_token()]), decoding(passing).into()),
            passing,
        ),
        case(
            "token never seen",
            GUARDED,
            Tokens::Fresh(Box::new(fresh)),
            with(verifying(), decoding(passing).into()),
            passing,
        ),
        case(
            "forged token",
            GUARDED,
            Tokens::Same(forged),
            with(with(verifying(), vec![by_access_token()]), decoding(refused).into()),
            refused,
        ),
        case("no token", GUARDED, none(), with(verifying(), vec![bearer(MASTER_TOKEN)]), refused),
    ]
}

/// A token, and the layer that knows it.
#[allow(dead_code, reason = "the program that counts allocations does not ask for it")]
pub(crate) fn hot() -> (FastAuthLayer, String) {
    let auth = guard(&Secret::generate(), 4);
    let token = issue(&auth, "client");
    (auth, token)
}

fn issue(auth: &FastAuthLayer, client: &str) -> String {
    at_once(auth.issuer().issue(client)).unwrap().tokens.access_token.expose().to_owned()
}
