//! `check`.

use std::{path::Path, process::ExitCode};

use fastauth::{
    Settings,
    config::{Fault, Report, StoreFormat},
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
    let shown = Shown::of(&report);
    let store = match report.into_settings() {
        Ok(settings) if !args.offline => Some(try_store(&settings)?),
        _ => None,
    };
    let ok = shown.faults.is_empty() && !matches!(store, Some(Err(_)));
    if args.json {
        output::json(&shown.json(ok, store.as_ref()))?;
    } else {
        shown.print(store.as_ref())?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What trying the store showed.
struct Tried {
    state: &'static str,
    promises: Promises,
    /// What would be better, by what the store can promise.
    advice: Vec<&'static str>,
}

/// Tries the store; of a database that is not there yet, whether it can be made.
fn try_store(settings: &Settings) -> Result<Result<Tried, String>, Failure> {
    let tried = |state, promises| Tried { state, promises, advice: advice(settings, promises) };
    if let Some(path) = settings.database_file().filter(|path| !path.exists()) {
        // It is not made here: it would belong to whoever checks.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return Ok(match directory.is_dir() {
            true => Ok(tried("not there yet, the first start makes it", Promises::ALL)),
            false => Err(format!("{}: there is no such directory", directory.display())),
        });
    }
    let store = match fastauth::store::open(&settings) {
        Ok(store) => store,
        Err(error) => return Ok(Err(error.faults().iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))),
    };
    let promises = block_on(ask(&*store))?;
    Ok(promises.map(|promises| tried("answers", promises)).map_err(|error| chain(&error)))
}

async fn ask(store: &dyn TokenStore) -> Result<Promises, StoreError> {
    // A client that nobody has.
    store.load(&format!("fastauth-check-{}", unique_name()), None).await?;
    store.check().await?;
    store.promises().await
}

fn advice(settings: &Settings, promises: Promises) -> Vec<&'static str> {
    let is_encrypted = settings.store_format() == StoreFormat::Fernet;
    let mut advice = Vec::new();
    if settings.database_file().is_some() && !is_encrypted {
        advice.push(
            "`store-format`: the database is read by nobody else, so \"fernet\" can keep its tokens encrypted \
             (`fastauth store convert` does so with those that are there)",
        );
    }
    if !promises.atomic_rotation {
        advice.push(
            "on this store a revocation on one node is undone by a refresh that is under way on another: the first \
             version of the store API cannot prevent it. What comes back within eleven seconds is revoked again, if its \
             tokens name their log-in, as those of `fastauth-api` do not. Use one node, or a store of the second version \
             (`fastauth store serve`)",
        );
    }
    if is_encrypted && promises == Promises::NONE {
        advice.push("`store-format` is \"fernet\": `fastauth-api` on this store would refuse every token");
    }
    if settings.many_tokens_per_client() && !promises.many_families {
        advice.push(
            "`tokens-per-client` is \"many\", and the store holds one: the last log-in of a client ends the others",
        );
    }
    advice
}

/// Each promise by its name, whether it is given, and what that means.
fn in_words(promises: Promises) -> [(&'static str, bool, &'static str); 5] {
    let Promises { atomic_rotation, many_families, revoke_all, list, tickets } = promises;
    [
        (
            "atomic_rotation",
            atomic_rotation,
            "let one alone of several processes use a refresh token, and recognise a used one",
        ),
        ("many_families", many_families, "hold more than one log-in of a client"),
        ("revoke_all", revoke_all, "revoke everything at once"),
        ("list", list, "list what it holds"),
        ("tickets", tickets, "hold a ticket for a WebSocket to one use, so that /auth/ticket issues them"),
    ]
}

impl Tried {
    fn print(&self) -> Result<(), Failure> {
        output::line(&format!("store: {}", self.state))?;
        for (_, is_given, what) in in_words(self.promises) {
            let can = if is_given { "can" } else { "cannot" };
            output::line(&format!("store: {can} {what}"))?;
        }
        self.advice.iter().try_for_each(|advice| output::line(&format!("advice: {advice}")))
    }

    fn json(&self) -> Value {
        let promises: Map<_, _> =
            in_words(self.promises).into_iter().map(|(name, is_given, _)| (name.to_owned(), is_given.into())).collect();
        json!({ "ok": true, "state": self.state, "promises": promises, "advice": self.advice })
    }
}

struct Shown {
    entries: Vec<(&'static str, String, String)>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Shown {
    fn of(report: &Report) -> Self {
        let entries = report.entries().iter().map(|entry| (entry.key, entry.value.clone(), entry.source.to_string()));
        Self {
            entries: entries.collect(),
            faults: report.faults().to_vec(),
            warnings: report.warnings().to_vec(),
            notes: report.notes().to_vec(),
        }
    }

    fn print(&self, store: Option<&Result<Tried, String>>) -> Result<(), Failure> {
        let keys = self.entries.iter().map(|(key, _, _)| key.len()).max().unwrap_or_default();
        let values = self.entries.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or_default();
        for (key, value, source) in &self.entries {
            output::line(&format!("{key:keys$}  {value:values$}  {source}"))?;
        }
        for note in &self.notes {
            output::line(&format!("note: {note}"))?;
        }
        for warning in &self.warnings {
            output::line(&format!("warning: {warning}"))?;
        }
        for fault in &self.faults {
            output::line(&format!("fault: {fault}"))?;
        }
        match store {
            Some(Ok(tried)) => tried.print(),
            Some(Err(error)) => output::line(&format!("fault: store: {error}")),
            None => output::line("store: not tried"),
        }
    }

    fn json(&self, ok: bool, store: Option<&Result<Tried, String>>) -> Value {
        let settings =
            self.entries.iter().map(|(key, value, source)| json!({ "key": key, "value": value, "source": source }));
        let faults = self.faults.iter().map(|fault| {
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
            "warnings": self.warnings,
            "notes": self.notes,
            "store": store.map(|store| match store {
                Ok(tried) => tried.json(),
                Err(error) => json!({ "ok": false, "error": error }),
            }),
        })
    }
}
