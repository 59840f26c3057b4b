//! gRPC through tonic: a refusal is a gRPC status, and so is the end of a stream with its token.

use std::time::Duration;

use fastauth::{FastAuthLayer, Secret, store::Revocation};
use tokio::{net::TcpListener, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request,
    transport::{Channel, Server},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

use crate::app::{access_token, settings};

/// A server, a client of it, and its access token.
async fn start() -> (FastAuthLayer, HealthClient<Channel>, Secret) {
    let settings = settings().access_token_paths(["/grpc.health.v1.Health/"]);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (_, health) = health_reporter();
    let server = Server::builder().layer(layer.clone()).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    (layer, HealthClient::new(channel), token)
}

fn with_token(token: &Secret) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("access-token", token.expose().parse().unwrap());
    request
}

#[tokio::test]
async fn a_method_asks_for_its_credentials() {
    let (_, mut client, token) = start().await;
    let refused = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "Invalid Access Token. Access Token is null")
    );
    assert!(client.check(with_token(&token)).await.is_ok());
}

#[tokio::test]
async fn a_stream_ends_with_its_token_by_a_status() {
    let (layer, mut client, token) = start().await;
    let mut stream = client.watch(with_token(&token)).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(timeout(Duration::from_millis(50), stream.message()).await.is_err(), "it goes on");
    layer.issuer().revoke(&Revocation::Client("alice".to_owned())).await.unwrap();
    let ended = timeout(Duration::from_secs(20), stream.message()).await.unwrap().unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unauthenticated, "the access token was revoked"));
    let refused = client.watch(with_token(&token)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
