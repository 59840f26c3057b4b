//! `store convert`.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use fastauth::{
    Settings,
    config::StoreFormat,
    store::{Conversion, SqliteStore},
};

use crate::{
    args::{Convert, Format},
    failure::{Failure, chain},
    output,
    runtime::block_on,
};

/// How often progress is written to a log, and to a terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn run(args: Convert) -> Result<ExitCode, Failure> {
    let settings = args.config.settings().load()?;
    let path = args.database.map_or_else(|| configured_file(&settings), |named| file_in(&named))?;
    if !path.exists() {
        return Err(Failure::new(format!("{} cannot be converted: there is no such database", path.display())));
    }
    let format = StoreFormat::from(args.to);
    if settings.store_format() != format {
        let name = if args.to == Format::Fernet { "fernet" } else { "plain" };
        output::warning(&format!(
            "`store-format` is not \"{name}\" in this configuration; nodes that use it go on writing the other format"
        ));
    }
    let store = SqliteStore::open(&path).map_err(|error| Failure::new(chain(&error)))?;
    let mut progress = ConvertProgress::new();
    let conversion = block_on(store.convert(settings.keys(), format, |so_far| progress.show(so_far)))??;
    progress.end();
    if format == StoreFormat::Fernet && !args.no_compact {
        store.compact()?;
    }
    report(&conversion)
}

/// Parses "sqlite:FILE", or a bare path.
pub(crate) fn file_in(named: &str) -> Result<PathBuf, Failure> {
    let path = SqliteStore::path_in_url(named).map(PathBuf::from);
    path.ok_or_else(|| {
        Failure::new(format!("{named:?} is not a database: write sqlite:FILE with the plain path of a file"))
    })
}

/// Returns the file of the configured store.
pub(crate) fn configured_file(settings: &Settings) -> Result<PathBuf, Failure> {
    settings.database_file().map(PathBuf::from).ok_or_else(|| {
        Failure::new(
            "the configured store is behind HTTP: run this on the machine of its database, with the same keys \
             and --database sqlite:FILE",
        )
    })
}

fn report(conversion: &Conversion) -> Result<ExitCode, Failure> {
    let Conversion { rows, converted, unopened, remaining, .. } = conversion;
    output::line(&format!("{rows} rows, {converted} converted, {unopened} that no key decrypts"))?;
    if *unopened > 0 {
        output::note(
            "Rows that no key decrypts were left as they are: they were encrypted with a key that is no longer configured",
        );
    }
    if *remaining == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&format!(
        "{remaining} rows were written in the other format during the conversion: set `store-format` on every node, restart \
         them, and run this again"
    ));
    Ok(ExitCode::FAILURE)
}

/// The display of progress: one line that is overwritten on a terminal, or a line every ten seconds.
struct ConvertProgress {
    on_terminal: bool,
    shown: Instant,
    has_line: bool,
}

impl ConvertProgress {
    fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), shown: Instant::now(), has_line: false }
    }

    fn show(&mut self, so_far: &Conversion) {
        let interval = if self.on_terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        if self.shown.elapsed() < interval {
            return;
        }
        self.shown = Instant::now();
        let text = format!("{} rows read, {} converted", so_far.rows, so_far.converted);
        if self.on_terminal {
            self.has_line = write!(io::stderr(), "\r{text}").is_ok();
        } else {
            output::note(&text);
        }
    }

    fn end(&self) {
        if self.has_line {
            output::note("");
        }
    }
}
