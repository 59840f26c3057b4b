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
        output::note("The database is not there yet: nothing was issued");
        return Ok(());
    };
    let mut total = 0;
    let mut written = Ok(());
    block_on(pages(&*store, filter, |page| {
        let print = || match args.json {
            true => page.families.iter().try_for_each(|entry| output::json_line(&object(entry))),
            false => table(&page.families, total == 0),
        };
        // Where a page could not be written, the rest is not tried.
        if written.is_ok() {
            written = print();
        }
        total += page.families.len();
    }))??;
    written?;
    if total == 0 && !args.json {
        output::note("There are none");
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

/// Each page is as wide as it has to be: what comes later is not waited for.
fn table(families: &[FamilyEntry], with_head: bool) -> Result<(), Failure> {
    let mut rows: Vec<_> = families.iter().map(row).collect();
    if with_head && !rows.is_empty() {
        rows.insert(0, HEAD.map(str::to_owned));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 9] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}"));
        output::line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(entry: &FamilyEntry) -> [String; 9] {
    let status = serde_json::to_value(entry.status).unwrap_or_default();
    [
        cell(&entry.client_id),
        cell(&entry.family),
        format!("{}x", entry.generation),
        status.as_str().unwrap_or_default().to_owned(),
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
