//! A tonic server behind the guard, and a client that sends its token: `cargo run -p example-tonic`.
//!
//! A gRPC method's path is `/package.Service/Method`, so a prefix guards a service.

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
};

use fastauth::{FastAuthLayer, Secret, Settings, store::MemoryStore};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request,
    transport::{Channel, Server},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::builder()
        .cryptography_key(Secret::generate())
        .access_token_paths(["/grpc.health.v1.Health/"])
        .store(MemoryStore::new())
        .build()?;
    let auth = FastAuthLayer::new(settings)?;
    let tokens = auth.issuer().issue("grpc-client").await?.tokens;

    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = format!("http://{}", listener.local_addr()?);
    let (_, health) = health_reporter();
    let server = Server::builder().layer(auth).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut client = HealthClient::new(Channel::from_shared(address)?.connect().await?);
    let refused = client.check(HealthCheckRequest::default()).await.err();
    let refused = refused.map(|status| (status.code(), status.message().to_owned()));
    writeln!(io::stdout(), "without a token: {refused:?}")?;

    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {}", tokens.access_token.expose()).parse()?);
    writeln!(io::stdout(), "with a token: {:?}", client.check(request).await?.into_inner())?;
    Ok(())
}
