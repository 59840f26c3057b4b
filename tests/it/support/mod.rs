//! What the tests need around them.

pub(crate) mod faulty;
pub(crate) mod log;
pub(crate) mod stores;
