//! A REST store that is away, in every way: what the application answers, how soon, and what becomes of the store when it is back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use fastauth::{
    FastAuthLayer, Secret, Settings, SettingsBuilder,
    store::{MemoryStore, Promises, RestStore, Revoked, Rotated, Rotation, SaveOptions, StoreErrorKind, TokenStore},
};
use futures_util::{
    FutureExt,
    future::{join_all, select_all},
};
use http::{HeaderMap, StatusCode};
use metrics::{LocalRecorderGuard, set_default_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::{
    app::{Endpoints, FORM, KEY, MASTER, access_token, app, body, get_request, send, settings},
    support::{
        front::{Front, Mode},
        log,
        stores::{ManySessions, OnePair, WithoutLog, record, renewal},
    },
};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest that a protected request waits for the store, and some time for this machine.
const BOUND: Duration = Duration::from_millis(1200 + 1300);

fn both(fronts: &[&Front]) -> RestStore {
    let urls: Vec<_> = fronts.iter().map(|front| front.url()).collect();
    RestStore::with_urls(urls.iter().map(String::as_str), HeaderMap::new()).unwrap()
}

/// The settings of an application with the store at this URL.
fn at(url: String) -> SettingsBuilder {
    let settings = Settings::builder().app_name("demo").master_token(MASTER).cryptography_key(KEY);
    settings.access_token_paths(["/access"]).database_api_url(url)
}

fn posts(front: &Front) -> usize {
    front.seen().iter().filter(|call| call.starts_with("POST")).count()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn calls_are_spread_and_go_on_when_one_server_stops() {
    let behind = MemoryStore::new();
    let here = Front::start(Arc::new(behind.clone())).await;
    let there = Front::start(Arc::new(behind.clone())).await;
    let store = both(&[&here, &there]);
    store.put("c", 0).await.unwrap();
    for _ in 0..40 {
        store.load("c", None).await.unwrap();
    }
    let calls = (here.seen().len(), there.seen().len());
    assert!(calls.0 > 5 && calls.1 > 5, "{calls:?}");
    let address = here.stop().await;
    for n in 1..20 {
        store.put("c", n).await.unwrap();
        store.load("c", None).await.unwrap();
    }
    assert_eq!(posts(&there), 19, "each write once");
    // It is asked again soon after it is back.
    let here = Front::start_at(address, Arc::new(behind)).await;
    until("the server is asked again", async || {
        store.load("c", None).await.unwrap();
        !here.seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_asked_for_at_the_other_server() {
    let behind = MemoryStore::new();
    let here = Front::start(Arc::new(behind.clone())).await;
    let there = Front::start(Arc::new(behind.clone())).await;
    for round in 0..6 {
        let store = both(&[&here, &there]);
        assert_eq!(store.promises().await.unwrap(), Promises::ALL);
        here.seen();
        there.seen();
        here.becomes(Mode::CutsAnswers);
        let id = format!("c-{round}");
        store.begin(&id, "f", 1).await;
        let gracious = Rotation { grace: Duration::from_secs(10), ..renewal(&id, "f", 0, 1, 2) };
        assert!(matches!(store.rotate(&gracious).await.unwrap(), Rotated::Rotated | Rotated::Repeated(_)));
        assert_eq!(posts(&here) + posts(&there), 2, "neither is sent twice");
        assert!(behind.accepts(&id, "f", 2).await);
        here.becomes(Mode::Pass);
    }
}

#[tokio::test]
async fn a_server_of_another_version_is_a_fault_and_spared() {
    log::capture();
    let behind = MemoryStore::new();
    let here = Front::start(Arc::new(behind.clone())).await;
    let there = Front::start(Arc::new(behind.clone())).await;
    let store = both(&[&here, &there]);
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    here.becomes(Mode::First(Arc::default()));
    until("the other server alone is asked", async || {
        for n in 0..20 {
            if let Err(error) = store.load(&n.to_string(), None).await {
                assert_eq!(error.kind(), StoreErrorKind::InvalidAnswer);
                return false;
            }
        }
        true
    })
    .await;
    let log = log::captured_of_server();
    assert!(log.contains("does not announce the second version") && log.contains("the token store fails"), "{log}");
    assert!(!log.contains(&here.url()), "{log}");
}

struct Guarded {
    app: Router,
    token: Secret,
    prometheus: PrometheusHandle,
    _recording: LocalRecorderGuard<'static>,
}

impl Guarded {
    /// An application before a store, which has told its version.
    async fn before(front: &Front, behind: &MemoryStore) -> Self {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let prometheus = recorder.handle();
        let recording = set_default_local_recorder(recorder);
        let issuer = FastAuthLayer::new(settings().store(behind.clone()).build().unwrap()).unwrap();
        let token = access_token(&issuer, "c").await;
        let layer = FastAuthLayer::new(at(front.url()).metrics(true).build().unwrap()).unwrap();
        let guarded = Self { app: app(layer), token, prometheus, _recording: recording };
        assert_eq!(guarded.ask().await.0, StatusCode::OK);
        guarded
    }

    /// The status and what follows from it, and how long it took.
    async fn ask(&self) -> (StatusCode, Duration) {
        let start = Instant::now();
        let request = get_request("/access/health", &[("access-token", self.token.expose())]);
        let response = send(&self.app, request).await;
        let took = start.elapsed();
        let status = response.status();
        if status != StatusCode::OK {
            let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=5).contains(&wait), "{wait}");
            assert!(response.headers().get("www-authenticate").is_none());
            assert_eq!(body(response).await["reason"], "store_unavailable");
        }
        (status, took)
    }

    fn shows(&self, series: &str) -> bool {
        self.prometheus.render().lines().any(|line| line == series)
    }
}

#[tokio::test]
async fn every_outage_is_503_in_time_and_ends_with_the_store() {
    let outages = [
        ("unreachable", None),
        ("unreachable", Some(Mode::Breaks)),
        ("timed_out", Some(Mode::Hangs)),
        ("timed_out", Some(Mode::Slow(Duration::from_secs(5)))),
        ("unavailable", Some(Mode::Page(500))),
        ("unavailable", Some(Mode::Page(503))),
        ("invalid_answer", Some(Mode::Page(404))),
        ("invalid_answer", Some(Mode::Says(404, ""))),
        ("invalid_answer", Some(Mode::Page(200))),
        ("invalid_answer", Some(Mode::Says(200, "junk"))),
    ];
    for (outcome, mode) in outages {
        let behind = MemoryStore::new();
        let mut front = Front::start(Arc::new(behind.clone())).await;
        let guarded = Guarded::before(&front, &behind).await;
        let said = format!("{mode:?}");
        let mut gone = None;
        match mode.clone() {
            Some(mode) => front.becomes(mode),
            None => {
                gone = Some(front.stop().await);
                front = Front::start(Arc::new(MemoryStore::new())).await;
            }
        }
        for _ in 0..6 {
            let (status, took) = guarded.ask().await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
            assert!(took < BOUND, "{said}: {took:?}");
        }
        assert!(guarded.shows(r#"fastauth_store_breaker{server="1"} 2"#), "{said}: {}", guarded.prometheus.render());
        let counted = format!(r#"fastauth_store_seconds_count{{store="rest",operation="load",outcome="{outcome}"}}"#);
        assert!(guarded.prometheus.render().contains(&counted), "{said}: {}", guarded.prometheus.render());
        let (status, took) = guarded.ask().await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && took < Duration::from_millis(800), "{said}: {took:?}");
        assert_eq!(send(&guarded.app, get_request("/health", &[])).await.status(), StatusCode::OK);

        front.becomes(Mode::Pass);
        if let Some(address) = gone {
            front = Front::start_at(address, Arc::new(behind.clone())).await;
        }
        until(&said, async || guarded.ask().await.0 == StatusCode::OK).await;
        assert!(guarded.shows(r#"fastauth_store_breaker{server="1"} 0"#), "{said}: {}", guarded.prometheus.render());
        drop(front);
    }
}

#[tokio::test]
async fn log_ins_that_wait_do_not_hinder_look_ups_or_revocations() {
    let behind = MemoryStore::new();
    let front = Front::start(Arc::new(behind.clone())).await;
    let store = front.client().timeout(PATIENCE);
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    store.begin("c", "f", 1).await;
    let (_up, flag) = watch::channel(false);
    front.becomes(Mode::HoldsPosts(flag));
    front.seen();
    let records: Vec<_> = (0..1100).map(|n| record(&format!("new-{n}"), "f", 0, n)).collect();
    let mut saves: Vec<_> = records.iter().map(|record| store.save(record, SaveOptions::default())).collect();
    let mut refused = 0;
    for save in &mut saves {
        if let Some(outcome) = save.now_or_never() {
            assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Busy);
            refused += 1;
        }
    }
    assert_eq!(refused, 1100 - 1024, "what cannot even wait is refused at once");
    saves.truncate(1000);
    let others = async {
        until("the calls are under way", async || front.count() >= 64).await;
        for _ in 0..20 {
            let start = Instant::now();
            assert!(store.accepts("c", "f", 1).await);
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
        assert_eq!(store.revoke_session("c", "f").await, Revoked::Sessions(1));
        assert_eq!(posts(&front), 64, "and no more at a time");
    };
    tokio::select! {
        _ = select_all(saves) => panic!("they are held"),
        () = others => {}
    }
}

#[tokio::test]
async fn a_store_that_comes_back_is_not_overrun() {
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    let store = front.client();
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    front.becomes(Mode::Hangs);
    front.seen();
    let ids: Vec<_> = (0..1000).map(|n| format!("c-{n}")).collect();
    let all = || join_all(ids.iter().map(|id| store.load(id, None)));
    let start = Instant::now();
    assert!(all().await.iter().all(Result::is_err));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    let calls = front.seen().len();
    assert!((20..=256 + 150).contains(&calls), "{calls}: at most one each for the slots, and a few second tries");

    front.becomes(Mode::Pass);
    let mut refused = 0;
    until("it is asked again", async || {
        let outcomes = all().await;
        let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        refused += usize::from(good == 0);
        let calls = front.seen().len();
        assert_eq!(calls, good, "one for each that is answered");
        assert!(good <= 1 || good == 1000 || refused > 0, "{good}");
        good > 0
    })
    .await;
    assert!(refused > 0, "it was spared first");
    // Those of one client share a call.
    assert!(join_all((0..1000).map(|_| store.load("c", None))).await.iter().all(Result::is_ok));
    assert_eq!(front.seen().len(), 1);
}

#[tokio::test]
async fn the_limit_of_the_store_is_passed_on() {
    let behind = MemoryStore::new();
    let front = Front::start(Arc::new(behind.clone())).await;
    let layer = FastAuthLayer::new(at(front.url()).build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let issued = server.post_as_master("/auth/token/new", "client_id=c").await.json();
    let refresh = issued["data"]["refresh_token"].as_str().unwrap();
    front.becomes(Mode::Limits(7));
    for _ in 0..6 {
        let new = server.post_as_master("/auth/token/new", "client_id=c").await;
        let refreshed = server.post("/auth/token/refresh", &format!("refresh_token={refresh}")).await;
        for reply in [new, refreshed] {
            assert_eq!((reply.status, reply.header("retry-after")), (429, "7"), "{reply:?}");
            assert_eq!(reply.json()["reason"], "rate_limited");
        }
    }
    front.becomes(Mode::Pass);
    let refreshed = server.post("/auth/token/refresh", &format!("refresh_token={refresh}")).await;
    assert_eq!(refreshed.status, 200, "nothing was changed: {refreshed:?}");
}

#[tokio::test]
async fn grace_bridges_an_outage_for_tokens_that_the_store_confirmed() {
    log::capture();
    let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let _recording = set_default_local_recorder(recorder);
    let behind = MemoryStore::new();
    // Without a feed, which would begin by having all tokens looked up again.
    let front = Front::start(Arc::new(WithoutLog(behind.clone()))).await;
    let layer = at(front.url()).metrics(true).store_grace(Duration::from_secs(60));
    let layer = FastAuthLayer::new(layer.build().unwrap()).unwrap();
    let issuer = FastAuthLayer::new(settings().store(behind.clone()).build().unwrap()).unwrap();
    let (known, revoked, new) =
        tokio::join!(access_token(&issuer, "known"), access_token(&issuer, "revoked"), access_token(&issuer, "new"));
    let app = app(layer.clone());
    let status = async |token: &Secret| {
        send(&app, get_request("/access/health", &[("access-token", token.expose())])).await.status()
    };
    assert_eq!((status(&known).await, status(&revoked).await), (StatusCode::OK, StatusCode::OK));
    // What the store refuses is not accepted again.
    behind.revoke_all_of("revoked").await;
    assert_eq!(status(&revoked).await, StatusCode::UNAUTHORIZED);

    front.becomes(Mode::Page(404));
    assert_eq!(status(&known).await, StatusCode::SERVICE_UNAVAILABLE, "something else answers in its place");
    front.becomes(Mode::Page(503));
    for _ in 0..5 {
        assert_eq!(status(&known).await, StatusCode::OK);
        assert_eq!(status(&revoked).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&new).await, StatusCode::SERVICE_UNAVAILABLE, "the store never confirmed it");
    }
    assert!(layer.issuer().issue("known").await.is_err(), "nothing is issued");
    assert_eq!(status(&known).await, StatusCode::SERVICE_UNAVAILABLE, "by what may have been done for it");
    let text = recorder.handle().render();
    assert!(text.lines().any(|line| line == "fastauth_grace_accepts_total 5"), "{text}");
    let log = log::captured();
    assert_eq!(log.matches("tokens that it confirmed before are accepted").count(), 1, "once a minute");

    front.becomes(Mode::Pass);
    until("the store is asked again", async || status(&known).await == StatusCode::OK).await;
}

#[tokio::test]
async fn the_trace_of_a_request_goes_on_to_the_store() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let front = Front::start(Arc::new(MemoryStore::new())).await;
    let layer = FastAuthLayer::new(at(front.url()).build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let master = [("content-type", FORM), ("master-token", MASTER), ("traceparent", PARENT)];
    let issued = server.send("POST", "/auth/token/new", &master, "client_id=c").await.json();
    let token = issued["data"]["access_token"].as_str().unwrap();
    let traced = front.traces();
    assert!(!traced.is_empty() && traced.iter().all(|parent| parent == PARENT), "{traced:?}");
    for (parent, expected) in [(PARENT, PARENT), ("00-junk", "")] {
        let headers = [("access-token", token), ("traceparent", parent)];
        assert_eq!(server.send("GET", "/access/health", &headers, "").await.status, 200);
        assert_eq!(front.traces(), [expected]);
    }
    let refresh = issued["data"]["refresh_token"].as_str().unwrap();
    let headers = [("content-type", FORM), ("traceparent", PARENT)];
    server.send("POST", "/auth/token/refresh", &headers, &format!("refresh_token={refresh}")).await;
    server.send("POST", "/auth/token/revoke", &headers, &format!("token={refresh}")).await;
    let traced = front.traces();
    assert!(traced.len() >= 2 && traced.iter().all(|parent| parent == PARENT), "{traced:?}");
}
