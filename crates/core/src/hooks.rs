//! What an application decides in code about requests to guarded paths.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Response, request::Parts};

use crate::{denial::DenialReason, policy::Rule, token::Claims};

/// Checks what rules cannot say, after them: it can only refuse.
///
/// The guard asks about each request that it would let through to a guarded path. A check that panics refuses. Requests to public paths,
/// and those without a credential to optional ones, are not asked about.
///
/// It asks once for each rule that won, since the readings of a path can meet several: all answers have to be `Ok`. A path that cannot be read
/// meets all rules. A request with a ticket is asked about before the ticket is used up, so it may turn out later that it was used before.
///
/// ```
/// # mod fastauth { pub use fastauth_core::hooks::{AccessCheck, AccessFuture, AccessQuestion, Refusal}; }
/// use fastauth::{AccessCheck, AccessFuture, AccessQuestion, Refusal};
///
/// /// Lets each client use the paths of its own tenant.
/// struct OwnTenant;
///
/// impl AccessCheck for OwnTenant {
///     fn check<'a>(&'a self, question: AccessQuestion<'a>) -> AccessFuture<'a> {
///         Box::pin(async move {
///             let tenant = question.claims.and_then(|claims| claims.get("tenant")?.as_str());
///             let asked = question.request.headers.get("x-tenant").and_then(|tenant| tenant.to_str().ok());
///             if tenant.is_none() || tenant != asked {
///                 return Err(Refusal::new("this is another tenant's"));
///             }
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait AccessCheck: Send + Sync + 'static {
    /// Decides on a request that the rules permit.
    fn check<'a>(&'a self, question: AccessQuestion<'a>) -> AccessFuture<'a>;
}

/// The future that an [`AccessCheck`] returns.
pub type AccessFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

/// A request that the rules permit, and what they were satisfied by.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AccessQuestion<'a> {
    /// The head of the request. Its extensions have the `Permit`.
    pub request: &'a Parts,
    /// The claims of the access token; `None` if the path requires the master token alone.
    pub claims: Option<&'a Claims>,
    /// The name of the master token, if the path requires one.
    pub master_token: Option<&'a str>,
    /// A rule that decided; `None` if none did, but a path list or `default-level`.
    pub rule: Option<&'a Rule>,
}

impl<'a> AccessQuestion<'a> {
    /// Creates a question.
    #[doc(hidden)]
    #[must_use]
    pub fn new(
        request: &'a Parts,
        claims: Option<&'a Claims>,
        master_token: Option<&'a str>,
        rule: Option<&'a Rule>,
    ) -> Self {
        Self { request, claims, master_token, rule }
    }
}

/// Why an [`AccessCheck`] does not let a request through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    text: String,
    is_failure: bool,
}

impl Refusal {
    /// Creates a refusal with a text for the client: 403, with the reason `refused_by_check`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_failure: false }
    }

    /// Creates the refusal of a check that could not be made: 500, with the reason `check_failed`. The error is logged, and not shown
    /// to the client.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self { text: error.to_string(), is_failure: true }
    }
}

impl From<Refusal> for DenialReason {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_failure { Self::CheckFailed(refusal.text) } else { Self::Refused(refusal.text) }
    }
}

/// A request that the guard refuses.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejection<'a> {
    /// The head of the request. A ticket is taken out of its URI.
    pub request: &'a Parts,
    /// Why it is refused.
    pub reason: &'a DenialReason,
    /// The client that the access token was issued to, if its signature is valid.
    pub client_id: Option<&'a str>,
    /// The response that would be sent. For a request by `HEAD`, it has the body of that by `GET`.
    pub response: Response<Bytes>,
}

impl<'a> Rejection<'a> {
    /// Creates a rejection.
    #[doc(hidden)]
    #[must_use]
    pub fn new(
        request: &'a Parts,
        reason: &'a DenialReason,
        client_id: Option<&'a str>,
        response: Response<Bytes>,
    ) -> Self {
        Self { request, reason, client_id, response }
    }
}

/// The application's function that answers refused requests.
#[derive(Clone)]
pub struct OnReject(Arc<Answer>);

type Answer = dyn Fn(Rejection<'_>) -> Response<Bytes> + Send + Sync;

impl OnReject {
    /// Creates it from the application's function.
    pub fn new<B: Into<Bytes>>(answer: impl Fn(Rejection<'_>) -> Response<B> + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |rejection| answer(rejection).map(Into::into)))
    }

    /// Returns the response to a refused request. Its headers may say another length than that of its body.
    #[must_use]
    pub fn answer(&self, rejection: Rejection<'_>) -> Response<Bytes> {
        (self.0)(rejection)
    }
}

impl fmt::Debug for OnReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnReject(..)")
    }
}

/// What an application decides in code about requests to guarded paths, if it does.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Checks requests after the rules.
    pub access_check: Option<Arc<dyn AccessCheck>>,
    /// Answers refused requests.
    pub on_reject: Option<OnReject>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_check = self.access_check.is_some();
        f.debug_struct("Hooks").field("access_check", &has_check).field("on_reject", &self.on_reject).finish()
    }
}
