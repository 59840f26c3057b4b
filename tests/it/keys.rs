//! Keys that change, tokens that are encrypted where they are kept, and master tokens that are withdrawn, all under way.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Body};
use fastauth::{
    FastAuthLayer, Permit, Settings, SettingsBuilder, TokenIssuer,
    config::{KeyRole, StoreFormat},
    store::{SessionFilter, SqliteStore, TokenStore},
};
use http::{Request, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::{
    app::{app, body, get_request, send, serve},
    support::log,
};

const MASTER: &str = "the master token of the nodes";

/// A directory with a configuration of the kind that `fastauth init` makes, which several nodes are started from.
struct Place(TempDir);

impl Place {
    fn new(extra: &Value) -> Self {
        let place = Self(TempDir::new().unwrap());
        fs::write(place.path().join(".env"), format!("CRYPTOGRAPHY_KEY={}\n", fastauth::Secret::generate().expose()))
            .unwrap();
        place.configure(extra);
        place
    }

    fn configure(&self, extra: &Value) {
        let mut config = json!({
            "master-token": MASTER,
            "master-token-paths": ["/master"],
            "access-token-paths": ["/access"],
            "database-api-url": "sqlite:tokens.db",
        });
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        fs::write(self.path().join("fastauth.config.json"), config.to_string()).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn database(&self) -> PathBuf {
        self.path().join("tokens.db")
    }

    fn builder(&self) -> SettingsBuilder {
        Settings::builder().directory(self.path()).environment([("", ""); 0])
    }

    fn settings(&self) -> Settings {
        self.builder().load().unwrap()
    }

    /// What a node is made of when it starts now.
    fn layer(&self) -> FastAuthLayer {
        FastAuthLayer::new(self.settings()).unwrap()
    }

    /// As `fastauth keys rotate` does, and gives the id of the key that signed before.
    fn rotate(&self, signs_from: Option<SystemTime>) -> String {
        let report = self.builder().report();
        let keys = report.keys().unwrap();
        keys.rotate(signs_from).unwrap().write().unwrap();
        keys.list().into_iter().find(|key| key.role == KeyRole::Signs).unwrap().kid
    }

    fn retire(&self, kid: &str) {
        self.builder().report().keys().unwrap().retire(kid).unwrap().write().unwrap();
    }

    fn kids(&self) -> Vec<String> {
        self.settings().keys().list().into_iter().map(|key| key.kid).collect()
    }
}

/// A server on a port, which can be restarted with what its configuration says by then. What is under way ends first,
/// and nobody finds the door closed, as behind a load balancer.
struct Node {
    place: Arc<Place>,
    url: String,
    router: Arc<Mutex<Router>>,
}

impl Node {
    async fn start(place: &Arc<Place>) -> Arc<Self> {
        let router = Arc::new(Mutex::new(app(place.layer())));
        let current = Arc::clone(&router);
        let door = Router::new().fallback(move |request: Request<Body>| {
            let router = current.lock().unwrap().clone();
            async move { router.oneshot(request).await.unwrap() }
        });
        let url = format!("http://{}", serve(door).await);
        Arc::new(Self { place: Arc::clone(place), url, router })
    }

    fn restart(&self) {
        *self.router.lock().unwrap() = app(self.place.layer());
    }

    async fn get(&self, client: &reqwest::Client, target: &str, header: Option<(&str, &str)>) -> (StatusCode, Value) {
        let mut request = client.get(format!("{}{target}", self.url));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn asks(&self, access_token: &str) -> StatusCode {
        self.get(&reqwest::Client::new(), "/access/health", Some(("ACCESS-TOKEN", access_token))).await.0
    }
}

/// Clients that log in, use what they got on every node, and renew it, until they are told to stop. Every answer has
/// to be 200.
struct Traffic {
    stop: Arc<AtomicBool>,
    /// How often each client went round.
    rounds: Arc<[AtomicU64]>,
    clients: JoinSet<()>,
}

impl Traffic {
    fn start(nodes: &[Arc<Node>], count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let mut clients = JoinSet::new();
        for number in 0..count {
            clients.spawn(client(number, nodes.to_vec(), Arc::clone(&stop), Arc::clone(&rounds)));
        }
        Self { stop, rounds, clients }
    }

    /// Waits until every client has gone round twice more: once at least from beginning to end.
    async fn goes_on(&mut self) {
        let before: Vec<_> = self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).collect();
        let is_behind = |rounds: &[AtomicU64]| {
            rounds.iter().zip(&before).any(|(now, before)| now.load(Ordering::Relaxed) < before + 2)
        };
        while is_behind(&self.rounds) {
            if let Some(ended) = self.clients.try_join_next() {
                ended.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).sum()
    }
}

async fn client(number: usize, nodes: Vec<Arc<Node>>, stop: Arc<AtomicBool>, rounds: Arc<[AtomicU64]>) {
    let (mut pair, mut turn, http) = (None, number, reqwest::Client::new());
    while !stop.load(Ordering::Relaxed) {
        let node = &nodes[turn % nodes.len()];
        // Some log in anew now and then, others renew for ever.
        let renewed = match pair.take().filter(|_| number.is_multiple_of(2) || !turn.is_multiple_of(5)) {
            Some(refresh) => node.get(&http, &format!("/auth/token/refresh?refresh_token={refresh}"), None).await,
            None => {
                let target = format!("/auth/token/new?client_id=c{number}");
                node.get(&http, &target, Some(("MASTER-TOKEN", MASTER))).await
            }
        };
        assert_eq!(renewed.0, StatusCode::OK, "client {number}, turn {turn}: {:?}", renewed.1);
        let token = |name: &str| renewed.1["data"][name].as_str().unwrap().to_owned();
        let (access, refresh) = (token("access_token"), token("refresh_token"));
        for node in &nodes {
            let (status, body) = node.get(&http, "/access/health", Some(("ACCESS-TOKEN", access.as_str()))).await;
            assert_eq!(status, StatusCode::OK, "client {number}, turn {turn}: {body:?}");
        }
        pair = Some(refresh);
        turn += 1;
        rounds[number].fetch_add(1, Ordering::Relaxed);
    }
}

async fn live_of(issuer: &TokenIssuer, kid: &str) -> usize {
    let filter = SessionFilter { kid: Some(kid.to_owned()), ..SessionFilter::default() };
    issuer.list(&filter).await.unwrap().sessions.len()
}

/// Two nodes on one file. The key is changed while both work; then they are restarted, one after the other, and the
/// time comes at which the new key signs. Nobody is refused anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_refuses_nobody() {
    let place = Arc::new(Place::new(&json!({})));
    let nodes = [Node::start(&place).await, Node::start(&place).await];
    let mut traffic = Traffic::start(&nodes, 4);
    traffic.goes_on().await;

    let from = SystemTime::now() + Duration::from_secs(3);
    let old = place.rotate(Some(UNIX_EPOCH + Duration::from_secs(from.duration_since(UNIX_EPOCH).unwrap().as_secs())));
    let new = place.kids()[0].clone();
    traffic.goes_on().await;
    nodes[0].restart();
    traffic.goes_on().await;
    let issuer = place.layer().issuer();
    nodes[1].restart();
    if SystemTime::now() < from - Duration::from_secs(1) {
        assert_eq!(live_of(&issuer, &new).await, 0, "it was not to sign yet");
    }
    // Everybody renews within a round, so that soon every pair is of the new key.
    while live_of(&issuer, &old).await > 0 {
        traffic.goes_on().await;
    }
    assert!(live_of(&issuer, &new).await >= 4);
    place.retire(&old);
    nodes.iter().for_each(|node| node.restart());
    traffic.goes_on().await;
    assert!(traffic.end().await > 40);
}

/// What goes wrong without the time in between: the traffic of these tests notices it.
#[tokio::test]
async fn a_node_that_was_not_told_refuses_the_new_key() {
    let place = Arc::new(Place::new(&json!({})));
    let nodes = [Node::start(&place).await, Node::start(&place).await];
    place.rotate(None);
    nodes[0].restart();
    let issued = place.layer().issuer().issue("c").await.unwrap().tokens.access_token;
    assert_eq!(nodes[0].asks(issued.expose()).await, StatusCode::OK);
    assert_eq!(nodes[1].asks(issued.expose()).await, StatusCode::UNAUTHORIZED);
}

/// python-jose names no key in its header; the token is held in the store as `fastauth-api` puts it there.
#[tokio::test]
async fn tokens_without_a_kid_are_good_until_their_key_is_withdrawn() {
    let (key, now) = ("the key of the original, forty characters", unix_now());
    let claims = |kind: &str| json!({ "client_id": "py", "type": kind, "exp": now + 600 });
    let (access, refresh) = (jose(&claims("access"), key), jose(&claims("refresh"), key));
    let store = fastauth::store::MemoryStore::new();
    let entry = |token: &str| fastauth::store::TokenEntry {
        text: token.into(),
        digest: fastauth::store::TokenDigest::of(token),
        expires_at: 0,
    };
    let record = fastauth::store::TokenRecord {
        client_id: "py".to_owned(),
        session: String::new(),
        generation: 0,
        kid: String::new(),
        access: entry(&access),
        refresh: entry(&refresh),
    };
    store.save(&record, fastauth::store::SaveOptions::default()).await.unwrap();
    let layer = |previous: &[&str]| {
        let settings = Settings::builder().cryptography_key("the key after that one, in forty letters");
        let settings = settings.previous_cryptography_keys(previous.iter().copied()).access_token_paths(["/access"]);
        FastAuthLayer::new(settings.store(store.clone()).build().unwrap()).unwrap()
    };
    let asks = async |layer: FastAuthLayer, token: &str| {
        send(&app(layer), get_request("/access/health", &[("ACCESS-TOKEN", token)])).await.status()
    };
    let others = "another one before, of forty characters.";
    assert_eq!(asks(layer(&[others, key]), &access).await, StatusCode::OK);
    assert_eq!(asks(layer(&[others]), &access).await, StatusCode::UNAUTHORIZED, "withdrawn");
    let with = layer(&[key]);
    let renewed = with.issuer().refresh(&refresh).await.unwrap().tokens.access_token;
    assert_eq!(asks(layer(&[]), renewed.expose()).await, StatusCode::OK, "the new key signed it");
    assert_eq!(asks(with, &access).await, StatusCode::UNAUTHORIZED, "it was renewed");
}

/// As python-jose writes it.
fn jose(claims: &Value, key: &str) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key.as_bytes()).unwrap())
        .unwrap()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A key that leaked is taken out at once: what it signed is refused, what the new one signs is not.
