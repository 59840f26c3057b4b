//! The crate from the outside: stores, servers and requests that are real.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "test-util")]
mod access_grace;
#[cfg(feature = "test-util")]
mod access_revocation;
mod app;
mod cache;
mod caching;
mod config;
mod cookie;
#[cfg(feature = "test-util")]
mod demands;
mod endpoint_paths;
mod endpoint_requests;
mod example_login;
mod extract;
#[cfg(feature = "test-util")]
mod fed_node;
mod fed_nodes;
mod feed;
mod feed_readers;
mod feed_sqlite;
mod grpc;
mod handshakes;
mod health;
#[cfg(feature = "test-util")]
mod hooks;
mod in_code;
mod keys;
mod layer;
mod log_details;
mod log_in;
#[cfg(all(feature = "metrics", feature = "rate-limit"))]
mod metrics;
mod mounting;
mod oauth;
mod observe;
mod openapi;
#[cfg(feature = "utoipa")]
mod openapi_security;
mod options;
mod origins;
#[cfg(all(feature = "metrics", feature = "rate-limit"))]
mod outages;
#[cfg(unix)]
mod output;
mod paths;
mod permit;
#[cfg(feature = "rate-limit")]
mod rate_limit;
#[cfg(feature = "test-util")]
mod refreshing;
mod reload;
#[cfg(feature = "test-util")]
mod require;
#[cfg(feature = "test-util")]
mod revealing;
mod rotation;
mod router;
mod rule_changed;
mod secret_files;
mod secrets;
#[cfg(feature = "test-util")]
mod session_ended;
#[cfg(feature = "test-util")]
mod session_ttl;
#[cfg(feature = "test-util")]
mod sockets;
mod sources;
mod store_api;
mod store_contract;
mod streams;
mod support;
#[cfg(feature = "test-util")]
mod test_util;
mod ticket;
mod tokens;
mod upgrade;
mod websocket;
mod wire;
