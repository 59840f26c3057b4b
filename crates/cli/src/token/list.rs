//! `token list`.

use fastauth::store::{SessionEntry, SessionFilter, SessionStatus};
use fastauth_core::shown::shown;
use serde_json::{Value, json};

use super::args::ListTokens;
use crate::{
    failure::Failure,
    output,
    runtime::block_on,
    sessions::{absent, count, existing_store, may_be_valid, pages, relative, time, unix_now},
};

/// The most characters of a client id in the narrow table, which is then at most 100 wide.
const CLIENT_WIDTH: usize = 24;

const NARROW: [&str; 7] = ["CLIENT", "SESSION", "STATUS", "ISSUED", "REFRESHED", "ACCESS", "REFRESH"];
const WIDE: [&str; 9] =
    ["CLIENT", "SESSION", "STATUS", "ISSUED", "REFRESHED", "TIMES", "ACCESS UNTIL", "REFRESH UNTIL", "KEY"];

pub(super) fn run(args: ListTokens) -> Result<(), Failure> {
    let settings = args.config.settings().load()?;
    let filter = SessionFilter {
        client_id: args.client_id,
        client_id_prefix: args.prefix,
        status: args.status.map(Into::into),
        ..SessionFilter::default()
    };
    let Some(store) = existing_store(&settings)? else {
        output::note(&format!("No sessions: {}", absent(&settings)));
        return Ok(());
    };
    let now = unix_now();
    let shows_ended = args.json || args.all || filter.status.is_some();
    let mut shown = 0;
    let mut hidden = 0;
    let mut written = Ok(());
    block_on(pages(&*store, filter, |page| {
        let total = page.sessions.len();
        let sessions: Vec<_> = page.sessions.into_iter().filter(|entry| shows_ended || is_usable(entry, now)).collect();
        // After a page that could not be written, no other is tried.
        if written.is_ok() {
            written = match (args.json, args.wide) {
                (true, _) => sessions.iter().try_for_each(|entry| output::json_line(&object(entry))),
                (false, true) => table(&WIDE, shown == 0, sessions.iter().map(wide_row).collect()),
                (false, false) => table(&NARROW, shown == 0, sessions.iter().map(|entry| row(entry, now)).collect()),
            };
        }
        shown += sessions.len();
        hidden += total - sessions.len();
    }))??;
    written?;
    if args.json {
        return Ok(());
    }
    match (shown, hidden) {
        (0, 0) => output::note("No sessions found"),
        (_, 0) => {}
        (_, hidden) => {
            output::note(&format!("{} ended or expired and not shown: --all shows all", count(hidden as u64)));
        }
    }
    Ok(())
}

/// Returns true if a token of the session is accepted.
fn is_usable(entry: &SessionEntry, now: u64) -> bool {
    entry.status == SessionStatus::Live && may_be_valid(entry, now)
}

fn object(entry: &SessionEntry) -> Value {
    json!({
        "client_id": entry.client_id,
        "session": entry.session,
        "generation": entry.generation,
        "kid": entry.kid,
        "status": entry.status,
        "issued_at": entry.issued_at,
        "renewed_at": entry.renewed_at,
        "access_expires_at": entry.access_expires_at,
        "refresh_expires_at": entry.refresh_expires_at,
        "version": entry.version,
    })
}

/// Prints a page, its columns as wide as this page needs.
fn table<const N: usize>(head: &[&str; N], with_head: bool, mut rows: Vec<[String; N]>) -> Result<(), Failure> {
    if with_head && !rows.is_empty() {
        rows.insert(0, head.map(str::to_owned));
    }
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        output::line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(entry: &SessionEntry, now: u64) -> [String; NARROW.len()] {
    let until = |end: u64| match end {
        0 => "unknown".to_owned(),
        end if end < now => "expired".to_owned(),
        end => relative(end, now),
    };
    [
        shortened(&cell(&entry.client_id), CLIENT_WIDTH),
        shortened(&cell(&entry.session), CLIENT_WIDTH),
        entry.status.as_str().to_owned(),
        relative(entry.issued_at, now),
        if entry.generation == 0 { "-".to_owned() } else { relative(entry.renewed_at, now) },
        until(entry.access_expires_at),
        until(entry.refresh_expires_at),
    ]
}

fn wide_row(entry: &SessionEntry) -> [String; WIDE.len()] {
    [
        cell(&entry.client_id),
        cell(&entry.session),
        entry.status.as_str().to_owned(),
        time(entry.issued_at),
        time(entry.renewed_at),
        format!("{}x", entry.generation),
        time(entry.access_expires_at),
        time(entry.refresh_expires_at),
        cell(&entry.kid),
    ]
}

fn cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { shown(text).into_owned() }
}

/// Cuts a text after so many characters, the last of which is then an ellipsis.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}
