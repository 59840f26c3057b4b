//! What the log tells of the guard's work, and what it never tells.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use axum::body::Body;
use fastauth::{FastAuthLayer, config::LogDetail, store::TokenStore};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    app::{Endpoints, FORM, JSON, KEY, MASTER, access_token, get_request, settings},
    support::{log, stores},
};

/// What is behind the guard logs something.
async fn pass(layer: &FastAuthLayer, request: Request<Body>) -> u16 {
    let inner = service_fn(|_: Request<Body>| {
        tracing::info!(target: "fastauth::behind", "the application was here");
        ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    layer.layer(inner).oneshot(request).await.unwrap().status().as_u16()
}

fn layer_over(store: Arc<dyn TokenStore>) -> FastAuthLayer {
    let settings = settings().master_token_paths(["/master", "/both"]).access_token_paths(["/access/", "/both"]);
    FastAuthLayer::new(settings.public_paths(["/access/open"]).store(store).build().unwrap()).unwrap()
}

/// The token with another signature.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

/// The one line in which all of `words` stand.
fn line<'a>(log: &'a str, words: &[&str]) -> &'a str {
    let mut lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    let line = lines.next().unwrap_or_else(|| panic!("no line has {words:?}:\n{log}"));
    assert_eq!(lines.next(), None, "more than one line has {words:?}");
    line
}

