//! The parts that only axum applications need.

mod extract;
mod respond;
mod router;
#[cfg(feature = "websocket")]
mod socket;

pub use extract::{Claims, ClaimsRejection, PermitMissing};
pub use router::{GuardedFuture, GuardedRouter};
#[cfg(feature = "websocket")]
pub use socket::GuardedSocket;
