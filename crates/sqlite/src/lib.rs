//! The embedded token store of FastAuth, in one SQLite file. Applications use it as `fastauth::store::SqliteStore`.
//!
//! ```
//! use fastauth_core::store::{Revocation, Revoked, TokenStore};
//! use fastauth_sqlite::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("tokens.db");
//! let store = SqliteStore::open(&path)?;
//! assert_eq!(store.load("client-1", None).await?, None);
//! assert_eq!(store.revoke(&Revocation::All, None).await?, Revoked::Sessions(0));
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! A point read takes a few microseconds, less than handing it to another thread, so a look-up reads on the caller's thread, on a
//! connection of its own. Writes wait for the disk, so one thread does them all: it takes all that have queued up, writes them in
//! one transaction, and then answers each caller. Under load, one `fsync` serves many callers, and no write is delayed on purpose.
//!
//! The same thread looks for writes of other processes, by SQLite's `data_version`, which changes on this connection with the
//! commits of others alone. It also checks that the file is still under its name.
//!
//! ```text
//!  store      its connections, threads and calls    schema      the tables, and opening a file
//!  command    the writes and their answers          integrity   checking a file that was not closed in order
//!  queue      the queue of the writing thread       presence    detecting that the file was replaced
//!  writer     one transaction for many writes       backup      copies, and restoring one
//!  tables     what each command does                convert     encrypting stored tokens, and compacting
//!  cleaning   deleting expired rows                 read        look-ups, and the listing thread
//!  log         the log of changes                   rights      whom the files belong to
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backup;
mod cleaning;
mod command;
mod convert;
mod error;
mod integrity;
mod log;
mod presence;
mod queue;
mod read;
mod rights;
mod schema;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

pub use backup::RestoredSessions;
pub use convert::Conversion;
pub use store::SqliteStore;
