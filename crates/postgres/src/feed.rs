//! Being told of changes: NOTIFY of those that write, LISTEN of those that read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastauth_core::{random::unique_name, store::StoreError};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};
use tokio_postgres::AsyncMessage;

use super::{
    error::timed_out,
    server::{Readers, Server},
    value::{Query, Value},
};

/// How the changes of other processes are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// By LISTEN if notifications arrive, which a store finds out by sending one to itself; else as [`Poll`](Self::Poll). They do not
    /// arrive through a pooler that shares out connections by transactions.
    #[default]
    Auto,
    /// By LISTEN. As long as no notifications arrive, as [`Poll`](Self::Poll).
    Listen,
    /// By asking ten times a second.
    Poll,
}

const CHANNEL: &str = "fastauth_change";
/// The least time between two notifications. Each holds a lock of the whole server for a moment.
const SPACING: Duration = Duration::from_millis(10);
/// How long a notification to oneself may take.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How often the listening connection is tried.
const TRIALS: Duration = Duration::from_secs(10);
/// The pause after a connection was lost.
const PAUSE: Duration = Duration::from_millis(300);
/// How long no notifications are expected after one has not arrived.
const DEAF: Duration = Duration::from_secs(60);
/// How often a reader asks if it is told of nothing, and if it is told of everything.
const POLLING: Duration = Duration::from_millis(100);
const LISTENING: Duration = Duration::from_secs(1);

/// Wakes the readers of the log.
#[derive(Debug)]
pub(crate) struct Wake {
    notifications: watch::Sender<()>,
    is_listening: AtomicBool,
}

impl Wake {
    pub(crate) fn new() -> Self {
        Self { notifications: watch::Sender::new(()), is_listening: AtomicBool::new(false) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.notifications.subscribe()
    }

    /// Returns how long a reader waits that is not told of anything.
    pub(crate) fn interval(&self) -> Duration {
        if self.is_listening.load(Ordering::Relaxed) { LISTENING } else { POLLING }
    }
}

/// Tells other processes that there are changes, at once for the first and then in intervals.
pub(crate) async fn tell(connection: Arc<Readers>, written: Arc<Notify>) {
    loop {
        written.notified().await;
        // Readers ask after a second all the same.
        let _ = notify(&connection, String::new()).await;
        sleep(SPACING).await;
    }
}

async fn notify(connection: &Readers, payload: String) -> Result<(), StoreError> {
    let values = [Value::Text(CHANNEL), Value::Name(payload)];
    connection.query(Query::new("SELECT pg_notify($1, $2)", values)).await.map(drop)
}

/// Listens, on one connection after the other.
pub(crate) async fn listen(server: Server, feed: Feed, connection: Arc<Readers>, wake: Arc<Wake>) {
    if feed == Feed::Poll || (feed == Feed::Auto && server.is_pooled()) {
        return;
    }
    loop {
        let heard = hear(&server, &connection, &wake).await;
        wake.is_listening.store(false, Ordering::Relaxed);
        match heard {
            Ok(Heard::Something) | Err(_) => sleep(PAUSE).await,
            Ok(Heard::Nothing) => {
                tracing::info!(target: "fastauth", "notifications of the token database do not arrive: changes are asked for ten times a second");
                sleep(DEAF).await;
            }
        }
    }
}

/// What became of a listening connection.
enum Heard {
    Nothing,
    /// It was of use, until it was lost.
    Something,
}

async fn hear(server: &Server, connection: &Readers, wake: &Arc<Wake>) -> Result<Heard, StoreError> {
    let name = unique_name();
    let own_name = name.clone();
    let woken = Arc::clone(wake);
    let (arrival, arrived) = oneshot::channel();
    let mut arrival = Some(arrival);
    let (open, mut closed) = oneshot::channel::<()>();
    let client = server.open_for(move |message| {
        let _ = &open;
        if let AsyncMessage::Notification(notification) = message {
            if notification.payload() == own_name
                && let Some(arrival) = arrival.take()
            {
                let _ = arrival.send(());
            }
            woken.notifications.send_replace(());
        }
    });
    let client = client.await?;
    let listening = timeout(ARRIVAL, client.batch_execute("LISTEN fastauth_change")).await.map_err(|_| timed_out())?;
    listening.map_err(|error| super::error::said(&error))?;
    notify(connection, name).await?;
    if timeout(ARRIVAL, arrived).await.is_err() {
        return Ok(Heard::Nothing);
    }
    wake.is_listening.store(true, Ordering::Relaxed);
    // There may have been changes while nothing was heard.
    wake.notifications.send_replace(());
    loop {
        if timeout(TRIALS, &mut closed).await.is_ok() {
            return Ok(Heard::Something);
        }
        // A connection that was cut without a word.
        if timeout(ARRIVAL, client.batch_execute("SELECT 1")).await.is_err() {
            return Ok(Heard::Something);
        }
    }
}
