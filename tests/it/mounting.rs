//! Every way to put the layer around an application, and the token endpoints into it: each compiles as it is written here, and guards.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    routing::get,
};
use bytes::Bytes;
use fastauth::{FastAuthLayer, Permit, TokenRouter};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::{
    app::{MASTER, layer},
    support::stores::any_port,
};

#[derive(Clone)]
struct AppState {
    greeting: &'static str,
}

const STATE: AppState = AppState { greeting: "hello" };

async fn hello(permit: Permit) -> String {
    format!("hello, {}", permit.client_id().unwrap_or("master"))
}

async fn hello_with_state(State(state): State<AppState>, permit: Permit) -> String {
    format!("{}, {}", state.greeting, permit.client_id().unwrap_or("master"))
}

fn routes() -> Router {
    Router::new().route("/access/hello", get(hello))
}

fn routes_with_state() -> Router<AppState> {
    Router::new().route("/access/hello", get(hello_with_state))
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn serve(app: Router) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Checks that a guarded path is refused and opened, and that a token is issued.
async fn check(how: &str, address: SocketAddr) {
    let client = reqwest::Client::new();
    let hello = format!("http://{address}/access/hello");
    let refused = client.get(&hello).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{how}");
    let issue = client.post(format!("http://{address}/auth/token/new")).header("MASTER-TOKEN", MASTER);
    let issued =
        issue.header("content-type", "application/json").body(r#"{"client_id":"alice"}"#).send().await.unwrap();
    assert_eq!(issued.status(), StatusCode::OK, "{how}");
    let issued: serde_json::Value = issued.json().await.unwrap();
    let token = issued["data"]["access_token"].as_str().unwrap();
    let response = client.get(&hello).header("ACCESS-TOKEN", token).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello, alice", "{how}");
}

#[tokio::test]
async fn endpoints_are_mounted_by_each_method_of_axum() {
    let auth = layer();
    for (how, app) in [
        ("nest_service", routes().nest_service("/auth", auth.router()).layer(auth.clone())),
        ("merge", routes().merge(auth.router()).layer(auth.clone())),
        ("nest", routes().nest("/auth", auth.router().prefix("").into()).layer(auth.clone())),
        ("fallback_service", routes().fallback_service(auth.router()).layer(auth.clone())),
        ("route_service", routes().route_service("/auth/token/new", auth.router()).layer(auth.clone())),
        ("nest_service and state", {
            routes_with_state().nest_service("/auth", auth.router()).layer(auth.clone()).with_state(STATE)
        }),
        ("merge and state", routes_with_state().merge(auth.router()).layer(auth.clone()).with_state(STATE)),
        ("merge after state", routes_with_state().with_state(STATE).merge(auth.router()).layer(auth.clone())),
        ("nest and state", {
            let tokens = auth.router().prefix("").into();
            routes_with_state().nest("/auth", tokens).layer(auth.clone()).with_state(STATE)
        }),
        ("the layer by value, last", {
            let auth = auth.clone();
            routes().nest_service("/auth", auth.router()).layer(auth)
        }),
    ] {
        check(how, serve(app).await).await;
    }
}

#[tokio::test]
async fn layer_goes_around_everything_that_is_served() {
    let auth = layer();
    let app = || routes().nest_service("/auth", auth.router());

    let (listener, address) = listen().await;
    let around = auth.around(app());
    tokio::spawn(async move { axum::serve(listener, around).await });
    check("around", address).await;

    let (listener, address) = listen().await;
    let around = auth.around(routes_with_state().merge(auth.router()).with_state(STATE));
    tokio::spawn(async move { axum::serve(listener, around.into_make_service()).await });
    check("around, into_make_service", address).await;

    let (listener, address) = listen().await;
    let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string();
    let around = auth.around(app().route("/peer", get(peer)));
    let serve = async move { axum::serve(listener, around.into_make_service_with_connect_info::<SocketAddr>()).await };
    tokio::spawn(serve);
    check("around, into_make_service_with_connect_info", address).await;
    let peer = reqwest::get(format!("http://{address}/peer")).await.unwrap();
    assert_eq!(peer.text().await.unwrap(), "127.0.0.1");

    let (listener, address) = listen().await;
    let around = auth.around(app());
    let serve = async move { axum::serve(listener, around).with_graceful_shutdown(std::future::pending()).await };
    tokio::spawn(serve);
    check("around, with_graceful_shutdown", address).await;
}

#[tokio::test]
async fn layer_stands_in_the_builder_of_tower() {
    let auth = layer();
    let stack = ServiceBuilder::new().layer(tower_http::trace::TraceLayer::new_for_http()).layer(auth.clone());
    check("Router::layer", serve(routes().merge(auth.router()).layer(stack)).await).await;

    let around = ServiceBuilder::new().layer(auth.clone()).service(routes().merge(auth.router()));
    check("around a router", serve(Router::new().fallback_service(around)).await).await;
}

#[tokio::test]
async fn layer_guards_a_service_of_hyper() {
    async fn answer(
        request: hyper::Request<Incoming>,
        tokens: TokenRouter,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.uri().path().starts_with("/auth/") {
            return tokens.oneshot(request).await;
        }
        let permit = request.extensions().get::<Permit>();
        let client = permit.and_then(Permit::client_id).unwrap_or_default();
        Ok(Response::new(Full::from(format!("hello, {client}"))))
    }
    let auth = layer();
    let tokens = auth.router();
    let service = auth.layer(service_fn(move |request| answer(request, tokens.clone())));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let server = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    check("hyper", address).await;
}

#[tokio::test]
async fn layer_guards_a_server_of_tonic() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let settings = crate::app::settings().access_token_paths(["/grpc.health.v1.Health/"]);
    let auth = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let (listener, address) = listen().await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().layer(auth.clone()).add_service(health);
    tokio::spawn(server.serve_with_incoming(incoming));
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let refused = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let token = auth.issuer().issue("alice").await.unwrap().tokens.access_token;
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {}", token.expose()).parse().unwrap());
    assert!(client.check(request).await.is_ok());
}

/// A request that is put into the service itself, as tests of applications do.
#[tokio::test]
async fn guarded_router_is_called_without_a_socket() {
    let auth = layer();
    let app = auth.around(routes());
    let request = Request::get("/access/hello").body(axum::body::Body::empty()).unwrap();
    assert_eq!(app.oneshot(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}
