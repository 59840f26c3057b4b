//! What a rule that only reports would refuse.

use http::{Extensions, HeaderMap};

use super::Guard;
use crate::{
    DenialReason,
    check::denial::Denial,
    credential::{Credentials, Presented, Proof},
    observe::Event,
    rule::{Demands, RequestLine, RuleId},
};

impl Guard {
    /// Logs and counts a request that a rule would refuse if it did not only report. Nothing is awaited or changed for that: a token that
    /// only the store can confirm counts as current, and a ticket as good.
    #[cold]
    pub(super) fn report(
        &self,
        rule: RuleId,
        line: &RequestLine<'_>,
        headers: &HeaderMap,
        credentials: &Credentials,
        extensions: &Extensions,
    ) {
        let presented = credentials.read(headers, self.policy.sources);
        let Err(denial) = self.try_rule(rule, &presented) else { return };
        let details = &self.terms.observer.details(line.uri, headers, extensions);
        let client = denial.client_id();
        self.terms.observer.record(Event::WouldRefuse {
            rule,
            method: line.method,
            client,
            reason: denial.reason(),
            details,
        });
    }

    fn try_rule(&self, id: RuleId, presented: &Presented<'_>) -> Result<(), Denial> {
        let rules = &self.policy.rules;
        let (Some(asked), Some(rule)) = (rules.requirement_of(id), rules.rule(id)) else { return Ok(()) };
        if asked.is_only_denied() {
            return Err(DenialReason::Denied.into());
        }
        if asked.needs_master() {
            let token = presented.master_token().map_err(DenialReason::Credentials)?;
            if !self.master.know(token.ok_or(DenialReason::MissingMasterToken)?) {
                return Err(DenialReason::WrongMasterToken.into());
            }
        }
        if !asked.needs_access() && !asked.is_optional() {
            return Ok(());
        }
        match presented.proof().map_err(DenialReason::Credentials)? {
            Some(Proof::Token(token)) => self.try_demands(rule.demands(), token),
            Some(Proof::Ticket(_)) => Ok(()),
            None if asked.is_optional() => Ok(()),
            None => Err(DenialReason::MissingAccessToken.into()),
        }
    }

    fn try_demands(&self, demands: &Demands, token: &[u8]) -> Result<(), Denial> {
        let access = self.confirmer.inspect(token)?;
        self.terms.judge.check(demands, Some(&access)).map_err(|unmet| Denial::new(unmet.into(), &access))
    }
}
