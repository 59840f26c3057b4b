//! The crate from the outside: stores, servers and requests that are real.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod app;
mod grpc;
mod layer;
mod router;
mod upgrade;
