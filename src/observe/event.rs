//! What is logged and counted, as plain data.

use http::Method;

use super::details::Details;
use crate::{
    DenialReason, IssueErrorKind,
    rule::{PathList, Requirement, RuleId},
};

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "some fields are only counted"))]
pub(crate) enum Event<'a> {
    /// The guard let a request through to a guarded path.
    Permitted { case: Case, method: &'a Method, client: Option<&'a str>, master_token: Option<&'a str> },
    /// The guard refused a request.
    Refused { case: Case, method: &'a Method, client: Option<&'a str>, reason: &'a DenialReason, details: &'a Details },
    /// A path is guarded only by another reading than the one sent.
    OtherReading { case: Case, method: &'a Method, details: &'a Details },
    /// An endpoint that asks for the master token itself found it right.
    AdministrationPermitted,
    /// An endpoint that asks for the master token itself refused a request.
    AdministrationRefused { method: &'a Method, reason: &'a DenialReason, details: &'a Details },
    /// The endpoint for tickets, which asks for an access token itself, refused a request.
    TicketRefused { method: &'a Method, client: Option<&'a str>, reason: &'a DenialReason, details: &'a Details },
    /// A rule that only reports would have refused a request.
    WouldRefuse {
        rule: RuleId,
        method: &'a Method,
        client: Option<&'a str>,
        reason: &'a DenialReason,
        details: &'a Details,
    },
    /// What a layer or a handler behind the guard asks for in code is not met.
    RequirementUnmet { method: &'a Method, client: Option<&'a str>, reason: &'a DenialReason, details: &'a Details },
    /// A token was looked up in the cache.
    CacheLookup { is_hit: bool },
    /// A pair of tokens was asked for.
    Issued { grant: GrantKind, outcome: Result<Issued, &'a IssueErrorKind> },
    /// A rate limit refused a request for tokens.
    Limited { by: Limited },
}

/// The subject of a decision: the checks that the path asks for. There are none if it has no sound reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Case {
    pub(crate) requirement: Option<Requirement>,
    /// The rule whose demand is not met, or which denies the path.
    pub(crate) refused_by: Option<RuleId>,
}

/// What decides on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decider {
    /// A prefix of a list, or a rule.
    Rule(RuleId),
    /// The level of the requests that no rule matches.
    DefaultLevel,
    /// Nothing: the path cannot be read.
    Nothing,
}

impl Case {
    /// Returns the name of what the path asks for.
    pub(super) fn level(self) -> &'static str {
        let Some(asked) = self.requirement else { return super::NO_RULE };
        match (asked.needs_master(), asked.needs_access()) {
            _ if asked.is_only_denied() => "deny",
            (true, true) => "both",
            (true, false) => "master",
            (false, true) => "access",
            (false, false) if asked.is_optional() => "optional",
            (false, false) => "public",
        }
    }

    /// Returns what decided by the last check: if both tokens are asked for, the master token comes first.
    pub(super) fn decider(self, failed: Option<&DenialReason>) -> Decider {
        let Some(requirement) = self.requirement else { return Decider::Nothing };
        let master = requirement.rule(PathList::Master);
        let of_credentials = if failed.is_some_and(DenialReason::is_of_master_token) {
            master
        } else {
            requirement.rule(PathList::Access).or(master).or(requirement.first_rule())
        };
        match self.refused_by.or(of_credentials) {
            Some(rule) => Decider::Rule(rule),
            None if requirement.is_by_fault() => Decider::Nothing,
            None => Decider::DefaultLevel,
        }
    }
}

/// The reason why a pair is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantKind {
    New,
    Refresh,
}

/// How a pair was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issued {
    New,
    /// It was issued before, and the answer may have been lost.
    Repeated,
}

/// The limit that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    Caller,
    Client,
}
