//! The token store of FastAuth in PostgreSQL, for many machines. Applications use it as `fastauth::store::PostgresStore`.
//!
//! ```no_run
//! use fastauth_core::store::{Revocation, TokenStore};
//! use fastauth_postgres::{PostgresOptions, PostgresStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://fastauth@db.example/fastauth?sslmode=verify-full";
//! let store = PostgresStore::connect(url, PostgresOptions::default()).await?;
//! store.revoke(&Revocation::Client("client-1".to_owned()), None).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! Its tables are in the schema `fastauth`, which it makes and upgrades. Ids, names and tokens are kept as bytes, since texts of
//! PostgreSQL have no NUL.
//!
//! **Writes.** A rotation is one statement: it succeeds for one of many callers, because it names the refresh token that it replaces. Everything
//! else is a transaction that holds an advisory lock of its client, or of all clients. A session is live if it began after two floors, that
//! of its client and that of the store, so that revoking all of either is one small write, and a rotation that does not see it yet
//! revives nothing. Each change is written to the log in the same transaction. Revocations have connections of their own.
//!
//! **Reads.** A few connections are shared by all look-ups, which are sent without waiting for the answers of others. They go to the
//! server that can be written to, since a standby may be behind.
//!
//! **Other processes.** A write is followed by a NOTIFY on another connection, at most one in ten milliseconds: in the
//! transaction, it would make commits wait for each other. Readers of the log are woken by it, or look ten times a second.
//! Numbers of the log are drawn before their transactions are committed. A reader therefore asks for missing ones again, until every transaction has ended
//! that may have drawn them.
//!
//! **Poolers.** If two connections turn out to lead to one of the server, nothing is prepared or set on a connection, so that a pooler can give each
//! transaction one of its choice.
//!
//! **Time-outs.** The server ends a statement, or a transaction without one, after five seconds, and every call ends within ten. If the answer to a write is lost, the store looks
//! for what was written.
//!
//! ```text
//!  store         the contract on top of it all        server       connections, and finding a pooler
//!  writer        attempts, time-outs, lost answers    address      the URL and its parameters
//!  transaction   locks, floors and counts             tls          rustls, as `sslmode` asks for it
//!  writes        what each write does                 value, row   to and from the database
//!  read          look-ups and lists                   feed         NOTIFY and LISTEN
//!  log, gaps     the log of changes and its readers   schema       the tables
//!  cleaning      deleting what has expired            error        errors in the words of an operator
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod cleaning;
mod error;
mod feed;
mod gaps;
mod log;
mod read;
mod row;
mod schema;
mod server;
mod store;
mod tls;
mod transaction;
mod value;
mod writer;
mod writes;

pub use feed::Feed;
pub use store::{PostgresOptions, PostgresStore};
