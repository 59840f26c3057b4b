//! The guard: decides on each request, has its credentials checked, and forwards or refuses it.

use std::{future::Future, pin::Pin, sync::Arc};

use http::{Extensions, HeaderMap, Method};

#[cfg(feature = "websocket")]
use crate::settings::WebSocketRefusal;
use crate::{
    DenialReason,
    check::{
        confirm::{Confirmer, Progress, Verified},
        denial::Denial,
        lifetime::Access,
        live::Replaced,
        master::{Caller, MasterTokens},
        permit::Permit,
        refuse::Refusals,
        ticket::Ticket,
    },
    credential::{Credentials, Proof},
    observe::{Case, Details, Event, Observer},
    rule::{RequestLine, Requirement},
};

mod body;
#[cfg(feature = "websocket")]
mod closing;
mod decide;
mod ending;
mod future;
mod service;

pub(crate) use self::decide::Policy;
use self::decide::{Decision, Then, decide};
pub use self::{body::ResponseBody, future::ResponseFuture, service::FastAuth};

/// The running parts of the layer, by one configuration.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) replaced: Replaced,
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
    /// The store has to be awaited. With `by_ticket`, the ticket is what it is asked about.
    Await { pending: Pending, by_ticket: bool },
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
        extensions: &Extensions,
        caller: Caller,
    ) -> Result<Settled, Denial> {
        let mut case = Case::default();
        let checked = match decide(&self.policy, line, headers, credentials, &mut case) {
            Ok(Decision::Pass) => return Ok(Settled::Pass),
            Ok(Decision::Check { master, then }) => {
                if case.requirement.is_some_and(Requirement::only_by_other_reading) {
                    let details = &self.observer.details(line.uri, headers, extensions);
                    self.observer.record(Event::OtherReading { case, method: line.method, details });
                }
                self.check(master, then, caller, line, credentials)
            }
            Err(reason) => Err(reason.into()),
        };
        match checked {
            Ok(CheckedCredentials::Permit(permit)) => Ok(Settled::Permit(self.permit(case, line.method, permit))),
            Ok(CheckedCredentials::Await { question, master }) => {
                let details = self.observer.details(line.uri, headers, extensions);
                let by_ticket = matches!(question, StoreQuestion::Ticket(_));
                let pending = self.pending(question, master, case, line.method.clone(), details);
                Ok(Settled::Await { pending, by_ticket })
            }
            Err(denial) => {
                let details = self.observer.details(line.uri, headers, extensions);
                self.refuse(case, line.method, &details, denial).map(|()| Settled::Tolerate)
            }
        }
    }

    fn check(
        &self,
        master: Option<&[u8]>,
        then: Then<'_>,
        caller: Caller,
        line: &RequestLine<'_>,
        credentials: &Credentials,
    ) -> Result<CheckedCredentials, Denial> {
        let master = master.map(|token| self.master.check(token, caller)).transpose()?;
        let question = match then {
            Then::Permit => return Ok(CheckedCredentials::Permit(Permit::new(master, None))),
            Then::Confirm(Proof::Token(token)) => match self.confirmer.confirm_now(token)? {
                Progress::Confirmed(access) => {
                    return Ok(CheckedCredentials::Permit(Permit::new(master, Some(access))));
                }
                Progress::Verified(verified) => StoreQuestion::Token(verified),
            },
            Then::Confirm(Proof::Ticket(ticket)) => {
                let ticket = self.confirmer.open_ticket(ticket.expose())?;
                // Before the store is asked: a request that is refused does not use it up.
                if !ticket.admits(&self.policy.rules, line, credentials.are_of_handshake()) {
                    return Err(DenialReason::TicketMismatch.into());
                }
                StoreQuestion::Ticket(ticket)
            }
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
        details: Details,
    ) -> Pending {
        let guard = Arc::clone(self);
        Box::pin(async move {
            match guard.ask(question).await {
                Ok(access) => Ok(Some(guard.permit(case, &method, Permit::new(master, Some(access))))),
                Err(denial) => guard.refuse(case, &method, &details, denial).map(|()| None),
            }
        })
    }

    async fn ask(&self, question: StoreQuestion) -> Result<Arc<Access>, Denial> {
        match question {
            StoreQuestion::Token(verified) => self.confirmer.confirm(verified).await,
            StoreQuestion::Ticket(ticket) => self.confirmer.redeem(&ticket).await,
        }
    }

    /// Logs and counts a permit.
    #[inline]
    fn permit(&self, case: Case, method: &Method, permit: Permit) -> Permit {
        if self.observer.takes_permits() {
            let master_token = permit.master_token_name();
            let client = permit.client_id();
            self.observer.record(Event::Permitted { case, method, client, master_token });
        }
        permit
    }

    /// Returns the permit with which responses end that go on. With `shadow`, none is ended.
    #[inline]
    fn ending(&self, permit: &Permit) -> Option<Permit> {
        (permit.can_end() && !self.shadow).then(|| permit.clone())
    }

    /// Logs and counts a denial, which `shadow` does not carry out.
    fn refuse(&self, case: Case, method: &Method, details: &Details, denial: Denial) -> Result<(), Denial> {
        let client = denial.client_id();
        self.observer.record(Event::Refused { case, method, client, reason: denial.reason(), details });
        if self.shadow { Ok(()) } else { Err(denial) }
    }
}
