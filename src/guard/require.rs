//! Demands in code, for one route or one router: they read what the guard verified, and nothing else.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Full;
use pin_project_lite::pin_project;
use serde_json::Value;
use tower_layer::Layer;
use tower_service::Service;

use super::{ResponseBody, refusal::Refusal};
use crate::{
    DenialReason,
    check::{
        denial::Denial,
        permit::{Permit, WithoutPermit},
        respond::misplaced,
        terms::Terms,
    },
    rule::{Demands, Principal, Rule},
};

const NO_PERMIT: &str = "a `Require` layer refused a request without a permit: is the path guarded by a list or a rule, and was the \
FastAuthLayer added after this layer, so that it is around it?";
const NO_MASTER_TOKEN: &str = "`Require::master` refused a request whose path does not need the master token, so that it was not looked at: \
give the path a rule of level `master` or `both`";
const NO_ACCESS_TOKEN: &str = "a `Require` layer refused a request whose path needs the master token alone, so that an access token was not \
looked at: give the path a rule of level `both`";
const NO_SERVICE_TEST: &str =
    "`Require::principal` refused a request, since nothing tells services from users: set `service-claim`";

/// A demand on the requests of one route or one router, as a layer.
///
/// It asks for more than the path does: the guard has verified the token, and this layer reads its claims. What it refuses is answered,
/// logged and counted as by the guard, with `in-code` as the rule. Several demands are several layers.
///
/// ```
/// use axum::{Router, routing::{delete, get}};
/// use fastauth::{FastAuthLayer, Require, Rule, Secret, Settings, store::MemoryStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = Settings::builder()
///     .cryptography_key(Secret::generate())
///     .access_token_paths(["/notes"])
///     .store(MemoryStore::new());
/// let auth = FastAuthLayer::new(settings.build()?)?;
///
/// let app: Router = Router::new()
///     .route("/notes/all", delete(async || "gone"))
///     .route_layer(Require::roles_any(["admin"]))
///     .route("/notes", get(async || "for everyone with a token"))
///     .layer(auth);
/// # Ok(())
/// # }
/// ```
///
/// A request without a [`Permit`] is answered 500, and the log says why: the path is not guarded, or the layer is around the guard instead
/// of within. It is 401 if the path makes the access token optional, and there is none. A preflight that `skip-preflight` lets through passes.
#[derive(Clone, Debug)]
pub struct Require(Demand);

#[derive(Clone, Debug)]
enum Demand {
    MasterToken,
    Claims(Arc<Demands>),
}

/// What a request is answered that does not pass.
enum Unmet {
    Refused { terms: Arc<Terms>, denial: Denial },
    Misplaced(&'static str),
}

impl Require {
    /// Demands one of these roles.
    #[must_use]
    pub fn roles_any<R: Into<String>>(roles: impl IntoIterator<Item = R>) -> Self {
        Self::claims(|rule| rule.roles_any(roles))
    }

    /// Demands all of these roles.
    #[must_use]
    pub fn roles_all<R: Into<String>>(roles: impl IntoIterator<Item = R>) -> Self {
        Self::claims(|rule| rule.roles_all(roles))
    }

    /// Demands all of these scopes.
    #[must_use]
    pub fn scopes<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::claims(|rule| rule.scopes(scopes))
    }

