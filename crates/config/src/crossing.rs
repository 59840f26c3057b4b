//! Times that are right one by one, and cross each other.

use std::time::Duration;

use humantime::format_duration;

use fastauth_core::{
    issue::Issuing,
    settings::{StoreSettings, TOLERANCE},
    store::{Changes, HTTP_PATIENCE},
};

use super::Draft;

impl Draft<'_> {
    /// Warns of times that end before something that they have to outlast.
    pub(super) fn compare_times(
        &mut self,
        issuing: &Issuing,
        cache_ttl: Duration,
        websocket_recheck: Duration,
        store: Option<&StoreSettings>,
    ) {
        // The embedded store answers as soon as it has written, and tells of changes.
        let (patience, tells_of_others) = match store {
            None | Some(StoreSettings::Sqlite { .. }) => return,
            Some(StoreSettings::Rest { .. }) => (HTTP_PATIENCE, false),
            Some(StoreSettings::Custom(store)) => {
                (store.patience(), store.changes().is_some_and(Changes::tells_of_others))
            }
        };
        let is_slow = !patience.is_zero();
        let call = format!("a call to the store may take ({})", format_duration(patience));
        if is_slow && issuing.access_ttl <= patience {
            self.warnings.push(format!(
                "`access-ttl` is no longer than {call}: a token may have expired before its client gets it"
            ));
        }
        if is_slow && websocket_recheck * TOLERANCE <= patience {
            self.warnings.push(format!(
                "`websocket-recheck` is too short beside how long {call}: one slow answer closes all WebSockets"
            ));
        }
        let is_reuse_unseen = issuing.refresh_ttl <= issuing.refresh_grace.saturating_add(patience);
        if !issuing.refresh_grace.is_zero() && is_reuse_unseen {
            self.warnings.push(
                "`refresh-ttl` is no longer than `refresh-grace`: a refresh token that was copied is never noticed"
                    .to_owned(),
            );
        }
        if !tells_of_others && cache_ttl >= issuing.access_ttl {
            self.warnings.push(
                "`cache-ttl` is not shorter than `access-ttl`: what another process revokes is accepted until it expires"
                    .to_owned(),
            );
        }
    }
}
