//! Refreshing as clients see it: over real sockets, from two servers on one SQLite file.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use fastauth::{
    FastAuthLayer, Introspection,
    config::StoreFormat,
    store::{SqliteStore, TokenStore},
};
use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    app::{app, serve, settings},
    support::stores,
};

const RIVALS: usize = 200;

/// Two servers, as two processes would be: they share the file and the key.
struct Servers {
    directory: TempDir,
    layers: [FastAuthLayer; 2],
    addresses: [SocketAddr; 2],
    client: reqwest::Client,
}

/// Access and refresh token.
type Pair = (String, String);

impl Servers {
    async fn start(grace: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layers = [(); 2].map(|()| {
            let store = SqliteStore::open(directory.path().join("tokens.db")).unwrap();
            FastAuthLayer::new(settings().store(store).refresh_grace(grace).build().unwrap()).unwrap()
        });
        let addresses = [serve(app(layers[0].clone())).await, serve(app(layers[1].clone())).await];
        Self { directory, layers, addresses, client: reqwest::Client::new() }
    }

    async fn issue(&self) -> Pair {
        let tokens = self.layers[0].issuer().issue("c").await.unwrap().tokens;
        (tokens.access_token.expose().to_owned(), tokens.refresh_token.expose().to_owned())
    }

    fn refresh(&self, server: usize, token: &str) -> impl Future<Output = (StatusCode, Option<Pair>)> + Send + 'static {
        let url = format!("http://{}/auth/token/refresh?refresh_token={token}", self.addresses[server]);
        let request = self.client.get(url).send();
        async move {
            let response = request.await.unwrap();
            let status = response.status();
            let body: Value = response.json().await.unwrap();
            let token = |name: &str| body["data"][name].as_str().map(str::to_owned);
            (status, token("access_token").zip(token("refresh_token")))
        }
    }

    /// How both servers answer an access token.
    async fn access(&self, token: &str) -> [u16; 2] {
        let ask = |address: SocketAddr| {
            let request = self.client.get(format!("http://{address}/access/health")).header("access-token", token);
            async { request.send().await.unwrap().status().as_u16() }
        };
        [ask(self.addresses[0]).await, ask(self.addresses[1]).await]
    }

    /// Waits until both refuse a token: the one that did not do it is told a moment later.
    async fn refused_by_both(&self, token: &str) {
        let refused = async { while self.access(token).await != [401, 401] {} };
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("it is refused in the end");
    }

    /// What is in the file.
    async fn stored(&self) -> Option<Pair> {
        let path: PathBuf = self.directory.path().join("tokens.db");
        let pair = SqliteStore::open(path).unwrap().pair("c").await.unwrap()?;
        let text = |token: Option<fastauth::Secret>| token.unwrap().expose().to_owned();
        Some((text(pair.access_token), text(pair.refresh_token)))
    }

    /// Presents one token many times at one moment, at each server in turn.
    async fn race(&self, token: &str) -> Vec<(StatusCode, Option<Pair>)> {
        let start = Arc::new(Barrier::new(RIVALS));
        let mut rivals = JoinSet::new();
        for n in 0..RIVALS {
            let (start, refresh) = (Arc::clone(&start), self.refresh(n % 2, token));
            rivals.spawn(async move {
                start.wait().await;
                refresh.await
            });
        }
        rivals.join_all().await
    }

    fn reused(&self) -> u64 {
        self.layers.iter().map(|layer| layer.token_counts().reused).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_refreshes_all_get_the_same_pair() {
    let servers = Servers::start(Duration::from_secs(300)).await;
    let (old_access, old_refresh) = servers.issue().await;
    assert_eq!(servers.access(&old_access).await, [200, 200]);
    let answers = servers.race(&old_refresh).await;
    let pair = answers[0].1.clone().expect("a pair");
    for answer in &answers {
        assert_eq!(*answer, (StatusCode::OK, Some(pair.clone())));
    }
    assert_eq!(servers.stored().await, Some(pair.clone()));
    assert!(pair.0 != old_access && pair.1 != old_refresh);
    servers.refused_by_both(&old_access).await;
    assert_eq!(servers.access(&pair.0).await, [200, 200]);
    // The pair that all have is good for the next one, once more.
    let (status, next) = servers.refresh(1, &pair.1).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(servers.access(&next.unwrap().0).await, [200, 200]);
    assert_eq!(servers.reused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_200_refreshes_without_a_grace_one_is_answered_and_its_session_ends() {
    let servers = Servers::start(Duration::ZERO).await;
    let (old_access, old_refresh) = servers.issue().await;
    let answers = servers.race(&old_refresh).await;
    let (winners, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == StatusCode::OK);
    let [(_, Some((access, refresh)))] = &winners[..] else { panic!("winners: {}", winners.len()) };
    assert!(others.iter().all(|other| *other == (StatusCode::UNAUTHORIZED, None)));
    assert_eq!(servers.stored().await, None);
    for token in [&old_access, access] {
        servers.refused_by_both(token).await;
    }
    assert_eq!(servers.refresh(0, refresh).await, (StatusCode::UNAUTHORIZED, None));
    assert_eq!(servers.reused(), 1, "what comes after it is of a session that was revoked");
    // The client logs in again.
    let (access, refresh) = servers.issue().await;
    assert_eq!(servers.access(&access).await, [200, 200]);
    assert_eq!(servers.refresh(1, &refresh).await.0, StatusCode::OK);
}

#[tokio::test]
async fn after_the_grace_a_used_token_ends_its_session() {
    let servers = Servers::start(Duration::from_millis(200)).await;
    let (_, used) = servers.issue().await;
    let (status, pair) = servers.refresh(0, &used).await;
    assert_eq!(status, StatusCode::OK);
    let (access, refresh) = pair.clone().unwrap();
    assert_eq!(servers.access(&access).await, [200, 200]);
    // Until the grace is over, the answer is the same.
    let mut repeated = servers.refresh(1, &used).await;
    while repeated.0 == StatusCode::OK {
        assert_eq!(repeated.1, pair);
        repeated = servers.refresh(1, &used).await;
    }
    assert_eq!(repeated, (StatusCode::UNAUTHORIZED, None));
    // It may be the thief's. The other server is told of it a little later.
    assert_eq!(servers.access(&access).await[1], 401);
    servers.refused_by_both(&access).await;
    assert_eq!(servers.refresh(0, &refresh).await, (StatusCode::UNAUTHORIZED, None));
    assert_eq!(servers.layers.each_ref().map(|layer| layer.token_counts().reused), [0, 1]);
}

/// A stolen token that its owner has used and renewed since.
#[tokio::test]
async fn a_token_from_long_before_ends_its_session() {
    let servers = Servers::start(Duration::from_secs(300)).await;
    let (_, stolen) = servers.issue().await;
    let mut pair = servers.refresh(0, &stolen).await.1.unwrap();
    pair = servers.refresh(1, &pair.1).await.1.unwrap();
    assert_eq!(servers.access(&pair.0).await, [200, 200]);
    assert_eq!(servers.refresh(0, &stolen).await, (StatusCode::UNAUTHORIZED, None));
    servers.refused_by_both(&pair.0).await;
    assert_eq!(servers.layers.each_ref().map(|layer| layer.token_counts().reused), [1, 0]);
}

/// The pair is given again as long as its refresh token is good, even if its access token has expired meanwhile.
#[tokio::test]
async fn a_pair_is_given_again_after_its_access_token_expired() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("tokens.db")).unwrap();
    let settings = settings().store(store).refresh_grace(Duration::from_secs(300)).access_ttl(Duration::from_secs(1));
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let issuer = layer.issuer();
    let first = issuer.issue("c").await.unwrap().tokens;
    let second = issuer.refresh(first.refresh_token.expose()).await.unwrap().tokens;
    while issuer.verify(second.access_token.expose(), fastauth::TokenType::Access).is_ok() {
        tokio::task::yield_now().await;
    }
    let repeated = issuer.refresh(first.refresh_token.expose()).await.unwrap();
    assert_eq!((repeated.tokens, repeated.expires_in), (second.clone(), Duration::ZERO));
    assert!(issuer.refresh(second.refresh_token.expose()).await.is_ok());
}

/// What is kept encrypted is given again as it was.
#[tokio::test]
async fn an_encrypted_pair_is_given_again() {
    let store = fastauth::store::MemoryStore::new();
    let settings =
        settings().store(store.clone()).store_format(StoreFormat::Fernet).refresh_grace(Duration::from_secs(300));
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let issuer = layer.issuer();
    let first = issuer.issue("c").await.unwrap().tokens;
    let second = issuer.refresh(first.refresh_token.expose()).await.unwrap().tokens;
    let kept = store.pair("c").await.unwrap().unwrap();
    for (kept, token) in [(kept.access_token, &second.access_token), (kept.refresh_token, &second.refresh_token)] {
        assert!(kept.unwrap() != *token, "it is in clear");
    }
    assert_eq!(issuer.refresh(first.refresh_token.expose()).await.unwrap().tokens, second);
    assert!(issuer.refresh(second.refresh_token.expose()).await.is_ok());
}

/// Who holds a token of a log-in that was replaced must not end the one that took its place, at no store.
#[tokio::test]
async fn a_token_of_a_replaced_log_in_ends_none_but_its_own() {
    for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await, stores::rest_v1().await] {
        let layer = FastAuthLayer::new(settings().store(fixture.store).build().unwrap()).unwrap();
        let issuer = layer.issuer();
        let before = issuer.issue("c").await.unwrap().tokens;
        let now = issuer.issue("c").await.unwrap().tokens;
        for token in [&before.refresh_token, &before.access_token] {
            assert!(!issuer.revoke_token(token.expose()).await.unwrap());
        }
        let is_active =
            async |token: &str| matches!(issuer.introspect(token).await.unwrap(), Introspection::Active { .. });
        assert!(is_active(now.refresh_token.expose()).await);
        assert!(issuer.revoke_token(now.access_token.expose()).await.unwrap());
        assert!(!is_active(now.refresh_token.expose()).await);
    }
}
