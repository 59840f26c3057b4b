//! A tonic server behind the guard, and a client that sends its token, also for a stream, which ends with the token:
//! `cargo run -p example-tonic`.
//!
//! A gRPC method's path is `/package.Service/Method`, so a prefix guards a service.

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
};

use fastauth::{
    FastAuthLayer, Secret, Settings,
    store::{MemoryStore, Revocation},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Status,
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
    let server = Server::builder().layer(auth.clone()).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut client = HealthClient::new(Channel::from_shared(address)?.connect().await?);
    let refused = client.check(HealthCheckRequest::default()).await.err();
    writeln!(io::stdout(), "without a token: {:?}", refused.as_ref().map(said))?;

    let token = tokens.access_token.expose();
    writeln!(io::stdout(), "with a token: {:?}", client.check(with_token(token)?).await?.into_inner())?;

    let mut stream = client.watch(with_token(token)?).await?.into_inner();
    writeln!(io::stdout(), "from a stream: {:?}", stream.message().await?)?;
    auth.issuer().revoke(&Revocation::Client("grpc-client".to_owned())).await?;
    let ended = stream.message().await.err();
    writeln!(io::stdout(), "when the token is revoked: {:?}", ended.as_ref().map(said))?;
    Ok(())
}

fn with_token(token: &str) -> Result<Request<HealthCheckRequest>, Box<dyn Error>> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

fn said(status: &Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}
