//! `token list`.

use fastauth::store::{SessionEntry, SessionFilter};
use serde_json::{Value, json};

use super::block_on;
use fastauth_core::shown::shown;

use crate::{
    args::ListTokens,
    failure::Failure,
    output,
    sessions::{existing_store, pages, time},
};

const HEAD: [&str; 9] =
    ["CLIENT", "SESSION", "RENEWED", "STATUS", "ISSUED", "LAST RENEWED", "ACCESS UNTIL", "REFRESH UNTIL", "KEY"];

pub(super) fn run(args: ListTokens) -> Result<(), Failure> {
    let settings = args.config.settings().load()?;
    let filter = SessionFilter {
        client_id: args.client_id,
        client_id_prefix: args.prefix,
        status: args.status.map(Into::into),
        ..SessionFilter::default()
    };
    let Some(store) = existing_store(&settings)? else {
        output::note("The database does not exist yet: no tokens were issued");
        return Ok(());
    };
    let mut total = 0;
    let mut written = Ok(());
    block_on(pages(&*store, filter, |page| {
        // After a page that could not be written, no other is tried.
        if written.is_ok() {
            written = match args.json {
                true => page.sessions.iter().try_for_each(|entry| output::json_line(&object(entry))),
                false => table(&page.sessions, total == 0),
            };
        }
        total += page.sessions.len();
    }))??;
    written?;
    if total == 0 && !args.json {
        output::note("No sessions found");
    }
    Ok(())
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
fn table(sessions: &[SessionEntry], with_head: bool) -> Result<(), Failure> {
    let mut rows: Vec<_> = sessions.iter().map(row).collect();
    if with_head && !rows.is_empty() {
        rows.insert(0, HEAD.map(str::to_owned));
    }
    let mut widths = [0; HEAD.len()];
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

fn row(entry: &SessionEntry) -> [String; HEAD.len()] {
    [
        cell(&entry.client_id),
        cell(&entry.session),
        format!("{}x", entry.generation),
        entry.status.as_str().to_owned(),
        time(entry.issued_at),
        time(entry.renewed_at),
        time(entry.access_expires_at),
        time(entry.refresh_expires_at),
        cell(&entry.kid),
    ]
}

fn cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { shown(text).into_owned() }
}
