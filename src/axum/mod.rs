//! The parts that only axum applications need.

mod extract;
#[cfg(feature = "websocket")]
mod socket;

pub use extract::PermitMissing;
#[cfg(feature = "websocket")]
pub use socket::GuardedSocket;
