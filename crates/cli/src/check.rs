//! `check`.

use std::{path::Path, process::ExitCode};

use fastauth::{
    Settings,
    config::{Fault, Report, ReportEntry, StoreFormat, TokensPerClient},
    store::{Promises, StoreError, TokenStore},
};
use fastauth_core::random::unique_name;
use serde_json::{Map, Value, json};

use crate::{
    args::Check,
    failure::{Failure, chain},
    output,
    token::block_on,
};

pub(crate) fn run(args: Check) -> Result<ExitCode, Failure> {
    let report = args.config.settings().report();
    let store = match report.clone().into_settings() {
        Ok(settings) if !args.offline => Some(try_store(&settings)?),
        _ => None,
    };
    let ok = report.faults().is_empty() && !matches!(store, Some(Err(_)));
    if args.json {
        output::json(&as_object(&report, ok, store.as_ref()))?;
    } else {
        print(&report, store.as_ref())?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A store that answers, or is created at the first start.
struct TriedStore {
    state: &'static str,
    promises: Promises,
    suggestions: Vec<&'static str>,
}

/// Tries the store. A database that does not exist is not created: it would belong to the user who checks.
fn try_store(settings: &Settings) -> Result<Result<TriedStore, String>, Failure> {
    if let Some(path) = settings.database_file().filter(|path| !path.exists()) {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Ok(Err(format!("{}: there is no such directory", directory.display())));
        }
        return Ok(Ok(TriedStore::new("not there yet, the first start creates it", Promises::ALL, settings)));
    }
    let store = match fastauth::store::open(settings) {
        Ok(store) => store,
        Err(error) => return Ok(Err(error.faults().iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))),
    };
    let asked = block_on(ask(&*store))?;
    Ok(asked.map(|promises| TriedStore::new("answers", promises, settings)).map_err(|error| chain(&error)))
}

async fn ask(store: &dyn TokenStore) -> Result<Promises, StoreError> {
    // A client that does not exist.
    store.load(&format!("fastauth-check-{}", unique_name()), None).await?;
    store.check().await?;
    store.promises().await
}

fn suggestions(settings: &Settings, promises: Promises) -> Vec<&'static str> {
    let is_encrypted = settings.store_format() == StoreFormat::Fernet;
    let mut suggestions = Vec::new();
    if settings.database_file().is_some() && !is_encrypted {
        suggestions.push(
            "set `store-format` to \"fernet\" to encrypt stored tokens at rest (`fastauth store convert` encrypts those \
             that are stored already)",
        );
    }
    if !promises.atomic_rotation {
        suggestions.push(
            "use one node, or a store of the second version (`fastauth store serve`): on this store, a refresh that is under \
             way on one node undoes a revocation on another. The first version of the store API cannot prevent it. Tokens \
             that come back within eleven seconds are revoked again, unless they do not name their session, as those of \
             `fastauth-api`",
        );
    }
    if is_encrypted && promises == Promises::NONE {
        suggestions.push(
            "set `store-format` to \"plain\" if `fastauth-api` uses this store: it refuses every encrypted token",
        );
    }
    if settings.tokens_per_client() == TokensPerClient::Many && !promises.many_sessions {
        suggestions.push(
            "set `tokens-per-client` to \"one\": the store holds one session of a client, so the newest one ends the others",
        );
    }
    if !settings.access_grace().is_zero() && !promises.access_grace {
        suggestions.push(
            "remove `access-grace`: it has no effect, since the store does not keep replaced access tokens. A store of the second \
             version (`fastauth store serve`) and the embedded one do",
        );
    }
    suggestions
}

/// One of the promises of a store.
struct Promise {
    /// The name in JSON.
    name: &'static str,
    text: &'static str,
    is_kept: bool,
}

impl TriedStore {
    fn new(state: &'static str, promises: Promises, settings: &Settings) -> Self {
        Self { state, promises, suggestions: suggestions(settings, promises) }
    }

    fn promises(&self) -> [Promise; 6] {
        let Promises { atomic_rotation, many_sessions, revoke_all, list, tickets, access_grace } = self.promises;
        [
            Promise {
                name: "atomic_rotation",
                text: "atomic refresh rotation with reuse detection",
                is_kept: atomic_rotation,
            },
            Promise { name: "many_sessions", text: "several sessions of a client", is_kept: many_sessions },
            Promise { name: "revoke_all", text: "revoking everything at once", is_kept: revoke_all },
            Promise { name: "list", text: "listing what it holds", is_kept: list },
            Promise {
                name: "access_grace",
                text: "replaced access tokens accepted for a moment (`access-grace`)",
                is_kept: access_grace,
            },
            Promise { name: "tickets", text: "one-time WebSocket tickets (`/auth/ticket`)", is_kept: tickets },
        ]
    }

    fn print(&self) -> Result<(), Failure> {
        output::line(&format!("store: {}", self.state))?;
        for promise in self.promises() {
            let answer = if promise.is_kept { "yes" } else { "no" };
            output::line(&format!("store: {}: {answer}", promise.text))?;
        }
        self.suggestions.iter().try_for_each(|suggestion| output::line(&format!("suggestion: {suggestion}")))
    }

    fn as_object(&self) -> Value {
        let promises: Map<_, _> =
            self.promises().into_iter().map(|promise| (promise.name.to_owned(), promise.is_kept.into())).collect();
        json!({ "ok": true, "state": self.state, "promises": promises, "advice": self.suggestions })
    }
}

fn print(report: &Report, store: Option<&Result<TriedStore, String>>) -> Result<(), Failure> {
    let entries = report.entries();
    let keys = entries.iter().map(|entry| entry.key.len()).max().unwrap_or(0);
    let values = entries.iter().map(|entry| entry.value.chars().count()).max().unwrap_or(0);
    for ReportEntry { key, value, source, .. } in entries {
        output::line(&format!("{key:keys$}  {value:values$}  {source}"))?;
    }
    for note in report.notes() {
        output::line(&format!("note: {note}"))?;
    }
    for warning in report.warnings() {
        output::line(&format!("warning: {warning}"))?;
    }
    for fault in report.faults() {
        output::line(&format!("fault: {fault}"))?;
    }
    match store {
        Some(Ok(tried)) => tried.print(),
        Some(Err(error)) => output::line(&format!("fault: store: {error}")),
        None => output::line("store: not tried"),
    }
}

fn as_object(report: &Report, ok: bool, store: Option<&Result<TriedStore, String>>) -> Value {
    let settings = report
        .entries()
        .iter()
        .map(|entry| json!({ "key": entry.key, "value": entry.value, "source": entry.source.to_string() }));
    let faults = report.faults().iter().map(|fault| {
        json!({
            "source": fault.source().to_string(),
            "key": fault.key(),
            "problem": fault.problem(),
            "remedy": fault.remedy(),
        })
    });
    json!({
        "ok": ok,
        "settings": settings.collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
        "warnings": report.warnings(),
        "notes": report.notes(),
        "store": store.map(|store| match store {
            Ok(tried) => tried.as_object(),
            Err(error) => json!({ "ok": false, "error": error }),
        }),
    })
}
