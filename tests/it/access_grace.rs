//! `access-grace`: the access token that a refresh has replaced is accepted for a moment, and never after a revocation.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastauth::{
    EndReason, FastAuthLayer, Introspection, IssueErrorKind, IssuedTokens, SettingsBuilder,
    config::TokensPerClient,
    store::{Revocation, SaveOptions, SqliteStore, TokenDigest, TokenEntry, TokenStore},
    test_util::ManualClock,
};
use futures_util::{StreamExt, future::join_all};
use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::{collection::vec, prelude::*};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    app::{KEY, app, body, get_request, send, settings},
    permit::access,
    support::{
        log,
        stores::{self, StoreServer, record, session_of, with_clock},
    },
    ticket::{redeem, refused, start, text, ticket},
};

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);
/// Longer than anything takes that is to come at once.
const SOON: Duration = Duration::from_secs(2);

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn node(store: Arc<dyn TokenStore>, clock: &ManualClock, grace: Duration) -> FastAuthLayer {
    layer(settings().store(store).clock(clock).access_grace(grace))
}

/// The status of a request with this access token.
async fn status(layer: &FastAuthLayer, token: &str) -> u16 {
    let request = get_request("/access/health", &[("access-token", token)]);
    send(&app(layer.clone()), request).await.status().as_u16()
}

fn access_of(issued: &IssuedTokens) -> &str {
    issued.tokens.access_token.expose()
}

/// Issues a pair and refreshes it.
async fn refreshed(layer: &FastAuthLayer) -> (IssuedTokens, IssuedTokens) {
    let old = layer.issuer().issue("alice").await.unwrap();
    let new = layer.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
    (old, new)
}

/// Waits until a token is refused: another process may know of a change some milliseconds later.
async fn until_refused(layer: &FastAuthLayer, token: &str) {
    let began = Instant::now();
    while status(layer, token).await != 401 {
        assert!(began.elapsed() < SOON, "it is still accepted");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn replaced_token_is_accepted_until_its_grace_ends() {
    let clock = ManualClock::new();
    for cache in [true, false] {
        for (kind, fixture) in with_clock(&clock).await {
            let settings = settings().store(Arc::clone(&fixture.store)).clock(&clock).access_grace(GRACE);
            let layer = layer(settings.cache(cache));
            let old = layer.issuer().issue("alice").await.unwrap();
            assert_eq!(status(&layer, access_of(&old)).await, 200, "{kind}");
            let new = layer.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
            for _ in 0..3 {
                assert_eq!(status(&layer, access_of(&old)).await, 200, "{kind}");
            }
            clock.advance(GRACE - SECOND);
            for _ in 0..3 {
                assert_eq!(status(&layer, access_of(&old)).await, 200, "{kind}");
            }
            clock.advance(SECOND);
            for _ in 0..3 {
                let request = get_request("/access/health", &[("access-token", access_of(&old))]);
                let response = send(&app(layer.clone()), request).await;
                assert_eq!(response.status(), 401, "{kind}");
                assert!(!body(response).await.is_null());
            }
            assert_eq!(status(&layer, access_of(&new)).await, 200, "{kind}");
        }
    }
}

#[tokio::test]
async fn replaced_token_is_refused_at_once_without_a_grace() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = layer(settings().store(Arc::clone(&fixture.store)).clock(&clock));
        let (old, new) = refreshed(&layer).await;
        assert_eq!(
            (status(&layer, access_of(&old)).await, status(&layer, access_of(&new)).await),
            (401, 200),
            "{kind}"
        );
    }
}

/// A node never accepts a token for longer than its own configuration says, whichever node has refreshed it.
#[tokio::test]
async fn each_node_goes_by_its_own_setting() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let [none, short, long] =
            [Duration::ZERO, 2 * SECOND, GRACE].map(|grace| node(Arc::clone(&fixture.store), &clock, grace));
        let (old, _) = refreshed(&none).await;
        for (after, expected) in [(0, [401, 200, 200]), (2, [401, 401, 200]), (8, [401, 401, 401])] {
            clock.advance(after * SECOND);
            let mut found = Vec::new();
            for layer in [&none, &short, &long] {
                found.push(status(layer, access_of(&old)).await);
            }
            assert_eq!(found, expected, "{kind} after {after} more seconds");
        }
    }
}