    /// Demands one of these scopes.
    #[must_use]
    pub fn scopes_any<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::claims(|rule| rule.scopes_any(scopes))
    }

    /// Demands a holder of this kind, by the test of `service-claim`.
    #[must_use]
    pub fn principal(principal: Principal) -> Self {
        Self::claims(|rule| rule.principal(principal))
    }

    /// Demands that the path needed the master token, which was right.
    #[must_use]
    pub fn master() -> Self {
        Self(Demand::MasterToken)
    }

    /// Demands that members of the token's payload are equal to these values.
    #[must_use]
    pub fn claim_equals<N: Into<String>, V: Into<Value>>(claims: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::claims(|rule| rule.claim_equals(claims))
    }

    /// Demands a log-in that is not longer ago.
    #[must_use]
    pub fn max_age(age: Duration) -> Self {
        Self::claims(|rule| rule.max_age(age))
    }

    fn claims(demand: impl FnOnce(Rule) -> Rule) -> Self {
        Self(Demand::Claims(Arc::new(demand(Rule::prefix("/")).demands().clone())))
    }

    fn check(&self, extensions: &Extensions) -> Result<(), Unmet> {
        let (permit, terms) = match (extensions.get::<Permit>(), extensions.get::<WithoutPermit>()) {
            (Some(permit), _) => (Some(permit), permit.terms()),
            (None, Some(WithoutPermit::Shadow | WithoutPermit::Preflight(_))) => return Ok(()),
            (None, Some(WithoutPermit::Anonymous(terms))) => (None, terms),
            (None, None) => return Err(Unmet::Misplaced(NO_PERMIT)),
        };
        // What no request can meet is a fault for those without a credential, too.
        let Demand::Claims(demands) = &self.0 else {
            let is_met = permit.is_some_and(Permit::passed_master_token);
            return if is_met { Ok(()) } else { Err(Unmet::Misplaced(NO_MASTER_TOKEN)) };
        };
        if demands.principal != Principal::Any && !terms.judge.service.is_set() {
            return Err(Unmet::Misplaced(NO_SERVICE_TEST));
        }
        let refused = |denial| Err(Unmet::Refused { terms: Arc::clone(terms), denial });
        let Some(permit) = permit else { return refused(DenialReason::MissingAccessToken.into()) };
        let Some(claims) = permit.claims() else { return Err(Unmet::Misplaced(NO_ACCESS_TOKEN)) };
        terms.judge.check(demands, Some(claims)).or_else(|unmet| refused(permit.denial(unmet.into())))
    }
}

impl<S> Layer<S> for Require {
    type Service = Required<S>;

    fn layer(&self, inner: S) -> Required<S> {
        Required { inner, require: self.clone() }
    }
}

/// A service behind a demand, which [`Require`] creates.
#[derive(Clone, Debug)]
pub struct Required<S> {
    inner: S,
    require: Require,
}

impl<S, B, ResBody> Service<Request<B>> for Required<S>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = RequiredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let refusal = match self.require.check(request.extensions()) {
            Ok(()) => None,
            Err(Unmet::Misplaced(problem)) => Some(misplaced(problem, request.method())),
            Err(Unmet::Refused { terms, denial }) => refuse(&mut request, &terms, denial),
        };
        match refusal {
            None => RequiredFuture { state: State::Forwarding { response: self.inner.call(request) } },
            Some(response) => RequiredFuture { state: State::Refusing { response: Some(response) } },
        }
    }
}

/// Returns the answer to a request that is refused, or `None` in `shadow`.
#[cold]
fn refuse<B>(request: &mut Request<B>, terms: &Arc<Terms>, denial: Denial) -> Option<Response<Full<Bytes>>> {
    let details = terms.observer.details(request.uri(), request.headers(), request.extensions());
    let denial = terms.refuse(request.method(), &details, denial).err()?;
    Some(Refusal::new(request, terms).prepare(request, &denial).render(denial))
}

pin_project! {
    /// The response of a [`Required`].
    ///
    /// # Panics
    ///
    /// If it is polled after it has resolved.
    #[derive(Debug)]
    pub struct RequiredFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Forwarding { #[pin] response: F },
        Refusing { response: Option<Response<Full<Bytes>>> },
    }
}

impl<F, E, ResBody> Future for RequiredFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, E>;

    #[allow(clippy::expect_used, reason = "polling a future after its end is the caller's fault, as the docs say")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().state.project() {
            StateProjection::Forwarding { response } => ready!(response.poll(cx))?.map(ResponseBody::inner),
            StateProjection::Refusing { response } => {
                response.take().expect("a RequiredFuture was polled after it had ended").map(ResponseBody::refusal)
            }
        }))
    }
}
