//! Counts events for the recorder that the `metrics` crate has when the guard is made.
//!
//! What a request that passes counts is resolved then: it hashes no names, and allocates nothing. What goes wrong is
//! resolved when it happens first, so that a scrape does not show every reason under every prefix.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
#[cfg(feature = "rest")]
use metrics::{Gauge, describe_gauge, gauge};

use super::{
    ADMINISTRATION, DEFAULT_LEVEL, Decider, Event, IN_CODE, NO_RULE, Name, Outcome,
    event::{GrantKind, Issued, Limited},
};
#[cfg(feature = "rest")]
use crate::store::{CallNews, FeedNews};
use crate::{DenialReason, IssueErrorKind};

const DECISIONS: &str = "fastauth_decisions_total";
const WOULD_REFUSE: &str = "fastauth_rule_would_refuse_total";
const OTHER_READINGS: &str = "fastauth_other_reading_total";
const CACHE_LOOKUPS: &str = "fastauth_cache_total";
const ISSUED: &str = "fastauth_tokens_issued_total";
const REUSES: &str = "fastauth_refresh_reuse_total";
const LIMITED: &str = "fastauth_rate_limited_total";
const RELOADS: &str = "fastauth_reloads_total";
const GRACE: &str = "fastauth_grace_accepts_total";
const STORE_SECONDS: &str = "fastauth_store_seconds";
#[cfg(feature = "rest")]
const BREAKER: &str = "fastauth_store_breaker";
#[cfg(feature = "rest")]
const REPEATED: &str = "fastauth_store_retries_total";
#[cfg(feature = "rest")]
const BUSY: &str = "fastauth_store_busy_total";
#[cfg(feature = "rest")]
const FEED_UP: &str = "fastauth_feed_up";
#[cfg(feature = "rest")]
const FEED_LAG: &str = "fastauth_feed_lag_seconds";
#[cfg(feature = "rest")]
const FEED_CHANGES: &str = "fastauth_feed_changes_total";
#[cfg(feature = "rest")]
const FEED_RESETS: &str = "fastauth_feed_resets_total";
#[cfg(feature = "rest")]
const FEED_LOSSES: &str = "fastauth_feed_losses_total";
#[cfg(feature = "rest")]
const REPLICA_CLIENTS: &str = "fastauth_replica_clients";

/// The reason of what was not refused.
const NO_REASON: &str = "none";

fn describe() {
    describe_counter!(
        DECISIONS,
        Unit::Count,
        "Decisions on guarded paths: by the prefix or rule, the outcome and the reason of a refusal"
    );
    describe_counter!(
        OTHER_READINGS,
        Unit::Count,
        "Requests whose path is guarded only by another reading than the one sent"
    );
    describe_counter!(
        WOULD_REFUSE,
        Unit::Count,
        "Requests that rules which only report would have refused: by the rule and the reason"
    );
    describe_counter!(CACHE_LOOKUPS, Unit::Count, "Look-ups of tokens in the cache");
    describe_counter!(ISSUED, Unit::Count, "Pairs of tokens that were asked for: by the grant and the outcome");
    describe_counter!(REUSES, Unit::Count, "Used refresh tokens that came back, whose sessions were revoked");
    describe_counter!(LIMITED, Unit::Count, "Requests for tokens that a rate limit refused");
    describe_counter!(RELOADS, Unit::Count, "Reloads of the configuration: by the outcome");
    describe_counter!(
        GRACE,
        Unit::Count,
        "Requests with a token that was cached, let through although the token store cannot be reached"
    );
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "How long the token store took to answer");
    #[cfg(feature = "rest")]
    describe_calls();
    #[cfg(feature = "rest")]
    describe_feed();
}

#[cfg(feature = "rest")]
fn describe_calls() {
    describe_gauge!(
        BREAKER,
        Unit::Count,
        "0 while a server of the token store is asked, 2 while it is not because it failed, 1 while one call tries it"
    );
    describe_counter!(REPEATED, Unit::Count, "Calls to the token store that were sent a second time");
    describe_counter!(BUSY, Unit::Count, "Requests that were refused because too many wait for the token store");
}

#[cfg(feature = "rest")]
fn describe_feed() {
    describe_gauge!(FEED_UP, Unit::Count, "1 while the token store tells of its changes, else 0");
    describe_gauge!(
        FEED_LAG,
        Unit::Seconds,
        "How long ago the database of the token store had answered at the last heartbeat"
    );
    describe_counter!(FEED_CHANGES, Unit::Count, "Changes that the token store told of");
    describe_counter!(
        FEED_RESETS,
        Unit::Count,
        "How often all tokens were looked up again, since changes may have been missed"
    );
    describe_counter!(FEED_LOSSES, Unit::Count, "How often nothing was heard of the token store for three seconds");
    describe_gauge!(REPLICA_CLIENTS, Unit::Count, "The clients whose digests are held (`cache-mode`)");
}

