//! TimeLimits such as `15m`.

use std::time::Duration;

/// Reads a time. `M`, which is months, is refused: most likely it means minutes.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a time"))?;
    if text.contains('M') {
        let minutes = text.replace('M', "m");
        return Err(format!(
            "{text:?} means months, by its capital M; write {minutes:?} for minutes, or \"30d\" for a month"
        ));
    }
    Ok(time)
}

/// Writes a time in days, hours, minutes, seconds and parts of those.
pub(crate) fn show(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m"), (1, "s")];
    let mut seconds = time.as_secs();
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        if seconds >= unit {
            parts.push(format!("{}{name}", seconds / unit));
            seconds %= unit;
        }
    }
    let nanos = time.subsec_nanos();
    match nanos % 1_000_000 {
        0 if nanos == 0 => {}
        0 => parts.push(format!("{}ms", nanos / 1_000_000)),
        _ => parts.push(format!("{nanos}ns")),
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_time_is_read_back() {
        for (text, shown) in [
            ("30d", "30d"),
            ("90s", "1m 30s"),
            ("1500ms", "1s 500ms"),
            ("2w", "14d"),
            ("1year", "365d 6h"),
            ("3ns", "3ns"),
            ("0s", "0s"),
        ] {
            let time = parse(text).unwrap();
            assert_eq!(show(time), shown);
            assert_eq!(parse(shown), Ok(time));
        }
        for text in ["5M", "1h 5M", "soon", "5"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
