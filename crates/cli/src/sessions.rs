//! Reading the sessions of a store, and showing them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fastauth::{
    Settings,
    store::{SessionEntry, SessionFilter, SessionPage, StoreError, TokenStore},
};

use crate::failure::Failure;

/// Opens the configured store, unless its file does not exist yet: looking must not create it.
pub(crate) fn existing_store(settings: &Settings) -> Result<Option<Arc<dyn TokenStore>>, Failure> {
    if settings.database_file().is_some_and(|path| !path.exists()) {
        return Ok(None);
    }
    Ok(Some(fastauth::store::open(settings)?))
}

/// Calls `each` with every page of a list.
pub(crate) async fn pages(
    store: &dyn TokenStore,
    mut filter: SessionFilter,
    mut each: impl FnMut(SessionPage),
) -> Result<(), StoreError> {
    loop {
        let page = store.list(&filter).await?;
        let next = page.next.clone();
        each(page);
        match next {
            Some(next) => filter.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// Returns true unless all tokens of the session have expired. An unknown end may be far off.
pub(crate) fn may_be_valid(entry: &SessionEntry, now: u64) -> bool {
    [entry.access_expires_at, entry.refresh_expires_at].iter().any(|end| *end == 0 || *end >= now)
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Formats seconds since the Unix epoch.
pub(crate) fn time(seconds: u64) -> String {
    /// The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    match seconds {
        0 => "unknown".to_owned(),
        seconds => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))).to_string(),
    }
}

/// Returns "1 session" or "2 sessions".
pub(crate) fn count(number: u64) -> String {
    format!("{number} session{}", if number == 1 { "" } else { "s" })
}
