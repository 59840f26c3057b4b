//! Converting what is kept of tokens, and writing the file anew.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{
    SqliteStore,
    books::{Command, Outcome},
    error::{unreadable, unwritable, writer_gone},
    read::secret,
    schema::connect,
};
use fastauth_core::store::{StoreError, TokenDigest};
use fastauth_core::{
    keys::{Reform, Reforming, StoreFormat},
    secret::Secret,
};

/// How long a compaction waits for writers and readers to leave it a moment.
const COMPACTING_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows that are converted in one transaction: a few milliseconds.
const CONVERTED_AT_ONCE: usize = 100;
/// How often all rows are gone through, since others write meanwhile.
const CONVERTING_PASSES: usize = 4;

/// How far a conversion is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversion {
    /// Rows that were gone through, in the last pass.
    pub rows: u64,
    /// Rows that were converted in all.
    pub converted: u64,
    /// Rows with a token that no key opens, which were left as they are.
    pub unopened: u64,
    /// Rows that the last pass still found in need of it: somebody goes on writing the other format.
    pub remaining: u64,
}

impl SqliteStore {
    /// Converts what is kept of all tokens to `format`, while this and other processes go on using the file: row by row, each
    /// only if nobody has written it meanwhile. Tokens that an earlier key encrypted are encrypted by the one that signs.
    /// `progress` is told now and then, and the final counts are returned.
    ///
    /// Both formats can be read at any time. It can be stopped at any time, too, and done again. Processes that write the
    /// other format should be told of the new one before, or else rows of theirs are [left](Conversion::remaining).
    ///
    /// What was plain stays in free parts of the file, and in its log, until it is [compacted](Self::compact).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unsupported`](fastauth_core::store::StoreErrorKind::Unsupported) where the key that signs is none of Fernet's and cannot encrypt;
    /// [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) where the file cannot be read or written.
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
            (conversion.rows, conversion.unopened, conversion.remaining) = (0, 0, 0);
            self.convert_once(keys, format, &mut conversion, &mut progress).await?;
            if conversion.remaining == 0 {
                break;
            }
        }
        Ok(conversion)
    }

    /// Goes through the rows once. What it had to convert counts as remaining: others may write the like again.
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
            let reform = |kept: &Secret| keys.reform(kept, format);
            let converted: Vec<_> = rows.into_iter().filter_map(|row| row.converted(&reform, conversion)).collect();
            if !converted.is_empty() {
                conversion.remaining += converted.len() as u64;
                match self.write(Command::Convert(converted)).await? {
                    Outcome::Converted(count) => conversion.converted += count,
                    _ => return Err(writer_gone()),
                }
            }
            progress(conversion);
        }
        Ok(())
    }

    /// Writes the file anew, so that nothing is left in it of what was deleted or replaced, nor in the file of the
    /// write-ahead log. Other processes read on meanwhile; their writes wait, about two seconds for every hundred thousand
    /// rows, and those that would have to wait more than nine seconds fail.
    ///
    /// This blocks.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Failed`](fastauth_core::store::StoreErrorKind::Failed) where there is no room for a second copy beside the first one, or where others never
    /// let go of the file. It can be tried again.
    pub fn compact(&self) -> Result<(), StoreError> {
        compact(&self.path).map_err(unwritable)
    }
}

/// What a row keeps of its tokens, to be converted.
pub(super) struct KeptRow {
    client_id: String,
    family: String,
    version: u64,
    access: Option<Secret>,
    refresh: Option<Secret>,
}

/// What takes the place of what a row keeps, if the row is still of this version.
pub(super) struct ConvertedRow {
    pub(super) client_id: String,
    pub(super) family: String,
    pub(super) version: u64,
    pub(super) access: Option<(Secret, TokenDigest)>,
    pub(super) refresh: Option<(Secret, TokenDigest)>,
}

impl KeptRow {
    fn key(&self) -> (String, String) {
        (self.client_id.clone(), self.family.clone())
    }

    pub(super) fn converted(
        self,
        reform: &impl Fn(&Secret) -> Reform,
        counts: &mut Conversion,
    ) -> Option<ConvertedRow> {
        let reforms = [&self.access, &self.refresh].map(|kept| kept.as_ref().map(reform));
        counts.unopened += u64::from(reforms.contains(&Some(Reform::Unopened)));
        let [access, refresh] = reforms.map(|reform| match reform {
            Some(Reform::Replace(text, digest)) => Some((text, digest)),
            _ => None,
        });
        let KeptRow { client_id, family, version, .. } = self;
        (access.is_some() || refresh.is_some()).then_some(ConvertedRow { client_id, family, version, access, refresh })
    }
}

/// The next rows in the order of the primary key, revoked ones and those of an earlier epoch too.
pub(super) fn kept_rows(connection: &Connection, after: &(String, String)) -> rusqlite::Result<Vec<KeptRow>> {
    let mut query = connection.prepare_cached(
        "SELECT client_id, family, version, access_token, refresh_token FROM token
         WHERE (client_id, family) > (?1, ?2) ORDER BY client_id, family LIMIT ?3",
    )?;
    let rows = query.query_map(params![after.0, after.1, CONVERTED_AT_ONCE], |row| {
        Ok(KeptRow {
            client_id: row.get(0)?,
            family: row.get(1)?,
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
    let checkpoint = |mode: &str| -> rusqlite::Result<bool> {
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))
    };
    // Most of it without being in anybody's way.
    checkpoint("PASSIVE")?;
    // SQLite does not wait for a checkpoint of somebody else's, and under load there is one with every write.
    let deadline = Instant::now() + COMPACTING_TIMEOUT;
    while checkpoint("TRUNCATE")? {
        if Instant::now() > deadline {
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
