//! Counts and times for the recorder that the `metrics` crate has when the guard is made.
//!
//! What a request that passes counts is resolved then: it hashes no names, and allocates nothing. What goes wrong is
//! resolved when it happens first, so that a scrape does not show every reason under every prefix.

use std::{fmt, iter, sync::OnceLock, time::Duration};

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use super::{ADMINISTRATION, GrantKind, Issued, Limited, NO_RULE, Outcome};
use crate::{
    DenialReason, IssueError,
    rule::{PathList, RuleId},
    store::{StoreCall, StoreErrorKind},
};

const DECISIONS: &str = "fastauth_decisions_total";
const OTHER_READINGS: &str = "fastauth_other_reading_total";
const REMEMBERED: &str = "fastauth_cache_total";
const ISSUED: &str = "fastauth_tokens_issued_total";
const REUSES: &str = "fastauth_refresh_reuse_total";
const LIMITED: &str = "fastauth_rate_limited_total";
const STORE_SECONDS: &str = "fastauth_store_seconds";

/// The reason of what was not refused.
const NO_REASON: &str = "none";

fn describe() {
    describe_counter!(
        DECISIONS,
        Unit::Count,
        "Decisions on guarded paths: by the prefix, the outcome and the reason of a refusal"
    );
    describe_counter!(
        OTHER_READINGS,
        Unit::Count,
        "Requests whose path is guarded only by another reading than the one sent"
    );
    describe_counter!(REMEMBERED, Unit::Count, "Look-ups among the tokens that are remembered");
    describe_counter!(ISSUED, Unit::Count, "Pairs of tokens that were asked for: by the grant and what came of it");
    describe_counter!(REUSES, Unit::Count, "Used refresh tokens that came back, whose families were revoked");
    describe_counter!(LIMITED, Unit::Count, "Requests for tokens that a rate limit refused");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "How long the token store took to answer");
}

pub(super) struct Meters {
    /// By the places of the prefixes, and one more for where none decides.
    rules: Box<[Rule]>,
    administration: Rule,
    other_readings: Counter,
    hits: Counter,
    misses: Counter,
    issued: [Grant; 2],
    reuses: Counter,
    limited: [Counter; 2],
}

/// The decisions under one prefix.
struct Rule {
    label: Box<str>,
    permitted: OnceLock<Counter>,
    refused: [OnceLock<Counter>; DenialReason::CODES.len()],
}

impl Rule {
    fn new(label: &str) -> Self {
        Self { label: label.into(), permitted: OnceLock::new(), refused: Default::default() }
    }

    /// One under which requests are let through.
    fn of_guard(label: &str) -> Self {
        let rule = Self::new(label);
        rule.permitted();
        rule
    }

    fn permitted(&self) -> &Counter {
        self.permitted.get_or_init(|| decisions(&self.label, Outcome::Permitted, NO_REASON))
    }

    fn refuse(&self, outcome: Outcome, reason: &DenialReason) {
        let place = reason.place();
        self.refused[place].get_or_init(|| decisions(&self.label, outcome, DenialReason::CODES[place])).increment(1);
    }
}

fn decisions(rule: &str, outcome: Outcome, reason: &'static str) -> Counter {
    counter!(DECISIONS, "rule" => rule.to_owned(), "outcome" => outcome.as_str(), "reason" => reason)
}

struct Grant {
    name: &'static str,
    issued: Counter,
}

impl Grant {
    fn new(name: &'static str) -> Self {
        Self { name, issued: counter!(ISSUED, "grant" => name, "outcome" => "issued") }
    }

    /// What is not issued is rare enough to be resolved each time.
    fn count(&self, outcome: Result<Issued, &IssueError>) {
        let outcome = match outcome {
            Ok(Issued::Anew) => return self.issued.increment(1),
            Ok(Issued::Again) => "repeated",
            Err(error) => error.code(),
        };
        counter!(ISSUED, "grant" => self.name, "outcome" => outcome).increment(1);
    }
}

impl Meters {
    pub(super) fn new(prefixes: &[(PathList, Box<str>)]) -> Self {
        describe();
        let rules = prefixes.iter().map(|(list, prefix)| match list {
            PathList::Public => Rule::new(prefix),
            PathList::Master | PathList::Access => Rule::of_guard(prefix),
        });
        Self {
            rules: rules.chain(iter::once_with(|| Rule::new(NO_RULE))).collect(),
            administration: Rule::of_guard(ADMINISTRATION),
            other_readings: counter!(OTHER_READINGS),
            hits: counter!(REMEMBERED, "result" => "hit"),
            misses: counter!(REMEMBERED, "result" => "miss"),
            issued: ["new", "refresh"].map(Grant::new),
            reuses: counter!(REUSES),
            limited: ["caller", "client"].map(|by| counter!(LIMITED, "by" => by)),
        }
    }

    fn rule(&self, rule: Option<RuleId>) -> Option<&Rule> {
        rule.and_then(|rule| self.rules.get(rule.place())).or(self.rules.last())
    }

    pub(super) fn permitted(&self, rule: Option<RuleId>) {
        if let Some(rule) = self.rule(rule) {
            rule.permitted().increment(1);
        }
    }

    pub(super) fn refused(&self, rule: Option<RuleId>, outcome: Outcome, reason: &DenialReason) {
        if let Some(rule) = self.rule(rule) {
            rule.refuse(outcome, reason);
        }
    }

    pub(super) fn administration(&self, failed: Option<&DenialReason>) {
        match failed {
            None => self.administration.permitted().increment(1),
            Some(reason) => self.administration.refuse(Outcome::Refused, reason),
        }
    }

    pub(super) fn other_reading(&self) {
        self.other_readings.increment(1);
    }

    pub(super) fn remembered(&self, is_hit: bool) {
        if is_hit { &self.hits } else { &self.misses }.increment(1);
    }

    pub(super) fn issued(&self, grant: GrantKind, outcome: Result<Issued, &IssueError>) {
        let [new, refresh] = &self.issued;
        match grant {
            GrantKind::New => new.count(outcome),
            GrantKind::Refresh => refresh.count(outcome),
        }
        if let Err(IssueError::Reused) = outcome {
            self.reuses.increment(1);
        }
    }

    #[cfg_attr(not(feature = "rate-limit"), allow(dead_code, reason = "nothing is limited without it"))]
    pub(super) fn limited(&self, by: Limited) {
        let [caller, client] = &self.limited;
        match by {
            Limited::Caller => caller.increment(1),
            Limited::Client => client.increment(1),
        }
    }
}

/// How long a store takes, by what it is asked for and what comes of it.
pub(super) struct StoreMeters {
    store: &'static str,
    seconds: [[OnceLock<Histogram>; StoreErrorKind::ALL.len() + 1]; StoreCall::COUNT],
}

impl StoreMeters {
    pub(super) fn new(store: &'static str) -> Self {
        Self { store, seconds: Default::default() }
    }

    pub(super) fn answered(&self, operation: StoreCall, failed: Option<StoreErrorKind>, time: Duration) {
        let outcome = failed.map_or(0, |kind| kind as usize + 1);
        let histogram = self.seconds[operation as usize][outcome].get_or_init(|| {
            let outcome = failed.map_or("ok", StoreErrorKind::code);
            histogram!(STORE_SECONDS, "store" => self.store, "operation" => operation.as_str(), "outcome" => outcome)
        });
        histogram.record(time);
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}
