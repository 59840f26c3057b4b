//! What is told of the guard's work: events and spans for `tracing`, and with the feature `metrics` counts and times.
//!
//! Nothing here names a token, a key, the value of a header or a query. A client is named once its token's signature was
//! found good, and in events and spans alone: what is counted has labels that the configuration or this crate bounds.
//! Where nobody listens, next to nothing is done, and nothing is allocated.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use tracing::{Level, Span};

use crate::{
    DenialReason, IssueError,
    rule::{PathList, PathRefusal, RequestLine, Requirement, RuleId, Rules},
    shown::shown,
    store::StoreError,
};

#[cfg(feature = "metrics")]
mod meters;
mod store;

pub(crate) use store::ObservedStore;

/// Where no prefix decides.
const NO_RULE: &str = "none";
/// Stands for a prefix where an endpoint asks for the master token by itself.
const ADMINISTRATION: &str = "administration";

/// Stands for a prefix where the endpoint for tickets asks for an access token by itself.
const TICKET: &str = "ticket";

/// The subject of a decision: the checks that the path asks for, and the rules that ask for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Case {
    requirement: Option<Requirement>,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Computes the checks that a request needs.
    #[inline]
    pub(crate) fn requirement(&mut self, rules: &Rules, line: &RequestLine<'_>) -> Result<Requirement, PathRefusal> {
        let requirement = rules.requirement(line)?;
        self.requirement = Some(requirement);
        Ok(requirement)
    }

    /// Returns true if a check applies only by another reading of the path than the one that was sent.
    pub(crate) fn only_by_other_reading(&self) -> bool {
        self.requirement.is_some_and(Requirement::only_by_other_reading)
    }

    fn level(&self) -> &'static str {
        match self.requirement.map(|asked| (asked.needs_master(), asked.needs_access())) {
            Some((true, true)) => "both",
            Some((true, false)) => "master",
            Some((false, true)) => "access",
            Some((false, false)) => "public",
            None => NO_RULE,
        }
    }

    /// Returns the rule of the check that came last: if both are asked for, the master token's comes first.
    fn rule(&self, failed: Option<&DenialReason>) -> Option<RuleId> {
        let requirement = self.requirement?;
        let master = requirement.rule(PathList::Master);
        if failed.is_some_and(DenialReason::is_of_master_token) {
            return master;
        }
        requirement.rule(PathList::Access).or(master)
    }
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Permitted,
    Refused,
    /// In `shadow`.
    WouldBeRefused,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::WouldBeRefused => "would_be_refused",
        }
    }
}

/// Why a pair is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantKind {
    New,
    Refresh,
}

/// Which limit on issuing was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "rate-limit"), allow(dead_code, reason = "nothing is limited without it"))]
pub(crate) enum Limited {
    Caller,
    Client,
}

/// How a pair was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issued {
    Anew,
    /// It was issued before, and the answer may have been lost.
    Again,
}

/// What the issuer has seen of tokens that no sound client presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Refresh tokens that came back after they had been used: their families were revoked.
    pub reused: u64,
}

/// What the guard has seen of paths that no sound client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathCounts {
    /// Requests that were refused because their path has no sound reading.
    pub refused: u64,
    /// Requests that were asked for a credential only because of another reading of their path than the one sent: an
    /// attack, or a client with a fault.
    pub only_by_other_reading: u64,
}

/// Tells of what happens, and counts it.
#[derive(Debug)]
pub(crate) struct Observer {
    /// By their places, as they were written.
    prefixes: Box<[(PathList, Box<str>)]>,
    /// What a refusal comes to.
    refusal: Outcome,
    refused_paths: AtomicU64,
    other_readings: AtomicU64,
    reuses: AtomicU64,
    #[cfg(feature = "metrics")]
    meters: meters::Meters,
}

impl Observer {
    pub(crate) fn new(rules: &Rules, is_shadow: bool) -> Self {
        let prefixes: Box<[_]> = rules.iter().map(|rule| (rule.list(), rule.prefix().into())).collect();
        Self {
            #[cfg(feature = "metrics")]
            meters: meters::Meters::new(&prefixes),
            prefixes,
            refusal: if is_shadow { Outcome::WouldBeRefused } else { Outcome::Refused },
            refused_paths: AtomicU64::new(0),
            other_readings: AtomicU64::new(0),
            reuses: AtomicU64::new(0),
        }
    }

    /// A request was let through to a guarded path.
    #[inline]
    pub(crate) fn permitted(&self, case: &Case, method: &Method, client: Option<&str>, master: Option<&str>) {
        #[cfg(feature = "metrics")]
        self.meters.permitted(case.rule(None));
        tracing::debug!(
            target: "fastauth",
            method = %name_of(method),
            list = self.list(case.rule(None)),
            rule = self.prefix(case.rule(None)),
            level = case.level(),
            outcome = Outcome::Permitted.as_str(),
            client = client.map(shown).as_deref(),
            master_token = master,
            "permitted"
        );
    }

