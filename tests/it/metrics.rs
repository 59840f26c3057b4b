//! What is counted, for whoever scrapes it.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use fastauth::{FastAuthLayer, Level, Rule, SettingsBuilder};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, LocalRecorderGuard, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder, with_local_recorder,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::{
    app::{Endpoints, MASTER, settings},
    support::stores,
};

/// A recorder of this test's own: its thread is that of all that it serves.
fn recorder() -> &'static PrometheusRecorder {
    let seconds = Matcher::Full("fastauth_store_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &[0.001, 0.1, 10.0]).unwrap();
    Box::leak(Box::new(builder.build_recorder()))
}

fn recording() -> (PrometheusHandle, LocalRecorderGuard<'static>) {
    let recorder = recorder();
    (recorder.handle(), set_default_local_recorder(recorder))
}

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.metrics(true).build().unwrap()).unwrap()
}

/// The value of a series, or 0 where there is none.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has_labels = |series: &str| labels.iter().all(|(key, value)| series.contains(&format!("{key}=\"{value}\"")));
    let of_name = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
        series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{')) && has_labels(series)
    });
    of_name.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn decisions_are_counted_by_rule_outcome_and_reason() {
    let (prometheus, _guard) = recording();
    let fixture = stores::sqlite().await;
    let layer = layer(settings().store(std::sync::Arc::clone(&fixture.store)).public_paths(["/access/open"]));
    let decisions = |rule: &str, outcome: &str, reason: &str| {
        let labels = [("rule", rule), ("outcome", outcome), ("reason", reason)];
        value(&prometheus.render(), "fastauth_decisions_total", &labels)
    };
    let text = prometheus.render();
    for rule in ["/access", "/master", "administration"] {
        let series = format!(r#"fastauth_decisions_total{{rule="{rule}",outcome="permitted",reason="none"}} 0"#);
        assert!(text.contains(&series), "it is there before the first request: {text}");
    }
    assert!(!text.contains("/access/open"), "nothing is decided under it: {text}");

    let server = Endpoints::of(&layer).await;
    let issued = server.post_as_master("/auth/token/new", "client_id=alice").await.json();
    let token = issued["data"]["access_token"].as_str().unwrap();
    for _ in 0..3 {
        assert!(server.opens(token).await);
        server.send("GET", "/health", &[], "").await;
        server.send("GET", "/access/open", &[], "").await;
    }
    for (path, headers) in [
        ("/access/health", &[][..]),
        ("/access/health", &[]),
        ("/access/health", &[("access-token", "x")]),
        ("/master/health", &[("master-token", "wrong")]),
        ("/access/%zz", &[]),
        ("/auth/token/new", &[("master-token", "wrong")]),
        ("//access/health", &[("access-token", token)]),
    ] {
        server.send("GET", path, headers, "").await;
    }
    for (rule, outcome, reason, count) in [
        ("/access", "permitted", "none", 4.0),
        ("/access", "refused", "missing_access_token", 2.0),
        ("/access", "refused", "malformed_token", 1.0),
        ("/master", "refused", "wrong_master_token", 1.0),
        ("/master", "permitted", "none", 0.0),
        ("none", "refused", "path_malformed_escape", 1.0),
        ("administration", "permitted", "none", 1.0),
        ("administration", "refused", "wrong_master_token", 1.0),
    ] {
        assert!((decisions(rule, outcome, reason) - count).abs() < 0.5, "{rule} {reason}: {}", prometheus.render());
    }
    let text = prometheus.render();
    assert!((value(&text, "fastauth_decisions_total", &[]) - 11.0).abs() < 0.5, "each is counted once: {text}");
    assert!((value(&text, "fastauth_other_reading_total", &[]) - 1.0).abs() < 0.5, "{text}");
    assert!((value(&text, "fastauth_cache_total", &[("result", "hit")]) - 3.0).abs() < 0.5, "{text}");
    assert!((value(&text, "fastauth_cache_total", &[("result", "miss")]) - 2.0).abs() < 0.5, "{text}");
    assert_eq!((layer.path_counts().refused, layer.path_counts().only_by_other_reading), (1, 1));
    for secret in [token, MASTER, "alice"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_shadow_counts_what_it_would_refuse() {
    let (prometheus, _guard) = recording();
    let server = Endpoints::of(&layer(settings().shadow(true))).await;
    assert_eq!(server.send("GET", "/access/health", &[], "").await.status, 200);
    let labels = [("rule", "/access"), ("outcome", "would_be_refused"), ("reason", "missing_access_token")];
    let text = prometheus.render();
    assert!((value(&text, "fastauth_decisions_total", &labels) - 1.0).abs() < 0.5, "{text}");
}

/// Requests that the rule would let through are not counted, and neither is what other paths refuse.
#[tokio::test]
async fn rule_that_only_reports_counts_what_it_would_refuse() {
    let (prometheus, _guard) = recording();
    let rule = Rule::prefix("/health").access().name("trial").report_only(true);
    let layer = layer(settings().default_level(Level::Public).rule(rule));
    let token = crate::app::access_token(&layer, "alice").await;
    let server = Endpoints::of(&layer).await;
    for (path, headers, status) in [
        ("/health", &[][..], 200),
        ("/health", &[], 200),
        ("/health", &[("access-token", "x")], 200),
        ("/health", &[("access-token", token.expose())], 200),
        ("/access/health", &[], 401),
    ] {
        assert_eq!(server.send("GET", path, headers, "").await.status, status, "{path} {headers:?}");
    }
    let text = prometheus.render();
    for (labels, count) in [
        (&[("rule", "trial"), ("reason", "missing_access_token")][..], 2.0),
        (&[("rule", "trial"), ("reason", "malformed_token")], 1.0),
        (&[], 3.0),
    ] {
        let counted = value(&text, "fastauth_rule_would_refuse_total", labels);
        assert!((counted - count).abs() < 0.5, "{labels:?}: {text}");
    }
}

#[tokio::test]
async fn issuing_is_counted_by_grant_and_outcome() {
    let (prometheus, _guard) = recording();
    let layer = layer(settings().refresh_grace(Duration::ZERO).rate_limit_per_minute(1).rate_limit_burst(3));
    let server = Endpoints::of(&layer).await;
    let issued = server.post_as_master("/auth/token/new", "client_id=alice").await.json();
    let token = issued["data"]["refresh_token"].as_str().unwrap();
    for (form, status) in [
        (format!("refresh_token={token}"), 200),
        (format!("refresh_token={token}"), 401),
        (format!("refresh_token={token}"), 401),
        (format!("refresh_token={token}"), 429),
        ("refresh_token=x".to_owned(), 401),
    ] {
        assert_eq!(server.post("/auth/token/refresh", &form).await.status, status);
    }
    assert_eq!(server.post_as_master("/auth/token/new", "client_id=").await.status, 422);
    let text = prometheus.render();
    for (grant, outcome) in [
        ("new", "issued"),
        ("new", "invalid_client_id"),
        ("refresh", "issued"),
        ("refresh", "reused"),
        ("refresh", "revoked"),
        ("refresh", "invalid_refresh_token"),
    ] {
        let count = value(&text, "fastauth_tokens_issued_total", &[("grant", grant), ("outcome", outcome)]);
        assert!((count - 1.0).abs() < 0.5, "{grant} {outcome}: {text}");
    }
    assert!((value(&text, "fastauth_tokens_issued_total", &[]) - 6.0).abs() < 0.5, "each is counted once: {text}");
    assert!((value(&text, "fastauth_refresh_reuse_total", &[]) - 1.0).abs() < 0.5, "{text}");
    assert!((value(&text, "fastauth_rate_limited_total", &[("by", "client")]) - 1.0).abs() < 0.5, "{text}");
    assert_eq!(layer.token_counts().reused, 1);
}

#[tokio::test]
async fn the_store_is_timed_by_what_it_is_asked_and_what_comes_of_it() {
    let (prometheus, _guard) = recording();
    for fixture in [stores::sqlite().await, stores::memory().await] {
        let kind = fixture.store.kind();
        layer(settings().store(fixture.store.clone())).issuer().issue("alice").await.unwrap();
        let text = prometheus.render();
        let labels = [("store", kind), ("operation", "save"), ("outcome", "ok")];
        assert!((value(&text, "fastauth_store_seconds_count", &labels) - 1.0).abs() < 0.5, "{text}");
        let sum = value(&text, "fastauth_store_seconds_sum", &labels);
        assert!(sum > 0.0 && sum < 10.0, "in seconds: {text}");
    }
    let server = stores::StoreServer::start(stores::memory().await.store.clone(), None).await;
    let layer = layer(settings().store(server.client()));
    let token = crate::app::access_token(&layer, "alice").await;
    server.stop().await;
    let server = Endpoints::of(&layer).await;
    assert!(!server.opens(token.expose()).await);
    let labels = [("store", "rest"), ("operation", "load"), ("outcome", "unreachable")];
    let text = prometheus.render();
    assert!((value(&text, "fastauth_store_seconds_count", &labels) - 1.0).abs() < 0.5, "{text}");
}

/// Notes what is described.
#[derive(Default)]
struct Described(Mutex<Vec<(String, &'static str, Option<Unit>)>>);

impl Described {
    fn note(&self, name: &KeyName, kind: &'static str, unit: Option<Unit>, text: &SharedString) {
        assert!(!text.is_empty());
        self.0.lock().unwrap().push((name.as_str().to_owned(), kind, unit));
    }
}

impl Recorder for Described {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note(&name, "counter", unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note(&name, "gauge", unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note(&name, "histogram", unit, &text);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The feature alone changes nothing.
#[tokio::test]
async fn nothing_is_counted_unless_the_application_asks_for_it() {
    let (prometheus, _guard) = recording();
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    server.post_as_master("/auth/token/new", "client_id=alice").await.json();
    assert!(!server.opens("x").await);
    assert_eq!(names_in(&prometheus.render()), BTreeSet::new());
}

/// All names that begin with `fastauth_` in a text, without what Prometheus adds to those of a histogram.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("fastauth_"));
    let of_histogram = |name: &str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        stem.to_owned()
    };
    words.map(of_histogram).collect()
}

#[test]
fn dashboard_and_documentation_name_what_there_is() {
    let recorder = Described::default();
    with_local_recorder(&recorder, || drop(layer(settings())));
    let described = recorder.0.into_inner().unwrap();
    assert!(described.iter().all(|(_, kind, unit)| match *kind {
        "histogram" => *unit == Some(Unit::Seconds),
        "gauge" => unit.is_some(),
        kind => kind == "counter" && *unit == Some(Unit::Count),
    }));
    let names: BTreeSet<_> = described.into_iter().map(|(name, ..)| name).collect();
    let dashboard = include_str!("../../examples/observability/grafana/fastauth.json");
    assert_eq!(names_in(dashboard), names, "the dashboard shows all that is counted");
    let documentation = include_str!("../../docs/observability.md");
    assert_eq!(names_in(documentation), names, "the documentation names all that is counted");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        assert!(panel["title"].is_string() && panel["gridPos"].is_object(), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert!(!names_in(target["expr"].as_str().unwrap()).is_empty(), "{target}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
        }
    }
}
