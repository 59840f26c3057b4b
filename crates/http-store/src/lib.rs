//! The API between FastAuth and a token store behind HTTP: its client (feature `client`), and its server as a tower service over any
//! store (feature `server`). Applications use the crate `fastauth`, which re-exports both.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod flight;
#[cfg(any(feature = "client", feature = "server"))]
mod record;
#[cfg(feature = "server")]
mod server;
#[cfg(any(feature = "client", feature = "server"))]
mod wire;

#[cfg(feature = "client")]
pub use client::{CallListener, CallNews, FeedListener, FeedNews, HttpClient, HttpError, RestStore};
#[cfg(feature = "server")]
pub use server::{FeedStatus, StoreBody, StoreOutcome, StoreService};
