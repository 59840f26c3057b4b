//! `store serve`, and the other commands of `store`.

use std::{process::ExitCode, sync::Arc};

use fastauth::{
    Secret,
    store::{MemoryStore, StoreHealth, StoreService, TokenStore},
};
use serde_json::json;
use tokio::sync::watch;

use self::{
    application::{Scope, StoreApplication},
    limit::LimitedStore,
    metrics::Metrics,
};
use crate::{
    args::{Serve, Store, StoreCommand},
    backup,
    bearer::{BEARER_VARIABLE, BearerSource},
    convert,
    database::{Database, warn_of_exposure},
    failure::Failure,
    logging::LogFormat,
    output,
    server::{self, AccessLog, Listener, Signals},
    store_test,
};

mod application;
mod limit;
mod metrics;
mod variables;

pub(crate) fn run(args: Store) -> Result<ExitCode, Failure> {
    let args = match args.command {
        StoreCommand::Serve(args) => args,
        StoreCommand::Backup(args) => return backup::back_up(args),
        StoreCommand::Restore(args) => return backup::restore(args),
        StoreCommand::ResetFeed(args) => return backup::reset_feed(args),
        StoreCommand::Convert(args) => return convert::run(args),
        StoreCommand::Test(args) => return store_test::run(&args),
    };
    let source = BearerSource::new(args.token_file.clone())?;
    let tokens = source.read()?;
    if tokens.is_empty() && !args.listen.is_of_this_machine() {
        return Err(Failure::new(format!(
            "{} can be reached from other machines, and a caller can read every client's tokens: set {} or --token-file to \
             the bearer token that calls must send, or listen on 127.0.0.1",
            args.listen, BEARER_VARIABLE
        )));
    }
    // Before a database is made. Its store is not asked anything.
    with_tokens(&StoreService::new(Arc::new(MemoryStore::new())), &source, tokens.clone())?;
    if let BearerSource::File(path) = &source {
        warn_of_exposure(path);
    }
    let database = Database::served(&args)?;
    variables::warn_of_unknown();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(&args, &database, tokens, &source))
}

fn with_tokens(service: &StoreService, source: &BearerSource, tokens: Vec<Secret>) -> Result<StoreService, Failure> {
    let failure = |error| Failure::new(format!("{source}: {error}"));
    tokens.into_iter().try_fold(service.clone(), |service, token| service.bearer(token).map_err(failure))
}

async fn serve(
    args: &Serve,
    database: &Database,
    tokens: Vec<Secret>,
    source: &BearerSource,
) -> Result<ExitCode, Failure> {
    let metrics_listener = match &args.metrics_listen {
        Some(address) => Some(Listener::bind(address, args.socket_mode).await?),
        None => None,
    };
    let listener = Listener::bind(&args.listen, args.socket_mode).await?;
    // Once it listens: a start that fails leaves no database behind.
    let store = database.open().await?;
    let bearer_tokens = tokens.len();
    let served: Arc<dyn TokenStore> = match args.rate_limit_per_minute {
        Some(per_minute) => Arc::new(LimitedStore::new(Arc::clone(&store), per_minute, args.rate_limit_burst)),
        None => Arc::clone(&store),
    };
    let unguarded = StoreService::new(served).max_feed_readers(args.max_feed_readers);
    let services = watch::Sender::new(with_tokens(&unguarded, source, tokens)?);
    let signals = Signals::listen()?;
    let application = StoreApplication {
        service: services.subscribe(),
        health: Arc::new(StoreHealth::new(store)),
        metrics: Metrics::install()?,
        access_log: AccessLog::new(args.access_log),
        scope: if metrics_listener.is_some() { Scope::Calls } else { Scope::CallsAndMetrics },
    };
    tracing::info!(target: "fastauth", database = database.shown(), bearer_tokens, "serving a token store");
    let mut listeners = Vec::new();
    if let Some(listener) = metrics_listener {
        tracing::info!(target: "fastauth", url = listener.url(), "metrics and health are served");
        listeners.push((listener, StoreApplication { scope: Scope::Metrics, ..application.clone() }));
    }
    // Serving does not depend on standard output.
    let _ = match args.log_format {
        LogFormat::Text => output::line(&format!("Listening on {}", listener.url())),
        LogFormat::Json => output::json_line(&json!({ "message": "listening", "url": listener.url() })),
    };
    listeners.push((listener, application));
    Ok(server::serve(listeners, signals, || reload(&unguarded, source, &services)).await)
}

/// Reads the bearer tokens again. Faulty ones change nothing.
fn reload(unguarded: &StoreService, source: &BearerSource, services: &watch::Sender<StoreService>) {
    if !matches!(source, BearerSource::File(_)) {
        tracing::info!(target: "fastauth", "SIGHUP: nothing to reload, for the bearer token is not in a file");
        return;
    }
    let read = source.read().and_then(|tokens| {
        let bearer_tokens = tokens.len();
        with_tokens(unguarded, source, tokens).map(|service| (service, bearer_tokens))
    });
    match read {
        Ok((service, bearer_tokens)) => {
            services.send_replace(service);
            tracing::info!(target: "fastauth", bearer_tokens, "SIGHUP: the bearer tokens were reloaded");
        }
        Err(failure) => {
            tracing::error!(target: "fastauth", %failure, "SIGHUP: the bearer tokens were not reloaded, and stay as they were");
        }
    }
}
