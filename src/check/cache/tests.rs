use std::{thread, time::SystemTime};

use fastauth_core::manual_clock::ManualClock;

use super::*;
use crate::token::test_claims;

const NOW: u64 = 1_800_000_000_000;

fn access(changes: &Changes, token: &str) -> Arc<Access> {
    Arc::new(Access::stamped(test_claims("c", NOW / 1000 + 10, token), changes.stamp("c")))
}

fn keep(cache: &TokenCache, changes: &Changes, token: &str) {
    cache.keep(&access(changes, token), NOW);
}

fn knows(cache: &TokenCache, changes: &Changes, token: &str, now: u64) -> bool {
    let now = Now { unix_ms: now, clock: &Clock::default() };
    cache.confirmed(token.as_bytes(), changes, now).is_some()
}

#[test]
fn token_is_cached_until_it_expires_or_its_client_changes() {
    let cache = TokenCache::new(100, Duration::ZERO);
    let changes = Changes::of_own_store();
    keep(&cache, &changes, "t");
    assert!(knows(&cache, &changes, "t", NOW) && !knows(&cache, &changes, "u", NOW));
    assert!(knows(&cache, &changes, "t", NOW + 10_999));
    assert!(!knows(&cache, &changes, "t", NOW + 11_000));
    assert!((0..100).all(|_| knows(&cache, &changes, "t", NOW)), "again and again");
    changes.client_changed("c");
    assert!(!knows(&cache, &changes, "t", NOW));
    keep(&cache, &changes, "t");
    assert!((0..3).all(|_| knows(&cache, &changes, "t", NOW)));
    assert!(!knows(&cache, &changes, "t", NOW + 11_000));
}

/// Returns the bytes of all cached tokens.
fn kept_bytes(cache: &TokenCache) -> usize {
    cache.entries.pin().values().map(|entry| entry.access.token().len()).sum()
}

/// Returns a token of 16 KiB, the longest that is read.
fn large(number: usize) -> String {
    format!("{number:016}").repeat(1024)
}

#[test]
fn large_token_takes_the_room_of_many() {
    let cache = TokenCache::new(1000, Duration::ZERO);
    let changes = Changes::of_own_store();
    for number in 0..5000 {
        keep(&cache, &changes, &large(number));
        assert!(knows(&cache, &changes, &large(number), NOW), "and each is used, so that it earns its room");
        assert!(kept_bytes(&cache) <= 1000 * 1024, "{}", kept_bytes(&cache));
    }
    assert!(cache.len() > 30, "{}", cache.len());
    for number in 0..10_000 {
        keep(&cache, &changes, &format!("small-{number}"));
        knows(&cache, &changes, &format!("small-{number}"), NOW);
    }
    assert!((500..=1000).contains(&cache.len()), "small ones have all the room again: {}", cache.len());
}

#[test]
fn flood_of_large_tokens_evicts_no_used_one() {
    let cache = TokenCache::new(1000, Duration::ZERO);
    let changes = Changes::of_own_store();
    for number in 0..300 {
        keep(&cache, &changes, &format!("used-{number}"));
    }
    for number in 0..2000 {
        (0..300).for_each(|number| assert!(knows(&cache, &changes, &format!("used-{number}"), NOW)));
        keep(&cache, &changes, &large(number));
        assert!(kept_bytes(&cache) <= 1000 * 1024);
    }
}

#[test]
fn token_that_is_confirmed_again_takes_its_room_once() {
    let cache = TokenCache::new(1000, Duration::ZERO);
    let changes = Changes::of_own_store();
    for _ in 0..1000 {
        keep(&cache, &changes, &large(1));
        keep(&cache, &changes, "t");
    }
    assert!(cache.len() == 2 && knows(&cache, &changes, "t", NOW) && knows(&cache, &changes, &large(1), NOW));
}

#[test]
fn threads_that_use_a_token_share_its_access() {
    let cache = TokenCache::new(100, Duration::ZERO);
    let changes = Changes::of_own_store();
    let shared = access(&changes, "t");
    cache.keep(&shared, NOW);
    let clock = Clock::default();
    let now = Now { unix_ms: NOW, clock: &clock };
    for _ in 0..10 {
        thread::scope(|scope| {
            let find = || cache.confirmed(shared.token(), &changes, now).unwrap().access;
            let found = [scope.spawn(find), scope.spawn(find)].map(|thread| thread.join().unwrap());
            assert!(found.iter().all(|found| Arc::ptr_eq(found, &shared)));
        });
    }
}

#[test]
fn change_during_the_store_call_is_not_missed() {
    let cache = TokenCache::new(100, Duration::ZERO);
    let changes = Changes::of_own_store();
    let before = access(&changes, "t");
    changes.client_changed("c");
    cache.keep(&before, NOW);
    assert!(!knows(&cache, &changes, "t", NOW));
}

#[test]
fn a_shared_store_is_asked_again_after_the_ttl() {
    let cache = TokenCache::new(100, Duration::from_millis(500));
    let changes = Changes::of_shared_store();
    let manual = ManualClock::at(SystemTime::UNIX_EPOCH);
    let clock = Clock::set_by(&manual);
    let knows = |cache: &TokenCache, unix_ms| cache.confirmed(b"t", &changes, Now { unix_ms, clock: &clock }).is_some();
    cache.keep(&access(&changes, "t"), 0);
    manual.advance(Duration::from_millis(499));
    assert!(knows(&cache, NOW) && knows(&cache, 0), "the clock was set back");
    manual.advance(Duration::from_millis(1));
    assert!(!knows(&cache, NOW) && !knows(&cache, 0));
    let off = TokenCache::new(100, Duration::ZERO);
    off.keep(&access(&changes, "t"), 500);
    assert!(!knows(&off, NOW));
}

