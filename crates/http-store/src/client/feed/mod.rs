//! The feed of a store's changes: one task reads it for all clones of a [`RestStore`](super::RestStore), and announces what it tells.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastauth_core::{
    clock::Clock,
    random::random_bytes,
    store::{ChangeKind, Changes, LogPoint, StoreError, StoreErrorKind, first},
};
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use self::{
    replica::{ClientChange, Replica},
    sse::{Event, EventReader},
    watch::{SILENCE, Watch},
};
use super::{
    connection::{Connection, HttpCall, invalid},
    stream::ServerStream,
};
use crate::wire::{self, HexDigest};

mod replica;
mod snapshot;
mod sse;
mod watch;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest first pause before the stream is opened again; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the replica is looked through for what is of no use any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// The feed of one store. It is read once the store has announced that it has one, until the last clone is dropped.
pub(super) struct Feed {
    follower: Follower,
    task: Task,
}

/// The task that reads the feed, if there is one.
#[derive(Default)]
struct Task(Mutex<Option<AbortHandle>>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Is told of what happens to the feed.
pub type FeedListener = Arc<dyn Fn(FeedNews) + Send + Sync>;

/// Something that happened to the feed of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedNews {
    /// The store told that there is nothing else to tell.
    Heartbeat {
        /// How long before that its database had answered.
        age: Duration,
        /// The number of clients in the replica, if there is one.
        replica: Option<usize>,
    },
    /// Something has changed.
    Change,
    /// The store cannot tell what has changed: every cached answer is asked for again.
    Reset,
    /// Nothing was heard of the store, or of its database, for three seconds.
    Lost,
}

impl FeedNews {
    /// Returns true if this shows that the feed can be relied on: the database answered less than three seconds before.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        matches!(self, Self::Heartbeat { age, .. } if age < watch::SILENCE)
    }
}

impl Feed {
    pub(super) fn new(connection: Arc<Connection>, changes: Arc<Changes>) -> Self {
        let watch = Watch::new(Arc::clone(&changes), Clock::default());
        Self::of(Follower { connection, changes, watch, replica: None, listener: None, point: None, is_live: false })
    }

    fn of(follower: Follower) -> Self {
        Self { follower, task: Task::default() }
    }

    /// Returns the same feed with this clock, which is that of those who ask how fresh answers are.
    pub(super) fn with_clock(&self, clock: Clock) -> Self {
        let follower = self.follower.clone();
        Self::of(Follower { watch: Watch::new(Arc::clone(&follower.changes), clock), ..follower })
    }

    pub(super) fn with_listener(&self, listener: FeedListener) -> Self {
        Self::of(Follower { listener: Some(listener), ..self.follower.clone() })
    }

    /// Returns the same feed with a replica of what the store holds.
    pub(super) fn with_replica(&self) -> Self {
        Self::of(Follower { replica: Some(Arc::new(Replica::new())), ..self.follower.clone() })
    }

    /// Returns true if the replica has this as the current token of a session now.
    pub(super) fn confirms(&self, client_id: &str, session: &str, token: &[u8]) -> bool {
        let Follower { replica, watch, .. } = &self.follower;
        replica.as_ref().is_some_and(|replica| watch.is_live() && replica.is_current(client_id, session, token))
    }

    /// Notes that this process has written something of a client, or of all.
    pub(super) fn written(&self, client_id: Option<&str>) {
        let Follower { replica, watch, .. } = &self.follower;
        match (replica, client_id) {
            (None, _) => {}
            (Some(replica), Some(client_id)) => replica.written(client_id, watch.now()),
            (Some(replica), None) => replica.clear(),
        }
    }

    /// Begins to read the feed, if the store has one and it is not being read. A runtime that ended has ended the task with it.
    pub(super) fn follow(&self) {
        if !self.follower.connection.has_feed() {
            return;
        }
        let mut task = self.task.0.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(AbortHandle::is_finished) {
            *task = Some(tokio::spawn(self.follower.clone().run()).abort_handle());
        }
    }
}

/// Reads a feed.
#[derive(Clone)]
struct Follower {
    connection: Arc<Connection>,
    changes: Arc<Changes>,
    watch: Watch,
    replica: Option<Arc<Replica>>,
    listener: Option<FeedListener>,
    /// The point after which the next stream goes on; `None` if it begins with the present.
    point: Option<LogPoint>,
    /// It was relied on, and its loss was not told yet.
    is_live: bool,
}

