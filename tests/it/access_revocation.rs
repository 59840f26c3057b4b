//! The revocation of access tokens alone: nobody is logged out, and the next refresh brings new claims.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastauth::{
    EndReason, FastAuthLayer, Grant, IssueErrorKind, SettingsBuilder, TokenType,
    config::TokensPerClient,
    store::{MemoryStore, Revocation, SqliteStore, TokenStore},
    test_util::{FailingStore, ManualClock, StoreCall},
};
use serde_json::json;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    app::{Endpoints, Reply, settings},
    permit::access,
    support::stores::rest_v1,
    ticket::{redeem, refused, start, ticket},
};

const REVOKE: &str = "/auth/token/revoke";
/// Longer than anything takes that is to come at once.
const SOON: Duration = Duration::from_secs(5);

/// The roles of every client, as a database of the application has them.
#[derive(Clone, Default)]
struct Roles(Arc<Mutex<&'static str>>);

impl Roles {
    fn become_(&self, role: &'static str) {
        *self.0.lock().unwrap() = role;
    }

    fn layer(&self, settings: SettingsBuilder) -> FastAuthLayer {
        let roles = self.clone();
        let settings = settings.claims_hook(move |_: Grant| {
            let roles = roles.clone();
            async move {
                let role = *roles.0.lock().unwrap();
                Ok(json!({ "roles": [role] }).as_object().unwrap().clone())
            }
        });
        layer(settings)
    }
}

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

fn role(layer: &FastAuthLayer, access_token: &str) -> String {
    layer.issuer().verify(access_token, TokenType::Access).unwrap().roles().collect()
}

async fn refresh(server: &Endpoints, refresh_token: &str) -> Reply {
    server.post("/auth/token/refresh", &format!("refresh_token={refresh_token}")).await
}

#[tokio::test]
async fn changed_roles_count_at_once_and_nobody_logs_in_again() {
    let roles = Roles::default();
    roles.become_("admin");
    let layer = roles.layer(settings().tokens_per_client(TokensPerClient::Many));
    let server = Endpoints::of(&layer).await;
    let [phone, laptop] = [layer.issuer().issue("alice").await.unwrap(), layer.issuer().issue("alice").await.unwrap()];
    let other = layer.issuer().issue("bob").await.unwrap();
    for issued in [&phone, &laptop, &other] {
        assert!(server.opens(issued.tokens.access_token.expose()).await, "it is cached from here on");
    }
    roles.become_("reader");
    let reply = server.post_as_master(REVOKE, "client_id=alice&access_only=true").await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "revoked": 2 })));
    for issued in [&phone, &laptop] {
        let header = [("access-token", issued.tokens.access_token.expose())];
        let refused = server.send("GET", "/access/health", &header, "").await;
        assert_eq!((refused.status, refused.json()["reason"].as_str()), (401, Some("not_current")), "clients refresh");
        let refreshed = refresh(&server, issued.tokens.refresh_token.expose()).await;
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        let access_token = refreshed.json()["data"]["access_token"].as_str().unwrap().to_owned();
        assert_eq!(role(&layer, &access_token), "reader");
        assert!(server.opens(&access_token).await);
    }
    assert!(server.opens(other.tokens.access_token.expose()).await, "another client's");
}

#[tokio::test]
async fn one_session_is_meant_if_it_is_named() {
    let layer = layer(settings().tokens_per_client(TokensPerClient::Many));
    let server = Endpoints::of(&layer).await;
    let [phone, laptop] = [layer.issuer().issue("alice").await.unwrap(), layer.issuer().issue("alice").await.unwrap()];
    let body = json!({ "client_id": "alice", "session": phone.session, "access_only": true }).to_string();
    let headers = [("content-type", crate::app::JSON), ("master-token", crate::app::MASTER)];
    let reply = server.send("POST", REVOKE, &headers, &body).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "revoked": 1 })));
    assert!(!server.opens(phone.tokens.access_token.expose()).await);
    assert!(server.opens(laptop.tokens.access_token.expose()).await);
    for nothing in ["client_id=alice&session=unknown&access_only=true", "client_id=nobody&access_only=true"] {
        let reply = server.post_as_master(REVOKE, nothing).await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "revoked": 0 })), "{nothing}");
    }
}