pub(super) struct Metrics {
    /// By the places of the rules.
    rules: Box<[Decisions]>,
    no_rule: Decisions,
    default_level: Decisions,
    administration: Decisions,
    in_code: Decisions,
    other_readings: Counter,
    hits: Counter,
    misses: Counter,
    new: Issues,
    refreshed: Issues,
    reuses: Counter,
    limited_callers: Counter,
    limited_clients: Counter,
    reloaded: Counter,
    not_reloaded: Counter,
    in_grace: Counter,
}

/// The decisions under one rule.
struct Decisions {
    rule: Box<str>,
    permitted: OnceLock<Counter>,
    /// By the codes of their reasons.
    refused: Mutex<BTreeMap<&'static str, Counter>>,
    /// What the rule would refuse if it did not only report, by the codes of the reasons.
    would_refuse: Mutex<BTreeMap<&'static str, Counter>>,
}

impl Decisions {
    fn new(rule: &str) -> Self {
        Self {
            rule: rule.into(),
            permitted: OnceLock::new(),
            refused: Mutex::default(),
            would_refuse: Mutex::default(),
        }
    }

    /// Creates those of a rule under which requests are let through.
    fn of_guard(rule: &str) -> Self {
        let decisions = Self::new(rule);
        decisions.permitted();
        decisions
    }

    fn counter(&self, outcome: Outcome, reason: &'static str) -> Counter {
        counter!(DECISIONS, "rule" => self.rule.to_string(), "outcome" => outcome.as_str(), "reason" => reason)
    }

    fn permitted(&self) -> &Counter {
        self.permitted.get_or_init(|| self.counter(Outcome::Permitted, NO_REASON))
    }

    fn refuse(&self, outcome: Outcome, reason: &DenialReason) {
        let code = reason.code();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry(code).or_insert_with(|| self.counter(outcome, code)).increment(1);
    }

    fn would_refuse(&self, reason: &DenialReason) {
        let code = reason.code();
        let mut counters = self.would_refuse.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || counter!(WOULD_REFUSE, "rule" => self.rule.to_string(), "reason" => code);
        counters.entry(code).or_insert_with(new).increment(1);
    }
}

/// The pairs that were asked for by one grant.
struct Issues {
    grant: &'static str,
    issued: Counter,
}

impl Issues {
    fn new(grant: &'static str) -> Self {
        Self { grant, issued: counter!(ISSUED, "grant" => grant, "outcome" => "issued") }
    }

    /// Counts one. What is not issued is rare enough to be resolved each time.
    fn count(&self, outcome: Result<Issued, &IssueErrorKind>) {
        let outcome = match outcome {
            Ok(Issued::New) => return self.issued.increment(1),
            Ok(Issued::Repeated) => "repeated",
            Err(error) => error.code(),
        };
        counter!(ISSUED, "grant" => self.grant, "outcome" => outcome).increment(1);
    }
}

impl Metrics {
    pub(super) fn new(rules: &[Name]) -> Self {
        describe();
        let of_name =
            |name: &Name| if name.is_guard { Decisions::of_guard(&name.name) } else { Decisions::new(&name.name) };
        let rules = rules.iter().map(of_name);
        Self {
            rules: rules.collect(),
            no_rule: Decisions::new(NO_RULE),
            default_level: Decisions::new(DEFAULT_LEVEL),
            administration: Decisions::of_guard(ADMINISTRATION),
            in_code: Decisions::new(IN_CODE),
            other_readings: counter!(OTHER_READINGS),
            hits: counter!(CACHE_LOOKUPS, "result" => "hit"),
            misses: counter!(CACHE_LOOKUPS, "result" => "miss"),
            new: Issues::new("new"),
            refreshed: Issues::new("refresh"),
            reuses: counter!(REUSES),
            limited_callers: counter!(LIMITED, "by" => "caller"),
            limited_clients: counter!(LIMITED, "by" => "client"),
            reloaded: counter!(RELOADS, "outcome" => "applied"),
            not_reloaded: counter!(RELOADS, "outcome" => "faulty"),
            in_grace: counter!(GRACE),
        }
    }

