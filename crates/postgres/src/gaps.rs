//! The numbers of changes that a reader has not seen yet.

use std::collections::BTreeMap;

/// What a reader has seen of a log.
///
/// Numbers are drawn before their transactions are committed, so a change may appear after one with a higher number. A number that is
/// missing comes later, or never if its transaction was rolled back. Each transaction draws its ID before it draws a number. So an ID
/// that is drawn after the number was found missing is a bound: once all transactions with an ID up to there have ended, the number
/// never comes. The end of a snapshot is no bound, for it follows the last transaction that has ended, and later ones may run.
#[derive(Debug)]
pub(crate) struct Gaps {
    highest: i64,
    /// The missing numbers up to the highest, each with its bound once that is known.
    missing: BTreeMap<i64, Option<i64>>,
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

    /// Returns true if there are missing numbers without a bound.
    pub(crate) fn needs_bound(&self) -> bool {
        self.missing.values().any(Option::is_none)
    }

    /// Notes the ID of a transaction that has begun after the missing numbers were found missing.
    pub(crate) fn bound(&mut self, id: i64) {
        for bound in self.missing.values_mut() {
            bound.get_or_insert(id);
        }
    }

    /// Notes that numbers are missing.
    pub(crate) fn miss(&mut self, numbers: impl IntoIterator<Item = i64>) {
        self.missing.extend(numbers.into_iter().map(|number| (number, None)));
    }

    /// Notes the numbers that one look has found, in their order. It saw all transactions before the ID `running` as ended. What was
    /// deleted up to `cut` does not come either.
    pub(crate) fn see(&mut self, numbers: impl IntoIterator<Item = i64>, running: i64, cut: i64) {
        for number in numbers {
            if number > self.highest {
                self.miss(self.highest + 1..number);
                self.highest = number;
            } else {
                self.missing.remove(&number);
            }
        }
        self.missing.retain(|number, bound| *number > cut && bound.is_none_or(|bound| bound >= running));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_missed_until_it_comes_or_cannot_come() {
        let mut gaps = Gaps::new(5);
        // 6 and 8 are of transactions that run: 10 and 11.
        gaps.see([7, 9], 10, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (5, vec![6, 8]));
        gaps.bound(12);
        gaps.see([6, 10], 11, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (7, vec![8]));
        // 11 has ended without it, but that is not sure of 12.
        gaps.see([], 12, 0);
        assert_eq!(gaps.missing(), [8]);
        gaps.see([], 13, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (10, vec![]));
    }

    #[test]
    fn a_number_is_missed_as_long_as_its_bound_is_not_known() {
        let mut gaps = Gaps::new(0);
        // 1 is of a transaction that runs, after the last that has ended: no snapshot shows it.
        gaps.see([2], 726, 0);
        assert!(gaps.needs_bound());
        gaps.see([], 900, 0);
        assert_eq!((gaps.low_water(), gaps.missing()), (0, vec![1]));
        gaps.bound(901);
        assert!(!gaps.needs_bound());
        gaps.see([], 902, 0);
        assert_eq!((gaps.low_water(), gaps.highest()), (2, 2));
    }

    #[test]
    fn a_bound_stays_though_more_is_missed() {
        let mut gaps = Gaps::new(0);
        gaps.see([2], 10, 0);
        gaps.bound(11);
        gaps.see([4], 11, 0);
        gaps.bound(20);
        gaps.see([], 12, 0);
        assert_eq!(gaps.missing(), [3]);
    }

    #[test]
    fn what_was_deleted_is_not_missed() {
        let mut gaps = Gaps::new(5);
        gaps.see([9], 1, 7);
        assert_eq!(gaps.missing(), [8]);
    }
}
