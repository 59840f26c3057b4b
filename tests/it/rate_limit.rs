//! How often tokens are issued: to one client, and at the request of one caller.

use std::{net::SocketAddr, time::Duration};

use axum::extract::ConnectInfo;
use fastauth::{
    FastAuthLayer, SettingsBuilder,
    config::{ResponseShape, TokensPerClient},
};
use tokio::net::TcpListener;

use crate::app::{Endpoints, FORM, MASTER, Reply, app, error, settings};

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

/// Two at once, and then one a minute: a test is over before the third.
fn limited() -> SettingsBuilder {
    settings().rate_limit_per_minute(1).rate_limit_burst(2)
}

async fn issue(server: &Endpoints, client_id: &str) -> Reply {
    server.post_as_master("/auth/token/new", &format!("client_id={client_id}")).await
}

fn is_limited(reply: &Reply) -> bool {
    let wait = reply.header("retry-after").parse::<u64>();
    assert!(reply.status != 429 || wait.is_ok_and(|seconds| (1..=60).contains(&seconds)), "{reply:?}");
    reply.status == 429
}

#[tokio::test]
async fn client_is_limited() {
    let server = Endpoints::of(&layer(limited())).await;
    let first = issue(&server, "c").await.json();
    let token = first["data"]["refresh_token"].as_str().unwrap();
    let renewed = server.post("/auth/token/refresh", &format!("refresh_token={token}")).await.json();
    let token = renewed["data"]["refresh_token"].as_str().unwrap();
    // Issuing and every way to refresh are of one budget.
    let issued = issue(&server, "c").await;
    assert!(is_limited(&issued));
    let body = error(429, "rate_limited", "Too many requests, try again later");
    assert_eq!((issued.json(), issued.header("cache-control")), (body, "no-store"));
    let by_get = server.send("GET", &format!("/auth/token/refresh?refresh_token={token}"), &[], "").await;
    assert!(is_limited(&by_get));
    let grant = server.post("/auth/token", &format!("grant_type=refresh_token&refresh_token={token}")).await;
    assert!(is_limited(&grant));
    assert_eq!(grant.json()["error"], "temporarily_unavailable");
    // It has nothing to do with others, with revoking, or with looking into tokens.
    assert_eq!(issue(&server, "d").await.status, 200);
    for _ in 0..5 {
        assert_eq!(server.post_as_master("/auth/token/introspect", &format!("token={token}")).await.status, 200);
        assert_eq!(server.post_as_master("/auth/token/new", "").await.status, 200, "each is a new client");
    }
    assert!(server.opens(renewed["data"]["access_token"].as_str().unwrap()).await);
    assert_eq!(server.post("/auth/token/revoke", &format!("token={token}")).await.status, 200);
}

/// Who has no token of a client's, and no master token, takes nothing from it.
#[tokio::test]
async fn forged_token_does_not_count() {
    let layer = layer(limited());
    let server = Endpoints::of(&layer).await;
    let stranger = self::layer(settings().cryptography_key("another key of thirty-two bytes.."));
    let forged = stranger.issuer().issue("c").await.unwrap().tokens.refresh_token;
    let issued = layer.issuer().issue("c").await.unwrap();
    for _ in 0..5 {
        let form = format!("refresh_token={}", forged.expose());
        assert_eq!(server.post("/auth/token/refresh", &form).await.status, 401);
        let grant = format!("grant_type=refresh_token&{form}");
        assert_eq!(server.post("/auth/token", &grant).await.status, 400);
        let other = format!("grant_type=refresh_token&refresh_token={}", issued.tokens.refresh_token.expose());
        assert_eq!(server.post("/auth/token", &format!("{other}&client_id=d")).await.status, 400);
        assert_eq!(server.post("/auth/token/new", "client_id=c").await.status, 401);
        for method in ["HEAD", "PUT"] {
            let target = "/auth/token/new?client_id=c";
            assert_eq!(server.send(method, target, &[("master-token", MASTER)], "").await.status, 405);
        }
    }
    let form = format!("refresh_token={}", issued.tokens.refresh_token.expose());
    assert_eq!(server.post("/auth/token/refresh", &form).await.status, 200);
    assert_eq!(issue(&server, "c").await.status, 200);
    assert!(is_limited(&issue(&server, "c").await));
}

