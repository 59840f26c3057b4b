//! TimeLimits that are right one by one, and cross each other.

use fastauth_core::{
    settings::{StoreSettings, TOLERANCE},
    store::{Changes, HTTP_PATIENCE},
};
use humantime::format_duration;

use crate::draft::Draft;

impl Draft<'_> {
    /// Warns of times that end before something that they have to outlast.
    pub(crate) fn compare_times(&mut self, store: Option<&StoreSettings>) {
        if self.issuing.refresh_ttl < self.issuing.access_ttl {
            self.warn(
                "`refresh-ttl` is shorter than `access-ttl`: a client can no longer refresh while its access token still works",
            );
        }
        let session_ttl = self.issuing.session_ttl;
        if !session_ttl.is_zero() && session_ttl <= self.issuing.access_ttl {
            self.warn(
                "`session-ttl` is no longer than `access-ttl`: a client never refreshes, and logs in again when its access token ends",
            );
        }
        if !self.caching.grace.is_zero() {
            if !self.caching.on {
                self.warn("`store-grace` has no effect: with `cache` off, no token is cached");
            } else if matches!(store, Some(StoreSettings::Sqlite { .. })) {
                self.warn("`store-grace` has no effect: it is for a REST store, which may be away");
            }
        }
        // The embedded store answers as soon as it has written, and reports changes.
        let (patience, reports_others) = match store {
            None | Some(StoreSettings::Sqlite { .. }) => return,
            Some(StoreSettings::Rest { .. }) => (HTTP_PATIENCE, false),
            Some(StoreSettings::Custom(store)) => {
                (store.patience(), store.changes().is_some_and(Changes::tells_of_others))
            }
        };
        let is_slow = !patience.is_zero();
        let call = format!("a call to the store may take ({})", format_duration(patience));
        if is_slow && self.issuing.access_ttl <= patience {
            self.warn(format!(
                "`access-ttl` is no longer than {call}: a token may have expired before its client gets it"
            ));
        }
        if is_slow && self.websocket.recheck * TOLERANCE <= patience {
            self.warn(format!("`websocket-recheck` is too short: {call}, so one slow answer closes all WebSockets"));
        }
        let grace = self.issuing.refresh_grace;
        let is_reuse_unseen = self.issuing.refresh_ttl <= grace.saturating_add(patience);
        if !grace.is_zero() && is_reuse_unseen {
            self.warn(
                "`refresh-ttl` is no longer than `refresh-grace`: a refresh token that was copied is never noticed",
            );
        }
        if !reports_others && self.caching.ttl >= self.issuing.access_ttl {
            self.warn(
                "`cache-ttl` is not shorter than `access-ttl`: what another process revokes is accepted until it expires",
            );
        }
    }
}