    /// Counts an event, with the outcome of a refusal.
    #[inline]
    pub(super) fn count(&self, event: Event<'_>, refusal: Outcome) {
        match event {
            Event::Permitted { case, .. } => self.decisions(case.decider(None)).permitted().increment(1),
            Event::Refused { case, reason, .. } => self.decisions(case.decider(Some(reason))).refuse(refusal, reason),
            Event::OtherReading { .. } => self.other_readings.increment(1),
            Event::AdministrationPermitted => self.administration.permitted().increment(1),
            Event::AdministrationRefused { reason, .. } => self.administration.refuse(Outcome::Refused, reason),
            Event::WouldRefuse { rule, reason, .. } => self.decisions(Decider::Rule(rule)).would_refuse(reason),
            Event::RequirementUnmet { reason, .. } => self.in_code.refuse(refusal, reason),
            Event::CacheLookup { is_hit: true } => self.hits.increment(1),
            Event::CacheLookup { is_hit: false } => self.misses.increment(1),
            Event::Issued { grant, outcome } => {
                let issues = if grant == GrantKind::New { &self.new } else { &self.refreshed };
                issues.count(outcome);
                if let Err(IssueErrorKind::Reused) = outcome {
                    self.reuses.increment(1);
                }
            }
            Event::Limited { by: Limited::Caller } => self.limited_callers.increment(1),
            Event::Limited { by: Limited::Client } => self.limited_clients.increment(1),
            Event::TicketRefused { .. } => {}
        }
    }

    pub(super) fn count_grace(&self) {
        self.in_grace.increment(1);
    }

    pub(super) fn count_reload(&self, is_applied: bool) {
        if is_applied { &self.reloaded } else { &self.not_reloaded }.increment(1);
    }

    fn decisions(&self, decider: Decider) -> &Decisions {
        match decider {
            Decider::Rule(rule) => self.rules.get(rule.place()).unwrap_or(&self.no_rule),
            Decider::DefaultLevel => &self.default_level,
            Decider::Nothing => &self.no_rule,
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

/// What becomes of the calls to a store behind HTTP.
#[cfg(feature = "rest")]
pub(super) struct CallMetrics {
    repeated: Counter,
}

#[cfg(feature = "rest")]
impl CallMetrics {
    pub(super) fn new() -> Self {
        Self { repeated: counter!(REPEATED) }
    }

    pub(super) fn count(&self, news: CallNews) {
        match news {
            CallNews::Asked { server } => Self::breaker(server).set(0.0),
            CallNews::Probed { server } => Self::breaker(server).set(1.0),
            CallNews::Spared { server } => Self::breaker(server).set(2.0),
            CallNews::Repeated => self.repeated.increment(1),
            CallNews::Refused { lane } => counter!(BUSY, "lane" => lane).increment(1),
            _ => {}
        }
    }

    /// It changes rarely enough to be resolved each time.
    fn breaker(server: usize) -> Gauge {
        gauge!(BREAKER, "server" => server.to_string())
    }
}

/// The times of a store, by what it is asked for and the outcome.
pub(super) struct StoreMetrics {
    store: &'static str,
    seconds: Mutex<BTreeMap<(&'static str, &'static str), Histogram>>,
}

impl StoreMetrics {
    pub(super) fn new(store: &'static str) -> Self {
        Self { store, seconds: Mutex::default() }
    }

    pub(super) fn record(&self, operation: &'static str, outcome: &'static str, time: Duration) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = seconds.entry((operation, outcome)).or_insert_with(
            || histogram!(STORE_SECONDS, "store" => self.store, "operation" => operation, "outcome" => outcome),
        );
        histogram.record(time);
    }
}

/// What the feed of a store behind HTTP did. The series appear when a feed is heard first.
#[cfg(feature = "rest")]
#[derive(Default)]
pub(super) struct FeedMetrics {
    heard: OnceLock<FeedSeries>,
}

#[cfg(feature = "rest")]
struct FeedSeries {
    up: Gauge,
    lag: Gauge,
    changes: Counter,
    resets: Counter,
    losses: Counter,
}

#[cfg(feature = "rest")]
impl FeedSeries {
    fn new() -> Self {
        Self {
            up: gauge!(FEED_UP),
            lag: gauge!(FEED_LAG),
            changes: counter!(FEED_CHANGES),
            resets: counter!(FEED_RESETS),
            losses: counter!(FEED_LOSSES),
        }
    }
}

#[cfg(feature = "rest")]
impl FeedMetrics {
    pub(super) fn count(&self, news: FeedNews) {
        let series = self.heard.get_or_init(FeedSeries::new);
        match news {
            FeedNews::Heartbeat { age, replica } => {
                series.up.set(f64::from(u8::from(news.is_reliable())));
                series.lag.set(age.as_secs_f64());
                if let Some(clients) = replica {
                    gauge!(REPLICA_CLIENTS).set(clients as f64);
                }
            }
            FeedNews::Change => series.changes.increment(1),
            FeedNews::Reset => series.resets.increment(1),
            FeedNews::Lost => {
                series.up.set(0.0);
                series.losses.increment(1);
            }
            _ => {}
        }
    }
}
