//! How many calls may be sent a second time, so that second tries do not become a load of their own.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What a second try costs, in parts that a call earns one of: a fifth of all calls may be sent again.
const PRICE: u32 = 5;
/// What a second earns in any case: ten tries.
const A_SECOND: u32 = 10 * PRICE;
/// The most that is saved: the earnings of ten seconds.
const MOST: u32 = 10 * A_SECOND;

/// The budget of second tries.
pub(super) struct Budget {
    account: Mutex<Account>,
}

struct Account {
    saved: u32,
    /// Until when the time is counted.
    counted: Instant,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { account: Mutex::new(Account { saved: MOST, counted: Instant::now() }) }
    }

    /// Counts a call.
    pub(super) fn earn(&self) {
        self.with(|account| account.saved = (account.saved + 1).min(MOST));
    }

    /// Returns true if a call may be sent again, and counts that.
    pub(super) fn spend(&self) -> bool {
        self.with(|account| {
            account.earn_time(Instant::now());
            let left = account.saved.checked_sub(PRICE);
            account.saved = left.unwrap_or(account.saved);
            left.is_some()
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        change(&mut self.account.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Account {
    fn earn_time(&mut self, now: Instant) {
        let time = now.duration_since(self.counted).min(Duration::from_secs(10));
        let earned = u32::try_from(time.as_millis() * u128::from(A_SECOND) / 1000).unwrap_or(MOST);
        // What is too short to earn anything goes on being counted.
        if earned > 0 {
            self.saved = (self.saved + earned).min(MOST);
            self.counted = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn spend_all(budget: &Budget) -> usize {
        (0..1000).take_while(|_| budget.spend()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_all_calls_and_ten_a_second_are_sent_again() {
        let budget = Budget::new();
        assert_eq!(spend_all(&budget), 100);
        (0..50).for_each(|_| budget.earn());
        assert_eq!(spend_all(&budget), 10);
        advance(Duration::from_millis(500)).await;
        assert_eq!(spend_all(&budget), 5);
        for _ in 0..100 {
            advance(Duration::from_millis(10)).await;
            budget.earn();
        }
        assert_eq!(spend_all(&budget), 30, "ten of the second, twenty of the calls");
        advance(Duration::from_secs(3600)).await;
        assert_eq!(spend_all(&budget), 100, "no more is saved");
    }
}