#[tokio::test]
async fn each_decision_is_told_with_its_rule_and_reason() {
    // Its file is gone with it.
    let fixture = stores::sqlite().await;
    let layer = layer_over(Arc::clone(&fixture.store));
    let superseded = access_token(&layer, "alice").await;
    let token = access_token(&layer, "alice").await;
    let (token, forged) = (token.expose(), forged(token.expose()));
    let (access, master) = (("access-token", token), ("master-token", MASTER));
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let table: [Row<'_>; 12] = [
        ("/access/x", &[], &["INFO", r#"rule="/access/""#, r#"level="access""#, r#"reason="missing_access_token""#]),
        ("/access/x", &[("access-token", &forged)], &["INFO", r#"list="access""#, r#"reason="invalid_signature""#]),
        ("/access/x", &[("authorization", "Bearer x")], &["INFO", r#"reason="malformed_token""#]),
        (
            "/access/x",
            &[("access-token", superseded.expose())],
            &["INFO", r#"outcome="refused""#, r#"reason="not_current""#, r#"client="alice""#],
        ),
        ("/access/x", &[access], &["DEBUG", r#"outcome="permitted""#, r#"client="alice""#, r#"rule="/access/""#]),
        ("//access/x", &[access], &["WARN", r#"rule="/access/""#, "another reading"]),
        ("/master", &[master], &["DEBUG", r#"list="master""#, r#"level="master""#, r#"master_token="master-token""#]),
        ("/master", &[("master-token", "wrong")], &["INFO", r#"rule="/master""#, r#"reason="wrong_master_token""#]),
        ("/both", &[access], &["INFO", r#"list="master""#, r#"level="both""#, r#"reason="missing_master_token""#]),
        ("/both", &[master], &["INFO", r#"list="access""#, r#"level="both""#, r#"reason="missing_access_token""#]),
        ("/both", &[master, access], &["DEBUG", r#"level="both""#, r#"rule="/both""#, r#"outcome="permitted""#]),
        ("/access/%zz", &[], &["INFO", r#"rule="none""#, r#"reason="path_malformed_escape""#]),
    ];
    for (path, headers, words) in table {
        log::capture();
        pass(&layer, get_request(path, headers)).await;
        let log = log::captured();
        line(&log, words);
        let decisions = log.lines().filter(|line| line.contains("outcome=") && line.contains("rule=")).count();
        assert_eq!(decisions, 1, "{path}: {log}");
    }
}

/// A method is any text, and so are the client and the session that a token of `fastauth-api` names.
#[tokio::test]
async fn what_strangers_chose_is_bounded_and_harmless_in_the_log() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    // Its file is gone with it.
    let fixture = stores::sqlite().await;
    let layer = layer_over(Arc::clone(&fixture.store));
    let hostile = format!("a\u{1b}[31m\u{9b}\u{202e}\n{}", "x".repeat(5_000));
    let claims = serde_json::json!({
        "client_id": hostile, "type": "access", "exp": 4_000_000_000_u64, "sid": hostile, "gen": 1,
    });
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes()).unwrap()).unwrap();
    for method in ["A".repeat(300_000), "BREW".to_owned()] {
        for headers in [&[][..], &[("access-token", &*token)], &[("master-token", "wrong")]] {
            for path in ["/access/x", "//access/x", "/master", "/%zz"] {
                let mut request = get_request(path, headers);
                *request.method_mut() = method.parse().unwrap();
                log::capture();
                pass(&layer, request).await;
                let log = log::captured();
                let ours: Vec<_> = log.lines().filter(|line| line.contains(" fastauth")).collect();
                assert!(ours.iter().any(|line| line.contains("method=other")), "{path}: {ours:?}");
                for line in ours {
                    assert!(line.len() < 2_000, "{path}: a line of {} bytes", line.len());
                    assert!(!line.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{line}");
                }
            }
        }
    }
    log::capture();
    layer.issuer().revoke(&fastauth::store::Revocation::Client("y".repeat(5_000))).await.unwrap();
    let log = log::captured();
    assert!(log.lines().filter(|line| line.contains(" fastauth")).all(|line| line.len() < 2_000), "{log}");
}

#[tokio::test]
async fn an_open_path_logs_nothing() {
    let layer = layer_over(stores::memory().await.store);
    for path in ["/", "/health", "/x?y=z", "/caf%C3%A9", "/a//b/../c", "/access/open"] {
        log::capture();
        pass(&layer, get_request(path, &[("access-token", "of no use here")])).await;
        let log = log::captured();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("the application was here") && !log.contains("guarded"), "{log}");
    }
}

#[tokio::test]
async fn what_would_be_refused_is_told() {
    let layer = FastAuthLayer::new(settings().shadow(true).build().unwrap()).unwrap();
    log::capture();
    assert_eq!(pass(&layer, get_request("/access/x", &[])).await, 200);
    let log = log::captured();
    line(&log, &["INFO", r#"outcome="would_be_refused""#, r#"reason="missing_access_token""#]);
}

/// Whether the token was known, or the store had to be asked at once or waited for.
#[tokio::test]
async fn the_application_is_in_a_span_that_names_the_client() {
    for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await] {
        let layer = layer_over(fixture.store.clone());
        let token = access_token(&layer, "alice").await;
        for _ in 0..2 {
            log::capture();
            let request = get_request("/both", &[("access-token", token.expose()), ("master-token", MASTER)]);
            assert_eq!(pass(&layer, request).await, 200);
            let log = log::captured();
            let line = line(&log, &["the application was here"]);
            assert!(line.contains(r#"guarded{client="alice" master_token="master-token"}"#), "{line}");
        }
    }
}

#[tokio::test]
async fn calls_of_the_store_are_told() {
    for fixture in [stores::memory().await, stores::sqlite().await, stores::rest().await] {
        let kind = fixture.store.kind();
        log::capture();
        let layer = layer_over(fixture.store.clone());
        let issued = layer.issuer().issue("alice").await.unwrap();
        let renewed = layer.issuer().refresh(issued.tokens.refresh_token.expose()).await.unwrap();
        let token = renewed.tokens.access_token.expose();
        assert_eq!(pass(&layer, get_request("/access/x", &[("access-token", token)])).await, 200);
        let log = log::captured();
        for operation in ["save", "rotate", "load"] {
            let span = format!(r#"store{{store="{kind}" operation="{operation}"}}"#);
            line(&log, &["DEBUG", &span, r#"outcome="ok" latency_us="#, "the store answered"]);
        }
    }
}

#[tokio::test]
async fn trouble_with_the_store_is_an_error_with_the_rule_and_the_client() {
    let behind = stores::sqlite().await;
    let server = stores::StoreServer::start(behind.store.clone(), None).await;
    let layer = layer_over(Arc::new(server.client()));
    let token = access_token(&layer, "alice").await;
    let address = server.stop().await;
    log::capture();
    assert_eq!(pass(&layer, get_request("/access/x", &[("access-token", token.expose())])).await, 503);
    let log = log::captured();
    let words = [r#"rule="/access/""#, r#"reason="store_unavailable""#, r#"client="alice""#, r#"kind="unreachable""#];
    let line = line(&log, &[&["ERROR"][..], &words[..]].concat());
    assert!(!line.contains(&address.to_string()), "{line}");
}

/// The texts that stand for what must not be told: tokens as a whole and in parts, and everything else that is secret.
struct Secrets(Vec<String>);

impl Secrets {
    fn token(&mut self, token: &str) {
        self.0.push(token.to_owned());
        // The header of a token tells nothing but the algorithm and the id of a key.
        self.0.extend(token.split('.').skip(1).filter(|part| part.len() > 8).map(str::to_owned));
    }

    fn assert_not_in(&self, log: &str) {
        for secret in &self.0 {
            let at = log.find(secret.as_str());
            assert!(at.is_none(), "{secret} is in the log: {}", log.lines().find(|l| l.contains(&**secret)).unwrap());
        }
    }
}

/// Everything that can be done with tokens of every kind, by every way that there is.
async fn go_through_everything(store: Arc<dyn TokenStore>) {
    let mut secrets = Secrets(vec![MASTER.to_owned(), KEY.to_owned(), "let-me-in".to_owned()]);
    let short = settings().store(store.clone()).access_ttl(Duration::from_secs(1));
    let short = FastAuthLayer::new(short.build().unwrap()).unwrap();
    let expired = access_token(&short, "early").await;
    let settings = settings().store(store).refresh_grace(Duration::ZERO).master_token_paths(["/master", "/both"]);
    let settings = settings.log_details([LogDetail::Path, LogDetail::Peer, LogDetail::RequestId]);
    let layer = FastAuthLayer::new(settings.access_token_paths(["/access", "/both"]).build().unwrap()).unwrap();
    let server = Endpoints::of(&layer).await;

    let issued = server.post_as_master("/auth/token/new", "client_id=alice").await.json();
    let first = [issued["data"]["access_token"].as_str().unwrap(), issued["data"]["refresh_token"].as_str().unwrap()];
    let renewed = server.post("/auth/token/refresh", &format!("refresh_token={}", first[1])).await.json();
    let second =
        [renewed["data"]["access_token"].as_str().unwrap(), renewed["data"]["refresh_token"].as_str().unwrap()];
    // Until it has expired for sure.
    while layer.issuer().verify(expired.expose(), fastauth::TokenType::Access).is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let forged = [forged(second[0]), forged(second[1])];
    let tokens = [first[0], second[0], second[1], expired.expose(), &forged[0], "hush.hush-hush-hush.hush-hush"];
    for token in tokens.iter().chain([&first[1], &&*forged[1]]) {
        secrets.token(token);
    }
    secrets.0.push("another-master-token".to_owned());

    for path in ["/access/health", "/both/x", "/master/health", "//access/health", "/health", "/access/ws"] {
        for token in tokens {
            let (bearer, cookie) = (format!("Bearer {token}"), format!("__Host-fastauth-refresh={token}; t={token}"));
            let target = format!("{path}?access_token={token}&refresh_token={token}");
            for headers in [
                &[("access-token", token)][..],
                &[("authorization", &bearer)],
                &[("authorization", &bearer), ("access-token", first[0])],
                &[("master-token", MASTER), ("access-token", token)],
                &[("master-token", "another-master-token"), ("cookie", &cookie)],
                &[("master-token", token), ("cookie", &cookie), ("x-token", token)],
            ] {
                server.send("GET", &target, headers, "").await;
                server.send("POST", path, headers, &format!("access_token={token}")).await;
            }
        }
    }
    for token in tokens {
        for (path, name) in [
            ("/auth/token/introspect", "token"),
            ("/auth/token/refresh", "refresh_token"),
            ("/auth/token", "refresh_token"),
            ("/auth/token/new", "claim"),
            ("/auth/healthz", "deep"),
        ] {
            let form = format!("grant_type=refresh_token&{name}={token}");
            let json = format!(r#"{{"grant_type":"refresh_token","{name}":"{token}"}}"#);
            let cookie = format!("__Host-fastauth-refresh={token}");
            server.post(path, &form).await;
            server.post_as_master(path, &form).await;
            server.send("POST", path, &[("content-type", JSON), ("cookie", &cookie)], &json).await;
            server.send("GET", &format!("{path}?{form}"), &[("content-type", FORM)], "").await;
        }
    }
    server.send("GET", &format!("/auth/token/refresh?refresh_token={}", first[1]), &[], "").await;
    for token in tokens {
        server.post("/auth/token/revoke", &format!("token={token}")).await;
    }
    server.post_as_master("/auth/token/revoke", "client_id=alice").await;
    server.post_as_master("/auth/token/revoke", "all=true").await;
    let log = log::captured();
    for word in ["permitted", "refused", "guarded", "expired_token", "invalid_signature", "store answered", "issued"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert!(log.contains("TRACE"), "other crates log, too");
    secrets.assert_not_in(&log);
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    for fixture in [stores::sqlite().await, stores::rest().await, stores::rest_v1().await] {
        log::capture();
        go_through_everything(fixture.store.clone()).await;
    }
}
