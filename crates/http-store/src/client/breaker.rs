//! Spares an address of the store that fails, and lets one call through to see whether it is back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use fastauth_core::random::random_bytes;

/// So many failures in a row open the breaker.
const IN_A_ROW: u32 = 5;
/// So many calls within a window open it, too, if at least half of them fail.
const ENOUGH_CALLS: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// How long it stays open at first; twice as long after each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A probe costs the store next to nothing, and a store that is back is to be noticed before open sockets end.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The breaker of one address.
///
/// While it is closed, all calls go through. While it is open, none does; after a pause, one call does as a probe, and its outcome
/// decides. An outcome only counts if its call began after the breaker was opened or closed last.
pub(super) struct Breaker {
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// When it was opened or closed last.
    since: Instant,
    pause: Duration,
    failures_in_a_row: u32,
    window: Window,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    /// A probe may go after this time.
    Open(Instant),
    /// A probe is under way.
    Probing,
}

struct Window {
    began: Instant,
    calls: u32,
    failures: u32,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::closed(Instant::now())) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().phase == Phase::Closed
    }

    /// Returns true if the caller is to send a probe.
    pub(super) fn takes_probe(&self) -> bool {
        let mut state = self.lock();
        let is_due = matches!(state.phase, Phase::Open(until) if until <= Instant::now());
        if is_due {
            state.phase = Phase::Probing;
        }
        is_due
    }

    /// Takes a probe back that has no outcome.
    pub(super) fn give_back_probe(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Probing {
            state.phase = Phase::Open(Instant::now());
        }
    }

    /// Notes the success of a call, and returns true if that closes the breaker.
    pub(super) fn succeed(&self, began: Instant, is_probe: bool) -> bool {
        let mut state = self.lock();
        if began < state.since {
            return false;
        }
        if state.phase == Phase::Closed {
            state.failures_in_a_row = 0;
            state.count(false);
            return false;
        }
        if is_probe {
            *state = State::closed(Instant::now());
        }
        is_probe
    }

    /// Notes the failure of a call, and returns for how long that opens the breaker, if it does.
    pub(super) fn fail(&self, began: Instant, is_probe: bool) -> Option<Duration> {
        let mut state = self.lock();
        if began < state.since {
            return None;
        }
        match state.phase {
            Phase::Closed => {
                state.failures_in_a_row += 1;
                state.count(true);
                state.has_enough().then(|| state.open(FIRST_PAUSE))
            }
            Phase::Probing if is_probe => {
                let pause = state.pause.saturating_mul(2).min(LONGEST_PAUSE);
                Some(state.open(pause))
            }
            Phase::Probing | Phase::Open(_) => None,
        }
    }

    /// Closes the breaker, and returns true if it was not closed.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        let was_open = state.phase != Phase::Closed;
        if was_open {
            *state = State::closed(Instant::now());
        }
        was_open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn closed(now: Instant) -> Self {
        let window = Window { began: now, calls: 0, failures: 0 };
        Self { phase: Phase::Closed, since: now, pause: FIRST_PAUSE, failures_in_a_row: 0, window }
    }

    fn count(&mut self, is_failure: bool) {
        let now = Instant::now();
        if now.duration_since(self.window.began) >= WINDOW {
            self.window = Window { began: now, calls: 0, failures: 0 };
        }
        self.window.calls += 1;
        self.window.failures += u32::from(is_failure);
    }

    fn has_enough(&self) -> bool {
        let Window { calls, failures, .. } = self.window;
        self.failures_in_a_row >= IN_A_ROW || (calls >= ENOUGH_CALLS && failures * 2 >= calls)
    }

    /// Opens for three quarters of a pause or up to all of it, so that not all nodes probe at once.
    fn open(&mut self, pause: Duration) -> Duration {
        let now = Instant::now();
        let jittered = pause * 3 / 4 + pause / 4 * u32::from(random_bytes::<1>()[0]) / 255;
        (self.phase, self.since, self.pause) = (Phase::Open(now + jittered), now, pause);
        jittered
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn fail(breaker: &Breaker) -> Option<Duration> {
        breaker.fail(Instant::now(), false)
    }

    fn open(breaker: &Breaker) {
        let opened = (0..IN_A_ROW).filter_map(|_| fail(breaker)).count();
        assert_eq!(opened, 1);
    }

    fn succeed(breaker: &Breaker) {
        assert!(!breaker.succeed(Instant::now(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it() {
        let breaker = Breaker::new();
        for _ in 0..4 {
            assert!(fail(&breaker).is_none());
        }
        succeed(&breaker);
        for _ in 0..4 {
            assert!(fail(&breaker).is_none() && breaker.is_closed());
        }
        let pause = fail(&breaker).expect("the fifth");
        assert!((750..=1000).contains(&pause.as_millis()), "{pause:?}");
        assert!(!breaker.is_closed() && !breaker.takes_probe());
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_twenty_calls_open_it_within_a_window() {
        let breaker = Breaker::new();
        for _ in 0..9 {
            succeed(&breaker);
            assert!(fail(&breaker).is_none());
        }
        advance(WINDOW).await;
        succeed(&breaker);
        assert!(fail(&breaker).is_none(), "the first ones were long ago");
        for _ in 0..8 {
            succeed(&breaker);
            assert!(fail(&breaker).is_none());
        }
        succeed(&breaker);
        assert!(fail(&breaker).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_decides_and_pauses_grow() {
        let breaker = Breaker::new();
        open(&breaker);
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            advance(pause).await;
            assert!(breaker.takes_probe() && !breaker.takes_probe(), "one at a time");
            let began = Instant::now();
            assert!(breaker.fail(began, false).is_none(), "of another call");
            let opened = breaker.fail(began, true).expect("the probe failed");
            pause = (pause * 2).min(LONGEST_PAUSE);
            assert!(opened > pause * 7 / 10 && opened <= pause, "{opened:?} of {pause:?}");
        }
        advance(pause).await;
        assert!(breaker.takes_probe());
        breaker.give_back_probe();
        assert!(breaker.takes_probe(), "the one before had no outcome");
        assert!(breaker.succeed(Instant::now(), true) && breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_from_before_do_not_count() {
        let breaker = Breaker::new();
        let before = Instant::now();
        advance(Duration::from_millis(1)).await;
        open(&breaker);
        assert!(!breaker.succeed(before, true) && !breaker.is_closed());
        assert!(breaker.close() && !breaker.close());
        (0..IN_A_ROW).for_each(|_| assert!(breaker.fail(before, false).is_none()));
        assert!(breaker.is_closed());
    }
}
