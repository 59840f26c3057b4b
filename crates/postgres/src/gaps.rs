//! The numbers of changes that a reader has not seen yet.

use std::collections::BTreeMap;

/// The transactions that a look into the database saw as running: none before `first`, and none from `end` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) first: i64,
    pub(crate) end: i64,
}

/// What a reader has seen of a log.
///
/// Numbers are drawn before their transactions are committed, so a change may appear after one with a higher number. A number that is
/// missing comes later, or never if its transaction was rolled back. Each transaction has its place among the [running](Running) ones
/// before it draws a number. So once all of those have ended that were running when the number was found missing, it never comes.
#[derive(Debug)]
pub(crate) struct Gaps {
    highest: i64,
    /// The missing numbers up to the highest, each with the end of the running transactions at that time.
    missing: BTreeMap<i64, i64>,
}

impl Gaps {
    /// Begins after `highest`, as if everything up to it was seen.
    pub(crate) fn new(highest: i64) -> Self {
        Self { highest, missing: BTreeMap::new() }
    }

    pub(crate) fn highest(&self) -> i64 {
        self.highest
    }

    pub(crate) fn missing(&self) -> Vec<i64> {
        self.missing.keys().copied().collect()
    }

    /// Returns the number up to which nothing is missing.
    pub(crate) fn low_water(&self) -> i64 {
        self.missing.keys().next().map_or(self.highest, |first| first - 1)
    }

    /// Notes that numbers are missing.
    pub(crate) fn miss(&mut self, numbers: impl IntoIterator<Item = i64>, running: Running) {
        self.missing.extend(numbers.into_iter().map(|number| (number, running.end)));
    }

    /// Notes the numbers that one look has found, in their order. What was deleted up to `cut` does not come either.
    pub(crate) fn see(&mut self, numbers: impl IntoIterator<Item = i64>, running: Running, cut: i64) {
        for number in numbers {
            if number > self.highest {
                self.miss(self.highest + 1..number, running);
                self.highest = number;
            } else {
                self.missing.remove(&number);
            }
        }
        self.missing.retain(|number, end| *number > cut && *end > running.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Running = Running { first: 10, end: 10 };

    #[test]
    fn a_number_is_missed_until_it_comes_or_cannot_come() {
        let mut gaps = Gaps::new(5);
        // 6 and 8 are of transactions that run: 10 and 11.
        gaps.see([7, 9], Running { first: 10, end: 12 }, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (5, vec![6, 8]));
        gaps.see([6, 10], Running { first: 11, end: 13 }, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (7, vec![8]));
        // 11 has ended without it, and 12 began after it was found missing.
        gaps.see([], Running { first: 12, end: 13 }, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (10, vec![]));
    }

    #[test]
    fn nothing_is_missed_if_nothing_runs() {
        let mut gaps = Gaps::new(5);
        gaps.see([9], IDLE, 0);
        assert_eq!((gaps.low_water(), gaps.highest()), (9, 9));
    }

    #[test]
    fn what_was_deleted_is_not_missed() {
        let mut gaps = Gaps::new(5);
        gaps.see([9], Running { first: 1, end: 12 }, 7);
        assert_eq!(gaps.missing(), [8]);
    }
}