#[tokio::test]
async fn grace_does_not_outlast_the_token() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let settings = settings().store(Arc::clone(&fixture.store)).clock(&clock).access_ttl(5 * SECOND);
        let layer = layer(settings.access_grace(60 * SECOND));
        let (old, _) = refreshed(&layer).await;
        let permit = access(&layer, access_of(&old)).await;
        clock.advance(4 * SECOND);
        assert_eq!(status(&layer, access_of(&old)).await, 200, "{kind}");
        clock.advance(2 * SECOND);
        assert_eq!(status(&layer, access_of(&old)).await, 401, "{kind}");
        assert_eq!(timeout(SOON, permit.ended()).await.unwrap(), EndReason::Expired, "{kind}");
    }
}

#[tokio::test]
async fn second_refresh_ends_the_grace_of_the_first_token() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = node(Arc::clone(&fixture.store), &clock, GRACE);
        let (first, second) = refreshed(&layer).await;
        assert_eq!(status(&layer, access_of(&first)).await, 200, "{kind}");
        let third = layer.issuer().refresh(second.tokens.refresh_token.expose()).await.unwrap();
        for (issued, expected) in [(&first, 401), (&second, 200), (&third, 200)] {
            assert_eq!(status(&layer, access_of(issued)).await, expected, "{kind}");
        }
    }
}

/// The first answer may be lost, and the same pair returned again and again.
#[tokio::test]
async fn repeated_refresh_does_not_prolong_the_grace() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = node(Arc::clone(&fixture.store), &clock, GRACE);
        let (old, new) = refreshed(&layer).await;
        for _ in 0..2 {
            clock.advance(GRACE / 2 - Duration::from_millis(500));
            let again = layer.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
            assert_eq!(access_of(&again), access_of(&new), "{kind}");
            assert_eq!(status(&layer, access_of(&old)).await, 200, "{kind}");
        }
        clock.advance(SECOND);
        assert_eq!(status(&layer, access_of(&old)).await, 401, "{kind}");
    }
}

/// Two nodes on one store, and what that needs as long as they run.
struct TwoNodes {
    kind: &'static str,
    nodes: [FastAuthLayer; 2],
    _directory: TempDir,
    _server: Option<StoreServer>,
}

/// Two processes with one SQLite file, and two behind one store service.
async fn two_nodes(clock: &ManualClock, settings: fn() -> SettingsBuilder) -> [TwoNodes; 2] {
    let on = |store: Arc<dyn TokenStore>| {
        layer(settings().store(store).clock(clock).access_grace(GRACE).tokens_per_client(TokensPerClient::Many))
    };
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = |directory: &TempDir| -> Arc<dyn TokenStore> {
        Arc::new(SqliteStore::open_with_clock(directory.path().join("tokens.db"), clock).unwrap())
    };
    let server = StoreServer::start(open(&directories[1]), None).await;
    let shared = [on(open(&directories[0])), on(open(&directories[0]))];
    let remote = [on(Arc::new(server.client())), on(Arc::new(server.client()))];
    let [one, other] = directories;
    [
        TwoNodes { kind: "sqlite", nodes: shared, _directory: one, _server: None },
        TwoNodes { kind: "rest", nodes: remote, _directory: other, _server: Some(server) },
    ]
}

#[tokio::test]
async fn revocation_ends_the_grace_on_every_node() {
    let clock = ManualClock::new();
    for TwoNodes { kind, nodes: [one, other], .. } in &two_nodes(&clock, settings).await {
        for event in ["access token", "new access token", "session", "client", "all", "reuse"] {
            // Another session, which is looked up in place of a revoked one.
            if event == "session" || event == "reuse" {
                refreshed(one).await;
            }
            let (old, new) = refreshed(one).await;
            for _ in 0..3 {
                let found = (status(one, access_of(&old)).await, status(other, access_of(&old)).await);
                assert_eq!(found, (200, 200), "{kind}, {event}");
            }
            match event {
                "access token" => assert!(one.issuer().revoke_token(access_of(&old)).await.unwrap(), "{kind}"),
                "new access token" => assert!(one.issuer().revoke_token(access_of(&new)).await.unwrap(), "{kind}"),
                "session" => _ = one.issuer().revoke(&session_of("alice", &old.session)).await.unwrap(),
                "client" => _ = one.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap(),
                "all" => _ = one.issuer().revoke(&Revocation::All).await.unwrap(),
                _ => {
                    let third = one.issuer().refresh(new.tokens.refresh_token.expose()).await.unwrap();
                    assert_eq!(status(other, access_of(&new)).await, 200, "{kind}");
                    assert!(one.issuer().refresh(old.tokens.refresh_token.expose()).await.is_err());
                    assert_eq!(status(one, access_of(&third)).await, 401, "{kind}");
                }
            }
            for token in [access_of(&old), access_of(&new)] {
                assert_eq!(status(one, token).await, 401, "{kind}, {event}: the node that did it");
                until_refused(other, token).await;
            }
        }
    }
}

