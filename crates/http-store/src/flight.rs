//! Calls to a remote store, client by client: look-ups of one client share a call, writes of one client take turns.

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

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// What of a client is looked up: one family, or what was issued last.
type Lane = Option<String>;
/// By client and lane, each with its number, to tell it from a later one of the same.
type FlightMap<T> = Arc<Mutex<HashMap<String, HashMap<Lane, (u64, WeakShared<Call<T>>)>>>>;

/// The look-ups that are under way, one for each client and lane at the most.
///
/// Those that ask while a call is under way wait for its answer too. Each of them drives the call, so it goes on as
/// long as one of them waits, whoever gives up; when the last one does, the call is dropped. Nothing is kept: when the
/// call ends, well or badly, the next to ask makes a new one.
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

    /// The call for this lane of `client_id` that is under way, or a new one that `call` makes.
    pub(super) fn join<F>(&self, client_id: &str, lane: Option<&str>, call: impl FnOnce() -> F) -> Shared<Call<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        let lane = lane.map(str::to_owned);
        let under_way = flights.get(client_id).and_then(|lanes| lanes.get(&lane));
        if let Some(flight) = under_way.and_then(|(_, flight)| flight.upgrade()) {
            return flight;
        }
        let landing = Landing::new(&self.flights, client_id, lane.clone());
        let (number, call) = (landing.number, call());
        let flight = async move {
            let _landing = landing;
            call.await
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            flights.entry(client_id.to_owned()).or_default().insert(lane, (number, weak));
        }
        flight
    }

    /// Lets nobody join a look-up of `client_id` (of any client, where there is none) that began before now, nor, once the
    /// guard is dropped, one that began before then: what begins after a write has to see it.
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

/// Takes its flight out of the map when the call has ended or nobody waits for it any more.
struct Landing<T> {
    flights: FlightMap<T>,
    client_id: String,
    lane: Lane,
    number: u64,
}

impl<T> Landing<T> {
    fn new(flights: &FlightMap<T>, client_id: &str, lane: Lane) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { flights: Arc::clone(flights), client_id: client_id.to_owned(), lane, number }
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        let Some(lanes) = flights.get_mut(&self.client_id) else { return };
        // After a write the entry may be a later flight's.
        if lanes.get(&self.lane).is_some_and(|(number, _)| *number == self.number) {
            lanes.remove(&self.lane);
        }
        if lanes.is_empty() {
            flights.remove(&self.client_id);
        }
    }
}

/// Two tokio mutexes, for they are fair: first come, first served. Those that go first take the second one alone, so that
/// nobody but the one whose turn it is goes before them.
#[derive(Default)]
struct Queue {
    usual: tokio::sync::Mutex<()>,
    turn: tokio::sync::Mutex<()>,
}

type Queues = Arc<Mutex<HashMap<String, Arc<Queue>>>>;

/// The queues of those that write, one for each client that has any.
#[derive(Clone)]
pub(super) struct Turns {
    queues: Queues,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { queues: Queues::default() }
    }

    /// A place in the queue of a client.
    pub(super) fn queue(&self, client_id: &str) -> Place {
        let queue = Arc::clone(lock(&self.queues).entry(client_id.to_owned()).or_default());
        Place { queues: Arc::clone(&self.queues), client_id: client_id.to_owned(), queue }
    }
}

/// A place in a queue; the last one to leave takes the queue away.
pub(super) struct Place {
    queues: Queues,
    client_id: String,
    queue: Arc<Queue>,
}

/// The turn of one that writes. It ends when this is dropped.
pub(super) struct Turn<'a> {
    _turn: tokio::sync::MutexGuard<'a, ()>,
    _usual: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Place {
    /// Waits until nobody else writes, in the order of asking.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let usual = self.queue.usual.lock().await;
        Turn { _turn: self.queue.turn.lock().await, _usual: Some(usual) }
    }

    /// Waits for the one whose turn it is, and goes before all others.
    pub(super) async fn next_turn(&self) -> Turn<'_> {
        Turn { _turn: self.queue.turn.lock().await, _usual: None }
    }

    /// Whether somebody writes, or waits to.
    pub(super) fn is_busy(&self) -> bool {
        self.queue.turn.try_lock().is_err() || self.queue.usual.try_lock().is_err()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = lock(&self.queues);
        // The map's and mine: clones are made under this lock alone.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.client_id);
        }
    }
}

/// Nothing that runs while these are locked leaves them half changed, so a poisoned one is still whole.
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
    async fn those_that_wait_share_a_call_though_the_first_gives_up() {
        let flights = Flights::new();
        let (answer, answered) = oneshot::channel::<u8>();
        let mut first = flights.join("a", None, || answered);
        start(&mut first).await;
        let mut second = flights.join("a", None, || async { panic!("a second call") });
        start(&mut second).await;
        drop(first);
        let third = flights.join("a", None, || async { panic!("a third call") });
        answer.send(7).expect("somebody waits");
        assert_eq!(second.await, Ok(7));
        assert_eq!(third.await, Ok(7));
        assert!(lock(&flights.flights).is_empty());
        assert_eq!(flights.join("a", None, || async { Ok(8) }).await, Ok(8));
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_is_dropped() {
        let flights = Flights::<u8>::new();
        let mut only = flights.join("a", None, pending);
        start(&mut only).await;
        drop(only);
        assert!(lock(&flights.flights).is_empty());
        drop(flights.join("never polled", None, pending));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn a_write_parts_the_look_ups_before_from_those_after() {
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
    async fn each_lane_has_a_call_of_its_own_until_everything_is_written() {
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
    async fn one_at_a_time_and_nothing_stays() {
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
