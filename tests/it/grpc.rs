//! gRPC through tonic: a refusal is a gRPC status.

use fastauth::FastAuthLayer;
use tokio::net::TcpListener;
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

#[tokio::test]
async fn a_method_asks_for_its_credentials() {
    let settings = settings().access_token_paths(["/grpc.health.v1.Health/"]);
    let layer = FastAuthLayer::new(settings.build().unwrap()).unwrap();
    let token = access_token(&layer, "alice").await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (_, health) = health_reporter();
    let server = Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let refused = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "Invalid Access Token. Access Token is null")
    );

    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("access-token", token.expose().parse().unwrap());
    assert!(client.check(request).await.is_ok());
}
