//! FastAuth (skeleton).
mod rule;
mod secret;
pub mod store;
pub use secret::Secret;