/// The state of one stream.
struct Stream {
    body: ServerStream,
    reader: EventReader,
    /// All changes up to the last point have been told.
    is_caught_up: bool,
    /// When the store last told that it is there.
    heard_at: Instant,
}

/// Why a stream ended.
enum End {
    /// The store is going to stop.
    Moved,
    Broken(StoreError),
}

#[derive(Deserialize)]
struct Heartbeat {
    db_ok_ms: u64,
}

/// A change, with the members that matter here.
#[derive(Deserialize)]
struct Changed {
    number: u64,
    #[serde(default)]
    kind: String,
    client_id: Option<String>,
    session: Option<String>,
    #[serde(default)]
    version: u64,
    access_sha256: Option<HexDigest>,
    access_expires_at: Option<u64>,
}

/// The task that loads the replica. It ends with what reads the feed.
#[derive(Default)]
struct Loading(Option<AbortHandle>);

impl Loading {
    fn begin(&mut self, connection: &Arc<Connection>, replica: &Arc<Replica>) {
        self.end();
        replica.begin();
        let loading = snapshot::load(Arc::clone(connection), Arc::clone(replica));
        self.0 = Some(tokio::spawn(loading).abort_handle());
    }

    fn end(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.end();
    }
}

impl Follower {
    async fn run(mut self) {
        let watch = self.watch.clone();
        let replica = self.replica.clone();
        let upkeep = async {
            match replica {
                Some(replica) => first(watch.keep_stating(), keep_sweeping(&replica, &watch)).await,
                None => watch.keep_stating().await,
            }
        };
        first(self.follow(), upkeep).await;
    }

    async fn follow(&mut self) {
        let mut longest = FIRST_PAUSE;
        let mut loading = Loading::default();
        loop {
            let end = self.read_stream(&mut loading).await;
            if self.watch.is_live() {
                longest = FIRST_PAUSE;
            }
            match end {
                End::Moved => tracing::debug!(target: "fastauth", "the token store moves its feed"),
                End::Broken(error) => {
                    let error = error.with_causes();
                    tracing::debug!(target: "fastauth", "the feed of the token store ended: {error}");
                }
            }
            self.tell_loss();
            sleep(longest * u32::from(random_bytes::<1>()[0]) / 255).await;
            longest = LONGEST_PAUSE.min(longest * 2);
        }
    }

    /// Opens a stream and reads it to its end.
    async fn read_stream(&mut self, loading: &mut Loading) -> End {
        match timeout(SILENCE, self.open()).await {
            Ok(Ok(mut stream)) => loop {
                if let Err(end) = self.read_piece(&mut stream, loading).await {
                    return end;
                }
            },
            Ok(Err(error)) => End::Broken(error),
            Err(_) => End::Broken(silent()),
        }
    }

    async fn open(&mut self) -> Result<Stream, StoreError> {
        let last = self.point.as_ref().and_then(|point| HeaderValue::try_from(point.to_string()).ok());
        let detail = self.replica.as_ref().map(|_| "digest");
        let call = HttpCall::new(Method::GET, wire::FEED).parameters([("detail", detail)]);
        let call = call.header(last.map(|last| (LAST_EVENT_ID, last)));
        let body = self.connection.open_stream(call).await.inspect_err(|error| {
            if error.kind() == StoreErrorKind::InvalidAnswer {
                // It may be this point that the store does not take.
                self.point = None;
            }
        })?;
        Ok(Stream {
            body,
            reader: EventReader::default(),
            // The first heartbeat of a stream that goes on comes before what was missed.
            is_caught_up: self.point.is_none(),
            heard_at: Instant::now(),
        })
    }

    async fn read_piece(&mut self, stream: &mut Stream, loading: &mut Loading) -> Result<(), End> {
        let piece = timeout_at(stream.heard_at + SILENCE, stream.body.chunk()).await;
        let piece = piece.map_err(|_| End::Broken(silent()))?.map_err(End::Broken)?;
        let piece = piece.ok_or_else(|| End::Broken(invalid("the token store ended its feed")))?;
        let mut events = Vec::new();
        let read = stream.reader.read(&piece, &mut events);
        // Look-ups that begin because of these events are to be answered by a store that has them.
        self.note_seen(&events);
        for event in &events {
            self.take(stream, event, loading)?;
        }
        read.map_err(|_| {
            // The next stream would have the same event.
            self.point = None;
            End::Broken(invalid("an event in the token store's feed is longer than 1 MiB or no UTF-8"))
        })
    }

