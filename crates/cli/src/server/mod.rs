//! A server of HTTP/1.1 for the commands that serve: it listens, serves connections, and stops when it is signalled to.

use std::{process::ExitCode, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, timeout},
};

pub(crate) use self::{
    access_log::AccessLog,
    connection::{Application, RequestBody},
    listen::{ListenAddress, Listener, SocketMode},
    signals::Signals,
};
use self::{connection::Stage, signals::Signal};
use crate::output;

mod access_log;
mod connection;
mod listen;
mod notify;
mod patience;
mod signals;
#[cfg(unix)]
mod unix_socket;

/// How long after a signal to stop a request may still take to arrive, and how long calls in progress may then go on.
const RECEIVING: Duration = Duration::from_secs(1);
const ANSWERING: Duration = Duration::from_secs(9);

/// Serves each application on its listener until a signal to stop, and calls `reload` at each SIGHUP.
pub(crate) async fn serve<A: Application>(
    applications: Vec<(Listener, A)>,
    mut signals: Signals,
    reload: impl Fn(),
) -> ExitCode {
    let stage = watch::Sender::new(Stage::Serving);
    let listening = &mut JoinSet::new();
    let stopped: Vec<_> = applications.iter().map(|(_, application)| application.clone()).collect();
    for (listener, application) in applications {
        listening.spawn(accept(listener, application, stage.subscribe()));
    }
    notify::ready();
    while let Signal::Reload = signals.next().await {
        reload();
    }
    notify::stopping();
    tracing::info!(target: "fastauth", "stopping: calls in progress are completed");
    stopped.iter().for_each(Application::stop);
    tokio::select! {
        () = finish(listening, &stage) => ExitCode::SUCCESS,
        () = signals.stop() => {
            output::note("fastauth: stopped at once by a second signal; calls in progress were dropped");
            // The database is not closed, for that would wait for writes in progress.
            std::process::exit(1)
        }
    }
}

/// Accepts connections until the server stops, and then waits for the ones that are open.
async fn accept<A: Application>(listener: Listener, application: A, mut stage: watch::Receiver<Stage>) {
    let connections = &mut JoinSet::new();
    let stopping = stage.clone();
    let stop = connection::reached(&mut stage, Stage::Stopping);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection::serve(stream, peer, application.clone(), stopping.clone()));
                }
                // Out of descriptors, most likely: it passes as connections end.
                Err(error) => {
                    tracing::warn!(target: "fastauth", %error, "cannot accept a connection");
                    time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    all(connections).await;
}

/// Completes the calls in progress.
async fn finish(listening: &mut JoinSet<()>, stage: &watch::Sender<Stage>) {
    stage.send_replace(Stage::Stopping);
    if timeout(RECEIVING, all(listening)).await.is_ok() {
        return;
    }
    stage.send_replace(Stage::Answering);
    if timeout(ANSWERING, all(listening)).await.is_err() {
        tracing::warn!(target: "fastauth", "some calls were not answered");
    }
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
