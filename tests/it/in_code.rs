//! What an application decides in code, where that meets the rest: bodies, tickets, preflights, `HEAD` and logs.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    routing::{any, get},
};
use fastauth::{
    AccessCheck, AccessFuture, AccessQuestion, ClaimsRefusal, FastAuthLayer, Grant, Permit, Principal, Refusal,
    Rejection, Require, Rule, SettingsBuilder,
    config::{Ambiguous, TokensPerClient},
    extract::Claims,
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, make::Shared, service_fn};
use tower_http::cors::{Any, CorsLayer};

use crate::{
    app::{Endpoints, FORM, MASTER, serve, settings},
    support::{
        kept::{Kept, KeptAnswer},
        log,
    },
};

fn layer(settings: SettingsBuilder) -> FastAuthLayer {
    FastAuthLayer::new(settings.build().unwrap()).unwrap()
}

async fn token(layer: &FastAuthLayer, claims: Value) -> String {
    let issued = layer.issuer().issue_with("alice", claims).await.unwrap();
    issued.tokens.access_token.expose().to_owned()
}

/// Without lists, so that rules decide alone.
fn ruled<const N: usize>(rules: [Rule; N]) -> SettingsBuilder {
    settings().access_token_paths::<&str>([]).master_token_paths::<&str>([]).rules(rules)
}

async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)]) -> KeptAnswer {
    Kept::open(address).await.ask(line, headers).await
}

/// Answers by the last segment of the path.
fn answered(rejection: Rejection<'_>) -> Response<String> {
    let wish = rejection.request.uri.path().rsplit('/').next().unwrap_or_default();
    let (mut head, body) = rejection.response.into_parts();
    let body = match wish {
        "short" => "no".to_owned(),
        "long" => "no ".repeat(1000),
        "empty" | "none" | "unmodified" => String::new(),
        "none-with-body" | "chunked" => "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
        _ => String::from_utf8(body.to_vec()).unwrap(),
    };
    match wish {
        "none" | "none-with-body" => head.status = StatusCode::NO_CONTENT,
        "unmodified" => head.status = StatusCode::NOT_MODIFIED,
        "chunked" => {
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            head.headers.append(CONTENT_LENGTH, HeaderValue::from_static("3"));
        }
        _ => {}
    }
    Response::from_parts(head, body)
}