#[tokio::test]
async fn only_the_master_token_asks_for_it_and_for_a_client() {
    let layer = layer(settings());
    let server = Endpoints::of(&layer).await;
    let issued = layer.issuer().issue("alice").await.unwrap();
    let token = issued.tokens.access_token.expose();
    assert_eq!(server.post(REVOKE, "client_id=alice&access_only=true").await.status, 401);
    for form in [
        &format!("token={token}&access_only=true"),
        &format!("token={token}&client_id=alice&access_only=true"),
        "all=true&access_only=true",
        "client_id=alice&all=true&access_only=true",
        "session=f&access_only=true",
        "access_only=true",
    ] {
        let reply = server.post_as_master(REVOKE, form).await;
        assert_eq!((reply.status, reply.json()["reason"].as_str()), (400, Some("conflicting_parameters")), "{form}");
    }
    let reply = server.post_as_master(REVOKE, "client_id=alice&access_only=maybe").await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(server.opens(token).await, "nothing was revoked");
    // Without the flag it is the log-in that ends.
    assert_eq!(server.post_as_master(REVOKE, "client_id=alice&access_only=false").await.status, 200);
    assert_eq!(refresh(&server, issued.tokens.refresh_token.expose()).await.status, 401);
}

#[tokio::test]
async fn permits_end_here_and_in_other_processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens.db");
    let nodes = [(); 2].map(|()| layer(settings().store(SqliteStore::open(&path).unwrap())));
    let issued = nodes[0].issuer().issue("alice").await.unwrap();
    let token = issued.tokens.access_token.expose();
    let [here, there] = [access(&nodes[0], token).await, access(&nodes[1], token).await];
    let [here, there] = [here.ended(), there.ended()];
    assert_eq!(nodes[0].issuer().revoke_access("alice", None).await.unwrap(), 1);
    assert_eq!(timeout(SOON, here).await.unwrap(), EndReason::Revoked);
    assert_eq!(timeout(SOON, there).await.unwrap(), EndReason::Revoked);
    let refreshed = nodes[1].issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap();
    let again = access(&nodes[0], refreshed.tokens.access_token.expose()).await;
    assert!(timeout(Duration::from_millis(50), again.ended()).await.is_err());
}

#[tokio::test]
async fn no_grace_survives_it() {
    let layer = layer(settings().access_grace(Duration::from_secs(60)));
    let server = Endpoints::of(&layer).await;
    let first = layer.issuer().issue("alice").await.unwrap();
    let second = layer.issuer().refresh(first.tokens.refresh_token.expose()).await.unwrap();
    let [old, current] = [&first, &second].map(|issued| issued.tokens.access_token.expose());
    assert!(server.opens(old).await && server.opens(current).await);
    layer.issuer().revoke_access("alice", Some(&first.session)).await.unwrap();
    assert!(!server.opens(old).await && !server.opens(current).await);
    let third = layer.issuer().refresh(second.tokens.refresh_token.expose()).await.unwrap();
    assert!(!server.opens(old).await && !server.opens(current).await, "the refresh begins no grace");
    assert!(server.opens(third.tokens.access_token.expose()).await);
}

/// A refresh has asked for the roles, and the store is asked after they have changed.
#[tokio::test]
async fn concurrent_refresh_gets_the_new_claims() {
    let roles = Roles::default();
    roles.become_("admin");
    let (asked, lets) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let asks = Arc::new(AtomicUsize::new(0));
    let hook = {
        let (roles, asked, lets, asks) = (roles.clone(), Arc::clone(&asked), Arc::clone(&lets), Arc::clone(&asks));
        move |grant: Grant| {
            let (roles, asked, lets) = (roles.clone(), Arc::clone(&asked), Arc::clone(&lets));
            let is_held = grant.is_refresh && asks.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                let role = *roles.0.lock().unwrap();
                if is_held {
                    asked.add_permits(1);
                    lets.acquire().await.unwrap().forget();
                }
                Ok(json!({ "roles": [role] }).as_object().unwrap().clone())
            }
        }
    };
    let layer = layer(settings().claims_hook(hook));
    let issued = layer.issuer().issue("alice").await.unwrap();
    let issuer = layer.issuer();
    let refresh_token = issued.tokens.refresh_token.clone();
    let refreshing = tokio::spawn(async move { issuer.refresh(refresh_token.expose()).await });
    asked.acquire().await.unwrap().forget();
    roles.become_("reader");
    assert_eq!(layer.issuer().revoke_access("alice", None).await.unwrap(), 1);
    lets.add_permits(1);
    let refreshed = refreshing.await.unwrap().unwrap();
    assert_eq!(role(&layer, refreshed.tokens.access_token.expose()), "reader");
    assert_eq!(asks.load(Ordering::Relaxed), 2);
    assert!(Endpoints::of(&layer).await.opens(refreshed.tokens.access_token.expose()).await);
}

