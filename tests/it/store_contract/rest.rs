//! What only a store behind HTTP promises, and what it does when that store misbehaves.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use fastauth::store::{
    CurrentTokens, MemoryStore, RestStore, Rotated, StoreError, StoreErrorKind, TokenDigest, TokenStore,
};
use futures_util::{FutureExt, future::join_all};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::{net::TcpListener, sync::watch};

use crate::support::{
    faulty::{Behaviour, FaultyStore, Seen},
    stores::{OnePair, StoreServer, any_port, current, held, refresh},
};

const PAIR: &[u8] = br#"{"data":{"access_token":"access-1","refresh_token":"refresh-1"}}"#;
const PAIR_2: &[u8] = br#"{"data":{"access_token":"access-2","refresh_token":"refresh-2"}}"#;
const ID: &str = "hush-client";

fn ok(body: &[u8]) -> Behaviour {
    Behaviour::Answer(StatusCode::OK, body.to_vec())
}

fn status(status: u16) -> Behaviour {
    Behaviour::Answer(StatusCode::from_u16(status).unwrap(), PAIR.to_vec())
}

/// The answer of a store that does not know the client.
fn unknown() -> Behaviour {
    Behaviour::Answer(StatusCode::NOT_FOUND, br#"{"detail":"Not Found"}"#.to_vec())
}

fn raw(bytes: impl Into<Vec<u8>>) -> Behaviour {
    Behaviour::Raw(bytes.into())
}

fn client(url: &str) -> RestStore {
    RestStore::new(url, HeaderMap::new()).unwrap()
}

/// A store that gives up soon.
fn impatient(server: &FaultyStore) -> RestStore {
    client(&server.url()).timeout(Duration::from_millis(250))
}

/// The error's kind; nothing that it shows may name a client, a token or the store.
fn kind(error: &StoreError, server: &FaultyStore) -> StoreErrorKind {
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        shown += &format!(" {error}");
        source = error.source();
    }
    for secret in ["hush", "access-1", "refresh-1", &server.url(), "token?"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    error.kind()
}

#[tokio::test]
async fn the_calls_are_those_of_the_contract() {
    let server = FaultyStore::start(ok(PAIR)).await;
    let mut headers = HeaderMap::new();
    headers.append("x-key", HeaderValue::from_static("one"));
    headers.append("x-key", HeaderValue::from_static("two"));
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    let store = RestStore::new(&format!("{}/base/", server.url()), headers).unwrap();
    for (n, (id, encoded)) in [
        ("plain-1", "plain-1"),
        ("a b", "a%20b"),
        ("a&b=c", "a%26b%3Dc"),
        ("a#b", "a%23b"),
        ("a+b", "a%2Bb"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("élève", "%C3%A9l%C3%A8ve"),
        ("-._~!*'()", "-._~%21%2A%27%28%29"),
        ("\n\0", "%0A%00"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(store.load(id, None).await.unwrap(), current(1));
        store.put(id, 1).await.unwrap();
        let seen = server.seen();
        assert_eq!(seen.len(), 2 * n + 2);
        let (get, post) = (&seen[2 * n], &seen[2 * n + 1]);
        assert_eq!(post.line, format!("POST /base/token?client_id={encoded} HTTP/1.1"));
        assert_eq!(get.line, format!("GET /base/token?client_id={encoded} HTTP/1.1"));
        assert_eq!(values(post, "content-type"), ["application/json"]);
        for call in [post, get] {
            assert_eq!(values(call, "x-key"), ["one", "two"]);
        }
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(body, serde_json::from_slice::<serde_json::Value>(PAIR).unwrap());
    }
}

fn values<'a>(seen: &'a Seen, name: &str) -> Vec<&'a str> {
    let headers = seen.headers.iter().filter_map(|line| line.split_once(": "));
    headers.filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// The kind of the error for a status that is no answer.
fn kind_of(status: u16) -> StoreErrorKind {
    if status >= 500 { StoreErrorKind::Unavailable } else { StoreErrorKind::InvalidAnswer }
}

#[tokio::test]
async fn only_200_and_404_answer_a_look_up() {
    let server = FaultyStore::start(unknown()).await;
    let store = client(&server.url());
    assert_eq!(store.load(ID, None).await.unwrap(), None);
    server.becomes(raw("HTTP/1.1 404 \r\n\r\n"));
    assert_eq!(store.load(ID, None).await.unwrap(), None);
    for code in [201, 202, 204, 206, 301, 400, 401, 403, 410, 429, 500, 502, 503] {
        server.becomes(status(code));
        let error = client(&server.url()).load(ID, None).await.expect_err("trouble");
        assert_eq!(kind(&error, &server), kind_of(code), "{code}");
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        let names_the_setting = error.to_string().contains(r#"set `headers` to {"Authorization": "Bearer TOKEN"}"#);
        assert_eq!(names_the_setting, matches!(code, 401 | 403), "{error}");
    }
    for body in [&b""[..], b"hush", b"[]", b"{}", br#"{"data":"hush"}"#, br#"{"data":{"access_token":["hush"]}}"#] {
        server.becomes(ok(body));
        let error = client(&server.url()).load(ID, None).await.expect_err("trouble");
        assert_eq!(kind(&error, &server), StoreErrorKind::InvalidAnswer, "{body:?}");
    }
    server.becomes(ok(br#"{"data":{"access_token":"access-1"}}"#));
    let half = CurrentTokens { refresh: None, ..current(1).unwrap() };
    assert_eq!(store.load(ID, None).await.unwrap(), Some(half));
    assert_eq!(store.held(ID).await.unwrap(), Some((Some("access-1".to_owned()), None)));
}

#[tokio::test]
async fn only_200_acknowledges_a_write() {
    let server = FaultyStore::start(status(200)).await;
    for code in [201, 202, 204, 301, 400, 401, 404, 409, 500, 503] {
        server.becomes(status(code));
        let error = impatient(&server).put(ID, 1).await.expect_err("trouble");
        assert_eq!(kind(&error, &server), kind_of(code), "{code}");
    }
    server.becomes(ok(PAIR));
    let store = impatient(&server);
    store.load(ID, None).await.unwrap();
    // Whatever the body is or does, if the pair is held then.
    let head = "HTTP/1.1 200 OK\r\n";
    for behaviour in [
        ok(b""),
        ok(b"saved"),
        raw(format!("{head}content-length: 100\r\n\r\nshort")),
        raw(format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n")),
        Behaviour::Drip(format!("{head}content-length: 1000000\r\n\r\n").into()),
        Behaviour::Flood(format!("{head}\r\n").into()),
    ] {
        server.becomes(Behaviour::ToPost(Box::new(behaviour.clone()), PAIR.to_vec()));
        store.put(ID, 1).await.unwrap_or_else(|error| panic!("{behaviour:?}: {error:?}"));
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = FaultyStore::start(ok(PAIR)).await;
    let server = FaultyStore::start(Behaviour::Redirect(elsewhere.url())).await;
    let store = client(&server.url());
    for error in [store.load(ID, None).await.expect_err("trouble"), store.put(ID, 1).await.expect_err("trouble")] {
        assert_eq!(kind(&error, &server), StoreErrorKind::InvalidAnswer);
    }
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn every_call_ends_in_time() {
    let server = FaultyStore::start(Behaviour::Silent).await;
    let head = |line: &str| Behaviour::Drip(line.into());
    for behaviour in [
        Behaviour::Silent,
        head("HTTP/1.1 200 OK\r\nx-drip: "),
        head("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{"),
        head("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "),
    ] {
        server.becomes(behaviour.clone());
        let before = server.count();
        let start = Instant::now();
        let error = impatient(&server).load(ID, None).await.expect_err("no answer");
        assert_eq!(kind(&error, &server), StoreErrorKind::TimedOut, "{behaviour:?}");
        assert!((80..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(server.count(), before + 1);
    }
    server.becomes(Behaviour::Silent);
    let store = impatient(&server);
    let start = Instant::now();
    let error = store.put(ID, 1).await.expect_err("no answer");
    assert_eq!(kind(&error, &server), StoreErrorKind::TimedOut);
    // It looks for the version of the store first.
    assert!((80..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    server.becomes(ok(PAIR));
    assert_eq!(store.load(ID, None).await.unwrap(), current(1));
}

/// Those that wait behind a slow write of the same client do not wait for longer.
#[tokio::test]
async fn waiting_for_ones_turn_counts() {
    let server = FaultyStore::start(Behaviour::Silent).await;
    let store = impatient(&server);
    let start = Instant::now();
    let saves = join_all((0..20).map(|_| store.put(ID, 1))).await;
    assert!(saves.iter().all(|save| save.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::TimedOut)));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_long_answer_is_cut_off() {
    let server = FaultyStore::start(ok(&[])).await;
    let store = client(&server.url());
    let padded = |length: usize| [PAIR, " ".repeat(length - PAIR.len()).as_bytes()].concat();
    server.becomes(ok(&padded(1 << 20)));
    assert_eq!(store.load(ID, None).await.unwrap(), current(1));
    let endless = Behaviour::Flood(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    for behaviour in [ok(&padded((1 << 20) + 1)), endless] {
        server.becomes(behaviour);
        let error = store.load(ID, None).await.expect_err("too long");
        assert_eq!(kind(&error, &server), StoreErrorKind::InvalidAnswer);
    }
}

#[tokio::test]
async fn a_broken_connection_is_an_error() {
    let server = FaultyStore::start(raw("")).await;
    for (bytes, expected) in [
        ("", StoreErrorKind::Unreachable),
        ("HTTP/1.1 200", StoreErrorKind::Unreachable),
        ("hush\r\n\r\n", StoreErrorKind::Unreachable),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", StoreErrorKind::Unreachable),
        ("HTTP/1.1 200 OK\r\n\r\n{", StoreErrorKind::InvalidAnswer),
    ] {
        server.becomes(raw(bytes));
        let error = client(&server.url()).load(ID, None).await.expect_err("broken");
        assert_eq!(kind(&error, &server), expected, "{bytes:?}");
    }
    let free = TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap();
    let error = client(&format!("http://{free}")).load(ID, None).await.expect_err("nobody listens");
    assert_eq!(kind(&error, &server), StoreErrorKind::Unreachable);
    assert!(!format!("{error}").contains(&free.to_string()));
    let huge = "x".repeat(100_000);
    assert_eq!(client(&server.url()).load(&huge, None).await.expect_err("too long").kind(), StoreErrorKind::Failed);
}

/// A store that was restarted, or a firewall with a short memory, leaves connections that break at the first request.
#[tokio::test]
async fn stale_connections_do_not_fail_a_look_up() {
    let (up, flag) = watch::channel(false);
    let server = FaultyStore::start(Behaviour::AnswerWhen(flag, PAIR.to_vec())).await;
    let store = client(&server.url());
    let ids = ["a", "b", "c"];
    let fill_pool = async {
        server.saw(3).await;
        up.send(true).unwrap();
    };
    let (loaded, ()) = tokio::join!(join_all(ids.map(|id| store.load(id, None))), fill_pool);
    assert!(loaded.iter().all(Result::is_ok));
    server.becomes(Behaviour::CloseWhenReused(PAIR.to_vec()));
    assert_eq!(store.load("a", None).await.unwrap(), current(1));
    server.becomes(raw(""));
    let before = server.count();
    store.load("a", None).await.expect_err("it breaks on new connections too");
    assert_eq!(server.count() - before, 2, "one more try, and no third");
}

/// The store may have saved it before it hung up. It is asked, and does not tell.
#[tokio::test]
async fn a_write_is_sent_once() {
    let server = FaultyStore::start(ok(PAIR)).await;
    let store = client(&server.url());
    store.load(ID, None).await.unwrap();
    server.becomes(raw(""));
    let error = store.put(ID, 2).await.expect_err("broken");
    assert!(error.is_save());
    let posts = server.seen().iter().filter(|seen| seen.line.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

/// Of a rotation that runs out of time it is told which of its calls did. After the write the store is asked again.
#[tokio::test]
async fn a_rotation_says_whether_it_was_saving() {
    let server = FaultyStore::start(Behaviour::SilentToPost(PAIR.to_vec())).await;
    let store = client(&server.url()).timeout(Duration::from_millis(1500));
    let error = store.exchange(ID, &refresh(1), 2).await.expect_err("silent");
    // Asked twice, and sent once.
    assert_eq!((error.kind(), error.is_save(), server.count()), (StoreErrorKind::TimedOut, true, 4));
    server.becomes(Behaviour::Silent);
    let error = store.exchange(ID, &refresh(1), 2).await.expect_err("silent");
    assert_eq!((error.kind(), error.is_save()), (StoreErrorKind::TimedOut, false));
}

#[tokio::test]
async fn it_works_at_once_when_the_store_was_away_for_a_moment() {
    let behind: Arc<dyn TokenStore> = Arc::new(MemoryStore::new());
    let server = StoreServer::start(Arc::clone(&behind), None).await;
    let store = server.client();
    for n in 0..3 {
        store.put("a", n).await.unwrap();
    }
    let address = server.stop().await;
    assert_eq!(store.load("a", None).await.expect_err("away").kind(), StoreErrorKind::Unreachable);
    assert_eq!(store.load("a", None).await.expect_err("away").kind(), StoreErrorKind::Unreachable);
    let server = StoreServer::start(Arc::clone(&behind), Some(address)).await;
    store.put("a", 8).await.unwrap();
    assert_eq!(store.held("a").await.unwrap(), held(8));
    // Nobody notices when it is gone for a moment only.
    let address = server.stop().await;
    let _server = StoreServer::start(behind, Some(address)).await;
    store.put("a", 9).await.unwrap();
    assert_eq!(store.held("a").await.unwrap(), held(9));
}

#[test]
fn it_is_made_without_a_runtime() {
    let server = tokio::runtime::Runtime::new().unwrap();
    let store = client("http://127.0.0.1:1");
    assert!(server.block_on(store.load("a", None)).is_err());
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = StoreServer::start(Arc::new(MemoryStore::new()), None).await;
    let store = server.client();
    assert_eq!(store.load("a", None).await.unwrap(), None);
    for n in 0..20 {
        store.put("a", n).await.unwrap();
        assert_eq!(store.held("a").await.unwrap(), held(n));
    }
    // hyper opens another one when a call begins just before the connection is back in the pool.
    assert!(server.connections() < 10, "{}", server.connections());

    let server = FaultyStore::start(Behaviour::AnswerInTwo(StatusCode::OK, PAIR.to_vec())).await;
    let store = client(&server.url());
    for _ in 0..5 {
        store.put("a", 1).await.unwrap();
        store.load("a", None).await.unwrap();
    }
    server.becomes(Behaviour::AnswerInTwo(StatusCode::NOT_FOUND, br#"{"detail":"Not Found"}"#.to_vec()));
    for _ in 0..5 {
        store.put("a", 1).await.unwrap_err();
        assert_eq!(store.load("a", None).await.unwrap(), None);
    }
    assert!(server.connections() < 10, "{}", server.connections());
}

#[tokio::test]
async fn look_ups_at_the_same_moment_are_one_call() {
    let (up, flag) = watch::channel(false);
    let server = FaultyStore::start(Behaviour::AnswerWhen(flag, PAIR.to_vec())).await;
    let store = client(&server.url());
    let mut first = store.load("a", None);
    assert!((&mut first).now_or_never().is_none());
    let mut others: Vec<_> = (0..50).map(|_| store.load("a", None)).collect();
    for other in &mut others {
        assert!(other.now_or_never().is_none());
    }
    let mut another = store.load("A", None);
    assert!((&mut another).now_or_never().is_none());
    // The one that made the call gives up; the others drive it on.
    drop(first);
    let answer = async {
        server.saw(2).await;
        up.send(true).unwrap();
    };
    let (others, another, ()) = tokio::join!(join_all(others), another, answer);
    for load in others {
        assert_eq!(load.unwrap(), current(1));
    }
    assert_eq!(another.unwrap(), current(1));
    assert_eq!(server.count(), 2);
    store.load("a", None).await.unwrap();
    assert_eq!(server.count(), 3, "nothing is kept");
}

#[tokio::test]
async fn a_failure_is_shared_and_then_forgotten() {
    let server = FaultyStore::start(status(500)).await;
    let store = client(&server.url());
    let loads = join_all((0..10).map(|_| store.load("a", None))).await;
    assert!(loads.iter().all(Result::is_err));
    assert_eq!(server.count(), 1);
    server.becomes(ok(PAIR));
    assert_eq!(store.load("a", None).await.unwrap(), current(1));
}

#[tokio::test]
async fn a_look_up_after_a_write_sees_it() {
    let (up, flag) = watch::channel(false);
    let server = FaultyStore::start(Behaviour::AnswerWhen(flag, br#"{"data":{"access_token":"old"}}"#.to_vec())).await;
    let store = client(&server.url());
    let mut before = store.load("a", None);
    assert!((&mut before).now_or_never().is_none());
    tokio::select! {
        _ = &mut before => panic!("the flag is down"),
        () = server.saw(1) => {}
    }
    server.becomes(ok(PAIR));
    store.put("a", 1).await.unwrap();
    assert_eq!(store.load("a", None).await.unwrap(), current(1), "and not the old answer, which is still on its way");
    up.send(true).unwrap();
    assert_eq!(before.await.unwrap().unwrap().access, Some(TokenDigest::of("old")));
}

#[tokio::test]
async fn a_rotation_is_a_look_up_and_a_write() {
    let server = FaultyStore::start(ok(PAIR)).await;
    let store = client(&server.url());
    let methods = || -> Vec<String> {
        server.seen().iter().map(|seen| seen.line.split(' ').next().unwrap().to_owned()).collect()
    };
    let rotate = async |presented: &str| store.exchange("a", presented, 2).await;
    assert_eq!(rotate("refresh-0").await.unwrap(), Rotated::Superseded);
    assert_eq!(methods(), ["GET"]);
    assert_eq!(rotate("refresh-1").await.unwrap(), Rotated::Rotated);
    assert_eq!(methods(), ["GET", "GET", "POST"]);
    // It holds one pair and remembers no other, so a used token is any other one.
    server.becomes(ok(PAIR_2));
    assert_eq!(rotate("refresh-1").await.unwrap(), Rotated::Superseded);
    assert_eq!(methods()[3..], ["GET"]);
    server.becomes(ok(br#"{"data":{"access_token":"a","refresh_token":null}}"#));
    assert_eq!(rotate("").await.unwrap(), Rotated::Superseded);
    server.becomes(unknown());
    assert_eq!(rotate("refresh-1").await.unwrap(), Rotated::UnknownClient);
    server.becomes(status(500));
    assert_eq!(rotate("refresh-1").await.expect_err("trouble").kind(), StoreErrorKind::Unavailable);
    assert_eq!(methods()[4..], ["GET", "GET", "GET"]);
}
