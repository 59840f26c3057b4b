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

use fastauth_core::{
    store::{Changes, Stamp, StoreError, StoreErrorKind},
    trace,
};
use futures_util::{FutureExt, future::Shared};
use tokio::runtime::Handle;
use tracing::Instrument;

/// The most callers that wait for one look-up.
const MOST_CALLERS: usize = 1000;

type Call<T> = Shared<Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>>;
/// The part of a client that is looked up: one session, or what was issued last.
type Lane = Option<String>;
/// The flights by client and lane.
type FlightMap<T> = Arc<Mutex<HashMap<String, HashMap<Lane, Flight<T>>>>>;

/// A look-up that is under way.
struct Flight<T> {
    /// Tells it from a later one of the same client and lane.
    number: u64,
    call: Call<T>,
    /// From before it began.
    stamp: Stamp,
    /// Each caller that waits has one.
    seat: Arc<()>,
}

/// The part of one caller in a look-up.
pub(super) struct Joined<T> {
    call: Call<T>,
    _seat: Arc<()>,
}

impl<T: Clone> Joined<T> {
    /// Waits for the end of the look-up.
    pub(super) async fn answer(self) -> Result<T, StoreError> {
        self.call.await
    }
}

/// The look-ups that are under way, at most one for each client and lane.
///
/// A caller that asks while a look-up is under way waits for its result too. It goes on in a task of its own, even if its callers give up, so it has
/// to end by itself. Nothing is cached: when it ends, well or badly, the next caller starts a new one. So does one that comes after a change
/// of the client was told, for the answer may be from before it.
pub(super) struct Flights<T> {
    flights: FlightMap<T>,
    changes: Arc<Changes>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self { flights: Arc::clone(&self.flights), changes: Arc::clone(&self.changes) }
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Creates the look-ups of a store that announces these changes.
    pub(super) fn new(changes: &Arc<Changes>) -> Self {
        Self { flights: Arc::default(), changes: Arc::clone(changes) }
    }

    /// Joins the look-up for this lane of `client_id` that is under way, or starts the one that `call` makes.
    ///
    /// # Errors
    ///
    /// If too many callers wait for that look-up.
    pub(super) fn join<F>(
        &self,
        client_id: &str,
        lane: Option<&str>,
        call: impl FnOnce() -> F,
    ) -> Result<Joined<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| failed("the token store behind HTTP needs a tokio runtime"))?;
        let mut flights = lock(&self.flights);
        let lane = lane.map(str::to_owned);
        let stamp = self.changes.stamp(client_id);
        let under_way = flights.get(client_id).and_then(|lanes| lanes.get(&lane));
        if let Some(flight) = under_way.filter(|flight| flight.stamp == stamp) {
            // The flight has a seat itself. New ones are taken under this lock alone.
            if Arc::strong_count(&flight.seat) > MOST_CALLERS {
                let message = "too many requests wait for one look-up of the token store";
                return Err(StoreError::new(StoreErrorKind::Busy, message));
            }
            return Ok(Joined { call: flight.call.clone(), _seat: Arc::clone(&flight.seat) });
        }
        let landing = FlightGuard::new(&self.flights, client_id, lane.clone());
        let number = landing.number;
        let call = call();
        let flying = async move {
            let _landing = landing;
            call.await
        };
        // It is a part of the trace of the request that began it.
        let flying = runtime.spawn(trace::within(trace::parent(), flying).in_current_span());
        let call =
            flying.map(|ended| ended.unwrap_or_else(|_| Err(failed("a look-up of the token store was cut off"))));
        let call = call.boxed().shared();
        let seat = Arc::new(());
        let flight = Flight { number, call: call.clone(), stamp, seat: Arc::clone(&seat) };
        flights.entry(client_id.to_owned()).or_default().insert(lane, flight);
        Ok(Joined { call, _seat: seat })
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

/// Removes its flight from the map when the look-up has ended.
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

fn failed(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, message)
}

