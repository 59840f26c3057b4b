//! The configuration is replaced while requests run.

use fastauth::{FastAuthLayer, Secret, store::MemoryStore};

use crate::app::{Endpoints, MASTER, access_token, settings};

/// Builds settings whose store is not the layer's, as those of a reload are.
fn again(change: impl FnOnce(fastauth::SettingsBuilder) -> fastauth::SettingsBuilder) -> fastauth::Settings {
    change(settings().store(MemoryStore::new())).build().unwrap()
}

async fn status(server: &Endpoints, path: &str, token: &Secret) -> u16 {
    server.send("GET", path, &[("access-token", token.expose())], "").await.status
}

#[tokio::test]
async fn what_a_reload_returned_from_is_in_force() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let token = access_token(&layer, "alice").await;
    let none = Secret::from("");
    assert_eq!((status(&server, "/health", &none).await, status(&server, "/access/health", &none).await), (200, 401));
    layer.reload_with(again(|settings| settings.access_token_paths(["/health"]))).unwrap();
    assert_eq!((status(&server, "/health", &none).await, status(&server, "/access/health", &none).await), (401, 200));
    assert_eq!(status(&server, "/health", &token).await, 200, "the token and its session live on");
    let other = "another master token of the tests";
    layer.reload_with(again(|settings| settings.master_token(other))).unwrap();
    let new_tokens =
        async |master| server.send("POST", "/auth/token/new", &[("master-token", master)], "").await.status;
    assert_eq!((new_tokens(MASTER).await, new_tokens(other).await), (401, 200));
}

/// A key that is withdrawn opens nothing any more, also for tokens that were confirmed before; one that is added changes nothing.
#[tokio::test]
async fn tokens_that_were_confirmed_are_forgotten_with_their_key() {
    let layer = FastAuthLayer::new(settings().build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;
    let token = access_token(&layer, "alice").await;
    assert_eq!(status(&server, "/access/health", &token).await, 200);
    let (new, old) = (Secret::generate(), crate::app::KEY);
    layer
        .reload_with(again(|settings| settings.cryptography_key(new.clone()).previous_cryptography_keys([old])))
        .unwrap();
    assert_eq!(status(&server, "/access/health", &token).await, 200);
    let newer = access_token(&layer, "bob").await;
    assert_eq!(status(&server, "/access/health", &newer).await, 200);
    layer.reload_with(again(|settings| settings.cryptography_key(new))).unwrap();
    assert_eq!(status(&server, "/access/health", &token).await, 401);
    assert_eq!(status(&server, "/access/health", &newer).await, 200);
}

#[tokio::test]
async fn another_store_is_a_fault_that_names_the_key() {
    let place = tempfile::TempDir::new().unwrap();
    let of = |file: &str| {
        let settings = fastauth::Settings::builder().cryptography_key(crate::app::KEY).access_token_paths(["/access"]);
        settings.database_api_url(format!("sqlite:{}", place.path().join(file).display())).build().unwrap()
    };
    let layer = FastAuthLayer::new(of("a.db")).unwrap();
    layer.reload_with(of("a.db")).unwrap();
    let error = layer.reload_with(of("b.db")).unwrap_err();
    assert_eq!(error.faults()[0].key(), Some("database-api-url"));
    assert!(error.to_string().contains("cannot change while the application runs"), "{error}");
    let error = layer.reload_with(again(|settings| settings)).unwrap_err();
    assert_eq!(error.faults()[0].key(), Some("database-api-url"));
}