#[test]
fn grace_is_for_tokens_that_were_confirmed_and_are_not_known_to_be_replaced() {
    let changes = Changes::of_shared_store();
    let manual = ManualClock::at(SystemTime::UNIX_EPOCH);
    let clock = Clock::set_by(&manual);
    let cache = TokenCache::new(100, Duration::ZERO).with_grace(Duration::from_secs(5));
    let in_grace = |cache: &TokenCache, token: &str, unix_ms| {
        cache.in_grace(token.as_bytes(), &changes, Now { unix_ms, clock: &clock }).is_some()
    };
    let keep = |cache: &TokenCache| cache.keep(&access(&changes, "t"), 0);
    keep(&cache);
    assert!(in_grace(&cache, "t", NOW) && !in_grace(&cache, "u", NOW));
    assert!(!in_grace(&cache, "t", NOW + 11_000), "it has expired");
    changes.client_changed("c");
    assert!(!in_grace(&cache, "t", NOW));
    keep(&cache);
    assert!(in_grace(&cache, "t", NOW));
    let refused = Asked { stamp: changes.stamp("c"), at_ms: 0 };
    cache.keep_refused(&access(&changes, "t"), Mismatch::NotCurrent, refused, &changes);
    assert!(!in_grace(&cache, "t", NOW), "the store refused it");
    keep(&cache);
    manual.advance(Duration::from_secs(5));
    assert!(!in_grace(&cache, "t", NOW));
    let none = TokenCache::new(100, Duration::from_secs(60));
    keep(&none);
    assert!(!in_grace(&none, "t", NOW));
}

#[test]
fn one_request_renews_a_token_that_is_due() {
    let cache = TokenCache::new(100, Duration::ZERO);
    let changes = Changes::of_fed_store();
    changes.fed_until(NOW + 1000, 0);
    let now = Now { unix_ms: NOW, clock: &Clock::default() };
    let is_due = || cache.confirmed(b"t", &changes, now).map(|recalled| recalled.is_due);
    cache.keep(&access(&changes, "t"), 0);
    assert_eq!(is_due(), Some(false));
    changes.fed_until(NOW + 1000, 250_000);
    assert_eq!(is_due(), Some(true));
    assert!(cache.is_to_renew(b"t") && !cache.is_to_renew(b"t"), "the first one");
    assert_eq!(is_due(), Some(true), "and the others go on");
    cache.keep(&access(&changes, "t"), 250_000);
    assert_eq!(is_due(), Some(false));
    let refused = Asked { stamp: changes.stamp("c"), at_ms: 250_000 };
    cache.keep_refused(&access(&changes, "t"), Mismatch::NotCurrent, refused, &changes);
    assert_eq!(is_due(), None);
}

#[test]
fn flood_of_single_use_tokens_evicts_no_used_one() {
    let cache = TokenCache::new(1000, Duration::ZERO);
    let changes = Changes::of_own_store();
    for number in 0..500 {
        keep(&cache, &changes, &format!("used-{number}"));
    }
    for number in 0..500 {
        assert!(knows(&cache, &changes, &format!("used-{number}"), NOW));
    }
    for number in 0..100_000 {
        keep(&cache, &changes, &format!("once-{number}"));
        assert!(cache.len() <= 1000);
    }
    let kept = (0..500).filter(|number| knows(&cache, &changes, &format!("used-{number}"), NOW)).count();
    assert_eq!(kept, 500);
}

#[test]
fn token_is_cached_on_its_second_appearance_under_a_flood() {
    let cache = TokenCache::new(100_000, Duration::ZERO);
    let changes = Changes::of_own_store();
    let comes = |token: &str| cache.keep_if_worth(&access(&changes, token), NOW);
    let knows = |token: &str| knows(&cache, &changes, token, NOW);
    (0..10_000).for_each(|number| comes(&format!("once-{number}")));
    assert_eq!(cache.len(), MAX_CREDIT as usize);
    comes("t");
    assert!(!knows("t"));
    comes("t");
    assert!(knows("t"), "and it is used");
    comes("u");
    assert!(knows("u"), "that one was used is credit for another");
    let ttl = TokenCache::new(100_000, Duration::from_secs(1));
    for number in 0..10_000 {
        ttl.keep_if_worth(&access(&changes, &format!("once-{number}")), NOW);
    }
    assert_eq!(ttl.len(), 10_000);
}

#[test]
fn known_token_spends_no_credit() {
    let cache = TokenCache::new(100_000, Duration::ZERO);
    let changes = Changes::of_own_store();
    for round in 0..10 {
        for number in 0..500 {
            let token = format!("{number}");
            cache.keep_if_worth(&access(&changes, &token), NOW);
            assert!(knows(&cache, &changes, &token, NOW), "{token} in round {round}");
        }
        changes.anything_changed();
    }
    assert_eq!(cache.newcomers.credit.load(Ordering::Relaxed), MAX_CREDIT);
}

#[test]
fn unused_tokens_are_evicted() {
    let cache = TokenCache::new(100, Duration::ZERO);
    let changes = Changes::of_own_store();
    for round in 0..50 {
        for number in 0..100 {
            let token = format!("{round}-{number}");
            keep(&cache, &changes, &token);
            knows(&cache, &changes, &token, NOW);
        }
    }
    let newest = (0..100).filter(|number| knows(&cache, &changes, &format!("49-{number}"), NOW)).count();
    assert!(newest >= 50, "{newest}");
    assert!(cache.len() <= 100);
}
