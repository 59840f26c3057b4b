//! Logs and counts what the others report: events and spans for `tracing`, and with the feature `metrics` counts and times.
//!
//! Nothing here names a token, a key, the value of a header or a query. A client is named after its token's signature was
//! found valid, and in logs and spans alone: the labels of counts are bounded by the configuration or by this crate.
//! If nothing listens, next to nothing is done, and nothing is allocated.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap, Uri};

use crate::{
    DenialReason, IssueErrorKind,
    rule::{Level, ListedPrefix, PathList, Rule, RuleId, Rules},
    settings::{Deployment, LogDetails},
    store::StoreError,
};

#[cfg(feature = "rest")]
mod calls;
mod details;
mod event;
#[cfg(feature = "rest")]
mod feed;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod store;

use self::event::Decider;
pub(crate) use self::{
    details::Details,
    event::{Case, Event, GrantKind, Issued, Limited},
    log::{log_store_failure, name_of, span},
    store::ObservedStore,
};

/// The name of the rule if none decides.
const NO_RULE: &str = "none";
/// The name of the rule if none matches.
const DEFAULT_LEVEL: &str = "default-level";
/// The name of the rule if an endpoint asks for the master token itself.
const ADMINISTRATION: &str = "administration";
/// The name of the rule if the endpoint for tickets asks for an access token itself.
const TICKET: &str = "ticket";

/// The name of the rule if a layer or a handler behind the guard asks for something in code.
const IN_CODE: &str = "in-code";

/// Counts of refresh tokens that no correct client presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Refresh tokens that came back after they had been used: their sessions were revoked.
    pub reused: u64,
}

/// Counts of paths that no correct client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathCounts {
    /// Requests that were refused because their path cannot be normalised unambiguously.
    pub refused: u64,
    /// Requests that were asked for a credential only because of another reading of their path than the one sent: an
    /// attack, or a client with a fault.
    pub only_by_other_reading: u64,
}

/// Takes every event, and logs and counts it.
#[derive(Debug)]
pub(crate) struct Observer {
    names: Names,
    details: LogDetails,
    counts: Arc<Counts>,
    #[cfg(feature = "metrics")]
    metrics: Option<metrics::Metrics>,
}

/// The counts that the application can ask for. They go on through reloads.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    refused_paths: AtomicU64,
    other_readings: AtomicU64,
    reuses: AtomicU64,
    in_grace: OnceAMinute,
}

/// Counts what is logged once a minute.
#[derive(Debug, Default)]
struct OnceAMinute(Mutex<Uncounted>);

#[derive(Debug, Default)]
struct Uncounted {
    count: u64,
    logged_at: Option<Instant>,
}

impl OnceAMinute {
    /// Counts one, and returns how many there were since the last time that this returned a number, if that is a minute ago.
    fn count(&self, now: Instant) -> Option<u64> {
        const MINUTE: Duration = Duration::from_secs(60);
        let mut uncounted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uncounted.count += 1;
        if uncounted.logged_at.is_some_and(|logged_at| now.duration_since(logged_at) < MINUTE) {
            return None;
        }
        uncounted.logged_at = Some(now);
        Some(std::mem::take(&mut uncounted.count))
    }
}

/// The names that logs and labels show.
#[derive(Debug)]
struct Names {
    /// By the places of the prefixes and rules.
    rules: Box<[Name]>,
    /// The outcome of a decision against a request: in `shadow` it is only logged.
    refusal: Outcome,
}

/// The name of a prefix or a rule.
#[derive(Debug)]
struct Name {
    /// The list that a prefix stands in.
    list: Option<PathList>,
    /// Requests are let through under it.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "it is only counted"))]
    is_guard: bool,
    name: Box<str>,
}

/// The outcome of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Permitted,
    Refused,
    WouldBeRefused,
}

impl Observer {
    /// Creates the observer of a deployment.
    pub(crate) fn new(deployment: &Deployment, counts: &Arc<Counts>) -> Self {
        let rules: Box<[_]> = deployment.rules.ids().map(|id| Name::new(&deployment.rules, id)).collect();
        Self {
            #[cfg(feature = "metrics")]
            metrics: deployment.metrics.then(|| metrics::Metrics::new(&rules)),
            names: Names { rules, refusal: if deployment.shadow { Outcome::WouldBeRefused } else { Outcome::Refused } },
            details: deployment.log_details.clone(),
            counts: Arc::clone(counts),
        }
    }

    /// Returns true if permits are logged or counted. It saves most requests what an event takes to put together.
    #[inline]
    pub(crate) fn takes_permits(&self) -> bool {
        #[cfg(feature = "metrics")]
        if self.metrics.is_some() {
            return true;
        }
        tracing::enabled!(target: "fastauth", tracing::Level::DEBUG)
    }

    /// Takes the details of a request that is refused, or may be, as far as they are configured.
    #[inline]
    pub(crate) fn details(&self, uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> Details {
        if self.details.is_empty() {
            return Details::default();
        }
        Details::take(&self.details, uri, headers, extensions)
    }

    /// Logs and counts an event. Callers know which one, so most of this is decided when it is compiled.
    #[inline(always)]
    pub(crate) fn record(&self, event: Event<'_>) {
        if let Some(counter) = self.counter(event) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            metrics.count(event, self.names.refusal);
        }
        log::log(event, &self.names);
    }

