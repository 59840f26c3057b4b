//! FastAuth (skeleton).
pub mod store;
mod rule;
mod secret;
pub use secret::Secret;