#[tokio::test]
async fn a_withdrawn_key_opens_nothing() {
    let place = Place::new(&json!({}));
    let before = place.layer().issuer().issue("c").await.unwrap().tokens;
    let old = place.rotate(None);
    place.retire(&old);
    let node = app(place.layer());
    let asks =
        async |token: &str| send(&node, get_request("/access/health", &[("ACCESS-TOKEN", token)])).await.status();
    assert_eq!(asks(before.access_token.expose()).await, StatusCode::UNAUTHORIZED);
    assert!(place.layer().issuer().refresh(before.refresh_token.expose()).await.is_err());
    let after = place.layer().issuer().issue("c").await.unwrap().tokens;
    assert_eq!(asks(after.access_token.expose()).await, StatusCode::OK);
}

/// The bytes of all files that a database has.
fn bytes(database: &Path) -> Vec<u8> {
    let files = ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", database.display())));
    files.iter().filter(|file| file.exists()).flat_map(|file| fs::read(file).unwrap()).collect()
}

fn holds(database: &Path, text: &str) -> bool {
    bytes(database).windows(text.len()).any(|window| window == text.as_bytes())
}

/// Every token begins with this header, in each node's own encoding of it.
fn has_plain_tokens(database: &Path) -> bool {
    holds(database, "eyJhbGciOi")
}