    /// A check failed.
    pub(crate) fn refused(&self, case: &Case, method: &Method, reason: &DenialReason, client: Option<&str>) {
        if matches!(reason, DenialReason::Path(_)) {
            self.refused_paths.fetch_add(1, Ordering::Relaxed);
        }
        #[cfg(feature = "metrics")]
        self.meters.refused(case.rule(Some(reason)), self.refusal, reason);
        if tracing::enabled!(target: "fastauth", Level::ERROR) {
            self.log_refusal(case, method, reason, client);
        }
    }

    #[inline(never)]
    fn log_refusal(&self, case: &Case, method: &Method, reason: &DenialReason, client: Option<&str>) {
        let rule = case.rule(Some(reason));
        let (list, prefix, level) = (self.list(rule), self.prefix(rule), case.level());
        let client = client.map(shown);
        let (outcome, code, client) = (self.refusal.as_str(), reason.code(), client.as_deref());
        match reason {
            DenialReason::StoreUnavailable(error) => tracing::error!(
                target: "fastauth",
                method = %name_of(method), list, rule = prefix, level, outcome, reason = code, client,
                kind = error.kind().code(),
                error = error.with_causes(),
                "the token store is unavailable"
            ),
            reason => tracing::info!(
                target: "fastauth",
                method = %name_of(method), list, rule = prefix, level, outcome, reason = code, client,
                "{}: {reason}", if self.refusal == Outcome::Refused { "refused" } else { "would have been refused" }
            ),
        }
    }

    /// An endpoint asked for the master token by itself.
    pub(crate) fn administration(&self, method: &Method, failed: Option<&DenialReason>) {
        #[cfg(feature = "metrics")]
        self.meters.administration(failed);
        if let Some(reason) = failed {
            let (outcome, code) = (Outcome::Refused.as_str(), reason.code());
            tracing::info!(
                target: "fastauth",
                method = %name_of(method), rule = ADMINISTRATION, level = "master", outcome, reason = code,
                "administration refused: {reason}"
            );
        }
    }

    /// The endpoint for tickets asked for an access token by itself.
    pub(crate) fn no_ticket(&self, method: &Method, reason: &DenialReason, client: Option<&str>) {
        let client = client.map(shown);
        let (outcome, client) = (Outcome::Refused.as_str(), client.as_deref());
        if let DenialReason::StoreUnavailable(error) = reason {
            return store_trouble(error, "no ticket issued");
        }
        let code = reason.code();
        tracing::info!(
            target: "fastauth",
            method = %name_of(method), rule = TICKET, level = "access", outcome, reason = code, client,
            "no ticket issued: {reason}"
        );
    }

    /// A path is guarded only by another reading than the one that was sent.
    pub(crate) fn other_reading(&self, case: &Case, method: &Method) {
        self.other_readings.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.meters.other_reading();
        tracing::warn!(
            target: "fastauth",
            method = %name_of(method),
            list = self.list(case.rule(None)),
            rule = self.prefix(case.rule(None)),
            level = case.level(),
            "a path is protected only by another reading than the one sent"
        );
    }

    /// A token was looked for among those that are remembered.
    #[inline]
    pub(crate) fn remembered(&self, is_hit: bool) {
        #[cfg(feature = "metrics")]
        self.meters.remembered(is_hit);
        let _ = is_hit;
    }

    /// A pair was asked for.
    pub(crate) fn issued(&self, grant: GrantKind, outcome: Result<Issued, &IssueError>) {
        #[cfg(feature = "metrics")]
        self.meters.issued(grant, outcome);
        if let Err(IssueError::Reused) = outcome {
            self.reuses.fetch_add(1, Ordering::Relaxed);
        }
        let _ = grant;
    }

    /// There were too many requests to issue tokens.
    #[cfg_attr(not(feature = "rate-limit"), allow(dead_code, reason = "nothing is limited without it"))]
    pub(crate) fn limited(&self, by: Limited) {
        #[cfg(feature = "metrics")]
        self.meters.limited(by);
        let _ = by;
    }

