//! The metrics of a served store, in the form that Prometheus reads.

use std::time::Duration;

use fastauth::store::{FeedStatus, StoreOutcome};
use http::StatusCode;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time;

use crate::failure::Failure;

const REQUESTS: &str = "fastauth_server_requests_total";
const SECONDS: &str = "fastauth_server_request_seconds";
const SESSIONS: &str = "fastauth_server_sessions_total";
const READERS: &str = "fastauth_server_feed_readers";
const LAG: &str = "fastauth_server_feed_lag_seconds";
const SENT: &str = "fastauth_server_feed_changes_total";
const CUT_OFF: &str = "fastauth_server_feed_cut_off_total";
const BUILD: &str = "fastauth_build_info";

/// From a look-up in memory to the longest wait for a body.
const BUCKETS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
/// How often measurements are summed up, which otherwise pile up until they are read.
const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of the process.
#[derive(Clone)]
pub(super) struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder. It has to be within a runtime.
    pub(super) fn install() -> Result<Self, Failure> {
        let seconds = Matcher::Full(SECONDS.to_owned());
        let handle = PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS)?.install_recorder()?;
        describe();
        tokio::spawn(keep_up(handle.clone()));
        Ok(Self(handle))
    }

    /// Returns all metrics as text.
    pub(super) fn render(&self) -> String {
        self.0.render()
    }
}

fn describe() {
    describe_gauge!("fastauth_server_connections", Unit::Count, "Open connections");
    describe_counter!(REQUESTS, Unit::Count, "Calls of the store API: by the operation, the status and the outcome");
    describe_histogram!(SECONDS, Unit::Seconds, "How long calls of the store API took to answer");
    describe_counter!(
        SESSIONS,
        Unit::Count,
        "Sessions that were saved, rotated or revoked, and reuses of refresh tokens"
    );
    describe_gauge!(READERS, Unit::Count, "Readers of the change feed");
    describe_gauge!(LAG, Unit::Seconds, "How long ago the database was asked for changes, 0 without readers");
    describe_counter!(SENT, Unit::Count, "Changes that were sent to readers of the change feed");
    describe_counter!(CUT_OFF, Unit::Count, "Readers of the change feed that were cut off because they were too slow");
    describe_gauge!(BUILD, Unit::Count, "The version of the program");
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
    for event in ["saved", "rotated", "revoked", "reused"] {
        counter!(SESSIONS, "event" => event).absolute(0);
    }
}

async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// Counts a call of the store API. No label is a client's choice.
pub(super) fn count(call: &StoreOutcome, status: StatusCode, time: Duration) {
    let operation = call.operation;
    let status_text = status.as_u16().to_string();
    counter!(REQUESTS, "operation" => operation, "status" => status_text, "outcome" => call.outcome).increment(1);
    histogram!(SECONDS, "operation" => operation).record(time);
    let event = match (operation, call.outcome) {
        ("save", "ok") => "saved",
        ("rotate", "ok") => "rotated",
        ("rotate", "reuse_detected") => "reused",
        _ => return counter!(SESSIONS, "event" => "revoked").increment(call.revoked),
    };
    counter!(SESSIONS, "event" => event).increment(1);
}

/// Sets the metrics of the change feed.
pub(super) fn set_feed(feed: &FeedStatus) {
    gauge!(READERS).set(feed.readers as f64);
    gauge!(LAG).set(feed.lag.unwrap_or_default().as_secs_f64());
    counter!(SENT).absolute(feed.sent);
    counter!(CUT_OFF).absolute(feed.cut_off);
}