#[cfg(unix)]
fn assert_private(database: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for end in ["", "-wal", "-shm"] {
        let path = format!("{}{end}", database.display());
        if let Ok(metadata) = fs::metadata(&path) {
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{path}");
        }
    }
}

/// To Fernet and back, while two nodes and their clients go on. The nodes are told of the new form, one after the other,
/// and then the rows are converted by somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversion_under_way_refuses_nobody() {
    let place = Arc::new(Place::new(&json!({})));
    let issuer = place.layer().issuer();
    let mut idle = Vec::new();
    for number in 0..250 {
        idle.push(issuer.issue(&format!("idle {number}")).await.unwrap().tokens);
    }
    // One of a client that is revoked, and some that were replaced: they leave traces in the file.
    issuer.revoke(&fastauth::store::Revocation::Client("idle 7".to_owned())).await.unwrap();
    idle.remove(7);
    let nodes = [Node::start(&place).await, Node::start(&place).await];
    let mut traffic = Traffic::start(&nodes, 4);
    traffic.goes_on().await;
    assert!(has_plain_tokens(&place.database()));

    let store = SqliteStore::open(place.database()).unwrap();
    for (format, name) in
        [(StoreFormat::Fernet, "fernet"), (StoreFormat::Plain, "plain"), (StoreFormat::Fernet, "fernet")]
    {
        place.configure(&json!({ "store-format": name }));
        for node in &nodes {
            node.restart();
            traffic.goes_on().await;
        }
        let versions = versions(&store).await;
        let mut seen = 0;
        let settings = place.settings();
        let done = store.convert(settings.keys(), format, |so_far| seen = seen.max(so_far.rows)).await.unwrap();
        assert!(done.converted >= 249 && done.rows >= 253 && seen >= done.rows, "{done:?}");
        assert_eq!((done.remaining, done.unopened), (0, 0), "{done:?}");
        if format == StoreFormat::Fernet {
            store.compact().unwrap();
            assert!(!has_plain_tokens(&place.database()));
        }
        #[cfg(unix)]
        assert_private(&place.database());
        traffic.goes_on().await;
        assert_eq!(self::versions(&store).await, versions, "the tokens are the same, and so are their versions");
        let again = store.convert(settings.keys(), format, |_| ()).await.unwrap();
        assert_eq!((again.converted, again.remaining), (0, 0));
    }
    assert!(traffic.end().await > 40);
    for tokens in idle {
        assert_eq!(nodes[0].asks(tokens.access_token.expose()).await, StatusCode::OK);
        assert!(issuer.refresh(tokens.refresh_token.expose()).await.is_ok());
    }
}

