//! Utilities for the tests of applications (feature `test-util`): tokens in one line, a clock to set, and a store that fails on
//! demand.
//!
//! Enable the feature in `[dev-dependencies]` only. It only adds API: no configuration file and no variable can switch it on. A
//! guard with a [`ManualClock`] logs a warning, since outside of tests its tokens would not expire.
//!
//! Tokens are issued and verified by the same code as in production. Only the clock and the store beneath are replaced.
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use std::time::Duration;
//!
//! use axum::{Router, body::Body, routing::get};
//! use fastauth::{FastAuthLayer, Permit, store::StoreErrorKind, test_util::{TestAuth, WithCredentials}};
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//!
//! /// The application's function, which `main` calls with `FastAuthLayer::from_config()`.
//! fn app(auth: FastAuthLayer) -> Router {
//!     let hello = async |permit: Permit| format!("hello, {}", permit.client_id().unwrap_or("master"));
//!     Router::new().route("/access/hello", get(hello)).layer(auth)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let auth = TestAuth::new(["/access"]);
//! let app = app(auth.layer());
//! let send = async |request: http::request::Builder| {
//!     app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
//! };
//! let hello = || Request::get("/access/hello");
//!
//! let token = auth.token("alice").await;
//! assert_eq!(send(hello()).await, StatusCode::UNAUTHORIZED);
//! assert_eq!(send(hello().access_token(&token)).await, StatusCode::OK);
//!
//! auth.store().fail_all(StoreErrorKind::Unreachable);
//! assert_eq!(send(hello().access_token(&token)).await, StatusCode::SERVICE_UNAVAILABLE);
//! auth.store().recover();
//! assert_eq!(send(hello().access_token(&token)).await, StatusCode::OK);
//!
//! auth.clock().advance(Duration::from_secs(31 * 24 * 60 * 60));
//! assert_eq!(send(hello().access_token(&token)).await, StatusCode::UNAUTHORIZED);
//! # }
//! ```

mod auth;
mod credentials;
mod store;

pub use auth::{TestAuth, TestToken};
pub use credentials::WithCredentials;
pub use fastauth_core::manual_clock::ManualClock;
pub use store::{FailingStore, StoreCall};
