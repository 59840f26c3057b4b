//! The parts of FastAuth that need no request: rules, credentials, tokens, keys, the contract of stores, and what a deployment
//! decides. Applications use the crate `fastauth`, which re-exports what they need.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod base64url;
pub mod clock;
pub mod credential;
pub mod denial;
pub mod error;
pub mod hooks;
pub mod issue;
pub mod json;
pub mod keys;
#[cfg(feature = "rate-limit")]
pub mod limit;
#[cfg(feature = "test-util")]
pub mod manual_clock;
pub mod openapi;
pub mod origin;
pub mod policy;
pub mod query;
pub mod random;
mod seal;
pub mod secret;
pub mod settings;
pub mod shown;
pub mod store;
pub mod token;
pub mod trace;