/// Of the idle clients, which nobody else writes to.
async fn versions(store: &SqliteStore) -> Vec<(String, u64)> {
    let filter = SessionFilter { client_id_prefix: Some("idle ".to_owned()), ..SessionFilter::default() };
    let sessions = store.list(&filter).await.unwrap().sessions;
    sessions.into_iter().map(|entry| (entry.client_id, entry.version)).collect()
}

/// What is encrypted by an earlier key is encrypted by the one that signs, so that the earlier one is not needed to open it.
#[tokio::test]
async fn a_conversion_lets_go_of_earlier_keys() {
    let place = Place::new(&json!({ "store-format": "fernet" }));
    let issued = place.layer().issuer().issue("c").await.unwrap().tokens;
    place.layer().issuer().refresh(issued.refresh_token.expose()).await.unwrap();
    let old = place.rotate(None);
    let store = SqliteStore::open(place.database()).unwrap();
    let done = store.convert(place.settings().keys(), StoreFormat::Fernet, |_| ()).await.unwrap();
    assert_eq!((done.rows, done.converted, done.unopened), (1, 1, 0));
    // The answer to the refresh was lost: the same pair is opened with the new key alone, and its signature is the old one's.
    let repeated = place.layer().issuer().refresh(issued.refresh_token.expose()).await;
    assert!(repeated.is_ok(), "{repeated:?}");
    let pair = store.pair("c").await.unwrap().unwrap();
    place.retire(&old);
    let settings = place.settings();
    let kid = &settings.keys().list()[0].kid;
    assert!(
        !settings.keys().may_have_signed(kid, &pair.access_token.unwrap()),
        "it is opened, and signed by the other"
    );
    let again = store.convert(settings.keys(), StoreFormat::Fernet, |_| ()).await.unwrap();
    assert_eq!((again.converted, again.unopened), (0, 0));
}

/// One that is stopped is as good as one that has not come to the rest yet, and the next one goes on from there.
#[tokio::test]
async fn a_conversion_can_be_stopped_and_run_again() {
    let place = Place::new(&json!({}));
    let issuer = place.layer().issuer();
    let mut issued = Vec::new();
    for number in 0..250 {
        issued.push(issuer.issue(&format!("c{number}")).await.unwrap().tokens);
    }
    let store = SqliteStore::open(place.database()).unwrap();
    let (settings, some) = (place.settings(), tokio::sync::Notify::new());
    let mut counts = Vec::new();
    tokio::select! {
        biased;
        () = some.notified() => {}
        _ = store.convert(settings.keys(), StoreFormat::Fernet, |so_far| {
            counts.push(so_far.converted);
            some.notify_one();
        }) => panic!("it was to be stopped"),
    }
    assert!(counts[0] > 0, "{counts:?}");
    for tokens in &issued {
        assert!(is_active(&issuer, tokens.access_token.expose()).await);
    }
    let rest = store.convert(settings.keys(), StoreFormat::Fernet, |_| ()).await.unwrap();
    assert!(rest.rows == 250 && rest.converted > 0 && rest.converted <= 250 - counts[0], "{rest:?}, {counts:?}");
    store.compact().unwrap();
    assert!(!has_plain_tokens(&place.database()));
    for tokens in &issued {
        assert!(is_active(&issuer, tokens.access_token.expose()).await);
    }
}

