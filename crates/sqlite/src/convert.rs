//! Encrypting stored tokens, or storing them as plain text again, and compacting the file.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use fastauth_core::{
    keys::{Reform, Reforming, StoreFormat},
    secret::Secret,
    store::StoreError,
};
use rusqlite::{Connection, params};

use super::{
    command::Command,
    error::{unreadable, unwritable},
    read::secret,
    schema::connect,
    store::SqliteStore,
    tables::ConvertedRow,
};

/// How long a compaction waits for a moment without writers and readers.
const COMPACTING_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of rows that one transaction converts: a few milliseconds.
const CONVERTED_AT_ONCE: usize = 100;
/// The number of passes over all rows, since other processes write during each.
const CONVERTING_PASSES: usize = 4;

/// The progress of a conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversion {
    /// Rows that were read in the last pass.
    pub rows: u64,
    /// Rows that were converted, in all passes.
    pub converted: u64,
    /// Rows with a token that no key decrypts. They stay as they are.
    pub unopened: u64,
    /// Rows that the last pass still had to convert: another process goes on writing the other format.
    pub remaining: u64,
}

impl SqliteStore {
    /// Converts all stored tokens to `format`, while this and other processes use the file. Encrypted tokens are encrypted with the
    /// key that signs now. A row is replaced only if it has not been written since it was read. Calls `progress` after every hundred
    /// rows, and returns the final counts.
    ///
    /// Both formats can be read at any time. The conversion can be stopped and repeated. Configure the new format in all
    /// processes before, or else rows that they write [remain](Conversion::remaining).
    ///
    /// Plain tokens stay in free parts of the file, and in its log, until it is [compacted](Self::compact).
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Unsupported`](fastauth_core::store::StoreErrorKind::Unsupported) if the key that signs is not a Fernet
    /// key and cannot encrypt, and [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) if the file cannot be read
    /// or written.
    pub async fn convert(
        &self,
        keys: &dyn Reforming,
        format: StoreFormat,
        mut progress: impl FnMut(&Conversion),
    ) -> Result<Conversion, StoreError> {
        if format == StoreFormat::Fernet && !keys.can_encrypt() {
            return Err(StoreError::unsupported("the key that signs is not a Fernet key and cannot encrypt"));
        }
        let mut conversion = Conversion::default();
        for _ in 0..CONVERTING_PASSES {
            conversion = Conversion { converted: conversion.converted, ..Conversion::default() };
            self.convert_once(keys, format, &mut conversion, &mut progress).await?;
            if conversion.remaining == 0 {
                break;
            }
        }
        Ok(conversion)
    }

    /// Converts all rows once. Each converted row counts as remaining, since another process may write such a row again.
    async fn convert_once(
        &self,
        keys: &dyn Reforming,
        format: StoreFormat,
        conversion: &mut Conversion,
        progress: &mut impl FnMut(&Conversion),
    ) -> Result<(), StoreError> {
        let mut after = Some((String::new(), String::new()));
        while let Some(place) = after {
            let rows = kept_rows(&*self.reader()?, &place).map_err(unreadable)?;
            after = rows.last().filter(|_| rows.len() == CONVERTED_AT_ONCE).map(KeptRow::key);
            conversion.rows += rows.len() as u64;
            let converted: Vec<_> = rows
                .into_iter()
                .filter_map(|row| row.converted(|kept| keys.reform(kept, format), conversion))
                .collect();
            if !converted.is_empty() {
                conversion.remaining += converted.len() as u64;
                conversion.converted += self.write(|reply| Command::Convert(converted, reply)).await?;
            }
            progress(conversion);
        }
        Ok(())
    }

    /// Rewrites the file, so that nothing deleted or replaced is left in it or in its log. Other processes can read during it.
    /// Their writes wait, about two seconds for every hundred thousand rows, and fail after nine seconds.
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Returns [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) if there is no room for a second copy of the file, or
    /// if other processes keep it locked. It can be tried again.
    pub fn compact(&self) -> Result<(), StoreError> {
        compact(&self.path).map_err(unwritable)
    }
}

/// The tokens of a row, as they are kept.
pub(super) struct KeptRow {
    client_id: String,
    session: String,
    version: u64,
    access: Option<Secret>,
    refresh: Option<Secret>,
}

impl KeptRow {
    fn key(&self) -> (String, String) {
        (self.client_id.clone(), self.session.clone())
    }

    /// Returns the replacement, if there is one, and counts what cannot be decrypted.
    pub(super) fn converted(self, reform: impl Fn(&Secret) -> Reform, counts: &mut Conversion) -> Option<ConvertedRow> {
        let reforms = [&self.access, &self.refresh].map(|kept| kept.as_ref().map(&reform));
        counts.unopened += u64::from(reforms.contains(&Some(Reform::Unopened)));
        let [access, refresh] = reforms.map(|reform| match reform {
            Some(Reform::Replace(text, digest)) => Some((text, digest)),
            _ => None,
        });
        if access.is_none() && refresh.is_none() {
            return None;
        }
        let KeptRow { client_id, session, version, .. } = self;
        Some(ConvertedRow { client_id, session, version, access, refresh })
    }
}

/// Reads the next rows in the order of the primary key, revoked ones as well.
pub(super) fn kept_rows(connection: &Connection, after: &(String, String)) -> rusqlite::Result<Vec<KeptRow>> {
    let mut query = connection.prepare_cached(
        "SELECT client_id, session, version, access_token, refresh_token FROM token
         WHERE (client_id, session) > (?1, ?2) ORDER BY client_id, session LIMIT ?3",
    )?;
    let rows = query.query_map(params![after.0, after.1, CONVERTED_AT_ONCE], |row| {
        Ok(KeptRow {
            client_id: row.get(0)?,
            session: row.get(1)?,
            version: row.get(2)?,
            access: secret(row, 3)?,
            refresh: secret(row, 4)?,
        })
    })?;
    rows.collect()
}

fn compact(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    connection.busy_timeout(COMPACTING_TIMEOUT)?;
    connection.execute_batch("VACUUM")?;
    // Most of it without blocking others.
    is_busy_at_checkpoint(&connection, "PASSIVE")?;
    // SQLite does not wait for a checkpoint of another process, and under load there is one with every write.
    let deadline = Instant::now() + COMPACTING_TIMEOUT;
    while is_busy_at_checkpoint(&connection, "TRUNCATE")? {
        if Instant::now() > deadline {
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Writes the log back, and returns true if other processes prevented that.
fn is_busy_at_checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<bool> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))
}
