//! Reading the sessions of a store, and showing them.

use std::{
    path::Path,
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

/// Says that the configured database does not exist, and names its file.
pub(crate) fn absent(settings: &Settings) -> String {
    let path = settings.database_file().unwrap_or(Path::new(""));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("the database {} does not exist", path.display())
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

/// Formats a length of time in one unit, rounded, such as `12 m`.
pub(crate) fn length(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * 24 * 60 * 60, "y"), (24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")];
    // A unit is used from twice its length on, so that little is rounded away.
    let unit =
        UNITS.iter().find(|(unit, _)| seconds >= 2 * unit || (seconds >= *unit && seconds.is_multiple_of(*unit)));
    match unit {
        Some((unit, name)) => format!("{} {name}", (seconds + unit / 2) / unit),
        None => format!("{seconds} s"),
    }
}

/// Formats a point in time, in seconds since the Unix epoch, as seen from another: `in 12 m`, `3 d ago`.
pub(crate) fn relative(seconds: u64, now: u64) -> String {
    match seconds {
        0 => "unknown".to_owned(),
        _ if seconds > now => format!("in {}", length(seconds - now)),
        _ if seconds == now => "now".to_owned(),
        _ => format!("{} ago", length(now - seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_short_and_close() {
        for (seconds, expected) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 m"),
            (60, "1 m"),
            (15 * 60, "15 m"),
            (15 * 60 - 1, "15 m"),
            (7_199, "120 m"),
            (86_400, "1 d"),
            (100_000, "28 h"),
            (30 * 86_400, "30 d"),
            (365 * 86_400, "1 y"),
            (364 * 86_400, "364 d"),
        ] {
            assert_eq!(length(seconds), expected);
        }
        assert_eq!((relative(1_060, 1_000), relative(880, 1_000)), ("in 1 m".to_owned(), "2 m ago".to_owned()));
        assert_eq!((relative(0, 1_000), relative(1_000, 1_000)), ("unknown".to_owned(), "now".to_owned()));
    }
}