    /// Returns the count of such events that the application can ask for.
    #[inline(always)]
    fn counter(&self, event: Event<'_>) -> Option<&AtomicU64> {
        match event {
            Event::Refused { reason: DenialReason::Path(_), .. } => Some(&self.counts.refused_paths),
            Event::OtherReading { .. } => Some(&self.counts.other_readings),
            Event::Issued { outcome: Err(IssueErrorKind::Reused), .. } => Some(&self.counts.reuses),
            _ => None,
        }
    }

    /// Counts a token that was accepted although the store cannot be reached, and logs it once a minute.
    #[cold]
    pub(crate) fn accepted_in_grace(&self, error: &StoreError) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            metrics.count_grace();
        }
        if let Some(count) = self.counts.in_grace.count(Instant::now()) {
            log::log_grace(error, count);
        }
    }

    /// Counts a reload of the configuration.
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted without it"))]
    pub(crate) fn count_reload(&self, is_applied: bool) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            metrics.count_reload(is_applied);
        }
    }

    /// Returns the counts of paths.
    pub(crate) fn path_counts(&self) -> PathCounts {
        PathCounts {
            refused: self.counts.refused_paths.load(Ordering::Relaxed),
            only_by_other_reading: self.counts.other_readings.load(Ordering::Relaxed),
        }
    }

    /// Returns the counts of refresh tokens.
    pub(crate) fn token_counts(&self) -> TokenCounts {
        TokenCounts { reused: self.counts.reuses.load(Ordering::Relaxed) }
    }
}

impl Name {
    fn new(rules: &Rules, id: RuleId) -> Self {
        let list = rules.listed(id).map(ListedPrefix::list);
        let guards = |rule: &Rule| rule.level() != Some(Level::Public) && !rule.is_report_only();
        let is_guard = match list {
            Some(list) => list != PathList::Public,
            None => rules.rule(id).is_some_and(guards),
        };
        Self { list, is_guard, name: rules.name(id).into() }
    }
}

impl Names {
    fn list(&self, decider: Decider) -> &'static str {
        let Decider::Rule(rule) = decider else { return NO_RULE };
        match self.rules.get(rule.place()).map(|rule| rule.list) {
            Some(Some(PathList::Master)) => "master",
            Some(Some(PathList::Access)) => "access",
            Some(Some(PathList::Public)) => "public",
            Some(None) => "rules",
            None => NO_RULE,
        }
    }

    fn name(&self, decider: Decider) -> &str {
        match decider {
            Decider::Rule(rule) => self.rules.get(rule.place()).map_or(NO_RULE, |rule| &rule.name),
            Decider::DefaultLevel => DEFAULT_LEVEL,
            Decider::Nothing => NO_RULE,
        }
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::WouldBeRefused => "would_be_refused",
        }
    }

    fn as_words(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused => "refused",
            Self::WouldBeRefused => "would have been refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;
    use crate::{ClientIdError, TokenError, store::StoreErrorKind};

    fn trouble() -> StoreError {
        StoreError::new(StoreErrorKind::Failed, "away")
    }

    #[test]
    fn what_is_logged_once_a_minute_is_counted_in_between() {
        let counted = OnceAMinute::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let told: Vec<_> = [0, 1, 59, 60, 61, 200].into_iter().map(|seconds| counted.count(after(seconds))).collect();
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn every_code_is_documented() {
        let documentation = include_str!("../docs/observability.md");
        let kinds = StoreErrorKind::ALL.map(StoreErrorKind::code);
        let issuing = [
            IssueErrorKind::ClientId(ClientIdError::Empty),
            IssueErrorKind::InvalidRefreshToken(TokenError::Expired),
            IssueErrorKind::Superseded,
            IssueErrorKind::Reused,
            IssueErrorKind::Revoked,
            IssueErrorKind::SessionEnded,
            IssueErrorKind::ReservedClaim(String::new()),
            IssueErrorKind::Store(trouble()),
            IssueErrorKind::NotSaved { client_id: String::new(), error: trouble() },
            IssueErrorKind::Signing,
        ];
        let issuing = issuing.iter().map(IssueErrorKind::code);
        let outcomes = [Outcome::Permitted, Outcome::Refused, Outcome::WouldBeRefused].map(Outcome::as_str);
        for code in kinds.into_iter().chain(issuing).chain(outcomes) {
            assert!(documentation.contains(&format!("`{code}`")), "{code}");
        }
    }

    /// Finds the sources of this package and of the crates that it is made of.
    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_event_has_the_target_fastauth() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        sources(&root.join("src"), &mut files);
        sources(&root.join("crates"), &mut files);
        let mut events = 0;
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let code = code.join("\n");
            for level in ["error", "warn", "info", "debug", "trace"] {
                for event in code.split(&format!("tracing::{level}!(")).skip(1) {
                    let event = event.trim_start();
                    // One filter shows those below it, too.
                    let is_ours =
                        ["target: \"fastauth\"", "target: \"fastauth::"].iter().any(|of| event.starts_with(of));
                    assert!(is_ours, "{}: {event:.80}", file.display());
                    events += 1;
                }
            }
        }
        assert!(events > 30, "{events}");
    }
}
