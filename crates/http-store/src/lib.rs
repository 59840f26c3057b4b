//! The token store behind HTTP: a client for it (feature `client`), and a tower service that answers it over any store (feature
//! `server`). Applications use the crate `fastauth`, which re-exports both.

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod flight;
#[cfg(feature = "server")]
mod server;
mod wire;

#[cfg(feature = "client")]
pub use client::RestStore;
#[cfg(feature = "server")]
pub use server::StoreService;
