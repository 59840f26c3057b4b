//! A node whose store tells of its changes by a feed: what it caches, and for how long.

use std::{sync::Arc, time::Duration};

use fastauth::{
    FastAuthLayer, Secret, Settings, SettingsBuilder,
    config::CacheMode,
    store::{MemoryStore, Revocation, SessionFilter, TokenDigest, TokenStore},
    test_util::ManualClock,
};
use http::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    app::{KEY, MASTER, access_token, app, get_request, send},
    support::feed_server::{FeedServer, FeedStream},
};

/// A node, its store, and a clock that stands still until a test advances it.
struct Scene {
    store: Arc<MemoryStore>,
    server: FeedServer,
    clock: ManualClock,
    layer: FastAuthLayer,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    async fn with(set: impl FnOnce(SettingsBuilder) -> SettingsBuilder) -> Self {
        let store = Arc::new(MemoryStore::new());
        let server = FeedServer::start(Arc::clone(&store) as Arc<dyn TokenStore>).await;
        let clock = ManualClock::new();
        let settings = Settings::builder()
            .master_token(MASTER)
            .cryptography_key(KEY)
            .access_token_paths(["/access"])
            .database_api_url(server.url())
            .access_ttl(Duration::from_secs(3600))
            .clock(&clock);
        let layer = FastAuthLayer::new(set(settings).build().unwrap()).unwrap();
        Self { store, server, clock, layer }
    }

    /// A node that has a token and is told of all changes, and has cached the token.
    async fn live() -> (Self, Secret, FeedStream) {
        let mut scene = Self::new().await;
        let token = access_token(&scene.layer, "c").await;
        let stream = scene.server.live_stream().await;
        scene.is_cached(&token).await;
        (scene, token, stream)
    }

    async fn ask(&self, token: &Secret) -> StatusCode {
        // What is cached is answered without waiting, and the feed is to be read in the meantime.
        sleep(Duration::from_millis(1)).await;
        let request = get_request("/access/health", &[("access-token", token.expose())]);
        send(&app(self.layer.clone()), request).await.status()
    }

    /// Asks until the answer is this.
    async fn becomes(&self, token: &Secret, status: StatusCode) {
        let asking = async { while self.ask(token).await != status {} };
        timeout(Duration::from_secs(20), asking).await.expect("it becomes so");
    }

