//! `token list`.

use fastauth::store::{FamilyEntry, FamilyFilter};
use serde_json::{Value, json};

use super::block_on;
use fastauth_core::shown::shown;

use crate::{
    args::ListTokens,
    failure::Failure,
    families::{existing_store, pages, time},
    output,
};

const HEAD: [&str; 9] =
    ["CLIENT", "FAMILY", "RENEWED", "STATUS", "ISSUED", "LAST RENEWED", "ACCESS UNTIL", "REFRESH UNTIL", "KEY"];

pub(super) fn run(args: ListTokens) -> Result<(), Failure> {
    let settings = args.config.settings().load()?;
    let filter = FamilyFilter {
        client_id: args.client_id,
        client_id_prefix: args.prefix,
        status: args.status.map(Into::into),
        ..FamilyFilter::default()
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
                true => page.families.iter().try_for_each(|entry| output::json_line(&object(entry))),
                false => table(&page.families, total == 0),
            };
        }
        total += page.families.len();
    }))??;
    written?;
    if total == 0 && !args.json {
        output::note("No sessions found");
    }
    Ok(())
}

fn object(entry: &FamilyEntry) -> Value {
    json!({
        "client_id": entry.client_id,
        "family": entry.family,
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
fn table(families: &[FamilyEntry], with_head: bool) -> Result<(), Failure> {
    let mut rows: Vec<_> = families.iter().map(row).collect();
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

fn row(entry: &FamilyEntry) -> [String; HEAD.len()] {
    [
        cell(&entry.client_id),
        cell(&entry.family),
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
