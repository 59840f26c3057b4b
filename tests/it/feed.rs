//! The change feed of a served store, its snapshot, and the look-up of many sessions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fastauth::store::{LogPoint, Revocation, Rotated, SaveOptions, Saved, StoreService, TokenDigest, TokenStore};
use http::{Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{
    feed::{FeedEvent, FeedEvents, ask, json},
    stores::{ManySessions, OnePair, record},
};

type Store = Arc<dyn TokenStore>;

macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        $(
            mod $test {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn memory() {
                    let fixture = crate::support::stores::memory().await;
                    super::$test(std::sync::Arc::clone(&fixture.store)).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sqlite() {
                    let fixture = crate::support::stores::sqlite().await;
                    super::$test(std::sync::Arc::clone(&fixture.store)).await;
                }

                #[cfg(unix)]
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn postgres() {
                    if let Some(fixture) = crate::support::stores::postgres().await {
                        super::$test(std::sync::Arc::clone(&fixture.store)).await;
                    }
                }
            }
        )+
    };
}

on_each_store!(
    changes_are_told_with_what_is_current,
    streams_go_on_where_they_were,
    a_point_that_is_not_known_is_a_reset,
    restarted_log_is_a_reset,
    polls_wait_for_changes,
    snapshot_has_the_live_sessions,
    many_sessions_are_looked_up_at_once,
    stopped_server_sends_its_readers_away,
    readers_are_limited,
);

fn service(store: &Store) -> StoreService {
    StoreService::new(Arc::clone(store))
}

fn sha256(token: &str) -> Value {
    TokenDigest::of(token).to_string().into()
}

