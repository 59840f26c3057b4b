//! `store backup` and `store restore`.

use std::{path::PathBuf, process::ExitCode};

use fastauth::store::{RestoredSessions, SqliteStore};

use crate::{
    args::{Backup, Config, Restore},
    convert,
    failure::{Failure, chain},
    output,
};

pub(crate) fn back_up(args: Backup) -> Result<ExitCode, Failure> {
    let database = database(args.config, args.database)?;
    if !database.exists() {
        return Err(Failure::new(format!("{}: there is no such database to back up", database.display())));
    }
    let store = SqliteStore::open(&database).map_err(|error| Failure::new(chain(&error)))?;
    store.back_up(&args.file).map_err(|error| Failure::new(chain(&error)))?;
    output::line(&format!("{} is a backup of {}", args.file.display(), database.display()))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(args: Restore) -> Result<ExitCode, Failure> {
    let database = database(args.config, args.database)?;
    let sessions = if args.keep_sessions { RestoredSessions::Kept } else { RestoredSessions::Revoked };
    let replaced =
        SqliteStore::restore(&args.file, &database, sessions).map_err(|error| Failure::new(chain(&error)))?;
    output::line(&format!("{} was restored from {}", database.display(), args.file.display()))?;
    if let Some(replaced) = replaced {
        output::line(&format!(
            "what was there is {} now, with everybody's tokens: delete it in time",
            replaced.display()
        ))?;
    }
    output::note(match sessions {
        RestoredSessions::Revoked => "Every log-in of the backup is revoked: clients log in again",
        RestoredSessions::Kept => {
            "Every log-in of the backup is as good as it was then, also those that were revoked since. Refresh tokens that were \
             renewed since are refused"
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// The database that is named, or else the configured one.
fn database(config: Config, named: Option<String>) -> Result<PathBuf, Failure> {
    match named {
        Some(named) => convert::file_in(&named),
        None => convert::configured_file(&config.settings().load()?),
    }
}
