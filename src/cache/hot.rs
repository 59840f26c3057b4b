//! The tokens that several threads use at the same time, for each thread with claims of its own.
//!
//! Looking a token up writes next to nothing that threads share, but handing its claims on does: it counts who holds them. One
//! token that all threads serve would have them wait for each other there, the longer the more of them there are.
//!
//! It is for stores that tell of changes: a copy counts as long as they tell of none. How old an answer is, which is what counts
//! with others, only the cache can say, where a newer one may have come.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use thread_local::ThreadLocal;

use crate::{permit::Access, secret::eq_in_constant_time};

/// How many a thread has at the most.
const PLACES: usize = 64;
/// How often one is used until the cache is asked for it again, which has to know what is in use.
const LEASE: u32 = 64;

#[derive(Default)]
pub(super) struct HotTokens {
    of_threads: ThreadLocal<OfThread>,
}

/// Those of different threads lie side by side, and each is written to all the time: none shares a line of the
/// processor's cache with another.
#[repr(align(128))]
struct OfThread(RefCell<[Place; PLACES]>);

/// What came last of the tokens that share the place.
#[derive(Default)]
struct Place {
    hash: u64,
    own: Option<Own>,
}

struct Own {
    access: Arc<Access>,
    lease: u32,
}

/// Tells this thread from others, but for one in 256.
#[inline]
pub(super) fn thread_number() -> u32 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    thread_local!(static NUMBER: u8 = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| u32::from(*number))
}

impl HotTokens {
    /// This thread's own access of a token, if it `is_good`.
    #[inline]
    pub(super) fn get(&self, hash: u64, is_good: impl FnOnce(&Access) -> bool) -> Option<Arc<Access>> {
        let mut places = self.of_threads.get()?.0.borrow_mut();
        let place = &mut places[place_of(hash)];
        let own = place.own.as_mut().filter(|_| place.hash == hash)?;
        if !is_good(&own.access) {
            place.own = None;
            return None;
        }
        own.lease = own.lease.checked_sub(1)?;
        Some(Arc::clone(&own.access))
    }

    /// What to hand on in place of what threads share: that itself when the token comes to its place anew, and this
    /// thread's own when it comes there again.
    pub(super) fn own(&self, hash: u64, shared: &Arc<Access>) -> Arc<Access> {
        let mut places = self.of_threads.get_or_default().0.borrow_mut();
        let place = &mut places[place_of(hash)];
        if place.hash != hash {
            *place = Place { hash, own: None };
            return Arc::clone(shared);
        }
        let access = match place.own.take() {
            Some(own) if own.is_of(shared) => own.access,
            _ => Arc::new(Access::clone(shared)),
        };
        place.own = Some(Own { access: Arc::clone(&access), lease: LEASE });
        access
    }
}

fn place_of(hash: u64) -> usize {
    hash as usize % PLACES
}

impl Own {
    fn is_of(&self, shared: &Access) -> bool {
        self.access.stamp() == shared.stamp() && eq_in_constant_time(self.access.token(), shared.token())
    }
}

impl Default for OfThread {
    fn default() -> Self {
        Self(RefCell::new(std::array::from_fn(|_| Place::default())))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{store::Changes, token::test_claims};

    const HASH: u64 = 7;

    fn access(changes: &Changes, token: &str) -> Arc<Access> {
        Arc::new(Access::stamped(test_claims("c", 10, token), changes.stamp("c")))
    }

    fn get(hot: &HotTokens) -> Option<Arc<Access>> {
        hot.get(HASH, |_| true)
    }

    #[test]
    fn a_thread_has_its_own_of_what_comes_to_a_place_twice() {
        let (hot, shared) = (HotTokens::default(), access(&Changes::of_own_store(), "t"));
        assert!(get(&hot).is_none());
        assert!(Arc::ptr_eq(&hot.own(HASH, &shared), &shared) && get(&hot).is_none());
        let own = hot.own(HASH, &shared);
        assert!(!Arc::ptr_eq(&own, &shared) && own.token() == shared.token());
        assert!(Arc::ptr_eq(&get(&hot).unwrap(), &own));
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(get(&hot).is_none());
                hot.own(HASH, &shared);
                assert!(!Arc::ptr_eq(&hot.own(HASH, &shared), &own));
            });
        });
        // Another one takes the place, and has to come twice as well.
        hot.own(HASH + PLACES as u64, &shared);
        assert!(get(&hot).is_none() && Arc::ptr_eq(&hot.own(HASH, &shared), &shared));
    }

    #[test]
    fn the_cache_is_asked_again_now_and_then() {
        let (hot, shared) = (HotTokens::default(), access(&Changes::of_own_store(), "t"));
        let own = [hot.own(HASH, &shared), hot.own(HASH, &shared)][1].clone();
        assert_eq!((0..1000).take_while(|_| get(&hot).is_some()).count(), LEASE as usize);
        assert!(Arc::ptr_eq(&hot.own(HASH, &shared), &own), "it is the same still");
        assert!(get(&hot).is_some());
    }

    #[test]
    fn what_is_not_good_any_more_is_let_go() {
        let (hot, changes) = (HotTokens::default(), Changes::of_own_store());
        let shared = access(&changes, "t");
        let own = [hot.own(HASH, &shared), hot.own(HASH, &shared)][1].clone();
        let is_good = |access: &Access| {
            assert_eq!(access.token(), shared.token());
            false
        };
        // Though its lease has run out, too.
        assert_eq!((0..=LEASE).filter(|_| get(&hot).is_some()).count(), LEASE as usize);
        assert!(hot.get(HASH, is_good).is_none());
        assert_eq!(Arc::strong_count(&own), 1);
        assert!(get(&hot).is_none());
    }

    #[test]
    fn another_token_and_another_confirmation_are_not_taken_for_the_same() {
        let changes = Changes::of_own_store();
        let shared = access(&changes, "t");
        let other_token = access(&changes, "u");
        changes.client_changed("c");
        let other_stamp = access(&changes, "t");
        for (name, other) in [("token", &other_token), ("stamp", &other_stamp)] {
            let hot = HotTokens::default();
            let own = [hot.own(HASH, &shared), hot.own(HASH, &shared)][1].clone();
            let now = hot.own(HASH, other);
            assert!(!Arc::ptr_eq(&now, &own), "{name}");
            assert_eq!((now.token(), now.stamp()), (other.token(), other.stamp()), "{name}");
        }
    }
}