async fn changes_are_told_with_what_is_current(store: Store) {
    let service = service(&store);
    let mut plain = FeedEvents::open(&service, "").await;
    let mut full = FeedEvents::open(&service, "?detail=digest").await;
    for feed in [&mut plain, &mut full] {
        let first = feed.next().await.unwrap();
        assert_eq!((first.name.as_str(), &first.data["point"]), ("hb", &first.id.clone().into()));
        assert!(first.data["db_ok_ms"].as_u64().unwrap() < 2000);
    }
    store.begin("bob", "phone", 1).await;
    store.begin("bob", "laptop", 1).await;
    assert_eq!(store.renew("bob", "phone", 0, 1, 2).await, Rotated::Rotated);
    store.revoke_access("bob", Some("laptop")).await.unwrap();
    assert_eq!(store.renew("bob", "phone", 0, 1, 3).await, Rotated::Reused);
    store.put("bob", 4).await.unwrap();
    let limited = SaveOptions { keep_others: true, max_sessions: 1, ..SaveOptions::default() };
    let saved = store.save(&record("bob", "tablet", 0, 5), limited).await.unwrap();
    store.revoke_all_of("bob").await;
    store.begin("carol", "", 1).await;
    store.revoke(&Revocation::All, None).await.unwrap();
    // Nothing happens, and nothing is told.
    store.revoke(&Revocation::All, None).await.unwrap();
    store.revoke_all_of("bob").await;
    store.begin("end", "", 1).await;
    let expected = [
        "issue bob/phone",
        "issue bob/laptop",
        "rotate bob/phone",
        "revoke_access bob/laptop",
        "revoke bob/phone",
        "replace bob/",
        "issue bob/tablet",
        "revoke bob/*",
        "issue carol/",
        "revoke */*",
        "issue end/",
    ];
    let told = until_end(&mut plain).await;
    // What a store deletes on the way may be told as well.
    let named: Vec<_> = told.iter().map(FeedEvent::change).collect();
    let mut rest = named.iter();
    assert!(expected.iter().all(|change| rest.any(|told| told == change)), "{named:?}");
    assert!(told.iter().all(|event| event.data.get("access_sha256").is_none()));
    // The session beyond the limit is named, or all of the client's are.
    let after = named.iter().skip_while(|change| *change != "replace bob/");
    let ended = after.filter(|change| ["revoke bob/", "revoke bob/*"].contains(&change.as_str()));
    assert_eq!(ended.count(), 2, "{named:?}");
    let numbers: Vec<_> = told.iter().map(|event| event.data["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let Saved::Saved(version) = saved else { panic!("saved") };
    let tablet = told.iter().find(|event| event.change() == "issue bob/tablet").unwrap();
    assert_eq!(tablet.data["version"], version);

    let told = until_end(&mut full).await;
    let of = |change: &str| told.iter().find(|event| event.change() == change).unwrap().data.clone();
    // It is what is current when it is told.
    for change in ["revoke bob/phone", "revoke bob/*", "revoke */*"] {
        assert!(of(change).get("access_sha256").is_some_and(Value::is_null), "{}", of(change));
    }
    let end = of("issue end/");
    assert_eq!((&end["access_sha256"], &end["refresh_sha256"]), (&sha256("access-1"), &sha256("refresh-1")));
    assert_eq!(end["access_expires_at"], 4_000_000_000_u64);
}

/// Reads up to the client whose name is `end`.
async fn until_end(feed: &mut FeedEvents) -> Vec<FeedEvent> {
    let mut told = Vec::new();
    loop {
        let event = feed.news().await.unwrap();
        let is_last = event.data["client_id"] == "end";
        told.push(event);
        if is_last {
            return told;
        }
    }
}

async fn streams_go_on_where_they_were(store: Store) {
    let service = service(&store);
    let mut feed = FeedEvents::open(&service, "").await;
    let start = feed.next().await.unwrap().id;
    for n in 0..50 {
        store.begin(&format!("c{n}"), "", n).await;
    }
    let told = feed.changes(50).await;
    // From every point, by the query and by the header, what comes after it is told, and perhaps some before it.
    for (n, event) in told.iter().enumerate().step_by(7) {
        let mut again = FeedEvents::open(&service, &format!("?since={}", event.id)).await;
        let first = again.next().await.unwrap();
        assert!(first.name == "hb" && first.id == event.id, "{first:?}");
        let mut expected: BTreeSet<_> = (n + 1..50).map(|n| format!("c{n}")).collect();
        while !expected.is_empty() {
            let change = again.news().await.unwrap();
            expected.remove(change.data["client_id"].as_str().unwrap());
        }
    }
    let request = Request::get("/v2/changes?since=x-0&wait=0").header("last-event-id", &start);
    let answer = ask(&service, request).await.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["changes"].as_array().unwrap().len(), 50, "the header wins");
    // The heartbeat that follows says that all is known.
    let mut again = FeedEvents::open(&service, &format!("?since={start}")).await;
    assert!(again.next().await.unwrap().data["db_ok_ms"].as_u64().unwrap() > 3000, "not known before it is read");
    let mut count = 0;
    let fresh = loop {
        match again.next().await.unwrap() {
            event if event.name == "hb" => break event,
            _ => count += 1,
        }
    };
    assert!(count == 50 && fresh.data["db_ok_ms"].as_u64().unwrap() < 2000, "{count} {fresh:?}");
    assert_eq!(fresh.id, told[49].id);
}

async fn a_point_that_is_not_known_is_a_reset(store: Store) {
    let service = service(&store);
    store.begin("a", "", 1).await;
    let epoch = epoch(&service).await;
    for point in ["other-1".to_owned(), format!("{epoch}-1000")] {
        let mut feed = FeedEvents::open(&service, &format!("?since={point}")).await;
        let first = feed.next().await.unwrap();
        assert_eq!((first.name.as_str(), &first.id), ("hb", &point), "who leaves now has to be told again");
        assert!(first.data["db_ok_ms"].as_u64().unwrap() > 3000);
        let reset = feed.next().await.unwrap();
        assert_eq!((reset.name.as_str(), &reset.data["point"]), ("reset", &reset.id.clone().into()), "{point}");
        let change = store.begin("b", &point, 1);
        change.await;
        assert_eq!(feed.news().await.unwrap().change(), format!("issue b/{point}"));
        let polled = json(&service, &format!("/v2/changes?since={point}&wait=20")).await;
        assert_eq!((&polled["reset"], &polled["changes"]), (&true.into(), &json!([])));
    }
    for query in ["since=", "since=x", "since=a-b", "detail=all", "wait=x", "since=a-1&since=a-1"] {
        assert_eq!(ask(&service, Request::get(format!("/v2/changes?{query}"))).await.status(), 400, "{query}");
    }
}

async fn epoch(service: &StoreService) -> String {
    let point = json(service, "/v2/changes?wait=0").await["point"].as_str().unwrap().to_owned();
    point.parse::<LogPoint>().unwrap().epoch
}

async fn restarted_log_is_a_reset(store: Store) {
    let service = service(&store);
    let mut feed = FeedEvents::open(&service, "").await;
    let before = feed.next().await.unwrap().id;
    let point = store.log().unwrap().restart().await.unwrap();
    let reset = feed.news().await.unwrap();
    assert_eq!((reset.name.as_str(), reset.id), ("reset", point.to_string()));
    store.begin("a", "", 1).await;
    assert_eq!(feed.news().await.unwrap().change(), "issue a/");
    let mut feed = FeedEvents::open(&service, &format!("?since={before}")).await;
    assert_eq!(feed.news().await.unwrap().name, "reset");
}

async fn polls_wait_for_changes(store: Store) {
    let service = service(&store);
    let start = json(&service, "/v2/changes?wait=20").await;
    assert_eq!((&start["reset"], &start["changes"]), (&false.into(), &json!([])), "the first one does not wait");
    let start = start["point"].as_str().unwrap().to_owned();
    let waiting = {
        let service = service.clone();
        let target = format!("/v2/changes?since={start}&wait=30&detail=digest");
        tokio::spawn(async move { json(&service, &target).await })
    };
    store.begin("a", "phone", 1).await;
    let polled = waiting.await.unwrap();
    let change = &polled["changes"][0];
    assert_eq!((&change["client_id"], &change["access_sha256"]), (&"a".into(), &sha256("access-1")), "{polled}");
    for n in 0..2500 {
        store.begin("b", "", n).await;
    }
    let mut point = polled["point"].as_str().unwrap().to_owned();
    let mut found = BTreeSet::new();
    while found.len() < 2500 {
        let polled = json(&service, &format!("/v2/changes?since={point}&wait=5")).await;
        let changes = polled["changes"].as_array().unwrap();
        assert!((1..=1000).contains(&changes.len()), "{}", changes.len());
        found.extend(changes.iter().map(|change| change["version"].as_u64().unwrap()));
        point = polled["point"].as_str().unwrap().to_owned();
    }
    let polled = json(&service, &format!("/v2/changes?since={point}&wait=0")).await;
    assert!(polled["changes"] == json!([]) && polled["db_ok_ms"].as_u64().unwrap() < 2000, "{polled}");
}

async fn snapshot_has_the_live_sessions(store: Store) {
    let service = service(&store);
    for n in 0..1203 {
        store.begin(&format!("c{}", n % 400), &format!("s{n}"), n).await;
    }
    store.revoke_session("c0", "s0").await;
    store.revoke_all_of("c1").await;
    store.renew("c2", "s2", 0, 2, 9999).await;
    let start = epoch(&service).await;
    let response = ask(&service, Request::get("/v2/snapshot")).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["point"].as_str().unwrap().starts_with(&start));
    let expected = 1203 - 1 - 4;
    assert_eq!(lines[lines.len() - 1], json!({ "end": expected }));
    let sessions: BTreeMap<_, _> = lines[1..lines.len() - 1]
        .iter()
        .map(|line| ((line["client_id"].as_str().unwrap(), line["session"].as_str().unwrap()), line))
        .collect();
    assert_eq!(sessions.len(), expected);
    assert!(!sessions.contains_key(&("c0", "s0")) && sessions.keys().all(|key| key.0 != "c1"));
    let renewed = sessions[&("c2", "s2")];
    assert_eq!(renewed["access_sha256"], sha256("access-9999"));
    assert_eq!(renewed["previous_access_sha256"], sha256("access-2"));
    let held = json(&service, "/v2/clients/-/token?client_id=c2&session=s2").await;
    assert_eq!(held["version"], renewed["version"]);
}

