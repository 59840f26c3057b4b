//! `store backup`, `store restore` and `store reset-feed`.

use std::{path::PathBuf, process::ExitCode};

use fastauth::store::{ChangeLog, RestoredSessions, SqliteStore};

use crate::{
    args::{Backup, FeedArg, ResetFeed, Restore},
    config::Config,
    convert,
    database::{Database, is_postgres},
    failure::{Failure, chain},
    output,
    runtime::block_on,
};

pub(crate) fn back_up(args: Backup) -> Result<ExitCode, Failure> {
    let database = database(args.config, args.database)?;
    if !database.exists() {
        return Err(Failure::new(format!("{} cannot be backed up: there is no such database", database.display())));
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
            "the replaced database is {} now; it contains all clients' tokens, so delete it when you no longer need it",
            replaced.display()
        ))?;
    }
    output::note(match sessions {
        RestoredSessions::Revoked => "All sessions of the backup are revoked: clients have to log in again",
        RestoredSessions::Kept => {
            "All sessions of the backup are as they were then, including those that were revoked later. Refresh tokens that were \
             issued later are refused"
        }
    });
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn reset_feed(args: ResetFeed) -> Result<ExitCode, Failure> {
    if let Some(url) = args.database.as_ref().filter(|address| is_postgres(address)) {
        return reset_feed_of_postgres(url);
    }
    let database = database(args.config, args.database)?;
    if !database.exists() {
        return Err(Failure::new(format!("{} has no feed: there is no such database", database.display())));
    }
    let store = SqliteStore::open(&database).map_err(|error| Failure::new(chain(&error)))?;
    block_on(store.restart())?.map_err(|error| Failure::new(chain(&error)))?;
    output::line(&format!("all nodes that follow {} forget what they know", database.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn reset_feed_of_postgres(url: &str) -> Result<ExitCode, Failure> {
    let database = Database::postgres(url.to_owned(), FeedArg::Poll)?;
    block_on(async {
        let store = database.open().await?;
        let log = store.log().ok_or_else(|| Failure::new("the store has no feed"))?;
        log.restart().await.map_err(|error| Failure::new(chain(&error)))
    })??;
    output::line(&format!("all nodes that follow {} forget what they know", database.shown()))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the database that is named, or else the configured one.
fn database(config: Config, named: Option<String>) -> Result<PathBuf, Failure> {
    match named {
        Some(named) => convert::file_in(&named),
        None => convert::configured_file(&config.settings().load()?),
    }
}