#[tokio::test]
async fn refresh_on_one_node_begins_the_grace_on_the_other() {
    let clock = ManualClock::new();
    for TwoNodes { kind, nodes: [one, other], .. } in &two_nodes(&clock, settings).await {
        let old = one.issuer().issue("alice").await.unwrap();
        assert_eq!(status(other, access_of(&old)).await, 200, "{kind}");
        one.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
        clock.advance(GRACE - SECOND);
        assert_eq!(status(other, access_of(&old)).await, 200, "{kind}");
        clock.advance(SECOND);
        until_refused(other, access_of(&old)).await;
        assert_eq!(status(one, access_of(&old)).await, 401, "{kind}");
    }
}

/// An answer may be cached for a time, and the grace of a token must end no later for that.
#[tokio::test]
async fn cached_answer_of_a_rest_store_ends_with_the_grace() {
    let clock = ManualClock::new();
    let ttl = || settings().cache_ttl(60 * SECOND);
    for TwoNodes { kind, nodes: [one, _], .. } in &two_nodes(&clock, ttl).await {
        let (old, _) = refreshed(one).await;
        assert_eq!(status(one, access_of(&old)).await, 200, "{kind}");
        clock.advance(GRACE - SECOND);
        assert_eq!(status(one, access_of(&old)).await, 200, "{kind}");
        clock.advance(SECOND);
        until_refused(one, access_of(&old)).await;
    }
}

/// As one of `fastauth-api`, whose refresh begins a session.
#[tokio::test]
async fn replaced_token_without_a_session_revokes_the_one_that_it_began() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = node(Arc::clone(&fixture.store), &clock, GRACE);
        let [access, refresh] = ["access", "refresh"].map(|token_type| {
            let claims = json!({ "client_id": "alice", "type": token_type, "exp": 4_000_000_000_u64 });
            encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes()).unwrap()).unwrap()
        });
        let entry = |token: &str| TokenEntry { text: token.into(), digest: TokenDigest::of(token), expires_at: 0 };
        let mut record = record("alice", "", 0, 1);
        (record.access, record.refresh) = (entry(&access), entry(&refresh));
        fixture.store.save(&record, SaveOptions::default()).await.unwrap();
        let new = layer.issuer().refresh(&refresh).await.unwrap();
        assert_eq!((status(&layer, &access).await, status(&layer, access_of(&new)).await), (200, 200), "{kind}");
        assert!(layer.issuer().revoke_token(&access).await.unwrap(), "{kind}");
        assert_eq!((status(&layer, &access).await, status(&layer, access_of(&new)).await), (401, 401), "{kind}");
    }
}

#[tokio::test]
async fn introspection_shows_the_end_of_the_grace() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = node(Arc::clone(&fixture.store), &clock, GRACE);
        let (old, new) = refreshed(&layer).await;
        let now = clock.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let issuer = layer.issuer();
        let Introspection::Active { claims, expires_at } = issuer.introspect(access_of(&old)).await.unwrap() else {
            panic!("{kind}: it is accepted")
        };
        assert!((now + 8..=now + 10).contains(&expires_at) && claims.expires_at() > expires_at, "{kind}: {expires_at}");
        let Introspection::Active { claims, expires_at } = issuer.introspect(access_of(&new)).await.unwrap() else {
            panic!("{kind}: it is accepted")
        };
        assert_eq!(claims.expires_at(), expires_at, "{kind}");
        // A used refresh token has no such grace.
        for (wait, token) in [(0, old.tokens.refresh_token.expose()), (10, access_of(&old))] {
            clock.advance(wait * SECOND);
            assert!(matches!(issuer.introspect(token).await.unwrap(), Introspection::Inactive), "{kind}");
        }
    }
}