async fn many_sessions_are_looked_up_at_once(store: Store) {
    let service = service(&store);
    store.begin("a", "one", 1).await;
    store.begin("a", "two", 2).await;
    let batch = |body: Value| {
        let request = Request::post("/v2/tokens:batchGet").header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::<bytes::Bytes>::from(body.to_string())).unwrap();
        let service = service.clone();
        async move {
            let response = service.oneshot(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status.as_u16(), serde_json::from_slice::<Value>(&body).unwrap())
        }
    };
    let item = |client_id: &str, session: Option<&str>| json!({ "client_id": client_id, "session": session });
    let asked =
        json!({ "tokens": [item("a", Some("one")), item("nobody", None), item("a", None), { "client_id": "a" }] });
    let (status, found) = batch(asked).await;
    assert_eq!(status, 200, "{found}");
    let found = found["tokens"].as_array().unwrap();
    assert_eq!(found[0], json(&service, "/v2/clients/-/token?client_id=a&session=one").await);
    assert_eq!(found[1], Value::Null);
    assert_eq!(found[2], json(&service, "/v2/clients/-/token?client_id=a").await);
    assert!(found[3] == found[2] && found.len() == 4);
    let many = |count| json!({ "tokens": vec![item(&"x".repeat(500), None); count] });
    assert_eq!(batch(many(1000)).await.1["tokens"].as_array().unwrap().len(), 1000);
    assert_eq!(batch(many(1001)).await.0, 422);
    assert_eq!(batch(json!({ "tokens": [{ "session": "a" }] })).await.0, 422);
}

