//! The guard: decides on each request, has its credentials checked, and forwards or refuses it.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{HeaderMap, Method};

#[cfg(feature = "websocket")]
use crate::settings::WebSocketRefusal;
use crate::{
    check::{
        confirm::{Confirmer, Progress, Verified},
        denial::Denial,
        lifetime::Access,
        master::{Caller, MasterTokens},
        permit::Permit,
        refuse::Refusals,
        ticket::Ticket,
    },
    credential::{Credentials, Proof},
    observe::{Case, Event, Observer},
    rule::{RequestLine, Requirement},
};

mod body;
#[cfg(feature = "websocket")]
mod closing;
mod decide;
mod future;
mod service;

pub(crate) use self::decide::Policy;
use self::decide::{Decision, Then, decide};
pub use self::{body::ResponseBody, future::ResponseFuture, service::FastAuth};

/// The running parts of the layer.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) policy: Policy,
    /// Refusals are logged and not carried out.
    pub(crate) shadow: bool,
    #[cfg(feature = "websocket")]
    pub(crate) websocket_refusal: WebSocketRefusal,
    pub(crate) master: Arc<MasterTokens>,
    pub(crate) confirmer: Arc<Confirmer>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) observer: Arc<Observer>,
}

/// The outcome of all checks that need no waiting, for a request that is not refused.
enum Settled {
    /// No check applies.
    Pass,
    /// A check failed, and `shadow` lets the request pass.
    Tolerate,
    /// All checks passed.
    Permit(Permit),
    /// The store has to be awaited.
    Await(Pending),
}

/// Resolves to a permit, to a denial, or to neither if a check failed and `shadow` lets the request pass.
type Pending = Pin<Box<dyn Future<Output = Result<Option<Permit>, Denial>> + Send>>;

/// A question to the store.
enum StoreQuestion {
    Token(Verified),
    Ticket(Ticket),
}

/// What came of the checks of a request's credentials.
enum CheckedCredentials {
    Permit(Permit),
    Await { question: StoreQuestion, master: Option<Arc<str>> },
}

impl Guard {
    #[inline]
    fn decide(
        self: &Arc<Self>,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        credentials: &Credentials,
        caller: Caller,
    ) -> Result<Settled, Denial> {
        let mut case = Case::default();
        let checked = match decide(&self.policy, line, headers, credentials, &mut case) {
            Ok(Decision::Pass) => return Ok(Settled::Pass),
            Ok(Decision::Check { master, then }) => {
                if case.requirement.is_some_and(Requirement::only_by_other_reading) {
                    self.observer.record(Event::OtherReading { case, method: line.method });
                }
                self.check(master, then, caller)
            }
            Err(reason) => Err(reason.into()),
        };
        let outcome = match checked {
            Ok(CheckedCredentials::Permit(permit)) => Ok(permit),
            Ok(CheckedCredentials::Await { question, master }) => {
                return Ok(Settled::Await(self.pending(question, master, case, line.method.clone())));
            }
            Err(denial) => Err(denial),
        };
        Ok(self.conclude(case, line.method, outcome)?.map_or(Settled::Tolerate, Settled::Permit))
    }

    fn check(&self, master: Option<&[u8]>, then: Then<'_>, caller: Caller) -> Result<CheckedCredentials, Denial> {
        let master = master.map(|token| self.master.check(token, caller)).transpose()?;
        let question = match then {
            Then::Permit => return Ok(CheckedCredentials::Permit(Permit::new(master, None))),
            Then::Confirm(Proof::Token(token)) => match self.confirmer.confirm_now(token)? {
                Progress::Confirmed(access) => {
                    return Ok(CheckedCredentials::Permit(Permit::new(master, Some(access))));
                }
                Progress::Verified(verified) => StoreQuestion::Token(verified),
            },
            Then::Confirm(Proof::Ticket(ticket)) => StoreQuestion::Ticket(self.confirmer.open_ticket(ticket.expose())?),
            Then::Refuse(reason) => return Err(reason.into()),
        };
        Ok(CheckedCredentials::Await { question, master })
    }

    #[cold]
    fn pending(
        self: &Arc<Self>,
        question: StoreQuestion,
        master: Option<Arc<str>>,
        case: Case,
        method: Method,
    ) -> Pending {
        let guard = Arc::clone(self);
        Box::pin(async move {
            let access = guard.ask(question).await;
            guard.conclude(case, &method, access.map(|access| Permit::new(master, Some(access))))
        })
    }

    async fn ask(&self, question: StoreQuestion) -> Result<Arc<Access>, Denial> {
        match question {
            StoreQuestion::Token(verified) => self.confirmer.confirm(verified).await,
            StoreQuestion::Ticket(ticket) => self.confirmer.redeem(&ticket).await,
        }
    }

    /// Logs and counts the outcome of a request's checks. With `shadow`, a denial becomes `None`.
    #[inline]
    fn conclude(&self, case: Case, method: &Method, outcome: Result<Permit, Denial>) -> Result<Option<Permit>, Denial> {
        match outcome {
            Ok(permit) => {
                if self.observer.takes_permits() {
                    let master_token = permit.master_token_name();
                    let client = permit.client_id();
                    self.observer.record(Event::Permitted { case, method, client, master_token });
                }
                Ok(Some(permit))
            }
            Err(denial) => {
                let client = denial.client_id();
                self.observer.record(Event::Refused { case, method, client, reason: denial.reason() });
                if self.shadow { Ok(None) } else { Err(denial) }
            }
        }
    }
}