#[tokio::test]
async fn answer_of_the_application_has_the_length_of_its_own_body() {
    let address = serve(crate::app::app(layer(settings().on_reject(answered)))).await;
    let plain = serve(crate::app::app(layer(settings()))).await;
    let unchanged = ask(plain, "GET /access/same", &[]).await.body;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut kept = Kept::open(address).await;
    for (wish, status, body) in [
        ("short", 401, "no"),
        ("long", 401, &*"no ".repeat(1000)),
        ("empty", 401, ""),
        ("same", 401, &*unchanged),
        ("chunked", 401, "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("none", 204, ""),
        ("none-with-body", 204, ""),
        ("unmodified", 304, ""),
    ] {
        let got = kept.ask(&format!("GET /access/{wish}"), &[]).await;
        assert_eq!((got.status, &*got.body), (status, body), "{wish}");
        let head = kept.ask(&format!("HEAD /access/{wish}"), &[]).await;
        assert_eq!(head.status, status, "{wish}");
        if status == 401 {
            assert_eq!(head.header("content-length"), body.len().to_string(), "{wish}: as that of GET");
        }
        // The connection is where client and server think it is.
        assert_eq!(kept.ask("GET /health", &[]).await.status, 200, "{wish}");

        for method in [Method::GET, Method::HEAD] {
            let got = client.request(method.clone(), format!("http://{address}/access/{wish}")).send().await.unwrap();
            assert_eq!(got.status(), status, "{wish}");
            let expected = if method == Method::GET { body } else { "" };
            assert_eq!(got.text().await.unwrap(), expected, "{wish}, over HTTP/2");
        }
    }
}

/// Lets only `root` use what the rule with this name decides on, and nobody who wishes to be refused.
struct ByRule;

impl AccessCheck for ByRule {
    fn check<'a>(&'a self, question: AccessQuestion<'a>) -> AccessFuture<'a> {
        Box::pin(async move {
            let is_root = question.claims.is_some_and(|claims| claims.get("root") == Some(&json!(true)));
            if question.rule.and_then(Rule::given_name) == Some("admin") && !is_root {
                return Err(Refusal::new("for root"));
            }
            match question.request.headers.get("wish").map(HeaderValue::as_bytes) {
                Some(b"refuse") => Err(Refusal::new("not today")),
                Some(b"fail") => Err(Refusal::failed("the engine is away")),
                _ => Ok(()),
            }
        })
    }
}

#[tokio::test]
async fn check_by_the_rule_sees_every_rule_that_won() {
    let rules = [
        Rule::prefix("/").access(),
        Rule::exact("/admin").access().name("admin"),
        Rule::prefix("/admin/{*rest}").access().name("below"),
    ];
    let layer = layer(ruled(rules).ambiguous(Ambiguous::Protect).access_check(ByRule));
    let alice = token(&layer, json!({})).await;
    let address = serve(Router::new().route("/{*path}", any(async || "passed")).layer(layer.clone())).await;
    let mut kept = Kept::open(address).await;
    for (target, status) in [
        ("/admin", 403),
        ("/admin/", 403),
        ("/x/../admin", 403),
        ("//admin", 403),
        ("/%61dmin", 403),
        ("/admin;v=1", 403),
        // It has no sound reading, so that all rules count.
        ("/caf%E9", 403),
        ("/admin/x", 200),
        ("/elsewhere", 200),
        ("/else%77here", 200),
    ] {
        log::capture();
        let answer = kept.ask(&format!("GET {target}"), &[("access-token", &alice)]).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
        let logged = log::captured_of_server();
        assert_eq!(logged.contains("rule=\"admin\" level=\"access\" outcome=\"refused\""), status == 403, "{logged}");
    }
    let root = token(&layer, json!({ "root": true })).await;
    for target in ["/admin", "/x/../admin"] {
        assert_eq!(kept.ask(&format!("GET {target}"), &[("access-token", &root)]).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn request_that_the_application_refuses_leaves_its_ticket() {
    let layer = layer(settings().tokens_per_client(TokensPerClient::Many).access_check(ByRule));
    let app = Router::new()
        .route("/access/file", get(async |permit: Permit| permit.client_id().unwrap().to_owned()))
        .nest_service("/auth", layer.router());
    let address = serve(app.layer(layer.clone())).await;
    let alice = token(&layer, json!({})).await;
    let headers = [("access-token", &*alice), ("content-type", FORM)];
    let issued = Endpoints::at(address).send("POST", "/auth/ticket", &headers, "path=/access/file").await.json();
    let line = format!("GET /access/file?ticket={}", issued["ticket"].as_str().unwrap());
    for wish in ["refuse", "fail"] {
        assert!(ask(address, &line, &[("wish", wish)]).await.status >= 403, "{wish}");
    }
    let answer = ask(address, &line, &[]).await;
    assert_eq!((answer.status, &*answer.body), (200, "alice"));
    assert_eq!(ask(address, &line, &[]).await.status, 401, "it opens one request");
}

#[tokio::test]
async fn check_that_fails_is_an_error_in_the_log() {
    for is_cached in [true, false] {
        let layer = layer(settings().cache(is_cached).access_check(ByRule));
        let alice = token(&layer, json!({})).await;
        let address = serve(crate::app::app(layer)).await;
        for (wish, status, level, told) in [
            ("fail", 500, "ERROR", "the engine is away"),
            ("refuse", 403, "INFO", "the application refused: not today"),
        ] {
            log::capture();
            let answer = ask(address, "GET /access/health", &[("access-token", &alice), ("wish", wish)]).await;
            assert_eq!(answer.status, status);
            let logged = log::captured_of_server();
            let line = logged.lines().find(|line| line.contains(told)).expect("it is logged");
            assert!(line.contains(level) && line.contains("client=\"alice\""), "{line}");
            assert!(!answer.body.contains("engine"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn claims_hook_at_fault_is_an_error_in_the_log() {
    let hook = |grant: Grant| async move {
        if grant.client_id == "unknown" {
            return Err(ClaimsRefusal::new(StatusCode::FORBIDDEN, "no such client"));
        }
        Ok(json!({ "exp": 1 }).as_object().unwrap().clone())
    };
    let address = serve(crate::app::app(layer(settings().claims_hook(hook)))).await;
    for (client, status, level) in [("alice", 500, "ERROR"), ("unknown", 403, "INFO")] {
        log::capture();
        let line = format!("GET /auth/token/new?client_id={client}");
        assert_eq!(ask(address, &line, &[("master-token", MASTER)]).await.status, status);
        let logged = log::captured_of_server();
        let line = logged.lines().find(|line| line.contains("not issued")).expect("it is logged");
        assert!(line.contains(level), "{line}");
    }
}

#[derive(serde::Deserialize)]
struct Nothing {}

const PREFLIGHT: [(&str, &str); 2] = [("origin", "https://a.example"), ("access-control-request-method", "GET")];

#[tokio::test]
async fn preflight_passes_the_demands_in_code() {
    let rules = [
        Rule::prefix("/access").access(),
        Rule::prefix("/master").master(),
        Rule::prefix("/optional").optional(),
        Rule::prefix("/old").deny(),
        Rule::prefix("/open").public(),
    ];
    let layer = layer(ruled(rules).skip_preflight(true));
    let cors = || CorsLayer::new().allow_origin(Any).allow_methods([Method::GET]);
    let demanded =
        |path: &str, demand: Require| Router::new().route(path, get(async || "passed")).layer(cors()).layer(demand);
    let app = demanded("/access/role", Require::roles_any(["admin"]))
        .merge(demanded("/master/token", Require::master()))
        .merge(demanded("/optional/role", Require::roles_any(["admin"])))
        .route("/access/permit", any(async |_: Permit| "passed"))
        .route("/access/claims", any(async |_: Claims<Nothing>| "passed"))
        .route("/access/maybe", any(async |permit: Option<Permit>| format!("{}", permit.is_some())));
    let address = serve(app.layer(layer)).await;
    for path in ["/access/role", "/master/token", "/optional/role", "/x/../access/role", "/acc%65ss/role"] {
        let answer = ask(address, &format!("OPTIONS {path}"), &PREFLIGHT).await;
        let origin = answer.header("access-control-allow-origin");
        assert_eq!((answer.status, origin), (200, "*"), "{path}: {}", answer.body);
        // What is no preflight needs what it needs.
        for headers in [&PREFLIGHT[..1], &PREFLIGHT[1..], &[]] {
            assert!(matches!(ask(address, &format!("OPTIONS {path}"), headers).await.status, 401 | 403), "{path}");
        }
        assert!(matches!(ask(address, &format!("GET {path}"), &PREFLIGHT).await.status, 401 | 403), "{path}");
    }
    assert_eq!(ask(address, "OPTIONS /old", &PREFLIGHT).await.status, 403);
    // A handler that takes a permit cannot run without one.
    for path in ["/access/permit", "/access/claims"] {
        let answer = ask(address, &format!("OPTIONS {path}"), &PREFLIGHT).await;
        assert_eq!((answer.status, &*answer.reason()), (401, "missing_access_token"), "{path}");
    }
    assert_eq!(ask(address, "OPTIONS /access/maybe", &PREFLIGHT).await.body, "false");
}

/// Without axum, which takes the bodies out of answers to HEAD.
#[tokio::test]
async fn answer_to_head_has_no_body_if_a_demand_is_misplaced() {
    let inner = service_fn(async |_: Request<_>| Ok::<_, std::convert::Infallible>(Response::new(String::new())));
    let layer = layer(settings());
    let service = layer.layer(Require::roles_any(["admin"]).layer(inner));
    let service = ServiceExt::<Request<Body>>::map_response(service, |answer| answer.map(Body::new));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(std::future::IntoFuture::into_future(axum::serve(listener, Shared::new(service))));

    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for (method, has_body) in [(Method::GET, true), (Method::HEAD, false)] {
        let request = Request::builder().method(method.clone()).uri(format!("http://{address}/open"));
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 500);
        assert!(answer.headers().contains_key(CONTENT_LENGTH), "{method}");
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(data) = body.data().await {
            bytes += data.unwrap().len();
        }
        assert_eq!(bytes > 0, has_body, "{method}");
        client = client.ready().await.unwrap();
    }
}

#[tokio::test]
async fn demand_that_no_request_can_meet_is_misplaced_for_all() {
    let layer = layer(ruled([Rule::prefix("/").optional()]));
    let alice = token(&layer, json!({})).await;
    let demanded = |path: &str, demand: Require| Router::new().route(path, get(async || "passed")).layer(demand);
    let app = demanded("/master", Require::master())
        .merge(demanded("/user", Require::principal(Principal::User)))
        .merge(demanded("/role", Require::roles_any(["admin"])));
    let address = serve(app.layer(layer)).await;
    let with_token = [("access-token", &*alice), ("master-token", MASTER)];
    for (path, logged) in [("/master", "does not need the master token"), ("/user", "set `service-claim`")] {
        for headers in [&[][..], &with_token] {
            log::capture();
            let answer = ask(address, &format!("GET {path}"), headers).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (500, ""), "{path}");
            assert!(log::captured_of_server().contains(logged), "{path}");
        }
    }
    let answer = ask(address, "GET /role", &[]).await;
    assert_eq!((answer.status, &*answer.reason()), (401, "missing_access_token"));
}
