//! `check`.

use std::process::ExitCode;

use clap::Args;
use fastauth::{
    Settings,
    config::{Fault, Report, ReportEntry, StoreFormat, TokensPerClient},
    store::{Promises, StoreError, TokenStore},
};
use fastauth_core::random::unique_name;
use serde_json::{Map, Value, json};

use fastauth_config::directory_of;

use crate::{
    config::Config,
    failure::{Failure, chain},
    output::{self, Label},
    runtime::block_on,
    schema,
};

mod summary;

#[derive(Args)]
#[command(after_help = "\
A fault keeps an application from starting, a warning is a risk, and a suggestion would make it better.

--verbose shows every key with its value and its source, and what the store supports. With --json, values have their types, times
are texts such as \"15m\" as in the configuration, and what is not set is null; secrets are never shown.

Exit codes: 0 no fault (with --strict: and no warning); 1 otherwise; 2 usage error.

Examples:
  fastauth check
  fastauth check --verbose
  fastauth check --strict --offline
  fastauth check --json")]
pub(crate) struct Check {
    #[command(flatten)]
    config: Config,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
    /// Do not connect to the store
    #[arg(long)]
    offline: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Check, is_verbose: bool) -> Result<ExitCode, Failure> {
    let report = args.config.settings().report();
    let settings = report.clone().into_settings().ok();
    let store = match &settings {
        Some(settings) if !args.offline => Some(try_store(settings)?),
        _ => None,
    };
    let mut suggestions: Vec<_> = schema::suggestion(report.directory()).into_iter().collect();
    let of_the_store = store.iter().flatten().flat_map(|store| &store.suggestions);
    suggestions.extend(of_the_store.map(|suggestion| (*suggestion).to_owned()));
    let is_fine = report.faults().is_empty() && !matches!(store, Some(Err(_)));
    let is_passed = is_fine && (!args.strict || report.warnings().is_empty());
    if args.json {
        let mut object = as_object(&report, is_passed, store.as_ref());
        object["suggestions"] = suggestions.into();
        output::json(&object)?;
    } else {
        print(&report, store.as_ref(), &suggestions, is_verbose)?;
        summary::print(&report, settings.as_ref(), store.as_ref(), suggestions.len())?;
        if !is_verbose {
            output::note("--verbose shows every key with its value and its source");
        }
    }
    Ok(if is_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
        let directory = directory_of(path);
        if !directory.is_dir() {
            let directory = directory.display();
            return Ok(Err(format!(
                "the directory {directory} of the database does not exist; create it, or change `database-api-url`"
            )));
        }
        return Ok(Ok(TriedStore::new("does not exist yet; the first start creates it", Promises::ALL, settings)));
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

    fn as_object(&self) -> Value {
        let promises: Map<_, _> =
            self.promises().into_iter().map(|promise| (promise.name.to_owned(), promise.is_kept.into())).collect();
        json!({ "ok": true, "state": self.state, "promises": promises, "suggestions": self.suggestions })
    }
}

/// Prints what to act on first, and then what is only to be known.
fn print(
    report: &Report,
    store: Option<&Result<TriedStore, String>>,
    suggestions: &[String],
    is_verbose: bool,
) -> Result<(), Failure> {
    for fault in report.told_faults() {
        output::labelled(Label::Fault, &fault)?;
    }
    if let Some(Err(error)) = store {
        output::labelled(Label::Fault, &format!("store: {error}"))?;
    }
    for warning in report.warnings() {
        output::labelled(Label::Warning, warning)?;
    }
    let tried = store.and_then(|store| store.as_ref().ok());
    for suggestion in suggestions {
        output::labelled(Label::Suggestion, suggestion)?;
    }
    for note in report.notes() {
        output::labelled(Label::Note, note)?;
    }
    if is_verbose {
        print_keys(report)?;
        for promise in tried.map(TriedStore::promises).into_iter().flatten() {
            let answer = if promise.is_kept { "yes" } else { "no" };
            output::line(&format!("store: {}: {answer}", promise.text))?;
        }
    }
    Ok(())
}

fn print_keys(report: &Report) -> Result<(), Failure> {
    let entries = report.entries();
    let keys = entries.iter().map(|entry| entry.key.len()).max().unwrap_or(0);
    let values = entries.iter().map(|entry| entry.value.chars().count()).max().unwrap_or(0);
    for ReportEntry { key, value, source, .. } in entries {
        output::line(&format!("{key:keys$}  {value:values$}  {source}"))?;
    }
    Ok(())
}

fn as_object(report: &Report, ok: bool, store: Option<&Result<TriedStore, String>>) -> Value {
    let settings = report
        .entries()
        .iter()
        .map(|entry| json!({ "key": entry.key, "value": entry.json, "source": entry.source.to_string() }));
    let faults = report.faults().iter().map(|fault| {
        json!({
            "source": fault.source().to_string(),
            "key": fault.key(),
            "place": fault.place(),
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
