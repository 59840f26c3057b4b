//! Orders the calls to a remote store by client: look-ups of one client share a call, writes of one client take turns.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The part of a client that is looked up: one session, or what was issued last.
type Lane = Option<String>;
/// The flights by client and lane.
type FlightMap<T> = Arc<Mutex<HashMap<String, HashMap<Lane, Flight<T>>>>>;

/// A look-up that is under way.
struct Flight<T> {
    /// Tells it from a later one of the same client and lane.
    number: u64,
    call: WeakShared<BoxFuture<T>>,
}

/// The look-ups that are under way, at most one for each client and lane.
///
/// A caller that asks while a look-up is under way waits for its result too. Each of the callers drives it, so it goes on as long as
/// one of them waits; when the last one gives up, it is dropped. Nothing is cached: when it ends, well or badly, the next
/// caller starts a new one.
pub(super) struct Flights<T> {
    flights: FlightMap<T>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self { flights: Arc::clone(&self.flights) }
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(super) fn new() -> Self {
        Self { flights: Arc::default() }
    }

    /// Joins the look-up for this lane of `client_id` that is under way, or starts the one that `call` makes.
    pub(super) fn join<F>(&self, client_id: &str, lane: Option<&str>, call: impl FnOnce() -> F) -> Shared<BoxFuture<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        let lane = lane.map(str::to_owned);
        let under_way = flights.get(client_id).and_then(|lanes| lanes.get(&lane));
        if let Some(shared) = under_way.and_then(|flight| flight.call.upgrade()) {
            return shared;
        }
        let landing = FlightGuard::new(&self.flights, client_id, lane.clone());
        let number = landing.number;
        let call = call();
        let shared = async move {
            let _landing = landing;
            call.await
        }
        .boxed()
        .shared();
        if let Some(call) = shared.downgrade() {
            flights.entry(client_id.to_owned()).or_default().insert(lane, Flight { number, call });
        }
        shared
    }

    /// Closes the look-ups of `client_id`, or of all clients, to further callers, now and again when the guard is dropped: a
    /// caller that comes after a write has to see it.
    pub(super) fn writing<'a>(&'a self, client_id: Option<&'a str>) -> Writing<'a, T> {
        let writing = Writing { flights: &self.flights, client_id };
        writing.close();
        writing
    }
}

pub(super) struct Writing<'a, T> {
    flights: &'a FlightMap<T>,
    client_id: Option<&'a str>,
}

impl<T> Writing<'_, T> {
    fn close(&self) {
        let mut flights = lock(self.flights);
        match self.client_id {
            Some(client_id) => _ = flights.remove(client_id),
            None => flights.clear(),
        }
    }
}

impl<T> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Removes its flight from the map when the look-up has ended or its last caller gave up.
struct FlightGuard<T> {
    flights: FlightMap<T>,
    client_id: String,
    lane: Lane,
    number: u64,
}

impl<T> FlightGuard<T> {
    fn new(flights: &FlightMap<T>, client_id: &str, lane: Lane) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { flights: Arc::clone(flights), client_id: client_id.to_owned(), lane, number }
    }
}

impl<T> Drop for FlightGuard<T> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        let Some(lanes) = flights.get_mut(&self.client_id) else { return };
        // After a write the entry may be a later flight's.
        if lanes.get(&self.lane).is_some_and(|flight| flight.number == self.number) {
            lanes.remove(&self.lane);
        }
        if lanes.is_empty() {
            flights.remove(&self.client_id);
        }
    }
}

/// The queue of one client: two tokio mutexes, which are fair. An urgent write takes only the second one, so it waits for no other
/// write but the one whose turn it is.
#[derive(Default)]
struct WriteQueue {
    usual: tokio::sync::Mutex<()>,
    turn: tokio::sync::Mutex<()>,
}

type WriteQueues = Arc<Mutex<HashMap<String, Arc<WriteQueue>>>>;

/// The queues of writes, one for each client that has any.
#[derive(Clone)]
pub(super) struct Turns {
    queues: WriteQueues,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { queues: WriteQueues::default() }
    }

    /// Enters the queue of a client.
    pub(super) fn queue(&self, client_id: &str) -> QueuedWrite {
        let queue = Arc::clone(lock(&self.queues).entry(client_id.to_owned()).or_default());
        QueuedWrite { queues: Arc::clone(&self.queues), client_id: client_id.to_owned(), queue }
    }
}

/// A write in a queue; the last one to leave removes the queue.
pub(super) struct QueuedWrite {
    queues: WriteQueues,
    client_id: String,
    queue: Arc<WriteQueue>,
}