#[tokio::test]
async fn permit_of_a_replaced_token_ends_with_its_grace() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let settings = settings().store(Arc::clone(&fixture.store)).clock(&clock).access_grace(GRACE);
        let layer = layer(settings.websocket_recheck(Duration::from_millis(100)));
        let old = layer.issuer().issue("alice").await.unwrap();
        let before = access(&layer, access_of(&old)).await;
        let mut ended = before.ended();
        assert!(timeout(Duration::from_millis(20), &mut ended).await.is_err(), "{kind}");
        let new = layer.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
        let current = access(&layer, access_of(&new)).await;
        let mut current_ended = current.ended();
        // A client that reopens in between loses nothing.
        let within = access(&layer, access_of(&old)).await;
        let mut within_ended = within.ended();
        let now = clock.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((now + 8..=now + 10).contains(&within.expires_at().unwrap()), "{kind}");
        clock.advance(GRACE - SECOND);
        let wait = async { tokio::join!(&mut ended, &mut within_ended) };
        assert!(timeout(Duration::from_millis(300), wait).await.is_err(), "{kind}");
        clock.advance(SECOND);
        let reasons = timeout(SOON, async { tokio::join!(ended, within_ended) }).await.unwrap();
        assert_eq!(reasons, (EndReason::Superseded, EndReason::Superseded), "{kind}");
        assert!(timeout(Duration::from_millis(150), &mut current_ended).await.is_err(), "{kind}: the current one");
    }
}

#[tokio::test]
async fn revocation_ends_permits_in_their_grace() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        for (event, expected) in [("revoke", EndReason::Revoked), ("refresh", EndReason::Superseded)] {
            let settings = settings().store(Arc::clone(&fixture.store)).clock(&clock).access_grace(GRACE);
            let layer = layer(settings.websocket_recheck(Duration::from_millis(100)));
            let old = layer.issuer().issue("alice").await.unwrap();
            let before = access(&layer, access_of(&old)).await;
            let mut ended = before.ended();
            assert!(timeout(Duration::from_millis(20), &mut ended).await.is_err(), "{kind}");
            let new = layer.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
            let mut within_ended = access(&layer, access_of(&old)).await.ended();
            let wait = async { tokio::join!(&mut ended, &mut within_ended) };
            assert!(timeout(Duration::from_millis(200), wait).await.is_err(), "{kind}");
            match event {
                "revoke" => assert!(layer.issuer().revoke_token(access_of(&old)).await.unwrap()),
                _ => _ = layer.issuer().refresh(new.tokens.refresh_token.expose()).await.unwrap(),
            }
            let reasons = timeout(SOON, async { tokio::join!(ended, within_ended) }).await.unwrap();
            assert_eq!(reasons, (expected, expected), "{kind}, {event}");
        }
    }
}

#[tokio::test]
async fn ticket_of_a_replaced_token_opens_a_socket_within_the_grace() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let settings = settings().store(Arc::clone(&fixture.store)).clock(&clock).access_grace(GRACE);
        let layer = layer(settings.websocket_recheck(Duration::from_millis(100)));
        let server = start(layer.clone()).await;
        let old = layer.issuer().issue("alice").await.unwrap();
        let before = [ticket(&server, access_of(&old)).await, ticket(&server, access_of(&old)).await];
        let new = layer.issuer().refresh(old.tokens.refresh_token.expose()).await.unwrap();
        let within = [ticket(&server, access_of(&old)).await, ticket(&server, access_of(&old)).await];
        clock.advance(GRACE - SECOND);
        for ticket in [&before[0], &within[0]] {
            let (mut socket, _) = redeem(&server, ticket).await.unwrap();
            assert!(text(&mut socket).await.starts_with("alice"), "{kind}");
            assert_eq!(refused(redeem(&server, ticket).await).0, 401, "{kind}: it was used");
            // It ends with the grace, and not with the token that has replaced its own.
            assert!(timeout(Duration::from_millis(50), socket.next()).await.is_err(), "{kind}");
            let mut held = Some(socket);
            if ticket == &within[0] {
                clock.advance(SECOND);
                let closed = timeout(SOON, held.take().unwrap().next()).await.unwrap().unwrap().unwrap();
                assert!(closed.to_string().contains("the access token was replaced"), "{kind}: {closed}");
            }
        }
        for ticket in [&before[1], &within[1]] {
            assert_eq!(refused(redeem(&server, ticket).await).0, 401, "{kind}: the grace is over");
        }
        assert_eq!(status(&layer, access_of(&new)).await, 200, "{kind}");
    }
}

