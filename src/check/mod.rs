//! The checks of credentials, which the guard and the token endpoints share.

pub(crate) mod admission;
pub(crate) mod cache;
pub(crate) mod confirm;
pub(crate) mod denial;
pub(crate) mod grace;
pub(crate) mod lifetime;
pub(crate) mod live;
pub(crate) mod master;
pub(crate) mod permit;
pub(crate) mod problem;
pub(crate) mod refuse;
pub(crate) mod respond;
pub(crate) mod terms;
pub(crate) mod ticket;