/// Locks a map. A poisoned one is still whole, for nothing that runs under the lock leaves it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, task::Poll};

    use tokio::sync::oneshot;

    use super::*;

    fn flights<T: Clone + Send + Sync + 'static>() -> Flights<T> {
        Flights::new(&Arc::new(Changes::of_shared_store()))
    }

    /// Polls once, as a request does before it waits.
    async fn start(future: &mut (impl Future + Unpin)) {
        poll_fn(|cx| {
            assert!(future.poll_unpin(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    type Answer = oneshot::Sender<Result<u8, StoreError>>;

    /// A look-up that ends when a test answers it.
    fn call() -> (Answer, impl Future<Output = Result<u8, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (answer, async { answered.await.unwrap_or_else(|_| Err(failed("never answered"))) })
    }

    async fn no_call() -> Result<u8, StoreError> {
        panic!("another call")
    }

    #[tokio::test]
    async fn callers_share_a_look_up_though_the_first_gives_up() {
        let flights = flights();
        let (answer, call) = call();
        let mut first = Box::pin(flights.join("a", None, || call).unwrap().answer());
        start(&mut first).await;
        let mut second = Box::pin(flights.join("a", None, no_call).unwrap().answer());
        start(&mut second).await;
        drop(first);
        let third = flights.join("a", None, no_call).unwrap();
        answer.send(Ok(7)).expect("two callers wait");
        assert_eq!(second.await.unwrap(), 7);
        assert_eq!(third.answer().await.unwrap(), 7);
        assert!(lock(&flights.flights).is_empty());
        assert_eq!(flights.join("a", None, || async { Ok(8) }).unwrap().answer().await.unwrap(), 8);
    }

    #[tokio::test]
    async fn look_up_goes_on_though_all_callers_give_up() {
        let flights = flights();
        let (answer, call) = call();
        drop(flights.join("a", None, || call));
        let next = flights.join("a", None, no_call).unwrap();
        answer.send(Ok(7)).expect("it goes on");
        assert_eq!(next.answer().await.unwrap(), 7);
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn panic_of_a_look_up_is_an_error_to_its_callers() {
        let flights = flights();
        let first = flights.join("a", None, no_call).unwrap();
        let second = flights.join("a", None, no_call).unwrap();
        assert!(first.answer().await.is_err() && second.answer().await.is_err());
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn callers_of_one_look_up_are_bounded() {
        let flights = flights();
        let (answer, call) = call();
        let first = flights.join("a", None, || call).unwrap();
        let mut others: Vec<_> = (1..MOST_CALLERS).map(|_| flights.join("a", None, no_call)).collect();
        assert!(others.iter().all(Result::is_ok) && flights.join("a", None, no_call).is_err());
        others.pop();
        let last = flights.join("a", None, no_call).unwrap();
        answer.send(Ok(7)).expect("they wait");
        assert_eq!((first.answer().await.unwrap(), last.answer().await.unwrap()), (7, 7));
    }

    #[tokio::test]
    async fn a_write_separates_the_look_ups_before_from_those_after() {
        let flights = flights();
        let (answers, calls): (Vec<_>, Vec<_>) = (0..3).map(|_| call()).unzip();
        let mut calls = calls.into_iter();
        let mut join = || flights.join("a", None, || calls.next().unwrap()).unwrap();
        let before = join();
        let writing = flights.writing(Some("a"));
        let during = join();
        drop(writing);
        let after = join();
        let with_it = flights.join("a", None, no_call).unwrap();
        for (number, answer) in (0..).zip(answers) {
            answer.send(Ok(number)).expect("it is awaited");
        }
        assert_eq!((before.answer().await.unwrap(), during.answer().await.unwrap()), (0, 1));
        assert_eq!((after.answer().await.unwrap(), with_it.answer().await.unwrap()), (2, 2));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn caller_after_a_change_does_not_get_an_answer_from_before_it() {
        let flights = flights();
        let (answers, calls): (Vec<_>, Vec<_>) = (0..2).map(|_| call()).unzip();
        let mut calls = calls.into_iter();
        let mut join = || flights.join("a", None, || calls.next().unwrap()).unwrap();
        let before = join();
        flights.changes.client_changed("a");
        let after = join();
        let with_it = flights.join("a", None, no_call).unwrap();
        for (number, answer) in (0..).zip(answers) {
            answer.send(Ok(number)).expect("it is awaited");
        }
        assert_eq!(before.answer().await.unwrap(), 0);
        assert_eq!((after.answer().await.unwrap(), with_it.answer().await.unwrap()), (1, 1));
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn each_lane_has_a_look_up_of_its_own_until_everything_is_written() {
        let flights = flights();
        let calls = AtomicUsize::new(0);
        let call = || {
            calls.fetch_add(1, Ordering::Relaxed);
            async { Ok(1_u8) }
        };
        let lanes = [None, Some("f"), Some(""), Some("f")].map(|lane| flights.join("a", lane, call).unwrap());
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        drop(flights.writing(None));
        let after = flights.join("a", Some("f"), call).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 4);
        for joined in lanes {
            joined.answer().await.unwrap();
        }
        after.answer().await.unwrap();
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