/// The turn of a write, which ends when this is dropped.
pub(super) struct Turn<'a> {
    _turn: tokio::sync::MutexGuard<'a, ()>,
    _usual: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl QueuedWrite {
    /// Waits until no other write has its turn, first come, first served.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let usual = self.queue.usual.lock().await;
        Turn { _turn: self.queue.turn.lock().await, _usual: Some(usual) }
    }

    /// Waits for the write whose turn it is, and goes before all others.
    pub(super) async fn next_turn(&self) -> Turn<'_> {
        Turn { _turn: self.queue.turn.lock().await, _usual: None }
    }

    /// Returns true if a write has its turn or waits for it.
    pub(super) fn is_busy(&self) -> bool {
        self.queue.turn.try_lock().is_err() || self.queue.usual.try_lock().is_err()
    }
}

impl Drop for QueuedWrite {
    fn drop(&mut self) {
        let mut queues = lock(&self.queues);
        // The map's and this one: clones are made only under this lock.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.client_id);
        }
    }
}

/// Locks a map. A poisoned one is still whole, for nothing that runs under the lock leaves it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        sync::atomic::AtomicUsize,
        task::Poll,
    };

    use tokio::sync::oneshot;

    use super::*;

    /// Polls once, as a request does before it waits.
    async fn start(future: &mut (impl Future + Unpin)) {
        poll_fn(|cx| {
            assert!(future.poll_unpin(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn callers_share_a_look_up_though_the_first_gives_up() {
        let flights = Flights::new();
        let (answer, answered) = oneshot::channel::<u8>();
        let mut first = flights.join("a", None, || answered);
        start(&mut first).await;
        let mut second = flights.join("a", None, || async { panic!("a second call") });
        start(&mut second).await;
        drop(first);
        let third = flights.join("a", None, || async { panic!("a third call") });
        answer.send(7).expect("two callers wait");
        assert_eq!(second.await, Ok(7));
        assert_eq!(third.await, Ok(7));
        assert!(lock(&flights.flights).is_empty());
        assert_eq!(flights.join("a", None, || async { Ok(8) }).await, Ok(8));
    }

    #[tokio::test]
    async fn a_look_up_without_callers_is_dropped() {
        let flights = Flights::<u8>::new();
        let mut only = flights.join("a", None, pending);
        start(&mut only).await;
        drop(only);
        assert!(lock(&flights.flights).is_empty());
        drop(flights.join("never polled", None, pending));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn a_write_separates_the_look_ups_before_from_those_after() {
        let flights = Flights::new();
        let calls = AtomicUsize::new(0);
        let call = || {
            calls.fetch_add(1, Ordering::Relaxed);
            pending::<u8>()
        };
        let before = flights.join("a", None, call);
        let writing = flights.writing(Some("a"));
        let during = [flights.join("a", None, call), flights.join("a", None, call)];
        drop(before);
        drop(writing);
        let after = flights.join("a", None, call);
        drop(during);
        let with_it = flights.join("a", None, call);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        drop((after, with_it));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn each_lane_has_a_look_up_of_its_own_until_everything_is_written() {
        let flights = Flights::new();
        let calls = AtomicUsize::new(0);
        let call = || {
            calls.fetch_add(1, Ordering::Relaxed);
            pending::<u8>()
        };
        let lanes = [None, Some("f"), Some(""), Some("f")].map(|lane| flights.join("a", lane, call));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        drop(flights.writing(None));
        let after = flights.join("a", Some("f"), call);
        assert_eq!(calls.load(Ordering::Relaxed), 4);
        drop((lanes, after));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn writes_of_one_client_take_turns_and_leave_nothing() {
        let turns = Turns::new();
        let places = [turns.queue("a"), turns.queue("a"), turns.queue("a"), turns.queue("a")];
        assert!(!places[0].is_busy());
        let first = places[0].turn().await;
        assert!(places[1].is_busy());
        let mut second = Box::pin(places[1].turn());
        start(&mut second).await;
        let mut given_up = Box::pin(places[2].turn());
        start(&mut given_up).await;
        drop(given_up);
        let mut urgent = Box::pin(places[3].next_turn());
        start(&mut urgent).await;
        drop(turns.queue("b").turn().await);
        drop(first);
        let urgent = urgent.await;
        start(&mut second).await;
        drop(urgent);
        drop(second.await);
        assert!(!places[0].is_busy());
        drop(places);
        assert!(lock(&turns.queues).is_empty());
    }
}