/// A token that the store refuses, for whatever reason, does not count against its client.
#[tokio::test]
async fn refused_token_does_not_count() {
    for count in [TokensPerClient::One, TokensPerClient::Many] {
        let layer = layer(limited().tokens_per_client(count).refresh_grace(Duration::ZERO));
        let issuer = layer.issuer();
        let server = Endpoints::of(&layer).await;
        let spent = issuer.issue("c").await.unwrap().tokens.refresh_token;
        issuer.refresh(spent.expose()).await.unwrap();
        let revoked = issuer.issue("c").await.unwrap().tokens.refresh_token;
        assert!(issuer.revoke_token(revoked.expose()).await.unwrap());
        let replaced = issuer.issue("c").await.unwrap().tokens.refresh_token;
        if count == TokensPerClient::Many {
            issuer.revoke_token(replaced.expose()).await.unwrap();
        }
        let honest = issuer.issue("c").await.unwrap().tokens.refresh_token;
        for token in [&spent, &revoked, &replaced] {
            let form = format!("refresh_token={}", token.expose());
            let mut seen = Vec::new();
            for _ in 0..5 {
                seen.push(server.post("/auth/token/refresh", &form).await.status);
                seen.push(server.post("/auth/token", &format!("grant_type=refresh_token&{form}")).await.status);
            }
            assert_eq!(seen, [401, 400, 429, 429, 429, 429, 429, 429, 429, 429], "it has a limit of its own");
        }
        let form = format!("refresh_token={}", honest.expose());
        assert_eq!(server.post("/auth/token/refresh", &form).await.status, 200, "{count:?}");
        assert_eq!(issue(&server, "c").await.status, 200);
        assert!(is_limited(&issue(&server, "c").await));
    }
}

/// What is issued at the same time is counted as well, though only when it is: it has to be waited for afterwards.
#[tokio::test]
async fn concurrent_pairs_are_all_counted() {
    let layer = layer(limited().tokens_per_client(TokensPerClient::Many));
    let server = Endpoints::of(&layer).await;
    let mut forms = Vec::new();
    for _ in 0..10 {
        let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
        forms.push(format!("refresh_token={}", token.expose()));
    }
    let replies = forms.iter().map(|form| server.post("/auth/token/refresh", form));
    let issued = futures_util::future::join_all(replies).await.iter().filter(|reply| reply.status == 200).count();
    assert!(issued >= 2, "{issued}");
    let wait: u64 = issue(&server, "c").await.header("retry-after").parse().unwrap();
    let owed = u64::try_from(issued).unwrap() - 2;
    assert!((owed * 60 + 1..=(owed + 1) * 60).contains(&wait), "{issued} were issued: {wait}");
}

/// The same pair, issued again, is not another pair.
#[tokio::test]
async fn repeated_pair_does_not_count() {
    let layer = layer(limited());
    let server = Endpoints::of(&layer).await;
    let token = layer.issuer().issue("c").await.unwrap().tokens.refresh_token;
    let form = format!("refresh_token={}", token.expose());
    for _ in 0..2 {
        assert_eq!(server.post("/auth/token/refresh", &form).await.status, 200);
    }
    assert_eq!(issue(&server, "c").await.status, 200);
}

#[tokio::test]
async fn limit_is_answered_in_the_form_of_oauth() {
    let server = Endpoints::of(&layer(limited().response_shape(ResponseShape::OAuth))).await;
    while issue(&server, "c").await.status == 200 {}
    let reply = issue(&server, "c").await;
    assert!(is_limited(&reply));
    assert_eq!(reply.json()["error"], "temporarily_unavailable");
}

