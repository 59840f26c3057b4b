//! `store serve`, and the other commands of `store`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use fastauth::store::{SqliteStore, StoreService};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{self, timeout},
};

use self::{connection::Stage, signals::Signals};
use crate::{
    args::{Serve, Store, StoreCommand},
    backup,
    bearer::{BEARER_VARIABLE, bearer_token},
    convert,
    failure::{Failure, chain},
    output, store_test,
};

mod connection;
mod signals;

/// How long after a signal to stop a request may still take to arrive, and how long calls in progress may then go on.
const RECEIVING: Duration = Duration::from_secs(1);
const ANSWERING: Duration = Duration::from_secs(9);

pub(crate) fn run(args: Store) -> Result<ExitCode, Failure> {
    let args = match args.command {
        StoreCommand::Serve(args) => args,
        StoreCommand::Backup(args) => return backup::back_up(args),
        StoreCommand::Restore(args) => return backup::restore(args),
        StoreCommand::Convert(args) => return convert::run(args),
        StoreCommand::Test(args) => return store_test::run(&args),
    };
    let bearer = bearer_token()?;
    if bearer.is_none() && !args.listen.ip().is_loopback() {
        return Err(Failure::new(format!(
            "{} can be reached from other machines, and a caller can read every client's tokens: \
             set {BEARER_VARIABLE} to the bearer token that calls must send, or listen on 127.0.0.1",
            args.listen
        )));
    }
    let Some(database) = SqliteStore::path_in_url(&args.database) else {
        let remedy = "write sqlite:FILE with the plain path of a file, such as sqlite:tokens.db";
        return Err(Failure::new(format!("--database {:?} is not a database: {remedy}", args.database)));
    };
    let store = SqliteStore::open(database)
        .map_err(|error| Failure::new(format!("{}: {}", database.display(), chain(&error))))?;
    if let Some(warning) = fastauth::config::exposure(database) {
        output::note(&format!("warning: {warning}"));
    }
    let mut service = StoreService::new(Arc::new(store));
    if let Some(bearer) = bearer {
        service = service.bearer(bearer).map_err(|error| Failure::new(format!("{BEARER_VARIABLE}: {error}")))?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(args, service))
}

async fn serve(args: Serve, service: StoreService) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::new(format!("cannot listen on {}: {error}", args.listen)))?;
    // Serving does not depend on standard output.
    let _ = output::line(&format!("Listening on http://{}", listener.local_addr()?));
    let stage = watch::Sender::new(Stage::Serving);
    let connections = &mut JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connection::serve(stream, service.clone(), stage.subscribe())),
                // Out of descriptors, most likely: it passes as connections end.
                Err(error) => {
                    tracing::warn!(target: "fastauth", %error, "cannot accept a connection");
                    time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = signals.next() => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = finish(connections, &stage) => Ok(ExitCode::SUCCESS),
        () = signals.next() => {
            output::note("fastauth: stopped at once by a second signal; calls in progress were dropped");
            // The database is not closed, for that would wait for writes in progress.
            std::process::exit(1)
        }
    }
}

/// Completes the calls in progress.
async fn finish(connections: &mut JoinSet<()>, stage: &watch::Sender<Stage>) {
    stage.send_replace(Stage::Stopping);
    if timeout(RECEIVING, all(connections)).await.is_ok() {
        return;
    }
    stage.send_replace(Stage::Answering);
    if timeout(ANSWERING, all(connections)).await.is_err() {
        tracing::warn!(target: "fastauth", "some calls were not answered");
    }
}

async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}
