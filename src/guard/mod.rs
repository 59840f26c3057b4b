//! The guard: decides on each request, has its credentials checked, and forwards or refuses it.

use std::{future::Future, pin::Pin, sync::Arc};

use fastauth_core::hooks::AccessQuestion;
use http::{Extensions, HeaderMap, HeaderValue, Method, request::Parts};

use crate::{
    DenialReason,
    check::{
        admission::{Admission, Admitted},
        confirm::{Confirmer, Progress, Verified},
        denial::Denial,
        lifetime::Access,
        live::Replaced,
        master::{Caller, MasterToken, MasterTokens},
        permit::Permit,
        terms::{Judge, Terms},
        ticket::Ticket,
    },
    credential::{Credentials, Proof},
    observe::{Case, Details, Event},
    rule::{RequestLine, Requirement},
    trace,
};

mod body;
#[cfg(feature = "websocket")]
mod closing;
mod consult;
mod decide;
mod ending;
mod future;
mod head;
mod refusal;
mod report;
mod require;
mod service;

pub(crate) use self::decide::Policy;
pub use self::{
    body::ResponseBody,
    future::ResponseFuture,
    require::{Require, Required, RequiredFuture},
    service::FastAuth,
};
use self::{
    consult::consult,
    decide::{Decision, Then, Unsatisfied, decide, ends_on, judge},
};

/// The running parts of the layer, by one configuration.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) replaced: Replaced,
    pub(crate) policy: Policy,
    pub(crate) master: Arc<MasterTokens>,
    pub(crate) confirmer: Arc<Confirmer>,
    pub(crate) terms: Arc<Terms>,
}

/// The outcome of all checks that need no waiting, for a request that is not refused.
enum Settled {
    /// No check applies.
    Pass,
    /// No check applies, since it is a preflight.
    Preflight,
    /// An access token is optional, and no credential is presented.
    Anonymous,
    /// A check failed, and `shadow` lets the request pass.
    Tolerate,
    /// All checks passed.
    Permit(Permit),
    /// Something has to be awaited.
    Await(Box<Outstanding>),
}

/// What has to be awaited, and for which decision.
struct Outstanding {
    question: Question,
    case: Case,
}

/// What has to be awaited before a request goes on.
enum Question {
    /// The store's answer about a token.
    Token { verified: Verified, master: Option<Arc<MasterToken>> },
    /// The store's answer about a ticket.
    Ticket { ticket: Box<Ticket>, master: Option<Arc<MasterToken>> },
    /// The application's check.
    Application(Permit),
}

/// The outcome of what had to be awaited.
struct Verdict {
    /// The head of the request, if the application was asked.
    head: Option<Parts>,
    /// A permit, a denial, or neither if a check failed and `shadow` lets the request pass.
    permit: Result<Option<Permit>, Denial>,
}

type Pending = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// What came of the checks of a request's credentials.
enum CheckedCredentials {
    Permit(Permit),
    Await(Question),
}

impl Guard {
    #[inline]
    fn decide(
        &self,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        credentials: &Credentials,
        extensions: &Extensions,
        caller: Caller,
    ) -> Result<Settled, Denial> {
        let mut case = Case::default();
        let decided = decide(&self.policy, line, headers, credentials, &mut case);
        if let Some(rule) = case.requirement.and_then(Requirement::reported) {
            self.report(rule, line, headers, credentials, extensions);
        }
        let checked = match decided {
            Ok(Decision::Pass) if self.policy.rules.skip(line) => return Ok(Settled::Preflight),
            Ok(Decision::Pass) => return Ok(Settled::Pass),
            Ok(Decision::Anonymous) => return Ok(Settled::Anonymous),
            Ok(Decision::Check { master, then }) => {
                if case.requirement.is_some_and(Requirement::only_by_other_reading) {
                    let details = &self.terms.observer.details(line.uri, headers, extensions);
                    self.terms.observer.record(Event::OtherReading { case, method: line.method, details });
                }
                self.check(&mut case, master, then, caller, line, credentials)
            }
            Err(reason) => Err(reason.into()),
        };
        match checked {
            Ok(CheckedCredentials::Permit(permit)) if self.asks_application() => {
                Ok(Settled::Await(Box::new(Outstanding { question: Question::Application(permit), case })))
            }
            Ok(CheckedCredentials::Permit(permit)) => Ok(Settled::Permit(self.permit(&case, line.method, permit))),
            Ok(CheckedCredentials::Await(question)) => Ok(Settled::Await(Box::new(Outstanding { question, case }))),
            Err(denial) => {
                let details = self.terms.observer.details(line.uri, headers, extensions);
                self.refuse(case, line.method, &details, denial).map(|()| Settled::Tolerate)
            }
        }
    }