#[tokio::test]
async fn ticket_of_a_replaced_token_is_refused_after_a_revocation() {
    let clock = ManualClock::new();
    for (kind, fixture) in with_clock(&clock).await {
        let layer = node(Arc::clone(&fixture.store), &clock, GRACE);
        let server = start(layer.clone()).await;
        let (old, _) = refreshed(&layer).await;
        let ticket = ticket(&server, access_of(&old)).await;
        layer.issuer().revoke_token(access_of(&old)).await.unwrap();
        assert_eq!(refused(redeem(&server, &ticket).await).0, 401, "{kind}");
    }
}

/// Clients that share one session: each knows the pair that it has seen last, uses its access token, and refreshes at random.
async fn statuses_of_eight_clients(grace: Duration, seed: u64) -> Vec<u16> {
    let clock = ManualClock::new();
    let layer = node(stores::memory_by(&clock), &clock, grace);
    let app = app(layer.clone());
    let mut pair = layer.issuer().issue("alice").await.unwrap().tokens;
    let mut statuses = Vec::new();
    for round in 0..40_u64 {
        let clients = (0..8_u64).map(|client| {
            // Each client acts at its own moment: some use the pair before another has refreshed it, some after.
            let (app, layer, pair) = (app.clone(), layer.clone(), pair.clone());
            let refreshes = (seed ^ (round * 8 + client).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 5 & 3 == 0;
            tokio::spawn(async move {
                for _ in 0..client {
                    tokio::task::yield_now().await;
                }
                let new = match refreshes {
                    true => Some(layer.issuer().refresh(pair.refresh_token.expose()).await.unwrap().tokens),
                    false => None,
                };
                let used = new.as_ref().unwrap_or(&pair).access_token.expose();
                let request = get_request("/access/health", &[("access-token", used)]);
                (send(&app, request).await.status().as_u16(), new)
            })
        });
        for outcome in join_all(clients).await {
            let (status, new) = outcome.unwrap();
            statuses.push(status);
            pair = new.unwrap_or(pair);
        }
        clock.advance(SECOND);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_clients_that_refresh_at_random_are_never_refused() {
    for seed in 0..4 {
        let statuses = statuses_of_eight_clients(GRACE, seed).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        let without = statuses_of_eight_clients(Duration::ZERO, seed).await;
        assert!(without.contains(&401), "without a grace some are refused");
    }
}

/// A store of the first version cannot keep it, which the start says.
#[tokio::test]
async fn start_warns_of_a_store_that_keeps_no_replaced_token() {
    log::capture();
    let fixture = stores::rest_v1().await;
    let layer = layer(settings().store(Arc::clone(&fixture.store)).access_grace(GRACE));
    let (old, new) = refreshed(&layer).await;
    assert_eq!((status(&layer, access_of(&old)).await, status(&layer, access_of(&new)).await), (401, 200));
    let began = Instant::now();
    let mut logged = String::new();
    while !logged.contains("`access-grace` has no effect") {
        assert!(began.elapsed() < SOON, "{logged}");
        tokio::task::yield_now().await;
        logged.push_str(&log::captured());
        log::capture();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Issue,
    /// Presents the refresh token of one of the pairs, by its place in the order of issuing from the end.
    Refresh(usize),
    /// Revokes the session of one of the pairs by its access token.
    Revoke(usize),
    RevokeSession(usize),
    RevokeClient,
    RevokeAll,
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Issue),
        8 => (0..4_usize).prop_map(Step::Refresh),
        1 => (0..6_usize).prop_map(Step::Revoke),
        1 => (0..6_usize).prop_map(Step::RevokeSession),
        1 => Just(Step::RevokeClient),
        1 => Just(Step::RevokeAll),
        4 => (1..12_u32).prop_map(Step::Wait),
    ]
}

/// A pair, and the way of its access token: current, replaced at a time, or ended.
struct Known {
    issued: IssuedTokens,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Current,
    ReplacedAt(Duration),
    Ended,
}

/// The pairs of a client, as the rules have them.
#[derive(Default)]
struct Model(Vec<Known>);

impl Model {
    fn number_from_end(&self, place: usize) -> Option<usize> {
        self.0.len().checked_sub(place + 1)
    }

    fn end(&mut self, is_ended: impl Fn(&str) -> bool) {
        let known = self.0.iter_mut().filter(|known| is_ended(&known.issued.session));
        known.for_each(|known| known.state = State::Ended);
    }

    /// Takes the outcome of presenting the refresh token of the pair number `index`.
    fn refresh(&mut self, index: usize, outcome: Result<IssuedTokens, fastauth::IssueError>, now: Duration) {
        let session = self.0[index].issued.session.clone();
        match outcome {
            Ok(issued) if self.0.iter().any(|known| access_of(&known.issued) == access_of(&issued)) => {}
            Ok(issued) => {
                for known in self.0.iter_mut().filter(|known| known.issued.session == session) {
                    known.state = match known.state {
                        State::Current => State::ReplacedAt(now),
                        _ => State::Ended,
                    };
                }
                self.0.push(Known { issued, state: State::Current });
            }
            // The only error that changes anything.
            Err(error) if matches!(error.kind(), IssueErrorKind::Reused) => self.end(|name| name == session),
            Err(_) => {}
        }
    }
}

async fn run(layer: &FastAuthLayer, clock: &ManualClock, steps: &[Step]) {
    let issuer = layer.issuer();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Issue => {
                let issued = issuer.issue("alice").await.unwrap();
                model.0.push(Known { issued, state: State::Current });
            }
            Step::Refresh(place) => {
                let Some(index) = model.number_from_end(*place) else { continue };
                let token = model.0[index].issued.tokens.refresh_token.clone();
                let outcome = issuer.refresh(token.expose()).await;
                model.refresh(index, outcome, clock.elapsed());
            }
            Step::Revoke(place) => {
                let Some(index) = model.number_from_end(*place) else { continue };
                let issued = model.0[index].issued.clone();
                issuer.revoke_token(access_of(&issued)).await.unwrap();
                model.end(|name| name == issued.session);
            }
            Step::RevokeSession(place) => {
                let Some(index) = model.number_from_end(*place) else { continue };
                let session = model.0[index].issued.session.clone();
                issuer.revoke(&session_of("alice", &session)).await.unwrap();
                model.end(|name| name == session);
            }
            Step::RevokeClient => {
                issuer.revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
                model.end(|_| true);
            }
            Step::RevokeAll => {
                issuer.revoke(&Revocation::All).await.unwrap();
                model.end(|_| true);
            }
            Step::Wait(seconds) => clock.advance(*seconds * SECOND),
        }
        for known in &model.0 {
            let is_good = match known.state {
                State::Current => true,
                State::ReplacedAt(at) => clock.elapsed() - at < GRACE,
                State::Ended => false,
            };
            let expected = if is_good { 200 } else { 401 };
            assert_eq!(status(layer, access_of(&known.issued)).await, expected, "{step:?}: {:?}", known.state);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// No order of refreshes and revocations lets a revoked token in, or one that is past its grace.
    #[test]
    fn token_is_accepted_if_it_is_current_or_in_its_grace(steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = ManualClock::new();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("tokens.db");
            let sqlite = Arc::new(SqliteStore::open_with_clock(path, &clock).unwrap());
            for store in [stores::memory_by(&clock), sqlite as Arc<dyn TokenStore>] {
                // Tokens live for days, so that only the rules here end them.
                let settings = settings().store(store).clock(&clock).access_grace(GRACE).tokens_per_client(TokensPerClient::Many);
                run(&layer(settings.refresh_grace(5 * SECOND)), &clock, &steps).await;
            }
        });
    }
}