/// A hook that always revokes must not keep a refresh going for good.
#[tokio::test]
async fn refresh_gives_up_if_access_is_revoked_again_and_again() {
    let store = MemoryStore::new();
    let revoking = store.clone();
    let hook = move |grant: Grant| {
        let revoking = revoking.clone();
        async move {
            revoking.revoke_access(&grant.client_id, None).await.unwrap();
            Ok(grant.claims)
        }
    };
    let layer = layer(settings().store(store).claims_hook(hook));
    let issued = layer.issuer().issue("alice").await.unwrap();
    layer.issuer().revoke_access("alice", None).await.unwrap();
    let error = layer.issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap_err();
    assert!(matches!(error.kind(), IssueErrorKind::Store(_)), "{error:?}");
}

/// The client lost the answer to its refresh, and then its access token was revoked.
#[tokio::test]
async fn repeated_refresh_gives_the_log_in_back() {
    let layer = layer(settings());
    let server = Endpoints::of(&layer).await;
    let first = layer.issuer().issue("alice").await.unwrap();
    let lost = layer.issuer().refresh(first.tokens.refresh_token.expose()).await.unwrap();
    layer.issuer().revoke_access("alice", None).await.unwrap();
    for _ in 0..2 {
        let repeated = refresh(&server, first.tokens.refresh_token.expose()).await;
        assert_eq!(repeated.status, 200, "{repeated:?}");
        let data = &repeated.json()["data"];
        assert_eq!(data["refresh_token"], lost.tokens.refresh_token.expose());
        assert_eq!(data["expires_in"], 0, "so that the client refreshes at once");
        assert!(!server.opens(data["access_token"].as_str().unwrap()).await);
    }
    let next = refresh(&server, lost.tokens.refresh_token.expose()).await;
    assert!(server.opens(next.json()["data"]["access_token"].as_str().unwrap()).await);
}

#[tokio::test]
async fn ticket_from_before_opens_nothing() {
    let layer = layer(settings());
    let issued = layer.issuer().issue("alice").await.unwrap();
    let server = start(layer.clone()).await;
    let ticket = ticket(&server, issued.tokens.access_token.expose()).await;
    layer.issuer().revoke_access("alice", None).await.unwrap();
    assert_eq!(refused(redeem(&server, &ticket).await), (401, json!("Unauthorized Access Token")));
}

#[tokio::test]
async fn refresh_token_still_ends_its_log_in() {
    let layer = layer(settings());
    let issued = layer.issuer().issue("alice").await.unwrap();
    layer.issuer().revoke_access("alice", None).await.unwrap();
    assert!(layer.issuer().revoke_token(issued.tokens.access_token.expose()).await.unwrap(), "it names its session");
    assert_eq!(layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap(), 0);
}

#[tokio::test]
async fn store_that_cannot_do_it_is_501_and_one_in_trouble_503() {
    let v1 = layer(settings().store(rest_v1().await.store));
    v1.issuer().issue("alice").await.unwrap();
    let server = Endpoints::of(&v1).await;
    let reply = server.post_as_master(REVOKE, "client_id=alice&access_only=true").await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (501, Some("unsupported_by_store")));

    let store = FailingStore::new(MemoryStore::with_clock(&ManualClock::new()));
    let trouble = layer(settings().store(store.clone()));
    store.fail_on(StoreCall::RevokeAccess, fastauth::store::StoreErrorKind::Unreachable);
    let server = Endpoints::of(&trouble).await;
    let reply = server.post_as_master(REVOKE, "client_id=alice&access_only=true").await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (503, Some("store_unavailable")));
    assert_eq!(store.calls(StoreCall::RevokeAccess), 1);
}
