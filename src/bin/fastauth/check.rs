//! `check`.

use std::{path::Path, process::ExitCode};

use fastauth::{
    Settings,
    config::{Fault, Report},
};
use serde_json::{Value, json};

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
        output::json(&shown.json(ok, store.as_ref()));
    } else {
        shown.print(store.as_ref());
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What trying the store showed, in words: of a database that is not there yet, that it can be made.
fn try_store(settings: &Settings) -> Result<Result<&'static str, String>, Failure> {
    if let Some(path) = settings.database_file().filter(|path| !path.exists()) {
        // It is not made here: it would belong to whoever checks.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return Ok(match directory.is_dir() {
            true => Ok("not there yet, the first start makes it"),
            false => Err(format!("{}: there is no such directory", directory.display())),
        });
    }
    let store = match settings.open_store() {
        Ok(store) => store,
        Err(error) => return Ok(Err(error.faults().iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))),
    };
    // A client that nobody has.
    let client_id = format!("fastauth-check-{}", uuid::Uuid::new_v4());
    let found = block_on(store.load(&client_id, None))?;
    Ok(found.map(|_| "answers").map_err(|error| chain(&error)))
}

struct Shown {
    entries: Vec<(&'static str, String, String)>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Shown {
    fn of(report: &Report) -> Self {
        let entries = report.entries().iter().map(|entry| (entry.key, entry.value.clone(), entry.source.to_string()));
        Self { entries: entries.collect(), faults: report.faults().to_vec(), warnings: report.warnings().to_vec() }
    }

    fn print(&self, store: Option<&Result<&'static str, String>>) {
        let keys = self.entries.iter().map(|(key, _, _)| key.len()).max().unwrap_or_default();
        let values = self.entries.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or_default();
        for (key, value, source) in &self.entries {
            output::line(&format!("{key:keys$}  {value:values$}  {source}"));
        }
        for warning in &self.warnings {
            output::line(&format!("warning: {warning}"));
        }
        for fault in &self.faults {
            output::line(&format!("fault: {fault}"));
        }
        match store {
            Some(Ok(state)) => output::line(&format!("store: {state}")),
            Some(Err(error)) => output::line(&format!("fault: store: {error}")),
            None => output::line("store: not tried"),
        }
    }

    fn json(&self, ok: bool, store: Option<&Result<&'static str, String>>) -> Value {
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
            "store": store.map(|store| match store {
                Ok(state) => json!({ "ok": true, "state": state }),
                Err(error) => json!({ "ok": false, "error": error }),
            }),
        })
    }
}