/// From two addresses of this machine, each with a limit of its own.
#[tokio::test]
async fn caller_is_limited_by_its_address() {
    let settings =
        limited().rate_limit_key(|request| request.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app(layer(settings)).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let guess = async |from: [u8; 4]| {
        let client = reqwest::Client::builder().local_address(std::net::IpAddr::from(from)).build().unwrap();
        let request = client.post(format!("http://{address}/auth/token/new")).header("content-type", FORM);
        request.header("master-token", "a guess").send().await.unwrap().status().as_u16()
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(guess([127, 0, 0, 1]).await);
    }
    assert_eq!(seen, [401, 401, 429, 429], "guesses of the master token count");
    assert_eq!(guess([127, 0, 0, 2]).await, 401);
}

/// A caller that guesses has to wait even if its next token is right, or that would be one more guess.
#[tokio::test]
async fn wrong_master_tokens_are_limited_everywhere() {
    let layer = layer(limited().rate_limit_key(|request| request.headers.get("x-caller").cloned()));
    let server = Endpoints::of(&layer).await;
    let ask = async |(method, path, form): (&str, &str, &str), caller: &str, token: &str| {
        let headers = [("content-type", FORM), ("master-token", token), ("x-caller", caller)];
        server.send(method, path, &headers, form).await
    };
    let places = [
        ("GET", "/master/health", ""),
        ("POST", "/master/health", "x=1"),
        ("GET", "/master/nothing", ""),
        ("POST", "/auth/token/introspect", "token=x"),
        ("POST", "/auth/token/revoke", "client_id=c"),
        ("POST", "/auth/token/revoke", "all=true"),
    ];
    for (number, place) in places.into_iter().enumerate() {
        let caller = format!("caller {number}");
        for _ in 0..5 {
            let right = ask(place, &caller, MASTER).await;
            assert!(!matches!(right.status, 401 | 429), "right ones use nothing up at {place:?}: {right:?}");
        }
        for guess in ["a guess", ""] {
            assert_eq!(ask(place, &caller, guess).await.status, 401, "{place:?}");
        }
        for token in ["another", MASTER] {
            let refused = ask(place, &caller, token).await;
            assert!(is_limited(&refused), "{place:?}: {refused:?}");
            let message = "Too many wrong master tokens, try again later";
            let expected = match place.1 {
                "/auth/token/revoke" | "/auth/token/introspect" => serde_json::json!({
                    "error": "temporarily_unavailable", "error_description": message, "reason": "too_many_guesses",
                }),
                _ => error(429, "too_many_guesses", message),
            };
            assert_eq!((refused.json(), refused.header("www-authenticate")), (expected, ""));
        }
        assert!(!matches!(ask(place, "another", MASTER).await.status, 401 | 429), "others go on");
        let anonymous = [("content-type", FORM), ("master-token", MASTER)];
        assert!(!matches!(server.send(place.0, place.1, &anonymous, place.2).await.status, 401 | 429));
    }
    // It is one limit for all places.
    assert_eq!(ask(places[0], "all", "a").await.status, 401);
    assert_eq!(ask(places[3], "all", "b").await.status, 401);
    assert!(is_limited(&ask(places[4], "all", "c").await));
    let rpc = [("content-type", "application/grpc"), ("master-token", "d"), ("x-caller", "all")];
    let reply = server.send("POST", "/master/rpc", &rpc, "").await;
    assert_eq!((reply.status, reply.header("grpc-status")), (200, "8"));
    // No token is no guess, and neither is one where none is asked for.
    for _ in 0..5 {
        let none = [("x-caller", "none")];
        assert_eq!(server.send("GET", "/master/health", &none, "").await.status, 401);
        assert_eq!(ask(("GET", "/health", ""), "none", "e").await.status, 200);
        assert_eq!(ask(("GET", "/access/health", ""), "none", "e").await.status, 401);
    }
    assert_eq!(ask(places[0], "none", MASTER).await.status, 200);
}

#[tokio::test]
async fn nothing_is_limited_by_default() {
    let server = Endpoints::of(&layer(settings().rate_limit_key(|_| Some("everybody")))).await;
    for _ in 0..50 {
        assert_eq!(issue(&server, "c").await.status, 200);
    }
}

#[tokio::test]
async fn request_without_a_caller_is_limited_by_client() {
    let settings = limited().rate_limit_key(|request| request.headers.get("x-caller").cloned());
    let server = Endpoints::of(&layer(settings)).await;
    for n in 0..5 {
        assert_eq!(issue(&server, &format!("c{n}")).await.status, 200);
    }
    let named = [("content-type", FORM), ("master-token", MASTER), ("x-caller", "a")];
    let mut seen = Vec::new();
    for n in 0..3 {
        let form = format!("client_id=d{n}");
        seen.push(server.send("POST", "/auth/token/new", &named, &form).await.status);
    }
    assert_eq!(seen, [200, 200, 429]);
}

/// A limit that lets a client in again says when.
#[tokio::test]
async fn limited_client_is_admitted_later() {
    let server = Endpoints::of(&layer(settings().rate_limit_per_minute(120).rate_limit_burst(1))).await;
    assert_eq!(issue(&server, "c").await.status, 200);
    let mut waited = 0;
    while issue(&server, "c").await.status == 429 {
        waited += 1;
        assert!(waited < 1000, "it is never let in again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
