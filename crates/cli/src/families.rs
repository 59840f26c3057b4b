//! Going through the log-ins that a store holds.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fastauth::{
    Settings,
    store::{FamilyEntry, FamilyFilter, FamilyPage, StoreError, TokenStore},
};

use crate::failure::Failure;

/// The configured store, unless it is a file that is not there yet: opening that would make it, for whoever looks.
pub(crate) fn existing_store(settings: &Settings) -> Result<Option<Arc<dyn TokenStore>>, Failure> {
    if settings.database_file().is_some_and(|path| !path.exists()) {
        return Ok(None);
    }
    Ok(Some(fastauth::store::open(&settings)?))
}

/// Calls `each` with every page of what `filter` asks for.
pub(crate) async fn pages(
    store: &dyn TokenStore,
    filter: FamilyFilter,
    mut each: impl FnMut(FamilyPage),
) -> Result<(), StoreError> {
    let mut filter = filter;
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

/// Whether a token of the family may not have expired. An end that is not known may be far off.
pub(crate) fn may_be_valid(entry: &FamilyEntry, now: u64) -> bool {
    [entry.access_expires_at, entry.refresh_expires_at].iter().any(|end| *end == 0 || *end >= now)
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Seconds since the Unix epoch for people to read.
pub(crate) fn time(seconds: u64) -> String {
    /// The last one that has a year of four digits.
    const LAST: u64 = 253_402_300_799;
    match seconds {
        0 => "unknown".to_owned(),
        seconds => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))).to_string(),
    }
}

/// "1 log-in", "2 log-ins".
pub(crate) fn count(number: u64) -> String {
    format!("{number} log-in{}", if number == 1 { "" } else { "s" })
}