    fn check(
        &self,
        case: &mut Case,
        master: Option<&[u8]>,
        then: Then<'_>,
        caller: Caller,
        line: &RequestLine<'_>,
        credentials: &Credentials,
    ) -> Result<CheckedCredentials, Denial> {
        let master = master.map(|token| self.master.check(token, caller)).transpose()?;
        match then {
            Then::Permit => Ok(CheckedCredentials::Permit(self.permit_for(case, master, None, None)?)),
            Then::Confirm(Proof::Token(token)) => {
                let now_ms = self.confirmer.clock.unix_now_ms();
                Ok(match self.confirmer.confirm_now(token, now_ms)? {
                    Progress::Confirmed(access) => {
                        CheckedCredentials::Permit(self.permit_for(case, master, Some(access), Some(now_ms / 1000))?)
                    }
                    Progress::Verified(verified) => CheckedCredentials::Await(Question::Token { verified, master }),
                })
            }
            Then::Confirm(Proof::Ticket(ticket)) => {
                let ticket = self.confirmer.open_ticket(ticket.expose())?;
                // Before the store is asked: a request that is refused does not use it up.
                if !ticket.admits(&self.policy.rules, line, credentials.are_of_handshake()) {
                    return Err(DenialReason::TicketMismatch.into());
                }
                Ok(CheckedCredentials::Await(Question::Ticket { ticket: Box::new(ticket), master }))
            }
            Then::Refuse(reason) => Err(reason.into()),
        }
    }

    /// Creates the permit of a request whose credentials are good, if it has what the rules ask for beside them.
    #[inline]
    fn permit_for(
        &self,
        case: &mut Case,
        master: Option<Arc<MasterToken>>,
        access: Option<Arc<Access>>,
        at: Option<u64>,
    ) -> Result<Permit, Denial> {
        let rules = &self.policy.rules;
        let ends_on = case.requirement.and_then(|requirement| ends_on(rules, requirement));
        let permit = Permit::new(master, access, at, ends_on, &self.terms);
        let Some(requirement) = case.requirement else { return Ok(permit) };
        match judge(rules, requirement, permit.claims(), &self.terms.judge) {
            Ok(()) => Ok(permit),
            Err(Unsatisfied { rule, reason }) => {
                case.refused_by = rule;
                Err(permit.denial(reason))
            }
        }
    }

    /// Returns true if these rules let through what others let through before. What only code can tell is not asked again, and the time of
    /// the log-in counts as it did then.
    pub(crate) fn still_admits(&self, admission: &Admission, credentials: Admitted<'_>) -> bool {
        if self.terms.shadow {
            return true;
        }
        let Ok(requirement) = self.policy.rules.requirement(&admission.line()) else { return false };
        let Admitted { master, claims, at } = credentials;
        let master_is_good = !requirement.needs_master() || master.is_some_and(|token| self.master.include(token));
        let token_is_good = !requirement.needs_access() || claims.is_some_and(|claims| self.confirmer.signed(claims));
        let judge_then = Judge { at, ..self.terms.judge.clone() };
        master_is_good && token_is_good && judge(&self.policy.rules, requirement, claims, &judge_then).is_ok()
    }