    /// Asks until the store is no longer asked.
    async fn is_cached(&self, token: &Secret) {
        let asking = async {
            loop {
                self.server.look_ups();
                assert_eq!(self.ask(token).await, StatusCode::OK);
                if self.server.count() == 0 {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), asking).await.expect("it is cached");
    }

    /// Asks until the store is asked.
    async fn is_asked_for(&self, token: &Secret) {
        self.server.look_ups();
        let asking = async {
            while self.server.count() == 0 {
                assert_eq!(self.ask(token).await, StatusCode::OK);
            }
        };
        timeout(Duration::from_secs(20), asking).await.expect("the store is asked");
    }

    /// Asks several times, and returns how many look-ups that took.
    async fn look_ups_of(&self, token: &Secret) -> usize {
        self.server.look_ups();
        for _ in 0..5 {
            assert_eq!(self.ask(token).await, StatusCode::OK);
        }
        self.server.look_ups().len()
    }

    async fn revoke_elsewhere(&self) {
        self.store.revoke(&Revocation::Client("c".to_owned()), None).await.unwrap();
    }
}

/// Returns a token whose signature is wrong.
fn forged(token: &Secret) -> Secret {
    let (rest, signature) = token.expose().rsplit_once('.').unwrap();
    Secret::from(format!("{rest}.{}", signature.chars().rev().collect::<String>()))
}

#[tokio::test]
async fn revocation_on_another_node_refuses_at_once() {
    let (scene, token, stream) = Scene::live().await;
    scene.revoke_elsewhere().await;
    assert_eq!(scene.look_ups_of(&token).await, 0, "nothing was told yet");
    stream.change(1, "c");
    scene.becomes(&token, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn nothing_is_cached_before_the_first_heartbeat() {
    let mut scene = Scene::new().await;
    let token = access_token(&scene.layer, "c").await;
    let stream = scene.server.stream().await;
    assert_eq!(scene.look_ups_of(&token).await, 5);
    stream.heartbeat(0, 3000);
    stream.heartbeat(0, 60_000);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(scene.look_ups_of(&token).await, 5, "the database of the store did not answer for too long");
    stream.heartbeat(0, 2000);
    scene.is_cached(&token).await;
}

#[tokio::test]
async fn silence_lets_cached_tokens_last_for_seconds() {
    let (scene, token, _stream) = Scene::live().await;
    scene.revoke_elsewhere().await;
    scene.clock.advance(Duration::from_millis(5500));
    assert_eq!(scene.look_ups_of(&token).await, 0, "of what was known when the feed was heard last");
    scene.clock.advance(Duration::from_millis(2600));
    assert_eq!(scene.ask(&token).await, StatusCode::UNAUTHORIZED, "within eight seconds of the last word");

    let token = access_token(&scene.layer, "d").await;
    scene.ask(&token).await;
    scene.clock.advance(Duration::from_millis(3900));
    assert_eq!(scene.look_ups_of(&token).await, 0, "and what was asked for since lasts for five seconds");
    scene.clock.advance(Duration::from_millis(1200));
    assert_eq!(scene.look_ups_of(&token).await, 1);
}

#[tokio::test]
async fn what_was_missed_is_told_when_the_feed_is_back() {
    let (mut scene, token, stream) = Scene::live().await;
    stream.change(7, "other");
    // Once it is known, look-ups name it.
    let seen = async {
        loop {
            scene.layer.issuer().issue("d").await.unwrap();
            let fresh = access_token(&scene.layer, "d").await;
            scene.server.look_ups();
            scene.ask(&fresh).await;
            if scene.server.look_ups().first().is_some_and(|look_up| look_up.seen.as_deref() == Some("e-7")) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), seen).await.expect("look-ups name it");
    drop(stream);
    scene.revoke_elsewhere().await;
    let stream = scene.server.stream().await;
    assert_eq!(stream.since.as_deref(), Some("e-7"));
    scene.clock.advance(Duration::from_secs(4));
    // The first heartbeat comes before what was missed.
    stream.heartbeat(7, 0);
    assert_eq!(scene.look_ups_of(&token).await, 0, "as in any silence");
    stream.change(8, "c");
    scene.becomes(&token, StatusCode::UNAUTHORIZED).await;
    let other = access_token(&scene.layer, "e").await;
    stream.heartbeat(8, 0);
    scene.is_cached(&other).await;
}

#[tokio::test]
async fn reset_has_everything_asked_for_again() {
    let (scene, token, stream) = Scene::live().await;
    for event in [
        "id: e-9\nevent: reset\ndata: {\"point\":\"e-9\"}\n\n",
        // Another epoch without a word of it.
        "id: f-1\nevent: hb\ndata: {\"point\":\"f-1\",\"db_ok_ms\":0}\n\n",
        // Changes that name nobody, or that cannot be read.
        "id: f-2\nevent: change\ndata: {\"number\":2,\"kind\":\"revoke\",\"client_id\":null}\n\n",
        "id: f-3\nevent: change\ndata: nonsense\n\n",
    ] {
        stream.say(event);
        scene.is_asked_for(&token).await;
        scene.is_cached(&token).await;
    }
    assert!(stream.say("event: later\ndata: x\n\n: comment\n\n"), "and the stream goes on");
    stream.change(4, "c");
    scene.is_asked_for(&token).await;
}

#[tokio::test]
async fn node_goes_elsewhere_when_the_server_says_so() {
    let (mut scene, token, stream) = Scene::live().await;
    stream.say("id: e-3\nevent: move\ndata: {}\n\n");
    let since = Instant::now();
    let next = scene.server.stream().await;
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    stream.is_left().await;
    next.change(5, "c");
    scene.is_asked_for(&token).await;
}

#[tokio::test]
async fn silent_stream_is_left_for_another() {
    let (mut scene, _, stream) = Scene::live().await;
    let since = Instant::now();
    let drip = async {
        // It is no heartbeat.
        while stream.say(": still here\n\n") {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let next = async { scene.server.stream().await };
    let (next, ()) = timeout(Duration::from_secs(20), futures_util::future::join(next, drip)).await.unwrap();
    assert!(since.elapsed() > Duration::from_millis(2500), "{:?}", since.elapsed());
    assert_eq!(next.since.as_deref(), Some("e-0"));
}

#[tokio::test]
async fn feed_that_says_nonsense_harms_nothing() {
    let mut scene = Scene::new().await;
    let token = access_token(&scene.layer, "c").await;
    for nonsense in ["\u{0}\n\n\n:::\nid\nevent: hb\n\nevent: hb\ndata: []\n\n", "<!DOCTYPE html>\n\n"] {
        let stream = scene.server.stream().await;
        stream.say(nonsense);
        assert_eq!(scene.look_ups_of(&token).await, 5);
    }
    let stream = scene.server.stream().await;
    stream.heartbeat(0, 0);
    scene.is_cached(&token).await;
    let line = "x".repeat(100_000);
    while stream.say(line.as_str()) {
        sleep(Duration::from_millis(1)).await;
    }
    scene.server.refuses(Some((400, "data: no\n\n")));
    assert_eq!(scene.ask(&token).await, StatusCode::OK);
    scene.server.refuses(None);
    let stream = scene.server.stream().await;
    assert_eq!(stream.since, None, "it begins anew, for the next stream would have the same event");
    stream.heartbeat(0, 0);
    scene.is_asked_for(&token).await;
}

#[tokio::test]
async fn change_that_is_told_while_the_store_is_asked_wins() {
    let (scene, token, stream) = Scene::live().await;
    stream.change(1, "c");
    scene.is_asked_for(&token).await;
    stream.change(2, "c");
    scene.server.answers(false);
    let ask = async {
        // The look-up that is held back was answered before the revocation.
        loop {
            scene.server.look_ups();
            let asking = scene.ask(&token);
            tokio::pin!(asking);
            tokio::select! {
                status = &mut asking => assert_eq!(status, StatusCode::OK),
                () = wait_for(|| scene.server.count() > 0) => {
                    scene.revoke_elsewhere().await;
                    stream.change(3, "c");
                    // Look-ups that begin now name the change.
                    sleep(Duration::from_millis(50)).await;
                    scene.server.answers(true);
                    return asking.await;
                }
            }
        }
    };
    let status = timeout(Duration::from_secs(20), ask).await.unwrap();
    assert_eq!(status, StatusCode::OK, "it was current when it was asked about");
    assert_eq!(scene.ask(&token).await, StatusCode::UNAUTHORIZED, "and was not cached");
}

async fn wait_for(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn refused_token_is_asked_about_once_in_a_while() {
    let (scene, token, stream) = Scene::live().await;
    scene.revoke_elsewhere().await;
    stream.change(1, "c");
    scene.becomes(&token, StatusCode::UNAUTHORIZED).await;
    scene.server.look_ups();
    for _ in 0..5 {
        assert_eq!(scene.ask(&token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(scene.server.count(), 0);
    stream.change(2, "c");
    let asking = async {
        while scene.server.count() == 0 {
            assert_eq!(scene.ask(&token).await, StatusCode::UNAUTHORIZED);
        }
    };
    timeout(Duration::from_secs(20), asking).await.expect("a change ends it");
}

#[tokio::test]
async fn token_without_a_good_signature_asks_nobody() {
    let (scene, token, _stream) = Scene::live().await;
    scene.server.look_ups();
    let forged = forged(&token);
    for _ in 0..5 {
        assert_eq!(scene.ask(&forged).await, StatusCode::UNAUTHORIZED);
        assert_eq!(scene.ask(&Secret::from("nonsense")).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(scene.server.count(), 0);
}

#[tokio::test]
async fn own_write_is_seen_at_once() {
    let (scene, token, _stream) = Scene::live().await;
    let next = access_token(&scene.layer, "c").await;
    assert_eq!(scene.ask(&token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(scene.ask(&next).await, StatusCode::OK);
}

#[tokio::test]
async fn cached_token_is_renewed_while_requests_go_on() {
    let (scene, token, stream) = Scene::live().await;
    scene.clock.advance(Duration::from_secs(242));
    stream.heartbeat(0, 0);
    scene.server.answers(false);
    let asking = async {
        while scene.server.count() == 0 {
            assert_eq!(scene.ask(&token).await, StatusCode::OK, "it waits for nothing");
        }
    };
    timeout(Duration::from_secs(20), asking).await.expect("the store is asked");
    assert_eq!(scene.look_ups_of(&token).await, 0, "once");
    scene.server.answers(true);
    // What was missed comes out in the end.
    scene.revoke_elsewhere().await;
    scene.clock.advance(Duration::from_secs(300));
    stream.heartbeat(0, 0);
    scene.becomes(&token, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn feed_is_left_with_the_last_clone_of_the_store() {
    let mut server = FeedServer::start(Arc::new(MemoryStore::new())).await;
    let client = server.client();
    let clone = client.clone();
    client.promises().await.unwrap();
    let stream = server.live_stream().await;
    drop(client);
    clone.load("c", None).await.unwrap();
    assert!(stream.say(":\n"));
    drop(clone);
    stream.is_left().await;
}

/// A log-in on another node.
struct Elsewhere {
    client_id: String,
    session: String,
    token: Secret,
}

impl Elsewhere {
    async fn log_in(store: &Arc<MemoryStore>, client_id: &str) -> Self {
        let settings = Settings::builder()
            .cryptography_key(KEY)
            .access_token_paths(["/access"])
            .access_ttl(Duration::from_secs(3600))
            .store(Arc::clone(store) as Arc<dyn TokenStore>);
        let token = access_token(&FastAuthLayer::new(settings.build().unwrap()).unwrap(), client_id).await;
        let filter = SessionFilter { client_id: Some(client_id.to_owned()), ..SessionFilter::default() };
        let page = store.list(&filter).await.unwrap();
        let live = page.sessions.iter().max_by_key(|entry| entry.version).unwrap();
        Self { client_id: client_id.to_owned(), session: live.session.clone(), token }
    }

    /// Its members in a snapshot or a change, with this version.
    fn members(&self, version: u64) -> String {
        let Self { client_id, session, token } = self;
        let digest = TokenDigest::of(token.expose());
        format!(
            "\"client_id\":\"{client_id}\",\"session\":\"{session}\",\"version\":{version},\"access_sha256\":\"{digest}\",\
             \"access_expires_at\":4000000000"
        )
    }
}

#[tokio::test]
async fn replica_answers_for_the_store() {
    let mut scene = Scene::with(|settings| settings.cache_mode(CacheMode::Replica)).await;
    let mut clients = Vec::new();
    for number in 0..200 {
        clients.push(Elsewhere::log_in(&scene.store, &format!("c{number}")).await);
    }
    let lines: String = clients.iter().map(|client| format!("{{{}}}\n", client.members(1))).collect();
    scene.server.has(format!("{{\"point\":\"e-0\"}}\n{lines}{{\"end\":{}}}\n", clients.len()));
    access_token(&scene.layer, "somebody").await;
    let stream = scene.server.live_stream().await;
    assert!(stream.asks_for("detail=digest"));
    // Each is asked for once, so that none is cached.
    let mut rest = clients.iter();
    let loaded = async {
        loop {
            let client = rest.next().expect("the snapshot is loaded soon");
            scene.server.look_ups();
            assert_eq!(scene.ask(&client.token).await, StatusCode::OK);
            if scene.server.count() == 0 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), loaded).await.expect("the snapshot is loaded");
    for client in rest {
        assert_eq!(scene.ask(&client.token).await, StatusCode::OK);
    }
    assert_eq!(scene.server.look_ups().len(), 0);

    // What the feed tells of the digests takes their place.
    let before = clients.pop().unwrap();
    let next = Elsewhere::log_in(&scene.store, &before.client_id).await;
    stream
        .say(format!("id: e-1\nevent: change\ndata: {{\"number\":1,\"kind\":\"replace\",{}}}\n\n", next.members(1000)));
    scene.becomes(&before.token, StatusCode::UNAUTHORIZED).await;
    scene.server.look_ups();
    assert_eq!(scene.ask(&next.token).await, StatusCode::OK);
    assert_eq!(scene.server.count(), 0);

    // Own writes count at once.
    let own = clients.pop().unwrap();
    access_token(&scene.layer, &own.client_id).await;
    assert_eq!(scene.ask(&own.token).await, StatusCode::UNAUTHORIZED);

    // Nothing is taken from it while the feed is silent.
    scene.clock.advance(Duration::from_secs(9));
    scene.server.look_ups();
    assert_eq!(scene.ask(&clients[150].token).await, StatusCode::OK);
    assert_eq!(scene.server.count(), 1);
}