    /// Lets look-ups tell the store the last change that is known here.
    fn note_seen(&self, events: &[Event]) {
        let Some(event) = events.last() else { return };
        let Ok(mut point) = event.id.parse::<LogPoint>() else { return };
        // A change may come before one with a lower number, which the point does not pass over.
        let numbers = events.iter().filter_map(|event| serde_json::from_str::<Changed>(&event.data).ok());
        point.number = numbers.map(|change| change.number).fold(point.number, u64::max);
        self.connection.note_seen(HeaderValue::try_from(point.to_string()).ok());
    }

    fn take(&mut self, stream: &mut Stream, event: &Event, loading: &mut Loading) -> Result<(), End> {
        match event.name.as_str() {
            "hb" => self.take_heartbeat(stream, event, loading),
            "change" => {
                self.go_on_after(event);
                self.take_change(event, loading);
            }
            "reset" => {
                self.go_on_after(event);
                self.forget(loading);
                stream.is_caught_up = true;
            }
            "move" => return Err(End::Moved),
            _ => {}
        }
        Ok(())
    }

    fn take_change(&self, event: &Event, loading: &mut Loading) {
        let changed = serde_json::from_str::<Changed>(&event.data);
        let Ok(Changed { client_id: Some(client_id), .. }) = &changed else {
            return match (&changed, &self.replica) {
                (Ok(changed), Some(replica)) if changed.kind == ChangeKind::Revoke.as_str() => {
                    replica.clear();
                    self.changes.anything_changed();
                    self.tell(FeedNews::Change);
                }
                _ => self.forget(loading),
            };
        };
        // First what answers are taken from, and then the word that earlier ones do not count.
        if let (Ok(changed), Some(replica)) = (&changed, &self.replica) {
            replica.take(&changed.of_client(client_id), self.watch.now());
        }
        self.changes.client_changed(client_id);
        self.tell(FeedNews::Change);
    }

    fn take_heartbeat(&mut self, stream: &mut Stream, event: &Event, loading: &mut Loading) {
        let Ok(heartbeat) = serde_json::from_str::<Heartbeat>(&event.data) else { return };
        let Ok(point) = event.id.parse::<LogPoint>() else { return };
        stream.heard_at = Instant::now();
        stream.body.is_alive();
        let age = Duration::from_millis(heartbeat.db_ok_ms);
        if self.point.as_ref().is_none_or(|last| last.epoch != point.epoch) {
            self.forget(loading);
            stream.is_caught_up = true;
        }
        self.point = Some(point);
        if stream.is_caught_up {
            self.watch.heard(age);
        }
        stream.is_caught_up = true;
        self.tell_loss();
        self.tell(FeedNews::Heartbeat { age, replica: self.replica.as_ref().map(|replica| replica.len()) });
    }

    fn go_on_after(&mut self, event: &Event) {
        if let Ok(point) = event.id.parse() {
            self.point = Some(point);
        }
    }

    /// Takes everything for changed.
    fn forget(&self, loading: &mut Loading) {
        if let Some(replica) = &self.replica {
            loading.begin(&self.connection, replica);
        }
        self.changes.anything_changed();
        self.tell(FeedNews::Reset);
    }

    /// Tells once that the feed can no longer be relied on.
    fn tell_loss(&mut self) {
        let was_live = std::mem::replace(&mut self.is_live, self.watch.is_live());
        if was_live && !self.is_live {
            self.tell(FeedNews::Lost);
        }
    }

    fn tell(&self, news: FeedNews) {
        if let Some(listener) = &self.listener {
            listener(news);
        }
    }
}

impl Changed {
    /// Returns what the change says of its client. One of an unknown kind may concern all sessions.
    fn of_client<'a>(&'a self, client_id: &'a str) -> ClientChange<'a> {
        let kind = ChangeKind::from_name(&self.kind);
        ClientChange {
            client_id,
            session: self.session.as_deref().filter(|_| kind.is_some()),
            // A new session may end others.
            concerns_one: !matches!(kind, Some(ChangeKind::Issue | ChangeKind::Replace)),
            version: self.version,
            access: self.access_sha256.map(HexDigest::digest),
            expires_at: self.access_expires_at.unwrap_or_default(),
        }
    }
}

async fn keep_sweeping(replica: &Replica, watch: &Watch) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        replica.sweep(watch.unix_now(), watch.now());
    }
}

fn silent() -> StoreError {
    invalid("the token store's feed is silent")
}
