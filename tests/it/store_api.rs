//! The two versions of the store API between a `RestStore` and what answers it: which one is spoken, and what is made of faults.

use std::{
    error::Error,
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use fastauth::{
    FastAuthLayer, Introspection, Secret,
    config::StoreFormat,
    store::{
        Condition, CurrentTokens, MemoryStore, Promises, RestStore, Revocation, Revoked, Rotated, Rotation,
        SaveOptions, Saved, SessionFilter, SqliteStore, StoreError, StoreErrorKind, StoreService, TokenDigest,
        TokenEntry, TokenRecord, TokenStore,
    },
};

use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::{
    app::settings,
    support::{
        front::{Front, Mode},
        stores::{ManySessions, OnePair, any_port, current, held, record, refresh, renewal, session_of},
        v1::Rows,
    },
};

/// How long a client waits whose calls are to run out of time. A quarter of it is enough for an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(6);

const GET_DIGESTS: &str = "GET /v2/clients/-/token?client_id=c";

/// A store in memory, and what stands before it.
async fn start() -> (MemoryStore, Front) {
    let store = MemoryStore::new();
    let front = Front::start(Arc::new(store.clone())).await;
    (store, front)
}

/// A pair of which there is nothing to know but its tokens.
fn plain(client_id: &str, n: i32) -> TokenRecord {
    let entry = |text: String| TokenEntry { digest: TokenDigest::of(&text), text: Secret::from(text), expires_at: 0 };
    TokenRecord {
        client_id: client_id.to_owned(),
        session: String::new(),
        generation: 0,
        kid: String::new(),
        access: entry(format!("access-{n}")),
        refresh: entry(refresh(n)),
    }
}

async fn save(store: &impl TokenStore, record: &TokenRecord) -> Result<Saved, StoreError> {
    store.save(record, SaveOptions::default()).await
}

/// Whether the pair is what is held, in whatever version.
fn is_pair(found: Option<CurrentTokens>, n: i32) -> bool {
    found.map(|found| CurrentTokens { previous_access: None, version: None, ..found }) == current(n)
}

/// The error of something that should not have gone well; it shows nothing that is secret.
fn error<T: Debug>(outcome: Result<T, StoreError>) -> StoreError {
    let error = outcome.expect_err("trouble");
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        shown += &format!(" {cause}");
        source = cause.source();
    }
    for secret in ["hush", "access-", "refresh-"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    error
}

/// The outcome of each of the operations.
async fn try_all(store: &impl TokenStore) -> [Result<(), StoreError>; 8] {
    let client = Revocation::Client("c".to_owned());
    [
        store.load("c", Some("f")).await.map(drop),
        store.pair("c").await.map(drop),
        save(store, &record("c", "f", 0, 5)).await.map(drop),
        store.rotate(&renewal("c", "f", 0, 1, 2)).await.map(drop),
        store.revoke(&client, None).await.map(drop),
        store.revoke(&session_of("c", "f"), Some(1)).await.map(drop),
        store.revoke(&Revocation::All, None).await.map(drop),
        store.list(&SessionFilter::default()).await.map(drop),
    ]
}

/// Has a client know that the store speaks the second version.
async fn acquaint(store: &impl TokenStore) {
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
}

#[tokio::test]
async fn the_version_is_learnt_from_any_answer() {
    let (_, front) = start().await;
    let store = front.client();
    // The tokens say all that there is to know of this pair: no question before it, and none after.
    assert!(matches!(save(&store, &plain("c", 1)).await.unwrap(), Saved::Saved(1)));
    assert_eq!(front.seen(), ["POST /token?client_id=c"]);
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
    assert!(is_pair(store.load("c", None).await.unwrap(), 1));
    assert!(is_pair(store.load("c", Some("f&g")).await.unwrap(), 1));
    assert_eq!(front.seen(), [GET_DIGESTS.to_owned(), format!("{GET_DIGESTS}&session=f%26g")]);

    // For a look-up, the question is itself one.
    let store = front.client();
    assert!(is_pair(store.load("c", None).await.unwrap(), 1));
    assert!(is_pair(store.load("c", None).await.unwrap(), 1));
    assert_eq!(front.seen(), ["GET /token?client_id=c", GET_DIGESTS, GET_DIGESTS]);

    // Where it matters, the question comes first, and once.
    let store = front.client();
    save(&store, &record("c", "f", 0, 2)).await.unwrap();
    save(&store, &record("c", "f", 0, 3)).await.unwrap();
    let (ask, write) = ("GET /token?client_id=fastauth-discovery", "POST /v2/clients/-/token?client_id=c");
    assert_eq!(front.seen(), [ask, write, write]);
    for options in [
        SaveOptions { keep_others: true, ..SaveOptions::default() },
        SaveOptions { condition: Condition::Absent, ..SaveOptions::default() },
    ] {
        front.client().save(&plain("c", 4), options).await.unwrap();
        assert_eq!(front.seen(), [ask, write], "{options:?}");
    }
    for store in [front.client(), front.client()] {
        store.list(&SessionFilter::default()).await.unwrap();
        store.promises().await.unwrap();
        assert_eq!(front.seen(), [ask, "GET /v2/clients?limit=1000"]);
    }
}

#[tokio::test]
async fn a_store_of_the_first_version_is_asked_no_more_than_ever() {
    let (_, front) = start().await;
    front.becomes(Mode::First(Rows::default()));
    let store = front.client();
    assert_eq!(save(&store, &plain("c", 1)).await.unwrap(), Saved::Saved(0));
    assert_eq!(store.load("c", Some("f")).await.unwrap(), current(1));
    assert_eq!(store.exchange("c", &refresh(1), 2).await.unwrap(), Rotated::Rotated);
    save(&store, &record("c", "f", 0, 3)).await.unwrap();
    assert_eq!(store.promises().await.unwrap(), Promises::NONE);
    let (get, post) = ("GET /token?client_id=c", "POST /token?client_id=c");
    assert_eq!(front.seen(), [post, get, get, post, post]);
    let conditional = SaveOptions { condition: Condition::Absent, ..SaveOptions::default() };
    for outcome in [
        store.save(&record("d", "", 0, 1), conditional).await.map(drop),
        store.list(&SessionFilter::default()).await.map(drop),
        store.revoke(&Revocation::All, None).await.map(drop),
        store.revoke(&Revocation::Client("c".to_owned()), Some(1)).await.map(drop),
    ] {
        assert_eq!(error(outcome).kind(), StoreErrorKind::Unsupported);
    }
    assert_eq!(front.seen(), [""; 0], "and it is not asked for nothing");
    assert_eq!(store.revoke_all_of("c").await, Revoked::Sessions(1));
    assert_eq!(store.revoke_all_of("d").await, Revoked::Sessions(0));
    assert!(!is_pair(store.load("c", None).await.unwrap(), 3));
    assert_eq!(store.exchange("c", &refresh(3), 4).await.unwrap(), Rotated::Superseded);
}

/// A pair that a store of the first version would not keep whole is sent again when it turns out to speak the second.
#[tokio::test]
async fn a_store_that_is_upgraded_is_noticed() {
    let (behind, front) = start().await;
    front.becomes(Mode::First(Rows::default()));
    let store = front.client();
    assert_eq!(store.promises().await.unwrap(), Promises::NONE);
    front.becomes(Mode::Pass);
    save(&store, &record("c", "f", 3, 1)).await.unwrap();
    assert_eq!(behind.session("c", "f").await.generation, 3);
    assert_eq!(store.promises().await.unwrap(), Promises::ALL);
}

/// The kind of an error, or `kind` if the store failed so often before that it was not asked.
fn kind_unless_spared(error: &StoreError, number: usize, kind: StoreErrorKind) -> StoreErrorKind {
    let is_spared = number > 1 && error.to_string().contains("is not asked again yet");
    if is_spared { kind } else { error.kind() }
}

/// Waits until a store is asked again that failed before.
async fn is_back(store: &RestStore) {
    let answered = async {
        while store.load("c", None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered).await.expect("it answers");
}

#[tokio::test]
async fn a_page_of_a_proxy_is_not_the_stores() {
    let (behind, front) = start().await;
    save(&behind, &record("c", "f", 0, 1)).await.unwrap();
    for (mode, kind) in [
        (Mode::Page(404), StoreErrorKind::InvalidAnswer),
        (Mode::Page(200), StoreErrorKind::InvalidAnswer),
        (Mode::Page(401), StoreErrorKind::InvalidAnswer),
        (Mode::Page(502), StoreErrorKind::Unavailable),
        (Mode::PageBeforeV2(404), StoreErrorKind::InvalidAnswer),
    ] {
        let store = front.client();
        acquaint(&store).await;
        front.becomes(mode.clone());
        let withheld = matches!(mode, Mode::PageBeforeV2(_));
        for (n, outcome) in try_all(&store).await.into_iter().enumerate() {
            // The pair is read by the first version.
            if !(withheld && n == 1) {
                assert_eq!(kind_unless_spared(&error(outcome), n, kind), kind, "{mode:?} {n}");
            }
        }
        front.becomes(Mode::Pass);
        is_back(&store).await;
        assert_eq!(store.promises().await.unwrap(), Promises::ALL, "{mode:?}");
        assert!(is_pair(store.load("c", Some("f")).await.unwrap(), 1), "{mode:?}");
    }
    // Before the first answer, neither.
    front.becomes(Mode::Page(404));
    assert_eq!(error(front.client().load("c", None).await).kind(), StoreErrorKind::InvalidAnswer);
}

#[tokio::test]
async fn junk_is_an_error() {
    let (_, front) = start().await;
    for (status, body) in [
        (200, ""),
        (200, "hush"),
        (200, "[]"),
        (200, r#"["hush","hush","hush"]"#),
        (200, r#"{"version":"hush","data":{"access_token":["hush"]},"sessions":"hush","outcome":"hush","revoked":-1}"#),
        (200, r#"{"version":1,"version":1,"access_sha256":"hush","outcome":"repeated","sessions":[{}],"data":[]}"#),
        (304, ""),
        (400, r#"{"code":"hush"}"#),
        (404, "<html>hush</html>"),
        (404, r#"{"code":"not_found"}"#),
        (409, "hush"),
        (409, r#"{"code":"unknown_client"}"#),
        (410, r#"{"code":"lost_race"}"#),
        (500, r#"{"code":"unknown_client"}"#),
        (503, r#"{"code":"unavailable"}"#),
    ] {
        let store = front.client();
        acquaint(&store).await;
        front.becomes(Mode::Says(status, body));
        for (n, outcome) in try_all(&store).await.into_iter().enumerate() {
            // The head acknowledges a save.
            if !(n == 2 && status == 200) {
                let kind = if status >= 500 { StoreErrorKind::Unavailable } else { StoreErrorKind::InvalidAnswer };
                assert_eq!(kind_unless_spared(&error(outcome), n, kind), kind, "{status} {body} {n}");
            }
        }
        front.becomes(Mode::Pass);
    }
}

#[tokio::test]
async fn what_the_store_decides_is_told() {
    let (_, front) = start().await;
    let store = front.client();
    acquaint(&store).await;
    for (status, body, expected) in [
        (200, r#"{"outcome":"rotated","version":7}"#, Some(Rotated::Rotated)),
        (200, r#"{"outcome":"rotated"}"#, Some(Rotated::Rotated)),
        (409, r#"{"code":"lost_race"}"#, Some(Rotated::Superseded)),
        (409, r#"{"code":"reuse_detected"}"#, Some(Rotated::Reused)),
        (410, r#"{"code":"revoked"}"#, Some(Rotated::Revoked)),
        (404, r#"{"code":"unknown_client"}"#, Some(Rotated::UnknownClient)),
        (412, r#"{"code":"precondition_failed"}"#, None),
    ] {
        front.becomes(Mode::Says(status, body));
        assert_eq!(store.rotate(&renewal("c", "f", 0, 1, 2)).await.ok(), expected, "{status} {body}");
    }
    front.becomes(Mode::Says(
        200,
        r#"{"outcome":"repeated","version":7,"data":{"access_token":"a","refresh_token":null}}"#,
    ));
    let Rotated::Repeated(pair) = store.rotate(&renewal("c", "f", 0, 1, 2)).await.unwrap() else { panic!("repeated") };
    assert_eq!((pair.access_token, pair.refresh_token, pair.version), (Some("a".into()), None, Some(7)));

    let conditional = |condition| SaveOptions { condition, ..SaveOptions::default() };
    front.becomes(Mode::Says(412, "{}"));
    let pair = record("c", "f", 0, 1);
    // Without a condition, the session was revoked or renewed before.
    for condition in [Condition::Absent, Condition::Version(1), Condition::None] {
        assert_eq!(store.save(&pair, conditional(condition)).await.unwrap(), Saved::ConditionFailed);
    }
    let client = Revocation::Client("c".to_owned());
    assert_eq!(store.revoke(&client, Some(1)).await.unwrap(), Revoked::ConditionFailed);
    assert!(store.revoke(&client, None).await.is_err(), "no condition was set");
    front.becomes(Mode::Says(501, "{}"));
    assert_eq!(error(store.list(&SessionFilter::default()).await).kind(), StoreErrorKind::Unsupported);
    front.becomes(Mode::Says(200, "{}"));
    assert_eq!(save(&store, &pair).await.unwrap(), Saved::Saved(7));
}

/// Whichever version is spoken: that its answer was lost does not make a write undone.
#[tokio::test]
async fn a_write_without_an_answer_is_asked_after() {
    for mode in [Mode::CutsAnswers, Mode::CutsBodies] {
        let (behind, front) = start().await;
        let store = front.client();
        acquaint(&store).await;
        front.becomes(mode.clone());
        front.seen();
        assert!(matches!(save(&store, &record("c", "f", 0, 1)).await.unwrap(), Saved::Saved(_)), "{mode:?}");
        assert!(behind.accepts("c", "f", 1).await);
        assert_eq!(writes(&front), 1, "{mode:?}");
        assert_eq!(store.renew("c", "f", 0, 1, 2).await, Rotated::Rotated, "{mode:?}");
        assert!(behind.accepts("c", "f", 2).await);
        assert_eq!(writes(&front), 1, "{mode:?}");
        assert_eq!(store.revoke_session("c", "f").await, Revoked::Sessions(1), "{mode:?}");
        assert_eq!(behind.load("c", None).await.unwrap(), None);
        // By the first version.
        let store = front.client();
        save(&store, &plain("p", 1)).await.unwrap();
        assert_eq!(behind.held("p").await.unwrap(), held(1), "{mode:?}");
    }
}

/// How many writes there were since this was asked last.
fn writes(front: &Front) -> usize {
    front.seen().iter().filter(|call| !call.starts_with("GET")).count()
}

/// It is sent once more, and not a third time.
#[tokio::test]
async fn a_write_that_did_not_happen_is_an_error() {
    let (behind, front) = start().await;
    save(&behind, &record("c", "f", 0, 1)).await.unwrap();
    let store = front.client();
    acquaint(&store).await;
    front.becomes(Mode::CutsWrites);
    front.seen();
    let failed = error(save(&store, &record("c", "f", 0, 2)).await);
    assert_eq!((failed.kind(), failed.is_save()), (StoreErrorKind::Unreachable, true));
    assert_eq!(writes(&front), 2);
    // Without a grace, a rotation that arrives twice would end its session.
    let failed = error(store.rotate(&renewal("c", "f", 0, 1, 2)).await);
    assert_eq!((failed.kind(), failed.is_save()), (StoreErrorKind::Unreachable, true));
    assert_eq!(writes(&front), 1);
    let gracious = Rotation { grace: Duration::from_secs(10), ..renewal("c", "f", 0, 1, 2) };
    assert_eq!(error(store.rotate(&gracious).await).kind(), StoreErrorKind::Unreachable);
    assert_eq!(writes(&front), 2);
    assert_eq!(error(store.revoke(&session_of("c", "f"), None).await).kind(), StoreErrorKind::Unreachable);
    assert_eq!(writes(&front), 2);
    let failed = error(save(&front.client(), &plain("c", 2)).await);
    assert_eq!((failed.kind(), failed.is_save()), (StoreErrorKind::Unreachable, true));
    assert!(behind.accepts("c", "f", 1).await);
}

/// After a quarter of the time the store is asked.
#[tokio::test]
async fn a_write_whose_answer_does_not_come_is_asked_after() {
    let (behind, front) = start().await;
    let store = front.client().timeout(PATIENCE);
    acquaint(&store).await;
    store.begin("r", "f", 1).await;
    store.begin("c", "f", 1).await;
    front.becomes(Mode::LosesAnswers);
    let start = Instant::now();
    // The last one has yet to learn the version.
    let (pair, renewal, another, last) =
        (record("s", "f", 0, 1), renewal("r", "f", 0, 1, 2), front.client(), plain("p", 1));
    let another = another.timeout(PATIENCE);
    let (saved, rotated, revoked, by_v1) = tokio::join!(
        save(&store, &pair),
        store.rotate(&renewal),
        store.revoke_session("c", "f"),
        save(&another, &last),
    );
    assert!((PATIENCE / 4..PATIENCE).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!((saved.unwrap(), by_v1.unwrap()), (Saved::Saved(_), Saved::Saved(_))));
    assert_eq!((rotated.unwrap(), revoked), (Rotated::Rotated, Revoked::Sessions(1)));
    assert!(behind.accepts("s", "f", 1).await && behind.accepts("r", "f", 2).await);
    assert_eq!(behind.held("p").await.unwrap(), held(1));
}

/// While the store is asked, a write that is only slow goes on.
#[tokio::test]
async fn a_slow_write_is_waited_for() {
    let (_, front) = start().await;
    let store = front.client().timeout(PATIENCE);
    acquaint(&store).await;
    front.becomes(Mode::Delays(PATIENCE * 4 / 5));
    assert_eq!(save(&store, &record("c", "f", 0, 1)).await.unwrap(), Saved::Saved(1));
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let free = tokio::net::TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap();
    let store = RestStore::new(&format!("http://{free}"), http::HeaderMap::new()).unwrap();
    assert_eq!(error(store.promises().await).kind(), StoreErrorKind::Unreachable);
    for outcome in try_all(&store).await {
        assert_eq!(error(outcome).kind(), StoreErrorKind::Unreachable);
    }
}

/// What is stored encrypted is compared by the digests of the tokens themselves.
#[tokio::test]
async fn encrypted_tokens_go_through_the_second_version() {
    let (behind, front) = start().await;
    let layer =
        |store| FastAuthLayer::new(settings().store(store).store_format(StoreFormat::Fernet).build().unwrap()).unwrap();
    let issuer = layer(front.client()).issuer();
    let issued = issuer.issue("c").await.unwrap();
    let kept = behind.pair("c").await.unwrap().unwrap().access_token.unwrap();
    assert!(kept != issued.tokens.access_token);
    for token in [&issued.tokens.access_token, &issued.tokens.refresh_token] {
        assert!(matches!(issuer.introspect(token.expose()).await.unwrap(), Introspection::Active { .. }));
    }
    let renewed = issuer.refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    assert!(matches!(
        issuer.introspect(renewed.tokens.access_token.expose()).await.unwrap(),
        Introspection::Active { .. }
    ));
    assert!(matches!(issuer.introspect(issued.tokens.access_token.expose()).await.unwrap(), Introspection::Inactive));
    front.seen();
}

/// By default all that there is to know of a pair is in its tokens, so that issuing is one call of the first version.
#[tokio::test]
async fn issuing_is_one_call() {
    let (behind, front) = start().await;
    let issuer = FastAuthLayer::new(settings().store(front.client()).build().unwrap()).unwrap().issuer();
    let issued = issuer.issue("c").await.unwrap();
    assert_eq!(front.seen(), ["POST /token?client_id=c"]);
    let entry = behind.session("c", &issued.session).await;
    assert!(!entry.kid.is_empty() && entry.refresh_expires_at > entry.access_expires_at);
    let renewed = issuer.refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    assert_eq!(behind.session("c", &renewed.session).await.generation, 1);
}

/// The whole rotation reaches the store.
#[tokio::test]
async fn a_rotation_goes_over_whole() {
    let (behind, front) = start().await;
    let store = front.client();
    acquaint(&store).await;
    store.begin("c", "f", 1).await;
    let gracious = |old, new| Rotation { grace: Duration::from_secs(60), ..renewal("c", "f", 0, old, new) };
    assert_eq!(store.rotate(&gracious(1, 2)).await.unwrap(), Rotated::Rotated);
    let Rotated::Repeated(pair) = store.rotate(&gracious(1, 3)).await.unwrap() else { panic!("repeated") };
    assert_eq!(pair, behind.pair("c").await.unwrap().unwrap());
    let entry = behind.session("c", "f").await;
    let sent = record("c", "f", 1, 2);
    assert_eq!((entry.generation, entry.kid), (1, sent.kid));
    assert_eq!((entry.access_expires_at, entry.refresh_expires_at), (sent.access.expires_at, sent.refresh.expires_at));
    assert_eq!(store.renew("c", "f", 0, 1, 4).await, Rotated::Reused);
    assert_eq!(store.renew("c", "f", 1, 2, 4).await, Rotated::Revoked);
}

/// The examples of the documentation, one after the other: they are what the service answers.
#[tokio::test]
async fn the_documented_examples_are_real() {
    let directory = tempfile::tempdir().unwrap();
    let service = StoreService::new(Arc::new(SqliteStore::open(directory.path().join("tokens.db")).unwrap()));
    let document = include_str!("../../docs/store-api.md");
    let blocks: Vec<_> = document.split("```http\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len() % 2, 0);
    for example in blocks.chunks(2) {
        let (line, headers, body) = message(example[0]);
        let mut words = line.split(' ');
        let request = http::Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(axum::body::Body::from(body.to_owned())).unwrap();
        let (parts, found) = service.clone().oneshot(request).await.unwrap().into_parts();
        let found = found.collect().await.unwrap().to_bytes();

        let (line, headers, body) = message(example[1]);
        assert_eq!(line, format!("HTTP/1.1 {}", parts.status), "{}", example[0]);
        for (name, value) in headers {
            assert_eq!(parts.headers[name], value, "{}", example[0]);
        }
        let read = |body: &[u8]| serde_json::from_slice(body).map(timeless).unwrap_or_default();
        assert_eq!(read(&found), read(body.as_bytes()), "{}", example[0]);
    }
    assert!(blocks.len() > 40);
}

/// The first line, the headers and the body.
fn message(text: &str) -> (&str, Vec<(&str, &str)>, &str) {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    (lines.next().unwrap(), lines.map(|line| line.split_once(": ").unwrap()).collect(), body)
}

/// A body without what differs from run to run.
fn timeless(mut body: serde_json::Value) -> serde_json::Value {
    for session in body["sessions"].as_array_mut().into_iter().flatten() {
        for time in ["issued_at", "renewed_at"] {
            assert!(session[time].take().as_u64().unwrap() > 1_700_000_000);
        }
    }
    if let Some(age) = body.get_mut("previous_access_age_ms") {
        assert!(age.take().as_u64().unwrap() < 600_000);
    }
    body
}
