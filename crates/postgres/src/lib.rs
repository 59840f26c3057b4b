//! The token store of FastAuth in PostgreSQL, for many machines. Applications use it as `fastauth::store::PostgresStore`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod error;
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

pub use store::{PostgresOptions, PostgresStore};
