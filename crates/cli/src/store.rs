//! `store serve`; and `store test`, which is in `store_test`.

use std::{env::VarError, process::ExitCode, sync::Arc, time::Duration};

use fastauth::{
    Secret,
    store::{SqliteStore, StoreService},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{self, timeout},
};

use self::{connection::Stage, signals::Signals};
use crate::{
    args::{Serve, Store, StoreCommand},
    backup, convert,
    failure::{Failure, chain},
    output, store_test,
};

mod connection;
mod signals;

pub(crate) const BEARER_VARIABLE: &str = "FASTAUTH_STORE_TOKEN";

/// How long after a signal to stop a request may still take to come, and how long calls under way may go on then.
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
            "{} can be reached from other machines, and whoever reads the store has every client's tokens; \
             set {BEARER_VARIABLE} to the bearer token that calls must bring, or listen on 127.0.0.1",
            args.listen
        )));
    }
    let Some(database) = SqliteStore::path_in_url(&args.database) else {
        let problem = "is not sqlite:FILE with the plain path of a file, such as sqlite:tokens.db";
        return Err(Failure::new(format!("{:?} {problem}", args.database)));
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

/// The bearer token of the store, from the environment.
pub(crate) fn bearer_token() -> Result<Option<Secret>, Failure> {
    // As with every variable, a line break at its end is no part of it.
    let without_line_break = |token: String| {
        let token = token.strip_suffix('\n').unwrap_or(&token);
        Secret::from(token.strip_suffix('\r').unwrap_or(token))
    };
    match std::env::var(BEARER_VARIABLE).map(without_line_break) {
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
    let mut signals = Signals::listen()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::new(format!("cannot listen on {}: {error}", args.listen)))?;
    // Calls are answered, whether anybody reads this or not.
    let _ = output::line(&format!("Listening on http://{}", listener.local_addr()?));
    let (stage, connections) = (watch::Sender::new(Stage::Serving), &mut JoinSet::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(connection::serve(stream, service.clone(), stage.subscribe())),
                // Out of descriptors, most likely: it passes as connections end.
                Err(error) => {
                    tracing::warn!(%error, "no connection was accepted");
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
            output::note("fastauth: stopped at once by a second signal; calls under way were given up");
            // Without closing the database, which would wait for what is being written.
            std::process::exit(1)
        }
    }
}

/// Lets calls under way come to their end, and nothing else.
async fn finish(connections: &mut JoinSet<()>, stage: &watch::Sender<Stage>) {
    stage.send_replace(Stage::Stopping);
    if timeout(RECEIVING, all(connections)).await.is_ok() {
        return;
    }
    stage.send_replace(Stage::Answering);
    if timeout(ANSWERING, all(connections)).await.is_err() {
        tracing::warn!("some calls were not answered");
    }
}

async fn all(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}