    /// Returns true if the application is asked about what the rules permit. Then it needs the head of the request.
    #[inline]
    fn asks_application(&self) -> bool {
        self.terms.hooks.access_check.is_some()
    }

    #[cold]
    fn pending(
        self: &Arc<Self>,
        outstanding: Outstanding,
        mut head: Option<Parts>,
        method: Method,
        details: Details,
        parent: Option<HeaderValue>,
    ) -> Pending {
        let guard = Arc::clone(self);
        let Outstanding { question, mut case } = outstanding;
        let deciding = async move {
            let permit = match guard.settle(question, &mut case, head.as_mut()).await {
                Ok(permit) => Ok(Some(guard.permit(&case, &method, permit))),
                Err(denial) => guard.refuse(case, &method, &details, denial).map(|()| None),
            };
            Verdict { head, permit }
        };
        Box::pin(trace::within(parent, deciding))
    }

    async fn settle(&self, question: Question, case: &mut Case, head: Option<&mut Parts>) -> Result<Permit, Denial> {
        match question {
            Question::Token { verified, master } => {
                let at = verified.at();
                let permit = self.permit_for(case, master, Some(self.confirmer.confirm(verified).await?), Some(at))?;
                self.ask_application(&permit, case, head).await?;
                Ok(permit)
            }
            Question::Ticket { ticket, master } => {
                let access = self.confirmer.access_by(&ticket).await?;
                // Before it is spent: a request that is refused does not use it up.
                let at = self.confirmer.clock.unix_now();
                let permit = self.permit_for(case, master, Some(Arc::clone(&access)), Some(at))?;
                self.ask_application(&permit, case, head).await?;
                self.confirmer.spend(&ticket, &access).await?;
                Ok(permit)
            }
            Question::Application(permit) => {
                self.ask_application(&permit, case, head).await?;
                Ok(permit)
            }
        }
    }

    /// Asks the application about a request that the rules permit, if it has a say in that: once for each rule that won. A check that goes by
    /// the rule sees all of them so, and each can refuse.
    async fn ask_application(&self, permit: &Permit, case: &mut Case, head: Option<&mut Parts>) -> Result<(), Denial> {
        let (Some(check), Some(head)) = (&self.terms.hooks.access_check, head) else { return Ok(()) };
        head.extensions.insert(permit.clone());
        let mut winners = case.requirement.into_iter().flat_map(|requirement| self.policy.rules.winners(requirement));
        let mut winner = winners.next();
        let answer = loop {
            let rule = winner.map(|(_, rule)| rule);
            let asked = AccessQuestion::new(head, permit.claims(), permit.master_token_name(), rule);
            if let Err(reason) = consult(&**check, asked).await {
                break Err(permit.denial(reason));
            }
            winner = winners.next();
            if winner.is_none() {
                break Ok(());
            }
        };
        if answer.is_err() {
            case.refused_by = winner.map(|(id, _)| id);
        }
        // What comes after may still refuse the request.
        head.extensions.remove::<Permit>();
        answer
    }

    /// Logs and counts a permit.
    #[inline]
    fn permit(&self, case: &Case, method: &Method, permit: Permit) -> Permit {
        if self.terms.observer.takes_permits() {
            let master_token = permit.master_token_name();
            let client = permit.client_id();
            self.terms.observer.record(Event::Permitted { case: *case, method, client, master_token });
        }
        permit
    }

    /// Logs and counts a denial, which `shadow` does not carry out.
    fn refuse(&self, case: Case, method: &Method, details: &Details, denial: Denial) -> Result<(), Denial> {
        let client = denial.client_id();
        self.terms.observer.record(Event::Refused { case, method, client, reason: denial.reason(), details });
        if self.terms.shadow { Ok(()) } else { Err(denial) }
    }
}