    pub(crate) fn path_counts(&self) -> PathCounts {
        PathCounts {
            refused: self.refused_paths.load(Ordering::Relaxed),
            only_by_other_reading: self.other_readings.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn token_counts(&self) -> TokenCounts {
        TokenCounts { reused: self.reuses.load(Ordering::Relaxed) }
    }

    fn list(&self, rule: Option<RuleId>) -> &str {
        match rule.and_then(|rule| self.prefixes.get(rule.place())) {
            Some((PathList::Master, _)) => "master",
            Some((PathList::Access, _)) => "access",
            Some((PathList::Public, _)) => "public",
            None => NO_RULE,
        }
    }

    fn prefix(&self, rule: Option<RuleId>) -> &str {
        rule.and_then(|rule| self.prefixes.get(rule.place())).map_or(NO_RULE, |(_, prefix)| prefix)
    }
}

/// The span of what is behind the guard, for a request that was let through to a guarded path; `None` where nobody is
/// interested.
#[inline]
pub(crate) fn span(client: Option<&str>, master_token: Option<&str>) -> Option<Span> {
    if !tracing::enabled!(target: "fastauth", Level::DEBUG) {
        return None;
    }
    let client = client.map(shown);
    let client = client.as_deref();
    let span = tracing::debug_span!(target: "fastauth", "guarded", client, master_token);
    (!span.is_disabled()).then_some(span)
}

/// The name of a method, which is any text that a client likes.
pub(crate) fn name_of(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 9] = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::CONNECT, "CONNECT"),
        (Method::PATCH, "PATCH"),
        (Method::TRACE, "TRACE"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("other", |(_, name)| name)
}

/// Logs trouble with the store that is not of a decision, with its causes, which the client is not told.
pub(crate) fn store_trouble(error: &StoreError, outcome: &str) {
    let (kind, error) = (error.kind().code(), error.with_causes());
    tracing::error!(target: "fastauth", kind, error, "{outcome}: the token store is unavailable");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;
    use crate::{ClientIdError, credentials::CredentialError, token::TokenError};

    fn trouble() -> StoreError {
        StoreError::new(StoreErrorKind::Failed, "away")
    }

    #[test]
    fn each_reason_has_its_code() {
        for (reason, code) in [
            (DenialReason::Path(PathRefusal::MalformedEscape), "path_malformed_escape"),
            (DenialReason::Path(PathRefusal::NotUtf8), "path_not_utf8"),
            (DenialReason::Path(PathRefusal::ControlCharacter), "path_control_character"),
            (DenialReason::Path(PathRefusal::EncodedTooOften), "path_encoded_too_often"),
            (DenialReason::Path(PathRefusal::RequestTarget), "path_request_target"),
            (DenialReason::Path(PathRefusal::TooManyReadings), "path_too_many_readings"),
            (DenialReason::Path(PathRefusal::TargetTooLong), "path_too_long"),
            (DenialReason::Credentials(CredentialError::Repeated("ACCESS-TOKEN")), "repeated_credentials"),
            (DenialReason::Credentials(CredentialError::Conflicting), "conflicting_credentials"),
            (DenialReason::MissingMasterToken, "missing_master_token"),
            (DenialReason::WrongMasterToken, "wrong_master_token"),
            (DenialReason::MissingAccessToken, "missing_access_token"),
            (DenialReason::InvalidAccessToken(TokenError::Malformed), "malformed_token"),
            (DenialReason::InvalidAccessToken(TokenError::UnsupportedAlgorithm), "unsupported_algorithm"),
            (DenialReason::InvalidAccessToken(TokenError::UnsupportedExtension), "unsupported_extension"),
            (DenialReason::InvalidAccessToken(TokenError::InvalidSignature), "invalid_signature"),
            (DenialReason::InvalidAccessToken(TokenError::Expired), "expired_token"),
            (DenialReason::InvalidAccessToken(TokenError::NotYetValid), "token_not_yet_valid"),
            (DenialReason::InvalidAccessToken(TokenError::InvalidClaim("exp")), "invalid_claim"),
            (DenialReason::InvalidAccessToken(TokenError::MissingClientId), "missing_client_id"),
            (DenialReason::InvalidAccessToken(TokenError::WrongType), "wrong_token_type"),
            (DenialReason::UnknownClient, "unknown_client"),
            (DenialReason::NotCanonical, "not_canonical"),
            (DenialReason::StoreUnavailable(trouble()), "store_unavailable"),
            (DenialReason::Credentials(CredentialError::RepeatedTicket), "repeated_credentials"),
            (DenialReason::Credentials(CredentialError::ConflictingProtocol), "conflicting_credentials"),
            (DenialReason::ForeignOrigin, "foreign_origin"),
            (DenialReason::InvalidTicket(TokenError::Expired), "invalid_ticket"),
            (DenialReason::SpentTicket, "spent_ticket"),
            (DenialReason::TooManyGuesses(std::time::Duration::ZERO), "too_many_guesses"),
        ] {
            assert_eq!(reason.code(), code);
        }
    }

    #[test]
    fn every_code_is_documented() {
        use StoreErrorKind::{Failed, InvalidAnswer, TimedOut, Unreachable, Unsupported};
        let documentation = include_str!("../docs/observability.md");
        let kinds = [Unreachable, TimedOut, InvalidAnswer, Failed, Unsupported].map(StoreErrorKind::code);
        let issuing = [
            IssueError::ClientId(ClientIdError::Empty),
            IssueError::InvalidRefreshToken(TokenError::Expired),
            IssueError::Superseded,
            IssueError::Reused,
            IssueError::Revoked,
            IssueError::ReservedClaim(String::new()),
            IssueError::Store(trouble()),
            IssueError::NotSaved { client_id: String::new(), error: trouble() },
            IssueError::Signing,
        ];
        let issuing = issuing.iter().map(IssueError::code);
        let outcomes = [Outcome::Permitted, Outcome::Refused, Outcome::WouldBeRefused].map(Outcome::as_str);
        for code in DenialReason::CODES.into_iter().chain(kinds).chain(issuing).chain(outcomes) {
            assert!(documentation.contains(&format!("`{code}`")), "{code}");
        }
    }
}