async fn stopped_server_sends_its_readers_away(store: Store) {
    let service = service(&store);
    let mut feed = FeedEvents::open(&service, "").await;
    let start = feed.next().await.unwrap().id;
    let polling = {
        let service = service.clone();
        tokio::spawn(async move { json(&service, &format!("/v2/changes?since={start}&wait=30")).await })
    };
    // It is there before the server stops.
    while service.feed_status().unwrap().readers < 2 {
        tokio::task::yield_now().await;
    }
    service.clone().stop_feed();
    let event = feed.news().await.unwrap();
    assert_eq!((event.name.as_str(), event.data), ("move", json!({})));
    assert_eq!(feed.next().await, None);
    assert_eq!(polling.await.unwrap()["changes"], json!([]));
    let refused = ask(&service, Request::get("/v2/changes")).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    // Other calls go on.
    store.begin("a", "", 1).await;
    json(&service, "/v2/clients/-/token?client_id=a").await;
}

async fn readers_are_limited(store: Store) {
    let service = service(&store).max_feed_readers(2);
    let mut one = FeedEvents::open(&service, "").await;
    let _other = FeedEvents::open(&service, "").await;
    assert_eq!(ask(&service, Request::get("/v2/changes")).await.status(), 503);
    assert_eq!(ask(&service, Request::get("/v2/snapshot")).await.status(), 503);
    one.next().await.unwrap();
    drop(one);
    let mut other = FeedEvents::open(&service, "").await;
    store.begin("a", "", 1).await;
    assert_eq!(other.news().await.unwrap().change(), "issue a/");
    let status = service.feed_status().unwrap();
    assert_eq!((status.readers, status.sent, status.cut_off), (2, 1, 0));
    assert!(status.lag.unwrap().as_secs() < 2);
}

/// A store that keeps no log has no feed, and everything else.
#[tokio::test]
async fn store_without_a_log_has_no_feed() {
    #[derive(Debug)]
    struct WithoutLog(Store);
    impl TokenStore for WithoutLog {
        fastauth::store::forward_store!(|store| (store.0);
            kind load compare_now pair pair_of save rotate revoke revoke_access list spend check promises patience changes);
    }
    let memory = crate::support::stores::memory().await;
    memory.store.begin("a", "", 1).await;
    let service = StoreService::new(Arc::new(WithoutLog(Arc::clone(&memory.store))));
    for target in ["/v2/changes", "/v2/changes?wait=1", "/v2/snapshot"] {
        let response = ask(&service, Request::get(target)).await;
        assert_eq!((response.status().as_u16(), &response.headers()["fastauth-store"]), (501, &"v=2".parse().unwrap()));
    }
    assert!(service.feed_status().is_none() && service.is_feed_up().await);
    let with_log = StoreService::new(Arc::clone(&memory.store));
    let response = ask(&with_log, Request::get("/token?client_id=a")).await;
    assert_eq!(response.headers()["fastauth-store"], "v=2; feed=v2/changes");
}
