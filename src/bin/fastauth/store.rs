//! `store serve`; and `store test`, which is in `store_test`.

use std::{env::VarError, process::ExitCode, sync::Arc, time::Duration};

use fastauth::{
    Secret,
    store::{SqliteStore, StoreService},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal, time,
};

use crate::{
    args::{Serve, Store, StoreCommand},
    convert,
    failure::{Failure, chain},
    output, store_test,
};

pub(crate) const BEARER_VARIABLE: &str = "FASTAUTH_STORE_TOKEN";

/// How long calls under way may go on after a signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: Store) -> Result<ExitCode, Failure> {
    let args = match args.command {
        StoreCommand::Serve(args) => args,
        StoreCommand::Convert(args) => return convert::run(args),
        StoreCommand::Test(args) => return store_test::run(&args),
    };
    let bearer = match bearer_token()? {
        None if !args.listen.ip().is_loopback() => {
            return Err(Failure::new(format!(
                "{} can be reached from other machines, and whoever reads the store has every client's tokens; \
                 set {BEARER_VARIABLE} to the bearer token that calls must bring, or listen on 127.0.0.1",
                args.listen
            )));
        }
        bearer => bearer,
    };
    let Some(database) = SqliteStore::path_in_url(&args.database) else {
        return Err(Failure::new(format!("{:?} names no file: write sqlite:FILE", args.database)));
    };
    let store = SqliteStore::open(database)
        .map_err(|error| Failure::new(format!("{}: {}", database.display(), chain(&error))))?;
    let mut service = StoreService::new(Arc::new(store));
    if let Some(bearer) = bearer {
        service = service.bearer(bearer);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(args, service))
}

/// The bearer token of the store, from the environment.
pub(crate) fn bearer_token() -> Result<Option<Secret>, Failure> {
    match std::env::var(BEARER_VARIABLE).map(Secret::from) {
        // No other could be sent.
        Ok(token) if token.expose().bytes().all(|byte| byte.is_ascii_graphic()) && !token.expose().is_empty() => {
            Ok(Some(token))
        }
        Ok(_) | Err(VarError::NotUnicode(_)) => {
            Err(Failure::new(format!("{BEARER_VARIABLE} has to be printable ASCII without spaces")))
        }
        Err(VarError::NotPresent) => Ok(None),
    }
}

async fn serve(args: Serve, service: StoreService) -> Result<ExitCode, Failure> {
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::new(format!("cannot listen on {}: {error}", args.listen)))?;
    output::line(&format!("Listening on http://{}", listener.local_addr()?));
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop_signal());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => handle(stream, service.clone(), &connections),
                // Out of descriptors, most likely: it passes as connections end.
                Err(error) => {
                    tracing::warn!(%error, "no connection was accepted");
                    time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = connections.shutdown() => {}
        () = time::sleep(DRAIN) => tracing::warn!("some connections were still open"),
    }
    Ok(ExitCode::SUCCESS)
}

fn handle(stream: TcpStream, service: StoreService, connections: &GracefulShutdown) {
    let _ = stream.set_nodelay(true);
    // HTTP/1.1 alone, which is all that the contract needs: its timer covers connections that never say anything.
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection broke");
        }
    });
}

async fn stop_signal() {
    #[cfg(unix)]
    {
        let Ok(mut terminate) = signal::unix::signal(signal::unix::SignalKind::terminate()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = signal::ctrl_c().await;
}