async fn is_active(issuer: &TokenIssuer, token: &str) -> bool {
    matches!(issuer.introspect(token).await.unwrap(), fastauth::Introspection::Active { .. })
}

/// A reader that is still on an old state of the file, and writers with their own checkpoints, are waited for.
#[tokio::test]
async fn a_compaction_waits_for_readers() {
    let place = Place::new(&json!({}));
    place.layer().issuer().issue("c").await.unwrap();
    let reader = rusqlite::Connection::open(place.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM token").unwrap();
    let store = Arc::new(SqliteStore::open(place.database()).unwrap());
    let settings = place.settings();
    store.convert(settings.keys(), StoreFormat::Fernet, |_| ()).await.unwrap();
    let other = rusqlite::Connection::open(place.database()).unwrap();
    let schema = || other.pragma_query_value(None, "schema_version", |row| row.get::<_, u32>(0)).unwrap();
    let before = schema();
    let compacting = std::thread::spawn({
        let store = Arc::clone(&store);
        move || store.compact()
    });
    // The file is written anew, and it cannot be over while the reader is there: plain tokens are in its state of the file.
    while schema() == before {
        std::thread::yield_now();
    }
    assert!(!compacting.is_finished() && has_plain_tokens(&place.database()));
    drop(reader);
    compacting.join().unwrap().unwrap();
    assert!(!has_plain_tokens(&place.database()));
    assert_eq!(fs::metadata(format!("{}-wal", place.database().display())).unwrap().len(), 0);
}

/// What no key opens is counted and left.
#[tokio::test]
async fn what_cannot_be_opened_is_left() {
    let place = Place::new(&json!({ "store-format": "fernet" }));
    place.layer().issuer().issue("foreign").await.unwrap();
    let old = place.rotate(None);
    place.retire(&old);
    place.layer().issuer().issue("own").await.unwrap();
    let store = SqliteStore::open(place.database()).unwrap();
    let before = store.pair("foreign").await.unwrap();
    let done = store.convert(place.settings().keys(), StoreFormat::Plain, |_| ()).await.unwrap();
    assert_eq!((done.rows, done.converted, done.unopened), (2, 1, 1));
    assert_eq!(store.pair("foreign").await.unwrap(), before);
    let plain = Settings::builder().cryptography_key("no Fernet key, but long enough for HS256");
    let plain = plain.access_token_paths(["/"]).store(fastauth::store::MemoryStore::new()).build().unwrap();
    assert!(store.convert(plain.keys(), StoreFormat::Fernet, |_| ()).await.is_err());
}

/// Each named master token opens, until it is withdrawn; what is logged and told is the name.
#[tokio::test]
async fn named_master_tokens_are_told_apart_and_withdrawn() {
    let (ops, ci) = ("the token of the operators", "the token of the pipeline, hush");
    let router = |tokens: &[(&str, &str)]| {
        let settings = Settings::builder()
            .cryptography_key(fastauth::Secret::generate())
            .master_token(MASTER)
            .master_tokens(tokens.iter().copied())
            .master_token_paths(["/master"])
            .store(fastauth::store::MemoryStore::new());
        let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
        Router::new()
            .route(
                "/master/name",
                axum::routing::get(|permit: Permit| async move {
                    assert!(permit.passed_master_token() && !format!("{permit:?}").contains("hush"));
                    axum::Json(json!(permit.master_token_name()))
                }),
            )
            .layer(layer)
    };
    let asks = async |app: &Router, token: &str| {
        let response = send(app, get_request("/master/name", &[("MASTER-TOKEN", token)])).await;
        (response.status(), body(response).await)
    };
    log::capture();
    let all = router(&[("ops", ops), ("ci", ci)]);
    for (token, name) in [(MASTER, "master-token"), (ops, "ops"), (ci, "ci")] {
        assert_eq!(asks(&all, token).await, (StatusCode::OK, json!(name)));
    }
    let fewer = router(&[("ops", ops)]);
    assert_eq!(asks(&fewer, ops).await.0, StatusCode::OK);
    assert_eq!(asks(&fewer, ci).await.0, StatusCode::UNAUTHORIZED);
    let log = log::captured();
    for name in [r#"master_token="master-token""#, r#"master_token="ops""#, r#"master_token="ci""#] {
        assert!(log.contains(name), "{name}: {log}");
    }
    for token in [MASTER, ops, ci] {
        assert!(!log.contains(token), "{log}");
    }
}
